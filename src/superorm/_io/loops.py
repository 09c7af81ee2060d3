"""Work in event loops of other threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future, wait
from typing import Any, TypeVar

from superorm.exc import ConfigurationError

__all__ = ["run_in"]

_PATIENCE = 10.0
"""Seconds within which an event loop that is not blocked answers."""

_ENDED = "has ended before that was done"

T = TypeVar("T")


def run_in(loop: asyncio.AbstractEventLoop, function: Callable[[], Coroutine[Any, Any, T]], call: str) -> T:
    """Wait for an async function in the event loop that another thread runs, as long as that answers.

    Raises `ConfigurationError` where it is blocked: nothing has begun then, or what has goes on when it is free again;
    and where it ends before.
    """
    _check_answers(loop, call)
    running = asyncio.run_coroutine_threadsafe(function(), loop)
    while not wait([running], _PATIENCE).done:
        _check_answers(loop, call)
    try:
        return running.result()
    except CancelledError:
        raise _refusal(loop, call, _ENDED) from None


def _check_answers(loop: asyncio.AbstractEventLoop, call: str) -> None:
    answer = Future[None]()
    try:
        loop.call_soon_threadsafe(answer.set_result, None)
    except RuntimeError:  # it is closed
        raise _refusal(loop, call, _ENDED) from None
    if not wait([answer], _PATIENCE).done:
        raise _refusal(loop, call, f"is blocked: it has not answered for {_PATIENCE:g} seconds")


def _refusal(loop: asyncio.AbstractEventLoop, call: str, why: str) -> ConfigurationError:
    number = getattr(loop, "_thread_id", None)
    where = "".join(f", in thread {thread.name!r}," for thread in threading.enumerate() if thread.ident == number)
    return ConfigurationError(
        f"{call} has to close connections in the event loop that they belong to, and that one{where} {why}; "
        f"call it there, or while that one is free, and do not let that one wait for the call: {loop!r}"
    )
