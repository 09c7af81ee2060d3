"""Computing outputs of a listener, and publishing them beside others who do."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from attrs import define, field

from superorm._io import aio
from superorm.backends.errors import has_error_label
from superorm.codec.keys import encode_key
from superorm.compile.plan import Find
from superorm.components.base import Named
from superorm.components.listened import Source
from superorm.components.listener import Listener
from superorm.components.model import Model
from superorm.components.outputs import OUTPUTS, State, all_outputs, among, output_id, stored_output
from superorm.exc import BackendError, DuplicateKeyError, PredictionError, SuperormError
from superorm.protocols._async.parts import AsyncDataBackend
from superorm.unitofwork.encode import key_batches
from superorm.unitofwork.writes import Delete, Insert, Update, UpdateOp, Write
from superorm.vectors.records import COLLECTION, new_records

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

__all__ = ["BATCH", "PATIENCE", "AsyncComputing", "Difference"]

BATCH = 1_000
"""How many documents are read, and outputs published, at once."""
PATIENCE = 90.0
"""Seconds for which a publication is tried where others publish: after 60 the server ends what a dead one began."""


class _Moved(Exception):
    """Somebody else published outputs meanwhile."""


@define
class Difference:
    """What is to be published for some documents."""

    computed: list[Source] = field(factory=list[Source])
    gone: list[Any] = field(factory=list[Any])
    """The keys of outputs without a document."""


class AsyncComputing:
    """Computes outputs from documents as they are stored, and publishes them unless others have published since."""

    def __init__(self, backend: AsyncDataBackend) -> None:
        self._backend = backend

    async def publish_first(self, state: State, listener: Listener, n: int, found: Sequence[Mapping[str, Any]]) -> bool:
        """Publish the outputs of documents none of which has one; False where somebody else has published since."""
        documents, flat = await self.outputs(state.named, listener, listener.listened.sources(found), {})
        try:
            await self._publish(state, n, [Insert(OUTPUTS, documents, shallow=flat)])
        except (_Moved, DuplicateKeyError):
            return False
        except BackendError as error:
            if not has_error_label(error, "TransientTransactionError"):
                raise
            return False
        return True

    async def compute(
        self,
        state: State,
        listener: Listener,
        keys: Sequence[Any],
        records: Sequence[Any] = (),
        patience: float = PATIENCE,
    ) -> None:
        """Bring the outputs of these documents up to date; then the records are removed.

        Nothing is written over what somebody else publishes from later documents: who has read before begins again.
        Without transactions that is so as the documents are read again after the outputs are written, and the records
        stay until these agree.
        """
        parts = list(key_batches(keys, BATCH))
        for part in parts:
            last = part is parts[-1]
            await self._compute_part(state, listener, part, records if last else (), patience)

    async def _compute_part(
        self, state: State, listener: Listener, keys: Sequence[Any], records: Sequence[Any], patience: float
    ) -> None:
        id, named = state.path.listener, state.named
        transactions = (await self._backend.capabilities()).transactions
        known: dict[bytes, tuple[dict[str, Any], bool]] = {}
        cleared = [Delete(COLLECTION, [{"_id": {"$in": list(records)}}])] if records else []
        attempt, deadline = 0, time.monotonic() + patience
        while not attempt or time.monotonic() < deadline:
            attempt += 1
            async with self.moment() as session:
                now = await self.state(id, session)
                if now is None:
                    return
                difference = await self.difference(named, listener, keys, session)
            different = bool(difference.computed or difference.gone)
            writes: list[Write] = []
            if different:
                if not transactions:  # before them, as this may end between, and after them, as others may be quick
                    writes += _told(now, difference)
                documents, _ = await self.outputs(named, listener, difference.computed, known)
                if documents:
                    ops = [UpdateOp(q={"_id": one["_id"]}, u=_put(one), upsert=True) for one in documents]
                    writes.append(Update(OUTPUTS, ops))
                if difference.gone:
                    writes.append(Delete(OUTPUTS, [among(named, difference.gone)]))
                writes += _told(now, difference)
            if transactions or not different:
                writes += cleared
            if not writes:
                return
            try:
                await self._publish(state, now.n, writes)
            except _Moved:
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
        self, named: Named, listener: Listener, keys: Sequence[Any], session: AsyncClientSession | None
    ) -> Difference:
        """Which outputs are not those of the documents."""
        sources = listener.listened.sources(
            await self._backend.read(listener.listened.find_among(keys), session=session)
        )
        outputs = await self._backend.read(Find(OUTPUTS, among(named, keys), {"source": 1}), session=session)
        stored = {encode_key(one["_id"]["key"]): one["source"] for one in outputs}
        wanted = {encode_key(source.key) for source in sources}
        return Difference(
            [source for source in sources if stored.get(encode_key(source.key)) != source.hash],
            [one["_id"]["key"] for one in outputs if encode_key(one["_id"]["key"]) not in wanted],
        )

    async def outputs(
        self,
        named: Named,
        listener: Listener,
        sources: Sequence[Source],
        known: dict[bytes, tuple[dict[str, Any], bool]],
    ) -> tuple[list[dict[str, Any]], bool]:
        """What is stored of the outputs, and whether all are flat; the model is asked for those that are not `known`.

        Raises `PredictionError`.
        """
        model = listener.model
        assert isinstance(model, Model)
        asked = [source for source in sources if source.hash not in known]
        if asked:
            try:
                given = await aio.in_thread(model.predict, [source.value for source in asked])
            except PredictionError as error:
                where = (
                    ""
                    if error.position is None
                    else f" for {listener.listened.mapping.name} {asked[error.position].key!r}"
                )
                raise PredictionError(
                    f"the {named} has no output{where}: {error}", position=error.position, component=named.name
                ) from (error.__cause__ or error)
            for source, output in zip(asked, given, strict=True):
                known[source.hash] = stored_output(named, source.key, output)
        documents = [
            {"_id": output_id(named, source.key), "source": source.hash, **known[source.hash][0]} for source in sources
        ]
        return documents, all(known[source.hash][1] for source in sources)

    async def _publish(self, state: State, n: int, writes: Sequence[Write]) -> None:
        """Write the outputs, unless somebody has published since `n` was read. Raises `_Moved`."""
        id = state.path.listener
        step = Update(COLLECTION, [UpdateOp(q={"_id": id, "n": n}, u={"$inc": {"n": 1}})])
        capabilities = await self._backend.capabilities()
        if not capabilities.transactions:
            if (await self._backend.write(step)).matched != 1:
                raise _Moved
            for write in writes:
                await self._backend.write(write)
            if await self.state(id) is None:  # removed meanwhile, by somebody who did not see these
                await self._backend.write(Delete(OUTPUTS, [all_outputs(state.named, capabilities.backend)]))
            return
        async with self._backend.transaction() as session:
            if (await self._backend.write(step, session=session)).matched != 1:
                raise _Moved
            for write in writes:
                await self._backend.write(write, session=session)

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


def _told(state: State, difference: Difference) -> list[Write]:
    """The records for the listeners to these outputs."""
    keys = [*(source.key for source in difference.computed), *difference.gone]
    records = [one for listener in state.chained for one in new_records(listener, keys)]
    return [Insert(COLLECTION, records)] if records else []


def _put(document: Mapping[str, Any]) -> dict[str, Any]:
    sets = {name: value for name, value in document.items() if name != "_id"}
    return {"$set": sets} if "form" in sets else {"$set": sets, "$unset": {"form": ""}}
