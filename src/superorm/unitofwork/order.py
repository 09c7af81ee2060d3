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


def collections_in_order(
    mappings: Sequence[ClassMap], documents: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[str]:
    """The collections of the classes, referred ones first; else, and in cycles, in the given order.

    Where classes refer to one another, only the references count by which these documents do.
    """
    left = [name for name in dict.fromkeys(mapping.collection for mapping in mappings) if name is not None]
    references = _references(mappings)
    edges = {(holder, other) for holder, _, other in references if holder != other}
    found: list[str] = []
    while left:
        free = next((name for name in left if not any((name, other) in edges for other in left)), None)
        if free is None:
            edges &= _used(references, documents)
            free = _first_of_a_cycle(left, edges)
        found.append(free)
        left.remove(free)
    return found


def _used(
    references: Iterable[tuple[str, str, str]], documents: Mapping[str, Sequence[Mapping[str, Any]]]
) -> set[tuple[str, str]]:
    """The collections whose documents do refer to others of them, each with the collection of these."""
    keys = {name: {identity(one["_id"]) for one in there} for name, there in documents.items()}
    named = ((holder, other, one.get(key)) for holder, key, other in references for one in documents.get(holder, ()))
    return {(holder, other) for holder, other, key in named if key is not None and identity(key) in keys.get(other, ())}


def _first_of_a_cycle(names: Sequence[str], edges: set[tuple[str, str]]) -> str:
    """The first that refers, however far, only to those that refer to it."""
    reached = {name: {other for other in names if (name, other) in edges} for name in names}
    for between in names:
        for others in reached.values():
            if between in others:
                others |= reached[between]
    return next(name for name in names if all(name in reached[other] for other in reached[name]))


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
