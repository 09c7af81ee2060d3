"""Removing blobs that nothing refers to, beside commits and other collections."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from superorm._async.blob_facts import AsyncBlobFacts
from superorm._async.metadata_units import unit
from superorm.artifacts.collecting import (
    Place,
    clear,
    condemn,
    end,
    forget,
    garbage,
    is_due,
    is_of,
    mark,
    unclaim,
)
from superorm.artifacts.registry import REGISTRY, is_blob_conflict
from superorm.compile.plan import Find
from superorm.exc import SuperormError
from superorm.protocols._async.parts import AsyncArtifactStore, AsyncMetaDataStore
from superorm.unitofwork.writes import Delete, Update

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

__all__ = ["AsyncCollection"]


class AsyncCollection:
    """One collection of unused blobs.

    A blob that nothing refers to is marked with the server's time. When the grace period is over it is condemned,
    in a transaction that looks for references and conflicts with every commit that stores the same content;
    then its bytes are deleted, then its entry. Where it ends in between, the next collection goes on from there.
    So are those facts of it by which who uploaded it could go on with it.
    A commit that refers to a blob writes its entry, and one that uploads it writes the upload's, or a claim to it,
    before it writes documents: however long its transaction is open, a collection leaves both alone until it ends.
    Blobs that were registered under another name are left where they are:
    what said where references to them may be was lost with that name.
    """

    def __init__(
        self, metadata: AsyncMetaDataStore, store: AsyncArtifactStore, facts: AsyncBlobFacts, grace: timedelta
    ) -> None:
        self._metadata = metadata
        self._store = store
        self._facts = facts
        self._grace = grace
        self._removed: list[str] = []

    async def run(self) -> Sequence[str]:
        """Remove what may go; the physical keys of what went."""
        now = await self._facts.now()
        registry = await self._facts.registry(anew=True)
        places = await self._facts.places()
        for blob in await self._metadata.read(Find(REGISTRY)):
            own = is_of(registry, blob["key"])
            if blob["state"] == "condemned" or (own and await self._condemned(blob, places, now)):
                await self._delete(blob["key"])
                await self._alone(forget(blob))
        await self._give_up_uploads(now)
        await self._remove_garbage(now)
        return self._removed

    async def _condemned(self, blob: Mapping[str, Any], places: Sequence[Place], now: datetime) -> bool:
        """Whether the blob was condemned, as nothing has referred to it for the grace period."""
        if await self._referred_to(blob["_id"], places, None):
            if "unused" in blob:
                await self._alone(clear(blob))
            return False
        since = blob.get("unused")
        if since is None:
            since = now if await self._alone(mark(blob)) else None
        if not is_due(since, now, self._grace):
            return False
        known = (end([blob["key"]]), unclaim(blob["key"]))  # else who uploaded it would go on with it, in doubt
        return await self._alone(condemn(blob), lambda session: self._referred_to(blob["_id"], places, session), known)

    async def _alone(
        self,
        write: Update | Delete,
        unless: Callable[[AsyncClientSession | None], Awaitable[bool]] | None = None,
        before: Sequence[Delete] = (),
    ) -> bool:
        """Write in a transaction, `unless` that finds something in it; whether anything was there to write.

        What goes `before` it goes where nothing was there too: last, it is in conflict with none but who writes it.
        Where a commit, or another collection, writes the same, this does not wait for it: it came first.
        """
        try:
            async with unit(self._metadata) as session:
                if unless is not None and await unless(session):
                    return False
                for one in before:
                    await self._metadata.write(one, session=session)
                return bool((await self._metadata.write(write, session=session)).matched)
        except SuperormError as error:
            if is_blob_conflict(error):
                return False
            raise

    async def _referred_to(self, sha256: str, places: Sequence[Place], session: AsyncClientSession | None) -> bool:
        for place in places:
            plan = Find(place.collection, {place.path: sha256}, {"_id": 1}, limit=1)
            if await self._metadata.read(plan, session=session):
                return True
        return False

    async def _give_up_uploads(self, now: datetime) -> None:
        """Have commits of uploads that began too long ago fail, which then upload again.

        The bytes of those that came in a transaction which was older than the upload are left there.
        """
        for upload in await self._facts.uploads():
            if not is_due(upload["began"], now, self._grace) or not await self._facts.give_up(upload):
                continue
            if not await self._metadata.read(Find(REGISTRY, {"key": upload["_id"]}, {"_id": 1})):
                await self._delete(upload["_id"])

    async def _remove_garbage(self, now: datetime) -> None:
        """Delete what was given up, or lost a race, and was not deleted then."""
        stored = await self._store.keys()
        uploads = [upload["_id"] for upload in await self._facts.uploads()]
        registered = [blob["key"] for blob in await self._metadata.read(Find(REGISTRY))]
        registry = await self._facts.registry()
        for key in garbage(stored, uploads, registered, registry, now, self._grace):
            await self._delete(key)

    async def _delete(self, key: str) -> None:
        await self._store.delete(key)
        self._removed.append(key)
