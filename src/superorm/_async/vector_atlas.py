"""Searching by MongoDB's own search indexes, which the server keeps by itself, some time after each commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import define
from bson import ObjectId

from superorm._async.vector_records import AsyncVectorRecords
from superorm._async.vector_target import AsyncTarget
from superorm._async.vector_view import Answer, Unhanded
from superorm._io import aio
from superorm._io.progress import Progress
from superorm.codec.keys import encode_key
from superorm.codec.vectors import decode_rows, value_at
from superorm.compile.plan import Aggregate
from superorm.exc import SuperormError, UnsupportedError
from superorm.protocols.reports import CreateReport
from superorm.schema.vector_spec import VectorSpec
from superorm.vectors._async.atlas import AsyncAtlasVectorIndex, Server
from superorm.vectors.atlas_filter import Push, push
from superorm.vectors.atlas_stages import (
    MOST,
    declared_filters,
    definition,
    differences,
    filter_paths,
    index_name,
    misfit,
    search_stages,
)
from superorm.vectors.errors import VersionLost
from superorm.vectors.memory_copy import MemoryCopy
from superorm.vectors.push_down import PushDown
from superorm.vectors.records import Coming, Look, Need, batch
from superorm.vectors.request import SearchRequest
from superorm.vectors.rows import Nearest
from superorm.vectors.scores import exact_distances

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

    from superorm.protocols._async.parts import AsyncDataBackend

__all__ = ["AsyncAtlasCopies", "AsyncAtlasView"]

_ENGINE = "atlas"
_ALL = 1_000_000
_TICK = 0.25
_UNABLE = (
    f"too few of the {MOST:,} nearest that the search index can give match, so all documents that match are ranked"
)


@define
class AsyncAtlasView:
    """A search index, and the keys written so lately that it may lack them.

    ``$vectorSearch`` is refused in transactions and snapshots, so it is sent outside of them, and gives no more than
    candidates: the search reads their documents in its snapshot, and ranks them by these.
    """

    spec: VectorSpec
    atlas: AsyncAtlasVectorIndex
    server: Server
    described: Mapping[str, Any] | None
    """The search index, as the server describes it."""
    look: Look
    need: Need | None
    unable: str = _UNABLE
    collated: bool = False
    """Whether texts of the collection are compared otherwise than by their characters."""

    @property
    def in_server(self) -> bool:
        """Whether the server is to rank by the ``$similarity`` expressions, which see the documents' own vectors."""
        return self.server.similarity and self.look.moving is None

    def unserved(self, request: SearchRequest) -> str | None:
        """Why the documents must be ranked."""
        by = "the server's $similarity expressions" if self.in_server else "the documents' own vectors"
        if self.look.moving is not None:
            return f"vectors of version {self.look.moving.version} still wait beside the documents, so {by} rank these"
        if not self.server.search:
            return f"the server has no search node, so {by} rank the documents that match"
        if request.exact:
            return f"exact=True: a search index may miss some, and lags behind, so {by} rank the documents that match"
        if self.described is None or not self.described.get("queryable"):
            return f"{self.spec.collection} has no queryable search index, so {by} rank the documents that match"
        if (why := misfit(self.spec, self.described)) is not None:
            return f"{why}, so {by} rank the documents that match"
        if request.k > MOST // 2 or len(self.look.pending) > MOST // 2:
            return f"more than {MOST // 2} keys at once are too many for $vectorSearch, so {by} rank the documents"
        return None

    def _divided(self, filter: Mapping[str, Any] | None) -> Push:
        declared = declared_filters(self.spec, texts=not self.collated)
        return push(filter or {}, filter_paths(self.described or {}).intersection(declared))

    def pushed(self, filter: Mapping[str, Any]) -> PushDown | None:
        """What ``$vectorSearch`` takes of the filter."""
        found = self._divided(filter)
        left = f"{_ENGINE} does not take the whole filter: {', '.join(found.rest)}" if found.rest else None
        return PushDown(str(found.filter) if found.filter else None, left, lists=False)

    async def passing(self, where: str, limit: int) -> Sequence[str]:
        """A search index cannot tell."""
        raise UnsupportedError("a search index lists no keys")

    async def held(self) -> int | None:
        """Nothing is in this process's memory."""
        return None

    async def nearest(
        self, request: SearchRequest, limit: int, among: Sequence[Any] | None = None, pushed: PushDown | None = None
    ) -> Answer | None:
        """The `limit` nearest keys by the search index, without the pending ones.

        Raises ``VersionLost`` where the search index has gone, as the server then answers with nothing at all,
        or has been changed, as it then may refuse the filter.
        """
        if among is not None or limit >= 4 * MOST:
            return None
        taken, pending = self._divided(request.filter), self.look.pending
        left_out = set(pending)
        if request.leave_out is not None:
            left_out.add(request.leave_out)
        wanted = limit + len(left_out)
        asked = min(wanted, MOST)
        stages = search_stages(self.spec, request.query, asked, request.num_candidates, taken.filter)
        read = Aggregate(self.spec.collection, stages)
        try:
            found = await self.atlas.backend.read(read)
        except SuperormError:
            await self._check()
            raise
        if not found:
            await self._check()
        documents = {key: one for one in found if (key := encode_key(one["_id"])) not in left_out}
        # The server leaves documents out that are deleted, which are pending, but counts them.
        complete = len(documents) + len(left_out) < asked
        if asked < wanted and not taken.rest:
            complete = True  # no more can be asked for
        return Answer(self._ranked(documents, request, complete=complete), pending, read)

    def _ranked(self, documents: Mapping[str, Mapping[str, Any]], request: SearchRequest, *, complete: bool) -> Nearest:
        """Each with a distance, of its document's vector, that none of those after it is below."""
        rows, positions = decode_rows([value_at(one, self.spec.path) for one in documents.values()], self.spec.dim)
        distances = np.full(len(documents), -np.inf)
        distances[positions] = exact_distances(rows, request.query, self.spec.metric)
        distances[np.isnan(distances)] = -np.inf
        lower = np.minimum.accumulate(distances[::-1])[::-1]
        return Nearest(list(documents), lower, complete, 0.0)

    async def _check(self) -> None:
        """Raise ``VersionLost`` unless the search index is still the one that was found."""
        name = index_name(self.spec)
        where = f"the search index {name!r} of {self.spec.collection}"
        found = await self.atlas.find(self.spec.collection, name)
        if found is None or not found.get("queryable"):
            raise VersionLost(f"{where} is not queryable any more")
        if self.described is None or found.get("latestDefinition") != self.described.get("latestDefinition"):
            raise VersionLost(f"{where} has been changed")


