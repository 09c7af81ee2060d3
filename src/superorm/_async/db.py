"""A DB: the four parts, and what is done with them outside a session."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar, Unpack

from attrs import evolve, frozen
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from superorm._async import retrying
from superorm._async.blobs import AsyncBlobs
from superorm._async.checks import check
from superorm._async.component_adding import AsyncAdding
from superorm._async.component_removal import AsyncRemoving
from superorm._async.components import AsyncComponents
from superorm._async.create import create_all
from superorm._async.fitting import AsyncFitting
from superorm._async.listener_adding import AsyncListenerAdding
from superorm._async.listener_checks import AsyncListenerChecks
from superorm._async.listeners import AsyncListeners
from superorm._async.query import AsyncQueries
from superorm._async.registry import AsyncRegistry
from superorm._async.session import AsyncSession
from superorm._async.vector_indexes import AsyncVectorIndexes
from superorm._async.vector_models import AsyncVectorModels
from superorm._io import aio
from superorm._io.progress import Progress, check_progress, reporting
from superorm._io.twins import Twins
from superorm.artifacts.signing import Keyring, Trust
from superorm.compile.compiler import CompiledSelect, compile_select, path_of
from superorm.config import load_settings, signing_keys
from superorm.exc import ConfigurationError, StatementError
from superorm.expr.kinds import is_field, is_select
from superorm.expr.nodes import Expr
from superorm.expr.statements import Select
from superorm.protocols._async.parts import AsyncArtifactStore, AsyncDataBackend, AsyncMetaDataStore
from superorm.protocols.capabilities import Capabilities
from superorm.protocols.concerns import DEFAULTS, Concerns, Preference, SessionOptions
from superorm.protocols.reports import CheckReport, CreateReport, Explanation, GcReport
from superorm.schema.mapping import class_map
from superorm.schema.vector_fields import VectorField
from superorm.unitofwork.arguments import check_select, no_statement
from superorm.unitofwork.uncopied import Uncopied
from superorm.vectors.records import COLLECTION, INDEXES

if TYPE_CHECKING:
    from superorm.vectors._async.protocol import AsyncVectorDatabase

__all__ = ["AsyncDB", "AsyncParts"]


T = TypeVar("T")

SigningKeys: TypeAlias = Sequence[bytes] | Callable[[], Sequence[bytes]]


def _configured_keys() -> Sequence[bytes]:
    return signing_keys(load_settings())


@frozen
class AsyncParts:
    """The four parts of a DB, and what else is closed with it, in order."""

    data_backend: AsyncDataBackend
    metadata: AsyncMetaDataStore
    artifact_store: AsyncArtifactStore
    vector_database: AsyncVectorDatabase
    closers: Sequence[Callable[[], Awaitable[None]]] = ()


async def _capabilities(parts: AsyncParts) -> Capabilities:
    """What the backend can do, less what the metadata's place makes impossible."""
    capabilities = await parts.data_backend.capabilities()
    shared = parts.metadata.shares_transactions_with(parts.data_backend)
    return evolve(
        capabilities,
        shared_metadata_transaction=capabilities.transactions and shared,
        search_index_lag=parts.vector_database.lag,
    )


