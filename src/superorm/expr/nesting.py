"""Expressions and conditions that nest too deep."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from superorm.exc import StatementError

__all__ = ["not_too_deep", "too_deep"]

P = ParamSpec("P")
T = TypeVar("T")


def too_deep() -> StatementError:
    """The error for them."""
    return StatementError(
        "the statement's expressions or conditions nest deeper than the server takes, about 90 levels; "
        "join conditions by one operator, func.or_(*conditions) or where(*conditions), "
        "give func.add() and func.concat() all values at once and case() all conditions, "
        "or compute in steps, with labels and then()"
    )


def not_too_deep(function: Callable[P, T]) -> Callable[P, T]:
    """The same function, which raises this error for what nests deeper than Python can follow."""

    @wraps(function)
    def following(*args: P.args, **keywords: P.kwargs) -> T:
        try:
            return function(*args, **keywords)
        except RecursionError:
            raise too_deep() from None

    return following
