"""MongoEngine."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any, ClassVar

import mongoengine as me
from mapper import Mapper

NAME = f"MongoEngine {version('mongoengine')}"


class Flat(me.Document):
    name = me.StringField()
    email = me.StringField()
    city = me.StringField()
    age = me.IntField()
    visits = me.IntField()
    score = me.FloatField()
    balance = me.FloatField()
    active = me.BooleanField()
    created = me.DateTimeField()
    updated = me.DateTimeField()
    meta = {"collection": "flat"}  # noqa: RUF012


class Rating(me.EmbeddedDocument):
    source = me.StringField()
    score = me.FloatField()
    votes = me.IntField()


class Part(me.EmbeddedDocument):
    name = me.StringField()
    role = me.StringField()
    age = me.IntField()


class Nested(me.Document):
    title = me.StringField()
    year = me.IntField()
    rating = me.EmbeddedDocumentField(Rating)
    cast = me.EmbeddedDocumentListField(Part)
    embedding = me.BinaryField()
    meta = {"collection": "nested"}  # noqa: RUF012


class Candidate(Mapper):
    notes: ClassVar = {
        "insert": "it has no transactions",
        "modify": "it has no transactions, and one command for each document",
    }

    def open(self, uri: str, database: str) -> None:
        me.connect(database, host=uri)

    def new_flat(self, documents: Iterable[dict[str, Any]]) -> list[Flat]:
        return [Flat(id=document.pop("_id"), **document) for document in documents]

    def load_flat(self) -> list[Flat]:
        return list(Flat.objects)

    def stream_flat(self) -> int:
        total = 0
        for one in Flat.objects.no_cache():
            total += one.age
        return total

    def load_nested(self) -> list[Nested]:
        return list(Nested.objects)

    def insert(self, objects: list[Flat]) -> None:
        Flat.objects.insert(objects, load_bulk=False)

    def modify(self, objects: list[Flat], value: int) -> None:
        for one in objects:
            one.visits = value
            one.save()

    def statement(self) -> Any:
        query = Flat.objects(age__gte=18, score__lt=0.5, name__ne="Nobody").order_by("-score").limit(10)
        return query._query, query._ordering, query._limit  # what iterating it would send
