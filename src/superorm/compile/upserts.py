# pyright: reportPrivateUsage=false
"""What an update that may insert must not say: conditions that no document of the class could be made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

from superorm.compile.by_class import inserted_form, is_computed
from superorm.compile.expressions import literal_first
from superorm.compile.paths import has_position
from superorm.compile.rewrites import overlap
from superorm.exc import StatementError
from superorm.expr.assignments import Assignment
from superorm.expr.base import Compare, Expr, Logical, Predicate
from superorm.expr.kinds import is_call, is_field
from superorm.expr.nodes import Field
from superorm.expr.operators import LITERAL
from superorm.schema.mapping import ClassMap, class_map
from superorm.schema.types.base import Misfit
from superorm.schema.types.containers import UnionType
from superorm.schema.types.typed_dict import TypedDictType

__all__ = ["check_upsert"]

_GIVING = ("to", "push", "add_to_set")
"""What gives a missing field a value."""


def check_upsert(
    mapping: ClassMap, conditions: Iterable[Predicate[Any]], assignments: Iterable[Assignment[Any]]
) -> None:
    """Refuse conditions whose values the server would store in the new document in a wrong place or of a wrong type.

    Refuse also what leaves out of the new document, or of one embedded in it, a part that has no default.
    Raises `StatementError`, or what says that the class cannot hold an assigned value.
    """
    assignments = [*assignments]
    replaced: set[str] = set()
    for assignment in assignments:
        field = cast("Field[Any, Any]", assignment.field)
        if has_position(field):
            raise _refused(mapping, field, "a new document has no elements that could be assigned by position")
        if not is_computed(inserted_form(assignment.value)) and assignment.op == "to":
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
    _check_parts(mapping, [field for field, _, _ in _equalities(conditions)], assignments)


def _check_parts(mapping: ClassMap, said: Iterable[Field[Any, Any]], assignments: list[Assignment[Any]]) -> None:
    """Raise `StatementError` for a part without a default to which nothing gives a value in the new document.

    `said` are the fields whose values the conditions say.
    """
    given = {field._path for field in said}
    whole = {path.partition(".")[0] for path in given}
    made: dict[str, dict[str, str]] = {}
    for field in said:
        made |= _made(field)
    for assignment in assignments:
        field = cast("Field[Any, Any]", assignment.field)
        if assignment.op in _GIVING:
            given.add(field._path)
            made |= _made(field)
    for path, needs in made.items():
        if any(path == one or path.startswith(f"{one}.") for one in given):
            continue  # as a whole
        for name, attribute in needs.items():
            below = f"{path}.{name}"
            if not any(one == below or one.startswith(f"{below}.") for one in given):
                raise _lacking(mapping, attribute, below)
    for assignment in assignments:
        field = cast("Field[Any, Any]", assignment.field)
        parts: Any = field._parts
        if field._path in given or (assignment.op == "inc" and len(parts) == 1 and parts[0].has_default):
            continue
        if parts[0].stored not in whole and not parts[0].has_default:
            raise _lacking(mapping, parts[0].attribute, parts[0].stored)
        if assignment.op == "inc" and field._path.rpartition(".")[0] in made:
            raise _refused(mapping, field, "in a new document nothing is there to add to; assign it with to()")


def _made(field: Field[Any, Any]) -> dict[str, dict[str, str]]:
    """The embedded documents that come to be around a value: of each what it has to hold, stored names and others."""
    found: dict[str, dict[str, str]] = {}
    parts: Any = field._parts
    for number, part in enumerate(parts[:-1], 1):
        if part.is_list:
            break
        path = ".".join(one.stored for one in parts[:number])
        where = ".".join(one.attribute for one in parts[:number]).replace(".[", "[")
        holder = part.type
        if part.embedded is not None:
            own = class_map(part.embedded).fields
            found[path] = {one.stored: f"{where}.{one.attribute}" for one in own if not one.has_default}
        else:
            members = holder.members if isinstance(holder, UnionType) else (holder,)
            keys = {name: key for one in members if isinstance(one, TypedDictType) for name, key in one.keys.items()}
            found[path] = {name: f"{where}[{name!r}]" for name, key in keys.items() if key.required}
    return found


def _lacking(mapping: ClassMap, attribute: str, path: str) -> StatementError:
    return StatementError(
        f"update({mapping.name}).upsert() needs a value for {attribute}, which has no default: "
        "assign it, or name it in where() with ==",
        document_class=mapping.cls,
        field=path,
    )


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
