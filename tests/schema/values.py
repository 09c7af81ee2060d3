"""Every supported type with a hypothesis strategy for its values."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any, Literal, NewType, TypedDict
from uuid import UUID

import numpy as np
from bson import Binary, Decimal128, Int64, ObjectId
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from superorm import Embedded, Mapped, field

__all__ = [
    "KINDS",
    "Color",
    "Level",
    "Line",
    "Mark",
    "Moment",
    "Point",
    "json_like",
    "keys",
    "lines",
    "moments",
    "points",
    "texts",
]


class Moment(TypedDict):
    """For a TypedDict of another module, where its annotations mean nothing."""

    at: dt.datetime


class Color(Enum):
    RED = "red"
    BLUE = 3
    NONE = False


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Mark(StrEnum):
    A = "a"
    B = "b"


class Point(Embedded):
    x: Mapped[float]
    y: Mapped[int] = field(default=0, name="why")
    tags: Mapped[list[str]] = field(factory=list)


class Line(Embedded):
    start: Mapped[Point]
    end: Mapped[Point | None] = field(default=None)
    between: Mapped[list[Point]] = field(factory=list)
    named: Mapped[dict[str, Point]] = field(factory=dict)
    color: Mapped[Color] = field(default=Color.RED)
    dates: Mapped[set[dt.date]] = field(factory=set)


Name = NewType("Name", str)

texts = st.text(max_size=8)
ints = st.integers(-(2**63), 2**63 - 1)
floats = st.floats()
moments = st.datetimes(timezones=st.just(dt.UTC)).map(
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)
)
decimals = st.builds(
    lambda sign, digits, exponent: Decimal((sign, digits, exponent)),
    st.integers(0, 1),
    st.lists(st.integers(0, 9), min_size=1, max_size=34).map(tuple),
    st.integers(-100, 100),
) | st.sampled_from([Decimal("NaN"), Decimal("Infinity"), Decimal("-0")])
keys = st.text(st.characters(exclude_characters=".$\0", codec="utf-8"), max_size=4)
object_ids = st.binary(min_size=12, max_size=12).map(ObjectId)
arrays = hnp.arrays(
    st.sampled_from(["<f4", ">f8", "i2", "u1", "?", "c16", "M8[ms]", "U3", "S2"]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
points = st.builds(Point, x=floats, y=ints, tags=st.lists(texts, max_size=2))
lines = st.builds(
    Line,
    start=points,
    end=st.none() | points,
    between=st.lists(points, max_size=2),
    named=st.dictionaries(keys, points, max_size=2),
    color=st.sampled_from(Color),
    dates=st.sets(st.dates(), max_size=3),
)
json_like = st.recursive(
    st.none() | st.booleans() | ints | floats | texts | moments | object_ids | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)

KINDS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (str, texts),
    (Name, texts),
    (int, ints),
    (float, floats),
    (bool, st.booleans()),
    (bytes, st.binary(max_size=8)),
    (dt.datetime, moments),
    (dt.date, st.dates()),
    (Decimal, decimals),
    (UUID, st.uuids()),
    (ObjectId, object_ids),
    (Color, st.sampled_from(Color)),
    (Level, st.sampled_from(Level)),
    (Mark, st.sampled_from(Mark)),
    (Literal["a", 1, True, None], st.sampled_from(["a", 1, True, None])),
    (Literal[Color.RED, "x"], st.sampled_from([Color.RED, "x"])),
    (str | None, st.none() | texts),
    (int | float, ints | floats),
    (float | int, ints | floats),
    (bool | int | str | None, st.booleans() | ints | texts | st.none()),
    (dt.date | None, st.none() | st.dates()),
    (Decimal | float, decimals | floats),
    (list[int | float], st.lists(ints | floats, max_size=4)),
    (list[str], st.lists(texts, max_size=4)),
    (list[str] | None, st.none() | st.lists(texts, max_size=4)),
    (list[list[int]], st.lists(st.lists(ints, max_size=2), max_size=3)),
    (set[int], st.sets(ints, max_size=4)),
    (frozenset[str], st.frozensets(texts, max_size=4)),
    (set[tuple[int, str]], st.sets(st.tuples(ints, texts), max_size=3)),
    (tuple[int, str, float | None], st.tuples(ints, texts, st.none() | floats)),
    (tuple[int, ...], st.lists(ints, max_size=4).map(tuple)),
    (dict[str, int], st.dictionaries(keys, ints, max_size=4)),
    (dict[str, dict[str, float]], st.dictionaries(keys, st.dictionaries(keys, floats, max_size=2), max_size=3)),
    (dict[str, Any], st.dictionaries(keys, json_like, max_size=3)),
    (Any, json_like),
    (Any, st.sampled_from([Binary(b"x", 5), Decimal128("1.5"), Int64(3)])),
    (np.ndarray, arrays),
    (list[np.ndarray], st.lists(arrays, max_size=2)),
    (Point, points),
    (Point | None, st.none() | points),
    (list[Point], st.lists(points, max_size=3)),
    (tuple[Point, int], st.tuples(points, ints)),
    (dict[str, list[Point]], st.dictionaries(keys, st.lists(points, max_size=2), max_size=2)),
    (Line, lines),
    (Point | str | list[int], points | texts | st.lists(ints, max_size=3)),
]
"""An annotation, and values of it."""
