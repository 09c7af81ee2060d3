"""Collections without any grace period beside open transactions that refer to artifacts, on a server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pymongo
import pytest
import pytest_asyncio
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import OperationFailure

from superorm import (
    AsyncDB,
    AsyncSession,
    BackendError,
    Document,
    Mapped,
    Registry,
    WriteError,
    artifact,
    connect_async,
    field,
    select,
    undefer,
)
from superorm._async.blob_gc import AsyncCollection
from superorm._async.unit_of_work import AsyncUnitOfWork
from superorm.artifacts.collecting import FACTS
from superorm.artifacts.registry import REGISTRY, is_blob_conflict
from superorm.compile.plan import Find
from tests._async.databases import own_db

registry = Registry()
NOW = timedelta(0)
Step = Callable[[], Awaitable[Any]]
DATAS = {"existing": b"existing", "late": b"late", "new": b"new", "plain": None}


class Died(BaseException):
    """As if the process had ended."""


class Slide(Document, registry=registry):
    __collection__ = "slides_beside_gc"

    name: Mapped[str] = field(primary_key=True)
    data: Mapped[bytes | None] = artifact(default=None)


@pytest_asyncio.fixture
async def db(mongodb_uri: str) -> AsyncIterator[AsyncDB]:
    """A DB on a server, which knows the field."""
    async with own_db("mongodb", mongodb_uri) as db:
        await db.create_all(Slide)
        yield db


async def begin(db: AsyncDB) -> None:
    """Nothing but a blob that nothing refers to any more, and an upload whose commit never came."""
    async with db.begin() as session:
        for slide in await session.scalars(select(Slide)):
            session.delete(slide)
    await db.gc(NOW)
    async with db.begin() as session:
        session.add(slide := Slide(name="gone", data=b"existing"))
        await session.commit()
        session.delete(slide)
    await db.blobs.upload(b"lost")


async def write(session: AsyncSession) -> None:
    """Refer to what is there, to what was uploaded before the transaction, and to what was while it was open."""
    session.add_all([Slide(name="plain"), Slide(name="new", data=b"new")])
    await session.flush()
    session.add_all([Slide(name="existing", data=b"existing"), Slide(name="late", data=b"late")])
    await session.flush()


async def settle(db: AsyncDB) -> None:
    """Every artifact is there, and the next collection leaves nothing else."""
    async with db.session() as session:
        found = await session.scalars(select(Slide).options(undefer(Slide.data)))
        assert {slide.name: slide.data for slide in found} == DATAS
    assert (await db.check(Slide)).ok
    await db.gc(NOW)
    await db.gc(NOW)
    report = await db.check(Slide)
    assert report.ok
    assert not report.orphans
    stored = {key for key, _ in list(await db.parts.artifact_store.keys())}
    assert stored == {blob["key"] for blob in await db.parts.metadata.read(Find(REGISTRY))}
    assert len(stored) == 3
    assert not await db.parts.metadata.read(Find(FACTS, {"kind": {"$in": ["upload", "claim"]}}))


def at_call(db: AsyncDB, patch: pytest.MonkeyPatch, at: int, step: Step) -> list[str]:
    """Have the step done before one of the calls of a collection; the calls so far."""
    calls: list[str] = []
    busy = False

    def stepped(target: Any, name: str) -> None:
        method = getattr(target, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal busy
            if not busy:
                calls.append(name)
                if len(calls) == at:
                    busy = True
                    await step()
                    busy = False
            return await method(*args, **kwargs)

        patch.setattr(target, name, call)

    stepped(db.parts.metadata, "write")
    stepped(db.parts.artifact_store, "delete")
    stepped(db.parts.artifact_store, "keys")
    return calls


@pytest.mark.parametrize("when", ["written", "committed"])
async def test_a_transaction_at_each_step_of_a_collection(db: AsyncDB, when: str) -> None:
    seen: set[str] = set()
    at = 0
    while True:
        at += 1
        await begin(db)
        async with db.session() as session:

            async def step(session: AsyncSession = session) -> None:
                await (write(session) if when == "written" else session.commit())

            if when == "committed":
                await write(session)
            with pytest.MonkeyPatch.context() as patch:
                calls = at_call(db, patch, at, step)
                await db.gc(NOW)
            seen |= set(calls)
            if len(calls) < at:
                break
            await session.commit()
        await settle(db)
    assert seen == {"write", "delete", "keys"}


@pytest.mark.parametrize("before", ["confirm", "end"])
async def test_a_commit_that_takes_longer_than_the_grace_period(
    db: AsyncDB, before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The collection comes right before the uploads of the transaction are confirmed, or right before its commit."""
    await begin(db)
    async with db.session() as session:
        await write(session)
        collected: list[Any] = []

        def first(target: Any, name: str, patch: pytest.MonkeyPatch) -> None:
            method = getattr(target, name)

            async def call(*args: Any) -> None:
                if not collected:
                    collected.append(await db.gc(NOW))
                await method(*args)

            patch.setattr(target, name, call)

        with monkeypatch.context() as patch:
            if before == "confirm":
                first(session._work.artifacts, "confirm", patch)
            else:
                first(AsyncUnitOfWork, "end", patch)
            await session.commit()
        ((lost,),) = [list(report.removed) for report in collected]  # what was uploaded and never referred to
        assert lost
    await settle(db)


