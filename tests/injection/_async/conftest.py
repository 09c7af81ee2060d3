"""A DB over each backend."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from superorm import AsyncDB
from tests._async.databases import own_db


@pytest_asyncio.fixture(params=["mongomock", "mongodb"])
async def db(request: pytest.FixtureRequest, mongodb_uri: str) -> AsyncIterator[AsyncDB]:
    """A DB with a database of its own."""
    async with own_db(request.param, mongodb_uri) as db:
        yield db