class AsyncDB(AsyncRegistry, Uncopied):
    """Documents, artifacts, vectors and models behind four replaceable parts.

    `trust` says which stored code may be loaded: ``"signed"`` by one of the signing keys, ``"all"`` or ``"none"``.
    `signing_keys` are bytes: the first signs, all verify.
    Without any, the configuration's are used, or a key of the user's own that is made at first use.
    `progress` is told how far it is where a search, or `create_all`, has to load all vectors before:
    called with how much is done, how much there is, and what is done; True shows a bar, with tqdm installed.
    The other options are for sessions that do not say otherwise, as `AsyncSession` describes them.
    It can be neither copied nor pickled, since its connections belong to one process.
    """

    _instead = "its connections are its own: connect_async(...) anew, in another process too"

    twins: Twins | None = None
    """What opens the asynchronous twins of a DB that was made from a URL."""

    def __init__(
        self,
        data_backend: AsyncDataBackend,
        metadata: AsyncMetaDataStore,
        artifact_store: AsyncArtifactStore,
        vector_database: AsyncVectorDatabase,
        *,
        trust: Trust = "signed",
        signing_keys: SigningKeys = _configured_keys,
        read_concern: ReadConcern | None = None,
        write_concern: WriteConcern | None = None,
        read_preference: Preference | None = None,
        causal_consistency: bool | None = None,
        max_commit_time_ms: int | None = None,
        progress: Progress | bool | None = None,
    ) -> None:
        concerns = Concerns(
            read_concern=read_concern,
            write_concern=write_concern,
            read_preference=read_preference,
            causal_consistency=causal_consistency,
            max_commit_time_ms=max_commit_time_ms,
        )
        self._set_up(trust, signing_keys, concerns, progress)
        self._use(AsyncParts(data_backend, metadata, artifact_store, vector_database))

    def _set_up(
        self, trust: Trust, signing_keys: SigningKeys, concerns: Concerns, progress: Progress | bool | None
    ) -> None:
        check_progress(progress)
        self._progress = progress
        self.concerns = concerns
        self._signing_keys = signing_keys
        self._trust: Trust = trust
        self._parts: AsyncParts | None = None
        self._capabilities: Capabilities | None = None
        self._opener: Callable[[], Awaitable[AsyncParts]] | None = None
        self._lock = aio.Lock()
        self._prepared = False
        self._collections: set[str] = set()
        self._closed = False
        self._home: Any = None
        """The event loop that the DB was opened in, where its connections work in no other one."""

    @classmethod
    def deferred(
        cls,
        opener: Callable[[], Awaitable[AsyncParts]],
        *,
        trust: Trust = "signed",
        signing_keys: SigningKeys = _configured_keys,
        concerns: Concerns = DEFAULTS,
        progress: Progress | bool | None = None,
    ) -> Self:
        """A DB whose parts are made at its first use."""
        db = cls.__new__(cls)
        db._set_up(trust, signing_keys, concerns, progress)
        db._opener = opener
        return db

    def _use(self, parts: AsyncParts) -> None:
        self._parts = parts
        self.blobs = AsyncBlobs(parts.metadata, parts.artifact_store, self._keyring, self._trust)
        self.components = AsyncComponents(parts.metadata, self.blobs)
        self._removal = AsyncRemoving(parts.data_backend, parts.metadata, self.blobs, self.components)
        self.vectors = AsyncVectorIndexes(parts.data_backend, parts.vector_database, self._progress)
        self.vector_models = AsyncVectorModels(parts.data_backend, self.components)
        self.listeners = AsyncListeners(parts.data_backend, self.components, self.vectors)
        self.queries = AsyncQueries(parts.data_backend, self.vectors, self.vector_models, self.listeners)
        fitting = AsyncFitting(parts.data_backend, self.queries, self.compiled)
        self._adding = AsyncAdding(parts.metadata, self.blobs, self.components, self._snapshot, fitting)
        self._checks = AsyncListenerChecks(self.components, self.vectors, self.listeners)
        self._listening = AsyncListenerAdding(self.components, self._adding, self._removal, self.listeners)

    def _keyring(self) -> Keyring:
        """The signing keys, which are read only when something is signed or verified."""
        keys = self._signing_keys
        return Keyring(tuple(keys() if callable(keys) else keys))

    async def open(self) -> AsyncParts:
        """The parts, made now if need be. Raises `ConfigurationError` once closed, and in a wrong event loop."""
        if self._closed:
            raise ConfigurationError("this DB is closed; connect again")
        if self._home is not None and self._home is not aio.here():
            raise ConfigurationError(
                "this AsyncDB works only in the event loop that it was first used in; call connect_async(...) in each, "
                "or give the DB of connect(url) to AsyncSession, which connects in each event loop by itself"
            )
        if self._capabilities is None:
            async with self._lock:
                if self._closed:
                    raise ConfigurationError("this DB is closed; connect again")
                if self._parts is None:
                    assert self._opener is not None
                    self._use(await self._opener())
                await self.vectors.open()
                self._capabilities = await _capabilities(self.parts)
                if self._capabilities.one_event_loop:
                    self._home = aio.here()
        return self.parts

    @property
    def parts(self) -> AsyncParts:
        """The parts. Raises `ConfigurationError` before the DB's first use."""
        if self._parts is None:
            raise ConfigurationError("this DB has not been opened; await db.open() first")
        return self._parts

    async def prepare(self) -> None:
        """Make superorm's own collections and indexes, once."""
        parts = await self.open()
        if not self._prepared:
            for name in (COLLECTION, INDEXES):
                await parts.data_backend.create_collection(name)
            await self.vector_models.announcements.prepare()
            await self.components.prepare()
            self._prepared = True

    async def ensure_collections(self, names: Iterable[str]) -> None:
        """Make the collections, once each: transactions that first insert into one at the same time would conflict."""
        for name in set(names) - self._collections:
            await self.parts.data_backend.create_collection(name)
            self._collections.add(name)

    def __repr__(self) -> str:
        if self._parts is None:
            return f"<{type(self).__name__}, {'closed' if self._closed else 'not opened yet'}>"
        parts = self._parts
        return (
            f"<{type(self).__name__} documents={parts.data_backend!r} metadata={parts.metadata!r} "
            f"artifacts={parts.artifact_store!r} vectors={parts.vector_database!r}>"
        )

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Bring the vector database up to date and let go of the parts, in the event loop that they belong to.

        A cancellation in another event loop takes effect at once; where that one is running, the closing goes on there.

        Raises `ConfigurationError` where another thread runs that event loop, and it is blocked.
        """
        await aio.in_loop(self._home, self._close, "AsyncDB.close()")

    async def _close(self) -> None:
        async with self._lock:  # after an opening under way
            before, self._closed = self._closed, True
        async with AsyncExitStack() as stack:  # each is closed, whatever the ones before it raise
            if self._parts is not None and not before:
                parts = self._parts
                for closer in reversed(parts.closers):
                    stack.push_async_callback(closer)
                stored = (parts.data_backend, parts.metadata, parts.artifact_store, parts.vector_database)
                for part in (*stored, self.vectors):
                    stack.push_async_callback(part.close)
            if self.twins is not None:
                stack.callback(self.twins.close)

    @property
    def is_open(self) -> bool:
        """Whether the DB was used, so that its `capabilities` are known, and not closed since."""
        return self._capabilities is not None and not self._closed

    @property
    def capabilities(self) -> Capabilities:
        """What the parts together can do. Raises `ConfigurationError` before the DB's first use."""
        if self._capabilities is None:
            raise ConfigurationError("this DB has not been opened; await db.open() first")
        return self._capabilities

    # Documents

    def session(self, **options: Unpack[SessionOptions]) -> AsyncSession:
        """A new session. Raises `ConfigurationError` for options that cannot be, `UnsupportedError` as that does."""
        return AsyncSession(self, **options)

    @asynccontextmanager
    async def begin(self, **options: Unpack[SessionOptions]) -> AsyncGenerator[AsyncSession]:
        """A session that commits at the end of the block and rolls back on an exception."""
        async with self.session(**options) as session, session.begin():
            yield session

    async def run(
        self,
        function: Callable[[AsyncSession], Awaitable[T]],
        attempts: int = 5,
        **options: Unpack[SessionOptions],
    ) -> T:
        """What the function gives for a new session, which is then committed.

        All of it is done again, after a short pause and with another session, where it met a write conflict, a change
        of the primary or another error with the label ``TransientTransactionError``, or a `StaleDocumentError`.
        That is for two minutes at most, and only where nothing had been committed, or written without a transaction;
        the function should have no other effects, and takes what it changes from its session.
        The last error is raised, with a note of how many attempts were made.
        """
        return await retrying.run(self, function, attempts, options)

    async def create_all(self, *classes: type) -> CreateReport:
        """Make collections, indexes and vector indexes for the classes; without arguments for all that are declared.

        Idempotent; what differs is reported and left as it is.
        """
        await self.prepare()
        return await create_all(self.parts.data_backend, self.vectors, classes)

    def compiled(self, statement: object) -> CompiledSelect:
        """A select as this DB's backend runs it. Raises `StatementError`, `UnsupportedError`."""
        if not is_select(statement):
            raise no_statement(statement)
        capabilities = self.capabilities
        unsupported = capabilities.unsupported_stages | capabilities.unsupported_operators
        return compile_select(statement, unsupported, capabilities.backend)

    async def explain(self, statement: Select[Any, Any]) -> Explanation:
        """How a select runs. A vector search is run for it. Raises `StatementError` for any other statement."""
        check_select(statement, "explain()")
        await self.open()
        return await self.queries.explain(self.compiled(statement))

    # Checks and repairs

    async def check(self, *classes: type) -> CheckReport:
        """Compare references with blobs, blobs with hashes, vectors and outputs with documents, indexes with classes.

        Without arguments all declared classes whose collections exist are checked.
        """
        await self.prepare()
        return await check(self.parts.data_backend, self.components, self.blobs, self.vectors, self._checks, classes)

    async def gc(self, grace: timedelta = timedelta(hours=1)) -> GcReport:
        """Remove blobs that nothing has referred to for the grace period; what was removed.

        It may run beside anything else, and be interrupted: the next one goes on.
        The period begins, by the server's clock, when a component is removed or replaced, or by a session a document's
        artifact, when an upload begins, and for blobs whose owner went in another way when `gc` first meets them.
        It should be longer than loading a component takes; without transactions, longer than any commit too.
        Where the artifact store is shared, only this DB's own blobs are touched.
        Raises `ConfigurationError` for a period below zero, and `ArtifactError` where the store fails.
        """
        given: object = grace
        if not isinstance(given, timedelta) or given < timedelta(0):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"gc() takes a grace period such as timedelta(hours=1), not {grace!r}")
        await self.prepare()
        await self.listeners.sweep()
        return GcReport(await self.blobs.collect(grace))

    async def rebuild(
        self, on: Expr[Any, Any] | str, *, reencode: bool = False, progress: Progress | bool | None = None
    ) -> None:
        """Build a vector index anew from the documents' vectors; with `reencode` from their sources.

        That takes the newest version of the field's model, which searches and writes keep from then on;
        until one small transaction switches to all new vectors at once, they keep the old one.
        The vectors are moved into the documents after it, and searches find them where they are.
        After an interruption another call goes on where the first one ended.
        Without transactions the vectors are put in place one after the other.

        The name of a `VectorIndex` stands for that: it is built anew from the listener's outputs as they are stored,
        which are computed first where that is recorded. They are never encoded anew: add the listener again for that.
        The name of a `Listener` stands for its outputs: those are computed that are missing, damaged by another
        program, or of other sources, in all versions.

        Raises `StatementError` for anything else, and to encode anew one that no model computes;
        `ComponentNotFoundError`, `PredictionError`, `VectorError`, and `BackendError` where others write too much.
        """
        if isinstance(on, str):
            if reencode:
                raise StatementError(
                    f"rebuild({on!r}): the vectors are outputs of a listener, which keeps the version of its model; "
                    "add the listener anew after a new version of the model, and then the index"
                )
            await self.prepare()
            with reporting(progress) as report:
                await self._checks.rebuild(on, report)
            return
        field = _vector_field(on)
        await self.prepare()
        with reporting(progress) as report:
            if reencode:
                from superorm._async.vector_reencode import AsyncReencoding

                reencoding = AsyncReencoding(self.parts.data_backend, self.vectors, self.vector_models, field)
                await reencoding.run(report)
            else:
                await self.vectors.rebuild(field.spec, report)


def _vector_field(on: Expr[Any, Any]) -> VectorField:
    owner = on._owner if is_field(on) else None  # pyright: ignore[reportPrivateUsage]
    if is_field(on) and isinstance(owner, type):
        for field in class_map(owner).vectors:
            if field.spec.path == path_of(on):
                return field
    raise StatementError(
        f"rebuild() takes a vector field such as Movie.embedding, or the name of a vector index or listener, not {on!r}"
    )
