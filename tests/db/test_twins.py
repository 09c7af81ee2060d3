"""An ``AsyncSession`` over a `DB` that was made from a URL."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import mongomock
import pymongo
import pytest
from pymongo.read_concern import ReadConcern

from superorm import (
    DB,
    AsyncSession,
    ConfigurationError,
    Document,
    Mapped,
    Session,
    async_sessionmaker,
    connect,
    connect_async,
    field,
    select,
    superduper,
)
from tests.databases import drop_database

SETTINGS: dict[str, Any] = {"vector_database": "memory://", "signing_key": "test-key"}


class Shared(Document):
    __collection__ = "shared"

    id: Mapped[int] = field(primary_key=True)


@pytest.fixture(params=["mongodb", "mongomock"])
def db(request: pytest.FixtureRequest, mongodb_uri: str) -> Iterator[DB]:
    """A DB made from a URL, with a document."""
    name = f"twins_{uuid4().hex[:12]}"
    url = mongodb_uri if request.param == "mongodb" else f"mongomock://{name}"
    with connect(url, database=name, read_concern=ReadConcern("majority"), **SETTINGS) as db:
        with db.begin() as session:
            session.add(Shared(id=1))
        yield db
    if request.param == "mongodb":
        with pymongo.MongoClient[Any](mongodb_uri) as client:
            drop_database(client, name)


async def ids(session: AsyncSession) -> list[int]:
    return (await session.scalars(select(Shared.id).order_by(Shared.id))).all()


async def add_and_read(db: DB, key: int) -> list[int]:
    async with AsyncSession(db) as session:
        session.add(Shared(id=key))
        await session.commit()
        return await ids(session)


async def test_both_see_the_same_data(db: DB) -> None:
    """What one commits the other reads; sessions of one event loop share the twin and its configuration."""
    assert [1, 2] == await add_and_read(db, 2)
    assert [1, 2] == db.session().scalars(select(Shared.id).order_by(Shared.id)).all()
    one, two = AsyncSession(db), async_sessionmaker(db)()
    assert one.db is two.db
    assert db.concerns == one.db.concerns
    assert ReadConcern("majority") == one.db.concerns.read_concern
    assert [1, 2] == await ids(two)


def test_many_event_loops(db: DB) -> None:
    """Each has connections of its own, which end with it."""
    assert [1, 2] == asyncio.run(add_and_read(db, 2))
    assert [1, 2, 3] == asyncio.run(add_and_read(db, 3))
    found: list[list[int]] = []
    thread = threading.Thread(target=lambda: found.append(asyncio.run(add_and_read(db, 4))))
    thread.start()
    thread.join()
    assert [[1, 2, 3, 4]] == found


def test_a_session_made_outside_of_an_event_loop(db: DB) -> None:
    """It opens its twin where it is first used."""
    session = AsyncSession(db)

    async def read() -> list[int]:
        async with session:
            return await ids(session)

    assert [1] == asyncio.run(read())


async def test_the_twin_is_closed_with_the_db(db: DB) -> None:
    """No session can be made any more, nor used."""
    session = AsyncSession(db)
    assert [1] == await ids(session)
    await asyncio.to_thread(db.close)
    with pytest.raises(ConfigurationError, match="closed"):
        AsyncSession(db)
    with pytest.raises(ConfigurationError, match="closed"):
        await ids(session)


async def test_closed_in_the_event_loop(db: DB) -> None:
    """Closing the DB in the event loop closes the twin as soon as something is awaited."""
    session = AsyncSession(db)
    assert [1] == await ids(session)
    db.close()
    await asyncio.sleep(0.2)
    with pytest.raises(ConfigurationError, match="closed"):
        await ids(session)


def test_closed_with_the_event_loop(mongodb_uri: str) -> None:
    """Nothing stays open where the DB is closed in the event loop's last moment."""

    async def main() -> None:
        with connect(mongodb_uri, database="twins_none", **SETTINGS) as db:
            assert [] == await ids(AsyncSession(db))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(main())
        gc.collect()
    assert [] == [str(one.message) for one in caught]


def test_closed_beside_an_event_loop_that_stands_still(db: DB) -> None:
    """An event loop that is not running closes its twin, though another one runs in the thread."""
    loop = asyncio.new_event_loop()
    session = AsyncSession(db)
    assert [1] == loop.run_until_complete(ids(session))

    async def close() -> None:
        db.close()

    asyncio.run(close())
    with pytest.raises(ConfigurationError, match="closed"):
        loop.run_until_complete(ids(session))
    loop.close()


async def test_dbs_without_a_url(mongodb_uri: str) -> None:
    """A DB around a client has no twin; the error says what to use."""
    with superduper(mongomock.MongoClient().shop) as db, pytest.raises(ConfigurationError, match="connect_async"):
        AsyncSession(db)
    with pytest.raises(ConfigurationError, match=r"connect_async\(\.\.\.\) gives, not str"):
        AsyncSession("mongomock://shop")  # type: ignore[arg-type]
    async with connect_async("mongomock://twins") as adb:
        with pytest.raises(ConfigurationError, match=r"connect\(\.\.\.\) gives, not AsyncDB"):
            Session(adb)  # type: ignore[arg-type]
