"""Beanie, which is asynchronous.

`lazy_parse=True`, which its documentation has for documents that are read in part, is left out: it takes longer than
this on the flat rows, and fails on `BsonBinary`; nested documents with `bytes` of which nothing is read gain a tenth.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from importlib.metadata import version
from typing import Any

from beanie import BsonBinary, BulkWriter, Document, init_beanie
from mapper import Mapper
from pydantic import BaseModel
from pymongo import AsyncMongoClient

NAME = f"Beanie {version('beanie')}"


class Flat(Document):
    name: str
    email: str
    city: str
    age: int
    visits: int
    score: float
    balance: float
    active: bool
    created: datetime
    updated: datetime

    class Settings:
        name = "flat"


class Rating(BaseModel):
    source: str
    score: float
    votes: int


class Part(BaseModel):
    name: str
    role: str
    age: int


class Nested(Document):
    title: str
    year: int
    rating: Rating
    cast: list[Part]
    embedding: BsonBinary

    class Settings:
        name = "nested"


class Candidate(Mapper):
    async def open(self, uri: str, database: str) -> None:
        self.client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(uri)
        await init_beanie(database=self.client[database], document_models=[Flat, Nested])

    def new_flat(self, documents: Iterable[dict[str, Any]]) -> list[Flat]:
        return [Flat(**document) for document in documents]

    async def load_flat(self) -> list[Flat]:
        return await Flat.find_all().to_list()

    async def stream_flat(self) -> int:
        total = 0
        async for one in Flat.find_all():
            total += one.age
        return total

    async def load_nested(self) -> list[Nested]:
        return await Nested.find_all().to_list()

    async def insert(self, objects: list[Flat]) -> None:
        async with self.client.start_session() as session, await session.start_transaction():
            await Flat.insert_many(objects, session=session)

    async def modify(self, objects: list[Flat], value: int) -> None:
        async with (
            self.client.start_session() as session,
            await session.start_transaction(),
            BulkWriter(session=session) as writer,
        ):
            for one in objects:
                await one.set({Flat.visits: value}, session=session, bulk_writer=writer)

    def statement(self) -> Any:
        query = Flat.find(Flat.age >= 18, Flat.score < 0.5, Flat.name != "Nobody").sort(-Flat.score).limit(10)
        return query.get_filter_query(), query.sort_expressions, query.limit_number
