"""Blobs as files of a directory."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterable
from datetime import datetime
from pathlib import Path

from superorm._io import aio
from superorm.artifacts.blob_files import blob_file, blob_files, delete_blob, write_blob
from superorm.exc import ArtifactError, ArtifactNotFoundError, ArtifactSavingError

__all__ = ["AsyncDirectoryArtifactStore"]

CHUNK_BYTES = 1 << 20


class AsyncDirectoryArtifactStore:
    """Blobs as files of a directory, which is made when the first one is stored; each is named ``<key>.blob``.

    A blob that is there is there whole, on the disk itself. Other files of the directory are left alone.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser().absolute()
        self.uri = f"file://{self.path}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    def file(self, key: str) -> Path:
        """The file of a blob, there or not."""
        return blob_file(self.path, key)

    async def put(self, key: str, chunks: Iterable[bytes]) -> int:
        """Store the bytes under a new key; the number of bytes. Raises ``ArtifactSavingError``."""
        try:
            return await aio.in_thread(write_blob, blob_file(self.path, key), chunks)
        except FileExistsError as error:
            raise ArtifactSavingError(f"{self.uri}: the key {key} is in use", key=key) from error
        except OSError as error:
            raise ArtifactSavingError(f"{self.uri}: the blob {key} cannot be stored: {error}", key=key) from error

    async def get(self, key: str) -> AsyncGenerator[bytes]:
        """The bytes, in chunks. Raises ``ArtifactNotFoundError``, and ``ArtifactError`` where the disk fails."""
        try:
            file = await aio.in_thread(blob_file(self.path, key).open, "rb", 0)
            try:
                while chunk := await aio.in_thread(file.read, CHUNK_BYTES):
                    yield chunk
            finally:
                file.close()
        except FileNotFoundError as error:
            raise ArtifactNotFoundError(f"{self.uri} has no blob {key}", key=key) from error
        except OSError as error:
            raise ArtifactError(f"{self.uri}: the blob {key} cannot be read: {error}", key=key) from error

    async def delete(self, key: str) -> None:
        """Remove the blob, a half-written one too; nothing happens where there is none. Raises ``ArtifactError``."""
        try:
            await aio.in_thread(delete_blob, blob_file(self.path, key))
        except OSError as error:
            raise ArtifactError(f"{self.uri}: the blob {key} cannot be removed: {error}", key=key) from error

    async def keys(self) -> list[tuple[str, datetime]]:
        """Every physical key, with the time (UTC) of its upload; also of uploads that were never finished.

        Raises ``ArtifactError``.
        """
        try:
            return await aio.in_thread(lambda: list(blob_files(self.path)))
        except OSError as error:
            raise ArtifactError(f"{self.uri} cannot be listed: {error}") from error

    async def close(self) -> None:
        """Nothing to close."""
