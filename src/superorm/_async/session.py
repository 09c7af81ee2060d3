"""The session: a unit of work over documents and their vectors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar, cast

from superorm._async.query import Found
from superorm._io.progress import Progress, reporting
from superorm.compile.compiler import CompiledSelect, compile_select
from superorm.compile.plan import Count, Find
from superorm.exc import (
    NoResultFound,
    PendingRollbackError,
    StaleDocumentError,
    StatementError,
    SuperormError,
    UnsupportedError,
)
from superorm.expr.statements import Rows, Select
from superorm.schema.document import Document
from superorm.schema.mapping import ClassMap, class_map
from superorm.unitofwork.computed import needs
from superorm.unitofwork.errors import key_value, of_class
from superorm.unitofwork.flush import FlushPlan, plan_flush
from superorm.unitofwork.identity import identity
from superorm.unitofwork.result import Result, ScalarResult
from superorm.unitofwork.rows import rows_of
from superorm.unitofwork.tracking import Tracker
from superorm.unitofwork.writes import Insert, Update

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

    from superorm._async.db import AsyncDB, AsyncParts

__all__ = ["AsyncSession"]

D = TypeVar("D", bound=Document)
R = TypeVar("R")
T = TypeVar("T")
ByCollection: TypeAlias = Mapping[str | None, ClassMap]


class RolledBack(Exception):
    """Ends a transaction's block without committing it."""


class AsyncSession:
    """A unit of work: tracks documents, and writes what changed in one transaction.

    The transaction starts at the first flush.
    On backends without transactions only `flush` and `commit` write, and `rollback` restores objects only;
    `require_transaction` makes the first flush raise `UnsupportedError` there.
    """

    def __init__(self, db: AsyncDB, *, require_transaction: bool = False) -> None:
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
        self._tracker = Tracker()

    # Objects

    def add(self, instance: Document) -> None:
        """Insert the document at the next flush. Raises `SessionError`."""
        self._tracker.add(instance)

    def add_all(self, instances: Iterable[Document]) -> None:
        """Insert the documents at the next flush. Raises `SessionError`."""
        for instance in instances:
            self._tracker.add(instance)

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
        """The document with this key, or None."""
        mapping = class_map(cls)
        stored = key_value(mapping, key)
        known: D | None = self._tracker.identities.of(mapping).get(identity(stored))
        if known is not None:
            return None if id(known) in self._tracker.deleted else known
        assert mapping.collection is not None
        await self._autoflush()
        parts = await self._ready()
        plan = Find(mapping.collection, {"_id": {"$eq": stored}}, limit=1)
        found = await parts.data_backend.read(plan, session=self._server_session)
        loaded: list[D] = self._tracker.load(mapping, found)
        return loaded[0] if loaded else None

    async def get_one(self, cls: type[D], key: Any) -> D:
        """The document with this key. Raises `NoResultFound`."""
        found = await self.get(cls, key)
        if found is None:
            raise NoResultFound(f"there is no {cls.__name__} {key!r}", document_class=cls, key=key)
        return found

    async def execute(self, statement: Rows[R]) -> Result[R]:
        """The rows of a select."""
        compiled = _compiled(statement)
        found = await self._find(compiled)
        rows = rows_of(compiled, found.documents, found.scores, self._tracker.load)
        return Result(cast("list[R]", rows))  # the statement's type says what its rows hold

    async def scalars(self, statement: Rows[tuple[T, *tuple[Any, ...]]]) -> ScalarResult[T]:
        """The first column of a select."""
        return (await self.execute(statement)).scalars()

    async def scalar(self, statement: Rows[tuple[T, *tuple[Any, ...]]]) -> T | None:
        """The first column of the first row, or None."""
        return (await self.scalars(statement)).first()

    async def count(self, statement: Select[Any, Any]) -> int:
        """How many documents the select matches, without its offset and limit. Raises `StatementError` after `like`."""
        compiled = _compiled(statement)
        if compiled.like is not None:
            raise StatementError("count() cannot count a statement with .like(...); take len() of its result")
        await self._autoflush()
        parts = await self._ready()
        plan = Count(compiled.find.collection, compiled.find.filter)
        (counted,) = await parts.data_backend.read(plan, session=self._server_session)
        return int(counted["n"])

    async def _find(self, compiled: CompiledSelect) -> Found:
        await self._autoflush()
        await self._ready()
        return await self.db.queries.run(compiled, self._server_session)

    # Writing

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
        capabilities = self.db.capabilities
        if self._require_transaction and not capabilities.transactions:
            raise UnsupportedError(f"{capabilities.backend} has no transactions, and this session requires them")
        for mapping in dict.fromkeys([*new, *changed]):
            for need in needs(mapping, new.get(mapping, ()), changed.get(mapping, ())):
                await self.db.vector_models.compute(need, report)
        works = tracker.work(new, changed)
        plan = plan_flush(works)
        if not plan.writes:
            return
        await self.db.prepare()
        by_collection = {work.mapping.collection: work.mapping for work in works}
        if capabilities.transactions:
            await self._write_in_transaction(plan, by_collection)
        else:
            await self._write_directly(plan, by_collection)
        tracker.flushed(plan)
        self._touched |= plan.touched.keys()

    async def _write_in_transaction(self, plan: FlushPlan, by_collection: ByCollection) -> None:
        backend = self.db.parts.data_backend
        if self._server_session is None:
            await self.db.ensure_collections(write.collection for write in plan.writes if isinstance(write, Insert))
            for spec in plan.touched:  # its index cannot be made once the transaction is open
                await self.db.vectors.ensure(spec)
            self._server_session = await self._stack.enter_async_context(backend.transaction())
        await self._write(plan, by_collection)
        for record in self.db.vectors.records(plan.touched):
            await backend.write(record, session=self._server_session)

    async def _write_directly(self, plan: FlushPlan, by_collection: ByCollection) -> None:
        async with self.db.vectors.recording(plan.touched):
            await self._write(plan, by_collection)

    async def _write(self, plan: FlushPlan, by_collection: ByCollection) -> None:
        for write in plan.writes:
            try:
                result = await self.db.parts.data_backend.write(write, session=self._server_session)
            except SuperormError as error:
                raise of_class(error, by_collection[write.collection]) from error
            if isinstance(write, Update) and result.matched < len(write.ops):
                missing = len(write.ops) - result.matched
                raise StaleDocumentError(
                    f"{missing} of {len(write.ops)} changed documents in {write.collection} were deleted underneath; "
                    "roll back and load them again",
                    document_class=by_collection[write.collection].cls,
                )

    async def _ready(self) -> AsyncParts:
        return await self.db.open()

    def _check_usable(self) -> None:
        if self._failed is not None:
            raise PendingRollbackError(
                f"an earlier flush failed ({type(self._failed).__name__}: {self._failed}); call rollback() first"
            ) from self._failed


def _compiled(statement: Rows[Any]) -> CompiledSelect:
    if not isinstance(statement, Select):
        raise StatementError(f"a session runs statements such as select(...), not {type(statement).__name__}")
    return compile_select(statement)  # pyright: ignore[reportUnknownArgumentType]
