"""A task that is cancelled anywhere in a query, a flush or a commit."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import nullcontext, suppress
from typing import Any
from uuid import uuid4

import numpy as np
import pymongo
import pytest
import pytest_asyncio
from pymongo.asynchronous.client_session import AsyncClientSession

from superorm import (
    AsyncDB,
    AsyncSession,
    Document,
    Mapped,
    Model,
    PendingRollbackError,
    connect_async,
    field,
    select,
    update,
    vector,
)

SETTINGS: dict[str, Any] = {"vector_database": "memory://", "signing_key": "test-key"}


class Letter(Document):
    __collection__ = "letters"

    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str] = field(default="")
    at: Mapped[np.ndarray | None] = vector(2)


class Stamp(Document):
    __collection__ = "stamps"

    id: Mapped[int] = field(primary_key=True)
    letter: Mapped[int] = field(default=0)
    version: Mapped[int] = field(version=True)


class Computed(Document):
    __collection__ = "computed_letters"

    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str] = field(default="")
    at: Mapped[np.ndarray] = vector(2, source="text", model="lengths")


BEGUN, GO_ON = threading.Event(), threading.Event()


def length_of(text: str) -> list[float]:
    """A model that takes its time."""
    if text == "longer":
        BEGUN.set()
        assert GO_ON.wait(10)
    return [float(len(text)), 1.0]


class CancelledAt:
    """Awaits something, and has the task cancelled where it waits for the n-th time; or a time-out end there."""

    def __init__(self, work: Awaitable[Any], at: int, timeout: asyncio.Timeout | None = None) -> None:
        self._work = work
        self._at = at
        self._timeout = timeout
        self.waits = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._work.__await__()
        error: BaseException | None = None
        while True:
            try:
                waited = steps.throw(error) if error is not None else next(steps)
            except StopIteration as stop:
                return stop.value
            self.waits += 1
            if self.waits == self._at and self._timeout is not None:
                self._timeout.reschedule(0)
            elif self.waits == self._at:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            error = None
            try:
                yield waited
            except BaseException as thrown:  # noqa: BLE001 - given to the work
                error = thrown


async def change(session: AsyncSession) -> None:
    """A unit of work of several classes, in two flushes."""
    letter = await session.get_one(Letter, 1)
    letter.text = "changed"
    letter.at = np.ones(2)
    session.add(Stamp(id=2, letter=1))
    (await session.scalars(select(Stamp).where(Stamp.id == 1))).one().letter = 7
    session.add(Letter(id=2))
    await session.execute(update(Letter).where(Letter.id == 3).values(text="by a statement"))
    await session.commit()


async def compute(session: AsyncSession) -> None:
    """A unit of work with computed vectors, some of them encoded in its transaction."""
    session.add(Computed(id=1, text="abc"))
    session.add(Stamp(id=2))
    await session.flush()
    session.add(Computed(id=2, text="abcd"))
    (await session.get_one(Stamp, 1)).letter = 7
    await session.commit()


async def in_a_block(session: AsyncSession) -> None:
    """The same in a block."""
    async with session.begin():
        session.add(Stamp(id=2))
        session.delete(await session.get_one(Letter, 1))


BEFORE = {
    "letters": [{"_id": 1, "text": "", "at": None}, {"_id": 3, "text": "", "at": None}],
    "stamps": [{"_id": 1, "letter": 0, "version": 1}],
    "computed_letters": [],
}


class Place:
    """A database, and what it holds as plain PyMongo sees it."""

    def __init__(self, url: str, name: str) -> None:
        self.url = url
        self.name = name
        if url.startswith("mongomock"):
            from superorm.backends.mongomock_engine import mongomock_client

            self.client: Any = mongomock_client(name)
        else:
            self.client = pymongo.MongoClient(url)

    @property
    def real(self) -> bool:
        return not self.url.startswith("mongomock")

    def now(self) -> dict[str, list[dict[str, Any]]]:
        return {name: list(self.client[self.name][name].find(sort=[("_id", 1)])) for name in BEFORE}

    def reset(self) -> None:
        for name, documents in BEFORE.items():
            self.client[self.name][name].delete_many({})
            if documents:
                self.client[self.name][name].insert_many([dict(document) for document in documents])

    async def no_transaction_is_open(self) -> bool:
        """Whether none stays open on the server; what applies vectors has some for a moment."""
        for _ in range(300):
            if not self.real or not self.client.admin.command("serverStatus")["transactions"]["currentOpen"]:
                return True
            await asyncio.sleep(0.01)
        return False


@pytest_asyncio.fixture(params=["mongodb", "mongomock"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    """A database of its own."""
    name = f"cancelled_{uuid4().hex[:12]}"
    url = request.getfixturevalue("own_uri") if request.param == "mongodb" else f"mongomock://{name}"
    place = Place(url, name)
    yield place
    if place.real:
        place.client.close()


async def no_connection_is_busy(db: AsyncDB) -> bool:
    """Whether no connection stays checked out of the pools of the DB's client; what applies vectors uses some."""
    backend: Any = db.parts.data_backend
    for _ in range(200):
        if not sum(server.pool.active_sockets for server in backend.client._topology._servers.values()):
            return True
        await asyncio.sleep(0.01)
    return False


