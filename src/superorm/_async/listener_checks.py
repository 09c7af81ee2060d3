"""The check of outputs, and their repair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any

from attrs import frozen

from superorm._async.components import AsyncComponents
from superorm._async.listener_computing import BATCH
from superorm._async.listeners import AsyncListeners
from superorm._async.vector_indexes import AsyncVectorIndexes
from superorm._io.progress import Progress
from superorm.codec.keys import encode_key
from superorm.compile.plan import Find
from superorm.components.base import Named
from superorm.components.kept import kept
from superorm.components.listener import Listener
from superorm.components.outputs import State, state_id
from superorm.components.records import LIVE, REMOVED, ComponentRecord
from superorm.components.vector_index import VectorIndex
from superorm.exc import SuperormError
from superorm.vectors.records import COLLECTION

__all__ = ["AsyncListenerChecks"]

_THERE: dict[str, Any] = {"kind": {"$in": [Listener.kind, VectorIndex.kind]}, "state": {"$ne": REMOVED}}


@frozen
class AsyncListenerChecks:
    """Compares what is stored of outputs with the documents, in all versions of listeners and vector indexes."""

    components: AsyncComponents
    vectors: AsyncVectorIndexes
    listeners: AsyncListeners

    async def rebuild(self, name: str, progress: Progress | None) -> None:
        """Compute the outputs that are missing, damaged, or of other sources, in all versions of a name.

        All vectors of an index are compared with the outputs, and the vector database loads them anew.

        Raises `ComponentNotFoundError`, and as `AsyncListeners.catch_up` does.
        """
        records = await self.components.records({**_THERE, "name": name})
        if not records:
            await self.components.record(Named(VectorIndex.kind, name))  # raises
        for record in sorted(records, key=lambda one: one.id):
            state = await self.listeners.begin(record)
            await self.listeners.catch_up_before(state)
            await self.listeners.fill(state, progress, whole=True)
            await self.listeners.compute_recorded(state)
            if state.spec is not None:
                await self.vectors.rebuild(state.spec, progress)

    async def check(self) -> list[str]:
        """What is wrong with the outputs, once those are computed that are recorded to be."""
        problems: list[str] = []
        records = sorted(await self.components.records(_THERE), key=lambda one: one.id)
        found = await self.listeners.backend.read(Find(COLLECTION, {"_id": {"$gte": ""}, "kind": "listener"}))
        states = {one["_id"]: State.of(one) for one in found}
        for record in records:
            state = states.get(state_id(record.id))
            wrong = [_unfilled(record, records, states)] if state is None or not state.filled else await self._of(state)
            if wrong and await self.components.records({**_THERE, "_id": record.id}):  # else it was removed meanwhile
                problems += wrong
        return problems

    async def _of(self, state: State) -> list[str]:
        problems: list[str] = []
        try:
            await self.listeners.catch_up_before(state, fill=False)
            await self.listeners.compute_recorded(state)
        except Exception as error:  # noqa: BLE001 - told, whatever the model raises
            problems.append(f"{state.named}: its outputs could not be computed: {error}")
        try:
            problems += await self._differences(state)
            if state.spec is not None:
                problems += [str(problem) for problem in await self.vectors.check(state.spec)]
        except SuperormError as unreadable:
            problems.append(f"{state.named}: {unreadable}")
        return problems

    async def _differences(self, state: State) -> list[str]:
        id, listener, place = state.path.listener, await self.listeners.load(state), kept(state)
        backend, computing = self.listeners.backend, self.listeners.computing
        name = (await backend.capabilities()).backend
        recorded = Find(COLLECTION, {"i": id, "kind": "record"}, {"keys": 1})
        problems: list[str] = []
        stored = Find(place.collection, place.everything(name), {"_id": 1})
        for read in (listener.listened.find(name), stored):
            async with aclosing(backend.stream(read, batch_size=BATCH)) as parts:
                async for found in parts:
                    keys = [place.key_of(one) if read is stored else listener.listened.key_of(one) for one in found]
                    async with computing.moment() as session:
                        difference = await computing.difference(place, listener, keys, session, whole=True)
                        pending = await backend.read(recorded, session=session)
                    known = {encode_key(key) for one in pending for key in one["keys"]}
                    if read is stored:
                        wrong = [(key, "has no document") for key in difference.gone]
                    else:
                        wrong = [(one.key, "is not of the document") for one in difference.computed]
                        wrong += [(one.key, "was changed by another program") for one in difference.damaged]
                    problems += [
                        f"{state.named}: the output of {key!r} {what}"
                        for key, what in wrong
                        if encode_key(key) not in known
                    ]
        return problems


def _unfilled(record: ComponentRecord, records: Sequence[ComponentRecord], states: Mapping[str, State]) -> str:
    """What is said of a version that has not all outputs: who goes on with that, and which version is read."""
    same = [one for one in records if (one.kind, one.name, one.state) == (record.kind, record.name, LIVE)]
    filled = [one for one in same if (state := states.get(state_id(one.id))) is not None and state.filled]
    newest = max(filled or same, key=lambda one: one.version, default=None)
    if newest is record:
        how = "reading them goes on with that"
    else:
        meanwhile = "" if newest is None else f", and version {newest.version} is read meanwhile"
        how = f"db.rebuild({record.name!r}) goes on with that{meanwhile}"
    return f"{record.named}: not all outputs were computed yet; {how}"
