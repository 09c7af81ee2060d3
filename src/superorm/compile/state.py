# pyright: reportPrivateUsage=false
"""What is known while a select's stages are written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from attrs import define, evolve, field

from superorm.compile.items import item_at, item_in, items_of, parts_typed
from superorm.compile.lookups import graph_lookup_stage, list_stages
from superorm.compile.output import Output
from superorm.compile.output_lookups import output_stages
from superorm.compile.paths import has_position
from superorm.compile.scope import DocumentScope, ListPath, OuterScope, RowScope, Scope, source_name
from superorm.exc import StatementError
from superorm.expr.base import Expr
from superorm.expr.kinds import (
    inside,
    is_column,
    is_expr,
    is_field,
    is_graph_lookup,
    is_label,
    is_list_of,
    is_output_of,
    walk,
)
from superorm.expr.nodes import Column, Field
from superorm.expr.outputs import OutputOf
from superorm.expr.rows import GraphLookup, ListOf
from superorm.expr.sources import Alias, Variable
from superorm.expr.stages import Block, Facet, Then, Unwind
from superorm.expr.statements import Select
from superorm.schema.mapping import ClassMap, class_map

__all__ = ["State", "columns_in", "documents_of", "has_position", "label_of", "list_path", "lists_in", "mapping_of"]


def mapping_of(source: Any) -> ClassMap:
    """The mapping of a class or an alias."""
    return class_map(source._cls if type(source) is Alias else source)


@define(eq=False)
class State:
    """The stages so far, and where in their documents everything is."""

    select: Select[Any, Any]
    scope: Scope = field(init=False)
    stages: list[dict[str, Any]] = field(factory=list[dict[str, Any]])
    names: tuple[str, ...] | None = None
    """The names to give the columns in the documents, where somebody else reads them."""
    outer: Scope | None = None
    variables: dict[str, tuple[str, Expr[Any, Any]]] = field(factory=dict[str, tuple[str, Expr[Any, Any]]])
    """With `outer`: its paths that are named here, and the variables that hold them."""
    inside: DocumentScope | None = None
    """In a facet: the documents that it works on."""
    unwound: Counter[str] = field(factory=Counter[str])
    """The paths of lists where in the rows an item stands, with how often they were unwound."""
    items: bool = False
    """Whether any list was unwound."""
    lists: dict[str, tuple[Output, ...]] = field(factory=dict[str, "tuple[Output, ...]"])
    """The columns of the rows in the lists that lookups and facets made, by the keys of the lists."""
    columns: dict[str, Output] = field(factory=dict[str, Output])
    """What is known to stand at a path: the columns of a union, an item of a list that a lookup made."""
    kinds: dict[str, Any] = field(factory=dict[str, Any])
    """What has the types of computed values, by their paths."""
    outside: Callable[[Any], Any] | None = None
    """With `outer`, where lists were unwound: gives what has the type of an expression of its rows."""
    unique: bool = False
    """Whether the rows differ by the keys of their group."""
    total: bool = False
    """Whether the rows are the one row of accumulators over everything."""
    made: set[str] = field(factory=set[str])
    """The keys that stages made beside the documents' own."""
    searched: bool = False
    """Whether a vector search may stand in the statement: what it finds comes before the stages."""
    _documents: DocumentScope = field(init=False)
    _count: int = 0

    def __attrs_post_init__(self) -> None:
        self._documents = self.inside or DocumentScope(self.root)
        self._documents.later = _labels(self.select) - self.mapping.stored_names
        self.scope = self._wrapped(self._documents)

    @property
    def root(self) -> Any:
        """The class that the statement is about."""
        root = self.select._root
        if root is None:
            raise StatementError(f"{self.select!r} does not tell its class; add .select_from(...)")
        return root

    @property
    def score(self) -> str | None:
        """The key of the score that a vector search gives each document."""
        return self._documents.score

    @property
    def mapping(self) -> ClassMap:
        return mapping_of(self.root)

    def build(self, first: Sequence[Any] | None = None) -> tuple[Output, ...]:
        """Write all stages; the columns of the rows. `first` replaces the conditions of the first block."""
        raise NotImplementedError

    def _wrapped(self, scope: Scope) -> Scope:
        return scope if self.outer is None else OuterScope(scope, self.outer, self.variables)

    def _known(self, node: Expr[Any, Any]) -> bool:
        return not isinstance(node, Column) and self.scope.computed(node) is not None

    def _remember(self, found: Iterable[tuple[str | None, Expr[Any, Any], str]]) -> None:
        """Values that stages have computed: label, expression and path."""
        scope = documents_of(self.scope)
        for label, node, path in found:
            if isinstance(scope, (DocumentScope, RowScope)):
                scope.nodes[id(node)] = path
            if not is_field(inside(node)):
                self.kinds.setdefault(path, self._typed(node))
            if label is not None:
                self._name(label, path)

    def _name(self, label: str, path: str) -> None:
        """What stands at the path goes by this label."""
        scope = documents_of(self.scope)
        if isinstance(scope, DocumentScope):
            scope.labels[label] = path
        elif isinstance(scope, RowScope):
            scope.columns.append((label, None, path))

    def _key(self, name: str | None = None) -> str:
        """A new key for a computed value beside the documents' own."""
        if name is None:
            self._count += 1
        key = f"__{self._count if name is None else name}"
        classes = self.mapping, *self.mapping.subclasses
        stored = {self.mapping.discriminator}.union(*(one.stored_names for one in classes))
        while key in self.made or key in stored:
            key += "_"
        self.made.add(key)
        return key

    def _compute_lists(self, nodes: Iterable[Any]) -> None:
        """Look up what the expressions name of other collections."""
        nodes = [*nodes]
        if not _has_list(nodes):
            return
        for label, node in lists_in(nodes, self._known):
            if self._known(node):
                continue
            if is_output_of(node):
                self._join_output(label, node)
                continue
            key = self._key(label)
            if is_graph_lookup(node):
                self.stages.append(graph_lookup_stage(node, mapping_of(node.target), key, self.scope))
                self._remember([(label, node, key)])
                continue
            inner = type(self)(node.select, outer=self.scope, outside=self._typed if self._has_items else None)
            blocks = (step for step in node.select._steps if isinstance(step, Block))
            self._check_owners((one for block in blocks for one in block.where), inner.root)
            stages, outputs = list_stages(inner, key, self.scope)
            self.stages += stages
            self._fill_empty([(key, inner.total, outputs)])
            self.lists[key] = outputs
            self._remember([(label, node, list_path(key, outputs))])

    def _join_output(self, label: str | None, node: OutputOf[Any, Any]) -> None:
        """Look up the output of each document, which columns read as it is stored."""
        scope = documents_of(self.scope)
        if not isinstance(scope, DocumentScope):
            raise StatementError(
                f"{node!r} is of documents, not of grouped rows: group_by() it, or select it under a label before"
            )
        of = node.of or self.root
        prefix = scope.prefix(of)
        if prefix is None:
            raise StatementError(f"{node!r}: {source_name(of)} is not in the rows; join it first")
        key = self._key(label or "output")
        self.stages += output_stages(node.name, key, f"{prefix}_id")
        scope.outputs[node.name, of] = key
        self.columns[f"{key}.output"] = Output("", evolve(node, keys=()), "output", (key,))

    def _check_owners(self, conditions: Iterable[Any], target: Any) -> None:
        """Raise `StatementError` where a field could be one of `target` or of the rows."""
        both = OuterScope(DocumentScope(target), self.scope, self.variables)
        for _, node in walk(conditions):
            if is_field(node):
                both.check(node._owner)

    def _fill_empty(self, lists: Iterable[tuple[str, bool, tuple[Output, ...]]]) -> None:
        """Of accumulators over everything the row of no documents, in lists where the server makes none."""
        filled: dict[str, Any] = {}
        for key, total, outputs in lists:
            if total:
                row = {".".join(output.path): output.nothing for output in outputs}
                filled[key] = {"$cond": [{"$eq": [f"${key}", []]}, [row], f"${key}"]}
        if filled:
            self.stages.append({"$set": filled})

    def _path(self, entity: Any) -> str | None:
        """The path of what is there already: a field, or a computed value."""
        if is_field(entity):
            self._check_item(entity)
            path = None if has_position(entity) else self.scope.path(entity)
        else:
            path = self.scope.computed(entity) if is_expr(entity) else None
        return None if path is not None and path.startswith("$") else path  # a variable, of outer rows

    def _unwound(self, node: Any, path: str) -> int:
        """`Output.unwound` of what stands at a path."""
        count, items = self.unwound[path], items_of(node)
        return max(count - items, 0) + (items > 0) if count else 0

    @property
    def _has_items(self) -> bool:
        """Whether a list's field may stand for an item, or a field for what several statements have."""
        return self.items or bool(self.columns) or self.outside is not None

    def _typed(self, node: Any) -> Any:
        """What has the type of an expression in the rows: a field of a list that was unwound is an item."""
        if not self._has_items:
            return node
        known: dict[int, Any] = {}

        def typed(node: Any) -> Any:
            if id(node) not in known:  # what stands twice in it is looked at once
                known[id(node)] = self._typed_by(node, typed) if is_expr(node) else node
            return known[id(node)]

        return typed(node)

    def _typed_by(self, node: Expr[Any, Any], typed: Callable[[Any], Any]) -> Any:
        path = self._field_path(node) if is_field(node) else self.scope.computed(node)
        if path is not None and path in self.columns:
            column = self.columns[path]
            return item_in(column.entity, column.unwound - bool(items_of(column.entity)))
        if path is not None and not is_field(node):
            found = self.kinds.get(path)
            if found is not None:
                return item_in(found, self.unwound[path])
        if is_field(node) and not isinstance(node._owner, Variable):
            return self._item_field(node)
        return parts_typed(node, typed)

    def _field_path(self, field: Field[Any, Any]) -> str | None:
        """Where a field stands; None where it does not."""
        with suppress(StatementError):
            return None if isinstance(field._owner, Variable) else documents_of(self.scope).path(field)
        return None

    def _item_field(self, field: Field[Any, Any]) -> Any:
        if self.outside is not None and self._field_path(field) is None:
            return self.outside(field)
        return item_at(field, self._items_left)

    def _items_left(self, list: Field[Any, Any]) -> int:
        """How often a list's field was unwound."""
        return self.unwound[self._field_path(list) or ""]

    def _check_item(self, field: Field[Any, Any]) -> None:
        if not any(part.step == ("element", None) for part in field._parts):
            return
        if not isinstance(documents_of(self.scope), DocumentScope) and self.items:
            return  # it was there when the rows were made
        path = self.scope.path(field)
        if not any(path == unwound or path.startswith(f"{unwound}.") for unwound in self.unwound):
            raise StatementError(f"{field!r}: an item is what stands in a row after unwind()")


