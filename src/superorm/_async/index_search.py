"""Vector searches by the name of an index: its vectors are those of a listener's outputs, beside the documents."""

from __future__ import annotations

import heapq
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import define, evolve, field, frozen

from superorm._async.index_query import AsyncIndexQueries, Chain
from superorm._async.vector_ranking import AsyncRanking
from superorm.codec.keys import encode_key, sort_key
from superorm.compile.plan import Find, Read
from superorm.exc import ComponentNotFoundError, UnsupportedError
from superorm.vectors.records import COLLECTION, in_parts
from superorm.vectors.request import Hit, Hits, SearchRequest
from superorm.vectors.scores import exact_distances, score_of

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

    from superorm._async.listeners import AsyncListeners
    from superorm._async.query import Found
    from superorm._async.vector_indexes import AsyncVectorIndexes
    from superorm.compile.compiler import CompiledSelect
    from superorm.compile.searched import LikePlan
    from superorm.components.outputs import State
    from superorm.protocols._async.parts import AsyncDataBackend

__all__ = ["AsyncIndexSearch", "shown_of"]

_ATTEMPTS = 4
_OVER = 4
"""Where there are conditions, the documents of so many times k vectors are looked at first."""
_MOST = 10_000
"""The vectors that are looked through at the most."""
_PENDING = 100
"""So many changed documents are ranked by the models at once; of more the outputs are computed and stored first."""
_IDS = 4_000
_LOOKED = {"kind": 1, "keys": 1, "n": 1, "filled": 1, "settled": 1}


def shown_of(compiled: CompiledSelect) -> dict[str, Any] | None:
    """What is read of the documents that a search finds; None: all."""
    if compiled.score is not None:
        return {"_id": 1}
    if compiled.find.projection is None:
        return None
    return {path: 1 for path, shown in compiled.find.projection.items() if shown} or {"_id": 1}


@frozen
class _More:
    """So many of the nearest vectors are to be looked through."""

    candidates: int


@frozen
class _Again:
    """Much changed meanwhile: the outputs are to be computed first."""


@define
class _Look:
    """What a snapshot sees of the listeners of a chain."""

    published: dict[str, int]
    """How often each has published."""
    pending: dict[str, Any]
    """The keys of documents whose outputs are not those of the documents yet, by their canonical keys."""
    records: frozenset[Any]
    settled: bool
    """Whether all outputs are there, and were compared with the documents once every program knew of the listeners."""


@define
class _Read:
    """What was read of the documents."""

    shown: dict[str, dict[str, Any]] = field(factory=dict[str, dict[str, Any]])
    reads: list[Read] = field(factory=list[Read])


