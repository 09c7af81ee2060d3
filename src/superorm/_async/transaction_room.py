"""How much the server lets one transaction change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pymongo.errors import OperationFailure

from superorm.backends.errors import reading

if TYPE_CHECKING:
    from superorm.protocols._async.parts import AsyncDataBackend

__all__ = ["transaction_room"]

_SHARE = 0.1
"""The part of its cache that the server fills with what is changed before it ends the oldest transaction:
WiredTiger's ``eviction_updates_trigger``, half of ``eviction_dirty_trigger``."""
_LEFT_OUT = ("repl", "metrics", "locks", "opLatencies", "tcmalloc", "mirroredReads", "sharding")


async def transaction_room(backend: AsyncDataBackend) -> int | None:
    """How many bytes of documents one transaction may change; None where the server does not say.

    The user may have no right to ask (``serverStatus``, which the role ``clusterMonitor`` has), a hosted server may
    refuse it to everybody, and the routers of sharded clusters have no cache. Raises `BackendError`.
    """
    async with backend.snapshot() as session:
        with reading(backend.name):
            try:
                command = {"serverStatus": 1, **dict.fromkeys(_LEFT_OUT, 0)}
                status: Mapping[str, Any] = await session.client.admin.command(command)
            except OperationFailure:
                return None
    cache = status.get("wiredTiger", {}).get("cache", {}).get("maximum bytes configured")
    return None if cache is None else int(cache * _SHARE)
