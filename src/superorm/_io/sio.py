"""The synchronous twin of `aio`."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

__all__ = ["Background", "Lock", "in_thread", "sleep"]

P = ParamSpec("P")
T = TypeVar("T")

Lock = threading.Lock
sleep = time.sleep


def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call the function."""
    return function(*args, **kwargs)


class Background:
    """Calls `work` a pause after `wake`, in a daemon thread; many wakes in between are one call.

    `work` must not raise. The thread ends when there is nothing to do.
    """

    def __init__(self, work: Callable[[], None], pause: float) -> None:
        self._work = work
        self._pause = pause
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._woken = False
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Ask for a call soon."""
        if self._pid != os.getpid():
            self._reset()
        with self._lock:
            self._woken = True
            if self._thread is None and not self._stopped.is_set():
                self._thread = threading.Thread(target=self._run, name="superorm-background", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Wait for a call under way; no further one begins."""
        self._stopped.set()
        thread = self._thread
        if thread is not None and self._pid == os.getpid():
            thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._pause):
            with self._lock:
                if not self._woken:
                    self._thread = None
                    return
                self._woken = False
            self._work()
