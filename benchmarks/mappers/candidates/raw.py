"""PyMongo alone: dicts in, dicts out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import bson
from mapper import Mapper
from pymongo import MongoClient, UpdateOne

NAME = "PyMongo"


class Candidate(Mapper):
    aware = False
    """Whether it reads datetimes as superorm does: aware, in UTC."""
    notes: ClassVar = {"flush_flat": "bson.encode of each document", "flush_nested": "bson.encode of each document"}

    def open(self, uri: str, database: str) -> None:
        self.client: MongoClient[dict[str, Any]] = MongoClient(uri, tz_aware=self.aware)
        self.flat = self.client[database].flat
        self.nested = self.client[database].nested

    def new_flat(self, documents: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        return list(documents)

    def load_flat(self) -> list[dict[str, Any]]:
        return list(self.flat.find())

    def stream_flat(self) -> int:
        total = 0
        for document in self.flat.find():
            total += document["age"]
        return total

    def load_nested(self) -> list[dict[str, Any]]:
        return list(self.nested.find())

    def insert(self, documents: list[dict[str, Any]]) -> None:
        with self.client.start_session() as session, session.start_transaction():
            self.flat.insert_many(documents, session=session)

    insert_values = add_all = insert

    def modify(self, documents: list[dict[str, Any]], value: int) -> None:
        updates = [UpdateOne({"_id": document["_id"]}, {"$set": {"visits": value}}) for document in documents]
        with self.client.start_session() as session, session.start_transaction():
            self.flat.bulk_write(updates, session=session)

    def flush(self, documents: list[dict[str, Any]]) -> None:
        for document in documents:
            bson.encode(document)

    def statement(self) -> dict[str, Any]:
        return {
            "filter": {"age": {"$gte": 18}, "score": {"$lt": 0.5}, "name": {"$ne": "Nobody"}},
            "sort": {"score": -1},
            "limit": 10,
        }

    def age_sum(self, objects: Iterable[dict[str, Any]]) -> int:
        return sum(one["age"] for one in objects)

    def read_parts(self, objects: Sequence[dict[str, Any]]) -> int:
        total = 0
        for one in objects:
            total += one["rating"]["votes"]
            for part in one["cast"]:
                total += part["age"]
            if not len(one["embedding"]):
                raise ValueError("no vector")
        return total
