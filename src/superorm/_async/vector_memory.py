"""Keeping the vectors of an index in process memory equal to the documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from attrs import define
from bson import ObjectId

from superorm._async.vector_records import AsyncVectorRecords
from superorm._async.vector_target import AsyncTarget
from superorm._async.vector_view import Answer, Unfiltered, Unhanded
from superorm._io import aio
from superorm._io.progress import Progress, reporting
from superorm.protocols.reports import CreateReport
from superorm.schema.vector_spec import FilterField, VectorSpec
from superorm.vectors._async.memory import AsyncMemoryVectorIndex
from superorm.vectors.memory_copy import MemoryCopy
from superorm.vectors.push_down import PushDown, numbered, push_down
from superorm.vectors.records import Look, Made, Need, State, batch, need_of
from superorm.vectors.request import SearchRequest
from superorm.vectors.rows import Rows
from superorm.vectors.upkeep import lacking

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

    from superorm.protocols._async.parts import AsyncDataBackend

__all__ = ["AsyncMemoryCopies", "AsyncMemoryView"]

_ENGINE = "memory"
_ALL = 1_000_000


@define
class AsyncMemoryView(Unfiltered):
    """Memory as one snapshot sees it."""

    spec: VectorSpec
    copy: MemoryCopy | None
    look: Look
    need: Need | None
    collated: bool = False
    """Whether texts of the collection are compared otherwise than by their characters' numbers."""

    def pushed(self, filter: Mapping[str, Any]) -> PushDown | None:
        """What memory can say of a filter; None where it mirrors no fields, or does not remember the snapshot."""
        if self.copy is None or not self.copy.fields or self._seen is None:
            return None
        return push_down(filter, numbered(self.spec, self.copy.fields, collated=self.collated))

    async def held(self) -> int | None:
        """The rows in memory; None where it does not remember the snapshot."""
        return self._seen

    @cached_property
    def _seen(self) -> int | None:
        return None if self.copy is None or self.look.state is None else self.copy.rows_seen(self.look)

    async def nearest(
        self, request: SearchRequest, limit: int, among: Sequence[Any] | None = None, pushed: PushDown | None = None
    ) -> Answer | None:
        """The `limit` nearest keys, by what memory holds that the snapshot sees too."""
        if self.copy is None or self.look.state is None:
            return None
        leave_out = [] if request.leave_out is None else [request.leave_out]
        condition = None if pushed is None else pushed.condition
        found = await aio.in_thread(self.copy.nearest, self.look, request.query, limit, leave_out, among, condition)
        return None if found is None else Answer(*found)


class AsyncMemoryCopies(Unhanded):
    """The indexes of one data backend in this process's memory.

    All processes with an index in memory share one engine id, whose publications only bound what is read;
    each remembers for itself which records its rows include.
    """

    def __init__(
        self, backend: AsyncDataBackend, engine: AsyncMemoryVectorIndex, progress: Progress | bool | None = None
    ) -> None:
        self.backend = backend
        self._progress = progress
        self.memory = engine
        self.records = AsyncVectorRecords(backend)

    async def engine(self) -> str:
        """The engine's id."""
        return _ENGINE

    async def ensure(self, spec: VectorSpec) -> CreateReport:
        """Register the index; its vectors are loaded at first use."""
        await self.records.register(spec.name, _ENGINE)
        if spec.filter_fields:
            await self._mirror(spec)
        return CreateReport()

    async def view(
        self, spec: VectorSpec, session: AsyncClientSession | None, *, outside: bool, look: Look | None = None
    ) -> AsyncMemoryView:
        """What a search sees in the session; outside transactions memory is loaded or brought forward first."""
        copy = self.resident(spec)
        if look is None or (copy is not None and not look.reaches(copy.n)):
            look = await self.records.look(spec.name, _ENGINE, since=None if copy is None else copy.n, session=session)
        if look.state is not None and (copy is None or copy.stale(look)):
            with reporting(self._progress) as report:
                copy = await self.load(spec, session if outside else None, older_than=copy, progress=report)
            look = await self.records.look(spec.name, _ENGINE, since=None if copy is None else copy.n, session=session)
        if copy is None or look.state is None:
            return AsyncMemoryView(spec, None, look, "build")
        if outside:
            await self.records.bring_forward(spec, copy, look, session)
        need: Need | None = "apply soon" if need_of(look) else None
        return AsyncMemoryView(spec, copy, look, need, await self.records.collated(spec))

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

    async def apply(self, spec: VectorSpec, *, patience: float | None = None) -> None:
        """Stamp the records: every process reads them by their stamps or their ids."""
        look = await self.records.look(spec.name, _ENGINE)
        records = batch(look.records.values(), _ALL)
        if look.state is not None and records:
            await self.records.publish(spec.name, _ENGINE, look.state, [record.id for record in records], {})
            await self.records.prune(spec.name)

    async def drop(self, spec: VectorSpec) -> None:
        """Forget the rows."""
        self.memory.resident.drop(spec.name)

    async def due(self, spec: VectorSpec) -> bool:
        """Whether memory lacks fields to mirror."""
        return bool(spec.filter_fields and lacking(spec, await self.records.state(spec.name, _ENGINE)))

    async def keep(self, spec: VectorSpec, go_on: Callable[[], bool]) -> float | None:
        """Have fields be mirrored whose time has come; the seconds after which others are."""
        return await self._mirror(spec)

    async def _mirror(self, spec: VectorSpec) -> float | None:
        """Have every process load the fields that memory lacks, as soon as every program records their changes.

        Gives the seconds until then.
        """
        state = await self.records.state(spec.name, _ENGINE)
        fields, later = await self.records.to_mirror(spec, _ENGINE)
        if later is None and state is not None and not {*fields} <= {*state.filters}:
            return None if await self._make(spec, state, fields) else 0.0
        return later

    async def _make(self, spec: VectorSpec, state: State, fields: Sequence[FilterField]) -> bool:
        """Have every process load its copy anew, with these fields; False where another process was quicker."""
        made = Made(state.n, datetime.now(UTC), None, tuple(fields))
        change = made.publishing(state.coming)
        change["$set"]["table"] = str(ObjectId())
        return await self.records.update_state(spec.name, _ENGINE, change, table=state.table)

    async def rebuild(self, spec: VectorSpec, progress: Progress | None = None) -> None:
        """Load the index anew from the documents, with the fields that the class names now."""
        await self.ensure(spec)
        state = await self.records.state(spec.name, _ENGINE)
        while (
            state is not None
            and state.filters != spec.filter_fields
            and not await self._make(spec, state, spec.filter_fields)
        ):
            state = await self.records.state(spec.name, _ENGINE)
        self.memory.resident.drop(spec.name)
        await self.load(spec, None, progress=progress)

    async def target(self, spec: VectorSpec) -> AsyncTarget:
        """What a switch to another version of the model is to do: nothing is made before it."""
        return AsyncTarget(self.records, spec, _ENGINE)

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
        fields = () if look.state is None else look.state.filters
        rows = await self.records.rows(spec, fields, moving=look.moving, session=session, progress=progress)
        return look, rows

    def resident(self, spec: VectorSpec) -> MemoryCopy | None:
        """The copy in memory, if it holds vectors of this kind."""
        copy = self.memory.resident.get(spec.name)
        return copy if copy is not None and copy.serves(spec.dim, spec.metric) else None
