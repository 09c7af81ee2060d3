"""A database in memory, by mongomock."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from superorm._io import aio
from superorm.backends.mongomock_engine import CAPABILITIES, MongomockEngine
from superorm.exc import UnsupportedError

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from pymongo.asynchronous.client_session import AsyncClientSession

    from superorm.compile.plan import Read
    from superorm.protocols._async.parts import AsyncDataBackend
    from superorm.protocols.capabilities import Capabilities
    from superorm.protocols.concerns import Concerns
    from superorm.unitofwork.writes import Write, WriteResult

__all__ = ["AsyncMongomockDatabackend", "AsyncMongomockMetaDataStore"]


class AsyncMongomockDatabackend:
    """A database in memory: no transactions, no sessions, and only the stages that mongomock has.

    `client` is a ``mongomock.MongoClient``; a database of one client and name is shared by all who open it.
    """

    def __init__(self, client: Any, name: str) -> None:
        self.name = name
        self.client = client
        self._engine = MongomockEngine(client, name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r})"

    async def capabilities(self) -> Capabilities:
        """What mongomock can do."""
        return CAPABILITIES

    def with_concerns(self, concerns: Concerns) -> AsyncMongomockDatabackend:
        """The same: one process has one copy of the data."""
        return self

    async def read(self, plan: Read, *, session: AsyncClientSession | None = None) -> list[dict[str, Any]]:
        """All documents that the plan yields."""
        return await aio.in_thread(self._engine.read, plan)

    async def stream(
        self, plan: Read, *, session: AsyncClientSession | None = None, batch_size: int = 1000
    ) -> AsyncGenerator[list[dict[str, Any]]]:
        """The same in batches."""
        documents = await self.read(plan)
        for start in range(0, len(documents), batch_size):
            yield documents[start : start + batch_size]

    async def explain(self, plan: Read) -> dict[str, Any]:
        """Raises ``UnsupportedError``."""
        self._refuse("query plans")

    async def write(self, write: Write, *, session: AsyncClientSession | None = None) -> WriteResult:
        """Carry out a write, in order, up to the first operation that is refused."""
        return await aio.in_thread(self._engine.write, write)

    async def collection_names(self) -> set[str]:
        """The names of the database's collections."""
        return await aio.in_thread(self._engine.collection_names)

    async def create_collection(self, name: str) -> None:
        """Make the collection unless it exists."""
        await aio.in_thread(self._engine.create_collection, name)

    async def drop_collection(self, name: str) -> None:
        """Remove the collection with all that is in it, where there is one."""
        await aio.in_thread(self._engine.drop_collection, name)

    async def collection_options(self, name: str) -> dict[str, Any] | None:
        """Without options, as mongomock has none; None where there is no such collection."""
        return {} if name in await self.collection_names() else None

    async def modify_collection(self, name: str, options: Mapping[str, Any]) -> None:
        """Raises ``UnsupportedError``."""
        self._refuse("validators and other options of collections")

    async def create_index(
        self, collection: str, keys: Sequence[tuple[str, int | str]], *, unique: bool = False, **options: Any
    ) -> str:
        """Make the index unless one with the same keys and options exists; its name.

        Raises ``WriteError`` where one exists with other options, ``DuplicateKeyError`` where documents break it,
        ``UnsupportedError`` for kinds and options that mongomock has not.
        """
        return await aio.in_thread(self._engine.create_index, collection, keys, unique=unique, **options)

    async def indexes(self, collection: str) -> list[dict[str, Any]]:
        """A description of the collection's indexes in the server's form."""
        return await aio.in_thread(self._engine.indexes, collection)

    def transaction(self, after: AsyncClientSession | None = None) -> AbstractAsyncContextManager[AsyncClientSession]:
        """Raises ``UnsupportedError``."""
        self._refuse("transactions")

    def causal(self) -> AbstractAsyncContextManager[AsyncClientSession]:
        """Raises ``UnsupportedError``."""
        self._refuse("sessions")

    def snapshot(self) -> AbstractAsyncContextManager[AsyncClientSession]:
        """Raises ``UnsupportedError``."""
        self._refuse("snapshot reads")

    def _refuse(self, what: str) -> NoReturn:
        raise UnsupportedError(f"{self.name}: mongomock has no {what}; they need a MongoDB server")

    async def close(self) -> None:
        """Nothing to close: the data lives as long as its client."""


class AsyncMongomockMetaDataStore(AsyncMongomockDatabackend):
    """Where components, the blob registry and jobs are recorded, in memory."""

    def shares_transactions_with(self, backend: AsyncDataBackend) -> bool:
        """Whether the backend is of the same client; there are no transactions either way."""
        return isinstance(backend, AsyncMongomockDatabackend) and backend.client is self.client
