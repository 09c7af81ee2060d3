"""By which keys embedded documents say of which class they are."""

from __future__ import annotations

from superorm.schema.mapping import ClassMap
from superorm.schema.types.base import BsonType
from superorm.schema.types.containers import DictType, ListType, TupleType, UnionType
from superorm.schema.types.embedded import EmbeddedType, OneOfType
from superorm.schema.vector_fields import classes_declared

__all__ = ["class_keys"]


def class_keys(mapping: ClassMap) -> frozenset[str]:
    """The discriminators of embedded documents, at any depth, that may be of several classes."""
    known: tuple[int, frozenset[str]] | None = mapping.functions.get("class keys")
    if known is None or known[0] != classes_declared():
        found: set[str] = set()
        _look(mapping, found, set())
        known = mapping.functions["class keys"] = classes_declared(), frozenset(found)
    return known[1]


def _look(mapping: ClassMap, found: set[str], seen: set[ClassMap]) -> None:
    if mapping not in seen:
        seen.add(mapping)
        for part in mapping.fields:
            _look_at(part.type, found, seen)


def _look_at(kind: BsonType, found: set[str], seen: set[ClassMap]) -> None:
    match kind:
        case UnionType():
            for member in kind.members:
                _look_at(member, found, seen)
        case TupleType():
            for element in kind.elements:
                _look_at(element, found, seen)
        case ListType():
            _look_at(kind.element, found, seen)
        case DictType():
            _look_at(kind.value, found, seen)
        case EmbeddedType() | OneOfType():
            classes = list(kind.classes)
            if len(classes) > 1:
                found.add(kind.discriminator)
            for one in classes:
                _look(one, found, seen)
        case _:
            pass
