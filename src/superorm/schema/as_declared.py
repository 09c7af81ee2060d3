# pyright: reportPrivateUsage=false
"""Expressions as documents of one class give their values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from attrs import evolve, frozen

from superorm.expr.base import Label
from superorm.expr.kinds import is_call, is_case, is_field, is_label
from superorm.expr.nodes import Case, Field, branches
from superorm.expr.sources import Variable
from superorm.schema.expression_types import read_through
from superorm.schema.mapping import ClassMap
from superorm.schema.members import declared, declared_in
from superorm.schema.parts import Part

__all__ = ["as_declared"]


@frozen(eq=False, repr=False)
class _Declared(Variable):
    """A field as one class declares it, of which only the type is asked."""

    part: Part

    @property
    def kind(self) -> Part:
        return self.part


def as_declared(node: Any, mapping: ClassMap) -> Iterator[Any]:
    """The expression with its fields as the class declares them: itself where they are declared so already.

    It is given once more for each further class of embedded documents that declare one of them otherwise.
    """
    taken = _Taken(mapping)
    while taken.turn < taken.turns:
        yield taken.of(node)
        taken.turn += 1


class _Taken:
    """One of the ways in which classes of embedded documents declare each field."""

    def __init__(self, mapping: ClassMap) -> None:
        self._mapping = mapping
        self.turn, self.turns = 0, 1

    def of(self, node: Any) -> Any:
        if is_field(node):
            return self._field(node)
        if is_label(node):
            inner = self.of(node.expr)
            return node if inner is node.expr else Label[Any, Any](inner, node.name)
        if is_case(node):
            *values, default = given = [self.of(value) for value in branches(node)]
            whens = zip((condition for condition, _ in node.whens), values, strict=True)
            return Case[Any, Any](tuple(whens), default) if _differ(given, branches(node)) else node
        if is_call(node):
            before = [*node.args, *(value for _, value in node.options)]
            given = [self.of(value) for value in before]
            args, options = given[: len(node.args)], given[len(node.args) :]
            named = zip((name for name, _ in node.options), options, strict=True)
            return evolve(node, args=tuple(args), options=tuple(named)) if _differ(given, before) else node
        return node

    def _field(self, field: Field[Any, Any]) -> Field[Any, Any]:
        owner = field._owner
        if isinstance(owner, Variable):
            items = self.of(owner.list)
            return field if items is owner.list else Field(evolve(owner, list=items), field._path, field._parts)
        ways = declared_in(field, self._mapping)
        self.turns = max(self.turns, len(ways))
        way = ways[min(self.turn, len(ways) - 1)]
        if [*declared(field)] == [way] == [field._parts[-1]]:
            return field
        part = Part(way.where, way.attribute, None, way.step, read_through(field, way.type, [way]))
        return Field(_Declared(way.where, None, part), "", ())


def _differ(values: Sequence[Any], others: Sequence[Any]) -> bool:
    return any(one is not other for one, other in zip(values, others, strict=True))
