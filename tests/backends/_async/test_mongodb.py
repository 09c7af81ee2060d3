"""What only a real server has: transactions, snapshots, messages of limited size."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import nullcontext
from typing import Any
from uuid import uuid4

import bson
import pymongo
import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import AutoReconnect, OperationFailure
from pymongo.monitoring import CommandListener, CommandStartedEvent

from superorm.backends import errors
from superorm.backends._async import transactions
from superorm.backends._async.mongodb import AsyncMongoDatabackend, AsyncMongoMetaDataStore
from superorm.compile.plan import Aggregate, Count, Find
from superorm.exc import BackendError, DuplicateKeyError, SuperormError, UnsupportedError, ValidationError, WriteError
from superorm.unitofwork.writes import Delete, Insert, Update, UpdateOp, Write, WriteResult
from tests.databases import drop_database


class Commands(CommandListener):
    """The commands that were sent."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def started(self, event: CommandStartedEvent) -> None:
        self.sent.append(dict(event.command))

    def succeeded(self, event: Any) -> None: ...
    def failed(self, event: Any) -> None: ...


@pytest.fixture
def commands() -> Commands:
    return Commands()


@pytest_asyncio.fixture
async def client(mongodb_uri: str, commands: Commands) -> AsyncIterator[AsyncMongoClient[dict[str, Any]]]:
    """A client with settings that superorm must not depend on."""
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
        mongodb_uri, tz_aware=False, w=1, readPreference="secondaryPreferred", event_listeners=[commands]
    )
    yield client
    await client.close()


@pytest_asyncio.fixture
async def backend(mongodb_uri: str, client: AsyncMongoClient[dict[str, Any]]) -> AsyncIterator[AsyncMongoDatabackend]:
    backend = AsyncMongoDatabackend(client, f"superorm_test_{uuid4().hex}")
    await backend.create_collection("c")
    yield backend
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as plain:
        drop_database(plain, backend.name)


async def test_capabilities(backend: AsyncMongoDatabackend) -> None:
    """A replica set has transactions and change streams."""
    capabilities = await backend.capabilities()
    assert (True, True) == (capabilities.transactions, capabilities.change_streams)


async def test_concerns(backend: AsyncMongoDatabackend, commands: Commands) -> None:
    """Whatever the client's settings, writes wait for the majority and reads go to the primary."""
    await backend.write(Insert("c", [{"_id": 1}]))
    await backend.write(Update("c", [UpdateOp(q={"_id": 1}, u={"$set": {"a": 1}})]))
    await backend.create_index("c", [("a", 1)])
    await backend.read(Find("c"))
    for command in commands.sent:
        name = next(iter(command))
        if name in {"insert", "update", "create", "createIndexes"}:
            assert {"w": "majority"} == command["writeConcern"], name
        if name == "find":
            assert {"level": "local"} == command["readConcern"]
            # PyMongo sends primaryPreferred, not the client's choice, over a direct connection
            assert command.get("$readPreference", {}).get("mode", "primary") in ("primary", "primaryPreferred")


async def test_writes_outside_transactions_are_retryable(backend: AsyncMongoDatabackend, commands: Commands) -> None:
    """Inserts and updates of one document carry a transaction number, by which the server knows a repetition."""
    await backend.write(Insert("c", [{"_id": 1}]))
    await backend.write(Update("c", [UpdateOp(q={"_id": 1}, u={"$set": {"a": 1}})]))
    assert all("txnNumber" in command for command in commands.sent if next(iter(command)) in {"insert", "update"})


async def test_commit(backend: AsyncMongoDatabackend, client: AsyncMongoClient[dict[str, Any]]) -> None:
    """What was written is seen inside at once, outside after the block; counts are right."""
    async with backend.transaction() as session:
        assert WriteResult(3) == await backend.write(Insert("c", [{"_id": i} for i in range(3)]), session=session)
        updates = Update(
            "c", [UpdateOp(q={}, u={"$set": {"a": 1}}, multi=True), UpdateOp(q={"_id": 9}, u={}, upsert=True)]
        )
        assert WriteResult(4, 3, (9,)) == await backend.write(updates, session=session)
        assert WriteResult(1) == await backend.write(Delete("c", [{"_id": 0}]), session=session)
        assert [{"n": 3}] == await backend.read(Count("c"), session=session)
        assert [] == await client[backend.name]["c"].find().to_list()
    assert [1, 2, 9] == await client[backend.name]["c"].distinct("_id")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, asyncio.CancelledError])
async def test_abort(backend: AsyncMongoDatabackend, error: type[BaseException]) -> None:
    """Any exception in the block aborts, and comes out as it is."""
    with pytest.raises(error) as caught:  # noqa: PT012
        async with backend.transaction() as session:
            await backend.write(Insert("c", [{"_id": 1}]), session=session)
            raise error("reason")
    assert ("reason",) == caught.value.args
    assert not session.in_transaction
    assert [] == await backend.read(Find("c"))


