# pyright: reportPrivateUsage=false
"""Repeating a unit of work that others got in the way of."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from superorm._io import aio
from superorm.artifacts.registry import BlobConflictError, Uploaded
from superorm.backends.errors import has_error_label
from superorm.exc import PendingRollbackError, SessionError, StaleDocumentError, SuperormError
from superorm.expr.reprs import short_repr, typed_repr

if TYPE_CHECKING:
    from superorm._async.db import AsyncDB
    from superorm._async.session import AsyncSession
    from superorm.protocols.concerns import SessionOptions

__all__ = ["run"]

T = TypeVar("T")

_SECONDS = 120
"""After which nothing is repeated, as in MongoDB's specification of the convenient API for transactions."""
_FIRST_PAUSE, _GROWTH, _LAST_PAUSE = 0.005, 1.5, 0.5
"""Seconds between attempts at most, as there; a random part of them is waited."""


async def run(
    db: AsyncDB, function: Callable[[AsyncSession], Awaitable[T]], attempts: int, options: SessionOptions
) -> T:
    """What the function gives for a session that is then committed."""
    _check_function(function)
    _check_attempts(attempts)
    start = time.monotonic()
    attempt = 1
    uploads: dict[str, Uploaded] = {}
    while True:
        session = db.session(**options)
        session._work.artifacts.earlier = uploads  # what an attempt stored before it failed is there for the next one
        async with session:
            try:
                result = await aio.call(function, session)
                await session.commit()
            except SuperormError as error:
                pause = random.random() * min(_FIRST_PAUSE * _GROWTH ** (attempt - 1), _LAST_PAUSE)
                in_time = time.monotonic() + pause - start < _SECONDS
                if attempt >= attempts or not in_time or session._work.wrote or not _passes(error):
                    error.add_note(f"db.run() made {attempt} {'attempt' if attempt == 1 else 'attempts'}")
                    raise
            else:
                return result
        await aio.sleep(pause)
        attempt += 1


def _passes(error: BaseException | None) -> bool:
    """Whether the same unit of work may succeed when it is done again."""
    if has_error_label(error, "TransientTransactionError"):
        return True
    while isinstance(error, PendingRollbackError):  # the error that came first was swallowed
        error = error.__cause__
    return isinstance(error, (StaleDocumentError, BlobConflictError))


def _check_function(function: object) -> None:
    if not callable(function):
        raise SessionError(f"db.run() takes a function of a session, not {typed_repr(function)}")


def _check_attempts(attempts: object) -> None:
    if not isinstance(attempts, int) or isinstance(attempts, bool) or attempts < 1:
        raise SessionError(f"db.run() makes at least 1 attempt, not {short_repr(attempts)}")
