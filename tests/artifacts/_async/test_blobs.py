"""Blobs with their registry: stored once, referred to by hash, decoded only when trusted."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import mongomock
import pymongo
import pytest
import pytest_asyncio
from attrs import evolve, frozen
from pymongo import AsyncMongoClient

from superorm._async.blobs import AsyncBlobs, is_blob_conflict
from superorm._async.metadata_units import unit
from superorm.artifacts._async.gridfs import BUCKET, AsyncMongoArtifactStore
from superorm.artifacts._async.memory import AsyncMemoryArtifactStore
from superorm.artifacts._async.mongomock_gridfs import AsyncMongomockArtifactStore
from superorm.artifacts.codecs import codec_for, codec_named
from superorm.artifacts.reference import Reference
from superorm.artifacts.registry import Uploaded
from superorm.artifacts.signing import Keyring, Owner, key_id
from superorm.backends._async.mongodb import AsyncMongoMetaDataStore
from superorm.backends._async.mongomock import AsyncMongomockMetaDataStore
from superorm.compile.plan import Find
from superorm.exc import (
    ArtifactError,
    ArtifactNotFoundError,
    CorruptArtifactError,
    DuplicateKeyError,
    SuperormError,
    UntrustedArtifactError,
)
from superorm.protocols._async.parts import AsyncArtifactStore, AsyncMetaDataStore
from superorm.unitofwork.writes import Delete, Insert, Update, UpdateOp
from tests.databases import drop_database

OWNER = ("model", "m", 0)
REGISTRY = "_superorm_blobs"
OURS, THEIRS = Keyring((b"ours",)), Keyring((b"theirs",))


@frozen
class World:
    """Blobs on a metadata store and an artifact store."""

    metadata: AsyncMetaDataStore
    store: AsyncArtifactStore

    def blobs(self, keyring: Keyring = OURS, trust: Any = "signed") -> AsyncBlobs:
        return AsyncBlobs(self.metadata, self.store, lambda: keyring, trust)

    async def save(self, value: Any, keyring: Keyring = OURS, owner: Owner = OWNER) -> Reference:
        """Store an object as a component would; the reference."""
        codec = codec_for(value)
        blobs = self.blobs(keyring)
        uploaded = await blobs.upload(codec.encode(value))
        reference = blobs.reference(uploaded, codec, owner)
        await self.commit(uploaded, [Insert("things", [{"artifact": reference.to_bson()}])])
        return reference

    async def commit(self, uploaded: Uploaded, writes: list[Any]) -> None:
        """Register the blob and write what refers to it, as one."""
        async with unit(self.metadata) as session:
            await self.blobs().register([uploaded], session=session)
            for write in writes:
                await self.metadata.write(write, session=session)

    async def registry(self) -> list[dict[str, Any]]:
        return await self.metadata.read(Find(REGISTRY))

    async def change(self, **values: Any) -> None:
        """What a gc would do to the one blob of the registry."""
        await self.metadata.write(Update(REGISTRY, [UpdateOp(q={}, u={"$set": values})]))

    async def stored(self) -> list[str]:
        return sorted(dict(await self.store.keys()))


@pytest_asyncio.fixture(params=["gridfs", "memory", "mongomock"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """Empty stores: on a server, on a server with its blobs in memory, and in mongomock."""
    name = f"superorm_test_{uuid4().hex}"
    files = f"_filesystem:{name}"
    if request.param == "mongomock":
        mock = mongomock.MongoClient()
        yield World(AsyncMongomockMetaDataStore(mock, name), AsyncMongomockArtifactStore(mock, files))
        return
    uri = request.getfixturevalue("mongodb_uri")
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(uri)
    metadata = AsyncMongoMetaDataStore(client, name)
    gridfs = AsyncMongoArtifactStore(client, files)
    world = World(metadata, gridfs if request.param == "gridfs" else AsyncMemoryArtifactStore(name))
    await world.blobs().prepare()
    await metadata.create_collection("things")
    yield world
    await client.close()
    with pymongo.MongoClient[dict[str, Any]](uri) as plain:
        drop_database(plain, name)
        drop_database(plain, files)


async def tamper(world: World, data: bytes) -> None:
    """Write other bytes of the same length where the blob's bytes are."""
    if isinstance(world.store, AsyncMemoryArtifactStore):
        blobs = world.store._blobs
        for key, (uploaded, old) in blobs.items():
            assert len(old) == len(data)
            blobs[key] = uploaded, data
    elif isinstance(world.store, AsyncMongoArtifactStore):
        await world.store.client[world.store.name][f"{BUCKET}.chunks"].update_one({}, {"$set": {"data": data}})
    else:
        world.store.client[world.store.name][f"{BUCKET}.chunks"].update_one({}, {"$set": {"data": data}})


