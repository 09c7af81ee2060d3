"""Work in event loops of other threads."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future, wait
from typing import Any, TypeVar

from superorm.exc import ConfigurationError

__all__ = ["await_in", "run_in"]

_PATIENCE = 10.0
"""Seconds within which an event loop that is not blocked answers."""

_ENDED = "has ended before that was done"

T = TypeVar("T")


def run_in(loop: asyncio.AbstractEventLoop, function: Callable[[], Coroutine[Any, Any, T]], call: str) -> T:
    """Wait for an async function in the event loop that another thread runs, as long as that answers.

    Raises `ConfigurationError` where it is blocked: nothing has begun then, or what has goes on when it is free again;
    and where it ends before.
    """
    _check_answered(wait([_asked(loop, call)], _PATIENCE).done, loop, call)
    running = asyncio.run_coroutine_threadsafe(function(), loop)
    while not wait([running], _PATIENCE).done:
        _check_answered(wait([_asked(loop, call)], _PATIENCE).done, loop, call)
    return _result(running, loop, call)


async def await_in(loop: asyncio.AbstractEventLoop, function: Callable[[], Coroutine[Any, Any, T]], call: str) -> T:
    """The same without blocking the running event loop. A cancellation ends the waiting: what has begun goes on."""
    _check_answered(await _ends(_asked(loop, call)), loop, call)
    running = asyncio.run_coroutine_threadsafe(function(), loop)
    while not await _ends(running):
        _check_answered(await _ends(_asked(loop, call)), loop, call)
    return _result(running, loop, call)


def _asked(loop: asyncio.AbstractEventLoop, call: str) -> Future[None]:
    """What is done as soon as the event loop is free."""
    answer = Future[None]()
    try:
        loop.call_soon_threadsafe(answer.set_result, None)
    except RuntimeError:  # it is closed
        raise _refusal(loop, call, _ENDED) from None
    return answer


def _check_answered(answered: object, loop: asyncio.AbstractEventLoop, call: str) -> None:
    if not answered:
        raise _refusal(loop, call, f"is blocked: it has not answered for {_PATIENCE:g} seconds")


async def _ends(future: Future[Any]) -> bool:
    """Whether it is done in time. Unlike `asyncio.wrap_future`, a cancellation does not reach it."""
    here, done = asyncio.get_running_loop(), asyncio.Event()

    def note(_: object) -> None:
        with contextlib.suppress(RuntimeError):  # nobody waits any more: that event loop is closed
            here.call_soon_threadsafe(done.set)

    future.add_done_callback(note)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(done.wait(), _PATIENCE)
    return future.done()


def _result(running: Future[T], loop: asyncio.AbstractEventLoop, call: str) -> T:
    try:
        return running.result()
    except CancelledError:
        raise _refusal(loop, call, _ENDED) from None


def _refusal(loop: asyncio.AbstractEventLoop, call: str, why: str) -> ConfigurationError:
    number = getattr(loop, "_thread_id", None)
    where = "".join(f", in thread {thread.name!r}," for thread in threading.enumerate() if thread.ident == number)
    return ConfigurationError(
        f"{call} has to close connections in the event loop that they belong to, and that one{where} {why}; "
        f"call it there, or while that one is free, and do not let that one wait for the call: {loop!r}"
    )
