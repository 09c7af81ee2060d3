"""A session's unit of work: what it tracks, its transaction, and the writing of what changed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from superorm._async.alone import AsyncAlone
from superorm._async.events import ROUNDS, AsyncEvents
from superorm._async.query import AsyncQueries
from superorm._async.related import AsyncRelated
from superorm._io import aio
from superorm._io.progress import Progress
from superorm.backends.errors import has_error_label
from superorm.exc import ConfigurationError, PendingRollbackError, SessionError, SuperormError, UnsupportedError
from superorm.protocols.concerns import DEFAULTS, SessionOptions, check_options
from superorm.schema.vector_spec import VectorSpec
from superorm.unitofwork.computed import needs
from superorm.unitofwork.encode import check_write
from superorm.unitofwork.errors import of_class
from superorm.unitofwork.flush import FlushPlan, plan_flush
from superorm.unitofwork.relations import Relations
from superorm.unitofwork.stale import must_match, stale_documents, stale_error
from superorm.unitofwork.tracking import Tracker
from superorm.unitofwork.writes import Insert

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

    from superorm._async.db import AsyncDB, AsyncParts
    from superorm.protocols._async.parts import AsyncDataBackend

__all__ = ["AsyncUnitOfWork"]


_FLUSHES = "flushes"


class RolledBack(Exception):
    """Ends a transaction's block without committing it."""


