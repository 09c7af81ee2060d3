"""Whether the server can put all vectors of an index in place in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from superorm._async.transaction_room import transaction_lifetime, transaction_room, writing_seconds
from superorm.exc import BackendError

if TYPE_CHECKING:
    from superorm.protocols._async.parts import AsyncDataBackend
    from superorm.schema.vector_spec import VectorSpec

__all__ = ["check_limits"]

_OVERHEAD = 200
"""Bytes that the change of a document takes beside those of its vector."""


async def check_limits(backend: AsyncDataBackend, spec: VectorSpec, count: int, trial: str) -> None:
    """Raise `BackendError` where so many vectors are more than it holds, or take longer than it lets them.

    The latter is tried in the collection `trial`, where nothing of it stays.
    """
    size = 4 * spec.dim + _OVERHEAD
    needed, room = count * size, await transaction_room(backend)
    if room is not None and needed > room:
        raise BackendError(
            f"{spec.name}: the vectors of {count} documents take {needed >> 20} MiB, and the server holds about "
            f"{room >> 20} MiB of what one transaction changes, a tenth of its cache "
            "(storage.wiredTiger.engineConfig.cacheSizeGB): nothing is encoded; give it a cache of "
            f"{(10 * needed >> 30) + 1} GiB for as long as this takes, or put the vectors of the new model "
            "into a field of another name"
        )
    lifetime = await transaction_lifetime(backend)
    seconds = 0.0 if lifetime is None else await writing_seconds(backend, trial, count, size)
    if lifetime is not None and seconds > lifetime:
        raise BackendError(
            f"{spec.name}: the vectors of {count} documents take more than {seconds:.0f} seconds to be put in place, "
            f"as a trial says, and the server ends transactions after {lifetime:.0f} "
            "(transactionLifetimeLimitSeconds): nothing is encoded; raise that to more than twice what it takes, "
            "or put the vectors of the new model into a field of another name"
        )
