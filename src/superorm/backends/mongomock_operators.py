"""Operators of values over a mongomock database, by the server's rules.

Each takes the values of its operands. Raises ``OperationFailure`` for those that a server does not take either,
``UnsupportedError`` for those with which only a server can compute.
"""

from __future__ import annotations

import datetime as dt
import math
import operator
from collections.abc import Callable, Sequence
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, Decimal
from fractions import Fraction
from functools import partial, reduce
from typing import Any

from pymongo.errors import OperationFailure

from superorm.backends.mongomock_values import (
    DECIMALS,
    MISSING,
    Constant,
    Number,
    is_nothing,
    is_number,
    is_true,
    items_of,
    lacks,
    number,
    numbers_of,
    order_key,
    stored_number,
    whole,
)
from superorm.expr.narrow import is_dict, is_list

__all__ = ["ACCUMULATORS", "ONE_BY_ONE", "OPERATORS_OF_VALUES", "add", "multiply"]


# Numbers


def _calculated(op: str, *values: Any) -> Any:
    """What an operator of numbers gives, null where one of them is."""
    if any(map(is_nothing, values)):
        return None
    found: Number = _CALCULATED[op](*numbers_of(op, values))
    return stored_number(op, found)


def add(*values: Any) -> Any:
    """``$add``: numbers, or one date and milliseconds."""
    dates = [value for value in values if isinstance(value, dt.datetime)]
    if not dates:
        return stored_number("$add", _sum("$add", values))
    others = [value for value in values if not isinstance(value, dt.datetime)]
    if len(dates) > 1:
        raise OperationFailure("$add takes one date only")
    return _moved("$add", dates[0], _sum("$add", others))


def _subtract(value: Any, other: Any) -> Any:
    if is_nothing(value) or is_nothing(other):
        return None
    if not isinstance(value, dt.datetime):
        one, two = numbers_of("$subtract", (value, other))
        return stored_number("$subtract", DECIMALS.subtract(one, two) if isinstance(one, Decimal) else one - two)
    if isinstance(other, dt.datetime):
        return (value - other) // dt.timedelta(milliseconds=1)
    return _moved("$subtract", value, -number("$subtract", other))


def _moved(op: str, date: dt.datetime, by: Number) -> dt.datetime:
    if not isinstance(by, int):
        raise lacks(f"{op} of dates with fractions of milliseconds")
    try:
        return date + dt.timedelta(milliseconds=by)
    except OverflowError:
        raise lacks(f"{op} to dates beyond the years 1 to 9999") from None


def _sum(op: str, values: Sequence[Any]) -> Any:
    """The sum of numbers, without what additions of doubles one by one would lose."""
    found = numbers_of(op, values)
    if _decimal(found):
        return reduce(DECIMALS.add, found)
    if all(isinstance(value, int) for value in found):
        return sum(found)
    return float(sum(map(Fraction, found))) if all(map(math.isfinite, found)) else sum(found)


def _decimal(values: Sequence[Any]) -> bool:
    return bool(values) and isinstance(values[0], Decimal)


def multiply(*values: Any) -> Any:
    """``$multiply`` of numbers."""
    found = numbers_of("$multiply", values)
    return stored_number(
        "$multiply", reduce(DECIMALS.multiply if _decimal(found) else operator.mul, found) if found else 1
    )


def _abs(value: Any) -> Any:
    return value.copy_abs() if isinstance(value, Decimal) else abs(value)


def _divide(value: Any, by: Any) -> Number:
    if by == 0:
        raise OperationFailure("can't $divide by zero")
    return DECIMALS.divide(value, by) if isinstance(value, Decimal) else value / by


def _mod(value: Any, by: Any) -> Any:
    if by == 0:
        raise OperationFailure("can't $mod by zero")
    if isinstance(value, Decimal):
        found = DECIMALS.remainder(value, by)
        if found.is_nan() and value.is_finite() and not by.is_nan():
            raise lacks(f"$mod of {value} by {by}")
        return found
    if isinstance(value, int) and (isinstance(by, int) or (abs(by) < 2**63 and by == int(by))):
        by = int(by)
        return abs(value) % abs(by) * (-1 if value < 0 else 1)
    return math.fmod(value, by) if math.isfinite(value) else math.nan


