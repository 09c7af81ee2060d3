# pyright: reportPrivateUsage=false
"""Other collections: ``$lookup`` of joins and lists, ``$graphLookup``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen

from superorm.compile.expressions import emit, projected
from superorm.compile.match import match
from superorm.compile.output import Output
from superorm.compile.paths import has_position, may_be_list
from superorm.compile.rewrites import optimized
from superorm.compile.scope import DocumentScope, OuterScope, Scope
from superorm.exc import StatementError
from superorm.expr.base import Compare, Expr, Predicate
from superorm.expr.kinds import is_call, is_case, is_column, is_field, is_label, is_predicate
from superorm.expr.rows import GraphLookup
from superorm.expr.sources import Variable
from superorm.expr.stages import Join
from superorm.schema.mapping import ClassMap

if TYPE_CHECKING:
    from superorm.compile.state import State

__all__ = ["graph_lookup_stage", "join_stages", "list_stages"]


def join_stages(join: Join, target: ClassMap, key: str, outer: Scope) -> list[dict[str, Any]]:
    """The documents of `target` that meet the conditions, each in a row of its own under `key`."""
    inner = DocumentScope(join.target)
    equal, rest = _equality(join.on, inner, outer, key)
    variables: dict[str, tuple[str, Expr[Any, Any]]] = {}
    filter = match(rest, OuterScope(inner, outer, variables))
    pipeline = [{"$match": one} for one in (target.type_filter(), filter) if one]
    if len(pipeline) == 2 and not target.type_filter().keys() & filter.keys():
        pipeline = [{"$match": {**target.type_filter(), **filter}}]
    stages = _lookup(target, equal, _let(variables, outer), pipeline, key)
    unwind: Any = {"path": f"${key}", "preserveNullAndEmptyArrays": True} if join.outer else f"${key}"
    return [*stages, {"$unwind": unwind}]


def list_stages(inner: State, key: str, outer: Scope) -> tuple[list[dict[str, Any]], tuple[Output, ...]]:
    """What the inner select finds for each document, as a list under `key`; the columns of its rows."""
    block: Any = inner.select._steps[0]
    equal: _Equal | None = None
    rest: list[Predicate[Any]] | None = None
    if block.where and not block.joins:
        equal, rest = _equality(block.where, inner._documents, outer, key)
    outputs = inner.build(rest)
    return _lookup(inner.mapping, equal, _let(inner.variables, outer), optimized(inner.stages), key), outputs


def _let(variables: Mapping[str, tuple[str, Expr[Any, Any]]], outer: Scope) -> dict[str, Any]:
    return {name: emit(node, outer) for name, node in variables.values()}


@frozen
class _Equal:
    """The equality that a ``$lookup`` joins by."""

    local: str
    foreign: str
    value: Any = None
    """What has to be set at the local path first."""


def _lookup(
    target: ClassMap,
    equal: _Equal | None,
    let: dict[str, Any],
    pipeline: list[dict[str, Any]],
    key: str,
) -> list[dict[str, Any]]:
    body: dict[str, Any] = {"from": target.collection}
    if equal is not None:
        body |= {"localField": equal.local, "foreignField": equal.foreign}
    if let:
        body["let"] = let
    if pipeline or equal is None:
        body["pipeline"] = pipeline
    lookup = {"$lookup": {**body, "as": key}}
    return [lookup] if equal is None or equal.value is None else [{"$set": {equal.local: equal.value}}, lookup]


def _equality(
    conditions: Sequence[Predicate[Any]], inner: DocumentScope, outer: Scope, key: str
) -> tuple[_Equal | None, list[Predicate[Any]]]:
    """The first ``outer field == inner field``, or else ``outer value == inner field``, and the other conditions.

    The value is set under `key`, where the ``$lookup`` then puts what it found, as an index can be used that way only.
    """
    both = OuterScope(inner, outer, {})
    sides = [
        (position, one, path)
        for position, condition in enumerate(conditions)
        if isinstance(condition, Compare) and condition.op == "$eq"
        for one, other in ((condition.left, condition.right), (condition.right, condition.left))
        if (path := _path(other, both)) is not None
    ]
    for find in _local_path, _local_value:
        for position, one, path in sides:
            equal = find(one, path, both, key)
            if equal is not None:
                return equal, [*conditions[:position], *conditions[position + 1 :]]
    return None, list(conditions)


def _local_path(node: object, foreign: str, both: OuterScope, key: str) -> _Equal | None:
    path = _path(node, both.outer, items=not may_be_list(node) or foreign == "_id")
    return None if path is None or _path(node, both, items=True) is not None else _Equal(path, foreign)


def _local_value(node: object, foreign: str, both: OuterScope, key: str) -> _Equal | None:
    """By a value of the outer rows alone: no list, unless it joins by the key, which is none and never null."""
    try:
        if (may_be_list(node) and foreign != "_id") or not any([*_outer_fields(node, both)]):
            return None
        return _Equal(key, foreign, projected(node, both.outer))
    except StatementError:
        return None


def _outer_fields(node: object, both: OuterScope) -> Iterator[bool]:
    """True for each field of the outer rows. Raises `StatementError` for what is more than a value made of those."""
    if is_field(node):
        if type(node._owner) is not Variable:
            if not both.path(node).startswith("$"):
                raise StatementError(f"{node!r} is of the inner documents")
            yield True
    elif is_column(node):
        if not (both.computed(node) or "").startswith("$"):
            raise StatementError(f"{node!r} is of the inner documents")
        yield True
    elif is_label(node) or is_call(node) or is_case(node) or is_predicate(node):
        if both.computed(node) is not None:
            raise StatementError(f"{node!r} is of the inner documents")
        for child in node.children():
            yield from _outer_fields(child, both)
    elif isinstance(node, Expr):
        raise StatementError(f"{node!r} is more than a value of the row")


def _path(node: object, scope: Scope, *, items: bool = False) -> str | None:
    """The path of a field that ``$lookup`` can name; None where it is another's, of outer rows.

    With `items` it may be of the item that stands in a list's place.
    """
    if not is_field(node) or has_position(node):
        return None
    if not items and any(part.step[0] == "element" for part in node._parts):
        return None
    try:
        path = scope.path(node)
    except StatementError:
        return None
    return None if path.startswith("$") else path


def graph_lookup_stage(node: GraphLookup[Any, Any], target: ClassMap, key: str, scope: Scope) -> dict[str, Any]:
    """The documents that are reached from each row, as a list under `key`."""
    inner = DocumentScope(node.target)
    body: dict[str, Any] = {
        "from": target.collection,
        "startWith": emit(node.start_with, scope),
        "connectFromField": inner.path(node.connect_from),
        "connectToField": inner.path(node.connect_to),
        "as": key,
    }
    if node.max_depth is not None:
        body["maxDepth"] = node.max_depth
    if node.depth_field is not None:
        body["depthField"] = node.depth_field
    restrict = match(node.where, inner)
    only = target.type_filter()
    if restrict or only:
        body["restrictSearchWithMatch"] = {"$and": [only, restrict]} if restrict and only else restrict or only
    return {"$graphLookup": body}
