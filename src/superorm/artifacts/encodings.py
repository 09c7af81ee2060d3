"""Artifacts as bytes: encoded once for all that is done with them at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

from attrs import define

from superorm.artifacts.codecs import Codec, codec_for
from superorm.exc import ArtifactSavingError, SuperormError

__all__ = ["Encoded", "Encodings", "Loaded", "encode", "same"]

Loaded: TypeAlias = tuple[Any, str | None, Mapping[str, Any]]
"""An object, the name of the codec that its field asks for, and the reference that is stored in its place."""

_KEPT = 64 << 20
"""So many bytes of encoded objects are kept until they are stored; what is beyond is encoded again then."""

_LASTING = (bytes, str)


@define(eq=False)
class Encoded:
    """An object's bytes, or their hash only."""

    value: Any
    codec: Codec
    sha256: str
    size: int
    data: bytes | None

    def is_of(self, reference: Mapping[str, Any]) -> bool:
        """Whether a stored reference is to these bytes, of this codec."""
        codec = self.codec
        mine = codec.name, codec.version, self.sha256
        return mine == (reference.get("codec"), reference.get("codec_version"), reference.get("sha256"))


def encode(value: Any, name: str | None) -> Encoded:
    """An object as the codec of that name, or the one for it, encodes it.

    Raises ``ConfigurationError`` for an unknown codec, and ``ArtifactSavingError``.
    """
    codec = codec_for(value, name)
    try:
        data = codec.encode(value)
    except SuperormError:
        raise
    except Exception as error:
        raise ArtifactSavingError(f"the codec {codec.name} failed: {type(error).__name__}: {error}") from error
    return Encoded(value, codec, hashlib.sha256(data).hexdigest(), len(data), data)


class Encodings:
    """Objects that were encoded, by identity: what is changed in place afterwards is not seen."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, str | None], tuple[Any, Encoded | SuperormError]] = {}
        self._kept = 0

    def lasting(self, shown: Iterable[Loaded] | None = None) -> Encodings:
        """The hashes of objects that cannot be changed, of those that are shown where these are given."""
        names = None if shown is None else {(id(value), codec) for value, codec, _ in shown}
        lasting = Encodings()
        for name, (value, found) in self._found.items():
            if type(value) in _LASTING and isinstance(found, Encoded) and (names is None or name in names):
                found.data = None
                lasting._found[name] = value, found
        return lasting

    def lacking(self, shown: Iterable[Loaded]) -> list[Loaded]:
        """Those that were not encoded."""
        return [one for one in shown if (id(one[0]), one[1]) not in self._found]

    def look(self, shown: Iterable[Loaded]) -> None:
        """Encode objects; of one that is as stored only the hash is kept."""
        for value, codec, reference in shown:
            if (id(value), codec) in self._found:
                continue
            try:
                found = self.encode(value, codec)
            except SuperormError as error:  # raised again when it is to be stored
                self._found[id(value), codec] = value, error
                continue
            if found.is_of(reference) or self._kept + found.size > _KEPT:
                found.data = None
            else:
                self._kept += found.size

    def of(self, value: Any, codec: str | None) -> Encoded | None:
        """What is known of an object. Raises what encoding it raised."""
        _, found = self._found.get((id(value), codec), (None, None))
        if isinstance(found, SuperormError):
            raise found
        return found

    def encode(self, value: Any, codec: str | None) -> Encoded:
        """Encode an object, even if it was encoded before. Raises as `encode` does."""
        found = encode(value, codec)
        self._found[id(value), codec] = value, found  # the value too, so that no other has its id
        return found

    @contextmanager
    def used(self) -> Generator[None]:
        """A block in which `same` asks these first. It must not call what a user wrote, nor wait for anything."""
        token = _USED.set(self)
        try:
            yield
        finally:
            _USED.reset(token)


_USED: ContextVar[Encodings | None] = ContextVar("_USED", default=None)


def same(value: Any, codec: str | None, reference: Mapping[str, Any]) -> bool:
    """Whether an object is encoded as the bytes that were stored; one that cannot be encoded is refused later."""
    used = _USED.get()
    try:
        found = None if used is None else used.of(value, codec)
        return (found or encode(value, codec)).is_of(reference)
    except SuperormError:
        return False
