"""The copies of indexes that one engine holds in process memory. Nothing here does I/O."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from superorm.vectors.memory_copy import Extend, MemoryCopy

__all__ = ["Resident"]

IDLE = 60.0
"""Seconds after which a copy that was not used makes room for another."""

L = TypeVar("L")


class Resident(Generic[L]):
    """Copies by name, with room for `limit` bytes of rows together; without a limit, for as many as there are.

    `make_lock` makes the lock that is held while a copy is loaded.
    Safe for threads. A forked child begins with no copies, and with locks that nobody holds.
    """

    def __init__(self, make_lock: Callable[[], L], limit: int | None = None) -> None:
        self.limit = limit
        self._make_lock = make_lock
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._loading = self._make_lock()
        self._copies: dict[str, MemoryCopy] = {}
        self._used: dict[str, float] = {}
        self._taken: dict[str, int] = {}
        """The bytes of room of each copy, and of the one that is being loaded."""

    @property
    def loading(self) -> L:
        """The lock to hold while a copy is loaded."""
        with self._guard():
            return self._loading

    def get(self, name: str) -> MemoryCopy | None:
        """The copy of that name."""
        with self._guard():
            copy = self._copies.get(name)
            if copy is not None:
                self._used[name] = time.monotonic()
            return copy

    def admits(self, name: str, nbytes: int) -> bool:
        """Whether a copy of so many bytes would get room now, in place of what has the name."""
        with self._guard():
            return self._idle(name, nbytes) is not None

    def reserve(self, name: str, nbytes: int) -> bool:
        """Take so much room for a copy to be loaded, in place of what has the name; False where there is none.

        What has the name is freed in any case. Copies that are not in use make room, the longest unused first,
        and only where that is enough. This waits for those who rank the rows that go.
        """
        with self._guard():
            gone = self._remove(name)
            idle = self._idle(name, nbytes)
            if idle is not None:
                gone += [copy for other in idle for copy in self._remove(other)]
                self._taken[name] = nbytes
        for copy in gone:
            copy.free()
        return idle is not None

    def put(self, name: str, copy: MemoryCopy) -> None:
        """Hold a copy in the place of what had the name."""
        with self._guard():
            self._copies[name] = copy
            self._used[name] = time.monotonic()
            self._taken[name] = copy.nbytes

    def extend(self, name: str) -> Extend | None:
        """What gives the copy of that name more room, as far as the others leave it; None without a limit."""
        return None if self.limit is None else partial(self._extend, name)

    def drop(self, name: str, copy: MemoryCopy | None = None) -> None:
        """Let go of what has the name, or only of that copy, which is not freed here."""
        with self._guard():
            if copy is None or self._copies.get(name) is copy:
                self._remove(name)

    def clear(self) -> None:
        """Free all copies."""
        self._forget()

    def _extend(self, name: str, copy: MemoryCopy, least: int, most: int) -> int | None:
        with self._guard():
            room = self._room(name)
            if room is None or self._copies.get(name) is not copy or least > room:
                return None
            given = min(most, room)
            self._taken[name] = max(given, self._taken[name])
            return given

    def _room(self, name: str) -> int | None:
        """The bytes that all others leave; None without a limit."""
        if self.limit is None:
            return None
        return self.limit - sum(taken for other, taken in self._taken.items() if other != name)

    def _idle(self, name: str, nbytes: int) -> list[str] | None:
        """The other copies that must go for so much room; None where they are in use, or not enough."""
        room = self._room(name)
        over = 0 if room is None else nbytes - room
        idle: list[str] = []
        for used, other in sorted((self._used[other], other) for other in self._copies if other != name):
            if over <= 0 or time.monotonic() - used < IDLE:
                break
            idle.append(other)
            over -= self._taken[other]
        return None if over > 0 else idle

    def _remove(self, name: str) -> list[MemoryCopy]:
        self._taken.pop(name, None)
        self._used.pop(name, None)
        copy = self._copies.pop(name, None)
        return [] if copy is None else [copy]

    def _guard(self) -> threading.Lock:
        if self._pid != os.getpid():
            self._forget()
        return self._lock
