"""What every artifact store does alike."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import gridfs
import mongomock
import pymongo
import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient, MongoClient

from superorm.artifacts._async.directory import AsyncDirectoryArtifactStore
from superorm.artifacts._async.gridfs import BUCKET, AsyncMongoArtifactStore
from superorm.artifacts._async.memory import AsyncMemoryArtifactStore
from superorm.artifacts._async.mongomock_gridfs import AsyncMongomockArtifactStore
from superorm.artifacts._async.s3 import AsyncS3ArtifactStore
from superorm.exc import ArtifactError, ArtifactNotFoundError, ArtifactSavingError, CorruptArtifactError
from superorm.protocols._async.parts import AsyncArtifactStore
from tests.databases import drop_database
from tests.vectors.s3_server import S3Server

DATA = os.urandom(3_000_000)
NO_NAMES = ("../k", "a/b", "", ".hidden", "a\0")


@pytest_asyncio.fixture(params=["gridfs", "mongomock", "memory", "directory", "s3"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AsyncArtifactStore]:
    """An empty store."""
    name = f"_filesystem:test_{uuid4().hex}"
    if request.param == "memory":
        yield AsyncMemoryArtifactStore(name)
    elif request.param == "directory":
        yield AsyncDirectoryArtifactStore(tmp_path / "a" / "b")
    elif request.param == "s3":
        server: S3Server = request.getfixturevalue("s3")
        client = server.client()
        yield AsyncS3ArtifactStore(f"s3://{server.bucket()}/of/models/", client=client)
        client.close()
    elif request.param == "mongomock":
        yield AsyncMongomockArtifactStore(mongomock.MongoClient(), name)
    else:
        uri = request.getfixturevalue("mongodb_uri")
        client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(uri)
        yield AsyncMongoArtifactStore(client, name)
        await client.close()
        with pymongo.MongoClient[dict[str, Any]](uri) as plain:
            drop_database(plain, name)


async def read(store: AsyncArtifactStore, key: str) -> bytes:
    return b"".join([chunk async for chunk in store.get(key)])


@pytest.mark.parametrize(
    "chunks",
    [[], [b""], [b"x"], [DATA], [DATA[:1_500_000], b"", DATA[1_500_000:]], [DATA[: 1 << 20]], [b"ab"] * 1000],
    ids=["none", "empty", "one byte", "large", "two chunks", "one chunk", "small chunks"],
)
async def test_round_trip(store: AsyncArtifactStore, chunks: list[bytes]) -> None:
    """What was put comes back, and its length is told."""
    assert isinstance(store, AsyncArtifactStore)
    data = b"".join(chunks)
    assert len(data) == await store.put("k", iter(chunks))
    assert data == await read(store, "k")


async def test_keys(store: AsyncArtifactStore) -> None:
    """Every key is listed with the time of its upload, until it is deleted."""
    assert [] == await store.keys()
    before = datetime.now(UTC) - timedelta(seconds=1)
    for key in "a", "b":
        await store.put(key, [key.encode()])
    keys = dict(await store.keys())
    assert {"a", "b"} == set(keys)
    assert all(before <= uploaded <= datetime.now(UTC) for uploaded in keys.values())
    await store.delete("a")
    await store.delete("a")
    assert {"b"} == set(dict(await store.keys()))
    assert b"b" == await read(store, "b")


async def test_missing(store: AsyncArtifactStore) -> None:
    """A key that is not there is an error that names store and key."""
    with pytest.raises(ArtifactNotFoundError, match="no blob nothing") as caught:
        await read(store, "nothing")
    assert store.uri in str(caught.value)


async def test_a_key_is_used_once(store: AsyncArtifactStore) -> None:
    """A second upload under a key is refused and leaves the first alone."""
    await store.put("k", [DATA])
    for chunks in [DATA], [b"other"], []:
        with pytest.raises(ArtifactSavingError, match="in use"):
            await store.put("k", chunks)
    assert DATA == await read(store, "k")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
async def test_a_failed_upload_leaves_nothing(store: AsyncArtifactStore, error: type[BaseException]) -> None:
    """Where the bytes cannot be had, those already written are removed."""

    def chunks() -> Iterator[bytes]:
        for _ in range(40):
            yield DATA[: 1 << 20]
        raise error("broken")

    with pytest.raises(error, match="broken"):
        await store.put("k", chunks())
    assert [] == await store.keys()
    with pytest.raises(ArtifactNotFoundError):
        await read(store, "k")
    assert 5 == await store.put("k", [b"again"])


async def test_the_same_name_is_the_same_data(store: AsyncArtifactStore) -> None:
    """Another object for the same place sees the same blobs."""
    await store.put("k", [b"x"])
    others: dict[type, Any] = {
        AsyncMemoryArtifactStore: lambda: AsyncMemoryArtifactStore(store.uri.partition("://")[2]),
        AsyncMongomockArtifactStore: lambda: AsyncMongomockArtifactStore(store.client, store.name),
        AsyncMongoArtifactStore: lambda: AsyncMongoArtifactStore(store.client, store.name),
        AsyncDirectoryArtifactStore: lambda: AsyncDirectoryArtifactStore(str(store.path)),
        AsyncS3ArtifactStore: lambda: AsyncS3ArtifactStore(store.uri, client=store.client),
    }
    other = others[type(store)]()
    await store.close()
    assert b"x" == await read(other, "k")
    assert store.uri == other.uri
    assert repr(store) == repr(other)


@pytest.fixture
def database(store: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The store's database by a plain synchronous client."""
    if isinstance(store, AsyncMongoArtifactStore):
        with MongoClient[dict[str, Any]](request.getfixturevalue("mongodb_uri")) as client:
            yield client[store.name]
    elif isinstance(store, AsyncMongomockArtifactStore):
        yield store.client[store.name]
    else:
        yield None


