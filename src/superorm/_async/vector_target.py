"""What a switch to another version of a model makes of an engine's copy, and publishes in its transaction."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from bson import ObjectId

from superorm._async.vector_builds import AsyncTableBuilds
from superorm._async.vector_records import READERS, AsyncVectorRecords
from superorm._async.vector_stage import move_in
from superorm._io import aio
from superorm._io.progress import Progress
from superorm.exc import BackendError
from superorm.schema.vector_spec import FilterField, VectorSpec
from superorm.vectors._async.lease import AsyncLease
from superorm.vectors.mirror import table_rows
from superorm.vectors.records import Made, Moving, State

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

__all__ = ["AsyncTableTarget", "AsyncTarget", "superseded"]

_LONG = timedelta(days=1)
"""How long records are kept for a switch at the most."""


class AsyncTarget:
    """The copy of an engine that reads the documents: it is loaded anew after the switch.

    Until then the records are kept that come from `begin` on.
    """

    def __init__(self, records: AsyncVectorRecords, spec: VectorSpec, engine: str) -> None:
        self.records = records
        self.spec = spec
        self.engine = engine
        self._name = str(ObjectId())

    async def begin(self) -> None:
        """Have all records be kept."""
        kept = {"$set": {f"drop.{self._name}": datetime.now(UTC) + _LONG}}
        await self.records.update_state(self.spec.name, self.engine, kept)

    async def fill(self, moving: Moving, progress: Progress | None) -> None:
        """Make a copy of what is staged, beside writers."""

    async def write(self, keys: Mapping[str, Any], moving: Moving, session: AsyncClientSession | None) -> None:
        """Bring it to the documents of these keys, as the session sees them."""

    @asynccontextmanager
    async def lock(self) -> AsyncGenerator[AsyncLease | None]:
        """Hold the writer's lock."""
        yield None

    def publishing(self, state: State) -> dict[str, dict[str, Any]]:
        """The change of the engine's state by which the copy serves."""
        return {"$unset": {f"drop.{self._name}": ""}}

    async def give_up(self) -> None:
        """Undo what was begun, and is surely not published."""
        over = {"$unset": {f"drop.{self._name}": ""}}
        await self.records.update_state(self.spec.name, self.engine, over)


class AsyncTableTarget(AsyncTarget):
    """A new table of an engine of tables."""

    def __init__(self, builds: AsyncTableBuilds, spec: VectorSpec, engine: str, fields: Sequence[FilterField]) -> None:
        super().__init__(builds.records, spec, engine)
        self._builds = builds
        self._fields = tuple(fields)
        self._table = ""
        self._ver: int | None = None
        self._norm = 0.0

    async def begin(self) -> None:
        """Make the table; while it counts as being built, all records are kept."""
        self._table = await self._builds.begin(self.spec, self._fields)

    async def fill(self, moving: Moving, progress: Progress | None) -> None:
        """Fill it by the documents, with what is staged in the place of their own vectors."""

        async def read(
            spec: VectorSpec, documents: Sequence[Mapping[str, Any]], fields: Sequence[FilterField]
        ) -> Sequence[Mapping[str, Any]]:
            await move_in(self.records.backend, spec, moving, documents, session=None)
            return documents

        norm = await self._builds.fill(self.spec, self._table, progress, fields=self._fields, read=read)
        self._norm = max(norm, self._norm)

    async def write(self, keys: Mapping[str, Any], moving: Moving, session: AsyncClientSession | None) -> None:
        """Write the rows of these keys. Raises `BackendError` where another wrote to the table."""
        documents = await self.records.documents(self.spec, keys, self._fields, moving=moving, session=session)
        rows = await aio.in_thread(table_rows, self.spec, documents, self._fields)
        self._norm = max(rows.norm, self._norm)
        tables = self._builds.tables
        self._ver = await tables.write(self._table, None, list(keys), rows.keys, rows.rows, rows.columns)
        if self._ver is None:
            raise BackendError(f"{self.spec.name}: another process wrote to a table that it does not know")

    @asynccontextmanager
    async def lock(self) -> AsyncGenerator[AsyncLease | None]:
        """Hold the writer's lock of the index."""
        async with self._builds.lock(self.spec) as lease:
            yield lease

    def publishing(self, state: State) -> dict[str, dict[str, Any]]:
        """The change of the state by which the table serves."""
        assert self._ver is not None
        made = Made(state.n + 1, datetime.now(UTC), None, self._fields)
        return self._builds.serving(self.spec, state, self._table, self._ver, self._norm, made)

    async def give_up(self) -> None:
        """Remove the table."""
        await self._builds.give_up(self.spec, self._table)


def superseded(state: State) -> dict[str, dict[str, Any]]:
    """The change of another engine's state: its copy is of the old version, and to be made anew."""
    if state.ver is None or state.table is None:
        return {}
    return {"$set": {"ver": None, f"drop.{state.table.rpartition('-')[2]}": datetime.now(UTC) + READERS}}