def _rounded(op: str, value: Any) -> Any:
    if isinstance(value, Decimal):
        if op == "$trunc":
            return value.to_integral_value(ROUND_DOWN)
        return value.quantize(Decimal(1), ROUND_CEILING if op == "$ceil" else ROUND_FLOOR, DECIMALS)
    if isinstance(value, int) or not math.isfinite(value):
        return value
    return math.copysign(float(getattr(math, op[1:])(value)), value)


def _trunc(value: Any, places: Any = 0) -> Any:
    if is_nothing(value):
        return None
    found = number("$trunc", value)
    if is_nothing(places):
        return None
    if whole("$trunc", places) != 0:
        raise lacks(f"$trunc to {places} places")
    return stored_number("$trunc", _rounded("$trunc", found))


def _double(op: str, compute: Callable[..., float], *values: Any) -> float | None:
    """What a function of doubles gives."""
    if any(map(is_nothing, values)):
        return None
    found = [number(op, value) for value in values]
    if any(isinstance(value, Decimal) for value in found):
        raise lacks(f"{op} of decimals")
    try:
        return compute(*found)
    except OverflowError:
        raise lacks(f"{op} beyond the largest double") from None
    except ValueError:
        raise OperationFailure(f"{op} does not take {' and '.join(map(repr, values))}") from None


def _log(value: float, base: float) -> float:
    if base <= 0 or base == 1:
        raise ValueError
    return math.log(value) / math.log(base)


def _pow(value: Any, power: Any) -> Any:
    if is_nothing(value) or is_nothing(power):
        return None
    base, exponent = number("$pow", value), number("$pow", power)
    if (
        isinstance(base, int)
        and isinstance(exponent, int)
        and (abs(base) == 1 or 0 <= exponent < 64 or (base == 0 < exponent))
    ):
        exact: int = base ** abs(exponent)
        if -(2**63) <= exact < 2**63:
            return exact
    return _double("$pow", _double_power, value, power)


def _double_power(base: float, exponent: float) -> float:
    if base == 0 and exponent < 0:
        raise ValueError
    if -math.inf < base < 0 and math.isfinite(exponent) and not float(exponent).is_integer():
        return math.nan
    return math.pow(base, exponent)


_CALCULATED: dict[str, Callable[..., Any]] = {
    "$abs": _abs,
    "$ceil": partial(_rounded, "$ceil"),
    "$divide": _divide,
    "$floor": partial(_rounded, "$floor"),
    "$mod": _mod,
}
_DOUBLES: dict[str, Callable[..., float]] = {
    "$exp": math.exp,
    "$ln": math.log,
    "$log": _log,
    "$log10": math.log10,
    "$sqrt": math.sqrt,
}


# Conditions


def _compared(compare: Callable[[Any, Any], bool], one: Any, other: Any) -> bool:
    return compare(order_key(one), order_key(other))


def _not(value: Any) -> bool:
    return not is_true(value)


# Texts


def _text(op: str, value: Any) -> str:
    if not isinstance(value, str):
        raise OperationFailure(f"{op} takes texts, not {value!r}")
    return value


def _split(value: Any, by: Any) -> list[str] | None:
    if is_nothing(value) or is_nothing(by):
        return None
    if by == "":
        raise OperationFailure("$split takes no empty separator")
    return _text("$split", value).split(_text("$split", by))


# Lists


def _at(items: Any, position: Any) -> Any:
    if is_nothing(items) or is_nothing(position):
        return None
    at, found = whole("$arrayElemAt", position), items_of("$arrayElemAt", items)
    return found[at] if -len(found) <= at < len(found) else MISSING


def _end(op: str, position: int, items: Any) -> Any:
    if is_nothing(items):
        return None
    return items_of(op, items)[position] if items != [] else MISSING


def _in(value: Any, items: Any) -> bool:
    key = order_key(value)
    return any(order_key(item) == key for item in items_of("$in", items))


def _index_of(items: Any, value: Any, start: Any = 0, end: Any = 2**31 - 1) -> int | None:
    if is_nothing(items):
        return None
    if isinstance(items, Constant) and (start, end) == (0, 2**31 - 1):
        return items.places.get(order_key(value), -1)
    found, first = items_of("$indexOfArray", items), whole("$indexOfArray", start, 0)
    key, last = order_key(value), min(len(found), whole("$indexOfArray", end, 0))
    return next((at for at in range(first, last) if order_key(found[at]) == key), -1)


