"""Sessions that outlive their event loop, that are dropped, or that are closed while others are inside a call."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pymongo
import pytest

from superorm import (
    DB,
    AsyncDB,
    AsyncSession,
    Document,
    Mapped,
    PendingRollbackError,
    Registry,
    Session,
    SessionError,
    StaleDocumentError,
    connect,
    connect_async,
    field,
    insert,
    listens_for,
    select,
)

registry = Registry()
SETTINGS: dict[str, Any] = {"vector_database": "memory://", "signing_key": "test-key"}


class Page(Document, registry=registry):
    __collection__ = "pages"

    id: Mapped[int] = field(primary_key=True)


class Server:
    """A database on the real server as plain PyMongo sees it."""

    def __init__(self, client: pymongo.MongoClient[dict[str, Any]], uri: str, name: str) -> None:
        self.client = client
        self.uri = f"{uri}&appName={name}"
        self.name = name

    def db(self) -> DB:
        return connect(self.uri, database=self.name, **SETTINGS)

    def async_db(self) -> AsyncDB:
        return connect_async(self.uri, database=self.name, **SETTINGS)

    def stored(self) -> list[int]:
        """The stored pages."""
        return [document["_id"] for document in self.client[self.name].pages.find(sort=[("_id", 1)])]

    def open_transactions(self) -> int:
        """How many our DBs have open."""
        every = {"$currentOp": {"allUsers": True, "idleSessions": True, "idleConnections": True}}
        found = [one for one in self.client.admin.aggregate([every]) if "transaction" in one]
        metadata = [one.get("clientMetadata", {}) for one in found]
        return [one.get("application", {}).get("name") for one in metadata].count(self.name)


@pytest.fixture
def server(mongodb_uri: str, database: str) -> Iterator[Server]:
    """A database on the real server."""
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        client[database].create_collection("pages")
        yield Server(client, mongodb_uri, database)


@pytest.mark.filterwarnings("ignore:asynchronous generator:ResourceWarning")  # PyMongo's aborts make some of their own
@pytest.mark.parametrize("causal", [False, True])
def test_commit_in_another_event_loop(server: Server, causal: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The transaction ended with the loop that it was begun in; nothing is stored, and the commit says so."""
    with server.db() as db:

        async def begun() -> tuple[AsyncSession, Page]:
            session = AsyncSession(db, causal_consistency=causal)
            session.add(page := Page(id=1))
            await session.flush()
            return session, page

        async def goes_on(session: AsyncSession, page: Page) -> None:
            with pytest.raises(SessionError, match="has ended without a commit, with the event loop"):
                await session.commit()
            with pytest.raises(PendingRollbackError):
                await session.commit()
            await session.close()
            assert page not in session
            async with AsyncSession(db) as other, other.begin():
                other.add(page)

        session, page = asyncio.run(begun())
        assert 0 == server.open_transactions()
        assert [] == server.stored()
        asyncio.run(goes_on(session, page))
    assert [1] == server.stored()
    assert "" == caplog.text


