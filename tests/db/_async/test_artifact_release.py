"""When the grace period of an artifact begins that is replaced, or whose document is deleted."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient

from superorm import (
    AsyncDB,
    AsyncMemoryVectorIndex,
    AsyncMongoMetaDataStore,
    Document,
    Mapped,
    Registry,
    artifact,
    delete,
    field,
    load_only,
    select,
    update,
)
from superorm.artifacts.registry import REGISTRY
from superorm.compile.plan import Find
from superorm.unitofwork.writes import Update, UpdateOp
from tests._async.databases import own_db

ON_SERVER = pytest.mark.parametrize("db", ["mongodb"], indirect=True)
"""What mongomock cannot do: transactions and several clients, and a store apart from this process's memory."""

registry = Registry()
HOUR = timedelta(hours=1)


class Letter(Document, registry=registry):
    __collection__ = "letters_released"

    title: Mapped[str] = field(primary_key=True)
    scan: Mapped[bytes | None] = artifact(default=None)
    back: Mapped[bytes | None] = artifact(default=None)


@pytest_asyncio.fixture(params=["mongomock", "mongodb"])
async def db(request: pytest.FixtureRequest, mongodb_uri: str) -> AsyncIterator[AsyncDB]:
    """A DB over each backend."""
    async with own_db(request.param, mongodb_uri) as db:
        yield db


async def write(db: AsyncDB, **scans: bytes) -> None:
    async with db.begin() as session:
        session.add_all([Letter(title=title, scan=scan) for title, scan in scans.items()])


async def unused(db: AsyncDB) -> set[str]:
    """The hashes of blobs whose grace period has begun, which was just now."""
    found: set[str] = set()
    for blob in await db.parts.metadata.read(Find(REGISTRY, {"unused": {"$exists": True}})):
        assert abs(blob["unused"] - datetime.now(UTC)) < timedelta(minutes=1)
        found.add(blob["_id"])
    return found


async def backdate(db: AsyncDB) -> None:
    """Have the grace periods begun two hours ago."""
    op = UpdateOp(q={"unused": {"$exists": True}}, u={"$set": {"unused": datetime.now(UTC) - 2 * HOUR}}, multi=True)
    await db.parts.metadata.write(Update(REGISTRY, [op]))


def hashes(*datas: bytes) -> set[str]:
    return {hashlib.sha256(data).hexdigest() for data in datas}


async def test_with_the_commit(db: AsyncDB) -> None:
    await write(db, a=b"replaced", b=b"deleted", c=b"taken away", d=b"unread", e=b"kept")
    async with db.begin() as session:
        (await session.get_one(Letter, "a")).scan = b"new"
        session.delete(await session.get_one(Letter, "b"))
        (await session.get_one(Letter, "c")).scan = None
        session.delete(await session.get_one(Letter, "d"))
    gone = hashes(b"replaced", b"deleted", b"taken away", b"unread")
    assert await unused(db) == gone
    assert not (await db.gc()).removed
    await backdate(db)
    assert len((await db.gc()).removed) == 4
    await db.create_all(Letter)
    report = await db.check(Letter)
    assert report.ok
    assert not report.orphans


@ON_SERVER
async def test_not_before_it(db: AsyncDB) -> None:
    await write(db, a=b"first", b=b"second")
    async with db.session() as session:
        (await session.get_one(Letter, "a")).scan = b"new"
        session.delete(await session.get_one(Letter, "b"))
        await session.flush()
        assert not await unused(db)
        await session.rollback()
    assert not await unused(db)


async def test_not_of_what_others_refer_to(db: AsyncDB) -> None:
    """Neither in other documents, nor in another field, nor those that the same commit writes."""
    await write(db, a=b"shared", b=b"shared", c=b"moved", d=b"swapped", e=b"other", f=b"written again")
    async with db.begin() as session:
        session.delete(await session.get_one(Letter, "a"))
        moving = await session.get_one(Letter, "c")
        await session.load(moving, Letter.scan)
        moving.scan, moving.back = None, moving.scan
        first, second = await session.get_one(Letter, "d"), await session.get_one(Letter, "e")
        await session.load(first, Letter.scan)
        await session.load(second, Letter.scan)
        first.scan, second.scan = second.scan, first.scan
        session.delete(await session.get_one(Letter, "f"))
        session.add(Letter(title="g", scan=b"written again"))
    assert not await unused(db)
    async with db.begin() as session:
        session.delete(await session.get_one(Letter, "b"))
    assert not await unused(db)  # it was shared, so a collection has to look
    await db.gc()
    assert await unused(db) == hashes(b"shared")


async def test_one_that_is_stored_again_lives_on(db: AsyncDB) -> None:
    await write(db, a=b"data")
    async with db.begin() as session:
        session.delete(await session.get_one(Letter, "a"))
    assert await unused(db) == hashes(b"data")
    await write(db, b=b"data")
    assert not await unused(db)
    await db.create_all(Letter)
    assert (await db.check(Letter)).ok


async def test_statements_and_partial_objects_leave_it_to_collections(db: AsyncDB) -> None:
    await write(db, a=b"one", b=b"two", c=b"three")
    async with db.begin() as session:
        await session.execute(delete(Letter).where(Letter.title == "a"))
        await session.execute(update(Letter).where(Letter.title == "b").values(scan=None))
        (partial,) = await session.scalars(select(Letter).where(Letter.title == "c").options(load_only(Letter.back)))
        session.delete(partial)
    assert not await unused(db)
    assert not (await db.gc()).removed
    assert await unused(db) == hashes(b"one", b"two", b"three")
    await backdate(db)
    assert len((await db.gc()).removed) == 3


async def test_many_at_once(db: AsyncDB) -> None:
    datas = {f"{n}": f"data {n}".encode() for n in range(40)}
    await write(db, **datas)
    async with db.begin() as session:
        for letter in await session.scalars(select(Letter)):
            session.delete(letter)
    assert await unused(db) == hashes(*datas.values())


@ON_SERVER
async def test_blobs_that_are_registered_elsewhere(db: AsyncDB, mongodb_uri: str) -> None:
    await write(db, a=b"replaced", b=b"deleted")
    parts = db.parts
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri) as other:
        metadata = AsyncMongoMetaDataStore(other, parts.metadata.name)
        elsewhere = AsyncDB(parts.data_backend, metadata, parts.artifact_store, AsyncMemoryVectorIndex())
        async with elsewhere.begin() as session:
            (await session.get_one(Letter, "a")).scan = None
            session.delete(await session.get_one(Letter, "b"))
    async with db.session() as session:
        (left,) = await session.scalars(select(Letter))
        assert "a" == left.title
        assert left.scan is None
    assert not await unused(db)
