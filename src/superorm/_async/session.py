"""The session: a unit of work over documents and their vectors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast, overload

from superorm._async.reading import AsyncReading
from superorm._async.unit_of_work import AsyncUnitOfWork
from superorm._async.writing import AsyncWriting, insert_objects
from superorm._io.progress import Progress, reporting
from superorm.exc import (
    ConfigurationError,
    NoResultFound,
)
from superorm.expr.kinds import is_select
from superorm.expr.statements import Rows, Select
from superorm.expr.writes import MergeInto, Returning, WriteStatement
from superorm.schema.document import Document
from superorm.schema.mapping import class_map
from superorm.unitofwork.arguments import check_batch_size, check_rows, check_select, documents_in
from superorm.unitofwork.result import Result, ScalarResult, Written

if TYPE_CHECKING:
    from superorm._async.db import AsyncDB

__all__ = ["AsyncSession"]

D = TypeVar("D", bound=Document)
R = TypeVar("R")
T = TypeVar("T")


class AsyncSession:
    """A unit of work: tracks documents, and writes what changed in one transaction.

    The transaction starts at the first flush or statement that writes.
    On backends without transactions only `flush`, `commit` and such statements write, and `rollback` restores
    objects only; `require_transaction` makes the first flush raise `UnsupportedError` there.
    """

    def __init__(self, db: AsyncDB, *, require_transaction: bool = False) -> None:
        _check_db(db, type(self).__name__)
        self.db = db
        self._work = AsyncUnitOfWork(db, require_transaction=require_transaction)
        self._reading = AsyncReading(self._work)
        self._tracker = self._work.tracker

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give up what was not committed, and forget all objects."""
        await self.rollback()
        self._tracker.clear()

    # Objects

    def add(self, instance: Document) -> None:
        """Insert the document at the next flush; one that is stored already is tracked from now on.

        Raises `SessionError` for what is no document, and for one that another session holds.
        """
        self._tracker.add(instance)

    def add_all(self, instances: Iterable[Document]) -> None:
        """`add` each. Raises `SessionError`."""
        self._tracker.add_all(instances)

    def delete(self, instance: Document) -> None:
        """Delete the document at the next flush. Raises `SessionError` where it is not in the session."""
        self._tracker.delete(instance)

    def expunge(self, instance: Document) -> None:
        """Forget the document and what was changed in it."""
        self._tracker.expunge(instance)

    @property
    def new(self) -> list[Document]:
        """The documents to be inserted."""
        return list(self._tracker.new.values())

    @property
    def dirty(self) -> list[Document]:
        """The documents that may have to be updated."""
        return [instance for found in self._tracker.possibly_changed().values() for instance in found]

    @property
    def deleted(self) -> list[Document]:
        """The documents to be deleted."""
        return list(self._tracker.deleted.values())

    def __contains__(self, instance: object) -> bool:
        return isinstance(instance, Document) and instance in self._tracker

    # Reading

    async def get(self, cls: type[D], key: Any) -> D | None:
        """The document with this key, or None. Raises `MappingError` for what is no class of documents."""
        found: D | None = await self._reading.get(class_map(cls), key)
        return found

    async def get_one(self, cls: type[D], key: Any) -> D:
        """The document with this key. Raises `NoResultFound`."""
        found = await self.get(cls, key)
        if found is None:
            raise NoResultFound(f"there is no {cls.__name__} {key!r}", document_class=cls, key=key)
        return found

    @overload
    async def execute(self, statement: Rows[R]) -> Result[R]: ...
    @overload
    async def execute(self, statement: WriteStatement[Any]) -> Written: ...
    @overload
    async def execute(self, statement: MergeInto) -> None: ...
    async def execute(self, statement: Rows[R] | WriteStatement[Any] | MergeInto) -> Result[R] | Written | None:
        """The rows of a select, or of a statement with ``returning()``; what another statement that writes did.

        Such a statement flushes first, as a query does, and opens the transaction as a flush does;
        `commit` commits it.
        The session's objects show what it changed; those that it deleted are out of the session.
        Raises what `flush` raises; after an error in writing the session must be rolled back.
        """
        if isinstance(statement, (WriteStatement, Returning, MergeInto)):
            done: Result[R] | Written | None = await self._execute_write(statement)
            return done
        compiled = await self._reading.compiled(statement)
        rows = cast("list[R]", await self._reading.rows(compiled))  # the statement's type says what its rows hold
        return Result(rows, compiled.names)

    async def scalars(self, statement: Rows[tuple[T, *tuple[Any, ...]]]) -> ScalarResult[T]:
        """The first column of a select, or of a statement with ``returning()``.

        Raises `StatementError` for a statement that gives no rows, before anything is sent.
        """
        if is_select(statement):
            compiled = await self._reading.compiled(statement)
            if compiled.whole is not None:
                return ScalarResult(await self._reading.objects(compiled, compiled.whole))
        check_rows(statement, "scalars()")
        return (await self.execute(statement)).scalars()

    async def scalar(self, statement: Rows[tuple[T, *tuple[Any, ...]]]) -> T | None:
        """The first column of the first row, or None."""
        check_rows(statement, "scalar()")
        return (await self.scalars(statement)).first()

    async def count(self, statement: Select[Any, Any]) -> int:
        """How many documents the select matches, without its offset and limit. Raises `StatementError` after `like`."""
        check_select(statement, "count()")
        return await self._reading.count(await self._reading.compiled(statement))

    def stream(self, statement: Rows[R], *, batch_size: int = 1000) -> AsyncIterator[R]:
        """The rows of a select one by one, in constant memory; their documents are not tracked.

        Raises `StatementError` for any other statement, and for a `batch_size` below 1.
        """
        check_select(statement, "stream()")
        check_batch_size(batch_size, "stream()")
        return self._stream(statement, batch_size)

    async def _stream(self, statement: Rows[R], batch_size: int) -> AsyncIterator[R]:
        async for batch in self._reading.batches(await self._reading.compiled(statement), batch_size):
            for row in batch:
                yield cast("R", row)

    def stream_scalars(
        self, statement: Rows[tuple[T, *tuple[Any, ...]]], *, batch_size: int = 1000
    ) -> AsyncIterator[T]:
        """The first column of a select value by value, in constant memory; documents are not tracked.

        Raises as `stream` does.
        """
        check_select(statement, "stream_scalars()")
        check_batch_size(batch_size, "stream_scalars()")
        return self._stream_scalars(statement, batch_size)

    async def _stream_scalars(self, statement: Rows[tuple[T, *tuple[Any, ...]]], batch_size: int) -> AsyncIterator[T]:
        compiled = await self._reading.compiled(statement)
        if compiled.whole is None:
            async for batch in self._reading.batches(compiled, batch_size):
                for row in batch:
                    yield row[0]
            return
        async for objects in self._reading.object_batches(compiled, compiled.whole, batch_size):
            for value in objects:
                yield value

    # Writing

    async def _execute_write(self, statement: object) -> Any:
        self._work.check_usable()
        await self._work.ready()
        writing = AsyncWriting(self._work, self._reading, statement)
        await self._work.autoflush()
        writing.check()
        if isinstance(statement, MergeInto):  # which is no part of a transaction
            return await writing.run()
        async with self._work.failing():
            return await writing.run()

    async def bulk_insert(self, instances: Iterable[Document], *, progress: Progress | bool | None = None) -> Written:
        """Insert many new documents, which are not tracked: the session does not know them afterwards.

        Their keys are set, and computed vectors computed.
        Raises `SessionError` for anything but documents, and what `flush` raises;
        after an error in writing the session must be rolled back.
        """
        objects, _ = documents_in(instances, "bulk_insert()")
        await self._work.autoflush()
        async with self._work.failing():
            with reporting(progress) as report:
                return await insert_objects(self._work, objects, report)

    async def flush(self, *, progress: Progress | bool | None = None) -> None:
        """Write what changed into the transaction, without committing it.

        Computed vectors are computed first.
        Everything is checked before anything is written.
        Raises `ValidationError`, `VectorError`, `PredictionError`, `DuplicateKeyError`, `StaleDocumentError`,
        `WriteError`; after an error the session must be rolled back.
        """
        with reporting(progress) as report:
            await self._work.flush(report)

    async def commit(self, *, progress: Progress | bool | None = None) -> None:
        """Flush and commit. Raises what `flush` raises, and `WriteError` where the commit fails."""
        with reporting(progress) as report:
            await self._work.commit(report)

    async def rollback(self) -> None:
        """Give up what was not committed.

        Objects show what was last loaded or committed; new ones are outside again.
        """
        await self._work.rollback()


def _check_db(db: object, name: str) -> None:
    """Raise `ConfigurationError` for anything but a DB."""
    from superorm._async.db import AsyncDB  # which imports this module

    if not isinstance(db, AsyncDB):
        raise ConfigurationError(f"{name}() takes the DB that connect_async(...) gives, not {type(db).__name__}")
