"""Running a session's selects."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from superorm._async.query import Found
from superorm._async.unit_of_work import AsyncUnitOfWork
from superorm.codec import documents
from superorm.compile.capable import NOT_IN_TRANSACTIONS, check_capabilities
from superorm.compile.compiler import CompiledSelect
from superorm.compile.plan import Count, Find
from superorm.exc import StatementError, ValidationError
from superorm.schema.dates import reads_naive
from superorm.schema.mapping import ClassMap
from superorm.unitofwork.errors import key_value
from superorm.unitofwork.identity import identity
from superorm.unitofwork.result import Row
from superorm.unitofwork.rows import rows_of

__all__ = ["AsyncReading"]


class AsyncReading:
    """How a unit of work reads: what it changed is flushed first, and objects that it tracks stay the same objects."""

    def __init__(self, work: AsyncUnitOfWork) -> None:
        self._work = work
        self._db = work.db

    async def get(self, mapping: ClassMap, key: Any) -> Any:
        """The object with this key, or None."""
        work = self._work
        stored = key_value(mapping, key)
        known = work.tracker.identities.of(mapping).get(identity(stored))
        if known is not None:
            there = isinstance(known, mapping.cls) and id(known) not in work.tracker.deleted
            return known if there else None
        assert mapping.collection is not None
        await work.autoflush()
        parts = await work.ready()
        filter = {"_id": {"$eq": stored}, **mapping.type_filter()}
        plan = Find(mapping.collection, filter, limit=1, naive=reads_naive(mapping))
        found = await parts.data_backend.read(plan, session=work.server_session)
        loaded = work.tracker.load(mapping, found)
        return loaded[0] if loaded else None

    async def rows(self, compiled: CompiledSelect) -> list[Row]:
        """The rows, whose documents are tracked."""
        found = await self._find(compiled)
        try:
            return rows_of(compiled, found.documents, found.scores, self.load)
        except ValidationError as error:
            raise await self._db.queries.named(compiled, self._work.server_session, error) from error.__cause__

    async def objects(self, compiled: CompiledSelect, mapping: ClassMap) -> list[Any]:
        """The same of a select of nothing but whole documents, without rows."""
        found = await self._find(compiled)
        return self.load(mapping, found.documents, None)

    async def count(self, compiled: CompiledSelect) -> int:
        """How many documents there are. Raises `StatementError` for what is no select of a class's documents."""
        if compiled.like is not None:
            raise StatementError("count() cannot count a statement with .like(...); take len() of its result")
        if not isinstance(compiled.read, Find):
            raise StatementError("count() counts the documents of a class; select func.count() of anything else")
        await self._work.autoflush()
        parts = await self._work.ready()
        plan = Count(compiled.find.collection, compiled.find.filter)
        (counted,) = await parts.data_backend.read(plan, session=self._work.server_session)
        return int(counted["n"])

    async def batches(self, compiled: CompiledSelect, batch_size: int) -> AsyncIterator[list[Row]]:
        """The rows in batches; their documents are not tracked."""
        async for found in self._found(compiled, batch_size):
            try:
                rows = rows_of(compiled, found.documents, found.scores, _load_untracked)
            except ValidationError as error:
                raise await self._db.queries.named(compiled, self._work.server_session, error) from error.__cause__
            yield rows

    async def object_batches(
        self, compiled: CompiledSelect, mapping: ClassMap, batch_size: int
    ) -> AsyncIterator[list[Any]]:
        """The same of a select of nothing but whole documents, without rows."""
        async for found in self._found(compiled, batch_size):
            yield documents.load(mapping, found.documents)

    async def compiled(self, statement: object) -> CompiledSelect:
        """A select as the backend runs it. Raises `StatementError`, `UnsupportedError`."""
        await self._work.ready()
        return self._db.compiled(statement)

    def load(self, mapping: ClassMap, found: Sequence[dict[str, Any]], only: frozenset[str] | None) -> list[Any]:
        """The tracked objects of stored documents."""
        tracker = self._work.tracker
        return tracker.load(mapping, found) if only is None else tracker.load_partial(mapping, found, only)

    async def _find(self, compiled: CompiledSelect) -> Found:
        await self._before(compiled)
        return await self._db.queries.run(compiled, self._work.server_session)

    async def _found(self, compiled: CompiledSelect, batch_size: int) -> AsyncIterator[Found]:
        await self._before(compiled)
        async for found in self._db.queries.stream(compiled, self._work.server_session, batch_size):
            yield found

    async def _before(self, compiled: CompiledSelect) -> None:
        await self._work.autoflush()
        if self._work.server_session is not None:
            check_capabilities(compiled.read, NOT_IN_TRANSACTIONS, "a transaction")


def _load_untracked(mapping: ClassMap, found: Sequence[dict[str, Any]], only: frozenset[str] | None) -> list[Any]:
    return documents.load(mapping, found) if only is None else documents.load_partial(mapping, found, only)
