"""Blobs that come and go as streams: hashed on their way, stored once, verified to the last byte."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import mongomock
import pymongo
import pytest
import pytest_asyncio
from attrs import frozen
from pymongo import AsyncMongoClient, MongoClient

from superorm._async.blobs import AsyncBlobs
from superorm.artifacts._async.directory import AsyncDirectoryArtifactStore
from superorm.artifacts._async.gridfs import BUCKET, AsyncMongoArtifactStore
from superorm.artifacts._async.memory import AsyncMemoryArtifactStore
from superorm.artifacts._async.mongomock_gridfs import AsyncMongomockArtifactStore
from superorm.artifacts._async.s3 import AsyncS3ArtifactStore
from superorm.artifacts.codecs import codec_named
from superorm.artifacts.memory_blobs import BLOBS
from superorm.artifacts.reference import Reference
from superorm.artifacts.signing import Keyring
from superorm.backends._async.mongomock import AsyncMongomockMetaDataStore
from superorm.exc import ArtifactError, ArtifactNotFoundError, ArtifactSavingError, CorruptArtifactError
from superorm.protocols._async.parts import AsyncArtifactStore
from tests.databases import drop_database
from tests.vectors.s3_server import S3Server

OWNER = ("model", "m", 0)
DATA = os.urandom(9_500_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


@frozen
class World:
    """Blobs in a store, and how somebody else reads and writes its bytes."""

    blobs: AsyncBlobs
    store: AsyncArtifactStore
    change: Callable[[str, Callable[[bytes], bytes | None]], None]
    """Replaces the stored bytes by what a function gives for them; removes them for None."""

    async def save(self, source: Any) -> Reference:
        uploaded = await self.blobs.upload(source)
        await self.blobs.register([uploaded])
        return self.blobs.reference(uploaded, codec_named("bytes", 1), OWNER)

    async def stored(self) -> list[str]:
        return sorted(dict(await self.store.keys()))

    async def read(self, reference: Reference) -> bytes:
        return b"".join([chunk async for chunk in self.blobs.open(reference, OWNER)])


def change_in_directory(folder: Path) -> Any:
    def change(key: str, function: Any) -> None:
        file = folder / f"{key}.blob"
        new = function(file.read_bytes())
        file.unlink() if new is None else file.write_bytes(new)

    return change


def change_in_bucket(client: Any, bucket: str) -> Any:
    def change(key: str, function: Any) -> None:
        place = {"Bucket": bucket, "Key": f"models/{key}.blob"}
        new = function(client.get_object(**place)["Body"].read())
        client.delete_object(**place) if new is None else client.put_object(**place, Body=new)

    return change


def change_in_gridfs(database: Any) -> Any:
    """It changes chunks, as a failing disk or an attacker would, not the document of the file."""

    def change(key: str, function: Any) -> None:
        files, chunks = database[f"{BUCKET}.files"], database[f"{BUCKET}.chunks"]
        (last,) = list(chunks.find({"files_id": key}).sort("n", -1).limit(1))
        new = function(last["data"])
        if new is None:
            files.delete_one({"_id": key})
            chunks.delete_many({"files_id": key})
        else:
            chunks.update_one({"_id": last["_id"]}, {"$set": {"data": new}})

    return change


def change_in_memory(name: str) -> Any:
    def change(key: str, function: Any) -> None:
        uploaded, data = BLOBS[name].pop(key)
        new = function(data)
        if new is not None:
            BLOBS[name][key] = uploaded, new

    return change


@pytest_asyncio.fixture(params=["gridfs", "mongomock", "memory", "directory", "s3"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """An empty store, with its registry in mongomock."""
    name = f"_filesystem:test_{uuid4().hex}"
    mock: Any = mongomock.MongoClient()
    metadata = AsyncMongomockMetaDataStore(mock, name)

    def world(store: AsyncArtifactStore, change: Any) -> World:
        return World(AsyncBlobs(metadata, store, lambda: Keyring((b"ours",))), store, change)

    if request.param == "memory":
        yield world(AsyncMemoryArtifactStore(name), change_in_memory(name))
    elif request.param == "directory":
        yield world(AsyncDirectoryArtifactStore(tmp_path / "blobs"), change_in_directory(tmp_path / "blobs"))
    elif request.param == "s3":
        server: S3Server = request.getfixturevalue("s3")
        boto, bucket = server.client(), server.bucket()
        store = AsyncS3ArtifactStore(f"s3://{bucket}/models", client=boto)
        yield world(store, change_in_bucket(boto, bucket))
        boto.close()
    elif request.param == "mongomock":
        yield world(AsyncMongomockArtifactStore(mock, name), change_in_gridfs(mock[name]))
    else:
        uri = request.getfixturevalue("mongodb_uri")
        client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(uri)
        with MongoClient[dict[str, Any]](uri) as plain:
            yield world(AsyncMongoArtifactStore(client, name), change_in_gridfs(plain[name]))
        await client.close()
        with pymongo.MongoClient[dict[str, Any]](uri) as plain:
            drop_database(plain, name)


def cut(size: int) -> Iterator[bytes]:
    for start in range(0, len(DATA), size):
        yield DATA[start : start + size]


async def cut_slowly() -> AsyncIterator[bytes]:
    for chunk in cut(1_234_567):
        yield chunk


def reused_buffer() -> Iterator[bytearray]:
    buffer = bytearray(1 << 20)
    file = io.BytesIO(DATA)
    while size := file.readinto(buffer):
        yield buffer[:] if size == len(buffer) else buffer[:size]
        buffer[:] = bytes(len(buffer))


SOURCES: dict[str, Callable[[], Any]] = {
    "file": lambda: io.BytesIO(DATA),
    "small": lambda: cut(1000),
    "large": lambda: [b"", DATA, b""],
    "async": cut_slowly,
    "buffer": reused_buffer,
}


@pytest.mark.parametrize("source", SOURCES)
async def test_sources(world: World, source: str) -> None:
    """Bytes come from files and iterators, and go as chunks; hash and size are those of all bytes."""
    reference = await world.save(SOURCES[source]())
    assert (SHA256, len(DATA)) == (reference.sha256, reference.size)
    assert DATA == await world.read(reference) == await world.blobs.load(reference, OWNER)


async def test_stored_once(world: World) -> None:
    """The same bytes, however they come, are one blob; nothing is left of the others."""
    references = [await world.save(source) for source in (cut(5000), io.BytesIO(DATA), DATA, [DATA])]
    assert {SHA256} == {reference.sha256 for reference in references}
    assert 1 == len(await world.stored())
    assert [] == await world.blobs.orphans(references)
    empty = [await world.save(source) for source in ([], io.BytesIO(b""), b"")]
    assert {hashlib.sha256(b"").hexdigest()} == {reference.sha256 for reference in empty}
    assert b"" == await world.read(empty[0])
    assert 2 == len(await world.stored())


class Broken:
    """A file on a disk that fails."""

    def __init__(self) -> None:
        self.left = 3

    def read(self, size: int) -> bytes:
        self.left -= 1
        if not self.left:
            raise OSError("the disk of the source fails")
        return b"x" * size


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        (lambda: io.StringIO("text"), ArtifactSavingError, "not of str.*'rb'"),
        (lambda: iter([b"x", "text"]), ArtifactSavingError, "not of str"),
        (lambda: ([1][n] for n in (1,)), IndexError, "out of range"),
        (lambda: 5, TypeError, "int"),
    ],
)
async def test_sources_that_fail(world: World, source: Callable[[], Any], error: type[Exception], words: str) -> None:
    """What is wrong with the source is said as it is, and nothing is stored."""
    with pytest.raises(error, match=words):
        await world.blobs.upload(source())
    assert [] == await world.stored()


async def test_a_file_that_fails(world: World) -> None:
    """A file that cannot be read to its end is not stored, and no store takes the error for one of its own."""
    with pytest.raises(OSError, match=r"^the disk of the source fails$"):
        await world.blobs.upload(Broken())
    assert [] == await world.stored()


def flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (flip, CorruptArtifactError),
        (lambda data: data[:-1], CorruptArtifactError),
        (lambda data: data + b"x", CorruptArtifactError),
        (lambda data: None, ArtifactNotFoundError),
    ],
    ids=["flipped", "truncated", "longer", "missing"],
)
async def test_damage(world: World, damage: Callable[[bytes], bytes | None], error: type[ArtifactError]) -> None:
    """Every way to read a damaged blob raises an error that names owner, store and key."""
    reference = await world.save(io.BytesIO(DATA))
    (key,) = await world.stored()
    world.change(key, damage)
    for read in world.read, partial(world.blobs.load, owner=OWNER):
        with pytest.raises(error, match="the artifact of model m 0") as caught:
            await read(reference)
        assert error is type(caught.value)
        assert world.store.uri in str(caught.value)
        assert key in str(caught.value)
    assert 1 == len(await world.blobs.check([reference]))


async def test_a_reader_that_leaves(world: World) -> None:
    """A stream can be closed before its end."""
    reference = await world.save(io.BytesIO(DATA))
    chunks = world.blobs.open(reference, OWNER)
    assert DATA.startswith(await anext(chunks))
    await chunks.aclose()
    assert DATA == await world.read(reference)
