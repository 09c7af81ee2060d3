"""What sets commits of computed vectors in conflict with a switch to another version of their model.

A *fence* of an index is a document beside the records::

    {_id: "<index>#fence:<ObjectId>", kind: "fence", n}

A transaction writes to one of its own when it is about to be committed: so writers are not in conflict with each other,
and one that takes long holds nobody up.
The transaction of a switch removes all of the index. So either the switch sees what was committed, or one of the two
fails, however long a writer stands still before its commit arrives.

A fence holds for versions that were read after it was made: a switch that does not know it was announced before that.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from bson import ObjectId

from superorm.unitofwork.encoded import Fence
from superorm.unitofwork.writes import Delete, Insert, UpdateOp
from superorm.vectors.records import COLLECTION

if TYPE_CHECKING:
    from superorm.protocols._async.parts import AsyncDataBackend

__all__ = ["AsyncFences", "all_fences", "passing"]


class AsyncFences:
    """The fences of this process that no transaction holds."""

    def __init__(self, backend: AsyncDataBackend) -> None:
        self._backend = backend
        self._free: dict[str, list[Fence]] = {}

    async def take(self, held: dict[str, Fence], indexes: Iterable[str]) -> None:
        """Have a fence of each index among those held by a unit of work; nothing where there are no transactions."""
        if not (await self._backend.capabilities()).transactions:
            return
        made: dict[str, dict[str, Any]] = {}
        for index in indexes:
            if index not in held:
                try:
                    held[index] = self._free.setdefault(index, []).pop()
                except IndexError:
                    made[index] = {"_id": f"{index}#fence:{ObjectId()}", "kind": "fence", "n": 0}
        if made:
            await self._backend.write(Insert(COLLECTION, list(made.values())))
            now = time.monotonic()
            held.update({index: Fence(document["_id"], now) for index, document in made.items()})

    def forget(self, indexes: Iterable[str]) -> None:
        """Those of indexes that were switched are gone."""
        for index in indexes:
            self._free.pop(index, None)

    def give_back(self, held: dict[str, Fence]) -> None:
        """Those of a transaction that has ended."""
        for index, fence in held.items():
            self._free.setdefault(index, []).append(fence)
        held.clear()


def passing(fences: Mapping[str, Fence]) -> list[UpdateOp]:
    """What writes to the fences: each matches unless there was a switch since it was made."""
    return [UpdateOp(q={"_id": fence.id}, u={"$inc": {"n": 1}}) for fence in fences.values()]


def all_fences(index: str) -> Delete:
    """What removes those of an index, in conflict with every transaction that has written to one."""
    return Delete(COLLECTION, [{"_id": {"$gte": f"{index}#fence:", "$lt": f"{index}#fence;"}}])
