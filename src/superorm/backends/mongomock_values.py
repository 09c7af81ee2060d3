"""BSON values as a server takes them, for a mongomock database: what is missing, numbers, truth and paths."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cached_property
from typing import Any, Final, TypeGuard

from bson import DatetimeMS, Decimal128
from bson.decimal128 import create_decimal128_context
from pymongo.errors import OperationFailure

from superorm.codec.keys import sort_key
from superorm.exc import UnsupportedError
from superorm.expr.narrow import is_dict, is_list

__all__ = [
    "DECIMALS",
    "MISSING",
    "Constant",
    "Number",
    "at_path",
    "is_nan",
    "is_nothing",
    "is_number",
    "is_true",
    "items_of",
    "lacks",
    "number",
    "numbers_of",
    "or_null",
    "order_key",
    "stored_number",
    "whole",
]


class _Missing:
    """What stands for a key that is not there."""

    def __repr__(self) -> str:
        return "nothing"


MISSING: Final = _Missing()
DECIMALS = create_decimal128_context()
"""The arithmetic of decimals: 34 digits."""

Number = int | float | Decimal
"""A number to calculate with."""


def lacks(what: str) -> UnsupportedError:
    """The error that says what mongomock does not have."""
    return UnsupportedError(f"mongomock has no {what}; it needs a MongoDB server")


def is_nothing(value: object) -> bool:
    """Whether it is null or missing."""
    return value is None or value is MISSING


def or_null(value: Any) -> Any:
    return None if value is MISSING else value


def is_number(value: object) -> TypeGuard[int | float | Decimal128]:
    """Whether it is a number to a server: true and false are not."""
    return isinstance(value, int | float | Decimal128) and not isinstance(value, bool)


def is_nan(value: object) -> bool:
    return is_number(value) and math.isnan(_plain(value))


def is_true(value: object) -> bool:
    """Whether a condition holds that gives this: all values are true but 0, false, null and what is missing."""
    if is_nothing(value) or value is False:
        return False
    return not is_number(value) or _plain(value) != 0


def order_key(value: Any) -> tuple[Any, ...]:
    """The place in the server's order of all values, where what is missing is before null; it hashes."""
    return (0, 1) if value is MISSING else sort_key(value)


def number(op: str, value: Any) -> Number:
    """A number to calculate with. Raises ``OperationFailure`` for what is none."""
    if isinstance(value, DatetimeMS):
        raise lacks(f"{op} of dates beyond the years 1 to 9999")
    if not is_number(value):
        raise OperationFailure(f"{op} takes numbers, not {value!r}")
    return _plain(value)


def numbers_of(op: str, values: Sequence[Any]) -> list[Any]:
    """Numbers to calculate with, all decimals where one is: a server rounds doubles then, in ways of its own."""
    found = [number(op, value) for value in values]
    if not any(isinstance(value, Decimal) for value in found):
        return found
    if any(isinstance(value, float) for value in found):
        raise lacks(f"{op} of decimals with floats")
    return [Decimal(value) for value in found]


def stored_number(op: str, value: Number) -> int | float | Decimal128:
    """A result as it is stored. Raises ``OverflowError`` for integers that are too large."""
    if isinstance(value, Decimal):
        return Decimal128(DECIMALS.create_decimal(value))
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise OverflowError(
            f"{op} gives {value}: MongoDB can only handle up to 8-byte ints, mongomock makes no doubles"
        )
    return value


class Constant(list[Any]):
    """A list that is the same for all documents."""

    @cached_property
    def places(self) -> Mapping[Any, int]:
        """Where each value first stands, by its `order_key`."""
        return {order_key(self[place]): place for place in reversed(range(len(self)))}


def whole(op: str, value: Any, least: int = -(2**31), most: int = 2**31 - 1) -> int:
    """An argument that has to be an integer, of any type of numbers."""
    found = number(op, value)
    if math.isnan(found) or not least <= found <= most or found != int(found):
        raise OperationFailure(f"{op} takes an integer from {least} to {most}, not {value!r}")
    return int(found)


def items_of(op: str, value: Any) -> list[Any]:
    """The list itself. Raises ``OperationFailure`` for what is none."""
    if not is_list(value):
        raise OperationFailure(f"{op} takes an array, not {value!r}")
    return value


def at_path(value: Any, path: Sequence[str]) -> Any:
    """What an expression finds at a path: of a list, what is there in each of its documents."""
    for depth, name in enumerate(path):
        if is_list(value):
            found = (at_path(item, path[depth:]) for item in value if is_dict(item))
            return [item for item in found if item is not MISSING]
        if not is_dict(value) or name not in value:
            return MISSING
        value = value[name]
    return value


def _plain(value: int | float | Decimal128) -> Number:
    return value.to_decimal() if isinstance(value, Decimal128) else value
