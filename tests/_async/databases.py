"""DBs of tests."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pymongo
from pymongo import AsyncMongoClient
from pymongo.monitoring import CommandListener

from superorm import (
    AsyncDB,
    AsyncMemoryVectorIndex,
    AsyncMongoArtifactStore,
    AsyncMongoDatabackend,
    AsyncMongoMetaDataStore,
    connect_async,
)
from tests.databases import drop_database, give_back, take

__all__ = ["heard_db", "own_db"]


@asynccontextmanager
async def own_db(backend: str, mongodb_uri: str, vector_database: str = "memory://") -> AsyncGenerator[AsyncDB]:
    """A DB over mongomock or mongodb with a database of its own, which is emptied afterwards."""
    name = f"test_{uuid4().hex[:12]}" if backend == "mongomock" else take(mongodb_uri)
    url = f"mongomock://{name}" if backend == "mongomock" else mongodb_uri
    async with connect_async(url, database=name, vector_database=vector_database, signing_key="test-key") as db:
        yield db
    if backend != "mongomock":
        give_back(mongodb_uri, name)


@asynccontextmanager
async def heard_db(
    mongodb_uri: str, name: str, listener: CommandListener, *, drop: bool = True
) -> AsyncGenerator[AsyncDB]:
    """A DB over mongodb whose commands the listener hears; its database is dropped afterwards, unless it is to stay."""
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri, event_listeners=[listener]) as client:
        db = AsyncDB(
            AsyncMongoDatabackend(client, name),
            AsyncMongoMetaDataStore(client, name),
            AsyncMongoArtifactStore(client, name=f"_filesystem:{name}"),
            AsyncMemoryVectorIndex(),
        )
        async with db:
            yield db
    if drop:
        with pymongo.MongoClient(mongodb_uri) as plain:
            drop_database(plain, name)
            drop_database(plain, f"_filesystem:{name}")
