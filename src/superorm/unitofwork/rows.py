# pyright: reportPrivateUsage=false
"""Found documents to rows of what was selected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any, TypeAlias, cast

from attrs import evolve, frozen
from bson import Decimal128, Int64

from superorm.compile.compiler import CompiledSelect
from superorm.compile.output import Output
from superorm.expr.kinds import is_call, is_case, is_expr, is_field, is_label, is_window
from superorm.expr.narrow import is_dict, is_list
from superorm.expr.nodes import Field
from superorm.schema.fields import MISSING
from superorm.schema.mapping import ClassMap, MappedField
from superorm.schema.state import mismatch
from superorm.schema.types.base import Misfit
from superorm.unitofwork.result import Row, row_class

__all__ = ["Load", "rows_of"]

Load: TypeAlias = Callable[[ClassMap, Sequence[dict[str, Any]], "frozenset[str] | None"], list[Any]]
"""Gives the objects of whole documents, or of those with some attributes only."""
Documents: TypeAlias = Sequence[dict[str, Any]]

_KEEP = frozenset({"min", "max", "first", "last", "shift", "locf", "top", "bottom"})
"""The operators whose value is of their first argument's type."""
_LISTS = frozenset({"push", "add_to_set", "first_n", "last_n", "max_n", "min_n", "top_n", "bottom_n"})
"""Those that give a list of values of their last argument's type."""
_ITEMS = frozenset({"array_elem_at", "array_first", "array_last"})
"""Those that give an item of their first argument."""
_CHOICES = {"if_null": 0, "cond": 1}
"""Those that give one of their arguments, and where these begin."""


def rows_of(compiled: CompiledSelect, found: Documents, scores: Sequence[float] | None, load: Load) -> list[Row]:
    """One row for each document.

    Raises `ValidationError` naming document, field and value where a stored value does not fit.
    """
    kind = row_class([output.name for output in compiled.outputs])
    if not found and compiled.default_row is not None:
        return [kind(compiled.default_row)]
    return _rows(kind, compiled.mapping, compiled.outputs, found, scores, load)


def _rows(
    kind: type[Row],
    mapping: ClassMap,
    outputs: tuple[Output, ...],
    found: Documents,
    scores: Sequence[float] | None,
    load: Load,
) -> list[Row]:
    columns = [_column(mapping, output, found, scores, load) for output in outputs]
    return [kind(values) for values in zip(*columns, strict=True)]


def _column(
    mapping: ClassMap, output: Output, found: Documents, scores: Sequence[float] | None, load: Load
) -> Sequence[Any]:
    if output.kind == "score":
        return scores or ()
    if output.kind == "document":
        return _documents(output, found, load)
    if output.kind == "rows":
        return _lists(mapping, output, found, load)
    if output.stored and isinstance(output.entity, Field):
        return _stored(mapping, output, found)
    read = _reader(output)
    try:
        return [read(_at(document, output.path)) for document in found]
    except Misfit as misfit:
        raise mismatch(mapping, None, misfit.within(output.name)) from None


def _documents(output: Output, found: Documents, load: Load) -> Sequence[Any]:
    """The objects of whole documents; None where an outer join found none."""
    assert output.mapping is not None
    if not output.path:
        if output.only is not None:  # what stands beside it for other columns is not loaded
            kept = output.mapping.stored_for(output.only)
            found = [{key: document[key] for key in kept if key in document} for document in found]
        elif output.extra:
            found = [{key: document[key] for key in document if key not in output.extra} for document in found]
        return load(output.mapping, found, output.only)
    there = [_at(document, output.path) for document in found]
    loaded = iter(load(output.mapping, [document for document in there if document is not None], None))
    return [None if document is None else next(loaded) for document in there]


def _lists(mapping: ClassMap, output: Output, found: Documents, load: Load) -> list[Any]:
    """Lists of rows, or of the values of their only column; of lists that were unwound an item of each."""
    there = [_at(document, output.path) for document in found]
    lists: list[list[dict[str, Any]]] = [[one] if is_dict(one) else one or [] for one in there]
    together = [document for documents in lists for document in documents]
    inner = output.outputs[0].mapping or mapping
    if len(output.outputs) == 1:
        values: Sequence[Any] = _column(inner, output.outputs[0], together, None, load)
        nothing: Any = output.outputs[0].nothing
    else:
        kind = row_class([one.name for one in output.outputs])
        values = _rows(kind, inner, output.outputs, together, None, load)
        nothing = kind([one.nothing for one in output.outputs])
    rest = iter(values)
    if output.unwound:
        return [next(rest) if documents else None for documents in lists]
    empty = [] if output.outputs[0].nothing is MISSING else [nothing]
    return [[next(rest) for _ in documents] or [*empty] for documents in lists]


def _at(document: Any, path: Sequence[str]) -> Any:
    """The value at a path; None where there is none, a list of values where it goes through a list."""
    for position, key in enumerate(path):
        if is_list(document):
            return [_at(item, path[position:]) for item in document]
        if not is_dict(document):
            return None
        document = document.get(key)
    return document


