"""The models of computed vector fields: which version made the vectors of an index."""

from __future__ import annotations

from typing import Any

from superorm._async.components import AsyncComponents
from superorm._io import aio
from superorm._io.progress import Progress
from superorm.compile.plan import Find
from superorm.components.model import Model
from superorm.exc import ConfigurationError, PredictionError, SuperormError
from superorm.protocols._async.parts import AsyncDataBackend
from superorm.schema.vector_spec import VectorSpec
from superorm.unitofwork.computed import Need, accept, blame, inputs_of
from superorm.unitofwork.writes import Update, UpdateOp

__all__ = ["AsyncVectorModels"]

_COLLECTION = "_superorm_records"


class AsyncVectorModels:
    """Searches and writes of an index keep the version of the model that its first vectors were made with.

    It is recorded in a document ``{_id: index, kind: "index", model, version}`` beside the index's other records,
    once vectors were made that the index can hold.
    """

    def __init__(self, backend: AsyncDataBackend, components: AsyncComponents) -> None:
        self._backend = backend
        self._components = components
        self._versions: dict[str, tuple[str, int]] = {}
        self._models: dict[tuple[str, int], Model] = {}

    async def model(self, spec: VectorSpec, name: str) -> Model:
        """The model of a field, in the index's version; the newest where the index has none yet.

        Raises `ComponentNotFoundError`, and `ConfigurationError` where the index was made with another model.
        """
        version = await self._recorded(spec, name)
        if version is None:
            return await self._components.load(Model.kind, name)
        return await self._load(name, version)

    async def _load(self, name: str, version: int) -> Model:
        """A version of a model, which never changes: so it is looked up once."""
        model = self._models.get((name, version))
        if model is None:
            model = self._models[name, version] = await self._components.load(Model.kind, name, version)
        return model

    async def _recorded(self, spec: VectorSpec, name: str) -> int | None:
        """The version that the index's vectors are made with; None where there is none yet."""
        if spec.name not in self._versions:
            found = await self._backend.read(Find(_COLLECTION, {"_id": spec.name}))
            if not found:
                return None
            self._versions[spec.name] = found[0]["model"], found[0]["version"]
        model, version = self._versions[spec.name]
        if model != name:
            raise ConfigurationError(
                f"{spec.name} holds vectors of the model {model!r}, but its class now names {name!r}; "
                "put them into a field of another name",
                component=name,
            )
        return version

    async def _record(self, spec: VectorSpec, name: str, version: int) -> int | None:
        """Record the version, unless somebody was quicker; the version recorded."""
        new: dict[str, Any] = {"kind": "index", "model": name, "version": version}
        await self._backend.write(
            Update(_COLLECTION, [UpdateOp(q={"_id": spec.name}, u={"$setOnInsert": new}, upsert=True)])
        )
        return await self._recorded(spec, name)

    async def compute(self, need: Need, progress: Progress | None) -> None:
        """Compute the vectors and put them into the objects, all or none.

        Raises `PredictionError`, `VectorError` naming class, key and field, and what `model` raises.
        """
        try:
            recorded = await self._recorded(need.spec, need.model)
            version = recorded
            if version is None:
                version = (await self._components.record(Model.kind, need.model)).version
            model = await self._load(need.model, version)
        except SuperormError as error:
            raise blame(need, (), error) from error
        inputs = inputs_of(need)
        try:
            outputs = await aio.in_thread(model.predict, inputs, progress=progress)
        except PredictionError as error:
            raise blame(need, inputs, error) from (error.__cause__ or error)
        accept(need, inputs, outputs)
        if recorded is None and await self._record(need.spec, need.model, version) != version:
            await self.compute(need, progress)  # with the version of the process that was quicker
