"""Bytes that come and go in pieces, hashed on their way."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeAlias, cast, runtime_checkable

from superorm.exc import ArtifactSavingError

__all__ = ["PIECE_BYTES", "Chunks", "Hasher", "Readable", "hashed", "pieces"]

PIECE_BYTES = 1 << 20
_PENDING = 16
"""So many pieces at most wait to be hashed: hashing is faster than any store, but for a moment."""


@runtime_checkable
class Readable(Protocol):
    """A binary file, or what can be read like one."""

    def read(self, size: int, /) -> bytes:
        """So many bytes at most, none at the end only."""
        ...


Chunks: TypeAlias = Readable | Iterable[bytes]
"""Where bytes come from."""


def pieces(chunks: Chunks) -> Iterator[bytes]:
    """The same bytes in pieces of 1 MiB and a rest, however they come.

    Raises ``ArtifactSavingError`` where something else than bytes comes, such as the text of a file opened as text.
    """
    parts: list[memoryview] = []
    length = 0
    for chunk in _read(chunks) if isinstance(chunks, Readable) else chunks:
        whole = _bytes(chunk)
        if not parts and len(whole) == PIECE_BYTES:
            yield whole
            continue
        data = memoryview(whole)
        while length + len(data) >= PIECE_BYTES:
            room = PIECE_BYTES - length
            yield b"".join([*parts, data[:room]])
            data, parts, length = data[room:], [], 0
        if data:
            parts.append(data)
            length += len(data)
    if parts:
        yield b"".join(parts)


def _read(file: Readable) -> Iterator[bytes]:
    while data := _bytes(file.read(PIECE_BYTES)):
        yield data


def _bytes(chunk: object) -> bytes:
    if isinstance(chunk, bytes):
        return chunk
    if isinstance(chunk, bytearray | memoryview):
        return bytes(cast("memoryview", chunk))  # its owner may write there again
    raise ArtifactSavingError(f"an artifact is made of bytes, not of {type(chunk).__name__}: open files with mode 'rb'")


class Hasher:
    """The SHA-256 and the number of bytes, computed by a thread while others read or write them."""

    def __init__(self) -> None:
        self.size = 0
        self.failure: Exception | None = None
        """What the source of the bytes raised."""
        self._digest = hashlib.sha256()
        self._thread = ThreadPoolExecutor(1, "superorm-hasher")
        self._pending: deque[Future[None]] = deque()

    def update(self, data: bytes) -> None:
        """Add bytes, which nobody may change. It waits where the thread does not keep up."""
        self.size += len(data)
        self._pending.append(self._thread.submit(self._digest.update, data))
        while len(self._pending) > _PENDING:
            self._pending.popleft().result()

    def sha256(self) -> str:
        """The hash of all bytes, in hexadecimal."""
        while self._pending:
            self._pending.popleft().result()
        return self._digest.hexdigest()

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()


def hashed(chunks: Iterable[bytes], hasher: Hasher) -> Iterator[bytes]:
    """The chunks, which are hashed while they are used. What they raise is the hasher's `failure` too."""
    try:
        for chunk in chunks:
            hasher.update(chunk)
            yield chunk
    except Exception as error:
        hasher.failure = error
        raise
