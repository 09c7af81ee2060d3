"""Tables of a vector engine that are held in process memory, and what a search sees of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

from attrs import define

from superorm._async.vector_records import AsyncVectorRecords
from superorm._async.vector_view import Answer, Unfiltered
from superorm._io import aio
from superorm.schema.vector_spec import VectorSpec
from superorm.vectors._async.protocol import AsyncVectorTables
from superorm.vectors.errors import VersionLost
from superorm.vectors.memory_copy import MemoryCopy
from superorm.vectors.push_down import PushDown, numbered, push_down
from superorm.vectors.records import Look, Need
from superorm.vectors.request import SearchRequest
from superorm.vectors.rows import bytes_of

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

__all__ = ["AsyncResidentTables", "AsyncTableView"]

_numbers = count()


class AsyncResidentTables:
    """Copies in memory of the tables of one data backend: loaded from a published version, moved on by the records."""

    def __init__(self, tables: AsyncVectorTables, records: AsyncVectorRecords) -> None:
        self._tables = tables
        self._records = records
        self._number = next(_numbers)

    def get(self, spec: VectorSpec) -> MemoryCopy | None:
        """The copy in memory, if it holds vectors of this kind."""
        copy = self._tables.resident.get(self._name(spec))
        return copy if copy is not None and copy.serves(spec.dim, spec.metric) else None

    async def load(self, spec: VectorSpec, look: Look, *, older_than: MemoryCopy | None) -> MemoryCopy | None:
        """Hold the version that the look's state names; None where there is no room, or it cannot be read.

        One task at a time loads; what another loaded meanwhile, in place of `older_than`, is taken.
        """
        state, resident = look.state, self._tables.resident
        assert state is not None
        assert state.table is not None
        assert state.ver is not None
        name = self._name(spec)
        try:
            rows = await self._tables.count(state.table, state.ver) + len(look.pending)
        except VersionLost:
            return None
        nbytes = bytes_of(rows, spec.dim, spec.metric, len(state.filters))
        if not resident.admits(name, nbytes):
            await self._free(name, older_than)
            return None
        async with resident.loading:
            copy = self.get(spec)
            if copy is not None and copy is not older_than:
                return copy
            if not await aio.in_thread(resident.reserve, name, nbytes):
                return None
            try:
                held = await self._tables.read(state.table, state.ver, spec.dim, spec.metric, state.filters)
                monotone = not (await self._records.backend.capabilities()).transactions
                copy = MemoryCopy(held, look, published=True, monotone=monotone, extend=resident.extend(name))
            except VersionLost:
                resident.drop(name)
                return None
            except BaseException:
                resident.drop(name)
                raise
            resident.put(name, copy)
            return copy

    async def bring_forward(
        self, spec: VectorSpec, copy: MemoryCopy, look: Look, session: AsyncClientSession | None
    ) -> MemoryCopy | None:
        """The copy, brought to a snapshot outside transactions; None where it outgrew its room, and was freed."""
        if await self._records.bring_forward(spec, copy, look, session):
            return copy
        await self._free(self._name(spec), copy)
        return None

    async def drop(self, spec: VectorSpec) -> None:
        """Let go of the copy in memory."""
        await self._free(self._name(spec), self.get(spec))

    async def _free(self, name: str, copy: MemoryCopy | None) -> None:
        if copy is not None:
            self._tables.resident.drop(name, copy)
            await aio.in_thread(copy.free)

    def _name(self, spec: VectorSpec) -> str:
        """An engine may serve databases of one name on several servers."""
        return f"{self._number}.{spec.name}"


@define
class AsyncTableView(Unfiltered):
    """A table at exactly the version that the snapshot's state names, in memory or in the engine."""

    spec: VectorSpec
    engine: AsyncVectorTables
    look: Look
    usable: bool
    need: Need | None
    copy: MemoryCopy | None
    collated: bool = False
    """Whether texts of the collection are compared otherwise than by their characters' numbers."""

    async def held(self) -> int | None:
        """The rows in memory; None where there are none that show the snapshot."""
        return None if self.copy is None else self.copy.rows_seen(self.look)

    def pushed(self, filter: Mapping[str, Any]) -> PushDown | None:
        """What the table can say of a filter; None where no fields are named to filter by, or it cannot be used."""
        state = self.look.state
        if not self.spec.filter_fields or not self.usable or state is None:
            return None
        return push_down(filter, numbered(self.spec, state.filters, collated=self.collated))

    async def passing(self, where: str, limit: int) -> Sequence[str]:
        """The keys of the rows that pass a condition, at most `limit` of them. Raises ``VersionLost``."""
        state = self.look.state
        assert state is not None
        assert state.table is not None
        assert state.ver is not None
        return await self.engine.keys(state.table, state.ver, where, limit)

    async def nearest(
        self, request: SearchRequest, limit: int, among: Sequence[Any] | None = None, pushed: PushDown | None = None
    ) -> Answer | None:
        """The `limit` nearest keys of the table, without the pending ones, of rows that pass what was pushed only.

        None of `among` where the table is not in memory. Raises ``VersionLost``.
        """
        state, spec = self.look.state, self.spec
        if not self.usable or state is None or state.ver is None or state.table is None or state.norm is None:
            return None
        left_out = set[str]() if request.leave_out is None else {request.leave_out}
        if self.copy is not None:
            condition = None if pushed is None else pushed.condition
            found = await aio.in_thread(self.copy.nearest, self.look, request.query, limit, left_out, among, condition)
            if found is not None:
                return Answer(*found)
        if among is not None:
            return None
        pending = self.look.pending
        left_out.update(pending)
        nearest = await self.engine.nearest(
            state.table,
            state.ver,
            request.query,
            spec.metric,
            limit,
            left_out,
            norm=state.norm,
            exact=request.exact,
            where=None if pushed is None else pushed.where,
        )
        return Answer(nearest, pending)
