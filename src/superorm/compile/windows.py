"""Windows: ``$setWindowFields``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from superorm.compile.expressions import accumulator, emit
from superorm.compile.scope import Scope, same
from superorm.exc import StatementError
from superorm.expr.base import Expr
from superorm.expr.kinds import is_expr, is_field, is_label, is_window
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
    for label, window in _windows_in(nodes):
        if id(window) in seen or scope.computed(window) is not None:
            continue
        seen.add(id(window))
        path = key(label)
        frame = _frame(window, scope)
        output = {path: _output(window, scope)}
        bodies = (stage["$setWindowFields"] for stage in stages)
        body = next((body for body in bodies if same(_frame_of(body), frame)), None)
        if body is None:
            stages.append({"$setWindowFields": {**frame, "output": output}})
        else:
            body["output"] |= output
        found.append((label, window, path))
    return stages, found


def _windows_in(nodes: Iterable[Any]) -> Iterator[tuple[str | None, Window[Any, Any]]]:
    for node in nodes:
        pending: list[tuple[str | None, Any]] = [(None, node)]
        while pending:
            label, found = pending.pop(0)
            if is_window(found):
                yield label, found
            elif is_expr(found) and not is_field(found):
                name = found.name if is_label(found) else None
                pending += [(name, child) for child in found.children()]


def _frame(window: Window[Any, Any], scope: Scope) -> dict[str, Any]:
    frame: dict[str, Any] = {}
    if window.partition_by:
        keys = [emit(node, scope) for node in window.partition_by]
        frame["partitionBy"] = keys[0] if len(keys) == 1 else {f"k{n}": emitted for n, emitted in enumerate(keys)}
    if window.order_by:
        frame["sortBy"] = {_sort_path(order.expr, scope): order.direction for order in window.order_by}
    return frame


def _frame_of(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != "output"}


def _sort_path(node: Expr[Any, Any], scope: Scope) -> str:
    path = scope.path(node) if is_field(node) else scope.computed(node)
    if path is None:
        raise StatementError(f"window(order_by={node!r}): windows are ordered by fields, and by what a group computed")
    return path


def _output(window: Window[Any, Any], scope: Scope) -> dict[str, Any]:
    output = dict(accumulator(window.call, scope))
    if window.frame is not None:
        bounds: dict[str, Any] = {window.frame: list(window.bounds)}
        if window.unit is not None:
            bounds["unit"] = window.unit
        output["window"] = bounds
    return output
