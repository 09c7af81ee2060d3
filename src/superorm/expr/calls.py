"""Calls of the server's operators, checked against the table."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from superorm.exc import StatementError
from superorm.expr.base import Call, Compare, Expr, Predicate, operand
from superorm.expr.checks import are_plain
from superorm.expr.operators import LET, LITERAL, OBJECT, OPERATORS, Operator
from superorm.expr.typed import types

__all__ = ["called", "checked_call", "keyword_of", "operator_named", "truth"]

_REFUSED = {
    "function": "runs JavaScript on the server; there is none in statements",
    "accumulator": "runs JavaScript on the server; there is none in statements",
    "where": "runs JavaScript on the server; there is none in statements",
    "switch": "write case((condition, value), ..., else_=...)",
    "let": "give the expression a Python name and use it twice",
    "sample_rate": "write .where(func.rand() < 0.3), or .sample(n)",
    "substr": "write func.substr_cp(), or func.substr_bytes()",
    "not_in": "write field.not_in(values), or ~ before a condition",
}
_UNITS = ("year", "quarter", "month", "week", "day", "hour", "minute", "second", "millisecond")
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_CHOICES: dict[str, tuple[str, ...]] = {
    "unit": _UNITS,
    "startOfWeek": (*_DAYS, *(day[:3] for day in _DAYS)),
    "method": ("approximate",),
}


def operator_named(name: str) -> Operator:
    """The operator that `func` has under a name. Raises `AttributeError` that names those like it."""
    operator = OPERATORS.get(name)
    if operator is not None and operator is not LET:
        return operator
    if name in _REFUSED:
        raise AttributeError(f"there is no func.{name}: {_REFUSED[name]}")
    near = difflib.get_close_matches(name, OPERATORS, 4)
    hint = f"; there is {', '.join(f'func.{found}' for found in near)}" if near else ""
    raise AttributeError(f"the server has no operator for func.{name}{hint}")


def keyword_of(argument: str) -> str:
    """An argument's name in Python: ``bin_size`` for ``binSize``."""
    return re.sub(r"(?<=[a-z])([A-Z])", r"_\1", argument).lower()


def signature(operator: Operator) -> str:
    """How an operator is called, for messages."""
    names = [keyword_of(name) for name in operator.arguments]
    shown = [name if n < operator.required else f"{name}=..." for n, name in enumerate(names)]
    if not names or operator.style == "list":
        letters = "abcdefgh"[: operator.required if operator.most is None else operator.most]
        further = ["..."] if operator.most is None else []
        options = [f"{name}=..." for name in names]
        needed = [a if n < operator.required else f"{a}=..." for n, a in enumerate(letters)]
        return f"func.{operator.name}({', '.join([*needed, *further, *options])})"
    return f"func.{operator.name}({', '.join(shown)})"


def called(name: str, /, *args: object, **keywords: object) -> Expr[Any, Any]:
    """A call of an operator, which may be a condition. Raises `StatementError`."""
    operator = OPERATORS[name]
    server = {keyword_of(argument): argument for argument in operator.arguments}
    unknown = [keyword for keyword in keywords if keyword not in server]
    if unknown:
        raise StatementError(f"{signature(operator)} has no argument {', '.join(unknown)}")
    options = {server[name]: value for name, value in keywords.items()}
    if are_plain(args) and are_plain(options.values()):
        values, options = [operand(value) for value in args], {name: operand(value) for name, value in options.items()}
    else:
        values, options = types().arguments(operator, args, options)
    call = checked_call(operator, values, options)
    return Compare(call, "$eq", True) if operator.gives == "bool" else call


def truth(name: str, /, *args: object, **keywords: object) -> Predicate[Any]:
    """A call of an operator that gives true or false, as a condition."""
    return cast("Predicate[Any]", called(name, *args, **keywords))


def checked_call(operator: Operator, args: Sequence[Any], options: Mapping[str, Any]) -> Call[Any, Any]:
    """A call with expressions and BSON literals, options by the server's names.

    Raises `StatementError` where the operator is not called so.
    """
    places = () if operator.style == "list" else operator.arguments
    given = [*places[: len(args)], *options]
    if len(set(given)) < len(given) or not _is_complete(operator, len(args), given):
        shown = ", ".join([*map(repr, args), *(f"{keyword_of(name)}={value!r}" for name, value in options.items())])
        raise StatementError(f"it is {signature(operator)}, not func.{operator.name}({shown:.200})")
    if operator is LITERAL and isinstance(args[0], Expr):
        raise StatementError(f"func.literal() takes a Python value, not {args[0]!r}")
    for name, value in [*zip(places, args, strict=False), *options.items()]:
        choices = _CHOICES.get(name, ())
        if choices and not isinstance(value, Expr) and value not in choices:
            raise StatementError(f"func.{operator.name}({keyword_of(name)}={value!r}): one of {', '.join(choices)}")
    order = {name: n for n, name in enumerate(operator.arguments)}
    ordered = sorted(options.items(), key=lambda option: order.get(option[0], 0))
    return Call(operator, tuple(args), tuple(ordered))


def _is_complete(operator: Operator, count: int, given: Sequence[str]) -> bool:
    """Whether `count` positional arguments, and all under the names `given`, are what the operator takes."""
    if operator is OBJECT:
        return count == 0
    if not set(given) <= set(operator.arguments):
        return False
    if operator.arguments and operator.style != "list":
        return count <= len(operator.arguments) and set(operator.arguments[: operator.required]) <= set(given)
    return operator.required <= count and (operator.most is None or count <= operator.most)