def _stored(mapping: ClassMap, output: Output, found: Documents) -> list[Any]:
    """The values of a field as they stand in documents, or of a part of an embedded one.

    Where its key is missing it is the field's default, and None where there is no embedded document.
    """
    field: Field[Any, Any] = output.entity
    depth = len([part for part in field._parts if part.stored is not None])
    holder, keys = output.path[:-depth], output.path[-depth:]  # the former of a joined document
    part: Any = field._parts[-1]
    kind = _Kind(part, _keeps(field))
    read = _reads((_item_of(kind) or kind) if output.unwound else kind)

    def one(value: Any) -> Any:
        if output.unwound and (value is MISSING or value is None):
            return None
        if value is not MISSING:
            return read(value)
        try:
            return part.missing()[0]
        except Misfit:
            if _keeps(field):
                return None
            raise

    values: list[Any] = []
    for document in found:
        value = _at(document, holder)
        try:
            values.append(None if value is None else _inside(value, keys, one))
        except Misfit as misfit:
            raise mismatch(mapping, document.get("_id"), misfit.within(".".join(output.path))) from None
    return values


def _inside(value: Any, keys: Sequence[str], read: Callable[[Any], Any]) -> Any:
    """What `read` makes of the value at a path, or of each of them where it goes through a list."""
    for position, key in enumerate(keys):
        if is_list(value):
            return [_inside(item, keys[position:], read) for item in value]
        if not is_dict(value):
            return None
        value = value.get(key, MISSING)
    return read(value)


def _reader(output: Output) -> Callable[[Any], Any]:
    kind = _kind_of(output.entity)
    if kind is not None and output.unwound:
        kind = _item_of(kind)
    if kind is None:
        return _natural
    read = _reads(kind)

    def one(value: Any) -> Any:
        return None if value is None else read(value)

    def many(value: Any) -> Any:
        return None if value is None else [one(item) for item in value]

    return many if kind.many else one


@frozen
class _Kind:
    """Of what type a value is."""

    part: Any
    """The declared field, or the part of one, whose type it is."""
    keeps: bool
    """Whether values of a wrong type are kept."""
    many: bool = False
    """Whether there is a list of such."""
    through: bool = False
    """Whether its path leads through a list, so that there may be a list of such."""


def _kind_of(entity: Any) -> _Kind | None:
    """The type of a computed value, where that is a field's."""
    if is_label(entity):
        return _kind_of(entity.expr)
    if is_window(entity):
        return _kind_of(entity.call)
    if is_field(entity):
        through = any(list in above.type.reads for above in cast("tuple[Any, ...]", entity._parts[:-1]))
        return _Kind(entity._parts[-1], _keeps(entity), through=through) if entity._parts else None
    if is_case(entity):
        return _common([*(value for _, value in entity.whens), entity.else_])
    if not is_call(entity) or not entity.args:
        return None
    name = entity.operator.name
    if name in _CHOICES:
        return _common(entity.args[_CHOICES[name] :])
    if name not in _KEEP | _LISTS | _ITEMS:
        return None
    kind = _kind_of(entity.args[-1 if name in _LISTS else 0])
    if kind is None or name in _KEEP:
        return kind
    if name in _ITEMS:
        return _item_of(kind)
    return None if kind.many else evolve(kind, many=True)


def _item_of(kind: _Kind) -> _Kind | None:
    """The type of the items of a list."""
    if kind.many:
        return evolve(kind, many=False)
    if kind.part.stored is None:  # it is one
        return kind
    return evolve(kind, part=kind.part.element(None)) if kind.part.is_list else None


def _common(values: Sequence[Any]) -> _Kind | None:
    """The type of values all of which are of one type, null aside."""
    kinds = [_kind_of(value) for value in values if is_expr(value)]
    first = kinds[0] if kinds else None
    if first is None or any(kind is None or _name_of(kind) != _name_of(first) for kind in kinds):
        return None
    try:
        for value in values:
            if not is_expr(value) and value is not None:
                first.part.type.from_bson(value)
    except Misfit:
        return None
    return first


def _name_of(kind: _Kind) -> tuple[str, bool]:
    return cast("str", kind.part.type.name).removesuffix(" | None"), kind.many


def _reads(kind: _Kind) -> Callable[[Any], Any]:
    """What reads a value of the type; where wrong ones are kept, a copy of such."""
    from_bson: Callable[[Any], Any] = kind.part.type.from_bson
    if not kind.keeps:
        return _each(from_bson) if kind.through else from_bson

    def read(value: Any) -> Any:
        try:
            return from_bson(value)
        except Misfit:
            return deepcopy(value)

    return read


def _each(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """What reads a value, or a list of such where a path led through a list."""

    def one(value: Any) -> Any:
        try:
            return read(value)
        except Misfit:
            if not is_list(value):
                raise
            return [None if item is None else one(item) for item in value]

    return one


def _keeps(field: Field[Any, Any]) -> bool:
    """Whether the field, or one that it is a part of, is of a class with ``__on_mismatch__ = "keep"``."""
    return any(isinstance(part, MappedField) and part.keep for part in field._parts)


def _natural(value: Any) -> Any:
    """A value as the server computed it, in Python's own types."""
    if isinstance(value, Decimal128):
        return value.to_decimal()
    if isinstance(value, Int64):
        return int(value)
    if is_dict(value):
        return {key: _natural(item) for key, item in value.items()}
    return [_natural(item) for item in value] if is_list(value) else value
