"""The uploads of an asynchronous session's flush: several at once, but not too many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from superorm import ArtifactSavingError, AsyncDB, Document, Mapped, Registry, artifact, field, select, undefer
from superorm._io import aio, sio
from tests._async.databases import own_db

registry = Registry()
AT_ONCE = 4


class Tile(Document, registry=registry):
    __collection__ = "tiles_uploaded_at_once"

    number: Mapped[int] = field(primary_key=True)
    pixels: Mapped[Any] = artifact(default=None)


@pytest_asyncio.fixture(params=["mongomock", "mongodb"])
async def db(request: pytest.FixtureRequest, mongodb_uri: str) -> AsyncIterator[AsyncDB]:
    """A DB over each backend."""
    async with own_db(request.param, mongodb_uri) as db:
        await db.create_all(Tile)
        yield db


class Puts:
    """Lets uploads go on when as many as may are waiting."""

    def __init__(self, db: AsyncDB, fails: bytes | None = None) -> None:
        self.put = db.parts.artifact_store.put
        self.fails = fails
        self.waiting = self.most = self.done = 0
        self.full = asyncio.Event()

    async def __call__(self, key: str, chunks: Any) -> int:
        data = b"".join(chunks)
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        if self.waiting == AT_ONCE:
            self.full.set()
        await asyncio.wait_for(self.full.wait(), 30)
        if data == self.fails:
            raise ArtifactSavingError("the store is full")
        size = await self.put(key, [data])
        self.waiting -= 1
        self.done += 1
        return size


async def test_several_at_once(db: AsyncDB, monkeypatch: pytest.MonkeyPatch) -> None:
    puts = Puts(db)
    with monkeypatch.context() as patch:
        patch.setattr(db.parts.artifact_store, "put", puts)
        async with db.begin() as session:
            session.add_all([Tile(number=n, pixels=b"%d" % n) for n in range(10)])
            session.add_all([Tile(number=n, pixels={"same": 1}) for n in range(10, 20)])
    assert puts.most == AT_ONCE
    assert puts.done == 11
    async with db.session() as session:
        tiles = await session.scalars(select(Tile).order_by(Tile.number).options(undefer(Tile.pixels)))
        expected: list[Any] = [b"%d" % n for n in range(10)]
        assert [tile.pixels for tile in tiles] == expected + 10 * [{"same": 1}]
    assert (await db.check(Tile)).ok


async def test_one_that_fails_is_named_and_nothing_is_written(db: AsyncDB, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(db.parts.artifact_store, "put", Puts(db, fails=b"2"))
        before = asyncio.all_tasks()
        async with db.session() as session:
            session.add_all([Tile(number=n, pixels=b"%d" % n) for n in range(10)])
            with pytest.raises(ArtifactSavingError, match=r"Tile 2: pixels: the store is full"):
                await session.commit()
        assert asyncio.all_tasks() <= before
    async with db.session() as session:
        assert not (await session.scalars(select(Tile))).all()
    await db.gc(timedelta(0))
    assert not list(await db.parts.artifact_store.keys())


async def test_those_under_way_end_before_a_cancellation_does() -> None:
    ended: list[int] = []
    begun: list[int] = []

    async def work(item: int) -> None:
        begun.append(item)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(item)

    task = asyncio.create_task(aio.each(work, range(5), 2))
    while len(begun) < 2:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert begun == sorted(ended) == [0, 1]


def test_one_after_the_other_without_an_event_loop() -> None:
    found: list[int] = []
    sio.each(found.append, range(3), 2)
    assert found == [0, 1, 2]
