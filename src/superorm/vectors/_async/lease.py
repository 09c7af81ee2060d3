"""A writer lock that all machines share: a lease in MongoDB, with a fence."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from bson import ObjectId

from superorm._io import aio
from superorm.compile.plan import Find
from superorm.exc import DuplicateKeyError, SuperormError
from superorm.protocols._async.parts import AsyncDataBackend
from superorm.unitofwork.writes import Insert, Update, UpdateOp
from superorm.vectors.errors import EngineBusy
from superorm.vectors.owner import owner
from superorm.vectors.records import COLLECTION

__all__ = ["AsyncLease", "leased"]

_log = logging.getLogger("superorm.vectors")

_RENEWALS = 4
"""So many times a lease is renewed in the time for which it lasts."""
_EXPIRED = datetime.fromtimestamp(0, UTC)


class AsyncLease:
    """One taking of the lock, by a document ``{_id, kind: "lease", holder, fence, until}`` beside the states.

    It lasts until a time of the server's clock, and is renewed while it is held. Then another may take it,
    with the next fence; who held it before learns so when he renews it, or from his publication,
    which reads the fence in its transaction.
    """

    def __init__(self, backend: AsyncDataBackend, name: str, seconds: float) -> None:
        self.lost = False
        """Whether another has taken it meanwhile."""
        self.fence = 0
        self._backend = backend
        self._id = f"lease {name}"
        self._holder = f"{owner()}:{ObjectId()}"
        self._until = {"$add": ["$$NOW", round(1000 * seconds)]}
        self._keeper = aio.Background(self._keep, seconds / _RENEWALS)

    @property
    def check(self) -> Find:
        """The read that finds nothing once another has taken it.

        That it is no write, which would keep others waiting where its transaction was left open, is enough:
        a transaction that was there before the other publishes before him, or not at all, as both change ``n``.
        """
        return Find(COLLECTION, self._held)

    @property
    def _held(self) -> dict[str, Any]:
        return {"_id": self._id, "holder": self._holder, "fence": self.fence}

    async def acquire(self) -> bool:
        """Take it if nobody holds it; where nobody can say whether that was done, it is released."""
        try:
            return await aio.shielded(self._acquire)
        except BaseException:
            await aio.shielded(self.release)
            raise

    async def _acquire(self) -> bool:
        taken = {"holder": {"$literal": self._holder}, "fence": {"$add": ["$fence", 1]}, "until": self._until}
        free = {"_id": self._id, "$expr": {"$lte": ["$until", "$$NOW"]}}
        if (await self._backend.write(Update(COLLECTION, [UpdateOp(q=free, u=[{"$set": taken}])]))).matched:
            found = await self.found()
            if found.get("holder") != self._holder:
                return False
            self.fence = found["fence"]
            self._keeper.wake()
            return True
        if not await self.found():
            new = {"_id": self._id, "kind": "lease", "holder": "", "fence": 0, "until": _EXPIRED}
            try:
                await self._backend.write(Insert(COLLECTION, [new]))
            except DuplicateKeyError:
                return False
            return await self._acquire()
        return False

    async def found(self) -> dict[str, Any]:
        """The document as it is now; empty where there is none yet."""
        found = await self._backend.read(Find(COLLECTION, {"_id": self._id}))
        return found[0] if found else {}

    async def renew(self) -> None:
        """Make it last, or learn that it is lost."""
        longer = UpdateOp(q=self._held, u=[{"$set": {"until": self._until}}])
        self.lost = not (await self._backend.write(Update(COLLECTION, [longer]))).matched

    async def release(self) -> None:
        """Let others take it; where the server does not answer they wait until it has expired."""
        await self._keeper.stop()
        mine = {"_id": self._id, "holder": self._holder}
        free = UpdateOp(q=mine, u={"$set": {"until": _EXPIRED}})
        try:
            await self._backend.write(Update(COLLECTION, [free]))
        except SuperormError as error:
            _log.warning("%s could not be released: %s", self._id, error)

    async def _keep(self) -> None:
        try:
            await self.renew()
        except SuperormError as error:
            _log.warning("%s could not be renewed: %s", self._id, error)
        if not self.lost:
            self._keeper.wake()


@asynccontextmanager
async def leased(
    backend: AsyncDataBackend, name: str, seconds: float, patience: float | None
) -> AsyncGenerator[AsyncLease]:
    """Hold the lock of that name, by a lease of so many seconds that is renewed.

    Raises ``EngineBusy`` after `patience` seconds of waiting.
    """
    lease, start, pause = AsyncLease(backend, name, seconds), time.monotonic(), 0.01
    while not await lease.acquire():
        if patience is not None and time.monotonic() - start > patience:
            holder = str((await lease.found()).get("holder", "")).rpartition(":")[0]
            raise EngineBusy(f"another writer of {name} holds its lock: {holder}")
        await aio.sleep(pause)
        pause = min(2 * pause, 0.5)
    try:
        yield lease
    finally:
        await aio.shielded(lease.release)
