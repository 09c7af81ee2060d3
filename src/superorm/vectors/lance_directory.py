"""A LanceDB directory: the thin edge over lancedb, which is only partly typed. Blocking; safe for threads."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Collection, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from bson import ObjectId

from superorm.codec.vectors import Matrix, Vector
from superorm.exc import ConfigurationError
from superorm.schema.vector_spec import Metric
from superorm.vectors.errors import VersionLost
from superorm.vectors.file_lock import FileLock
from superorm.vectors.rows import Nearest, Rows
from superorm.vectors.scores import longest, prepare, rounding

__all__ = ["LanceDirectory"]

_IDENTITY = "superorm.json"
_HANDLES = 16
_NEXT_TO_ONE = 2.0**-23
"""How far LanceDB may be off where it takes a product from 1."""
_MARGIN = timedelta(seconds=1)


class LanceDirectory:
    """Tables of (key, vector) below one directory, read at exact versions."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine: str | None = None
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._connection: Any = None
        self._handles: dict[tuple[str, int], tuple[Any, int]] = {}

    def open(self) -> str:
        """Make the directory if need be; its engine id.

        The id lies in the directory with the number of the directory's inode:
        a copy of the directory is another engine.
        Raises ``ConfigurationError`` where lancedb is missing or the directory cannot be used.
        """
        try:
            import lancedb  # noqa: F401  # pyright: ignore[reportUnusedImport]
        except ImportError as error:
            raise ConfigurationError(
                'the vector database lancedb:// needs LanceDB: pip install "superorm-mongodb[lance]"'
            ) from error
        file, lock = self.path / _IDENTITY, FileLock(self.path / "superorm.lock")
        try:
            while not lock.acquire():
                time.sleep(0.005)
            try:
                inode = self.path.stat().st_ino
                known: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
                if known.get("inode") != inode:
                    known = {"engine": self._engine or f"lance_{ObjectId()}", "inode": inode}
                    fresh = file.with_suffix(".new")
                    fresh.write_text(json.dumps(known))
                    fresh.replace(file)
            finally:
                lock.release()
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"the vector directory {self.path} cannot be used: {error}") from error
        self._engine = str(known["engine"])
        return self._engine

    def close(self) -> None:
        """Forget connection and handles."""
        self._forget()

    def has(self, table: str, ver: int) -> bool:
        """Whether the table can be read at that version."""
        try:
            self.count(table, ver)
        except VersionLost:
            return False
        return True

    def count(self, table: str, ver: int) -> int:
        """How many rows a version has. Raises ``VersionLost``."""
        return self._pinned(table, ver)[1]

    def create(self, table: str, dim: int) -> None:
        """Make an empty table."""
        self._connect().create_table(table, schema=_schema(dim))

    def append(self, table: str, keys: Sequence[str], rows: Matrix) -> None:
        """Add rows (n, dim), of keys that the table does not hold."""
        if keys:
            self._connect().open_table(table).add(_arrow(keys, rows))

    def write(
        self,
        table: str,
        ver: int | None,
        touched: Sequence[str],
        keys: Sequence[str],
        rows: Matrix,
        tidy: int | None = None,
    ) -> int:
        """Replace what the table holds of the touched keys by rows (n, dim) under `keys`; the version made.

        Where the latest version is not `ver`, somebody died in the middle: `ver` is restored first.
        With `tidy`, small files are put together and versions before that one removed.
        Call it under the writer's lock. Raises ``VersionLost``.
        """
        try:
            handle = self._connect().open_table(table)
            if ver is not None and handle.version != ver:
                handle.checkout(ver)
                handle.restore()
            if touched:
                _merge(handle, sorted(set(touched).difference(keys)), keys, rows)
            if tidy is not None:
                handle.optimize(cleanup_older_than=_age(handle, tidy), delete_unverified=True)
            return int(handle.version)
        except (OSError, RuntimeError, ValueError) as error:
            raise self._lost(table, ver, error) from error

    def drop(self, table: str) -> None:
        """Remove the table, if it is there."""
        self._connect().drop_table(table, ignore_missing=True)

    def nearest(
        self,
        table: str,
        ver: int,
        query: Vector,
        metric: Metric,
        limit: int,
        leave_out: Collection[str],
        norm: float,
    ) -> Nearest:
        """The `limit` nearest rows of a version to a query (dim,), without the keys left out.

        No row of the version is longer than `norm`.
        Raises ``VersionLost``.
        """
        handle, _ = self._pinned(table, ver)
        asked = limit + len(leave_out)
        target = prepare(query[None], metric)[0][0]
        search = handle.search(target, vector_column_name="vector", query_type="vector")
        try:
            found = (
                search.distance_type("l2" if metric == "euclidean" else "dot")
                .select(["key", "_distance"])
                .limit(asked)
                .to_arrow()
            )
        except (OSError, RuntimeError, ValueError) as error:
            raise self._lost(table, ver, error) from error
        keys: list[str] = found["key"].to_pylist()
        distances = found["_distance"].to_numpy() - (1 if metric == "dot" else 0)
        if leave_out:
            kept = [position for position, key in enumerate(keys) if key not in leave_out]
            keys, distances = [keys[position] for position in kept], distances[kept]
        if metric == "euclidean":
            tolerance = rounding(query.size, 4 * float(distances.max(initial=0)))  # it sums squares of differences
        else:
            tolerance = rounding(query.size, norm * longest(target[None])) + _NEXT_TO_ONE  # the products may cancel
        complete = found.num_rows < asked and len(keys) <= limit
        return Nearest(keys[:limit], distances[:limit], complete, tolerance)

    def read(self, table: str, ver: int, dim: int, metric: Metric) -> Rows:
        """All rows of a version. Raises ``VersionLost``."""
        handle, count = self._pinned(table, ver)
        rows = Rows(dim, metric, count)
        try:
            for batch in handle.to_arrow().to_batches():
                vectors = batch.column("vector").flatten().to_numpy(zero_copy_only=False)
                rows.put(batch.column("key").to_pylist(), vectors.reshape(-1, dim))
        except (OSError, RuntimeError, ValueError) as error:
            raise self._lost(table, ver, error) from error
        return rows

    def _pinned(self, table: str, ver: int) -> tuple[Any, int]:
        """A handle that reads the table at that version, and the number of rows."""
        with self._guard():
            pinned = self._handles.get((table, ver))
            if pinned is None:
                try:
                    handle = self._connect().open_table(table)
                    handle.checkout(ver)
                    pinned = handle, int(handle.count_rows())
                except (OSError, RuntimeError, ValueError) as error:
                    raise self._lost(table, ver, error) from error
                self._handles[table, ver] = pinned
                while len(self._handles) > _HANDLES:
                    del self._handles[next(iter(self._handles))]
            return pinned

    def _guard(self) -> threading.RLock:
        """The lock of this process: after a fork everything is opened anew."""
        if self._pid != os.getpid():
            self._forget()
        return self._lock

    def _connect(self) -> Any:
        self._guard()
        if self._connection is None:
            import lancedb

            self._connection = lancedb.connect(str(self.path))
        return self._connection

    def _lost(self, table: str, ver: int | None, error: Exception) -> VersionLost:
        self._forget()
        return VersionLost(f"{self.path}: table {table} cannot be read at version {ver}: {error}")


