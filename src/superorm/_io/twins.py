"""The asynchronous twins of a DB, one for each event loop that uses it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Protocol, TypeAlias

from superorm._io.loops import run_in
from superorm.exc import ConfigurationError

__all__ = ["Twin", "Twins"]

_Closer: TypeAlias = tuple[asyncio.Lock, AsyncGenerator[None]]


class Twin(Protocol):
    """An asynchronous DB."""

    async def close(self) -> None: ...


class Twins:
    """The asynchronous DBs that `make` gives, one for each event loop: connections are bound to one.

    A twin is closed with its event loop, or with the DB, whichever is first.
    """

    def __init__(self, make: Callable[[], Twin]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._closed = False
        self._by_loop: dict[asyncio.AbstractEventLoop, Twin] = {}
        self._open: dict[asyncio.AbstractEventLoop, list[_Closer]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def here(self) -> Twin:
        """The twin of the running event loop; outside of one, a new twin for the loop that will use it.

        Raises `ConfigurationError` once the DB is closed.
        """
        self._check()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return self._make()
        with self._lock:
            if loop not in self._by_loop:
                self._by_loop = {other: twin for other, twin in self._by_loop.items() if not other.is_closed()}
                self._by_loop[loop] = self._make()
            return self._by_loop[loop]

    def _check(self) -> None:
        if self._closed:
            raise ConfigurationError("this DB is closed; connect again")

    async def opening(self, twin: Twin) -> None:
        """From now on the twin, which is about to be opened, is closed with the running event loop or the DB."""
        closer = self._closing(twin)
        await anext(closer)  # an event loop closes the generators that are left, as asyncio.run() does
        with self._lock:
            self._check()
            self._open.setdefault(asyncio.get_running_loop(), []).append((asyncio.Lock(), closer))

    async def _closing(self, twin: Twin) -> AsyncGenerator[None]:
        loop = asyncio.get_running_loop()
        try:
            yield
        finally:
            with self._lock:
                self._by_loop.pop(loop, None)
                self._open.pop(loop, None)
            await twin.close()

    def close(self) -> None:
        """Close the twins, each in its event loop; in the running one, as soon as that is given back control.

        Raises `ConfigurationError` where another thread runs one of the event loops, and it is blocked.
        """
        with self._lock:
            self._closed = True
            opened, self._open = list(self._open.items()), {}
        with ExitStack() as stack:  # each is closed, whatever the others raise
            for loop, closers in opened:
                if not loop.is_closed():
                    stack.callback(self._close_in, loop, closers)

    def _close_in(self, loop: asyncio.AbstractEventLoop, closers: list[_Closer]) -> None:
        async def close_all() -> None:
            for lock, closer in closers:
                async with lock:  # of another call, where that was refused amid it
                    await closer.aclose()

        if not loop.is_running():
            with ThreadPoolExecutor(1) as thread:  # in this one another event loop may be running
                thread.submit(loop.run_until_complete, close_all()).result()
        elif loop is asyncio._get_running_loop():
            self._tasks.append(loop.create_task(close_all()))
        else:
            try:
                run_in(loop, close_all, "DB.close()")
            except ConfigurationError:
                self._open[loop] = closers  # for another try
                raise
