# pyright: reportPrivateUsage=false
"""Selects to plans."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, TypeAlias

from attrs import define, evolve, field

from superorm.compile.artifact_uses import check_artifact_select
from superorm.compile.capable import check_capabilities
from superorm.compile.depth import check_depth
from superorm.compile.match import match
from superorm.compile.output import Output
from superorm.compile.paths import may_be_list
from superorm.compile.plan import Aggregate, Find, Read
from superorm.compile.related import Column, with_related
from superorm.compile.rewrites import as_read, optimized
from superorm.compile.scope import DocumentScope, RootScope, Scope, StagesNeededError
from superorm.compile.searched import LikePlan, filter_of, found_stages, is_plain_after, like_plan, like_stage
from superorm.compile.select import Builder
from superorm.compile.select_list import unique
from superorm.compile.state import mapping_of
from superorm.compile.undeferred import Undeferred, with_undeferred
from superorm.exc import StatementError
from superorm.expr.entities import entity_name
from superorm.expr.kinds import is_field
from superorm.expr.nesting import too_deep
from superorm.expr.nodes import Field, Score
from superorm.expr.options import Undefer
from superorm.expr.relations import Load
from superorm.expr.sources import Alias
from superorm.expr.stages import Like, Unwind
from superorm.expr.statements import Select
from superorm.expr.values import own_copy
from superorm.schema.dates import reads_naive
from superorm.schema.mapping import ClassMap, MappedField

__all__ = ["CompiledSelect", "compile_select", "path_of", "pipeline"]


_Source: TypeAlias = tuple[ClassMap, RootScope, tuple[Output, ...]]
"""A mapping, where its fields stand, and the only column of a select of its whole documents."""


@define  # made by each execution: a frozen one takes three times as long
class CompiledSelect:
    """A select, taken apart. Never changed."""

    mapping: ClassMap
    outputs: tuple[Output, ...]
    read: Read
    """The whole read, or with `like` what follows it, over the documents that it found."""
    like: LikePlan | None = None
    by_score: tuple[int, ...] = field(default=())
    """With `like`, the direction of ``score()`` where it is what the rows are sorted by."""
    score: str | None = None
    """With `like` before a pipeline: the key under which this finds the score."""
    related: tuple[Column, ...] = ()
    """The relationships to load of documents."""
    undeferred: tuple[Undeferred, ...] = ()
    """The artifacts to read of documents."""
    default_row: tuple[Any, ...] | None = None
    """The row of accumulators over no rows at all, for which the server gives none."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple([output.name for output in self.outputs])

    @property
    def whole(self) -> ClassMap | None:
        """The class where the rows are nothing but its whole documents."""
        only = self.outputs[0]
        plain = len(self.outputs) == 1 and only.kind == "document" and not only.path and not only.extra
        return only.mapping if plain and only.only is None else None

    @property
    def find(self) -> Find:
        """The read of a statement that is a find; what follows `like` always is."""
        assert isinstance(self.read, Find)
        return self.read


def compile_select(
    statement: Select[Any, Any], unsupported: frozenset[str] = frozenset(), backend: str = ""
) -> CompiledSelect:
    """Take a select apart; `unsupported` are the stages and operators that `backend` does not have.

    Raises `StatementError`, `UnsupportedError`.
    """
    if statement._options and any(isinstance(option, Undefer) for option in statement._options):
        return with_undeferred(statement, lambda plain: compile_select(plain, unsupported, backend))
    if statement._options and any(isinstance(option, Load) for option in statement._options):
        related = with_related(statement, lambda plain: compile_select(plain, unsupported, backend))
        check_capabilities(related.read, unsupported, backend)
        return related
    try:
        if not statement._closed:
            compiled = _simple(statement)
            if compiled is not None:
                if unsupported:
                    check_capabilities(compiled.read, unsupported, backend)
                return compiled
        check_artifact_select(statement)  # of some classes, which may have artifacts
        if any(isinstance(step, Like) for step in statement._closed):
            return _compile_like(statement, unsupported, backend)
        return _compile_stages(Builder(statement), unsupported, backend)
    except RecursionError:
        raise too_deep() from None


def _compile_stages(builder: Builder, unsupported: frozenset[str], backend: str) -> CompiledSelect:
    outputs = builder.build()
    for output in outputs:
        output.check()
    assert builder.mapping.collection is not None
    check_depth(builder.stages)
    stages = optimized(builder.stages, _flat(builder))
    collection = builder.mapping.collection
    read = as_read(collection, stages) if builder.score is None else Aggregate(collection, stages)
    check_capabilities(read, unsupported, backend)
    default_row = tuple([output.nothing for output in outputs]) if builder.total else None
    return CompiledSelect(builder.mapping, outputs, read, default_row=default_row)


def _flat(builder: Builder) -> frozenset[str]:
    """The paths of the unwound lists that are declared to hold no lists."""
    fields = [step.list for step in builder.select._closed if isinstance(step, Unwind) and is_field(step.list)]
    paths = {True: set[str](), False: set[str]()}
    for one in fields:
        kept = any(isinstance(part, MappedField) and part.keep for part in one._parts)  # with lists of any kind
        with suppress(StatementError):  # no list is declared there
            paths[kept or may_be_list(one.item())].add(builder._documents.path(one))
    return frozenset(paths[False] - paths[True])


