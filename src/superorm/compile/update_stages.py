# pyright: reportPrivateUsage=false
"""Assignments that compute something to an update pipeline, which means the same as the operators of `updates`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any, TypeAlias, cast

from attrs import evolve, frozen

from superorm.compile.by_class import ByClass, each_form, is_computed
from superorm.compile.constants import bound, constant, fails, or_empty
from superorm.compile.expressions import emit, projected
from superorm.compile.scope import Scope
from superorm.compile.sets import as_set, is_set, with_values
from superorm.compile.updates import KEEPING, assigned_type, element_scope, takes_null
from superorm.exc import StatementError
from superorm.expr.assignments import Assignment
from superorm.expr.base import Call, Expr
from superorm.expr.narrow import is_tuple
from superorm.expr.nodes import Field
from superorm.expr.operators import ADD, DIVIDE, MOD, MULTIPLY, SUBTRACT
from superorm.schema.expression_types import type_of

__all__ = ["stages"]

_NULL_IN_NULL_OUT = (ADD, SUBTRACT, MULTIPLY, DIVIDE, MOD)
_REST = 2**31 - 1
"""As many elements as there are."""


@frozen
class _Value:
    """What becomes of one field."""

    emitted: Any
    """Of one that is removed: None, or what fails where it must not be."""
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
        if not _is_removed(value) or _emits(value)
    }
    removed = [name for name, value in names.items() if _is_removed(value)]
    return [*([{"$set": sets}] if sets else []), *([{"$unset": removed}] if removed else [])]


def _is_removed(value: _Value | Tree) -> bool:
    return isinstance(value, _Value) and value.removed


def _emits(value: _Value | Tree) -> bool:
    return not isinstance(value, _Value) or value.emitted is not None


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
        computed = is_computed(value)
        given = each_form(value, lambda one: _computed(one, field, scope) if computed else constant(one))
        return _Value(given, keeps=False, computed=computed)
    if assignment.op == "inc":
        added = each_form(value, lambda one: {"$add": [path, emit(one, scope)]})  # of null it would not ask the rest
        return _Value(
            _whole(added) if checks and int in assigned_type(field).reads else added, keeps=False, computed=True
        )
    if assignment.op == "unset":
        asked = each_form(value, lambda _: "$$REMOVE") if isinstance(value, ByClass) else None
        return _Value(asked, keeps=True, removed=True)
    return _Value(_list(path, assignment, field), keeps=assignment.op in KEEPING)


def _whole(added: Any) -> Any:
    """A sum of whole numbers; an error where it has more than 64 bits, of which the server makes a double."""
    too_large = {"$and": [{"$eq": [{"$type": "$$v"}, "double"]}, {"$gte": [{"$abs": "$$v"}, 2.0**63]}]}
    return bound(added, "v", lambda v: {"$cond": [too_large, {"$toInt": v}, v]})


def _computed(value: Expr[Any, Any], field: Field[Any, Any], scope: Scope) -> Any:
    given = _or_null(value, scope)
    return as_set(given) if is_set(assigned_type(field)) and not is_set(type_of(value)) else given


def _or_null(value: Expr[Any, Any], scope: Scope) -> Any:
    if isinstance(value, Call) and value.operator in _NULL_IN_NULL_OUT:
        return emit(value, scope)
    return {"$ifNull": [projected(value, scope), None]}


def _list(path: str, assignment: Assignment[Any], field: Field[Any, Any]) -> Any:
    null = {"$eq": [{"$ifNull": [path, None]}, None]}
    absent = null if takes_null(field) else {"$eq": [{"$type": path}, "missing"]}
    wrong = fails(f"{field!r} is no list", {"$type": path})
    if assignment.op in KEEPING:
        kept = each_form(assignment.value, lambda one: _kept(path, evolve(assignment, value=one)))
        return {"$cond": [{"$isArray": path}, kept, {"$cond": [absent, path, wrong]}]}
    empty: list[Any] = []
    base: Any = {"$cond": [{"$isArray": path}, path, {"$cond": [absent, empty, wrong]}]}
    values = each_form(assignment.value, constant)
    if assignment.op == "push":
        if assignment.position is None:
            return {"$concatArrays": [base, values]}
        return bound(base, "v", lambda v: _inserted(v, values, cast("int", assignment.position)))
    return with_values(base, values, in_order=is_set(assigned_type(field)))


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
        scope = element_scope(assignment, "$e.")
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
        if _is_removed(value):
            removed.append(name)
        if not _is_removed(value) or _emits(value):
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
