"""Moving vectors that wait beside their documents into these, when the index is switched to their version."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from superorm._async.vector_indexes import AsyncVectorIndexes
from superorm._async.vector_staging import AsyncStaging
from superorm._io import aio
from superorm._io.progress import Progress
from superorm.backends.errors import has_error_label
from superorm.codec.keys import encode_key
from superorm.codec.vectors import value_at
from superorm.compile.plan import Find
from superorm.exc import SuperormError
from superorm.protocols._async.parts import AsyncDataBackend
from superorm.unitofwork.writes import Delete, Update, UpdateOp
from superorm.vectors.mirror import without_parts
from superorm.vectors.records import COLLECTION, INDEXES, Moving
from superorm.vectors.staged import STAGE, marker, staged_id, staged_since, staged_until, stands

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

__all__ = ["AsyncMove", "repeated"]

_BATCH = 1_000
"""So many vectors are moved in one transaction."""
_PATIENCE = 60.0
"""Seconds for which a transaction that is in conflict with others is tried again."""
T = TypeVar("T")


class AsyncMove:
    """Puts vectors in place, batch by batch, while searches take them from where they wait."""

    def __init__(self, backend: AsyncDataBackend, vectors: AsyncVectorIndexes, staging: AsyncStaging) -> None:
        self._backend = backend
        self._vectors = vectors
        self._staging = staging
        self._spec = staging.spec

    async def run(self, moving: Moving, progress: Progress | None) -> None:
        """Steps 4 and 5; it ends too where others have done them, or have switched to another version."""
        done, after, going = 0, None, True
        while going:
            going, after, moved, stale = await self._in_transaction(partial(self._move_some, moving, after))
            if stale:
                await self._renew(moving, stale)
            done += moved
            if progress is not None and moved:
                progress(done, done, f"{self._spec.name}: moving")
            if going and after is None:
                lag = self._vectors.lag
                if lag is not None:  # of a search index, which sees the documents late
                    await aio.sleep(lag)
                going = not await self._in_transaction(partial(self._end, moving))
        await self.clean(moving)

    async def _in_transaction(self, body: Callable[[AsyncClientSession], Awaitable[T]]) -> T:
        async def once() -> T:
            async with self._backend.transaction() as session:
                return await body(session)

        return await repeated(once, time.time() + _PATIENCE)

    async def _holds(self, moving: Moving, session: AsyncClientSession, *, still: bool) -> bool:
        """Whether the version is the recorded one, and its vectors still are moving, or are not.

        The transaction is in conflict with every switch, so that nothing goes that another encoder counts on.
        """
        stands = {"model": moving.model, "version": moving.version, "moving": True if still else None}
        op = UpdateOp(q={"_id": self._spec.name, **stands}, u={"$inc": {"writers": 1}})
        return (await self._backend.write(Update(INDEXES, [op]), session=session)).matched > 0

    async def _move_some(
        self, moving: Moving, after: Mapping[str, Any] | None, session: AsyncClientSession
    ) -> tuple[bool, Mapping[str, Any] | None, int, dict[str, Any]]:
        """Whether vectors are still moving, the last of those that were looked at, if any, and how many were taken.

        With the keys of those documents whose source is another one by now.
        """
        if not await self._holds(moving, session, still=True):
            return False, None, 0, {}
        waiting = Find(STAGE, staged_since(self._spec.name, moving, after), sort=[("_id", 1)], limit=_BATCH)
        found = await self._backend.read(waiting, session=session)
        if not found:
            return True, None, 0, {}
        by_key = {encode_key(one["_id"]["k"]): one for one in found}
        shown = dict.fromkeys(without_parts(one["s"] for one in found), 1)
        sources = Find(self._spec.collection, {"_id": {"$in": [one["_id"]["k"] for one in found]}}, shown)
        ops: list[UpdateOp] = []
        stale: dict[str, Any] = {}
        for document in await self._backend.read(sources, session=session):
            key = encode_key(document["_id"])
            if not stands(by_key[key], document):
                stale[key] = document["_id"]
            elif vector := by_key[key]["d"]:
                ops.append(self._staging.placing(document, vector[0]))
        if ops:
            await self._backend.write(Update(self._spec.collection, ops), session=session)
        await self._take([one["_id"] for key, one in by_key.items() if key not in stale], session)
        return True, found[-1]["_id"], len(found) - len(stale), stale

    async def _take(self, ids: list[Any], session: AsyncClientSession) -> None:
        if ids:
            await self._backend.write(Delete(STAGE, [{"_id": {"$in": ids}}]), session=session)

    async def _renew(self, moving: Moving, keys: Mapping[str, Any]) -> None:
        """Of documents whose source changed: whoever knows of models stored the vector with it, others did not."""
        encoded: dict[str, tuple[bytes, Any]] = {}
        async with aclosing(self._staging.documents(keys)) as batches:
            async for batch in batches:
                vectors = await self._staging.encode(batch, moving)
                for document in batch.found:
                    key = encode_key(document["_id"])
                    encoded[key] = batch.hash(document), vectors.get(key)
        await self._in_transaction(partial(self._renew_some, moving, keys, encoded))

    async def _renew_some(
        self,
        moving: Moving,
        keys: Mapping[str, Any],
        encoded: Mapping[str, tuple[bytes, Any]],
        session: AsyncClientSession,
    ) -> None:
        """Those that changed once more are left for later."""
        if not await self._holds(moving, session, still=True):
            return
        ops: list[UpdateOp] = []
        changed: list[Any] = []
        left = set[str]()
        async with aclosing(self._staging.documents(keys, session)) as batches:
            async for batch in batches:
                for document in batch.found:
                    key = encode_key(document["_id"])
                    hash, vector = encoded.get(key, (b"", None))
                    if hash != batch.hash(document):
                        left.add(key)
                    elif vector and value_at(document, self._spec.path) != vector[0]:
                        ops.append(self._staging.placing(document, vector[0]))
                        changed.append(document["_id"])
        if ops:
            await self._backend.write(Update(self._spec.collection, ops), session=session)
            for record in self._vectors.records({self._spec: changed}):
                await self._backend.write(record, session=session)
        await self._take(
            [staged_id(self._spec.name, moving, id) for key, id in keys.items() if key not in left], session
        )

    async def _end(self, moving: Moving, session: AsyncClientSession) -> bool:
        """Whether nothing is moving any more, from now on at the latest."""
        if not await self._holds(moving, session, still=True):
            return True
        left = Find(STAGE, staged_since(self._spec.name, moving, None), limit=1)
        if await self._backend.read(left, session=session):
            return False
        op = UpdateOp(q={"_id": self._spec.name}, u={"$unset": {"moving": ""}})
        await self._backend.write(Update(INDEXES, [op]), session=session)
        await self._backend.write(Delete(COLLECTION, [marker(self._spec.name)]), session=session)
        return True

    async def clean(self, moving: Moving) -> None:
        """Remove what waits in vain, of this version and older ones, unless another one has taken its place."""
        while await self._in_transaction(partial(self._clean_some, moving)):
            pass

    async def _clean_some(self, moving: Moving, session: AsyncClientSession) -> bool:
        if not await self._holds(moving, session, still=False):
            return False
        plan = Find(STAGE, staged_until(self._spec.name, moving), {"_id": 1}, limit=_BATCH)
        found = [one["_id"] for one in await self._backend.read(plan, session=session)]
        await self._take(found, session)
        return bool(found)


async def repeated(once: Callable[[], Awaitable[T]], until: float) -> T:
    """What a transaction gives, done again where it was in conflict, but not after a time."""
    attempt = 0
    while True:
        try:
            return await once()
        except SuperormError as error:
            if time.time() > until or not has_error_label(error, "TransientTransactionError"):
                raise
        attempt += 1
        await aio.sleep(random.random() * min(0.01 * 2**attempt, 1.0))
