"""What of a filter MongoDB's ``$vectorSearch`` takes in its ``filter``, and what it does not, by name.

That is what its manual lists (MongoDB Vector Search, "Pre-Filter Search Data"):
the operators of `OPERATORS` on booleans, dates, ObjectIds, numbers but decimals, texts and UUIDs,
under paths that the search index has as ``filter`` fields.
What is taken must lose no document, as nothing can add it again; what it lets through too much is read and left out.
So ranges are taken of numbers and dates alone, and null never, nor ``$exists``, which is true of it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from attrs import frozen
from bson import Binary, ObjectId
from bson.binary import UUID_SUBTYPE

from superorm.expr.narrow import is_dict, is_list

__all__ = ["OPERATORS", "Push", "push"]

_RANGES = ("$gt", "$gte", "$lt", "$lte")
OPERATORS = frozenset({"$eq", "$ne", *_RANGES, "$in", "$nin", "$not", "$and", "$or", "$nor"})
_LONGEST = 1_000
"""Characters of a text up to which it is surely held whole: Lucene's limit is 32,766 bytes."""
_EXACT = 2**53
"""From this size on, whole numbers that differ may be one where they are held as float64."""


@frozen
class Push:
    """A filter, divided."""

    filter: Mapping[str, Any]
    """What the engine takes of it."""
    rest: tuple[str, ...] = ()
    """Why the engine does not take the others of its conditions, each with its name."""


def push(filter: Mapping[str, Any], declared: Collection[str]) -> Push:
    """Divide a filter, of whose conditions all must hold; `declared` are the paths of the index's ``filter`` fields."""
    taken: list[dict[str, Any]] = []
    rest: list[str] = []
    for condition in _conditions(filter):
        why = next(_reasons(condition, declared), None)
        if why is None:
            taken.append(condition)
        else:
            rest.append(why)
    whole = {path: value for condition in taken for path, value in condition.items()}
    if sum(map(len, taken)) > len(whole):
        whole = {"$and": taken}
    return Push(whole, tuple(dict.fromkeys(rest)))


def _conditions(filter: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for key, value in filter.items():
        if key == "$and":
            for inner in value:
                yield from _conditions(inner)
        else:
            yield {key: value}


def _reasons(filter: Mapping[str, Any], declared: Collection[str]) -> Iterator[str]:
    """Why a condition is not taken; nothing where it is."""
    for key, value in filter.items():
        if key in ("$and", "$or", "$nor"):
            for inner in value:
                yield from _reasons(inner, declared)
        elif key.startswith("$"):
            yield f"{key} is no operator of its filter"
        elif key not in declared:
            yield f"{key!r} is no filter field of the search index"
        else:
            yield from _of_value(key, value)


def _of_value(path: str, value: Any) -> Iterator[str]:
    """The same of what a path is compared with."""
    if not (is_dict(value) and value and all(name.startswith("$") for name in value)):
        yield from _of_operand(path, "$eq", value)
        return
    for name, operand in value.items():
        if name == "$exists":
            yield f"$exists on {path!r} is not sure to find null in the search index"
        elif name not in OPERATORS:
            yield f"{name} on {path!r} is no operator of its filter"
        elif name == "$not":
            yield from _of_value(path, operand)
        elif name in ("$in", "$nin"):
            for one in operand:
                yield from _of_operand(path, name, one)
        else:
            yield from _of_operand(path, name, operand)


def _of_operand(path: str, operator: str, value: Any) -> Iterator[str]:
    kind = type(value).__name__
    ranges = operator in _RANGES
    match value:
        case bool():
            taken = not ranges
        case int() | float():
            taken = abs(value) < _EXACT  # NaN is not
        case dt.datetime():
            taken = True
        case str():
            taken, kind = not ranges and len(value) <= _LONGEST, "text" if len(value) <= _LONGEST else "long text"
        case ObjectId():
            taken = not ranges
        case Binary():
            taken, kind = not ranges and value.subtype == UUID_SUBTYPE, "binary"
        case None:
            taken, kind = False, "null"
        case _:
            taken, kind = False, "list" if is_list(value) else "document" if is_dict(value) else kind
    if not taken:
        yield f"{operator} with a {kind} on {path!r} is not sure to find the same in the search index"
