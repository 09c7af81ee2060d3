# pyright: reportPrivateUsage=false
"""Rows that are merged into a class: under which keys they are written, and what they must not be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from superorm.compile.output import Output
from superorm.compile.sets import as_set, is_set
from superorm.compile.state import mapping_of
from superorm.exc import StatementError
from superorm.expr.kinds import inside, is_field
from superorm.expr.stages import UnionAll
from superorm.expr.statements import Select
from superorm.schema.expression_types import type_of
from superorm.schema.fields import VectorFieldSpec
from superorm.schema.mapping import ClassMap
from superorm.schema.types.base import BsonType
from superorm.schema.types.computed import item_of, surely_differ
from superorm.schema.types.containers import AnyType, ListType

__all__ = ["check_rows", "finds_own", "sets_in", "stored_key"]

_LIST = ListType(list, AnyType())


def stored_key(mapping: ClassMap | None, name: str) -> str:
    """The stored path for a name: a class knows its fields by their attributes, too."""
    head, dot, rest = name.partition(".")
    part = None if mapping is None or head in mapping.stored_names else mapping.by_attribute.get(head)
    return name if part is None else f"{part.stored}{dot}{rest}"


def check_rows(mapping: ClassMap, outputs: Sequence[Output], *, makes: bool) -> None:
    """Raise `StatementError` for rows that no document of the class can hold, or that it could not be read with.

    `makes` tells whether a row may come to be a document of its own.
    """
    where = f"merge_into({mapping.name})"
    given = dict(_kinds(outputs))
    own = outputs[0].kind == "document" and issubclass(cast("ClassMap", outputs[0].mapping).cls, mapping.cls)
    parts = {part.stored: part for part in mapping.fields}
    for name, kind in given.items():
        part = parts.get(name)
        if part is not None and kind is not None and surely_differ(kind, part.type):
            raise _refused(mapping, name, f"{where}: {part.where} holds {part.type.name}, and {name!r} is {kind.name}")
    known = {mapping.discriminator, *parts} if mapping.family else {*parts}
    if not makes:
        known.update(*(below.stored_names for below in mapping.subclasses))
    if mapping.extra_forbidden and not own and (unknown := [name for name in given if name not in known]):
        why = f'has no field for {unknown[0]!r}, and __extra__ = "forbid" refuses what it does not declare'
        raise _refused(mapping, unknown[0], f"{where}: {mapping.name} {why}; it has {', '.join(mapping.by_attribute)}")
    for name, part in parts.items() if makes else ():
        computed = isinstance(part.spec, VectorFieldSpec) and part.spec.source is not None
        if name != "_id" and name not in given and not part.has_default and not computed:
            why = "new documents could not be read without it"
            do = f".label({part.attribute!r}) a column, give the field a default, or write only to what is there, with "
            do += 'when_matched="merge", when_not_matched="discard"'
            raise _refused(mapping, name, f"{where}: no column is {part.where}, and {why}; {do}")


def _refused(mapping: ClassMap, name: str, message: str) -> StatementError:
    return StatementError(message, document_class=mapping.cls, field=name)


def finds_own(select: Select[Any, Any], source: ClassMap, mapping: ClassMap, outputs: Sequence[Output]) -> bool:
    """Whether each row has the key of the document of the class's collection that it was made of."""
    if source.collection != mapping.collection or any(isinstance(step, UnionAll) for step in select._steps):
        return False
    key = next((one for one in outputs if one.name == "_id"), None)
    if key is None:
        return outputs[0].kind == "document"
    field = inside(key.entity)
    return is_field(field) and field._path == "_id" and mapping_of(field._owner).collection == mapping.collection


def sets_in(mapping: ClassMap, outputs: Sequence[Output]) -> dict[str, Any]:
    """Of lists that become sets of the class: these as sets, by their keys."""
    given = dict(_kinds(outputs))
    names = [part.stored for part in mapping.fields if part.stored in given and is_set(part.type)]
    return {name: as_set(f"${name}") for name in names if not is_set(given[name])}


def _kinds(outputs: Sequence[Output]) -> Iterator[tuple[str, BsonType | None]]:
    """The types of the columns by their keys, of whole documents those of the fields; None for what is not known."""
    for output in outputs:
        if output.kind == "document":
            mapping = cast("ClassMap", output.mapping)
            names = mapping.stored_names if output.only is None else mapping.stored_for(output.only)
            yield from ((part.stored, part.type) for part in mapping.fields if part.stored in names)
            if mapping.writes_type:
                yield mapping.discriminator, None
        elif output.kind == "rows":
            yield output.name, None if output.unwound else _LIST
        else:
            kind = type_of(output.entity)
            for _ in range(output.unwound - _is_item(output.entity)):
                kind = None if kind is None else item_of(kind)
            yield output.name, kind


def _is_item(entity: Any) -> bool:
    return is_field(entity) and bool(entity._parts) and entity._parts[-1].stored is None
