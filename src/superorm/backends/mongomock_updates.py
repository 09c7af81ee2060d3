"""Updates of one document of a mongomock database by the server's rules of equality, order and arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pymongo.errors import OperationFailure

from superorm.backends.mongomock_match import matcher
from superorm.backends.mongomock_operators import add, multiply
from superorm.backends.mongomock_values import MISSING, is_number, order_key
from superorm.expr.narrow import is_dict, is_list

__all__ = ["resolved"]


def resolved(document: Mapping[str, Any], update: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The update, with ``$set`` in the place of what computes with the values that are there.

    It sets in the order in which a server does, as keys that are new stay in that order.
    Raises ``OperationFailure`` for values that a server does not take either.
    """
    sets: dict[str, Any] = {}
    for op in update.keys() & _COMPUTED:
        for path, operand in update[op].items():
            value = _at(document, path)
            changed = _COMPUTED[op](f"{op} of {path!r}", value, operand)
            if changed is not value:
                sets[path] = changed
    left: dict[str, Any] = {op: fields for op, fields in update.items() if op not in _COMPUTED}
    sets = {**left.get("$set", {}), **sets}
    return {**left, "$set": {path: sets[path] for path in sorted(sets, key=_in_order)}} if sets else left


def _in_order(path: str) -> list[tuple[bool, int, str]]:
    """Sorts paths as texts, and numbers in them by value."""
    return [(False, int(part), "") if part.isdecimal() else (True, 0, part) for part in path.split(".")]


def _at(document: Mapping[str, Any], path: str) -> Any:
    value: Any = document
    for part in path.split("."):
        if is_list(value) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            value = value.get(part, MISSING) if is_dict(value) else MISSING
    return value


def _increased(where: str, value: Any, by: Any) -> Any:
    return by if value is MISSING else add(_number(where, value), by)


def _multiplied(where: str, value: Any, by: Any) -> Any:
    return 0 if value is MISSING else multiply(_number(where, value), by)


def _number(where: str, value: Any) -> Any:
    if not is_number(value):
        raise OperationFailure(f"{where}, which is no number but {value!r}")
    return value


def _least(where: str, value: Any, other: Any) -> Any:
    return value if value is not MISSING and order_key(value) <= order_key(other) else other


def _greatest(where: str, value: Any, other: Any) -> Any:
    return value if order_key(value) >= order_key(other) else other


def _list(where: str, value: Any) -> list[Any]:
    if not is_list(value):
        raise OperationFailure(f"{where}, which is no list but {value!r}")
    return value


def _without(where: str, value: Any, condition: Any) -> Any:
    """Without the elements that meet the condition, or are equal to it."""
    if value is MISSING:
        return value
    if not is_dict(condition):
        return [item for item in _list(where, value) if order_key(item) != order_key(condition)]
    if next(iter(condition), "").startswith("$") and not {*condition} & {"$and", "$or", "$nor"}:
        found = matcher({"item": {"$elemMatch": condition}})
        return [item for item in _list(where, value) if not found({"item": [item]})]
    found = matcher(condition)
    return [item for item in _list(where, value) if not (is_dict(item) and found(item))]


def _without_all(where: str, value: Any, others: Any) -> Any:
    if value is MISSING:
        return value
    keys = set(map(order_key, others))
    return [item for item in _list(where, value) if order_key(item) not in keys]


def _with(where: str, value: Any, added: Any) -> Any:
    """With the values of a set that are not in it."""
    items: list[Any] = [] if value is MISSING else [*_list(where, value)]
    keys = set(map(order_key, items))
    for item in added["$each"] if is_dict(added) and "$each" in added else [added]:
        if order_key(item) not in keys:
            items.append(item)
            keys.add(order_key(item))
    return items


_COMPUTED: dict[str, Callable[[str, Any, Any], Any]] = {
    "$addToSet": _with,
    "$inc": _increased,
    "$max": _greatest,
    "$min": _least,
    "$mul": _multiplied,
    "$pull": _without,
    "$pullAll": _without_all,
}
