"""Work that cannot be stopped, and that nobody need wait for."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

__all__ = ["leave_late"]

_log = logging.getLogger("superorm.vectors")

PATIENCE = 10.0
"""Seconds for which work goes on to be waited for."""
_GLANCE = 0.1
"""Seconds between two looks whether it is to go on."""


def leave_late(work: Callable[[], object], clear: Callable[[], object], go_on: Callable[[], bool]) -> bool:
    """Do the work in a daemon thread; False where it was not to `go_on` and took longer still: then it is left.

    What is left is cleared when it is done, unless the process has ended before. Raises what the work raises.
    """
    done = Future[None]()
    left = threading.Event()

    def run() -> None:
        try:
            work()
            done.set_result(None)
        except BaseException as error:  # noqa: BLE001 - raised by who waits
            done.set_exception(error)
        with deciding:
            is_left = left.is_set()
            decided.set()
        if is_left:
            try:
                clear()
            except Exception as error:  # noqa: BLE001 - logged: what is left is removed later
                _log.warning("what was left could not be removed: %s", error)

    deciding, decided, until = threading.Lock(), threading.Event(), None
    threading.Thread(target=run, name="superorm-left", daemon=True).start()
    while not decided.wait(_GLANCE):
        if until is None and not go_on():
            until = time.monotonic() + PATIENCE
        if until is not None and time.monotonic() >= until:
            with deciding:
                if not decided.is_set():
                    left.set()
                    return False
    done.result()
    return True