async def test_the_same_bytes_are_stored_once(world: World) -> None:
    """Two owners of one content share the blob; each has a reference of its own."""
    first = await world.save(b"content")
    touched = (await world.registry())[0]["touched"]
    second = await world.save(b"content", owner=("model", "m", 1))
    (document,) = await world.registry()
    assert [document["key"]] == await world.stored()
    assert hashlib.sha256(b"content").hexdigest() == document["_id"] == first.sha256 == second.sha256
    assert (7, "live") == (document["size"], document["state"])
    assert touched != document["touched"]
    assert first.signature != second.signature
    assert b"content" == await world.blobs().load(second, ("model", "m", 1))


async def test_two_uploads_of_one_hash(world: World) -> None:
    """Who commits second touches the first one's blob, and leaves an unreferenced one behind."""
    blobs = world.blobs()
    uploads = [await blobs.upload(b"x") for _ in range(2)]
    references = [blobs.reference(uploaded, codec_named("bytes", 1), OWNER) for uploaded in uploads]
    for uploaded in uploads:
        await world.commit(uploaded, [])
    (document,) = await world.registry()
    assert uploads[0].key == document["key"]
    assert sorted(uploaded.key for uploaded in uploads) == await world.stored()
    assert [b"x", b"x"] == [await blobs.load(reference, OWNER) for reference in references]
    (orphan,) = await blobs.orphans(references)
    assert orphan.startswith(f"{uploads[1].key} in {world.store.uri}")


async def test_two_transactions_with_one_hash(world: World) -> None:
    """Of two commits at the same time one fails recognisably; tried again it succeeds."""
    if not (await world.metadata.capabilities()).transactions:
        return
    blobs = world.blobs()
    one, two = [await blobs.upload(b"x") for _ in range(2)]
    async with world.metadata.transaction() as session:
        await blobs.register([one], session=session)
        with pytest.raises(SuperormError) as caught:
            await world.commit(two, [Insert("things", [{"_id": 2}])])
    assert is_blob_conflict(caught.value)
    assert [] == await world.metadata.read(Find("things"))
    await world.commit(two, [Insert("things", [{"_id": 2}])])
    assert [one.key] == [document["key"] for document in await world.registry()]


@pytest.mark.parametrize("event", ["condemned", "removed", "replaced", "condemned before it was known"])
async def test_condemned_before_the_commit(world: World, event: str) -> None:
    """A blob that a gc took since the upload fails the commit recognisably; a new upload succeeds."""
    blobs = world.blobs()
    if event == "condemned before it was known":
        uploaded = await blobs.upload(b"x")
        document = {"_id": uploaded.sha256, "key": "old", "size": 1, "state": "condemned"}
        await world.metadata.write(Insert(REGISTRY, [document]))
    else:
        await world.save(b"x")
        uploaded = await blobs.upload(b"x")
        await world.metadata.write(Delete("things", [{}]))
        if event == "removed":
            await world.store.delete(uploaded.key)
            await world.metadata.write(Delete(REGISTRY, [{}]))
        else:
            await world.change(**{"state": "condemned"} if event == "condemned" else {"key": "other"})
    with pytest.raises(SuperormError) as caught:
        await world.commit(uploaded, [Insert("things", [{"_id": 1}])])
    assert is_blob_conflict(caught.value)
    assert [] == await world.metadata.read(Find("things"))
    if event == "replaced":
        return
    again = await blobs.upload(b"x")
    assert again.key not in {uploaded.key, "old"} or event == "condemned before it was known"
    await world.commit(again, [])
    (document,) = await world.registry()
    assert (again.key, "live") == (document["key"], document["state"])
    assert b"x" == await blobs.load(blobs.reference(again, codec_named("bytes", 1), OWNER), OWNER)


