"""Blobs as objects of an S3 bucket."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from datetime import datetime
from typing import Any

from superorm._io import aio
from superorm.artifacts.s3_objects import Download, S3Objects, s3_client
from superorm.s3_address import S3Address

__all__ = ["AsyncS3ArtifactStore"]

CHUNK_BYTES = 1 << 22


class AsyncS3ArtifactStore:
    """Blobs as objects of a bucket of Amazon S3, or of a store that speaks its protocol: ``<prefix>/<key>.blob``.

    `uri` is ``s3://bucket/prefix``, and may say `endpoint` and `region`: ``s3://bucket?endpoint=http://...``;
    otherwise these come from the environment (``AWS_ENDPOINT_URL``, ``AWS_REGION``), as credentials do.
    `client` is one of ``boto3.client("s3", ...)`` in its place; who made it closes it.
    Other objects of the bucket are left alone.
    Raises ``ConfigurationError`` for a URI that cannot be, and where boto3 is not installed.
    """

    def __init__(self, uri: str, *, client: Any = None) -> None:
        address = S3Address.of(uri)
        self.uri = address.uri
        self._owns_client = client is None
        self.client = s3_client(address) if client is None else client
        self._objects = S3Objects(self.client, address)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri!r})"

    async def put(self, key: str, chunks: Iterable[bytes]) -> int:
        """Store the bytes under a new key; the number of bytes. A failed upload leaves nothing behind.

        From 8 MiB on they go in parts, several at once.
        Raises ``ArtifactSavingError``.
        """
        return await aio.in_thread(self._objects.put, key, chunks)

    async def get(self, key: str) -> AsyncGenerator[bytes]:
        """The bytes, in chunks. Raises ``ArtifactNotFoundError``, and ``ArtifactError`` where they cannot be had."""
        download = Download(self._objects, key)
        try:
            while chunk := await aio.in_thread(download.read, CHUNK_BYTES):
                yield chunk
        finally:
            await aio.in_thread(download.close)

    async def delete(self, key: str) -> None:
        """Remove the blob, a half-written one too; nothing happens where there is none. Raises ``ArtifactError``."""
        await aio.in_thread(self._objects.delete, key)

    async def keys(self) -> list[tuple[str, datetime]]:
        """Every physical key, with the time (UTC) of its upload; also of uploads that were never finished.

        Raises ``ArtifactError``.
        """
        return await aio.in_thread(self._objects.keys)

    async def close(self) -> None:
        """Close the client, where it belongs to this object."""
        if self._owns_client:
            await aio.in_thread(self.client.close)
