"""Datetimes that are read naive, in UTC, and made aware.

PyMongo takes longer to make a datetime aware than to decode all else of a small document;
who knows where they stand does it quicker.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from superorm.schema.mapping import ClassMap
from superorm.schema.types.arrays import ArrayType, VectorType
from superorm.schema.types.base import BsonType
from superorm.schema.types.containers import DictType, ListType, TupleType, UnionType
from superorm.schema.types.embedded import EmbeddedType
from superorm.schema.types.scalars import DatetimeType, DecimalType, EnumType, LiteralType, NoneType, PlainType

__all__ = ["EPOCH", "NAIVE_EPOCH", "datetime_keys", "is_datetime", "make_aware"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NAIVE_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001


def datetime_keys(mapping: ClassMap) -> tuple[str, ...] | None:
    """The keys under which documents of a class hold datetimes; None where these may not be read naive.

    That is where the key is one, or there may be some deeper down.
    Keys that the class does not map do not count.
    """
    if "dates" not in mapping.functions:
        inside: set[ClassMap] = set()
        mapping.functions["dates"] = _datetime_keys(mapping, inside), inside
    found: tuple[str, ...] | None
    found, inside = mapping.functions["dates"]
    if mapping.family or (inside and any(embedded.family for embedded in inside)):  # subclasses may come later
        return None
    return found


def _datetime_keys(mapping: ClassMap, inside: set[ClassMap]) -> tuple[str, ...] | None:
    """`inside` takes the embedded classes."""
    if any(part.keep for part in mapping.fields) or is_datetime(mapping.key.type):
        return None
    keys = tuple(part.stored for part in mapping.fields if is_datetime(part.type))
    others = [part.type for part in mapping.fields if part.stored not in keys]
    return keys if all(_has_none(kind, inside) for kind in others) else None


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
        case PlainType() | DecimalType() | EnumType() | LiteralType() | VectorType() | ArrayType():
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


def make_aware(document: dict[str, Any], keys: Iterable[str]) -> None:
    """Make the naive datetimes under the keys aware, in place."""
    for key in keys:
        value = document.get(key)
        if type(value) is datetime and value.tzinfo is None:
            document[key] = EPOCH + (value - NAIVE_EPOCH)  # eight times quicker than replace(tzinfo=UTC)
