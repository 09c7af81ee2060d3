"""The vector indexes of a DB: kept equal to the documents, and searched."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from attrs import evolve, frozen

from superorm._async.vector_ahead import AsyncAhead
from superorm._async.vector_background import AsyncVectorBackground
from superorm._async.vector_fences import all_fences
from superorm._async.vector_listing import AsyncMatchingLists, Listing
from superorm._async.vector_quick import asked_of_memory, quick_search
from superorm._async.vector_records import AsyncVectorRecords
from superorm._async.vector_registered import AsyncRegisteredIndexes
from superorm._async.vector_search import AsyncVectorSearch
from superorm._async.vector_server_indexes import AsyncServerIndexes
from superorm._async.vector_stage import as_moved
from superorm._async.vector_view import AsyncVectorCopies
from superorm._io.progress import Progress
from superorm.codec.keys import decode_key
from superorm.exc import SuperormError
from superorm.protocols.reports import CreateReport
from superorm.schema.vector_spec import MirroredPath, VectorPath, VectorSpec
from superorm.unitofwork.writes import Delete, Insert, Update, UpdateOp, Write
from superorm.vectors.errors import EngineBusy, VersionLost
from superorm.vectors.handing import Handed
from superorm.vectors.owner import is_dead, open_here, owner
from superorm.vectors.records import COLLECTION, Look, Need, need_of, new_records
from superorm.vectors.request import Hits, Problem, SearchRequest

if TYPE_CHECKING:
    from bson import ObjectId
    from pymongo.asynchronous.client_session import AsyncClientSession

    from superorm.protocols._async.parts import AsyncDataBackend
    from superorm.vectors._async.protocol import AsyncVectorDatabase

__all__ = ["AsyncVectorIndexes"]

_log = logging.getLogger("superorm.vectors")

_PATIENCE = 2.0
"""Seconds that a search waits for another applier before it ranks what is pending itself."""
_ATTEMPTS = 4

T = TypeVar("T")


@frozen
class _Done(Generic[T]):
    """What a search gave."""

    result: T


class AsyncVectorIndexes:
    """Keeps the copies of one vector database equal to the documents of one data backend, and searches them."""

    def __init__(
        self, backend: AsyncDataBackend, engine: AsyncVectorDatabase, progress: Progress | bool | None = None
    ) -> None:
        self.backend = backend
        self.records_of = AsyncVectorRecords(backend)
        engine.serve(backend)
        self.copies = _copies(backend, engine, progress)
        self._engine = engine
        self._kind = engine.kind
        self._lists = AsyncMatchingLists(self.copies)
        self._served = AsyncServerIndexes(backend)
        self._ensured: set[VectorSpec] = set()
        self._mirrored: dict[str, set[str]] = {}
        """The paths that the indexes used here hold, by what any class names."""
        self._background = AsyncVectorBackground(self.copies, self.records_of, self.ensure)
        self._registered = AsyncRegisteredIndexes(backend, self._background.let_go)

    @property
    def lag(self) -> float | None:
        """Seconds after which the engine sees the documents by itself; None where it is brought to them."""
        return self._engine.lag

    async def open(self) -> None:
        """Raise ``ConfigurationError`` where the vector database is one that the server has not."""
        await self._engine.check_server()

    async def ensure(self, spec: VectorSpec) -> None:
        """Have the engine know the index: its state registered, and its copy there or built from the documents.

        Raises ``ConfigurationError`` where the vector database cannot be used.
        """
        if spec not in self._ensured or not self._mirrored.get(spec.name, set()).issuperset(spec.paths):
            await self.create(spec)

    async def create(self, spec: VectorSpec) -> CreateReport:
        """The same, and a look whether it is still so; what was made in the database, and what differs there."""
        self._mirrored.setdefault(spec.name, set()).update(spec.paths)
        report = await self.copies.ensure(spec)
        self._ensured.add(spec)
        if await self.copies.due(spec):
            self._background.put_in_order(spec)
        return report

    async def others(self, collections: Iterable[str], known: Iterable[VectorSpec]) -> dict[str, list[VectorPath]]:
        """The indexes of each collection besides those that are `known`, of other registries or programs.

        Listeners too.

        Of an index that is known to several classes, each names it; what it mirrors besides the fields that all of them
        name comes too.
        """
        registered = await self._registered.indexes()
        listeners = self._registered.listeners
        if not (registered or self._mirrored or listeners):
            return {}
        named: dict[str, set[str]] = {}
        for spec in known:
            named[spec.name] = named.get(spec.name, {*spec.paths}).intersection(spec.paths)
        ensured = {spec.name: spec for spec in self._ensured}
        found: dict[str, list[VectorPath]] = {collection: [] for collection in collections}
        for listener in listeners:
            if listener.collection in found:
                found[listener.collection].append(listener)
        for name in sorted(registered.keys() | self._mirrored.keys()):
            for collection, paths in found.items():
                if not name.startswith(f"{collection}."):
                    continue
                covered = named.get(name)
                if covered is None:
                    path = ensured.get(name) or VectorPath(collection, name.removeprefix(f"{collection}."))
                    paths.append(path)
                    covered = {*path.paths}
                more = {*registered.get(name, ()), *self._mirrored.get(name, ())} - covered
                paths += [MirroredPath(collection, one, name) for one in sorted(more)]
        return found

    def forget_registered(self) -> None:
        """A listener was registered or dropped here: ask again which there are."""
        self._registered.forget()

    def records(self, touched: Mapping[VectorPath, Sequence[Any]]) -> list[Insert]:
        """The records of a flush in a transaction, to be written last, by the ``_id`` values touched in each index."""
        self._background.note(touched)
        documents = [document for spec, keys in touched.items() for document in new_records(spec.name, keys)]
        return [Insert(COLLECTION, documents)] if documents else []

    @asynccontextmanager
    async def recording(self, touched: Mapping[VectorPath, Sequence[Any]]) -> AsyncGenerator[Sequence[ObjectId]]:
        """Around the writing of documents where there are no transactions: the records are open until it is done.

        It gives their ``_id``.

        They are marked done even when the writing fails: some of them, and of the documents, may have been written.
        """
        self._background.note(touched)
        name = owner()
        documents = [d for spec, keys in touched.items() for d in new_records(spec.name, keys, owner=name)]
        ids = [document["_id"] for document in documents]
        open_here.update(ids)
        try:
            try:
                if documents:
                    await self.backend.write(Insert(COLLECTION, documents))
                yield ids
            finally:
                await self._close_records(ids)
        finally:
            open_here.difference_update(ids)

    def handing(
        self, specs: Iterable[VectorSpec], records: Sequence[Insert], writes: Sequence[Write]
    ) -> list[tuple[VectorSpec, Handed]]:
        """Before a commit: what to give to `notify` after it, of the documents that its writes insert."""
        found: list[tuple[VectorSpec, Handed]] = []
        for spec in specs:
            own = [one for record in records for one in record.documents if one["i"] == spec.name]
            inserts = [one for one in writes if isinstance(one, Insert) and one.collection == spec.collection]
            handed = self.copies.handing(spec, own, [document for write in inserts for document in write.documents])
            found += [] if handed is None else [(spec, handed)]
        return found

    def ahead(self, handed: Iterable[tuple[VectorSpec, Handed]]) -> AsyncAhead | None:
        """Before a commit: have what its transaction inserts written meanwhile in the background, if that is much.

        It is published once the commit that it is `beside` has succeeded, and `notify` has the rest applied.
        """
        return self._background.ahead(handed)

    def notify(self, specs: Iterable[VectorSpec], handed: Iterable[tuple[VectorSpec, Handed]] = ()) -> None:
        """After a commit: have its records applied in the background soon, at once where documents are handed over.

        Those were inserted in its transaction.
        """
        self._background.notify(specs, handed)

    async def apply(self, spec: VectorSpec) -> None:
        """Apply all records of the index, now."""
        await self.ensure(spec)
        await self.copies.apply(spec)

    async def search(
        self,
        request: SearchRequest,
        finish: Callable[[Hits, AsyncClientSession | None], Awaitable[T]],
        *,
        session: AsyncClientSession | None = None,
    ) -> T:
        """Find the nearest documents and give them to `finish`, all in one snapshot.

        `session` is that of a transaction, whose snapshot is then searched.
        Without transactions, state and records are read again at the end, and all is repeated when they changed:
        `finish` must only read.
        """
        spec, index = request.spec, request.index
        if (
            index is not None
            and self.copies.resident(spec) is None
            and not await self._served.has(spec.collection, index)
        ):
            request = evolve(request, index=None)  # where it is declared only, the server would read all documents
        if session is not None:
            return await self._settle(request, finish, False, session)
        await self.ensure(request.spec)
        tried: set[Need | None] = {None}
        for _ in range(_ATTEMPTS):
            outcome = await self.records_of.in_snapshot(partial(self._attempt, request, finish, tried))
            if isinstance(outcome, _Done):
                return outcome.result
            if outcome is not None:
                tried.add(outcome)
                await self._mend(request.spec, outcome)
        return await self.records_of.in_snapshot(partial(self._settle, request, finish, True))

    async def _attempt(
        self,
        request: SearchRequest,
        finish: Callable[[Hits, AsyncClientSession | None], Awaitable[T]],
        tried: set[Need | None],
        session: AsyncClientSession | None,
    ) -> _Done[T] | Need | None:
        """One attempt of a search outside transactions: its result, or what to mend, or None: try again."""
        look: Look | None = None
        listing: Listing | None = None
        copy = None if session is None else self.copies.resident(request.spec)
        pushed = None if copy is None else await asked_of_memory(self.copies, copy, request)
        if copy is not None and session is not None and request.filter is not None and pushed is None:
            listing = await self._lists.read(copy, request, session)
            look = listing.look
            if look.moving is not None:  # what was read with it has perhaps other vectors
                listing = None
        elif copy is not None and session is not None:
            quick, look = await quick_search(self.copies, self._kind, copy, request, session, pushed)
            if quick is not None:
                if look is not None and need_of(look) is not None:
                    self.notify([request.spec])
                return _Done(await finish(quick, session))
        view = await self.copies.view(request.spec, session, outside=True, look=look)
        if view.need == "apply soon":
            self.notify([request.spec])
        elif view.need not in tried:
            return view.need
        request = await as_moved(self.backend, request, view.look.moving, session)
        try:
            hits = await AsyncVectorSearch(self.backend, self._kind, view, request, session, listing).run()
        except VersionLost as error:
            _log.warning("%s", error)
            return "build"
        result = await finish(hits, session)
        if session is None:
            engine = await self.copies.engine()
            if await self.records_of.look(request.spec.name, engine, since=view.look.since) != view.look:
                return None
        return _Done(result)

    async def _settle(
        self,
        request: SearchRequest,
        finish: Callable[[Hits, AsyncClientSession | None], Awaitable[T]],
        documents_only: bool,
        session: AsyncClientSession | None,
    ) -> T:
        """A search that mends nothing: where the engine cannot answer, the documents are ranked."""
        view = await self.copies.view(request.spec, session, outside=False)
        request = await as_moved(self.backend, request, view.look.moving, session)
        search = AsyncVectorSearch(self.backend, self._kind, view, request, session)
        try:
            hits = await search.run(documents_only=documents_only)
        except VersionLost:
            hits = await search.run(documents_only=True)
        return await finish(hits, session)

    async def rebuild(self, spec: VectorSpec, progress: Progress | None = None) -> None:
        """Build the index anew from the documents' vectors, beside writers."""
        self._mirrored.setdefault(spec.name, set()).update(spec.paths)
        await self.copies.rebuild(spec, progress)
        self._ensured.add(spec)

    async def drop(self, spec: VectorSpec) -> None:
        """Remove the index: what this engine has of it, and its states and records."""
        self._ensured.discard(spec)
        self._mirrored.pop(spec.name, None)
        self._background.forget(spec)
        await self.copies.drop(spec)
        await self.backend.write(Delete(COLLECTION, [{"i": spec.name}]))
        await self.backend.write(all_fences(spec.name))

    async def check(self, spec: VectorSpec) -> list[Problem]:
        """What is wrong with the index.

        Open records of processes that died are released, so that their keys are applied.
        """
        name, called = spec.name, spec.called
        problems = [
            Problem(called, "applier", message=f"the last run of the applier failed: {error}")
            for index, error in self._background.failed.items()
            if index == name
        ]
        if self._engine.lag is None:  # to make a search index, and to wait for it, is no check
            await self.ensure(spec)
        for record in (await self.records_of.look(name, await self.copies.engine())).records.values():
            if record.open and is_dead(record.id, record.owner):
                await self._close_records([record.id])
                died = "a process died while it wrote this document"
                problems += [Problem(called, "released", key, died) for key in record.keys]
        try:
            await self.copies.apply(spec)
            differences = await self.copies.differences(spec)
        except VersionLost as error:
            return [*problems, Problem(called, "unreadable", message=str(error))]
        return problems + [
            Problem(called, kind, decode_key(key), f"its vector in the engine is {kind}")
            for key, kind in sorted(differences.items())
        ]

    async def close(self) -> None:
        """Apply what is pending and stop the applier."""
        self._background.closing()
        await self._registered.close()
        await self._background.stop()

    async def _mend(self, spec: VectorSpec, need: Need) -> None:
        """Do what a search needs first; where records cannot be applied now, the search ranks their keys itself."""
        if need == "build":
            self._ensured.discard(spec)
            await self.ensure(spec)
            return
        try:
            await self.copies.apply(spec, patience=_PATIENCE)
        except EngineBusy as error:
            _log.info("%s", error)
        except (SuperormError, OSError) as error:
            self._background.fail(spec, error)

    async def _close_records(self, ids: Sequence[Any]) -> None:
        if ids:
            done = UpdateOp(q={"_id": {"$in": list(ids)}}, u={"$unset": {"open": "", "owner": ""}}, multi=True)
            await self.backend.write(Update(COLLECTION, [done]))


def _copies(backend: AsyncDataBackend, engine: Any, progress: Progress | bool | None) -> AsyncVectorCopies:
    """What keeps the copies of an engine, by its kind; of others than these it is versioned tables.

    The progress of loading one that is needed is reported.
    """
    match engine.kind:
        case "atlas":
            from superorm._async.vector_atlas import AsyncAtlasCopies

            return AsyncAtlasCopies(backend, engine)
        case "memory":
            from superorm._async.vector_memory import AsyncMemoryCopies

            return AsyncMemoryCopies(backend, engine, progress)
        case _:
            from superorm._async.vector_tables import AsyncTableCopies

            return AsyncTableCopies(backend, engine, progress)
