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
from functools import reduce
from typing import Any, TypeAlias, cast

from attrs import frozen

from superorm.compile.by_class import ByClass, each_form, fitted, own_form
from superorm.compile.constants import bound, constant, fails, or_empty
from superorm.compile.expressions import emit, projected
from superorm.compile.match import match
from superorm.compile.paths import element_class
from superorm.compile.scope import ElementScope, Scope
from superorm.compile.sets import as_set, is_set, with_values
from superorm.exc import StatementError
from superorm.expr.assignments import Assignment, AssignmentOp
from superorm.expr.base import Call, Compare, Expr, Predicate
from superorm.expr.kinds import is_expr
from superorm.expr.narrow import is_dict, is_list, is_tuple
from superorm.expr.nodes import Field
from superorm.expr.operators import ADD, DIVIDE, MOD, MULTIPLY, SUBTRACT
from superorm.schema.expression_types import type_of
from superorm.schema.fields import VectorFieldSpec
from superorm.schema.mapping import ClassMap, MappedField
from superorm.schema.members import stands_alone
from superorm.schema.types.base import Misfit
from superorm.schema.types.containers import UnionType
from superorm.schema.types.typed_dict import TypedDictType

__all__ = ["checked_assignments", "elements_there", "needs_pipeline", "operators", "stages"]

_KEEPING = ("unset", "pull", "pop")
"""What leaves a missing value missing."""
_LISTS = ("push", "add_to_set", "pull", "pop")
_NULL_IN_NULL_OUT = (ADD, SUBTRACT, MULTIPLY, DIVIDE, MOD)
_REST = 2**31 - 1
"""As many elements as there are."""

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
        if assignment.op in ("push", "add_to_set", "pull", "pop") and not _type(field).is_list:
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
    elif op == "unset" and _is_required(parts):
        problem = "documents cannot be read without it; give it a default, or assign a value with to()"
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


def _is_required(parts: tuple[Any, ...]) -> bool:
    """Whether a document that lacks a field, or a dict that lacks a key, cannot be read."""
    last = parts[-1]
    if isinstance(last, MappedField):
        return not last.has_default
    holder = parts[-2].type
    members = holder.members if isinstance(holder, UnionType) else (holder,)
    return any(isinstance(kind, TypedDictType) and kind.keys[last.stored].required for kind in members)


def elements_there(assignments: Iterable[Assignment[Any]]) -> Iterator[Predicate[Any]]:
    """The conditions that the elements are there which are assigned by their position.

    Where there is no list, the server would make a document with the positions as its keys.
    """
    for assignment in assignments:
        field = cast("Field[Any, Any]", assignment.field)
        for number, part in enumerate(field._parts):
            if part.step[0] == "element" and assignment.op not in _KEEPING:
                parts = field._parts[:number]
                path = ".".join(cast("str", above.stored) for above in parts)
                holder: Field[Any, list[Any]] = Field(field._owner, path, parts)
                yield Compare(holder.size(), "$gt", part.step[1])


def _type(field: Field[Any, Any]) -> Any:
    return cast("Any", field._type).type


def _takes_null(field: Field[Any, Any]) -> bool:
    try:
        _type(field).from_bson(None)
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
    return ordered and any(is_set(_type(field)) for field in adds)


def _computes(assignment: Assignment[Any]) -> bool:
    if assignment.op == "inc" or isinstance(assignment.value, (ByClass, Expr)):
        return True
    if assignment.op == "pull" and is_tuple(assignment.value) and _has_expr(_elements_match(assignment)):
        return True
    return assignment.op in _LISTS and _takes_null(cast("Field[Any, Any]", assignment.field))


def _has_expr(filter: Any) -> bool:
    if is_dict(filter):
        return "$expr" in filter or any(map(_has_expr, filter.values()))
    return is_list(filter) and any(map(_has_expr, filter))


def _elements_match(assignment: Assignment[Any]) -> dict[str, Any]:
    return match(assignment.value, _element_scope(assignment))


def _element_scope(assignment: Assignment[Any], prefix: str = "") -> ElementScope:
    field = cast("Field[Any, Any]", assignment.field)
    embedded = element_class(field)
    if embedded is None:
        raise StatementError(f"{field!r}.pull() takes conditions only where the list holds embedded documents")
    return ElementScope(embedded, f"{field!r}.pull()", prefix)


