# pyright: reportPrivateUsage=false
"""The groups of a select: its accumulators, windows and distinct rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

from attrs import define

from superorm.compile.expressions import accumulator, emit, has_accumulator
from superorm.compile.groups import Columns, always_a_row, bucket_stage, group_stages
from superorm.compile.output import Output
from superorm.compile.scope import RowScope, value_at
from superorm.compile.select_list import SelectList
from superorm.compile.state import documents_of
from superorm.compile.windows import window_stages
from superorm.exc import StatementError, UnsupportedError
from superorm.expr.base import Call, Expr
from superorm.expr.entities import entity_name
from superorm.expr.kinds import inside, is_bucket, is_call, is_expr, is_label, walk
from superorm.expr.nodes import Field
from superorm.expr.rows import Window
from superorm.expr.stages import Block

__all__ = ["Grouping"]


@define(eq=False)
class Grouping(SelectList):
    """Writes the groups of a block."""

    def _keep_accumulators(self, entities: tuple[Any, ...], scope: RowScope) -> None:
        """Those that were selected mean the same in what follows; others are over the rows of it."""
        for _, found in walk(entities):
            if is_call(found) and found.operator.kind == "accumulator" and (path := scope.computed(found)) is not None:
                scope.nodes[id(found)] = path

    def _group(
        self, block: Block, entities: tuple[Any, ...], *, last: bool = True, null_is_missing: bool = False
    ) -> None:
        asked = [*entities, *(order.expr for order in block.order_by), *block.having]
        if not block.group_by and not any(self._accumulates(node) for node in asked):
            if block.having:
                raise StatementError("having() needs group_by() in its block; write where()")
            return
        self._compute_lists((*block.group_by, *asked))
        has_items = self._has_items
        named = (*block.group_by, *self._all_accumulators(asked)) if has_items else ()
        kinds = [(node, self._typed(node)) for node in named]
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
        self.columns = dict(self._kept_columns(block.group_by, columns))
        self.lists = {}
        self.unwound = Counter()
        self.unique = True
        before = self.scope

        def emitted(node: Any) -> Any:
            known = before.computed(node)
            if known is not None:
                return value_at(known)
            if is_call(node) and node.operator.kind == "accumulator":
                return accumulator(node, before)
            return bucket_stage(node, before) if is_bucket(node) else emit(node, before)

        self.scope = self._wrapped(RowScope(emitted, columns))
        if has_items:
            places = [(self.scope.computed(node), kind) for node, kind in kinds]
            self.kinds = {path: kind for path, kind in places if path is not None}

    def _kept_columns(self, keys: Sequence[Any], columns: Columns) -> Iterator[tuple[str, Output]]:
        """Of the keys of a group those of which more is known than the expression tells."""
        for key, (_, emitted, path) in zip(keys, columns[-len(keys) :], strict=False):
            place = emitted[1:] if isinstance(emitted, str) else ""
            known = self.columns.get(place)
            if known is None and place in self.unwound:
                known = Output("", inside(key), "value", unwound=self._unwound(inside(key), place))
            if known is not None:
                yield path, known.moved(place, path)

    def _is_plain_total(self, block: Block, entities: tuple[Any, ...]) -> bool:
        """Whether the row of no documents, which the server does not make, can be made of the accumulators' own."""
        calls = [inside(entity) for entity in entities]
        plain = all(is_call(call) and call.operator.kind == "accumulator" for call in calls)
        return plain and not block.having and self.names is None

    def _accumulates(self, node: Any) -> bool:
        """Whether an accumulator is in it that no group has computed yet."""
        return next(self._accumulators(node), None) is not None

    def _all_accumulators(self, nodes: Iterable[Any]) -> Iterator[Call[Any, Any]]:
        for node in nodes:
            yield from (call for call, _ in self._accumulators(node))

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
        if self.unique and self._all_known(entities):
            return  # the rows of a group differ as they are
        if any(not isinstance(entity, Expr) for entity in entities):
            plain = not self._documents.joined and not self.unwound
            why = "documents differ by their keys" if plain else "select fields, as the key, and not whole documents"
            raise StatementError(f"distinct() is for selected fields and values: {why}")
        self._group(Block(group_by=entities), entities, null_is_missing=True)

    def _all_known(self, entities: tuple[Any, ...]) -> bool:
        keys = [
            path
            for _, _, path in cast("RowScope", documents_of(self.scope)).columns
            if path == "_id" or path.startswith("_id.")
        ]
        found = {self._path(entity) for entity in entities}
        return set(keys) <= found