def server_sessions() -> list[AsyncClientSession]:
    """Those of this process that are in use."""
    sessions = [one for one in gc.get_objects() if type(one) is AsyncClientSession and not one._implicit]
    return [session for session in sessions if not session.has_ended]


CASES = [
    pytest.param(change, False, id="change"),
    pytest.param(change, True, id="change, time-out"),
    pytest.param(in_a_block, False, id="block"),
    pytest.param(in_a_block, True, id="block, time-out"),
    pytest.param(compute, False, id="computed"),
]


@pytest.mark.parametrize(("work", "timeout"), CASES)
async def test_cancelled_anywhere(place: Place, work: Callable[[AsyncSession], Awaitable[None]], timeout: bool) -> None:
    """All of the unit of work is there or nothing of it; no transaction stays open; the session goes on."""
    async with connect_async(place.url, database=place.name, trust="all", **SETTINGS) as db:
        await db.add(Model("lengths", length_of, fingerprint="1"))
        await db.create_all(Letter, Stamp, Computed)
        place.reset()
        async with db.session() as session:
            await work(session)
        after = place.now()
        assert after != BEFORE
        outcomes: set[str] = set()
        at, sweeps = 0, 1
        while at < 10_000:
            at += 1
            place.reset()
            async with db.session() as session:
                end = asyncio.timeout(None) if timeout else None
                cancelling = CancelledAt(work(session), at, end)
                task = asyncio.create_task(_run(cancelling, end))
                with suppress(TimeoutError if timeout else asyncio.CancelledError):
                    await task
                if cancelling.waits < at:
                    assert not task.cancelled()
                    if "whole" in outcomes or sweeps == 3:
                        break
                    at, sweeps = 0, sweeps + 1  # connections that were closed may have shifted the commit's wait
                    continue
                found = place.now()
                outcomes.add("whole" if found == after else "nothing" if found == BEFORE else f"{at}: {found}")
                if session._work.server_session is not None:
                    with pytest.raises(PendingRollbackError, match="CancelledError"):
                        await session.commit()
                await session.rollback()
                assert await place.no_transaction_is_open()
                assert found == place.now() or not place.real
                stamp = await session.get_one(Stamp, 1)
                if not place.real:  # where a rollback restores objects only
                    await session.refresh(stamp)
                stamp.letter = 100 + at
                await session.commit()
            assert 100 + at == next(one["letter"] for one in place.now()["stamps"] if one["_id"] == 1)
            assert not place.real or await no_connection_is_busy(db)
        assert at > 2
        assert after == place.now()
        if place.real or work is in_a_block:  # without transactions, the flush of a query is a unit of its own
            assert {"nothing", "whole"} == outcomes
    assert [] == server_sessions()  # now that nothing applies vectors in the background


async def _run(work: CancelledAt, timeout: asyncio.Timeout | None) -> None:
    async with timeout or nullcontext():
        await work


@pytest.mark.parametrize("steps", [range(0, 300, 9), pytest.param(range(2000), marks=pytest.mark.soak)])
async def test_cancelled_while_commands_are_on_their_way(own_uri: str, steps: range) -> None:
    """The same after any number of the event loop's turns, with a command, commit or abort half sent or half read."""
    place = Place(own_uri, f"cancelled_{uuid4().hex[:12]}")
    async with connect_async(place.url, database=place.name, **SETTINGS) as db:
        await db.create_all(Letter, Stamp)
        place.reset()
        async with db.session() as session:
            await change(session)
        after = place.now()
        for turns in steps:
            place.reset()
            async with db.session() as session:
                task = asyncio.create_task(change(session))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
                found = place.now()
                assert found in (BEFORE, after)
                await session.rollback()
                assert await place.no_transaction_is_open()
                assert await no_connection_is_busy(db)
                (await session.get_one(Stamp, 1)).letter = 100 + turns
                await session.commit()
    place.client.close()


async def test_time_out_of_a_block(place: Place) -> None:
    """A time-out in a block of work takes it back, and is raised as such."""
    async with connect_async(place.url, database=place.name, **SETTINGS) as db:
        await db.create_all(Letter, Stamp)
        place.reset()
        with pytest.raises(TimeoutError):  # noqa: PT012
            async with asyncio.timeout(0.3), db.begin() as session:
                session.add(Stamp(id=5))
                await session.flush() if place.real else None
                await asyncio.sleep(5)
        assert BEFORE == place.now()
        assert await place.no_transaction_is_open()


async def test_cancelled_statements_without_transactions() -> None:
    """An update that has begun is carried out, with the vectors that are computed after it."""
    async with connect_async(f"mongomock://{uuid4().hex}", trust="all", **SETTINGS) as db:
        await db.add(Model("lengths", length_of, fingerprint="1"))
        async with db.begin() as session:
            session.add(Computed(id=1, text="abc"))
        async with db.session() as session:
            task = asyncio.create_task(session.execute(update(Computed).all().values(text="longer")))
            await asyncio.to_thread(BEGUN.wait, 10)
            task.cancel()
            await asyncio.sleep(0)
            GO_ON.set()
            with pytest.raises(asyncio.CancelledError):
                await task
        async with db.session() as session:
            found = await session.get_one(Computed, 1)
        assert ("longer", [6, 1]) == (found.text, list(found.at))
