"""A vector search of one round trip, or two where something is pending, in an index that is in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from superorm._async.vector_ranking import AsyncRanking
from superorm._async.vector_view import AsyncVectorCopies
from superorm._io import aio
from superorm.codec.keys import decode_key, encode_key
from superorm.compile.plan import Aggregate
from superorm.vectors.memory_copy import MemoryCopy
from superorm.vectors.one_read import Together, with_look
from superorm.vectors.planning import Known, Rank, plan
from superorm.vectors.push_down import PushDown, numbered, push_down
from superorm.vectors.records import Look, in_parts
from superorm.vectors.request import Explanation, Hits, SearchRequest

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

__all__ = ["asked_of_memory", "quick_search"]

_MOST = 64


async def asked_of_memory(copies: AsyncVectorCopies, copy: MemoryCopy, request: SearchRequest) -> PushDown | None:
    """All of the request's filter, as memory can say it by the fields that it mirrors; None where it cannot."""
    if request.filter is None or not copy.fields:
        return None
    collated = await copies.records.collated(request.spec)
    pushed = push_down(request.filter, numbered(request.spec, copy.fields, collated=collated))
    return pushed if pushed.left is None else None


async def quick_search(
    copies: AsyncVectorCopies,
    kind: str,
    copy: MemoryCopy,
    request: SearchRequest,
    session: AsyncClientSession,
    pushed: PushDown | None = None,
) -> tuple[Hits | None, Look | None]:
    """Ask memory first, then read the documents of what it found, state and records in one aggregate.

    What is pending by these records is read and ranked too, and memory brought forward by it.
    With a filter, all of it is to be `pushed`.
    No hits where the request is none for this form, or the snapshot holds too much that memory does not;
    the look then serves the search that follows.
    """
    if request.projection is not None or request.k > _MOST:
        return None, None
    spec, engine, filter = request.spec, await copies.engine(), request.filter
    step = plan(Known(kind, request.k, filtered=filter is not None, held=len(copy), pushed=pushed is not None))
    assert isinstance(step, Rank)
    leave_out = [] if request.leave_out is None else [request.leave_out]
    condition = None if pushed is None else pushed.condition
    ranked = await aio.in_thread(copy.rank, request.query, step.limit, leave_out, condition)
    ranking = AsyncRanking(copies.backend, request, session)
    first = ranked.nearest.within(ranking.bound(ranked.nearest.tolerance))[: request.k]
    parts = in_parts({key: decode_key(key) for key in first}, _MOST)
    if len(parts) > 1:
        return None, None
    ids = parts[0] if parts else []
    chosen: dict[str, Any] = {"_id": {"$in": ids}}
    match = {"$and": [chosen, filter]} if filter else chosen
    read = Aggregate(spec.collection, [{"$match": match}, with_look(spec.name, engine, ranked.n)])
    ranking.reads.append(read)
    found = Together().add(await copies.backend.read(read, session=session))
    look = found.look(engine, ranked.n)
    if look.moving is not None:
        return None, look
    seen = None if look.state is None else copy.seen(ranked, look)
    if seen is None or len(seen[1]) > (_MOST if filter is None else 0):
        return None, look
    nearest, pending = seen
    forward = copy.forward(look)
    if forward is not None and not forward.fits:
        return None, look
    ranking.take(found.documents, found.large)
    changed = [*found.documents, *await ranking.rank(pending, hits=len(pending))]
    if forward is not None and forward.keys.keys() <= pending.keys():
        changed = [document for document in changed if encode_key(document["_id"]) in forward.keys]
        if not copy.fields or all(encode_key(document["_id"]) in ranking.documents for document in changed):
            await aio.in_thread(copy.install, forward, look, spec, changed)
    near = nearest.within(ranking.bound(nearest.tolerance))
    await ranking.rank({key: decode_key(key) for key in near if key not in ranking.asked}, hits=len(near))
    if not nearest.complete and len(near) == len(nearest.keys):
        return None, look
    explanation = Explanation(
        engine=kind,
        strategy=step.strategy,
        why=step.why,
        held=len(copy),
        matched=None,
        more=False,
        pushed=None if pushed is None else pushed.where,
        passing=None,
        version=None if look.state is None else look.state.ver,
        pending=len(pending),
        candidates=len(nearest.keys),
        read=ranking.read,
        calls=1,
        reads=tuple(ranking.reads),
    )
    return Hits(await ranking.hits(), explanation), look
