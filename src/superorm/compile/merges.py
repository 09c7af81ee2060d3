# pyright: reportPrivateUsage=false
"""Rows that are merged into a class: under which keys they are written, and what they must not be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from superorm.compile.output import Output
from superorm.compile.sets import as_set, is_set
from superorm.exc import StatementError
from superorm.expr.kinds import inside, is_field
from superorm.expr.stages import Block, Raw, Unwind
from superorm.expr.statements import Select
from superorm.schema.expression_types import type_of
from superorm.schema.fields import VectorFieldSpec
from superorm.schema.mapping import ClassMap
from superorm.schema.types.base import BsonType
from superorm.schema.types.computed import item_of, surely_differ
from superorm.schema.types.containers import AnyType, ListType

__all__ = ["check_rows", "sets_in", "stored_key"]

_LIST = ListType(list, AnyType())


def stored_key(mapping: ClassMap | None, name: str) -> str:
    """The stored path for a name: a class knows its fields by their attributes, too."""
    head, dot, rest = name.partition(".")
    part = None if mapping is None or head in mapping.stored_names else mapping.by_attribute.get(head)
    return name if part is None else f"{part.stored}{dot}{rest}"


def check_rows(select: Select[Any, Any], mapping: ClassMap, outputs: Sequence[Output], *, makes: bool) -> None:
    """Raise `StatementError` for rows that surely no document of the class can hold, or that it could not be read with.

    `makes` tells whether each row that is written is a document of its own, made of nothing else.
    """
    where = f"merge_into({mapping.name})"
    document = outputs[0].kind == "document"
    if document and any(isinstance(step, Raw) for step in select._steps):
        return
    given = dict(_kinds(outputs))
    own = document and issubclass(cast("ClassMap", outputs[0].mapping).cls, mapping.cls)
    parts = {part.stored: part for part in mapping.fields}
    for name, kind in given.items() if _is_typed(select, outputs) else ():
        part = parts.get(name)
        if part is not None and not part.keep and kind is not None and surely_differ(kind, part.type):
            raise _refused(mapping, name, f"{where}: {part.where} holds {part.type.name}, and {name!r} is {kind.name}")
    known = {mapping.discriminator, *parts} if mapping.family else {*parts}
    if not makes:
        known.update(*(below.stored_names for below in mapping.subclasses))
    if mapping.extra_forbidden and not own and (unknown := [name for name in given if name not in known]):
        why = f'has no field for {unknown[0]!r}, and __extra__ = "forbid" refuses what it does not declare'
        raise _refused(mapping, unknown[0], f"{where}: {mapping.name} {why}; it has {', '.join(mapping.by_attribute)}")
    if document:
        given |= dict.fromkeys(_perhaps(outputs[0]))
        makes = makes and not _holds_more(outputs[0])
    for name, part in parts.items() if makes else ():
        computed = isinstance(part.spec, VectorFieldSpec) and part.spec.source is not None
        if not (name == "_id" or name in given or part.has_default or part.keep or computed):
            why = "documents could not be read without it"
            do = f".label({part.attribute!r}) a column, give the field a default, or write to what is there, with "
            do += 'when_matched="merge"'
            raise _refused(mapping, name, f"{where}: no column is {part.where}, and {why}; {do}")


def _is_typed(select: Select[Any, Any], outputs: Sequence[Output]) -> bool:
    """Whether the declared types of columns are surely those of the rows."""
    steps = [step for step in select._steps if not isinstance(step, Block)]
    items = all(isinstance(step, Unwind) for step in steps)
    return not steps or (items and all(one.kind == "value" and is_field(inside(one.entity)) for one in outputs))


def _perhaps(output: Output) -> Iterator[str]:
    """The keys that whole documents of subclasses have besides."""
    for below in cast("ClassMap", output.mapping).subclasses:
        yield from below.stored_names if output.only is None else below.stored_for(output.only)


def _holds_more(output: Output) -> bool:
    """Whether whole documents may have fields that their class does not declare."""
    mapping = cast("ClassMap", output.mapping)
    return output.only is None and not (
        mapping.extra_forbidden and all(one.extra_forbidden for one in mapping.subclasses)
    )


def _refused(mapping: ClassMap, name: str, message: str) -> StatementError:
    return StatementError(message, document_class=mapping.cls, field=name)


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
            yield from ((one.stored, None if one.keep else one.type) for one in mapping.fields if one.stored in names)
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
