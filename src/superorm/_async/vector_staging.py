"""Encoding the sources of an index by a version of its model, and keeping the vectors beside the documents."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from superorm._async.vector_models import AsyncVectorModels
from superorm._io.progress import Progress
from superorm.codec.keys import encode_key
from superorm.codec.vectors import value_at
from superorm.compile.plan import Count, Find
from superorm.protocols._async.parts import AsyncDataBackend
from superorm.schema.mapping import MappedField
from superorm.schema.state import RAW
from superorm.schema.vector_fields import VectorField
from superorm.unitofwork.encoded import Encoded
from superorm.unitofwork.statement_writes import need_of
from superorm.unitofwork.writes import Update, UpdateOp
from superorm.vectors.mirror import without_parts
from superorm.vectors.records import Moving, in_parts
from superorm.vectors.staged import STAGE, source_hash, staged_id

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

__all__ = ["AsyncStaging", "Batch"]

_BATCH = 1_000


@frozen
class Batch:
    """Keys and sources of some documents, whose field is computed from these."""

    field: VectorField
    source: str
    """The stored path."""
    found: Sequence[dict[str, Any]]

    @property
    def keys(self) -> list[Any]:
        return [one["_id"] for one in self.found]

    def without(self, known: Mapping[str, Any]) -> Batch:
        """The documents whose canonical keys are not known."""
        return evolve(self, found=[one for one in self.found if encode_key(one["_id"]) not in known])

    def hash(self, document: Mapping[str, Any]) -> bytes:
        """That of the document's source."""
        return source_hash(document, self.source)


class AsyncStaging:
    """Encodes the sources of one index beside readers and writers.

    What was encoded is kept in a collection, so that a repetition after an interruption goes on from there.
    """

    def __init__(self, backend: AsyncDataBackend, models: AsyncVectorModels, field: VectorField) -> None:
        self._backend = backend
        self._models = models
        self._fields = _fields(field)
        self._encoded = Encoded()
        self._content = ""
        """Of the version that encodes."""
        self.spec = field.spec
        above = field.spec.path.rpartition(".")[0]
        self._there = {above: {"$type": "object"}} if above else {}

    async def documents(
        self, keys: Mapping[str, Any] | None = None, session: AsyncClientSession | None = None
    ) -> AsyncGenerator[Batch]:
        """Keys, sources and vectors, in batches, with the field that is computed from them; those of `keys` only."""
        parts = [None] if keys is None else in_parts(keys, _BATCH)
        for field, source in self._fields:
            shown = dict.fromkeys(without_parts([*field.needed_of(source), self.spec.path]), 1)
            for part in parts:
                chosen = {} if part is None else {"_id": {"$in": part}}
                plan = Find(self.spec.collection, {"$and": [field.mapping.type_filter(), chosen]}, shown)
                async with aclosing(self._backend.stream(plan, session=session, batch_size=_BATCH)) as batches:
                    async for found in batches:
                        yield Batch(field, field.stored_path(source), found)

    async def begin(self, moving: Moving) -> None:
        """Take only what this version encodes as it is now. Raises `ComponentNotFoundError`."""
        self._content = await self._models.content(moving.model, moving.version)
        self._encoded.clear()

    async def is_current(self, moving: Moving) -> bool:
        """Whether the version was not replaced since. Raises `ComponentNotFoundError` where it was removed."""
        return await self._models.content(moving.model, moving.version) == self._content

    async def stage(
        self,
        moving: Moving,
        progress: Progress | None,
        keys: Mapping[str, Any] | None = None,
    ) -> None:
        """Encode every source that is not yet, or has changed since; of `keys` only, where they are given."""
        total = 0
        if progress is not None:
            total = (await self._backend.read(Count(self.spec.collection)))[0]["n"]
        done = 0
        async with aclosing(self.documents(keys)) as batches:
            async for batch in batches:
                left = batch.without(await self.staged(batch, moving, None))
                if left.found:
                    await self.write(left, moving, await self.encode(left, moving), None)
                if progress is not None:
                    done += len(batch.found)
                    progress(done, max(done, total), f"{self.spec.name}: encoding")

    async def staged(self, batch: Batch, moving: Moving, session: AsyncClientSession | None) -> dict[str, Any]:
        """The new vectors of those documents whose sources are encoded as they are, by canonical key.

        Each in a list, which is empty for documents that have no such field.
        """
        ids = [staged_id(self.spec.name, moving, one["_id"]) for one in batch.found]
        found = await self._backend.read(Find(STAGE, {"_id": {"$in": ids}}), session=session)
        by_key = {encode_key(one["_id"]["k"]): one for one in found}
        known: dict[str, Any] = {}
        for document in batch.found:
            key = encode_key(document["_id"])
            one = by_key.get(key)
            if one is not None and one.get("c") == self._content and one["h"] == batch.hash(document):
                known[key] = one["d"]
        return known

    async def encode(self, batch: Batch, moving: Moving) -> dict[str, Any]:
        """The new vectors of documents as they are stored, by canonical key, each in a list."""
        need, without = need_of(batch.field, batch.found)
        encoded: dict[str, Any] = {encode_key(key): [None] for key in without}
        if need.objects:
            ((_, vectors),) = await self._models.outputs([need], moving.version, self._encoded)
            kind = batch.field.part.type
            for (target, _), vector in zip(need.objects, vectors, strict=True):
                encoded[encode_key(vars(target)[RAW]["_id"])] = [kind.to_bson(vector)]
        return encoded

    async def write(
        self, batch: Batch, moving: Moving, encoded: Mapping[str, Any], session: AsyncClientSession | None
    ) -> None:
        """Keep what was encoded."""
        ops: list[UpdateOp] = []
        for document in batch.found:
            staged: dict[str, Any] = {"s": batch.source, "h": batch.hash(document), "c": self._content}
            staged["d"] = encoded.get(encode_key(document["_id"]), [])
            id = staged_id(self.spec.name, moving, document["_id"])
            ops.append(UpdateOp(q={"_id": id}, u={"$set": staged}, upsert=True))
        await self._backend.write(Update(STAGE, ops), session=session)

    def placing(self, document: Mapping[str, Any], vector: Any, source: str | None = None) -> UpdateOp:
        """The change that puts the vector into a document that was read, as long as its `source` is the same.

        That is for writes without transactions: who has changed the source stores the vector of the new one.
        """
        filter = {"_id": document["_id"], **self._there}
        if source is not None:
            filter[source] = {"$eq": value_at(document, source)}
        return UpdateOp(q=filter, u={"$set": {self.spec.path: vector}})


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
