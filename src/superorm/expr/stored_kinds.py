"""What the fields of stored nodes may hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from superorm.expr import nodes, sources, statements
from superorm.expr.base import Expr, Order, Predicate
from superorm.expr.narrow import is_tuple
from superorm.expr.reprs import typed_repr
from superorm.expr.stored_values import LITERAL_TYPES, Refusal

__all__ = [
    "CLASS",
    "DICT",
    "DOCUMENT",
    "ENTITY",
    "EXPR",
    "FIELD",
    "FLAG",
    "LITERAL",
    "LITERALS",
    "NUMBER",
    "OPERAND",
    "ORDER",
    "PREDICATE",
    "QUERY",
    "SELECT",
    "SOURCE",
    "STEP",
    "TEXT",
    "VARIABLE",
    "WHOLE",
    "Kind",
    "anything",
    "either",
    "kind_of",
    "many",
    "maybe",
    "of",
    "one_of",
    "pair",
]

_VARIABLE = re.compile(r"[a-z][a-zA-Z0-9_]*")

Kind: TypeAlias = Callable[[Any], Any]
"""Gives the value itself, or raises `Refusal`."""


def kind_of(expected: str, test: Callable[[Any], bool]) -> Kind:
    def check(value: Any) -> Any:
        if not test(value):
            raise Refusal(f"expected {expected}, not {typed_repr(value)}")
        return value

    return check


def of(*types: type) -> Kind:
    names = " or ".join(kind.__name__ for kind in types)
    return kind_of(f"a node {names}", lambda value: isinstance(value, types))


def one_of(*values: Any) -> Kind:
    expected = f"one of {', '.join(map(repr, values))}"
    return kind_of(expected, lambda value: any(type(value) is type(one) and value == one for one in values))


def maybe(kind: Kind) -> Kind:
    return lambda value: None if value is None else kind(value)


def many(kind: Kind, least: int = 0) -> Kind:
    def check(value: Any) -> Any:
        if not is_tuple(value) or len(value) < least:
            raise Refusal(f"expected {least} or more items, not {typed_repr(value)}")
        for position, item in enumerate(value):
            try:
                kind(item)
            except Refusal as refusal:
                raise refusal.within(position) from None
        return value

    return check


def pair(first: Kind, second: Kind) -> Kind:
    def check(value: Any) -> Any:
        if not is_tuple(value) or len(value) != 2:
            raise Refusal(f"expected a pair, not {typed_repr(value)}")
        first(value[0])
        second(value[1])
        return value

    return check


def either(*kinds: Kind) -> Kind:
    """One of several kinds."""

    def check(value: Any) -> Any:
        refusals: list[str] = []
        for kind in kinds:
            try:
                return kind(value)
            except Refusal as refusal:
                refusals.append(str(refusal))
        raise Refusal(", and ".join(refusals))

    return check


def anything(value: Any) -> Any:
    """What depends on another argument, and is checked with it."""
    return value


def _is_literal(value: Any) -> bool:
    return type(value) in LITERAL_TYPES


def _is_step(value: Any) -> bool:
    if not is_tuple(value) or len(value) != 2 or type(value[0]) is not str:
        return False
    kind, step = value
    match kind:
        case "field":
            return type(step) is str and step.isidentifier() and step[0] != "_"
        case "key":
            return type(step) is str
        case "element":
            return step is None or (type(step) is int and step >= 0)
        case _:
            return False


CLASS = kind_of("a class", lambda value: isinstance(value, type))
NUMBER = kind_of("a number", lambda value: type(value) in (int, float))
DICT = kind_of("a dict value", lambda value: type(value) is dict)
DOCUMENT = kind_of("a document class", sources.is_document)
ENTITY = kind_of(
    "a document class or an expression", lambda value: isinstance(value, Expr) or sources.is_document(value)
)
EXPR = of(Expr)
FIELD = of(nodes.Field)
FLAG = kind_of("true or false", lambda value: type(value) is bool)
LITERAL = kind_of("a value", _is_literal)
LITERALS = kind_of("a list of values", lambda value: type(value) is list)
OPERAND = kind_of("an expression or a value", lambda value: isinstance(value, Expr) or _is_literal(value))
ORDER = of(Order)
PREDICATE = of(Predicate)
QUERY = kind_of("a query", lambda value: isinstance(value, np.ndarray) or _is_literal(value))
SELECT = of(statements.Select)
TEXT = kind_of("a text", lambda value: type(value) is str)
SOURCE = kind_of("a class", lambda value: isinstance(value, (type, sources.Alias, sources.Variable)))
STEP = kind_of("a step such as field, name", _is_step)
VARIABLE = kind_of("a variable's name", lambda value: type(value) is str and bool(_VARIABLE.fullmatch(value)))
WHOLE = kind_of("a whole number", lambda value: type(value) is int)
