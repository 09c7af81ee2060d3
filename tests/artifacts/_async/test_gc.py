"""Collections of unused blobs: what they remove, what they leave, and that they may run beside anything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import mongomock
import pymongo
import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient

from superorm import AsyncDB, ConfigurationError, Model, WriteError
from superorm.artifacts._async.directory import AsyncDirectoryArtifactStore
from superorm.artifacts._async.gridfs import AsyncMongoArtifactStore
from superorm.artifacts._async.memory import AsyncMemoryArtifactStore
from superorm.artifacts._async.mongomock_gridfs import AsyncMongomockArtifactStore
from superorm.artifacts._async.s3 import AsyncS3ArtifactStore
from superorm.backends._async.mongodb import AsyncMongoDatabackend, AsyncMongoMetaDataStore
from superorm.backends._async.mongomock import AsyncMongomockDatabackend, AsyncMongomockMetaDataStore
from superorm.compile.plan import Find
from superorm.components.base import Named
from superorm.unitofwork.writes import Delete, Update, UpdateOp
from superorm.vectors._async.memory import AsyncMemoryVectorIndex
from tests.databases import drop_database
from tests.vectors.s3_server import S3Server

REGISTRY, FACTS, COMPONENTS = "_superorm_blobs", "_superorm_artifacts", "_superorm_components"
NOW = timedelta(0)
HOUR = timedelta(hours=1)


class Plus:
    """A model that adds."""

    def __init__(self, number: int) -> None:
        self.number = number

    def predict(self, items: list[int]) -> list[int]:
        return [item + self.number for item in items]


@pytest_asyncio.fixture(params=["mongomock", "gridfs", "memory", "directory", "s3"])
async def db(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AsyncDB]:
    """A DB on a server with each store, and one in mongomock with its GridFS."""
    name = f"test_{uuid4().hex[:12]}"
    files = f"_filesystem:{name}"
    if request.param == "mongomock":
        mock = mongomock.MongoClient()
        backend, metadata = AsyncMongomockDatabackend(mock, name), AsyncMongomockMetaDataStore(mock, name)
        store = AsyncMongomockArtifactStore(mock, files)
        yield AsyncDB(backend, metadata, store, AsyncMemoryVectorIndex(), signing_keys=[b"key"])
        return
    uri = request.getfixturevalue("mongodb_uri")
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(uri)
    s3_client = None
    blobs: Any = AsyncMongoArtifactStore(client, files)
    if request.param == "memory":
        blobs = AsyncMemoryArtifactStore(files)
    elif request.param == "directory":
        blobs = AsyncDirectoryArtifactStore(tmp_path / "blobs")
    elif request.param == "s3":
        server: S3Server = request.getfixturevalue("s3")
        s3_client = server.client()
        blobs = AsyncS3ArtifactStore(f"s3://{server.bucket()}/models", client=s3_client)
    yield AsyncDB(
        AsyncMongoDatabackend(client, name),
        AsyncMongoMetaDataStore(client, name),
        blobs,
        AsyncMemoryVectorIndex(),
        signing_keys=[b"key"],
    )
    await client.close()
    if s3_client is not None:
        s3_client.close()
    with pymongo.MongoClient[dict[str, Any]](uri) as plain:
        drop_database(plain, name)
        drop_database(plain, files)


def another(db: AsyncDB) -> AsyncDB:
    """The same DB as another process has it."""
    parts = db.parts
    return AsyncDB(
        parts.data_backend, parts.metadata, parts.artifact_store, parts.vector_database, signing_keys=[b"key"]
    )


async def keys(db: AsyncDB) -> set[str]:
    """What is in the store."""
    return set(dict(await db.parts.artifact_store.keys()))


async def backdate(db: AsyncDB, collection: str, path: str) -> None:
    """Have something begun two hours ago."""
    change = {"$set": {path: datetime.now(UTC) - 2 * HOUR}}
    op = UpdateOp(q={path: {"$exists": True}}, u=change, multi=True)
    await db.parts.metadata.write(Update(collection, [op]))


async def test_what_nothing_refers_to_goes(db: AsyncDB) -> None:
    """Removed components' blobs go when the grace period is over; others, shared ones too, stay."""
    await db.add(Model("kept", Plus(1)))
    (kept,) = await keys(db)
    await db.add(Model("shares", Plus(1)))
    await db.add(Model("gone", Plus(2)))
    await db.remove("model", "shares")
    await db.remove("model", "gone")
    assert [] == list((await db.gc()).removed)
    assert 2 == len(await keys(db))
    await backdate(db, REGISTRY, "unused")
    assert 1 == len((await db.gc()).removed)
    assert {kept} == await keys(db)
    assert [kept] == [blob["key"] for blob in await db.parts.metadata.read(Find(REGISTRY))]
    assert [1] == (await another(db).load("model", "kept")).predict([0])
    report = await db.check()
    assert (True, []) == (report.ok, list(report.orphans))
    assert [] == list((await db.gc(NOW)).removed)


