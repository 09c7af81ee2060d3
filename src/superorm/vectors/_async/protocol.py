"""What a vector database must offer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

from superorm._io import aio
from superorm.codec.vectors import Matrix, Vector
from superorm.protocols._async.parts import AsyncDataBackend
from superorm.schema.vector_spec import FilterField, IndexSpec, Metric
from superorm.vectors.mirror import Columns
from superorm.vectors.resident import Resident
from superorm.vectors.rows import Nearest, Rows

__all__ = ["AsyncVectorDatabase", "AsyncVectorTables"]


class AsyncVectorDatabase(Protocol):
    """What all vector databases have in common. Their `kind` tells how their copies are kept."""

    kind: str
    uri: str

    @property
    def lag(self) -> float | None:
        """Of an engine that keeps its copies by itself: the seconds after which it has each commit."""
        ...

    def serve(self, backend: AsyncDataBackend) -> None:
        """Bind it to the data backend. Raises ``ConfigurationError`` for one that it cannot serve."""
        ...

    async def check_server(self) -> None:
        """Raise ``ConfigurationError`` where the backend's server lacks what it needs."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class AsyncVectorTables(AsyncVectorDatabase, Protocol):
    """An engine of versioned tables of (key, vector, mirrored fields), read at exact versions and written under a lock.

    Vectors are stored as `superorm.vectors.scores.prepare` makes them. See `AsyncLanceVectorIndex` for each method.
    """

    lease: float | None
    """Of an engine that all machines share: the seconds for which a writer's lease lasts. None: `lock` is used."""
    resident: Resident[aio.Lock]
    """Tables held in process memory, in the place of which memory is searched."""

    async def open(self) -> str: ...

    def lock(self, name: str, *, patience: float | None = None) -> AbstractAsyncContextManager[None]: ...

    async def has(self, table: str, ver: int) -> bool: ...

    async def count(self, table: str, ver: int) -> int: ...

    async def create(self, table: str, dim: int, fields: Sequence[FilterField] = ()) -> None: ...

    async def append(self, table: str, keys: Sequence[str], rows: Matrix, columns: Columns = ...) -> None: ...

    async def write(
        self,
        table: str,
        ver: int | None,
        touched: Sequence[str],
        keys: Sequence[str],
        rows: Matrix,
        columns: Columns = ...,
    ) -> int | None: ...

    async def copy(self, source: str, ver: int, table: str, go_on: Callable[[], bool]) -> bool: ...

    async def build_index(self, table: str, metric: Metric, index: IndexSpec, go_on: Callable[[], bool]) -> bool: ...

    async def drop(self, table: str) -> None: ...

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
    ) -> Nearest: ...

    async def keys(self, table: str, ver: int, where: str, limit: int) -> list[str]: ...

    async def read(
        self, table: str, ver: int, dim: int, metric: Metric, fields: Sequence[FilterField] = ()
    ) -> Rows: ...
