# pyright: reportPrivateUsage=false
"""Selects to pipelines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

from attrs import define, evolve

from superorm.compile.expressions import accumulator, emit, has_accumulator
from superorm.compile.groups import always_a_row, bucket_stage, group_stages, of_nothing
from superorm.compile.lookups import join_stages
from superorm.compile.match import match
from superorm.compile.output import Output
from superorm.compile.scope import DocumentScope, RowScope, Scope, source_name
from superorm.compile.select_list import SelectList, unique
from superorm.compile.state import documents_of, label_of, mapping_of
from superorm.compile.windows import window_stages
from superorm.exc import StatementError, UnsupportedError
from superorm.expr.base import Call, Expr, Order
from superorm.expr.entities import entity_name
from superorm.expr.kinds import (
    inside,
    is_bucket,
    is_call,
    is_column,
    is_expr,
    is_field,
    is_label,
)
from superorm.expr.nodes import Field, Score
from superorm.expr.rows import Window
from superorm.expr.stages import Block, Facet, Like, Raw, Sample, Then, UnionAll, Unwind
from superorm.schema.mapping import ClassMap

__all__ = ["Builder"]


@define(eq=False)
class Builder(SelectList):
    """Writes the stages of one select, block by block."""

    def build(self, first: Sequence[Any] | None = None) -> tuple[Output, ...]:
        steps = self.select._steps
        lists = [*(step.entities for step in steps if isinstance(step, Then)), self.select._entities]
        selected = iter(lists)
        entities = next(selected)
        outputs: tuple[Output, ...] | None = None
        if self.inside is None and (only := self.mapping.type_filter()):
            self.stages.append({"$match": only})
        for position, step in enumerate(steps):
            match step:
                case Block():
                    following = steps[position + 1] if position + 1 < len(steps) else None
                    computes = following is None or isinstance(following, (Then, UnionAll)) or bool(step.group_by)
                    block = step if position or first is None else evolve(step, where=tuple(first))
                    self._block(block, entities if computes or step.distinct else (), last=following is None)
                case Then():
                    entities = next(selected)
                    inner = documents_of(self.scope)
                    if step.selects and isinstance(inner, RowScope):
                        self._compute_labels(step.entities)
                        self.scope = self._wrapped(inner.forget_accumulators())
                case Unwind():
                    self._unwind(step)
                case Sample():
                    self.stages.append({"$sample": {"size": step.size}})
                    self.total = False
                case Facet():
                    self._facet(step)
                case UnionAll():
                    outputs = self._union(step, entities)
                case Raw():
                    self.stages.append(step.stage)
                    self.total = False
                case Like():
                    raise UnsupportedError(".like(...) cannot stand with joins, groups and further stages yet")
        if outputs is not None and self.names is None and len(steps) and self._is_plain_after_union():
            return outputs
        outputs = self._outputs(entities)
        if not self.total:
            return outputs
        return tuple([evolve(one, nothing=_of_nothing(node)) for one, node in zip(outputs, entities, strict=True)])

    def _compute_labels(self, entities: tuple[Any, ...]) -> None:
        """Compute what is made of accumulators, as only labels name it in what follows."""
        made = [one for one in entities if is_label(one) and has_accumulator(one) and self._path(one) is None]
        if made:
            keys = [self._key(one.name) for one in made]
            self.stages.append({"$set": {key: emit(one, self.scope) for key, one in zip(keys, made, strict=True)}})
            self._remember((one.name, one, key) for key, one in zip(keys, made, strict=True))

    # The slots of a block

    def _block(self, block: Block, entities: tuple[Any, ...], *, last: bool) -> None:
        for join in block.joins:
            self._join(join)
        if block.where:
            self._compute_lists(block.where)
            self._append_match(block.where)
        if entities:
            self._group(block, entities, last=last)
            self._windows((*entities, *(order.expr for order in block.order_by)))
        elif block.having:
            raise StatementError("having() needs group_by() in its block; write where()")
        if block.having:
            self._append_match(block.having)
        if block.distinct:
            self._distinct(entities)
        self._sort(block.order_by)
        if block.offset:
            self.stages.append({"$skip": block.offset})
        if block.limit is not None:
            self.stages.append({"$limit": block.limit})
        if block.having or block.offset:
            self.total = False

    def _append_match(self, conditions: Iterable[Any]) -> None:
        found = match(conditions, self.scope)
        if found:
            self.stages.append({"$match": found})

    def _join(self, join: Any) -> None:
        if join.target == self.root or join.target in self._documents.joined:
            raise StatementError(f"join({source_name(join.target)}): it is there already; join aliased(...) of it")
        key = self._key(source_name(join.target))
        target = mapping_of(join.target)
        self.stages += join_stages(join, target, key, self.scope)
        self._documents.joined[join.target] = key

    def _group(
        self, block: Block, entities: tuple[Any, ...], *, last: bool = True, null_is_missing: bool = False
    ) -> None:
        asked = [*entities, *(order.expr for order in block.order_by), *block.having]
        if not block.group_by and not any(self._accumulates(node) for node in asked):
            if block.having:
                raise StatementError("having() needs group_by() in its block; write where()")
            return
        self._compute_lists((*block.group_by, *asked))
        stages, columns = group_stages(
            block.group_by, asked, self.scope, self._accumulators, null_is_missing=null_is_missing
        )
        self.total = not block.group_by
        if self.total and not (last and self._is_plain_total(block, entities)):
            if self.inside is not None:
                raise UnsupportedError(
                    "facet(): accumulators over all rows must be selected alone, as nothing can be computed of them "
                    "where there are no rows; use group_by(), or compute it in Python"
                )
            stages = always_a_row(stages)
            self.total = False
        self.stages += stages
        self.made |= {path for _, _, path in columns}
        self.lists, self.columns = {}, {}
        before = self.scope

        def emitted(node: Any) -> Any:
            known = before.computed(node)
            if known is not None:
                return f"${known}"
            if is_call(node) and node.operator.kind == "accumulator":
                return accumulator(node, before)
            return bucket_stage(node, before) if is_bucket(node) else emit(node, before)

        self.scope = self._wrapped(RowScope(emitted, columns))

    def _is_plain_total(self, block: Block, entities: tuple[Any, ...]) -> bool:
        """Whether the row of no documents, which the server does not make, can be made of the accumulators' own."""
        calls = [inside(entity) for entity in entities]
        plain = all(is_call(call) and call.operator.kind == "accumulator" for call in calls)
        return plain and not block.having and self.names is None

    def _accumulates(self, node: Any) -> bool:
        """Whether an accumulator is in it that no group has computed yet."""
        return next(self._accumulators(node), None) is not None

    def _accumulators(self, node: Any) -> Iterator[tuple[Call[Any, Any], str | None]]:
        """The accumulators in an expression, with the label of one that is the whole of it."""
        if not is_expr(node) or not has_accumulator(node):
            return
        pending: list[tuple[Expr[Any, Any], str | None]] = [(node, None)]
        while pending:
            found, name = pending.pop(0)
            if isinstance(found, (Window, Field)) or self._known(found):
                continue
            if is_call(found) and found.operator.kind == "accumulator":
                yield found, name or (entity_name(found) if found is node else None)
                continue
            inner = found.name if is_label(found) and found is node else None
            pending += [(child, inner) for child in found.children()]

    def _windows(self, nodes: Iterable[Any]) -> None:
        stages, found = window_stages(nodes, self.scope, self._key)
        self.stages += stages
        self._remember(found)

    def _distinct(self, entities: tuple[Any, ...]) -> None:
        if isinstance(self.scope, RowScope) and self._all_known(entities):
            return  # the rows of a group differ as they are
        if any(not isinstance(entity, Expr) for entity in entities):
            raise StatementError("distinct() is for selected fields and values: documents differ by their keys")
        self._group(Block(group_by=entities), entities, null_is_missing=True)

    def _all_known(self, entities: tuple[Any, ...]) -> bool:
        keys = [path for _, _, path in cast("RowScope", self.scope).columns if path == "_id" or path.startswith("_id.")]
        found = {self._path(entity) for entity in entities}
        return set(keys) <= found

    def _sort(self, orders: Sequence[Order[Any]]) -> None:
        if not orders:
            return
        self._compute_lists(order.expr for order in orders)
        sort: dict[str, Any] = {}
        computed: dict[str, Any] = {}
        for order in orders:
            node = order.expr
            if is_call(node) and node.operator.op == "$meta":
                sort.setdefault(self._key(), emit(node, self.scope))
                continue
            if isinstance(node, Score):
                raise StatementError("score() can be sorted by only after .like(...)")
            path = self._sort_path(node)
            if path is None or path.startswith("$"):  # the latter is of outer rows
                path = self._key(label_of(node))
                computed[path] = emit(node, self.scope)
                self._remember([(label_of(node), node, path)])
            sort.setdefault(path, order.direction)  # a second place of a field has no effect
        if computed:
            self.stages.append({"$set": computed})
        self.stages.append({"$sort": sort})

    def _sort_path(self, node: Any) -> str | None:
        while is_label(node) and self.scope.computed(node) is None:
            node = node.expr
        if is_field(node):
            return self.scope.path(node)  # a position in a path is the match language's too
        return self._path(node)

    # What closes a block

    def _unwind(self, step: Unwind) -> None:
        self._compute_lists([step.list])
        node: Any = step.list
        inner = inside(node)
        place = self._path(node)
        path, outputs = self.lists.pop(id(inner), (place, ()))
        if is_column(inner):
            outputs = self.facets.pop(inner.name, outputs)
        if path is None and is_field(inner):
            path = self._path(inner)
        if path is None:
            raise StatementError(f"unwind({node!r}): it is no field, and nothing computed it yet")
        if outputs:
            self.columns[place or path] = Output("", inner, "rows", (path,), unwound=True, outputs=outputs)
        body: Any = f"${path}"
        if step.keep_empty or step.index is not None:
            body = {"path": body}
            if step.index is not None:
                body["includeArrayIndex"] = key = self._key(step.index)
                self._name(step.index, key)
            if step.keep_empty:
                body["preserveNullAndEmptyArrays"] = True
        self.stages.append({"$unwind": body})
        self.unwound.add(path)
        self.total = False

    def _facet(self, step: Facet) -> None:
        if not isinstance(self.scope, DocumentScope):
            raise StatementError("facet() works on documents: put it before group_by() and distinct()")
        body: dict[str, Any] = {}
        for name, select in step.facets:
            here = self._documents
            inside = DocumentScope(here.root, dict(here.joined), dict(here.labels), dict(here.nodes))
            inner = Builder(
                select,
                inside=inside,
                unwound=set(self.unwound),
                lists=dict(self.lists),
                columns=dict(self.columns),
                made=set(self.made),
            )
            self.facets[name] = inner.build()
            body[name] = inner.stages
        self.stages.append({"$facet": body})
        self.scope = RowScope(lambda node: emit(node, self._documents), [(name, None, name) for name in body], "facets")
        self.total = False

    def _union(self, step: UnionAll, entities: tuple[Any, ...]) -> tuple[Output, ...]:
        other = Builder(step.select)
        mine, others = [*entities], [*step.select._entities]
        if step.select._options:
            raise StatementError("union_all(): options() are for the whole statement, after union_all()")
        whole = [not isinstance(entity, Expr) for entity in (*mine, *others)]
        if any(whole):
            mapping = mapping_of(mine[0]) if len(mine) == 1 and all(whole) else None
            if mapping is None or mapping not in _bases(mapping_of(others[0])):
                raise StatementError(
                    "union_all() of documents is of one class, or of one and its subclasses; "
                    "select fields to join the rows of several"
                )
            other.build()
            self.made |= other.made
            outputs = self._outputs(entities)
        else:
            names = unique(entity_name(entity) for entity in mine)
            before = self.scope
            outputs = self._outputs(entities, names)
            other.names = names
            other.build()
            columns: list[tuple[str | None, Any, str]] = []
            for name, entity in zip(names, mine, strict=True):
                columns.append((label_of(entity) or name, _emitted(entity, before), name))
            self.scope = self._wrapped(RowScope(lambda node: emit(node, before), columns, "rows of the union"))
            self.lists, self.columns = {}, {".".join(output.path): output for output in outputs}
        self.stages.append({"$unionWith": {"coll": other.mapping.collection, "pipeline": other.stages}})
        self.total = False
        return outputs

    def _is_plain_after_union(self) -> bool:
        return "$unionWith" in self.stages[-1]


def _bases(mapping: ClassMap | None) -> Iterator[ClassMap]:
    """The class and those mapped ones that it derives from."""
    while mapping is not None:
        yield mapping
        mapping = mapping.parent


def _of_nothing(entity: Any) -> Any:
    """What an accumulator gives for no rows."""
    node = inside(entity)
    return of_nothing(node.operator.op) if is_call(node) else None


def _emitted(entity: Any, scope: Scope) -> Any:
    try:
        return emit(entity, scope)
    except StatementError:
        return None
