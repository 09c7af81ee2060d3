"""Signatures on references, and which artifacts may be decoded."""

from __future__ import annotations

import hashlib
import hmac
from typing import Literal, TypeAlias

from attrs import evolve, field, frozen

from superorm.artifacts.reference import Reference
from superorm.exc import ConfigurationError, UntrustedArtifactError

__all__ = ["Keyring", "Owner", "Trust", "check_trust", "key_id"]

Owner: TypeAlias = tuple[str | int, ...]
"""What a reference belongs to, such as ``("model", "minilm", 0)``; a reference moved elsewhere does not verify."""

Trust: TypeAlias = Literal["signed", "all", "none"]
"""Which artifacts that carry code may be decoded: those signed with a known key, all, or none."""

_PURPOSE = "superorm artifact 1"
"""Keeps a signature from meaning anything elsewhere."""


def key_id(key: bytes) -> str:
    """A name for the key that does not give it away: 16 hexadecimal digits."""
    return hashlib.sha256(key).hexdigest()[:16]


@frozen
class Keyring:
    """The signing keys of a DB: the first signs, all verify. There may be none."""

    keys: tuple[bytes, ...] = field(default=(), repr=lambda keys: f"<{', '.join(map(key_id, keys))}>")

    def __attrs_post_init__(self) -> None:
        if not all(self.keys):
            raise ConfigurationError("a signing key is empty: remove it from SUPERORM_SIGNING_KEY, or give it a value")

    def sign(self, reference: Reference, owner: Owner) -> Reference:
        """The reference with the first key's signature; as it is where there is no key."""
        if not self.keys:
            return reference
        return evolve(reference, key_id=key_id(self.keys[0]), signature=_mac(self.keys[0], reference, owner))

    def verifies(self, reference: Reference, owner: Owner) -> bool:
        """Whether one of the keys signed the reference for this owner."""
        signature = (reference.signature or "").encode()
        return any(hmac.compare_digest(_mac(key, reference, owner).encode(), signature) for key in self.keys)


def check_trust(reference: Reference, owner: Owner, keyring: Keyring, trust: Trust) -> None:
    """Refuse what must not be decoded: to be called before anything is read, for codecs that carry code.

    Raises ``UntrustedArtifactError``, which says why and what to do.
    """
    if trust == "all":
        return
    what = f"the artifact of {' '.join(map(str, owner))} carries code ({reference.codec})"
    if trust == "none":
        raise UntrustedArtifactError(f'{what}, and trust="none" decodes no code')
    if reference.signature is None:
        raise UntrustedArtifactError(
            f'{what} and is not signed: store it again with a signing key, or open the DB with trust="all" '
            "if you trust everybody who can write to it"
        )
    if reference.key_id not in [key_id(key) for key in keyring.keys]:
        raise UntrustedArtifactError(
            f"{what} and is signed with key {reference.key_id}, which is not known here: "
            "if you trust its owner, append that key to SUPERORM_SIGNING_KEY "
            "(comma-separated: the first signs, all verify)"
        )
    if not keyring.verifies(reference, owner):
        raise UntrustedArtifactError(
            f"{what} and its signature by key {reference.key_id} is not valid: "
            "the reference was changed, or was signed for something else"
        )


def _mac(key: bytes, reference: Reference, owner: Owner) -> str:
    """HMAC-SHA256 over the parts, each with its type and length before it, so that no two lists look alike."""
    parts = (_PURPOSE, reference.sha256, reference.codec, reference.codec_version, *owner)
    message = b"".join(
        b"%c%d:%s" % (b"i" if isinstance(part, int) else b"s", len(data), data)
        for part, data in ((part, str(part).encode()) for part in parts)
    )
    return hmac.new(key, message, hashlib.sha256).hexdigest()
