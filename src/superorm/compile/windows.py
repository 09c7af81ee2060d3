"""Windows: ``$setWindowFields``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from superorm.compile.expressions import accumulator, emit, projected, sort_path
from superorm.compile.scope import Scope, same
from superorm.expr.base import Expr
from superorm.expr.kinds import is_call, is_window, walk
from superorm.expr.rows import Window

__all__ = ["window_stages"]


def window_stages(
    nodes: Iterable[Any], scope: Scope, key: Callable[[str | None], str]
) -> tuple[list[dict[str, Any]], list[tuple[str | None, Expr[Any, Any], str]]]:
    """One stage for all windows of one partition and order; label, window and path of each.

    `key` gives a key for a label, or a new one.
    """
    stages: list[dict[str, Any]] = []
    found: list[tuple[str | None, Expr[Any, Any], str]] = []
    seen: set[int] = set()
    computed: list[tuple[Any, str]] = []
    for label, window in walk(nodes, _is_leaf):
        if not is_window(window):
            continue
        if id(window) in seen or scope.computed(window) is not None:
            continue
        seen.add(id(window))
        path = key(label)
        frame = _frame(window, scope, lambda node: _computed(node, scope, computed, key))
        output = {path: _output(window, scope)}
        bodies = (stage["$setWindowFields"] for stage in stages)
        body = next((body for body in bodies if same(_frame_of(body), frame)), None)
        if body is None:
            stages.append({"$setWindowFields": {**frame, "output": output}})
        else:
            body["output"] |= output
        found.append((label, window, path))
    sets = {path: value for value, path in computed}
    return [*([{"$set": sets}] if sets else []), *stages], found


def _is_leaf(node: object) -> bool:
    """Whether no window in it is to be computed: those in an accumulator are of the rows that were grouped."""
    return is_window(node) or (is_call(node) and node.operator.kind == "accumulator")


def _computed(
    node: Expr[Any, Any], scope: Scope, computed: list[tuple[Any, str]], key: Callable[[str | None], str]
) -> str:
    """The path where a stage before computes what the windows are ordered by: the server takes paths only."""
    value = projected(node, scope)
    path = next((path for known, path in computed if same(known, value)), None)
    if path is None:
        path = key(None)
        computed.append((value, path))
    return path


def _frame(window: Window[Any, Any], scope: Scope, computed: Callable[[Expr[Any, Any]], str]) -> dict[str, Any]:
    frame: dict[str, Any] = {}
    if window.partition_by:
        keys = [emit(node, scope) for node in window.partition_by]
        frame["partitionBy"] = keys[0] if len(keys) == 1 else {f"k{n}": emitted for n, emitted in enumerate(keys)}
    if window.order_by:
        frame["sortBy"] = {
            sort_path(order.expr, scope) or computed(order.expr): order.direction for order in window.order_by
        }
    return frame


def _frame_of(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != "output"}


def _output(window: Window[Any, Any], scope: Scope) -> dict[str, Any]:
    output = dict(accumulator(window.call, scope))
    if window.frame is not None:
        bounds: dict[str, Any] = {window.frame: list(window.bounds)}
        if window.unit is not None:
            bounds["unit"] = window.unit
        output["window"] = bounds
    return output
