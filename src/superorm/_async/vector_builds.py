"""Making tables of a vector engine: from the documents, or anew from a published version, beside writers."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import evolve
from bson import ObjectId

from superorm._async.vector_records import READERS, AsyncVectorRecords
from superorm._io import aio
from superorm._io.progress import Progress, reporting
from superorm.codec.keys import encode_key
from superorm.compile.plan import Count, Find
from superorm.exc import UnsupportedError
from superorm.schema.vector_spec import FilterField, VectorSpec
from superorm.vectors._async.lease import AsyncLease, leased
from superorm.vectors._async.protocol import AsyncVectorTables
from superorm.vectors.errors import VersionLost
from superorm.vectors.mirror import TableRows, projection, table_rows
from superorm.vectors.records import Look, Made, State, keys_of

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

    from superorm.protocols._async.parts import AsyncDataBackend

__all__ = ["AsyncTableBuilds"]

_log = logging.getLogger("superorm.vectors")

_KEYS_PER_APPEND = 20_000

Reading: TypeAlias = Callable[
    [VectorSpec, Sequence[Mapping[str, Any]], Sequence[FilterField]], Awaitable[Sequence[Mapping[str, Any]]]
]
"""Gives documents that were read with the vectors that count."""
_BUILDING = timedelta(days=1)
"""How long a build may take before its table counts as left behind."""
_ATTEMPTS = 5
_BUILDS = 3
"""So many times a table is filled that is superseded in the meantime."""


class AsyncTableBuilds:
    """The tables that an engine keeps for one data backend, and how they come and go."""

    def __init__(
        self, backend: AsyncDataBackend, engine: AsyncVectorTables, progress: Progress | bool | None = None
    ) -> None:
        self.backend = backend
        self._progress = progress
        self.tables = engine
        self.records = AsyncVectorRecords(backend)
        self.seen: dict[str, int] = {}
        """The newest publication that was seen of each index."""
        self._engine: str | None = None

    async def engine(self) -> str:
        """The engine's id; opens the engine."""
        if self._engine is None:
            if self.tables.lease is not None and (await self.backend.capabilities()).backend == "mongomock":
                raise UnsupportedError(
                    f"{self.tables.uri} is shared by all machines, and documents in mongomock are not: "
                    "use memory://, or a local lancedb:// directory"
                )
            self._engine = await self.tables.open()
        return self._engine

    @asynccontextmanager
    async def lock(
        self, spec: VectorSpec, work: str = "", *, patience: float | None = None
    ) -> AsyncGenerator[AsyncLease | None]:
        """Hold the index's writer lock, or that of other work, with the lease of an engine that all machines share.

        Raises ``EngineBusy`` after `patience` seconds of waiting.
        """
        name = f"{self.prefix(spec)}{work}"
        if self.tables.lease is None:
            async with self.tables.lock(name, patience=patience):
                yield None
        else:
            name = f"{name}@{await self.engine()}"
            async with leased(self.backend, name, self.tables.lease, patience) as lease:
                yield lease

    async def rebuild(self, spec: VectorSpec, progress: Progress | None = None) -> None:
        """Build the table anew from the documents, beside writers."""
        self._engine = None
        await self.records.register(spec.name, await self.engine())
        await self.build(spec, spec.filter_fields, progress)

    async def state(self, spec: VectorSpec) -> State | None:
        """That of the index and this engine as it is now."""
        return (await self.records.look(spec.name, await self.engine())).state

    async def begin(self, spec: VectorSpec, fields: Sequence[FilterField]) -> str:
        """Make a table, which counts as left behind unless it is published."""
        name = str(ObjectId())
        building = {"$set": {f"drop.{name}": datetime.now(UTC) + _BUILDING}}
        await self.records.update_state(spec.name, await self.engine(), building)
        table = f"{self.prefix(spec)}-{name}"
        await self.tables.create(table, spec.dim, fields)
        return table

    async def give_up(self, spec: VectorSpec, table: str) -> None:
        """Remove a table that was begun, and is surely not published."""
        await self.tables.drop(table)
        begun = {f"drop.{table.rpartition('-')[2]}": ""}
        await self.records.update_state(spec.name, await self.engine(), {"$unset": begun})

    async def finish(self, spec: VectorSpec, table: str, noted: Look, norm: float, made: Made) -> None:
        """Publish a table; one of which that is in doubt is left to be removed later. Raises ``VersionLost``."""
        try:
            for _ in range(_ATTEMPTS):
                async with self.lock(spec) as lease:
                    if await self.finish_build(spec, table, noted, norm, made, lease):
                        return
            where = f"its table in {self.tables.uri}"
            raise VersionLost(f"{spec.name}: {where} could not be built, as its state kept changing")
        except VersionLost:
            await self.give_up(spec, table)
            raise

    async def build_unless(self, spec: VectorSpec) -> None:
        """Build the table unless it can be read, by one process at a time."""
        if await self._served(spec):
            return
        self._engine = None
        await self.records.register(spec.name, await self.engine())
        async with self.lock(spec, ".build"):
            if not await self._served(spec):
                fields, _ = await self.records.to_mirror(spec, await self.engine())
                with reporting(self._progress) as report:
                    await self.build(spec, fields, report)

    async def _served(self, spec: VectorSpec) -> bool:
        state = await self.state(spec)
        if not self.usable(spec, state) or state is None or state.table is None or state.ver is None:
            return False
        self.seen[spec.name] = state.n
        return await self.tables.has(state.table, state.ver)

    async def build(
        self,
        spec: VectorSpec,
        fields: Sequence[FilterField],
        progress: Progress | None = None,
        go_on: Callable[[], bool] = lambda: True,
    ) -> None:
        """Fill a new table without a lock, then, under the lock, read again what was recorded since, and publish.

        Nothing is published where it was not to go on. Where all is to be made anew in the middle of it, as when the
        index was switched to another version of its model, it is begun again. Raises ``VersionLost`` where that recurs.
        """
        for attempt in range(_BUILDS):
            try:
                await self._build(spec, fields, progress, go_on)
            except VersionLost as error:
                if attempt + 1 == _BUILDS:
                    raise
                _log.info("%s; it is built again", error)
            else:
                return

    async def _build(
        self, spec: VectorSpec, fields: Sequence[FilterField], progress: Progress | None, go_on: Callable[[], bool]
    ) -> None:
        table, done = await self.begin(spec, fields), False
        noted, norm = Look(None), 0.0
        try:
            noted = await self.records.everything(spec.name, await self.engine())
            moving = noted.moving is not None
            read = self._moved if moving else None
            norm = await self.fill(spec, table, progress, fields=fields, go_on=go_on, read=read)
            done = go_on()
        finally:
            if not done:
                await self.give_up(spec, table)
        if done:
            await self.finish(spec, table, noted, norm, Made(0, datetime.now(UTC), None, tuple(fields)))

    async def fill(
        self,
        spec: VectorSpec,
        table: str,
        progress: Progress | None = None,
        *,
        fields: Sequence[FilterField] = (),
        go_on: Callable[[], bool] = lambda: True,
        read: Reading | None = None,
    ) -> float:
        """Append the vectors, and the fields to mirror, of all documents to a new table; the length of the longest row.

        They are taken as `read` gives them, where they may wait beside the documents.
        Some are left out where it is not to go on.
        """
        done, total, norm = 0, 0, 0.0
        if progress is not None:
            total = (await self.backend.read(Count(spec.collection)))[0]["n"]
        documents: list[Mapping[str, Any]] = []
        async with aclosing(self.backend.stream(Find(spec.collection, {}, projection(spec, fields)))) as parts:
            async for part in parts:
                if not go_on():
                    break
                documents += part if read is None else await read(spec, part, fields)
                if len(documents) >= _KEYS_PER_APPEND:
                    norm = max(norm, await self._append(spec, table, documents, fields))
                    documents = []
                if progress is not None:
                    done += len(part)
                    progress(done, max(done, total), spec.name)
        return max(norm, await self._append(spec, table, documents, fields))

    async def _moved(
        self, spec: VectorSpec, documents: Sequence[Mapping[str, Any]], fields: Sequence[FilterField]
    ) -> Sequence[Mapping[str, Any]]:
        """The documents again, in one snapshot with the vectors that wait for them."""
        keys = {encode_key(document["_id"]): document["_id"] for document in documents}
        engine = await self.engine()

        async def read(session: AsyncClientSession | None) -> Sequence[Mapping[str, Any]]:
            look = await self.records.look(spec.name, engine, session=session)
            return await self.records.documents(spec, keys, fields, moving=look.moving, session=session)

        return await self.records.in_snapshot(read)

    async def _append(
        self, spec: VectorSpec, table: str, documents: Sequence[Mapping[str, Any]], fields: Sequence[FilterField]
    ) -> float:
        rows = await aio.in_thread(table_rows, spec, documents, fields)
        await self.tables.append(table, rows.keys, rows.rows, rows.columns)
        return rows.norm

    async def finish_build(
        self, spec: VectorSpec, table: str, noted: Look, norm: float, made: Made, lease: AsyncLease | None = None
    ) -> bool:
        """Read again the keys of all records that are new, and publish the table. Call it under the lock.

        For a table that was filled from the documents, those are new that are not `noted`;
        for a copy, those that the publication `noted.since` does not include.
        None of the rows that it was filled with is longer than `norm`; `made` says what it has.
        """
        look, touched, news = await self.records.in_snapshot(partial(self._read_news, spec, noted, made.filters))
        state = look.state
        if state is None or noted.state is None or state.floor > noted.state.n:
            raise VersionLost(f"{spec.name}: records went while its table in {self.tables.uri} was built")
        if noted.since is not None and noted.state.table != state.table:
            raise VersionLost(f"{spec.name}: its table in {self.tables.uri} was replaced while it was copied")
        self.seen[spec.name] = state.n
        ver = await self.tables.write(table, None, touched, news.keys, news.rows, news.columns)
        if ver is None:
            return False
        ids = [record.id for record in look.unstamped if not record.open]
        update = self.serving(spec, state, table, ver, max(norm, news.norm), made)
        fence = None if lease is None else lease.check
        return await self.records.publish(spec.name, await self.engine(), state, ids, update, fence)

    def serving(
        self, spec: VectorSpec, state: State, table: str, ver: int, norm: float, made: Made
    ) -> dict[str, dict[str, Any]]:
        """The change of the state by which another table serves; the one before it goes when no reader needs it."""
        served: dict[str, Any] = {
            "ver": ver,
            "table": table,
            "dim": spec.dim,
            "metric": spec.metric,
            "norm": norm,
            "changed": 0,
        }
        if state.ver is not None and state.table is not None:
            served[f"drop.{state.table.rpartition('-')[2]}"] = datetime.now(UTC) + READERS
        update = evolve(made, n=state.n + 1).publishing(state.coming)
        return update | {"$set": served | update["$set"], "$unset": {f"drop.{table.rpartition('-')[2]}": ""}}

    async def _read_news(
        self, spec: VectorSpec, noted: Look, fields: Sequence[FilterField], session: AsyncClientSession | None
    ) -> tuple[Look, list[str], TableRows]:
        if noted.since is None:
            look = await self.records.everything(spec.name, await self.engine(), session=session)
        else:
            look = await self.records.look(spec.name, await self.engine(), since=noted.since, session=session)
        known = {record.id for record in noted.records.values() if not record.open}
        new = [record for record in look.records.values() if record.id not in known]
        touched = await aio.in_thread(keys_of, new)
        documents = await self.records.documents(spec, touched, fields, moving=look.moving, session=session)
        return look, list(touched), await aio.in_thread(table_rows, spec, documents, fields)

    def prefix(self, spec: VectorSpec) -> str:
        """How the names of the index's tables begin; also the name of its lock."""
        return re.sub(r"[^A-Za-z0-9_.-]", "_", f"{self.backend.name}.{spec.name}")[:150]

    def usable(self, spec: VectorSpec, state: State | None) -> bool:
        """Whether the state names a table of this database that holds vectors of this kind."""
        return (
            state is not None
            and state.ver is not None
            and state.norm is not None
            and (state.table or "").startswith(f"{self.prefix(spec)}-")
            and (state.dim, state.metric) == (spec.dim, spec.metric)
        )