async def test_a_gc_and_a_commit_conflict(world: World) -> None:
    """A transaction that touches a blob and one that condemns it cannot both succeed."""
    if not (await world.metadata.capabilities()).transactions:
        return
    await world.save(b"x")
    blobs = world.blobs()
    uploaded = await blobs.upload(b"x")
    async with world.metadata.transaction() as commit:
        await blobs.register([uploaded], session=commit)
        condemn = Update(REGISTRY, [UpdateOp(q={"_id": uploaded.sha256}, u={"$set": {"state": "condemned"}})])
        with pytest.raises(SuperormError) as caught:
            async with world.metadata.transaction() as gc:
                await world.metadata.write(condemn, session=gc)
    assert is_blob_conflict(caught.value)


async def test_several_blobs_of_one_commit(world: World) -> None:
    """A commit registers all its blobs in one write, and fails if one of them was condemned."""
    blobs = world.blobs()
    await world.save(b"0")
    uploads: list[Uploaded] = [await blobs.upload(data) for data in (b"0", b"1", b"2")]
    await blobs.register(uploads)
    assert sorted(uploaded.key for uploaded in uploads) == await world.stored()
    assert {uploaded.sha256 for uploaded in uploads} == {document["_id"] for document in await world.registry()}
    later = [await blobs.upload(data) for data in (b"0", b"1", b"3")]
    await world.metadata.write(
        Update(REGISTRY, [UpdateOp(q={"_id": later[1].sha256}, u={"$set": {"state": "condemned"}})])
    )
    with pytest.raises(SuperormError) as caught:
        await blobs.register(later)
    assert is_blob_conflict(caught.value)
    await blobs.register([])


@pytest.mark.parametrize("state", ["new", "live", "condemned"])
async def test_one_blob_twice_in_one_commit(world: World, state: str) -> None:
    """Two references of a commit to the same bytes are one blob, whatever the registry knew of it."""
    blobs = world.blobs()
    if state != "new":
        await world.save(b"x")
        await world.change(state=state)
    uploads = [await blobs.upload(b"x"), await blobs.upload(b"x")]
    await blobs.register(uploads)
    (document,) = await world.registry()
    assert (hashlib.sha256(b"x").hexdigest(), "live") == (document["_id"], document["state"])
    assert document["key"] in {uploaded.key for uploaded in uploads}
    assert b"x" == await blobs.load(blobs.reference(uploads[0], codec_named("bytes", 1), OWNER), OWNER)


async def test_a_commit_that_fails(world: World) -> None:
    """A refused document leaves no reference, and no registry entry where there are transactions."""
    blobs = world.blobs()
    uploaded = await blobs.upload(b"x")
    await world.metadata.write(Insert("things", [{"_id": 1}]))
    with pytest.raises(DuplicateKeyError) as caught:
        await world.commit(uploaded, [Insert("things", [{"_id": 2}, {"_id": 1}])])
    assert not is_blob_conflict(caught.value)
    transactions = (await world.metadata.capabilities()).transactions
    assert (0 if transactions else 1) == len(await world.registry())
    assert ([1] if transactions else [1, 2]) == [d["_id"] for d in await world.metadata.read(Find("things"))]
    assert 1 == len(await blobs.orphans([]))


async def test_objects(world: World) -> None:
    """Any object comes back from its reference, and from what is stored of it."""
    value = {"weights": [1.0, 2.0], "name": "ä"}
    reference = await world.save(value)
    (thing,) = await world.metadata.read(Find("things"))
    assert reference == Reference.from_bson(thing["artifact"])
    assert value == await world.blobs().load(reference, OWNER)


async def test_tampered_bytes(world: World) -> None:
    """Bytes that were changed are corrupt, by store and key, and are not decoded; a check finds them."""
    await world.save(b"right")
    reference = await world.save(b"right")
    await tamper(world, b"wrong")
    blobs = world.blobs()
    with pytest.raises(CorruptArtifactError, match="not those that were stored") as caught:
        await blobs.load(reference, OWNER)
    (key,) = await world.stored()
    assert key in str(caught.value)
    assert world.store.uri in str(caught.value)
    (problem,) = await blobs.check([reference, reference])
    assert f"the artifact of model m 0: {problem}" == str(caught.value)


