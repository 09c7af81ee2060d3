"""A select to plans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from attrs import field, frozen

from superorm.compile.match import match
from superorm.compile.plan import Find
from superorm.exc import StatementError, UnsupportedError
from superorm.expr.nodes import Field, Score
from superorm.expr.statements import Block, Entity, Like, Select, on_pipeline
from superorm.schema.fields import VectorFieldSpec
from superorm.schema.mapping import ClassMap, MappedField, class_map
from superorm.schema.vector_spec import VectorSpec

__all__ = ["CompiledSelect", "LikePlan", "compile_select", "parts_of", "path_of", "pipeline"]


@frozen
class LikePlan:
    """The vector search of a statement."""

    like: Like
    part: MappedField
    declared: VectorFieldSpec
    spec: VectorSpec
    filter: Mapping[str, Any]
    """What chooses the documents that are searched."""


@frozen
class CompiledSelect:
    """A select, taken apart."""

    mapping: ClassMap
    entities: tuple[Entity, ...]
    like: LikePlan | None
    find: Find
    """The whole read, or with `like` what follows it, over the documents that it found."""
    by_score: tuple[int, ...] = field(default=())
    """With `like`, the direction of ``score()`` where it is what the rows are sorted by."""


def compile_select(statement: Select[Any, Any]) -> CompiledSelect:
    """Take a select apart. Raises `StatementError`, `UnsupportedError`."""
    mapping = class_map(statement._root)  # pyright: ignore[reportPrivateUsage]
    entities = statement._entities  # pyright: ignore[reportPrivateUsage]
    blocks = statement._blocks  # pyright: ignore[reportPrivateUsage]
    like = statement._like  # pyright: ignore[reportPrivateUsage]
    if like is None and any(isinstance(entity, Score) for entity in entities):
        raise StatementError("score() can be selected only after .like(...)", document_class=mapping.cls)
    plan = None if like is None else _like_plan(mapping, like, blocks[0])
    block = blocks[-1]
    by_score = tuple(order.direction for order in block.order_by if order.path is None)
    places: dict[str, int] = {}
    for order in block.order_by:
        if order.path is not None:
            places.setdefault(order.path, order.direction)  # a second place of a field has no effect
    sort = list(places.items())
    if by_score and (sort or len(by_score) > 1):
        raise UnsupportedError("order_by() can name score() alone, or fields alone, for now")
    assert mapping.collection is not None
    projection = _projection(entities)
    find = Find(mapping.collection, match(block.where), projection, sort, block.offset, block.limit or 0)
    return CompiledSelect(mapping, entities, plan, find, by_score)


def _projection(entities: tuple[Entity, ...]) -> dict[str, int] | None:
    """Only the selected fields, where no whole document is asked for."""
    if any(isinstance(entity, type) for entity in entities):
        return None
    paths = [path_of(entity) for entity in entities if isinstance(entity, Field)]
    kept = dict.fromkeys((path for path in paths if not any(path.startswith(f"{other}.") for other in paths)), 1)
    return kept if any(path.startswith("_id.") for path in kept) else {**kept, "_id": kept.get("_id", 0)}


def path_of(entity: Field[Any, Any]) -> str:
    """The stored path of a selected field."""
    return entity._path  # pyright: ignore[reportPrivateUsage]


def parts_of(entity: Field[Any, Any]) -> tuple[MappedField, ...]:
    """The declared fields on the way to a selected field, the last of them its own."""
    return cast("tuple[MappedField, ...]", entity._parts)  # pyright: ignore[reportPrivateUsage]


def _like_plan(mapping: ClassMap, like: Like, block: Block) -> LikePlan:
    vectors = mapping.vectors
    names = ", ".join(part.attribute for part, _, _ in vectors)
    if not vectors:
        raise StatementError(f"{mapping.name} has no vector field to search", document_class=mapping.cls)
    found = [vector for vector in vectors if like.on is None or vector[0].stored == path_of(like.on)]
    if not found:
        raise StatementError(f"like(on={like.on!r}): not a vector field; {mapping.name} has {names}")
    if len(found) > 1:
        raise StatementError(f"like() needs on=: {mapping.name} has the vector fields {names}")
    part, declared, spec = found[0]
    return LikePlan(like, part, declared, spec, match(block.where))


def pipeline(statement: Select[Any, Any]) -> list[dict[str, Any]]:
    """The statement as an aggregation pipeline, with ``$like`` in the place of a vector search."""
    compiled = compile_select(statement)
    stages: list[dict[str, Any]] = []
    if compiled.like is not None:
        plan = compiled.like
        if plan.filter:
            stages.append({"$match": plan.filter})
        stage: dict[str, Any] = {"query": plan.like.query, "path": plan.spec.path, "k": plan.like.k}
        if plan.like.exact:
            stage["exact"] = True
        if plan.like.num_candidates is not None:
            stage["numCandidates"] = plan.like.num_candidates
        if plan.like.min_score is not None:
            stage["minScore"] = plan.like.min_score
        stages.append({"$like": stage})
    find = compiled.find
    if find.filter:
        stages.append({"$match": find.filter})
    if find.sort:
        stages.append({"$sort": dict(find.sort)})
    if compiled.by_score:
        stages.append({"$sort": {"$score": compiled.by_score[0]}})
    if find.skip:
        stages.append({"$skip": find.skip})
    if find.limit:
        stages.append({"$limit": find.limit})
    if find.projection is not None:
        stages.append({"$project": dict(find.projection)})
    return stages


on_pipeline(pipeline)
