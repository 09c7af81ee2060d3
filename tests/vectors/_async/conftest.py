"""Fixtures: every pair of vector engine and data backend."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pymongo
import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient

from superorm._async.vector_indexes import AsyncVectorIndexes
from superorm.backends._async.mongodb import AsyncMongoDatabackend
from superorm.backends._async.mongomock import AsyncMongomockDatabackend
from superorm.backends.mongomock_engine import mongomock_client
from superorm.vectors._async.lancedb import AsyncLanceVectorIndex
from superorm.vectors._async.memory import AsyncMemoryVectorIndex
from tests.databases import give_back, take
from tests.vectors._async.world import AsyncWorld
from tests.vectors.s3_server import LEASE, S3Server

PAIRS = ["memory-mongomock", "memory-mongod", "lancedb-mongod", "lancescan-mongod", "lancedb-mongomock", "s3-mongod"]


@pytest_asyncio.fixture
async def make_world(
    mongodb_uri: str, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Callable[[str], AsyncWorld]]:
    """Makes a world for a pair of engine and backend; called again, another process's view of the same database."""
    name, mocked, bucket = take(mongodb_uri), f"vectors_{uuid4().hex[:12]}", ""
    client: Any = pymongo.MongoClient(mongodb_uri)
    opened: list[Any] = []

    def make(pair: str) -> AsyncWorld:
        engine_name, _, backend_name = pair.partition("-")
        if backend_name == "mongod":
            own: Any = AsyncMongoClient(mongodb_uri)
            opened.append(own)
            backend: Any = AsyncMongoDatabackend(own, name)
            plain = client[name]
        else:
            mock = mongomock_client(mocked)
            backend, plain = AsyncMongomockDatabackend(mock, mocked), mock[mocked]
        engine: Any = AsyncMemoryVectorIndex()
        cache_bytes = 0 if engine_name.endswith("scan") else 1 << 20
        if engine_name.startswith("s3"):
            nonlocal bucket
            server: S3Server = request.getfixturevalue("s3")
            bucket = bucket or server.bucket()
            engine = AsyncLanceVectorIndex(
                f"s3://{bucket}/lance", storage_options=server.options, cache_bytes=cache_bytes, lease_seconds=LEASE
            )
        elif engine_name != "memory":
            engine = AsyncLanceVectorIndex(str(tmp_path / "lance"), cache_bytes=cache_bytes)
        return AsyncWorld(backend, plain, AsyncVectorIndexes(backend, engine))

    yield make
    for own in opened:
        await own.close()
    client.close()
    give_back(mongodb_uri, name)


@pytest_asyncio.fixture(params=PAIRS)
async def world(request: pytest.FixtureRequest, make_world: Callable[[str], AsyncWorld]) -> AsyncIterator[AsyncWorld]:
    """A world for each pair."""
    world = make_world(request.param)
    await world.indexes.ensure(world.spec)
    yield world
    await world.indexes.close()


@pytest_asyncio.fixture(params=["memory-mongod", "lancedb-mongod"])
async def real(request: pytest.FixtureRequest, make_world: Callable[[str], AsyncWorld]) -> AsyncIterator[AsyncWorld]:
    """A world with transactions for each engine."""
    world = make_world(request.param)
    await world.indexes.ensure(world.spec)
    yield world
    await world.indexes.close()
