"""Accumulators over the rows of a group or of a window, in plain Python."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from fractions import Fraction
from itertools import pairwise
from typing import Any

from tests.differential.expressions import add, alike, divide
from tests.differential.values import MISSING, compare, is_number, key_of, number, present, same

__all__ = ["ACCUMULATORS", "bucket_of", "grouped", "ranks"]


def grouped(keys: Iterable[tuple[Any, ...]]) -> list[list[int]]:
    """The positions of the rows of each group, in the order of their first rows.

    Of a single key null and missing are one group, of several keys two.
    """
    groups: list[tuple[list[Any], list[int]]] = []
    for position, key in enumerate(keys):
        values = [None if len(key) == 1 and value is MISSING else value for value in key]
        found = next((rows for known, rows in groups if all(map(same, known, values))), None)
        if found is None:
            groups.append((values, [position]))
        else:
            found.append(position)
    return [rows for _, rows in groups]


def _numbers(values: list[Any]) -> list[Any]:
    return alike([value for value in values if is_number(value)])


def _sum(values: list[Any]) -> Any:
    given = [value for value in values if is_number(value)]
    numbers = alike(given)
    if numbers and isinstance(numbers[0], float) and all(map(math.isfinite, numbers)):
        return float(sum(map(Fraction, given)))  # rounded once, as the server does
    return add(*numbers) if numbers else 0


def _avg(values: list[Any]) -> Any:
    numbers = _numbers(values)
    return divide(*alike([_sum(values), len(numbers)])) if numbers else None


def _extreme(sign: int) -> Callable[[list[Any]], Any]:
    def apply(values: list[Any]) -> Any:
        found = [value for value in values if present(value)]
        return sorted(found, key=key_of)[-1 if sign > 0 else 0] if found else None

    return apply


def _deviation(sample: bool) -> Callable[[list[Any]], Any]:
    def apply(values: list[Any]) -> Any:
        numbers = [float(number(value)) for value in values if is_number(value)]
        if len(numbers) <= sample:
            return None
        mean = math.fsum(numbers) / len(numbers)
        return math.sqrt(math.fsum((value - mean) ** 2 for value in numbers) / (len(numbers) - sample))

    return apply


def _push(values: list[Any]) -> list[Any]:
    return [value for value in values if value is not MISSING]


def _set(values: list[Any]) -> list[Any]:
    kept = _push(values)
    return [kept[rows[0]] for rows in grouped((value,) for value in kept)]


def _at(position: int) -> Callable[[list[Any]], Any]:
    return lambda values: values[position] if values else None


ACCUMULATORS: dict[str, Callable[[list[Any]], Any]] = {
    "$addToSet": _set,
    "$avg": _avg,
    "$first": _at(0),
    "$last": _at(-1),
    "$max": _extreme(1),
    "$min": _extreme(-1),
    "$push": _push,
    "$stdDevPop": _deviation(sample=False),
    "$stdDevSamp": _deviation(sample=True),
    "$sum": _sum,
}
"""By the server's names: the value over the values of an expression, missing ones among them."""


def ranks(keys: list[Hashable]) -> list[tuple[int, int]]:
    """``$rank`` and ``$denseRank`` of rows in order: equal keys share one."""
    found: list[tuple[int, int]] = []
    for position, key in enumerate(keys):
        if position and keys[position - 1] == key:
            found.append(found[-1])
        else:
            found.append((position + 1, found[-1][1] + 1 if found else 1))
    return found


def bucket_of(value: Any, boundaries: tuple[Any, ...], default: Any) -> Any:
    """The lower bound of the range that holds the value, or else the default."""
    return next(
        (low for low, high in pairwise(boundaries) if compare(low, value) <= 0 and compare(value, high) < 0), default
    )
