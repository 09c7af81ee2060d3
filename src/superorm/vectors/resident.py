"""The copies of indexes that one engine holds in process memory. Nothing here does I/O."""

from __future__ import annotations

import os
import threading
import time

from superorm.vectors.memory_copy import MemoryCopy

__all__ = ["Resident"]

IDLE = 60.0
"""Seconds after which a copy that was not used makes room for another."""


class Resident:
    """Copies by name, of at most `limit` bytes of rows together; without a limit, of as many as there are.

    Safe for threads. A forked child begins with none.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._copies: dict[str, MemoryCopy] = {}
        self._used: dict[str, float] = {}

    def get(self, name: str) -> MemoryCopy | None:
        """The copy of that name."""
        with self._guard():
            self._used[name] = time.monotonic()
            return self._copies.get(name)

    def put(self, name: str, copy: MemoryCopy) -> None:
        """Hold a copy in the place of what had the name."""
        with self._guard():
            self._copies[name] = copy

    def drop(self, name: str) -> None:
        """Free a copy, if it is there."""
        with self._guard():
            self._copies.pop(name, None)

    def admits(self, name: str, nbytes: int) -> bool:
        """Whether there is room for so many bytes under the name; copies that are not in use make room."""
        if self.limit is None:
            return True
        with self._guard():
            others = sorted((self._used.get(other, 0.0), other) for other in self._copies if other != name)
            over = nbytes - self.limit + sum(self._copies[other].nbytes for _, other in others)
            idle: list[str] = []
            for used, other in others:
                if over <= 0 or time.monotonic() - used < IDLE:
                    break
                idle.append(other)
                over -= self._copies[other].nbytes
            if over > 0:
                return False
            for other in idle:
                del self._copies[other]
            return True

    def most(self, dim: int) -> int | None:
        """How many rows (dim,) fit at most; None where there is no limit."""
        return None if self.limit is None else self.limit // (4 * dim)

    def clear(self) -> None:
        """Free all copies."""
        self._forget()

    def _guard(self) -> threading.Lock:
        if self._pid != os.getpid():
            self._forget()
        return self._lock
