"""BSON literals and paths in aggregation expressions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from superorm.expr.narrow import is_dict, is_list

__all__ = ["as_operand", "bound", "constant", "every", "fails", "or_empty"]


def constant(value: Any) -> Any:
    """A literal that the server cannot take for an operator or a path."""
    return value if _harmless(value) else {"$literal": value}


def _harmless(value: Any) -> bool:
    if isinstance(value, str):
        return not value.startswith("$")
    return all(map(_harmless, value)) if is_list(value) else not is_dict(value)


def as_operand(expression: Any) -> Any:
    """An expression as the only operand, for which the server would take an array's first element."""
    return [expression] if is_list(expression) else expression


def bound(expression: Any, name: str, body: Callable[[str], Any]) -> Any:
    """What `body` makes of the expression, which is computed once and is a path or variable in there."""
    if isinstance(expression, str) and expression.startswith("$"):
        return body(expression)
    return {"$let": {"vars": {name: expression}, "in": body(f"$${name}")}}


def or_empty(path: str) -> dict[str, Any]:
    """The list at a path, the empty list where there is none."""
    return {"$cond": [{"$isArray": path}, path, []]}


def every(conditions: Iterable[Any]) -> dict[str, Any]:
    """Emitted conditions joined, flat."""
    flat: list[Any] = []
    for condition in conditions:
        flat += condition["$and"] if is_dict(condition) and "$and" in condition else [condition]
    return {"$and": flat}


def fails(message: str, shown: Any) -> Any:
    """An expression that ends the update with an error which says this and a text."""
    return {"$toInt": {"$concat": [f"{message}: ", shown]}}
