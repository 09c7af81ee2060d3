"""mongospecs with msgspec structs, which is asynchronous."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from importlib.metadata import version
from typing import Any

import msgspec
from bson import Binary
from mapper import Mapper
from mongospecs import Q, Registry, SpecConfig
from mongospecs.msgspec import Spec

NAME = f"mongospecs {version('mongospecs')}"


class Flat(Spec):
    __spec__ = SpecConfig(collection="flat")

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


class Rating(msgspec.Struct):
    source: str
    score: float
    votes: int


class Part(msgspec.Struct):
    name: str
    role: str
    age: int


class Nested(Spec):
    __spec__ = SpecConfig(collection="nested")

    title: str
    year: int
    rating: Rating
    cast: list[Part]
    embedding: Binary


class Candidate(Mapper):
    async def open(self, uri: str, database: str) -> None:
        self.registry = await Registry(uri, database=database, models=[Flat, Nested]).__aenter__()

    def new_flat(self, documents: Iterable[dict[str, Any]]) -> list[Flat]:
        return [Flat(id=document.pop("_id"), **document) for document in documents]

    async def load_flat(self) -> list[Flat]:
        return await Flat.find().all()

    async def stream_flat(self) -> int:
        total = 0
        async for one in Flat.find().lean():
            total += one.age
        return total

    async def load_nested(self) -> list[Nested]:
        return await Nested.find().all()

    async def insert(self, objects: list[Flat]) -> None:
        await self.registry.transaction(lambda session: Flat.insert_many(objects, session=session))

    async def modify(self, objects: list[Flat], value: int) -> None:
        for one in objects:
            one.visits = value
        await self.registry.transaction(lambda session: Flat.bulk_save(objects, session=session))

    async def flush(self, objects: list[Any]) -> None:
        await type(objects[0]).bulk_save(objects)

    def statement(self) -> Any:
        return Flat.find(Q.age >= 18, Q.score < 0.5, Q.name != "Nobody").sort("-score").limit(10).compile()
