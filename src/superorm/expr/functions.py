"""``func``: the server's operators as functions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from superorm.expr.base import Expr
from superorm.expr.calls import called, operator_named
from superorm.expr.func_dates import DateFunctions
from superorm.expr.func_lists import DocumentFunctions, ListFunctions
from superorm.expr.func_rows import RowFunctions
from superorm.expr.func_values import ValueFunctions
from superorm.expr.operators import LET, OPERATORS

__all__ = ["Func", "func"]


class Func(RowFunctions, ListFunctions, ValueFunctions, DateFunctions, DocumentFunctions):
    """Every aggregation operator of the server by its name in snake case: ``func.str_len_cp(Movie.title)``.

    Arguments are expressions or Python values, the latter always literals; those that the server names are keywords
    too: ``func.date_trunc(Movie.added, unit="month")``.
    Wrong arguments raise `StatementError`, unknown names `AttributeError` with names like it.
    """

    def __getattr__(self, name: str) -> Callable[..., Expr[object, Any]]:
        if name.startswith("__"):
            raise AttributeError(name)
        return partial(called, operator_named(name).name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(name for name in OPERATORS if OPERATORS[name] is not LET)})


func = Func()
