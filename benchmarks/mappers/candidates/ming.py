"""Ming with its object-document mapper.

With `find({}, validate=False)` it takes about half the time, and no longer checks types, which superorm does.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any, ClassVar

from mapper import Mapper
from ming import create_engine, schema
from ming.datastore import DataStore
from ming.odm import FieldProperty, MappedClass, ThreadLocalODMSession
from ming.odm import Mapper as MingMapper

NAME = f"Ming {version('ming')}"

store = DataStore(None, "")
session = ThreadLocalODMSession(bind=store)


class Flat(MappedClass):
    class __mongometa__:
        session = session
        name = "flat"

    _id = FieldProperty(schema.ObjectId)
    name = FieldProperty(schema.String)
    email = FieldProperty(schema.String)
    city = FieldProperty(schema.String)
    age = FieldProperty(schema.Int)
    visits = FieldProperty(schema.Int)
    score = FieldProperty(schema.Float)
    balance = FieldProperty(schema.Float)
    active = FieldProperty(schema.Bool)
    created = FieldProperty(schema.DateTime)
    updated = FieldProperty(schema.DateTime)


class Nested(MappedClass):
    class __mongometa__:
        session = session
        name = "nested"

    _id = FieldProperty(schema.ObjectId)
    title = FieldProperty(schema.String)
    year = FieldProperty(schema.Int)
    rating = FieldProperty({"source": str, "score": float, "votes": int})
    cast = FieldProperty([{"name": str, "role": str, "age": int}])
    embedding = FieldProperty(schema.Binary)


class Candidate(Mapper):
    notes: ClassVar = {
        "insert": "it has no transactions, and one command for each document",
        "modify": "it has no transactions, and one command for each document",
        "statement": "it has no builder: the filter is a dict",
    }

    def open(self, uri: str, database: str) -> None:
        store.bind, store.name = create_engine(uri), database
        MingMapper.compile_all()

    def new_flat(self, documents: Iterable[dict[str, Any]]) -> list[Flat]:
        return [Flat(**document) for document in documents]

    def forget(self) -> None:
        session.clear()

    def load_flat(self) -> list[Flat]:
        return Flat.query.find().all()

    def stream_flat(self) -> int:
        total = 0
        for one in Flat.query.find():
            total += one.age
        return total

    def load_nested(self) -> list[Nested]:
        return Nested.query.find().all()

    def insert(self, _: list[Flat]) -> None:
        session.flush()  # objects are in the session as soon as they are made

    def modify(self, objects: list[Flat], value: int) -> None:
        for one in objects:
            one.visits = value
        session.flush()

    def flush(self, _: list[Any]) -> None:
        session.flush()

    def statement(self) -> Any:
        conditions = {"age": {"$gte": 18}, "score": {"$lt": 0.5}, "name": {"$ne": "Nobody"}}
        cursor = Flat.query.find(conditions).sort("score", -1).limit(10)
        sent = cursor.ming_cursor.cursor
        return sent._spec, sent._ordering, sent._limit
