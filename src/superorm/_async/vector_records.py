"""Reading and writing the records and states of vector indexes, and the vectors of documents."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from bson import ObjectId

from superorm._async.vector_stage import move_in
from superorm._io import aio
from superorm._io.progress import Progress
from superorm.backends.errors import has_error_label
from superorm.compile.plan import Aggregate, Count, Find
from superorm.exc import BackendError, SuperormError, WriteError
from superorm.protocols._async.parts import AsyncDataBackend
from superorm.schema.vector_spec import FilterField, VectorSpec
from superorm.unitofwork.writes import Delete, Update, UpdateOp
from superorm.vectors import upkeep
from superorm.vectors.memory_copy import MemoryCopy
from superorm.vectors.mirror import projection, table_rows
from superorm.vectors.records import (
    COLLECTION,
    INDEXES,
    Coming,
    Look,
    Moving,
    State,
    in_parts,
    look_filter,
    prunable,
    state_id,
)
from superorm.vectors.rows import Rows
from superorm.vectors.staged import mark, marked
from superorm.vectors.upkeep import lacking, recorded_since

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

__all__ = ["READERS", "AsyncVectorRecords"]

READERS = timedelta(minutes=10)
"""How long a reader may need what has been superseded; snapshots of the server live shorter."""
_LATE = timedelta(days=7)
"""How long records wait for an engine that does not come."""
_INDEX_MS = 500
"""How long making an index may wait for open transactions, while every other reader waits behind it."""
_MAX_TIME_MS_EXPIRED = 50
_ATTEMPTS = 8
_REGISTERING = 100
"""So often, for about 45 seconds, an engine tries to register while a switch is being committed."""
_IDS = 4_000
_SNAPSHOT_UNAVAILABLE = 246
T = TypeVar("T")


class _Moved(Exception):
    """The state is not the one that was read."""


class AsyncVectorRecords:
    """The collection of records of one data backend."""

    def __init__(self, backend: AsyncDataBackend) -> None:
        self.backend = backend
        self._collated: dict[str, bool] = {}

    async def collated(self, spec: VectorSpec) -> bool:
        """Whether the server compares mirrored texts by a collation, which a collection keeps for good."""
        if not any(field.kind == "str" for field in spec.filter_fields):
            return False
        collated = self._collated.get(spec.collection)
        if collated is None:
            options = await self.backend.collection_options(spec.collection)
            if options is None:
                return False
            collated = self._collated[spec.collection] = "collation" in options
        return collated

    async def in_snapshot(
        self,
        body: Callable[[AsyncClientSession | None], Awaitable[T]],
        session: AsyncClientSession | None = None,
    ) -> T:
        """What `body`, which only reads, gives in the given session, or in a snapshot; with None if there are none.

        It is repeated while the snapshot is older than a collection or an index that was made a moment ago.
        """
        if session is not None or not (await self.backend.capabilities()).transactions:
            return await body(session)
        pause = 0.002
        while True:
            try:
                async with self.backend.snapshot() as snapshot:
                    return await body(snapshot)
            except BackendError as error:
                if getattr(error.__cause__, "code", None) != _SNAPSHOT_UNAVAILABLE or pause > 1:
                    raise
            await aio.sleep(pause)
            pause *= 2

    async def look(
        self, index: str, engine: str, *, since: int | None = None, session: AsyncClientSession | None = None
    ) -> Look:
        """The state and the records not stamped, with those stamped after `since`, in one find."""
        plan = Find(COLLECTION, look_filter(index, engine, since))
        return Look.of(await self.backend.read(plan, session=session), engine, since)

    async def state(self, index: str, engine: str, session: AsyncClientSession | None = None) -> State | None:
        """The state alone."""
        found = await self.backend.read(Find(COLLECTION, {"_id": state_id(index, engine)}), session=session)
        return State.of(found[0]) if found else None

    async def everything(self, index: str, engine: str, *, session: AsyncClientSession | None = None) -> Look:
        """The state and all records that are kept."""
        return Look.of(await self.backend.read(Find(COLLECTION, {"i": index}), session=session), engine)

    async def register(self, index: str, engine: str) -> None:
        """Make the collection and its index, and the engine's state, unless they are there.

        The state is made in conflict with a switch to another version of the index's model, which is to tell every
        engine, and with the end of moving, after which nobody would take back that vectors are.
        """
        await self.backend.create_collection(COLLECTION)
        await self._index(engine)
        key = state_id(index, engine)
        if await self.backend.read(Find(COLLECTION, {"_id": key}, {"_id": 1})):
            return
        fresh = {"n": 0, "floor": 0, "ver": None, "table": str(ObjectId())}
        state = {"$setOnInsert": {"kind": "state", "i": index, "engine": engine, **fresh}}
        begun = Update(COLLECTION, [UpdateOp(q={"_id": key}, u=state, upsert=True)])
        while True:
            recorded = await self.backend.read(Find(INDEXES, {"_id": index}))
            moving = marked(recorded)
            writes = [(Update(INDEXES, [_still(one)]), True) for one in recorded]
            if moving is not None:  # which outlives the records
                writes.append((Update(COLLECTION, [mark(index, moving)]), False))
            if await self._together([*writes, (begun, False)], attempts=_REGISTERING):
                return

    async def _index(self, engine: str) -> None:
        """Make the index that searches read by, unless open transactions are in the way: without it they are slower."""
        keys = [("i", 1), (f"seq.{engine}", 1)]
        if not (await self.backend.capabilities()).transactions:
            await self.backend.create_index(COLLECTION, keys)
            return
        try:
            await self.backend.create_index(COLLECTION, keys, maxTimeMS=_INDEX_MS)
        except WriteError as error:
            if getattr(error.__cause__, "code", None) != _MAX_TIME_MS_EXPIRED:
                raise

    async def update_state(
        self, index: str, engine: str, update: Mapping[str, Any], *, table: str | None = None
    ) -> bool:
        """Change what publications do not: what searches do not read, or what has every copy be loaded anew.

        With a `table`, only while the state names that one. Whether there was such a state.
        """
        chosen = {"_id": state_id(index, engine)} | ({} if table is None else {"table": table})
        return bool((await self.backend.write(Update(COLLECTION, [UpdateOp(q=chosen, u=update)]))).matched)

    async def to_mirror(self, spec: VectorSpec, engine: str) -> tuple[list[FilterField], float | None]:
        """The fields that the engine mirrors, and those to come whose changes every program records.

        Changes of the others are recorded from now on: they come after so many seconds, None where there are none.
        """
        own = (await self.look(spec.name, engine)).state
        states: list[dict[str, Any]] = [{"$match": {"i": spec.name, "kind": "state"}}]
        if (await self.backend.capabilities()).backend != "mongomock":  # whose clock is that of this process
            states.append({"$set": {"now": "$$NOW"}})
        found = await self.backend.read(Aggregate(COLLECTION, states))
        since = recorded_since(map(State.of, found))
        now = found[0].get("now") if found else None  # by the clock that the announcements were made by
        if now is None:
            now = datetime.now(UTC)
        recorded = set[str]() if own is None else own.recorded
        if unknown := [field for field in spec.filter_fields if field.path not in recorded]:
            await self.update_state(spec.name, engine, Coming.announcing(unknown))
        fields, later = list[FilterField](() if own is None else own.filters), timedelta(0)
        for field in lacking(spec, own):
            left = since.get(field.path, now) + upkeep.KNOWN_AFTER - now
            if left <= timedelta(0):
                fields.append(field)
            later = max(later, left)
        return fields, later.total_seconds() or None

    async def publish(
        self,
        index: str,
        engine: str,
        state: State,
        ids: Sequence[ObjectId],
        update: Mapping[str, Any],
        fence: Find | None = None,
    ) -> bool:
        """Make publication ``n + 1``: the state, and the stamps of exactly these records, at once.

        False where the state is not the one that was read any more, or the `fence` finds nothing:
        nothing is changed then. Without transactions the state comes first, then the stamps.
        """
        n = state.n + 1
        changed = {**update, "$set": {**update.get("$set", {}), "n": n}}
        first = Update(COLLECTION, [UpdateOp(q={"_id": state_id(index, engine), "n": state.n}, u=changed)])
        stamp = {"$set": {f"seq.{engine}": n}}
        second = Update(COLLECTION, [UpdateOp(q={"_id": {"$in": part}}, u=stamp, multi=True) for part in _split(ids)])
        return await self._together([(first, True), (second, False)], fence)

    async def prune(self, index: str) -> None:
        """Remove records that no reader needs, and states of engines that did not come for a long time."""
        now = datetime.now(UTC)
        old = {"i": index, "kind": "record", "_id": {"$lt": ObjectId.from_datetime(now - READERS)}}
        records = await self.backend.read(Find(COLLECTION, old, {"seq": 1, "open": 1}, limit=20_000))
        states = await self.backend.read(Find(COLLECTION, {"i": index, "kind": "state"}))
        if any(at > now + READERS for state in states for at in State.of(state).drop.values()):
            return  # a table is being built, and will read what is recorded meanwhile
        ids, floors, lost = prunable(records, states, now - _LATE)
        if not ids:
            return
        ns = {state["_id"]: state["n"] for state in states}
        raised = [UpdateOp(q={"_id": key, "n": ns[key]}, u={"$max": {"floor": floor}}) for key, floor in floors.items()]
        writes: list[tuple[Update | Delete, bool]] = [(Update(COLLECTION, [op]), True) for op in raised]
        if lost:
            writes.append((Delete(COLLECTION, [{"_id": {"$in": lost}}]), False))
        writes.append((Delete(COLLECTION, [{"_id": {"$in": part}} for part in _split(ids)]), False))
        await self._together(writes)

    async def _together(
        self, writes: Sequence[tuple[Update | Delete, bool]], fence: Find | None = None, *, attempts: int = _ATTEMPTS
    ) -> bool:
        """Write in one transaction where there are any.

        False where the fence finds nothing, and as soon as a write that must match matches nothing.
        """
        if not (await self.backend.capabilities()).transactions:
            return await self._in_order(writes, fence, None)
        for attempt in range(attempts):
            try:
                async with self.backend.transaction() as session:
                    if not await self._in_order(writes, fence, session):
                        raise _Moved
                return True
            except _Moved:
                return False
            except SuperormError as error:
                if attempt + 1 == attempts or not has_error_label(error, "TransientTransactionError"):
                    raise
            await aio.sleep(random.random() * min(0.01 * 2**attempt, 1.0))
        raise AssertionError("unreachable")

    async def _in_order(
        self, writes: Sequence[tuple[Update | Delete, bool]], fence: Find | None, session: AsyncClientSession | None
    ) -> bool:
        if fence is not None and not await self.backend.read(fence, session=session):
            return False
        for write, must in writes:
            result = await self.backend.write(write, session=session)
            if must and not result.matched:
                return False
        return True

    async def documents(
        self,
        spec: VectorSpec,
        keys: Mapping[str, Any],
        fields: Iterable[FilterField] = (),
        known: Iterable[Mapping[str, Any]] = (),
        *,
        moving: Moving | None = None,
        session: AsyncClientSession | None = None,
    ) -> list[Mapping[str, Any]]:
        """Those documents that are there: the vector, and the fields that are mirrored; with those that are `known`.

        Where vectors are `moving`, as the session sees it, those that wait are put in their place.
        """
        documents: list[Mapping[str, Any]] = [*known]
        for part in in_parts(keys, _IDS):
            plan = Find(spec.collection, {"_id": {"$in": part}}, projection(spec, fields))
            found = await self.backend.read(plan, session=session)
            await move_in(self.backend, spec, moving, found, session=session)
            documents += found
        return documents

    async def bring_forward(
        self, spec: VectorSpec, copy: MemoryCopy, look: Look, session: AsyncClientSession | None
    ) -> bool:
        """Bring memory to what a snapshot outside transactions sees, by the documents of what is new there.

        False, and nothing done, where memory has no room for it.
        """
        step = copy.forward(look)
        if step is not None:
            if not step.fits:
                return False
            documents = await self.documents(spec, step.keys, copy.fields, moving=look.moving, session=session)
            await aio.in_thread(copy.install, step, look, spec, documents)
        return True

    async def rows(
        self,
        spec: VectorSpec,
        fields: Sequence[FilterField] = (),
        *,
        moving: Moving | None = None,
        session: AsyncClientSession | None = None,
        progress: Progress | None = None,
    ) -> Rows:
        """The vectors of all documents, with these fields, in memory, for as many as there are.

        Where vectors are `moving`, as the session sees it, those that wait are taken first.
        """
        filter = {spec.path: {"$ne": None}} if moving is None else {}
        total = (await self.backend.read(Count(spec.collection, filter), session=session))[0]["n"]
        rows, done = Rows(spec.dim, spec.metric, total, fields), 0
        plan = Find(spec.collection, filter, projection(spec, fields))

        def put(part: Sequence[Mapping[str, Any]]) -> None:
            rows.replace((), table_rows(spec, part, fields))

        async with aclosing(self.backend.stream(plan, session=session)) as parts:
            async for part in parts:
                await move_in(self.backend, spec, moving, part, session=session)
                await aio.in_thread(put, part)
                if progress is not None:
                    done += len(part)
                    progress(done, max(done, total), spec.name)
        return rows


def _still(recorded: Mapping[str, Any]) -> UpdateOp:
    """What matches while what is recorded of an index stands, and is in conflict with its change."""
    stands = {name: recorded.get(name) for name in ("_id", "model", "version", "moving")}
    return UpdateOp(q=stands, u={"$inc": {"writers": 1}})


def _split(items: Sequence[T]) -> list[Sequence[T]]:
    """The items in parts that one statement takes."""
    return [items[start : start + _IDS] for start in range(0, len(items), _IDS)]
