"""Switching an index to another version of its model in small transactions, by ``docs/design/switching-models.md``."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from superorm._async.vector_fences import all_fences
from superorm._async.vector_indexes import AsyncVectorIndexes
from superorm._async.vector_models import LEASE, AsyncVectorModels
from superorm._async.vector_move import repeated
from superorm._async.vector_staging import AsyncStaging
from superorm._async.vector_target import AsyncTarget, superseded
from superorm._io import aio
from superorm._io.progress import Progress
from superorm.backends.errors import has_error_label
from superorm.compile.plan import Find
from superorm.exc import BackendError
from superorm.protocols._async.parts import AsyncDataBackend
from superorm.unitofwork.writes import Update, UpdateOp
from superorm.vectors._async.lease import AsyncLease
from superorm.vectors.records import COLLECTION, INDEXES, Look, Moving, State, keys_of
from superorm.vectors.staged import mark

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

__all__ = ["Anew", "AsyncSwitch"]

_CAUGHT_UP = 20_000
"""So many keys that were recorded meanwhile are read at once."""
_INSIDE = 100
"""So many sources that changed in the meantime are encoded within the transaction; of more a new attempt is made."""
_ATTEMPTS = 10
GRACE = 3 * LEASE
"""Seconds from the announcement to the transaction: every writer that does not know of it will have committed."""
_ANNOUNCED = 30.0
"""Seconds for which writers wait after an announcement."""


class Anew(Exception):
    """The recorded version is not the one from which was started, the new one was replaced, or records went.

    All is to be begun again.
    """


class _Behind(Exception):
    """Too many sources have changed since they were encoded, or the announcement does not stand any more."""


class AsyncSwitch:
    """Stages all vectors beside readers and writers, and switches to them in one small transaction."""

    def __init__(
        self, backend: AsyncDataBackend, vectors: AsyncVectorIndexes, models: AsyncVectorModels, staging: AsyncStaging
    ) -> None:
        self._backend = backend
        self._vectors = vectors
        self._models = models
        self._staging = staging
        self._spec = staging.spec
        self._in_doubt = False
        """Whether the transaction may have been committed, though it failed."""

    async def run(self, moving: Moving, recorded: Mapping[str, Any] | None, progress: Progress | None) -> None:
        """Steps 1 to 4, from what is recorded of the index, or None: from then on the vectors are moving.

        Raises `Anew`, `BackendError` where others write too much.
        """
        target = await self._vectors.copies.target(self._spec)
        await target.begin()
        self._in_doubt = False
        try:
            noted = await self._look(target)
            await self._staging.stage(moving, progress)
            await target.fill(moving, progress)
            await self._attempts(moving, recorded, noted, target)
        except BaseException:
            if not self._in_doubt:  # else it goes when it is old
                await target.give_up()
            raise
        await self._models.read([self._spec.name])
        await self._vectors.create(self._spec)  # and have its copy be put in order

    async def _look(
        self, target: AsyncTarget, noted: Look | None = None, session: AsyncClientSession | None = None
    ) -> Look:
        """The state and the records not stamped, with those stamped since what was noted: all others are in that."""
        records = self._vectors.records_of
        since = None if noted is None or noted.state is None else noted.state.n

        async def read(session: AsyncClientSession | None) -> Look:
            return await records.look(self._spec.name, target.engine, since=since, session=session)

        return await records.in_snapshot(read, session)

    async def _attempts(
        self, moving: Moving, recorded: Mapping[str, Any] | None, noted: Look, target: AsyncTarget
    ) -> None:
        for attempt in range(_ATTEMPTS):
            noted = await self._catch_up(moving, noted, target)
            until = time.time() + _ANNOUNCED
            if recorded is not None and not await self._announce(_version(recorded), {"$set": {"switching": until}}):
                raise Anew
            try:
                await self._models.announcements.announce()
                await aio.sleep(GRACE)
                noted = await self._catch_up(moving, noted, target)
                if not await self._staging.is_current(moving):
                    raise Anew
                await self._transaction(moving, recorded, noted, target, until)
            except _Behind:
                await self._take_back(until)
            except BaseException as error:
                await self._take_back(until)
                if not has_error_label(error, "TransientTransactionError"):
                    raise
            else:
                return
            await aio.sleep(random.random() * 0.1 * 2**attempt)
        raise BackendError(
            f"{self._spec.name}: others changed its documents in each of {_ATTEMPTS} attempts to switch to the new "
            "vectors; what was encoded is kept: do it again when fewer write"
        )

    async def _announce(self, filter: Mapping[str, Any], change: Mapping[str, Any]) -> bool:
        """Change the announcement; whether there is a version recorded, and what the filter says."""
        op = UpdateOp(q={"_id": self._spec.name, **filter}, u=change)
        return (await self._backend.write(Update(INDEXES, [op]))).matched > 0

    async def _take_back(self, until: float) -> None:
        """Take the announcement back, unless another one has taken its place."""
        await self._announce({"switching": until}, {"$unset": {"switching": ""}})

    async def _catch_up(self, moving: Moving, noted: Look, target: AsyncTarget) -> Look:
        """Stage, and write to the copy, what was recorded since; what is recorded now."""
        look = await self._look(target, noted)
        _check_complete(look, noted)
        keys = _fresh(look, noted)
        names = list(keys)
        for start in range(0, len(names), _CAUGHT_UP):
            part = {key: keys[key] for key in names[start : start + _CAUGHT_UP]}
            await self._staging.stage(moving, None, part)
            await target.write(part, moving, None)
        return look

    async def _transaction(
        self, moving: Moving, recorded: Mapping[str, Any] | None, noted: Look, target: AsyncTarget, until: float
    ) -> None:
        """That of the switch, begun again where it was in conflict."""

        async def once() -> None:
            sent = False
            try:
                async with target.lock() as lease, self._backend.transaction() as session:
                    await self._switch(session, moving, recorded, noted, target, until, lease)
                    sent = True
            except BaseException as error:
                self._in_doubt = sent and not has_error_label(error, "TransientTransactionError")
                raise

        await repeated(once, until)

    async def _switch(
        self,
        session: AsyncClientSession,
        moving: Moving,
        recorded: Mapping[str, Any] | None,
        noted: Look,
        target: AsyncTarget,
        until: float,
        lease: AsyncLease | None,
    ) -> None:
        """All in the transaction; the version first, so that writers who know of it conflict at once.

        `until` is what was announced: others may have put in a later time, but not taken it away, nor may it be over.
        """
        await self._record(session, moving, recorded, until)
        if lease is not None and not await self._backend.read(lease.check, session=session):
            raise _Behind
        look = await self._look(target, noted, session)
        _check_complete(look, noted)
        keys = _fresh(look, noted)
        behind = 0
        async with aclosing(self._staging.documents(keys, session)) as batches:
            async for batch in batches:
                left = batch.without(await self._staging.staged(batch, moving, session))
                behind += len(left.found)
                if behind > _INSIDE:
                    raise _Behind
                if left.found:
                    await self._staging.write(left, moving, await self._staging.encode(left, moving), session)
        await target.write(keys, moving, session)
        ids = [record.id for record in look.unstamped if not record.open]
        await self._publish(session, moving, target, ids)
        if time.time() > until:
            raise _Behind

    async def _record(
        self, session: AsyncClientSession, moving: Moving, recorded: Mapping[str, Any] | None, until: float
    ) -> None:
        await self._backend.write(all_fences(self._spec.name), session=session)
        now = {"kind": "index", "model": moving.model, "version": moving.version, "moving": True}
        filter: dict[str, Any] = {"_id": self._spec.name}
        if recorded is None:
            if await self._backend.read(Find(INDEXES, filter), session=session):
                raise Anew
        else:
            filter |= {**_version(recorded), "switching": {"$gte": until}}
        op = UpdateOp(q=filter, u={"$set": now, "$unset": {"switching": ""}}, upsert=recorded is None)
        if not (await self._backend.write(Update(INDEXES, [op]), session=session)).matched:
            found = await self._backend.read(Find(INDEXES, {"_id": self._spec.name}), session=session)
            raise Anew if not found or recorded is None or _version(found[0]) != _version(recorded) else _Behind

    async def _publish(self, session: AsyncClientSession, moving: Moving, target: AsyncTarget, ids: list[Any]) -> None:
        """Say that vectors are moving, and have the engine serve its new copy, and all others make their own anew."""
        index = self._spec.name
        ops = [mark(index, moving)]
        states = Find(COLLECTION, {"i": index, "kind": "state"})
        for document in await self._backend.read(states, session=session):
            state, own = State.of(document), document["engine"] == target.engine
            change = target.publishing(state) if own else superseded(state)
            now = {"n": state.n + 1, "floor": state.n + 1}  # the floor has every copy and table of before be given up
            change = {**change, "$set": {**change.get("$set", {}), **now}}
            ops.append(UpdateOp(q={"_id": document["_id"]}, u=change))
            if own and ids:
                stamp = {"$set": {f"seq.{target.engine}": state.n + 1}}
                parts = [ids[start : start + _CAUGHT_UP] for start in range(0, len(ids), _CAUGHT_UP)]
                ops += [UpdateOp(q={"_id": {"$in": part}}, u=stamp, multi=True) for part in parts]
        await self._backend.write(Update(COLLECTION, ops), session=session)


def _check_complete(look: Look, noted: Look) -> None:
    """Raise `Anew` where records may have gone that came after those that were noted."""
    before, now = noted.state, look.state
    if before is None or now is None or now.floor > before.n or now.n < before.n:
        raise Anew


def _fresh(look: Look, noted: Look) -> dict[str, Any]:
    """The keys of the records that were not noted, or not done."""
    known = {record.id for record in noted.records.values() if not record.open}
    return keys_of(record for record in look.records.values() if record.id not in known)


def _version(recorded: Mapping[str, Any]) -> dict[str, Any]:
    return {"model": recorded["model"], "version": recorded["version"]}
