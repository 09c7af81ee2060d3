"""Writes of the metadata store that belong together."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from superorm.protocols._async.parts import AsyncMetaDataStore

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

__all__ = ["unit"]


@asynccontextmanager
async def unit(metadata: AsyncMetaDataStore) -> AsyncGenerator[AsyncClientSession | None]:
    """A transaction; where there are none, nothing, and each write stands alone."""
    if (await metadata.capabilities()).transactions:
        async with metadata.transaction() as session:
            yield session
    else:
        yield None
