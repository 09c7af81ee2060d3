"""Making all vectors of an index anew from their sources, by the newest version of their model."""

from __future__ import annotations

import random
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from superorm._async.vector_indexes import AsyncVectorIndexes
from superorm._async.vector_models import AsyncVectorModels
from superorm._async.vector_move import AsyncMove, repeated
from superorm._async.vector_staging import AsyncStaging, Batch
from superorm._async.vector_switch import Anew, AsyncSwitch
from superorm._io import aio
from superorm._io.progress import Progress
from superorm.codec.keys import encode_key
from superorm.codec.vectors import value_at
from superorm.compile.plan import Find
from superorm.exc import BackendError, StatementError
from superorm.protocols._async.parts import AsyncDataBackend
from superorm.schema.vector_fields import VectorField
from superorm.unitofwork.writes import Delete, Update, UpdateOp
from superorm.vectors.records import INDEXES, Moving
from superorm.vectors.staged import STAGE, marked

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

__all__ = ["AsyncReencoding"]

_ATTEMPTS = 10
_LONG = 60.0
"""Seconds for which a batch that is in conflict with others is tried again."""


class AsyncReencoding:
    """Encodes the sources of one index beside readers and writers, then has all searches and writes take the vectors.

    Until then, these keep the old version.
    """

    def __init__(
        self, backend: AsyncDataBackend, vectors: AsyncVectorIndexes, models: AsyncVectorModels, field: VectorField
    ) -> None:
        source, name = field.source, field.declared.model
        if source is None or name is None:
            raise StatementError(
                f"rebuild(reencode=True) is for vectors that a model computes, and {field.where} is not; "
                "leave out reencode"
            )
        self._backend = backend
        self._vectors = vectors
        self._models = models
        self._spec = field.spec
        self._name = name
        self._staging = AsyncStaging(backend, models, field)
        self._switch = AsyncSwitch(backend, vectors, models, self._staging)
        self._move = AsyncMove(backend, vectors, self._staging)

    async def run(self, progress: Progress | None) -> None:
        """Do it. Raises `ComponentNotFoundError`, `VectorError`, `PredictionError`, `BackendError`."""
        newest = await self._newest()
        await self._backend.create_collection(STAGE)
        await self._vectors.ensure(self._spec)
        if not (await self._backend.capabilities()).transactions:
            await self._staging.stage(newest, progress)
            await self._in_place(newest)
            await self._finish(progress)
            await self._backend.write(Delete(STAGE, [{"_id.i": self._spec.name}]))
            return
        for attempt in range(_ATTEMPTS):
            try:
                await self._attempt(newest, progress)
            except Anew:
                await aio.sleep(random.random() * 0.1 * 2**attempt)
                newest = await self._newest()
            else:
                return
        raise BackendError(
            f"{self._spec.name}: others have changed the version of its model, or its records went, in each of "
            f"{_ATTEMPTS} attempts; what was encoded is kept: do it again when they have ended"
        )

    async def _newest(self) -> Moving:
        newest = Moving(self._name, await self._models.newest(self._name))
        await self._staging.begin(newest)
        return newest

    async def _attempt(self, newest: Moving, progress: Progress | None) -> None:
        recorded = await self._backend.read(Find(INDEXES, {"_id": self._spec.name}))
        if recorded and Moving.of(recorded[0]) == newest and marked(recorded) is None:
            await self._staging.stage(newest, progress)
            await self._refresh(newest)
            await self._finish(progress)
            await self._move.clean(newest)
            return
        if marked(recorded) != newest:
            await self._switch.run(newest, recorded[0] if recorded else None, progress)
        await self._move.run(newest, progress)

    async def _finish(self, progress: Progress | None) -> None:
        await self._models.read([self._spec.name])
        await self._vectors.rebuild(self._spec, progress)
        placed = UpdateOp(q={"_id": self._spec.name}, u={"$unset": {"placing": ""}})
        await self._backend.write(Update(INDEXES, [placed]))

    async def _refresh(self, moving: Moving) -> None:
        """Put those vectors of the version in use in place that are others, batch by batch."""
        async with aclosing(self._staging.documents()) as batches:
            async for batch in batches:
                keys = {encode_key(key): key for key in batch.keys}

                async def once(keys: dict[str, Any] = keys) -> None:
                    async with self._backend.transaction() as session:
                        await self._refresh_some(moving, keys, session)

                await repeated(once, time.time() + _LONG)

    async def _refresh_some(self, moving: Moving, keys: dict[str, Any], session: AsyncClientSession) -> None:
        """As any writer of computed vectors: in conflict with a switch. Raises `Anew` where another version comes."""
        stands = {"_id": self._spec.name, "model": moving.model, "version": moving.version, "moving": None}
        unannounced = {"$or": [{"switching": None}, {"switching": {"$lt": time.time()}}]}
        op = UpdateOp(q={**stands, **unannounced}, u={"$inc": {"writers": 1}})
        if not (await self._backend.write(Update(INDEXES, [op]), session=session)).matched:
            raise Anew
        changed: list[Any] = []
        async with aclosing(self._staging.documents(keys, session)) as batches:
            async for batch in batches:
                vectors = await self._vectors_of(batch, moving, session)
                ops: list[UpdateOp] = []
                for document in batch.found:
                    vector = vectors.get(encode_key(document["_id"]))
                    if vector and value_at(document, self._spec.path) != vector[0]:
                        ops.append(self._staging.placing(document, vector[0]))
                        changed.append(document["_id"])
                if ops:
                    await self._backend.write(Update(self._spec.collection, ops), session=session)
        if changed:
            for record in self._vectors.records({self._spec: changed}):
                await self._backend.write(record, session=session)

    async def _vectors_of(self, batch: Batch, moving: Moving, session: AsyncClientSession | None) -> dict[str, Any]:
        """Those that are staged, and of sources that have changed since."""
        staged = await self._staging.staged(batch, moving, session)
        return staged | await self._staging.encode(batch.without(staged), moving)

    async def _in_place(self, moving: Moving) -> None:
        """Without transactions: one document after the other, of the version that is written from then on.

        Who stored a vector of the old version before that is found here, and who does so later notices it.
        """
        await self._staging.begin(moving)  # raises where it was removed
        now = {"kind": "index", "model": moving.model, "version": moving.version, "placing": True}
        change = {"$set": now, "$unset": {"switching": ""}}
        await self._backend.write(Update(INDEXES, [UpdateOp(q={"_id": self._spec.name}, u=change, upsert=True)]))
        await self._staging.begin(moving)  # it may have been replaced until it was recorded
        await self._models.read([self._spec.name])
        async with aclosing(self._staging.documents()) as batches:
            async for batch in batches:
                vectors = await self._vectors_of(batch, moving, None)
                async with self._vectors.recording({self._spec: batch.keys}):
                    await self._put(batch, vectors)

    async def _put(self, batch: Batch, vectors: dict[str, Any]) -> None:
        ops: list[UpdateOp] = []
        for document in batch.found:
            if vector := vectors.get(encode_key(document["_id"])):
                ops.append(self._staging.placing(document, vector[0], batch.source))
        if ops:
            await self._backend.write(Update(self._spec.collection, ops))
