"""DBs of tests."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import uuid4

import pymongo

from superorm import AsyncDB, connect_async
from tests.databases import drop_database

__all__ = ["own_db"]


@asynccontextmanager
async def own_db(backend: str, mongodb_uri: str, vector_database: str = "memory://") -> AsyncGenerator[AsyncDB]:
    """A DB over mongomock or mongodb with a database of its own, which is dropped afterwards."""
    name = f"test_{uuid4().hex[:12]}"
    url = f"mongomock://{name}" if backend == "mongomock" else mongodb_uri
    async with connect_async(url, database=name, vector_database=vector_database, signing_key="test-key") as db:
        yield db
    if backend != "mongomock":
        with pymongo.MongoClient(mongodb_uri) as client:
            drop_database(client, name)
            drop_database(client, f"_filesystem:{name}")
