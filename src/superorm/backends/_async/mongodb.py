"""A database on a MongoDB server."""

from __future__ import annotations

import copy
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

import bson
from attrs import frozen
from pymongo import DeleteMany, UpdateMany, UpdateOne
from pymongo.errors import BulkWriteError, OperationFailure
from pymongo.errors import DuplicateKeyError as PyMongoDuplicateKeyError

from superorm._io import aio
from superorm.backends._async.transactions import AsyncMongoTransaction, AsyncServerSessions, end
from superorm.backends.errors import key_in, reading, unique_index_error, writing
from superorm.compile.plan import Aggregate, Count
from superorm.exc import UnsupportedError, ValidationError, WriteError
from superorm.protocols.capabilities import Capabilities
from superorm.protocols.concerns import DEFAULTS, Concerns
from superorm.unitofwork.encode import (
    CODEC_OPTIONS,
    NAIVE_OPTIONS,
    REFUSALS,
    encode_documents,
    encode_operations,
    probable_batches,
)
from superorm.unitofwork.writes import Delete, Insert, Update, WriteResult

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession
    from pymongo.asynchronous.command_cursor import AsyncCommandCursor
    from pymongo.asynchronous.cursor import AsyncCursor
    from pymongo.asynchronous.mongo_client import AsyncMongoClient

    from superorm.compile.plan import Find, Read
    from superorm.protocols._async.parts import AsyncDataBackend
    from superorm.unitofwork.encode import Encoded
    from superorm.unitofwork.writes import UpdateOp, Write

__all__ = ["AsyncMongoDatabackend", "AsyncMongoMetaDataStore"]

_NAMESPACE_EXISTS = 48
_SNAPSHOT_WIRE_VERSION = 13
_ALL = 1_000_000
"""The size of a batch as large as a reply may be: by itself a server's first reply holds but 101 documents."""
_DURABLE: Mapping[str, Any] = {"writeConcern": {"w": "majority"}}


@frozen
class _Server:
    """What the server said of itself."""

    capabilities: Capabilities
    snapshots: bool


