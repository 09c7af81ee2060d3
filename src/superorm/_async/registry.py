"""What a DB offers of components: adding, showing, loading, replacing, removing them, and their outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar, overload

from attrs import evolve

from superorm._async.component_adding import AsyncAdding
from superorm._async.component_removal import AsyncRemoving
from superorm._async.components import AsyncComponents
from superorm._async.listener_adding import AsyncListenerAdding
from superorm._async.listeners import AsyncListeners
from superorm._async.outputs import AsyncOutputs
from superorm._async.query import AsyncQueries
from superorm._io import aio
from superorm._io.progress import Progress, reporting
from superorm.compile.compiler import CompiledSelect
from superorm.components.base import Component, Named
from superorm.components.dataset import Dataset
from superorm.components.family import family
from superorm.components.kinds import kind_named
from superorm.components.listener import Listener
from superorm.components.metric import Metric
from superorm.components.model import Model
from superorm.components.vector_index import VectorIndex
from superorm.exc import StatementError
from superorm.expr.statements import Select
from superorm.unitofwork.arguments import check_component, check_name

__all__ = ["AsyncRegistry"]

C = TypeVar("C", bound=Component)


class AsyncRegistry(ABC):
    """The part of `AsyncDB` that has to do with components."""

    components: AsyncComponents
    listeners: AsyncListeners
    queries: AsyncQueries
    _adding: AsyncAdding
    _removal: AsyncRemoving
    _listening: AsyncListenerAdding

    @abstractmethod
    async def open(self) -> object:
        """Open the parts."""

    @abstractmethod
    async def prepare(self) -> None:
        """Make superorm's own collections and indexes, once."""

    @abstractmethod
    def compiled(self, statement: object) -> CompiledSelect:
        """A select as the backend runs it."""

    async def add(self, component: C, *, progress: Progress | bool | None = None) -> C:
        """Store a component, with its artifact and its children, or nothing at all; the component with its version.

        Adding the same content twice is a no-op, other content under the same name is the next version.
        The number of a version that was removed is not given again.
        Raises `ArtifactSavingError` where its object cannot be stored, `ComponentNotFoundError` where it names
        a component that there is not.

        A `Model` with a trainer is trained before anything is written, in this process and with a `progress`: a thread
        calls that. Adding it again loads what was trained; `fit` trains anew. Raises `TrainingError`.

        Of a `Listener` the outputs for all documents are computed before this returns, with a `progress`;
        where that fails, with `PredictionError` for example, nothing of what was added stays.
        Of a `VectorIndex` all vectors are stored, and the vector database is brought to them.
        After an interruption another call goes on where the first one ended.
        """
        await self.prepare()
        with reporting(progress) as report:
            if not isinstance(component, Listener | VectorIndex):
                return await self._adding.store(component, progress=report)
            for one in family(component):
                if isinstance(one, Listener) and one.select is not None:
                    self.compiled(one.select)
            await self._listening.store(component, report)
        return component

    async def fit(self, name: str, version: int | None = None, *, progress: Progress | bool | None = None) -> Model:
        """Train a model that has a trainer anew, from what it was before, on the documents that there are now.

        That is its next version, rated with the same dataset; what was there before stays as it is.
        `version` says whose trainer it is, the newest one's where none is given.
        Raises `ComponentNotFoundError`, `ComponentError` for a model without a trainer, and as `add` does.
        """
        check_component("model", name, version)
        await self.prepare()
        with reporting(progress) as report:
            return await self._adding.fit(await self.components.record(Named(Model.kind, name, version)), report)

    async def outputs(self, name: str) -> AsyncOutputs:
        """The outputs of a listener by the documents' keys: of its newest version for which all were computed.

        Raises `ComponentNotFoundError`.
        """
        check_name(name, "name")
        await self.prepare()
        return AsyncOutputs(self.listeners, await self.listeners.named(name))

    async def replace(self, component: C, *, upsert: bool = False, progress: Progress | bool | None = None) -> C:
        """Put a component in the place of its version, by default the newest one, which keeps its number.

        Components that need it have the new one from then on; with `upsert` it is added where there is none.
        Raises `ComponentNotFoundError`, `ComponentInUseError` where vectors were made with it, for listeners and
        vector indexes, and as `add` does.
        """
        await self.prepare()
        with reporting(progress) as report:
            return await self._adding.store(
                component, replace=self._removal.check_replaceable, upsert=upsert, progress=report
            )

    async def remove(
        self, kind: str, name: str, version: int | None = None, *, force: bool = False, recursive: bool = False
    ) -> None:
        """Remove a component: one version, or all of them.

        With `recursive`, what only it needed goes too. Blobs that nothing refers to any more are removed by `gc`.
        By `force` one that is needed is hidden, with a warning: only those that need it have it still.
        Raises `ComponentNotFoundError`, and without `force` `ComponentInUseError`, which names who needs it.
        """
        check_component(kind, name, version)
        kind_named(kind)
        await self.prepare()
        await self._removal.remove(Named(kind, name, version), force=force, recursive=recursive)
        await self.listeners.sweep()

    @overload
    async def show(self, kind: str) -> list[str]: ...
    @overload
    async def show(self, kind: str, name: str) -> list[int]: ...
    @overload
    async def show(self, kind: str, name: str, version: int) -> dict[str, Any]: ...
    async def show(
        self, kind: str, name: str | None = None, version: int | None = None
    ) -> list[str] | list[int] | dict[str, Any]:
        """The names of the components of a kind; with a name its versions, oldest first; a version's record.

        Raises `ValueError` for a version without a name, `ComponentNotFoundError` for one that there is not,
        and `UnsupportedError` for a kind that there is not.
        """
        check_name(kind, "kind")
        kind_named(kind)
        if name is None and version is not None:
            raise ValueError(f"which {kind} is version {version} of? Give its name too")
        if name is None:
            await self.open()
            return await self.components.names(kind)
        check_component(kind, name, version)
        await self.open()
        if version is None:
            return await self.components.versions(kind, name)
        return (await self.components.record(Named(kind, name, version))).shown

    @overload
    async def load(self, kind: Literal["model"], name: str, version: int | None = None) -> Model: ...
    @overload
    async def load(self, kind: Literal["dataset"], name: str, version: int | None = None) -> Dataset: ...
    @overload
    async def load(self, kind: Literal["listener"], name: str, version: int | None = None) -> Listener: ...
    @overload
    async def load(self, kind: Literal["metric"], name: str, version: int | None = None) -> Metric: ...
    @overload
    async def load(self, kind: Literal["vector_index"], name: str, version: int | None = None) -> VectorIndex: ...
    @overload
    async def load(self, kind: str, name: str, version: int | None = None) -> Component: ...
    async def load(self, kind: str, name: str, version: int | None = None) -> Component:
        """A component, the newest version unless one is given.

        Raises `ComponentNotFoundError`, `UntrustedArtifactError`, `CorruptArtifactError`, `ArtifactNotFoundError`.
        """
        check_component(kind, name, version)
        await self.open()
        return await self.components.load(kind, name, version)

    async def _snapshot(self, select: Select[Any, Any]) -> Sequence[Mapping[str, Any]]:
        """The documents of a select of one class, as they are at one moment where the backend has that."""
        compiled = self.compiled(select)
        beside = compiled.outputs[0].extra  # what conditions on other collections looked up
        if (
            evolve(compiled, outputs=(evolve(compiled.outputs[0], extra=frozenset()), *compiled.outputs[1:])).whole
            is None
        ):
            raise StatementError(f"a dataset is made of whole documents of one class, which {select!r} does not give")
        found = (await self.queries.run_at_once(compiled)).documents
        return [{key: one[key] for key in one if key not in beside} for one in found] if beside else found

    async def predict(self, name: str, items: Sequence[Any]) -> list[Any]:
        """A model's output for each item. Raises `PredictionError`, and what `load` raises."""
        model = await self.load("model", name)
        return await aio.in_thread(model.predict, items)
