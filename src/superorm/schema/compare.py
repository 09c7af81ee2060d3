"""Whether a value has changed since it was stored, and the smallest update that stores it. Pure functions over BSON."""

from __future__ import annotations

from math import copysign
from typing import Any, TypeGuard

from bson import Int64

from superorm.expr.narrow import is_dict, is_list

__all__ = ["alike", "diff_value", "same"]

_NUMBERS = (int, float, Int64)


def same(old: Any, new: Any) -> bool:
    """Whether two BSON values are the same to MongoDB: numbers by value and sign, everything else by type and value."""
    if old is new:
        return True
    if type(old) in _NUMBERS and type(new) in _NUMBERS:
        if old == new:
            return bool(old) or copysign(1, old) == copysign(1, new)
        return bool(old != old and new != new)
    if is_dict(old):
        return is_dict(new) and list(old) == list(new) and all(map(same, old.values(), new.values()))
    if is_list(old):
        return is_list(new) and len(old) == len(new) and all(map(same, old, new))
    return type(old) is type(new) and bool(old == new)


def alike(one: Any, other: Any) -> bool:
    """Whether two BSON values are the same but for the order of keys."""
    if is_dict(one) and is_dict(other):
        return one.keys() == other.keys() and all(alike(value, other[key]) for key, value in one.items())
    if is_list(one) and is_list(other):
        return len(one) == len(other) and all(map(alike, one, other))
    return same(one, other)


def diff_value(path: str, old: Any, new: Any, sets: dict[str, Any], unsets: dict[str, Any]) -> None:
    """Add what ``$set`` and ``$unset`` turn the stored value `old` at `path` into `new`.

    Only documents are compared part by part; a list that differs is set whole,
    and so is a document in which a key cannot stand in a path, or whose keys would not be in the order of `new`.
    """
    if same(old, new):
        return
    if _is_pathable(old) and _is_pathable(new) and list(new) == _order_after(old, new):
        for key, value in new.items():
            if key in old:
                diff_value(f"{path}.{key}", old[key], value, sets, unsets)
            else:
                sets[f"{path}.{key}"] = value
        unsets.update((f"{path}.{key}", "") for key in old if key not in new)
    else:
        sets[path] = Int64(new) if type(old) is Int64 and type(new) is int else new


def _order_after(old: dict[str, Any], new: dict[str, Any]) -> list[str] | None:
    """The order of keys once those of `new` were set and others unset one by one; None where it is not known.

    The server adds keys in their order as texts, but for numbers.
    """
    added = sorted(new.keys() - old.keys())
    if len(added) > 1 and any(key[0].isdigit() for key in added):
        return None
    return [key for key in old if key in new] + added


def _is_pathable(value: Any) -> TypeGuard[dict[str, Any]]:
    """Whether it is a document with keys, each of which can stand in a path."""
    return is_dict(value) and bool(value) and not any(not key or "." in key or key[0] == "$" for key in value)
