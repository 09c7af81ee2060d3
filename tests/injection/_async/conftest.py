"""A DB over each backend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pymongo
import pytest
import pytest_asyncio

from superorm import AsyncDB, connect_async


@pytest_asyncio.fixture(params=["mongomock", "mongodb"])
async def db(request: pytest.FixtureRequest, mongodb_uri: str) -> AsyncIterator[AsyncDB]:
    """A DB with a database of its own."""
    name = f"injection_{uuid4().hex[:12]}"
    url = f"mongomock://{name}" if request.param == "mongomock" else mongodb_uri
    async with connect_async(url, database=name, vector_database="memory://", signing_key="test-key") as db:
        yield db
    if request.param == "mongodb":
        with pymongo.MongoClient(mongodb_uri) as client:
            client.drop_database(name)
            client.drop_database(f"_filesystem:{name}")
