"""Artifacts are encoded beside the event loop, whatever an asynchronous session does with them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio

from superorm import (
    AsyncDB,
    AsyncSession,
    Document,
    Mapped,
    Registry,
    artifact,
    field,
    listens_for,
    remove_listener,
    select,
    undefer,
)
from superorm.artifacts.codecs import registry as codecs
from tests._async.databases import own_db

registry = Registry()


class Disc(Document, registry=registry):
    __collection__ = "discs_beside_the_loop"

    title: Mapped[str] = field(default="")
    data: Mapped[Any] = artifact(default=None)


class Track:
    """What only the codec below takes."""

    def __init__(self, data: bytes) -> None:
        self.data = data


class Waiting:
    """A codec that waits for the event loop, which has to be running meanwhile."""

    name, version, carries_code = "waiting", 1, False

    def __init__(self) -> None:
        self.waits = False
        self.begun: set[threading.Event] = set()
        self.count = 0

    def takes(self, value: Any) -> bool:
        return isinstance(value, Track)

    def encode(self, value: Track) -> bytes:
        data = value.data
        if self.waits:
            answered = threading.Event()
            self.begun.add(answered)
            assert answered.wait(5), "the event loop stands still"
            self.count += 1
        return data

    def decode(self, data: bytes) -> Track:
        return Track(data)

    async def answer(self) -> None:
        """A task of the event loop that answers those who wait."""
        while True:
            while self.begun:
                self.begun.pop().set()
            await asyncio.sleep(0.001)


@pytest.fixture
def codec(monkeypatch: pytest.MonkeyPatch) -> Iterator[Waiting]:
    """The codec, installed."""
    found = Waiting()

    class Entry:
        name = "waiting"

        def load(self) -> Waiting:
            return found

    with monkeypatch.context() as patch:
        patch.setattr(codecs, "entry_points", lambda group: [Entry()] if group == "superorm.codecs" else [])
        codecs._by_name.cache_clear()
        yield found
    codecs._by_name.cache_clear()


@pytest_asyncio.fixture(params=["mongomock", "mongodb"])
async def db(request: pytest.FixtureRequest, mongodb_uri: str) -> AsyncIterator[AsyncDB]:
    """A DB over each backend."""
    async with own_db(request.param, mongodb_uri) as db:
        yield db


Call = Callable[[AsyncSession, Disc], Awaitable[Any]]


async def change_and_commit(session: AsyncSession, disc: Disc) -> None:
    disc.data.data = b"changed"
    await session.commit()


async def change_and_roll_back(session: AsyncSession, disc: Disc) -> None:
    disc.data.data = b"changed"
    await session.rollback()


async def flush_and_roll_back(session: AsyncSession, disc: Disc) -> None:
    disc.title = "b"
    disc.data.data = b"changed"
    await session.flush()
    await session.rollback()


async def delete_and_roll_back(session: AsyncSession, disc: Disc) -> None:
    session.delete(disc)
    await session.flush()
    await session.rollback()


async def listen(session: AsyncSession, disc: Disc) -> None:
    heard: list[Any] = []

    def before_update(_: Any, instance: Any) -> None:
        heard.append(instance)

    def before_flush(_: Any) -> None:
        heard.append(None)

    listens_for(Disc, "before_update")(before_update)
    listens_for(session, "before_flush")(before_flush)
    try:
        await session.flush()
        assert not heard
        disc.data.data = b"changed"
        await session.flush()
    finally:
        remove_listener(Disc, "before_update", before_update)
        remove_listener(session, "before_flush", before_flush)
    assert heard == [None, disc]


async def insert_and_commit(session: AsyncSession, disc: Disc) -> None:
    session.add(Disc(title="new", data=Track(b"new")))
    await session.commit()


CALLS: dict[str, Call] = {
    "flush": lambda session, disc: session.flush(),
    "query": lambda session, disc: session.scalars(select(Disc)),
    "close": lambda session, disc: session.close(),
    "bulk insert": lambda session, disc: session.bulk_insert([Disc(data=Track(b"bulk"))]),
    "change and commit": change_and_commit,
    "change and roll back": change_and_roll_back,
    "flush and roll back": flush_and_roll_back,
    "delete and roll back": delete_and_roll_back,
    "listen": listen,
    "insert and commit": insert_and_commit,
}


@pytest.mark.parametrize("call", CALLS)
async def test_the_event_loop_runs_while_artifacts_are_encoded(db: AsyncDB, codec: Waiting, call: str) -> None:
    async with db.begin() as session:
        session.add(Disc(title="a", data=Track(b"first")))
    async with db.session() as session:
        (disc,) = await session.scalars(select(Disc).options(undefer(Disc.data)))
        answering = asyncio.create_task(codec.answer())
        codec.waits = True
        try:
            await CALLS[call](session, disc)
        finally:
            codec.waits = False
            answering.cancel()
    if call == "query" and "Mongomock" in repr(db):
        assert codec.count == 0  # nothing is flushed before it
    else:
        assert codec.count > 0


async def test_what_a_task_changes_meanwhile_is_written_by_the_next_flush(db: AsyncDB, codec: Waiting) -> None:
    async with db.session() as session:
        session.add(disc := Disc(title="a", data=Track(b"first")))
        await session.commit()
        disc.data.data = b"second"
        codec.waits = True
        committing = asyncio.create_task(session.commit())
        while not codec.begun:
            await asyncio.sleep(0.001)
        codec.waits = False
        disc.data.data = b"third"
        codec.begun.pop().set()
        await committing
        assert session.is_modified(disc)
        assert await read(db) == b"second"
        await session.commit()
        assert not session.is_modified(disc)
        assert await read(db) == b"third"


async def read(db: AsyncDB) -> bytes:
    """What is stored."""
    async with db.session() as session:
        (found,) = await session.scalars(select(Disc).options(undefer(Disc.data)))
        data: bytes = found.data.data
        return data
