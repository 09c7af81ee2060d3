"""What the asynchronous shell needs of asyncio; `sio` is its synchronous twin, written by hand."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable
from contextvars import copy_context
from functools import partial
from inspect import isawaitable
from typing import Any, Generic, ParamSpec, TypeVar, cast
from weakref import WeakMethod, WeakSet

from superorm._io.feeds import THREADS, feed
from superorm._io.loops import await_in
from superorm.exc import SessionError

__all__ = [
    "Ahead",
    "Background",
    "Event",
    "Lock",
    "Repeated",
    "at_once",
    "call",
    "caller",
    "collecting",
    "each",
    "fed",
    "here",
    "in_loop",
    "in_thread",
    "is_cancelled",
    "name_of",
    "settled",
    "shielded",
    "sleep",
]

_shielded: WeakSet[asyncio.Task[Any]] = WeakSet()
"""The tasks that a cancellation does not reach."""
_GRACE = 10.0
"""Seconds for which a cancellation waits for work that should not be cut off."""

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")

Lock = asyncio.Lock
sleep = asyncio.sleep
here = asyncio.get_running_loop


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a blocking function without blocking the event loop.

    A thread cannot be stopped: a cancellation takes effect when it has ended,
    so that nobody lets go of a lock or a transaction that it still works under.
    """
    call = partial(copy_context().run, partial(function, *args, **kwargs))
    running = asyncio.get_running_loop().run_in_executor(THREADS.get(), call)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # given up with the result
        raise


def at_touch(function: Callable[P, Awaitable[T]]) -> Callable[P, T] | None:
    """What can be called where an attribute is touched: nothing that has to be awaited."""
    return None


def at_once(function: Callable[[], Awaitable[object]]) -> None:
    """What a constructor would wait for, and cannot: nothing is called."""


async def in_loop(
    loop: asyncio.AbstractEventLoop | None, function: Callable[[], Coroutine[Any, Any, T]], call: str
) -> T:
    """Await the function in an event loop that may be another than the running one; here where that one is closed.

    A cancellation takes effect at once. Where the event loop is running, the function goes on there;
    where it stands still, the function is cancelled, and the event loop left to its owner when it has ended.

    Raises `ConfigurationError`, which names the `call`, where that event loop is blocked.
    """
    if loop is None or loop is here() or loop.is_closed():
        return await function()
    if loop.is_running():
        return await await_in(loop, function, call)
    task = loop.create_task(function())
    running = asyncio.create_task(in_thread(loop.run_until_complete, task))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        loop.call_soon_threadsafe(task.cancel)
        running.cancel()
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        raise


async def fed(
    function: Callable[[Iterable[T] | S], Coroutine[Any, Any, R]], items: AsyncIterable[T] | Iterable[T] | S
) -> R:
    """Await the function of the items, to be had in a thread: those of an async iterable come from the event loop."""
    if isinstance(items, AsyncIterable):
        return await feed(function, cast("AsyncIterable[T]", items))
    return await function(items)


