# pyright: reportPrivateUsage=false
"""Conditions to MongoDB's match language."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

from superorm.compile.depth import check_depth
from superorm.compile.expressions import emit_condition, literal_first
from superorm.compile.guards import accepts_null
from superorm.compile.paths import element_class, has_position, is_sure_position
from superorm.compile.scope import ElementScope, RootScope, Scope
from superorm.expr.base import Compare, ElemMatch, Expr, Logical, Matches, Predicate
from superorm.expr.kinds import is_call, is_compare, is_field, is_label
from superorm.expr.literals import ATOMIC
from superorm.expr.narrow import is_dict, is_list
from superorm.expr.nodes import Field
from superorm.expr.operators import LITERAL, SIZE
from superorm.expr.sources import Variable

__all__ = ["match"]

_FIELD: Any = Field
_POSITIVE = {"$ne": "$eq", "$nin": "$in"}
_JOINED = {"$in": "$or", "$nin": "$nor", "$all": "$and"}


def match(conditions: Iterable[Predicate[Any]], scope: Scope, *, inside: bool = False) -> dict[str, Any]:
    """One filter of all the conditions, flat where their keys allow it; `inside` tells that it is part of another.

    What the match language cannot say of a path and a literal stands in one ``$expr``.
    Raises `StatementError` for fields that the documents of the scope do not have, and for what nests too deep.
    """
    merged: dict[str, Any] = {}
    left: list[dict[str, Any]] = []
    expressions: list[Any] = []
    root: Any = scope.root if type(scope) is RootScope else None
    path: str | None
    shorten = nested = False
    for condition in conditions:
        plain: Any = condition
        if type(plain) is Compare and type(plain.right) in ATOMIC and type(plain.left) is _FIELD:  # most are
            field: Any = plain.left
            name: str = field._path
            own = field._owner is root and "." not in name
            path = name if own else _path_for(field, plain.op, plain.right, scope)
            if path is not None and path not in merged:
                merged[path] = {plain.op: plain.right}
                shorten = shorten or plain.op == "$eq"
                continue
        shorten = True
        for key, value in _parts(condition, scope):
            nested = nested or key[0] == "$" or "$elemMatch" in value
            if key == "$expr":
                expressions.append(value)
            elif key not in merged:
                merged[key] = value
            elif key[0] != "$" and not merged[key].keys() & value.keys():
                merged[key] = {**merged[key], **value}
            else:
                left.append({key: _shortest(value)})
    if shorten:
        for key, value in merged.items():
            merged[key] = _shortest(value)
    if expressions:
        merged["$expr"] = expressions[0] if len(expressions) == 1 else {"$and": expressions}
    found = {"$and": [merged, *left]} if left else merged
    if nested and not inside:
        check_depth(found)
    return found


def _shortest(value: Any) -> Any:
    """``{"$eq": 1}`` as 1; documents and arrays keep the operator, without which they could mean something else."""
    if is_dict(value) and len(value) == 1 and "$eq" in value and not isinstance(value["$eq"], (dict, list)):
        return value["$eq"]
    return value


def _parts(condition: Predicate[Any], scope: Scope) -> Iterable[tuple[str, Any]]:
    """The condition as entries of a filter, all of which must hold."""
    if not is_compare(condition):
        return _others(condition, scope)
    return _compared(literal_first(condition), scope)


def _expression(condition: Predicate[Any], scope: Scope) -> Iterable[tuple[str, Any]]:
    return (("$expr", emit_condition(condition, scope)),)


def _path(node: Expr[Any, Any], scope: Scope) -> str | None:
    """The path of what a condition is about; None where there is none in the match language."""
    if is_field(node):
        if type(node._owner) is Variable:
            return None
        path = scope.path(node)
    else:
        found = scope.computed(node)
        if found is None:
            return _path(node.expr, scope) if is_label(node) else None
        path = found
    return None if path[0] == "$" else path


def _path_for(node: Expr[Any, Any], op: str, value: Any, scope: Scope) -> str | None:
    """The path for a comparison with a literal; None where the match language would see something else there.

    To it a position in a path is also the key of that name in the elements, where null is found as it is missing,
    and of lists in lists it sees the wrong elements.
    """
    while is_label(node) and scope.computed(node) is None:
        node = node.expr
    if not is_field(node) or not has_position(node):
        return _path(node, scope)
    is_unsure = accepts_null(_POSITIVE.get(op, op), value) or not is_sure_position(node)
    return None if is_unsure else _path(node, scope)


def _compared(condition: Compare[Any], scope: Scope) -> Iterable[tuple[str, Any]]:
    left, op, right = condition.left, condition.op, condition.right
    if is_call(right) and right.operator is LITERAL:
        right = right.args[0]
    if isinstance(right, Expr):
        return _expression(condition, scope)
    path = _path_for(left, op, right, scope)
    if path is None:
        size = _size_path(left, op, right, scope)
        return _expression(condition, scope) if size is None else ((size, {"$size": right}),)
    if not is_field(left) and "." in path and any(map(_is_no_element, right if op in _JOINED else [right])):
        return _expression(condition, scope)  # the match language sees the elements of a looked-up list, not the list
    if op in _JOINED and any(map(_like_operator, right)):
        return ((_JOINED[op], [{path: {"$eq": value}} for value in right]),)
    return ((path, {op: right}),)


def _size_path(node: Expr[Any, Any], op: str, count: Any, scope: Scope) -> str | None:
    """The path of the list whose length is compared, where ``$size`` says the same."""
    if not is_call(node) or node.operator is not SIZE or op != "$eq" or type(count) is not int or count < 0:
        return None
    field = node.args[0]
    if not is_field(field):
        return None
    above = cast("tuple[Any, ...]", field._parts[:-1])
    return None if any(list in part.type.reads for part in above) else _path(field, scope)


def _others(condition: Predicate[Any], scope: Scope) -> Iterator[tuple[str, Any]]:
    match condition:
        case Logical("$and", items):
            for item in items:
                yield from _parts(item, scope)
        case Logical(op, items):
            yield op, [match((item,), scope, inside=True) for item in items]
        case Matches(left, pattern, options):
            path = _path_for(left, "$regex", pattern, scope)
            if path is None:
                yield from _expression(condition, scope)
            else:
                yield path, {"$regex": pattern, "$options": options} if options else {"$regex": pattern}
        case ElemMatch(left, items):
            path = _path_for(left, "$elemMatch", items, scope)
            inner = match(items, ElementScope(element_class(left), f"{left!r}.any_()"), inside=True)
            if path is None or _has_expression(inner):  # which the server takes at the top only
                yield from _expression(condition, scope)
            else:
                yield path, {"$elemMatch": inner}
        case _:
            raise TypeError(f"no condition: {condition!r}")


def _has_expression(filter: Any) -> bool:
    if is_list(filter):
        return any(map(_has_expression, filter))
    return "$expr" in filter or any(_has_expression(filter[key]) for key in ("$and", "$or", "$nor") if key in filter)


def _is_no_element(value: object) -> bool:
    return value is None or is_list(value)


def _like_operator(value: Any) -> bool:
    """Whether the server would take a value in a list for an operator, and not for the document that it is."""
    return is_dict(value) and any(key.startswith("$") for key in value)
