"""Blobs in the memory of this process."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from datetime import UTC, datetime

from superorm._io import aio
from superorm.artifacts.memory_blobs import BLOBS
from superorm.exc import ArtifactNotFoundError, ArtifactSavingError

__all__ = ["AsyncMemoryArtifactStore"]


class AsyncMemoryArtifactStore:
    """Blobs in memory: the same name in one process is the same data, and all is lost with the process."""

    def __init__(self, name: str) -> None:
        self.uri = f"memory://{name}"
        self._blobs = BLOBS[name]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri!r})"

    async def put(self, key: str, chunks: Iterable[bytes]) -> int:
        """Store the bytes under a new key; the number of bytes. Raises ``ArtifactSavingError``."""
        data = await aio.in_thread(b"".join, chunks)
        blob = (datetime.now(UTC), data)
        if self._blobs.setdefault(key, blob) is not blob:
            raise ArtifactSavingError(f"{self.uri}: the key {key} is in use", key=key)
        return len(data)

    async def get(self, key: str) -> AsyncGenerator[bytes]:
        """The bytes. Raises ``ArtifactNotFoundError``."""
        if key not in self._blobs:
            raise ArtifactNotFoundError(f"{self.uri} has no blob {key}", key=key)
        yield self._blobs[key][1]

    async def delete(self, key: str) -> None:
        """Remove the blob; nothing happens where there is none."""
        self._blobs.pop(key, None)

    async def keys(self) -> list[tuple[str, datetime]]:
        """Every physical key, with the time (UTC) of its upload."""
        return [(key, uploaded) for key, (uploaded, _) in list(self._blobs.items())]

    async def close(self) -> None:
        """Nothing to close: the blobs live as long as the process."""
