"""Expressions of pipelines over the documents of a mongomock database, by the server's rules.

mongomock's own evaluation takes Python's view of types, and of what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pymongo.errors import OperationFailure

from superorm.backends.mongomock_dates import DATES, date_part
from superorm.backends.mongomock_operators import ACCUMULATORS, ONE_BY_ONE, OPERATORS_OF_VALUES
from superorm.backends.mongomock_values import (
    MISSING,
    Constant,
    at_path,
    is_nothing,
    is_true,
    items_of,
    lacks,
    or_null,
    whole,
)
from superorm.expr.narrow import is_dict, is_list
from superorm.expr.operators import OPERATORS

__all__ = ["SUPPORTED", "evaluate", "prepared"]

Variables = Mapping[str, Any]


def evaluate(expression: Any, variables: Variables) -> Any:
    """The value of an expression, `MISSING` where there is none; the document is the variable ``ROOT``.

    Raises ``OperationFailure`` for values that an operator does not take,
    ``UnsupportedError`` for operators, variables and values that only a server can compute with.
    """
    if isinstance(expression, str):
        return _path(expression, variables) if expression.startswith("$") else expression
    if is_list(expression):
        return [or_null(evaluate(item, variables)) for item in expression]
    if not is_dict(expression):
        return expression
    op = next(iter(expression), "")
    if op.startswith("$"):
        return _operator(op, expression[op], variables)
    found = {name: evaluate(value, variables) for name, value in expression.items()}
    return {name: value for name, value in found.items() if value is not MISSING}


def prepared(expression: Any) -> Any:
    """The same for many documents, with what is to be known of a constant list found once."""
    if is_list(expression):
        return [prepared(item) for item in expression]
    if not is_dict(expression):
        return expression
    constant = expression.get("$literal")
    return {"$literal": Constant(constant)} if is_list(constant) else {k: prepared(v) for k, v in expression.items()}


def _path(text: str, variables: Variables) -> Any:
    if not text.startswith("$$"):
        return at_path(variables["ROOT"], text[1:].split("."))
    name, *path = text[2:].split(".")
    if name == "REMOVE":
        return MISSING
    name = "ROOT" if name == "CURRENT" else name
    if name not in variables:
        raise lacks(f"variable $${name} here")
    return at_path(variables[name], path)


def _operator(op: str, operand: Any, variables: Variables) -> Any:
    if op in _BY_NAME:
        return _BY_NAME[op](operand, variables)
    if op in DATES:
        if is_dict(operand) and "date" in operand:
            zone = evaluate(operand["timezone"], variables) if "timezone" in operand else "UTC"
            return date_part(op, evaluate(operand["date"], variables), zone)
        return date_part(op, evaluate(_only(operand), variables), "UTC")
    if op in ACCUMULATORS:
        return ACCUMULATORS[op](_accumulated(op, _only(operand), variables))
    if op not in OPERATORS_OF_VALUES:
        raise lacks(op)
    values: list[Any] = []
    operands = operand if is_list(operand) else [operand]
    least, most = _NUMBER_OF_OPERANDS.get(op, (0, len(operands)))
    if not least <= len(operands) <= most:
        raise OperationFailure(f"{op} takes {least} to {most} operands, not {len(operands)}")
    for item in operands:
        value = evaluate(item, variables)
        if op in ONE_BY_ONE:
            if is_nothing(value):
                return None
            ONE_BY_ONE[op](value)
        values.append(value)
    return OPERATORS_OF_VALUES[op](*values)


def _only(operand: Any) -> Any:
    """The operand itself of a list of one."""
    return operand[0] if is_list(operand) and len(operand) == 1 else operand


def _accumulated(op: str, operand: Any, variables: Variables) -> list[Any]:
    """The values that an accumulator's namesake is over: those of several operands, or the elements of one."""
    if is_list(operand):
        return [evaluate(item, variables) for item in operand]
    found = evaluate(operand, variables)
    return found if is_list(found) else [found]


def _truths(operand: Any, variables: Variables) -> Iterator[bool]:
    return (is_true(evaluate(item, variables)) for item in (operand if is_list(operand) else [operand]))


def _cond(operand: Any, variables: Variables) -> Any:
    operands = operand if is_list(operand) else [operand["if"], operand["then"], operand["else"]]
    if len(operands) != 3:
        raise OperationFailure(f"$cond takes 3 operands, not {len(operands)}")
    condition, then, otherwise = operands
    return evaluate(then if is_true(evaluate(condition, variables)) else otherwise, variables)


def _switch(operand: Any, variables: Variables) -> Any:
    for branch in operand["branches"]:
        if is_true(evaluate(branch["case"], variables)):
            return evaluate(branch["then"], variables)
    if "default" not in operand:
        raise OperationFailure("$switch could not find a matching branch for an input, and no default was specified")
    return evaluate(operand["default"], variables)


def _if_null(operand: Any, variables: Variables) -> Any:
    if not is_list(operand) or len(operand) < 2:
        raise OperationFailure("$ifNull takes two operands, or more")
    found: Any = None
    for item in operand:
        found = evaluate(item, variables)
        if not is_nothing(found):
            break
    return found


def _let(operand: Any, variables: Variables) -> Any:
    found = {name: evaluate(value, variables) for name, value in operand["vars"].items()}
    return evaluate(operand["in"], {**variables, **found})


def _map(operand: Any, variables: Variables) -> Any:
    items = evaluate(operand["input"], variables)
    if is_nothing(items):
        return None
    name = operand.get("as", "this")
    return [or_null(evaluate(operand["in"], {**variables, name: item})) for item in items_of("$map", items)]


def _filter(operand: Any, variables: Variables) -> Any:
    items = evaluate(operand["input"], variables)
    if is_nothing(items):
        return None
    name, limit = operand.get("as", "this"), evaluate(operand.get("limit"), variables)
    found = [
        item for item in items_of("$filter", items) if is_true(evaluate(operand["cond"], {**variables, name: item}))
    ]
    if is_nothing(limit):
        return found
    return found[: whole("$filter", limit, 1)]


_NUMBER_OF_OPERANDS = {
    operator.op: (operator.required, operator.most)
    for operator in OPERATORS.values()
    if operator.kind == "scalar" and operator.most is not None
}

_BY_NAME: dict[str, Callable[[Any, Variables], Any]] = {
    "$and": lambda operand, variables: all(_truths(operand, variables)),
    "$cond": _cond,
    "$filter": _filter,
    "$ifNull": _if_null,
    "$let": _let,
    "$literal": lambda operand, variables: operand,
    "$map": _map,
    "$or": lambda operand, variables: any(_truths(operand, variables)),
    "$switch": _switch,
}
"""The operators that compute not all of their operands, or with variables of their own."""

SUPPORTED = frozenset({*_BY_NAME, *DATES, *ACCUMULATORS, *OPERATORS_OF_VALUES, "$push"})
"""The operators that there are, those over the rows of a group among them."""
