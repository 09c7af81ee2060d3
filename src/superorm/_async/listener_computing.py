"""Computing outputs of a listener, and publishing them beside others who do."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import define, field

from superorm._io import aio
from superorm.backends.errors import has_error_label
from superorm.codec.keys import encode_key
from superorm.compile.plan import Find
from superorm.components.base import Named
from superorm.components.kept import Kept, kept
from superorm.components.listened import Source
from superorm.components.listener import Listener
from superorm.components.model import Model
from superorm.components.outputs import State
from superorm.components.vector_index import VectorIndex
from superorm.exc import BackendError, PredictionError, SuperormError
from superorm.protocols._async.parts import AsyncDataBackend
from superorm.schema.vector_spec import VectorPath
from superorm.unitofwork.encode import key_batches
from superorm.unitofwork.writes import Delete, Insert, Update, UpdateOp, Write
from superorm.vectors.records import COLLECTION, new_records

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

    from superorm._async.vector_indexes import AsyncVectorIndexes

__all__ = ["BATCH", "PATIENCE", "AsyncComputing", "Difference", "Heard", "Moved", "predicted"]

Heard: TypeAlias = Listener | VectorIndex

BATCH = 1_000
"""How many documents are read, and outputs published, at once."""
PATIENCE = 90.0
"""Seconds for which a publication is tried where others publish: after 60 the server ends what a dead one began."""


class Moved(Exception):
    """Somebody else published outputs meanwhile."""


@define
class Difference:
    """What is to be published for some documents."""

    computed: list[Source] = field(factory=list[Source])
    damaged: list[Source] = field(factory=list[Source])
    """The sources of outputs that are there, but that another program changed."""
    gone: list[Any] = field(factory=list[Any])
    """The keys of outputs without a document."""

    @property
    def keys(self) -> list[Any]:
        """All keys."""
        return [*(source.key for source in self.sources), *self.gone]

    @property
    def sources(self) -> list[Source]:
        """Those that the model is to be asked for."""
        return [*self.computed, *self.damaged]


async def predicted(named: Named, listener: Heard, sources: Sequence[Source]) -> Sequence[Any]:
    """What the listener's model gives for each; a vector index takes them as they are. Raises `PredictionError`."""
    values = [source.value for source in sources]
    if isinstance(listener, VectorIndex):
        return values
    model = listener.model
    assert isinstance(model, Model)
    try:
        return await aio.in_thread(model.predict, values)
    except PredictionError as error:
        at = error.position
        where = "" if at is None else f" for {listener.listened.mapping.name} {sources[at].key!r}"
        raise PredictionError(
            f"the {named} has no output{where}: {error}", position=error.position, component=named.name
        ) from (error.__cause__ or error)


