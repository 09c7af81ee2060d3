"""Values of one type where those of another are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import product
from typing import Any

import numpy as np
from bson import Decimal128, Int64

from superorm.schema.compare import same
from superorm.schema.types.base import BsonType, Misfit
from superorm.schema.types.computed import SpreadType, WrapperType
from superorm.schema.types.containers import DictType, ListType, TupleType, UnionType
from superorm.schema.types.embedded import EmbeddedType, OneOfType
from superorm.schema.types.scalars import LiteralType, NoneType

__all__ = ["forms_of", "has_fixed_length", "has_literal_numbers", "lacks_name", "surely_differ"]

_LISTS = (list, tuple, set, frozenset, np.ndarray)
_NUMBERS = (int, float, Decimal128)


def forms_of(kinds: Sequence[BsonType]) -> Callable[[object], list[Any]]:
    """A function: the BSON values of a value beside a field of one of some types, each once.

    They are as those types store it that hold such values. It raises `Misfit`, `StatementError`.
    """
    whole, elements = ([way for kind in kinds for way in _ways(kind, below)] for below in (False, True))

    def forms(value: Any) -> list[Any]:
        ways = whole if issubclass(type(value), _LISTS) else elements
        if len(ways) == 1:
            return [ways[0].beside(value)]
        found: list[Any] = []
        for way in ways:
            with suppress(Misfit):
                found.append(way.to_bson(value))
        found = found or [way.beside(value) for way in ways]
        return [form for place, form in enumerate(found) if not any(same(form, other) for other in found[:place])]

    return forms


def _ways(kind: BsonType, below: bool) -> Iterator[BsonType]:
    """The types of one value that a type is of, null aside; with `below` of a list those of its elements."""
    match kind:
        case WrapperType(inner=inner):
            yield from _ways(inner, below)
        case UnionType(members=members):
            for member in members:
                if not isinstance(member, NoneType):
                    yield from _ways(member, below)
        case ListType(element=element) if below:
            yield from _ways(element, below)
        case _:
            yield kind


def has_fixed_length(kind: BsonType) -> bool:
    """Whether lists that the type reads have as many elements as it says."""
    return any(isinstance(one, TupleType) for one in _members(kind))


def has_literal_numbers(kind: BsonType) -> bool:
    """Whether the type reads some numbers only of those that are stored alike."""
    return any(isinstance(one, LiteralType) and not one.reads.isdisjoint(_NUMBERS) for one in _members(kind))


def surely_differ(stored: BsonType, kind: BsonType) -> bool:
    """Whether no value that the one type stores, null and what is empty aside, can be read as the other.

    Nor can those be that do not name their class where the other type's documents have to.
    """
    given, wanted = [*_members(stored)], [*_members(kind)]
    return bool(given and wanted) and not any(_may_fit(one, other) for one in given for other in wanted)


def _members(kind: BsonType) -> Iterator[BsonType]:
    match kind:
        case UnionType(members=members):
            for member in members:
                yield from _members(member)
        case SpreadType(inner=inner):
            yield from _members(inner)
            yield ListType(list, inner)
        case NoneType():
            pass
        case _:
            yield kind


def _may_fit(stored: BsonType, kind: BsonType) -> bool:
    match stored, kind:
        case (ListType(element=one), ListType(element=other)) | (DictType(value=one), DictType(value=other)):
            return not surely_differ(one, other)
        case EmbeddedType() | OneOfType(), EmbeddedType() | OneOfType():
            return _shared(stored, kind) and _is_told(stored, kind)
        case _:
            reads = kind.reads
            if reads & {int, float}:
                reads |= {int, Int64, float}
            return not stored.reads or not reads or bool(stored.reads & reads)


def lacks_name(stored: BsonType, kind: BsonType) -> bool:
    """Whether documents would be of a class of the other type, if they named it as documents there have to."""
    for one, other in product(_members(stored), _members(kind)):
        match one, other:
            case (ListType(element=one), ListType(element=other)) | (DictType(value=one), DictType(value=other)):
                if lacks_name(one, other):
                    return True
            case EmbeddedType() | OneOfType(), EmbeddedType() | OneOfType() if _shared(one, other):
                return not _is_told(one, other)
            case _:
                pass
    return False


def _is_told(stored: EmbeddedType | OneOfType, kind: EmbeddedType | OneOfType) -> bool:
    """Whether documents of all the classes name it; those that do not are of the class that is expected of them."""
    if isinstance(stored, OneOfType) or stored.mapping.writes_type:
        return True
    return isinstance(kind, EmbeddedType) and kind.mapping is stored.mapping


def _shared(stored: EmbeddedType | OneOfType, kind: EmbeddedType | OneOfType) -> bool:
    """Whether a document may be of both."""
    known = [*kind.classes]
    return any(mapping in known for mapping in stored.classes)
