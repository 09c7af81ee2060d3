"""MongoDB's own vector search as a vector database: which a server has, and its search indexes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from superorm._io import aio
from superorm.backends._async.mongodb import AsyncMongoDatabackend
from superorm.backends.errors import reading, writing
from superorm.compile.plan import Aggregate
from superorm.exc import BackendError, ConfigurationError, SuperormError
from superorm.protocols._async.parts import AsyncDataBackend

__all__ = ["AsyncAtlasVectorIndex", "Server"]

_WITHOUT = frozenset({59, 115, 31082, 40324, 6047401})
"""How servers say that they have no search node: commands and stages unknown or refused, SearchNotEnabled."""
_EXISTS = 68
_NOT_FOUND = 27
_SIMILARITY = (8, 3)
_PAUSE = 0.5
_LONGEST_PAUSE = 5.0


@frozen
class Server:
    """What a server can search by."""

    version: tuple[int, ...]
    search: bool
    """Whether it has a search node, so that it runs ``$vectorSearch``."""

    @property
    def similarity(self) -> bool:
        """Whether it has the ``$similarity`` expressions."""
        return self.version >= _SIMILARITY


class AsyncAtlasVectorIndex:
    """The search of the MongoDB server that holds the documents: MongoDB Atlas, or a server with a search node.

    The server keeps its search indexes itself, some time after each commit.
    What was written in the last `lag` seconds is therefore ranked by the documents, besides.
    `timeout` is how many seconds a search index may take until it is queryable.
    On servers from 8.3 on without a search node, their ``$similarity`` expressions rank the documents, exactly.
    """

    kind = "atlas"
    uri = "atlas://"

    def __init__(self, *, lag: float = 10.0, timeout: float = 300.0) -> None:
        if lag < 0 or timeout <= 0:
            raise ConfigurationError(
                f"atlas:// takes a lag from 0 seconds on and a timeout above 0, not {lag}, {timeout}"
            )
        self.lag = lag
        self.timeout = timeout
        self._backend: AsyncMongoDatabackend | None = None
        self._server: Server | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}(lag={self.lag}, timeout={self.timeout})"

    def serve(self, backend: AsyncDataBackend) -> None:
        """Bind the index to the backend whose server searches. Raises ``ConfigurationError`` for any other."""
        if not isinstance(backend, AsyncMongoDatabackend):
            raise ConfigurationError(
                f"atlas:// is the search of a MongoDB server, and the documents are in {backend!r}; use memory://"
            )
        if self._backend is not None and self._backend is not backend:
            raise ConfigurationError("an atlas:// index serves one data backend; give each DB its own")
        self._backend = backend

    async def check_server(self) -> None:
        """Raise ``ConfigurationError`` where the server can search by nothing."""
        await self.server()

    @property
    def backend(self) -> AsyncMongoDatabackend:
        """The backend that it serves. Raises ``ConfigurationError`` before there is one."""
        if self._backend is None:
            raise ConfigurationError("this atlas:// index serves no data backend yet; give it to a DB")
        return self._backend

    async def server(self) -> Server:
        """What the server can search by, asked once.

        Raises ``ConfigurationError`` where that is nothing.
        """
        if self._server is None:
            with reading(self.backend.name):
                answer = await self.command({"buildInfo": 1})
            version = tuple(answer["versionArray"][:3])
            lacking: object = None
            try:
                await self._listed("superorm", None)
            except SuperormError as error:
                if getattr(error.__cause__, "code", None) not in _WITHOUT:
                    raise
                lacking = error.__cause__
            if lacking is None and (version < (6, 0, 11) or (7,) <= version < (7, 0, 2)):
                lacking = "$vectorSearch is there from 6.0.11 and 7.0.2 on"
            server = Server(version, search=lacking is None)
            if not (server.search or server.similarity):
                raise ConfigurationError(
                    "atlas:// needs a server with a search node, such as MongoDB Atlas, or MongoDB 8.3 or later, which "
                    f"ranks vectors without one; this is MongoDB {'.'.join(map(str, version))} without a search node "
                    f"({str(lacking).partition(', full error')[0]}); use lancedb:// or memory:// as the vector database"
                )
            self._server = server
        return self._server

    async def find(self, collection: str, name: str) -> dict[str, Any] | None:
        """A search index as the server describes it; None where there is none of that name."""
        return next((one for one in await self._listed(collection, name) if one.get("name") == name), None)

    async def _listed(self, collection: str, name: str | None) -> list[dict[str, Any]]:
        stage = {"$listSearchIndexes": {} if name is None else {"name": name}}
        return await self.backend.read(Aggregate(collection, [stage]))

    async def create(self, collection: str, name: str, definition: Mapping[str, Any]) -> bool:
        """Have a search index made; False where there is one of that name already."""
        index = {"name": name, "type": "vectorSearch", "definition": definition}
        return await self._write(collection, {"createSearchIndexes": collection, "indexes": [index]}, _EXISTS)

    async def drop(self, collection: str, name: str) -> None:
        """Remove a search index, if it is there, and wait until it is gone. Raises ``BackendError``."""
        if await self.find(collection, name) is not None:
            await self._write(collection, {"dropSearchIndex": collection, "name": name}, _NOT_FOUND)
            await self._until(collection, name, gone=True)

    async def queryable(self, collection: str, name: str) -> dict[str, Any]:
        """Wait until a search index is queryable; as the server then describes it. Raises ``BackendError``."""
        found = await self._until(collection, name, gone=False)
        assert found is not None
        return found

    async def _until(self, collection: str, name: str, *, gone: bool) -> dict[str, Any] | None:
        until, pause = time.monotonic() + self.timeout, _PAUSE
        while True:
            found = await self.find(collection, name)
            if found is None if gone else found is not None and found.get("queryable"):
                return found
            status = "not there" if found is None else found.get("status", "not queryable")
            where = f"the search index {name!r} of {collection}"
            if status == "FAILED":
                raise BackendError(f"{where} has failed: {(found or {}).get('message', 'the server says no more')}")
            if time.monotonic() >= until:
                raise BackendError(
                    f"{where} is {status} after {self.timeout:g} seconds; the server goes on by itself, so call again "
                    f"later, or wait longer: atlas://?timeout={2 * self.timeout:g}"
                )
            await aio.sleep(min(pause, max(until - time.monotonic(), 0)))
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _write(self, collection: str, command: Mapping[str, Any], idle: int) -> bool:
        """Change a search index; False where the server says, by the code `idle`, that there is nothing to do."""
        try:
            with writing(f"{self.backend.name}.{collection}"):
                await self.command(command)
        except SuperormError as error:
            if getattr(error.__cause__, "code", None) != idle:
                raise
            return False
        return True

    async def command(self, command: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the server answers to a command on the database."""
        return await self.backend.client[self.backend.name].command(dict(command))

    async def close(self) -> None:
        """Nothing is open."""