class AsyncMongoDatabackend:
    """A database on a MongoDB server: standalone, replica set, sharded cluster or Atlas.

    Reads go to the primary with read concern ``local``, so they see every acknowledged write;
    writes wait for the majority; `with_concerns` gives the same database with others.
    The client's own settings for these, for time zones and for UUIDs do not matter.
    `lost` is called when the connection is lost, and may raise an error that says why.
    """

    def __init__(
        self,
        client: AsyncMongoClient[dict[str, Any]],
        name: str,
        *,
        owns_client: bool = False,
        lost: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self.client = client
        self._owns_client = owns_client
        self._lost = lost
        self._server: _Server | None = None
        self._cursors: WeakKeyDictionary[AsyncClientSession, WeakSet[Any]] = WeakKeyDictionary()
        """Those that are open in each transaction."""
        self._sessions = AsyncServerSessions(client)
        self._use(DEFAULTS)

    def _use(self, concerns: Concerns) -> None:
        self._db = self.client.get_database(self.name, codec_options=CODEC_OPTIONS, **concerns.collection_options)
        self._transaction = concerns.transaction_options

    def with_concerns(self, concerns: Concerns) -> AsyncMongoDatabackend:
        """The same database on the same client, read and written in this way."""
        if concerns == DEFAULTS:
            return self
        other = copy.copy(self)
        other._owns_client = False
        other._use(concerns)
        return other

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r})"

    async def capabilities(self) -> Capabilities:
        """What the server can do: transactions and change streams need a replica set or a sharded cluster."""
        return (await self._ask_server()).capabilities

    async def _ask_server(self) -> _Server:
        if self._server is None:
            with reading(self.name, lost=self._lost):
                hello = await self.client.admin.command("hello")
            clustered = "setName" in hello or hello.get("msg") == "isdbgrid"
            self._server = _Server(
                Capabilities("mongodb", transactions=clustered, change_streams=clustered, one_event_loop=True),
                snapshots=clustered and hello["maxWireVersion"] >= _SNAPSHOT_WIRE_VERSION,
            )
        return self._server

    async def read(self, plan: Read, *, session: AsyncClientSession | None = None) -> list[dict[str, Any]]:
        """All documents that the plan yields."""
        if session is not None and session.in_transaction:
            return await aio.shielded(self._read, plan, session)
        return await self._read(plan, session)

    async def _read(self, plan: Read, session: AsyncClientSession | None) -> list[dict[str, Any]]:
        with reading(self._namespace(plan.collection), lost=self._lost):
            if isinstance(plan, Count):
                limit = {"limit": plan.limit} if plan.limit else {}
                number = await self._db[plan.collection].count_documents(plan.filter, session=session, **limit)
                return [{"n": number}]
            cursor = await self._cursor(plan, session)
            return await cursor.to_list()

    async def stream(
        self, plan: Read, *, session: AsyncClientSession | None = None, batch_size: int = 1000
    ) -> AsyncGenerator[list[dict[str, Any]]]:
        """The same in batches."""
        if isinstance(plan, Count):
            yield await self.read(plan, session=session)
            return
        with reading(self._namespace(plan.collection), lost=self._lost):
            cursor = await self._cursor(plan, session, batch_size)
            try:
                if session is not None and session in self._cursors:
                    self._cursors[session].add(cursor)
                while batch := await cursor.to_list(batch_size):
                    yield batch
            finally:
                if not aio.collecting():  # then PyMongo closes it, a second later in a thread of its own
                    await cursor.close()

    async def _cursor(
        self, plan: Find | Aggregate, session: AsyncClientSession | None, batch_size: int = 0
    ) -> AsyncCursor[dict[str, Any]] | AsyncCommandCursor[dict[str, Any]]:
        collection = self._db[plan.collection]
        if isinstance(plan, Aggregate):
            return await collection.aggregate(plan.pipeline, session, batchSize=batch_size or plan.batch_size or _ALL)
        if plan.naive:
            collection = collection.with_options(codec_options=NAIVE_OPTIONS)
        return collection.find(
            plan.filter,
            plan.projection,
            plan.skip,
            plan.limit,
            sort=list(plan.sort) or None,
            batch_size=batch_size or _ALL,
            session=session,
        )

    async def explain(self, plan: Read) -> dict[str, Any]:
        """The server's own plan for a read: the answer of its ``explain``, at verbosity ``queryPlanner``."""
        command: dict[str, Any]
        if isinstance(plan, Aggregate):
            command = {"aggregate": plan.collection, "pipeline": plan.pipeline, "cursor": {}}
        elif isinstance(plan, Count):
            command = {"count": plan.collection, "query": plan.filter, "limit": plan.limit}
        else:
            command = {"find": plan.collection, "filter": plan.filter, "skip": plan.skip, "limit": plan.limit}
            command |= {"sort": dict(plan.sort), "projection": plan.projection or {}}
        with reading(self._namespace(plan.collection), lost=self._lost):
            return await self._db.command("explain", command, verbosity="queryPlanner", codec_options=CODEC_OPTIONS)

    async def write(self, write: Write, *, session: AsyncClientSession | None = None) -> WriteResult:
        """Carry out a write, in order, up to the first operation that the server refuses.

        A document that cannot be encoded is a ``ValidationError`` before anything is sent;
        inside a transaction, other documents may have been sent.
        There these are plain commands, outside retryable bulk writes.
        """
        if session is not None and session.in_transaction:
            # Where the session has been used before, `_unchecked` cannot tell whether the transaction has begun.
            if not isinstance(write, Delete) and write.shallow and not session.options.causal_consistency:
                return await aio.shielded(self._unchecked, write, session)
            return await aio.shielded(self._checked, write, session)
        encoded, key_of = _encode(write)
        with writing(self._namespace(write.collection), key_of, lost=self._lost):
            return await self._bulk(write, encoded, session) if encoded.documents else WriteResult(0)

    async def _checked(self, write: Write, session: AsyncClientSession) -> WriteResult:
        """Send what was encoded, and measured, before."""
        encoded, key_of = _encode(write)
        with writing(self._namespace(write.collection), key_of, lost=self._lost):
            return await self._command(write, encoded.batches(), session)

    async def _unchecked(self, write: Insert | Update, session: AsyncClientSession) -> WriteResult:
        """Leave the encoding to the commands: that takes half the time.

        Where PyMongo refuses a command, because it is too large or cannot be encoded, nothing of it has been sent.
        """
        done = WriteResult(0)
        parts = write.documents if isinstance(write, Insert) else _operations(write)
        for start, batch in probable_batches(parts):
            first = session.operation_time is None
            try:
                with writing(self._namespace(write.collection), _key_of(write, batch), lost=self._lost):
                    done += await self._command(write, [batch], session)
            except REFUSALS:
                if first:  # PyMongo takes the transaction for begun now, which the server does not know of
                    await session.abort_transaction()
                    await session.start_transaction(**self._transaction)
                done += await self._checked(write.part(start, start + len(batch)), session)
            except (ValidationError, WriteError):
                _encode(write.part(start, start + len(batch)))  # raises where a document is too large
                raise
        return done

    async def _command(
        self, write: Write, batches: Iterable[Sequence[Any]], session: AsyncClientSession
    ) -> WriteResult:
        """Send the documents or operations as plain commands, one a batch.

        A command does not raise for the operations that the server refused: they stand in its reply.
        """
        command, argument = _COMMANDS[type(write)]
        done = matched = modified = 0
        upserted: list[Any] = []
        for batch in batches:
            arguments: dict[str, Any] = {argument: batch}
            reply = await self._db.command(
                command, write.collection, session=session, codec_options=CODEC_OPTIONS, **arguments
            )
            if refused := reply.get("writeErrors"):
                raise BulkWriteError({**reply, "writeErrors": [{**refused[0], "index": done + refused[0]["index"]}]})
            done += len(batch)
            matched += reply["n"]
            modified += reply.get("nModified", 0)
            upserted += [one["_id"] for one in reply.get("upserted", ())]
        return WriteResult(matched, modified, tuple(upserted))

    async def _bulk(self, write: Write, encoded: Encoded, session: AsyncClientSession | None) -> WriteResult:
        collection = self._db[write.collection]
        if isinstance(write, Insert):
            await collection.insert_many(encoded.documents, session=session)
            return WriteResult(len(encoded.documents))
        requests: list[UpdateOne | UpdateMany | DeleteMany]
        if isinstance(write, Update):
            requests = [_request(op) for op in write.ops]
        else:
            requests = [DeleteMany(filter) for filter in write.filters]
        result = await collection.bulk_write(requests, session=session)
        matched = result.matched_count + result.upserted_count + result.deleted_count
        return WriteResult(matched, result.modified_count, tuple((result.upserted_ids or {}).values()))

    async def collection_names(self) -> set[str]:
        """The names of the database's collections."""
        with reading(self.name, lost=self._lost):
            return set(await self._db.list_collection_names())

    async def create_collection(self, name: str) -> None:
        """Make the collection unless it exists; any number of processes may do so at once."""
        with writing(self._namespace(name), lost=self._lost):
            try:
                await self._db.create_collection(name, check_exists=False)
            except OperationFailure as error:
                if error.code != _NAMESPACE_EXISTS:
                    raise

    async def drop_collection(self, name: str) -> None:
        """Remove the collection with all that is in it, where there is one."""
        with writing(self._namespace(name), lost=self._lost):
            await self._db.drop_collection(name)

    async def collection_options(self, name: str) -> dict[str, Any] | None:
        """The server's own description of the collection's options; None where there is no such collection."""
        with reading(self._namespace(name), lost=self._lost):
            cursor = await self._db.list_collections(filter={"name": name})
            found = await cursor.to_list()
        return _decoded(found[0]["options"]) if found else None

    async def modify_collection(self, name: str, options: Mapping[str, Any]) -> None:
        """Change options of the collection, such as its ``validator``."""
        with writing(self._namespace(name), lost=self._lost):
            await self._db.command("collMod", name, codec_options=CODEC_OPTIONS, **_DURABLE, **options)

    async def create_index(
        self, collection: str, keys: Sequence[tuple[str, int | str]], *, unique: bool = False, **options: Any
    ) -> str:
        """Make the index unless one with the same keys and options exists; its name.

        Raises ``WriteError`` where one exists with other options, ``DuplicateKeyError`` where documents break it.
        """
        name = str(options.pop("name", "_".join(f"{path}_{kind}" for path, kind in keys)))
        index: dict[str, Any] = {"key": dict(keys), "name": name, **options}
        if unique:
            index["unique"] = True
        timeout = {"maxTimeMS": index.pop("maxTimeMS")} if "maxTimeMS" in index else {}
        with writing(self._namespace(collection), lost=self._lost):
            try:
                await self._db.command(
                    "createIndexes", collection, indexes=[index], codec_options=CODEC_OPTIONS, **_DURABLE, **timeout
                )
            except PyMongoDuplicateKeyError as error:
                fields = ", ".join(path for path, _ in keys)
                values: dict[str, Any] = (error.details or {}).get("keyValue", {})
                raise unique_index_error(self._namespace(collection), fields, values) from error
        return name

    async def indexes(self, collection: str) -> list[dict[str, Any]]:
        """The server's own description of the collection's indexes; none where there is no such collection."""
        with reading(self._namespace(collection), lost=self._lost):
            cursor = await self._db[collection].list_indexes()
            return [_decoded(index) for index in await cursor.to_list()]

    def transaction(self, after: AsyncClientSession | None = None) -> AsyncMongoTransaction:
        """A transaction (snapshot reads, majority writes): committed at the end of the block, aborted on an exception.

        It sees what the session `after`, one of `causal`, has seen, and that one sees afterwards what was committed.
        Its commands, its commit and its abort are not cut off by a cancellation, which takes effect after each:
        a command still on its way would begin the transaction again after the abort.
        The commit is repeated while its result is unknown, for two minutes at most.
        Raises ``UnsupportedError`` on a standalone server.
        """
        return AsyncMongoTransaction(self, after)

    def causal(self) -> AbstractAsyncContextManager[AsyncClientSession]:
        """A session each of whose operations sees those before it, on whatever member of the cluster."""
        return self._sessions.one(causal_consistency=True)

    @asynccontextmanager
    async def snapshot(self) -> AsyncGenerator[AsyncClientSession]:
        """A session all of whose reads see one committed state.

        Raises ``UnsupportedError`` on a standalone server and on servers before 5.0.
        """
        if not (await self._ask_server()).snapshots:
            raise UnsupportedError(f"{self.name}: snapshot reads need a replica set or sharded cluster of MongoDB 5.0")
        async with self.client.start_session(snapshot=True) as session:
            yield session

    async def close(self) -> None:
        """Close the client, where it belongs to this object, and abort what is open: the server would wait a minute."""
        await self._sessions.end_forgotten()
        if not self._owns_client:
            return
        try:
            for open_session in self._cursors.keyrefs():
                await end(open_session())
            await self.client.close()
        except RuntimeError:  # the event loop of the connections is closed, and so are they
            await self.client.close()
        except BaseException:  # cut off while it told the server: the end of an event loop cancels all tasks
            await self.client.close()
            raise

    def _namespace(self, collection: str) -> str:
        return f"{self.name}.{collection}"