@pytest.mark.parametrize("causal", [False, True])
async def test_dropped_asynchronous_sessions(server: Server, causal: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Their transactions are aborted soon, and nothing is logged."""
    async with server.async_db() as db:
        session = db.session(causal_consistency=causal)
        session.add(Page(id=1))
        await session.flush()
        assert 1 == server.open_transactions()
        del session
        gc.collect()
        for _ in range(200):
            if not server.open_transactions():
                break
            await asyncio.sleep(0.01)
        assert 0 == server.open_transactions()
    assert [] == server.stored()
    assert "" == caplog.text


@pytest.mark.parametrize("ended_by", ["transaction", "causal session", "close"])
@pytest.mark.parametrize("causal", [False, True])
def test_dropped_sessions(server: Server, causal: bool, ended_by: str) -> None:
    """Their transactions are aborted by the next one, or with the DB, and not amid whatever is going on."""
    with server.db() as db:
        session = db.session(causal_consistency=causal)
        session.add(Page(id=1))
        session.flush()
        assert 1 == server.open_transactions()
        pools = _pools(session)
        del session

        def collect() -> None:
            with ExitStack() as locks:
                for pool in pools:
                    locks.enter_context(pool.lock)
                gc.collect()

        thread = threading.Thread(target=collect, daemon=True)
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
        assert 1 == server.open_transactions()
        if ended_by == "transaction":
            with db.begin() as other:
                other.add(Page(id=1))
        elif ended_by == "causal session":
            with db.session(causal_consistency=True) as other:
                assert [] == other.scalars(select(Page)).all()
        if ended_by != "close":
            assert 0 == server.open_transactions()
    assert 0 == server.open_transactions()
    assert ([1] if ended_by == "transaction" else []) == server.stored()


def _pools(session: Session) -> list[Any]:
    """PyMongo's pools of connections, whose locks are not to be waited for by who holds them."""
    within: Any = session._work.server_session
    return [server.pool for server in within.client._topology._servers.values()]


Work = Callable[[AsyncSession], Any]


async def stream(session: AsyncSession) -> None:
    pages: Any = session.stream_scalars(select(Page))
    await anext(pages)
    await pages.aclose()


ASYNC: dict[str, Work] = {
    "flush": lambda session: session.flush(),
    "get": lambda session: session.get(Page, 5),
    "execute": lambda session: session.execute(insert(Page).values({"id": 2})),
    "stream": stream,
}


@pytest.mark.parametrize("how", ASYNC)
async def test_a_block_ends_while_a_child_is_at_work(server: Server, how: str) -> None:
    """The block raises, the child's call comes to its end, its transaction is aborted, and nobody commits it."""
    async with server.async_db() as db:
        session = db.session()
        children: list[asyncio.Task[None]] = []

        async def parent() -> None:
            async with session:
                session.add(Page(id=1))
                children.append(child := asyncio.create_task(ASYNC[how](session), name="child"))
                while session._alone._user is not child and not child.done():
                    await asyncio.sleep(0)

        with pytest.raises(SessionError, match=r"close\(\) was called in task .* runs in task 'child'"):
            await parent()
        await children[0]
        assert 0 == server.open_transactions()
        with pytest.raises(PendingRollbackError, match=r"close\(\) was called in task"):
            await session.commit()
        await session.rollback()
        session.add(Page(id=3))
        await session.commit()
        await session.close()
    assert [3] == server.stored()


async def test_a_commit_while_the_session_is_closed(server: Server) -> None:
    """It is carried out, and there is nothing to be given up."""
    async with server.async_db() as db:
        session = db.session()
        session.add(Page(id=1))
        child = asyncio.create_task(session.commit())
        await asyncio.sleep(0)
        with pytest.raises(SessionError):
            await session.close()
        await child
        session.add(Page(id=2))
        await session.commit()
        await session.close()
    assert [1, 2] == server.stored()


def test_a_block_ends_while_a_thread_is_at_work(server: Server) -> None:
    """The same in threads, at a moment that a listener makes."""
    inside, go_on = threading.Event(), threading.Event()
    with server.db() as db:
        session = db.session()

        @listens_for(session, "after_flush")
        def wait(session: Session) -> None:
            inside.set()
            assert go_on.wait(10)

        thread = threading.Thread(target=session.flush)

        def parent() -> None:
            with session:
                session.add(Page(id=1))
                thread.start()
                assert inside.wait(10)

        try:
            with pytest.raises(SessionError, match=r"close\(\) was called in thread"):
                parent()
        finally:
            go_on.set()
            thread.join()
        assert 0 == server.open_transactions()
        with pytest.raises(PendingRollbackError, match=r"close\(\) was called in thread"):
            session.commit()
        session.close()
    assert [] == server.stored()


@pytest.mark.parametrize("ends", ["before close is refused", "while close is refused"])
def test_a_close_just_as_a_call_ends(server: Server, ends: str) -> None:
    """Whichever of the two comes last ends the transaction."""
    with server.db() as db:
        session = db.session()
        session.add(Page(id=1))
        session.flush()
        refused: list[SessionError] = []

        def close() -> None:
            try:
                session.close()
            except SessionError as error:
                refused.append(error)

        thread = threading.Thread(target=close)
        use: Any = session._alone
        use._lock = lock = Turns(use._lock, thread, early=ends.startswith("before"))
        use.enter("get")
        if lock.early:
            thread.start()
            assert lock.entered.wait(10)
        use.leave()
        lock.ended.set()
        thread.join(10)
        assert 0 == server.open_transactions()
        assert (0 if lock.early else 1) == len(refused)
        session.close()
    assert [] == server.stored()


class Turns:
    """A session's lock, under which a thread's call meets the end of another call at one certain moment.

    Early, between the first look at the lock and what follows; or else just before it is let go of.
    """

    def __init__(self, lock: Any, thread: threading.Thread, *, early: bool) -> None:
        self.lock, self.thread, self.early = lock, thread, early
        self.entered, self.ended = threading.Event(), threading.Event()
        self.begun = early

    def acquire(self, blocking: bool) -> bool:
        got: bool = self.lock.acquire(blocking)
        if not got and self.early:
            self.entered.set()
            assert self.ended.wait(10)
        return got

    def release(self) -> None:
        if not self.begun:
            self.begun = True
            self.thread.start()
            self.thread.join(10)
        self.lock.release()


def test_run_takes_no_generator_function(server: Server) -> None:
    """A generator's body has not run when it is given, so nothing would be committed."""

    def work(session: Session) -> Iterator[int]:
        session.add(Page(id=1))
        yield 1

    with server.db() as db:
        with pytest.raises(SessionError, match="gives a generator, of which nothing has run"):
            db.run(work)
        with pytest.raises(SessionError, match="gives a generator"):
            db.run(lambda session: session.stream(select(Page)))
        with pytest.raises(StaleDocumentError):  # other errors are not touched
            db.run(_stale, attempts=1)
    assert [] == server.stored()


def _stale(session: Session) -> None:
    raise StaleDocumentError("stale")


@pytest.mark.parametrize("causal", [False, True])
def test_blocks_that_are_left_early(server: Server, causal: bool) -> None:
    """A transaction ends with the generator that has begun it."""
    with server.db() as db:

        def begun() -> Iterator[None]:
            with db.begin(causal_consistency=causal) as session:
                session.add(Page(id=1))
                session.flush()
                yield

        unit = begun()
        next(unit)
        assert 1 == server.open_transactions()
        del unit
        assert 0 == server.open_transactions()
    assert [] == server.stored()
