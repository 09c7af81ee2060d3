"""An `AsyncDB` in other event loops than the one that it was first used in."""

from __future__ import annotations

import asyncio
import gc
import re
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pymongo
import pytest

from superorm import (
    AsyncDB,
    AsyncMongoDatabackend,
    AsyncSession,
    ConfigurationError,
    Document,
    Mapped,
    connect,
    connect_async,
    field,
    select,
)
from superorm._io.loops import run_in
from tests.databases import drop_database

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)  # the connections of an event loop that was closed before the DB


class Mark(Document):
    __collection__ = "marks"

    id: Mapped[int] = field(primary_key=True)


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """Such connections warn when they are collected: not in another test."""
    yield
    gc.collect()


@pytest.fixture
def name(mongodb_uri: str) -> Iterator[str]:
    name = f"loops_{uuid4().hex[:12]}"
    yield name
    with pymongo.MongoClient[Any](mongodb_uri) as client:
        drop_database(client, name)
        drop_database(client, f"_filesystem:{name}")


def made(uri: str, name: str) -> AsyncDB:
    return connect_async(uri, database=name, vector_database="memory://", signing_key="test-key")


async def read(db: AsyncDB) -> list[int]:
    async with db.session() as session:
        return (await session.scalars(select(Mark.id).order_by(Mark.id))).all()


async def stream(db: AsyncDB) -> list[int]:
    async with db.session() as session:
        return [key async for key in session.stream_scalars(select(Mark.id))]


async def write(db: AsyncDB) -> None:
    async with db.begin() as session:
        session.add(Mark(id=1))


async def run(db: AsyncDB) -> int:
    return await db.run(lambda session: session.count(select(Mark)))


async def show(db: AsyncDB) -> Any:
    return await db.show("model")


@pytest.mark.parametrize("use", [read, stream, write, run, show, AsyncDB.create_all, AsyncDB.open])
def test_used_in_a_second_event_loop(mongodb_uri: str, name: str, use: Callable[[AsyncDB], Awaitable[Any]]) -> None:
    """It says what to do, whatever is called; closing it there does not raise."""
    db = made(mongodb_uri, name)

    async def main() -> None:
        await use(db)

    asyncio.run(write(db))
    with pytest.raises(ConfigurationError, match=r"connect_async\(\.\.\.\) in each, or give .* AsyncSession"):
        asyncio.run(main())
    asyncio.run(db.close())
    asyncio.run(db.close())
    with pytest.raises(ConfigurationError, match="closed"):
        asyncio.run(main())


@pytest.mark.parametrize("ends", ["rollback", "close"])
def test_a_session_in_a_second_event_loop(mongodb_uri: str, name: str, ends: str) -> None:
    """Its calls say the same where its transaction was begun in another event loop; it can be ended."""
    db = made(mongodb_uri, name)

    async def begun() -> AsyncSession:
        session = db.session()
        session.add(Mark(id=1))
        await session.flush()
        return session

    async def goes_on(session: AsyncSession) -> None:
        session.add(Mark(id=2))
        for call in (session.flush, session.commit):
            with pytest.raises(ConfigurationError, match="first used in"):
                await call()
            await session.rollback()
            session.add(Mark(id=2))
        with pytest.raises(ConfigurationError, match="first used in"):
            await session.get(Mark, 1)
        await getattr(session, ends)()
        await db.close()

    asyncio.run(goes_on(asyncio.run(begun())))
    with pymongo.MongoClient[Any](mongodb_uri) as client:
        assert [] == list(client[name]["marks"].find())


