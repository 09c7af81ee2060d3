"""Validators: what superorm stores the server lets in, and what superorm cannot read it refuses where it can tell."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from enum import Flag
from typing import Any, Literal, NotRequired, TypedDict
from uuid import UUID, uuid4

import numpy as np
import pymongo
import pytest
from bson import Binary, Decimal128, Int64, MaxKey, ObjectId, Regex, Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.database import Database
from pymongo.errors import WriteError

from superorm import Document, Embedded, Mapped, Registry, ValidationError, field, vector
from superorm.codec.documents import dump
from superorm.schema.json_schema import json_schema
from superorm.schema.mapping import class_map
from superorm.unitofwork.encode import CODEC_OPTIONS
from tests.databases import drop_database
from tests.schema.helpers import document_class, load_one
from tests.schema.values import KINDS, Color, Point

Db = Database[dict[str, Any]]
_REFUSED = 121
NOW = dt.datetime(2020, 5, 4, 3, 2, 1, tzinfo=dt.UTC)

RAW: list[Any] = [
    *(None, True, False, 0, 1, -1, 3.0, 2.5, float("nan"), float("inf"), 2.0**63, -(2.0**63), Int64(2**63 - 1)),
    *("", "a", "red", b"x", Binary(b"x", 5), UUID(int=3), ObjectId(), NOW, dt.datetime(2020, 1, 1, tzinfo=dt.UTC)),
    *(Decimal128("1.5"), Regex("x"), Timestamp(1, 1), MaxKey(), [], [1, 2.0], ["a"], [[1]], [1, "a", None], [1, "a"]),
    *({}, {"a": 1}, {"a": {"b": 2.5}}, {"x": 1.5}, {"x": 1, "why": 2}, {"x": "1"}, [{"x": 1.0}], {"a": [{"x": 2}]}),
    *(
        {"dtype": "<f4", "shape": [1], "data": b"1234"},
        {"start": {"x": 1}},
        {"start": {}},
        {"start": {"x": 1}, "end": 3},
    ),
]
"""Stored values of every type."""


@pytest.fixture(scope="module")
def database(mongodb_uri: str) -> Iterator[Db]:
    """A database of a plain client."""
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        name = f"test_{uuid4().hex[:12]}"
        yield client.get_database(name, codec_options=CODEC_OPTIONS)
        drop_database(client, name)


def validated(database: Db, cls: type) -> pymongo.collection.Collection[dict[str, Any]]:
    """A collection with the validator of a class."""
    name = f"c_{uuid4().hex[:8]}"
    schema = json_schema(class_map(cls))
    options = {"validator": {"$jsonSchema": schema}}
    database.command("create", name, codec_options=CODEC_OPTIONS, **options)
    return database[name]


def accepts(collection: pymongo.collection.Collection[dict[str, Any]], document: dict[str, Any]) -> bool:
    """Whether the server lets a document in; any other error is raised."""
    try:
        collection.insert_one(dict(document))
    except WriteError as error:
        if error.code != _REFUSED:
            raise
        return False
    return True


@pytest.mark.parametrize("number", range(len(KINDS)), ids=[str(annotation) for annotation, _ in KINDS])
def test_what_superorm_stores_and_reads(database: Db, number: int) -> None:
    """Every generated value that superorm stores is let in, and so is every stored value that it reads."""
    annotation, values = KINDS[number]
    cls = document_class(value=annotation)
    collection = validated(database, cls)

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(values, min_size=3, max_size=6))
    def check(found: list[Any]) -> None:
        collection.insert_many([dump(class_map(cls), cls(value=value)) for value in found])

    check()
    for raw in RAW:
        document = {"_id": ObjectId(), "value": raw}
        try:
            load_one(cls, document).value  # noqa: B018
        except ValidationError:
            continue
        assert accepts(collection, document), raw


class Options(TypedDict):
    on: bool
    level: NotRequired[int]


WRONG: list[tuple[Any, list[Any]]] = [
    (str, [1, None, b"a", ["a"]]),
    (int, ["1", 1.5, True, None, float("nan"), float("inf"), 2.0**63, Decimal128("1"), NOW]),
    (float, ["1", True, None, Decimal128("1")]),
    (bool, [0, 1, "true", None]),
    (bytes, ["a", 1, None]),
    (dt.datetime, ["2020-01-01", 1, Timestamp(1, 1), None]),
    (dt.date, ["2020-01-01", None]),
    (Decimal, [1, 1.5, "1"]),
    (UUID, ["00000000-0000-0000-0000-000000000000", 1]),
    (ObjectId, ["5f0000000000000000000000", None]),
    (Color, ["green", 4, None, True, "RED"]),
    (Literal["a", 1], ["b", 2, True, None]),
    (str | None, [1, {}, []]),
    (int | None, ["1", 1.5, True]),
    (bool | int | str, [None, 1.5, {}]),
    (list[str], ["a", [1], [None], None, {"0": "a"}]),
    (set[int], [["a"], [1, None], [1.5]]),
    (tuple[int, str], [[1], [1, "a", 2], ["a", 1], []]),
    (dict[str, int], [{"a": "b"}, [1], None]),
    (dict[str, list[float]], [{"a": [1, "b"]}, {"a": 1}]),
    (Options, [{}, {"on": 1}, {"on": True, "level": "x"}, None]),
    (np.ndarray, [[1.0], {"dtype": "<f4"}, {"dtype": 1, "shape": [], "data": b""}, None]),
    (Point, [{}, {"x": "1"}, {"x": 1, "why": 1.5}, {"x": 1, "tags": [1]}, None, []]),
    (list[Point], [[{}], {"x": 1}, [None]]),
    (dict[str, Point], [{"a": {}}, {"a": None}]),
    (Point | str | None, [{}, 3, []]),
]
"""An annotation, and stored values that do not fit it."""


@pytest.mark.parametrize(("annotation", "values"), WRONG, ids=[str(annotation) for annotation, _ in WRONG])
def test_wrongly_typed_documents_are_refused(database: Db, annotation: Any, values: list[Any]) -> None:
    """What another program inserts with the wrong type, or without a required key, is refused."""
    collection = validated(database, document_class(value=annotation))
    assert not accepts(collection, {"_id": ObjectId()})
    assert not accepts(collection, {"_id": "text", "value": values[0]})
    assert [] == [value for value in values if accepts(collection, {"_id": ObjectId(), "value": value})]


class Sort(Embedded):
    __extra__ = "forbid"
    n: Mapped[int] = field(name="k")


class Tree(Embedded):
    name: Mapped[str]
    below: Mapped[list[Tree]] = field(factory=list)


class Holder(Document, registry=Registry()):
    __extra__ = "forbid"
    id: Mapped[int] = field(primary_key=True)
    sort: Mapped[Sort | None] = field(default=None)
    tree: Mapped[Tree | None] = field(default=None)
    emb: Mapped[np.ndarray | None] = vector(2)
    must: Mapped[np.ndarray] = vector(3, name="m")
    version: Mapped[int] = field(version=True)


def test_extra_keys_vectors_and_trees(database: Db) -> None:
    """Forbidden keys, vectors of both forms, a class in itself, and versions, which old documents may lack."""
    collection = validated(database, Holder)
    good: dict[str, Any] = {"m": [1, 2.5, Int64(3)]}
    holder = Holder(
        id=0, sort=Sort(n=1), tree=Tree(name="a", below=[Tree(name="b", below=[Tree(name="c")])]), must=np.ones(3)
    )
    assert accepts(collection, dump(class_map(Holder), holder))
    for number, extra in enumerate([{}, {"emb": None}, {"emb": [1.0, 2.0]}, {"version": 2}, {"sort": {"k": 3}}], 1):
        assert accepts(collection, {"_id": number, **good, **extra}), extra
    for extra in (
        {"other": 1},
        {"emb": [1.0]},
        {"emb": [1.0, 2.0, 3.0]},
        {"emb": ["a", "b"]},
        {"m": None},
        {"version": "1"},
        {"sort": {"k": 1, "n": 2}},
        {"sort": {}},
        {"tree": {"name": "a", "below": [1]}},
        {"tree": {"below": []}},
        {"_id": "a"},
    ):
        assert not accepts(collection, {"_id": 99, **good, **extra}), extra


class Power(Flag):
    READ = 1
    WRITE = 2


class Menu(TypedDict):
    name: str
    menus: NotRequired[list[Menu]]


class Leaf(Embedded):
    n: Mapped[int]


class Fork(Embedded):
    left: Mapped[Fork | Leaf]
    right: Mapped[Fork | Leaf]


class Part(Embedded):
    parts: Mapped[list[Part]] = field(factory=list)


class Named(Part):
    name: Mapped[str]
    others: Mapped[dict[str, Part]] = field(factory=dict)


class Nested(Document, registry=Registry()):
    menu: Mapped[Menu | None] = field(default=None)
    tree: Mapped[Fork | Leaf | None] = field(default=None)
    part: Mapped[Part | None] = field(default=None)
    power: Mapped[Power | None] = field(default=None)


def test_types_that_hold_themselves(database: Db) -> None:
    """TypedDicts, unions of classes, and classes with subclasses; and flags, which can be combined."""
    collection = validated(database, Nested)
    deep = Fork(left=Leaf(n=1), right=Fork(left=Fork(left=Leaf(n=1), right=Leaf(n=2)), right=Leaf(n=3)))
    part = Named(name="a", parts=[Part(), Named(name="b", others={"x": Named(name="c")})])
    menu: Menu = {"name": "a", "menus": [{"name": "b", "menus": [{"name": "c"}]}]}
    for power in (Power(0), Power.READ, Power.READ | Power.WRITE):
        whole = Nested(menu=menu, tree=deep, part=part, power=power)
        assert accepts(collection, dump(class_map(Nested), whole))
    for wrong in (
        {"menu": {"name": 1}},
        {"tree": {"_type": "Leaf", "n": "1"}},
        {"tree": {"_type": "Fork", "left": {"_type": "Leaf", "n": 1}}},
        {"part": {"_type": "Named"}},
        {"power": "READ"},
    ):
        assert not accepts(collection, wrong), wrong


class Shape(Document, registry=Registry()):
    name: Mapped[str] = field(default="")


class Circle(Shape):
    radius: Mapped[float]


class Square(Shape):
    __extra__ = "forbid"
    side: Mapped[int]


class Cat(Embedded):
    lives: Mapped[int] = field(default=9)


class Kitten(Cat):
    weeks: Mapped[int]


class Dog(Embedded):
    tricks: Mapped[list[str]] = field(factory=list)


class Owner(Document, registry=Registry()):
    cat: Mapped[Cat | None] = field(default=None)
    pets: Mapped[list[Cat | Dog]] = field(factory=list)


def test_documents_of_subclasses(database: Db) -> None:
    """Each class of a hierarchy has its own fields; the discriminator says which, and may be missing for the root."""
    collection = validated(database, Shape)
    for shape in (Shape(name="a"), Circle(radius=1.5), Square(side=2)):
        assert accepts(collection, dump(class_map(type(shape)), shape)), shape
    for raw in ({}, {"_type": "Shape"}, {"_type": "Circle", "radius": 1}, {"_type": "Square", "side": 1.0}):
        assert accepts(collection, raw), raw
    for raw in (
        {"_type": "Circle"},
        {"_type": "Circle", "radius": "1"},
        {"_type": "Triangle"},
        {"_type": None},
        {"_type": "Square", "side": 1, "more": 2},
        {"name": 3},
    ):
        assert not accepts(collection, raw), raw


def test_embedded_documents_of_several_classes(database: Db) -> None:
    """Unions of embedded classes are told apart by the discriminator, subclasses too."""
    collection = validated(database, Owner)
    for owner in (
        Owner(cat=Cat()),
        Owner(cat=Kitten(weeks=2)),
        Owner(pets=[Cat(), Dog(tricks=["sit"]), Kitten(weeks=1)]),
    ):
        assert accepts(collection, dump(class_map(Owner), owner)), owner
    for raw in (
        {"cat": {"_type": "Kitten"}},
        {"cat": {"_type": "Dog"}},
        {"pets": [{}]},
        {"pets": [{"_type": "Dog", "tricks": [1]}]},
        {"pets": [{"_type": "Bird"}]},
    ):
        assert not accepts(collection, raw), raw