# Operators


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


# Pipelines


@frozen
class _Value:
    """What becomes of one field."""

    emitted: Any
    keeps: bool
    """Whether a missing value stays missing."""
    computed: bool = False
    """Whether it is an expression's, of which null is nothing below a document that is not there."""
    removed: bool = False


Tree: TypeAlias = "dict[str | int, _Value | Tree]"
"""What changes below a path, by keys, or by positions in a list."""


def stages(paths: dict[str, Assignment[Any]], scope: Scope, *, checks: bool = True) -> list[dict[str, Any]]:
    """The update as a pipeline, each of whose expressions sees the document as it was.

    `checks` tells whether the database has ``$toInt``, by which sums that are too large are refused.
    """
    tree: Tree = {}
    for assignment in paths.values():
        *parents, last = keys = _keys(cast("Field[Any, Any]", assignment.field))
        below = tree
        for parent in parents:
            below = cast("Tree", below.setdefault(parent, {}))
        below[last] = _value(_path(keys), assignment, scope, checks)
    names = cast("dict[str, _Value | Tree]", tree)
    sets = {
        name: _changed(f"${name}", value, name)
        for name, value in names.items()
        if not (isinstance(value, _Value) and value.removed)
    }
    removed = [name for name, value in names.items() if isinstance(value, _Value) and value.removed]
    return [*([{"$set": sets}] if sets else []), *([{"$unset": removed}] if removed else [])]


def _keys(field: Field[Any, Any]) -> list[str | int]:
    """The keys that lead to a field, and positions."""
    parts = cast("tuple[Any, ...]", field._parts)
    return [part.step[1] if part.step[0] == "element" else part.stored for part in parts]


def _path(keys: Sequence[str | int]) -> str:
    """The path to a field; below an element from that on, which is ``$$e`` there."""
    path = "$"
    for key in keys:
        path = "$$e" if isinstance(key, int) else f"${key}" if path == "$" else f"{path}.{key}"
    return path


def _value(path: str, assignment: Assignment[Any], scope: Scope, checks: bool) -> _Value:
    value, field = assignment.value, cast("Field[Any, Any]", assignment.field)
    if assignment.op == "to":
        computed = is_expr(own_form(value))
        given = each_form(value, lambda one: _computed(one, field, scope) if computed else constant(one))
        return _Value(given, keeps=False, computed=computed)
    if assignment.op == "inc":
        added = {"$add": [path, each_form(value, lambda one: emit(one, scope))]}
        return _Value(_whole(added) if checks and int in _type(field).reads else added, keeps=False, computed=True)
    if assignment.op == "unset":
        return _Value(None, keeps=True, removed=True)
    return _Value(_list(path, assignment, field), keeps=assignment.op in _KEEPING)


def _whole(added: Any) -> Any:
    """A sum of whole numbers; an error where it has more than 64 bits, of which the server makes a double."""
    too_large = {"$and": [{"$eq": [{"$type": "$$v"}, "double"]}, {"$gte": [{"$abs": "$$v"}, 2.0**63]}]}
    return bound(added, "v", lambda v: {"$cond": [too_large, {"$toInt": v}, v]})


def _computed(value: Expr[Any, Any], field: Field[Any, Any], scope: Scope) -> Any:
    given = _or_null(value, scope)
    return as_set(given) if is_set(_type(field)) and not is_set(type_of(value)) else given


def _or_null(value: Expr[Any, Any], scope: Scope) -> Any:
    if isinstance(value, Call) and value.operator in _NULL_IN_NULL_OUT:
        return emit(value, scope)
    return {"$ifNull": [projected(value, scope), None]}


def _list(path: str, assignment: Assignment[Any], field: Field[Any, Any]) -> Any:
    null = {"$eq": [{"$ifNull": [path, None]}, None]}
    absent = null if _takes_null(field) else {"$eq": [{"$type": path}, "missing"]}
    wrong = fails(f"{field!r} is no list", {"$type": path})
    if assignment.op in _KEEPING:
        return {"$cond": [{"$isArray": path}, _kept(path, assignment), {"$cond": [absent, path, wrong]}]}
    empty: list[Any] = []
    base: Any = {"$cond": [{"$isArray": path}, path, {"$cond": [absent, empty, wrong]}]}
    values = each_form(assignment.value, constant)
    if assignment.op == "push":
        if assignment.position is None:
            return {"$concatArrays": [base, values]}
        return bound(base, "v", lambda v: _inserted(v, values, cast("int", assignment.position)))
    return with_values(base, values, in_order=is_set(_type(field)))