def _size(items: Any) -> int:
    return len(items_of("$size", items))


def _any_true(items: Any) -> bool:
    return any(map(is_true, items_of("$anyElementTrue", items)))


def _slice(items: Any, *places: Any) -> list[Any] | None:
    if is_nothing(items) or is_nothing(places[0]):
        return None
    found, start = items_of("$slice", items), whole("$slice", places[0])
    if len(places) == 1:
        return found[:start] if start >= 0 else found[start:]
    if is_nothing(places[1]):
        return None
    start = max(0, start + len(found)) if start < 0 else start
    return found[start : start + whole("$slice", places[1], 1)]


def _object_to_array(value: Any) -> list[Any] | None:
    if is_nothing(value):
        return None
    if not is_dict(value):
        raise OperationFailure(f"$objectToArray takes a document, not {value!r}")
    return [{"k": key, "v": item} for key, item in value.items()]


def _array_to_object(value: Any) -> dict[str, Any] | None:
    if is_nothing(value):
        return None
    items = items_of("$arrayToObject", value)
    pairs = [[item["k"], item["v"]] if is_dict(item) and set(item) == {"k", "v"} else item for item in items]
    if not all(is_list(pair) and len(pair) == 2 for pair in pairs) or len(set(map(is_list, items))) > 1:
        raise OperationFailure("$arrayToObject takes pairs, or documents with k and v, all of one kind")
    return {_text("$arrayToObject", key): item for key, item in pairs}


# What accumulators do, over rows or over the elements of a list


def _total(values: Sequence[Any]) -> Any:
    return stored_number("$sum", _sum("$sum", list(filter(is_number, values))))


def _average(values: Sequence[Any]) -> Any:
    found = list(filter(is_number, values))
    if not found:
        return None
    total = _sum("$avg", found)
    divided = DECIMALS.divide(total, Decimal(len(found))) if isinstance(total, Decimal) else total / len(found)
    return stored_number("$avg", divided)


def _least(values: Sequence[Any]) -> Any:
    return min((value for value in values if not is_nothing(value)), key=order_key, default=None)


def _greatest(values: Sequence[Any]) -> Any:
    return max((value for value in values if not is_nothing(value)), key=order_key, default=None)


ACCUMULATORS: dict[str, Callable[[Sequence[Any]], Any]] = {
    "$avg": _average,
    "$max": _greatest,
    "$min": _least,
    "$sum": _total,
}

ONE_BY_ONE: dict[str, Callable[[Any], object]] = {
    "$add": lambda value: value if isinstance(value, dt.datetime) else number("$add", value),
    "$concat": lambda value: _text("$concat", value),
    "$concatArrays": lambda value: items_of("$concatArrays", value),
    "$multiply": lambda value: number("$multiply", value),
}
"""The operators that look at their operands one after the other, null at the first that is, each with its check."""

OPERATORS_OF_VALUES: dict[str, Callable[..., Any]] = {
    "$add": add,
    "$anyElementTrue": _any_true,
    "$arrayElemAt": _at,
    "$arrayToObject": _array_to_object,
    "$concat": lambda *values: "".join(values),
    "$concatArrays": lambda *values: [item for value in values for item in value],
    "$eq": partial(_compared, operator.eq),
    "$first": partial(_end, "$first", 0),
    "$gt": partial(_compared, operator.gt),
    "$gte": partial(_compared, operator.ge),
    "$in": _in,
    "$indexOfArray": _index_of,
    "$isArray": is_list,
    "$isNumber": is_number,
    "$last": partial(_end, "$last", -1),
    "$lt": partial(_compared, operator.lt),
    "$lte": partial(_compared, operator.le),
    "$multiply": multiply,
    "$ne": partial(_compared, operator.ne),
    "$not": _not,
    "$objectToArray": _object_to_array,
    "$pow": _pow,
    "$size": _size,
    "$slice": _slice,
    "$split": _split,
    "$subtract": _subtract,
    "$trunc": _trunc,
    **{op: partial(_calculated, op) for op in _CALCULATED},
    **{op: partial(_double, op, compute) for op, compute in _DOUBLES.items()},
}
