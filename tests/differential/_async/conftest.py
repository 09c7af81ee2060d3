"""The world that the differential tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import pymongo
import pytest
import pytest_asyncio
from pymongo.database import Database

from superorm import connect_async
from tests.databases import drop_database
from tests.differential._async.world import AsyncWorld


@pytest.fixture(scope="module")
def database(mongodb_uri: str) -> Iterator[Database[dict[str, Any]]]:
    """A database on the real server, by plain PyMongo."""
    with pymongo.MongoClient(mongodb_uri) as client:
        database = client[f"test_{uuid4().hex[:12]}"]
        yield database
        drop_database(client, database.name)


@pytest_asyncio.fixture
async def world(mongodb_uri: str, database: Database[dict[str, Any]]) -> AsyncIterator[AsyncWorld]:
    """A real server and mongomock, side by side."""
    others = {"vector_database": "memory://", "signing_key": "test-key"}
    async with (
        connect_async(mongodb_uri, database=database.name, **others) as server,
        connect_async(f"mongomock://{database.name}", **others) as mock,
    ):
        yield AsyncWorld(server, mock, database)