async def test_missing(world: World) -> None:
    """A hash that is not registered and a blob that is not stored are errors; a check finds both."""
    blobs = world.blobs()
    unknown = Reference("ab" * 32, 1, "bytes", 1)
    with pytest.raises(ArtifactNotFoundError, match=rf"{world.metadata.name}\.{REGISTRY} has no blob {'ab' * 32}"):
        await blobs.load(unknown, OWNER)
    reference = await world.save(b"x")
    await world.store.delete((await world.stored())[0])
    with pytest.raises(ArtifactNotFoundError, match="no blob"):
        await blobs.load(reference, OWNER)
    assert 2 == len(await blobs.check([unknown, reference]))


async def test_check_and_orphans(world: World) -> None:
    """All is well, but for blobs that nothing refers to."""
    blobs = world.blobs()
    kept, dropped = await world.save(b"kept"), await world.save(b"dropped")
    uploaded = await blobs.upload(b"lost")
    assert [] == await blobs.check([kept, dropped])
    orphans = await blobs.orphans([kept])
    assert 2 == len(orphans)
    assert uploaded.key in orphans[0]
    assert dropped.sha256 in orphans[1]


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.write_text, (self.marker, "it ran")


async def test_hostile_pickles_never_run(world: World, tmp_path: Path) -> None:
    """A pickle without a signature, or with another's, is not even read; neither is any under trust="none"."""
    marker = tmp_path / "marker"
    unsigned = await world.save(Hostile(marker), Keyring())
    theirs = await world.save(Hostile(marker), THEIRS)
    ours = await world.save(Hostile(marker), OURS)
    for key in await world.stored():
        await world.store.delete(key)  # so that reading would be another error
    with pytest.raises(UntrustedArtifactError, match="not signed"):
        await world.blobs().load(unsigned, OWNER)
    with pytest.raises(UntrustedArtifactError, match=f"{key_id(b'theirs')}.*SUPERORM_SIGNING_KEY"):
        await world.blobs().load(theirs, OWNER)
    with pytest.raises(UntrustedArtifactError, match="not valid"):
        await world.blobs().load(evolve(theirs, key_id=key_id(b"ours")), OWNER)
    with pytest.raises(UntrustedArtifactError, match='trust="none"'):
        await world.blobs(trust="none").load(ours, OWNER)
    with pytest.raises(UntrustedArtifactError, match="not valid"):
        await world.blobs().load(ours, ("model", "other", 0))
    assert not marker.exists()


async def test_a_changed_codec(world: World, tmp_path: Path) -> None:
    """Bytes stored under a safe codec are not unpickled because somebody changed the codec's name."""
    marker = tmp_path / "marker"
    reference = await world.save(pickle.dumps(Hostile(marker)))
    assert "bytes" == reference.codec
    with pytest.raises(UntrustedArtifactError, match="not valid"):
        await world.blobs().load(evolve(reference, codec="cloudpickle"), OWNER)
    with pytest.raises(CorruptArtifactError, match="nonsense"):
        await world.blobs().load(evolve(reference, codec="nonsense"), OWNER)
    with pytest.raises(ArtifactError, match="model m 0 is intact, but cannot be decoded here"):
        await world.blobs().load(evolve(reference, codec="npy"), OWNER)
    assert not marker.exists()


async def test_trusted_pickles_run(world: World, tmp_path: Path) -> None:
    """What our key signed is decoded, and everything under trust="all"; safe codecs need neither key nor trust."""
    marker = tmp_path / "marker"
    await world.blobs().load(await world.save(Hostile(marker)), OWNER)
    assert marker.exists()
    marker.unlink()
    await world.blobs(trust="all").load(await world.save(Hostile(marker), THEIRS), OWNER)
    assert marker.exists()
    safe = await world.save(b"x", Keyring())
    assert b"x" == await world.blobs(Keyring(), "none").load(safe, OWNER)
