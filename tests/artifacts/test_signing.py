"""References, keys and trust."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import bson
import pytest
from attrs import evolve

from superorm.artifacts.reference import Reference
from superorm.artifacts.signing import Keyring, Trust, check_trust, key_id
from superorm.exc import ConfigurationError, CorruptArtifactError, UntrustedArtifactError

REFERENCE = Reference("ab" * 32, 10, "cloudpickle", 1)
OWNER = ("model", "minilm", 0)
OURS, THEIRS = b"our key", b"their key"


def test_bson_round_trip() -> None:
    """A reference is a plain document, without nulls, and comes back equal."""
    for reference in REFERENCE, Keyring((OURS,)).sign(REFERENCE, OWNER):
        stored = bson.decode(bson.encode(reference.to_bson()))
        assert None not in stored.values()
        assert reference == Reference.from_bson(stored)
    assert {"sha256": "ab" * 32, "size": 10, "codec": "cloudpickle", "codec_version": 1} == REFERENCE.to_bson()


@pytest.mark.parametrize(
    "change",
    [{"sha256": "ab"}, {"sha256": 5}, {"size": "x"}, {"codec": None}, {"signature": 5}, {"more": 1}, {"key_id": 1.5}],
)
def test_malformed_references(change: dict[str, Any]) -> None:
    """Anything else is corrupt."""
    with pytest.raises(CorruptArtifactError, match="not a reference"):
        Reference.from_bson(REFERENCE.to_bson() | change)
    with pytest.raises(CorruptArtifactError):
        Reference.from_bson({})


def test_signature() -> None:
    """The signature is an HMAC-SHA256 over parts with type and length, so it can be computed elsewhere."""
    signed = Keyring((OURS, THEIRS)).sign(REFERENCE, OWNER)
    parts = [b"s19:superorm artifact 1", b"s64:" + b"ab" * 32, b"s11:cloudpickle", b"i1:1"]
    message = b"".join([*parts, b"s5:model", b"s6:minilm", b"i1:0"])
    assert hmac.new(OURS, message, hashlib.sha256).hexdigest() == signed.signature
    assert hashlib.sha256(OURS).hexdigest()[:16] == signed.key_id == key_id(OURS)


def test_all_keys_verify() -> None:
    """The first key signs, all verify, others do not; without keys nothing is signed or verified."""
    signed = Keyring((THEIRS,)).sign(REFERENCE, OWNER)
    assert Keyring((OURS, THEIRS)).verifies(signed, OWNER)
    assert not Keyring((OURS,)).verifies(signed, OWNER)
    assert REFERENCE == Keyring().sign(REFERENCE, OWNER)
    assert not Keyring().verifies(signed, OWNER)
    assert not Keyring((OURS,)).verifies(REFERENCE, OWNER)


@pytest.mark.parametrize(
    "change", [{"sha256": "cd" * 32}, {"codec": "npy"}, {"codec_version": 2}, {"signature": "ä"}, {"signature": ""}]
)
def test_a_changed_reference_does_not_verify(change: dict[str, Any]) -> None:
    """Hash, codec and version are signed."""
    keyring = Keyring((OURS,))
    assert not keyring.verifies(evolve(keyring.sign(REFERENCE, OWNER), **change), OWNER)


@pytest.mark.parametrize(
    "owner", [("model", "minilm", 1), ("model", "minilm", "0"), ("model", "minilm"), ("modelm", "inilm", 0), ()]
)
def test_a_moved_reference_does_not_verify(owner: tuple[str | int, ...]) -> None:
    """The owner is signed, part by part."""
    keyring = Keyring((OURS,))
    assert not keyring.verifies(keyring.sign(REFERENCE, OWNER), owner)


def test_trust() -> None:
    """What is trusted, and what the refusal says."""
    keyring = Keyring((OURS,))
    ours, theirs = keyring.sign(REFERENCE, OWNER), Keyring((THEIRS,)).sign(REFERENCE, OWNER)
    for reference, trust in ((ours, "signed"), (ours, "all"), (theirs, "all"), (REFERENCE, "all")):
        check_trust(reference, OWNER, keyring, trust)  # type: ignore[arg-type]
    refused: list[tuple[Reference, Trust, str]] = [
        (ours, "none", 'trust="none"'),
        (REFERENCE, "signed", "not signed"),
        (theirs, "signed", f"{key_id(THEIRS)}.*append that key to SUPERORM_SIGNING_KEY"),
        (evolve(theirs, key_id=key_id(OURS)), "signed", f"signature by key {key_id(OURS)} is not valid"),
    ]
    for reference, trust, words in refused:
        with pytest.raises(UntrustedArtifactError, match=f"model minilm 0 carries code.*{words}"):
            check_trust(reference, OWNER, keyring, trust)


def test_keys_stay_secret() -> None:
    """A repr shows the ids of keys and not the keys; an empty key is refused."""
    assert f"Keyring(keys=<{key_id(OURS)}, {key_id(THEIRS)}>)" == repr(Keyring((OURS, THEIRS)))
    with pytest.raises(ConfigurationError, match="SUPERORM_SIGNING_KEY"):
        Keyring((OURS, b""))
