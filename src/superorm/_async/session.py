"""The session: a unit of work over documents and their vectors."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, cast, overload

from superorm._async.alone import alone
from superorm._async.encoding_ahead import encode_objects
from superorm._async.events import AsyncEvents
from superorm._async.reading import AsyncReading
from superorm._async.states import AsyncStates
from superorm._async.unit_of_work import AsyncUnitOfWork
from superorm._async.writing import AsyncWriting, insert_objects
from superorm._io import aio
from superorm._io.progress import Progress, reporting
from superorm._io.twins import Twins
from superorm.artifacts.fields import artifact_fields
from superorm.exc import (
    ConfigurationError,
    NoResultFound,
    SessionError,
)
from superorm.expr.base import Expr
from superorm.expr.kinds import is_select
from superorm.expr.options import LoadOnly, Undefer
from superorm.expr.relations import Load
from superorm.expr.reprs import short_repr
from superorm.expr.statements import Rows, Select
from superorm.expr.writes import MergeInto, Returning, WriteStatement
from superorm.protocols.concerns import SessionOptions
from superorm.schema.document import Document
from superorm.schema.mapping import class_map
from superorm.unitofwork.arguments import check_batch_size, check_options, check_rows, check_select, documents_in
from superorm.unitofwork.events import EventTarget
from superorm.unitofwork.result import Result, ScalarResult, Written
from superorm.unitofwork.shown import related_changes
from superorm.unitofwork.uncopied import Uncopied

if TYPE_CHECKING:
    from superorm._async.db import AsyncDB
    from superorm._sync.db import DB as SyncDB

__all__ = ["AsyncSession", "usable_db"]

D = TypeVar("D", bound=Document)
R = TypeVar("R")
T = TypeVar("T")


class AsyncSession(EventTarget, Uncopied):
    """A unit of work: tracks documents, and writes what changed in one transaction.

    The transaction starts at the first flush or statement that writes.
    On backends without transactions only `flush`, `commit` and such statements write, and `rollback` restores
    objects only; with `require_transaction` a session raises `UnsupportedError` there when it is made,
    or, where its DB has not been opened and making it cannot wait, in ``async with`` or its first call that is awaited.
    The other options are PyMongo's, and go before those of the DB: `read_concern`, `write_concern`,
    `read_preference`, `max_commit_time_ms`, and `causal_consistency`, with which each operation sees those before it
    on whatever member of a cluster it runs.
    An `AsyncSession` also takes the `DB` that ``connect(url)`` gives, and opens its asynchronous twin.
    One thread or task uses a session at a time. It can be neither copied nor pickled.
    Raises `ConfigurationError`, `UnsupportedError`.
    """

    _instead = "make another one of the same DB, and merge() documents into it"

    def __init__(self, db: AsyncDB | SyncDB, **options: Unpack[SessionOptions]) -> None:
        given = usable_db(db, type(self).__name__)
        self.db: AsyncDB = cast("AsyncDB", given.here()) if isinstance(given, Twins) else given
        self._work = AsyncUnitOfWork(self.db, options, AsyncEvents(self))
        self._alone = self._work.alone
        self._in_block = False
        self._reading = AsyncReading(self._work)
        self._states = AsyncStates(self._work)
        self._tracker = self._work.tracker
        if self._work.requires_transaction:
            aio.at_once(self.db.open)
            if db.is_open:  # a DB from a URL is, where its asynchronous twin is not
                self._work.check_transactions(db.capabilities)

    async def __aenter__(self) -> Self:
        if self._work.requires_transaction:
            await self.db.open()
            self._work.check_transactions(self.db.capabilities)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @alone
    async def close(self) -> None:
        """Give up what was not committed, and forget all objects."""
        await self._work.close()

    # Objects

    def add(self, instance: Document) -> None:
        """Insert the document at the next flush; one that is stored already is tracked from now on.

        So is what its loaded relationships show, where their cascade has ``save-update``, as it has by default.

        Raises `SessionError` for what is no document, and for one that another session holds.
        """
        self._alone.check("add")
        self._work.cascades.add(instance)

    def add_all(self, instances: Iterable[Document]) -> None:
        """`add` each. Raises `SessionError`."""
        self._alone.check("add_all")
        self._work.cascades.add_all(instances)

    def delete(self, instance: Document) -> None:
        """Delete the document at the next flush. Raises `SessionError` where it is not in the session."""
        self._alone.check("delete")
        self._work.cascades.delete(instance)

    def expunge(self, instance: Document) -> None:
        """Forget the document and what was changed in it, which stays in the object.

        A new one is outside as if it had not been added: keys that its relationships were about to give, and lists
        that showed it by its key, are as the user set them.

        What its loaded relationships show stays in the session, unless their cascade has ``expunge``.
        Raises `SessionError` where the document is not in the session.
        """
        self._alone.check("expunge")
        self._work.cascades.expunge(instance)

    def expunge_all(self) -> None:
        """Forget all documents."""
        self._alone.check("expunge_all")
        self._work.cascades.expunge_all()
        self._work.artifacts.changes.forget()

    def expire(self, instance: Document, attributes: Collection[str] | None = None) -> None:
        """Forget the values of a stored document, or of some fields and relationships, and what was changed in them.

        Touching them raises `NotLoadedError` until `refresh`, `get` or a query loads the document again; key and
        version stay. Raises `SessionError` for what is not a stored document of the session, and for other attributes.
        """
        self._alone.check("expire")
        self._work.cascades.expire(instance, attributes)

    def expire_all(self) -> None:
        """`expire` all stored documents of the session."""
        self._alone.check("expire_all")
        self._work.cascades.expire_all()

    @alone
    async def refresh(self, instance: Document, attributes: Collection[str] | None = None) -> None:
        """Read a document, or some attributes of it, again; what was changed in them is lost, and nothing is flushed.

        Relationships among the attributes are loaded, all others of the document, without attributes, not loaded.
        In a transaction it shows what the session flushed.
        Raises `NoResultFound` where the document is gone, `SessionError` as `expire` does.
        """
        await self._states.refresh((instance,), attributes, "refresh()")

    @alone
    async def refresh_all(self, instances: Iterable[Document], attributes: Collection[str] | None = None) -> None:
        """`refresh` several documents, with one query for each class."""
        await self._states.refresh(documents_in(instances, "refresh_all()")[0], attributes, "refresh_all()")

    @alone
    async def merge(self, instance: D) -> D:
        """The session's object of this object's document, with copies of its values.

        The document is loaded where the session does not have it; where there is none, a new object is added.
        The given object may be of another session, or unpickled; it stays as it is.
        Of a partial object only what it has is copied.
        What loaded relationships show is merged too, where their cascade has ``merge``, as by default.
        Flushes first, as a query does, and raises what `flush` raises;
        `StaleDocumentError` where the given object has another version than the document.
        """
        return (await self._states.merge((instance,), "merge()"))[0]

    @alone
    async def merge_all(self, instances: Iterable[D]) -> list[D]:
        """`merge` each, with one query for each class."""
        return await self._states.merge(instances, "merge_all()")

    @alone
    async def load(self, instance: D, *fields: Expr[D, Any]) -> None:
        """Read artifact fields of a document, such as ``Movie.trailer``, so that they can be touched.

        Those that were read, or assigned, stay as they are.
        Raises `StatementError` for anything but artifact fields of its class, `SessionError` for what is not in the
        session, `NotLoadedError` where the reference itself is not loaded, and `UntrustedArtifactError`,
        `ArtifactNotFoundError`, `CorruptArtifactError` and `ArtifactError` as reading a component does.
        """
        mapping = self._tracker.check_stored(instance, "load()")
        await self._work.ready()
        parts = artifact_fields(mapping, fields, "load()")
        await self._work.artifacts.load([(instance, part) for part in parts])

    def is_modified(self, instance: Document) -> bool:
        """Whether a flush has something to write of a document; `dirty` may hold some of which it has nothing.

        Raises `SessionError` for what is not in the session.
        """
        self._alone.check("is_modified")
        return self._tracker.is_modified(instance) or any(one is instance for one in related_changes(self._tracker))

    @property
    def new(self) -> list[Document]:
        """The documents to be inserted."""
        self._alone.check("new")
        return list(self._tracker.new.values())

    @property
    def dirty(self) -> list[Document]:
        """The documents that may have to be updated."""
        self._alone.check("dirty")
        changed = [*self._tracker.dirty(), *related_changes(self._tracker)]
        return list({id(instance): instance for instance in changed}.values())

    @property
    def deleted(self) -> list[Document]:
        """The documents to be deleted."""
        self._alone.check("deleted")
        return list(self._tracker.deleted.values())

    def __contains__(self, instance: object) -> bool:
        return isinstance(instance, Document) and instance in self._tracker

    # Reading

    @alone
    async def get(
        self, cls: type[D], key: Any, *, options: Sequence[LoadOnly[D] | Load[D, Any] | Undefer[D]] = ()
    ) -> D | None:
        """The document with this key, or None; `options` are those of a select.

        Raises `MappingError` for what is no class of documents.
        """
        check_options(options, "get()")
        if options:
            with_options: D | None = await self._reading.get_with(class_map(cls), key, options)
            return with_options
        found: D | None = await self._reading.get(class_map(cls), key)
        return found

    async def get_one(
        self, cls: type[D], key: Any, *, options: Sequence[LoadOnly[D] | Load[D, Any] | Undefer[D]] = ()
    ) -> D:
        """The document with this key; `options` are those of a select. Raises `NoResultFound`."""
        found = await self.get(cls, key, options=options)
        if found is None:
            raise NoResultFound(f"there is no {cls.__name__} {short_repr(key)}", document_class=cls, key=key)
        return found

    @overload
    async def execute(self, statement: Rows[R]) -> Result[R]: ...
    @overload
    async def execute(self, statement: WriteStatement[Any]) -> Written: ...
    @overload
    async def execute(self, statement: MergeInto) -> None: ...
    @alone
    async def execute(self, statement: Rows[R] | WriteStatement[Any] | MergeInto) -> Result[R] | Written | None:
        """The rows of a select, or of a statement with ``returning()``; what another statement that writes did.

        Such a statement flushes first, as a query does, and opens the transaction as a flush does;
        `commit` commits it.
        The session's objects show what it changed; those that it deleted are out of the session.
        Raises what `flush` raises; after an error in writing the session must be rolled back.
        """
        if isinstance(statement, (WriteStatement, Returning, MergeInto)):
            done: Result[R] | Written | None = await self._execute_write(statement)
            await self._work.events.of_loads()
            return done
        compiled = await self._reading.compiled(statement)
        rows = cast("list[R]", await self._reading.rows(compiled))  # the statement's type says what its rows hold
        return Result(rows, compiled.names)

    @alone
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

    @alone
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
        found = self._reading.batches(await self._reading.compiled(statement), batch_size)
        async with aclosing(self._alone.batches("stream", found)) as batches:
            async for batch in batches:
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
            found = self._reading.batches(compiled, batch_size)
            async with aclosing(self._alone.batches("stream_scalars", found)) as batches:
                async for batch in batches:
                    for row in batch:
                        yield row[0]
            return
        whole = self._reading.object_batches(compiled, compiled.whole, batch_size)
        async with aclosing(self._alone.batches("stream_scalars", whole)) as groups:
            async for objects in groups:
                for value in objects:
                    yield value

    # Writing

    async def _execute_write(self, statement: object) -> Any:
        self._work.check_usable()
        await self._work.ready()
        writing = AsyncWriting(self._work, self._reading, statement)
        if self.db.capabilities.transactions:
            await writing.ahead()
        await (self._work.before_inserts() if writing.inserts else self._work.autoflush())
        writing.check()
        if isinstance(statement, MergeInto):  # which is no part of a transaction
            return await aio.shielded(writing.run)
        async with self._work.failing():
            if self.db.capabilities.transactions:
                return await writing.run()
            return await aio.shielded(writing.run)  # so that all of it is written

    @alone
    async def bulk_insert(self, instances: Iterable[Document], *, progress: Progress | bool | None = None) -> Written:
        """Insert many new documents, which are not tracked: the session does not know them afterwards.

        Their keys are set, and computed vectors computed.
        Raises `SessionError` for anything but documents, for those that are stored and those that a session holds,
        and what `flush` raises;
        after an error in writing the session must be rolled back.
        """
        objects, kinds = documents_in(instances, "bulk_insert()")
        self._tracker.check_outside(objects, kinds, "bulk_insert()")
        with reporting(progress) as report:
            await self._work.ready()
            await encode_objects(self._work, objects, kinds, report)
            await self._work.before_inserts()
            self._tracker.check_still_outside(objects, kinds, "bulk_insert()")
            async with self._work.failing():
                self._tracker.undo.be_unsure()
                return await insert_objects(self._work, objects, report)

    @alone
    async def flush(self, *, progress: Progress | bool | None = None) -> None:
        """Write what changed into the transaction, without committing it.

        Computed vectors are computed first.
        Everything is checked before anything is written.
        Raises `ValidationError`, `VectorError`, `PredictionError`, `DuplicateKeyError`, `StaleDocumentError`,
        `WriteError`; after an error the session must be rolled back.
        """
        with reporting(progress) as report:
            await self._work.flush(report)

    @alone
    async def commit(self, *, progress: Progress | bool | None = None) -> None:
        """Flush and commit. Raises what `flush` raises, and `WriteError` where the commit fails."""
        with reporting(progress) as report:
            await self._work.commit(report)

    @alone
    async def rollback(self) -> None:
        """Give up what was not committed.

        Objects show what was last loaded or committed; new ones are outside again.
        """
        await self._work.rollback()

    @asynccontextmanager
    async def begin(self) -> AsyncGenerator[Self]:
        """A block that is committed at its end, and rolled back on an exception.

        Raises `SessionError` within another such block, and where something has been flushed already.
        """
        self._alone.check("begin")
        if self._in_block or self._work.server_session is not None:
            raise SessionError("begin() within a unit of work that has begun; commit() or rollback() it first")
        self._in_block = True
        try:
            yield self
            await self.commit()
        except BaseException:
            await self.rollback()
            raise
        finally:
            self._in_block = False


def usable_db(db: object, name: str) -> AsyncDB | Twins:
    """The DB, or what opens its asynchronous twins. Raises `ConfigurationError` for anything else."""
    from superorm._async.db import AsyncDB  # which imports this module

    if isinstance(db, AsyncDB):
        return db
    twins: object = getattr(db, "twins", None)
    if isinstance(twins, Twins):
        return twins
    advice = "; this one was made of given parts or of a client" if type(db).__name__ == "DB" else ""
    raise ConfigurationError(f"{name}() takes the DB that connect_async(...) gives, not {type(db).__name__}{advice}")