def test_a_commit_beside_the_event_loop(mongodb_uri: str, name: str) -> None:
    """A transaction whose event loop stands still is not committed in another one, but in its own."""
    db = made(mongodb_uri, name)
    loop = asyncio.new_event_loop()

    async def begun() -> AsyncSession:
        session = db.session()
        session.add(Mark(id=1))
        await session.flush()
        return session

    async def commit(session: AsyncSession) -> None:
        await session.commit()

    session = loop.run_until_complete(begun())
    with pytest.raises(ConfigurationError, match="first used in"):
        asyncio.run(commit(session))
    loop.run_until_complete(session.rollback())
    session.add(Mark(id=1))
    loop.run_until_complete(session.commit())
    assert [1] == loop.run_until_complete(read(db))
    asyncio.run(db.close())  # in its own event loop, which stands still
    loop.close()


def test_closed_beside_a_running_event_loop(mongodb_uri: str, name: str) -> None:
    """It is closed in the event loop that it belongs to, which goes on."""
    db = made(mongodb_uri, name)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(write(db), loop).result(30)
        asyncio.run(db.close())
        with pytest.raises(ConfigurationError, match="closed"):
            asyncio.run_coroutine_threadsafe(read(db), loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("superorm._io.loops._PATIENCE", 0.5)


@pytest.mark.usefixtures("impatient")
def test_closed_beside_a_blocked_event_loop(mongodb_uri: str, name: str) -> None:
    """An event loop that waits for the one that closes is named instead of waited for; once it is free, that works."""
    db = made(mongodb_uri, name)

    def close() -> str:
        try:
            asyncio.run(db.close())
        except ConfigurationError as error:
            return str(error)
        return ""

    async def main() -> str:
        await write(db)
        with ThreadPoolExecutor(1) as other:
            refused = other.submit(close).result(30)  # which blocks this event loop
        assert [1] == await read(db)  # it is open
        assert "" == await asyncio.to_thread(close)
        with pytest.raises(ConfigurationError, match="closed"):
            await read(db)
        return refused

    thread = threading.current_thread().name
    refused = rf"^AsyncDB.close\(\) has to .* in thread '{thread}', is blocked: it has not answered for 0.5 seconds"
    assert re.search(refused, asyncio.run(main()))


@pytest.mark.usefixtures("impatient")
def test_twins_closed_beside_a_blocked_event_loop(mongodb_uri: str, name: str) -> None:
    """The DB whose twin it is says so too, closes all else, and can be closed again."""
    db = connect(mongodb_uri, database=name, vector_database="memory://", signing_key="test-key")

    async def used() -> list[int]:
        async with AsyncSession(db) as session:
            return (await session.scalars(select(Mark.id))).all()

    async def main() -> None:
        assert [] == await used()
        with ThreadPoolExecutor(1) as other, pytest.raises(ConfigurationError, match=r"^DB.close\(\) .* is blocked"):
            other.submit(db.close).result(30)
        await asyncio.to_thread(db.close)
        with pytest.raises(ConfigurationError, match="closed"):
            await used()

    with db.begin() as session:
        session.count(select(Mark))
    asyncio.run(main())


@pytest.mark.usefixtures("impatient")
def test_twins_closed_again_meanwhile(mongodb_uri: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call after one that was refused amid the closing waits for the end of that."""
    db = connect(mongodb_uri, database=name, vector_database="memory://", signing_key="test-key")
    ended: list[float] = []

    async def blocks() -> None:
        await asyncio.sleep(0.1)
        time.sleep(1.5)  # which blocks the event loop
        await asyncio.sleep(1)
        ended.append(time.monotonic())

    async def main() -> None:
        async with AsyncSession(db) as session:
            assert [] == (await session.scalars(select(Mark.id))).all()
            monkeypatch.setattr(session._work.db.vectors, "close", blocks)
        with pytest.raises(ConfigurationError, match="is blocked"):
            await asyncio.to_thread(db.close)
        assert [] == ended
        await asyncio.to_thread(db.close)
        assert 1 == len(ended)

    asyncio.run(main())


@pytest.mark.usefixtures("impatient")
def test_closed_slowly(mongodb_uri: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event loop that answers is waited for; one that ends instead is named."""
    db = made(mongodb_uri, name)
    begun = threading.Event()

    async def slow() -> None:
        begun.set()
        await asyncio.sleep(seconds)

    async def main(closing: Callable[[], Awaitable[Any]]) -> None:
        await write(db)
        monkeypatch.setattr(db.vectors, "close", slow)
        await closing()

    seconds = 2
    asyncio.run(main(lambda: asyncio.to_thread(asyncio.run, db.close())))
    assert begun.is_set()
    db, seconds = made(mongodb_uri, f"{name}_2"), 60
    with ThreadPoolExecutor(1) as other:
        begun.clear()
        closed: list[Future[None]] = []

        async def ends() -> None:
            closed.append(other.submit(asyncio.run, db.close()))
            await asyncio.to_thread(begun.wait)

        asyncio.run(main(ends))
        with pytest.raises(ConfigurationError, match="has ended before that was done"):
            closed[0].result(30)
    with pymongo.MongoClient[Any](mongodb_uri) as client:
        drop_database(client, f"{name}_2")


@pytest.mark.usefixtures("impatient")
def test_an_event_loop_that_is_closed_meanwhile() -> None:
    """It has ended, too, where nobody cancelled what was under way."""
    loop, begun = asyncio.new_event_loop(), threading.Event()
    left: list[Any] = []

    async def slow() -> None:
        left.append(asyncio.current_task())
        begun.set()
        await asyncio.sleep(60)

    def ends() -> None:
        begun.wait()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        left[0]._log_destroy_pending = False
        loop.close()

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    with ThreadPoolExecutor(1) as other:
        ended = other.submit(ends)
        with pytest.raises(ConfigurationError, match=r"^DB.close\(\) .* has ended before that was done"):
            run_in(loop, slow, "DB.close()")
        ended.result()


async def cancelled(call: Awaitable[Any]) -> float:
    """The seconds until a call ends that is cancelled after a moment."""
    task = asyncio.ensure_future(call)
    await asyncio.sleep(0.2)
    start = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return time.monotonic() - start


def test_a_cancelled_close_beside_a_running_event_loop(
    mongodb_uri: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends at once, and what has begun goes on, in the event loop of the connections."""
    db = made(mongodb_uri, name)
    close, begun, ended = AsyncMongoDatabackend.close, threading.Event(), asyncio.Event()

    async def slow() -> None:
        begun.set()
        await asyncio.sleep(1)

    async def noted(self: AsyncMongoDatabackend) -> None:
        await close(self)
        ended.set()

    def elsewhere() -> float:
        return asyncio.run(cancelled(db.close()))

    async def main() -> None:
        await write(db)
        monkeypatch.setattr(db.vectors, "close", slow)
        monkeypatch.setattr(AsyncMongoDatabackend, "close", noted)
        seconds = await asyncio.to_thread(elsewhere)
        assert seconds < 0.5
        assert begun.is_set()
        assert not ended.is_set()
        with pytest.raises(ConfigurationError, match="closed"):
            await read(db)
        await asyncio.wait_for(ended.wait(), 30)

    asyncio.run(main())


def test_a_cancelled_close_beside_an_event_loop_that_stands_still(
    mongodb_uri: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends as in that event loop itself: what is under way is cut off, all else closed, and the loop free again."""
    db = made(mongodb_uri, name)
    close, ended = AsyncMongoDatabackend.close, threading.Event()
    loop = asyncio.new_event_loop()

    async def slow() -> None:
        await asyncio.sleep(60)

    async def noted(self: AsyncMongoDatabackend) -> None:
        await close(self)
        ended.set()

    loop.run_until_complete(write(db))
    monkeypatch.setattr(db.vectors, "close", slow)
    monkeypatch.setattr(AsyncMongoDatabackend, "close", noted)
    assert asyncio.run(cancelled(db.close())) < 2
    assert ended.is_set()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def test_without_connections() -> None:
    """Mongomock works in one event loop after the other."""
    db = made(f"mongomock://{uuid4().hex}", "any")
    asyncio.run(write(db))
    assert [1] == asyncio.run(read(db))
    asyncio.run(db.close())