async def test_plain_gridfs_reads_it(store: AsyncArtifactStore, database: Any) -> None:
    """A blob is a GridFS file named by its key, in the bucket that the documentation names."""
    if database is None:
        return
    await store.put("k", [DATA])
    plain = gridfs.GridFS(database, "_superorm_artifacts")
    assert DATA == plain.get_last_version("k").read()
    plain.put(b"from outside", _id="o", filename="o", chunkSize=5)
    assert b"from outside" == await read(store, "o")


@pytest.mark.parametrize("damage", ["first", "middle", "last", "all", "order", "cut", "type", "empty"])
async def test_damage(store: AsyncArtifactStore, database: Any, damage: str) -> None:
    """A blob with chunks missing or cut is corrupt, never short."""
    if database is None:
        return
    await store.put("k", [DATA])
    chunks = database[f"{BUCKET}.chunks"]
    n = {"first": 0, "middle": 1, "last": 2}.get(damage, 1)
    if damage == "all":
        chunks.delete_many({})
    elif damage == "order":
        chunks.update_one({"n": n}, {"$set": {"n": 7}})
    elif damage == "cut":
        chunks.update_one({"n": n}, {"$set": {"data": b"short"}})
    elif damage == "type":
        chunks.update_one({"n": n}, {"$set": {"data": "text"}})
    elif damage == "empty":
        chunks.update_one({"n": n}, {"$unset": {"data": ""}})
    else:
        chunks.delete_one({"n": n})
    with pytest.raises(CorruptArtifactError, match="blob k is damaged") as caught:
        await read(store, "k")
    assert store.uri in str(caught.value)
    await store.delete("k")
    assert 0 == chunks.count_documents({})


async def test_half_written_uploads_are_listed(mongodb_uri: str) -> None:
    """What a killed process left of an upload has a key and a time, and can be deleted."""
    name = f"_filesystem:test_{uuid4().hex}"
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongodb_uri)
    store = AsyncMongoArtifactStore(client, name, owns_client=True)
    await store.put("whole", [b"x"])
    chunks = client[name][f"{BUCKET}.chunks"]
    await chunks.insert_many([{"files_id": "half", "n": n, "data": b"x"} for n in range(2)])
    keys = dict(await store.keys())
    assert {"whole", "half"} == set(keys)
    assert timedelta(seconds=-1) < datetime.now(UTC) - keys["half"] < timedelta(minutes=1)
    with pytest.raises(ArtifactSavingError, match="in use"):
        await store.put("half", [b"x"])
    await store.delete("half")
    assert ["whole"] == await chunks.distinct("files_id")
    await client.drop_database(name)
    await store.close()


