"""Datetimes that are read naive, in UTC, and made aware.

PyMongo takes longer to make a datetime aware than to decode all else of a small document;
who knows where they stand does it quicker.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from superorm.schema.mapping import ClassMap
from superorm.schema.types.arrays import ArrayType, VectorType
from superorm.schema.types.artifacts import ArtifactType
from superorm.schema.types.base import BsonType
from superorm.schema.types.containers import DictType, ListType, TupleType, UnionType
from superorm.schema.types.embedded import EmbeddedType
from superorm.schema.types.scalars import DatetimeType, DecimalType, EnumType, LiteralType, NoneType, PlainType

__all__ = ["EPOCH", "NAIVE_EPOCH", "is_datetime", "make_aware", "reads_naive"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NAIVE_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001


def reads_naive(mapping: ClassMap) -> bool:
    """Whether all datetimes of the class's documents are fields of their own, none of them the key.

    Keys that the class does not map do not count.
    """
    known: tuple[bool, set[ClassMap]] | None = mapping.functions.get("naive")
    if known is None:
        inside = set[ClassMap]()
        known = mapping.functions["naive"] = _reads_naive(mapping, inside), inside
    found, inside = known
    if mapping.family or (inside and any(embedded.family for embedded in inside)):  # subclasses may come later
        return False
    return found


def _reads_naive(mapping: ClassMap, inside: set[ClassMap]) -> bool:
    """`inside` takes the embedded classes."""
    if any(part.keep for part in mapping.fields) or is_datetime(mapping.key.type):
        return False
    return all(is_datetime(part.type) or _has_none(part.type, inside) for part in mapping.fields)


def is_datetime(kind: BsonType) -> bool:
    """Whether all values of a type are datetimes, or else None."""
    if isinstance(kind, UnionType):
        return all(isinstance(member, (DatetimeType, NoneType)) for member in kind.members)
    return isinstance(kind, DatetimeType)


def _has_none(kind: BsonType, inside: set[ClassMap]) -> bool:
    """Whether no value of the type has a datetime in it, as far as can be told."""
    match kind:
        case DatetimeType():
            return False
        case PlainType() | DecimalType() | EnumType() | LiteralType() | VectorType() | ArrayType() | ArtifactType():
            return datetime not in kind.reads
        case ListType():
            return _has_none(kind.element, inside)
        case DictType():
            return _has_none(kind.value, inside)
        case TupleType():
            return all(_has_none(element, inside) for element in kind.elements)
        case UnionType():
            return all(_has_none(member, inside) for member in kind.members)
        case EmbeddedType():
            if kind.mapping in inside:
                return True
            inside.add(kind.mapping)
            return not any(part.keep or not _has_none(part.type, inside) for part in kind.mapping.fields)
        case _:
            return False


def make_aware(mapping: ClassMap, document: dict[str, Any]) -> None:
    """Make the naive datetimes of the document's own fields aware, in place."""
    for part in mapping.fields:
        value = document.get(part.stored)
        if type(value) is datetime and value.tzinfo is None and is_datetime(part.type):
            document[part.stored] = EPOCH + (value - NAIVE_EPOCH)  # eight times quicker than replace(tzinfo=UTC)
