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


async def test_calls_ahead() -> None:
    """One is under way while the caller works; what it raises is raised to who asks for the result."""
    began, calls = asyncio.Event(), iter([1, 2])

    async def function() -> int:
        began.set()
        await asyncio.sleep(0)
        return next(calls, None) or 1 // 0

    ahead = aio.Ahead(function)
    ahead.start()
    await began.wait()
    assert 1 == await ahead.result()
    ahead.start()
    assert 2 == await ahead.result()
    ahead.start()
    with pytest.raises(ZeroDivisionError):
        await ahead.result()
    ahead.start()
    await ahead.close()  # whose error nobody waits for
    await aio.Ahead(function).close()


async def test_closing_ends_a_call_ahead() -> None:
    """Nothing is left that runs; a cancellation of who waits reaches it too."""
    ended: list[str] = []

    async def function() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("function")

    ahead = aio.Ahead(function)
    ahead.start()
    await asyncio.sleep(0)
    await ahead.close()
    assert ["function"] == ended
    ahead.start()
    waiting = asyncio.create_task(ahead.result())
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ["function"] * 2 == ended


async def test_what_is_ahead_is_waited_for() -> None:
    """Where it is to be whole, closing does not cancel it."""
    ended: list[bool] = []

    async def function() -> None:
        await asyncio.sleep(0.05)
        ended.append(True)

    for patient in (False, True):
        ahead = aio.Ahead(function, patient=patient)
        ahead.start()
        await asyncio.sleep(0.01)
        await ahead.close()
        assert ([True] if patient else []) == ended
