"""Conditions to MongoDB's match language."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from superorm.expr.conditions import Compare, ElemMatch, Logical, Predicate
from superorm.expr.narrow import is_dict

__all__ = ["match"]


def match(conditions: Iterable[Predicate[Any]]) -> dict[str, Any]:
    """One filter of all the conditions, flat where their keys allow it."""
    merged: dict[str, Any] = {}
    left: list[dict[str, Any]] = []
    for condition in conditions:
        for key, value in _parts(condition):
            if key not in merged:
                merged[key] = value
            elif key[0] != "$" and not merged[key].keys() & value.keys():
                merged[key] = {**merged[key], **value}
            else:
                left.append({key: _shortest(value)})
    merged = {key: _shortest(value) for key, value in merged.items()}
    return {"$and": [merged, *left]} if left else merged


def _shortest(value: Any) -> Any:
    """``{"$eq": 1}`` as 1; documents and arrays keep the operator, without which they could mean something else."""
    if is_dict(value) and value.keys() == {"$eq"} and not isinstance(value["$eq"], (dict, list)):
        return value["$eq"]
    return value


def _parts(condition: Predicate[Any]) -> Iterator[tuple[str, Any]]:
    """The condition as entries of a filter, all of which must hold."""
    match condition:
        case Logical("$and", items):
            for item in items:
                yield from _parts(item)
        case Logical(op, items):
            yield op, [match([item]) for item in items]
        case Compare(_, path, "$in" | "$nin" | "$all" as op, values) if any(map(_like_operator, values)):
            joined = {"$in": "$or", "$nin": "$nor", "$all": "$and"}[op]
            yield joined, [{path: {"$eq": value}} for value in values]
        case Compare(_, path, op, value):
            yield path, {op: value}
        case ElemMatch(_, path, items):
            yield path, {"$elemMatch": match(items)}
        case _:
            raise TypeError(f"no condition: {condition!r}")


def _like_operator(value: Any) -> bool:
    """Whether the server would take a value in a list for an operator, and not for the document that it is."""
    return is_dict(value) and any(key.startswith("$") for key in value)
