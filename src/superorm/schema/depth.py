"""How deep the documents of a class nest."""

from __future__ import annotations

from superorm.schema.mapping import ClassMap
from superorm.schema.types.arrays import ArrayType, VectorType
from superorm.schema.types.artifacts import ArtifactType
from superorm.schema.types.base import BsonType
from superorm.schema.types.containers import DictType, ListType, TupleType, UnionType
from superorm.schema.types.scalars import DateType, DecimalType

__all__ = ["is_shallow"]


def is_shallow(mapping: ClassMap) -> bool:
    """Whether the types of its fields alone say that no document nests deep.

    Keys that it does not map are left out: they were stored before.
    """
    found: bool | None = mapping.functions.get("shallow")
    if found is None:
        found = mapping.functions["shallow"] = all(_is_shallow(part.type) for part in mapping.fields)
    return found


def _is_shallow(kind: BsonType) -> bool:
    if isinstance(kind, UnionType):
        return all(map(_is_shallow, kind.members))
    if isinstance(kind, TupleType):
        return all(map(_is_shallow, kind.elements))
    if isinstance(kind, ListType):
        return _is_shallow(kind.element)
    if isinstance(kind, DictType):
        return _is_shallow(kind.value)
    return kind.plain or isinstance(kind, (ArrayType, ArtifactType, DateType, DecimalType, VectorType))
