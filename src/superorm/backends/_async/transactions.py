# pyright: reportPrivateUsage=false
"""Transactions of a MongoDB server."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from pymongo.errors import PyMongoError

from superorm._io import aio
from superorm.backends.errors import committing, has_error_label
from superorm.exc import UnsupportedError

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession
    from pymongo.asynchronous.mongo_client import AsyncMongoClient

    from superorm.backends._async.mongodb import AsyncMongoDatabackend

__all__ = ["AsyncMongoTransaction", "AsyncServerSessions", "end"]

_COMMIT_SECONDS = 120
"""How long a commit with an unknown result is repeated, as PyMongo's ``with_transaction`` does."""
_MAX_TIME_MS_EXPIRED = 50
_FIRST_PAUSE, _LAST_PAUSE = 0.005, 0.5
"""Seconds between two commits, growing by half each time."""


class AsyncServerSessions:
    """The server sessions of one client, among them those whose blocks were forgotten and never left."""

    def __init__(self, client: AsyncMongoClient[dict[str, Any]]) -> None:
        self._client = client
        self._forgotten: deque[AsyncClientSession] = deque()

    @asynccontextmanager
    async def one(self, *, causal_consistency: bool) -> AsyncGenerator[AsyncClientSession]:
        """A server session, which is ended with the block, and what is open in it aborted.

        So it is where the block is forgotten, in asynchronous code soon, by the event loop;
        of what the garbage collector finds the next block of these sessions, or `end_forgotten`, sees to that.
        """
        await self.end_forgotten()
        session = self._client.start_session(causal_consistency=causal_consistency)
        try:
            yield session
        except GeneratorExit:
            if aio.collecting():
                self._forgotten.append(session)
            else:
                await end(session)
            raise
        except BaseException:
            await end(session)
            raise
        await end(session)

    async def end_forgotten(self) -> None:
        """End the sessions whose blocks were forgotten."""
        while self._forgotten:
            try:
                session = self._forgotten.popleft()
            except IndexError:  # another thread was faster
                return
            await end(session)


async def end(session: AsyncClientSession | None) -> None:
    """End a session, and abort what is open in it, also where something else does so at the same time."""
    if session is not None:
        await aio.shielded(_end, session)


async def _end(session: AsyncClientSession) -> None:
    with suppress(PyMongoError, AttributeError, RuntimeError):  # where the other was faster; in another event loop
        await session.end_session()


class AsyncMongoTransaction:
    """A block that is a transaction in a server session of its own.

    A transaction that ended in another way before the end of the block is not committed there: PyMongo refuses to.
    """

    def __init__(self, backend: AsyncMongoDatabackend, after: AsyncClientSession | None) -> None:
        self._backend = backend
        self._after = after
        self._own = backend._sessions.one(causal_consistency=after is not None)

    async def __aenter__(self) -> AsyncClientSession:
        backend = self._backend
        if not (await backend.capabilities()).transactions:
            raise UnsupportedError(f"{backend.name}: transactions need a replica set or a sharded cluster")
        self._session = session = await self._own.__aenter__()
        try:
            _follow(session, self._after)
            await session.start_transaction(**backend._transaction)
        except BaseException:
            await self._own.__aexit__(None, None, None)
            raise
        backend._cursors[session] = WeakSet()
        return session

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        backend, session = self._backend, self._session
        try:
            for cursor in list(backend._cursors.pop(session)):  # which the server would keep for minutes
                await cursor.close()
            if kind is None:
                with committing(f"{backend.name}, the commit", lost=backend._lost):
                    await aio.shielded(_commit, session)
                _follow(self._after, session)
        finally:
            await self._own.__aexit__(None, None, None)  # aborts what was not committed


def _follow(session: AsyncClientSession | None, other: AsyncClientSession | None) -> None:
    """Have a causally consistent session see what the other one saw."""
    if session is None or other is None:
        return
    if other.cluster_time is not None:
        session.advance_cluster_time(other.cluster_time)
    if other.operation_time is not None:
        session.advance_operation_time(other.operation_time)


async def _commit(session: AsyncClientSession) -> None:
    """Commit, again and again while the result is unknown."""
    deadline = time.monotonic() + _COMMIT_SECONDS
    pause = _FIRST_PAUSE
    while True:
        try:
            return await session.commit_transaction()  # from the second time on with "majority" and a time limit
        except PyMongoError as error:
            unknown = has_error_label(error, "UnknownTransactionCommitResult")
            if not unknown or getattr(error, "code", None) == _MAX_TIME_MS_EXPIRED or time.monotonic() > deadline:
                raise
        await aio.sleep(pause)
        pause = min(pause * 1.5, _LAST_PAUSE)
