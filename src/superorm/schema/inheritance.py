"""Document classes that derive from a mapped one: they share its collection, told apart by a discriminator."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from superorm.exc import MappingError
from superorm.schema.fields import MISSING, ArtifactFieldSpec, VectorFieldSpec
from superorm.schema.mapping import ClassMap, MappedField

__all__ = ["check_overrides", "join", "parent_of"]


def parent_of(bases: Iterable[type]) -> ClassMap | None:
    """The nearest mapped class among the bases and theirs."""
    found = (base.__dict__.get("__superorm__") for above in bases for base in above.__mro__)
    return next((mapping for mapping in found if isinstance(mapping, ClassMap)), None)


def check_overrides(parts: Iterable[MappedField], parent: ClassMap) -> None:
    """Raise `MappingError` where a field that is declared again could not be read through the class above."""
    for part in parts:
        above = parent.by_attribute.get(part.attribute)
        if above is None or above.spec is part.spec:
            continue
        if {above.spec.primary_key, above.spec.version, part.spec.primary_key, part.spec.version} != {False}:
            raise MappingError(f"{part.where}: the key and the version of {parent.root.name} cannot be declared again")
        if part.stored != above.stored:
            raise MappingError(f"{part.where}: {above.where} is stored under {above.stored!r}; it must be so here too")
        _check_vectors(part, above)
        if isinstance(part.spec, ArtifactFieldSpec) != isinstance(above.spec, ArtifactFieldSpec):
            raise MappingError(
                f"{part.where}: {above.where}, which is stored under the same key, is an artifact or this is one, "
                "but not both; declare it under another name"
            )


def _check_vectors(part: MappedField, other: MappedField) -> None:
    """Raise `MappingError` where a vector index of one field would not fit the other."""
    here, there = (
        (one.spec.dim, one.spec.metric) if isinstance(one.spec, VectorFieldSpec) else None for one in (part, other)
    )
    if here != there:
        raise MappingError(
            f"{part.where}: {other.where}, which is stored under the same key, is a vector of other dimension or "
            "metric, or only one of them is a vector; set name= to another key"
        )


def join(mapping: ClassMap) -> None:
    """Make a new class one of its hierarchy, in the place of one defined before under the same qualified name.

    Raises `MappingError` where their documents could not be told apart.
    """
    parent = mapping.parent
    declared: Any = getattr(mapping.cls, "__discriminator__", MISSING)
    if parent is None:
        if declared is not MISSING:
            mapping.discriminator, mapping.names_itself = declared, True
            mapping.check_discriminator(mapping.name)
            mapping.family = {mapping.name: mapping}
        return
    root, mapping.discriminator = mapping.root, parent.discriminator
    if declared not in (MISSING, root.discriminator):
        raise MappingError(f"{mapping.name}.__discriminator__: that of {root.name} is {root.discriminator!r}")
    for one in (root, mapping):
        one.check_discriminator(f"{mapping.name}, a subclass of {root.name}")
    known = {root.name: root, **root.family}
    replaced = known.pop(mapping.name, None)
    if replaced is not None and _qualified(replaced.cls) != _qualified(mapping.cls):
        raise MappingError(
            f"{_qualified(mapping.cls)}: {_qualified(replaced.cls)} has the same name and the same collection; "
            "rename one of them, as documents are told apart by the name"
        )
    for other in known.values():
        by_key = {part.stored: part for part in other.fields}
        for part in mapping.fields:
            if part.stored in by_key:
                _check_vectors(part, by_key[part.stored])
    _replace(root, mapping)


def _replace(root: ClassMap, mapping: ClassMap) -> None:
    """Enter the class, and let its hierarchy read the discriminator from now on."""
    mapping.family = {mapping.name: mapping}
    members = {root.name: root, **root.family, mapping.name: mapping}
    for member in members.values():
        below = {name: one for name, one in member.family.items() if name != mapping.name or one is mapping}
        if issubclass(mapping.cls, member.cls):
            below = {member.name: member, **below, mapping.name: mapping}
        member.family = below
        member.functions.pop("load", None)


def _qualified(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
