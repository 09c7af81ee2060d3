"""Ranking the documents of one snapshot by their own vectors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from superorm._async.vector_stage import waiting
from superorm.codec.keys import encode_key, sort_key
from superorm.codec.vectors import decode_rows, value_at, values_at
from superorm.compile.plan import Aggregate, Count, Find, Read
from superorm.vectors.atlas_stages import similarity_stages
from superorm.vectors.one_read import Together, whole_if_small
from superorm.vectors.records import Moving, in_parts
from superorm.vectors.request import Hit, SearchRequest
from superorm.vectors.scores import distance_of, exact_distances, score_of

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

    from superorm.protocols._async.parts import AsyncDataBackend

__all__ = ["MOST_WHOLE", "AsyncRanking"]

_IDS = 4_000
MOST_WHOLE = 64
"""Documents of which more than this number may be hits are first read without the rest of them."""
_KEYS_A_BATCH = 20_000
_SLACK = 8
"""So many more are asked for than are needed: one may be left out, and the server may round otherwise."""


class AsyncRanking:
    """Reads documents that match the request's filter, and keeps those ranked by their own vectors."""

    def __init__(
        self,
        backend: AsyncDataBackend,
        request: SearchRequest,
        session: AsyncClientSession | None,
        moving: Moving | None = None,
    ) -> None:
        self._backend = backend
        self._request = request
        self._session = session
        self._moving = moving
        self._leave_out = request.leave_out
        self._shown, self._added = _with_vector(request.projection, request.spec.path)
        self.documents: dict[str, dict[str, Any]] = {}
        """Those read whole, by canonical key."""
        self.asked: set[str] = set()
        """The keys whose documents were read, if they match."""
        self.ranked: dict[str, tuple[float, Any]] = {}
        """Distance and ``_id`` by canonical key."""
        self.read = 0
        """How many documents were read to be ranked."""
        self.reads: list[Read] = []

    async def matching(self, limit: int | None) -> list[Any]:
        """Each ``_id`` of the documents that match; with a limit, one more at most."""
        plan = Find(self._request.spec.collection, self._filter, {"_id": 1}, limit=0 if limit is None else limit + 1)
        self.reads.append(plan)
        ids: list[Any] = []
        size = min(plan.limit or _KEYS_A_BATCH, _KEYS_A_BATCH)
        async with aclosing(self._backend.stream(plan, session=self._session, batch_size=size)) as batches:
            async for documents in batches:
                ids += [document["_id"] for document in documents]
        return ids

    async def count(self, limit: int) -> int:
        """How many documents match, one more than the limit at most."""
        plan = Count(self._request.spec.collection, self._filter, limit + 1)
        self.reads.append(plan)
        return int((await self._backend.read(plan, session=self._session))[0]["n"])

    async def rank(self, ids: Mapping[str, Any], *, hits: int, sure: bool = False) -> Sequence[dict[str, Any]]:
        """Read the documents of these keys that match, and rank them, unless they were read before.

        They are read whole where about so many may be `hits`, and that is few:
        those that are small, and large ones only where all are `sure` to be hits.
        Gives what was read, with the vector at least.
        """
        fresh = {key: id for key, id in ids.items() if key not in self.asked}
        self.asked.update(fresh)
        read: list[dict[str, Any]] = []
        for part in in_parts(fresh, _IDS):
            if not 0 < hits <= MOST_WHOLE:
                large = await self._read(self._find(part, {self._request.spec.path: 1}))
                documents = list[dict[str, Any]]()
            elif sure or self._session is None:
                documents, large = await self._read(self._find(part, self._shown)), []
            else:
                found = await self._small(self._matching(part))
                documents, large = found.documents, found.large
            await self._take_moved(documents, large)
            read += [*documents, *large]
        return read

    async def _take_moved(self, documents: Sequence[dict[str, Any]], large: Sequence[dict[str, Any]]) -> None:
        """The same as `take`, by the vectors that wait for them, if any."""
        self.take(documents, large, await self._waiting([*documents, *large]))

    async def _waiting(self, documents: Sequence[Mapping[str, Any]]) -> Mapping[int, Any]:
        """The vectors that take the place of the documents' own, by position."""
        if self._moving is None:
            return {}
        ids = [document["_id"] for document in documents]
        return await waiting(self._backend, self._request.spec, self._moving, ids, session=self._session)

    def take(
        self,
        documents: Sequence[dict[str, Any]],
        large: Sequence[dict[str, Any]],
        moved: Mapping[int, Any] = MappingProxyType({}),
    ) -> None:
        """Rank documents that were read whole, and large ones of which ``_id`` and vector were read.

        `moved` has vectors that take the place of their own, by position.
        """
        read = [*documents, *large]
        keys = [encode_key(document["_id"]) for document in read]
        self.documents.update(zip(keys, documents, strict=False))
        self.asked.update(keys)
        self._take(keys, read, moved)

    async def rank_all(self, *, hits: int | None = None) -> None:
        """Rank all documents that match, of which only the k nearest are kept; about so many may be `hits`."""
        request = self._request
        self.ranked.clear()
        self.read = 0
        if hits is not None and hits <= MOST_WHOLE and self._session is not None:
            found = await self._small(self._filter)
            await self._take_moved(found.documents, found.large)
            return
        plan = Find(request.spec.collection, self._filter, {request.spec.path: 1})
        self.reads.append(plan)
        async with aclosing(self._backend.stream(plan, session=self._session)) as batches:
            async for documents in batches:
                self._take_nearest(documents, await self._waiting(documents))
                if len(self.ranked) > 4 * request.k + 1000:
                    self.ranked = dict(self._best())

    async def rank_in_server(self) -> None:
        """The same by the server's own expressions, so that the documents of the nearest alone are read."""
        request = self._request
        limit = request.k + _SLACK
        while True:
            stages = similarity_stages(request.spec, request.query, limit, self._filter)
            found = await self._read(Aggregate(request.spec.collection, stages))
            await self.rank({encode_key(one["_id"]): one["_id"] for one in found}, hits=len(found))
            if len(found) < limit or len(self.ranked) >= request.k:
                return
            limit *= 4

    def bound(self, tolerance: float) -> float:
        """The distance beyond which no candidate can be among the hits."""
        request = self._request
        bound = math.inf
        if request.min_score is not None:
            bound = distance_of(request.min_score, request.spec.metric)
        if len(self.ranked) >= request.k:
            bound = min(bound, sorted(distance for distance, _ in self.ranked.values())[request.k - 1])
        return bound + tolerance

    async def hits(self) -> list[Hit]:
        """The k nearest documents of those ranked, whole or as the projection shows them."""
        request, best = self._request, self._best()
        lacking = {key: id for key, (_, id) in best if key not in self.documents}
        for part in in_parts(lacking, _IDS):
            for document in await self._read(self._find(part, self._shown)):
                self.documents[encode_key(document["_id"])] = document
        hits: list[Hit] = []
        for key, (distance, id) in best:
            score = score_of(distance, request.spec.metric)
            if key in self.documents and (request.min_score is None or score >= request.min_score):
                hits.append(Hit(id, score, _without(self.documents[key], self._added)))
        return hits

    @property
    def _filter(self) -> Mapping[str, Any]:
        return self._request.filter or {}

    async def _read(self, plan: Read) -> list[dict[str, Any]]:
        self.reads.append(plan)
        return await self._backend.read(plan, session=self._session)

    def _find(self, ids: Sequence[Any], shown: Mapping[str, Any] | None) -> Find:
        return Find(self._request.spec.collection, self._matching(ids), shown)

    async def _small(self, filter: Mapping[str, Any]) -> Together:
        """Read documents whole, or as the projection shows them, but of large ones only their vectors."""
        spec, shown = self._request.spec, [{"$project": self._shown}] if self._shown else []
        stages: list[dict[str, Any]] = [{"$match": filter}, *shown, whole_if_small(spec.path)]
        return Together().add(await self._read(Aggregate(spec.collection, stages)))

    def _matching(self, ids: Sequence[Any]) -> dict[str, Any]:
        chosen: dict[str, Any] = {"_id": {"$in": ids}}
        return {"$and": [chosen, self._request.filter]} if self._request.filter else chosen

    def _take(self, keys: Sequence[str], documents: Sequence[Mapping[str, Any]], moved: Mapping[int, Any]) -> None:
        """Rank documents of these keys by their own vectors; those without one are left out."""
        positions, distances = self._distances(documents, moved)
        for position, distance in zip(positions, distances.tolist(), strict=True):
            key = keys[position]
            if not math.isnan(distance) and key != self._leave_out:
                self.ranked[key] = distance, documents[position]["_id"]

    def _take_nearest(self, documents: Sequence[Mapping[str, Any]], moved: Mapping[int, Any]) -> None:
        """The same of those documents only that are near enough to be among the k nearest."""
        positions, distances = self._distances(documents, moved)
        k, farthest = self._request.k, math.inf
        if k < len(distances):
            farthest = np.partition(np.nan_to_num(distances, nan=math.inf), k)[k]  # one more, as one may be left out
        for number in np.flatnonzero(distances <= farthest).tolist():
            id = documents[positions[number]]["_id"]
            if (key := encode_key(id)) != self._leave_out:
                self.ranked[key] = float(distances[number]), id

    def _distances(
        self, documents: Sequence[Mapping[str, Any]], moved: Mapping[int, Any]
    ) -> tuple[Sequence[int], NDArray[np.float64]]:
        """The positions of those documents that have a vector, and the distance of each, NaN where it has none."""
        self.read += len(documents)
        spec = self._request.spec
        values = values_at(documents, spec.path)
        for position, vector in moved.items():
            values[position] = vector
        rows, positions = decode_rows(values, spec.dim)
        return positions, exact_distances(rows, self._request.query, spec.metric)

    def _best(self) -> list[tuple[str, tuple[float, Any]]]:
        """The k nearest, ties by ``_id``."""
        k, ranked = self._request.k, [*self.ranked.items()]
        if len(ranked) > k:
            farthest = sorted(distance for _, (distance, _) in ranked)[k - 1]
            ranked = [one for one in ranked if one[1][0] <= farthest]
        return sorted(ranked, key=lambda item: (item[1][0], sort_key(item[1][1])))[:k]


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
