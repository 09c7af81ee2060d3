"""What an attacker may send, and the documents that it is tried on."""

from __future__ import annotations

import datetime as dt
import re
from enum import Enum
from typing import Any

import numpy as np
from bson import Code, Int64, Regex

from superorm import Document, Embedded, Mapped, Registry, field, vector

__all__ = [
    "HOSTILE",
    "NAMES",
    "NOT_STORED",
    "NUMBERS",
    "REFUSED",
    "STORED",
    "Part",
    "Thing",
    "expected",
    "registry",
    "same",
    "stored",
]

registry = Registry()


class Part(Embedded):
    value: Mapped[Any] = field(default=None)


class Thing(Document, registry=registry):
    __collection__ = "things"

    id: Mapped[Any] = field(primary_key=True)
    n: Mapped[int] = field(default=0)
    value: Mapped[Any] = field(default=None)
    values: Mapped[list[Any]] = field(factory=list)
    parts: Mapped[list[Part]] = field(factory=list)
    text: Mapped[str] = field(default="")
    meta: Mapped[dict[str, Any]] = field(factory=dict)
    embedding: Mapped[np.ndarray | None] = vector(2)


class Text(str):
    """A text that pretends to be another one."""

    __slots__ = ()

    def __str__(self) -> str:
        return "harmless"

    def __eq__(self, other: object) -> bool:
        return True

    def startswith(self, *_: Any) -> bool:
        return False

    __hash__ = str.__hash__


class Choice(Enum):
    OPERATOR = {"$ne": None}  # noqa: RUF012
    PATH = "$value"


class Pretender:
    """Equal to everything, true, and a mapping when asked."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash("eq")

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def keys(self) -> list[str]:
        return ["$where"]

    def __getitem__(self, key: object) -> str:
        if isinstance(key, int):
            raise IndexError
        return "1"

    def __bson__(self) -> dict[str, str]:
        return {"$where": "1"}


HOSTILE: list[Any] = [
    *({"$ne": None}, {"$ne": 0}, {"$gt": ""}, {"$where": "1"}, {"$expr": {"$eq": [1, 1]}}, {"$exists": True}),
    *({"$regex": ".*"}, {"$in": ["x"]}, {"$not": {"$eq": 1}}, {"$elemMatch": {"$exists": True}}, {"$literal": 1}),
    *({"$function": {"body": "function() { return 1 }", "args": [], "lang": "js"}}, {"$cond": [True, 1, 2]}),
    *({"$oid": "0" * 24}, {"$date": 0}, {"$each": [1, 2]}, {"$concat": ["$text", "x"]}, {"$": 1}, {"": 1}),
    *({"a": {"$ne": None}}, {"a.b": 1}, {".": {"$x.y": "$z"}}, {"a": "$value"}, {"a": ["$$ROOT", {"$x": [{}]}]}),
    *("$value", "$$ROOT", "$$NOW", "$$REMOVE", "$$this", "$where", "$", "$$", "a.b", "a\0b", "", ".*", "^", "é\n"),
    *(["$value", {"$ne": None}], [["$$ROOT"], [[{"$where": "1"}]]], [], {}, [[]], [{}], ["$value"], [None]),
    *(b"$value", b"", 2**63 - 1, -(2**63), Int64(1), float("nan"), float("inf"), -0.5, True, False, 0, None),
    *(
        Text("$value"),
        Text("x"),
        Choice.OPERATOR,
        Choice.PATH,
        dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
        np.int32(7),
    ),
]
"""Values that the database can hold, and that mean something else to it in other places."""

REFUSED: list[Any] = [
    *(2**63, -(2**63) - 1, [2**70], "\ud800", {"\ud800": 1}, ["x\udfff"], {"a\0": 1}, {1: 1}, {None: 1}, {b"x": 1}),
    *(Pretender(), {"a": Pretender()}, [Pretender()], object(), object, Thing, Code("1"), Regex(".*"), re.compile("x")),
    *(dt.datetime(2020, 1, 1), lambda: 1, print, iter([1]), 1j, np.zeros(2), dt.timedelta(1)),  # noqa: DTZ001
]
"""Values that it cannot hold, or that have no meaning of their own."""

NOT_STORED = [value for value in REFUSED if not isinstance(value, (Code, Regex))]
"""The same without what a field of any type may hold."""

NAMES: list[Any] = [
    *("$x", "$$ROOT", "$where", "a.b", ".", "a\0b", "", "\ud800", Text("$x"), Choice.PATH, Choice.OPERATOR),
    *({"$ne": None}, {"$literal": "x"}, ["x"], [], {}, b"x", 5, 1.5, True, Pretender(), object(), Thing),
]
"""No names."""

NUMBERS: list[Any] = [
    *("5", "$n", {"$ne": None}, {"$literal": 5}, [5], True, False, -(2**63), 2**63, float("nan"), float("inf")),
    *(1.5, b"5", Text("5"), Choice.PATH, Pretender(), object()),
]
"""No numbers where one is counted."""


def stored(value: Any) -> Any:
    """What the database holds of a value, in plain Python."""
    if isinstance(value, Enum):
        return stored(value.value)
    if isinstance(value, str):
        return "".join(value)
    return value.item() if isinstance(value, np.generic) else value


STORED: list[Any] = [
    *map(stored, HOSTILE),
    *("other", "harmless", 1, 1.5, ["other"], {"a": 1}, {"a": {"b": 1}}, {"ne": None}, [1, 2], "1"),
    dt.datetime(1999, 1, 1, tzinfo=dt.UTC),
]
"""One document has each of these as its value; one more has none."""


def same(one: Any, other: Any) -> bool:
    """MongoDB's equality: numbers by value, not a NaN apart, and documents by the order of their keys too."""
    numbers = (int, float)
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, numbers) and isinstance(other, numbers):
        return one == other or (one != one and other != other)
    if isinstance(one, dict) and isinstance(other, dict):
        pairs = zip(one.items(), other.items(), strict=False)
        return len(one) == len(other) and all(a == b and same(x, y) for (a, x), (b, y) in pairs)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return type(one) is type(other) and bool(one == other)


def expected(value: Any) -> list[int]:
    """The documents whose value equals this one, or is a list that has it, as MongoDB's ``$eq`` says."""
    plain = stored(value)
    found = [
        n
        for n, other in enumerate(STORED)
        if same(other, plain) or (isinstance(other, list) and any(same(item, plain) for item in other))
    ]
    return [*found, len(STORED)] if plain is None else found
