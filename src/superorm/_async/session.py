"""The session: a unit of work over documents and their vectors."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast, overload

from superorm._async.query import Found
from superorm._async.writing import AsyncWriting, insert_objects
from superorm._io.progress import Progress, reporting
from superorm.codec import documents
from superorm.compile.capable import NOT_IN_TRANSACTIONS, check_capabilities
from superorm.compile.compiler import CompiledSelect
from superorm.compile.plan import Count, Find
from superorm.exc import (
    ConfigurationError,
    NoResultFound,
    PendingRollbackError,
    StatementError,
    SuperormError,
    UnsupportedError,
    ValidationError,
)
from superorm.expr.kinds import is_select
from superorm.expr.statements import Rows, Select
from superorm.expr.writes import MergeInto, Returning, WriteStatement
from superorm.schema.dates import reads_naive
from superorm.schema.document import Document
from superorm.schema.mapping import ClassMap, class_map
from superorm.schema.vector_spec import VectorSpec
from superorm.unitofwork.arguments import check_batch_size, check_rows, check_select, documents_in
from superorm.unitofwork.computed import needs
from superorm.unitofwork.encode import check_write
from superorm.unitofwork.errors import key_value, of_class
from superorm.unitofwork.flush import FlushPlan, plan_flush
from superorm.unitofwork.identity import identity
from superorm.unitofwork.result import Result, Row, ScalarResult, Written
from superorm.unitofwork.rows import rows_of
from superorm.unitofwork.stale import must_match, stale_documents, stale_error
from superorm.unitofwork.tracking import Tracker
from superorm.unitofwork.writes import Insert

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

    from superorm._async.db import AsyncDB, AsyncParts

__all__ = ["AsyncSession"]

D = TypeVar("D", bound=Document)
R = TypeVar("R")
T = TypeVar("T")


class RolledBack(Exception):
    """Ends a transaction's block without committing it."""


