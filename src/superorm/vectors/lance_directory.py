"""A LanceDB directory: the thin edge over lancedb, which is only partly typed. Blocking; safe for threads."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

from attrs import frozen
from bson import ObjectId

from superorm.codec.vectors import Matrix, Vector
from superorm.exc import ConfigurationError
from superorm.schema.vector_spec import FilterField, IndexSpec, Metric
from superorm.vectors.errors import VersionLost
from superorm.vectors.file_lock import FileLock
from superorm.vectors.lance_rows import merge, record_batches, rows_table, schema
from superorm.vectors.leaving import leave_late
from superorm.vectors.mirror import Columns, odd, value
from superorm.vectors.rows import Nearest, Rows
from superorm.vectors.scores import longest, prepare_query, rounding

__all__ = ["INDEX_CACHE", "LanceDirectory", "require_lancedb"]

_IDENTITY = "superorm.json"
_HANDLES = 16
INDEX_CACHE = 1 << 30
"""Bytes of indexes that LanceDB keeps in memory: all of the vectors of a million rows of 256 numbers."""
_METADATA = 128 << 20
"""Bytes of what else it keeps: where the tables' files have what."""
_NEXT_TO_ONE = 2.0**-23
"""How far LanceDB may be off where it takes a product from 1."""
_BATCH = 8192
_CLASSES = {
    "ivf_flat": "IvfFlat",
    "ivf_sq": "IvfSq",
    "ivf_pq": "IvfPq",
    "ivf_rq": "IvfRq",
    "hnsw_flat": "HnswFlat",
    "hnsw_sq": "HnswSq",
    "hnsw_pq": "HnswPq",
}
"""LanceDB's kinds of index."""
_PROBES = 256
"""So many parts of an index, of about 4,000 rows each, are looked into at least: all of a million rows."""
_ROWS_A_PROBE = 4_500
"""In larger tables one part for so many rows is, nine tenths of all: rows without structure have near ones anywhere."""
_EF = 600
"""So many near rows are kept in sight while a graph is walked."""
_SHARE = 20
"""An index is asked for at most one of so many rows: for more of them, all rows are compared."""

_users: list[int] = []
"""The process that LanceDB was first used in: its threads, and what they hold, do not survive a fork."""


