# pyright: reportPrivateUsage=false
"""Selects to pipelines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from attrs import define, evolve

from superorm.compile.expressions import emit, has_accumulator, projected
from superorm.compile.grouping import Grouping
from superorm.compile.groups import Columns, of_nothing
from superorm.compile.items import typed_as
from superorm.compile.lookups import join_stages
from superorm.compile.match import match
from superorm.compile.output import Output
from superorm.compile.scope import DocumentScope, ListPath, RowScope, Scope, source_name
from superorm.compile.select_list import check_labels, unique
from superorm.compile.state import columns_in, documents_of, label_of, list_path, mapping_of
from superorm.exc import StatementError, UnsupportedError
from superorm.expr.base import Expr, Order
from superorm.expr.entities import entity_name
from superorm.expr.kinds import (
    inside,
    is_call,
    is_field,
    is_label,
    is_list_of,
    is_output_of,
)
from superorm.expr.stages import Block, Facet, Like, Raw, Sample, Then, UnionAll, Unwind
from superorm.schema.expression_types import type_of
from superorm.schema.mapping import ClassMap
from superorm.schema.members import is_by_class
from superorm.schema.types.computed import KeptType, one_of

__all__ = ["Builder"]


@define(eq=False)
class Builder(Grouping):
    """Writes the stages of one select, block by block."""

    def build(self, first: Sequence[Any] | None = None) -> tuple[Output, ...]:
        steps = self.select._steps
        lists = [*(step.entities for step in steps if isinstance(step, Then)), self.select._entities]
        selected = iter(lists)
        entities = next(selected)
        united: tuple[tuple[Any, ...], tuple[Output, ...]] | None = None
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
                    if isinstance(inner, RowScope):
                        if step.selects:
                            self._compute_labels(step.entities)
                        else:
                            self._keep_accumulators(step.entities, inner)
                        self.scope = self._wrapped(inner.forget_accumulators())
                    reused = [one for one in entities if is_label(one) and self._path(one) is not None]
                    check_labels((*step.entities, *reused))
                case Unwind():
                    self._unwind(step)
                case Sample():
                    self.stages.append({"$sample": {"size": step.size}})
                    self.total = False
                case Facet():
                    self._facet(step)
                case UnionAll():
                    united = entities, self._union(step, entities)
                case Raw():
                    self.stages.append(step.stage)
                    self._documents.later = None
                    self.total = self.unique = False
                case Like():
                    if not self.searched:
                        raise UnsupportedError(
                            ".like(...) stands in a statement of its own yet, not in one inside another; "
                            "run it, and give the other the keys that it found"
                        )
                    self.stages.clear()  # they chose what is searched
                    self._documents.score = self._key("score")
        if united is not None and self.names is None and self._is_plain_after_union():
            selects, outputs = united
            if len(selects) == len(entities) and all(
                one is other for one, other in zip(selects, entities, strict=True)
            ):
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

    def _name_labels(self, entities: tuple[Any, ...]) -> None:
        """Compute what is selected under labels that columns name."""
        labels = [one for one in entities if is_label(one) and self._path(one) is None]
        names = columns_in(self.select) if labels else set[str]()
        self._compute_lists(one for one in labels if one.name in names)
        sets: dict[str, Any] = {}
        found: list[tuple[str, Any, str]] = []
        for one in labels:
            if one.name in names and one.name not in {name for name, _, _ in found}:
                path = self._path(one.expr)
                if path is None:
                    path = self._key(one.name)
                    sets[path] = projected(one, self.scope)
                found.append((one.name, one, path))
        if sets:
            self.stages.append({"$set": sets})
        self._remember(found)

    # The slots of a block

    def _block(self, block: Block, entities: tuple[Any, ...], *, last: bool) -> None:
        for join in block.joins:
            self._join(join)
        if block.where:
            self._compute_lists(block.where)
            self._append_match(block.where)
        orders = [order.expr for order in block.order_by]
        check_labels((*entities, *block.group_by, *orders))
        if entities:
            self._group(block, entities, last=last)
            self._windows((*entities, *orders))
            self._name_labels(entities)
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
        self._check_owners(join.on, join.target)
        key = self._key(source_name(join.target))
        target = mapping_of(join.target)
        self.stages += join_stages(join, target, key, self.scope)
        self._documents.joined[join.target] = key
        self.unique = False

    def _sort(self, orders: Sequence[Order[Any]]) -> None:
        if not orders:
            return
        self._compute_lists(order.expr for order in orders)
        sort: dict[str, Any] = {}
        computed: dict[str, Any] = {}
        found: list[tuple[str | None, Any, str]] = []
        for order in orders:
            node = order.expr
            if is_call(node) and node.operator.op == "$meta":
                sort.setdefault(self._key(), emit(node, self.scope))
                continue
            path = self._sort_path(node)
            if path is None or path.startswith("$"):  # the latter is of outer rows
                path = self._key(label_of(node))
                computed[path] = emit(node, self.scope)
                found.append((label_of(node), node, path))
            sort.setdefault(path, order.direction)  # a second place of a field has no effect
        if computed:
            self.stages.append({"$set": computed})
        self._remember(found)
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
        if place is None and (is_field(inner) or is_list_of(inner) or is_output_of(inner)):
            place = self._path(inner)
        if place is None and is_label(node):
            self._name_labels((node,))
            place = self._path(node)
        if place is None:
            raise StatementError(f"unwind({node!r}): it is no field, and nothing computed it yet")
        path = place.key if isinstance(place, ListPath) else place
        if path in self.lists:
            outputs = self.lists.pop(path)
            self.columns[str(place)] = Output("", inner, "rows", (path,), unwound=True, outputs=outputs)
        elif path in self.columns:
            self.columns[path] = _unwound(self.columns[path])
        if isinstance(place, ListPath):
            self._no_list(place)
        body: Any = f"${path}"
        if step.keep_empty or step.index is not None:
            body = {"path": body}
            if step.index is not None:
                body["includeArrayIndex"] = key = self._key(step.index)
                self._name(step.index, key)
            if step.keep_empty:
                body["preserveNullAndEmptyArrays"] = True
        self.stages.append({"$unwind": body})
        self.unwound[path] += 1
        self.items = True
        self.total = self.unique = False

    def _no_list(self, path: ListPath) -> None:
        """What was the path of a list is that of an element."""
        scope = documents_of(self.scope)
        plain = "".join(path)
        known: list[dict[Any, str]] = [scope.nodes] if isinstance(scope, (DocumentScope, RowScope)) else []
        if isinstance(scope, DocumentScope):
            known.append(scope.labels)
        if isinstance(scope, RowScope):
            scope.columns[:] = [(label, emit, plain if at == path else at) for label, emit, at in scope.columns]
        for paths in known:
            paths |= {name: plain for name, at in paths.items() if at == path}

    def _facet(self, step: Facet) -> None:
        if self.inside is not None:
            raise StatementError("facet() cannot stand in a facet; give the outer one more statements")
        if not isinstance(self.scope, DocumentScope):
            raise StatementError("facet() works on documents: put it before group_by() and distinct()")
        body: dict[str, Any] = {}
        totals: list[tuple[str, bool, tuple[Output, ...]]] = []
        for name, select in step.facets:
            here = self._documents
            inside = DocumentScope(here.root, dict(here.joined), dict(here.labels), dict(here.nodes))
            inside.score, inside.outputs = here.score, dict(here.outputs)
            inner = Builder(
                select,
                inside=inside,
                unwound=Counter(self.unwound),
                items=self.items,
                lists=dict(self.lists),
                columns=dict(self.columns),
                kinds=dict(self.kinds),
                made=set(self.made),
            )
            outputs = self.lists[name] = inner.build()
            totals.append((name, inner.total, outputs))
            body[name] = inner.stages
        self.stages.append({"$facet": body})
        self._fill_empty(totals)
        columns: Columns = [(name, None, list_path(name, outputs)) for name, _, outputs in totals]
        self.scope = RowScope(lambda node: emit(node, self._documents), columns, "facets")
        self.total = self.unique = False

    def _union(self, step: UnionAll, entities: tuple[Any, ...]) -> tuple[Output, ...]:
        other = Builder(step.select)
        mine, others = [*entities], [*step.select._entities]
        if step.select._options:
            raise StatementError("union_all(): options() are for the whole statement, after union_all()")
        if len(mine) != len(others):
            raise StatementError(f"union_all(): the statements select {len(mine)} and {len(others)} columns")
        names = unique(entity_name(entity) for entity in mine)  # not those that the last rows may have to have
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
            outputs = self._outputs(entities, names)
        else:
            before = self.scope
            outputs = self._outputs(entities, names)
            other.names = names
            outputs = tuple(map(_united, outputs, other.build()))
            self.unwound = Counter()
            columns: Columns = []
            nodes: dict[int, str] = {}
            self.lists = {
                name: output.outputs
                for name, output in zip(names, outputs, strict=True)
                if output.outputs and not output.unwound
            }
            for name, entity in zip(names, mine, strict=True):
                path = list_path(name, self.lists[name]) if name in self.lists else name
                columns.append((label_of(entity) or name, _emitted(entity, before), path))
                nodes |= {id(entity): path, id(inside(entity)): path}
            self.scope = self._wrapped(RowScope(lambda node: emit(node, before), columns, "rows of the union", nodes))
            self.columns = {".".join(output.path): output for output in outputs}
        self.stages.append({"$unionWith": {"coll": other.mapping.collection, "pipeline": other.stages}})
        self.total = self.unique = False
        return outputs

    def _is_plain_after_union(self) -> bool:
        return "$unionWith" in self.stages[-1]


def _united(one: Output, other: Output) -> Output:
    """A column of the rows of two statements, of values as either has them."""
    same = one.stored and other.stored and one.entity._parts[-1] is other.entity._parts[-1]
    if one.stored and (not same or is_by_class(one.entity)):
        one = evolve(one, stored=False)  # a missing key is not this field's default, and the rows have no class
    columns = one, other
    kinds = [kind for output in columns if (kind := output.kind_of(type_of(output.entity))) is not None]
    if not (one.kind == other.kind == "value" and kinds):
        return one
    if len(kinds) == 1:  # what the other one holds is not known
        return evolve(one, entity=typed_as(KeptType(kinds[0]), one.name), unwound=0, stored=False)
    kind = one_of(kinds, [f"{output.entity!r} ({kind.name})" for output, kind in zip(columns, kinds, strict=True)])
    return one if kind is kinds[0] else evolve(one, entity=typed_as(kind, one.name), unwound=0, stored=False)


def _unwound(output: Output) -> Output:
    """The column once its list is unwound; of an item of a list of rows, that row's only value."""
    if output.kind != "rows":
        item = any(part.stored is None for part in getattr(output.entity, "_parts", ()))
        return evolve(output, unwound=max(output.unwound, item) + 1)
    if not output.unwound:
        return evolve(output, unwound=True)
    only, *others = output.outputs
    if others or only.kind != "value":
        raise StatementError(f"unwind({output.entity!r}): its lists were unwound already; its items are no lists")
    return evolve(output, outputs=(_unwound(only),))


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