class AsyncIndexSearch:
    """Finds the documents with the k nearest vectors, among those that match.

    In one snapshot the nearest vectors are found, then their documents, and what is recorded as changed is ranked from
    the documents themselves, by the models of the chain. Where too few of these match, more vectors are looked
    through, or the vectors of all that match are ranked.
    """

    def __init__(
        self,
        backend: AsyncDataBackend,
        vectors: AsyncVectorIndexes,
        listeners: AsyncListeners,
        compiled: CompiledSelect,
        plan: LikePlan,
    ) -> None:
        self._backend = backend
        self._vectors = vectors
        self._listeners = listeners
        self._mapping = compiled.mapping
        assert compiled.mapping.collection is not None
        self._collection = compiled.mapping.collection
        self._plan = plan
        self._queries = AsyncIndexQueries(vectors.backend, compiled.mapping, plan.like)
        self._shown = shown_of(compiled)

    async def run(
        self,
        finish: Callable[[Hits, AsyncClientSession | None], Awaitable[Found]],
        session: AsyncClientSession | None,
    ) -> Found:
        """What `finish` makes of the hits, in their snapshot; `session` is that of an open transaction.

        Raises `ComponentNotFoundError`, `StatementError` for an index of other documents, and for what its models
        do not take, `VectorError` for a query that is no vector of the index, and the errors of computing outputs.
        """
        like, name = self._plan.like, self._plan.on
        assert isinstance(name, str)
        inside = session is not None and session.in_transaction
        state = await self._state(name)
        index = await self._listeners.load(state)
        chain = Chain.of(state, index, await self._listeners.chain(state))
        self._queries.check(chain)
        if inside and not state.filled:
            raise UnsupportedError(
                f"not all vectors of the {state.named} are there yet, which cannot be made in a transaction: "
                "search before it"
            )
        look = await self._look(chain, session)
        if not inside and (look.pending or not look.settled):
            await self._listeners.catch_up(state)
            look = await self._look(chain, session)
        query, leave_out = await self._queries.query(chain, look.pending, session)
        candidates = like.k if not self._plan.filter else _OVER * like.k
        attempt = 1
        while True:
            last = attempt >= _ATTEMPTS
            request = SearchRequest(
                spec=chain.spec,
                query=query,
                k=candidates,
                exact=like.exact,
                min_score=like.min_score,
                leave_out=leave_out,
                projection={"_id": 1},
                num_candidates=like.num_candidates,
            )
            body = partial(self._finish, finish, chain, request, look, last, inside)
            found = await self._vectors.search(request, body, session=session)
            if isinstance(found, _More):
                candidates = found.candidates
            elif isinstance(found, _Again):
                attempt += 1
                await self._listeners.catch_up(state)
            else:
                return found
            look = await self._look(chain, session)

    async def _state(self, name: str) -> State:
        try:
            return await self._listeners.named(name, "vector_index")
        except ComponentNotFoundError as error:
            if name not in (one.attribute for one in self._mapping.vectors):
                raise
            raise ComponentNotFoundError(
                f"{error}; for the vector field give on={self._mapping.name}.{name}", component=name
            ) from None

    async def _finish(
        self,
        finish: Callable[[Hits, AsyncClientSession | None], Awaitable[Found]],
        chain: Chain,
        request: SearchRequest,
        before: _Look,
        last: bool,
        inside: bool,
        hits: Hits,
        session: AsyncClientSession | None,
    ) -> Found | _More | _Again:
        """The documents of the vectors found, as the session sees both."""
        look = await self._look(chain, session)
        if not last and not inside and len(look.pending) > _PENDING:
            return _Again()
        documents = _Read()
        held = {encode_key(hit.key): hit for hit in hits}
        there = {key: hit.key for key, hit in held.items() if key not in look.pending}
        await self._match(documents, there, session)
        matched = [hit for key, hit in held.items() if key in documents.shown]
        explanation = evolve(hits.explanation, searched=str(chain.named))
        if len(matched) < self._plan.like.k and len(hits) >= request.k:
            needed = math.ceil(2 * self._plan.like.k * request.k / max(len(matched), 0.5))
            limit = None if last or needed > max(_MOST, 2 * self._plan.like.k) else needed
            ids = await self._matching(documents, limit, session)
            if ids is None:
                return _More(needed)
            matched, ranked = await self._gather(request, ids, look, session)
            why = "the documents of too few of the nearest vectors match, so the vectors of all that match are ranked"
            explanation = evolve(explanation, strategy="gather", why=why, read=explanation.read + ranked)
        matched = [*matched, *await self._changed(documents, chain, request, look, session)]
        if look.pending:
            matched.sort(key=lambda hit: (-hit.score, sort_key(hit.key)))
            explanation = evolve(explanation, pending=explanation.pending + len(look.pending))
        found = await self._show(documents, matched[: self._plan.like.k], session)
        explanation = evolve(explanation, reads=(*explanation.reads, *documents.reads))
        result = await finish(Hits(found, explanation), session)
        if session is None and not last:  # of what changes meanwhile there is no snapshot
            after = await self._look(chain, None)
            if (after.published, after.records) != (before.published, before.records):
                return _Again()
        return result

    async def _look(self, chain: Chain, session: AsyncClientSession | None) -> _Look:
        """Raises `ComponentNotFoundError` where the index was removed."""
        known = Find(COLLECTION, {"i": {"$in": list(chain.ids)}}, _LOOKED)
        found = await self._vectors.backend.read(known, session=session)
        states = [one for one in found if one["kind"] == "listener"]
        published = {one["_id"]: one["n"] for one in states}
        if chain.ids[0] not in published:
            raise self._queries.removed(chain)
        records = [one for one in found if one["kind"] == "record"]
        pending = {encode_key(key): key for one in records for key in one["keys"]}
        settled = len(states) == len(chain.ids) and all(one["filled"] and one["settled"] for one in states)
        return _Look(published, pending, frozenset(one["_id"] for one in records), settled)

    async def _match(
        self, documents: _Read, keys: Mapping[str, Any], session: AsyncClientSession | None, *, only_keys: bool = False
    ) -> None:
        """Read the documents of these keys that match: whole, or only that they are there where some may not match."""
        shown = {"_id": 1} if self._plan.filter or only_keys else self._shown
        await self._read(documents, keys, shown, session)

    async def _read(
        self,
        documents: _Read,
        keys: Mapping[str, Any],
        shown: Mapping[str, Any] | None,
        session: AsyncClientSession | None,
    ) -> None:
        for part in in_parts(keys, _IDS):
            plan = Find(self._collection, self._among(part), shown)
            documents.reads.append(plan)
            for one in await self._backend.read(plan, session=session):
                documents.shown[encode_key(one["_id"])] = one

    def _among(self, keys: Sequence[Any]) -> dict[str, Any]:
        among: dict[str, Any] = {"_id": {"$in": keys}}
        return {"$and": [among, self._plan.filter]} if self._plan.filter else among

    async def _matching(
        self, documents: _Read, limit: int | None, session: AsyncClientSession | None
    ) -> dict[str, Any] | None:
        """The keys of all documents that match; None where these are more than the limit."""
        plan = Find(self._collection, self._plan.filter, {"_id": 1}, limit=0 if limit is None else limit + 1)
        documents.reads.append(plan)
        ids: dict[str, Any] = {}
        async with aclosing(self._backend.stream(plan, session=session, batch_size=_IDS)) as parts:
            async for found in parts:
                ids |= {encode_key(one["_id"]): one["_id"] for one in found}
        return None if limit is not None and len(ids) > limit else ids

    async def _gather(
        self, request: SearchRequest, ids: Mapping[str, Any], look: _Look, session: AsyncClientSession | None
    ) -> tuple[list[Hit], int]:
        """The nearest vectors of these documents, but for changed ones; and how many were read."""
        ranking = AsyncRanking(self._vectors.backend, request, session)
        await ranking.rank({key: id for key, id in ids.items() if key not in look.pending}, hits=0)
        ranked = ((distance, sort_key(id), id) for distance, id in ranking.ranked.values())
        best = heapq.nsmallest(self._plan.like.k, ranked, key=lambda one: one[:2])
        return _hits(request, [id for _, _, id in best], [distance for distance, _, _ in best]), ranking.read

    async def _changed(
        self,
        documents: _Read,
        chain: Chain,
        request: SearchRequest,
        look: _Look,
        session: AsyncClientSession | None,
    ) -> list[Hit]:
        """Those documents that match of which the index has not the vectors yet, ranked by what the models give."""
        if not look.pending:
            return []
        changed = _Read()
        await self._match(changed, look.pending, session, only_keys=True)
        documents.reads += changed.reads
        ids = [one["_id"] for key, one in changed.shown.items() if key != request.leave_out]
        vectors = await self._queries.vectors(chain, ids, session)
        if not vectors:
            return []
        rows = np.array([vector for _, vector in vectors], np.float32)
        distances = exact_distances(rows, request.query, request.spec.metric)
        return _hits(request, [key for key, _ in vectors], distances.tolist())

    async def _show(self, documents: _Read, hits: Iterable[Hit], session: AsyncClientSession | None) -> list[Hit]:
        """The hits with what is shown of their documents, of those that are there."""
        by_key = {encode_key(hit.key): hit for hit in hits}
        if self._plan.filter and self._shown != {"_id": 1}:
            documents.shown.clear()
        lacking = {key: hit.key for key, hit in by_key.items() if key not in documents.shown}
        await self._read(documents, lacking, self._shown, session)
        return [evolve(hit, document=documents.shown[key]) for key, hit in by_key.items() if key in documents.shown]


def _hits(request: SearchRequest, keys: Sequence[Any], distances: Sequence[float]) -> list[Hit]:
    """Those that can be ranked, and are near enough."""
    scores = [math.nan if math.isnan(one) else score_of(one, request.spec.metric) for one in distances]
    least = -math.inf if request.min_score is None else request.min_score
    return [Hit(key, score, {"_id": key}) for key, score in zip(keys, scores, strict=True) if score >= least]
