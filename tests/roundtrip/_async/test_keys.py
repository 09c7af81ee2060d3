"""Primary keys of every type that the server takes: written, found, changed and deleted, as plain PyMongo sees them."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from enum import Enum
from math import nan
from typing import Any, Literal, NotRequired, TypedDict
from uuid import UUID

import bson
import pymongo
import pytest
import pytest_asyncio
from bson import Binary, Code, DatetimeMS, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from pymongo.collection import Collection

from superorm import (
    AsyncDB,
    AsyncSession,
    Document,
    DuplicateKeyError,
    Embedded,
    Mapped,
    MappingError,
    Registry,
    ValidationError,
    connect_async,
    field,
    register_type,
)
from superorm.unitofwork.encode import CODEC_OPTIONS
from tests.databases import give_back, take
from tests.schema.helpers import exact

COLLECTION = "kept"


class Color(Enum):
    RED = "red"
    BLUE = 2


class Half(Embedded):
    n: Mapped[float]
    at: Mapped[dt.datetime]


class Pair(Embedded):
    b: Mapped[int]
    a: Mapped[str] = field(name="first")
    half: Mapped[Half | None] = field(default=None)


class Disc(Embedded):
    n: Mapped[int]


class Ring(Disc):
    m: Mapped[int] = field(default=0)


class Place(TypedDict):
    x: int
    y: NotRequired[float]


class Isbn:
    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Isbn) and self.text == other.text

    __hash__ = None  # type: ignore[assignment]


register_type(Isbn, lambda isbn: {"isbn": isbn.text}, lambda value: Isbn(value["isbn"]), bson_type=dict)

MOMENT = dt.datetime(2020, 1, 2, 3, 4, 5, 678000, tzinfo=dt.UTC)
KEYS: list[tuple[Any, list[tuple[Any, Any]]]] = [
    (str, [("", ""), ("ä\0'$.", "ä\0'$."), ("$title", "$title")]),
    (int, [(0, 0), (-1, -1), (2**63 - 1, 2**63 - 1), (2**53 + 1, 2**53 + 1)]),
    (float, [(1.0, 1.0), (0.1, 0.1), (nan, nan), (float("inf"), float("inf")), (-0.0, -0.0)]),
    (bool, [(True, True), (False, False)]),
    (bytes, [(b"", b""), (b"a\0", b"a\0")]),
    (dt.datetime, [(MOMENT, MOMENT), (MOMENT.replace(year=1, microsecond=0), MOMENT.replace(year=1, microsecond=0))]),
    (dt.date, [(dt.date(1960, 2, 3), dt.datetime(1960, 2, 3, tzinfo=dt.UTC))]),
    (
        Decimal,
        [(Decimal("1.10"), Decimal128("1.10")), (Decimal("NaN"), Decimal128("NaN")), (Decimal(7), Decimal128("7"))],
    ),
    (UUID, [(UUID(int=7), UUID(int=7))]),
    (ObjectId, [(ObjectId("0" * 24), ObjectId("0" * 24))]),
    (Color, [(Color.RED, "red"), (Color.BLUE, 2)]),
    (Literal["a", 1, True], [("a", "a"), (1, 1), (True, True)]),
    (int | str, [(1, 1), ("1", "1")]),
    (
        Pair,
        [
            (Pair(b=1, a="x"), {"b": 1, "first": "x", "half": None}),
            (
                Pair(b=2, a="x", half=Half(n=1.0, at=MOMENT)),
                {"b": 2, "first": "x", "half": {"n": 1.0, "at": MOMENT}},
            ),
        ],
    ),
    (Disc, [(Disc(n=1), {"n": 1}), (Ring(n=1), {"_type": "Ring", "n": 1, "m": 0})]),
    (Disc | Half, [(Disc(n=1), {"_type": "Disc", "n": 1}), (Ring(n=1), {"_type": "Ring", "n": 1, "m": 0})]),
    (dict[str, int], [({}, {}), ({"a": 1, "b": 2}, {"a": 1, "b": 2}), ({"b": 2, "a": 1}, {"b": 2, "a": 1})]),
    (Place, [({"x": 1}, {"x": 1}), ({"y": 2.0, "x": 1}, {"y": 2.0, "x": 1})]),
    (Isbn, [(Isbn("1"), {"isbn": "1"}), (Isbn("2"), {"isbn": "2"})]),
    (str | None, [(None, None), ("", "")]),
    (Literal["a", None], [("a", "a"), (None, None)]),
    (Pair | None, [(None, None), (Pair(b=1, a="x"), {"b": 1, "first": "x", "half": None})]),
    (
        Any,
        [
            (key, key)
            for key in (
                1,
                True,
                "1",
                b"1",
                Binary(b"1", 5),
                1.5,
                Decimal128("1.50001"),
                MinKey(),
                MaxKey(),
                Timestamp(1, 2),
                DatetimeMS(2**60),
                MOMENT,
                UUID(int=1),
                Binary(UUID(int=1).bytes, 3),
                Code("f"),
                Code("f", {"a": 1}),
                DBRef("c", 1),
                {"a": [1, {"b": 2.0}]},
                {"a": [{"b": 2.0}, 1]},
            )
        ],
    ),
]


def keyed(annotation: Any) -> Any:
    """A document class with a key of a type."""
    namespace = {
        "__module__": __name__,
        "__qualname__": "Keyed",
        "__collection__": COLLECTION,
        "__annotations__": {"key": Mapped[annotation], "n": Mapped[int]},
        "key": field(primary_key=True),
        "n": field(default=0),
    }
    return type(Document)("Keyed", (Document,), namespace, registry=Registry())


@pytest.fixture
def kept(mongodb_uri: str) -> Iterator[Collection[dict[str, Any]]]:
    """An empty collection of a real server, as plain PyMongo sees it."""
    name = take(mongodb_uri)
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        yield client[name].get_collection(COLLECTION, codec_options=CODEC_OPTIONS)
    give_back(mongodb_uri, name)


@pytest_asyncio.fixture
async def db(mongodb_uri: str, kept: Collection[dict[str, Any]]) -> AsyncIterator[AsyncDB]:
    """A DB of the database that the collection is in."""
    name = kept.database.name
    async with connect_async(mongodb_uri, database=name, vector_database="memory://", signing_key="test-key") as db:
        yield db


def encoded(value: Any) -> bytes:
    """The bytes of a value."""
    return bson.encode({"": value}, codec_options=CODEC_OPTIONS)


@pytest.mark.parametrize(("annotation", "pairs"), KEYS, ids=[str(annotation) for annotation, _ in KEYS])
async def test_life_of_a_key(
    db: AsyncDB, kept: Collection[dict[str, Any]], annotation: Any, pairs: list[tuple[Any, Any]]
) -> None:
    """Documents are inserted, found by their key as one object, changed and deleted."""
    cls = keyed(annotation)
    async with AsyncSession(db) as session:
        session.add_all([cls(key=key, n=n) for n, (key, _) in enumerate(pairs)])
        await session.commit()
    found = {document["n"]: document["_id"] for document in kept.find()}
    assert len(pairs) == len(found)
    for n, (_, stored) in enumerate(pairs):
        assert encoded(stored) == encoded(found[n])

    async with AsyncSession(db) as session:
        for n, (key, _) in enumerate(pairs):
            one = await session.get_one(cls, key)
            assert n == one.n
            assert exact(key, one.key)
            assert one is await session.get(cls, key)
            assert one is await session.get(cls, one.key)
            assert one in session
            one.n = n + 100
        await session.commit()
    assert {n + 100 for n in range(len(pairs))} == {document["n"] for document in kept.find()}
    for n, (_, stored) in enumerate(pairs):
        assert n + 100 == kept.find_one({"_id": {"$eq": stored}})["n"]  # type: ignore[index]

    async with AsyncSession(db) as session:
        for key, stored in pairs:
            session.add(cls(key=key))
            with pytest.raises(DuplicateKeyError):
                await session.commit()
            await session.rollback()
            session.delete(await session.get_one(cls, key))
            await session.commit()
            assert 0 == kept.count_documents({"_id": {"$eq": stored}})
            assert await session.get(cls, key) is None
    assert 0 == kept.count_documents({})


async def test_numbers_of_one_value_are_one_key(db: AsyncDB, kept: Collection[dict[str, Any]]) -> None:
    """1, 1.0, Int64(1) and Decimal128("1") are one key to the server and to a session, True is another."""
    cls = keyed(Any)
    zeros = [0, 0.0, -0.0, Decimal128("-0")]
    ones = [1, 1.0, Int64(1), Decimal128("1"), Decimal128("1.00")]
    nans = [nan, Decimal128("NaN"), -nan]
    inside = [{"a": 1, "b": [1.0]}, {"a": 1.0, "b": [1]}, {"a": Int64(1), "b": [Decimal128("1")]}]
    others = [True, False, {"a": True, "b": [1]}, {"b": [1], "a": 1}]
    kept.insert_many([{"_id": group[0], "n": n} for n, group in enumerate((zeros, ones, nans, inside))])
    kept.insert_many([{"_id": key, "n": -1} for key in others])
    async with AsyncSession(db) as session:
        for n, group in enumerate((zeros, ones, nans, inside)):
            objects = [await session.get_one(cls, key) for key in group]
            assert {n} == {one.n for one in objects}
            assert all(one is objects[0] for one in objects)
        assert 4 == len({id(await session.get_one(cls, key)) for key in others})
        for group in (zeros, ones, nans, inside):
            session.add_all([cls(key=group[-1]), cls(key=group[-2])])
            with pytest.raises(ValidationError, match="two new objects have this key"):
                await session.flush()
            await session.rollback()
            session.add(cls(key=group[-1]))
            with pytest.raises(DuplicateKeyError):
                await session.flush()
            await session.rollback()
        one = await session.get_one(cls, 1.0)
        one.n = 7
        await session.commit()
    assert [7] == [document["n"] for document in kept.find({"_id": Decimal128("1")})]


async def test_stored_keys_of_another_numeric_type(db: AsyncDB, kept: Collection[dict[str, Any]]) -> None:
    """A key that another program stored as 7.0 is an int field's 7, and is not written anew."""
    kept.insert_many([{"_id": 7.0, "n": 1}, {"_id": Decimal128("8"), "n": 1}])
    cls = keyed(int)
    async with AsyncSession(db) as session:
        one = await session.get_one(cls, 7)
        assert (int, 7) == (type(one.key), one.key)
        one.n = 2
        await session.commit()
        with pytest.raises(ValidationError, match="the stored value of _id does not fit: expected int, got Decimal128"):
            await session.get(cls, 8)
    assert encoded([7.0, 2]) == encoded([*kept.find_one({"_id": 7}).values()])  # type: ignore[union-attr]


