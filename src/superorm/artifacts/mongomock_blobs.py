"""GridFS over mongomock, synchronous; the untyped edge of that store."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import cache
from importlib import import_module
from typing import Any

from superorm.backends.mongomock_engine import LOCK
from superorm.exc import ArtifactNotFoundError, ArtifactSavingError, CorruptArtifactError

__all__ = ["MongomockBlobs"]

_CHUNK_BYTES = 1 << 20


@cache
def _gridfs() -> Callable[[Any, str], Any]:
    """The class ``gridfs.GridFS``, taught to take mongomock's databases."""
    import_module("mongomock.gridfs").enable_gridfs_integration()
    grid_fs: Callable[[Any, str], Any] = import_module("gridfs").GridFS
    return grid_fs


class MongomockBlobs:
    """The operations of an artifact store over one GridFS bucket in a mongomock database."""

    def __init__(self, database: Any, bucket: str, uri: str) -> None:
        self._files = database[f"{bucket}.files"]
        self._chunks = database[f"{bucket}.chunks"]
        self._fs = _gridfs()(database, bucket)
        self._uri = uri

    def put(self, key: str, chunks: Iterable[bytes]) -> int:
        """Store the bytes under a new key."""
        chunks = list(chunks)  # which may come from an event loop, where others may wait for the lock
        with LOCK:
            if self._files.count_documents({"_id": key}) or self._chunks.count_documents({"files_id": key}):
                raise ArtifactSavingError(f"{self._uri}: the key {key} is in use", key=key)
            file = self._fs.new_file(_id=key, filename=key, chunkSize=_CHUNK_BYTES)
            try:
                for chunk in chunks:
                    file.write(chunk)
                file.close()
            except BaseException:
                file.abort()
                raise
            length: int = file.length
            return length

    def get(self, key: str) -> bytes:
        """The bytes."""
        from gridfs.errors import CorruptGridFile, NoFile

        with LOCK:
            try:
                data: bytes = self._fs.get(key).read()
            except NoFile as error:
                raise ArtifactNotFoundError(f"{self._uri} has no blob {key}", key=key) from error
            except (CorruptGridFile, KeyError) as error:  # the latter from a chunk without data
                raise CorruptArtifactError(f"{self._uri}: the blob {key} is damaged: {error}", key=key) from error
            return data

    def delete(self, key: str) -> None:
        """Remove the blob, if there is one."""
        with LOCK:
            self._fs.delete(key)

    def keys(self) -> list[tuple[str, datetime]]:
        """Every physical key, with the time (UTC) of its upload."""
        with LOCK:
            return [(file["_id"], file["uploadDate"].replace(tzinfo=UTC)) for file in self._files.find({})]
