"""Where a session reads and writes: the documents with its concerns, and the transaction that is open."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from superorm._async.query import AsyncQueries
from superorm._async.vector_ahead import AsyncAhead, beside
from superorm.backends.errors import has_error_label
from superorm.exc import ConfigurationError, SessionError, UnsupportedError
from superorm.protocols.capabilities import Capabilities
from superorm.protocols.concerns import DEFAULTS, SessionOptions, check_options
from superorm.schema.listened import ListenerPath
from superorm.schema.vector_spec import VectorPath, VectorSpec
from superorm.unitofwork.writes import Insert, Write
from superorm.vectors.handing import Handed

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

    from superorm._async.db import AsyncDB, AsyncParts
    from superorm.protocols._async.parts import AsyncDataBackend

__all__ = ["AsyncTransaction"]


class RolledBack(Exception):
    """Ends a transaction's block without committing it."""


class AsyncTransaction:
    """One transaction after another, each from the first write to its commit; none where the backend has none."""

    def __init__(self, db: AsyncDB, options: SessionOptions) -> None:
        self.db = db
        self.server_session: AsyncClientSession | None = None
        """The one whose transaction is open."""
        self.began = 0.0
        """When it was begun (seconds, monotonic): it sees all that was committed before."""
        self.wrote = False
        """Whether something was written that a rollback does not take back."""
        self.doubtful = False
        """Whether a commit failed that may have taken place."""
        self.committing = False
        """Whether what is written now is committed at once."""
        self.closings = 0
        """How often the session was closed."""
        check_options(options)
        self.requires_transaction = options.get("require_transaction", False)
        self._concerns = db.concerns.changed(options)
        if self.requires_transaction:
            self._concerns.check_transaction()
        self._backend: AsyncDataBackend | None = None
        self._queries: AsyncQueries | None = None
        self._causal: AsyncClientSession | None = None
        self._lasting = AsyncExitStack()
        self._stack = AsyncExitStack()
        self._touched: set[VectorSpec] = set()
        self._handed: list[tuple[VectorSpec, Handed]] = []
        self._ahead: AsyncAhead | None = None
        """What is written to a vector engine's tables while the transaction is."""
        self._heard: set[ListenerPath] = set()

    async def ready(self) -> AsyncParts:
        """The parts of the DB, which is opened now if need be."""
        parts = await self.db.open()
        if self._backend is None:
            self.check_transactions(self.db.capabilities)
            backend, queries = parts.data_backend, self.db.queries
            if self._concerns != DEFAULTS:
                backend = backend.with_concerns(self._concerns)
                queries = AsyncQueries(backend, self.db.vectors, self.db.vector_models, self.db.listeners)
            if self._concerns.causal_consistency and self.db.capabilities.transactions:
                self._causal = await self._lasting.enter_async_context(backend.causal())
            self._backend, self._queries = backend, queries
        return parts

    @property
    def backend(self) -> AsyncDataBackend:
        """The documents, read and written with the session's concerns; once `ready`."""
        assert self._backend is not None
        return self._backend

    @property
    def queries(self) -> AsyncQueries:
        """What runs selects with the session's concerns; once `ready`."""
        assert self._queries is not None
        return self._queries

    @property
    def read_session(self) -> AsyncClientSession | None:
        """The server session to read with: that of the open transaction, else the causally consistent one, if any."""
        return self.server_session or self._causal

    def check_transactions(self, capabilities: Capabilities) -> None:
        """Raise `UnsupportedError` where the session requires transactions, and there are none."""
        if self.requires_transaction and not capabilities.transactions:
            raise UnsupportedError(
                f"{capabilities.backend} has no transactions here, and this session requires them; connect to a "
                "replica set, or leave out require_transaction"
            )

    async def begin(self, collections: Iterable[str], specs: Iterable[VectorPath]) -> None:
        """Open the transaction to write in, where there are any, unless it is open.

        `collections` are those that are inserted into, `specs` the vector indexes that are touched.
        Raises `ConfigurationError` where the session's concerns are not those of a transaction.
        """
        await self.open(collections, specs)
        self.wrote = self.wrote or self.server_session is None

    async def open(self, collections: Iterable[str], specs: Iterable[VectorPath]) -> None:
        """The same, for writing that notes itself what a rollback does not take back."""
        await self.ready()
        self.check_writing()
        known = [spec for spec in specs if isinstance(spec, VectorSpec)]
        self.check_vectors(known)
        await self.db.prepare()
        if self.server_session is not None or not self.db.capabilities.transactions:
            return
        await self.db.ensure_collections(collections)
        for spec in known:  # its index cannot be made once the transaction is open
            await self.db.vectors.ensure(spec)
        self.began = time.monotonic()
        self.server_session = await self._stack.enter_async_context(self.backend.transaction(self._causal))

    def check_writing(self) -> None:
        """Raise `ConfigurationError` where the session cannot write."""
        if self.db.capabilities.transactions:
            self._concerns.check_transaction()

    def check_vectors(self, specs: Sequence[VectorSpec]) -> None:
        """Raise `ConfigurationError` where vectors would be written with less than the majority."""
        if specs and self.db.capabilities.transactions and not self._concerns.majority:
            raise ConfigurationError(
                f"vectors of {specs[0].collection} are written with the write concern 'majority', "
                f"and this session has {self._concerns.writes!r}: searches would miss what it writes"
            )

    @asynccontextmanager
    async def recorded(
        self,
        touched: Mapping[VectorPath, Sequence[Any]],
        writes: Sequence[Write] = (),
    ) -> AsyncGenerator[None]:
        """Around the writing of documents: records the ``_id`` values whose vectors it touches.

        What the `writes` insert need not be read again.
        """
        specs = [spec for spec in touched if isinstance(spec, VectorSpec)]
        if self.server_session is None:
            async with self.db.vectors.recording(touched):
                yield
        else:
            records = self.db.vectors.records(touched)
            handed = self.db.vectors.handing(specs, records, writes)
            if self.committing and self._ahead is None:
                self._ahead = self.db.vectors.ahead([*self._handed, *handed])
            yield
            await self.write_records(records)
            self._handed += handed
        self._touched.update(specs)
        self.hear(touched)

    def hear(self, touched: Iterable[VectorPath]) -> None:
        """Note whose listeners' outputs are to be computed after the commit."""
        self._heard.update(path for path in touched if isinstance(path, ListenerPath))

    async def follow(self) -> None:
        """Compute the outputs of listeners to what was committed."""
        heard, self._heard = self._heard, set()
        if heard:
            await self.db.listeners.follow(heard)

    async def write_records(self, records: Sequence[Insert]) -> None:
        """Write the records of vectors into the transaction."""
        for record in records:
            await self.backend.write(record, session=self.server_session)

    async def end(self) -> None:
        """Commit what is open. Raises `SessionError` where it was ended by something else."""
        if self.server_session is not None and not self.server_session.in_transaction:
            raise SessionError(
                "the transaction has ended without a commit, with the event loop or the DB that it was begun in; "
                "nothing of it is stored: write again in a new session"
            )
        await self.db.open()  # in the right event loop
        try:
            async with beside(self._ahead or self.db.vectors.ahead(self._handed)):
                await self._stack.aclose()  # commits
        except BaseException as error:
            self.doubtful = not has_error_label(error, "TransientTransactionError")
            self.wrote = self.wrote or self.doubtful
            raise
        finally:
            self.server_session = None
            self._ahead = None
        self.wrote = True

    def notify(self) -> None:
        """Say which vectors were touched by what was committed."""
        touched, self._touched = self._touched, set()
        handed, self._handed = self._handed, []
        if touched:
            self.db.vectors.notify(touched, handed)

    async def abort(self) -> None:
        """Give up what is open."""
        stack, self._stack = self._stack, AsyncExitStack()
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.ended.set()
        self.server_session = None
        await stack.__aexit__(RolledBack, RolledBack(), None)

    def forget(self) -> None:
        """Nothing was touched since the last commit, and no commit is in doubt."""
        self._touched = set()
        self._handed = []
        self._heard = set()
        self.doubtful = False

    async def let_go(self) -> None:
        """Let go of the server session, and of the DB's parts."""
        self.closings += 1
        self._backend = self._queries = self._causal = None
        await self._lasting.aclose()
