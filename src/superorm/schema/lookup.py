"""Classes by their qualified names, for statements that were stored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from superorm.expr.storable import Finder
from superorm.schema.mapping import ClassMap
from superorm.schema.parts import refused
from superorm.schema.registry import Registry, default_registry
from superorm.schema.types.base import BsonType, Misfit
from superorm.schema.types.containers import DictType, ListType, TupleType, UnionType
from superorm.schema.types.embedded import EmbeddedType, OneOfType
from superorm.schema.types.registered import RegisteredType
from superorm.schema.types.scalars import EnumType
from superorm.schema.types.typed_dict import TypedDictType

__all__ = ["class_finder", "python_value"]


def class_finder(registry: Registry | None) -> Finder:
    """What finds the documents of a registry, the classes they derive from and those of their values by name."""
    classes = default_registry if registry is None else registry
    others: dict[str, type] = {}

    def find(name: str) -> type | None:
        mapping = classes.find(name)
        if mapping is not None:
            return mapping.cls
        if not others:
            others.update((f"{cls.__module__}.{cls.__qualname__}", cls) for cls in _reachable(list(classes)))
        return others.get(name)

    return find


def python_value(kind: Any, stored: object, where: str) -> Any:
    """The value that a field, or a part of its value, has where the database holds `stored`.

    Raises `ValidationError`, `VectorError` where it does not fit.
    """
    try:
        return kind.type.from_bson(stored)
    except Misfit as misfit:
        raise refused(kind.type, where, misfit, None) from misfit.error


def _reachable(pending: list[ClassMap]) -> Iterator[type]:
    found: set[int] = set()
    while pending:
        mapping = pending.pop(0)
        if id(mapping) in found:
            continue
        found.add(id(mapping))
        for base in mapping.cls.__mro__:
            if "__superorm__" in vars(base) or "__superorm_declared__" in vars(base):
                yield base
        pending.extend(mapping.family.values())
        for part in mapping.fields:
            kind = part.resolved()
            if kind is not None:
                inside = [*_embedded(kind)]
                pending.extend(one for one in inside if isinstance(one, ClassMap))
                yield from (one for one in inside if isinstance(one, type))


def _embedded(kind: BsonType, seen: tuple[BsonType, ...] = ()) -> Iterator[ClassMap | type]:
    """The classes of the embedded documents, Enums and registered types in values of a type.

    TypedDicts in `seen` were looked through.
    """
    match kind:
        case EmbeddedType():
            yield kind.mapping
        case OneOfType():
            yield from kind.mappings
        case EnumType(enum=cls) | RegisteredType(cls=cls):
            yield cls
        case UnionType(members=kinds) | TupleType(elements=kinds):
            for inner in kinds:
                yield from _embedded(inner, seen)
        case ListType(element=inner) | DictType(value=inner):
            yield from _embedded(inner, seen)
        case TypedDictType() if kind not in seen:
            for key in kind.keys.values():
                yield from _embedded(key.type, (*seen, kind))
        case _:
            pass
