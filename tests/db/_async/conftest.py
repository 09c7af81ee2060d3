"""A DB over each backend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from superorm import AsyncDB
from tests._async.databases import own_db


@pytest_asyncio.fixture(params=["mongomock+memory", "mongodb+memory", "mongodb+lancedb"])
async def db(request: pytest.FixtureRequest, mongodb_uri: str, tmp_path: Path) -> AsyncIterator[AsyncDB]:
    """A DB with a database of its own over each backend and vector engine."""
    backend, _, vectors = request.param.partition("+")
    vector_database = "memory://" if vectors == "memory" else f"lancedb://{tmp_path / 'lance'}"
    async with own_db(backend, mongodb_uri, vector_database) as db:
        yield db


@pytest.fixture
def real(db: AsyncDB) -> bool:
    """Whether the DB is on a real server."""
    return "Mongomock" not in repr(db)
