"""Hostile pickles at every place where one could be planted: none runs."""

from __future__ import annotations

import base64
import json
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from superorm._async.blobs import AsyncBlobs
from superorm.artifacts.codecs import codec_for, codec_named
from superorm.artifacts.reference import Reference
from superorm.artifacts.registry import REGISTRY
from superorm.artifacts.signing import Keyring, Owner, key_id
from superorm.compile.plan import Find
from superorm.exc import ArtifactError, CorruptArtifactError, UntrustedArtifactError
from superorm.unitofwork.writes import Update, UpdateOp
from tests.artifacts._async.test_streams import OWNER, World, world

__all__ = ["world"]

OURS, THEIRS = Keyring((b"ours",)), Keyring((b"theirs",))
CODE = ["cloudpickle", "sklearn", "torch-module"]
HARMLESS = {("text", "torch-module"), ("safetensors", "torch-module")}
"""A module is a file of tensors; the hostile one has none, and is text."""


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.write_text, (self.marker, "it ran")


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "marker"


def hostile(codec: str, marker: Path) -> bytes:
    """What an attacker makes for a codec, without it."""
    pickled = pickle.dumps(Hostile(marker), protocol=5)
    if codec == "sklearn":
        return b'{"sklearn": "1.9"}\n' + pickled
    if codec == "torch-module":
        head = json.dumps({"__metadata__": {"superorm.module": base64.b64encode(pickled).decode()}}).encode()
        head += b" " * (-len(head) % 8)
        return struct.pack("<Q", len(head)) + head
    return pickled


async def planted(world: World, codec: str, data: bytes, keyring: Keyring, owner: Owner = OWNER) -> Reference:
    """A reference to stored bytes, both made by somebody who can write everywhere and has these keys."""
    uploaded = await world.blobs.upload(data)
    await world.blobs.register([uploaded])
    return keyring.sign(Reference(uploaded.sha256, uploaded.size, codec, codec_named(codec, 1).version), owner)


def blobs(world: World, keyring: Keyring = OURS, trust: Any = "signed") -> AsyncBlobs:
    return AsyncBlobs(world.blobs._metadata, world.store, lambda: keyring, trust)


@pytest.mark.parametrize("codec", CODE)
async def test_the_pickles_are_hostile(world: World, marker: Path, codec: str) -> None:
    """Each of them runs where everybody is trusted, so that the other tests say something."""
    reference = await planted(world, codec, hostile(codec, marker), Keyring())
    await blobs(world, trust="all").load(reference, OWNER)
    assert "it ran" == marker.read_text()


@pytest.mark.parametrize("codec", CODE)
async def test_whole_blobs(world: World, marker: Path, codec: str) -> None:
    """Blobs of an attacker, with a reference to each: unsigned, signed with another key, or as if with ours."""
    data = hostile(codec, marker)
    unsigned = await planted(world, codec, data, Keyring())
    theirs = await planted(world, codec, data, THEIRS)
    ours = OURS.sign(unsigned, ("model", "other", 0))
    refused = {
        "not signed": unsigned,
        key_id(b"theirs"): theirs,
        "not valid": evolve(theirs, key_id=key_id(b"ours")),
        "is not valid": ours,
    }
    for words, reference in refused.items():
        with pytest.raises(UntrustedArtifactError, match=words):
            await blobs(world).load(reference, OWNER)
    assert not marker.exists()


@pytest.mark.parametrize("codec", CODE)
async def test_bytes_in_the_store(world: World, marker: Path, codec: str) -> None:
    """Other bytes where signed ones were: in a chunk, an object, a file, of any length."""
    good = b"x" * len(hostile(codec, marker))
    reference = await planted(world, codec, good, OURS)
    (key,) = await world.stored()
    for data in hostile(codec, marker), hostile(codec, marker) + b"more":
        world.change(key, lambda old, data=data: data)  # type: ignore[misc]
        for trust in "signed", "all":
            with pytest.raises(CorruptArtifactError, match=key):
                await blobs(world, trust=trust).load(reference, OWNER)
    assert not marker.exists()


@pytest.mark.parametrize("codec", CODE)
async def test_metadata_that_points_elsewhere(world: World, marker: Path, codec: str) -> None:
    """The registry's key, or the reference's hash, changed to those of a hostile blob."""
    reference = await planted(world, codec, b"good", OURS)
    bad = await planted(world, codec, hostile(codec, marker), Keyring())
    with pytest.raises(UntrustedArtifactError, match="not valid"):
        await blobs(world).load(evolve(reference, sha256=bad.sha256, size=bad.size), OWNER)
    metadata = world.blobs._metadata
    (found,) = await metadata.read(Find(REGISTRY, {"_id": bad.sha256}))
    elsewhere = {"key": found["key"], "size": found["size"]}
    await metadata.write(Update(REGISTRY, [UpdateOp(q={"_id": reference.sha256}, u={"$set": elsewhere})]))
    for trust in "signed", "all":
        with pytest.raises(CorruptArtifactError, match=f"SHA-256 is {bad.sha256}"):
            await blobs(world, trust=trust).load(reference, OWNER)
    assert not marker.exists()


@pytest.mark.parametrize("codec", CODE)
@pytest.mark.parametrize("safe", ["bytes", "text", "json", "npy", "safetensors", "arrow", "image"])
async def test_a_changed_codec(world: World, marker: Path, codec: str, safe: str) -> None:
    """Data that was signed as such is not unpickled, and a pickle is not by a codec that carries no code."""
    data = hostile(codec, marker)
    signed = await planted(world, safe, data, OURS)
    for change in {"codec": codec}, {"codec": codec, "codec_version": 1, "signature": None}:
        with pytest.raises(UntrustedArtifactError):
            await blobs(world).load(evolve(signed, **change), OWNER)
    loaded: Any = None
    if safe == "bytes" or (safe, codec) in HARMLESS:
        loaded = await blobs(world).load(signed, OWNER)
    else:
        with pytest.raises(ArtifactError, match="cannot be decoded"):
            await blobs(world).load(signed, OWNER)
    assert loaded in (None, data, data.decode("latin-1"), {})
    assert not marker.exists()


@pytest.mark.parametrize("codec", CODE)
async def test_no_code_at_all(world: World, marker: Path, codec: str) -> None:
    """Under "none" not even our own code is loaded, nor read; data is, without a signature too."""
    reference = await planted(world, codec, hostile(codec, marker), OURS)
    for key in await world.stored():
        await world.store.delete(key)  # so that reading would be another error
    with pytest.raises(UntrustedArtifactError, match='trust="none"'):
        await blobs(world, trust="none").load(reference, OWNER)
    data = await planted(world, "bytes", b"data", Keyring())
    assert b"data" == await blobs(world, trust="none").load(data, OWNER)
    assert not marker.exists()


async def test_keys_rotate(world: World) -> None:
    """What the old key signed loads while it is known; new things are signed by the new one alone."""
    both, new = Keyring((b"new", b"ours")), Keyring((b"new",))
    codec = codec_for(len)
    old = await planted(world, codec.name, codec.encode(len), OURS)
    assert len is await blobs(world, both).load(old, OWNER)
    with pytest.raises(UntrustedArtifactError, match=key_id(b"ours")):
        await blobs(world, new).load(old, OWNER)
    uploaded = await world.blobs.upload(codec.encode(len))
    again = blobs(world, both).reference(uploaded, codec, OWNER)
    assert key_id(b"new") == again.key_id
    assert len is await blobs(world, new).load(again, OWNER)
    with pytest.raises(UntrustedArtifactError, match=key_id(b"new")):
        await blobs(world, OURS).load(again, OWNER)
