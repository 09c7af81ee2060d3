"""One vector search in one snapshot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

from superorm._async.vector_view import AsyncVectorView
from superorm.codec.keys import decode_key, encode_key, sort_key
from superorm.codec.vectors import decode_rows, value_at
from superorm.compile.plan import Find, Read
from superorm.vectors.records import in_parts
from superorm.vectors.request import Explanation, Hit, Hits, SearchRequest
from superorm.vectors.rows import Nearest
from superorm.vectors.scores import distance_of, exact_distances, score_of

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

    from superorm.protocols._async.parts import AsyncDataBackend

__all__ = ["AsyncVectorSearch"]

_FEW = 2_000
"""So many matching documents are ranked from their own vectors rather than looked for among the engine's candidates."""
_IDS = 4_000
_SLACK = 8
_MOST_WHOLE = 64
"""Candidates beyond this number are first read without the rest of their documents."""


class AsyncVectorSearch:
    """Finds the k nearest documents that match, and ranks them by their own vectors.

    The engine gives candidates; the documents of its best ones are read with the filter, until no other candidate can
    be nearer than the k-th of those that match. Keys that the engine has not applied are ranked from their documents.
    """

    def __init__(
        self,
        backend: AsyncDataBackend,
        engine: str,
        view: AsyncVectorView,
        request: SearchRequest,
        session: AsyncClientSession | None,
    ) -> None:
        self._backend = backend
        self._engine = engine
        self._view = view
        self._request = request
        self._session = session
        self._leave_out = None if request.leave_out is None else encode_key(request.leave_out)
        self._shown, self._added = _with_vector(request.projection, request.spec.path)
        self._asked: set[str] = set()
        self._ranked: dict[str, tuple[float, Any]] = {}
        self._documents: dict[str, dict[str, Any]] = {}
        self._reads: list[Read] = []
        self._calls = self._candidates = self._pending = 0

    async def run(self, *, documents_only: bool = False) -> Hits:
        """The hits. Raises ``VersionLost``."""
        request = self._request
        limit = request.k + _SLACK if request.filter is None else max(20 * request.k, 200)
        listed = False
        while not documents_only:
            answer = await self._view.nearest(request, limit)
            if answer is None:
                break
            self._calls += 1
            self._candidates += len(answer.nearest.keys)
            self._pending = len(answer.pending)
            await self._rank(list(answer.pending.values()), whole=False)
            if await self._walk(answer.nearest):
                return await self._hits("engine")
            limit = max(4 * limit, math.ceil(1.5 * request.k / self._rate()))
            if request.filter is not None and not listed and limit > _FEW:
                listed = True
                if await self._rank_few(request.filter):
                    return await self._hits("documents")
        await self._rank_all()
        return await self._hits("documents")

    async def _walk(self, nearest: Nearest) -> bool:
        """Read the candidates' documents, nearest first; whether nothing nearer can be among what was not asked."""
        distances: list[float] = nearest.distances.tolist()
        position = 0
        while position < len(distances) and distances[position] <= (bound := self._bound(nearest.tolerance)):
            lacking = self._request.k - len(self._ranked)
            size = math.ceil(lacking / self._rate()) if lacking > 0 else len(distances)
            part: list[Any] = []
            while position < len(distances) and distances[position] <= bound and len(part) < size:
                if nearest.keys[position] not in self._asked:
                    part.append(decode_key(nearest.keys[position]))
                position += 1
            await self._rank(part, whole=len(part) <= _MOST_WHOLE)
        return nearest.complete or distances[-1] > self._bound(nearest.tolerance)

    def _rate(self) -> float:
        """How many of the candidates match, as far as is known."""
        if self._request.filter is None:
            return 1.0
        return (len(self._ranked) + 1) / (len(self._asked) + 2)

    def _bound(self, tolerance: float) -> float:
        """The distance beyond which no candidate can be among the hits."""
        request = self._request
        bound = math.inf
        if request.min_score is not None:
            bound = distance_of(request.min_score, request.spec.metric)
        if len(self._ranked) >= request.k:
            bound = min(bound, sorted(distance for distance, _ in self._ranked.values())[request.k - 1])
        return bound + tolerance

    async def _rank(self, ids: Sequence[Any], *, whole: bool) -> None:
        """Read the documents of these keys that match, and rank them."""
        fresh = {encode_key(id): id for id in ids}
        self._asked.update(fresh)
        for part in in_parts({key: id for key, id in fresh.items() if key not in self._ranked}, _IDS):
            for document in await self._read({"_id": {"$in": part}}, whole=whole):
                if whole:
                    self._documents[encode_key(document["_id"])] = document

    async def _rank_few(self, filter: Mapping[str, Any]) -> bool:
        """Rank all documents that match, if they are few."""
        plan = Find(self._request.spec.collection, filter, {"_id": 1}, limit=_FEW + 1)
        self._reads.append(plan)
        matching = await self._backend.read(plan, session=self._session)
        if len(matching) > _FEW:
            return False
        await self._rank([document["_id"] for document in matching], whole=False)
        return True

    async def _rank_all(self) -> None:
        """Rank all documents that match, of which only the k nearest are kept."""
        request = self._request
        self._ranked.clear()
        plan = Find(request.spec.collection, request.filter or {}, {request.spec.path: 1})
        self._reads.append(plan)
        async with aclosing(self._backend.stream(plan, session=self._session)) as batches:
            async for documents in batches:
                self._take(documents)
                if len(self._ranked) > 4 * request.k + 1000:
                    self._ranked = dict(self._best())

    async def _read(self, chosen: Mapping[str, Any], *, whole: bool) -> list[dict[str, Any]]:
        spec, filter = self._request.spec, self._request.filter
        matching = {"$and": [chosen, filter]} if filter else chosen
        plan = Find(spec.collection, matching, self._shown if whole else {spec.path: 1})
        self._reads.append(plan)
        documents = await self._backend.read(plan, session=self._session)
        self._take(documents)
        return documents

    def _take(self, documents: Sequence[Mapping[str, Any]]) -> None:
        """Rank documents by their own vectors; those without one are left out."""
        spec = self._request.spec
        rows, positions = decode_rows([value_at(document, spec.path) for document in documents], spec.dim)
        distances: list[float] = exact_distances(rows, self._request.query, spec.metric).tolist()
        for position, distance in zip(positions, distances, strict=True):
            id = documents[position]["_id"]
            key = encode_key(id)
            if not math.isnan(distance) and key != self._leave_out:
                self._ranked[key] = distance, id

    def _best(self) -> list[tuple[str, tuple[float, Any]]]:
        """The k nearest, ties by ``_id``."""
        order = sorted(self._ranked.items(), key=lambda item: (item[1][0], sort_key(item[1][1])))
        return order[: self._request.k]

    async def _hits(self, strategy: str) -> Hits:
        request, best = self._request, self._best()
        read = len(self._ranked)
        lacking = {key: id for key, (_, id) in best if key not in self._documents}
        for part in in_parts(lacking, _IDS):
            for document in await self._read({"_id": {"$in": part}}, whole=True):
                self._documents[encode_key(document["_id"])] = document
        hits: list[Hit] = []
        for key, (distance, id) in best:
            score = score_of(distance, request.spec.metric)
            if key in self._documents and (request.min_score is None or score >= request.min_score):
                hits.append(Hit(id, score, _without(self._documents[key], self._added)))
        state = self._view.look.state
        return Hits(
            hits,
            Explanation(
                engine=self._engine,
                strategy=strategy,
                version=None if state is None else state.ver,
                pending=self._pending,
                candidates=self._candidates,
                read=read,
                calls=self._calls,
                reads=tuple(self._reads),
            ),
        )


def _with_vector(projection: Mapping[str, Any] | None, path: str) -> tuple[dict[str, Any] | None, str | None]:
    """A projection that shows the vector and the key, and the path to take out of the documents again, if any."""
    if projection is None:
        return None, None
    shown = {name: show for name, show in projection.items() if name != "_id"}
    if any(show for show in shown.values()) or (not shown and projection.get("_id")):
        if any(path == name or path.startswith(f"{name}.") for name in shown):
            return shown, None
        return {**shown, path: 1}, path
    hidden = {name: show for name, show in shown.items() if not (path == name or path.startswith(f"{name}."))}
    return hidden, None if len(hidden) == len(shown) else path


def _without(document: dict[str, Any], path: str | None) -> dict[str, Any]:
    """The document without what stands at the path."""
    if path is not None:
        *parents, last = path.split(".")
        part = value_at(document, ".".join(parents)) if parents else document
        if isinstance(part, dict):
            cast("dict[str, object]", part).pop(last, None)
    return document
