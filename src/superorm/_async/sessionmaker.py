"""A maker of sessions of one configuration."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Unpack

from superorm._async.session import AsyncSession, usable_db
from superorm.exc import SessionError
from superorm.protocols.concerns import SessionOptions, check_options
from superorm.unitofwork.events import EventTarget

if TYPE_CHECKING:
    from superorm._async.db import AsyncDB
    from superorm._sync.db import DB as SyncDB

__all__ = ["async_sessionmaker"]


class async_sessionmaker(EventTarget):
    """Makes sessions: each call gives a new one, with these options unless the call gives others.

    The DB may be left out and configured later. The options are those of a session. Raises `ConfigurationError`.
    """

    def __init__(self, db: AsyncDB | SyncDB | None = None, **options: Unpack[SessionOptions]) -> None:
        self._db: AsyncDB | SyncDB | None = None
        self._options: SessionOptions = {}
        self.configure(db, **options)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._db!r}, {self._options!r})"

    def configure(self, db: AsyncDB | SyncDB | None = None, **options: Unpack[SessionOptions]) -> None:
        """Change the DB or the options of sessions that are made from now on. Raises `ConfigurationError`."""
        merged = self._options.copy()
        merged.update(options)
        check_options(merged)
        if db is not None:
            usable_db(db, type(self).__name__)
            self._db = db
        self._options = merged

    def __call__(self, **options: Unpack[SessionOptions]) -> AsyncSession:
        """A new session.

        Raises `SessionError` where no DB is configured, `ConfigurationError` for wrong options, and `UnsupportedError`
        as the session does.
        """
        if self._db is None:
            raise SessionError(f"this {type(self).__name__} has no DB yet; call configure(db) first")
        merged = self._options.copy()
        merged.update(options)
        session = AsyncSession(self._db, **merged)
        session.made_by = self
        return session

    @asynccontextmanager
    async def begin(self, **options: Unpack[SessionOptions]) -> AsyncGenerator[AsyncSession]:
        """A new session, committed at the end of the block, or rolled back on an exception, and closed."""
        async with self(**options) as session, session.begin():
            yield session
