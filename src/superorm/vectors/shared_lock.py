"""A lock that many threads may hold to read, or one to write."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["SharedLock"]


class SharedLock:
    """Held by readers at once, or by one writer, who goes before the readers that come after. Not reentrant."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers = 0
        self._waiting = 0
        self._writing = False

    @contextmanager
    def reading(self) -> Generator[None]:
        """Hold it beside other readers."""
        with self._changed:
            while self._writing or self._waiting:
                self._changed.wait()
            self._readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                if not self._readers:
                    self._changed.notify_all()

    @contextmanager
    def writing(self) -> Generator[None]:
        """Hold it alone."""
        with self._changed:
            self._waiting += 1
            try:
                while self._writing or self._readers:
                    self._changed.wait()
                self._writing = True
            finally:
                self._waiting -= 1
                self._changed.notify_all()  # the readers that wait for it, where it was interrupted
        try:
            yield
        finally:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
