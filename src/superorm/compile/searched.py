# pyright: reportPrivateUsage=false
"""Selects with a vector search: what is searched, and how what follows works on the documents that it found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from attrs import frozen

from superorm.compile.match import match
from superorm.compile.scope import DocumentScope, Scope
from superorm.compile.state import mapping_of
from superorm.exc import StatementError, UnsupportedError
from superorm.expr.base import Predicate
from superorm.expr.kinds import is_field, walk
from superorm.expr.nodes import Field, Score
from superorm.expr.outputs import OutputOf
from superorm.expr.rows import GraphLookup, ListOf
from superorm.expr.sources import Alias
from superorm.expr.stages import Block, Like
from superorm.expr.statements import Select
from superorm.schema.fields import VectorFieldSpec
from superorm.schema.mapping import ClassMap
from superorm.schema.vector_fields import VectorField
from superorm.schema.vector_spec import VectorSpec

__all__ = ["LikePlan", "filter_of", "found_stages", "is_plain_after", "like_plan", "like_stage"]


@frozen
class LikePlan:
    """The vector search of a statement."""

    like: Like
    on: VectorField | str
    """A field, or the name of a vector index."""
    filter: Mapping[str, Any]
    """What chooses the documents that are searched."""

    @property
    def field(self) -> VectorField:
        """Of a search in a field."""
        assert not isinstance(self.on, str)
        return self.on

    @property
    def declared(self) -> VectorFieldSpec:
        return self.field.declared

    @property
    def spec(self) -> VectorSpec:
        return self.field.spec


def like_plan(statement: Select[Any, Any]) -> LikePlan:
    """The search, for which only conditions can stand before it. Raises `StatementError`, `UnsupportedError`."""
    before, like = statement._steps[:2]
    if not (isinstance(before, Block) and isinstance(like, Like)):
        raise UnsupportedError(f"{_name(before, like)} before .like(...) cannot be run yet; put it after it")
    if before.joins or before.group_by or before.having or before.distinct:
        raise UnsupportedError("joins, groups and distinct before .like(...) cannot be run yet; put them after it")
    if before.order_by or before.offset or before.limit is not None:
        raise UnsupportedError("order_by, offset and limit before .like(...) cannot be run yet; put them after it")
    root = statement._root
    if isinstance(root, Alias):
        raise UnsupportedError(".like(...) works on a class itself, not on an alias")
    mapping = mapping_of(root)
    on = like.on if isinstance(like.on, str) else _field(mapping, like.on)
    return LikePlan(like, on, filter_of(mapping, before.where, DocumentScope(root)))


def _name(before: object, like: object) -> str:
    step = like if isinstance(before, Block) else before
    return f"{type(step).__name__.lower()}()"


def _field(mapping: ClassMap, on: Field[Any, Any] | None) -> VectorField:
    vectors = mapping.vectors
    names = ", ".join(field.attribute for field in vectors)
    if not vectors:
        raise StatementError(f"{mapping.name} has no vector field to search", document_class=mapping.cls)
    found = [field for field in vectors if on is None or field.spec.path == on._path]
    if not found:
        raise StatementError(f"like(on={on!r}): not a vector field; {mapping.name} has {names}")
    if len(found) > 1:
        raise StatementError(f"like() needs on=: {mapping.name} has the vector fields {names}")
    return found[0]


def filter_of(mapping: ClassMap, conditions: Sequence[Predicate[Any]], scope: Scope) -> dict[str, Any]:
    """The filter of the class's documents that meet the conditions."""
    filter = match(conditions, scope) if conditions else {}
    if mapping.parent is None:
        return filter
    only = mapping.type_filter()
    return {"$and": [only, filter]} if only.keys() & filter.keys() else {**only, **filter}


def is_plain_after(statement: Select[Any, Any]) -> bool:
    """Whether all that follows the search can be done to the documents found, in the order in which they are read.

    That are conditions on fields, an order by fields or by the score, offset, limit, and a select list of the class,
    its fields and the score. All else is a pipeline over the documents found.
    """
    _, _, *rest = statement._steps
    (after, *further) = cast("list[Any]", rest)
    if further or statement._options:
        return False
    if after.joins or after.group_by or after.having or after.distinct:
        return False
    if any(isinstance(node, (Score, ListOf, GraphLookup, OutputOf)) for _, node in walk(after.where)):
        return False
    orders = [order.expr for order in after.order_by]
    if len(orders) > 1 and any(isinstance(one, Score) for one in orders):
        return False
    if not all(isinstance(one, (Field, Score)) for one in orders):
        return False
    return all(
        entity is statement._root or isinstance(entity, Score) or (is_field(entity) and _is_named(entity))
        for entity in statement._entities
    )


def _is_named(field: Field[Any, Any]) -> bool:
    """Whether a field is no element of a list."""
    return all(part.step[0] != "element" for part in cast("Sequence[Any]", field._parts))


def like_stage(plan: LikePlan, score: str | None) -> dict[str, Any]:
    """The search as it is shown in a pipeline; what follows finds the similarity under the key `score`, if any."""
    like = plan.like
    where = {"index": plan.on} if isinstance(plan.on, str) else {"path": plan.spec.path}
    stage: dict[str, Any] = {"query": like.query, **where, "k": like.k}
    if like.exact:
        stage["exact"] = True
    if like.num_candidates is not None:
        stage["numCandidates"] = like.num_candidates
    if like.min_score is not None:
        stage["minScore"] = like.min_score
    if score is not None:
        stage["score"] = score
    return {"$like": stage}


def found_stages(score: str, keys: Sequence[Any], scores: Sequence[float]) -> list[dict[str, Any]]:
    """The stages that stand for the search: the documents of these keys, nearest first, with their scores."""
    position = {"$indexOfArray": [{"$literal": list(keys)}, "$_id"]}
    return [
        {"$match": {"_id": {"$in": list(keys)}}},
        {"$set": {score: {"$arrayElemAt": [{"$literal": list(scores)}, position]}}},
        {"$sort": {score: -1, "_id": 1}},
    ]
