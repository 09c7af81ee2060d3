"""The four replaceable parts of a DB, as protocols."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

    from superorm.compile.plan import Read
    from superorm.protocols.capabilities import Capabilities
    from superorm.protocols.concerns import Concerns
    from superorm.unitofwork.writes import Write, WriteResult

__all__ = ["AsyncArtifactStore", "AsyncDataBackend", "AsyncMetaDataStore", "LocalFiles"]


@runtime_checkable
class AsyncDataBackend(Protocol):
    """One database: reads and writes plans.

    `session` is the server session of a transaction, of a snapshot, or one that is causally consistent.
    A backend without transactions is never given one.
    Implementations raise superorm's errors: ``DuplicateKeyError``, ``WriteError``, ``UnsupportedError``.
    """

    name: str
    """The database's name."""

    async def capabilities(self) -> Capabilities:
        """What the backend can do (asked of the server once, then remembered)."""
        ...

    def with_concerns(self, concerns: Concerns) -> AsyncDataBackend:
        """The same database, read and written in this way; itself where there is nothing to choose."""
        ...

    async def read(self, plan: Read, *, session: AsyncClientSession | None = None) -> list[dict[str, Any]]:
        """All documents that the plan yields, decoded with standard UUIDs and UTC datetimes.

        Those are aware, or where the plan says so may be naive.
        """
        ...

    def stream(
        self, plan: Read, *, session: AsyncClientSession | None = None, batch_size: int = 1000
    ) -> AsyncGenerator[list[dict[str, Any]]]:
        """The same in batches, so that memory stays constant."""
        ...

    async def explain(self, plan: Read) -> dict[str, Any]:
        """The server's own plan for a read. Raises ``UnsupportedError`` where there is none."""
        ...

    async def write(self, write: Write, *, session: AsyncClientSession | None = None) -> WriteResult:
        """Carry out a write; raises at the first operation that the server refuses."""
        ...

    async def collection_names(self) -> set[str]: ...

    async def create_collection(self, name: str) -> None:
        """Make the collection unless it exists."""
        ...

    async def drop_collection(self, name: str) -> None:
        """Remove the collection with all that is in it, where there is one."""
        ...

    async def collection_options(self, name: str) -> dict[str, Any] | None:
        """The server's own description of the collection's options; None where there is no such collection."""
        ...

    async def modify_collection(self, name: str, options: Mapping[str, Any]) -> None:
        """Change options of the collection, such as its ``validator`` (``collMod``)."""
        ...

    async def create_index(
        self, collection: str, keys: Sequence[tuple[str, int | str]], *, unique: bool = False, **options: Any
    ) -> str:
        """Make the index unless one with the same keys and options exists; its name.

        `options` are the server's. Raises ``UnsupportedError`` for those that the backend has not.
        """
        ...

    async def indexes(self, collection: str) -> list[dict[str, Any]]:
        """The server's own description of the collection's indexes."""
        ...

    def transaction(self, after: AsyncClientSession | None = None) -> AbstractAsyncContextManager[AsyncClientSession]:
        """A transaction (snapshot reads, majority writes): committed at the end of the block, aborted on an exception.

        It sees what the session `after`, one of `causal`, has seen, and that one sees afterwards what was committed.
        The commit is repeated while its result is unknown.
        """
        ...

    def causal(self) -> AbstractAsyncContextManager[AsyncClientSession]:
        """A session each of whose operations sees those before it, on whatever member of the cluster."""
        ...

    def snapshot(self) -> AbstractAsyncContextManager[AsyncClientSession]:
        """A session all of whose reads see one committed state."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class AsyncMetaDataStore(AsyncDataBackend, Protocol):
    """Where components, the blob registry and jobs are recorded: a database too, perhaps the documents' own."""

    def shares_transactions_with(self, backend: AsyncDataBackend) -> bool:
        """Whether the backend's server sessions work here too: the same client."""
        ...


@runtime_checkable
class LocalFiles(Protocol):
    """An artifact store whose blobs are files of this machine, which can be mapped."""

    def file(self, key: str) -> Path:
        """The file of a blob, there or not."""
        ...


@runtime_checkable
class AsyncArtifactStore(Protocol):
    """Blobs under physical keys. A key is used once and never written again."""

    uri: str
    """Where it is, without passwords."""

    async def put(self, key: str, chunks: Iterable[bytes]) -> int:
        """Store the bytes under a new key; the number of bytes. Raises ``ArtifactSavingError``.

        The chunks may wait for the event loop, so they are to be had in a thread.
        """
        ...

    def get(self, key: str) -> AsyncGenerator[bytes]:
        """The bytes, in chunks. Raises ``ArtifactNotFoundError``, ``CorruptArtifactError`` where chunks are missing.

        Reading ends, and what it takes is let go, where the generator is closed.
        """
        ...

    async def delete(self, key: str) -> None:
        """Remove the blob; nothing happens where there is none."""
        ...

    async def keys(self) -> list[tuple[str, datetime]]:
        """Every physical key, with the time (UTC) of its upload."""
        ...

    async def close(self) -> None: ...