class AsyncComputing:
    """Computes outputs from documents as they are stored, and publishes them unless others have published since."""

    def __init__(self, backend: AsyncDataBackend, vectors: AsyncVectorIndexes) -> None:
        self._backend = backend
        self._vectors = vectors

    async def compute(
        self,
        state: State,
        listener: Heard,
        keys: Sequence[Any],
        records: Sequence[Any] = (),
        patience: float = PATIENCE,
        *,
        whole: bool = False,
    ) -> None:
        """Bring the outputs of these documents up to date; then the records are removed.

        With `whole` those too that another program damaged.

        Nothing is written over what somebody else publishes from later documents: who has read before begins again.
        Without transactions that is so as the documents are read again after the outputs are written, and the records
        stay until these agree; one of its own too, as others may clear the given ones before an earlier output comes.
        """
        parts = list(key_batches(keys, BATCH))
        for part in parts:
            last = part is parts[-1]
            await self._compute_part(state, listener, part, records if last else (), patience, whole)

    async def _compute_part(
        self,
        state: State,
        listener: Heard,
        keys: Sequence[Any],
        records: Sequence[Any],
        patience: float,
        whole: bool,
    ) -> None:
        id, named, place = state.path.listener, state.named, kept(state)
        transactions = (await self._backend.capabilities()).transactions
        known: dict[bytes, tuple[dict[str, Any], bool]] = {}
        done = list(records)
        attempt, deadline = 0, time.monotonic() + patience
        while not attempt or time.monotonic() < deadline:
            attempt += 1
            cleared = [Delete(COLLECTION, [{"_id": {"$in": done}}])] if done else []
            async with self.moment() as session:
                now = await self.state(id, session)
                if now is None:
                    for write in cleared:
                        await self._backend.write(write)
                    return
                difference = await self.difference(place, listener, keys, session, whole=whole)
            different = bool(difference.keys)
            writes: list[Write] = []
            if different:
                if not transactions:  # before them, as this may end between, and after them, as others may be quick
                    writes += _told(now, difference.keys)
                began = time.monotonic()
                documents, _ = await self.outputs(place, named, listener, difference.sources, known)
                deadline += time.monotonic() - began  # which others are not to blame for, and is not done again
                if documents:
                    ops = [UpdateOp(q={"_id": one["_id"]}, u=_put(one), upsert=True) for one in documents]
                    writes.append(Update(place.collection, ops))
                if difference.gone:
                    writes.append(Delete(place.collection, [place.among(difference.gone)]))
                writes += _told(now, difference.keys)
            if transactions or not different:
                writes += cleared
            if not writes:
                return
            unsure: dict[VectorPath, Sequence[Any]] = (
                {} if transactions or not different else {state.path: difference.keys}
            )
            try:
                async with self._vectors.recording(unsure) as left:
                    done += left
                    await self.publish(state, now.n, writes, difference.keys)
            except Moved:
                continue
            except SuperormError as error:
                if time.monotonic() > deadline or not has_error_label(error, "TransientTransactionError"):
                    raise
                await aio.sleep(random.random() * 0.01 * min(attempt, 10))
                continue
            if transactions or not different:
                return
        raise BackendError(f"others publish outputs of the {named} all the time; what is left is recorded")

    async def difference(
        self,
        place: Kept,
        listener: Heard,
        keys: Sequence[Any],
        session: AsyncClientSession | None,
        *,
        whole: bool = False,
    ) -> Difference:
        """Which outputs are not those of the documents; with `whole` also which are none any more."""
        sources = listener.listened.sources(
            await self._backend.read(listener.listened.find_among(keys), session=session)
        )
        there = Find(place.collection, place.among(keys), None if whole else {"source": 1})
        outputs = await self._backend.read(there, session=session)
        stored = {encode_key(place.key_of(one)): one for one in outputs}
        found, wanted = Difference(), set[str]()
        for source in sources:
            wanted.add(key := encode_key(source.key))
            one = stored.get(key)
            if one is None or one.get("source") != source.hash:
                found.computed.append(source)
            elif whole and not place.is_whole(one, source):
                found.damaged.append(source)
        found.gone += [place.key_of(one) for key, one in stored.items() if key not in wanted]
        return found

    async def outputs(
        self,
        place: Kept,
        named: Named,
        listener: Heard,
        sources: Sequence[Source],
        known: dict[bytes, tuple[dict[str, Any], bool]],
    ) -> tuple[list[dict[str, Any]], bool]:
        """What is stored of the outputs, and whether all are flat; the model is asked for those that are not `known`.

        Raises `PredictionError`.
        """
        asked = [source for source in sources if source.hash not in known]
        if asked:
            name = listener.listened.mapping.name
            given = await predicted(named, listener, asked)
            for source, output in zip(asked, given, strict=True):
                known[source.hash] = place.stored(name, source.key, output)
        documents = [
            {"_id": place.id_of(source.key), "source": source.hash, **known[source.hash][0]} for source in sources
        ]
        return documents, all(known[source.hash][1] for source in sources)

    async def insert(self, outputs: Insert) -> None:
        """Write outputs where there are none. Raises `DuplicateKeyError` where there are."""
        if outputs.documents:
            await self._backend.write(outputs)

    async def tell(self, id: str, keys: Sequence[Any]) -> None:
        """Record for who listens to the outputs of a listener that these were inserted."""
        now = await self.state(id)
        for write in () if now is None else _told(now, keys):
            await self._backend.write(write)

    async def publish(self, state: State, n: int, writes: Sequence[Write], keys: Sequence[Any]) -> None:
        """Write the outputs, unless somebody has published since `n` was read. Raises `Moved`.

        `keys` are those of the documents: where the outputs are indexed, it is recorded that they change.
        """
        id, place = state.path.listener, kept(state)
        touched: dict[VectorPath, Sequence[Any]] = {} if place.spec is None or not keys else {place.spec: keys}
        step = Update(COLLECTION, [UpdateOp(q={"_id": id, "n": n}, u={"$inc": {"n": 1}})])
        if not (await self._backend.capabilities()).transactions:
            if (await self._backend.write(step)).matched != 1:
                raise Moved
            async with self._vectors.recording(touched):
                for write in writes:
                    await self._backend.write(write)
            if await self.state(id) is None:  # removed meanwhile, by somebody who did not see these
                await self.forget(place)
        else:
            async with self._backend.transaction() as session:
                if (await self._backend.write(step, session=session)).matched != 1:
                    raise Moved
                for write in (*writes, *self._vectors.records(touched)):
                    await self._backend.write(write, session=session)
        if place.spec is not None and touched and state.filled:
            self._vectors.notify([place.spec])

    async def forget(self, place: Kept) -> None:
        """Remove all that is kept there."""
        if place.spec is not None:
            await self._backend.drop_collection(place.collection)
            return
        everything = place.everything((await self._backend.capabilities()).backend)
        await self._backend.write(Delete(place.collection, [everything]))

    async def state(self, id: str, session: AsyncClientSession | None = None) -> State | None:
        """The state of a listener; None where it was removed."""
        found = await self._backend.read(Find(COLLECTION, {"_id": id}), session=session)
        return State.of(found[0]) if found else None

    @asynccontextmanager
    async def moment(self) -> AsyncGenerator[AsyncClientSession | None]:
        """Reads of one committed state, where there are such."""
        if (await self._backend.capabilities()).transactions:
            async with self._backend.snapshot() as session:
                yield session
        else:
            yield None


def _told(state: State, keys: Sequence[Any]) -> list[Write]:
    """The records for the listeners to these outputs."""
    records = [one for listener in state.chained for one in new_records(listener, keys)]
    return [Insert(COLLECTION, records)] if records else []


def _put(document: Mapping[str, Any]) -> dict[str, Any]:
    sets = {name: value for name, value in document.items() if name != "_id"}
    return {"$set": sets} if "form" in sets else {"$set": sets, "$unset": {"form": ""}}