async def each(function: Callable[[T], Coroutine[Any, Any, None]], items: Iterable[T], at_once: int) -> None:
    """Await the function of each item, so many at once.

    Where one raises, and on a cancellation, those under way are cancelled, and no other begins;
    the error is raised when all have ended.
    """
    left = iter(items)

    async def some() -> None:
        for item in left:
            await function(item)

    tasks = [asyncio.create_task(some()) for _ in range(at_once)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        while not all(task.done() for task in tasks):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait(tasks)


async def settled(result: object, function: object) -> None:
    """Wait for what a user's function gave, where it was an async one."""
    if isawaitable(result):
        await result


async def shielded(function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """Await the function; a cancellation takes effect when it has ended, or after ten seconds."""
    if asyncio.current_task() in _shielded:
        return await function(*args, **kwargs)
    running = asyncio.create_task(function(*args, **kwargs))
    _shielded.add(running)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        until = time.monotonic() + _GRACE
        while not running.done() and (left := until - time.monotonic()) > 0:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([running], timeout=left)
        if not running.done():
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([running], timeout=1)
        if running.done() and not running.cancelled():
            running.exception()  # given up with the result
        raise


async def call(function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """Await what the function gives. Raises `SessionError` where that cannot be awaited."""
    result: object = function(*args, **kwargs)
    if not isawaitable(result):
        raise SessionError(f"an async function is needed here, and {function!r:.80} is none")
    awaited: T = await result
    return awaited


def caller() -> object:
    """Who is calling: the running task, or the thread where there is none."""
    try:
        return asyncio.current_task() or threading.get_ident()
    except RuntimeError:
        return threading.get_ident()


def is_cancelled(caller: object) -> bool:
    """Whether a caller was cancelled, so that what a thread does for it is in vain."""
    return isinstance(caller, asyncio.Task) and caller.cancelling() > 0


def collecting() -> bool:
    """Whether the garbage collector is calling: event loops finalise asynchronous generators in a task instead."""
    return False


def name_of(caller: object) -> str:
    """How an error names a caller."""
    if isinstance(caller, asyncio.Task):
        return f"task {caller.get_name()!r}"  # pyright: ignore[reportUnknownMemberType]
    return next((f"thread {thread.name!r}" for thread in threading.enumerate() if thread.ident == caller), "a thread")


class Event:
    """What tasks wait for that others bring about."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """It has come about."""
        self._event.set()

    def is_set(self) -> bool:
        """Whether it has come about."""
        return self._event.is_set()

    async def wait(self, seconds: float) -> bool:
        """Wait for it, at most so long; whether it has come about."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), seconds)
        return self._event.is_set()


class Ahead(Generic[T]):
    """Calls a function while its caller still uses what the call before gave. One call at most is under way.

    A `patient` one waits for it in the end, else it is cancelled.
    """

    def __init__(self, function: Callable[[], Coroutine[Any, Any, T]], *, patient: bool = False) -> None:
        self._function = function
        self._patient = patient
        self._calling: asyncio.Task[T] | None = None

    def start(self) -> None:
        """Call the function."""
        self._calling = asyncio.create_task(self._function())

    async def result(self) -> T:
        """What the call gives that was started last. Raises what it raises."""
        assert self._calling is not None
        return await self._calling

    async def close(self) -> None:
        """Have no call under way; a result that nobody has asked for is given up."""
        if self._calling is not None:
            if not self._patient:
                self._calling.cancel()
            await asyncio.wait([self._calling])
            if not self._calling.cancelled():
                self._calling.exception()


class Background:
    """Calls `work` a pause after `wake`, in a task of its own; many wakes in between are one call.

    `work` must not raise. The task ends when there is nothing to do.
    """

    def __init__(self, work: Callable[[], Awaitable[None]], pause: float) -> None:
        self._work = work
        self._pause = pause
        self._woken = False
        self._stopped = False
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def wake(self, *, at_once: bool = False) -> None:
        """Ask for a call soon, or without a pause."""
        self._woken = True
        if at_once:
            self._hurry.set()
        if self._task is None and not self._stopped:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Wait for a call under way; no further one begins."""
        self._stopped = True
        self._hurry.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        try:
            while self._woken:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._hurry.wait(), self._pause)
                if self._stopped:
                    break
                self._hurry.clear()
                self._woken = False
                await self._work()
        finally:
            self._task = None


class Repeated:
    """Calls `work`, a method, in so many seconds after `start`, and so on until it gives False.

    It ends with `stop` too, with its event loop, and with the method's object, which it does not keep alive.
    `work` must not raise.
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, bool]], every: float) -> None:
        self._work = WeakMethod(work)
        self._every = every
        self._stopped = False
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Have it called from now on, unless it is already."""
        if self._timer is None and self._task is None and not self._stopped:
            self._timer = asyncio.get_running_loop().call_later(self._every, self._call)

    async def stop(self) -> None:
        """No further call begins, and one under way is cut off."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None and self._task.get_loop() is here():
            self._task.cancel()
            await asyncio.wait([self._task])

    def _call(self) -> None:
        self._timer = None
        work = self._work()
        if work is not None:
            self._task = asyncio.get_running_loop().create_task(self._run(work))

    async def _run(self, work: Callable[[], Awaitable[bool]]) -> None:
        try:
            again = await work()
        finally:
            self._task = None
        if again:
            self.start()
