"""What a codec is."""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["Codec"]


class Codec(Protocol):
    """A way to store objects of a kind. What one version encoded, every later version decodes."""

    @property
    def name(self) -> str:
        """The stable name that references hold."""
        ...

    @property
    def version(self) -> int:
        """The version of the format that `encode` writes."""
        ...

    @property
    def carries_code(self) -> bool:
        """Whether decoding may run code that is in the bytes, so that they must be trusted first."""
        ...

    def encode(self, value: Any) -> bytes:
        """The object as bytes. Raises ``ArtifactSavingError``."""
        ...

    def decode(self, data: bytes) -> Any:
        """The object. May raise anything."""
        ...
