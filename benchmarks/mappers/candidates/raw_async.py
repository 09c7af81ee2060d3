"""PyMongo alone, asynchronously."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pymongo import AsyncMongoClient, UpdateOne

from candidates import raw

NAME = "PyMongo, asynchronous"


class Candidate(raw.Candidate):
    def open(self, uri: str, database: str) -> None:
        self.client: Any = AsyncMongoClient(uri)
        self.flat: Any = self.client[database].flat
        self.nested: Any = self.client[database].nested

    async def load_flat(self) -> list[dict[str, Any]]:  # type: ignore[override]
        found: list[dict[str, Any]] = await self.flat.find().to_list()
        return found

    async def stream_flat(self) -> int:  # type: ignore[override]
        total = 0
        async for document in self.flat.find():
            total += document["age"]
        return total

    async def load_nested(self) -> list[dict[str, Any]]:  # type: ignore[override]
        found: list[dict[str, Any]] = await self.nested.find().to_list()
        return found

    async def insert(self, documents: list[dict[str, Any]]) -> None:  # type: ignore[override]
        async with self.client.start_session() as session, await session.start_transaction():
            await self.flat.insert_many(documents, session=session)

    insert_values = add_all = insert  # type: ignore[assignment]

    async def modify(self, documents: Sequence[dict[str, Any]], value: int) -> None:  # type: ignore[override]
        updates = [UpdateOne({"_id": document["_id"]}, {"$set": {"visits": value}}) for document in documents]
        async with self.client.start_session() as session, await session.start_transaction():
            await self.flat.bulk_write(updates, session=session)
