# pyright: reportPrivateUsage=false
"""Fields of embedded documents of several classes: which class a document is of tells what stands for them."""

from __future__ import annotations

from typing import Any

from superorm.expr.nodes import Field
from superorm.schema.mapping import ClassMap, MappedField
from superorm.schema.types.base import BsonType
from superorm.schema.types.containers import ListType, UnionType
from superorm.schema.types.embedded import EmbeddedType, OneOfType

__all__ = ["part_under", "told_by_class"]


def told_by_class(field: Field[Any, Any]) -> EmbeddedType | OneOfType | None:
    """The type of the embedded documents that have a field, where not all their classes declare it alike."""
    parts: tuple[Any, ...] = field._parts
    if len(parts) < 2 or not isinstance(part := parts[-1], MappedField):
        return None
    kind = _embedded(parts[-2].type)
    if kind is None or all(_alike(part_under(one, part.stored), part) for one in kind.classes):
        return None
    return kind


def part_under(mapping: ClassMap, stored: str) -> MappedField | None:
    """The field that a class stores under a key."""
    return next((part for part in mapping.fields if part.stored == stored), None)


def _alike(one: MappedField | None, other: MappedField) -> bool:
    return one is not None and one.spec is other.spec and one.annotation == other.annotation


def _embedded(kind: BsonType) -> EmbeddedType | OneOfType | None:
    """That of the embedded documents whose fields are those of a value."""
    match kind:
        case EmbeddedType() | OneOfType():
            return kind
        case ListType(element=element):
            return _embedded(element)
        case UnionType(members=members):
            return next((_embedded(member) for member in members if member.embedded is not None), None)
        case _:
            return None