async def test_a_failing_abort_masks_nothing(mongodb_uri: str) -> None:
    """The block's own exception comes out where the abort fails too."""
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongodb_uri)
    backend = AsyncMongoDatabackend(client, "superorm_test")
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with backend.transaction() as session:
            await backend.read(Find("c"), session=session)
            await client.close()
            raise ZeroDivisionError


async def test_refused_in_a_transaction(backend: AsyncMongoDatabackend) -> None:
    """A refused operation raises at once, with the document's key, and nothing of the transaction stays."""
    await backend.create_index("c", [("u", 1)], unique=True)
    await backend.write(Insert("c", [{"_id": 1, "u": 1}]))
    updates = [UpdateOp(q={"_id": 1}, u={"$set": {"u": 3}}), UpdateOp(q={"_id": 1}, u={"$inc": {"u.x": 1}})]
    cases: list[tuple[Write, type[SuperormError], int, str | None]] = [
        (Insert("c", [{"_id": 2, "u": 2}, {"_id": 3, "u": 1}]), DuplicateKeyError, 3, "u"),
        (Update("c", updates), WriteError, 1, None),
    ]
    for write, error, key, field in cases:
        with pytest.raises(error) as caught:  # noqa: PT012
            async with backend.transaction() as session:
                await backend.write(Insert("c", [{"_id": 8, "u": 8}]), session=session)
                await backend.write(write, session=session)
        assert (key, field) == (caught.value.key, caught.value.field)
    assert [{"_id": 1, "u": 1}] == await backend.read(Find("c"))


