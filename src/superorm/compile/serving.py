"""Which index that a class declares finds what a filter matches, and reads no more than that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from superorm.expr.narrow import is_dict, is_list
from superorm.schema.declared_indexes import declared_indexes
from superorm.schema.mapping import ClassMap
from superorm.schema.wildcards import WILDCARD

__all__ = ["serving", "serving_index"]

_EQUAL = frozenset({"$eq", "$in"})
_RANGES = frozenset({"$lt", "$lte", "$gt", "$gte"})
_PARTIAL = frozenset({"sparse", "hidden", "collation"})
"""Options of indexes that leave documents out, or that the server may not use for every comparison."""

_known: WeakKeyDictionary[ClassMap, tuple[tuple[str, ...], ...]] = WeakKeyDictionary()
"""The ordered indexes of each class that was searched."""


def serving_index(mapping: ClassMap, filter: Mapping[str, Any]) -> str | None:
    """The fields of the index, declared by the class or those above it, that serves the filter; None: none does.

    Whether the server has it is not asked here. Raises `MappingError` as `declared_indexes` does.
    """
    indexes = _known.get(mapping)
    if indexes is None:
        indexes = _known[mapping] = tuple(_ordered(mapping))
    found = serving(filter, indexes)
    return None if found is None else ", ".join(found)


def serving(filter: Mapping[str, Any], indexes: Sequence[Sequence[str]]) -> Sequence[str] | None:
    """The first of the indexes, each of which is its fields' paths, whose entries alone tell what the filter matches.

    That are those that begin with the fields of the filter's equalities, after which its one range may come.
    Of other filters, as with ``$or`` or ``$regex``, nothing is known.
    """
    ranged: dict[str, bool] = {}
    for path, operators in _conditions(filter):
        if not operators or not operators <= _EQUAL | _RANGES:
            return None
        ranged[path] = ranged.get(path, True) and not operators & _EQUAL
    equal = {path for path, wide in ranged.items() if not wide}
    if not ranged or len(ranged) - len(equal) > 1:
        return None
    for paths in indexes:
        if {*paths[: len(equal)]} == equal and {*paths[: len(ranged)]} == ranged.keys():
            return paths
    return None


def _conditions(filter: Mapping[str, Any]) -> Iterator[tuple[str, frozenset[str]]]:
    """Each path with its operators; of what else stands in the filter no path, and no operators."""
    for key, given in filter.items():
        if key == "$and" and is_list(given):
            for part in given:
                yield from _conditions(part)
        elif key.startswith("$"):
            yield key, frozenset()
        elif is_dict(given) and any(name.startswith("$") for name in given):
            yield key, frozenset(given)
        else:
            yield key, frozenset({"$eq"})


def _ordered(mapping: ClassMap) -> Iterator[tuple[str, ...]]:
    """The paths of the indexes that hold every document of the collection in the order of their values."""
    above: ClassMap | None = mapping
    while above is not None:
        for index in declared_indexes(above):
            whole = index.partial is None and index.only is None and not index.options.keys() & _PARTIAL
            if whole and all(kind in (1, -1) and WILDCARD not in path.split(".") for path, kind in index.keys):
                yield tuple(path for path, _ in index.keys)
        above = above.parent