def _arrow_library() -> Any:
    import pyarrow  # pyright: ignore[reportMissingTypeStubs]

    return pyarrow


def _schema(dim: int) -> Any:
    pa = _arrow_library()
    return pa.schema([pa.field("key", pa.string(), False), pa.field("vector", pa.list_(pa.float32(), dim), False)])


def _arrow(keys: Sequence[str], rows: Matrix) -> Any:
    pa = _arrow_library()
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(rows).reshape(-1)), rows.shape[1])
    return pa.Table.from_arrays([pa.array(keys, pa.string()), vectors], schema=_schema(rows.shape[1]))


def _merge(handle: Any, gone: Sequence[str], keys: Sequence[str], rows: Matrix) -> None:
    """Remove the keys that are gone, and insert or replace rows (n, dim) under `keys`, in one commit."""
    change = handle.merge_insert("key").when_matched_update_all().when_not_matched_insert_all()
    if gone:
        ids = ", ".join(f"'{key}'" for key in gone)
        change = change.when_not_matched_by_source_delete(f"key IN ({ids})")
    change.execute(_arrow(keys, rows))


def _age(handle: Any, ver: int) -> timedelta:
    """An age that the version has not yet, but those before it have, save for a margin."""
    made = {version["version"]: version["timestamp"] for version in handle.list_versions()}
    return timedelta(seconds=time.time() - made[ver].timestamp()) + _MARGIN if ver in made else timedelta(days=36_500)
