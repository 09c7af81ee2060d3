"""What the asynchronous shell does that its synchronous twin need not."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from superorm._io import aio


async def test_cancelling_waits_for_the_thread() -> None:
    """Whoever holds a lock around a call in a thread still holds it while the thread works."""
    began, ended = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        time.sleep(0.2)
        ended.set()

    task = asyncio.create_task(aio.in_thread(work))
    while not began.is_set():
        await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_results_and_errors_of_threads() -> None:
    """They are the function's."""
    assert 3 == await aio.in_thread(max, 2, 3)
    with pytest.raises(ZeroDivisionError):
        await aio.in_thread(divmod, 1, 0)