class AsyncMongoMetaDataStore(AsyncMongoDatabackend):
    """Where components, the blob registry and jobs are recorded, on a MongoDB server."""

    def shares_transactions_with(self, backend: AsyncDataBackend) -> bool:
        """Whether the backend's server sessions work here too: the same client."""
        return isinstance(backend, AsyncMongoDatabackend) and backend.client is self.client


_COMMANDS = {Insert: ("insert", "documents"), Update: ("update", "updates"), Delete: ("delete", "deletes")}


def _request(op: UpdateOp) -> UpdateOne | UpdateMany:
    kind = UpdateMany if op.get("multi") else UpdateOne
    return kind(op["q"], op["u"], op.get("upsert", False))


def _operations(write: Update | Delete) -> Sequence[Mapping[str, Any]]:
    """The elements of an ``update`` or ``delete`` command."""
    return [{"q": filter, "limit": 0} for filter in write.filters] if isinstance(write, Delete) else write.ops


def _key_of(write: Write, parts: Sequence[Mapping[str, Any]]) -> Callable[[int], Any]:
    """How to find the ``_id`` of the document, or operation, at an index."""
    if isinstance(write, Insert):
        return lambda index: parts[index].get("_id")
    return lambda index: key_in(parts[index]["q"])


def _encode(write: Write) -> tuple[Encoded, Callable[[int], Any]]:
    """What a write command holds, encoded, and how to find the ``_id`` of the operation at an index."""
    if isinstance(write, Insert):
        return encode_documents(write.documents), _key_of(write, write.documents)
    operations = _operations(write)
    return encode_operations(operations), _key_of(write, operations)


def _decoded(described: Mapping[str, Any]) -> dict[str, Any]:
    """What the server says of itself, which PyMongo decodes in its own way, with the types of documents."""
    return bson.decode(bson.encode(described), CODEC_OPTIONS)  # pyright: ignore[reportUnknownMemberType]