async def test_an_owner_that_went_in_another_way(db: AsyncDB) -> None:
    """Where nobody said so, the period begins when a collection finds it; what is used again is cleared."""
    await db.add(Model("m", Plus(1)))
    await db.parts.metadata.write(Delete(COMPONENTS, [{}]))
    await db.gc()
    (blob,) = await db.parts.metadata.read(Find(REGISTRY))
    assert abs(blob["unused"] - datetime.now(UTC)) < timedelta(minutes=1)
    await db.add(Model("again", Plus(1)))
    (blob,) = await db.parts.metadata.read(Find(REGISTRY))
    assert "unused" not in blob
    await db.parts.metadata.write(Delete(COMPONENTS, [{}]))
    await db.gc()
    await backdate(db, REGISTRY, "unused")
    assert 1 == len((await db.gc()).removed)
    assert set() == await keys(db)


async def test_an_upload_whose_commit_never_came(db: AsyncDB) -> None:
    """It goes when the grace period is over, and its commit, should it come later, uploads again."""
    await db.prepare()
    uploaded = await db.blobs.upload(b"lost")
    await db.gc()
    assert {uploaded.key} == await keys(db)
    await backdate(db, FACTS, "began")
    assert [uploaded.key] == list((await db.gc()).removed)
    assert set() == await keys(db)
    with pytest.raises(WriteError, match="upload it again"):
        await db.blobs.register([uploaded])
    assert [] == await db.parts.metadata.read(Find(REGISTRY))


async def test_what_belongs_to_others(db: AsyncDB) -> None:
    """In a shared store only keys of this registry are ever removed, and only they are called orphans."""
    await db.add(Model("m", Plus(1)))
    theirs = {"0123456789ab-" + 32 * "0", "nothing-we-know", 32 * "a"}
    for key in theirs:
        await db.parts.artifact_store.put(key, [b"theirs"])
    assert [] == list((await db.check()).orphans)
    await db.remove("model", "m")
    assert 1 == len((await db.gc(NOW)).removed)
    assert theirs == await keys(db)


async def test_a_reader_that_holds_a_reference(db: AsyncDB) -> None:
    """What it found before the removal is there for the grace period."""
    await db.add(Model("m", Plus(1)))
    record = await db.components.record(Named("model", "m"))
    assert record.reference is not None
    await db.remove("model", "m")
    await db.gc()
    assert [1] == (await db.blobs.load(record.reference, record.owner)).predict([0])


async def test_a_wrong_period(db: AsyncDB) -> None:
    """A number, and a time below zero, are refused."""
    for wrong in 3600, -HOUR:
        with pytest.raises(ConfigurationError, match="grace period such as"):
            await db.gc(wrong)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


Step = Callable[[], Awaitable[Any]]