async def test_refused_in_a_later_message(backend: AsyncMongoDatabackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is found where the operations went out in several messages."""
    monkeypatch.setattr("superorm.unitofwork.encode.MAX_MESSAGE_OPERATIONS", 10)
    with pytest.raises(DuplicateKeyError) as caught:  # noqa: PT012
        async with backend.transaction() as session:
            documents = [{"_id": i, "n": i} for i in range(35)]
            await backend.write(Insert("c", [*documents, {"_id": 3, "n": 99}]), session=session)
    assert 3 == caught.value.key
    updates = Update("c", [UpdateOp(q={"_id": i}, u={"$set": {"n": 1}} if i < 27 else {"$bad": {}}) for i in range(35)])
    with pytest.raises(WriteError) as other:
        async with backend.transaction() as session:
            await backend.write(updates, session=session)
    assert 27 == other.value.key


async def test_large_transactions(backend: AsyncMongoDatabackend, commands: Commands) -> None:
    """More than a message holds goes out in several; a document that is too large is refused before."""
    large = "x" * 5_000_000
    async with backend.transaction() as session:
        await backend.write(Insert("c", [{"_id": i, "a": large} for i in range(5)]), session=session)
    assert [{"n": 5}] == await backend.read(Count("c"))
    assert [3, 2] == [len(command["documents"]) for command in commands.sent if "insert" in command]
    with pytest.raises(ValidationError, match="16 MiB"):
        async with backend.transaction() as session:
            await backend.write(Insert("c", [{"_id": 9, "a": large * 4}]), session=session)
    limit = (16 << 20) - len(bson.encode({"_id": 9, "a": ""}))
    async with backend.transaction() as session:
        await backend.write(Insert("c", [{"_id": 9, "a": "x" * limit}]), session=session)
        update = UpdateOp(q={"_id": 9, "b": None}, u={"$set": {"a": "y" * limit}})
        assert WriteResult(1, 1) == await backend.write(Update("c", [update]), session=session)


@pytest.mark.parametrize("before", [[], [{"_id": 0}]])
async def test_shallow_documents(
    backend: AsyncMongoDatabackend,
    commands: Commands,
    monkeypatch: pytest.MonkeyPatch,
    before: list[dict[str, Any]],
) -> None:
    """Documents that PyMongo encodes go out in as many commands as their size asks for, a misjudged one included."""
    large = [{"_id": i, "a": "x" * 5_000_000} for i in range(1, 6)]
    odd = [
        {"_id": i, "a": "x" * (17_000_000 // 60 if i % 2 else 1)} for i in range(10, 130)
    ]  # only even ones are looked at
    async with backend.transaction() as session:
        await backend.write(Insert("c", before), session=session)
        for documents in large, odd:
            write = Insert("c", documents, shallow=True)
            assert WriteResult(len(documents)) == await backend.write(write, session=session)
        with monkeypatch.context() as patch:
            patch.setattr("superorm.unitofwork.encode.MAX_MESSAGE_OPERATIONS", 10)
            many = Insert("c", [{"_id": i} for i in range(200, 235)], shallow=True)
            assert WriteResult(35) == await backend.write(many, session=session)
            assert WriteResult(0) == await backend.write(Insert("c", [], shallow=True), session=session)
    stored = await backend.read(Find("c", sort=[("_id", 1)]))
    assert [*before, *large, *odd, *many.documents] == stored
    sizes = [len(command["documents"]) for command in commands.sent if "insert" in command]
    assert [1] * (len(before) + 5) == sizes[: len(before) + 5]
    assert [10, 10, 10, 5] == sizes[-4:]


@pytest.mark.parametrize("value", ["\ud800", 2**63, object(), {1: 2}, "x" * (17 << 20), "x" * ((16 << 20) - 20)])
@pytest.mark.parametrize("position", [0, 1, 100])
async def test_shallow_documents_that_are_refused(backend: AsyncMongoDatabackend, value: Any, position: int) -> None:
    """What cannot be stored is the same error as outside a transaction, also in a transaction's first write."""
    documents: list[dict[str, Any]] = [{"_id": i} for i in range(position + 1)]
    documents[position]["a"] = value
    messages: list[str] = []
    for shallow in False, True:
        with pytest.raises(ValidationError) as caught:
            async with backend.transaction() as session:
                await backend.write(Insert("c", documents, shallow=shallow), session=session)
        assert (position, "a") == (caught.value.key, str(caught.value.field)[:1])
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert [] == await backend.read(Find("c"))


async def test_shallow_documents_with_one_key(backend: AsyncMongoDatabackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is found in whatever command it is."""
    monkeypatch.setattr("superorm.unitofwork.encode.MAX_MESSAGE_OPERATIONS", 10)
    with pytest.raises(DuplicateKeyError) as caught:
        async with backend.transaction() as session:
            await backend.write(Insert("c", [{"_id": i % 33} for i in range(35)], shallow=True), session=session)
    assert 0 == caught.value.key
    assert [] == await backend.read(Find("c"))


async def test_conflicts_are_labelled(backend: AsyncMongoDatabackend) -> None:
    """What a retry loop looks for is found on superorm's error."""
    await backend.write(Insert("c", [{"_id": 1}]))
    change = Update("c", [UpdateOp(q={"_id": 1}, u={"$inc": {"n": 1}})])
    with pytest.raises(WriteError) as caught:  # noqa: PT012
        async with backend.transaction() as first, backend.transaction() as second:
            await backend.write(change, session=first)
            await backend.write(change, session=second)
    assert errors.has_error_label(caught.value, "TransientTransactionError")
    assert not errors.has_error_label(caught.value, "NoSuchLabel")
    assert not errors.has_error_label(ValueError(), "TransientTransactionError")


async def test_snapshot_of_a_transaction(backend: AsyncMongoDatabackend) -> None:
    """A transaction reads one state, whatever is committed beside it."""
    await backend.write(Insert("c", [{"_id": 1, "n": 1}]))
    async with backend.transaction() as session:
        assert [{"_id": 1, "n": 1}] == await backend.read(Find("c"), session=session)
        await backend.write(Update("c", [UpdateOp(q={"_id": 1}, u={"$set": {"n": 2}})]))
        assert [{"_id": 1, "n": 1}] == await backend.read(Aggregate("c", []), session=session)


async def test_snapshot(backend: AsyncMongoDatabackend, client: AsyncMongoClient[dict[str, Any]]) -> None:
    """All reads of a snapshot see one state, of several collections, and every write acknowledged before."""
    await backend.write(Insert("c", [{"_id": 1}]))
    await backend.write(Insert("d", [{"_id": 1}]))
    async with backend.snapshot() as session:
        assert [{"_id": 1}] == await backend.read(Find("c"), session=session)
        majority = client[backend.name].with_options(write_concern=WriteConcern("majority"))
        await majority["d"].insert_one({"_id": 2})
        assert [{"_id": 1}] == await backend.read(Find("d"), session=session)
        assert [{"n": 1}] == await backend.read(Count("d"), session=session)
        assert [[{"_id": 1}]] == [batch async for batch in backend.stream(Aggregate("d", []), session=session)]
    assert [{"_id": 1}, {"_id": 2}] == await backend.read(Find("d"))


@pytest.mark.parametrize("plan", [Find("c"), Find("c", limit=250), Aggregate("c", [{"$sort": {"_id": 1}}])])
async def test_one_reply(
    backend: AsyncMongoDatabackend, commands: Commands, client: AsyncMongoClient[dict[str, Any]], plan: Find | Aggregate
) -> None:
    """What fits into one reply of the server is read by one command."""
    await client[backend.name].c.insert_many([{"_id": key} for key in range(300)])
    commands.sent.clear()
    found = await backend.read(plan)
    assert [one["_id"] for one in found] == list(range(250 if isinstance(plan, Find) and plan.limit else 300))
    assert [next(iter(command)) for command in commands.sent] == [type(plan).__name__.lower()]


async def test_several_replies(backend: AsyncMongoDatabackend, client: AsyncMongoClient[dict[str, Any]]) -> None:
    """More than 16 MiB are read in several."""
    await client[backend.name].c.insert_many([{"_id": key, "text": "x" * (3 << 20)} for key in range(7)])
    for plan in (Find("c"), Aggregate("c", [])):
        assert [(one["_id"], len(one["text"])) for one in await backend.read(plan)] == [
            (key, 3 << 20) for key in range(7)
        ]


async def test_what_a_transaction_refuses(backend: AsyncMongoDatabackend) -> None:
    """A stage that the server refuses inside transactions is an UnsupportedError."""
    with pytest.raises(UnsupportedError, match="transaction"):
        async with backend.transaction() as session:
            await backend.read(Aggregate("c", [{"$merge": {"into": "d"}}]), session=session)


@pytest.mark.parametrize("patience", [120, -1])
async def test_commit_is_repeated(
    backend: AsyncMongoDatabackend, monkeypatch: pytest.MonkeyPatch, patience: int
) -> None:
    """A commit whose result is unknown is repeated until it is known, or the time is up."""
    monkeypatch.setattr(transactions, "_COMMIT_SECONDS", patience)
    commit, calls = AsyncClientSession.commit_transaction, 0

    async def commit_transaction(self: AsyncClientSession) -> None:
        nonlocal calls
        calls += 1
        await commit(self)
        if calls < 3:
            raise AutoReconnect("lost", {"errorLabels": ["UnknownTransactionCommitResult"]})

    monkeypatch.setattr(AsyncClientSession, "commit_transaction", commit_transaction)
    with pytest.raises(BackendError, match="lost") if patience < 0 else nullcontext():
        async with backend.transaction() as session:
            await backend.write(Insert("c", [{"_id": 1}]), session=session)
    assert (3 if patience > 0 else 1) == calls
    assert [{"_id": 1}] == await backend.read(Find("c"))


async def test_a_refused_commit(backend: AsyncMongoDatabackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that the server refuses is a WriteError with PyMongo's labels."""

    async def commit_transaction(self: AsyncClientSession) -> None:
        raise OperationFailure("no", 112, {"errorLabels": ["TransientTransactionError"]})

    monkeypatch.setattr(AsyncClientSession, "commit_transaction", commit_transaction)
    with pytest.raises(WriteError, match="commit") as caught:
        async with backend.transaction() as session:
            await backend.write(Insert("c", [{"_id": 1}]), session=session)
    assert errors.has_error_label(caught.value, "TransientTransactionError")


async def test_explain(backend: AsyncMongoDatabackend) -> None:
    """The server's plan tells which index it would use."""
    await backend.create_index("c", [("a", 1)])
    for plan in Find("c", {"a": 1}), Count("c", {"a": 1}), Aggregate("c", [{"$match": {"a": 1}}]):
        assert "a_1" in str(await backend.explain(plan))
    assert "COLLSCAN" in str(await backend.explain(Find("c", {"b": 1}, {"b": 1}, sort=[("b", 1)], skip=1, limit=2)))


async def test_standalone(backend: AsyncMongoDatabackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is in no replica set has neither transactions nor snapshots."""
    admin = backend.client.admin

    async def command(name: str) -> dict[str, Any]:
        return {"maxWireVersion": 17}

    monkeypatch.setattr(type(admin), "command", lambda self, name: command(name))
    assert not (await backend.capabilities()).transactions
    with pytest.raises(UnsupportedError, match="replica set"):
        async with backend.transaction():
            pass
    with pytest.raises(UnsupportedError, match="replica set"):
        async with backend.snapshot():
            pass


async def test_owned_client(mongodb_uri: str) -> None:
    """A client that belongs to the backend is closed with it."""
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongodb_uri)
    backend = AsyncMongoMetaDataStore(client, "superorm_test", owns_client=True)
    await backend.collection_names()
    await backend.close()
    with pytest.raises(BackendError, match="after close"):
        await backend.collection_names()


async def test_other_clients_share_no_transactions(client: AsyncMongoClient[dict[str, Any]], mongodb_uri: str) -> None:
    """Only parts of one client take part in one transaction."""
    metadata = AsyncMongoMetaDataStore(client, "a")
    assert metadata.shares_transactions_with(AsyncMongoDatabackend(client, "b"))
    other: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongodb_uri, connect=False)
    assert not metadata.shares_transactions_with(AsyncMongoDatabackend(other, "a"))
    assert ReadPreference.SECONDARY_PREFERRED == client.read_preference
