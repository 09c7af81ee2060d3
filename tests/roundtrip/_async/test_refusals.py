"""What a document cannot hold is refused at the flush with its full path, before anything is written."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any, TypedDict

import pytest
import pytest_asyncio
from bson import Binary, Regex

from superorm import (
    AsyncDB,
    AsyncSession,
    Document,
    Embedded,
    Mapped,
    Registry,
    ValidationError,
    field,
    register_type,
    select,
)
from tests._async.databases import own_db

registry = Registry()
BAD = "a\ud800"
NAIVE = dt.datetime(2020, 1, 1)  # noqa: DTZ001
LONG = Decimal("1" * 35)
OVER = 2**63


class Tag:
    def __init__(self, value: Any) -> None:
        self.value = value


register_type(Tag, lambda tag: tag.value, Tag)


class Foreign:
    """A class that is not registered."""

    def __repr__(self) -> str:
        return "Foreign()"


class Typed(TypedDict, total=False):
    n: int
    any: Any
    names: dict[str, str]


class Part(Embedded):
    text: Mapped[str] = field(default="", name="t")
    n: Mapped[int] = field(default=0)
    at: Mapped[dt.datetime | None] = field(default=None)
    price: Mapped[Decimal | None] = field(default=None)
    any: Mapped[Any] = field(default=None)
    parts: Mapped[list[Part]] = field(factory=list)


class First(Document, registry=registry):
    n: Mapped[int]


class Second(Document, registry=registry):
    id: Mapped[str] = field(primary_key=True)
    text: Mapped[str] = field(default="", name="words")
    names: Mapped[dict[str, str]] = field(factory=dict)
    texts: Mapped[set[str]] = field(factory=set)
    pair: Mapped[tuple[str, int]] = field(default=("", 0))
    typed: Mapped[Typed] = field(factory=lambda: {"n": 1})
    any: Mapped[Any] = field(default=None)
    tag: Mapped[Tag | None] = field(default=None)
    part: Mapped[Part] = field(factory=Part)
    blob: Mapped[bytes] = field(default=b"")
    blobs: Mapped[list[bytes]] = field(factory=list)


def nested(levels: int) -> Any:
    """Lists and dicts in one another."""
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


def tree(levels: int) -> Part:
    """Parts in one another, each two levels."""
    part = Part()
    for _ in range(levels - 1):
        part = Part(parts=[part])
    return part


ITSELF: list[Any] = []
ITSELF.append(ITSELF)

ENCODED: list[tuple[str, Any, str]] = [
    ("text", BAD, "text"),
    ("names", {"a": BAD}, "names.a"),
    ("names", {BAD: "a"}, "names.a\\ud800"),
    ("texts", {BAD}, "texts.0"),
    ("pair", (BAD, 1), "pair.0"),
    ("typed", {"n": 1, "any": [BAD]}, "typed.any.0"),
    ("typed", {"names": {"x": BAD}}, "typed.names.x"),
    ("any", BAD, "any"),
    ("any", [{"a": {BAD: 1}}], "any.0.a.a\\ud800"),
    ("any", {"a": (1, [BAD])}, "any.a.1.0"),
    ("tag", Tag({"a": [BAD]}), "tag.a.0"),
    ("part", Part(text=BAD), "part.t"),
    ("part", Part(parts=[Part(), Part(any={"a": BAD})]), "part.parts.1.any.a"),
    ("blob", b"x" * 17 * 1024 * 1024, "blob"),
    ("blobs", [b"x" * 9 * 1024 * 1024] * 2, "blobs"),
    ("any", [nested(100)], "any.0"),
    ("part", tree(60), "part.parts"),
]
"""A field, a value, and the stored path that the error names."""
CHECKED: list[tuple[str, Any, str, str]] = [
    ("part", Part(n=OVER), "part.n", "an int of at most 64 bits"),
    ("any", {"a": [OVER]}, "any.a.0", "an int of at most 64 bits"),
    ("typed", {"n": -OVER - 1}, "typed.n", "an int of at most 64 bits"),
    ("pair", ("", OVER), "pair.1", "an int of at most 64 bits"),
    ("tag", Tag([OVER]), "tag.0", "an int of at most 64 bits"),
    ("part", Part(parts=[Part(price=LONG)]), "part.parts.0.price", "a Decimal of at most 34 digits"),
    ("part", Part(at=NAIVE), "part.at", "an aware datetime"),
    ("any", [{"a": NAIVE}], "any.0.a", "an aware datetime"),
    ("tag", Tag({"a": NAIVE}), "tag.a", "an aware datetime"),
    ("names", {"a.b": ""}, "names", "a key that is a string without dots, dollar signs and NUL, got str 'a.b'"),
    ("names", {"a$": ""}, "names", "got str 'a$'"),
    ("names", {"\0": ""}, "names", r"got str '\x00'"),
    ("names", {1: ""}, "names", "got int 1"),
    ("any", [{"a": {"$where": 1}}], "any.0.a", "got str '$where'"),
    ("any", {"a": {b"x": 1}}, "any.a", "got bytes b'x'"),
    ("typed", {"any": {"a": {"b.c": 1}}}, "typed.any.a", "got str 'b.c'"),
    ("typed", {"names": {"$": ""}}, "typed.names", "got str '$'"),
    ("part", Part(any={"a\0": 1}), "part.any", r"got str 'a\x00'"),
    ("tag", Tag({"a": {"$b": 1}}), "tag.a", "got str '$b'"),
    ("any", Foreign(), "any", "a value that BSON holds, got Foreign Foreign()"),
    ("any", {"a": [Tag(1)]}, "any.a.0", "a value that BSON holds, got Tag"),
    ("typed", {"any": Foreign()}, "typed.any", "a value that BSON holds"),
    ("tag", Tag(Foreign()), "tag", "a value that BSON holds from the function to_bson of Tag"),
    ("part", Foreign(), "part", "expected Part, got Foreign"),
    ("any", nested(101), "any.{}", "at most 100 levels of nesting"),
    ("any", nested(5000), "any.{}", "at most 100 levels of nesting"),
    ("any", ITSELF, "any.{}", "at most 100 levels of nesting"),
    ("tag", Tag(nested(5000)), "tag.{}", "at most 100 levels of nesting from the function to_bson of Tag"),
    ("part", tree(2000), "part.parts.0.parts.0{}", "at most 100 levels of nesting"),
]
"""A field, a value, the path (up to ``{}``) and a part of the message."""


@pytest_asyncio.fixture(params=["mongomock", "mongodb"])
async def db(request: pytest.FixtureRequest, mongodb_uri: str) -> AsyncIterator[AsyncDB]:
    """A DB with a database of its own, with and without transactions."""
    async with own_db(request.param, mongodb_uri) as db:
        yield db


async def refused(db: AsyncDB, attribute: str, value: Any) -> list[ValidationError]:
    """The errors of committing a new object with the value, and a stored one that gets it; nothing is written."""
    errors: list[ValidationError] = []
    async with AsyncSession(db) as session:
        session.add(Second(id="old"))
        await session.commit()
        for new in (True, False):
            session.add(First(n=1))
            if new:
                session.add(Second(id="new", **{attribute: value}))
            else:
                setattr(await session.get_one(Second, "old"), attribute, value)
            with pytest.raises(ValidationError) as raised:
                await session.commit()
            errors.append(raised.value)
            await session.rollback()
    async with AsyncSession(db) as session:
        assert [] == (await session.scalars(select(First))).all()
        assert [("old", "")] == [(one.id, one.text) for one in (await session.scalars(select(Second))).all()]
    return errors


@pytest.mark.parametrize(("attribute", "value", "path"), ENCODED, ids=[path for _, _, path in ENCODED])
async def test_what_bson_cannot_encode(db: AsyncDB, attribute: str, value: Any, path: str) -> None:
    """Lone surrogates, documents over 16 MiB and over 100 levels: the error names class, key and path."""
    for key, error in zip(("new", "old"), await refused(db, attribute, value), strict=True):
        assert (Second, key) == (error.document_class, error.key)
        assert (error.field or "").startswith(path)
        if "\\" in path or path in ("text", "blob", "blobs"):
            assert path == error.field


@pytest.mark.parametrize(
    ("attribute", "value", "path", "message"), CHECKED, ids=[f"{path}-{text[-30:]}" for _, _, path, text in CHECKED]
)
async def test_what_does_not_fit(db: AsyncDB, attribute: str, value: Any, path: str, message: str) -> None:
    """The error names class, key, path and value."""
    for key, error in zip(("new", "old"), await refused(db, attribute, value), strict=True):
        assert f"Second '{key}': " in str(error)
        assert message in str(error)
        assert (Second, key) == (error.document_class, error.key)
        if path.endswith("{}"):
            assert (error.field or "").startswith(path[:-3])
        else:
            assert path == error.field


async def test_what_just_fits(db: AsyncDB) -> None:
    """The limits themselves are taken."""
    values: dict[str, Any] = {
        "any": [OVER - 1, -OVER, nested(98), Binary(b"x", 7), Regex("a")],
        "part": Part(price=Decimal("1" * 34), n=-OVER),
        "names": {"": "", " ä": "\uffff"},
        "typed": {"n": OVER - 1},
    }
    async with AsyncSession(db) as session:
        session.add(Second(id="new", **values))
        session.add(Second(id="deep", part=tree(50)))
        await session.commit()
    async with AsyncSession(db) as session:
        one = await session.get_one(Second, "new")
        for name, value in values.items():
            assert value == getattr(one, name)
        assert tree(50) == (await session.get_one(Second, "deep")).part
