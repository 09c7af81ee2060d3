"""Vectors in LanceDB, in a local directory or in a bucket."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from superorm._io import aio
from superorm.codec.vectors import Matrix, Vector
from superorm.exc import ConfigurationError, UnsupportedError
from superorm.protocols._async.parts import AsyncDataBackend
from superorm.s3_address import S3Address
from superorm.schema.vector_spec import FilterField, IndexSpec, Metric
from superorm.vectors.errors import EngineBusy
from superorm.vectors.file_lock import FileLock
from superorm.vectors.lance_bucket import LanceBucket
from superorm.vectors.lance_directory import INDEX_CACHE, LanceDirectory
from superorm.vectors.mirror import Columns
from superorm.vectors.resident import Resident
from superorm.vectors.rows import Nearest, Rows

__all__ = ["AsyncLanceVectorIndex"]

_NO_COLUMNS: Columns = {}


class AsyncLanceVectorIndex:
    """The vector database of a DB: one LanceDB table an index, a copy that can always be rebuilt.

    `uri` is a local directory, or ``s3://bucket/prefix`` for one that all machines share, in Amazon S3 or
    a store that speaks its protocol and honours conditional writes. Credentials, endpoint and region come from
    the environment (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, ``AWS_REGION``...), or from `storage_options`,
    which are LanceDB's; `endpoint`, `region` and `allow_http` may also stand in the URI: ``s3://bucket?region=...``.
    A writer of a bucket that dies or sleeps for `lease_seconds` gives way to another.
    Tables whose vectors take up to `cache_bytes` together are held in memory as well, and ranked there.
    Of the indexes of larger ones, which hold the vectors again, LanceDB keeps up to `index_cache_bytes` in memory.
    Raises ``ConfigurationError`` for a URI that cannot be, ``UnsupportedError`` for one of another kind.
    """

    kind = "lancedb"
    lag = None

    def __init__(
        self,
        uri: str = "~/.lancedb",
        *,
        storage_options: Mapping[str, str] | None = None,
        cache_bytes: int = 128 << 20,
        index_cache_bytes: int = INDEX_CACHE,
        lease_seconds: float = 20.0,
    ) -> None:
        scheme, there, _ = uri.partition("://")
        if there and scheme != "s3":
            raise UnsupportedError(f"LanceDB at {scheme}://: this release opens local directories and s3:// only")
        self.lease: float | None = None
        if there:
            if lease_seconds <= 0:
                raise ConfigurationError(f"lease_seconds={lease_seconds}: a lease lasts for some seconds")
            address = S3Address.of(uri, storage_options)
            self.uri, self.lease = address.uri, lease_seconds
            self._directory: LanceDirectory = LanceBucket(address, index_cache_bytes)
        else:
            if storage_options:
                raise ConfigurationError("storage_options are for an s3:// URI; a local directory has none")
            self.uri = str(Path(uri).expanduser().absolute())
            self._directory = LanceDirectory(Path(self.uri), index_cache_bytes)
        self.resident = Resident(aio.Lock, cache_bytes)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(uri={self.uri!r})"

    def serve(self, backend: AsyncDataBackend) -> None:
        """It serves any number of backends."""

    async def check_server(self) -> None:
        """It asks nothing of a server."""

    async def open(self) -> str:
        """Make the directory if need be; its engine id. Raises ``ConfigurationError``."""
        return await aio.in_thread(self._directory.open)

    @asynccontextmanager
    async def lock(self, name: str, *, patience: float | None = None) -> AsyncGenerator[None]:
        """Hold an index's writer lock, that of a local directory. Raises ``EngineBusy`` after `patience` seconds."""
        lock, start, pause = FileLock(self._directory.path / f"{name}.lock"), time.monotonic(), 0.002
        try:
            while not lock.acquire():
                if patience is not None and time.monotonic() - start > patience:
                    raise EngineBusy(f"{self.uri}: another writer of {name} holds its lock")
                await aio.sleep(pause)
                pause = min(2 * pause, 0.05)
        except OSError as error:
            raise ConfigurationError(f"the vector directory {self.uri} cannot be used: {error}") from error
        try:
            yield
        finally:
            lock.release()

    async def has(self, table: str, ver: int) -> bool:
        """Whether the table can be read at that version."""
        return await aio.in_thread(self._directory.has, table, ver)

    async def count(self, table: str, ver: int) -> int:
        """How many rows that version has. Raises ``VersionLost``."""
        return await aio.in_thread(self._directory.count, table, ver)

    async def create(self, table: str, dim: int, fields: Sequence[FilterField] = ()) -> None:
        """Make an empty table that mirrors these fields."""
        await aio.in_thread(self._directory.create, table, dim, fields)

    async def append(self, table: str, keys: Sequence[str], rows: Matrix, columns: Columns = _NO_COLUMNS) -> None:
        """Add rows (n, dim), of keys that the table does not hold, with the columns of the fields that it mirrors."""
        await aio.in_thread(self._directory.append, table, keys, rows, columns)

    async def write(
        self,
        table: str,
        ver: int | None,
        touched: Sequence[str],
        keys: Sequence[str],
        rows: Matrix,
        columns: Columns = _NO_COLUMNS,
    ) -> int | None:
        """Restore `ver`, replace what the table holds of the touched keys by rows (n, dim); the version made.

        Call it under the lock. None where another wrote meanwhile, whose lease had expired: what was made is not
        to be published. Raises ``VersionLost``.
        """
        return await aio.in_thread(self._directory.write, table, ver, touched, keys, rows, columns)

    async def copy(self, source: str, ver: int, table: str, go_on: Callable[[], bool]) -> bool:
        """Put all rows of a version into an empty table; False where it was not to go on. Raises ``VersionLost``."""
        return await aio.in_thread(self._directory.copy, source, ver, table, go_on)

    async def build_index(self, table: str, metric: Metric, index: IndexSpec, go_on: Callable[[], bool]) -> bool:
        """Give a table an index of its vectors; False where it was not to go on: the table goes when it is finished."""
        return await aio.in_thread(self._directory.build_index, table, metric, index, go_on)

    async def drop(self, table: str) -> None:
        """Remove the table, if it is there."""
        await aio.in_thread(self._directory.drop, table)

    async def nearest(
        self,
        table: str,
        ver: int,
        query: Vector,
        metric: Metric,
        limit: int,
        leave_out: Collection[str],
        *,
        norm: float,
        exact: bool = True,
        where: str | None = None,
    ) -> Nearest:
        """The `limit` nearest rows at exactly that version, none longer than `norm`, without the keys left out.

        With `where`, a condition in SQL, only the rows that pass it count, before the nearest are chosen.
        Unless it is to be `exact`, an index may miss some.
        Raises ``VersionLost``.
        """
        return await aio.in_thread(
            self._directory.nearest, table, ver, query, metric, limit, leave_out, norm, exact, where
        )

    async def keys(self, table: str, ver: int, where: str, limit: int) -> list[str]:
        """The keys of the rows that pass a condition in SQL, at most `limit` of them. Raises ``VersionLost``."""
        return await aio.in_thread(self._directory.keys, table, ver, where, limit)

    async def read(self, table: str, ver: int, dim: int, metric: Metric, fields: Sequence[FilterField] = ()) -> Rows:
        """All rows of a version, with the fields, which are all that it mirrors. Raises ``VersionLost``."""
        return await aio.in_thread(self._directory.read, table, ver, dim, metric, fields)

    async def close(self) -> None:
        """Forget what is open."""
        await aio.in_thread(self._directory.close)  # where a table is being opened, that waits
        self.resident.clear()