def _inserted(v: str, values: Any, position: int) -> Any:
    at: Any = position if position >= 0 else {"$max": [0, {"$add": [{"$size": v}, position]}]}
    return {"$concatArrays": [{"$slice": [v, at]}, values, {"$slice": [v, at, _REST]}]}


def _kept(path: str, assignment: Assignment[Any]) -> Any:
    """What is left of a list."""
    value = assignment.value
    if assignment.op == "pop" and value == -1:
        return {"$slice": [path, 1, _REST]}
    if assignment.op == "pop":
        return {"$slice": [path, {"$max": [0, {"$subtract": [{"$size": path}, 1]}]}]}
    if is_tuple(value):
        scope = _element_scope(assignment, "$e.")
        items = [{"$eq": [{"$type": "$$e"}, "object"]}, *(emit(condition, scope) for condition in value)]
        pulled: Any = {"$and": items}
    else:
        pulled = {"$in": ["$$e", constant(value)]}
    return {"$filter": {"input": path, "as": "e", "cond": {"$not": [pulled]}}}


def _changed(path: str, change: _Value | Tree, where: str) -> Any:
    """What becomes of the value at a path, which is `where` in the document."""
    if isinstance(change, _Value):
        return change.emitted
    positions = [key for key in change if isinstance(key, int)]
    if not positions:
        return _document(path, cast("dict[str, _Value | Tree]", change), where)
    if len(positions) < len(change):
        raise StatementError(f"{where} is changed as a list and as a document; use two statements")
    return reduce(lambda list, position: _replaced(list, position, change[position], where), positions, path)


def _replaced(list: Any, position: int, change: _Value | Tree, where: str) -> Any:
    """The list with another element at a position; one that has none there, or what is no list, stays as it is."""
    new = _changed("$$e", change, f"{where}.{position}")

    def body(v: str) -> Any:
        element = {"$let": {"vars": {"e": {"$arrayElemAt": [v, position]}}, "in": new}}
        before = [{"$slice": [v, position]}] if position else []
        after = {"$slice": [v, position + 1, _REST]}
        there = {"$gt": [{"$size": or_empty(v)}, position]}
        return {"$cond": [there, {"$concatArrays": [*before, [element], after]}, v]}

    return bound(list, "v", body)


def _document(path: str, tree: dict[str, _Value | Tree], where: str) -> Any:
    """The embedded document at a path with what changes below it."""
    sets: dict[str, Any] = {}
    removed: list[str] = []
    for name, value in tree.items():
        if isinstance(value, _Value) and value.removed:
            removed.append(name)
        else:
            sets[name] = _changed(f"{path}.{name}", value, f"{where}.{name}")
    values = list(_values(cast("Tree", tree)))
    changed: Any = {"$mergeObjects": [path, sets]} if sets else path
    if removed:
        left = {"$not": [{"$in": ["$$e.k", removed]}]}
        changed = {"$arrayToObject": {"$filter": {"input": {"$objectToArray": changed}, "as": "e", "cond": left}}}
    kind = {"$type": path}
    if all(value.removed for value in values):
        return {"$cond": [{"$eq": [kind, "object"]}, changed, path]}
    wrong = fails(f"{where} is no document", {"$type": path})
    made: Any = {"$cond": [{"$in": [kind, ["object", "missing"]]}, changed, wrong]}
    if not all(value.keeps or value.computed for value in values):
        return made
    nothing = [{"$eq": [{"$ifNull": [value.emitted, None]}, None]} for value in values if value.computed]
    strict = any(value.keeps and not value.removed for value in values)
    absent = {"$in": [kind, ["missing"] if strict else ["null", "missing"]]}
    return {"$cond": [{"$and": [absent, *nothing]} if nothing else absent, path, made]}


def _values(tree: Tree) -> Iterator[_Value]:
    for value in tree.values():
        if isinstance(value, _Value):
            yield value
        else:
            yield from _values(value)