def at_each_call(db: AsyncDB, patch: pytest.MonkeyPatch, at: int, step: Step, then: Step | None = None) -> list[str]:
    """Have `step` run before one of the calls that change a store, or `then` after it; the calls so far."""
    calls: list[str] = []
    busy = False

    def stepped(target: Any, name: str) -> None:
        method = getattr(target, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal busy
            if busy:
                return await method(*args, **kwargs)
            calls.append(name)
            mine = len(calls) == at
            if mine and then is None:
                busy = True
                try:
                    await step()
                finally:
                    busy = False
            result = await method(*args, **kwargs)
            if mine and then is not None:
                await then()
            return result

        patch.setattr(target, name, call)

    stepped(db.parts.metadata, "write")
    stepped(db.parts.artifact_store, "delete")
    stepped(db.parts.artifact_store, "keys")
    return calls


async def settle(db: AsyncDB, models: int) -> None:
    """Whatever happened, nothing is wrong, and the next collection leaves what is referred to and nothing else."""
    assert (await db.check()).ok
    await db.gc(NOW)
    assert models == len(await keys(db)) == len(await db.parts.metadata.read(Find(REGISTRY)))
    report = await db.check()
    assert (True, []) == (report.ok, list(report.orphans))
    for name in await db.show("model"):
        assert [1] == (await another(db).load("model", name)).predict([0])


async def fresh(db: AsyncDB) -> None:
    """A blob that nothing refers to, an upload whose commit never came, and nothing else."""
    for name in await db.show("model"):
        await db.remove("model", name)
    await db.gc(NOW)
    assert set() == await keys(db)
    await db.add(Model("old", Plus(1)))
    await db.remove("model", "old")
    await db.blobs.upload(b"lost")


async def every_step(db: AsyncDB, step: Step, models: int, then: Step | None = None) -> set[str]:
    """A collection with the step at each of its calls in turn; the names of these."""
    await db.prepare()
    seen: set[str] = set()
    at = 0
    while True:
        at += 1
        await fresh(db)
        with pytest.MonkeyPatch.context() as patch:
            calls = at_each_call(db, patch, at, step, then)
            try:
                await db.gc(NOW)
            except Killed:
                assert len(calls) == at
        seen |= set(calls[:at])
        if len(calls) < at:
            return seen
        await settle(db, models)


class Killed(Exception):
    """The end of a process."""


async def killed() -> None:
    raise Killed


async def test_an_add_of_the_same_content_beside_it(db: AsyncDB) -> None:
    """Whenever the content is stored again, it is there afterwards."""
    other = another(db)
    assert {"write", "delete", "keys"} == await every_step(db, lambda: other.add(Model("new", Plus(1))), 1)


async def test_two_collections(db: AsyncDB) -> None:
    """A second one at any step of the first one does no harm."""
    other = another(db)
    assert {"write", "delete", "keys"} == await every_step(db, lambda: other.gc(NOW), 0)


@pytest.mark.parametrize("then", [None, killed], ids=["before the call", "after the call"])
async def test_one_that_is_killed(db: AsyncDB, then: Step | None) -> None:
    """Wherever it ends, the next one does the rest, and the content can be stored again in between."""
    assert {"write", "delete", "keys"} == await every_step(db, killed, 0, then)


async def test_a_collection_beside_an_add(db: AsyncDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """One without any grace period, before the bytes are stored or before they are committed: the add succeeds."""
    other = another(db)
    await db.prepare()
    for target, name in ((db.parts.artifact_store, "put"), (db.blobs, "register")):
        await fresh(db)
        if name == "put":
            await db.gc(NOW)  # otherwise the content is there
        method = getattr(target, name)
        collections: list[Any] = []

        async def call(*args: Any, method: Any = method, collections: list[Any] = collections, **kwargs: Any) -> Any:
            if not collections:
                collections.append(await other.gc(NOW))
            return await method(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(target, name, call)
            await db.add(Model("new", Plus(1)))
        assert 1 == len(collections)
        await settle(db, 1)
