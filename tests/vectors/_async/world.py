"""A database with one vector index, as the tests of the vector protocol use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from attrs import define, field

from superorm._async.vector_indexes import AsyncVectorIndexes
from superorm.codec.keys import encode_key
from superorm.protocols._async.parts import AsyncDataBackend
from superorm.schema.vector_spec import VectorSpec
from superorm.unitofwork.writes import Delete, Update, UpdateOp, Write
from superorm.vectors.request import Hits, SearchRequest
from tests.vectors.brute import DIM, brute, stored

SPEC = VectorSpec("things", "v", DIM)


async def as_found(hits: Hits, session: Any) -> Hits:
    """A `finish` that does nothing."""
    return hits


@define
class AsyncWorld:
    """The indexes under test, and the same database through a plain client."""

    backend: AsyncDataBackend
    plain: Any
    indexes: AsyncVectorIndexes
    spec: VectorSpec = SPEC
    others: list[Any] = field(factory=list)

    async def write(self, writes: Sequence[Write], keys: Sequence[Any]) -> None:
        """One commit: the writes, and the record of the keys, as the backend can."""
        if not (await self.backend.capabilities()).transactions:
            async with self.indexes.recording({self.spec: keys}):
                for write in writes:
                    await self.backend.write(write)
            return
        async with self.backend.transaction() as session:
            for write in [*writes, *self.indexes.records({self.spec: keys})]:
                await self.backend.write(write, session=session)

    async def put(self, vectors: Mapping[Any, Any], **fields: Any) -> None:
        """Insert or replace documents, in one commit."""
        ops = [
            UpdateOp(q={"_id": key}, u={"$set": {"v": None if v is None else stored(v), **fields}}, upsert=True)
            for key, v in vectors.items()
        ]
        await self.write([Update(self.spec.collection, ops)], list(vectors))

    async def remove(self, *keys: Any) -> None:
        """Delete documents, in one commit."""
        await self.write([Delete(self.spec.collection, [{"_id": {"$in": list(keys)}}])], keys)

    async def search(self, query: Any, k: int = 5, *, session: Any = None, **options: Any) -> Hits:
        """An exact search."""
        request = SearchRequest(self.spec, np.asarray(query, np.float32), k=k, exact=True, **options)
        return await self.indexes.search(request, as_found, session=session)

    def expected(self, query: Any, k: int = 5, filter: Mapping[str, Any] | None = None) -> list[tuple[Any, float]]:
        """What brute force answers."""
        documents = list(self.plain[self.spec.collection].find(filter or {}).sort("_id", 1))
        return brute(documents, query, k, self.spec.metric)

    async def agrees(
        self, query: Any, k: int = 5, *, filter: Mapping[str, Any] | None = None, index: str | None = None
    ) -> Hits:
        """Assert that a search answers as brute force does; its hits."""
        hits = await self.search(query, k, filter=filter, index=index)
        expected = self.expected(query, k, filter)
        assert [encode_key(key) for key, _ in expected] == [encode_key(hit.key) for hit in hits]
        assert np.allclose([score for _, score in expected], [hit.score for hit in hits], atol=1e-7)
        return hits
