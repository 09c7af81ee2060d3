"""BSON values as the server orders and compares them, in plain Python."""

from __future__ import annotations

import datetime as dt
import math
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import cmp_to_key
from typing import Any, Final

from bson import Binary, Decimal128, ObjectId

__all__ = [
    "DECIMALS",
    "MISSING",
    "Missing",
    "compare",
    "is_number",
    "key_of",
    "kind",
    "number",
    "present",
    "same",
    "shown",
]

DECIMALS = Context(prec=34, rounding=ROUND_HALF_EVEN, traps=[])
"""The arithmetic of Decimal128."""


class Missing:
    """What stands for a key that is not there."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing()

_KINDS: dict[type, int] = {
    Missing: 0,
    type(None): 5,
    str: 15,
    dict: 20,
    list: 25,
    bytes: 30,
    Binary: 30,
    ObjectId: 35,
    bool: 40,
    dt.datetime: 45,
}


def kind(value: Any) -> int:
    """The place of a value's type in the server's order of types; numbers of all types share one."""
    if isinstance(value, bool):
        return 40
    if isinstance(value, (int, float, Decimal, Decimal128)):
        return 10
    return _KINDS[type(value)]


def is_number(value: Any) -> bool:
    """Whether it is a number to the server: true and false are not."""
    return kind(value) == 10


def number(value: Any) -> int | float | Decimal:
    """A number as Python calculates with it."""
    return value.to_decimal() if isinstance(value, Decimal128) else value


def is_nan(value: Any) -> bool:
    return is_number(value) and math.isnan(number(value))


def present(value: Any) -> bool:
    """Neither null nor missing."""
    return value is not None and value is not MISSING


def compare(one: Any, other: Any) -> int:
    """Negative, 0 or positive, in the order of all BSON values; missing is before null."""
    kinds = kind(one) - kind(other)
    if kinds:
        return kinds
    if is_number(one):
        return _numbers(number(one), number(other))
    if isinstance(one, dict):
        for (key, value), (other_key, other_value) in zip(one.items(), other.items(), strict=False):
            found = (
                kind(value) - kind(other_value)
                or _plain(key.encode(), other_key.encode())
                or compare(value, other_value)
            )
            if found:
                return found
        return len(one) - len(other)
    if isinstance(one, list):
        for item, other_item in zip(one, other, strict=False):
            found = compare(item, other_item)
            if found:
                return found
        return len(one) - len(other)
    if isinstance(one, str):
        return _plain(one.encode(), other.encode())
    if isinstance(one, bytes):
        return _plain((len(one), _subtype(one), bytes(one)), (len(other), _subtype(other), bytes(other)))
    return 0 if one is None or one is MISSING else _plain(one, other)


def _numbers(one: Any, other: Any) -> int:
    """NaN is below all numbers; values are compared exactly, whatever their types."""
    if math.isnan(one) or math.isnan(other):
        return _plain(not math.isnan(one), not math.isnan(other))
    return _plain(one, other)


def _plain(one: Any, other: Any) -> int:
    return int(one > other) - int(one < other)


def _subtype(value: bytes) -> int:
    return value.subtype if isinstance(value, Binary) else 0


def same(one: Any, other: Any) -> bool:
    """Whether the server takes two values for equal; missing and null are not."""
    return compare(one, other) == 0


key_of = cmp_to_key(compare)
"""A key for ``sorted``."""


def shown(value: Any) -> Any:
    """A value in a form that is equal for what a test takes for equal, whatever the type of numbers; it hashes.

    Fractions are cut to 10 digits: servers add in another order and with another precision.
    """
    if value is MISSING or value is None:
        return None
    if isinstance(value, (list, tuple)):
        return ("list", *map(shown, value))
    if is_number(value):
        return _shown_number(number(value))
    if isinstance(value, dict):
        return ("document", *((key, shown(item)) for key, item in value.items()))
    if isinstance(value, bytes):
        return ("bytes", bytes(value), _subtype(value))
    if isinstance(value, bool):
        return ("bool", value)
    return (type(value).__name__, value)


def _shown_number(value: int | float | Decimal) -> Any:
    if math.isnan(value):
        return ("number", "NaN")
    if math.isinf(value):
        return ("number", str(float(value)))
    if value == int(value):
        return ("number", int(value))
    rounded = Context(prec=10).create_decimal(Decimal(value)).normalize()
    return ("number", int(rounded) if rounded == int(rounded) else str(rounded))
