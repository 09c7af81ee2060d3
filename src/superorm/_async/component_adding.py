"""Adding and replacing components: each with its children, as one unit of work."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from copy import copy
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import astuple, define, field, frozen
from bson import ObjectId

from superorm._async.blobs import AsyncBlobs, Uploaded, is_blob_conflict
from superorm._async.component_removal import references_of, removal_of
from superorm._async.components import AsyncComponents
from superorm._async.fitting import AsyncFitting, Fitted
from superorm._async.metadata_units import unit
from superorm._io import aio
from superorm._io.progress import Progress
from superorm.artifacts.codecs import Codec, codec_for
from superorm.codec import documents
from superorm.components.base import Child, Component, Named, ObjectComponent
from superorm.components.dataset import Dataset
from superorm.components.family import family
from superorm.components.model import Model
from superorm.components.records import COLLECTION, LIVE, REMOVED, ComponentRecord, content_of
from superorm.components.removal import plan_removal
from superorm.components.training import Fit, Training
from superorm.exc import (
    ArtifactError,
    ComponentError,
    ComponentNotFoundError,
    CorruptArtifactError,
    DuplicateKeyError,
    StaleDocumentError,
)
from superorm.expr.statements import Select
from superorm.protocols._async.parts import AsyncMetaDataStore
from superorm.schema.mapping import class_map
from superorm.unitofwork.writes import Delete, Insert, Update, UpdateOp

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

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
    kept: list[Named] = field(factory=list[Named])
    """Others that are counted on, though they may be hidden."""
    released: Sequence[ComponentRecord] = ()
    """What only the replaced one needed, and goes with it."""
    signed: list[UpdateOp] = field(factory=list[UpdateOp])
    """Signatures of what is there already by the first key, in the place of those by another one."""


@define
class _Made:
    """What was made of the components of a tree, and does not become stale between the attempts to store it."""

    replace: Callable[[ComponentRecord], Awaitable[None]] | None
    progress: Progress | None
    encoded: dict[int, _Encoded] = field(factory=dict[int, _Encoded])
    """By the component's identity."""
    fitted: dict[int, tuple[list[Named], Fitted]] = field(factory=dict[int, tuple[list[Named], Fitted]])
    """Of models, by their identity: what was trained, with the metrics and the dataset for it."""