async def test_the_order_in_compound_keys_matters(db: AsyncDB, kept: Collection[dict[str, Any]]) -> None:
    """As it does to the server: an embedded key is found in its class's order only; a stored one stays as it is."""
    kept.insert_one({"_id": {"first": "x", "b": 1, "half": None}, "n": 1})
    cls = keyed(Pair)
    async with AsyncSession(db) as session:
        key = Pair(b=1, a="x")
        assert await session.get(cls, key) is None
        session.add(cls(key=key, n=2))
        await session.commit()
        stored = {tuple(document["_id"]): document["n"] for document in kept.find()}
        assert {("first", "b", "half"): 1, ("b", "first", "half"): 2} == stored
    other = keyed(dict[str, Any])
    async with AsyncSession(db) as session:
        one = await session.get_one(other, {"first": "x", "b": 1, "half": None})
        one.n = 3
        await session.commit()
    assert [3, 2] == [document["n"] for document in kept.find()]


async def test_moments_are_cut_to_milliseconds(db: AsyncDB, kept: Collection[dict[str, Any]]) -> None:
    """Also in keys, and whatever their zone: it is the key that is stored."""
    cls = keyed(dt.datetime)
    given = MOMENT.astimezone(dt.timezone(dt.timedelta(hours=2))).replace(microsecond=678999)
    async with AsyncSession(db) as session:
        new = cls(key=given)
        session.add(new)
        await session.commit()
        assert new is await session.get(cls, given) is await session.get(cls, MOMENT)
    assert [MOMENT] == [document["_id"] for document in kept.find()]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (None, "a document needs a key; its key is None"),
        ([1], "MongoDB takes no array as a key"),
        ((), "MongoDB takes no array as a key"),
        (Regex("a"), "MongoDB takes no regular expression as a key"),
        ({"$a": 1}, "expected a key that is a string without dots, dollar signs and NUL"),
        (2**63, "expected an int of at most 64 bits"),
        ("\ud800", "surrogate"),
        ({"a": ["\ud800"]}, "surrogate"),
    ],
)
async def test_what_is_no_key(db: AsyncDB, kept: Collection[dict[str, Any]], key: Any, message: str) -> None:
    """It is refused before anything is written, naming the class's field."""
    cls = keyed(Any)
    async with AsyncSession(db) as session:
        session.add_all([cls(key=1), cls(key=key)])
        with pytest.raises(ValidationError, match=message) as raised:
            await session.commit()
        assert (raised.value.field or "").split(".")[0] in ("key", "_id")
    assert 0 == kept.count_documents({})


def test_declarations_that_are_refused() -> None:
    """What may be an array is no type of a key, and none has null without being told."""
    for annotation in (list[int], tuple[int, int], set[str], str | list[int]):
        with pytest.raises(
            MappingError, match=r"Keyed\.key: a primary key cannot be a .*, which MongoDB takes for many"
        ):
            keyed(annotation)
