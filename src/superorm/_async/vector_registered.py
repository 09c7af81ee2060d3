"""The vector indexes and listeners that programs registered, known without asking for them in each commit."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence, Set
from typing import TYPE_CHECKING

from superorm._io import aio
from superorm.compile.plan import Aggregate
from superorm.components.outputs import State as ListenerState
from superorm.schema.listened import ListenerPath
from superorm.vectors.records import COLLECTION, State

if TYPE_CHECKING:
    from superorm.protocols._async.parts import AsyncDataBackend

__all__ = ["AsyncRegisteredIndexes"]

_log = logging.getLogger("superorm.vectors")

_EVERY = 15.0
"""Seconds between two readings in the background."""
_LATE = 30.0
"""Seconds after which what was read last does not serve any more."""


class AsyncRegisteredIndexes:
    """The indexes that any program registered in one data backend; a new one is noticed late.

    Where there are transactions, they are read in the background from the first question on, so that no commit waits.
    `then` is called after each reading.
    """

    def __init__(self, backend: AsyncDataBackend, then: Callable[[], None]) -> None:
        self._backend = backend
        self._then = then
        self._indexes: Mapping[str, Set[str]] = {}
        self.listeners: Sequence[ListenerPath] = ()
        """The listeners, as they were known when the indexes were asked for."""
        self._read_at = float("-inf")
        self._reading = aio.Repeated(self._read_again, _EVERY)

    async def indexes(self) -> Mapping[str, Set[str]]:
        """Those that were registered half a minute ago, and perhaps later ones, by name.

        Each with the stored paths beside the vector whose changes are to be recorded.
        """
        if self._read_at + _LATE < time.monotonic():
            await self._read()
        if (await self._backend.capabilities()).transactions:
            self._reading.start()
        return self._indexes

    def forget(self) -> None:
        """Read again at the next question."""
        self._read_at = float("-inf")

    async def close(self) -> None:
        """Read no more."""
        await self._reading.stop()

    async def _read(self) -> None:
        start = time.monotonic()
        states = {
            "_id": {"$gte": ""},
            "kind": {"$in": ["state", "listener"]},
        }  # only these have texts for keys: no record is read
        found: dict[str, set[str]] = {}
        listeners: list[ListenerPath] = []
        for one in await self._backend.read(Aggregate(COLLECTION, [{"$match": states}])):
            if one["kind"] == "listener":
                listeners.append(ListenerState.of(one).path)
                continue
            found.setdefault(one["i"], set()).update(State.of(one).recorded)
        self._indexes, self.listeners = found, listeners
        self._read_at = start
        self._then()

    async def _read_again(self) -> bool:
        try:
            await self._read()
        except Exception as error:  # noqa: BLE001 - logged: whoever needs them later reads them, and has the error
            _log.info("the registered vector indexes could not be read: %s", error)
            return False
        return True
