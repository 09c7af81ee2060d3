"""Artifact fields of documents, with each artifact store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import mongomock
import numpy as np
import pytest

from superorm import (
    ArtifactNotFoundError,
    AsyncDB,
    AsyncMemoryVectorIndex,
    CorruptArtifactError,
    Document,
    Mapped,
    Registry,
    artifact,
    field,
    select,
    undefer,
)
from superorm.artifacts._async.directory import AsyncDirectoryArtifactStore
from superorm.artifacts._async.memory import AsyncMemoryArtifactStore
from superorm.artifacts._async.s3 import AsyncS3ArtifactStore
from superorm.backends._async.mongomock import AsyncMongomockDatabackend, AsyncMongomockMetaDataStore
from tests.vectors.s3_server import S3Server


class Scan(Document, registry=Registry()):
    __collection__ = "scans_in_stores"

    name: Mapped[str] = field(primary_key=True)
    data: Mapped[bytes | None] = artifact(default=None)
    pixels: Mapped[np.ndarray | None] = artifact(default=None)


@pytest.fixture(params=["memory", "directory", "s3"])
async def db(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AsyncDB]:
    """A DB in memory, whose artifacts are in the store."""
    name, client = f"test_{uuid4().hex}", mongomock.MongoClient()
    s3_client: Any = None
    store: Any
    if request.param == "memory":
        store = AsyncMemoryArtifactStore(f"memory://{name}")
    elif request.param == "directory":
        store = AsyncDirectoryArtifactStore(tmp_path / "blobs")
    else:
        server: S3Server = request.getfixturevalue("s3")
        s3_client = server.client()
        store = AsyncS3ArtifactStore(f"s3://{server.bucket()}/of/documents/", client=s3_client)
    documents, metadata = AsyncMongomockDatabackend(client, name), AsyncMongomockMetaDataStore(client, name)
    yield AsyncDB(documents, metadata, store, AsyncMemoryVectorIndex(), signing_keys=[b"key"])
    if s3_client is not None:
        s3_client.close()


async def test_written_read_replaced_and_removed(db: AsyncDB) -> None:
    await db.create_all(Scan)
    pixels = np.arange(300_000, dtype=np.float32).reshape(3, -1)
    async with db.begin() as session:
        session.add(Scan(name="a", data=b"same", pixels=pixels))
        session.add(Scan(name="b", data=b"same"))
        session.add(Scan(name="c", data=b""))
    assert 3 == len(list(await db.parts.artifact_store.keys()))
    statement = select(Scan).order_by(Scan.name).options(undefer(Scan.data, Scan.pixels))
    async with db.begin() as session:
        first, second, third = await session.scalars(statement)
        assert [b"same", b"same", b""] == [first.data, second.data, third.data]
        assert first.pixels is not None
        np.testing.assert_array_equal(first.pixels, pixels)
        assert not session.dirty
        first.pixels = None
        second.data = b"other"
    assert (await db.check(Scan)).ok
    await db.gc(timedelta(0))
    await db.gc(timedelta(0))
    assert 3 == len(list(await db.parts.artifact_store.keys()))  # "same", "other" and ""
    async with db.session() as session:
        assert [b"same", b"other", b""] == [one.data for one in await session.scalars(statement)]


async def test_damage_is_named(db: AsyncDB) -> None:
    async with db.begin() as session:
        session.add(Scan(name="a", data=b"intact"))
    store = db.parts.artifact_store
    ((key, _),) = list(await store.keys())
    await store.delete(key)
    async with db.session() as session:
        with pytest.raises(ArtifactNotFoundError, match=r"Scan 'a': data: "):
            await session.get(Scan, "a", options=[undefer(Scan.data)])
    await store.put(key, [b"broken"])
    async with db.session() as session:
        scan = await session.get_one(Scan, "a")
        with pytest.raises(CorruptArtifactError, match=r"Scan 'a': data: .*SHA-256"):
            await session.load(scan, Scan.data)