class AsyncAdding:
    """Stores whole trees of components, or nothing.

    `snapshot` gives the documents of a select as they are at one moment; `fitting` trains models.
    """

    def __init__(
        self,
        metadata: AsyncMetaDataStore,
        blobs: AsyncBlobs,
        components: AsyncComponents,
        snapshot: Callable[[Select[Any, Any]], Awaitable[Sequence[Mapping[str, Any]]]],
        fitting: AsyncFitting,
    ) -> None:
        self._metadata = metadata
        self._blobs = blobs
        self._components = components
        self._snapshot = snapshot
        self._fitting = fitting

    async def store(
        self,
        root: C,
        *,
        replace: Callable[[ComponentRecord], Awaitable[None]] | None = None,
        upsert: bool = False,
        progress: Progress | None = None,
    ) -> C:
        """Store the component, and the children that are given as objects; the component with its version.

        Of what is there with the same content nothing is written but a signature by the first key.
        Models with a trainer are trained before anything is written.
        With `replace` the root takes the place of its version, by default the newest one, where that raises nothing
        for the record; with `upsert` it is added where there is none.
        """
        tree = family(root)
        for component in tree:
            if isinstance(component, Dataset) and (component.data is None or component.version is None):
                component.take(await self._snapshot(component.select))
        made = _Made(replace, progress)

        async def plan() -> _Planned:
            replaced = None if replace is None else await self._replaced(root, upsert)
            return await self._plan(tree, made, replaced)

        planned = await self._committed(plan, replace)
        if planned.signed:
            await self._metadata.write(Update(COLLECTION, planned.signed))
        for component in tree:
            record = planned.records[id(component)]
            if isinstance(component, Model) and component.trainer is not None:
                await self._take(component, record, made.fitted[id(component)][1] if record in planned.new else None)
            component.version = record.version
            trained = isinstance(component, Model) and component.trainer is not None
            # a trained one may be added elsewhere, and is given the object from there
            self._components.remember(copy(component) if trained else component, record)
        return root

    async def fit(self, record: ComponentRecord, progress: Progress | None) -> Model:
        """Train a model anew from what it was made from; its next version.

        Raises `ComponentError` for a model without a trainer.
        """
        if record.fit is None:
            raise ComponentError(
                f"the {record.named} was added without a trainer; give it one by db.add(Model(..., trainer=...))",
                component=record.name,
            )
        (named,) = record.needs
        training = await self._components.load(named.kind, named.name, named.version, hidden=True)
        assert isinstance(training, Training)
        model = Model.restore(record.name, training.object, {**record.params, **record.fingerprint}, [])
        model.training = named
        parts = [child for child in training.children if isinstance(child, Component)]
        fitted = await self._fitting.fit(model, training, parts, progress)
        encoded = await self._encode(model, fitted.object)

        async def plan() -> _Planned:
            highest = await self._components.highest(record.kind, record.name)
            version = record.version + 1 if highest is None else highest.version + 1
            same = {name: getattr(record, name) for name in ("kind", "name", "content", "params", "children")}
            planned = _Planned(new=[ComponentRecord(**same, version=version, fit=fitted.fit.to_bson())], kept=[named])
            await self._upload(planned, planned.new[0], encoded)
            return planned

        (new,) = (await self._committed(plan, None)).new
        model.trained(fitted.object, fitted.fit)
        model.version = new.version
        self._components.remember(copy(model), new)
        return model

    async def _committed(
        self,
        plan: Callable[[], Awaitable[_Planned]],
        replace: Callable[[ComponentRecord], Awaitable[None]] | None,
    ) -> _Planned:
        """Plan and commit, again where somebody else came in between; what was committed."""
        for attempt in range(_ATTEMPTS):
            planned = await plan()
            replaced = planned.replaced
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
                return planned
        raise AssertionError("the last attempt returns or raises")

    async def _take(self, model: Model, record: ComponentRecord, fitted: Fitted | None) -> None:
        """Give a model what was trained: just now, or when it was added before."""
        assert record.fit is not None
        if fitted is not None:
            model.trained(fitted.object, fitted.fit)
        else:
            stored = await self._components.load(record.kind, record.name, record.version)
            assert isinstance(stored, Model)
            model.trained(stored.object, Fit.from_bson(record.fit))

    async def _plan(self, tree: Sequence[Component], made: _Made, replaced: ComponentRecord | None) -> _Planned:
        """What is to be written, given what is there; models are trained, and then the blobs uploaded."""
        planned = _Planned(replaced=replaced)
        for component in tree:
            children = [await self._child(component, child, planned) for child in component.children]
            in_place = replaced if component is tree[-1] else None
            highest = in_place or await self._components.highest(component.kind, component.name)
            newest = await self._newest(highest)
            trained = isinstance(component, Model) and component.training is not None
            if newest is not None and (newest.fit is not None) != trained:
                newest = None  # another content, whatever the fingerprint says
            content = None if component.identity is None else content_of(component.identity, {}, [], None)
            if content is None or newest is None or newest.content != content:
                content = await self._content(component, children, made)
            if newest is not None and newest.content == content:
                planned.records[id(component)] = newest
                planned.needed.append(newest.named)
                planned.signed += self._signed_anew(newest)
                continue
            record = ComponentRecord(
                kind=component.kind,
                name=component.name,
                version=in_place.version if in_place else highest.version + 1 if highest else 0,
                content=content,
                params=component.params,
                children=children,
            )
            if in_place is None:
                record.touched = record.id
            else:
                record.id, record.created = in_place.id, in_place.created
            planned.records[id(component)] = record
            planned.new.append(record)
        for record, component in [(planned.records[id(component)], component) for component in tree]:
            if record in planned.new and isinstance(component, Model) and isinstance(component.training, Training):
                record.fit = await self._fit(component, component.training, planned, made)
        for record, component in [(planned.records[id(component)], component) for component in tree]:
            if (
                record in planned.new and id(component) in made.encoded
            ):  # after all training: it is to be committed soon
                await self._upload(planned, record, made.encoded[id(component)])
        if replaced is not None and planned.new and planned.new[-1].id == replaced.id:
            planned.released = await self._released(replaced, planned.new)
        return planned

    async def _released(self, replaced: ComponentRecord, new: Sequence[ComponentRecord]) -> Sequence[ComponentRecord]:
        """The training that only the replaced component needed, with what is hidden and only that needed."""
        trainings = [need for need in replaced.needs if need.kind == Training.kind and need not in new[-1].needs]
        if not trainings:
            return ()
        records = [*new, *(one for one in await self._components.records() if one.id != replaced.id)]
        used = {need for record in records for need in record.needs}
        targets = [record for record in records if record.named in trainings and record.named not in used]
        return plan_removal(records, targets, {}).removed

    async def _fit(self, model: Model, training: Training, planned: _Planned, made: _Made) -> dict[str, Any]:
        """Train the model, unless that was done with the same metrics and dataset before; what came of it."""
        record, needs = planned.records[id(model)], planned.records[id(training)].needs
        done = made.fitted.get(id(model))
        if done is None or done[0] != needs:
            replaced = planned.replaced
            if made.replace is not None and replaced is not None and replaced.id == record.id:
                await made.replace(replaced)
            given = {(child.kind, child.name): child for child in training.children if isinstance(child, Component)}
            parts: list[Component] = []
            for need in needs:
                part = given.get((need.kind, need.name))
                parts.append(await self._components.load(*astuple(need)) if part is None else part)
            done = needs, await self._fitting.fit(model, training, parts, made.progress)
            made.encoded[id(model)] = await self._encode(model, done[1].object)
            made.fitted[id(model)] = done
        return done[1].fit.to_bson()

    async def _upload(self, planned: _Planned, record: ComponentRecord, kept: _Encoded) -> None:
        uploaded = planned.uploads.get(kept.sha256) or await self._blobs.upload(kept.data)
        record.artifact = self._blobs.reference(uploaded, kept.codec, record.owner).to_bson()
        planned.uploads[kept.sha256] = uploaded

    def _signed_anew(self, record: ComponentRecord) -> list[UpdateOp]:
        """What changes the record's signature where that is by another key than the first one."""
        with suppress(CorruptArtifactError):  # which `check` tells
            reference = record.reference
            if reference is not None and (again := self._blobs.signed_anew(reference, record.owner)) is not None:
                guard = {"_id": record.id, "artifact.signature": reference.signature}
                return [UpdateOp(q=guard, u={"$set": {"artifact": again.to_bson()}})]
        return []

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

    async def _content(self, component: Component, children: Sequence[Mapping[str, Any]], made: _Made) -> str:
        """What the component is known by; its object is encoded, once.

        A model that is trained is known by what it is made from, a child of it, and not by what comes of that.
        """
        artifact = None
        if not (isinstance(component, Model) and component.training is not None):
            if id(component) not in made.encoded and component.stored is not None:
                made.encoded[id(component)] = await self._encode(component, component.stored)
            kept = made.encoded.get(id(component))
            if kept is not None:
                artifact = {"sha256": kept.sha256, "codec": kept.codec.name, "version": kept.codec.version}
        return content_of(component.identity, component.params, children, artifact)

    async def _encode(self, component: Component, stored: Any) -> _Encoded:
        """The bytes of its object. Raises `ArtifactSavingError` that names the component."""
        codec = codec_for(stored, component.codec if isinstance(component, ObjectComponent) else None)
        try:
            data = await aio.in_thread(codec.encode, stored)
        except ArtifactError as error:
            error.component = component.name
            raise
        return _Encoded(codec, data, await aio.in_thread(_sha256, data))

    async def _remove(self, released: Sequence[ComponentRecord], session: AsyncClientSession | None) -> None:
        """Raises `StaleDocumentError` where somebody else has counted on one since."""
        for record in released:
            op = removal_of(record)
            if (await self._metadata.write(Update(COLLECTION, [op]), session=session)).matched != 1:
                raise StaleDocumentError(f"the {record.named} was changed at the same time; try again")
        await self._blobs.unused(references_of(released), session)

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
        touches = [_touch(named, LIVE) for named in dict.fromkeys(planned.needed)]
        touches += [_touch(named, {"$ne": REMOVED}) for named in planned.kept]
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
                    await self._remove(planned.released, session)
            except BaseException:
                if session is None and new:
                    made = [{"_id": one["_id"]} for one in reversed(new)]
                    await aio.shielded(self._metadata.write, Delete(COLLECTION, made))
                raise


def _touch(named: Named, state: object) -> UpdateOp:
    guard = {"kind": named.kind, "name": named.name, "version": named.version, "state": state}
    return UpdateOp(q=guard, u={"$set": {"touched": ObjectId()}})


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
