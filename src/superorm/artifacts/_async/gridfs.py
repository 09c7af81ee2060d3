"""Blobs in MongoDB's GridFS."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from bson import Int64, ObjectId
from pymongo import ReadPreference, WriteConcern
from pymongo.errors import PyMongoError

from superorm._io import aio
from superorm.artifacts.streams import PIECE_BYTES, pieces
from superorm.exc import ArtifactError, ArtifactNotFoundError, ArtifactSavingError, CorruptArtifactError
from superorm.unitofwork.encode import CODEC_OPTIONS

if TYPE_CHECKING:
    from pymongo.asynchronous.cursor import AsyncCursor
    from pymongo.asynchronous.mongo_client import AsyncMongoClient

__all__ = ["AsyncMongoArtifactStore"]

BUCKET = "_superorm_artifacts"
CHUNK_BYTES = PIECE_BYTES
"""Large enough to read 90 MB twice as fast as with GridFS's default of 255 kB; beyond it only writing gets slower."""
_WRITTEN_AT_ONCE = 24
"""So many are sent in one command; the server takes 48 MB, which PyMongo holds two or three times until it is sent."""
_CHUNKS_AT_ONCE = 4
"""So many are asked for at once. What fills a reply of 16 MB is out of the processor's cache before it is hashed:
reading and hashing takes 1.4 times the CPU then."""


class AsyncMongoArtifactStore:
    """Blobs in GridFS: the database `name`, such as ``_filesystem:test_db``, its bucket ``_superorm_artifacts``.

    The file's name, and its ``_id`` too, is the physical key, so any GridFS client reads the blobs.
    """

    def __init__(self, client: AsyncMongoClient[dict[str, Any]], name: str, *, owns_client: bool = False) -> None:
        self.name = name
        self.uri = f"gridfs://{name}"
        self.client = client
        self._owns_client = owns_client
        self._db = client.get_database(
            name,
            codec_options=CODEC_OPTIONS,
            read_preference=ReadPreference.PRIMARY,
            write_concern=WriteConcern("majority"),
        )
        self._files = self._db[f"{BUCKET}.files"]
        self._chunks = self._db[f"{BUCKET}.chunks"]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r})"

    async def put(self, key: str, chunks: Iterable[bytes]) -> int:
        """Store the bytes under a new key; the number of bytes.

        What was written is removed on a failure.
        Raises ``ArtifactSavingError``, of an error of the network too.
        """
        try:
            if await self._chunks.find_one({"files_id": key}, {"_id": 1}) or await self._files.find_one({"_id": key}):
                raise ArtifactSavingError(f"{self.uri}: the key {key} is in use", key=key)
            if await self._files.find_one({}, {"_id": 1}) is None:  # as every client of GridFS does
                await self._files.create_index([("filename", 1), ("uploadDate", 1)])
                await self._chunks.create_index([("files_id", 1), ("n", 1)], unique=True)
            try:
                return await self._write(key, pieces(chunks))
            except BaseException:
                with suppress(ArtifactError):
                    await self.delete(key)
                raise
        except PyMongoError as error:
            raise ArtifactSavingError(f"{self.uri}: the blob {key} cannot be stored: {error}", key=key) from error

    async def _write(self, key: str, chunks: Iterator[bytes]) -> int:
        """Write the chunks, as the specification of GridFS says, and then the file's document.

        PyMongo's own writer sends 48 MB at once: in an event loop that takes more than 200 MB of memory.
        """
        number = length = 0
        while batch := await aio.in_thread(list, islice(chunks, _WRITTEN_AT_ONCE)):
            documents = [{"files_id": key, "n": number + at, "data": data} for at, data in enumerate(batch)]
            await self._chunks.insert_many(documents)
            number += len(batch)
            length += sum(map(len, batch))
        file = {"_id": key, "filename": key, "chunkSize": CHUNK_BYTES, "length": Int64(length)}
        await self._files.insert_one({**file, "uploadDate": datetime.now(UTC)})
        return length

    async def get(self, key: str) -> AsyncGenerator[bytes]:
        """The bytes, in chunks.

        Raises ``ArtifactNotFoundError``, ``CorruptArtifactError`` where chunks are missing,
        and ``ArtifactError`` where the server or the network fails.
        """
        number = length = 0
        try:
            file = await self._files.find_one({"_id": key})
            if file is None:
                raise ArtifactNotFoundError(f"{self.uri} has no blob {key}", key=key)
            fields = {"_id": 0, "n": 1, "data": 1}
            found = self._chunks.find({"files_id": key}, fields, sort=[("n", 1)], batch_size=_CHUNKS_AT_ONCE)
            async with found, aclosing(_batches(found)) as batches:
                async for batch in batches:
                    for chunk in batch:
                        data = chunk.get("data")
                        if chunk.get("n") == number and isinstance(data, bytes):
                            number += 1
                            length += len(data)
                            yield data
        except PyMongoError as error:
            raise ArtifactError(f"{self.uri}: the blob {key} cannot be read: {error}", key=key) from error
        if length != file["length"]:
            rest = f"{length} of {file['length']} bytes, chunk {number} is missing or wrong"
            raise CorruptArtifactError(f"{self.uri}: the blob {key} is damaged: {rest}", key=key)

    async def delete(self, key: str) -> None:
        """Remove the blob, half-written ones too; nothing happens where there is none. Raises ``ArtifactError``."""
        try:
            await self._files.delete_one({"_id": key})
            await self._chunks.delete_many({"files_id": key})
        except PyMongoError as error:
            raise ArtifactError(f"{self.uri}: the blob {key} cannot be removed: {error}", key=key) from error

    async def keys(self) -> list[tuple[str, datetime]]:
        """Every physical key, with the time (UTC) of its upload; also of uploads that were never finished.

        Raises ``ArtifactError``.
        """
        try:
            return await self._keys()
        except PyMongoError as error:
            raise ArtifactError(f"{self.uri} cannot be listed: {error}") from error

    async def _keys(self) -> list[tuple[str, datetime]]:
        complete = {file["_id"]: file["uploadDate"] async for file in self._files.find({}, {"uploadDate": 1})}
        first_chunks: list[dict[str, Any]] = [
            {"$sort": {"files_id": 1, "n": 1}},
            {"$group": {"_id": "$files_id", "chunk": {"$first": "$_id"}}},
        ]
        async for group in await self._chunks.aggregate(first_chunks):
            chunk = group["chunk"]
            if group["_id"] not in complete and isinstance(chunk, ObjectId):
                complete[group["_id"]] = chunk.generation_time
        return list(complete.items())

    async def close(self) -> None:
        """Close the client, where it belongs to this object."""
        if self._owns_client:
            await self.client.close()


async def _batches(found: AsyncCursor[dict[str, Any]]) -> AsyncGenerator[list[dict[str, Any]]]:
    """What a cursor gives; the server sends the next ones while these are used."""
    ahead = aio.Ahead(lambda: found.to_list(_CHUNKS_AT_ONCE))
    try:
        batch = await found.to_list(_CHUNKS_AT_ONCE)
        while batch:
            follows = found.alive
            if follows:
                ahead.start()
            yield batch
            batch = await ahead.result() if follows else []
    finally:
        await ahead.close()
