"""The components of a DB: finding and loading them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from superorm._async.blobs import AsyncBlobs
from superorm.artifacts.collecting import Place
from superorm.codec import documents
from superorm.compile.plan import Find
from superorm.components.base import Component, Named
from superorm.components.kinds import kind_named
from superorm.components.model import Model
from superorm.components.records import COLLECTION, COMPONENT_KEYS, LIVE, REFERENCE_PATH, REMOVED, ComponentRecord
from superorm.components.training import Fit
from superorm.exc import ArtifactError, ComponentNotFoundError
from superorm.protocols._async.parts import AsyncMetaDataStore
from superorm.schema.mapping import class_map

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

__all__ = ["AsyncComponents"]

_RECORDS = class_map(ComponentRecord)


class AsyncComponents:
    """Components in the metadata store, their objects in the artifact store."""

    def __init__(self, metadata: AsyncMetaDataStore, blobs: AsyncBlobs) -> None:
        self._metadata = metadata
        self._blobs = blobs
        self._loaded: dict[Named, tuple[str, Component]] = {}
        """Each with its content, which may be replaced."""
        self._prepared = False
        blobs.facts.known.append(Place(COLLECTION, REFERENCE_PATH))

    async def prepare(self) -> None:
        """Make the collections and the indexes that the records need, once."""
        if not self._prepared:
            await self._metadata.create_collection(COLLECTION)
            await self._metadata.create_index(COLLECTION, COMPONENT_KEYS, unique=True)
            await self._metadata.create_index(COLLECTION, [(REFERENCE_PATH, 1)])
            await self._blobs.prepare()
            self._prepared = True

    async def load(self, kind: str, name: str, version: int | None = None, *, hidden: bool = False) -> Component:
        """The component; the newest version unless one is given, with `hidden` also one that was removed by force.

        Raises `ComponentNotFoundError`, and the errors of reading an artifact.
        """
        kind_named(kind)
        return await self._restored(await self.record(Named(kind, name, version), hidden=hidden))

    async def _restored(self, record: ComponentRecord) -> Component:
        cached = self._loaded.get(record.named)
        if cached is not None and cached[0] == record.content:
            return cached[1]
        needs = [] if record.kind == Model.kind else record.needs  # what a model was trained by is not loaded with it
        children = [await self._restored(await self.record(child, hidden=True)) for child in needs]
        try:
            reference = record.reference
            stored = None if reference is None else await self._blobs.load(reference, record.owner)
        except ArtifactError as error:
            error.component = record.name
            raise
        params = {**record.params, **record.fingerprint}
        component = kind_named(record.kind).restore(record.name, stored, params, children)
        component.version = record.version
        if isinstance(component, Model) and record.fit is not None:
            component.training = record.needs[0]
            component.outcome = Fit.from_bson(record.fit)
        self.remember(component, record)
        return component

    def remember(self, component: Component, record: ComponentRecord) -> None:
        """Serve this component from now on, as long as its record is there with this content.

        But not one that was loaded with others, which may be replaced, and were perhaps given by their names only.
        """
        if not record.needs or record.kind == Model.kind:
            self._loaded[record.named] = (record.content, component)

    async def record(self, wanted: Named, *, hidden: bool = False) -> ComponentRecord:
        """The record of a component. Raises `ComponentNotFoundError`, which lists what there is."""
        filter: dict[str, Any] = {
            "kind": wanted.kind,
            "name": wanted.name,
            "state": {"$ne": REMOVED} if hidden else LIVE,
        }
        if wanted.version is not None:
            filter["version"] = wanted.version
        found = await self.records(filter, limit=1)
        if found:
            return found[0]
        self._loaded = {
            named: kept
            for named, kept in self._loaded.items()
            if (named.kind, named.name) != (wanted.kind, wanted.name) or wanted.version not in {None, named.version}
        }
        versions = await self.versions(wanted.kind, wanted.name)
        if versions:
            hint = f"it has the versions {', '.join(map(str, versions))}"
        else:
            names = await self.names(wanted.kind)
            hint = f"there are {', '.join(map(repr, names)) or 'none'}; add one with db.add(...)"
        text = wanted.name if wanted.version is None else f"{wanted.name} version {wanted.version}"
        raise ComponentNotFoundError(f"no {wanted.kind} {text!r}: {hint}", component=wanted.name)

    async def names(self, kind: str) -> list[str]:
        """The names of all components of a kind, sorted."""
        plan = Find(COLLECTION, {"kind": kind, "state": LIVE}, {"name": 1, "_id": 0})
        return sorted({document["name"] for document in await self._metadata.read(plan)})

    async def versions(self, kind: str, name: str) -> list[int]:
        """The versions of a component, oldest first."""
        filter = {"kind": kind, "name": name, "state": LIVE}
        plan = Find(COLLECTION, filter, {"version": 1, "_id": 0}, [("version", 1)])
        return [document["version"] for document in await self._metadata.read(plan)]

    async def highest(self, kind: str, name: str) -> ComponentRecord | None:
        """The record of the highest version that was ever given, whatever became of it."""
        found = await self.records({"kind": kind, "name": name}, limit=1)
        return found[0] if found else None

    async def records(
        self,
        filter: Mapping[str, Any] | None = None,
        *,
        limit: int = 0,
        session: AsyncClientSession | None = None,
    ) -> list[ComponentRecord]:
        """The records that match, newest versions first; those of all components that there are, hidden ones too."""
        wanted = {"state": {"$ne": REMOVED}} if filter is None else filter
        plan = Find(COLLECTION, wanted, sort=[("version", -1)], limit=limit)
        return documents.load(_RECORDS, await self._metadata.read(plan, session=session))
