"""What a document cannot hold is refused with its full path; what is stored wrongly is an error when it is read."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from typing import Any, Literal

import numpy as np
import pytest
from bson import Binary, DatetimeMS, Int64, ObjectId

from superorm import Document, Embedded, Mapped, Registry, SuperormError, ValidationError, VectorError, field, vector
from superorm.codec.documents import dump
from superorm.schema.mapping import class_map
from superorm.unitofwork.encode import encode_documents
from tests.schema.helpers import change_of, load_one, store


class Color(Enum):
    RED = "red"


class Shade(Enum):
    RED = "red"


class Part(Embedded):
    n: Mapped[int] = field(default=0)
    at: Mapped[dt.datetime | None] = field(default=None)
    price: Mapped[Decimal | None] = field(default=None, name="p")
    parts: Mapped[list[Part]] = field(factory=list)


class SubInt(int):
    pass


class Thing(Document, registry=Registry()):
    id: Mapped[str] = field(primary_key=True)
    text: Mapped[str] = field(default="")
    n: Mapped[int] = field(default=0)
    f: Mapped[float] = field(default=0.0)
    flag: Mapped[bool] = field(default=False)
    raw: Mapped[bytes] = field(default=b"")
    at: Mapped[dt.datetime | None] = field(default=None)
    day: Mapped[dt.date | None] = field(default=None)
    price: Mapped[Decimal | None] = field(default=None)
    color: Mapped[Color] = field(default=Color.RED)
    level: Mapped[Literal[1, 2]] = field(default=1)
    part: Mapped[Part | None] = field(default=None)
    parts: Mapped[list[Part]] = field(factory=list)
    named: Mapped[dict[str, Part]] = field(factory=dict)
    pair: Mapped[tuple[int, str]] = field(default=(0, ""))
    numbers: Mapped[set[int]] = field(factory=set)
    meta: Mapped[dict[str, Any]] = field(factory=dict)
    anything: Mapped[Any] = field(default=None)
    either: Mapped[int | str | dict[str, int] | Decimal | None] = field(default=None)
    array: Mapped[np.ndarray | None] = field(default=None)
    mixed: Mapped[int | str | list[Part] | None] = field(default=None)
    vec: Mapped[np.ndarray | None] = vector(2)
    must: Mapped[np.ndarray] = vector(2)


MUST = np.zeros(2, np.float32)
NAIVE = dt.datetime(2020, 1, 1)  # noqa: DTZ001
OVER = 2**63
LONG = Decimal("1" * 35)
LATE = dt.datetime.max.replace(tzinfo=dt.timezone(dt.timedelta(hours=-5)))

CASES: list[tuple[dict[str, Any], str, str]] = [
    ({"text": 5}, "text", "expected str, got int 5"),
    ({"text": None}, "text", "expected str, got NoneType None"),
    ({"text": Color.RED}, "text", "expected str, got Color"),
    ({"n": OVER}, "n", "expected an int of at most 64 bits, got int 9223372036854775808"),
    ({"n": -OVER - 1}, "n", "at most 64 bits"),
    ({"either": OVER}, "either", "expected an int of at most 64 bits, got int 9223372036854775808"),
    ({"either": {"a.b": 1}}, "either", "expected a key that is a string without dots, dollar signs and NUL, got str"),
    ({"either": Decimal(OVER**2)}, "either", "expected a Decimal of at most 34 digits"),
    ({"either": 1.5}, "either", "expected int | str | dict[str, int] | Decimal | None, got float 1.5"),
    ({"n": 1.0}, "n", "expected int, got float 1.0"),
    ({"n": np.timedelta64(1, "D")}, "n", "expected int, got timedelta64"),
    ({"n": np.timedelta64(1, "ns")}, "n", "expected int, got timedelta64"),
    ({"f": np.timedelta64(1, "Y")}, "f", "expected float, got timedelta64"),
    ({"f": np.timedelta64("NaT")}, "f", "expected float, got timedelta64"),
    ({"anything": np.timedelta64(1, "ns")}, "anything", "expected a value that BSON holds, got timedelta64"),
    ({"anything": np.datetime64("NaT")}, "anything", "expected a value that BSON holds, got datetime64"),
    ({"anything": np.datetime64(1, "ns")}, "anything", "expected a value that BSON holds, got datetime64"),
    ({"n": True}, "n", "expected int, got bool True"),
    ({"f": 10**400}, "f", "this int is too large for"),
    ({"f": True}, "f", "expected float, got bool True"),
    ({"f": "1"}, "f", "expected float, got str '1'"),
    ({"flag": 1}, "flag", "expected bool, got int 1"),
    ({"raw": "x"}, "raw", "expected bytes, got str 'x'"),
    ({"at": NAIVE}, "at", "expected an aware datetime, got datetime datetime.datetime(2020, 1, 1, 0, 0)"),
    ({"at": LATE}, "at", "expected a datetime within the years 1 to 9999 of UTC"),
    ({"at": dt.date(2020, 1, 1)}, "at", "expected an aware datetime, got date"),
    ({"day": NAIVE}, "day", "expected date, got datetime"),
    ({"price": LONG}, "price", "expected a Decimal of at most 34 digits"),
    ({"price": Decimal("1E+7000")}, "price", "exponent within"),
    ({"price": 1.5}, "price", "expected Decimal, got float 1.5"),
    ({"color": "red"}, "color", "expected Color, got str 'red'"),
    ({"color": Shade.RED}, "color", "expected Color, got Shade"),
    ({"level": 3}, "level", "expected Literal[1, 2], got int 3"),
    ({"level": True}, "level", "expected Literal[1, 2], got bool True"),
    ({"part": Thing}, "part", "expected Part, got ThingMeta"),
    ({"part": {"n": 1}}, "part", "expected Part, got dict {'n': 1}"),
    ({"part": Part(n=OVER)}, "part.n", "at most 64 bits"),
    ({"part": Part(price=LONG)}, "part.price", "at most 34 digits"),
    ({"part": Part(parts=[Part(), Part(at=NAIVE)])}, "part.parts.1.at", "expected an aware datetime"),
    ({"parts": [Part(), 5]}, "parts.1", "expected Part, got int 5"),
    ({"parts": (Part(),)}, "parts", "expected list[Part], got tuple"),
    ({"named": {"a": Part(), "b": Part(n="x")}}, "named.b.n", "expected int, got str 'x'"),  # type: ignore[arg-type]
    (
        {"named": {"a.b": Part()}},
        "named",
        "expected a key that is a string without dots, dollar signs and NUL, got str 'a.b'",
    ),
    ({"named": {"$a": Part()}}, "named", "got str '$a'"),
    ({"named": {"a\0": Part()}}, "named", "got str 'a\\x00'"),
    ({"named": {1: Part()}}, "named", "got int 1"),
    ({"named": [Part()]}, "named", "expected dict[str, Part], got list"),
    ({"pair": (1, 2)}, "pair.1", "expected str, got int 2"),
    ({"pair": (1, "a", 2)}, "pair", "expected tuple[int, str], got tuple"),
    ({"pair": [1, "a"]}, "pair", "expected tuple[int, str], got list"),
    ({"numbers": {OVER}}, "numbers.0", "at most 64 bits"),
    ({"numbers": [1]}, "numbers", "expected set[int], got list [1]"),
    ({"meta": {"a": {"b": [1, NAIVE]}}}, "meta.a.b.1", "expected an aware datetime"),
    ({"meta": {"a": [{"b": OVER}]}}, "meta.a.0.b", "at most 64 bits"),
    ({"meta": {"a": {"b.c": 1}}}, "meta.a", "got str 'b.c'"),
    ({"meta": {"a": object}}, "meta.a", "expected a value that BSON holds, got type"),
    ({"meta": {"a": Part()}}, "meta.a", "expected a value that BSON holds, got Part"),
    ({"anything": {1, 2}}, "anything", "expected a value that BSON holds, got set"),
    ({"anything": Decimal(1)}, "anything", "expected a value that BSON holds, got Decimal"),
    ({"anything": dt.date(2020, 1, 1)}, "anything", "got date"),
    ({"array": [1.0]}, "array", "expected numpy array, got list [1.0]"),
    ({"array": np.array([object()])}, "array", "expected numpy array of numbers, texts or times, not of object"),
    ({"mixed": 1.5}, "mixed", "expected int | str | list[Part] | None, got float 1.5"),
    ({"mixed": [Part(n="x")]}, "mixed.0.n", "expected int, got str 'x'"),  # type: ignore[arg-type]
    ({"vec": [1, 2, 3]}, "vec", "expected vector of 2 numbers, not of shape (3,)"),
    ({"vec": [1, float("nan")]}, "vec", "expected vector of 2 numbers, all finite"),
    ({"vec": [1e300, 0]}, "vec", "expected vector of 2 numbers, all finite"),
    ({"vec": [10**400, 0]}, "vec", "expected vector of 2 numbers"),
    ({"vec": "x"}, "vec", "expected vector of 2 numbers, got str 'x'"),
    ({"must": None}, "must", "expected vector of 2 numbers"),
]


@pytest.mark.parametrize(
    ("changes", "path", "message"), CASES, ids=[f"{path}-{words[-40:]}" for _, path, words in CASES]
)
def test_new_and_changed_objects(changes: dict[str, Any], path: str, message: str) -> None:
    """A value that does not fit is refused in a new object as in a stored one, naming class, key, path and value."""
    new = Thing(id="k", **{"must": MUST, **changes})
    stored = load_one(Thing, store(Thing(id="k", must=MUST)))
    for name, value in changes.items():
        setattr(stored, name, value)
    kind = VectorError if path in ("vec", "must") else ValidationError
    with pytest.raises(kind) as of_new:
        dump(class_map(Thing), new)
    with pytest.raises(kind) as of_stored:
        change_of(class_map(Thing), stored)
    for raised in (of_new.value, of_stored.value):
        assert f"Thing 'k': {path} cannot be stored: " in str(raised)
        assert message in str(raised)
        assert (Thing, "k", path) == (raised.document_class, raised.key, raised.field)


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"text": "\ud800"}, "text"),
        ({"parts": [Part(), Part()], "meta": {"a": ["\ud800"]}}, "meta.a.0"),
        ({"meta": {"a": {"\ud800": 1}}}, "meta.a.\\ud800"),
        ({"anything": {"t": "\udfff"}}, "anything.t"),
    ],
)
def test_lone_surrogates(changes: dict[str, Any], path: str) -> None:
    """Text that is no Unicode is refused when it is encoded, before anything is written."""
    document = dump(class_map(Thing), Thing(id="k", must=MUST, **changes))
    with pytest.raises(ValidationError, match="surrogate") as raised:
        encode_documents([document])
    assert ("k", path) == (raised.value.key, raised.value.field)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"n": np.int32(5), "f": np.float32(0.5)}, {"n": 5, "f": 0.5}),
        ({"n": SubInt(5), "f": np.int64(3)}, {"n": 5, "f": 3.0}),
        ({"n": Int64(5), "flag": np.bool_(True)}, {"n": 5, "flag": True}),
        ({"text": np.str_("x"), "anything": [np.float64(1), (np.int8(2),)]}, {"text": "x", "anything": [1.0, [2]]}),
    ],
)
def test_relatives_of_plain_values(value: dict[str, Any], expected: dict[str, Any]) -> None:
    """numpy's scalars and subclasses are stored as the plain values that they are."""
    stored = store(Thing(id="k", must=MUST, **value))
    assert expected == {name: stored[name] for name in expected}