class AsyncUnitOfWork:
    """Tracked objects, and the transaction in which they are written."""

    def __init__(self, db: AsyncDB, options: SessionOptions, events: AsyncEvents) -> None:
        self.db = db
        self.events = events
        self.tracker = Tracker()
        self.relations = Relations(self.tracker)
        self.related = AsyncRelated(self)
        self.alone = AsyncAlone()
        self.server_session: AsyncClientSession | None = None
        """The one whose transaction is open."""
        self.wrote = False
        """Whether something was written that a rollback does not take back."""
        check_options(options)
        self._require_transaction = options.get("require_transaction", False)
        self._concerns = db.concerns.changed(options)
        if self._require_transaction:
            self._concerns.check_transaction()
        self._backend: AsyncDataBackend | None = None
        self._queries: AsyncQueries | None = None
        self._causal: AsyncClientSession | None = None
        self._lasting = AsyncExitStack()
        self._stack = AsyncExitStack()
        self._touched: set[VectorSpec] = set()
        self._failed: BaseException | None = None
        self._doubtful = False
        """Whether a commit failed that may have taken place."""
        self._doing: str | None = None
        """What is under way, with listeners that may call the session again."""

    async def ready(self) -> AsyncParts:
        """The parts of the DB, which is opened now if need be."""
        parts = await self.db.open()
        if self._backend is None:
            backend, queries = parts.data_backend, self.db.queries
            if self._concerns != DEFAULTS:
                backend = backend.with_concerns(self._concerns)
                queries = AsyncQueries(backend, self.db.vectors, self.db.vector_models)
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

    def check_usable(self) -> None:
        """Raise `PendingRollbackError` after an error in writing."""
        if self._failed is not None:
            raise PendingRollbackError(
                f"an earlier flush, or statement that writes, failed ({type(self._failed).__name__}: {self._failed}); "
                "call rollback() first"
            ) from self._failed

    @asynccontextmanager
    async def failing(self) -> AsyncGenerator[None]:
        """A block of writing: after an error in it, only a rollback is possible."""
        try:
            yield
        except BaseException as error:
            self._failed = error
            raise

    def interrupted(self, error: BaseException) -> None:
        """A call ended early: what a transaction holds of a unit of work may be half of it."""
        if self.server_session is not None and self._failed is None:
            self._failed = error

    async def autoflush(self) -> None:
        """Flush before a query, where that can be undone."""
        self.check_usable()
        await self.ready()
        if self.db.capabilities.transactions and self._doing != _FLUSHES:
            await self.flush(None)

    async def flush(self, report: Progress | None) -> bool:
        """Write what changed into the transaction; whether listeners may have changed something since."""
        self.check_usable()
        if self._doing == _FLUSHES:
            self._check_idle("flush()")
        async with self.failing():
            with self._now(_FLUSHES):
                return await self._flush(report)

    def _check_idle(self, caller: str) -> None:
        if self._doing is not None:
            raise SessionError(f"{caller} cannot be called by a listener while the session {self._doing}")

    @contextmanager
    def _now(self, doing: str) -> Generator[None]:
        before, self._doing = self._doing, doing
        try:
            yield
        finally:
            self._doing = before

    async def _flush(self, report: Progress | None) -> bool:
        tracker = self.tracker
        new = tracker.new_by_class()
        if self.relations.concern(new):
            await self._relate()
            new = tracker.new_by_class()
        changed = tracker.possibly_changed()
        if not new and not changed and not tracker.deleted:
            return False
        await self.ready()
        self._check_transactions()
        if await self.events.before(tracker):
            if self.relations.concern(tracker.new_by_class()):
                await self._relate()
            new, changed = tracker.new_by_class(), tracker.possibly_changed()
        for mapping in dict.fromkeys([*new, *changed]):
            for need in needs(mapping, new.get(mapping, ()), changed.get(mapping, ())):
                await self.db.vector_models.compute(need, report)
        plan = plan_flush(tracker.work(new, changed), transaction=self.db.capabilities.transactions)
        if not plan.writes:
            return False
        tracker.check_free(plan)
        if len(plan.writes) > 1 and not self.db.capabilities.transactions:
            _check(plan)  # the first write could not be undone
        await self.carry_out(plan, tracker)
        return await self.events.after(plan)

    async def _relate(self) -> None:
        """Let keys and relationships agree, add and delete what these say."""
        self.relations.synchronize()
        if self.tracker.deleted:
            await self.ready()
            await self.related.cascade_deletes()
        self.relations.settle()

    async def carry_out(self, plan: FlushPlan, tracker: Tracker | None = None) -> None:
        """Write the plan into the transaction, and which vectors it touches; then tell the tracker.

        Without transactions a cancellation does not cut this off, so that all of it is written.
        """
        await self._begin([write.collection for write in plan.writes if isinstance(write, Insert)], plan.touched)
        if self.server_session is not None:
            await self._carry_out(plan, tracker)
        else:
            await aio.shielded(self._carry_out, plan, tracker)

    async def _carry_out(self, plan: FlushPlan, tracker: Tracker | None) -> None:
        async with self.recorded(plan.touched):
            await self._write(plan)
        if tracker is not None:
            tracker.flushed(plan)

    def _check_transactions(self) -> None:
        capabilities = self.db.capabilities
        if self._require_transaction and not capabilities.transactions:
            raise UnsupportedError(f"{capabilities.backend} has no transactions, and this session requires them")

    async def begin(self, collections: Iterable[str], specs: Iterable[VectorSpec]) -> None:
        """Open the transaction to write in, where there are any, unless it is open.

        `collections` are those that are inserted into, `specs` the vector indexes that are touched.
        Raises `ConfigurationError` where the session's concerns are not those of a transaction.
        """
        await self._begin(collections, specs)
        self.wrote = self.wrote or self.server_session is None

    async def _begin(self, collections: Iterable[str], specs: Iterable[VectorSpec]) -> None:
        await self.ready()
        self._check_transactions()
        specs = list(specs)
        if self.db.capabilities.transactions:
            self._concerns.check_transaction()
        self.check_vectors(specs)
        await self.db.prepare()
        if self.server_session is not None or not self.db.capabilities.transactions:
            return
        await self.db.ensure_collections(collections)
        for spec in specs:  # its index cannot be made once the transaction is open
            await self.db.vectors.ensure(spec)
        self.server_session = await self._stack.enter_async_context(self.backend.transaction(self._causal))

    def check_vectors(self, specs: Sequence[VectorSpec]) -> None:
        """Raise `ConfigurationError` where vectors would be written with less than the majority."""
        if specs and self.db.capabilities.transactions and not self._concerns.majority:
            raise ConfigurationError(
                f"vectors of {specs[0].collection} are written with the write concern 'majority', "
                f"and this session has {self._concerns.writes!r}: searches would miss what it writes"
            )

    @asynccontextmanager
    async def recorded(self, touched: Mapping[VectorSpec, Sequence[Any]]) -> AsyncGenerator[None]:
        """Around the writing of documents: records the ``_id`` values whose vectors it touches."""
        if self.server_session is None:
            async with self.db.vectors.recording(touched):
                yield
        else:
            yield
            for record in self.db.vectors.records(touched):
                await self.backend.write(record, session=self.server_session)
        self._touched |= touched.keys()

    async def _write(self, plan: FlushPlan) -> None:
        backend = self.backend
        for write in plan.writes:
            wrote = self.wrote
            self.wrote = wrote or self.server_session is None  # as far as is known until the answer
            try:
                result = await backend.write(write, session=self.server_session)
            except SuperormError as error:
                raise of_class(error, plan.mapping_of(write.collection, error.key)) from error
            if not result.matched:
                self.wrote = wrote
            if result.matched < must_match(write):
                found = await backend.read(stale_documents(write), session=self.server_session)
                raise stale_error(plan, write, result.matched, found)

    async def commit(self, report: Progress | None) -> None:
        """Flush and commit."""
        self._check_idle("commit()")
        self.check_usable()
        with self._now("commits"):
            await self._flush_and_commit(report)

    async def _flush_and_commit(self, report: Progress | None) -> None:
        async with self.failing():
            await self.events.of_session("before_commit")
        for _ in range(ROUNDS):
            if not await self.flush(report):
                break
        else:
            raise SessionError(f"listeners led to further changes in {ROUNDS} flushes, one after the other")
        async with self.failing():
            if self.server_session is None:
                self._committed()
            else:
                await aio.shielded(self._commit)
        await self.events.of_session("after_commit")

    async def _commit(self) -> None:
        try:
            await self._stack.aclose()  # commits
        except BaseException as error:
            self._doubtful = not has_error_label(error, "TransientTransactionError")
            self.wrote = self.wrote or self._doubtful
            raise
        finally:
            self.server_session = None
        self.wrote = True
        self._committed()

    def _committed(self) -> None:
        self.tracker.committed()
        self.relations.committed()
        touched, self._touched = self._touched, set()
        if touched:
            self.db.vectors.notify(touched)

    async def rollback(self) -> None:
        """Give up what was not committed; a cancellation does not cut it off."""
        self._check_idle("rollback()")
        with self._now("rolls back"):
            if self.server_session is not None:
                await aio.shielded(self._abort)
            else:
                self._rolled_back()
            await self.events.of_session("after_rollback")

    async def _abort(self) -> None:
        stack, self._stack = self._stack, AsyncExitStack()
        self.server_session = None
        try:
            await stack.__aexit__(RolledBack, RolledBack(), None)
        finally:
            self._rolled_back()

    def _rolled_back(self) -> None:
        self._touched = set()
        self.tracker.rolled_back(doubtful=self._doubtful)
        self.relations.rolled_back()
        self._failed = None
        self._doubtful = False

    async def close(self) -> None:
        """Roll back, forget all objects, and let go of the server session."""
        self._check_idle("close()")
        try:
            if self.server_session is not None or self._failed is not None:
                await self.rollback()
            else:
                self._rolled_back()
        finally:
            self.tracker.clear()
            self._backend = self._queries = self._causal = None
            await self._lasting.aclose()


def _check(plan: FlushPlan) -> None:
    """Raise `ValidationError` where one of the writes cannot be encoded."""
    for write in plan.writes:
        try:
            check_write(write)
        except SuperormError as error:
            raise of_class(error, plan.mapping_of(write.collection, error.key)) from error
