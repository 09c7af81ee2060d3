"""Which declared index is known to find what a filter matches: the server's own plans read no more by it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar
from uuid import uuid4

import pymongo
import pytest
from pymongo.collection import Collection

from superorm import Document, Embedded, Index, Mapped, Registry, field
from superorm.compile.serving import serving, serving_index
from superorm.schema.declared_indexes import declared_indexes
from superorm.schema.mapping import class_map
from tests.databases import drop_database

registry = Registry()


class Spine(Embedded):
    width: Mapped[int] = field(default=0, index=True, name="w")


class Tome(Document, registry=registry):
    __collection__ = "served_tomes"
    id: Mapped[int] = field(primary_key=True)
    year: Mapped[int] = field(default=0, index=True, name="y")
    shelf: Mapped[int] = field(default=0)
    row: Mapped[int] = field(default=0)
    weight: Mapped[int] = field(default=0)
    pages: Mapped[int] = field(default=0)
    tag: Mapped[str] = field(default="")
    mark: Mapped[str] = field(default="", index="hashed")
    spine: Mapped[Spine | None] = field(default=None)
    __indexes__: ClassVar = [
        Index("shelf", "-row", "weight"),
        Index("weight", sparse=True),
        Index("pages", hidden=True),
        Index("tag", collation={"locale": "en", "strength": 2}),
        Index("row", partial=lambda cls: cls.row > 3),
    ]


class Folio(Tome):
    plates: Mapped[int] = field(default=0, index=True)


SERVED: dict[str, list[dict[str, Any]]] = {
    "y": [{"y": 7}, {"y": {"$in": [1, 7, None]}}, {"y": {"$gte": 5, "$lt": 9}}, {"y": None}],
    "shelf, row, weight": [
        {"shelf": 3},
        {"shelf": {"$gt": 7}},
        {"row": 4, "shelf": 3},
        {"shelf": {"$eq": 3}, "row": {"$lte": 2}},
        {"$and": [{"shelf": {"$in": [3, 4]}}, {"row": 5, "weight": {"$gt": 2}}]},
    ],
    "spine.w": [{"spine.w": {"$gt": 7}}],
}
NOT_SERVED: list[dict[str, Any]] = [
    {},
    {"row": 4},
    {"weight": 4},
    {"pages": 4},
    {"tag": "a"},
    {"mark": "a"},
    {"y": 7, "shelf": 3},
    {"y": {"$ne": 7}},
    {"y": {"$gt": 3, "$ne": 7}},
    {"y": {"$not": {"$gt": 3}}},
    {"shelf": {"$gt": 3}, "row": 4},
    {"shelf": {"$gt": 3}, "row": {"$gt": 4}},
    {"$or": [{"y": 7}, {"shelf": 3}]},
    {"y": 7, "$nor": [{"shelf": 3}]},
    {"unknown": 1},
]


@pytest.mark.parametrize("filter", NOT_SERVED, ids=str)
def test_not_served(filter: dict[str, Any]) -> None:
    """Other fields, other operators, two ranges, and indexes that leave documents out or are of other kinds."""
    assert serving_index(class_map(Tome), filter) is None


def test_indexes_above() -> None:
    """Those that a class above declares are over the documents of the class too; those of one below are not asked."""
    assert "plates" == serving_index(class_map(Folio), {"plates": 1})
    assert "y" == serving_index(class_map(Folio), {"y": 1})
    assert serving_index(class_map(Tome), {"plates": 1}) is None


def test_the_first_index() -> None:
    """Of several that serve it is the first; an index may go on after the filter's fields."""
    assert ["b", "a"] == serving({"b": 1, "a": {"$gt": 3}}, [["a", "b", "c"], ["b", "a"]])
    assert ["b", "a", "c"] == serving({"b": 1, "a": 3}, [["b", "a", "c"], ["a", "b"]])
    assert serving({"a": 1}, []) is None


@pytest.fixture
def tomes(mongodb_uri: str) -> Iterator[Collection[Any]]:
    """A thousand tomes, with the declared indexes that the server is to choose from."""
    client: pymongo.MongoClient[Any] = pymongo.MongoClient(mongodb_uri)
    name = f"superorm_serving_{uuid4().hex[:8]}"
    tomes = client[name].tomes
    tomes.drop()
    tomes.insert_many(
        {
            "_id": n,
            "y": n % 10,
            "shelf": n // 10 % 10,
            "row": n // 100,
            "weight": n % 7,
            "pages": n % 10,
            "tag": "abc"[n % 3],
            "mark": "abc"[n % 3],
            "spine": {"w": n % 11},
        }
        for n in range(1000)
    )
    for index in declared_indexes(class_map(Tome)):
        if index.partial is None:
            tomes.create_index(list(index.keys), **index.options)
    yield tomes
    drop_database(client, name)
    client.close()


@pytest.mark.parametrize(("index", "filter"), [(name, one) for name, some in SERVED.items() for one in some], ids=str)
def test_served(tomes: Collection[Any], index: str, filter: dict[str, Any]) -> None:
    """The server goes by that index, and reads about as many of its entries as documents match."""
    assert index == serving_index(class_map(Tome), filter)
    command = {"explain": {"find": tomes.name, "filter": filter, "projection": {"_id": 1}}}
    stats = tomes.database.command({**command, "verbosity": "executionStats"})["executionStats"]
    matching = tomes.count_documents(filter)
    assert matching == stats["nReturned"]
    assert stats["totalKeysExamined"] <= matching + 10
