# pyright: reportPrivateUsage=false
"""Found documents to rows of what was selected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from bson import Decimal128, Int64

from superorm.codec.outputs import output_of
from superorm.compile.compiler import CompiledSelect
from superorm.compile.output import Output
from superorm.expr.narrow import is_dict, is_list
from superorm.expr.nodes import Field
from superorm.schema.fields import MISSING
from superorm.schema.mapping import ClassMap, MappedField
from superorm.schema.members import class_of, first_part, is_by_class, part_in, stepped
from superorm.schema.state import mismatch
from superorm.schema.types.base import Misfit
from superorm.schema.types.computed import KeptType
from superorm.schema.types.containers import AnyType
from superorm.unitofwork.result import Row, row_class

__all__ = ["Load", "rows_of"]

Load: TypeAlias = Callable[[ClassMap, Sequence[dict[str, Any]], "frozenset[str] | None"], list[Any]]
"""Gives the objects of whole documents, or of those with some attributes only."""
Documents: TypeAlias = Sequence[dict[str, Any]]


def rows_of(compiled: CompiledSelect, found: Documents, scores: Sequence[float] | None, load: Load) -> list[Row]:
    """One row for each document.

    Raises `ValidationError` naming document, field and value where a stored value does not fit.
    """
    kind = row_class([output.name for output in compiled.outputs])
    if not found and compiled.default_row is not None:
        return [kind([_reader(one)(value) for one, value in zip(compiled.outputs, compiled.default_row, strict=True)])]
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
    if output.kind == "output":
        stored = [_at(document, output.path) for document in found]
        return [None if one is None else output_of(one) for one in stored]
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

    Where its key is missing it is the field's default,
    and None where there is no embedded document, or one of a class without the field.
    """
    field: Field[Any, Any] = output.entity
    depth = len([part for part in field._parts if part.stored is not None])
    holder, keys = output.path[:-depth], output.path[-depth:]  # the former of a joined document
    last: Any = field._parts[-1]
    by_class = is_by_class(field)
    readers: dict[int, Callable[[Any], Any]] = {}
    one = _part_reader(output, last, keeps=_keeps(field._parts))
    if by_class:
        keys = keys[:1]
    values: list[Any] = []
    for document in found:
        value = _at(document, holder)
        if by_class:
            first = first_part(field, value)
            one = readers.get(id(first)) or readers.setdefault(id(first), _below(output, field._parts, 1, first))
        try:
            values.append(None if value is None else _inside(value, keys, one))
        except Misfit as misfit:
            raise mismatch(mapping, document.get("_id"), misfit.within(".".join(output.path))) from None
    return values


def _part_reader(output: Output, part: Any, *, keeps: bool) -> Callable[[Any], Any]:
    """Reads what stands under the key of a part, or `MISSING`."""
    kind = output.kind_of(KeptType(part.type) if keeps else part.type) or AnyType()
    read = kind.from_bson

    def one(value: Any) -> Any:
        if output.unwound and (value is MISSING or value is None):
            return None
        if value is not MISSING:
            return read(value)
        try:
            return part.missing()[0]
        except Misfit:
            if keeps:
                return None
            raise

    return one


def _below(output: Output, parts: Sequence[Any], position: int, *way: Any) -> Callable[[Any], Any]:
    """Reads what the parts from a position on lead to, as the class of each document on the way declares it.

    `way` are the parts before it, as the classes have them. It reads from the value of the last of these, or `MISSING`.
    """
    if position == len(parts):
        return _part_reader(output, way[-1], keeps=_keeps(way))
    holder, part = way[-1], parts[position]
    if part.stored is None:  # of an unwound list the item stands in its place
        return _below(output, parts, position + 1, *way, stepped(holder, part))
    known: dict[Any, Callable[[Any], Any]] = {}

    def of_class(mapping: ClassMap | None) -> Callable[[Any], Any]:
        if not isinstance(part, MappedField):
            return _below(output, parts, position + 1, *way, stepped(holder, part))
        own = None if mapping is None else part_in(mapping, part.stored)
        read = _below(output, parts, position + 1, *way, own or part)
        absent = mapping is not None and own is None
        return (lambda value: None if value is MISSING else read(value)) if absent else read

    def one(value: Any, in_list: bool = False) -> Any:
        if is_list(value):
            return [one(item, True) for item in value]
        if not is_dict(value):
            return None
        mapping = class_of(holder, value, in_list=in_list) if isinstance(part, MappedField) else None
        if mapping not in known:
            known[mapping] = of_class(mapping)
        return known[mapping](value.get(part.stored, MISSING))

    return one


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
    (kind,) = output.types
    if kind is None:
        return _natural
    read = kind.from_bson
    return lambda value: None if value is None else read(value)


def _keeps(parts: Sequence[Any]) -> bool:
    """Whether the last part, or one that it is a part of, is of a class with ``__on_mismatch__ = "keep"``."""
    return any(isinstance(part, MappedField) and part.keep for part in parts)


def _natural(value: Any) -> Any:
    """A value as the server computed it, in Python's own types."""
    if isinstance(value, Decimal128):
        return value.to_decimal()
    if isinstance(value, Int64):
        return int(value)
    if is_dict(value):
        return {key: _natural(item) for key, item in value.items()}
    return [_natural(item) for item in value] if is_list(value) else value
