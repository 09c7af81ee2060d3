"""Asynchronous searches never hold up their event loop, whatever threads do with the rows."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from superorm._async import vector_builds, vector_records, vector_tables
from superorm._io import aio
from superorm.unitofwork.writes import Insert
from superorm.vectors import memory_copy
from superorm.vectors._async.lancedb import AsyncLanceVectorIndex
from superorm.vectors._async.lease import AsyncLease
from superorm.vectors.memory_copy import MemoryCopy
from superorm.vectors.rows import Rows
from tests.vectors._async.conftest import make_world
from tests.vectors._async.world import AsyncWorld
from tests.vectors.brute import DIM, stored

__all__ = ["make_world"]

VECTORS = np.random.default_rng(43).standard_normal((40, DIM)).astype("f4")


@pytest.mark.parametrize("pair", ["memory-mongod", "lancedb-mongod"])
async def test_rows_that_are_installed_slowly(
    make_world: Callable[[str], AsyncWorld],
    pair: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While rows are written, the loop goes on, and searches of it with and without a filter come to that point."""
    world = make_world(pair)
    await world.indexes.ensure(world.spec)
    await world.put(dict(enumerate(VECTORS)), r=1)
    await world.indexes.apply(world.spec)
    await world.agrees(VECTORS[0])
    await world.put({0: -VECTORS[0], 50: VECTORS[0]})
    begun, go, replace = threading.Event(), threading.Event(), Rows.replace

    def slow(self: Rows, *args: Any) -> None:
        begun.set()
        assert go.wait(30)
        replace(self, *args)

    monkeypatch.setattr(Rows, "replace", slow)
    searches = [asyncio.create_task(world.search(VECTORS[0], 2))]
    while not begun.is_set():
        await asyncio.sleep(0.01)
    for filter in (None, {"r": 1}, {"_id": {"$lt": 3}}):
        searches.append(asyncio.create_task(world.search(VECTORS[0], 2, filter=filter)))
    waking = threading.Timer(10, go.set)  # where the loop waits, it goes on then
    waking.start()
    for _ in range(100):
        await asyncio.sleep(0.01)
    waited = go.is_set()
    go.set()
    waking.cancel()
    assert not waited
    found = await asyncio.gather(*searches)
    assert [50] * 2 == [hits[0].key for hits in found[:2]]
    assert 0 not in {hit.key for hits in found for hit in hits[:1]}
    await world.agrees(VECTORS[0])


async def goes_on(call: Coroutine[Any, Any, Any], begun: threading.Event, go: threading.Event) -> Any:
    """What a call gives that comes to a point where it waits for `go`, and meanwhile lets the loop go on."""
    waking = threading.Timer(10, go.set)  # where the loop waits, it goes on then
    waking.start()
    task = asyncio.create_task(call)
    while not begun.is_set():
        await asyncio.sleep(0.01)
    waited = go.is_set()
    go.set()
    waking.cancel()
    result = await task
    assert not waited
    return result