class AsyncAtlasCopies(Unhanded):
    """The search indexes of one data backend.

    A record is stamped when `lag` seconds have passed since this process first saw it; no two clocks are compared.
    """

    def __init__(self, backend: AsyncDataBackend, engine: AsyncAtlasVectorIndex) -> None:
        self.backend = backend
        self.atlas = engine
        self.records = AsyncVectorRecords(backend)
        self._described: dict[VectorSpec, Mapping[str, Any] | None] = {}
        self._seen: dict[str, dict[ObjectId, float]] = {}
        """When each record that is not stamped was first seen, in seconds of this process's clock."""

    async def engine(self) -> str:
        """The engine's id."""
        return _ENGINE

    async def ensure(self, spec: VectorSpec) -> CreateReport:
        """Register the index, have the server make its search index unless it is there, and wait for that."""
        server = await self.atlas.server()
        await self.records.register(spec.name, _ENGINE)
        await self._announce(spec)
        if not server.search:
            return CreateReport()
        name, wanted = index_name(spec), definition(spec)
        created: list[str] = []
        if await self.atlas.find(spec.collection, name) is None:
            await self.backend.create_collection(spec.collection)
            if await self.atlas.create(spec.collection, name, wanted):
                created.append(f"search index {spec.collection} {name}")
        described = self._described[spec] = await self.atlas.queryable(spec.collection, name)
        return CreateReport(created, differences(spec, described))

    async def _announce(self, spec: VectorSpec) -> None:
        """Have every program record changes of the fields to filter by, also those whose classes do not name them."""
        state = (await self.records.look(spec.name, _ENGINE)).state
        if state is not None and not state.recorded.issuperset(field.path for field in spec.filter_fields):
            await self.records.update_state(spec.name, _ENGINE, Coming.announcing(spec.filter_fields))

    async def view(
        self, spec: VectorSpec, session: AsyncClientSession | None, *, outside: bool, look: Look | None = None
    ) -> AsyncAtlasView:
        """What a search sees in the session."""
        server = await self.atlas.server()
        if look is None:
            look = await self.records.look(spec.name, _ENGINE, session=session)
        if server.search and self._described.get(spec) is None:
            self._described[spec] = await self.atlas.find(spec.collection, index_name(spec))
        need: Need | None = "apply soon" if look.unstamped else None
        if look.state is None:
            need = "build"
        collated = server.search and await self.records.collated(spec)
        return AsyncAtlasView(spec, self.atlas, server, self._described.get(spec), look, need, collated=collated)

    def resident(self, spec: VectorSpec) -> MemoryCopy | None:
        """Nothing is in memory."""
        return None

    async def apply(self, spec: VectorSpec, *, patience: float | None = None) -> None:
        """Stamp the records that this process has known for so long that the search index has them."""
        look = await self.records.look(spec.name, _ENGINE)
        now, before = time.monotonic(), self._seen.get(spec.name, {})
        seen = {record.id: before.get(record.id, now) for record in batch(look.records.values(), _ALL)}
        due = [id for id, at in seen.items() if at + self.atlas.lag <= now]
        self._seen[spec.name] = {id: at for id, at in seen.items() if at + self.atlas.lag > now}
        if look.state is not None and due:
            await self.records.publish(spec.name, _ENGINE, look.state, due, {})
            await self.records.prune(spec.name)

    async def drop(self, spec: VectorSpec) -> None:
        """Nothing: the search index goes with its collection."""
        self._described.pop(spec, None)
        self._seen.pop(spec.name, None)

    async def due(self, spec: VectorSpec) -> bool:
        """Whether records wait to be stamped."""
        return bool(self._seen.get(spec.name))

    async def keep(self, spec: VectorSpec, go_on: Callable[[], bool]) -> float | None:
        """Stamp the records that are known now, when the time of all of them has come."""
        last = max(self._seen.get(spec.name, {}).values(), default=None)
        while last is not None and go_on():
            if time.monotonic() >= last + self.atlas.lag:
                await self.apply(spec)
                break
            await aio.sleep(_TICK)
        return None

    async def rebuild(self, spec: VectorSpec, progress: Progress | None = None) -> None:
        """Remove the search index, and have the server make it anew."""
        if (await self.atlas.server()).search:
            self._described.pop(spec, None)
            await self.atlas.drop(spec.collection, index_name(spec))
        await self.ensure(spec)

    async def target(self, spec: VectorSpec) -> AsyncTarget:
        """What a switch to another version of the model is to do: nothing is made before it."""
        return AsyncTarget(self.records, spec, _ENGINE)

    async def differences(self, spec: VectorSpec) -> Mapping[str, str]:
        """Nothing, as a search index cannot be read. Raises ``VersionLost`` where it is not as it should be."""
        if not (await self.atlas.server()).search:
            return {}
        name = index_name(spec)
        found = await self.atlas.find(spec.collection, name)
        if found is None:
            raise VersionLost(f"{spec.collection} has no search index {name!r}; rebuild() makes it")
        wrong = differences(spec, found)
        if not found.get("queryable") or found.get("status", "READY") != "READY":
            wrong.append(f"the search index {name!r} of {spec.collection} is {found.get('status', 'not queryable')}")
        if wrong:
            raise VersionLost("; ".join(wrong))
        return {}
