"""Adding listeners: with all their outputs, or not at all."""

from __future__ import annotations

from attrs import frozen

from superorm._async.component_adding import AsyncAdding
from superorm._async.component_removal import AsyncRemoving
from superorm._async.components import AsyncComponents
from superorm._async.listeners import AsyncListeners
from superorm._io.progress import Progress
from superorm.components.base import Named
from superorm.components.family import family
from superorm.components.listener import Listener

__all__ = ["AsyncListenerAdding"]


@frozen
class AsyncListenerAdding:
    """Adds a listener and the model that is given with it, and computes the outputs for all documents."""

    components: AsyncComponents
    adding: AsyncAdding
    removal: AsyncRemoving
    listeners: AsyncListeners

    async def store(self, listener: Listener, progress: Progress | None) -> None:
        """Store it; where the outputs cannot be computed, what was stored for it is removed again.

        Raises as `AsyncAdding.store` and `AsyncListeners.add` do.
        """
        tree = family(listener)[::-1]
        before = {one: await self.components.versions(one.kind, one.name) for one in tree}
        await self.adding.store(listener, progress=progress)
        try:
            await self.listeners.add(Named(listener.kind, listener.name, listener.version), progress)
        except Exception:  # whatever the model raises; a cancellation leaves what another call goes on with
            for one in tree:
                if one.version not in before[one]:
                    await self.removal.remove(Named(one.kind, one.name, one.version), force=False, recursive=False)
            await self.listeners.sweep()
            raise
