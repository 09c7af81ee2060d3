"""What is left of listeners and vector indexes that were removed."""

from __future__ import annotations

from typing import Any

from attrs import frozen
from bson import MaxKey

from superorm._async.components import AsyncComponents
from superorm._async.listener_computing import AsyncComputing
from superorm._async.vector_indexes import AsyncVectorIndexes
from superorm.compile.plan import Find
from superorm.components.base import Named
from superorm.components.kept import kept
from superorm.components.listener import Listener
from superorm.components.outputs import OUTPUTS, VECTOR, State, all_outputs, is_vectors, output_id, vectors_of
from superorm.components.records import REMOVED
from superorm.components.vector_index import VectorIndex
from superorm.protocols._async.parts import AsyncDataBackend
from superorm.schema.vector_spec import VectorSpec
from superorm.unitofwork.writes import Delete, Update, UpdateOp
from superorm.vectors.records import COLLECTION

__all__ = ["AsyncSweeping"]


@frozen
class AsyncSweeping:
    """Drops it, beside others who add, and who have not heard yet that something was removed."""

    backend: AsyncDataBackend
    components: AsyncComponents
    vectors: AsyncVectorIndexes
    computing: AsyncComputing

    async def is_there(self, named: Named) -> bool:
        """Whether a version was not removed; one that is hidden is there."""
        wanted = {"kind": named.kind, "name": named.name, "version": named.version, "state": {"$ne": REMOVED}}
        return bool(await self.components.records(wanted, limit=1))

    async def run(self) -> list[str]:
        """Drop outputs, records and states; the ``_id`` of these states."""
        dropped: list[str] = []
        for one in await self.backend.read(Find(COLLECTION, {"_id": {"$gte": ""}, "kind": "listener"})):
            state = State.of(one)
            if not await self.is_there(state.named):
                await self._drop(state)
                dropped.append(state.path.listener)
        await self._drop_late_vectors()
        await self._drop_late_outputs()
        return dropped

    async def _drop(self, state: State) -> None:
        id, place = state.path.listener, kept(state)
        told = UpdateOp(q={"chained": id}, u={"$pull": {"chained": id}, "$inc": {"n": 1}}, multi=True)
        await self.backend.write(Update(COLLECTION, [told]))
        if place.spec is not None:  # of which nothing tells once there is no state
            await self.vectors.drop(place.spec)
            await self.computing.forget(place)
        # Once there is no state, nobody publishes outputs any more
        await self.backend.write(Delete(COLLECTION, [{"_id": id}]))
        await self.backend.write(Delete(COLLECTION, [{"i": id}]))
        await self.computing.forget(place)
        self.vectors.forget_registered()

    # What was written meanwhile, by who had not heard of the removal: found before it is asked what was removed,
    # as who adds something stores the component first

    async def _drop_late_vectors(self) -> None:
        states = await self.backend.read(Find(COLLECTION, {"_id": {"$gte": ""}, "kind": "state"}, {"i": 1}))
        made = {*await self.backend.collection_names(), *(one["i"].rpartition(".")[0] for one in states)}
        indexes = await self.components.records({"kind": VectorIndex.kind, "state": {"$ne": REMOVED}})
        for collection in {*filter(is_vectors, made)} - {vectors_of(record.id) for record in indexes}:
            await self.vectors.drop(VectorSpec(collection, VECTOR, 1))
            await self.backend.drop_collection(collection)

    async def _drop_late_outputs(self) -> None:
        backend = (await self.backend.capabilities()).backend
        if backend == "mongomock":  # where whoever writes them removes them, as no process dies without the database
            return
        after: dict[str, Any] = {"listener": ""}
        while found := await self.backend.read(
            Find(OUTPUTS, {"_id": {"$gt": after}}, {"_id": 1}, [("_id", 1)], limit=1)
        ):
            id = found[0]["_id"]
            named = Named(Listener.kind, id["listener"], id["version"])
            if not await self.is_there(named):
                await self.backend.write(Delete(OUTPUTS, [all_outputs(named, backend)]))
            after = output_id(named, MaxKey())
