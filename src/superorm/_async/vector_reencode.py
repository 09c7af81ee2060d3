"""Making all vectors of an index anew from their sources, by the newest version of their model."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import bson
from attrs import evolve, frozen

from superorm._async.vector_indexes import AsyncVectorIndexes
from superorm._async.vector_models import LEASE, AsyncVectorModels
from superorm._async.vector_reencode_limits import check_limits
from superorm._io import aio
from superorm._io.progress import Progress
from superorm.backends.errors import has_error_label
from superorm.codec.keys import encode_key
from superorm.codec.vectors import value_at
from superorm.compile.plan import Count, Find
from superorm.exc import BackendError, StatementError
from superorm.protocols._async.parts import AsyncDataBackend
from superorm.schema.mapping import MappedField
from superorm.schema.state import RAW
from superorm.schema.vector_fields import VectorField
from superorm.unitofwork.encoded import Encoded
from superorm.unitofwork.statement_writes import need_of
from superorm.unitofwork.writes import Delete, Update, UpdateOp
from superorm.vectors.records import INDEXES

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

__all__ = ["AsyncReencoding"]

_STAGED = "_superorm_encoded"
"""Vectors that wait until all are there: ``{_id: {i: index, k: key}, m: model, v: version, h: hash, d: [vector]}``,
where the hash is that of the source."""
_BATCH = 1_000
_INSIDE = 100
"""So many sources that changed in the meantime are encoded within the transaction; of more a new attempt is made."""
_ATTEMPTS = 10
GRACE = 3 * LEASE
"""Seconds from the announcement to the transaction: every writer that does not know of it will have committed."""
_LIMIT = 60.0
"""Seconds for which servers let a transaction last, unless they are told otherwise."""
_ANNOUNCED = 1.5 * _LIMIT
"""Seconds for which writers wait after an announcement."""


class _Behind(Exception):
    """Too many sources have changed since they were encoded, or the announcement does not stand any more."""


@frozen
class _Batch:
    """Keys and sources of some documents, whose field is computed from these."""

    field: VectorField
    source: str
    """The stored path."""
    found: Sequence[dict[str, Any]]

    @property
    def keys(self) -> list[Any]:
        return [one["_id"] for one in self.found]

    def without(self, known: Mapping[str, Any]) -> _Batch:
        """The documents whose canonical keys are not known."""
        return evolve(self, found=[one for one in self.found if encode_key(one["_id"]) not in known])

    def hash(self, document: Mapping[str, Any]) -> bytes:
        """That of the document's source."""
        return hashlib.sha256(bson.encode({"s": value_at(document, self.source)})).digest()


