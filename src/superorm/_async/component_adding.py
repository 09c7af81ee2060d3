"""Adding and replacing components: each with its children, as one unit of work."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from attrs import define, field, frozen
from bson import ObjectId

from superorm._async.blobs import AsyncBlobs, Uploaded, is_blob_conflict
from superorm._async.components import AsyncComponents
from superorm._async.metadata_units import unit
from superorm._io import aio
from superorm.artifacts.codecs import Codec, codec_for
from superorm.codec import documents
from superorm.components.base import Child, Component, Named, ObjectComponent
from superorm.components.dataset import Dataset
from superorm.components.family import family
from superorm.components.records import COLLECTION, LIVE, ComponentRecord, content_of
from superorm.exc import ArtifactError, ComponentNotFoundError, DuplicateKeyError, StaleDocumentError
from superorm.expr.statements import Select
from superorm.protocols._async.parts import AsyncMetaDataStore
from superorm.schema.mapping import class_map
from superorm.unitofwork.writes import Delete, Insert, Update, UpdateOp

__all__ = ["AsyncAdding"]

C = TypeVar("C", bound=Component)

_RECORDS = class_map(ComponentRecord)
_ATTEMPTS = 20


@frozen
class _Encoded:
    codec: Codec
    data: bytes
    sha256: str


@define
class _Planned:
    """What is about to be committed."""

    records: dict[int, ComponentRecord] = field(factory=dict[int, ComponentRecord])
    """The record of each component of the tree, by its identity; of those that are there already, theirs."""
    new: list[ComponentRecord] = field(factory=list[ComponentRecord])
    replaced: ComponentRecord | None = None
    """The record in whose place the last of the new ones is put."""
    uploads: dict[str, Uploaded] = field(factory=dict[str, Uploaded])
    """By their hash: the same content is uploaded once."""
    needed: list[Named] = field(factory=list[Named])
    """Components that are there already and are counted on."""


class AsyncAdding:
    """Stores whole trees of components, or nothing.

    `snapshot` gives the documents of a select as they are at one moment.
    """

    def __init__(
        self,
        metadata: AsyncMetaDataStore,
        blobs: AsyncBlobs,
        components: AsyncComponents,
        snapshot: Callable[[Select[Any, Any]], Awaitable[Sequence[Mapping[str, Any]]]],
    ) -> None:
        self._metadata = metadata
        self._blobs = blobs
        self._components = components
        self._snapshot = snapshot

    async def store(
        self,
        root: C,
        *,
        replace: Callable[[ComponentRecord], Awaitable[None]] | None = None,
        upsert: bool = False,
    ) -> C:
        """Store the component, and the children that are given as objects; the component with its version.

        Of what is there with the same content nothing is written.
        With `replace` the root takes the place of its version, by default the newest one, where that raises nothing
        for the record; with `upsert` it is added where there is none.
        """
        tree = family(root)
        for component in tree:
            if isinstance(component, Dataset) and component.data is None:
                component.take(await self._snapshot(component.select))
        encoded: dict[int, _Encoded] = {}
        for attempt in range(_ATTEMPTS):
            replaced = None if replace is None else await self._replaced(root, upsert)
            planned = await self._plan(tree, encoded, replaced)
            try:
                if planned.new:
                    if replace is not None and replaced is not None and replaced.id == planned.new[-1].id:
                        await replace(replaced)
                    await self._commit(planned)
            except (DuplicateKeyError, StaleDocumentError):  # somebody else added, replaced or removed at the same time
                if attempt == _ATTEMPTS - 1:
                    raise
            except Exception as error:
                if attempt == _ATTEMPTS - 1 or not is_blob_conflict(error):
                    raise
            else:
                for component in tree:
                    record = planned.records[id(component)]
                    component.version = record.version
                    self._components.remember(component, record)
                return root
        raise AssertionError("the last attempt returns or raises")

    async def _plan(
        self, tree: Sequence[Component], encoded: dict[int, _Encoded], replaced: ComponentRecord | None
    ) -> _Planned:
        """What is to be written, given what is there; the blobs are uploaded."""
        planned = _Planned(replaced=replaced)
        for component in tree:
            children = [await self._child(component, child, planned) for child in component.children]
            in_place = replaced if component is tree[-1] else None
            highest = in_place or await self._components.highest(component.kind, component.name)
            newest = await self._newest(highest)
            content = None if component.identity is None else content_of(component.identity, {}, [], None)
            if content is None or newest is None or newest.content != content:
                content = await self._content(component, children, encoded)
            if newest is not None and newest.content == content:
                planned.records[id(component)] = newest
                planned.needed.append(newest.named)
                continue
            record = ComponentRecord(
                kind=component.kind,
                name=component.name,
                version=in_place.version if in_place else highest.version + 1 if highest else 0,
                content=content,
                params=component.params,
                children=children,
            )
            if in_place is not None:
                record.id, record.created = in_place.id, in_place.created
            if id(component) in encoded:
                kept = encoded[id(component)]
                uploaded = planned.uploads.get(kept.sha256) or await self._blobs.upload(kept.data)
                record.artifact = self._blobs.reference(uploaded, kept.codec, record.owner).to_bson()
                planned.uploads[kept.sha256] = uploaded
            planned.records[id(component)] = record
            planned.new.append(record)
        return planned

    async def _replaced(self, root: Component, upsert: bool) -> ComponentRecord | None:
        """The record of what the component takes the place of. Raises `ComponentNotFoundError` without `upsert`."""
        try:
            return await self._components.record(Named(root.kind, root.name, root.version))
        except ComponentNotFoundError:
            if upsert:
                return None
            raise

    async def _newest(self, highest: ComponentRecord | None) -> ComponentRecord | None:
        """The newest version that was not removed."""
        if highest is None or highest.state == LIVE:
            return highest
        live = {"kind": highest.kind, "name": highest.name, "state": LIVE}
        return next(iter(await self._components.records(live, limit=1)), None)

    async def _child(self, parent: Component, child: Child, planned: _Planned) -> dict[str, Any]:
        """What the parent's record says of a child. Raises `ComponentNotFoundError` that names both."""
        if isinstance(child, Component):
            record = planned.records[id(child)]
        else:
            try:
                record = await self._components.record(child)
            except ComponentNotFoundError as error:
                raise ComponentNotFoundError(f"{parent!r} needs the {child}: {error}", component=child.name) from None
            planned.needed.append(record.named)
        return {"kind": record.kind, "name": record.name, "version": record.version}

    async def _content(
        self, component: Component, children: Sequence[Mapping[str, Any]], encoded: dict[int, _Encoded]
    ) -> str:
        """What the component is known by; its object is encoded, once."""
        if id(component) not in encoded and component.stored is not None:
            name = component.codec if isinstance(component, ObjectComponent) else None
            codec = codec_for(component.stored, name)
            try:
                data = await aio.in_thread(codec.encode, component.stored)
            except ArtifactError as error:
                error.component = component.name
                raise
            encoded[id(component)] = _Encoded(codec, data, await aio.in_thread(_sha256, data))
        kept = encoded.get(id(component))
        artifact = None
        if kept is not None:
            artifact = {"sha256": kept.sha256, "codec": kept.codec.name, "version": kept.codec.version}
        return content_of(component.identity, component.params, children, artifact)

    async def _commit(self, planned: _Planned) -> None:
        """Write all that was planned, as one; without transactions undo it where a part of it fails.

        Raises `StaleDocumentError` where a component that is counted on was removed meanwhile, or what is
        replaced was changed.
        """
        new = [documents.dump(_RECORDS, record) for record in planned.new]
        replaced = planned.replaced
        update = None
        if replaced is not None and replaced.id == planned.new[-1].id:
            values = new.pop()
            guard = {"_id": values.pop("_id"), "state": LIVE, "touched": replaced.touched}
            update = Update(COLLECTION, [UpdateOp(q=guard, u={"$set": values})])
        # What is needed is touched after it is counted on: a removal in between is noticed by one of the two.
        touches = [_touch(named) for named in dict.fromkeys(planned.needed)]
        async with unit(self._metadata) as session:
            await self._blobs.register(list(planned.uploads.values()), session=session)
            try:
                if new:
                    await self._metadata.write(Insert(COLLECTION, new), session=session)
                if touches:
                    result = await self._metadata.write(Update(COLLECTION, touches), session=session)
                    if result.matched != len(touches):
                        raise StaleDocumentError(
                            "a component that is needed was removed at the same time; add it again"
                        )
                if update is not None:
                    result = await self._metadata.write(update, session=session)
                    if result.matched != 1:
                        raise StaleDocumentError(f"the {planned.new[-1].named} was changed at the same time; try again")
                    if replaced is not None and replaced.reference is not None:
                        await self._blobs.unused([replaced.reference], session)
            except BaseException:
                if session is None and new:
                    made = [{"_id": one["_id"]} for one in reversed(new)]
                    await aio.shielded(self._metadata.write, Delete(COLLECTION, made))
                raise


def _touch(named: Named) -> UpdateOp:
    guard = {"kind": named.kind, "name": named.name, "version": named.version, "state": LIVE}
    return UpdateOp(q=guard, u={"$set": {"touched": ObjectId()}})


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
