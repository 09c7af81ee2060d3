# pyright: reportPrivateUsage=false
"""Other collections: ``$lookup`` of joins and lists, ``$graphLookup``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from superorm.compile.expressions import emit
from superorm.compile.match import match
from superorm.compile.output import Output
from superorm.compile.scope import DocumentScope, OuterScope, Scope
from superorm.exc import StatementError
from superorm.expr.base import Compare, Predicate
from superorm.expr.kinds import is_field
from superorm.expr.nodes import Field
from superorm.expr.rows import GraphLookup
from superorm.expr.stages import Join
from superorm.schema.mapping import ClassMap

if TYPE_CHECKING:
    from superorm.compile.state import State

__all__ = ["graph_lookup_stage", "join_stages", "list_stages"]


def join_stages(join: Join, target: ClassMap, key: str, outer: Scope) -> list[dict[str, Any]]:
    """The documents of `target` that meet the conditions, each in a row of its own under `key`."""
    inner = DocumentScope(join.target)
    equal, rest = _equality(join.on, inner, outer)
    variables: dict[str, tuple[str, Field[Any, Any]]] = {}
    filter = match(rest, OuterScope(inner, outer, variables))
    pipeline = [{"$match": one} for one in (target.type_filter(), filter) if one]
    if len(pipeline) == 2 and not target.type_filter().keys() & filter.keys():
        pipeline = [{"$match": {**target.type_filter(), **filter}}]
    lookup = _lookup(target, equal, _let(variables, outer), pipeline, key)
    unwind: Any = {"path": f"${key}", "preserveNullAndEmptyArrays": True} if join.outer else f"${key}"
    return [lookup, {"$unwind": unwind}]


def list_stages(inner: State, key: str, outer: Scope) -> tuple[list[dict[str, Any]], tuple[Output, ...]]:
    """What the inner select finds for each document, as a list under `key`; the columns of its rows."""
    block: Any = inner.select._steps[0]
    equal: tuple[str, str] | None = None
    rest: list[Predicate[Any]] | None = None
    if block.where and not block.joins:
        equal, rest = _equality(block.where, DocumentScope(inner.root), outer)
    outputs = inner.build(rest)
    return [_lookup(inner.mapping, equal, _let(inner.variables, outer), inner.stages, key)], outputs


def _let(variables: Mapping[str, tuple[str, Field[Any, Any]]], outer: Scope) -> dict[str, Any]:
    return {name: emit(field, outer) for name, field in variables.values()}


def _lookup(
    target: ClassMap,
    equal: tuple[str, str] | None,
    let: dict[str, Any],
    pipeline: list[dict[str, Any]],
    key: str,
) -> dict[str, Any]:
    body: dict[str, Any] = {"from": target.collection}
    if equal is not None:
        body |= {"localField": equal[0], "foreignField": equal[1]}
    if let:
        body["let"] = let
    if pipeline or equal is None:
        body["pipeline"] = pipeline
    return {"$lookup": {**body, "as": key}}


def _equality(
    conditions: Sequence[Predicate[Any]], inner: Scope, outer: Scope
) -> tuple[tuple[str, str] | None, list[Predicate[Any]]]:
    """The paths, outer and inner, of the first ``outer field == inner field``, and the other conditions."""
    both = OuterScope(inner, outer, {})
    for position, condition in enumerate(conditions):
        if not (isinstance(condition, Compare) and condition.op == "$eq"):
            continue
        for one, other in (condition.left, condition.right), (condition.right, condition.left):
            here, there = _path(other, both), _path(one, outer)
            if here is None or there is None or _path(one, both) is not None:
                continue
            return (there, here), [*conditions[:position], *conditions[position + 1 :]]
    return None, list(conditions)


def _path(node: object, scope: Scope) -> str | None:
    """The path of a field that ``$lookup`` can name; None where it is another's, of outer rows."""
    if not is_field(node) or any(part.step[0] == "element" for part in node._parts):
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
