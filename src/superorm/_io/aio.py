"""What the asynchronous shell needs of asyncio; `sio` is its synchronous twin, written by hand."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from functools import partial
from typing import ParamSpec, TypeVar

__all__ = ["Background", "Lock", "in_thread", "sleep"]

P = ParamSpec("P")
T = TypeVar("T")

Lock = asyncio.Lock
sleep = asyncio.sleep


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a blocking function without blocking the event loop.

    A thread cannot be stopped: a cancellation takes effect when it has ended,
    so that nobody lets go of a lock or a transaction that it still works under.
    """
    call = partial(copy_context().run, partial(function, *args, **kwargs))
    running = asyncio.get_running_loop().run_in_executor(None, call)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # given up with the result
        raise


class Background:
    """Calls `work` a pause after `wake`, in a task of its own; many wakes in between are one call.

    `work` must not raise. The task ends when there is nothing to do.
    """

    def __init__(self, work: Callable[[], Awaitable[None]], pause: float) -> None:
        self._work = work
        self._pause = pause
        self._woken = False
        self._stopped = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Ask for a call soon."""
        self._woken = True
        if self._task is None and not self._stopped.is_set():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Wait for a call under way; no further one begins."""
        self._stopped.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        try:
            while self._woken:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopped.wait(), self._pause)
                if self._stopped.is_set():
                    break
                self._woken = False
                await self._work()
        finally:
            self._task = None