def _simple(select: Select[Any, Any]) -> CompiledSelect | None:
    """A statement on one class that a find can answer; None for any other."""
    root = select._root
    if root is None or select._joins or select._group_by or select._having or select._distinct or select._options:
        return None
    mapping, scope, outputs = _source(root)
    if mapping.artifacts:
        check_artifact_select(select)
    sort: dict[str, int] = {}
    for order in select._order_by:
        by = order.expr
        if not isinstance(by, Field):
            return None
        path = by._path if by._owner is root else scope.path(by)
        sort.setdefault(path, order.direction)  # a second place of a field has no effect
    try:
        filter = filter_of(mapping, select._where, scope)
    except StagesNeededError:
        return None
    entities = select._entities
    projection: dict[str, int] | None = None
    naive = False
    if len(entities) == 1 and entities[0] is root:
        naive = reads_naive(mapping)
    else:
        columns = _columns(select, mapping, scope)
        if columns is None:
            return None
        outputs, projection = columns
    assert mapping.collection is not None
    find = Find(mapping.collection, filter, projection, list(sort.items()), select._offset, select._limit or 0, naive)
    return CompiledSelect(mapping, outputs, find)


def _source(root: Any) -> _Source:
    """What is known of a class or an alias that is selected from; made once for a class."""
    mapping: ClassMap | None = getattr(root, "__superorm__", None)
    if mapping is not None and mapping.cls is root and "source" in mapping.functions:
        known: _Source = mapping.functions["source"]
        return known
    mapping = mapping_of(root)
    is_alias = type(root) is Alias
    name = repr(root) if is_alias else mapping.name
    found: _Source = mapping, RootScope(root), (Output(name, root, "document", (), mapping),)
    if not is_alias:
        mapping.functions["source"] = found
    return found


def _columns(
    statement: Select[Any, Any], mapping: ClassMap, scope: Scope
) -> tuple[tuple[Output, ...], dict[str, int] | None] | None:
    """The columns and the projection; None where more than fields is selected."""
    outputs: list[Output] = []
    paths: list[str] | None = []
    for entity in statement._entities:
        if entity is statement._root:
            outputs += _source(entity)[2]
            paths = None
        elif is_field(entity):
            path = scope.path(entity)
            if any(part.step[0] == "element" for part in entity._parts):
                return None
            outputs.append(Output(entity_name(entity), entity, "value", tuple(path.split(".")), stored=True))
            if paths is not None:
                plain = len(entity._parts) == 1 and len(mapping.family) < 2
                paths += (path,) if plain else outputs[-1].reads
        elif isinstance(entity, Score):
            raise StatementError("score() can be selected only after .like(...)", document_class=mapping.cls)
        else:
            return None
    if len({output.name for output in outputs}) < len(outputs):
        return None  # the names have to be told apart
    return tuple(outputs), None if paths is None else _projection(paths)


def _projection(paths: list[str]) -> dict[str, int]:
    """Only the selected fields."""
    kept = dict.fromkeys((path for path in paths if not any(path.startswith(f"{other}.") for other in paths)), 1)
    return kept if any(path.startswith("_id.") for path in kept) else {**kept, "_id": kept.get("_id", 0)}


def path_of(entity: Field[Any, Any]) -> str:
    """The stored path of a selected field."""
    return entity._path


def _compile_like(statement: Select[Any, Any], unsupported: frozenset[str], backend: str) -> CompiledSelect:
    """A vector search, and what follows it: over the documents found, or where that is not enough a pipeline."""
    plan = like_plan(statement)
    if is_plain_after(statement):
        return _plain_after_like(statement, plan)
    builder = Builder(statement, searched=True)
    compiled = _compile_stages(builder, unsupported, backend)
    score = builder.score
    assert score is not None
    check_capabilities(Aggregate("", found_stages(score, (), ())), unsupported, backend)
    return evolve(compiled, like=plan, score=score)


def _plain_after_like(statement: Select[Any, Any], plan: LikePlan) -> CompiledSelect:
    root = statement._root
    mapping, scope = mapping_of(root), DocumentScope(root)
    after: Any = statement._steps[-1]
    outputs: list[Output] = []
    for name, entity in zip(unique(map(entity_name, statement._entities)), statement._entities, strict=True):
        if isinstance(entity, Score):
            outputs.append(Output(name, entity, "score"))
        elif isinstance(entity, Field):
            keys = tuple(scope.path(entity).split("."))
            outputs.append(Output(name, entity, "value", keys, stored=True))
        else:
            outputs.append(Output(name, entity, "document", (), mapping))
    by_score = tuple(order.direction for order in after.order_by if isinstance(order.expr, Score))
    sort: dict[str, int] = {}
    for order in () if by_score else after.order_by:
        sort.setdefault(scope.path(order.expr), order.direction)
    whole = any(output.kind == "document" for output in outputs)
    projection = None if whole else _projection([path for one in outputs if one.kind == "value" for path in one.reads])
    assert mapping.collection is not None
    filter = match(after.where, scope)
    find = Find(mapping.collection, filter, projection, list(sort.items()), after.offset, after.limit or 0)
    return CompiledSelect(mapping, tuple(outputs), find, plan, by_score)


def pipeline(statement: Select[Any, Any]) -> list[dict[str, Any]]:
    """The statement as an aggregation pipeline, with ``$like`` in the place of a vector search."""
    compiled = compile_select(statement)
    stages: list[dict[str, Any]] = []
    if compiled.like is not None:
        plan = compiled.like
        if plan.filter:
            stages.append({"$match": own_copy(plan.filter)})
        stages.append(own_copy(like_stage(plan, compiled.score)))
    read = compiled.read
    if isinstance(read, Aggregate):
        return [*stages, *map(own_copy, read.pipeline)]
    find = compiled.find
    if find.filter:
        stages.append({"$match": own_copy(find.filter)})
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
