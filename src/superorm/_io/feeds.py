"""Items of an asynchronous iterable for a thread that takes them, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

__all__ = ["THREADS", "feed"]

T = TypeVar("T")
R = TypeVar("R")

THREADS: ContextVar[ThreadPoolExecutor | None] = ContextVar("THREADS", default=None)
"""The threads of what takes such items: it may wait for them, and they for one of the event loop's own threads."""
_AHEAD = 2
"""So many items at most are waiting to be taken."""


class _Feed(Generic[T]):
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: SimpleQueue[tuple[T, ...] | BaseException] = SimpleQueue()
        self._room = asyncio.Semaphore(_AHEAD)

    async def fill(self, items: AsyncIterable[T]) -> None:
        """Hand over the items, then nothing, or what they raise; a cancellation too."""
        try:
            await self._fill(items)
        except BaseException as error:  # noqa: BLE001 - it is raised where the items are taken
            self._items.put(error)
        else:
            self._items.put(())

    async def _fill(self, items: AsyncIterable[T]) -> None:
        found = aiter(items)
        try:
            async for item in found:
                await self._room.acquire()
                self._items.put((item,))
        finally:
            close: Callable[[], Coroutine[Any, Any, None]] | None = getattr(found, "aclose", None)
            if close is not None:
                await close()

    def __iter__(self) -> Iterator[T]:
        while found := self._items.get():
            if isinstance(found, BaseException):
                raise found
            self._loop.call_soon_threadsafe(self._room.release)
            yield found[0]


async def feed(function: Callable[[Iterable[T]], Coroutine[Any, Any, R]], items: AsyncIterable[T]) -> R:
    """Await the function of the items, which it may take in its threads.

    The items come from one task, and are closed at the end. A cancellation ends them first,
    so that a thread that waits for one that never comes does not go on.
    """

    async def use() -> R:
        with ThreadPoolExecutor(1, "superorm-feed") as threads:
            THREADS.set(threads)
            return await function(fed)

    fed = _Feed[T]()
    filling = asyncio.create_task(fed.fill(items))
    using = asyncio.create_task(use())
    try:
        return await asyncio.shield(using)
    finally:
        filling.cancel()
        using.cancel()
        while not (filling.done() and using.done()):
            with suppress(asyncio.CancelledError):
                await asyncio.wait([filling, using])
