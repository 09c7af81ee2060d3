"""Unique indexes over mongomock by the server's rules: mongomock itself does not look into lists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import frozen
from pymongo.errors import DuplicateKeyError

from superorm.backends.mongomock_match import matcher
from superorm.codec.keys import encode_key
from superorm.expr.narrow import is_dict, is_list

__all__ = ["PARALLEL_ARRAYS", "check_unique", "values_in_two"]

PARALLEL_ARRAYS = 171
"""The server's code for a document that has lists in two fields of one index."""

_MISSING: Any = object()
_EMPTY: Any = object()
"""What an empty list is indexed as."""


@frozen
class _Slot:
    """One field of an index on its way through a document."""

    value: Any
    path: Sequence[str] | None
    """What is left of it; None at the end, where a list is a value."""

    @property
    def stops_at_list(self) -> bool:
        return self.path is not None and is_list(self.value)

    def walk(self) -> _Slot:
        """The slot at the next list, or at the end."""
        value, path = self.value, self.path
        while path and not is_list(value):
            value = value.get(path[0], _MISSING) if is_dict(value) else _MISSING
            path = path[1:]
        return _Slot(value, path)

    def at(self, element: Any) -> _Slot:
        """The same for one element of the list."""
        if not self.path:
            return _Slot(element, None)
        return _Slot(element if is_dict(element) else _MISSING, self.path)


def check_unique(collection: Any, document: Mapping[str, Any]) -> None:
    """Raise PyMongo's ``DuplicateKeyError`` where another document has a key of a unique index of this one.

    So for lists side by side in an index of any kind.
    """
    for index in list(collection._store.indexes.values()):
        if index.get("unique") or len(index["key"]) > 1:
            keys = _keys(document, index)
            if not index.get("unique"):
                continue
            for other in list(collection._store.documents) if keys else ():
                if encode_key(other["_id"]) != encode_key(document["_id"]):
                    for key in keys.keys() & _keys(other, index).keys():
                        raise DuplicateKeyError("E11000 duplicate key", 11000, {"keyValue": keys[key]})


def values_in_two(store: Any, index: Mapping[str, Any]) -> dict[str, Any] | None:
    """The values that two documents would have in a unique index; None where it can be made."""
    seen: set[tuple[str, ...]] = set()
    for document in list(store.documents):
        keys = _keys(document, index)
        for key in keys.keys() & seen:
            return keys[key]
        seen |= keys.keys()
    return None


def _keys(document: Mapping[str, Any], index: Mapping[str, Any]) -> dict[tuple[str, ...], dict[str, Any]]:
    """The keys of a document in an index, each with its values by path."""
    partial = index.get("partialFilterExpression")
    if partial is not None and not matcher(partial)(document):
        return {}
    paths = [path for path, _ in index["key"]]
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for values in _expanded([_Slot(document, path.split(".")) for path in paths]):
        if index.get("sparse") and all(value is _MISSING for value in values):
            continue
        shown: list[Any] = [None if value is _MISSING else [] if value is _EMPTY else value for value in values]
        key = tuple("" if value is _EMPTY else encode_key(known) for value, known in zip(values, shown, strict=True))
        found[key] = dict(zip(paths, shown, strict=True))
    return found


def _expanded(slots: Sequence[_Slot]) -> Iterator[list[Any]]:
    """The values of each key: one for every element of the list that the paths lead through."""
    slots = [slot.walk() for slot in slots]
    lists = [slot.value for slot in slots if slot.stops_at_list]
    if not lists:
        yield [slot.value for slot in slots]
        return
    if any(found is not lists[0] for found in lists):
        raise DuplicateKeyError("cannot index parallel arrays", PARALLEL_ARRAYS)  # the kind that mongomock undoes
    if not lists[0]:
        empty = [_Slot(_MISSING if slot.path else _EMPTY, None) if slot.stops_at_list else slot for slot in slots]
        yield from _expanded(empty)
    for element in lists[0]:
        yield from _expanded([slot.at(element) if slot.stops_at_list else slot for slot in slots])
