# pyright: reportPrivateUsage=false
"""Fields of embedded documents of several classes: which class a document is of tells what stands for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from superorm.exc import StatementError
from superorm.expr.nodes import Field
from superorm.schema.mapping import ClassMap, MappedField
from superorm.schema.parts import Part
from superorm.schema.types.base import BsonType, Misfit
from superorm.schema.types.containers import ListType, UnionType
from superorm.schema.types.embedded import EmbeddedType, OneOfType

__all__ = ["AnyPart", "class_of", "part_in", "stepped", "told_by_class"]

AnyPart: TypeAlias = MappedField | Part


def told_by_class(field: Field[Any, Any]) -> tuple[str, ...]:
    """The paths, from the field's owner, of the classes' names that tell what the field is.

    Empty where all the classes on its way declare it alike.
    """
    parts: tuple[Any, ...] = field._parts
    if len(parts) > 1:
        for part in parts[:-1]:
            if _has_several(_embedded(part.type)):
                return tuple(_told(parts))
    return ()


def class_of(part: AnyPart, document: dict[str, Any]) -> ClassMap | None:
    """The class of a document that a part embeds; None where that is not known."""
    kind = _embedded(part.type)
    if isinstance(kind, EmbeddedType) and not kind.mapping.family:
        return kind.mapping
    try:
        return None if kind is None else kind.class_of(document)
    except Misfit:
        return None


def part_in(mapping: ClassMap, stored: str | None) -> MappedField | None:
    """The field that a class stores under a key."""
    return next((part for part in mapping.fields if part.stored == stored), None)


def stepped(holder: AnyPart, part: AnyPart) -> AnyPart:
    """The same element, or value of a dict, of what another class declares; the part itself where that has none."""
    kind, step = part.step
    try:
        return holder.element(step) if kind == "element" else holder.value(step)
    except StatementError:
        return part


def _told(parts: Sequence[AnyPart]) -> list[str]:
    first, *rest = parts
    ways, keys, found = [first], [first.stored], list[str]()
    for part in rest:
        if isinstance(part, MappedField):
            kinds = [kind for way in ways if (kind := _embedded(way.type)) is not None]
            fields = [part_in(mapping, part.stored) for kind in kinds for mapping in kind.classes]
            if found or not all(one is not None and _alike(one, part) for one in fields):
                names = {kind.discriminator: None for kind in kinds if _has_several(kind)}
                found += [".".join([key for key in keys if key is not None] + [name]) for name in names]
            ways = [*{id(one): one for one in fields if one is not None}.values()]
        else:
            ways = [stepped(way, part) for way in ways]
        keys.append(part.stored)
    return found


def _alike(one: MappedField, other: MappedField) -> bool:
    return one is other or (one.spec is other.spec and one.annotation == other.annotation and one.keep == other.keep)


def _has_several(kind: EmbeddedType | OneOfType | None) -> bool:
    return kind is not None and (isinstance(kind, OneOfType) or bool(kind.mapping.family))


def _embedded(kind: BsonType | None) -> EmbeddedType | OneOfType | None:
    """That of the embedded documents whose fields are those of a value."""
    while kind is not None:
        if isinstance(kind, (EmbeddedType, OneOfType)):
            return kind
        if isinstance(kind, ListType):
            kind = kind.element
        elif isinstance(kind, UnionType):
            for member in kind.members:
                if isinstance(member, (EmbeddedType, OneOfType)):
                    return member
            kind = next((member for member in kind.members if member.embedded is not None), None)
        else:
            break
    return None
