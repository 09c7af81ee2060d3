"""How much the server lets one transaction change, and for how long."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bson import ObjectId
from pymongo.errors import OperationFailure

from superorm.backends.errors import has_error_label, reading
from superorm.exc import SuperormError
from superorm.unitofwork.writes import Insert

if TYPE_CHECKING:
    from superorm.protocols._async.parts import AsyncDataBackend

__all__ = ["transaction_lifetime", "transaction_room", "writing_seconds"]

_SHARE = 0.1
"""The part of its cache that the server fills with what is changed before it ends the oldest transaction:
WiredTiger's ``eviction_updates_trigger``, half of ``eviction_dirty_trigger``."""
_LEFT_OUT = ("repl", "metrics", "locks", "opLatencies", "tcmalloc", "mirroredReads", "sharding")
_TRIAL = 1_000
"""So many documents are written for a trial, or as many as fit into these bytes."""
_BYTES = 4 << 20
_TRIALS = 3


class _Undo(Exception):
    """A trial is over."""


async def transaction_room(backend: AsyncDataBackend) -> int | None:
    """How many bytes of documents one transaction may change; None where the server does not say.

    The user may have no right to ask (``serverStatus``, which the role ``clusterMonitor`` has), a hosted server may
    refuse it to everybody, and the routers of sharded clusters have no cache. Raises `BackendError`.
    """
    command = {"serverStatus": 1, **dict.fromkeys(_LEFT_OUT, 0)}
    cache = (await _told(backend, command)).get("wiredTiger", {}).get("cache", {}).get("maximum bytes configured")
    return None if cache is None else int(cache * _SHARE)


async def transaction_lifetime(backend: AsyncDataBackend) -> float | None:
    """After how many seconds the server ends a transaction; None where it does not say, as above.

    Raises `BackendError`.
    """
    name = "transactionLifetimeLimitSeconds"
    found: float | None = (await _told(backend, {"getParameter": 1, name: 1})).get(name)
    return found


async def writing_seconds(backend: AsyncDataBackend, collection: str, count: int, size: int) -> float:
    """How long a transaction takes at the least that writes so many documents of so many bytes.

    As a trial says: the fastest of a few, which insert some into the collection and are rolled back.
    It is 0 of fewer documents than a trial takes, and where the server ends all of these for a moment's reason.
    Raises `BackendError`, `WriteError`.
    """
    if count < _TRIAL:
        return 0.0
    some, best = max(1, min(_TRIAL, _BYTES // size)), math.inf
    for _ in range(_TRIALS):
        documents = [{"_id": ObjectId(), "d": bytes(size)} for _ in range(some)]
        try:
            async with backend.transaction() as session:
                start = time.monotonic()
                await backend.write(Insert(collection, documents), session=session)
                best = min(best, time.monotonic() - start)
                raise _Undo
        except _Undo:
            pass
        except SuperormError as error:
            if not has_error_label(error, "TransientTransactionError"):
                raise
    return 0.0 if math.isinf(best) else best * count / some


async def _told(backend: AsyncDataBackend, command: dict[str, Any]) -> Mapping[str, Any]:
    """The answer to a command that the server may refuse, which is empty then."""
    async with backend.snapshot() as session:
        with reading(backend.name):
            try:
                answer: Mapping[str, Any] = await session.client.admin.command(command)
            except OperationFailure:
                return {}
    return answer
