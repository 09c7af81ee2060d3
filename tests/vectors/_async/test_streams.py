"""What reads all documents in a stream closes that where it stops before its end."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from superorm._async.vector_records import AsyncVectorRecords
from superorm._async.vector_search import AsyncVectorSearch
from superorm._async.vector_tables import AsyncTableCopies
from superorm.compile.plan import Read
from superorm.vectors.records import Look
from superorm.vectors.request import SearchRequest
from tests.vectors._async.world import AsyncWorld
from tests.vectors.brute import DIM


class Watched:
    """A backend of which the test knows the streams that are open."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.began = self.open = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    async def stream(self, plan: Read, **options: Any) -> AsyncGenerator[list[dict[str, Any]]]:
        self.began += 1
        self.open += 1
        try:
            async with aclosing(self._backend.stream(plan, **options)) as batches:
                async for batch in batches:
                    yield batch
        finally:
            self.open -= 1


@pytest_asyncio.fixture
async def watched(world: AsyncWorld) -> Any:
    """One with three vectors."""
    await world.put({key: np.full(DIM, key, np.float32) for key in (1, 2, 3)})
    return Watched(world.backend)


def stop(done: int, total: int, what: str) -> None:
    """A progress that gives up."""
    raise ZeroDivisionError


async def test_rows(world: AsyncWorld, watched: Any) -> None:
    """All vectors, read into memory."""
    with pytest.raises(ZeroDivisionError):
        await AsyncVectorRecords(watched).rows(world.spec, progress=stop)
    assert (1, 0) == (watched.began, watched.open)


async def test_fill(world: AsyncWorld, watched: Any) -> None:
    """All vectors, written into a table."""
    nothing: Any = None
    with pytest.raises(ZeroDivisionError):
        await AsyncTableCopies(watched, nothing).fill(world.spec, "table", stop)
    assert (1, 0) == (watched.began, watched.open)


async def test_search(world: AsyncWorld, watched: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """All documents, ranked by their own vectors."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("superorm._async.vector_ranking.exact_distances", fail)
    unasked: Any = SimpleNamespace(unable="", in_server=False, look=Look.of([], "engine"))
    request = SearchRequest(world.spec, np.ones(DIM, np.float32), 2)
    with pytest.raises(ZeroDivisionError):
        await AsyncVectorSearch(watched, "engine", unasked, request, None).run(documents_only=True)
    assert (1, 0) == (watched.began, watched.open)
