"""Running a session's selects."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any

from superorm._async.query import Found
from superorm._async.unit_of_work import AsyncUnitOfWork
from superorm.backends.errors import joining
from superorm.compile.capable import NOT_IN_TRANSACTIONS, check_capabilities
from superorm.compile.compiler import CompiledSelect
from superorm.compile.plan import Count, Find
from superorm.compile.related import joined_relations, take_joined
from superorm.exc import SessionError, StatementError, ValidationError
from superorm.expr.statements import Select, select
from superorm.schema.dates import reads_naive
from superorm.schema.mapping import ClassMap
from superorm.schema.state import UNLOADED
from superorm.unitofwork.errors import key_value
from superorm.unitofwork.identity import identity
from superorm.unitofwork.result import Row
from superorm.unitofwork.rows import rows_of
from superorm.unitofwork.tracking import Tracker

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

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
        if known is not None and id(known) in work.tracker.deleted and work.tracker.new:
            known = None  # a new object may take its place
        if known is not None and not self._must_read(mapping, known):
            if work.events.loads.unheard:
                work.events.loads.given((known,))
                await work.events.of_loads()
            return known if self._is_there(mapping, known) else None
        assert mapping.collection is not None
        await work.autoflush()
        filter = {"_id": {"$eq": stored}, **mapping.type_filter()}
        plan = Find(mapping.collection, filter, limit=1, naive=reads_naive(mapping))
        found = await work.backend.read(plan, session=work.read_session)
        loaded = work.events.loads.load(work.tracker, mapping, found)
        await work.events.of_loads()
        return self._read(known, loaded)

    async def get_with(self, mapping: ClassMap, key: Any, options: Sequence[Any]) -> Any:
        """The object with this key, loaded with the options of a select; or None."""
        cls: Any = mapping.cls
        statement: Select[Any, Any] = select(cls).options(*options)
        known = self._work.tracker.identities.get(mapping, key_value(mapping, key))
        if known is None or self._must_read(mapping, known):
            compiled = await self.compiled(statement.where(getattr(mapping.cls, mapping.key.attribute) == key))
            return self._read(known, [row[0] for row in await self.rows(compiled)])
        there = await self.get(mapping, key)
        compiled = await self.compiled(statement)
        if there is not None and compiled.related:
            await self._work.autoflush()
            await self._work.related.load_columns(compiled.related, [(there,)], {}, self._work.tracker)
            await self._work.events.of_loads()
        if there is not None and compiled.undeferred:
            await self._work.artifacts.undefer(compiled.undeferred, [(there,)])
        return there

    def _is_there(self, mapping: ClassMap, known: Any) -> bool:
        """Whether a tracked object is one of the class, and not to be deleted."""
        return isinstance(known, mapping.cls) and id(known) not in self._work.tracker.deleted

    def _must_read(self, mapping: ClassMap, known: Any) -> bool:
        """Whether `get` has to read the document of a tracked object, of which something is not loaded."""
        return UNLOADED in vars(known) and self._is_there(mapping, known)

    def _read(self, known: Any, loaded: list[Any]) -> Any:
        """What `get` gives once it has read a document: the object, or None."""
        tracker = self._work.tracker
        if known is not None and not loaded:  # it was expired, or loaded in part, and is there no more
            tracker.expunge(known)
        return loaded[0] if loaded and id(loaded[0]) not in tracker.deleted else None

    async def rows(self, compiled: CompiledSelect) -> list[Row]:
        """The rows, whose documents are tracked."""
        return await self._rows(compiled, await self._find(compiled), self._work.tracker)

    async def objects(self, compiled: CompiledSelect, mapping: ClassMap) -> list[Any]:
        """The tracked objects of a select of nothing but whole documents."""
        return await self._objects(compiled, mapping, await self._find(compiled), self._work.tracker)

    async def count(self, compiled: CompiledSelect) -> int:
        """How many documents there are. Raises `StatementError` for what is no select of a class's documents."""
        if compiled.like is not None:
            raise StatementError("count() cannot count a statement with .like(...); take len() of its result")
        if not isinstance(compiled.read, Find):
            raise StatementError("count() counts the documents of a class; select func.count() of anything else")
        await self._work.autoflush()
        plan = Count(compiled.find.collection, compiled.find.filter)
        (counted,) = await self._work.backend.read(plan, session=self._work.read_session)
        return int(counted["n"])

    async def batches(self, compiled: CompiledSelect, batch_size: int) -> AsyncGenerator[list[Row]]:
        """The rows in batches; their documents are not tracked."""
        async with aclosing(self._found(compiled, batch_size)) as batches:
            async for found in batches:
                yield await self._rows(compiled, found, None)

    async def object_batches(
        self, compiled: CompiledSelect, mapping: ClassMap, batch_size: int
    ) -> AsyncGenerator[list[Any]]:
        """The objects of a select of nothing but whole documents, in batches; they are not tracked."""
        async with aclosing(self._found(compiled, batch_size)) as batches:
            async for found in batches:
                yield await self._objects(compiled, mapping, found, None)

    async def _rows(self, compiled: CompiledSelect, found: Found, tracker: Tracker | None) -> list[Row]:
        """The rows of found documents, whose objects the tracker, if any, tracks."""
        joined = take_joined(found.documents) if compiled.related else {}
        try:
            rows = rows_of(compiled, found.documents, found.scores, partial(self._work.events.loads.load, tracker))
        except ValidationError as error:
            raise await self._work.queries.named(compiled, self._work.read_session, error) from error.__cause__
        if compiled.related:
            await self._work.related.load_columns(compiled.related, rows, joined, tracker)
        if compiled.undeferred:
            await self._work.artifacts.undefer(compiled.undeferred, rows)
        await self._work.events.of_loads()
        return rows

    async def _objects(
        self, compiled: CompiledSelect, mapping: ClassMap, found: Found, tracker: Tracker | None
    ) -> list[Any]:
        """The objects of found documents, without rows."""
        joined = take_joined(found.documents) if compiled.related else {}
        objects = self._work.events.loads.load(tracker, mapping, found.documents)
        if compiled.related:
            await self._work.related.load(compiled.related[0].loadings, objects, joined, tracker)
        if compiled.undeferred:
            await self._work.artifacts.undefer(compiled.undeferred, [(one,) for one in objects])
        await self._work.events.of_loads()
        return objects

    async def compiled(self, statement: object) -> CompiledSelect:
        """A select as the backend runs it. Raises `StatementError`, `UnsupportedError`."""
        await self._work.ready()
        return self._db.compiled(statement)

    def load(self, mapping: ClassMap, found: Sequence[dict[str, Any]], only: frozenset[str] | None) -> list[Any]:
        """The tracked objects of stored documents."""
        return self._work.events.loads.load(self._work.tracker, mapping, found, only)

    async def _find(self, compiled: CompiledSelect) -> Found:
        await self._before(compiled)
        if not compiled.related:
            return await self._work.queries.run(compiled, self._session(compiled))
        with joining(_joined(compiled)):
            return await self._work.queries.run(compiled, self._session(compiled))

    async def _found(self, compiled: CompiledSelect, batch_size: int) -> AsyncGenerator[Found]:
        await self._before(compiled)
        within, closings = self._work.server_session, self._work.closings
        with joining(_joined(compiled)):
            async with aclosing(self._work.queries.stream(compiled, self._session(compiled), batch_size)) as batches:
                async for found in batches:
                    yield found
                    if within not in (None, self._work.server_session):
                        raise SessionError(
                            "the transaction that this stream reads in has ended; read it to its end before that"
                        )
                    if closings != self._work.closings:
                        raise SessionError(
                            "the session has been closed since this stream began; read it to its end before that"
                        )

    def _session(self, compiled: CompiledSelect) -> AsyncClientSession | None:
        """What the select is run with: a vector search outside of the transaction has a snapshot of its own."""
        return self._work.read_session if compiled.like is None else self._work.server_session

    async def _before(self, compiled: CompiledSelect) -> None:
        await self._work.autoflush()
        if self._work.server_session is not None:
            advice = "; commit() or rollback() first, or run the select in a session of its own"
            check_capabilities(compiled.read, NOT_IN_TRANSACTIONS, "a transaction", advice)


def _joined(compiled: CompiledSelect) -> list[str]:
    return [name for column in compiled.related for name in joined_relations(column.loadings)]
