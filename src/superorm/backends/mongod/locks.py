"""Locks on files that the kernel releases when their process ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from pathlib import Path

__all__ = ["FileLock"]


_guard = threading.Lock()
_opened: set[FileLock] = set()  # strong references: a lock is held until it is closed


class FileLock:
    """A lock on a file, shared or exclusive, of this process alone.

    A forked child shares its parent's open files, and would keep the lock alive after the parent's death:
    so every child closes its copies first thing, which leaves the parent's locks as they are.
    """

    def __init__(self, path: Path) -> None:
        with _guard:
            self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            _opened.add(self)

    def try_shared(self) -> bool:
        """Take the lock together with others; False when somebody holds it alone."""
        return self._try(fcntl.LOCK_SH)

    def try_exclusive(self) -> bool:
        """Take the lock alone; False when somebody holds it."""
        return self._try(fcntl.LOCK_EX)

    def wait_exclusive(self) -> None:
        """Take the lock alone, as soon as nobody holds it."""
        fcntl.flock(self.fd, fcntl.LOCK_EX)

    def close(self) -> None:
        """Let go, unless another process was given the descriptor; again, or in a forked child, it does nothing."""
        with _guard:
            if self in _opened:
                _opened.remove(self)
                os.close(self.fd)

    def __enter__(self) -> FileLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _try(self, kind: int) -> bool:
        try:
            fcntl.flock(self.fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _forget() -> None:
    for lock in _opened:
        with contextlib.suppress(OSError):  # closed by a program that closes whatever is open
            os.close(lock.fd)
    _opened.clear()
    _guard.release()


os.register_at_fork(before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_forget)
