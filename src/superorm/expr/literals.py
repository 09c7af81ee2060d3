"""Python values as BSON literals: a value can never become an operator or a field path."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, cast
from uuid import UUID

import numpy as np
from bson import Binary, Code, DatetimeMS, Decimal128, Int64, MaxKey, MinKey, ObjectId, Timestamp

from superorm.exc import StatementError
from superorm.expr.order import in_order
from superorm.expr.reprs import short_repr

__all__ = ["ATOMIC", "PLAIN", "finite", "key_literal", "literal", "register_literal"]

_NATIVE = {type(None), bool, float, bytes, UUID}
_BSON = {Binary, DatetimeMS, Decimal128, Int64, MaxKey, MinKey, ObjectId, Timestamp}
PLAIN = frozenset(_NATIVE | _BSON)
"""The types whose values are their own literals."""
ATOMIC = PLAIN | {int, str}
"""The types of literals that hold no others."""

_NOT_BSON = frozenset[type]({np.timedelta64, np.longdouble, np.clongdouble})
"""Scalars of numpy that are no Python number."""
_registered: dict[type, Callable[[Any], Any]] = {}


def register_literal(kind: type, convert: Callable[[Any], Any]) -> None:
    """Let instances of `kind` stand in statements; `convert` gives the BSON value."""
    _registered[kind] = convert


def literal(value: object) -> Any:
    """The BSON value of a Python value in a statement.

    Raises `StatementError` for what BSON cannot hold.
    """
    kind = type(value)
    if kind in PLAIN:
        return value
    if kind is str:
        return _text(cast("str", value))
    if kind is int and -(2**63) <= cast("int", value) < 2**63:
        return value
    if kind in _registered:
        return _registered[kind](value)
    if isinstance(value, Enum):
        return literal(value.value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise StatementError(f"{value} does not fit into 64 bits; MongoDB has no larger integers")
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, date):
        return _moment(value)
    if isinstance(value, Decimal):
        return _decimal(value)
    if kind in _NOT_BSON:
        return _container(value)
    if isinstance(value, np.generic):
        item: object = cast("Any", value).item()
        if kind is np.datetime64 and not isinstance(item, date):  # NaT, or finer or coarser than dates are
            return _container(cast("object", value))
        return literal(item)
    return _container(value)


def _container(value: object) -> Any:
    for kind in type(value).__mro__:
        if kind in _registered:
            return _registered[kind](value)
    if isinstance(value, Mapping):
        return {key_literal(key): literal(item) for key, item in cast("Mapping[object, object]", value).items()}
    if isinstance(value, (list, tuple)):
        return [literal(item) for item in cast("list[object]", value)]
    if isinstance(value, (set, frozenset)):  # as sets are stored
        return in_order([literal(item) for item in cast("set[object]", value)])
    name = type(value).__name__
    raise StatementError(
        f"a value of type {name} cannot stand in a statement, only what BSON holds: {short_repr(value)}"
    )


def _text(value: str) -> str:
    if type(value) is not str and isinstance(value, Code):
        raise StatementError(f"code cannot stand in a statement: {short_repr(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise StatementError(f"{value!r} holds a lone surrogate and is no valid text") from None
    return str.__str__(value)


def _moment(value: date) -> datetime:
    if not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if value.tzinfo is None:
        raise StatementError(f"{value!r} has no time zone; use an aware datetime such as utcnow()")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise StatementError(f"{value!r} is beyond the years that UTC datetimes have") from None


def _decimal(value: Decimal) -> Decimal128:
    try:
        return Decimal128(value)
    except ArithmeticError:
        raise StatementError(f"{value!r} has more than the 34 digits that MongoDB's decimals have") from None


def key_literal(key: object) -> str:
    """A key of a dict. Raises `StatementError`."""
    if not isinstance(key, str) or "\0" in key:
        raise StatementError(f"{key!r} cannot be a key of a document: keys are strings without NUL")
    return _text(key)


def finite(value: float, what: str) -> float:
    """The value itself; raises `StatementError` unless it is a finite number."""
    given: Any = value
    if type(given) is bool or not isinstance(given, (int, float, np.number)) or not math.isfinite(value):
        raise StatementError(f"{what} must be a finite number, not {value!r}")
    return float(value)
