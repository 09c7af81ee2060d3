"""Values over the rows around each row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cmp_to_key
from typing import Any

from superorm.expr.base import Expr
from superorm.expr.rows import Window
from tests.differential.expressions import ABSENT, evaluate, fingerprint
from tests.differential.groups import grouped, ranks
from tests.differential.ordering import compare_keys
from tests.differential.row import Row, accumulated, row_sort_key
from tests.differential.values import shown

__all__ = ["with_windows"]


def with_windows(nodes: Iterable[Any], rows: list[Row]) -> list[Row]:
    for window in _windows_in(nodes):
        if rows and rows[0].computed(window) is ABSENT:
            values = _window(window, rows)
            rows = [
                row.with_values([(None, fingerprint(window), value)]) for row, value in zip(rows, values, strict=True)
            ]
    return rows


def _windows_in(nodes: Iterable[Any]) -> Iterator[Window[Any, Any]]:
    for node in nodes:
        if isinstance(node, Window):
            yield node
        elif isinstance(node, Expr):
            yield from _windows_in(node.children())


def _window(window: Window[Any, Any], rows: list[Row]) -> list[Any]:
    values: list[Any] = [None] * len(rows)
    for members in grouped(tuple(evaluate(key, row) for key in window.partition_by) or (None,) for row in rows):
        partition = [rows[position] for position in members]
        directions = [order.direction for order in window.order_by]
        keys = [[row_sort_key(order.expr, row, order.direction) for order in window.order_by] for row in partition]

        def order(one: int, other: int, keys: Any = keys, directions: Any = directions) -> int:
            return compare_keys(keys[one], keys[other], directions)

        places = sorted(range(len(partition)), key=cmp_to_key(order))
        ordered = [partition[place] for place in places]
        sort_keys = [shown(keys[place]) for place in places]
        for place, value in zip(places, _over(window, ordered, sort_keys), strict=True):
            values[members[place]] = value
    return values


def _over(window: Window[Any, Any], rows: list[Row], keys: list[Any]) -> list[Any]:
    """The value for each row of a partition in order."""
    call = window.call
    match call.operator.op:
        case "$documentNumber":
            return [position + 1 for position in range(len(rows))]
        case "$rank":
            return [rank for rank, _ in ranks(keys)]
        case "$denseRank":
            return [dense for _, dense in ranks(keys)]
        case "$shift":
            by, default = dict(call.options).get("by", 0), dict(call.options).get("default")
            at = [position + by for position in range(len(rows))]
            return [evaluate(call.args[0], rows[n]) if 0 <= n < len(rows) else default for n in at]
    assert window.frame != "range", "the oracle does not know range= windows"
    lower, upper = window.bounds or ("unbounded", "unbounded")
    found: list[Any] = []
    for position in range(len(rows)):
        start = 0 if lower == "unbounded" else max(position + (0 if lower == "current" else int(lower)), 0)
        end = len(rows) if upper == "unbounded" else position + (0 if upper == "current" else int(upper)) + 1
        found.append(accumulated(call, rows[start : max(end, 0)]))
    return found
