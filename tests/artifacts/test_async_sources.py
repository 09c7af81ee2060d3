"""Uploads from asynchronous iterables, which threads take from the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import mongomock
import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient, MongoClient

from superorm._async.blobs import AsyncBlobs
from superorm._io import aio
from superorm.artifacts._async.directory import AsyncDirectoryArtifactStore
from superorm.artifacts._async.gridfs import AsyncMongoArtifactStore
from superorm.artifacts._async.memory import AsyncMemoryArtifactStore
from superorm.artifacts._async.s3 import AsyncS3ArtifactStore
from superorm.artifacts.signing import Keyring
from superorm.backends._async.mongomock import AsyncMongomockMetaDataStore
from superorm.exc import ArtifactSavingError
from superorm.protocols._async.parts import AsyncArtifactStore
from tests.databases import drop_database

PART = b"x" * (1 << 20)


@pytest_asyncio.fixture(params=["gridfs", "memory", "directory", "s3"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AsyncArtifactStore]:
    """An empty store."""
    name = f"_filesystem:test_{uuid4().hex}"
    if request.param == "memory":
        yield AsyncMemoryArtifactStore(name)
    elif request.param == "directory":
        yield AsyncDirectoryArtifactStore(tmp_path / "blobs")
    elif request.param == "s3":
        server: Any = request.getfixturevalue("s3")
        boto = server.client()
        yield AsyncS3ArtifactStore(f"s3://{server.bucket()}/models", client=boto)
        boto.close()
    else:
        uri = request.getfixturevalue("mongodb_uri")
        client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(uri)
        yield AsyncMongoArtifactStore(client, name)
        await client.close()
        with MongoClient[dict[str, Any]](uri) as plain:
            drop_database(plain, name)


@pytest.fixture
def blobs(store: AsyncArtifactStore) -> AsyncBlobs:
    """Blobs in the store, with their registry in mongomock."""
    mock: Any = mongomock.MongoClient()
    return AsyncBlobs(AsyncMongomockMetaDataStore(mock, "test"), store, lambda: Keyring((b"ours",)))


async def test_a_source_that_stalls(blobs: AsyncBlobs, store: AsyncArtifactStore) -> None:
    """A cancelled upload ends though its source would never go on, closes that, and leaves nothing in the store."""
    waiting, closed = asyncio.Event(), asyncio.Event()

    async def stalled() -> AsyncIterator[bytes]:
        try:
            yield PART
            waiting.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            closed.set()

    upload = asyncio.create_task(blobs.upload(stalled()))
    await waiting.wait()
    upload.cancel()
    done, _ = await asyncio.wait([upload], timeout=20)
    assert {upload} == done
    assert upload.cancelled()
    assert closed.is_set()
    assert [] == await store.keys()


async def test_sources_that_need_threads_themselves(blobs: AsyncBlobs) -> None:
    """More uploads at once than the event loop has threads, of sources that are read in these, all come to an end."""

    async def read(number: int) -> AsyncIterator[bytes]:
        for _ in range(3):
            yield await asyncio.to_thread(number.to_bytes, 4, "big")

    uploads = await asyncio.wait_for(asyncio.gather(*(blobs.upload(read(number)) for number in range(40))), 60)
    assert [12] * 40 == [uploaded.size for uploaded in uploads]
    assert 40 == len({uploaded.sha256 for uploaded in uploads})


async def test_a_store_that_fails(
    blobs: AsyncBlobs, store: AsyncArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source is closed where the store fails in the middle, in the task that it was read in."""
    tasks: list[object] = []

    async def endless() -> AsyncIterator[bytes]:
        tasks.append(asyncio.current_task())
        try:
            while True:
                yield PART
        finally:
            tasks.append(asyncio.current_task())

    async def put(key: str, chunks: Iterator[bytes]) -> int:
        await aio.in_thread(next, chunks)
        raise ArtifactSavingError("the store is full")

    monkeypatch.setattr(store, "put", put)
    with pytest.raises(ArtifactSavingError, match="the store is full"):
        await blobs.upload(endless())
    assert 2 == len(tasks)
    assert tasks[0] is tasks[1] is not None


async def test_streams_of_asyncio(blobs: AsyncBlobs) -> None:
    """What can be read and iterated over asynchronously is iterated over."""
    reader = asyncio.StreamReader()
    reader.feed_data(b"a line\nanother\n")
    reader.feed_eof()
    assert 15 == (await blobs.upload(reader)).size
