"""Whether a value has changed since it was stored, and the smallest update that stores it. Pure functions over BSON."""

from __future__ import annotations

from collections.abc import Iterable
from math import copysign
from typing import Any, TypeGuard, cast

import bson
from bson import Int64
from bson.errors import BSONError

from superorm.expr.narrow import is_dict, is_list
from superorm.expr.order import BSON_OPTIONS

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


def diff_value(
    path: str, old: Any, new: Any, sets: dict[str, Any], unsets: dict[str, Any], *, exact: bool = False
) -> Any:
    """Add what ``$set`` and ``$unset`` turn the stored value `old` at `path` into `new`; returns what is stored then.

    Documents are compared part by part;
    a document in which a key cannot stand in a path, or whose keys changed places, is set whole.
    Paths that are in `unsets` too are new, and have to be added in the order of `sets`.
    A list that differs is set whole too, as its positions may be others by now.
    With `exact` nobody can have changed the value since: lists that did not shrink are compared by position,
    and a value is set whole where that is shorter.
    """
    if same(old, new):
        return old
    keys = _keys(old, new, exact)
    if keys is None:
        sets[path] = Int64(new) if type(old) is Int64 and type(new) is int else new
        return sets[path]
    before, after = _items(old), _items(new)
    inner: tuple[dict[str, Any], dict[str, Any]] = ({}, {}) if exact else (sets, unsets)
    in_order = exact or is_list(new) or list(new) == _order_after(old, new)
    stored = dict[Any, Any]()
    for key in keys:
        if key in before:
            stored[key] = diff_value(f"{path}.{key}", before[key], after[key], *inner, exact=exact)
        else:
            stored[key] = inner[0][f"{path}.{key}"] = after[key]
            if not in_order:
                inner[1][f"{path}.{key}"] = ""
    whole = stored if is_dict(new) else list(stored.values())
    inner[1].update((f"{path}.{key}", "") for key in before if key not in after)
    if exact:
        if _is_longer(inner, path, whole):
            sets[path] = whole
        else:
            sets.update(inner[0])
            unsets.update(inner[1])
    return whole


def _items(value: Any) -> dict[Any, Any]:
    """The parts of a document or list."""
    return value if is_dict(value) else dict(enumerate(cast("list[Any]", value)))


def _keys(old: Any, new: Any, exact: bool) -> Iterable[Any] | None:
    """The keys or positions of `new` by which it can be compared with `old`; None where it has to be set whole."""
    if _is_pathable(old) and _is_pathable(new):
        kept = [key for key in old if key in new]
        if list(new) == _order_after(old, new) if exact else list(new)[: len(kept)] == kept:
            return new
    if exact and is_list(old) and is_list(new) and 0 < len(old) <= len(new):
        return range(len(new))
    return None


def _is_longer(inner: tuple[dict[str, Any], dict[str, Any]], path: str, whole: Any) -> bool:
    """Whether the operators take more bytes than setting the whole value; also where that cannot be known."""
    try:
        parts = [len(bson.encode(one, codec_options=BSON_OPTIONS)) for one in inner]
        return sum(parts) > len(bson.encode({path: whole}, codec_options=BSON_OPTIONS)) + 5
    except (BSONError, ValueError, OverflowError):  # to be refused by name later
        return True


def _order_after(old: dict[str, Any], new: dict[str, Any]) -> list[str] | None:
    """The order of keys once those of `new` were set and others unset one by one; None where it is not known.

    The server adds keys in their order as texts, but for numbers.
    """
    added = sorted(new.keys() - old.keys())
    if len(added) > 1 and any(key[0].isdigit() for key in added):
        return None
    return [key for key in old if key in new] + added


def _is_pathable(value: Any) -> TypeGuard[dict[str, Any]]:
    """Whether it is a document whose keys can each stand in a path."""
    return is_dict(value) and not any(not key or "." in key or key[0] == "$" for key in value)
