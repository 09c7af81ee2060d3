"""Adding listeners: with all their outputs, or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from attrs import frozen

from superorm._async.component_adding import AsyncAdding
from superorm._async.component_removal import AsyncRemoving
from superorm._async.components import AsyncComponents
from superorm._async.listener_computing import Heard
from superorm._async.listeners import AsyncListeners
from superorm._io.progress import Progress
from superorm.components.base import Component, Named
from superorm.components.family import family
from superorm.exc import ComponentInUseError, ComponentNotFoundError

__all__ = ["AsyncListenerAdding"]


@frozen
class AsyncListenerAdding:
    """Adds a listener, or a vector index, with what is given with it, and computes the outputs for all documents."""

    components: AsyncComponents
    adding: AsyncAdding
    removal: AsyncRemoving
    listeners: AsyncListeners

    async def store(self, listener: Heard, progress: Progress | None) -> None:
        """Store it; where the outputs cannot be computed, what was stored for it is removed again.

        Raises as `AsyncAdding.store` and `AsyncListeners.add` do.
        """
        tree = family(listener)[::-1]
        before = {one: await self.components.versions(one.kind, one.name) for one in tree}
        await self.adding.store(listener, progress=progress)
        try:
            await self.listeners.add(_named(listener), progress)
        except Exception:  # whatever the model raises; a cancellation leaves what another call goes on with
            await self._take_back([_named(one) for one in tree if one.version not in before[one]], _named(listener))
            raise

    async def _take_back(self, new: Sequence[Named], root: Named) -> None:
        """Remove what was stored, but for what somebody else who added the same counts on by now."""
        for named in new:
            with suppress(ComponentNotFoundError, ComponentInUseError):
                if (await self.components.record(named)).is_counted_on:
                    return
                if named == root and await self.listeners.is_filled(named):
                    return
                await self.removal.remove(named, force=False, recursive=False)
        await self.listeners.sweep()


def _named(one: Component) -> Named:
    return Named(one.kind, one.name, one.version)