class AsyncSession:
    """A unit of work: tracks documents, and writes what changed in one transaction.

    The transaction starts at the first flush or statement that writes.
    On backends without transactions only `flush`, `commit` and such statements write, and `rollback` restores
    objects only; `require_transaction` makes the first flush raise `UnsupportedError` there.
    """

    def __init__(self, db: AsyncDB, *, require_transaction: bool = False) -> None:
        _check_db(db, type(self).__name__)
        self.db = db
        self._require_transaction = require_transaction
        self._tracker = Tracker()
        self._stack = AsyncExitStack()
        self._server_session: AsyncClientSession | None = None
        self._touched: set[Any] = set()
        self._failed: BaseException | None = None

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
        mapping = class_map(cls)
        stored = key_value(mapping, key)
        known: D | None = self._tracker.identities.of(mapping).get(identity(stored))
        if known is not None:
            return known if isinstance(known, cls) and id(known) not in self._tracker.deleted else None
        assert mapping.collection is not None
        await self._autoflush()
        parts = await self._ready()
        filter = {"_id": {"$eq": stored}, **mapping.type_filter()}
        plan = Find(mapping.collection, filter, limit=1, naive=reads_naive(mapping))
        found = await parts.data_backend.read(plan, session=self._server_session)
        loaded: list[D] = self._tracker.load(mapping, found)
        return loaded[0] if loaded else None

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
        return await self._rows(statement)

    async def _rows(self, statement: Rows[R]) -> Result[R]:
        compiled = await self._compiled(statement)
        found = await self._find(compiled)
        try:
            rows = rows_of(compiled, found.documents, found.scores, self._load)
        except ValidationError as error:
            raise await self.db.queries.named(compiled, self._server_session, error) from error.__cause__
        return Result(cast("list[R]", rows), compiled.names)  # the statement's type says what its rows hold

    async def scalars(self, statement: Rows[tuple[T, *tuple[Any, ...]]]) -> ScalarResult[T]:
        """The first column of a select, or of a statement with ``returning()``.

        Raises `StatementError` for a statement that gives no rows, before anything is sent.
        """
        if is_select(statement):
            compiled = await self._compiled(statement)
            if compiled.whole is not None:  # no need for rows
                found = await self._find(compiled)
                return ScalarResult(self._load(compiled.whole, found.documents, None))
        check_rows(statement, "scalars()")
        return (await self.execute(statement)).scalars()

    async def scalar(self, statement: Rows[tuple[T, *tuple[Any, ...]]]) -> T | None:
        """The first column of the first row, or None."""
        check_rows(statement, "scalar()")
        return (await self.scalars(statement)).first()

    async def count(self, statement: Select[Any, Any]) -> int:
        """How many documents the select matches, without its offset and limit. Raises `StatementError` after `like`."""
        check_select(statement, "count()")
        compiled = await self._compiled(statement)
        if compiled.like is not None:
            raise StatementError("count() cannot count a statement with .like(...); take len() of its result")
        if not isinstance(compiled.read, Find):
            raise StatementError("count() counts the documents of a class; select func.count() of anything else")
        await self._autoflush()
        parts = await self._ready()
        plan = Count(compiled.find.collection, compiled.find.filter)
        (counted,) = await parts.data_backend.read(plan, session=self._server_session)
        return int(counted["n"])

    def stream(self, statement: Rows[R], *, batch_size: int = 1000) -> AsyncIterator[R]:
        """The rows of a select one by one, in constant memory; their documents are not tracked.

        Raises `StatementError` for any other statement, and for a `batch_size` below 1.
        """
        check_select(statement, "stream()")
        check_batch_size(batch_size, "stream()")
        return self._stream(statement, batch_size)

    async def _stream(self, statement: Rows[R], batch_size: int) -> AsyncIterator[R]:
        async for batch in self._batches(await self._compiled(statement), batch_size):
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
        compiled = await self._compiled(statement)
        whole = compiled.whole
        if whole is None:
            async for batch in self._batches(compiled, batch_size):
                for row in batch:
                    yield row[0]
            return
        async for found in self._found(compiled, batch_size):
            for value in documents.load(whole, found.documents):
                yield value

    async def _batches(self, compiled: CompiledSelect, batch_size: int) -> AsyncIterator[list[Row]]:
        async for found in self._found(compiled, batch_size):
            try:
                rows = rows_of(compiled, found.documents, found.scores, _load_untracked)
            except ValidationError as error:
                raise await self.db.queries.named(compiled, self._server_session, error) from error.__cause__
            yield rows

    async def _found(self, compiled: CompiledSelect, batch_size: int) -> AsyncIterator[Found]:
        await self._before_read(compiled)
        async for found in self.db.queries.stream(compiled, self._server_session, batch_size):
            yield found

    async def _compiled(self, statement: Rows[Any]) -> CompiledSelect:
        await self._ready()
        return self.db.compiled(statement)

    def _load(self, mapping: ClassMap, found: Sequence[dict[str, Any]], only: frozenset[str] | None) -> list[Any]:
        tracker = self._tracker
        return tracker.load(mapping, found) if only is None else tracker.load_partial(mapping, found, only)

    async def _find(self, compiled: CompiledSelect) -> Found:
        await self._before_read(compiled)
        return await self.db.queries.run(compiled, self._server_session)

    async def _before_read(self, compiled: CompiledSelect) -> None:
        await self._autoflush()
        await self._ready()
        if self._server_session is not None:
            check_capabilities(compiled.read, NOT_IN_TRANSACTIONS, "a transaction")

    # Writing

    async def _execute_write(self, statement: object) -> Any:
        self._check_usable()
        await self._ready()
        writing = AsyncWriting(self, statement)
        await self._autoflush()
        writing.check()
        try:
            return await writing.run()
        except BaseException as error:
            if not isinstance(statement, MergeInto):  # which is no part of a transaction
                self._failed = error
            raise

    async def bulk_insert(self, instances: Iterable[Document], *, progress: Progress | bool | None = None) -> Written:
        """Insert many new documents, which are not tracked: the session does not know them afterwards.

        Their keys are set, and computed vectors computed.
        Raises `SessionError` for anything but documents, and what `flush` raises;
        after an error in writing the session must be rolled back.
        """
        objects, _ = documents_in(instances, "bulk_insert()")
        self._check_usable()
        await self._ready()
        await self._autoflush()
        try:
            with reporting(progress) as report:
                return await insert_objects(self, objects, report)
        except BaseException as error:
            self._failed = error
            raise

    async def flush(self, *, progress: Progress | bool | None = None) -> None:
        """Write what changed into the transaction, without committing it.

        Computed vectors are computed first.
        Everything is checked before anything is written.
        Raises `ValidationError`, `VectorError`, `PredictionError`, `DuplicateKeyError`, `StaleDocumentError`,
        `WriteError`; after an error the session must be rolled back.
        """
        self._check_usable()
        try:
            with reporting(progress) as report:
                await self._flush(report)
        except BaseException as error:
            self._failed = error
            raise

    async def commit(self, *, progress: Progress | bool | None = None) -> None:
        """Flush and commit. Raises what `flush` raises, and `WriteError` where the commit fails."""
        await self.flush(progress=progress)
        try:
            await self._stack.aclose()  # commits
        except BaseException as error:
            self._failed = error
            raise
        finally:
            self._server_session = None
        self._tracker.committed()
        touched, self._touched = self._touched, set()
        if touched:
            self.db.vectors.notify(touched)

    async def rollback(self) -> None:
        """Give up what was not committed.

        Objects show what was last loaded or committed; new ones are outside again.
        """
        stack, self._stack = self._stack, AsyncExitStack()
        self._server_session = None
        self._touched = set()
        try:
            try:
                raise RolledBack
            except RolledBack as ended:
                await stack.__aexit__(RolledBack, ended, ended.__traceback__)
        finally:
            self._tracker.rolled_back()
            self._failed = None

    async def _autoflush(self) -> None:
        """Flush before a query, where that can be undone."""
        self._check_usable()
        await self._ready()
        if self.db.capabilities.transactions:
            await self.flush()

    async def _flush(self, report: Progress | None) -> None:
        tracker = self._tracker
        new, changed = tracker.new_by_class(), tracker.possibly_changed()
        if not new and not changed and not tracker.deleted:
            return
        await self._ready()
        self._check_transactions()
        for mapping in dict.fromkeys([*new, *changed]):
            for need in needs(mapping, new.get(mapping, ()), changed.get(mapping, ())):
                await self.db.vector_models.compute(need, report)
        plan = plan_flush(tracker.work(new, changed))
        if not plan.writes:
            return
        if len(plan.writes) > 1 and not self.db.capabilities.transactions:
            _check(plan)  # the first write could not be undone
        await self._begin([write.collection for write in plan.writes if isinstance(write, Insert)], plan.touched)
        async with self._recorded(plan.touched):
            await self._write(plan)
        tracker.flushed(plan)

    def _check_transactions(self) -> None:
        capabilities = self.db.capabilities
        if self._require_transaction and not capabilities.transactions:
            raise UnsupportedError(f"{capabilities.backend} has no transactions, and this session requires them")

    async def _begin(self, collections: Iterable[str], specs: Iterable[VectorSpec]) -> None:
        """Open the transaction to write in, where there are any, unless it is open.

        `collections` are those that are inserted into, `specs` the vector indexes that are touched.
        """
        self._check_transactions()
        await self.db.prepare()
        if self._server_session is not None or not self.db.capabilities.transactions:
            return
        await self.db.ensure_collections(collections)
        for spec in specs:  # its index cannot be made once the transaction is open
            await self.db.vectors.ensure(spec)
        backend = self.db.parts.data_backend
        self._server_session = await self._stack.enter_async_context(backend.transaction())

    @asynccontextmanager
    async def _recorded(self, touched: Mapping[VectorSpec, Sequence[Any]]) -> AsyncGenerator[None]:
        """Around the writing of documents: records the ``_id`` values whose vectors it touches."""
        if self._server_session is None:
            async with self.db.vectors.recording(touched):
                yield
        else:
            yield
            for record in self.db.vectors.records(touched):
                await self.db.parts.data_backend.write(record, session=self._server_session)
        self._touched |= touched.keys()

    async def _write(self, plan: FlushPlan) -> None:
        backend = self.db.parts.data_backend
        for write in plan.writes:
            try:
                result = await backend.write(write, session=self._server_session)
            except SuperormError as error:
                raise of_class(error, plan.mapping_of(write.collection, error.key)) from error
            if result.matched < must_match(write):
                found = await backend.read(stale_documents(write), session=self._server_session)
                raise stale_error(plan, write, result.matched, found)

    async def _ready(self) -> AsyncParts:
        return await self.db.open()

    def _check_usable(self) -> None:
        if self._failed is not None:
            raise PendingRollbackError(
                f"an earlier flush, or statement that writes, failed ({type(self._failed).__name__}: {self._failed}); "
                "call rollback() first"
            ) from self._failed


def _check_db(db: object, name: str) -> None:
    """Raise `ConfigurationError` for anything but a DB."""
    from superorm._async.db import AsyncDB  # which imports this module

    if not isinstance(db, AsyncDB):
        raise ConfigurationError(f"{name}() takes the DB that connect_async(...) gives, not {type(db).__name__}")


def _load_untracked(mapping: ClassMap, found: Sequence[dict[str, Any]], only: frozenset[str] | None) -> list[Any]:
    return documents.load(mapping, found) if only is None else documents.load_partial(mapping, found, only)


def _check(plan: FlushPlan) -> None:
    """Raise `ValidationError` where one of the writes cannot be encoded."""
    for write in plan.writes:
        try:
            check_write(write)
        except SuperormError as error:
            raise of_class(error, plan.mapping_of(write.collection, error.key)) from error
