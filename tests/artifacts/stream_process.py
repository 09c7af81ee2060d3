"""A program that puts and gets a large artifact: ``stream_process.py DIRECTORY|S3_URL|MONGODB_URI MIB NAME [async]``.

It prints by how many bytes its memory exceeded, at most, what it was before.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import random
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import mongomock
from pymongo import AsyncMongoClient, MongoClient

from superorm._async.blobs import AsyncBlobs
from superorm._sync.blobs import Blobs
from superorm.artifacts._async.directory import AsyncDirectoryArtifactStore
from superorm.artifacts._async.gridfs import AsyncMongoArtifactStore
from superorm.artifacts._async.s3 import AsyncS3ArtifactStore
from superorm.artifacts._sync.directory import DirectoryArtifactStore
from superorm.artifacts._sync.gridfs import MongoArtifactStore
from superorm.artifacts._sync.s3 import S3ArtifactStore
from superorm.artifacts.codecs import codec_named
from superorm.artifacts.signing import Keyring
from superorm.backends._async.mongomock import AsyncMongomockMetaDataStore
from superorm.backends._sync.mongomock import MongomockMetaDataStore


def peak() -> int:
    """The most memory that this process had since `reset`, in bytes."""
    (found,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found) << 10


def reset() -> None:
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")


def chunks(mib: int) -> Iterator[bytes]:
    numbers = random.Random(5)
    for _ in range(mib):
        yield numbers.randbytes(1 << 20)


def main(where: str, mib: int, database: str) -> None:
    with ExitStack() as stack:
        store: Any
        if where.startswith("mongodb://"):
            client = stack.enter_context(MongoClient[dict[str, Any]](where))
            store = MongoArtifactStore(client, database)
        else:
            store = S3ArtifactStore(where) if where.startswith("s3://") else DirectoryArtifactStore(where)
        blobs = Blobs(MongomockMetaDataStore(mongomock.MongoClient(), database), store, lambda: Keyring((b"ours",)))

        def there_and_back(mib: int) -> None:
            uploaded = blobs.upload(chunks(mib))
            blobs.register([uploaded])
            digest = hashlib.sha256()
            size = 0
            for chunk in blobs.open(blobs.reference(uploaded, codec_named("bytes", 1), ("m",)), ("m",)):
                digest.update(chunk)
                size += len(chunk)
            assert (mib << 20, uploaded.sha256) == (size, digest.hexdigest())
            store.delete(uploaded.key)

        there_and_back(1)  # with all that is imported and connected at the first use
        reset()
        before = peak()
        there_and_back(mib)
        print(peak() - before)
        store.close()


async def main_async(where: str, mib: int, database: str) -> None:
    """The same in an event loop."""
    client: AsyncMongoClient[dict[str, Any]] | None = None
    store: Any
    if where.startswith("mongodb://"):
        client = AsyncMongoClient(where)
        store = AsyncMongoArtifactStore(client, database)
    else:
        store = AsyncS3ArtifactStore(where) if where.startswith("s3://") else AsyncDirectoryArtifactStore(where)
    metadata = AsyncMongomockMetaDataStore(mongomock.MongoClient(), database)
    blobs = AsyncBlobs(metadata, store, lambda: Keyring((b"ours",)))

    async def there_and_back(mib: int) -> None:
        uploaded = await blobs.upload(chunks(mib))
        await blobs.register([uploaded])
        digest = hashlib.sha256()
        size = 0
        async for chunk in blobs.open(blobs.reference(uploaded, codec_named("bytes", 1), ("m",)), ("m",)):
            digest.update(chunk)
            size += len(chunk)
        assert (mib << 20, uploaded.sha256) == (size, digest.hexdigest())
        await store.delete(uploaded.key)

    await there_and_back(1)
    reset()
    before = peak()
    await there_and_back(mib)
    print(peak() - before)
    await store.close()
    if client is not None:
        await client.close()


if __name__ == "__main__":
    place, size, name, *how = sys.argv[1:]
    if how:
        asyncio.run(main_async(place, int(size), name))
    else:
        main(place, int(size), name)