MISFITS: list[tuple[dict[str, Any], str, str]] = [
    ({"text": 5}, "text", "expected str, got int 5"),
    ({"text": None}, "text", "expected str, got NoneType None"),
    ({"n": 1.5}, "n", "expected int, got float 1.5"),
    ({"n": float("nan")}, "n", "expected int, got float nan"),
    ({"n": 2.0**63}, "n", "expected int, got float"),
    ({"n": True}, "n", "expected int, got bool True"),
    ({"f": False}, "f", "expected float, got bool False"),
    ({"raw": Binary(b"x", 5)}, "raw", "expected bytes, got Binary"),
    ({"at": "2020"}, "at", "expected an aware datetime, got str '2020'"),
    ({"at": DatetimeMS(2**60)}, "at", "expected an aware datetime, got DatetimeMS"),
    ({"day": dt.datetime(2020, 1, 1, 1, tzinfo=dt.UTC)}, "day", "expected date (midnight UTC), got datetime"),
    ({"price": 1.5}, "price", "expected Decimal, got float 1.5"),
    ({"color": "green"}, "color", "expected Color, got str 'green'"),
    ({"color": {"r": 1}}, "color", "expected Color, got dict"),
    ({"level": True}, "level", "expected Literal[1, 2], got bool True"),
    ({"level": 3}, "level", "expected Literal[1, 2], got int 3"),
    ({"part": [1]}, "part", "expected Part, got list [1]"),
    ({"part": {"n": "x"}}, "part.n", "expected int, got str 'x'"),
    ({"part": {"parts": [{}, {"p": 1}]}}, "part.parts.1.p", "expected Decimal, got int 1"),
    ({"parts": None}, "parts", "expected list[Part], got NoneType None"),
    ({"parts": [{}, 5]}, "parts.1", "expected Part, got int 5"),
    ({"named": {"a": 5}}, "named.a", "expected Part, got int 5"),
    ({"pair": [1]}, "pair", "expected tuple[int, str], got list [1]"),
    ({"numbers": [1, "x"]}, "numbers.1", "expected int, got str 'x'"),
    ({"array": {"dtype": "|O", "shape": [1], "data": b"12345678"}}, "array", "expected numpy array, got dict"),
    ({"array": {"dtype": "<f4", "shape": [7], "data": b"1234"}}, "array", "expected numpy array"),
    ({"array": {"dtype": "no", "shape": [7], "data": b"1234"}}, "array", "expected numpy array"),
    ({"array": {"dtype": "<f4", "shape": "x", "data": 1}}, "array", "expected numpy array"),
    ({"mixed": 1.5}, "mixed", "expected int | str | list[Part] | None, got float 1.5"),
    ({"mixed": [{"n": "x"}]}, "mixed.0.n", "expected int, got str 'x'"),
    ({"vec": b"12345678"}, "vec", "expected vector of 2 numbers, got bytes"),
    ({"vec": [1.0]}, "vec", "expected vector of 2 numbers, got list [1.0]"),
    ({"vec": ["a", "b"]}, "vec", "expected vector of 2 numbers"),
    ({"vec": Binary(b"\x03\x00ab", 9)}, "vec", "expected vector of 2 numbers"),
]


