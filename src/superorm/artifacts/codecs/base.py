"""What a codec is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

__all__ = ["Codec", "FileCodec", "is_a"]


class Codec(Protocol):
    """A way to store objects of a kind. What one version encoded, every later version decodes.

    Other packages offer codecs through entry points of the group ``superorm.codecs``: each is named as its codec,
    and is the codec, or a class or function that makes it without arguments.
    """

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

    def takes(self, value: Any) -> bool:
        """Whether the codec gives the same object back, so that it is chosen where none is asked for.

        It imports nothing: what is of a library's class was made by that library.
        """
        ...

    def encode(self, value: Any) -> bytes:
        """The object as bytes. Raises ``ArtifactSavingError``."""
        ...

    def decode(self, data: bytes) -> Any:
        """The object. May raise anything."""
        ...


@runtime_checkable
class FileCodec(Protocol):
    """A codec that can map a file, so that an object's bytes are in memory once at most."""

    def head(self, first: bytes) -> int:
        """How many bytes, the first eight among them, are at the start of the file and carry what code there is."""
        ...

    def decode_file(self, head: bytes, path: Path) -> Any:
        """The object in a file. Code is taken from these bytes, which were verified, and not from the file again."""
        ...


def is_a(value: Any, module: str, name: str) -> bool:
    """Whether an object is of a library's class, by name: the library is not imported."""
    return any(
        cls.__name__ == name and (cls.__module__ == module or cls.__module__.startswith(f"{module}."))
        for cls in type(value).__mro__
    )
