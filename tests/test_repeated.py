"""Methods that are called again and again, in a thread and in an event loop."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Callable
from weakref import ref

import pytest

from superorm._io import aio, sio


class Ticks:
    """Counts the calls of its methods, of which only so many ask for another one."""

    def __init__(self, most: int = 1_000_000) -> None:
        self.most = most
        self.count = 0

    def tick(self) -> bool:
        self.count += 1
        return self.count < self.most

    async def tick_async(self) -> bool:
        await asyncio.sleep(0)
        return self.tick()


def until(happens: Callable[[], object]) -> None:
    """Wait for it."""
    deadline = time.monotonic() + 10
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def until_async(happens: Callable[[], object]) -> None:
    """The same in an event loop."""
    deadline = time.monotonic() + 10
    while not happens():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_until_it_gives_false() -> None:
    """A further start begins anew; starting twice does nothing."""
    ticks = Ticks(3)
    repeated = sio.Repeated(ticks.tick, 0.01)
    repeated.start()
    repeated.start()
    until(lambda: not repeated._running)
    assert 3 == ticks.count
    repeated.start()
    until(lambda: not repeated._running)
    assert 4 == ticks.count


def test_until_it_is_stopped() -> None:
    """At once, whatever the time to the next call; starting again does nothing."""
    ticks = Ticks()
    repeated, slow = sio.Repeated(ticks.tick, 0.01), sio.Repeated(ticks.tick, 3600)
    repeated.start()
    slow.start()
    until(lambda: ticks.count > 2)
    for one in (repeated, slow):
        one.stop()
        until(lambda one=one: not one._running)
        one.start()
        assert not one._running


def test_until_its_object_has_gone() -> None:
    """It does not keep it alive."""
    ticks = Ticks()
    repeated, seen = sio.Repeated(ticks.tick, 0.01), ref(ticks)
    repeated.start()
    until(lambda: seen().count > 2)  # type: ignore[union-attr]
    del ticks
    until(lambda: seen() is None)
    until(lambda: not repeated._running)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_in_a_forked_child() -> None:
    """It begins anew there when it is started, as the thread is not there; one that was stopped does not."""
    ticks = Ticks()
    repeated, stopped = sio.Repeated(ticks.tick, 0.01), sio.Repeated(ticks.tick, 0.01)
    repeated.start()
    stopped.stop()
    until(lambda: ticks.count > 2)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            before = ticks.count
            time.sleep(0.05)
            assert before == ticks.count
            stopped.start()
            assert not stopped._running
            repeated.start()
            until(lambda: ticks.count > before + 2)
            code = 0
        finally:
            os._exit(code)
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    repeated.stop()


def test_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """As at the end of a process: nothing is called, and it can be started later."""
    ticks = Ticks()
    repeated = sio.Repeated(ticks.tick, 0.01)

    def refuses(self: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuses)
        repeated.start()
    assert not repeated._running
    repeated.start()
    until(lambda: ticks.count > 2)
    repeated.stop()


def test_work_for_which_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """What wakes it, as a commit does, goes on; the next wake has it done."""
    calls: list[int] = []
    background = sio.Background(lambda: calls.append(1), 0.01)

    def refuses(self: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuses)
        background.wake(at_once=True)
    assert [] == calls
    background.wake()
    until(lambda: len(calls) == 1)
    background.stop()


async def test_until_it_gives_false_async() -> None:
    """The same in an event loop."""
    ticks = Ticks(3)
    repeated = aio.Repeated(ticks.tick_async, 0.01)
    repeated.start()
    repeated.start()
    await until_async(lambda: ticks.count == 3)
    await asyncio.sleep(0.05)
    assert 3 == ticks.count
    repeated.start()
    await until_async(lambda: ticks.count == 4)
    await repeated.stop()


async def test_until_it_is_stopped_async() -> None:
    """A call under way is cut off."""
    begun, cut_off = asyncio.Event(), list[int]()

    class Slow:
        async def work(self) -> bool:
            begun.set()
            try:
                await asyncio.sleep(60)
            finally:
                cut_off.append(1)
            return True

    slow = Slow()
    repeated = aio.Repeated(slow.work, 0.01)
    repeated.start()
    await begun.wait()
    await repeated.stop()
    assert [1] == cut_off
    repeated.start()
    assert repeated._timer is None


async def test_until_its_object_has_gone_async() -> None:
    """It does not keep it alive."""
    ticks = Ticks()
    repeated, seen = aio.Repeated(ticks.tick_async, 0.01), ref(ticks)
    repeated.start()
    await until_async(lambda: seen().count > 2)  # type: ignore[union-attr]
    del ticks
    await until_async(lambda: seen() is None)
    await asyncio.sleep(0.05)
    assert repeated._timer is None


def test_in_an_event_loop_that_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    """It ends with it, and can be stopped in another one."""
    ticks = Ticks()
    loop = asyncio.new_event_loop()
    repeated = aio.Repeated(ticks.tick_async, 0.01)
    loop.call_soon(repeated.start)
    loop.run_until_complete(until_async(lambda: ticks.count > 2))
    loop.close()
    asyncio.run(repeated.stop())
    gc.collect()
    assert [] == caplog.records
