"""The outputs of a listener, as a mapping."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from superorm._async.listeners import removed
from superorm._io.mappings import AsyncMapping
from superorm.codec.outputs import output_of
from superorm.compile.plan import Count, Find
from superorm.components.outputs import OUTPUTS, State, all_outputs, output_id
from superorm.schema.types.base import Misfit

if TYPE_CHECKING:
    from superorm._async.listener_computing import Heard
    from superorm._async.listeners import AsyncListeners

__all__ = ["AsyncOutputs"]


class AsyncOutputs(AsyncMapping):
    """A listener's output for each document that it listens to, by the document's key, as the database has them.

    Documents whose key field is None have none. Nothing is kept in memory: each output is read when it is asked for,
    and iterations are streamed, in no order.
    What is recorded as changed is computed first, so that the outputs are those of the documents.

    Raises `PredictionError`, and the errors of loading the model, where that fails;
    `ComponentNotFoundError` once the listener was removed.
    """

    def __init__(self, listeners: AsyncListeners, state: State) -> None:
        self._listeners = listeners
        self._backend = listeners.backend
        self._state = state

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of the {self._state.named}>"

    async def _current(self) -> Heard:
        state = await self._listeners.state(self._state.path.listener)
        if state is None:
            raise removed(self._state.named)
        await self._listeners.catch_up(state)
        return await self._listeners.load(state)

    async def __getitem__(self, key: Any) -> Any:
        """The output for a document. Raises `KeyError` where there is none."""
        type = (await self._current()).listened.mapping.key.type
        try:
            stored = type.to_bson(key)
        except Misfit:
            raise KeyError(key) from None
        plan = Find(OUTPUTS, {"_id": output_id(self._state.named, stored)})
        found = await self._backend.read(plan)
        if not found:
            raise KeyError(key)
        return output_of(found[0])

    async def count(self) -> int:
        """How many there are."""
        await self._current()
        return int((await self._backend.read(Count(OUTPUTS, await self._all())))[0]["n"])

    async def stream_keys(self) -> AsyncGenerator[Any]:
        """The documents' keys."""
        load = (await self._current()).listened.mapping.key.type.from_bson
        async with aclosing(self._backend.stream(Find(OUTPUTS, await self._all(), {"_id": 1}))) as parts:
            async for found in parts:
                for one in found:
                    yield load(one["_id"]["key"])

    async def stream(self) -> AsyncGenerator[tuple[Any, Any]]:
        """The documents' keys, each with the output."""
        load = (await self._current()).listened.mapping.key.type.from_bson
        async with aclosing(self._backend.stream(Find(OUTPUTS, await self._all()))) as parts:
            async for found in parts:
                for one in found:
                    yield load(one["_id"]["key"]), output_of(one)

    async def _all(self) -> dict[str, Any]:
        return all_outputs(self._state.named, (await self._backend.capabilities()).backend)
