"""What statements and expressions take, checked: conditions, orders and plain values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeGuard

from superorm.exc import StatementError
from superorm.expr.base import Order, Predicate, is_expr
from superorm.expr.reprs import typed_repr
from superorm.expr.typed import is_told_by_bson

__all__ = ["are_plain", "checked_conditions", "order_of"]


def order_of(place: object) -> Order[Any]:
    """A place in an order, of an order or an expression. Raises `StatementError`."""
    if _is_order(place):
        return place
    if not is_expr(place):
        raise StatementError(f"an order is of fields such as Movie.year.desc(), not {typed_repr(place)}")
    return Order(place, 1)


def _is_order(value: object) -> TypeGuard[Order[Any]]:
    return isinstance(value, Order)


def checked_conditions(conditions: Iterable[Any], where: str) -> tuple[Predicate[Any], ...]:
    """The conditions. Raises `StatementError` for anything else."""
    for condition in conditions:
        if not isinstance(condition, Predicate):
            raise StatementError(f"{where} takes conditions such as Movie.year > 1990, not {typed_repr(condition)}")
    return tuple(conditions)


def are_plain(values: Iterable[object]) -> bool:
    """Whether the values are stored and read as they are, whatever types they stand beside."""
    for value in values:
        if is_expr(value):
            if value._annotations:  # pyright: ignore[reportPrivateUsage]
                return False
        elif not is_told_by_bson(value):
            return False
    return True
