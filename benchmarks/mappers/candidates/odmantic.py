"""ODMantic with its synchronous engine."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from importlib.metadata import version
from typing import Any, ClassVar

from mapper import Mapper
from odmantic import EmbeddedModel, Model, SyncEngine, query
from pymongo import MongoClient

NAME = f"ODMantic {version('odmantic')}"


class Flat(Model):
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

    model_config = {"collection": "flat"}  # noqa: RUF012


class Rating(EmbeddedModel):
    source: str
    score: float
    votes: int


class Part(EmbeddedModel):
    name: str
    role: str
    age: int


class Nested(Model):
    title: str
    year: int
    rating: Rating
    cast: list[Part]
    embedding: bytes

    model_config = {"collection": "nested"}  # noqa: RUF012


class Candidate(Mapper):
    notes: ClassVar = {
        "insert": "one command for each document",
        "modify": "one command for each document",
    }

    def open(self, uri: str, database: str) -> None:
        self.engine = SyncEngine(MongoClient(uri), database)

    def new_flat(self, documents: Iterable[dict[str, Any]]) -> list[Flat]:
        return [Flat(id=document.pop("_id"), **document) for document in documents]

    def load_flat(self) -> list[Flat]:
        return list(self.engine.find(Flat))

    def stream_flat(self) -> int:
        total = 0
        for one in self.engine.find(Flat):
            total += one.age
        return total

    def load_nested(self) -> list[Nested]:
        return list(self.engine.find(Nested))

    def insert(self, objects: list[Flat]) -> None:
        with self.engine.transaction() as transaction:
            transaction.save_all(objects)
            transaction.commit()

    def modify(self, objects: list[Flat], value: int) -> None:
        for one in objects:
            one.visits = value
        with self.engine.transaction() as transaction:
            transaction.save_all(objects)
            transaction.commit()

    def flush(self, objects: list[Any]) -> None:
        self.engine.save_all(objects)

    def statement(self) -> Any:
        conditions = (Flat.age >= 18, Flat.score < 0.5, Flat.name != "Nobody")  # type: ignore[operator]
        order = query.desc(Flat.score)
        return self.engine._prepare_find_pipeline(Flat, *conditions, sort=order, limit=10)  # find() without sending it
