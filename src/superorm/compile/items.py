# pyright: reportPrivateUsage=false
"""Expressions as far as types go, where lists were unwound: a list's field stands for an item there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import takewhile, zip_longest
from typing import Any

from attrs import evolve, frozen

from superorm.exc import StatementError
from superorm.expr.base import Call, Label
from superorm.expr.kinds import is_call, is_case, is_field, is_label, is_window
from superorm.expr.nodes import Case, Field, branches
from superorm.expr.operators import OPERATORS
from superorm.expr.sources import Variable
from superorm.schema.parts import Part
from superorm.schema.types.base import BsonType

__all__ = ["item_at", "item_in", "items_of", "parts_typed", "typed_as"]

_ITEM = ("element", None)


@frozen(eq=False)
class _Values(Variable):
    """What stands for values of a known type."""

    part: Part

    @property
    def kind(self) -> Part:
        return self.part


def typed_as(kind: BsonType, name: str) -> Field[Any, Any]:
    """What has a type, and is called so in messages."""
    return Field(_Values(name, None, Part(name, name, None, ("field", name), kind)), "", ())


def item_in(node: Any, levels: int = 1) -> Any:
    """What has the type of the items of a list, or of the items of these."""
    for _ in range(levels):
        node = Call[Any, Any](OPERATORS["array_elem_at"], (node, 0))
    return node


def item_at(field: Field[Any, Any], unwound: Callable[[Field[Any, Any]], int]) -> Field[Any, Any]:
    """The field with `.item()` after each list on its path, as often as that was `unwound`."""
    found: Field[Any, Any] = Field(field._owner, "", ())
    for part, after in zip_longest(field._parts, field._parts[1:]):
        kind, position = part.step
        with suppress(StatementError):  # of what is no list
            if part.step == _ITEM:
                found = found._with(found._type.item())
            else:
                found = found._with(found._type.element(position) if kind == "element" else part)
            if after is None or after.step != _ITEM:
                for _ in range(items_of(found), unwound(found)):
                    found = found._with(found._type.item())
    return found


def items_of(node: Any) -> int:
    """How often a field ends in `.item()`."""
    if not is_field(node):
        return 0
    return len([*takewhile(lambda part: part.step == _ITEM, reversed(node._parts))])


def parts_typed(node: Any, typed: Callable[[Any], Any]) -> Any:
    """The expression with what it gives and is computed from as `typed` has it."""
    if is_field(node) and isinstance(node._owner, Variable):
        return Field[Any, Any](Variable(node._owner.name, typed(node._owner.list)), node._path, node._parts)
    if is_label(node):
        return Label[Any, Any](typed(node.expr), node.name)
    if is_window(node):
        return evolve(node, call=typed(node.call))
    if is_case(node):
        values = [typed(value) for value in branches(node)]
        conditions = [condition for condition, _ in node.whens]
        return Case[Any, Any](tuple(zip(conditions, values[:-1], strict=True)), values[-1])
    if is_call(node):
        options = tuple([(name, typed(value)) for name, value in node.options])
        return evolve(node, args=tuple(map(typed, node.args)), options=options)
    return node