async def test_a_server_that_is_gone() -> None:
    """Where nothing can be stored the error says so, without the password."""
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient("mongodb://user:secret@localhost/", connect=False)
    await client.close()
    store = AsyncMongoArtifactStore(client, "x")
    with pytest.raises(ArtifactSavingError, match="blob k cannot be stored") as caught:
        await store.put("k", [b"x"])
    assert "secret" not in str(caught.value) + repr(store)
    with pytest.raises(ArtifactError, match="gridfs://x: the blob k cannot be read"):
        await read(store, "k")
    with pytest.raises(ArtifactError, match="gridfs://x: the blob k cannot be removed"):
        await store.delete("k")
    with pytest.raises(ArtifactError, match="gridfs://x cannot be listed"):
        await store.keys()


async def collect(chunks: AsyncIterator[bytes], found: list[bytes]) -> None:
    async for chunk in chunks:
        found.append(chunk)


async def test_a_reading_that_fails_in_the_middle(mongodb_uri: str) -> None:
    """What came before is given, then the error; one that nobody waits for any more is nobody's."""
    name = f"_filesystem:test_{uuid4().hex}"
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongodb_uri)
    store = AsyncMongoArtifactStore(client, name)
    parts = [os.urandom(1 << 20) for _ in range(16)]
    await store.put("k", parts)
    first, second = store.get("k"), store.get("k")
    assert parts[0] == await anext(first)  # type: ignore[arg-type]
    assert parts[0] == await anext(second)  # type: ignore[arg-type]
    await client[name][f"{BUCKET}.chunks"].drop()
    found = [parts[0]]
    with pytest.raises(ArtifactError, match="the blob k cannot be read"):
        await collect(first, found)
    assert len(found) < 16
    assert found == parts[: len(found)]
    assert parts[1:4] == [await anext(second) for _ in range(3)]  # type: ignore[arg-type]
    await second.aclose()  # type: ignore[attr-defined]
    await client.drop_database(name)
    await client.close()


