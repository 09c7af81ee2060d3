"""What a document holds in place of an artifact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import asdict, field, frozen, validators

from superorm.exc import CorruptArtifactError

__all__ = ["Reference"]

_text = validators.instance_of(str)
_number = validators.instance_of(int)


@frozen
class Reference:
    """A blob by its content, how to decode it, and who vouches for it."""

    sha256: str = field(validator=validators.matches_re("[0-9a-f]{64}"))
    """The SHA-256 of the bytes, in hexadecimal; the blob registry knows where they are."""
    size: int = field(validator=_number)
    """The number of bytes."""
    codec: str = field(validator=_text)
    codec_version: int = field(validator=_number)
    key_id: str | None = field(default=None, validator=validators.optional(_text))
    """Which key signed; None where nothing is signed."""
    signature: str | None = field(default=None, validator=validators.optional(_text))
    """HMAC-SHA256, in hexadecimal, over hash, codec, its version and the reference's owner."""

    def to_bson(self) -> dict[str, Any]:
        """The reference as it is stored."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_bson(cls, document: Mapping[str, Any]) -> Reference:
        """The reference that was stored. Raises ``CorruptArtifactError`` where the document is none."""
        try:
            return cls(**document)
        except (TypeError, ValueError) as error:
            raise CorruptArtifactError(f"not a reference to an artifact: {error}") from error
