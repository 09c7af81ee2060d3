"""Nodes of stored statements built again, by the functions and methods that users build them with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import attrs
import numpy as np
from attrs import asdict, evolve

from superorm.exc import StatementError, SuperormError
from superorm.expr import nodes, options, relations, rows, stages, statements
from superorm.expr.base import Compare, CompareOp
from superorm.expr.calls import checked_call
from superorm.expr.functions import func
from superorm.expr.kinds import is_call
from superorm.expr.literals import literal
from superorm.expr.operators import COUNT, LET, LITERAL, OBJECT, OPERATORS
from superorm.expr.outputs import OutputOf, outputs
from superorm.expr.reprs import typed_repr
from superorm.expr.sources import class_of
from superorm.expr.stored_kinds import FLAG, LITERALS, OPERAND, ORDER, VARIABLE, Kind, either, kind_of, many, one_of
from superorm.expr.stored_values import Refusal
from superorm.expr.typed import types
from superorm.expr.value_types import ValueType, annotation_of
from superorm.expr.values import checked_name

__all__ = [
    "CLOSERS",
    "OPTIONS",
    "RIGHT",
    "build_block",
    "build_bucket",
    "build_call",
    "build_case",
    "build_compare",
    "build_elem_match",
    "build_field",
    "build_label",
    "build_list",
    "build_load",
    "build_load_only",
    "build_matches",
    "build_order",
    "build_output_of",
    "build_related",
    "build_select",
    "build_window",
    "read_query",
]

RIGHT: dict[str, Kind] = {
    **dict.fromkeys(("$eq", "$ne", "$gt", "$gte", "$lt", "$lte"), OPERAND),
    **dict.fromkeys(("$in", "$nin", "$all"), LITERALS),
    "$exists": one_of(True),
    "$elemMatch": kind_of("{'$eq': value}", lambda value: type(value) is dict and [*value] == ["$eq"]),
}
"""What may stand on the right of a comparison."""


def _is_sorting(value: Any) -> bool:
    if type(value) is not dict:
        return type(value) is int and value in (1, -1)
    keys = cast("dict[str, Any]", value)
    plain = all(key and key[0] != "$" for key in keys)
    return plain and bool(keys) and all(type(way) is int and way in (1, -1) for way in keys.values())


OPTIONS: dict[str, Kind] = {
    "as": VARIABLE,
    "sortBy": either(many(ORDER, 1), kind_of("1, -1, or keys with these", _is_sorting)),
    "useLongestLength": FLAG,
    "defaults": LITERALS,
}
"""What may stand for arguments that are no expressions."""


def build_field(owner: Any, steps: Any) -> Any:
    """Only names of declared fields are looked up, as other attributes of a class may be anything."""
    cls = class_of(owner)
    if isinstance(cls, type):
        declared: Any = vars(cls).get("__superorm_declared__", ())
        if "__superorm__" not in vars(cls) and "__superorm_declared__" not in vars(cls):
            raise Refusal(f"{cls.__name__} has no fields")
        names = {part.name for part in attrs.fields(cast("Any", cls))} if attrs.has(cls) else declared
        if not steps or steps[0][0] != "field" or steps[0][1] not in names:
            raise Refusal(f"{cls.__name__} has no such field: {steps!r:.60}")
    return nodes.field_at(owner, steps)


def build_compare(left: Any, op: str, right: Any) -> Any:
    try:
        RIGHT[op](right)
    except Refusal as refusal:
        raise refusal.within("right") from None
    if op in ("$all", "$exists", "$elemMatch") and not isinstance(left, nodes.Field):
        raise Refusal(f"{op} needs a field, not {typed_repr(left)}")
    return Compare[Any](cast("Any", left), cast("CompareOp", op), right)


def build_call(operator: str, args: Any, options: Any = (), annotation: ValueType | None = None) -> Any:
    known = OPERATORS[operator]
    named = dict(options)
    if len(named) < len(options):
        raise Refusal(f"func.{operator} has an argument twice").within("options")
    if any(isinstance(value, type) for value in args) and known is not COUNT:
        raise Refusal("only func.count() takes a class").within("args")
    if known is OBJECT:
        for name in named:
            checked_name(name)
    if known is LET and not (args and is_call(args[0]) and args[0].operator is OBJECT):
        raise Refusal("variables are a func.object()").within("args")
    for name, value in options:
        try:
            if known is not OBJECT:
                OPTIONS.get(name, OPERAND)(value)
        except Refusal as refusal:
            raise refusal.within(name).within("options") from None
    call = checked_call(known, args, named)
    if annotation is None:
        return call
    if known is not LITERAL:
        raise Refusal("only of a literal the type is told").within("annotation")
    python = annotation_of(annotation)
    return call if python is None else types().remembering(args[0], python)


def build_bucket(
    value: Any, boundaries: Any = (), default: Any = None, buckets: int | None = None, granularity: str | None = None
) -> Any:
    if buckets is not None:
        return func.bucket_auto(value, buckets=buckets, granularity=granularity)
    return func.bucket(value, boundaries=boundaries, default=default)


def build_order(expr: Any, direction: int) -> Any:
    return expr.asc() if direction == 1 else expr.desc()


def build_window(call: Any, partition_by: Any, order_by: Any, frame: str | None, bounds: Any, unit: Any) -> Any:
    given = {} if frame is None else {frame: bounds}
    return rows.window(call, partition_by=partition_by, order_by=order_by, unit=unit, **given)


_any_select: Callable[..., Any] = statements.Select


def build_block(
    joins: Any = (),
    where: Any = (),
    group_by: Any = (),
    having: Any = (),
    distinct: bool = False,
    order_by: Any = (),
    offset: int = 0,
    limit: int | None = None,
) -> Any:
    select = _any_select(None, ())
    for join in joins:
        select = select.join(join.target, *join.on, outer=join.outer)
    select = select.where(*where).group_by(*group_by).having(*having).order_by(*order_by).offset(offset)
    select = select.distinct() if distinct else select
    return (select if limit is None else select.limit(limit))._block


def _names(facets: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    names = dict(facets)
    if len(names) < len(facets) or "self" in names:
        raise StatementError("facets need names of their own")
    return names


CLOSERS: dict[type, Callable[[Any, Any], Any]] = {
    stages.Like: lambda select, step: select.like(
        step.query,
        step.on,
        k=step.k,
        exact=step.exact,
        num_candidates=step.num_candidates,
        min_score=step.min_score,
    ),
    stages.Unwind: lambda select, step: select.unwind(step.list, keep_empty=step.keep_empty, index=step.index),
    stages.Sample: lambda select, step: select.sample(step.size),
    stages.Facet: lambda select, step: select.facet(**_names(step.facets)),
    stages.UnionAll: lambda select, step: select.columns(*step.select._entities).union_all(step.select),
    stages.Raw: lambda select, step: select.stage(step.stage),
    stages.Then: lambda select, step: select.columns(*step.entities).then(*(step.entities if step.selects else ())),
}


def build_select(root: Any, entities: Any, steps: Any, options: Any = ()) -> Any:
    """Each step is taken again by its method, so that it is checked as when it was written."""
    if not all(isinstance(step, stages.Block) == (n % 2 == 0) for n, step in enumerate(steps)) or len(steps) % 2 == 0:
        raise Refusal("expected blocks, with one other step between each two").within("steps")
    closed: tuple[Any, ...] = ()
    for position, (block, step) in enumerate(zip(steps[::2], steps[1::2], strict=False)):
        try:
            closing = CLOSERS[type(step)](_ending_with(block, root, entities, closed), step)
            closed = closing._closed[: 2 * position + 2]  # what a method adds of itself is among the steps
        except SuperormError as error:
            raise Refusal(str(error)).within(2 * position + 1).within("steps") from None
    statements.select(*entities)
    return _ending_with(steps[-1], root, entities, closed).options(*options)


def _ending_with(block: stages.Block, root: Any, entities: Any, closed: tuple[Any, ...]) -> Any:
    return _any_select(root, entities, closed, (), **asdict(block, recurse=False))


def build_case(whens: Any, else_: Any) -> Any:
    return nodes.case(*whens, else_=else_)


def build_label(expr: Any, name: str) -> Any:
    return expr.label(name)


def build_matches(left: Any, pattern: str, options: str = "", method: str = "") -> Any:
    return evolve(left.regex(pattern, ignore_case=options == "i"), method=method)


def build_elem_match(left: Any, items: Any) -> Any:
    return left.any_(*items)


def build_list(select: Any) -> Any:
    return select.as_list()


def build_load_only(fields: Any) -> Any:
    return options.load_only(*fields)


def build_undefer(fields: Any) -> Any:
    return options.undefer(*fields)


def build_related(cls: Any, name: str) -> Any:
    """Only names of declared relationships are looked up."""
    if name not in getattr(cls, "__superorm_relationships__", ()):
        raise Refusal(f"{cls.__name__} has no such relationship: {name!r:.60}")
    return getattr(cls, name)


def build_output_of(name: str, of: Any = None, keys: Sequence[str] = ()) -> OutputOf[Any, Any]:
    """An output of a listener, or a part of it. Raises `StatementError`."""
    found: OutputOf[Any, Any] = outputs(name) if of is None else outputs(name, of)
    for key in keys:
        found = found[key]
    return found


def build_load(hops: Any) -> Any:
    (strategy, first), *rest = hops
    load = relations.joinedload(first) if strategy == "joined" else relations.selectinload(first)
    for strategy, relation in rest:
        load = load.joinedload(relation) if strategy == "joined" else load.selectinload(relation)
    return load


def read_query(step: stages.Like) -> Any:
    query = step.query
    if hasattr(query, "__superorm__"):
        raise StatementError("a document as the query of like() cannot be stored; give its vector")
    return np.asarray(query) if hasattr(query, "__array__") else literal(query)
