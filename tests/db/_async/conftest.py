"""A DB over each backend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pymongo
import pytest
import pytest_asyncio

from superorm import AsyncDB, connect_async


@pytest_asyncio.fixture(params=["mongomock+memory", "mongodb+memory", "mongodb+lancedb"])
async def db(request: pytest.FixtureRequest, mongodb_uri: str, tmp_path: Path) -> AsyncIterator[AsyncDB]:
    """A DB with a database of its own over each backend and vector engine."""
    backend, _, vectors = request.param.partition("+")
    name = f"test_{uuid4().hex[:12]}"
    vector_database = "memory://" if vectors == "memory" else f"lancedb://{tmp_path / 'lance'}"
    url = f"mongomock://{name}" if backend == "mongomock" else mongodb_uri
    async with connect_async(url, database=name, vector_database=vector_database, signing_key="test-key") as db:
        yield db
    if backend != "mongomock":
        with pymongo.MongoClient(mongodb_uri) as client:
            client.drop_database(name)
            client.drop_database(f"_filesystem:{name}")


@pytest.fixture
def real(db: AsyncDB) -> bool:
    """Whether the DB is on a real server."""
    return "Mongomock" not in repr(db)
