"""The order of writes: what others refer to is written before them, so that a crash leaves no dangling reference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from superorm.schema.mapping import ClassMap
from superorm.unitofwork.identity import identity

__all__ = ["collections_in_order", "own_references", "referred_first"]


def _references(mappings: Iterable[ClassMap]) -> set[tuple[str, str, str]]:
    """The collection whose documents refer to others, the stored name of the key, and the collection of the others."""
    found: set[tuple[str, str, str]] = set()
    for mapping in mappings:
        for relation in mapping.relationships.values():
            ends = (relation.target.collection, mapping.collection)
            holder, other = ends if relation.is_list else ends[::-1]
            assert holder is not None
            assert other is not None
            found.add((holder, relation.key.stored, other))
    return found


def collections_in_order(mappings: Sequence[ClassMap]) -> list[str]:
    """The collections of the classes, referred ones first; else, and in cycles, in the given order."""
    left = [name for name in dict.fromkeys(mapping.collection for mapping in mappings) if name is not None]
    edges = {(holder, other) for holder, _, other in _references(mappings) if holder != other}
    found: list[str] = []
    while left:
        free = (name for name in left if not any((name, other) in edges for other in left))
        found.append(next(free, left[0]))
        left.remove(found[-1])
    return found


def own_references(mappings: Iterable[ClassMap]) -> dict[str, list[str]]:
    """By collection, the stored names of keys that refer to documents of the same."""
    found: dict[str, list[str]] = {}
    for holder, stored, other in sorted(_references(mappings)):
        if holder == other:
            found.setdefault(holder, []).append(stored)
    return found


def referred_first(documents: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[Mapping[str, Any]]:
    """Documents of a collection, each after those that its `keys` name; else, and in cycles, in the given order."""
    by_key = {identity(document["_id"]): document for document in documents}
    found: dict[Any, Mapping[str, Any]] = {}
    for start in by_key:
        pending, on_the_way = [start], set[Any]()
        while pending:
            key = pending[-1]
            values = [by_key[key].get(name) for name in keys] if key not in on_the_way else []
            on_the_way.add(key)
            named = [identity(value) for value in values if value is not None]
            before = [one for one in named if one in by_key and one not in found and one not in on_the_way]
            if before:
                pending += before
            else:
                pending.pop()
                found.setdefault(key, by_key[key])
    return list(found.values())