_LOOKED_UP = (ListOf, GraphLookup, OutputOf)


def _labels(select: Select[Any, Any]) -> frozenset[str]:
    """The labels of all that is selected, but of columns that keep their names."""
    lists = [select._entities, *(step.entities for step in select._closed if isinstance(step, Then))]
    labels = [one for entities in lists for one in entities if is_label(one)]
    return frozenset(one.name for one in labels if not (is_column(one.expr) and one.expr.name == one.name))


def label_of(node: object) -> str | None:
    return node.name if is_label(node) else None


def documents_of(scope: Scope) -> Scope:
    return scope.inner if isinstance(scope, OuterScope) else scope


def list_path(key: str, outputs: tuple[Output, ...]) -> str:
    """What stands for a list of rows in expressions: of rows with one value each the list of these."""
    simple = len(outputs) == 1 and outputs[0].kind == "value"
    return ListPath(".".join((key, *outputs[0].path))) if simple else key


def columns_in(select: Select[Any, Any]) -> set[str]:
    """The names by which a statement asks for columns, those of its facets and lists of other documents included."""
    nodes: list[Any] = [*select._entities]
    found: set[str] = set()
    for step in select._steps:
        match step:
            case Block():
                nodes += (*step.where, *step.group_by, *step.having, *(order.expr for order in step.order_by))
                nodes += (condition for join in step.joins for condition in join.on)
            case Then():
                nodes += step.entities
            case Unwind():
                nodes.append(Column(step.list.name) if is_label(step.list) else step.list)
            case Facet():
                found.update(*(columns_in(facet) for _, facet in step.facets))
            case _:
                pass
    for _, node in walk(nodes):
        if is_column(node):
            found.add(node.name)
        elif is_list_of(node):
            found |= columns_in(node.select)
    return found


def _has_list(nodes: Iterable[Any]) -> bool:
    """Whether a lookup is in expressions: asked of each block, where most have none."""
    return any(is_expr(node) and (isinstance(node, _LOOKED_UP) or _has_list(node.children())) for node in nodes)


def lists_in(nodes: Iterable[Any], known: Callable[[Any], bool] = lambda _: False) -> Iterator[tuple[str | None, Any]]:
    """The lookups in expressions, with the label of one that is the whole of it; none in what is `known`."""
    for label, node in walk(nodes, lambda node: isinstance(node, _LOOKED_UP) or known(node)):
        if isinstance(node, _LOOKED_UP):
            yield label, node
