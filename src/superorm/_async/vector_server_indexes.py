"""Which of the indexes that classes declare the data backend has, known without asking for them in each search."""

from __future__ import annotations

import time
from collections.abc import Mapping, Set
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from superorm.protocols._async.parts import AsyncDataBackend

__all__ = ["AsyncServerIndexes"]

_LATE = 30.0
"""Seconds after which the indexes of a collection are read again."""
_LEAVING_OUT = frozenset({"partialFilterExpression", "sparse", "hidden"})


class AsyncServerIndexes:
    """The indexes of one data backend that hold every document; one that is made or dropped is noticed late."""

    def __init__(self, backend: AsyncDataBackend) -> None:
        self._backend = backend
        self._known: dict[str, tuple[float, Set[str]]] = {}

    async def has(self, collection: str, fields: str) -> bool:
        """Whether the collection has an index on these fields, named in the index's order with commas between."""
        known = self._known.get(collection)
        if known is None or known[0] + _LATE < time.monotonic():
            start = time.monotonic()
            found = await self._backend.indexes(collection)
            known = self._known[collection] = start, _whole(found)
        return fields in known[1]


def _whole(indexes: list[dict[str, Any]]) -> Set[str]:
    """The fields of those indexes that find all documents, and compare texts as the collection does."""
    usual = next((one.get("collation") for one in indexes if one["name"] == "_id_"), None)
    found = set[str]()
    for one in indexes:
        keys: Mapping[str, Any] = one["key"]
        if not one.keys() & _LEAVING_OUT and one.get("collation") == usual and {*keys.values()} <= {1, -1}:
            found.add(", ".join(keys))
    return found
