"""Keeping the tables of a vector engine equal to the documents: apply, publish, rebuild."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import define
from bson import ObjectId

from superorm._async.vector_records import READERS, AsyncVectorRecords, vectors_of
from superorm._async.vector_resident import AsyncResidentTables, AsyncTableView
from superorm._io.progress import Progress
from superorm.codec.vectors import Matrix
from superorm.compile.plan import Count, Find
from superorm.schema.vector_spec import VectorSpec
from superorm.vectors._async.protocol import AsyncVectorTables
from superorm.vectors.errors import VersionLost
from superorm.vectors.memory_copy import MemoryCopy
from superorm.vectors.records import Look, State, batch, keys_of, need_of
from superorm.vectors.rows import Rows
from superorm.vectors.scores import longest, prepare

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

    from superorm.protocols._async.parts import AsyncDataBackend

__all__ = ["AsyncTableCopies"]

_KEYS_PER_PUBLICATION = 20_000
_TIDY_EVERY = 32
"""Publications between two compactions."""
_BUILDING = timedelta(days=1)
"""How long a build may take before its table counts as left behind."""
_ATTEMPTS = 5


class AsyncTableCopies:
    """The tables that an engine of versioned tables keeps for one data backend."""

    def __init__(self, backend: AsyncDataBackend, engine: AsyncVectorTables) -> None:
        self.backend = backend
        self.tables = engine
        self.records = AsyncVectorRecords(backend)
        self._resident = AsyncResidentTables(engine, self.records)
        self._engine: str | None = None

    async def engine(self) -> str:
        """The engine's id; opens the engine."""
        if self._engine is None:
            self._engine = await self.tables.open()
        return self._engine

    async def ensure(self, spec: VectorSpec) -> None:
        """Register the engine for the index, and build its table unless it can be read."""
        await self.records.register(spec.name, await self.engine())
        await self._build_unless(spec)

    async def view(
        self, spec: VectorSpec, session: AsyncClientSession | None, *, outside: bool, look: Look | None = None
    ) -> AsyncTableView:
        """What a search sees of the index in the session; outside transactions memory is brought forward first."""
        copy, engine = self._resident.get(spec), await self.engine()
        if look is None or (copy is not None and not look.reaches(copy.n)):
            look = await self.records.look(spec.name, engine, since=None if copy is None else copy.n, session=session)
        if self._usable(spec, look.state) and (copy is None or (outside and copy.stale(look))):
            copy = await self._resident.load(spec, look, older_than=copy)
            if copy is not None and not look.reaches(copy.n):  # another task loaded it
                look = await self.records.look(spec.name, engine, since=copy.n, session=session)
        usable = self._usable(spec, look.state)
        if not usable:
            copy = None
        elif copy is not None and outside:
            copy = await self._resident.bring_forward(spec, copy, look, session)
        need = need_of(look) if usable else "build"
        if need == "apply" and copy is not None:
            need = "apply soon"
        return AsyncTableView(spec, self.tables, look, usable, need, copy)

    def resident(self, spec: VectorSpec) -> MemoryCopy | None:
        """The copy in memory, if it holds vectors of this kind."""
        return self._resident.get(spec)

    async def apply(self, spec: VectorSpec, *, patience: float | None = None) -> None:
        """Bring the table to the documents as they are, publish it and stamp the records, until none is left.

        Raises ``EngineBusy`` where another process applies for longer than `patience` seconds.
        """
        try:
            async with self.tables.lock(self.prefix(spec), patience=patience):
                while await self.apply_some(spec):
                    pass
        except VersionLost:
            await self._build_unless(spec)

    async def apply_some(self, spec: VectorSpec) -> bool:
        """Apply some of the records, in one publication; False where none was left. Call it under the lock."""
        step = await self.read_step(spec)
        if step is None:
            return False
        ver = await self.write_step(spec, step)
        await self.publish_step(spec, step, ver)
        return True

    async def read_step(self, spec: VectorSpec) -> Step | None:
        """Read state, records and the records' documents, in one snapshot; None where nothing is to be applied."""
        return await self.records.in_snapshot(partial(self._read_step, spec))

    async def _read_step(self, spec: VectorSpec, session: AsyncClientSession | None) -> Step | None:
        look = await self.records.look(spec.name, await self.engine(), session=session)
        if look.state is None or not self._usable(spec, look.state):
            raise VersionLost(f"{spec.name} has no table in {self.tables.uri} that serves it")
        records = batch(look.records.values(), _KEYS_PER_PUBLICATION)
        if not records:
            return None
        touched = keys_of(records)
        keys, rows = await self.records.vectors(spec, touched, session=session)
        rows, usable = prepare(rows, spec.metric)
        kept, rows = [key for key, use in zip(keys, usable, strict=True) if use], rows[usable]
        return Step(look.state, [record.id for record in records], list(touched), kept, rows, longest(rows))

    async def write_step(self, spec: VectorSpec, step: Step) -> int:
        """Write what was read to the table, from its published version on; the version made."""
        state = step.state
        assert state.table is not None
        tidy = (_superseded(state) or 0) if self._tidies(state) else None
        return await self.tables.write(state.table, state.ver, step.touched, step.keys, step.rows, tidy=tidy)

    async def publish_step(self, spec: VectorSpec, step: Step, ver: int) -> bool:
        """Publish the version and stamp exactly the records read; False, and nothing done, where the state moved."""
        state, engine = step.state, await self.engine()
        update: dict[str, Any] = {"$set": {"ver": ver}, "$max": {"norm": step.norm}}
        if self._tidies(state):
            now = datetime.now(UTC)
            if state.mark is None or _superseded(state) is not None:
                update["$set"]["mark"] = {"ver": ver, "at": now}
            over = [name for name, at in state.drop.items() if at < now]
            for name in over:
                await self.tables.drop(f"{self.prefix(spec)}-{name}")
            if over:
                update["$unset"] = {f"drop.{name}": "" for name in over}
        published = await self.records.publish(spec.name, engine, state, step.ids, update)
        if published and self._tidies(state):
            await self.records.prune(spec.name)
        return published

    async def rebuild(self, spec: VectorSpec, progress: Progress | None = None) -> None:
        """Build the table anew from the documents, beside writers."""
        self._engine = None
        await self.records.register(spec.name, await self.engine())
        await self._build(spec, progress)

    async def differences(self, spec: VectorSpec) -> Mapping[str, str]:
        """The canonical keys where the table differs from the documents, each with how. Raises ``VersionLost``."""
        copy = self._resident.get(spec)
        look, documents = await self.records.in_snapshot(
            partial(self._read_all, spec, None if copy is None else copy.n)
        )
        state = look.state
        if state is None or state.table is None or state.ver is None or not self._usable(spec, state):
            raise VersionLost(f"{spec.name} has no table in {self.tables.uri} that serves it")
        held = await self.tables.read(state.table, state.ver, spec.dim, spec.metric)
        in_memory = {} if copy is None else copy.compare(look, documents)
        return in_memory | documents.compare(held, look.pending)

    async def _read_all(
        self, spec: VectorSpec, since: int | None, session: AsyncClientSession | None
    ) -> tuple[Look, Rows]:
        look = await self.records.look(spec.name, await self.engine(), since=since, session=session)
        return look, await self.records.rows(spec, session=session)

    async def _build_unless(self, spec: VectorSpec) -> None:
        """Build the table unless it can be read, by one process at a time."""
        if await self._served(spec):
            return
        self._engine = None
        await self.records.register(spec.name, await self.engine())
        async with self.tables.lock(f"{self.prefix(spec)}.build"):
            if not await self._served(spec):
                await self._build(spec, None)

    async def _served(self, spec: VectorSpec) -> bool:
        state = (await self.records.look(spec.name, await self.engine())).state
        if not self._usable(spec, state) or state is None or state.table is None or state.ver is None:
            return False
        return await self.tables.has(state.table, state.ver)

    async def _build(self, spec: VectorSpec, progress: Progress | None) -> None:
        """Fill a new table without a lock, then, under the lock, read again what was recorded since, and publish."""
        engine, name = await self.engine(), str(ObjectId())
        table, now = f"{self.prefix(spec)}-{name}", datetime.now(UTC)
        await self.records.update_state(spec.name, engine, {"$set": {f"drop.{name}": now + _BUILDING}})
        noted = await self.records.everything(spec.name, engine)
        await self.tables.create(table, spec.dim)
        norm = await self.fill(spec, table, progress)
        async with self.tables.lock(self.prefix(spec)):
            for _ in range(_ATTEMPTS):
                if await self.finish_build(spec, table, noted, norm):
                    return
        raise VersionLost(f"{spec.name}: its table in {self.tables.uri} could not be built, as its state kept changing")

    async def fill(self, spec: VectorSpec, table: str, progress: Progress | None = None) -> float:
        """Append the vectors of all documents to a new table; the length of the longest row."""
        done, total, norm = 0, 0, 0.0
        if progress is not None:
            total = (await self.backend.read(Count(spec.collection)))[0]["n"]
        keys: list[str] = []
        rows: list[Matrix] = []
        async with aclosing(self.backend.stream(Find(spec.collection, {}, {spec.path: 1}))) as parts:
            async for part in parts:
                some, vectors = vectors_of(spec, part)
                prepared, usable = prepare(vectors, spec.metric)
                keys += [key for key, use in zip(some, usable, strict=True) if use]
                rows.append(prepared[usable])
                norm = max(norm, longest(rows[-1]))
                if len(keys) >= _KEYS_PER_PUBLICATION:
                    await self.tables.append(table, keys, np.concatenate(rows))
                    keys, rows = [], []
                if progress is not None:
                    done += len(part)
                    progress(done, max(done, total), spec.name)
        if keys:
            await self.tables.append(table, keys, np.concatenate(rows))
        return norm

    async def finish_build(self, spec: VectorSpec, table: str, noted: Look, norm: float) -> bool:
        """Read again the keys of all records not noted, and publish the table. Call it under the lock.

        None of the rows that it was filled with is longer than `norm`.
        """
        look, touched, found, vectors = await self.records.in_snapshot(partial(self._read_news, spec, noted))
        state = look.state
        if state is None or noted.state is None or state.floor > noted.state.n:
            raise VersionLost(f"{spec.name}: records went while its table in {self.tables.uri} was built")
        prepared, usable = prepare(vectors, spec.metric)
        kept = [key for key, use in zip(found, usable, strict=True) if use]
        ver = await self.tables.write(table, None, touched, kept, prepared[usable])
        now, name = datetime.now(UTC), table.rpartition("-")[2]
        served: dict[str, Any] = {
            "ver": ver,
            "table": table,
            "dim": spec.dim,
            "metric": spec.metric,
            "norm": max(norm, longest(prepared[usable])),
            "mark": {"ver": ver, "at": now},
        }
        if state.ver is not None and state.table is not None:
            served[f"drop.{state.table.rpartition('-')[2]}"] = now + READERS
        ids = [record.id for record in look.unstamped if not record.open]
        return await self.records.publish(
            spec.name, await self.engine(), state, ids, {"$set": served, "$unset": {f"drop.{name}": ""}}
        )

    async def _read_news(
        self, spec: VectorSpec, noted: Look, session: AsyncClientSession | None
    ) -> tuple[Look, list[str], list[str], Matrix]:
        look = await self.records.everything(spec.name, await self.engine(), session=session)
        known = {record.id for record in noted.records.values() if not record.open}
        touched = keys_of(record for record in look.records.values() if record.id not in known)
        found, vectors = await self.records.vectors(spec, touched, session=session)
        return look, list(touched), found, vectors

    def prefix(self, spec: VectorSpec) -> str:
        """How the names of the index's tables begin; also the name of its lock."""
        return re.sub(r"[^A-Za-z0-9_.-]", "_", f"{self.backend.name}.{spec.name}")[:150]

    def _usable(self, spec: VectorSpec, state: State | None) -> bool:
        """Whether the state names a table of this database that holds vectors of this kind."""
        return (
            state is not None
            and state.ver is not None
            and state.norm is not None
            and (state.table or "").startswith(f"{self.prefix(spec)}-")
            and (state.dim, state.metric) == (spec.dim, spec.metric)
        )

    def _tidies(self, state: State) -> bool:
        return (state.n + 1) % _TIDY_EVERY == 0


@define
class Step:
    """What an applier read, and is about to write and publish."""

    state: State
    ids: Sequence[ObjectId]
    touched: Sequence[str]
    keys: Sequence[str]
    rows: Matrix
    """The rows (n, dim) of `keys`, prepared."""
    norm: float


def _superseded(state: State) -> int | None:
    """A version that was published so long ago that no reader needs those before it."""
    if state.mark is None or state.mark["at"] > datetime.now(UTC) - READERS:
        return None
    return int(state.mark["ver"])
