"""A session's unit of work: what it tracks, its transaction, and the writing of what changed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterable, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from pymongo.errors import PyMongoError

from superorm._async.alone import AsyncAlone
from superorm._async.artifact_fields import AsyncArtifactFields
from superorm._async.events import ROUNDS, AsyncEvents, Pending
from superorm._async.recomputing import computed_of, recompute_outdated, refresh
from superorm._async.related import AsyncRelated
from superorm._async.transaction import AsyncTransaction
from superorm._async.vector_fences import passing
from superorm._io import aio
from superorm._io.progress import Progress
from superorm.artifacts.fields import Loaded, loaded, released
from superorm.backends.errors import has_error_label
from superorm.exc import PendingRollbackError, SessionError, SuperormError
from superorm.protocols.concerns import SessionOptions
from superorm.schema.mapping import ClassMap
from superorm.schema.vector_fields import vector_fields
from superorm.schema.vector_spec import VectorPath, VectorSpec
from superorm.unitofwork.cascades import Cascades
from superorm.unitofwork.computed import needs
from superorm.unitofwork.encode import check_write
from superorm.unitofwork.encoded import Encoded
from superorm.unitofwork.errors import of_class
from superorm.unitofwork.flush import FlushPlan, plan_flush
from superorm.unitofwork.link_history import LinkHistory
from superorm.unitofwork.relations import concern, synchronize
from superorm.unitofwork.stale import must_match, stale_documents, stale_error
from superorm.unitofwork.tracking import Tracker
from superorm.unitofwork.writes import Insert, Update, UpdateOp
from superorm.vectors.records import COLLECTION

if TYPE_CHECKING:
    from superorm._async.db import AsyncDB

__all__ = ["AsyncUnitOfWork"]


_FLUSHES = "flushes"


class _Superseded(Exception):
    """What a transaction holds is of a version that is not in use any more, or not for long; nothing else is in it."""


class AsyncUnitOfWork(AsyncTransaction):
    """Tracked objects, and the transaction in which they are written."""

    def __init__(self, db: AsyncDB, options: SessionOptions, events: AsyncEvents) -> None:
        super().__init__(db, options)
        self.events = events
        self.tracker = Tracker()
        self.history = LinkHistory(self.tracker)
        self.cascades = Cascades(self.tracker, self.history)
        self.related = AsyncRelated(self)
        self.alone = AsyncAlone(self)
        self.encoded = Encoded()
        self.artifacts = AsyncArtifactFields(self)
        self.tracker.read_artifact = aio.at_touch(self.artifacts.read)
        self._failed: BaseException | None = None
        self._doing: str | None = None
        """What is under way, with listeners that may call the session again."""
        self._rolling_back = False
        self._unlooked = False
        """Whether a flush can be begun again, with other versions of models than those that it took for granted."""

    def check_usable(self) -> None:
        """Raise `PendingRollbackError` after an error in writing, or one of the server in a transaction."""
        if self._failed is not None:
            raise PendingRollbackError(
                f"an earlier flush or statement failed ({type(self._failed).__name__}: {self._failed}); "
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
        """A call ended early, so that a transaction may hold half of a unit of work, or the server ended that."""
        self.events.loads.failed(self.tracker)
        ended = not isinstance(error, Exception) or _of_server(error)
        if ended and self.server_session is not None and self._failed is None:
            self._failed = error

    async def abandoned(self, error: SessionError) -> None:
        """`close` was refused during the call that ends now: give up what that leaves open, and commit none of it."""
        if self.server_session is not None:
            self._failed = self._failed or error
            await aio.shielded(self.abort)

    async def autoflush(self) -> None:
        """Flush before a query, where that can be undone."""
        self.check_usable()
        await self.ready()
        if self.db.capabilities.transactions and self._doing != _FLUSHES:
            await self.flush(None)

    async def before_inserts(self) -> None:
        """`autoflush`; where that does nothing, what the next flush inserts is at least known to be new."""
        await self.autoflush()
        if not self.db.capabilities.transactions:
            await self._look()
            self.artifacts.changes.clear()

    def has_changes(self) -> bool:
        """Whether there may be something to flush."""
        tracker = self.tracker
        if tracker.new or tracker.deleted or loaded(tracker.with_artifacts()):
            return True
        return any(tracker.possibly_changed().values())

    async def flush(self, report: Progress | None) -> bool:
        """Write what changed into the transaction; whether listeners may have changed something since."""
        self.check_usable()
        if self._doing == _FLUSHES:
            self._check_idle("flush()")
        async with self.failing():
            with self._now(_FLUSHES):
                try:
                    return await self._flush(report)
                finally:
                    self.artifacts.changes.clear()

    def _check_idle(self, caller: str) -> None:
        doing = self._doing or ("loads" if self.events.loading else None)
        if doing is not None:
            raise SessionError(f"{caller} cannot be called by a listener while the session {doing}")

    @contextmanager
    def _now(self, doing: str) -> Generator[None]:
        before, self._doing = self._doing, doing
        try:
            yield
        finally:
            self._doing = before

    async def _flush(self, report: Progress | None) -> bool:
        tracker = self.tracker
        pending = await self._look()
        if not any(pending) and not tracker.deleted:
            return False
        await self.ready()
        new, changed = await self.events.before(tracker, pending, self._look, self.artifacts.changes.is_changed)
        computed = [
            need
            for mapping in dict.fromkeys([*new, *changed])
            for need in needs(mapping, new.get(mapping, ()), changed.get(mapping, ()))
        ]
        transactions, begins = self.db.capabilities.transactions, self.server_session is None
        for unlooked in (transactions and begins, False):
            if computed:
                compute = self.db.vector_models.compute
                await compute(computed, self.encoded, report, wait=begins, unlooked=unlooked)
            with self.artifacts.changes.known():
                works = tracker.work(new, changed)
            await self.artifacts.store(works)
            others = await self.others(work.mapping for work in works)
            plan = plan_flush(works, transaction=transactions, others=others)
            if not plan.writes:
                return False
            tracker.check_free(plan)
            if len(plan.writes) > 1 and not transactions:
                _check(plan)  # the first write could not be undone
            self._unlooked = unlooked
            try:
                await self.carry_out(plan, tracker)
                break
            except _Superseded:
                await aio.shielded(self.abort)
                self.forget()
                self.encoded.ended(committed=False)
                self.encoded.fences.clear()  # these may have gone too
                self.encoded.made = {}
                self.artifacts.aborted()
            finally:
                self._unlooked = False
        return await self.events.after(plan)

    async def _look(self) -> Pending:
        """What there is to flush, once keys and relationships agree, and what these say was added and deleted."""
        tracker, changes = self.tracker, self.artifacts.changes
        await changes.look(loaded(tracker.with_artifacts()))
        new = tracker.new_by_class()
        if concern(tracker, new):
            with changes.known():
                settling = synchronize(tracker, self.history)
            if tracker.deleted:
                await self.ready()
                await self.related.cascade_deletes()
            with changes.known():
                settling.settle()
            new = tracker.new_by_class()
        with changes.known():
            return new, tracker.possibly_changed()

    async def open(self, collections: Iterable[str], specs: Iterable[VectorPath]) -> None:
        """Open the transaction. Raises `SessionError` while the session rolls back: nobody would commit it."""
        if self._rolling_back:
            raise SessionError(
                "a listener cannot write by the session while that rolls back, as it does when it is closed; "
                "write in a session of its own: db.begin()"
            )
        await super().open(collections, specs)

    async def others(self, mappings: Iterable[ClassMap]) -> dict[str, list[VectorPath]]:
        """The vector indexes of the classes' collections that not all of these classes know, by collection."""
        self.check_writing()
        known: dict[str, set[VectorSpec]] = {}
        named: list[VectorSpec] = []
        for mapping in mappings:  # those of one collection may be of several registries
            specs = {field.spec for field in vector_fields(mapping)}
            named += specs
            known.setdefault(str(mapping.collection), specs).intersection_update(specs)
        common = {spec for specs in known.values() for spec in specs}
        return await self.db.vectors.others(known, [spec for spec in named if spec in common])

    async def carry_out(self, plan: FlushPlan, tracker: Tracker | None = None) -> None:
        """Write the plan into the transaction, and which vectors it touches; then tell the tracker.

        Without transactions a cancellation does not cut this off, so that all of it is written.
        """
        await self.open([write.collection for write in plan.writes if isinstance(write, Insert)], plan.touched)
        if self.server_session is not None:
            await self._carry_out(plan, tracker)
        else:
            try:
                await aio.shielded(self._carry_out, plan, tracker)
            except SuperormError as error:
                if note := plan.so_far():
                    error.add_note(note)
                raise

    async def _carry_out(self, plan: FlushPlan, tracker: Tracker | None) -> None:
        written = [*(mapping for mapping, *_ in plan.inserted), *(mapping for mapping, _ in plan.updated)]
        computed = computed_of(written, plan.touched)
        await self.artifacts.register()
        async with self.recorded(plan.touched, plan.writes):
            try:
                await self._write(plan)
            finally:  # some may be written
                recomputed = await recompute_outdated(self, computed)
        unused = released(plan)
        if tracker is not None:
            tracker.flushed(plan)
        if unused:
            await self.artifacts.release(unused)
        if recomputed:
            for field, keys in computed.items():
                await refresh(self, field.mapping.collection, keys)

    async def write_records(self, records: Sequence[Insert]) -> None:
        """The same, and by the same command a look whether another version of a model was announced.

        Before a commit its fences too, behind which no other version comes.
        """
        models, encoded = self.db.vector_models, self.encoded
        look = await models.look(encoded) if records else None
        unfenced = encoded.unfenced if records and self.committing else {}
        if look is None and not unfenced:
            await super().write_records(records)
            return
        documents = [document for record in records for document in record.documents]
        new = [UpdateOp(q={"_id": one["_id"]}, u={"$setOnInsert": one}, upsert=True) for one in documents]
        looks = [*([] if look is None else [look]), *passing(unfenced)]
        encoded.fenced.update(unfenced)
        try:
            done = await self.backend.write(Update(COLLECTION, [*looks, *new]), session=self.server_session)
        except SuperormError as error:
            if unfenced and self._unlooked and has_error_label(error, "TransientTransactionError"):  # a switch
                raise _Superseded from error
            raise
        token = None if look is None else look["q"]["token"]
        if done.matched < len(looks) + len(new):
            encoded.lost = encoded.lost or bool(unfenced)
            superseded = await models.superseded(encoded, token)
            if self._unlooked and (superseded or encoded.lost):
                raise _Superseded
        elif look is not None:
            models.found(encoded, token, self.began)

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
                reads = stale_documents(write)
                found = [one for read in reads for one in await backend.read(read, session=self.server_session)]
                raise stale_error(plan, write, result.matched, found)
            plan.done += 1

    async def commit(self, report: Progress | None) -> None:
        """Flush and commit."""
        self._check_idle("commit()")
        self.check_usable()
        self.committing = True
        try:
            with self._now("commits"):
                await self._flush_and_commit(report)
        finally:
            self.committing = False

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
        await self.follow()
        await self.events.of_session("after_commit")

    async def _commit(self) -> None:
        if self.artifacts.late:
            await self.artifacts.confirm()
        if self.encoded.made and self.server_session is not None:  # last, as what it finds holds for a short time
            await self.db.vector_models.confirm(self.encoded, self.server_session)
        await self.end()
        self._committed()

    def _committed(self) -> None:
        self.tracker.committed()
        self.history.committed()
        self._let_go_of_fences(committed=True)
        self.encoded.clear()
        self.artifacts.committed()
        self.notify()

    def _let_go_of_fences(self, *, committed: bool) -> None:
        self.encoded.ended(committed=committed)
        if self.encoded.fences:
            self.db.vector_models.fences.give_back(self.encoded.fences)

    async def rollback(self) -> None:
        """Give up what was not committed; a cancellation does not cut it off."""
        self._check_idle("rollback()")
        with self._now("rolls back"):
            await self._give_up()
            self._rolling_back = True
            try:
                await self.events.of_session("after_rollback")
            finally:
                self._rolling_back = False
                self._failed = None  # nothing was written

    async def _give_up(self) -> None:
        tracker = self.tracker
        shown = loaded([*tracker.with_artifacts(), *tracker.undo.stored()])
        if shown or self.server_session is not None:
            await aio.shielded(self._abort, shown)
        else:
            self._rolled_back()

    async def _abort(self, shown: Sequence[Loaded]) -> None:
        """`shown` are the artifacts that objects show, which may have been changed in place."""
        try:
            if self.server_session is not None:
                await self.abort()
            await self.artifacts.changes.look(shown)
        finally:
            self._rolled_back()

    def _rolled_back(self) -> None:
        with self.artifacts.changes.known():
            never_stored = self.tracker.rolled_back(doubtful=self.doubtful)
        self.history.rolled_back(doubtful=self.doubtful, never_stored=never_stored)
        self._let_go_of_fences(committed=False)
        self.encoded.clear()
        self.forget()
        self.artifacts.rolled_back()
        self._failed = None

    async def close(self) -> None:
        """Roll back, forget all objects, and let go of the server session."""
        self._check_idle("close()")
        try:
            if self.server_session is not None or self._failed is not None:
                await self.rollback()
            else:
                await self._give_up()
        finally:
            self.tracker.clear()
            self.artifacts.changes.forget()
            self.events.loads.clear()
            await self.let_go()


def _of_server(error: BaseException | None) -> bool:
    """Whether it is PyMongo's, or was caused by one of these: the server ends a transaction after any of its own."""
    while error is not None and not isinstance(error, PyMongoError):
        error = error.__cause__
    return error is not None


def _check(plan: FlushPlan) -> None:
    """Raise `ValidationError` where one of the writes cannot be encoded."""
    for write in plan.writes:
        try:
            check_write(write)
        except SuperormError as error:
            raise of_class(error, plan.mapping_of(write.collection, error.key)) from error