async def test_an_upload_that_is_given_up_before_it_is_claimed(db: AsyncDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit is refused, and the next attempt of `run` uploads again."""
    await begin(db)
    register, calls = db.blobs.register, 0

    async def collected(uploads: Any, **options: Any) -> None:
        nonlocal calls
        calls += 1
        if options["late"] and calls == 2:
            await db.gc(NOW)
        await register(uploads, **options)

    monkeypatch.setattr(db.blobs, "register", collected)
    async with db.session() as session:
        with pytest.raises(WriteError) as caught:
            await write(session)
        assert is_blob_conflict(caught.value)
    assert calls == 2
    calls = 0
    await db.run(write)
    assert calls == 4
    monkeypatch.undo()
    await settle(db)


async def test_a_collection_waits_for_no_transaction(db: AsyncDB) -> None:
    """What it would change is written in an open one."""
    await begin(db)
    async with db.session() as session:
        await write(session)
        (lost,) = (await db.gc(NOW)).removed
        await session.rollback()
        removed = set((await db.gc(NOW)).removed)
        assert len(removed) == 3
        assert lost not in removed
        assert not list(await db.parts.artifact_store.keys())


async def test_an_upload_whose_commit_is_in_doubt_and_came(
    db: AsyncDB, mongodb_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When its document is gone, and a collection that dies has taken the bytes, they are uploaded again."""
    commit = AsyncClientSession.commit_transaction

    async def lost(self: AsyncClientSession) -> None:
        await commit(self)
        raise OperationFailure("lost", 50, {"errorLabels": ["UnknownTransactionCommitResult"], "code": 50})

    async def dies(*_: Any) -> None:
        raise Died

    metadata: Any = db.parts.metadata
    async with db.session() as session:
        session.add(slide := Slide(name="late"))
        await session.flush()
        slide.data = b"late and in doubt"
        await session.flush()
        with monkeypatch.context() as patch:
            patch.setattr(AsyncClientSession, "commit_transaction", lost)
            with pytest.raises(BackendError):
                await session.commit()
        await session.rollback()
        with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as plain:
            assert 1 == plain[metadata.name]["slides_beside_gc"].delete_many({"_id": "late"}).deleted_count
        with monkeypatch.context() as patch:
            patch.setattr(AsyncCollection, "_give_up_uploads", dies)
            with pytest.raises(Died):
                await db.gc(NOW)
        assert not list(await db.parts.artifact_store.keys())
        session.add(Slide(name="again", data=b"late and in doubt"))
        await session.commit()
    async with db.session() as session:
        again = await session.get_one(Slide, "again", options=[undefer(Slide.data)])
        assert b"late and in doubt" == again.data
    assert (await db.check(Slide)).ok


async def test_the_metadata_is_dropped(db: AsyncDB, mongodb_uri: str) -> None:
    """What is uploaded afterwards by a DB that is open is found by the collections of others, who were told nothing."""
    async with db.begin() as session:
        session.add(Slide(name="before", data=b"before"))
    metadata: Any = db.parts.metadata
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as plain:
        for name in (FACTS, REGISTRY):
            plain[metadata.name].drop_collection(name)
    async with db.begin() as session:
        session.add(Slide(name="after", data=b"after"))
    async with connect_async(
        mongodb_uri, database=metadata.name, vector_database="memory://", signing_key="test-key"
    ) as other:
        await other.gc(NOW)
    async with db.session() as session:
        slide = await session.get_one(Slide, "after", options=[undefer(Slide.data)])
        assert b"after" == slide.data


async def test_what_is_known_of_references_is_dropped(db: AsyncDB, mongodb_uri: str) -> None:
    """Blobs of before are left where they are, as nobody can tell who refers to them; new ones are collected."""
    async with db.begin() as session:
        session.add_all([Slide(name="one", data=b"kept"), Slide(name="two", data=b"kept, too")])
    metadata: Any = db.parts.metadata
    before = dict(await db.parts.artifact_store.keys())
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as plain:
        plain[metadata.name].drop_collection(FACTS)
    options: Any = {"database": metadata.name, "vector_database": "memory://", "signing_key": "test-key"}
    async with connect_async(mongodb_uri, **options) as other, connect_async(mongodb_uri, **options) as third:
        for collecting in (db, third, other):
            await collecting.gc(NOW)
            await collecting.gc(NOW)
        async with other.begin() as session:
            session.add_all([Slide(name="again", data=b"kept"), Slide(name="new", data=b"new")])
        async with other.begin() as session:
            for name in ("two", "new"):
                session.delete(await session.get_one(Slide, name))
        for collecting in (third, db):
            await collecting.gc(NOW)
            await collecting.gc(NOW)
        assert before == dict(await db.parts.artifact_store.keys())
        async with third.session() as session:
            for name in ("one", "again"):
                assert b"kept" == (await session.get_one(Slide, name, options=[undefer(Slide.data)])).data
        assert (await third.check(Slide)).ok
