"""The synchronous twin of `aio`."""

from __future__ import annotations

import contextlib
import gc
import inspect
import os
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from inspect import isawaitable
from typing import Generic, ParamSpec, TypeVar
from weakref import WeakMethod

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

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

Event = threading.Event
Lock = threading.Lock
sleep = time.sleep
caller = threading.get_ident


def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call the function."""
    return function(*args, **kwargs)


def at_once(function: Callable[[], object]) -> None:
    """Call the function in a constructor."""
    function()


def at_touch(function: Callable[P, T]) -> Callable[P, T] | None:
    """What can be called where an attribute is touched: the function."""
    return function


def here() -> object:
    """The running event loop: there is none."""
    return None


def in_loop(loop: None, function: Callable[[], T], call: str) -> T:
    """Call the function."""
    return function()


def fed(function: Callable[[T], R], items: T) -> R:
    """Call the function with the items."""
    return function(items)


def each(function: Callable[[T], None], items: Iterable[T], at_once: int) -> None:
    """Call the function with each item, one after the other."""
    for item in items:
        function(item)


def is_cancelled(caller: object) -> bool:
    """Whether a caller was cancelled: an interruption is an exception right where it is."""
    return False


def settled(result: object, function: object) -> None:
    """Raise `SessionError` where a user's function was an async one, none of which has run by now."""
    if isawaitable(result):
        if isinstance(result, Coroutine):
            result.close()
        name = getattr(function, "__qualname__", repr(function))
        raise SessionError(f"{name} is async, and this session is not; make it a plain function, or use AsyncSession")


def shielded(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call the function."""
    return function(*args, **kwargs)


def call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call the function. Raises `SessionError` where its result would have to be awaited, or is a generator."""
    result = function(*args, **kwargs)
    if inspect.isgenerator(result):
        result.close()
        raise SessionError(f"{function!r:.80} gives a generator, of which nothing has run; give a list, or use return")
    if inspect.iscoroutine(result):
        result.close()
        raise SessionError(f"a plain function is needed here, and {function!r:.80} is an async one")
    return result


_collector: int | None = None
"""The thread in which the garbage collector is at work."""


def _note_collector(phase: str, info: dict[str, int], me: Callable[[], int] = threading.get_ident) -> None:
    global _collector
    _collector = me() if phase == "start" else None  # also at the end of the process, when modules are empty


gc.callbacks.append(_note_collector)


def collecting() -> bool:
    """Whether the garbage collector is calling: amid anything, in whatever thread, also under locks."""
    return _collector == threading.get_ident()


def name_of(caller: object) -> str:
    """How an error names a caller."""
    return next((f"thread {thread.name!r}" for thread in threading.enumerate() if thread.ident == caller), "a thread")


class Ahead(Generic[T]):
    """Calls a function in a thread while its caller still uses what the call before gave.

    All are as `patient` as can be.
    """

    def __init__(self, function: Callable[[], T], *, patient: bool = False) -> None:
        self._function = function
        self._thread = ThreadPoolExecutor(1, "superorm-ahead")
        self._calling: Future[T] | None = None

    def start(self) -> None:
        """Call the function."""
        self._calling = self._thread.submit(copy_context().run, self._function)

    def result(self) -> T:
        """What the call gives that was started last. Raises what it raises."""
        assert self._calling is not None
        return self._calling.result()

    def close(self) -> None:
        """Wait for a call under way; a result that nobody has asked for is given up."""
        self._thread.shutdown()


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
        self._stopped = False
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None

    def wake(self, *, at_once: bool = False) -> None:
        """Ask for a call soon, or without a pause; the next wake does where no thread can be started, as at the end."""
        if self._pid != os.getpid():
            self._reset()
        with self._lock:
            self._woken = True
            if at_once:
                self._hurry.set()
            if self._thread is None and not self._stopped:
                thread = threading.Thread(target=self._run, name="superorm-background", daemon=True)
                with contextlib.suppress(RuntimeError):
                    thread.start()
                    self._thread = thread

    def stop(self) -> None:
        """Wait for a call under way; no further one begins."""
        self._stopped = True
        self._hurry.set()
        thread = self._thread
        if thread is not None and self._pid == os.getpid():
            thread.join()

    def _run(self) -> None:
        while True:
            self._hurry.wait(self._pause)
            with self._lock:
                if self._stopped:
                    return
                self._hurry.clear()
                if not self._woken:
                    self._thread = None
                    return
                self._woken = False
            self._work()


class Repeated:
    """Calls `work`, a method, in so many seconds after `start`, and so on until it gives False, in a daemon thread.

    It ends with `stop` too, and with the method's object, which it does not keep alive. `work` must not raise.
    """

    def __init__(self, work: Callable[[], bool], every: float) -> None:
        self._work = WeakMethod(work)
        self._every = every
        self._stopped = False
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._running = False

    def start(self) -> None:
        """Have it called from now on, unless it is already, or no thread can be started, as when the process ends."""
        if self._pid != os.getpid():
            self._reset()
        with self._lock:
            if not (self._running or self._stopped):
                with contextlib.suppress(RuntimeError):
                    threading.Thread(target=self._run, name="superorm-repeated", daemon=True).start()
                    self._running = True

    def stop(self) -> None:
        """No further call begins; one under way is not waited for."""
        self._stopped = True
        self._end.set()

    def _run(self) -> None:
        while not self._end.wait(self._every):
            work = self._work()
            if work is None or not work():
                break
            del work  # the object may go before the next call
        with self._lock:
            self._running = False
