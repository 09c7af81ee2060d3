# pyright: reportPrivateUsage=false
"""What a select answers, computed in plain Python over the documents as they are stored.

It walks the nodes of the statement and knows nothing of how superorm compiles them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cmp_to_key
from typing import Any, TypeAlias

from attrs import define, evolve

from superorm.expr.base import Call, Compare, Expr, Label
from superorm.expr.nodes import Column, Field
from superorm.expr.rows import Bucket, ListOf, Window
from superorm.expr.sources import class_of
from superorm.expr.stages import Block, Facet, Join, Then, UnionAll, Unwind
from superorm.expr.statements import Select
from tests.differential.expressions import ABSENT, Env, candidates, evaluate, fingerprint, holds
from tests.differential.groups import bucket_of, grouped
from tests.differential.matching import meets
from tests.differential.ordering import compare_keys
from tests.differential.row import Row, derives, row_sort_key
from tests.differential.values import MISSING, shown
from tests.differential.windows import with_windows

__all__ = ["Ambiguous", "Answer", "answer"]

Data: TypeAlias = Mapping[type, Sequence[dict[str, Any]]]
"""The documents of each class, as stored, in the order of the collection."""


class Ambiguous(Exception):
    """More than one answer is right: a limit cuts rows that the order leaves equal."""


@define
class Answer:
    """The rows, and for each its place in the order: rows of one place may change places."""

    rows: list[tuple[Any, ...]]
    places: list[int]


def answer(select: Select[Any, Any], data: Data) -> Answer:
    """The rows of a select."""
    rows, entities = _run(select, data, None)
    return Answer([tuple(_selected(entity, row, data) for entity in entities) for row in rows], [r.place for r in rows])


def _run(
    select: Select[Any, Any], data: Data, outer: Row | None, start: list[Row] | None = None
) -> tuple[list[Row], tuple[Any, ...]]:
    root = select._root
    rows = start or [Row({root: document}, outer=outer) for document in data[_class(root)]]
    if start is not None:
        rows = start
    steps = select._steps
    lists = iter([*(step.entities for step in steps if isinstance(step, Then)), select._entities])
    entities = next(lists)
    known: set[Any] = set()  # the accumulators of the select list, once they are computed
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        match step:
            case Block():
                last = following is None or isinstance(following, (Then, UnionAll))
                rows = _block(step, rows, entities if last or step.group_by or step.distinct else (), known, data)
            case Then():
                rows = [row.with_values(_labelled(entities, row, data)) for row in rows]
                before, entities = entities, next(lists)
                if entities is not before:
                    known = {name for name in known if isinstance(name, str)}  # labels stand for what was computed
            case Unwind():
                rows = [new for row in rows for new in _unwound(step, row, data)]
            case Facet():
                found = [(name, None, _list(inner, data, None, rows)) for name, inner in step.facets]
                rows = [Row({}, found)]
            case UnionAll():
                rows = _union(step.select, rows, entities, data)
            case _:
                raise NotImplementedError(f"the oracle does not know {step!r}")
    return rows, entities


# Blocks


def _block(block: Block, rows: list[Row], entities: tuple[Any, ...], known: set[Any], data: Data) -> list[Row]:
    for join in block.joins:
        rows = [new for row in rows for new in _joined(join, row, data)]
    rows = [row for row in rows if all(_meets_where(condition, row) for condition in block.where)]
    asked = [*entities, *(order.expr for order in block.order_by)]
    grouping = bool(block.group_by)
    if grouping:
        rows = _groups(block.group_by, rows)
    elif grouping := any(_accumulates(node, known) for node in [*asked, *block.having]):
        rows = [Row(None, members=rows)]
    if grouping:
        known.update(fingerprint(entity) for entity in entities)
        known.update(entity.name for entity in entities if isinstance(entity, Label))
    rows = with_windows(asked, rows)
    rows = [row for row in rows if all(holds(condition, row) for condition in block.having)]
    if block.distinct:
        rows = _distinct(entities, rows, data)
    if block.order_by:
        rows = _sorted(block, rows)
    return _cut(block, rows)


def _joined(join: Join, row: Row, data: Data) -> Iterator[Row]:
    assert row.documents is not None
    found = False
    for document in data[_class(join.target)]:
        new = evolve(row, documents={**row.documents, join.target: document})
        if all(_meets_join(condition, new, join.target) for condition in join.on):
            found = True
            yield new
    if join.outer and not found:
        yield evolve(row, documents={**row.documents, join.target: MISSING})


def _meets_join(condition: Any, row: Env, target: Any) -> bool:
    """A condition of a join: where two fields are equal, a list on either side joins by its elements."""
    if isinstance(condition, Compare) and condition.op == "$eq":
        sides = condition.left, condition.right
        if all(isinstance(side, Field) for side in sides):
            there = [side for side in sides if _of(side, target)]
            here = [side for side in sides if not _of(side, target)]
            if len(there) == 1 and len(here) == 1:
                values = _local(here[0], row)
                return any(meets(candidates(there[0], row), "$eq", value) for value in values)
    return holds(condition, row)


def _meets_where(condition: Any, row: Row) -> bool:
    """A condition; of a statement inside another one it joins by a field of each."""
    if row.outer is not None and isinstance(condition, Compare) and condition.op == "$eq":
        sides = condition.left, condition.right
        if all(isinstance(side, Field) for side in sides):
            inner = [side for side in sides if evolve(row, outer=None).document(side._owner) is not ABSENT]
            if len(inner) == 1:
                return _meets_join(condition, row, inner[0]._owner)
    return holds(condition, row)


def _local(node: Any, row: Env) -> list[Any]:
    """What a field gives to join by: the elements of a list, or else its value; null for nothing at all."""
    value = evaluate(node, row)
    values = value if isinstance(value, list) else [value]
    return [None if value is MISSING else value for value in values] or [None]


def _of(node: Any, target: Any) -> bool:
    return bool(node._owner == target) or derives(target, node._owner)


def _groups(keys: Sequence[Expr[Any, Any]], rows: list[Row]) -> list[Row]:
    inner = [key.expr if isinstance(key, Label) else key for key in keys]
    values = [tuple(_key(key, row) for key in inner) for row in rows]
    labels = [key.name if isinstance(key, Label) else None for key in keys]
    found: list[Row] = []
    for members in grouped(values):
        first = values[members[0]]
        prints = [ABSENT if _accumulates(key, set()) else fingerprint(key) for key in keys]
        columns = [(*known, value) for *known, value in zip(labels, prints, first, strict=True)]
        whole = columns[0][1] if len(columns) == 1 else ABSENT
        found.append(Row(None, columns, [rows[position] for position in members], whole=whole))
    return found


def _key(key: Expr[Any, Any], row: Row) -> Any:
    if isinstance(key, Bucket):
        return bucket_of(evaluate(key.value, row), key.boundaries, key.default)
    return evaluate(key, row)


def _accumulates(node: Any, known: set[Any]) -> bool:
    """Whether an accumulator is in it that no group has computed yet."""
    if not isinstance(node, Expr) or isinstance(node, Window):
        return False
    if fingerprint(node) in known or (isinstance(node, (Label, Column)) and node.name in known):
        return False
    if isinstance(node, Call) and node.operator.kind == "accumulator":
        return True
    return any(_accumulates(child, known) for child in node.children())


def _distinct(entities: tuple[Any, ...], rows: list[Row], data: Data) -> list[Row]:
    found: dict[Any, Row] = {}
    for row in rows:
        values = [_selected(entity, row, data) for entity in entities]
        columns = [
            (entity.name if isinstance(entity, Label) else None, fingerprint(entity), value)
            for entity, value in zip(entities, values, strict=True)
        ]
        found.setdefault(shown(values), Row(None, columns, whole=columns[0][1] if len(columns) == 1 else ABSENT))
    return list(found.values())


def _sorted(block: Block, rows: list[Row]) -> list[Row]:
    directions = [order.direction for order in block.order_by]
    keys = [[row_sort_key(order.expr, row, order.direction) for order in block.order_by] for row in rows]

    def order(one: int, other: int) -> int:
        return compare_keys(keys[one], keys[other], directions)

    found: list[Row] = []
    place = -1
    before: int | None = None
    for position in sorted(range(len(rows)), key=cmp_to_key(order)):
        place += before is None or order(before, position) != 0
        found.append(evolve(rows[position], place=place))
        before = position
    return found


def _cut(block: Block, rows: list[Row]) -> list[Row]:
    end = len(rows) if block.limit is None else block.offset + block.limit
    for cut in (block.offset, end):
        if 0 < cut < len(rows) and rows[cut - 1].place == rows[cut].place:
            raise Ambiguous
    return rows[block.offset : end]


# What closes a block


def _unwound(step: Unwind, row: Row, data: Data) -> Iterator[Row]:
    value = _value(step.list, row, data)
    if isinstance(value, list):
        items: list[tuple[Any, Any]] = [(position, item) for position, item in enumerate(value)]
        if not items and step.keep_empty:
            items = [(None, MISSING)]
    elif value is None or value is MISSING:
        items = [(None, value)] if step.keep_empty else []
    else:
        items = [(None, value)]
    for position, item in items:
        new = _replaced(step.list, row, item)
        yield new if step.index is None else new.with_values([(step.index, None, position)])


def _replaced(node: Any, row: Row, value: Any) -> Row:
    """The row with another value in the place of a list."""
    inner = node.expr if isinstance(node, Label) else node
    if row.computed(node) is ABSENT and isinstance(inner, Field):
        assert row.documents is not None
        source = next(one for one in row.documents if one == inner._owner or derives(one, inner._owner))
        document = _with(row.documents[source], inner._path.split("."), value)
        return evolve(row, documents={**row.documents, source: document})
    label = node.name if isinstance(node, (Label, Column)) else None
    return row.with_values([(label, None if isinstance(node, Column) else fingerprint(node), value)])


def _with(document: Any, parts: list[str], value: Any) -> Any:
    key, *rest = parts
    if rest:
        return (
            {**document, key: _with(document[key], rest, value)}
            if isinstance(document, dict) and key in document
            else document
        )
    if value is MISSING:
        return (
            {name: item for name, item in document.items() if name != key} if isinstance(document, dict) else document
        )
    return {**document, key: value}


def _union(select: Select[Any, Any], rows: list[Row], entities: tuple[Any, ...], data: Data) -> list[Row]:
    """All rows under the names of the first statement's columns."""
    others, other_entities = _run(select, data, None)
    found: list[Row] = []
    for row, selected in [*((row, entities) for row in rows), *((row, other_entities) for row in others)]:
        values = [_selected(entity, row, data) for entity in selected]
        if not isinstance(entities[0], Expr):
            found.append(Row({entities[0]: next(iter(row.documents.values()))} if row.documents else None))
            continue
        columns = [
            (entity.name if isinstance(entity, Label) else None, fingerprint(entity), value)
            for entity, value in zip(entities, values, strict=True)
        ]
        found.append(Row({}, columns))
    return found


