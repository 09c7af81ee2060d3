"""Type guards for expressions: what ``isinstance`` says, in types that leave nothing unknown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeGuard

from superorm.expr.base import Call, Compare, Label, Predicate, is_expr
from superorm.expr.nodes import Case, Column, Field
from superorm.expr.outputs import OutputOf
from superorm.expr.rows import Bucket, GraphLookup, ListOf, Window
from superorm.expr.statements import Select

__all__ = [
    "inside",
    "is_bucket",
    "is_call",
    "is_case",
    "is_column",
    "is_compare",
    "is_expr",
    "is_field",
    "is_graph_lookup",
    "is_label",
    "is_list_of",
    "is_output_of",
    "is_predicate",
    "is_select",
    "is_window",
    "walk",
]


def is_field(value: object) -> TypeGuard[Field[Any, Any]]:
    return isinstance(value, Field)


def inside(value: Any) -> Any:
    """What stands under a label; anything else as it is."""
    return value.expr if is_label(value) else value


def is_bucket(value: object) -> TypeGuard[Bucket[Any, Any]]:
    return isinstance(value, Bucket)


def is_call(value: object) -> TypeGuard[Call[Any, Any]]:
    return isinstance(value, Call)


def is_case(value: object) -> TypeGuard[Case[Any, Any]]:
    return isinstance(value, Case)


def is_label(value: object) -> TypeGuard[Label[Any, Any]]:
    return isinstance(value, Label)


def is_window(value: object) -> TypeGuard[Window[Any, Any]]:
    return isinstance(value, Window)


def is_compare(value: object) -> TypeGuard[Compare[Any]]:
    return isinstance(value, Compare)


def is_predicate(value: object) -> TypeGuard[Predicate[Any]]:
    return isinstance(value, Predicate)


def is_column(value: object) -> TypeGuard[Column[Any, Any]]:
    return isinstance(value, Column)


def is_list_of(value: object) -> TypeGuard[ListOf[Any, Any]]:
    return isinstance(value, ListOf)


def is_graph_lookup(value: object) -> TypeGuard[GraphLookup[Any, Any]]:
    return isinstance(value, GraphLookup)


def is_output_of(value: object) -> TypeGuard[OutputOf[Any, Any]]:
    return isinstance(value, OutputOf)


def is_select(value: object) -> TypeGuard[Select[Any, Any]]:
    return isinstance(value, Select)


def walk(nodes: Iterable[Any], is_leaf: Callable[[Any], bool] = lambda _: False) -> Iterator[tuple[str | None, Any]]:
    """All that the nodes are made of, outer ones first, with the label of what is the whole of a labelled one."""
    for node in nodes:
        pending: list[tuple[str | None, Any]] = [(None, node)]
        while pending:
            label, found = pending.pop(0)
            yield label, found
            if is_expr(found) and not is_leaf(found):
                inner = found.name if is_label(found) else None
                pending += [(inner, child) for child in found.children()]
