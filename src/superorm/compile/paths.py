"""Where the values of fields stand, and which may be arrays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial, reduce
from itertools import pairwise
from typing import Any, cast

from superorm.compile.constants import bound, or_empty
from superorm.compile.guards import Step, reaches
from superorm.compile.scope import Scope
from superorm.exc import StatementError
from superorm.expr.kinds import is_call, is_case, is_expr, is_field, is_label, is_predicate, is_window
from superorm.expr.narrow import is_dict, is_list
from superorm.expr.nodes import Field, Score
from superorm.expr.sources import Variable

__all__ = [
    "element_class",
    "elements_reached",
    "field_expression",
    "has_position",
    "is_straight",
    "is_sure_position",
    "key_below",
    "located",
    "may_be_list",
]


def has_position(field: Field[Any, Any]) -> bool:
    """Whether elements of lists are named by their position on the way."""
    return any(part.step[0] == "element" and part.step[1] is not None for part in _parts(field))


def is_sure_position(field: Field[Any, Any]) -> bool:
    """Whether all positions on the way are of lists of single values or embedded documents: of no lists or dicts."""
    elements = [part for part in _parts(field) if part.step[0] == "element"]
    return not any(list in part.type.reads or (dict in part.type.reads and part.embedded is None) for part in elements)


def _has_position_in_list(field: Field[Any, Any]) -> bool:
    in_list = False
    for part, after in pairwise(_parts(field)):
        in_list = in_list or (part.is_list and after.step[0] == "field")
        if in_list and after.step[0] == "element" and after.step[1] is not None:
            return True
    return False


def _parts(field: Field[Any, Any]) -> tuple[Any, ...]:
    return cast("tuple[Any, ...]", field._parts)  # pyright: ignore[reportPrivateUsage]


def _steps(field: Field[Any, Any]) -> list[Step]:
    """The keys of the path, as the class has them."""
    steps: list[Step] = []
    for part in _parts(field):
        listy = list in part.type.reads
        if part.stored is None:  # it takes the place of the list that it was in
            steps += [Step(steps.pop().name, listy)] if steps else []
            continue
        kind, at = part.step
        steps.append(Step(part.stored, listy, at if kind == "element" else None))
    return steps


def located(field: Field[Any, Any], scope: Scope) -> tuple[str, list[Step]]:
    """What the path begins with, with dollar signs, and its keys."""
    owner = field._owner  # pyright: ignore[reportPrivateUsage]
    own = field._path  # pyright: ignore[reportPrivateUsage]
    steps = _steps(field)
    if isinstance(owner, Variable):
        return f"$${owner.name}", steps
    path = scope.path(field)
    if path == own:
        return "$", steps
    if path.endswith(f".{own}"):
        return f"${path[: -len(own) - 1]}", steps
    return "$", [Step(path, any(step.listy for step in steps))]  # the value as rows have it


def field_expression(field: Field[Any, Any], scope: Scope) -> Any:
    """The path, or where it names elements by their position an expression."""
    if _has_position_in_list(field):
        raise StatementError(
            f"{field!r}: as a value there is one for each element of the list before the position; "
            "unwind() that list first, or use func.map() on it",
            field=field._path,  # pyright: ignore[reportPrivateUsage]
        )
    base, steps = located(field, scope)
    return reduce(_below, steps, base)


def key_below(field: Field[Any, Any], key: str, scope: Scope) -> Any:
    """The value under a key of the document that a field holds."""
    return _below(field_expression(field, scope), Step(key, listy=False))


def _below(path: Any, step: Step) -> Any:
    if step.position is not None:
        return {"$arrayElemAt": [bound(path, "e", or_empty), step.position]}
    if is_dict(path):
        return {"$let": {"vars": {"e": path}, "in": f"$$e.{step.name}"}}
    return f"${step.name}" if path == "$" else f"{path}.{step.name}"


def elements_reached(field: Field[Any, Any], scope: Scope) -> Iterator[Any]:
    """The conditions, as expressions, that the elements are there which the path names by their position."""
    path, steps = located(field, scope)
    for number, step in enumerate(steps):
        if step.position is not None:
            yield bound(reduce(_below, steps[:number], path), "e", partial(reaches, position=step.position))


def element_class(list: Any) -> Any:
    """The class of the embedded documents in a list, beside which a field may hold others."""
    with suppress(StatementError):
        return list._type.element(None).embedded
    return list._type.embedded


def may_be_list(node: object) -> bool:
    """Whether the value may be an array, as far as its type tells."""
    if is_field(node):
        return _field_may_be_list(node)
    if is_label(node):
        return may_be_list(node.expr)
    if is_window(node):
        return may_be_list(node.call)
    if is_call(node):
        return node.operator.gives in ("list", "any")
    if is_case(node):
        return any(map(may_be_list, (*(value for _, value in node.whens), node.else_)))
    if is_predicate(node) or isinstance(node, Score):
        return False
    return is_expr(node) or is_list(node)


def is_straight(node: object) -> bool:
    """Whether no element of a list has to be looked at: of a field, that it is in no list and is none."""
    if is_label(node):
        return is_straight(node.expr)
    if is_field(node):
        return not any(step.listy or step.position is not None for step in _steps(node))
    return not may_be_list(node)


def _field_may_be_list(field: Field[Any, Any]) -> bool:
    steps = _steps(field)
    owner = field._owner  # pyright: ignore[reportPrivateUsage]
    if isinstance(owner, Variable) and not steps:
        kind: Any = owner.kind
        return kind is None or list in kind.type.reads
    return any(
        step.listy and (following is None or following.position is None)
        for step, following in zip(steps, [*steps[1:], None], strict=True)
    )
