"""A lock between processes that the kernel frees when its owner dies."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["FileLock"]

_held: set[int] = set()


def _close_in_child() -> None:
    """A forked child must not keep its parent's locks: closing its copy of the file leaves the parent's lock alone."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


class FileLock:
    """One taking of the lock; it excludes other processes and other takings in this one alike."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._pid = 0

    def acquire(self) -> bool:
        """Take the lock if it is free. Raises ``OSError`` where the file cannot be made."""
        import fcntl

        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor, self._pid = descriptor, os.getpid()
        _held.add(descriptor)
        return True

    def release(self) -> None:
        """Free the lock."""
        if self._descriptor is not None and self._pid == os.getpid():
            _held.discard(self._descriptor)
            os.close(self._descriptor)
        self._descriptor = None
