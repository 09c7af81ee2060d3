"""A vector search of one round trip, or two where something is pending, in an index that is in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from superorm._async.vector_ranking import AsyncRanking
from superorm._async.vector_records import vectors_of
from superorm._async.vector_view import AsyncVectorCopies
from superorm._io import aio
from superorm.codec.keys import decode_key, encode_key
from superorm.compile.plan import Aggregate
from superorm.schema.vector_spec import VectorSpec
from superorm.vectors.memory_copy import MemoryCopy
from superorm.vectors.planning import Known, Rank, plan
from superorm.vectors.records import COLLECTION, Look, in_parts, look_filter
from superorm.vectors.request import Explanation, Hits, SearchRequest

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

__all__ = ["quick_search"]

_MOST = 64
_WRAPPER = "_superorm_record"
"""Under this name records and states come among the documents, which have an ``_id`` and these have none."""


async def quick_search(
    copies: AsyncVectorCopies, kind: str, copy: MemoryCopy, request: SearchRequest, session: AsyncClientSession
) -> tuple[Hits | None, Look | None]:
    """Ask memory first, then read the documents of what it found, state and records in one aggregate.

    What is pending by these records is read and ranked too, and memory brought forward by it.
    No hits where the request is none for this form, or the snapshot holds too much that memory does not;
    the look then serves the search that follows.
    """
    if request.filter is not None or request.projection is not None or request.k > _MOST:
        return None, None
    spec, engine = request.spec, await copies.engine()
    step = plan(Known(kind, request.k, filtered=False, held=len(copy)))
    assert isinstance(step, Rank)
    leave_out = [] if request.leave_out is None else [encode_key(request.leave_out)]
    ranked = await aio.in_thread(copy.rank, request.query, step.limit, leave_out)
    first = {key: decode_key(key) for key in ranked.nearest.keys[: request.k]}
    parts = in_parts(first, _MOST)
    if len(parts) > 1:
        return None, None
    ranking = AsyncRanking(copies.backend, request, session)
    read = _documents_and_records(spec, parts[0] if parts else [], look_filter(spec.name, engine, ranked.n))
    ranking.reads.append(read)
    found = await copies.backend.read(read, session=session)
    look = Look.of((one[_WRAPPER] for one in found if "_id" not in one), engine, ranked.n)
    seen = None if look.state is None else copy.seen(ranked, look)
    if seen is None or len(seen[1]) > _MOST:
        return None, look
    nearest, pending = seen
    forward = copy.forward(look)
    if forward is not None and not forward.fits:
        return None, look
    ranking.take_whole([one for one in found if "_id" in one])
    await ranking.rank(pending, hits=len(pending))
    if forward is not None and forward.keys.keys() <= pending.keys():
        changed = [ranking.documents[key] for key in forward.keys if key in ranking.documents]
        await aio.in_thread(copy.install, forward, look, *vectors_of(spec, changed))
    bound = ranking.bound(nearest.tolerance)
    near = [key for key, distance in zip(nearest.keys, nearest.distances.tolist(), strict=True) if distance <= bound]
    await ranking.rank({key: decode_key(key) for key in near}, hits=len(near))
    if not nearest.complete and len(near) == len(nearest.keys):
        return None, look
    explanation = Explanation(
        engine=kind,
        strategy=step.strategy,
        why=step.why,
        held=len(copy),
        matched=None,
        more=False,
        version=None if look.state is None else look.state.ver,
        pending=len(pending),
        candidates=len(nearest.keys),
        read=len(ranking.ranked),
        calls=1,
        reads=tuple(ranking.reads),
    )
    return Hits(await ranking.hits(), explanation), look


def _documents_and_records(spec: VectorSpec, ids: Sequence[Any], records: Mapping[str, Any]) -> Aggregate:
    """A read of documents by ``_id``, and of the records of a filter, in one round trip."""
    wrapped = [{"$match": records}, {"$replaceRoot": {"newRoot": {_WRAPPER: "$$ROOT"}}}]
    union = {"$unionWith": {"coll": COLLECTION, "pipeline": wrapped}}
    return Aggregate(spec.collection, [{"$match": {"_id": {"$in": ids}}}, union])