async def test_handed_documents_and_comparisons(
    make_world: Callable[[str], AsyncWorld], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What many documents take is done in threads: finding those that were handed over, and comparing all rows."""
    world = make_world("lancedb-mongod")
    await world.indexes.ensure(world.spec)
    monkeypatch.setattr("superorm._async.vector_tables.FROM", 1)
    documents = [{"_id": key, "v": stored(vector)} for key, vector in enumerate(VECTORS)]
    insert = Insert(world.spec.collection, documents)
    records = world.indexes.records({world.spec: [one["_id"] for one in documents]})
    handed = world.indexes.handing([world.spec], records, [insert])
    async with world.backend.transaction() as session:
        for write in (insert, *records):
            await world.backend.write(write, session=session)
    assert [world.indexes.copies.hand_over(spec, one) for spec, one in handed] == [True]
    for owner, name, call in (
        (vector_tables, "as_handed", world.indexes.apply(world.spec)),
        (MemoryCopy, "compare", world.indexes.check(world.spec)),
        (Rows, "compare", world.indexes.check(world.spec)),
    ):
        begun, go, function = threading.Event(), threading.Event(), getattr(owner, name)

        def slow(*args: Any, begun: Any = begun, go: Any = go, function: Any = function) -> Any:
            begun.set()
            assert go.wait(30)
            return function(*args)

        monkeypatch.setattr(owner, name, slow)
        assert not await goes_on(call, begun, go)
        monkeypatch.setattr(owner, name, function)
        await world.agrees(VECTORS[0])


@pytest.mark.parametrize(
    ("pair", "owner", "name", "call"),
    [
        ("lancescan-mongod", vector_tables, "keys_of", "apply"),
        ("lancescan-mongod", vector_tables, "table_rows", "apply"),
        ("lancescan-mongod", vector_builds, "table_rows", "rebuild"),
        ("lancescan-mongod", vector_records, "table_rows", "check"),
        ("memory-mongod", vector_records, "table_rows", "rebuild"),
        ("memory-mongod", memory_copy, "table_rows", "search"),
    ],
)
async def test_what_is_read_is_decoded(
    make_world: Callable[[str], AsyncWorld],
    monkeypatch: pytest.MonkeyPatch,
    pair: str,
    owner: Any,
    name: str,
    call: str,
) -> None:
    """The keys and vectors of what was read to apply, to build, to check and to bring memory forward: in threads."""
    world = make_world(pair)
    await world.indexes.ensure(world.spec)
    await world.put(dict(enumerate(VECTORS)))
    await world.agrees(VECTORS[0])
    await world.put({key: -VECTORS[key] for key in range(3, 7)}, r=1)
    calls: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
        "search": lambda: world.search(VECTORS[3], filter={"r": 1}),
        **{each: partial(getattr(world.indexes, each), world.spec) for each in ("apply", "rebuild", "check")},
    }
    begun, go, function = threading.Event(), threading.Event(), getattr(owner, name)

    def slow(*args: Any) -> Any:
        begun.set()
        assert go.wait(30)
        return function(*args)

    monkeypatch.setattr(owner, name, slow)
    await goes_on(calls[call](), begun, go)
    await world.agrees(VECTORS[3])


async def test_closing_while_a_table_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a bucket that does not answer."""
    tables = AsyncLanceVectorIndex(str(tmp_path))
    await tables.open()
    await tables.create("t", DIM)
    await tables.close()
    directory: Any = tables._directory
    begun, go, connected = threading.Event(), threading.Event(), directory._connected

    def slow() -> Any:
        begun.set()
        assert go.wait(30)
        return connected()

    monkeypatch.setattr(directory, "_connected", slow)
    opening = asyncio.create_task(tables.count("t", 1))
    while not begun.is_set():
        await asyncio.sleep(0.01)
    waking = threading.Timer(2, go.set)  # where the loop waits, it goes on then
    waking.start()
    closing = asyncio.create_task(tables.close())
    for _ in range(10):
        await asyncio.sleep(0.01)
    waited = go.is_set()
    go.set()
    waking.cancel()
    assert 0 == await opening
    await closing
    assert not waited


@pytest.mark.parametrize("grace", [10.0, 0.1])
async def test_a_lease_whose_taking_is_cancelled(
    make_world: Callable[[str], AsyncWorld], monkeypatch: pytest.MonkeyPatch, grace: float
) -> None:
    """It is free at once, whether the server's answer still comes or not."""
    world = make_world("memory-mongod")
    await world.indexes.ensure(world.spec)
    before = AsyncLease(world.backend, "x", 1_000)
    assert await before.acquire()
    await before.release()
    monkeypatch.setattr(aio, "_GRACE", grace)
    backend: Any = world.backend
    write, begun, go = backend.write, asyncio.Event(), asyncio.Event()

    async def slow(plan: Any, **options: Any) -> Any:
        done = await write(plan, **options)
        if not begun.is_set():
            begun.set()
            await go.wait()
        return done

    backend.write = slow
    taking = asyncio.create_task(AsyncLease(backend, "x", 1_000).acquire())
    await begun.wait()
    taking.cancel()
    if grace > 1:
        asyncio.get_running_loop().call_later(0.05, go.set)
    with pytest.raises(asyncio.CancelledError):
        await taking
    (found,) = world.plain["_superorm_records"].find({"kind": "lease"})
    assert before.fence + 1 == found["fence"]  # it was taken
    after = AsyncLease(backend, "x", 1_000)
    assert await after.acquire()
    await after.release()
