"""The nodes of stored statements."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

import attrs
from attrs import frozen

from superorm.expr import nodes, options, outputs, relations, rows, sources, stages, statements, stored_writes, writes
from superorm.expr import stored_builders as builders
from superorm.expr import stored_kinds as kinds
from superorm.expr.assignments import Assignment
from superorm.expr.base import Call, Compare, ElemMatch, Label, Logical, Matches, Order
from superorm.expr.literals import literal
from superorm.expr.operators import OPERATORS
from superorm.expr.value_types import ANNOTATIONS, ValueType, described

__all__ = ["FORMS", "Form"]

_DEFAULTS = (None, False, 0, "", ())
"""The defaults that are left out of what is stored."""


@frozen
class Form:
    """How a class of nodes is stored."""

    cls: type
    fields: Mapping[str, kinds.Kind]
    """What its arguments may be."""
    build: Callable[..., Any]
    """From the arguments, checked already. Raises `StatementError`, `Refusal`."""
    read: Mapping[str, Callable[[Any], Any]]
    """From a node to its arguments."""
    defaults: Mapping[str, Any]

    def arguments(self, node: Any) -> dict[str, Any]:
        """What the node was made of, without what it is by default."""
        values = {name: self.read[name](node) for name in self.fields}
        return {name: value for name, value in values.items() if not self._is_default(name, value)}

    def _is_default(self, name: str, value: Any) -> bool:
        return name in self.defaults and type(value) is type(self.defaults[name]) and value == self.defaults[name]


def _form(
    cls: type, fields: Mapping[str, kinds.Kind], build: Callable[..., Any] | None = None, **read: Callable[[Any], Any]
) -> Form:
    """`read` is for arguments that are not attributes of the node as they are."""
    attributes = {attribute.alias: attribute for attribute in attrs.fields(cls)}
    return Form(
        cls,
        fields,
        build or cls,
        {name: read[name] if name in read else attrgetter(attributes[name].name) for name in fields},
        {name: attribute.default for name, attribute in attributes.items() if attribute.default in _DEFAULTS},
    )


FORMS: dict[str, Form] = {
    form.cls.__name__: form
    for form in [
        _form(sources.Alias, {"cls": kinds.DOCUMENT, "name": kinds.TEXT}, sources.aliased),
        _form(sources.Variable, {"name": kinds.VARIABLE, "list": kinds.OPERAND}),
        _form(
            nodes.Field,
            {"owner": kinds.SOURCE, "steps": kinds.many(kinds.STEP)},
            builders.build_field,
            steps=lambda field: tuple(part.step for part in field._parts),
        ),
        _form(nodes.Column, {"name": kinds.TEXT}, nodes.column),
        _form(nodes.Score, {}),
        _form(
            nodes.Case,
            {"whens": kinds.many(kinds.pair(kinds.PREDICATE, kinds.OPERAND), 1), "else_": kinds.OPERAND},
            builders.build_case,
        ),
        _form(Label, {"expr": kinds.EXPR, "name": kinds.TEXT}, builders.build_label),
        _form(
            Compare,
            {"left": kinds.EXPR, "op": kinds.one_of(*builders.RIGHT), "right": kinds.anything},
            builders.build_compare,
        ),
        _form(
            Matches,
            {
                "left": kinds.EXPR,
                "pattern": kinds.TEXT,
                "options": kinds.one_of("", "i"),
                "method": kinds.one_of("", "startswith", "endswith", "contains"),
            },
            builders.build_matches,
        ),
        _form(Logical, {"op": kinds.one_of("$and", "$or", "$nor"), "items": kinds.many(kinds.PREDICATE, 1)}),
        _form(ElemMatch, {"left": kinds.FIELD, "items": kinds.many(kinds.PREDICATE, 1)}, builders.build_elem_match),
        _form(Order, {"expr": kinds.EXPR, "direction": kinds.one_of(1, -1)}, builders.build_order),
        _form(
            Call,
            {
                "operator": kinds.one_of(*OPERATORS),
                "args": kinds.many(kinds.either(kinds.OPERAND, kinds.DOCUMENT)),
                "options": kinds.many(kinds.pair(kinds.TEXT, kinds.either(kinds.OPERAND, kinds.many(kinds.ORDER, 1)))),
                "annotation": kinds.maybe(kinds.of(ValueType)),
            },
            builders.build_call,
            operator=lambda call: call.operator.name,
            annotation=lambda call: None if call.annotation is None else described(call.annotation),
        ),
        _form(
            ValueType,
            {
                "name": kinds.one_of(*ANNOTATIONS),
                "cls": kinds.maybe(kinds.CLASS),
                "items": kinds.many(kinds.of(ValueType)),
            },
        ),
        _form(
            rows.Window,
            {
                "call": kinds.EXPR,
                "partition_by": kinds.many(kinds.EXPR),
                "order_by": kinds.many(kinds.ORDER),
                "frame": kinds.one_of("documents", "range", None),
                "bounds": kinds.many(kinds.LITERAL),
                "unit": kinds.maybe(kinds.TEXT),
            },
            builders.build_window,
        ),
        _form(
            rows.Bucket,
            {
                "value": kinds.EXPR,
                "boundaries": kinds.many(kinds.LITERAL),
                "default": kinds.LITERAL,
                "buckets": kinds.maybe(kinds.WHOLE),
                "granularity": kinds.maybe(kinds.TEXT),
            },
            builders.build_bucket,
        ),
        _form(rows.ListOf, {"select": kinds.SELECT}, builders.build_list),
        _form(
            rows.GraphLookup,
            {
                "target": kinds.DOCUMENT,
                "start_with": kinds.OPERAND,
                "connect_from": kinds.FIELD,
                "connect_to": kinds.FIELD,
                "max_depth": kinds.maybe(kinds.WHOLE),
                "depth_field": kinds.maybe(kinds.TEXT),
                "where": kinds.many(kinds.PREDICATE),
            },
            rows.graph_lookup,
        ),
        _form(
            outputs.OutputOf,
            {"name": kinds.TEXT, "of": kinds.maybe(kinds.DOCUMENT), "keys": kinds.many(kinds.TEXT)},
            builders.build_output_of,
        ),
        _form(
            Assignment,
            {
                "field": kinds.FIELD,
                "op": kinds.one_of(*stored_writes.CHANGES),
                "value": kinds.anything,
                "position": kinds.maybe(kinds.WHOLE),
            },
            stored_writes.build_assignment,
        ),
        _form(stages.Join, {"target": kinds.DOCUMENT, "on": kinds.many(kinds.PREDICATE, 1), "outer": kinds.FLAG}),
        _form(
            stages.Block,
            {
                "joins": kinds.many(kinds.of(stages.Join)),
                "where": kinds.many(kinds.PREDICATE),
                "group_by": kinds.many(kinds.EXPR),
                "having": kinds.many(kinds.PREDICATE),
                "distinct": kinds.FLAG,
                "order_by": kinds.many(kinds.ORDER),
                "offset": kinds.WHOLE,
                "limit": kinds.maybe(kinds.WHOLE),
            },
            builders.build_block,
        ),
        _form(
            stages.Like,
            {
                "query": kinds.QUERY,
                "on": kinds.maybe(kinds.either(kinds.FIELD, kinds.TEXT)),
                "k": kinds.WHOLE,
                "exact": kinds.FLAG,
                "num_candidates": kinds.maybe(kinds.WHOLE),
                "min_score": kinds.maybe(kinds.NUMBER),
            },
            query=builders.read_query,
        ),
        _form(stages.Unwind, {"list": kinds.EXPR, "keep_empty": kinds.FLAG, "index": kinds.maybe(kinds.TEXT)}),
        _form(stages.Sample, {"size": kinds.WHOLE}),
        _form(stages.Facet, {"facets": kinds.many(kinds.pair(kinds.TEXT, kinds.SELECT), 1)}),
        _form(stages.UnionAll, {"select": kinds.SELECT}),
        _form(stages.Raw, {"stage": kinds.LITERAL}, stage=lambda raw: literal(raw.stage)),
        _form(stages.Then, {"entities": kinds.many(kinds.ENTITY, 1), "selects": kinds.FLAG}),
        _form(options.LoadOnly, {"fields": kinds.many(kinds.FIELD, 1)}, builders.build_load_only),
        _form(options.Undefer, {"fields": kinds.many(kinds.FIELD, 1)}, builders.build_undefer),
        Form(
            relations.Related,
            {"cls": kinds.CLASS, "name": kinds.TEXT},
            builders.build_related,
            {"cls": attrgetter("cls"), "name": attrgetter("part.attribute")},
            {},
        ),
        _form(
            relations.Load,
            {"hops": kinds.many(kinds.pair(kinds.one_of("selectin", "joined"), kinds.of(relations.Related)), 1)},
            builders.build_load,
        ),
        _form(
            statements.Select,
            {
                "root": kinds.maybe(kinds.DOCUMENT),
                "entities": kinds.many(kinds.ENTITY, 1),
                "steps": kinds.many(kinds.of(*builders.CLOSERS, stages.Block), 1),
                "options": kinds.many(kinds.of(options.LoadOnly, relations.Load, options.Undefer)),
            },
            builders.build_select,
            steps=attrgetter("_steps"),
        ),
        _form(
            writes.MergeInto,
            {
                "select": kinds.SELECT,
                "target": kinds.either(kinds.TEXT, kinds.DOCUMENT),
                "on": kinds.many(kinds.TEXT, 1),
                "when_matched": kinds.TEXT,
                "when_not_matched": kinds.TEXT,
            },
            writes.MergeInto.of,
        ),
        _form(
            writes.Insert,
            {
                "root": kinds.DOCUMENT,
                "rows": kinds.many(kinds.DICT),
                "upserts": kinds.FLAG,
                "by": kinds.many(kinds.FIELD),
            },
            stored_writes.build_insert,
            rows=stored_writes.read_rows,
        ),
        _form(
            writes.Update,
            {
                "root": kinds.DOCUMENT,
                "where": kinds.many(kinds.PREDICATE),
                "assignments": kinds.many(kinds.of(Assignment)),
                "all": kinds.FLAG,
                "upserts": kinds.FLAG,
            },
            stored_writes.build_update,
        ),
        _form(
            writes.Delete,
            {"root": kinds.DOCUMENT, "where": kinds.many(kinds.PREDICATE), "all": kinds.FLAG},
            stored_writes.build_delete,
        ),
        _form(
            writes.Returning,
            {
                "statement": kinds.of(writes.Insert, writes.Update, writes.Delete),
                "entities": kinds.many(kinds.ENTITY, 1),
            },
            stored_writes.build_returning,
        ),
    ]
}
"""By the names of the classes; a statement or expression is stored once its class stands here."""
