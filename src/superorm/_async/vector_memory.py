"""Keeping the vectors of an index in process memory equal to the documents."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import define

from superorm._async.vector_records import AsyncVectorRecords
from superorm._async.vector_view import Answer, Unfiltered
from superorm._io import aio
from superorm._io.progress import Progress
from superorm.codec.keys import encode_key
from superorm.protocols.reports import CreateReport
from superorm.schema.vector_spec import VectorSpec
from superorm.vectors._async.memory import AsyncMemoryVectorIndex
from superorm.vectors.handing import Handed
from superorm.vectors.memory_copy import MemoryCopy
from superorm.vectors.records import Look, Need, batch, need_of
from superorm.vectors.request import SearchRequest
from superorm.vectors.rows import Rows

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

    from superorm.protocols._async.parts import AsyncDataBackend

__all__ = ["AsyncMemoryCopies", "AsyncMemoryView"]

_ENGINE = "memory"
_ALL = 1_000_000


@define
class AsyncMemoryView(Unfiltered):
    """Memory as one snapshot sees it."""

    copy: MemoryCopy | None
    look: Look
    need: Need | None

    async def held(self) -> int | None:
        """The rows in memory; None where it does not remember the snapshot."""
        if self.copy is None or self.look.state is None:
            return None
        return self.copy.rows_seen(self.look)

    async def nearest(
        self, request: SearchRequest, limit: int, among: Sequence[Any] | None = None, where: str | None = None
    ) -> Answer | None:
        """The `limit` nearest keys, by what memory holds that the snapshot sees too."""
        if self.copy is None or self.look.state is None:
            return None
        leave_out = [] if request.leave_out is None else [encode_key(request.leave_out)]
        found = await aio.in_thread(self.copy.nearest, self.look, request.query, limit, leave_out, among)
        return None if found is None else Answer(*found)


class AsyncMemoryCopies:
    """The indexes of one data backend in this process's memory.

    All processes with an index in memory share one engine id, whose publications only bound what is read;
    each remembers for itself which records its rows include.
    """

    def __init__(self, backend: AsyncDataBackend, engine: AsyncMemoryVectorIndex) -> None:
        engine.serve(backend)
        self.backend = backend
        self.memory = engine
        self.records = AsyncVectorRecords(backend)

    async def engine(self) -> str:
        """The engine's id."""
        return _ENGINE

    async def ensure(self, spec: VectorSpec) -> CreateReport:
        """Register the index; its vectors are loaded at first use."""
        await self.records.register(spec.name, _ENGINE)
        return CreateReport()

    async def view(
        self, spec: VectorSpec, session: AsyncClientSession | None, *, outside: bool, look: Look | None = None
    ) -> AsyncMemoryView:
        """What a search sees in the session; outside transactions memory is loaded or brought forward first."""
        copy = self.resident(spec)
        if look is None or (copy is not None and not look.reaches(copy.n)):
            look = await self.records.look(spec.name, _ENGINE, since=None if copy is None else copy.n, session=session)
        if look.state is not None and (copy is None or copy.stale(look)):
            copy = await self.load(spec, session if outside else None, older_than=copy)
            look = await self.records.look(spec.name, _ENGINE, since=None if copy is None else copy.n, session=session)
        if copy is None or look.state is None:
            return AsyncMemoryView(None, look, "build")
        if outside:
            await self.records.bring_forward(spec, copy, look, session)
        return AsyncMemoryView(copy, look, "apply soon" if need_of(look) else None)

    async def load(
        self,
        spec: VectorSpec,
        session: AsyncClientSession | None,
        *,
        older_than: MemoryCopy | None = None,
        progress: Progress | None = None,
    ) -> MemoryCopy | None:
        """Read all vectors, in the session's snapshot or one of its own; never in a transaction.

        One task at a time loads; what another loaded meanwhile, in place of `older_than`, is taken.
        """
        async with self.memory.resident.loading:
            copy = self.resident(spec)
            if copy is not None and copy is not older_than:
                return copy
            read = partial(self._read, spec, None, progress)
            look, rows = await self.records.in_snapshot(read, session)
            if look.state is None:
                return None
            monotone = not (await self.backend.capabilities()).transactions
            copy = MemoryCopy(rows, look, published=False, monotone=monotone)
            self.memory.resident.put(spec.name, copy)
            return copy

    def handing(
        self, spec: VectorSpec, records: Collection[Mapping[str, Any]], documents: Sequence[Mapping[str, Any]]
    ) -> Handed | None:
        """Nothing: memory is brought forward in a search's snapshot."""
        return None

    def hand_over(self, spec: VectorSpec, handed: Handed) -> bool:
        """There is no room for any."""
        return False

    async def apply(self, spec: VectorSpec, *, patience: float | None = None) -> None:
        """Stamp the records: every process reads them by their stamps or their ids."""
        look = await self.records.look(spec.name, _ENGINE)
        records = batch(look.records.values(), _ALL)
        if look.state is not None and records:
            await self.records.publish(spec.name, _ENGINE, look.state, [record.id for record in records], {})
            await self.records.prune(spec.name)

    async def due(self, spec: VectorSpec) -> bool:
        """Nothing is ever to be done for memory."""
        return False

    async def keep(self, spec: VectorSpec, go_on: Callable[[], bool]) -> None:
        """Nothing is ever to be done for memory."""

    async def rebuild(self, spec: VectorSpec, progress: Progress | None = None) -> None:
        """Load the index anew from the documents."""
        await self.ensure(spec)
        self.memory.resident.drop(spec.name)
        await self.load(spec, None, progress=progress)

    async def differences(self, spec: VectorSpec) -> Mapping[str, str]:
        """The canonical keys where memory differs from the documents, each with how; nothing unless it is loaded."""
        copy = self.resident(spec)
        if copy is None:
            return {}
        look, documents = await self.records.in_snapshot(partial(self._read, spec, copy.n, None))
        return {} if look.state is None else await aio.in_thread(copy.compare, look, documents)

    async def _read(
        self, spec: VectorSpec, since: int | None, progress: Progress | None, session: AsyncClientSession | None
    ) -> tuple[Look, Rows]:
        look = await self.records.look(spec.name, _ENGINE, since=since, session=session)
        return look, await self.records.rows(spec, session=session, progress=progress)

    def resident(self, spec: VectorSpec) -> MemoryCopy | None:
        """The copy in memory, if it holds vectors of this kind."""
        copy = self.memory.resident.get(spec.name)
        return copy if copy is not None and copy.serves(spec.dim, spec.metric) else None
