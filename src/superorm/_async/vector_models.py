"""The models of computed vector fields: which version made the vectors of an index."""

from __future__ import annotations

import time
from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import evolve

from superorm._async.components import AsyncComponents
from superorm._async.vector_announcements import AsyncAnnouncements, look
from superorm._async.vector_fences import AsyncFences, passing
from superorm._io import aio
from superorm._io.progress import Progress
from superorm.compile.plan import Find
from superorm.components.base import Named
from superorm.components.model import Model
from superorm.exc import ConfigurationError, PredictionError, StaleDocumentError, SuperormError
from superorm.protocols._async.parts import AsyncDataBackend
from superorm.schema.vector_spec import VectorSpec
from superorm.unitofwork.computed import Need, Vector, as_vectors, blame, checked, in_batches, inputs_of, put
from superorm.unitofwork.encoded import Encoded, Fence, RecordedModel
from superorm.unitofwork.writes import Update, UpdateOp
from superorm.vectors.records import COLLECTION, INDEXES

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

__all__ = ["AsyncVectorModels"]

_PAUSE = 0.05
LEASE = 1.0
"""Seconds for which a version that was read is taken for granted; another one is announced longer than that before."""


class AsyncVectorModels:
    """Searches and writes of an index keep the version of the model that its vectors were made with.

    It is recorded in a document ``{_id: index, kind: "index", model, version}`` of a collection of its own,
    once vectors were made that the index can hold, and changes when these are all made anew.
    That is announced by a time ``switching``, until which writers wait for another version.

    A transaction looks whether something was announced by the command that writes its records.
    """

    def __init__(self, backend: AsyncDataBackend, components: AsyncComponents) -> None:
        self._backend = backend
        self._components = components
        self._made: dict[str, RecordedModel] = {}
        self._models: dict[tuple[str, int], Model] = {}
        self.announcements = AsyncAnnouncements(backend)
        self.fences = AsyncFences(backend)

    async def query_model(self, spec: VectorSpec, name: str, version: int | None) -> tuple[Model, int | None]:
        """The model that encodes a query, and the recorded version: the one given, or else the index's.

        The newest and None where the index has none yet.
        Raises `ComponentNotFoundError`, and `ConfigurationError` where the index was made with another model.
        """
        if version is None:
            made = (await self._recorded([(spec, name)], {})).get(spec.name)
            if made is None:
                return await self.load(name, await self._first(spec, name)), None
            version = made.version
        return await self.load(name, version), version

    async def seen(self, spec: VectorSpec, name: str, session: AsyncClientSession | None) -> int | None:
        """The version by which the vectors were made that a search sees; `session` is its snapshot or transaction."""
        made = self._made.get(spec.name)
        if made is None or (session is not None and session.in_transaction) or not await self._holds(made):
            found = await self._read([spec.name], session)
            made = found.get(spec.name)
        return None if made is None else _check(spec, name, made).version

    async def load(self, name: str, version: int) -> Model:
        """A version of a model. One that is recorded as having made vectors is never replaced: it is looked up once."""
        model = self._models.get((name, version))
        if model is None:
            found = await self._components.load(Model.kind, name, version, hidden=True)
            assert isinstance(found, Model)
            model = found
            if any((made.model, made.version) == (name, version) for made in self._made.values()):
                self._models[name, version] = model
        return model

    async def newest(self, name: str) -> int:
        """The newest version of a model. Raises `ComponentNotFoundError`."""
        return (await self._components.record(Named(Model.kind, name))).version

    async def content(self, name: str, version: int) -> str:
        """What tells a version from another that had its number before. Raises `ComponentNotFoundError`."""
        return (await self._components.record(Named(Model.kind, name, version))).content

    async def _first(self, spec: VectorSpec, name: str) -> int:
        """The version for an index of which none is recorded: the newest.

        Raises `ConfigurationError` where documents have vectors that an older one may have made.
        """
        version = await self.newest(name)
        some = Find(spec.collection, {spec.path: {"$ne": None}}, {"_id": 1}, limit=1)
        if version == 0 or not await self._backend.read(some):
            return version
        made = (await self.read([spec.name])).get(spec.name)  # others may just have begun
        if made is None:
            raise ConfigurationError(
                f"which version of the model {name!r} made the vectors of {spec.name} is not recorded, and there are "
                f"{version + 1}; have all encoded anew by the newest: db.rebuild(..., reencode=True)",
                component=name,
            )
        return _check(spec, name, made).version

    async def _holds(self, made: RecordedModel) -> bool:
        """Whether what was read is still so: without transactions it may change without having been announced."""
        if made.switching or made.overdue or not (await self._backend.capabilities()).transactions:
            return False
        return time.monotonic() - made.at < LEASE

    def _tells(self, made: RecordedModel) -> bool:
        """Whether a transaction can look by itself whether what was read is still so."""
        return self.announcements.knows(made.token) and not (made.switching or made.overdue)

    async def _recorded(
        self, fields: Sequence[tuple[VectorSpec, str]], fences: Mapping[str, Fence], unlooked: bool = False
    ) -> dict[str, RecordedModel]:
        """What the vectors of each index are made with, by index; left out where there are none yet."""
        found: dict[str, RecordedModel] = {}
        unknown: list[str] = []
        for spec, name in fields:
            made, fence = self._made.get(spec.name), fences.get(spec.name)
            if made is not None and fence is not None and made.at < fence.at:
                made = None
            likely = unlooked and made is not None and made.model == name and self._tells(made)
            if made is not None and (likely or await self._holds(made)):
                found[spec.name] = made
            else:
                unknown.append(spec.name)
        if unknown:
            found |= await self.read(unknown)
        for spec, name in fields:
            if spec.name in found and not found[spec.name].switching:
                _check(spec, name, found[spec.name])
        return found

    async def read(self, indexes: Iterable[str]) -> dict[str, RecordedModel]:
        """What is recorded now."""
        token = await self.announcements.token()  # before the reading: what is announced meanwhile changes it
        read = await self._read(list(dict.fromkeys(indexes)), None)
        found = {index: evolve(made, token=token) for index, made in read.items()}
        before, now = _versions_of(self._made), _versions_of(found)
        self.fences.forget(index for index in found if index in before and before[index] != now[index])
        self._made |= found
        return found

    async def _read(self, indexes: Sequence[str], session: AsyncClientSession | None) -> dict[str, RecordedModel]:
        at, now = time.monotonic(), time.time()
        plan = Find(INDEXES, {"_id": {"$in": list(indexes)}})
        found: dict[str, RecordedModel] = {}
        for one in await self._backend.read(plan, session=session):
            until = one.get("switching")
            switching = until is not None and until > now
            found[one["_id"]] = RecordedModel(
                one["model"], one["version"], at, switching, until is not None and not switching
            )
        return found

    async def _record(self, spec: VectorSpec, name: str, version: int) -> int:
        """Record the version, unless somebody was quicker; the version recorded."""
        new: dict[str, Any] = {"kind": "index", "model": name, "version": version}
        op = UpdateOp(q={"_id": spec.name}, u={"$setOnInsert": new}, upsert=True)
        await self._backend.write(Update(INDEXES, [op]))
        return _check(spec, name, (await self.read([spec.name]))[spec.name]).version

    async def compute(
        self,
        needs: Sequence[Need],
        encoded: Encoded,
        progress: Progress | None = None,
        *,
        wait: bool = False,
        unlooked: bool = False,
    ) -> None:
        """Compute the vectors and put them into the objects, all or none; each model is asked once for a text.

        Where another version is about to come, `wait` for it: within a transaction it would be in conflict.
        With `unlooked`, versions that were read some time ago serve too: `look` is to follow, with the records.
        Raises `PredictionError`, `VectorError` naming class, key and field, and what `query_model` raises.
        """
        if not needs:
            return
        recorded, versions = await self._versions(needs, encoded, wait=wait, unlooked=unlooked)
        found: list[tuple[Need, list[Vector]]] = []
        try:
            for name, version in dict.fromkeys(versions):
                asked = [need for need, made in zip(needs, versions, strict=True) if made == (name, version)]
                found += await self.outputs(asked, version, encoded, progress)
        except SuperormError:
            if not (unlooked and await self._replaced(recorded)):
                raise
            await self.compute(needs, encoded, progress, wait=wait)
            return
        for need, vectors in found:
            put(need, vectors)
        late: list[Need] = []
        for need, (name, version) in zip(needs, versions, strict=True):
            made = recorded.get(need.spec.name)
            if made is None:
                if await self._record(need.spec, name, version) != version:
                    late.append(need)  # with the version of the process that was quicker
                else:
                    await self.load(name, version)  # which is kept from now on
                made = self._made[need.spec.name]
            encoded.made.setdefault(need.spec.name, made)
        await self.compute(late, encoded, progress, wait=wait)

    async def encode(self, needs: Sequence[Need], encoded: Encoded, progress: Progress | None = None) -> None:
        """Have the models encode as many texts as can be remembered, so that `compute` need not; raises as that."""
        needs = [need for need in needs if need.texts]
        if needs:
            _, versions = await self._versions(needs)
            for name, version in dict.fromkeys(versions):
                asked = [need for need, made in zip(needs, versions, strict=True) if made == (name, version)]
                known = await self._ask(asked, version, encoded, progress, ahead=True)
                for need in asked:
                    inputs = [text for text in inputs_of(need) if text in known]
                    as_vectors(need, inputs, [known[text] for text in inputs])

    async def _versions(
        self, needs: Sequence[Need], encoded: Encoded | None = None, *, wait: bool = False, unlooked: bool = False
    ) -> tuple[dict[str, RecordedModel], list[tuple[str, int]]]:
        """What is recorded of the indexes, since those who computed hold their fences; the model and version to ask."""
        need = needs[0]
        names = [one.spec.name for one in needs]
        fences = dict[str, Fence]() if encoded is None else encoded.fences
        try:
            if encoded is not None:
                await self.fences.take(fences, names)
            recorded = await self._recorded([((need := one).spec, one.model) for one in needs], fences, unlooked)
            while wait and any(made.switching for made in recorded.values()):
                fences.clear()  # they go with the switch
                await aio.sleep(_PAUSE)
                recorded = await self._recorded([(one.spec, one.model) for one in needs], fences)
                if encoded is not None and not any(made.switching for made in recorded.values()):
                    await self.fences.take(fences, names)
                    recorded = await self._recorded([(one.spec, one.model) for one in needs], fences)
            newest: dict[str, int] = {}
            for need in needs:
                if need.spec.name not in recorded and need.model not in newest:
                    newest[need.model] = await self._first(need.spec, need.model)
        except SuperormError as error:
            raise blame(need, (), error) from error
        made = [recorded.get(one.spec.name) for one in needs]
        pairs = zip(needs, made, strict=True)
        return recorded, [(one.model, newest[one.model] if of is None else of.version) for one, of in pairs]

    async def outputs(
        self, needs: Sequence[Need], version: int, encoded: Encoded, progress: Progress | None = None
    ) -> list[tuple[Need, list[Vector]]]:
        """The vectors of each need by one version of one model."""
        known = await self._ask(needs, version, encoded, progress)
        found: list[tuple[Need, list[Vector]]] = []
        for need in needs:
            inputs = inputs_of(need)
            if need.texts is None:
                outputs = await self._predict([need], version, inputs, progress)
            else:
                outputs = [known[text] for text in inputs]
            found.append((need, checked(need, inputs, outputs)))
        return found

    async def _ask(
        self,
        needs: Sequence[Need],
        version: int,
        encoded: Encoded,
        progress: Progress | None,
        *,
        ahead: bool = False,
    ) -> Mapping[str, Any]:
        """The outputs of one version of one model for the texts of the needs; `ahead` only for those that fit."""
        known = encoded.outputs(needs[0].model, version)
        asked = [need for need in needs if need.texts]
        inputs: Sequence[str] = in_batches({text for need in asked for text in need.texts or ()} - known.keys())
        dim = max((need.spec.dim for need in asked), default=0)
        if ahead:
            inputs = encoded.fitting(inputs, dim)
        if not inputs:
            return known
        outputs = dict(zip(inputs, await self._predict(asked, version, inputs, progress), strict=True))
        encoded.remember(needs[0].model, version, outputs, dim)
        return ChainMap(outputs, dict(known))

    async def _predict(
        self, needs: Sequence[Need], version: int, inputs: Sequence[Any], progress: Progress | None
    ) -> list[Any]:
        try:
            model = await self.load(needs[0].model, version)
        except SuperormError as error:
            raise blame(needs[0], (), error) from error
        try:
            return await aio.in_thread(model.predict, inputs, progress=progress)
        except PredictionError as error:
            at_fault = needs[0]
            if error.position is not None and at_fault.texts is not None:
                text = inputs[error.position]
                at_fault = next(need for need in needs if need.texts is not None and text in need.texts)
            raise blame(at_fault, inputs, error) from (error.__cause__ or error)

    async def look(self, encoded: Encoded) -> UpdateOp | None:
        """What the command that writes a transaction's records looks by, whether the versions are still in use.

        None where that cannot be told so, or is known.
        """
        told = [made for made in encoded.made.values() if not await self._holds(made) and self._tells(made)]
        return look(told[0].token) if told else None

    def found(self, encoded: Encoded, token: Any, at: float) -> None:
        """A look by that token matched: nothing was announced before `at`, when the transaction was begun."""
        for index, made in encoded.made.items():
            if made.token == token and made.at < at and not (made.switching or made.overdue):
                encoded.made[index] = now = evolve(made, at=at)
                if self._made.get(index) is made:
                    self._made[index] = now

    async def superseded(self, encoded: Encoded, token: Any) -> bool:
        """A look by that token did not match: whether one of the versions is not in use any more, or not for long."""
        self.announcements.forget(token)
        now = await self.read(encoded.made)
        if any(made.switching for made in now.values()) or _versions_of(now) != _versions_of(encoded.made):
            return True
        encoded.made = now
        return False

    async def _replaced(self, recorded: Mapping[str, RecordedModel]) -> bool:
        """Whether other versions are in use than those that were read some time ago."""
        old = {index: made for index, made in recorded.items() if not await self._holds(made)}
        return bool(old) and _versions_of(await self.read(old)) != _versions_of(old)

    async def confirm(self, encoded: Encoded, session: AsyncClientSession) -> None:
        """Before a transaction with computed vectors is committed: that they are of the versions still in use.

        Where another is about to come, or may have been announced while this was read slowly, or a fence was gone,
        that transaction and this one will be in conflict. Raises `StaleDocumentError`.
        """
        doubtful = {index: made for index, made in encoded.made.items() if encoded.lost or not await self._holds(made)}
        await self._confirm(doubtful, session, lost=encoded.lost)
        if unfenced := encoded.unfenced:
            done = await self._backend.write(Update(COLLECTION, passing(unfenced)), session=session)
            encoded.fenced.update(unfenced)
            if done.matched < len(unfenced):
                encoded.lost = True
                await self._confirm(encoded.made, session, lost=True)

    async def _confirm(self, doubtful: Mapping[str, RecordedModel], session: AsyncClientSession, *, lost: bool) -> None:
        now = await self.read(doubtful) if doubtful else {}
        for index, made in doubtful.items():
            found = now.get(index)
            if found is None or (found.model, found.version) != (made.model, made.version):
                raise StaleDocumentError(
                    f"all vectors of {index} were encoded anew, by another version of their model, "
                    "while this session computed some; roll back and do it again, as db.run() does"
                )
        for index in doubtful:
            if lost or not await self._holds(now[index]):
                change: dict[str, Any] = {"$inc": {"writers": 1}}
                if now[index].overdue:  # the announcement goes with this commit
                    change["$unset"] = {"switching": ""}
                op = UpdateOp(q={"_id": index}, u=change)
                await self._backend.write(Update(INDEXES, [op]), session=session)

    async def outdated(self, encoded: Encoded) -> bool:
        """After vectors were stored outside transactions: whether others took a version's place, which are used then.

        Waits for a version that is announced.
        """
        if not encoded.made:
            return False
        now = await self.read(encoded.made)
        while any(made.switching for made in now.values()):
            await aio.sleep(_PAUSE)
            now = await self.read(encoded.made)
        before, encoded.made = encoded.made, {}
        return _versions_of(before) != _versions_of(now)


def _versions_of(recorded: Mapping[str, RecordedModel]) -> dict[str, tuple[str, int]]:
    return {index: (made.model, made.version) for index, made in recorded.items()}


def _check(spec: VectorSpec, name: str, made: RecordedModel) -> RecordedModel:
    if made.model != name:
        raise ConfigurationError(
            f"{spec.name} holds vectors of the model {made.model!r}, but its class now names {name!r}; put them "
            "into a field of another name, or have all encoded anew: db.rebuild(..., reencode=True)",
            component=name,
        )
    return made
