"""The components of a DB: adding, finding and loading them."""

from __future__ import annotations

import hashlib
from typing import Any

from superorm._async.blobs import AsyncBlobs, is_blob_conflict
from superorm._io import aio
from superorm.artifacts.codecs import codec_for
from superorm.codec import documents
from superorm.compile.plan import Find
from superorm.components.model import Model
from superorm.components.records import COMPONENT_KEYS, REFERENCE_PATH, ComponentRecord, component_of
from superorm.exc import ArtifactError, ComponentNotFoundError, DuplicateKeyError, UnsupportedError
from superorm.protocols._async.parts import AsyncMetaDataStore
from superorm.schema.mapping import class_map
from superorm.unitofwork.writes import Insert

__all__ = ["AsyncComponents"]

_RECORDS = class_map(ComponentRecord)
_COLLECTION = "_superorm_components"
_ATTEMPTS = 20


class AsyncComponents:
    """Components in the metadata store, their objects in the artifact store."""

    def __init__(self, metadata: AsyncMetaDataStore, blobs: AsyncBlobs) -> None:
        self._metadata = metadata
        self._blobs = blobs
        self._loaded: dict[tuple[str, str, int, str], Model] = {}
        self._prepared = False

    async def prepare(self) -> None:
        """Make the collections and the indexes that the records need, once."""
        if not self._prepared:
            await self._metadata.create_collection(_COLLECTION)
            await self._metadata.create_index(_COLLECTION, COMPONENT_KEYS, unique=True)
            await self._metadata.create_index(_COLLECTION, [(REFERENCE_PATH, 1)])
            await self._blobs.prepare()
            self._prepared = True

    async def add(self, component: Model) -> Model:
        """Store the component as one unit of work; the component with its version.

        The same content as the newest version's is a no-op.
        """
        if not isinstance(component, Model):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UnsupportedError(f"a {type(component).__name__} cannot be added; only a Model can for now")
        await self.prepare()
        newest = await self._newest(component.kind, component.name)
        content = None if component.fingerprint is None else f"fingerprint:{component.fingerprint}"
        if newest is not None and newest.content == content:
            return self._versioned(component, newest)
        codec = codec_for(component.object)
        data = await aio.in_thread(codec.encode, component.object)
        if content is None:
            content = f"sha256:{hashlib.sha256(data).hexdigest()}"
        for attempt in range(_ATTEMPTS):
            if newest is not None and newest.content == content:
                return self._versioned(component, newest)
            uploaded = await self._blobs.upload(data)
            record = ComponentRecord(
                kind=component.kind,
                name=component.name,
                version=0 if newest is None else newest.version + 1,
                content=content,
                artifact={},
                params=component.params,
            )
            record.artifact = self._blobs.reference(uploaded, codec, record.owner).to_bson()
            insert = Insert(_COLLECTION, [documents.dump(_RECORDS, record)])
            try:
                await self._blobs.commit(uploaded, [insert])
            except DuplicateKeyError:  # somebody added a version at the same time
                if attempt == _ATTEMPTS - 1:
                    raise
            except Exception as error:
                if attempt == _ATTEMPTS - 1 or not is_blob_conflict(error):
                    raise
            else:
                return self._versioned(component, record)
            newest = await self._newest(component.kind, component.name)
        raise AssertionError("the last attempt returns or raises")

    async def load(self, kind: str, name: str, version: int | None = None) -> Model:
        """The component; the newest version unless one is given.

        Raises `ComponentNotFoundError`, and the errors of reading an artifact.
        """
        record = await self.record(kind, name, version)
        cached = (kind, name, record.version, record.content)
        if cached not in self._loaded:
            try:
                obj = await self._blobs.load(record.reference, record.owner)
            except ArtifactError as error:
                error.component = name
                raise
            self._loaded[cached] = component_of(record, obj)
        return self._loaded[cached]

    async def record(self, kind: str, name: str, version: int | None = None) -> ComponentRecord:
        """The record of a component. Raises `ComponentNotFoundError`, which lists what there is."""
        found = await self._find(kind, name, version)
        if found is None:
            versions = await self.versions(kind, name)
            if versions:
                hint = f"it has the versions {', '.join(map(str, versions))}"
            else:
                hint = f"there are {', '.join(map(repr, await self.names(kind))) or 'none'}; add one with db.add(...)"
            wanted = name if version is None else f"{name} version {version}"
            raise ComponentNotFoundError(f"no {kind} {wanted!r}: {hint}", component=name)
        return found

    async def names(self, kind: str) -> list[str]:
        """The names of all components of a kind, sorted."""
        plan = Find(_COLLECTION, {"kind": kind}, {"name": 1, "_id": 0})
        return sorted({document["name"] for document in await self._metadata.read(plan)})

    async def versions(self, kind: str, name: str) -> list[int]:
        """The versions of a component, oldest first."""
        plan = Find(_COLLECTION, {"kind": kind, "name": name}, {"version": 1, "_id": 0}, [("version", 1)])
        return [document["version"] for document in await self._metadata.read(plan)]

    async def records(self) -> list[ComponentRecord]:
        """Every component."""
        return documents.load(_RECORDS, await self._metadata.read(Find(_COLLECTION)))

    async def _newest(self, kind: str, name: str) -> ComponentRecord | None:
        return await self._find(kind, name, None)

    async def _find(self, kind: str, name: str, version: int | None) -> ComponentRecord | None:
        wanted: dict[str, Any] = {"kind": kind, "name": name}
        if version is not None:
            wanted["version"] = version
        found = await self._metadata.read(Find(_COLLECTION, wanted, sort=[("version", -1)], limit=1))
        return documents.load(_RECORDS, found)[0] if found else None

    def _versioned(self, component: Model, record: ComponentRecord) -> Model:
        component.version = record.version
        self._loaded[component.kind, component.name, record.version, record.content] = component
        return component
