"""Blobs in GridFS over mongomock, in the memory of this process."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from datetime import datetime
from typing import Any

from superorm._io import aio
from superorm.artifacts._async.gridfs import BUCKET
from superorm.artifacts.mongomock_blobs import MongomockBlobs

__all__ = ["AsyncMongomockArtifactStore"]


class AsyncMongomockArtifactStore:
    """Blobs in a mongomock database, in the same GridFS bucket and form as on a server."""

    def __init__(self, client: Any, name: str) -> None:
        self.name = name
        self.uri = f"gridfs://{name} (mongomock)"
        self.client = client
        self._blobs = MongomockBlobs(client[name], BUCKET, self.uri)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r})"

    async def put(self, key: str, chunks: Iterable[bytes]) -> int:
        """Store the bytes under a new key; the number of bytes. Raises ``ArtifactSavingError``."""
        return await aio.in_thread(self._blobs.put, key, chunks)

    async def get(self, key: str) -> AsyncGenerator[bytes]:
        """The bytes. Raises ``ArtifactNotFoundError``, ``CorruptArtifactError`` where chunks are missing."""
        yield await aio.in_thread(self._blobs.get, key)

    async def delete(self, key: str) -> None:
        """Remove the blob; nothing happens where there is none."""
        await aio.in_thread(self._blobs.delete, key)

    async def keys(self) -> list[tuple[str, datetime]]:
        """Every physical key, with the time (UTC) of its upload."""
        return await aio.in_thread(self._blobs.keys)

    async def close(self) -> None:
        """Nothing to close: the blobs live as long as their client."""