class LanceDirectory:
    """Tables of (key, vector, mirrored fields) below one directory, read at exact versions.

    LanceDB keeps up to `cached` bytes of indexes in memory.
    """

    def __init__(self, where: Path | str, cached: int = INDEX_CACHE) -> None:
        self.where = str(where)
        self._cached = cached
        self._engine: str | None = None
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._connection: Any = None
        self._handles: dict[tuple[str, int], _Pinned] = {}

    @property
    def path(self) -> Path:
        """The directory."""
        return Path(self.where)

    def open(self) -> str:
        """Make the directory if need be; its engine id.

        The id lies in the directory with the number of the directory's inode:
        a copy of the directory is another engine.
        Raises ``ConfigurationError`` where lancedb is missing or the directory cannot be used.
        """
        require_lancedb()
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
        with self._guard():
            self._connection = None
            self._handles.clear()

    def has(self, table: str, ver: int) -> bool:
        """Whether the table can be read at that version."""
        try:
            self.count(table, ver)
        except VersionLost:
            return False
        return True

    def count(self, table: str, ver: int) -> int:
        """How many rows a version has. Raises ``VersionLost``."""
        return self._pinned(table, ver).rows

    def create(self, table: str, dim: int, fields: Sequence[FilterField]) -> None:
        """Make an empty table that mirrors these fields."""
        with self._using():
            self._connect().create_table(table, schema=schema(dim, fields))

    def append(self, table: str, keys: Sequence[str], rows: Matrix, columns: Columns) -> None:
        """Add rows (n, dim), of keys that the table does not hold."""
        if keys:
            with self._using():
                handle = self._connect().open_table(table)
                handle.add(rows_table(handle.schema, keys, rows, columns))

    def write(
        self,
        table: str,
        ver: int | None,
        touched: Sequence[str],
        keys: Sequence[str],
        rows: Matrix,
        columns: Columns,
    ) -> int | None:
        """Replace what the table holds of the touched keys by rows (n, dim) under `keys`; the version made.

        Where the latest version is not `ver`, somebody died in the middle: `ver` is restored first.
        Call it under the writer's lock. None where another writer, whose lock expired, made a version meanwhile:
        LanceDB puts one writer's rows upon the other's, so the version made holds his as well.
        Raises ``VersionLost``.
        """
        with self._reading(table, ver):
            handle = self._connect().open_table(table)
            made = int(handle.version)
            if ver is not None and made != ver:
                handle.checkout(ver)
                handle.restore()
                made += 1
            if touched and handle.version == made:
                merge(handle, sorted(set(touched).difference(keys)), keys, rows, columns)
                made += 1
            return made if handle.version == made else None

    def copy(self, source: str, ver: int, table: str, go_on: Callable[[], bool]) -> bool:
        """Put all rows of a version into an empty table; False where it was not to go on. Raises ``VersionLost``."""
        handle = self._pinned(source, ver).handle
        with self._reading(source, ver):
            batches = takewhile(lambda _: go_on(), handle.search().to_batches(_BATCH))
            self._connect().open_table(table).add(record_batches(handle.schema, batches))
        return go_on()

    def build_index(self, table: str, metric: Metric, index: IndexSpec, go_on: Callable[[], bool]) -> bool:
        """Give the latest version of a table an index of its vectors; False where it was not to go on for a while.

        LanceDB cannot be stopped in the middle: the work goes on then in a thread that the process does not wait for,
        and that removes the table at last.
        """
        import lancedb.index

        config = getattr(lancedb.index, _CLASSES[index.kind])
        distance = "l2" if metric == "euclidean" else "dot"
        with self._using():
            handle = self._connect().open_table(table)
            build = partial(handle.create_index, "vector", config=config(distance_type=distance, **index.parameters))
            return leave_late(build, partial(self.drop, table), go_on)

    def drop(self, table: str) -> None:
        """Remove the table, if it is there."""
        with self._using():
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
        exact: bool,
        where: str | None,
    ) -> Nearest:
        """The `limit` nearest rows of a version to a query (dim,), without the keys left out.

        With `where`, a condition in SQL, only the rows that pass it count, before the nearest are chosen.
        Unless it is to be `exact`, an index may miss some. No row of the version is longer than `norm`.
        Raises ``VersionLost``.
        """
        pinned = self._pinned(table, ver)
        asked = limit + len(leave_out)
        target = prepare_query(query, metric)
        search = pinned.handle.search(target, vector_column_name="vector", query_type="vector")
        search = search.distance_type("l2" if metric == "euclidean" else "dot").select(["key", "_distance"])
        if where is not None:
            search = search.where(where, prefilter=True)
        found, all_compared = None, True
        with self._reading(table, ver):
            if pinned.index is not None and not exact and asked * _SHARE <= pinned.rows:
                found = _thorough(search.limit(asked), pinned.index, asked, pinned.rows).to_arrow()
                all_compared = found.num_rows < asked
            if all_compared:
                found = search.bypass_vector_index().limit(asked).to_arrow()
        assert found is not None
        keys: list[str] = found["key"].to_pylist()
        distances = found["_distance"].to_numpy() - (1 if metric == "dot" else 0)
        if leave_out:
            kept = [position for position, key in enumerate(keys) if key not in leave_out]
            keys, distances = [keys[position] for position in kept], distances[kept]
        if metric == "euclidean":
            tolerance = rounding(query.size, 4 * float(distances.max(initial=0)))  # it sums squares of differences
        else:
            tolerance = rounding(query.size, norm * longest(target[None])) + _NEXT_TO_ONE  # the products may cancel
        complete = all_compared and found.num_rows < asked and len(keys) <= limit
        return Nearest(keys[:limit], distances[:limit], complete, tolerance)

    def read(self, table: str, ver: int, dim: int, metric: Metric, fields: Sequence[FilterField] = ()) -> Rows:
        """All rows of a version, with the fields, which are all that it mirrors. Raises ``VersionLost``."""
        pinned = self._pinned(table, ver)
        rows = Rows(dim, metric, pinned.rows, fields)
        names = [name(number) for number in range(len(fields)) for name in (value, odd)]
        with self._reading(table, ver):
            for batch in pinned.handle.to_arrow().to_batches():
                vectors = batch.column("vector").flatten().to_numpy(zero_copy_only=False)
                columns = {name: batch.column(name).to_pylist() for name in names}
                rows.put(batch.column("key").to_pylist(), vectors.reshape(-1, dim), columns)
        return rows

    def keys(self, table: str, ver: int, where: str, limit: int) -> list[str]:
        """The keys of the rows that pass a condition in SQL, at most `limit` of them. Raises ``VersionLost``."""
        pinned = self._pinned(table, ver)
        with self._reading(table, ver):
            found = pinned.handle.search().where(where).select(["key"]).limit(limit).to_arrow()
        keys: list[str] = found["key"].to_pylist()
        return keys

    def _pinned(self, table: str, ver: int) -> _Pinned:
        with self._guard():
            pinned = self._handles.get((table, ver))
            if pinned is None:
                with self._reading(table, ver):
                    handle = self._connect().open_table(table)
                    handle.checkout(ver)
                    kinds = [str(index.index_type).upper() for index in handle.list_indices()]
                    pinned = _Pinned(handle, int(handle.count_rows()), kinds[0] if kinds else None)
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
        """The connection. Raises ``ConfigurationError`` in a forked process whose parent has used LanceDB."""
        with self._guard():
            if self._connection is None:
                if not _users:
                    _users.append(os.getpid())
                elif _users[0] != os.getpid():
                    raise ConfigurationError(
                        f"{self.where}: LanceDB was used before this process was forked, and does not survive that; "
                        "start processes by spawn or forkserver, or use the vector database only after the fork"
                    )
                self._connection = self._connected()
            return self._connection

    def _connected(self) -> Any:
        """A new connection."""
        import lancedb

        return lancedb.connect(self.where, session=self._session())

    def _session(self) -> Any:
        """What bounds the memory of a connection."""
        import lancedb

        return lancedb.Session(index_cache_size_bytes=self._cached, metadata_cache_size_bytes=_METADATA)

    @contextmanager
    def _using(self) -> Generator[None]:
        """Around what makes and removes tables."""
        yield

    @contextmanager
    def _reading(self, table: str, ver: int | None) -> Generator[None]:
        """Around what needs a version of a table. Raises ``VersionLost``."""
        try:
            yield
        except (OSError, RuntimeError, ValueError) as error:
            self.close()
            reason, cause = self._lost(error)
            raise VersionLost(f"{self.where}: table {table} cannot be read at version {ver}: {reason}") from cause

    def _lost(self, error: Exception) -> tuple[str, Exception | None]:
        """What is told of an error, and what is shown as its cause."""
        return str(error), error


@frozen
class _Pinned:
    """A handle that reads a table at one version."""

    handle: Any
    rows: int
    index: str | None
    """The kind of index, as LanceDB names it."""


def require_lancedb() -> None:
    """Raise ``ConfigurationError`` where the extra is not installed."""
    try:
        import lancedb  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        raise ConfigurationError(
            'the vector database lancedb:// needs LanceDB: pip install "superorm-mongodb[lance]"'
        ) from error


def _thorough(search: Any, index: str, asked: int, rows: int) -> Any:
    """A search by a kind of index, as thorough as that can be at little cost; its distances are exact."""
    refine = 1 if index.endswith("FLAT") else 4 if index.endswith("SQ") else 40
    search = search.nprobes(max(_PROBES, rows // _ROWS_A_PROBE))
    if "HNSW" in index:
        search = search.ef(max(_EF, 2 * refine * asked))
    return search if refine == 1 else search.refine_factor(refine)
