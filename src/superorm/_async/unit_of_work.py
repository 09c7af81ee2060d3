"""A session's unit of work: what it tracks, its transaction, and the writing of what changed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from superorm._io.progress import Progress
from superorm.exc import PendingRollbackError, SuperormError, UnsupportedError
from superorm.schema.vector_spec import VectorSpec
from superorm.unitofwork.computed import needs
from superorm.unitofwork.encode import check_write
from superorm.unitofwork.errors import of_class
from superorm.unitofwork.flush import FlushPlan, plan_flush
from superorm.unitofwork.stale import must_match, stale_documents, stale_error
from superorm.unitofwork.tracking import Tracker
from superorm.unitofwork.writes import Insert

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

    from superorm._async.db import AsyncDB, AsyncParts

__all__ = ["AsyncUnitOfWork"]


class RolledBack(Exception):
    """Ends a transaction's block without committing it."""


class AsyncUnitOfWork:
    """Tracked objects, and the transaction in which they are written."""

    def __init__(self, db: AsyncDB, *, require_transaction: bool) -> None:
        self.db = db
        self.tracker = Tracker()
        self.server_session: AsyncClientSession | None = None
        """The one whose transaction is open."""
        self._require_transaction = require_transaction
        self._stack = AsyncExitStack()
        self._touched: set[VectorSpec] = set()
        self._failed: BaseException | None = None

    async def ready(self) -> AsyncParts:
        """The parts of the DB, which is opened now if need be."""
        return await self.db.open()

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

    async def autoflush(self) -> None:
        """Flush before a query, where that can be undone."""
        self.check_usable()
        await self.ready()
        if self.db.capabilities.transactions:
            await self.flush(None)

    async def flush(self, report: Progress | None) -> None:
        """Write what changed into the transaction."""
        self.check_usable()
        async with self.failing():
            await self._flush(report)

    async def _flush(self, report: Progress | None) -> None:
        tracker = self.tracker
        new, changed = tracker.new_by_class(), tracker.possibly_changed()
        if not new and not changed and not tracker.deleted:
            return
        await self.ready()
        self._check_transactions()
        for mapping in dict.fromkeys([*new, *changed]):
            for need in needs(mapping, new.get(mapping, ()), changed.get(mapping, ())):
                await self.db.vector_models.compute(need, report)
        plan = plan_flush(tracker.work(new, changed))
        if not plan.writes:
            return
        if len(plan.writes) > 1 and not self.db.capabilities.transactions:
            _check(plan)  # the first write could not be undone
        await self.carry_out(plan)
        tracker.flushed(plan)

    async def carry_out(self, plan: FlushPlan) -> None:
        """Write the plan into the transaction, and which vectors it touches."""
        await self.begin([write.collection for write in plan.writes if isinstance(write, Insert)], plan.touched)
        async with self.recorded(plan.touched):
            await self._write(plan)

    def _check_transactions(self) -> None:
        capabilities = self.db.capabilities
        if self._require_transaction and not capabilities.transactions:
            raise UnsupportedError(f"{capabilities.backend} has no transactions, and this session requires them")

    async def begin(self, collections: Iterable[str], specs: Iterable[VectorSpec]) -> None:
        """Open the transaction to write in, where there are any, unless it is open.

        `collections` are those that are inserted into, `specs` the vector indexes that are touched.
        """
        self._check_transactions()
        await self.db.prepare()
        if self.server_session is not None or not self.db.capabilities.transactions:
            return
        await self.db.ensure_collections(collections)
        for spec in specs:  # its index cannot be made once the transaction is open
            await self.db.vectors.ensure(spec)
        backend = self.db.parts.data_backend
        self.server_session = await self._stack.enter_async_context(backend.transaction())

    @asynccontextmanager
    async def recorded(self, touched: Mapping[VectorSpec, Sequence[Any]]) -> AsyncGenerator[None]:
        """Around the writing of documents: records the ``_id`` values whose vectors it touches."""
        if self.server_session is None:
            async with self.db.vectors.recording(touched):
                yield
        else:
            yield
            for record in self.db.vectors.records(touched):
                await self.db.parts.data_backend.write(record, session=self.server_session)
        self._touched |= touched.keys()

    async def _write(self, plan: FlushPlan) -> None:
        backend = self.db.parts.data_backend
        for write in plan.writes:
            try:
                result = await backend.write(write, session=self.server_session)
            except SuperormError as error:
                raise of_class(error, plan.mapping_of(write.collection, error.key)) from error
            if result.matched < must_match(write):
                found = await backend.read(stale_documents(write), session=self.server_session)
                raise stale_error(plan, write, result.matched, found)

    async def commit(self, report: Progress | None) -> None:
        """Flush and commit."""
        await self.flush(report)
        try:
            async with self.failing():
                await self._stack.aclose()  # commits
        finally:
            self.server_session = None
        self.tracker.committed()
        touched, self._touched = self._touched, set()
        if touched:
            self.db.vectors.notify(touched)

    async def rollback(self) -> None:
        """Give up what was not committed."""
        stack, self._stack = self._stack, AsyncExitStack()
        self.server_session = None
        self._touched = set()
        try:
            try:
                raise RolledBack
            except RolledBack as ended:
                await stack.__aexit__(RolledBack, ended, ended.__traceback__)
        finally:
            self.tracker.rolled_back()
            self._failed = None


def _check(plan: FlushPlan) -> None:
    """Raise `ValidationError` where one of the writes cannot be encoded."""
    for write in plan.writes:
        try:
            check_write(write)
        except SuperormError as error:
            raise of_class(error, plan.mapping_of(write.collection, error.key)) from error
