# pyright: reportPrivateUsage=false
"""A row while a statement is computed, and what its expressions can name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from attrs import define, evolve, field

from superorm.expr.base import Call, Expr, Label
from superorm.expr.nodes import Column, Field
from tests.differential.expressions import ABSENT, evaluate, fingerprint
from tests.differential.groups import ACCUMULATORS
from tests.differential.ordering import sort_key, sort_key_at
from tests.differential.values import MISSING, present

__all__ = ["Row", "accumulated", "derives", "row_sort_key"]


@define(eq=False)
class Row:
    """What the expressions of a row can name."""

    documents: dict[Any, Any] | None
    """The documents by class or alias, `MISSING` where an outer join found none; None after a group."""
    values: list[tuple[str | None, Any, Any]] = field(factory=list)
    """What was computed: label, fingerprint and value."""
    members: list[Row] | None = None
    """The rows of the group that it stands for."""
    outer: Row | None = None
    """The row of the statement around this one."""
    whole: Any = ABSENT
    """Of a group by one key its fingerprint: the server sorts by such keys as wholes, lists too."""
    place: int = 0

    def document(self, owner: Any) -> Any:
        for source, document in (self.documents or {}).items():
            if source == owner or derives(source, owner):
                return document
        return ABSENT if self.outer is None else self.outer.document(owner)

    def computed(self, node: Expr[Any, Any]) -> Any:
        if isinstance(node, (Label, Column)):
            for label, _, value in self.values:
                if label == node.name:
                    return value
        if not isinstance(node, Column):
            wanted = fingerprint(node)
            for _, known, value in self.values:
                if known == wanted:
                    return value
        if self.members is not None and isinstance(node, Call) and node.operator.kind == "accumulator":
            return accumulated(node, self.members)
        return ABSENT

    def with_values(self, found: Iterable[tuple[str | None, Any, Any]]) -> Row:
        """The same with more computed values."""
        return evolve(self, values=[*found, *self.values])


def accumulated(call: Call[Any, Any], rows: Sequence[Row]) -> Any:
    if call.operator.name == "count":
        counted = [arg for arg in call.args if isinstance(arg, Expr)]
        return sum(all(present(evaluate(arg, row)) for arg in counted) for row in rows)
    return ACCUMULATORS[call.operator.op]([evaluate(call.args[0], row) for row in rows])


def row_sort_key(node: Expr[Any, Any], row: Row, direction: int) -> Any:
    if row.computed(node) is ABSENT:
        inner = node.expr if isinstance(node, Label) else node
        if isinstance(inner, Field) and row.documents is not None:
            return sort_key_at(row.document(inner._owner), inner._path, direction)
    value = evaluate(node, row)
    if row.whole is not ABSENT and row.whole == fingerprint(node):
        return None if value is MISSING else value
    return sort_key(value, direction)


def derives(source: object, owner: object) -> bool:
    return isinstance(source, type) and isinstance(owner, type) and issubclass(source, owner)