@pytest.mark.parametrize(
    ("raw", "path", "message"), MISFITS, ids=[f"{path}-{words[-40:]}" for _, path, words in MISFITS]
)
def test_stored_values_of_the_wrong_type(raw: dict[str, Any], path: str, message: str) -> None:
    """They are an error that names document, field and value when they are read; the other fields can be read."""
    with pytest.raises(ValidationError) as raised:
        getattr(load_one(Thing, {"_id": "k", **raw}), next(iter(raw)))
    assert f"Thing 'k': the stored value of {path} does not fit: " in str(raised.value)
    assert message in str(raised.value)
    assert (Thing, "k", path) == (raised.value.document_class, raised.value.key, raised.value.field)


def test_missing_keys() -> None:
    """A key that is missing and has no default is an error when it is read, also in embedded documents."""

    class Row(Document, registry=Registry()):
        n: Mapped[int]

    class Whole(Document, registry=Registry()):
        row: Mapped[Inner]
        rows: Mapped[list[int]]

    class Inner(Embedded):
        n: Mapped[int]

    checks: list[tuple[Callable[[], Any], str]] = [
        (
            lambda: load_one(Row, {"m": 1}),
            r"Row .*: the stored value of n does not fit: expected int, but the key is missing and the field has no",
        ),
        (
            lambda: load_one(Whole, {"row": {}}).row,
            r"row\.n does not fit: expected int, but the key is missing",
        ),
        (lambda: load_one(Whole, {}).rows, r"rows does not fit: expected list\[int\], but the key is missing"),
        (
            lambda: load_one(Thing, {"_id": "k"}).must,
            "must does not fit: expected vector of 2 numbers, but the key is missing",
        ),
    ]
    for read, message in checks:
        with pytest.raises(ValidationError, match=message):
            read()


def test_long_values_are_cut_in_messages() -> None:
    """An error stays readable."""
    with pytest.raises(SuperormError) as raised:
        load_one(Thing, {"_id": "k", "n": "x" * 10_000})
    assert len(str(raised.value)) < 300


def test_one_field_too_many_readings() -> None:
    """An object whose one lazy field cannot be read still gives the others."""
    thing = load_one(Thing, {"_id": "k", "color": "green", "day": None, "id": ObjectId()})
    assert thing.day is None
    with pytest.raises(ValidationError):
        thing.color  # noqa: B018
    thing.color = Color.RED
    assert {"$set": {"color": "red"}} == change_of(class_map(Thing), thing).update  # type: ignore[union-attr]
