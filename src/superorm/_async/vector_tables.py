"""Keeping the tables of a vector engine equal to the documents: apply and publish."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from superorm._async.vector_ahead import AsyncAhead, Step
from superorm._async.vector_resident import AsyncResidentTables, AsyncTableView
from superorm._async.vector_target import AsyncTableTarget
from superorm._async.vector_upkeep import AsyncTableUpkeep
from superorm._io import aio
from superorm._io.progress import Progress
from superorm.codec.keys import held_keys
from superorm.protocols.reports import CreateReport
from superorm.schema.vector_spec import VectorSpec
from superorm.vectors._async.lease import AsyncLease
from superorm.vectors._async.protocol import AsyncVectorTables
from superorm.vectors.errors import EngineBusy, VersionLost
from superorm.vectors.handing import FROM, MOST, Handed, as_handed, oldest
from superorm.vectors.memory_copy import MemoryCopy
from superorm.vectors.mirror import table_rows
from superorm.vectors.records import Look, batch, keys_of, need_of
from superorm.vectors.rows import Rows

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

    from superorm.protocols._async.parts import AsyncDataBackend

__all__ = ["AsyncTableCopies"]

_KEYS_PER_PUBLICATION = 20_000
_COMMIT = 5.0
"""Seconds that a commit may take while the lock is held for what is written beside it."""


class AsyncTableCopies(AsyncTableUpkeep):
    """The tables that an engine of versioned tables keeps for one data backend."""

    def __init__(
        self, backend: AsyncDataBackend, engine: AsyncVectorTables, progress: Progress | bool | None = None
    ) -> None:
        super().__init__(backend, engine, progress)
        self._resident = AsyncResidentTables(engine, self.records)
        self._handed: dict[str, list[Handed]] = {}

    async def ensure(self, spec: VectorSpec) -> CreateReport:
        """Register the engine for the index, and build its table unless it can be read."""
        await self.records.register(spec.name, await self.engine())
        await self.build_unless(spec)
        return CreateReport()

    async def view(
        self, spec: VectorSpec, session: AsyncClientSession | None, *, outside: bool, look: Look | None = None
    ) -> AsyncTableView:
        """What a search sees of the index in the session; outside transactions memory is brought forward first."""
        copy, engine = self._resident.get(spec), await self.engine()
        if look is None or (copy is not None and not look.reaches(copy.n)):
            look = await self.records.look(spec.name, engine, since=None if copy is None else copy.n, session=session)
        if self.usable(spec, look.state) and (copy is None or (outside and copy.stale(look))):
            copy = await self._resident.load(spec, look, older_than=copy)
            if copy is not None and not look.reaches(copy.n):  # another task loaded it
                look = await self.records.look(spec.name, engine, since=copy.n, session=session)
        usable = self.usable(spec, look.state)
        if not usable:
            copy = None
        elif copy is not None and outside:
            copy = await self._resident.bring_forward(spec, copy, look, session)
        need = need_of(look) if usable else "build"
        if need == "apply" and copy is not None:
            need = "apply soon"
        return AsyncTableView(spec, self.tables, look, usable, need, copy, await self.records.collated(spec))

    def resident(self, spec: VectorSpec) -> MemoryCopy | None:
        """The copy in memory, if it holds vectors of this kind."""
        return self._resident.get(spec)

    def handing(
        self, spec: VectorSpec, records: Collection[Mapping[str, Any]], documents: Sequence[Mapping[str, Any]]
    ) -> Handed | None:
        """Before a commit: its documents, for `hand_over` once they are committed; None where it does not pay."""
        n = self.seen.get(spec.name)
        if n is None or len(documents) < FROM:
            return None
        names = frozenset(["_id", *(path.partition(".")[0] for path in spec.watched)])
        kept = [{name: document[name] for name in names if name in document} for document in documents]
        inserted = {*held_keys([document["_id"] for document in documents])}
        complete = inserted.issuperset(held_keys([key for record in records for key in record["keys"]]))
        return Handed(n, frozenset(record["_id"] for record in records), kept, names, complete)

    def hand_over(self, spec: VectorSpec, handed: Handed) -> bool:
        """Keep what was inserted in a transaction for the applier; whether there was room."""
        kept = self._handed.setdefault(spec.name, [])
        if sum(len(one.documents) for one in kept) + len(handed.documents) > MOST:
            return False
        kept.append(handed)
        return True

    async def apply(self, spec: VectorSpec, *, patience: float | None = None) -> None:
        """Bring the table to the documents as they are, publish it and stamp the records that are there now.

        Those that come meanwhile are left, so that beside many commits there is a pause between two publications.
        Raises ``EngineBusy`` where another process applies for longer than `patience` seconds,
        ``VersionLost`` where a table that was built anew, or can be read, cannot be written.
        """
        try:
            await self._apply_all(spec, patience)
        except VersionLost:
            await self.build_unless(spec)
            await self._apply_all(spec, patience)

    async def drop(self, spec: VectorSpec) -> None:
        """Remove the tables of this engine, of an index that is removed; its state and records are not."""
        await self._resident.drop(spec)
        self._handed.pop(spec.name, None)
        state = await self.state(spec)
        if state is None:
            return
        tables = [f"{self.prefix(spec)}-{name}" for name in state.drop]
        for table in tables if state.table is None else [state.table, *tables]:
            await self.tables.drop(table)

    async def _apply_all(self, spec: VectorSpec, patience: float | None) -> None:
        left = True
        while left:
            async with self.lock(spec, patience=patience) as lease:
                while left and (lease is None or not lease.lost):
                    left = await self.apply_some(spec, lease)

    async def apply_some(self, spec: VectorSpec, lease: AsyncLease | None = None) -> bool:
        """Apply some of the records, in one publication; whether others were there. Call it under the lock."""
        step = await self.read_step(spec)
        if step is None:
            return False
        ver = await self.write_step(spec, step)
        if ver is not None and await self.publish_step(spec, step, ver, lease):
            return step.more
        if lease is not None:
            await lease.renew()
        return True

    async def write_ahead(self, ahead: AsyncAhead) -> None:
        """Write what a commit inserts, publish it once it is committed, and stamp its records; or do nothing.

        The state was read, under the lock, before the commit began. So while no publication came since,
        every later record of these keys is there to be applied.
        Raises ``VersionLost``.
        """
        spec = ahead.spec
        try:
            if self.tables.lease is not None:  # a lease may run out while the commit is waited for
                return
            async with self.lock(spec, patience=0):
                read = partial(self.records.state, spec.name, await self.engine())
                state = await self.records.in_snapshot(read)
                if ahead.begun or state is None or not self.usable(spec, state) or not ahead.shows(state.filters):
                    return
                ahead.looked.set()
                step = await aio.in_thread(ahead.step, state)
                ver = await self.write_step(spec, step)
                committed = await ahead.ended.wait(_COMMIT) and ahead.committed
                if ver is not None and committed and await self.publish_step(spec, step, ver):
                    self.seen[spec.name] = state.n + 1
                    self._done_with(spec, [ahead.handed])
        except EngineBusy:
            return
        finally:
            ahead.looked.set()

    async def read_step(self, spec: VectorSpec) -> Step | None:
        """Read state, records and the records' documents, in one snapshot; None where nothing is to be applied."""
        handed = list(self._handed.get(spec.name, ()))
        return await self.records.in_snapshot(partial(self._read_step, spec, handed))

    def _done_with(self, spec: VectorSpec, handed: Iterable[Handed]) -> None:
        done = {id(one) for one in handed}
        self._handed[spec.name] = [one for one in self._handed.get(spec.name, ()) if id(one) not in done]

    async def _read_step(
        self, spec: VectorSpec, handed: Sequence[Handed], session: AsyncClientSession | None
    ) -> Step | None:
        look = await self.records.look(spec.name, await self.engine(), since=oldest(handed), session=session)
        if look.state is None or not self.usable(spec, look.state):
            raise VersionLost(f"{spec.name} has no table in {self.tables.uri} that serves it")
        records = batch(look.records.values(), _KEYS_PER_PUBLICATION)
        ids = [record.id for record in records]
        left = {record.id: record for record in look.unstamped}
        for id in ids:
            del left[id]
        self._done_with(spec, [one for one in handed if one.records.isdisjoint(left)])
        if not records:
            return None
        self.seen[spec.name] = look.state.n
        touched = await aio.in_thread(keys_of, records)
        fields = look.state.filters
        needed = {field.path.partition(".")[0] for field in fields}
        complete = [one for one in handed if needed <= one.names]  # classes that name fewer fields hand over fewer
        known = await aio.in_thread(as_handed, look, complete, touched) if complete else {}
        lacking = {key: id for key, id in touched.items() if key not in known} if known else touched
        documents = await self.records.documents(
            spec, lacking, fields, known.values(), moving=look.moving, session=session
        )
        rows = await aio.in_thread(table_rows, spec, documents, fields)
        return Step(look.state, ids, list(touched), rows, more=not all(record.open for record in left.values()))

    async def write_step(self, spec: VectorSpec, step: Step) -> int | None:
        """Write what was read to the table, from its published version on; the version made.

        None where that is not to be published, as another wrote to the table meanwhile.
        """
        state = step.state
        assert state.table is not None
        rows = step.rows
        return await self.tables.write(state.table, state.ver, step.touched, rows.keys, rows.rows, rows.columns)

    async def publish_step(self, spec: VectorSpec, step: Step, ver: int, lease: AsyncLease | None = None) -> bool:
        """Publish the version and stamp exactly the records read.

        False, and nothing done, where the state moved, or another took the lease.
        """
        update = {"$set": {"ver": ver}, "$max": {"norm": step.rows.norm}, "$inc": {"changed": len(step.touched)}}
        fence = None if lease is None else lease.check
        return await self.records.publish(spec.name, await self.engine(), step.state, step.ids, update, fence)

    async def target(self, spec: VectorSpec) -> AsyncTableTarget:
        """The table that a switch to another version of the model is to fill and publish."""
        engine = await self.engine()
        fields, _ = await self.records.to_mirror(spec, engine)
        return AsyncTableTarget(self, spec, engine, fields)

    async def differences(self, spec: VectorSpec) -> Mapping[str, str]:
        """The canonical keys where the table differs from the documents, each with how. Raises ``VersionLost``."""
        copy = self._resident.get(spec)
        look, documents = await self.records.in_snapshot(
            partial(self._read_all, spec, None if copy is None else copy.n)
        )
        state = look.state
        if state is None or state.table is None or state.ver is None or not self.usable(spec, state):
            raise VersionLost(f"{spec.name} has no table in {self.tables.uri} that serves it")
        held = await self.tables.read(state.table, state.ver, spec.dim, spec.metric, state.filters)
        in_memory = {} if copy is None else await aio.in_thread(copy.compare, look, documents)
        return in_memory | await aio.in_thread(documents.compare, held, look.pending)

    async def _read_all(
        self, spec: VectorSpec, since: int | None, session: AsyncClientSession | None
    ) -> tuple[Look, Rows]:
        look = await self.records.look(spec.name, await self.engine(), since=since, session=session)
        fields = () if look.state is None else look.state.filters
        return look, await self.records.rows(spec, fields, moving=look.moving, session=session)
