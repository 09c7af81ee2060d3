# pyright: reportPrivateUsage=false
"""Rows that are merged into a class: under which keys they are written, and what they must not be."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from superorm.compile.output import Output
from superorm.compile.sets import as_set, is_set
from superorm.exc import StatementError
from superorm.expr.kinds import inside, is_call, is_field
from superorm.expr.operators import LITERAL
from superorm.expr.stages import Block, Raw, Unwind
from superorm.expr.statements import Select
from superorm.expr.writes import MergeInto
from superorm.schema.expression_types import type_of
from superorm.schema.fields import VectorFieldSpec
from superorm.schema.mapping import ClassMap
from superorm.schema.types.artifacts import ArtifactType
from superorm.schema.types.base import BsonType
from superorm.schema.types.containers import AnyType, ListType
from superorm.schema.types.fitting import surely_differ

__all__ = ["check_rows", "sets_in", "stored_key"]

_LIST = ListType(list, AnyType())


def stored_key(mapping: ClassMap | None, name: str) -> str:
    """The stored path for a name: a class knows its fields by their attributes, too."""
    head, dot, rest = name.partition(".")
    part = None if mapping is None or head in mapping.stored_names else mapping.by_attribute.get(head)
    return name if part is None else f"{part.stored}{dot}{rest}"


def check_rows(statement: MergeInto, mapping: ClassMap, outputs: Sequence[Output], *, named: bool) -> None:
    """Raise `StatementError` for rows that surely no document of a class can hold, or that it could not be read with.

    That is the target's class, and each subclass of it that a row may be written to a document of.
    The rows of a `named` target are documents of these classes themselves.
    """
    select, how = statement.select, statement.when_matched
    document = outputs[0].kind == "document"
    if document and any(isinstance(step, Raw) for step in select._steps):
        return
    alone = statement.when_not_matched == "insert" and how in ("keepExisting", "fail")
    makes = alone or how == "replace"
    given = dict(_kinds(outputs))
    held = next((name for name, kind in given.items() if isinstance(kind, ArtifactType)), None)
    if held is not None and not (document and _mapping(outputs[0]).collection == mapping.collection):
        raise _refused(mapping, held, f"{held!r} is an artifact, and a reference to one belongs to its own document")
    classes = [mapping] if named else _written(mapping, outputs, given, how)
    if _is_typed(select, outputs):
        for one in classes:
            _check_types(mapping, one, given)
    if not (document and issubclass(_mapping(outputs[0]).cls, mapping.cls)):
        for one in classes:
            if one.extra_forbidden:
                _check_known(mapping, one, given, makes=makes)
    if makes and not (document and _holds_more(outputs[0])):
        for one in classes:
            _check_complete(mapping, one, given | dict.fromkeys(_perhaps(outputs[0]) if document else ()))


def _written(
    mapping: ClassMap, outputs: Sequence[Output], given: Mapping[str, BsonType | None], how: str
) -> list[ClassMap]:
    """The classes that documents may be of which rows are written to. Raises `StatementError` for a name of none."""
    family = [mapping, *mapping.subclasses]
    key = mapping.discriminator
    if not mapping.family:  # then that is a key like any other
        return family
    if mapping.writes_type or key not in given:  # rows do not name a class of their own
        kept = how == "merge" or (how == "replace" and mapping.writes_type)
        return family if kept else [mapping]
    names = next((found for one in outputs if (found := _names(one, key)) is not None), None)
    if names is None:
        return family
    for name in names:
        if name is not None and name not in mapping.family and name != mapping.type_name:
            known = " or ".join(one.type_name for one in family)
            raise _refused(mapping, key, f"{key!r} names the class of a document, {known}, and is {name!r}")
    return [one for one in family if one.type_name in names or (one is mapping and None in names)]


def _names(output: Output, key: str) -> Sequence[Any] | None:
    """What a column has under the key that names a class; None where that is not known."""
    if output.kind == "document":
        mapping = _mapping(output)
        same = mapping.writes_type and mapping.discriminator == key
        return [mapping.type_name, *(below.type_name for below in mapping.subclasses)] if same else None
    entity = inside(output.entity)
    return [entity.args[0]] if output.name == key and is_call(entity) and entity.operator is LITERAL else None


def _check_types(target: ClassMap, mapping: ClassMap, given: Mapping[str, BsonType | None]) -> None:
    """Raise for a column of which surely no value fits its field."""
    for part in mapping.fields:
        kind = given.get(part.stored)
        if part.keep or kind is None:
            continue
        own = target.by_attribute.get(part.attribute, part)
        if surely_differ(kind, part.type) or (is_set(own.type) != is_set(part.type) and not is_set(kind)):
            what = f"{part.where} holds {part.type.name}, and {part.stored!r} is {kind.name}"
            raise _refused(target, part.stored, what, mapping)


def _check_known(target: ClassMap, mapping: ClassMap, given: Iterable[str], *, makes: bool) -> None:
    """Raise for a column that a class which forbids others does not declare."""
    known = {part.stored for part in mapping.fields} | ({mapping.discriminator} if mapping.family else set[str]())
    if not makes:
        known.update(*(below.stored_names for below in target.family.values()))
    for name in given:
        if name not in known:
            why = f'has no field for {name!r}, and __extra__ = "forbid" refuses what it does not declare'
            raise _refused(target, name, f"{mapping.name} {why}; it has {', '.join(mapping.by_attribute)}", mapping)


def _check_complete(target: ClassMap, mapping: ClassMap, given: Collection[str]) -> None:
    """Raise for a field without which documents cannot be read, and that is no column."""
    for part in mapping.fields:
        computed = isinstance(part.spec, VectorFieldSpec) and part.spec.source is not None
        if not (part.stored == "_id" or part.stored in given or part.has_default or part.keep or computed):
            what = (
                f"no column is {part.where}, and documents could not be read without it; "
                f".label({part.attribute!r}) a column, give the field a default, "
                'or write to what is there, with when_matched="merge"'
            )
            raise _refused(target, part.stored, what, mapping)


def _is_typed(select: Select[Any, Any], outputs: Sequence[Output]) -> bool:
    """Whether the declared types of columns are surely those of the rows."""
    steps = [step for step in select._steps if not isinstance(step, Block)]
    items = all(isinstance(step, Unwind) for step in steps)
    return not steps or (items and all(one.kind == "value" and is_field(inside(one.entity)) for one in outputs))


def _perhaps(output: Output) -> Iterator[str]:
    """The keys that whole documents of subclasses have besides."""
    for below in _mapping(output).subclasses:
        yield from below.stored_names if output.only is None else below.stored_for(output.only)


def _holds_more(output: Output) -> bool:
    """Whether whole documents may have fields that their class does not declare."""
    mapping = _mapping(output)
    return output.only is None and not (
        mapping.extra_forbidden and all(one.extra_forbidden for one in mapping.subclasses)
    )


def _mapping(output: Output) -> ClassMap:
    """Of a column of whole documents."""
    return cast("ClassMap", output.mapping)


def _refused(target: ClassMap, name: str, what: str, mapping: ClassMap | None = None) -> StatementError:
    """The error about rows of a class, the target's own or one that derives from it."""
    below = mapping is not None and mapping is not target
    met = f"; rows may be written to documents of {mapping.name}, too" if mapping is not None and below else ""
    return StatementError(f"merge_into({target.name}): {what}{met}", document_class=target.cls, field=name)


def sets_in(mapping: ClassMap, outputs: Sequence[Output]) -> dict[str, Any]:
    """Of lists that become sets of the class: these as sets, by their keys."""
    given = dict(_kinds(outputs))
    names = [part.stored for part in mapping.fields if part.stored in given and is_set(part.type)]
    return {name: as_set(f"${name}") for name in names if not is_set(given[name])}


def _kinds(outputs: Sequence[Output]) -> Iterator[tuple[str, BsonType | None]]:
    """The types of the columns by their keys, of whole documents those of the fields; None for what is not known."""
    for output in outputs:
        if output.kind == "document":
            mapping = _mapping(output)
            names = mapping.stored_names if output.only is None else mapping.stored_for(output.only)
            yield from ((one.stored, None if one.keep else one.type) for one in mapping.fields if one.stored in names)
            if mapping.writes_type:
                yield mapping.discriminator, None
        elif output.kind == "rows":
            yield output.name, None if output.unwound else _LIST
        else:
            yield output.name, output.kind_of(type_of(output.entity))