class AsyncReencoding:
    """Encodes the sources of one index beside readers and writers, then puts all vectors in place in one transaction.

    Until that is committed, searches and writes keep the old version.
    What was encoded is kept in a collection, so that a repetition after an interruption goes on from there.
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
        self._fields = _fields(field)
        self._spec = field.spec
        self._name = name
        self._encoded = Encoded()
        self._version = 0
        above = field.spec.path.rpartition(".")[0]
        self._there = {above: {"$type": "object"}} if above else {}

    async def run(self, progress: Progress | None) -> None:
        """Do it. Raises `ComponentNotFoundError`, `VectorError`, `PredictionError`, `BackendError`."""
        self._version = await self._models.newest(self._name)
        await self._backend.create_collection(_STAGED)
        await self._vectors.ensure(self._spec)
        if (await self._backend.capabilities()).transactions:
            await self._check_room()
            await self._in_transaction(progress)
        else:
            await self._stage(progress)
            await self._in_place()
        await self._models.read([self._spec.name])
        await self._vectors.rebuild(self._spec, progress)
        await self._backend.write(Delete(_STAGED, [{"_id.i": self._spec.name}]))

    async def _check_room(self) -> None:
        """Raise `BackendError` where the server cannot put all vectors in place in one transaction, or not in time."""
        filters = [field.mapping.type_filter() for field, _ in self._fields]
        counts = [(await self._backend.read(Count(self._spec.collection, one)))[0]["n"] for one in filters]
        await check_limits(self._backend, self._spec, sum(counts), _STAGED)

    async def _documents(self, session: AsyncClientSession | None = None) -> AsyncGenerator[_Batch]:
        """Keys and sources, in batches, with the field that is computed from them."""
        for field, source in self._fields:
            shown = dict.fromkeys(field.needed_of(source), 1)
            plan = Find(self._spec.collection, field.mapping.type_filter(), shown)
            async with aclosing(self._backend.stream(plan, session=session, batch_size=_BATCH)) as batches:
                async for found in batches:
                    yield _Batch(field, field.stored_path(source), found)

    # Encoding

    async def _stage(self, progress: Progress | None) -> None:
        """Encode every source that is not yet, or has changed since."""
        total = 0
        if progress is not None:
            total = (await self._backend.read(Count(self._spec.collection)))[0]["n"]
        done = 0
        async with aclosing(self._documents()) as batches:
            async for batch in batches:
                left = batch.without(await self._staged(batch, None))
                if left.found:
                    await self._write_staged(left, await self._encode(left))
                if progress is not None:
                    done += len(batch.found)
                    progress(done, max(done, total), f"{self._spec.name}: encoding")

    async def _staged(self, batch: _Batch, session: AsyncClientSession | None) -> dict[str, Any]:
        """The new vectors of those documents whose sources are encoded as they are, by canonical key.

        Each in a list, which is empty for documents that have no such field.
        """
        ids = [{"i": self._spec.name, "k": one["_id"]} for one in batch.found]
        plan = Find(_STAGED, {"_id": {"$in": ids}, "m": self._name, "v": self._version})
        by_key = {encode_key(one["_id"]["k"]): one for one in await self._backend.read(plan, session=session)}
        known: dict[str, Any] = {}
        for document in batch.found:
            key = encode_key(document["_id"])
            if key in by_key and by_key[key]["h"] == batch.hash(document):
                known[key] = by_key[key]["d"]
        return known

    async def _encode(self, batch: _Batch) -> dict[str, Any]:
        """The new vectors of documents as they are stored, by canonical key, each in a list."""
        need, without = need_of(batch.field, batch.found)
        encoded: dict[str, Any] = {encode_key(key): [None] for key in without}
        if need.objects:
            ((_, vectors),) = await self._models.outputs([need], self._version, self._encoded)
            kind = batch.field.part.type
            for (target, _), vector in zip(need.objects, vectors, strict=True):
                encoded[encode_key(vars(target)[RAW]["_id"])] = [kind.to_bson(vector)]
        return encoded

    async def _write_staged(self, batch: _Batch, encoded: Mapping[str, Any]) -> None:
        ops: list[UpdateOp] = []
        for document in batch.found:
            staged: dict[str, Any] = {"m": self._name, "v": self._version, "h": batch.hash(document)}
            staged["d"] = encoded.get(encode_key(document["_id"]), [])
            id = {"i": self._spec.name, "k": document["_id"]}
            ops.append(UpdateOp(q={"_id": id}, u={"$set": staged}, upsert=True))
        await self._backend.write(Update(_STAGED, ops))

    # Putting them in place

    async def _in_transaction(self, progress: Progress | None) -> None:
        for attempt in range(_ATTEMPTS):
            await self._stage(progress)
            until = time.time() + _ANNOUNCED
            known = await self._announce({}, {"$set": {"switching": until}})
            began = time.monotonic()
            try:
                await self._models.announcements.announce()
                await aio.sleep(GRACE)
                async with self._backend.transaction() as session:
                    await self._switch(session, until if known else None)
            except _Behind:
                pass
            except BaseException as error:
                await self._take_back(until)
                late = time.monotonic() - began > _LIMIT  # the server may have ended it for that
                if late or not has_error_label(error, "TransientTransactionError"):
                    raise
            else:
                return
            await self._take_back(until)
            await aio.sleep(random.random() * 0.1 * 2**attempt)
        raise BackendError(
            f"{self._spec.name}: others changed its documents in each of {_ATTEMPTS} attempts to put the new vectors "
            "in place, or the server had no room for all of them in one transaction; "
            "what was encoded is kept: do it again when fewer write, or with a larger cache of the server"
        )

    async def _announce(self, filter: Mapping[str, Any], change: Mapping[str, Any]) -> bool:
        """Change the announcement; whether there is a version recorded, and what the filter says."""
        op = UpdateOp(q={"_id": self._spec.name, **filter}, u=change)
        return (await self._backend.write(Update(INDEXES, [op]))).matched > 0

    async def _take_back(self, until: float) -> None:
        """Take the announcement back, unless another one has taken its place."""
        await self._announce({"switching": until}, {"$unset": {"switching": ""}})

    async def _switch(self, session: AsyncClientSession, until: float | None) -> None:
        """All in the transaction; the version first, so that writers who know of it conflict at once.

        `until` is what was announced: others may have put in a later time, but not taken it away, nor may it be over.
        """
        if until is None:
            await self._backend.write(self._recorded(), session=session)
        else:
            done = await self._backend.write(self._recorded({"switching": {"$gte": until}}), session=session)
            if not done.matched or time.time() > until:
                raise _Behind
        keys: list[Any] = []
        behind = 0
        async with aclosing(self._documents(session)) as batches:
            async for batch in batches:
                staged = await self._staged(batch, session)
                left = batch.without(staged)
                behind += len(left.found)
                if behind > _INSIDE:
                    raise _Behind
                if left.found:
                    staged |= await self._encode(left)
                await self._put(batch, staged, session)
                keys += batch.keys
        for record in self._vectors.records({self._spec: keys}):
            await self._backend.write(record, session=session)

    async def _in_place(self) -> None:
        """Without transactions: one document after the other, of the version that is written from then on.

        Who stored a vector of the old version before that is found here, and who does so later notices it.
        """
        await self._backend.write(self._recorded())
        await self._models.read([self._spec.name])
        async with aclosing(self._documents()) as batches:
            async for batch in batches:
                staged = await self._staged(batch, None)
                staged |= await self._encode(batch.without(staged))
                async with self._vectors.recording({self._spec: batch.keys}):
                    await self._put(batch, staged, None)

    async def _put(self, batch: _Batch, vectors: Mapping[str, Any], session: AsyncClientSession | None) -> None:
        ops: list[UpdateOp] = []
        for document in batch.found:
            key = encode_key(document["_id"])
            if vectors.get(key):
                filter = {"_id": document["_id"], **self._there}
                if session is None:  # who has changed the source stores the vector of the new one
                    filter[batch.source] = {"$eq": value_at(document, batch.source)}
                ops.append(UpdateOp(q=filter, u={"$set": {self._spec.path: vectors[key][0]}}))
        if ops:
            await self._backend.write(Update(self._spec.collection, ops), session=session)

    def _recorded(self, filter: Mapping[str, Any] | None = None) -> Update:
        """The version is now that of the new vectors; with a filter only where that matches."""
        now = {"kind": "index", "model": self._name, "version": self._version}
        change = {"$set": now, "$unset": {"switching": ""}}
        op = UpdateOp(q={"_id": self._spec.name, **(filter or {})}, u=change, upsert=filter is None)
        return Update(INDEXES, [op])


def _fields(field: VectorField) -> list[tuple[VectorField, MappedField]]:
    """The field, with its source, in each class of the collection; not again in classes of the same documents."""
    found = list[tuple[VectorField, MappedField]]()
    for one in field.mapping.sharing:
        for other in one.vectors:
            if other.spec.path != field.spec.path or other.source is None:
                continue
            if not any(_includes(known, other) for known, _ in found):
                found.append((other, other.source))
    return found


def _includes(known: VectorField, other: VectorField) -> bool:
    """Whether the documents of one field's class are among those of the other's."""
    filter = known.mapping.type_filter()
    return issubclass(other.mapping.cls, known.mapping.cls) or not filter or filter == other.mapping.type_filter()
