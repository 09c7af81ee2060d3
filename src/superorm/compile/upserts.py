# pyright: reportPrivateUsage=false
"""What an update that may insert must not say: conditions that no document of the class could be made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

from superorm.compile.expressions import literal_first
from superorm.compile.paths import has_position
from superorm.compile.rewrites import overlap
from superorm.exc import StatementError
from superorm.expr.assignments import Assignment
from superorm.expr.base import Compare, Expr, Logical, Predicate
from superorm.expr.kinds import is_call, is_field
from superorm.expr.nodes import Field
from superorm.expr.operators import LITERAL
from superorm.schema.mapping import ClassMap
from superorm.schema.types.base import Misfit

__all__ = ["check_upsert"]


def check_upsert(
    mapping: ClassMap, conditions: Iterable[Predicate[Any]], assignments: Iterable[Assignment[Any]]
) -> None:
    """Refuse conditions whose values the server would store in the new document in a wrong place or of a wrong type.

    Raises `StatementError`.
    """
    replaced: set[str] = set()
    for assignment in assignments:
        field = cast("Field[Any, Any]", assignment.field)
        if has_position(field):
            raise _refused(mapping, field, "a new document has no elements that could be assigned by position")
        if assignment.op == "to" and not isinstance(assignment.value, Expr):
            replaced.add(field._path)
    said: list[str] = []
    for field, value, op in _equalities(conditions):
        twice = any(overlap(field._path, path) for path in said)
        if op == "$all" and cast("Any", field._parts[-1]).is_list and (twice or field._path not in replaced):
            why = (
                "an element would be in the place of the list; in where() write .in_([...]) with the whole list or set"
            )
            raise _refused(mapping, field, f"{why}, and assign it in set()")
        if twice:
            raise _refused(mapping, field, "another condition says its value, or that of a part of it, too")
        said.append(field._path)
        if field._path in replaced:
            continue
        parts = cast("tuple[Any, ...]", field._parts)
        if any(part.is_list for part in parts[:-1]):
            raise _refused(mapping, field, "it is about the elements of a list, of which no list can be made")
        try:
            parts[-1].type.from_bson(value)
        except Misfit as misfit:
            why = f"the new document would hold what does not fit: {misfit.describe()}"
            raise _refused(mapping, field, why) from None


def _refused(mapping: ClassMap, field: Field[Any, Any], why: str) -> StatementError:
    return StatementError(
        f"update({mapping.name}).upsert() with {field!r}: {why}; leave it out, or upsert() away",
        document_class=mapping.cls,
        field=field._path,
    )


def _equalities(conditions: Iterable[Predicate[Any]]) -> Iterator[tuple[Field[Any, Any], Any, str]]:
    """The fields and literals of which the server makes the new document, and how they are compared."""
    for condition in conditions:
        if isinstance(condition, Logical) and condition.op == "$and":
            yield from _equalities(condition.items)
        elif isinstance(condition, Compare):
            compare = literal_first(condition)
            left, op, right = compare.left, compare.op, compare.right
            if is_call(right) and right.operator is LITERAL:
                right = right.args[0]
            if isinstance(right, Expr) or not is_field(left):
                continue
            if op == "$eq":
                yield left, right, op
            elif op == "$all" or (op == "$in" and len(right) == 1):
                yield from ((left, value, op) for value in right)
