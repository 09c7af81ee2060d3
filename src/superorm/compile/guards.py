"""Comparisons in aggregation expressions that mean what they mean in MongoDB's match language.

There, only values of one type are ordered, null equals missing, NaN equals itself only, and an array matches by its
elements as well; in aggregation expressions all types stand in one order and arrays are compared as wholes.

The functions take emitted expressions.
Of the variables that they bind, ``v`` and ``w`` hold the sides of a comparison and ``e`` an element of a list.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

from attrs import frozen
from bson import Binary, DatetimeMS, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp

from superorm.compile.constants import bound, constant, every, or_empty

__all__ = [
    "Step",
    "Test",
    "accepts_null",
    "against",
    "anywhere",
    "compared",
    "elements_equal",
    "is_number",
    "matching",
    "present",
    "reaches",
]

NAN = math.nan
ORDERED = frozenset({"$gt", "$gte", "$lt", "$lte"})

Test: TypeAlias = Callable[[Any, bool], Any]
"""The condition on an emitted value, and whether that may be an array."""

_DATES = DatetimeMS(-(2**63))
_BRACKETS: list[tuple[tuple[type, ...], Any, Any]] = [
    ((bool,), False, _DATES),
    ((int, float, Decimal128), NAN, ""),
    ((str,), "", {"$literal": {}}),
    ((dict,), {"$literal": {}}, []),
    ((list,), [], Binary(b"")),
    ((bytes, Binary, UUID), Binary(b""), ObjectId("0" * 24)),
    ((ObjectId,), ObjectId("0" * 24), False),
    ((datetime, DatetimeMS), _DATES, Timestamp(0, 0)),
    ((Timestamp,), Timestamp(0, 0), Regex("")),
]
"""Types ordered among themselves, the lowest value of each (of numbers NaN, below all others) and that of the next."""


@frozen
class Step:
    """One key of a path."""

    name: str
    listy: bool
    """Whether there may be an array."""
    position: int | None = None
    """Of an element: its place."""


def accepts_null(op: str, value: Any) -> bool:
    """Whether a comparison with a literal holds for null, and so for missing."""
    if op in ("$in", "$all"):
        return any(item is None or isinstance(item, (MinKey, MaxKey)) for item in value)
    return value is None or isinstance(value, (MinKey, MaxKey))


def against(op: str, value: Any) -> Test:
    """The test of ``$eq``, ``$in``, ``$gt``, ``$gte``, ``$lt``, ``$lte`` against a literal."""

    def test(x: Any, listy: bool) -> Any:
        if not listy:
            return _bound_once(op, value, x)
        whole = any(isinstance(item, (list, MinKey, MaxKey)) for item in (value if op == "$in" else [value]))
        if op == "$eq" and value is not None and not whole:
            return bound(x, "v", lambda v: {"$in": [constant(value), _candidates(v)]})
        return bound(x, "v", lambda v: _any(_candidates(v, whole), lambda item: _single(op, value, item)))

    return test


def _candidates(v: str, whole: bool = False) -> Any:
    """The elements of an array, or else the value itself, in a list; with `whole` an array is among its elements."""
    elements = {"$cond": [{"$isArray": v}, v, [v]]}
    return {"$concatArrays": [elements, [v]]} if whole else elements


def _any(list: Any, condition: Callable[[str], Any], name: str = "v") -> Any:
    return {"$anyElementTrue": [{"$map": {"input": list, "as": name, "in": condition(f"$${name}")}}]}


def _bound_once(op: str, value: Any, x: Any) -> Any:
    """As `_single`, where `x` may be more than a path."""
    return bound(x, "v", lambda v: _single(op, value, v)) if op in ORDERED else _single(op, value, x)


def _single(op: str, value: Any, x: Any) -> Any:
    if op == "$in":
        return {"$in": [_or_null(x) if None in value else x, constant(value)]}
    if op == "$eq":
        return {"$eq": [x, constant(value)]} if value is not None else _is_null(x)
    if value is None:
        return _is_null(x) if op in ("$gte", "$lte") else False
    if isinstance(value, (MinKey, MaxKey)):
        return {op: [x, value]}
    if _is_nan(value):
        return {"$eq": [x, NAN]} if op in ("$gte", "$lte") else False
    low, high = next((low, high) for kinds, low, high in _BRACKETS if isinstance(value, kinds))
    if op in ("$gt", "$gte"):
        return {"$and": [{op: [x, constant(value)]}, {"$lt": [x, high]}]}
    return {"$and": [{"$gt" if _is_nan(low) else "$gte": [x, low]}, {op: [x, constant(value)]}]}


def _or_null(x: Any) -> Any:
    return {"$ifNull": [x, None]}


def _is_null(x: Any) -> Any:
    return {"$eq": [_or_null(x), None]}


def _is_nan(value: Any) -> bool:
    return (isinstance(value, float) and math.isnan(value)) or (
        isinstance(value, Decimal128) and value.to_decimal().is_nan()
    )


def is_number(value: Any) -> bool:
    """Whether a literal is a number, but not NaN."""
    return isinstance(value, (int, float, Decimal128)) and not isinstance(value, bool) and not _is_nan(value)


def compared(op: str, w: Any) -> Test:
    """The test of ``$eq``, ``$gt``, ``$gte``, ``$lt``, ``$lte`` against another value, of which nothing is known."""

    def test(x: Any, listy: bool) -> Any:
        if not listy:
            return _pair(op, x, w)
        if op == "$eq":
            return bound(x, "v", lambda v: {"$in": [_or_null(w), _candidates(v, whole=True)]})
        return bound(x, "v", lambda v: _any(_candidates(v, whole=True), lambda item: _pair(op, item, w)))

    return test


def _pair(op: str, x: Any, w: Any) -> Any:
    if op == "$eq":
        return {"$eq": [_or_null(x), _or_null(w)]}
    same = {
        "$or": [{"$eq": [{"$type": "$$v"}, {"$type": "$$w"}]}, {"$and": [{"$isNumber": "$$v"}, {"$isNumber": "$$w"}]}]
    }
    nan = {"$eq": [{"$eq": ["$$v", NAN]}, {"$eq": ["$$w", NAN]}]}
    return {"$let": {"vars": {"v": _or_null(x), "w": _or_null(w)}, "in": {"$and": [{op: ["$$v", "$$w"]}, same, nan]}}}


def elements_equal(value: Any) -> Test:
    """The test that an array has an element which equals a literal as a whole."""
    return lambda x, listy: bound(x, "v", lambda v: {"$in": [constant(value), or_empty(v)]})


def matching(pattern: str, options: str) -> Test:
    """The test of a regular expression, which only texts match."""

    def single(x: str) -> Any:
        text = {"$cond": [{"$eq": [{"$type": x}, "string"]}, x, None]}
        return {"$regexMatch": {"input": text, "regex": constant(pattern), **({"options": options} if options else {})}}

    def test(x: Any, listy: bool) -> Any:
        return bound(x, "v", lambda v: _any(_candidates(v), single) if listy else single(v))

    return test


def present(x: Any, listy: bool) -> Any:
    """The test that there is a value, null or not."""
    return {"$ne": [{"$type": x}, "missing"]}


def anywhere(base: str, steps: Sequence[Step], test: Test, *, absent: bool, listy: bool = False) -> Any:
    """Whether a value at the path passes, where each array on the way stands for the documents in it.

    `base` is a variable with its dollar signs, or ``$`` for the document; `listy` tells whether it may be an array.
    With `absent` the test may hold for a missing value.
    """
    if listy and steps and steps[0].position is None:
        return _elements(base, steps, test, absent)
    path = base
    for position, step in enumerate(steps):
        rest = steps[position + 1 :]
        if step.position is not None:
            element = {"$arrayElemAt": [or_empty(path), step.position]}
            if rest:
                inner = anywhere("$$e", rest, test, absent=absent, listy=step.listy)
                found = {"$let": {"vars": {"e": element}, "in": inner}}
            else:
                found = test(element, step.listy)
            return every([reaches(path, step.position), found]) if absent else found
        path = f"${step.name}" if path == "$" else f"{path}.{step.name}"
        if step.listy and rest and rest[0].position is None:
            return _elements(path, rest, test, absent)
    return test(path, steps[-1].listy if steps else listy)


def reaches(path: str, position: int) -> Any:
    """The test that a list, if it is one, has an element at the position: an element that is not there is not null."""
    return {"$or": [{"$not": [{"$isArray": path}]}, {"$gt": [{"$size": or_empty(path)}, position]}]}


def _elements(path: str, rest: Sequence[Step], test: Test, absent: bool) -> Any:
    """`anywhere` below a path where there may be an array."""
    inside = every([{"$eq": [{"$type": "$$e"}, "object"]}, anywhere("$$e", rest, test, absent=absent)])
    if not absent:
        return _map_any(_candidates(path), inside)
    return {"$cond": [{"$isArray": path}, _map_any(path, inside), anywhere(path, rest, test, absent=absent)]}


def _map_any(list: Any, inside: Any) -> Any:
    return {"$anyElementTrue": [{"$map": {"input": list, "as": "e", "in": inside}}]}
