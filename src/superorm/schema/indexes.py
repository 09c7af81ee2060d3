"""The indexes that a class declares, against those that a collection has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from superorm.schema.mapping import ClassMap

__all__ = ["DeclaredIndex", "declared_indexes", "index_differences", "missing_indexes"]


@frozen
class DeclaredIndex:
    """One index of a class."""

    keys: tuple[tuple[str, int], ...]
    unique: bool


def declared_indexes(mapping: ClassMap) -> list[DeclaredIndex]:
    """The indexes that the fields ask for."""
    return [
        DeclaredIndex(((part.stored, 1),), part.spec.unique)
        for part in mapping.fields
        if part.spec.index or part.spec.unique
    ]


def index_differences(mapping: ClassMap, existing: Sequence[Mapping[str, Any]]) -> list[str]:
    """Indexes that are there with the declared keys but other options, one sentence each."""
    by_keys = {tuple(index["key"].items()): index for index in existing}
    found: list[str] = []
    for index in declared_indexes(mapping):
        present = by_keys.get(index.keys)
        if present is not None and bool(present.get("unique")) != index.unique:
            wanted, there = ("unique", "not unique") if index.unique else ("not unique", "unique")
            found.append(
                f"index {present['name']} of {mapping.collection} is {there}, {mapping.name} declares it {wanted}"
            )
    return found


def missing_indexes(mapping: ClassMap, existing: Sequence[Mapping[str, Any]]) -> list[str]:
    """Declared indexes that are not there, one sentence each."""
    known = {tuple(index["key"].items()) for index in existing}
    return [
        f"{mapping.collection} has no index {dict(index.keys)}, which {mapping.name} declares; run db.create_all()"
        for index in declared_indexes(mapping)
        if index.keys not in known
    ]
