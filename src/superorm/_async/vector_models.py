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

    It is recorded in a document ``{_id: index, kind: "index", model, version}`` beside the index's other records.
    """

    def __init__(self, backend: AsyncDataBackend, components: AsyncComponents) -> None:
        self._backend = backend
        self._components = components
        self._versions: dict[str, tuple[str, int]] = {}

    async def model(self, spec: VectorSpec, name: str) -> Model:
        """The model of a field, in the index's version.

        Raises `ComponentNotFoundError`, and `ConfigurationError` where the index was made with another model.
        """
        if spec.name not in self._versions:
            self._versions[spec.name] = await self._recorded(spec, name)
        model, version = self._versions[spec.name]
        if model != name:
            raise ConfigurationError(
                f"{spec.name} holds vectors of the model {model!r}, but its class now names {name!r}; "
                "put them into a field of another name",
                component=name,
            )
        return await self._components.load(Model.kind, model, version)

    async def _recorded(self, spec: VectorSpec, name: str) -> tuple[str, int]:
        found = await self._backend.read(Find(_COLLECTION, {"_id": spec.name}))
        if not found:
            newest = await self._components.record(Model.kind, name)
            new: dict[str, Any] = {"kind": "index", "model": name, "version": newest.version}
            op = UpdateOp({"_id": spec.name}, {"$setOnInsert": new}, upsert=True)
            await self._backend.write(Update(_COLLECTION, [op]))
            found = await self._backend.read(Find(_COLLECTION, {"_id": spec.name}))
        return found[0]["model"], found[0]["version"]

    async def compute(self, need: Need, progress: Progress | None) -> None:
        """Compute the vectors and put them into the objects, all or none.

        Raises `PredictionError`, `VectorError` naming class, key and field, and what `model` raises.
        """
        try:
            model = await self.model(need.spec, need.model)
        except SuperormError as error:
            raise blame(need, (), error) from error
        inputs = inputs_of(need)
        try:
            outputs = await aio.in_thread(model.predict, inputs, progress=progress)
        except PredictionError as error:
            raise blame(need, inputs, error) from (error.__cause__ or error)
        accept(need, inputs, outputs)
