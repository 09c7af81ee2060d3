# pyright: reportPrivateUsage=false
"""Assignments to the operators of an update, or where they compute something to an update pipeline.

Both forms mean the same:

- a path below a missing document makes the document, but for ``unset``, ``pull`` and ``pop``, which change nothing;
  below null, a list or any other value it is an error, but for ``unset``;
- ``push`` and ``add_to_set`` make a missing list, ``pull`` and ``pop`` leave it missing; null counts as missing where
  the field's type allows None, else null and all other values that are no lists are errors;
- in a pipeline, an expression that gives nothing makes its field null, and below a document that is null or missing
  a null result leaves that as it is; a list that it gives to a set becomes one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias, cast

from superorm.compile.by_class import ByClass, fitted, is_computed
from superorm.compile.match import match
from superorm.compile.paths import element_class
from superorm.compile.scope import ElementScope, Scope
from superorm.compile.sets import is_set
from superorm.exc import StatementError
from superorm.expr.assignments import Assignment, AssignmentOp
from superorm.expr.base import Compare, Predicate
from superorm.expr.narrow import is_dict, is_list, is_tuple
from superorm.expr.nodes import Field
from superorm.schema.fields import VectorFieldSpec
from superorm.schema.mapping import ClassMap, MappedField
from superorm.schema.members import AnyPart, declared, stands_alone
from superorm.schema.types.base import Misfit

__all__ = [
    "KEEPING",
    "assigned_type",
    "checked_assignments",
    "element_scope",
    "elements_there",
    "needs_pipeline",
    "operators",
    "takes_null",
]

KEEPING = ("unset", "pull", "pop")
"""What leaves a missing value missing."""
_LISTS = ("push", "add_to_set", "pull", "pop")

Assignments: TypeAlias = Sequence[Assignment[Any]]


def checked_assignments(mapping: ClassMap, assignments: Assignments, scope: Scope) -> dict[str, Assignment[Any]]:
    """The assignments by their stored paths. Raises `StatementError` for what cannot be assigned."""
    if not assignments:
        raise StatementError(
            f"update({mapping.name}) changes nothing; add values() or set()", document_class=mapping.cls
        )
    paths: dict[str, Assignment[Any]] = {}
    for assignment in assignments:
        field = cast("Field[Any, Any]", assignment.field)
        path = scope.path(field)
        _check_field(mapping, field, assignment.op)
        for other in paths:
            if path == other or path.startswith(f"{other}.") or other.startswith(f"{path}."):
                raise StatementError(
                    f"{field!r} is changed twice: {paths[other].field!r} is the same or a part of it",
                    document_class=mapping.cls,
                    field=path,
                )
        if assignment.op in ("push", "add_to_set", "pull", "pop") and not assigned_type(field).is_list:
            field._type.element(None)  # raises for what is neither a list nor Any
        paths[path] = fitted(mapping, assignment, scope)
    return paths


def _check_field(mapping: ClassMap, field: Field[Any, Any], op: AssignmentOp) -> None:
    parts = cast("tuple[Any, ...]", field._parts)
    first: MappedField = parts[0]
    problem = None
    if first.stored == "_id":
        problem = "the key of a document cannot change"
    elif first.spec.version:
        problem = "superorm counts the version itself"
    elif (source := _source_of(parts[-1])) is not None:
        problem = f"it is computed; change {source}"
    elif any(part.stored is None for part in parts):
        problem = "item() is for rows; name an element by its position"
    elif op == "push" and is_set(parts[-1].type):
        problem = "a set has no places to push to; use add_to_set()"
    elif op == "unset" and parts[-1].step[0] == "element":
        problem = "in the place of an element the server would leave null; use pull(), pop() or to()"
    elif any(map(_goes_through_list, parts, parts[1:])):
        problem = "it goes through a list; name an element by its position, or use push() and pull()"
    if problem is not None:
        raise StatementError(f"{field!r} cannot be assigned: {problem}", document_class=mapping.cls, field=field._path)


def _source_of(part: Any) -> str | None:
    """What a vector field is computed from."""
    spec = part.spec if isinstance(part, MappedField) else None
    return spec.source if isinstance(spec, VectorFieldSpec) else None


def _goes_through_list(part: Any, after: Any) -> bool:
    return part.is_list and isinstance(after, MappedField) and not stands_alone(part, after)


def elements_there(assignments: Iterable[Assignment[Any]]) -> Iterator[Predicate[Any]]:
    """The conditions that the elements are there which are assigned by their position.

    Where there is no list, the server would make a document with the positions as its keys.
    """
    for assignment in assignments:
        field = cast("Field[Any, Any]", assignment.field)
        for number, part in enumerate(field._parts):
            if part.step[0] == "element" and assignment.op not in KEEPING:
                parts = field._parts[:number]
                path = ".".join(cast("str", above.stored) for above in parts)
                holder: Field[Any, list[Any]] = Field(field._owner, path, parts)
                yield Compare(holder.size(), "$gt", part.step[1])


def assigned_type(field: Field[Any, Any]) -> Any:
    return cast("Any", field._type).type


def takes_null(field: Field[Any, Any]) -> bool:
    """Whether documents of some class may hold null there."""
    return any(map(_reads_null, declared(field)))


def _reads_null(part: AnyPart) -> bool:
    try:
        part.type.from_bson(None)
    except Misfit:
        return False
    return True


def needs_pipeline(assignments: Assignments, *, ordered: bool = True) -> bool:
    """Whether the operators of updates cannot say it.

    ``$addToSet`` appends, so that it leaves sets out of their order.
    A database that cannot keep the order is not `ordered`.
    """
    if any(map(_computes, assignments)):
        return True
    adds = (cast("Field[Any, Any]", one.field) for one in assignments if one.op == "add_to_set")
    return ordered and any(is_set(assigned_type(field)) for field in adds)


def _computes(assignment: Assignment[Any]) -> bool:
    if assignment.op == "inc" or isinstance(assignment.value, ByClass) or is_computed(assignment.value):
        return True
    if assignment.op == "pull" and is_tuple(assignment.value) and _has_expr(_elements_match(assignment)):
        return True
    return assignment.op in _LISTS and takes_null(cast("Field[Any, Any]", assignment.field))


def _has_expr(filter: Any) -> bool:
    if is_dict(filter):
        return "$expr" in filter or any(map(_has_expr, filter.values()))
    return is_list(filter) and any(map(_has_expr, filter))


def _elements_match(assignment: Assignment[Any]) -> dict[str, Any]:
    return match(assignment.value, element_scope(assignment))


def element_scope(assignment: Assignment[Any], prefix: str = "") -> ElementScope:
    field = cast("Field[Any, Any]", assignment.field)
    embedded = element_class(field)
    if embedded is None:
        raise StatementError(f"{field!r}.pull() takes conditions only where the list holds embedded documents")
    return ElementScope(embedded, f"{field!r}.pull()", prefix)


def operators(paths: dict[str, Assignment[Any]]) -> dict[str, Any]:
    """The update as operators."""
    update: dict[str, dict[str, Any]] = {}
    for path, assignment in paths.items():
        operator, value = _operator(assignment)
        update.setdefault(operator, {})[path] = value
    return update


def _operator(assignment: Assignment[Any]) -> tuple[str, Any]:
    value = assignment.value
    match assignment.op:
        case "to":
            return "$set", value
        case "unset":
            return "$unset", ""
        case "push":
            position = {} if assignment.position is None else {"$position": assignment.position}
            return "$push", {"$each": value, **position}
        case "add_to_set":
            return "$addToSet", {"$each": value}
        case "pull":
            return ("$pull", _elements_match(assignment)) if is_tuple(value) else ("$pullAll", value)
        case "pop":
            return "$pop", value
        case "inc":
            raise AssertionError("inc() is computed")