# The select list


def _selected(entity: Any, row: Row, data: Data) -> Any:
    """The value of a column; whole documents stand for themselves as a `Whole`."""
    if not isinstance(entity, Expr):
        document = row.document(entity)
        return None if document is MISSING else ("whole", document["_id"])
    value = _value(entity, row, data)
    return None if value is MISSING else value


def _value(node: Any, row: Row, data: Data) -> Any:
    inner = node.expr if isinstance(node, Label) else node
    if isinstance(inner, ListOf) and row.computed(node) is ABSENT:
        return _list(inner.select, data, row, None)
    return evaluate(node, row)


def _list(select: Select[Any, Any], data: Data, outer: Row | None, start: list[Row] | None) -> list[Any]:
    """The rows of a select as a list: of single columns the values."""
    rows, entities = _run(select, data, outer, start)
    found = [tuple(_selected(entity, row, data) for entity in entities) for row in rows]
    return [row[0] for row in found] if len(entities) == 1 else [list(row) for row in found]


def _labelled(entities: tuple[Any, ...], row: Row, data: Data) -> Iterator[tuple[str | None, Any, Any]]:
    for entity in entities:
        if isinstance(entity, Label) and row.computed(entity) is ABSENT:
            yield entity.name, None, _value(entity, row, data)


def _class(source: Any) -> type:
    return class_of(source)
