"""Keeping the outputs of listeners equal to the documents."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from attrs import evolve

from superorm._async.components import AsyncComponents
from superorm._async.listener_computing import BATCH, PATIENCE, AsyncComputing, Heard
from superorm._async.listener_filling import AsyncFilling
from superorm._async.listener_indexes import described
from superorm._async.listener_sweeping import AsyncSweeping
from superorm._async.vector_indexes import AsyncVectorIndexes
from superorm._io.progress import Progress
from superorm.codec.keys import encode_key
from superorm.compile.plan import Aggregate, Count, Find
from superorm.components.base import Component, Named
from superorm.components.kept import kept
from superorm.components.kinds import kind_named
from superorm.components.listener import Listener
from superorm.components.outputs import OUTPUTS, State, state_id
from superorm.components.records import LIVE, ComponentRecord
from superorm.components.vector_index import VectorIndex
from superorm.exc import BackendError, ComponentNotFoundError, DuplicateKeyError, UnsupportedError
from superorm.protocols._async.parts import AsyncDataBackend
from superorm.schema.listened import ListenerPath
from superorm.unitofwork.writes import Update, UpdateOp
from superorm.vectors import upkeep
from superorm.vectors.errors import VersionLost
from superorm.vectors.owner import is_dead
from superorm.vectors.records import COLLECTION

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

__all__ = ["AsyncListeners", "removed"]

_log = logging.getLogger("superorm.listeners")

_RECORDS = 50
_CURSOR_NOT_FOUND = 43
_AFTER_COMMIT = 5.0
"""Seconds for which a commit tries to publish what it recorded; later that is for whoever reads the outputs."""


class AsyncListeners:
    """Computes what is recorded as changed, and fills the outputs of new listeners."""

    def __init__(self, backend: AsyncDataBackend, components: AsyncComponents, vectors: AsyncVectorIndexes) -> None:
        self.backend = backend
        self.components = components
        self.vectors = vectors
        self.computing = AsyncComputing(backend, vectors)
        self._sweeping = AsyncSweeping(backend, components, vectors, self.computing)
        self.state = self.computing.state
        self.moment = self.computing.moment
        self._loaded: dict[str, Heard] = {}
        self._chains: dict[str, tuple[str, ...]] = {}

    async def named(self, name: str, kind: str = Listener.kind) -> State:
        """The newest version of a listener, or of a vector index, whose outputs are all there, else the newest.

        Raises `ComponentNotFoundError`, and of an index as `add` does.
        """
        live = await self.components.records({"kind": kind, "name": name, "state": LIVE})
        ids = [state_id(record.id) for record in live]
        filled = {
            one["_id"]: one for one in await self.backend.read(Find(COLLECTION, {"_id": {"$in": ids}, "filled": True}))
        }
        for id in ids:  # the newest first
            if id in filled:
                return State.of(filled[id])
        return await self.begin(await self.components.record(Named(kind, name)))

    async def version(self, name: str, session: AsyncClientSession | None) -> int:
        """That of the outputs of a listener, which are brought up to date, but not for an open transaction.

        Raises `ComponentNotFoundError`, and as `catch_up` does.
        """
        state = await self.named(name)
        if session is None or not session.in_transaction:
            await self.catch_up(state)
        elif not state.filled:
            raise UnsupportedError(
                f"not all outputs of the {state.named} were computed yet, which cannot be done in a transaction: "
                f"read db.outputs({name!r}) before it"
            )
        assert state.named.version is not None
        return state.named.version

    async def load(self, state: State) -> Heard:
        """The listener, or index, with its models, none of which is ever replaced."""
        id = state.path.listener
        if id not in self._loaded:
            record = await self.components.record(state.named, hidden=True)
            self._loaded[id] = await self._restored(record)
        return self._loaded[id]

    async def chain(self, state: State) -> tuple[str, ...]:
        """The ``_id`` of its state, and of those to whose outputs it listens, the nearest first.

        Raises `ComponentNotFoundError`.
        """
        id = state.path.listener
        if id not in self._chains:
            found, below = [id], (await self.load(state)).named_listener
            while below is not None:
                record = await self.components.record(below, hidden=True)
                found.append(state_id(record.id))
                below = (await self._restored(record)).named_listener
            self._chains[id] = tuple(found)
        return self._chains[id]

    async def _restored(self, record: ComponentRecord) -> Heard:
        children: list[Component] = []
        for child in record.needs:
            if child.kind == Listener.kind:
                children.append(await self._restored(await self.components.record(child, hidden=True)))
            else:
                children.append(await self.components.load(child.kind, child.name, child.version, hidden=True))
        listener = kind_named(record.kind).restore(record.name, None, record.params, children)
        assert isinstance(listener, Heard)
        listener.version = record.version
        return listener

    # New listeners, and removed ones

    async def add(self, named: Named, progress: Progress | None = None) -> None:
        """Compute the outputs for all documents, unless that was done; what was done before an interruption stays.

        Raises `PredictionError`, `ValidationError` where a stored key does not fit,
        `ComponentNotFoundError` where it is removed meanwhile,
        and `ConfigurationError` for a vector index of which nothing tells the dimension.
        """
        state = await self.begin(await self.components.record(named))
        if not state.filled:
            await self.catch_up_before(state)
            await self.fill(state, progress)

    async def is_filled(self, named: Named) -> bool:
        """Whether the outputs of a listener are all there, whoever computed them."""
        state = await self.state(state_id((await self.components.record(named)).id))
        return state is not None and state.filled

    async def begin(self, record: ComponentRecord) -> State:
        """Register the listener: from now on changes are recorded here, and soon by other programs."""
        id = state_id(record.id)
        listener = self._loaded[id] = await self._restored(record)
        await self.backend.create_collection(OUTPUTS)
        new: dict[str, Any] = {
            "kind": "listener",
            "component": record.kind,
            "i": id,
            "name": record.name,
            "version": record.version,
            "collection": listener.listened.collection,
            "path": listener.listened.fields[0],
            "fields": list(listener.listened.fields),
            "n": 0,
            "filled": False,
            "settled": False,
        }
        before: State | None = None
        if listener.named_listener is not None:
            before = await self.begin(await self.components.record(listener.named_listener, hidden=True))
        index = listener if isinstance(listener, VectorIndex) else None
        if index is None or await self.state(id) is None:
            if index is not None:
                assert before is not None
                if index.dim is None:
                    await self.catch_up(before)
                new["index"] = await described(self.backend, record, index, before)
            absent = {"_id": id, "since": {"$exists": False}}  # so that the server's clock is read once
            op = UpdateOp(q=absent, u={"$setOnInsert": new, "$currentDate": {"since": True}}, upsert=True)
            with suppress(DuplicateKeyError):
                await self.backend.write(Update(COLLECTION, [op]))
        self.vectors.forget_registered()
        if before is not None:
            # Who publishes outputs with no record for this listener has read `n` before
            unknown = {"_id": before.path.listener, "chained": {"$ne": id}}
            op = UpdateOp(q=unknown, u={"$push": {"chained": id}, "$inc": {"n": 1}})
            await self.backend.write(Update(COLLECTION, [op]))
        state = await self.state(id)
        if state is None:
            raise removed(record.named)
        return state

    async def fill(self, state: State, progress: Progress | None = None, *, whole: bool = False) -> None:
        """Compute the outputs that are not there, or of other sources, and remove those without a document.

        With `whole` those too that another program damaged.
        """
        id, named, listener = state.path.listener, state.named, await self.load(state)
        listened, backend, place = listener.listened, (await self.backend.capabilities()).backend, kept(state)
        everything = Find(place.collection, place.everything(backend), {"_id": 1})
        empty = not state.filled and not await self.backend.read(evolve(everything, limit=1))
        find = listened.find(backend)
        total = (await self.backend.read(Count(find.collection, find.filter)))[0]["n"]
        now = await self.state(id)

        def report(done: int) -> None:
            if progress is not None and done:
                progress(done, max(done, total), f"{named.kind.replace('_', ' ')} {named.name}")

        n, before = now.n if now is not None and empty else None, 0
        # What was read since `n` is published as it is only as long as nobody else publishes
        async with aclosing(AsyncFilling(self.computing, state, listener, n, whole=whole)) as filling:
            async for found, read in self.parts(find):
                if read <= before:
                    await filling.begin_anew()
                before = read
                await filling.put(found)
                if await self.state(id) is None:
                    break
                report(filling.done)
            reported = filling.done
            await filling.settle()
            if filling.done > reported:
                report(filling.done)
            right = await filling.is_right()
        if not (empty and right):
            async for found, _ in self.parts(everything):
                keys = [place.key_of(one) for one in found]
                await self.computing.compute(state, listener, keys)
                if not right:
                    await self.computing.tell(id, keys)
        if place.spec is not None:
            try:
                await self.vectors.ensure(place.spec)
            except VersionLost:
                if await self._sweeping.is_there(named):
                    raise
                await self.computing.forget(place)
                raise removed(named) from None
        filled = UpdateOp(q={"_id": id}, u={"$set": {"filled": True}})
        if not (await self.backend.write(Update(COLLECTION, [filled]))).matched:
            await self.computing.forget(place)
            raise removed(named)

    async def parts(self, plan: Find) -> AsyncGenerator[tuple[list[dict[str, Any]], int]]:
        """What is read, in parts, with how many were read so far.

        It begins anew where the server has given up the cursor, as it does ten minutes after the last part:
        what was computed by then need not be again.
        """
        while True:
            done = 0
            try:
                async with aclosing(self.backend.stream(plan, batch_size=BATCH)) as parts:
                    async for found in parts:
                        done += len(found)
                        yield found, done
                return
            except BackendError as error:
                if not done or getattr(error.__cause__, "code", None) != _CURSOR_NOT_FOUND:
                    raise

    async def sweep(self) -> None:
        """Drop what is left of listeners that were removed: outputs, records and states."""
        for id in await self._sweeping.run():
            self._loaded.pop(id, None)
            self._chains.pop(id, None)

    # What changes

    async def follow(self, paths: Iterable[ListenerPath]) -> None:
        """Compute what commits recorded.

        The commit has taken place, so that an error is logged, and raised to who reads the outputs.
        """
        ids = [path.listener for path in paths]
        for id in ids:  # which grows
            try:
                state = await self.state(id)
                if state is not None:
                    ids += state.chained
                    try:
                        await self.compute_recorded(state, _AFTER_COMMIT)
                    except ComponentNotFoundError:
                        if await self._sweeping.is_there(state.named):  # else it is being removed
                            raise
            except Exception as error:  # noqa: BLE001 - logged, reported by check, and raised by `catch_up`
                _log.error("the outputs of the %s could not be computed: %s", id, error, exc_info=error)

    async def catch_up(self, state: State) -> None:
        """Compute all that is recorded, and what is not there yet.

        Raises `PredictionError`, `ValidationError`, and the errors of loading.
        """
        await self.catch_up_before(state)
        id = state.path.listener
        if not state.filled or (not state.settled and await self._is_known(id)):
            await self.fill(state)
            if state.filled:
                settled = UpdateOp(q={"_id": id}, u={"$set": {"settled": True}})
                await self.backend.write(Update(COLLECTION, [settled]))
        await self.compute_recorded(state)

    async def catch_up_before(self, state: State, *, fill: bool = True) -> None:
        """The same for the listener to whose outputs this one listens; without `fill` only what is recorded."""
        named = (await self.load(state)).named_listener
        if named is None:
            return
        record = await self.components.record(named, hidden=True)
        before = await self.state(state_id(record.id)) or await self.begin(record)
        if fill:
            await self.catch_up(before)
        else:
            await self.catch_up_before(before, fill=False)
            await self.compute_recorded(before)

    async def compute_recorded(self, state: State, patience: float = PATIENCE) -> None:
        """What is recorded by now: who records more meanwhile computes that."""
        more = True
        while more and (records := await self._pending(state.path.listener)):
            keys = {encode_key(key): key for record in records for key in record["keys"]}
            done = [record["_id"] for record in records]
            await self.computing.compute(state, await self.load(state), list(keys.values()), done, patience)
            more = len(records) == _RECORDS

    async def _pending(self, id: str) -> list[dict[str, Any]]:
        """Some of the records whose documents are written; those of dead processes may be."""
        async with self.computing.moment() as session:
            written = Find(COLLECTION, {"i": id, "kind": "record", "open": None}, limit=_RECORDS)
            found = await self.backend.read(written, session=session)
            if found or session is not None:  # with transactions none is open
                return found
        left_open = await self.backend.read(Find(COLLECTION, {"i": id, "kind": "record", "open": True}))
        return [one for one in left_open if is_dead(one["_id"], one.get("owner"))][:_RECORDS]

    async def _is_known(self, id: str) -> bool:
        """Whether every program knows of the listener by now, by the clock of the server."""
        plan: list[dict[str, Any]] = [{"$match": {"_id": id}}, {"$project": {"since": 1}}]
        if (await self.backend.capabilities()).backend != "mongomock":  # whose clock is that of this process
            plan.append({"$set": {"now": "$$NOW"}})
        found = await self.backend.read(Aggregate(COLLECTION, plan))
        return bool(found) and found[0]["since"] + upkeep.KNOWN_AFTER <= found[0].get("now", datetime.now(UTC))


def removed(named: Named) -> ComponentNotFoundError:
    """The error about a listener that was removed meanwhile."""
    return ComponentNotFoundError(f"the {named} was removed, with its outputs", component=named.name)
