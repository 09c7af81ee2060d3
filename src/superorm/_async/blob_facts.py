"""What the registry of blobs knows beside the blobs: its name, uploads under way, where references may be."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from superorm._async.metadata_units import unit
from superorm.artifacts.collecting import (
    CLOCK,
    FACTS,
    IDENTITY,
    Place,
    begin,
    claim,
    end,
    give_up,
    identify,
    new_key,
    register_place,
    renew,
    tell_time,
    unclaim,
)
from superorm.artifacts.registry import BlobConflictError, is_blob_conflict
from superorm.compile.plan import Find
from superorm.exc import DuplicateKeyError, SuperormError
from superorm.protocols._async.parts import AsyncMetaDataStore
from superorm.unitofwork.writes import Update

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

__all__ = ["AsyncBlobFacts"]


class AsyncBlobFacts:
    """The collection of that name in the metadata store."""

    def __init__(self, metadata: AsyncMetaDataStore) -> None:
        self._metadata = metadata
        self._registry: str | None = None
        self._learned: set[Place] = set()
        self.known: list[Place] = []
        """Where references may be that every program knows of without having been told."""

    async def prepare(self) -> None:
        """Make the collection, which a transaction should not have to."""
        await self._metadata.create_collection(FACTS)

    async def registry(self, *, anew: bool = False) -> str:
        """The registry's name, which is made once; read anew in case that somebody dropped it."""
        if self._registry is None or anew:
            await self._once(identify())
            (found,) = await self._metadata.read(Find(FACTS, {"_id": IDENTITY}))
            self._registry = str(found["id"])
        return self._registry

    async def register_place(self, place: Place) -> None:
        """Say where references may be."""
        await self._once(register_place(place))

    async def learn_place(self, place: Place) -> None:
        """The same, sent once by each DB object."""
        if place not in self._learned:
            await self.register_place(place)
            self._learned.add(place)

    async def _once(self, update: Update) -> None:
        """Insert documents unless they are there."""
        try:
            await self._metadata.write(update)
        except DuplicateKeyError:  # somebody else did at the same time: now it is there, and the others follow
            await self._metadata.write(update)

    async def places(self) -> list[Place]:
        """Where references may be."""
        found = await self._metadata.read(Find(FACTS, {"kind": "place"}))
        return [*self.known, *(Place(one["collection"], one["path"]) for one in found)]

    async def begin(self) -> str:
        """A new physical key, which is written down as an upload.

        So is again, in the same command, where references may be: somebody may have dropped the database.
        """
        key = new_key(await self.registry())
        places = [op for place in self._learned for op in register_place(place).ops]
        await self._once(Update(FACTS, [*begin(key).ops, *places]))
        return key

    async def end(self, keys: Sequence[str], session: AsyncClientSession | None) -> None:
        """The commit of these uploads: raises `BlobConflictError` where one was given up in the meantime."""
        if keys and (await self._metadata.write(end(keys), session=session)).matched != len(keys):
            raise BlobConflictError("an upload took longer than a collection's grace period: upload it again")

    async def claim(self, keys: Sequence[str], session: AsyncClientSession | None) -> None:
        """Have collections leave these uploads alone while the transaction is open, which is older than they are.

        Raises an error of which `is_blob_conflict` holds where one is giving one of them up right now.
        """
        if keys:
            await self._metadata.write(claim(keys), session=session)

    async def renew(self, keys: Collection[str]) -> None:
        """The commit of these uploads is about to come: raises `BlobConflictError` where one was given up already.

        A collection that finds them afterwards leaves the blobs that were registered.
        """
        if keys and (await self._metadata.write(renew(keys))).matched != len(keys):
            raise BlobConflictError("an upload took longer than a collection's grace period: upload it again")

    async def goes_on(self, key: str) -> bool:
        """Begin the grace period of an upload anew; whether it was not given up by now."""
        return bool((await self._metadata.write(renew([key]))).matched)

    async def forget(self, key: str) -> None:
        """The upload was in vain: no commit is to come."""
        await self._metadata.write(end([key]))

    async def give_up(self, upload: Mapping[str, Any]) -> bool:
        """Have the commit of an upload fail; whether that was to come until now, and is in no open transaction."""
        key = upload["_id"]
        try:
            async with unit(self._metadata) as session:
                if session is not None:
                    await self._metadata.write(claim([key]), session=session)
                    await self._metadata.write(unclaim(key), session=session)
                return bool((await self._metadata.write(give_up(upload), session=session)).matched)
        except SuperormError as error:
            if is_blob_conflict(error):
                return False
            raise

    async def uploads(self) -> list[dict[str, Any]]:
        """The uploads whose commits have not come."""
        return await self._metadata.read(Find(FACTS, {"kind": "upload"}))

    async def now(self) -> datetime:
        """The server's time."""
        await self._metadata.write(tell_time())
        (found,) = await self._metadata.read(Find(FACTS, {"_id": CLOCK}))
        now: datetime = found["now"]
        return now