async def test_plain_files(tmp_path: Path) -> None:
    """Blobs are files with their bytes; other files are left alone, and what a killed process left can be deleted."""
    store = AsyncDirectoryArtifactStore(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    await store.put("k", [b"ab", b"c"])
    assert b"abc" == (tmp_path / "k.blob").read_bytes()
    (tmp_path / "half.blob.part").write_bytes(b"a")
    keys = dict(await store.keys())
    assert {"k", "half"} == set(keys)
    assert timedelta(seconds=-1) < datetime.now(UTC) - keys["half"] < timedelta(minutes=1)
    with pytest.raises(ArtifactSavingError, match="in use"):
        await store.put("half", [b"x"])
    for key in keys:
        await store.delete(key)
    assert ["notes.txt"] == [path.name for path in tmp_path.iterdir()]


async def test_directories_that_cannot_be_used(tmp_path: Path) -> None:
    """Errors name the directory, and a key is never a path."""
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        store = AsyncDirectoryArtifactStore(path)
        with pytest.raises(ArtifactSavingError, match=r"cannot be stored: .*[Nn]ot a directory") as caught:
            await store.put("k", [b"x"])
        assert str(path) in str(caught.value)
        with pytest.raises(ArtifactError):
            await read(store, "k")
    store = AsyncDirectoryArtifactStore(tmp_path / "blobs")
    for key in NO_NAMES:
        with pytest.raises(ValueError, match="no name of a blob"):
            await store.put(key, [b"x"])
    assert {"file"} == {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("key", NO_NAMES)
async def test_keys_that_a_bucket_would_not_list(s3: S3Server, key: str) -> None:
    """What would be stored beside the blobs, and so never be found or removed again, is refused; so is reading it."""
    client, bucket = s3.client(), s3.bucket()
    store = AsyncS3ArtifactStore(f"s3://{bucket}/blobs", client=client)
    with pytest.raises(ValueError, match="no name of a blob"):
        await store.put(key, [b"x"])
    with pytest.raises(ValueError, match="no name of a blob"):
        await read(store, key)
    with pytest.raises(ValueError, match="no name of a blob"):
        await store.delete(key)
    assert 0 == client.list_objects_v2(Bucket=bucket)["KeyCount"]
    client.close()


async def test_a_reader_that_leaves(store: AsyncArtifactStore) -> None:
    """Nothing goes on when not all is read."""
    await store.put("k", [os.urandom(1 << 20) for _ in range(24)])
    chunks = store.get("k")
    async for chunk in chunks:
        assert chunk
        break
    await chunks.aclose()  # type: ignore[attr-defined]
    assert {"k"} == set(dict(await store.keys()))


async def test_plain_objects(s3: S3Server) -> None:
    """Blobs are objects with their bytes, large ones uploaded in parts; other objects are left alone."""
    client, bucket = s3.client(), s3.bucket()
    client.put_object(Bucket=bucket, Key="models/notes.txt", Body=b"mine")
    client.put_object(Bucket=bucket, Key="models/below/k.blob", Body=b"mine")
    store = AsyncS3ArtifactStore(f"s3://{bucket}/models", client=client)
    large = os.urandom(20 << 20)
    await store.put("small", [b"ab", b"c"])
    await store.put("large", [large[start : start + 1_234_567] for start in range(0, len(large), 1_234_567)])
    assert b"abc" == client.get_object(Bucket=bucket, Key="models/small.blob")["Body"].read()
    assert large == client.get_object(Bucket=bucket, Key="models/large.blob")["Body"].read()
    assert large == await read(store, "large")
    assert "-3" in client.head_object(Bucket=bucket, Key="models/large.blob")["ETag"]
    half = client.create_multipart_upload(Bucket=bucket, Key="models/half.blob")
    client.upload_part(Bucket=bucket, Key="models/half.blob", UploadId=half["UploadId"], PartNumber=1, Body=b"x")
    keys = dict(await store.keys())
    assert {"small", "large", "half"} == set(keys)
    begun = keys.pop("half")  # this server gives all uploads one date
    assert begun < datetime.now(UTC)
    assert all(timedelta(seconds=-2) < datetime.now(UTC) - at < timedelta(minutes=1) for at in keys.values())
    for key in (*keys, "half"):
        await store.delete(key)
    left = [one["Key"] for one in client.list_objects_v2(Bucket=bucket)["Contents"]]
    assert ["models/below/k.blob", "models/notes.txt"] == left
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)
    client.close()


async def test_parts_go_at_once(s3: S3Server) -> None:
    """A large blob's parts are sent beside each other, and fetched so: each waits here for the other one."""
    client, bucket = s3.client(), s3.bucket()
    meeting = threading.Barrier(2)

    def meet(**_: Any) -> None:
        meeting.wait(20)

    for call in "UploadPart", "GetObject":
        client.meta.events.register(f"before-call.s3.{call}", meet)
    store = AsyncS3ArtifactStore(f"s3://{bucket}/models", client=client)
    data = os.urandom(12 << 20)
    assert len(data) == await store.put("k", [data[: 1 << 20], data[1 << 20 :]])
    assert data == await read(store, "k")
    assert not meeting.broken
    client.close()


async def test_buckets_that_cannot_be_used(s3: S3Server) -> None:
    """A bucket that is not there, and a server that is gone, are named; nothing secret is."""
    client = s3.client()
    store = AsyncS3ArtifactStore("s3://no-such-bucket", client=client)
    with pytest.raises(ArtifactSavingError, match=r"s3://no-such-bucket: the blob k cannot .*NoSuchBucket"):
        await store.put("k", [b"x"])
    with pytest.raises(ArtifactError, match="s3://no-such-bucket"):
        await store.keys()
    client.close()
