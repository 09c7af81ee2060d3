"""Units of work that are repeated, their concerns, and makers of sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from contextvars import ContextVar
from typing import Any
from uuid import uuid4

import numpy as np
import pymongo
import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.monitoring import CommandListener
from pymongo.read_concern import ReadConcern

from superorm import (
    AsyncDB,
    AsyncMemoryVectorIndex,
    AsyncMongoArtifactStore,
    AsyncMongoDatabackend,
    AsyncMongoMetaDataStore,
    AsyncSession,
    BackendError,
    ConfigurationError,
    Document,
    DuplicateKeyError,
    Mapped,
    Model,
    PendingRollbackError,
    SessionError,
    StaleDocumentError,
    SuperormError,
    UnsupportedError,
    ValidationError,
    async_sessionmaker,
    connect_async,
    field,
    listens_for,
    remove_listener,
    select,
    update,
    vector,
)
from superorm._async import vector_models, vector_registered
from superorm._io import aio
from superorm.backends.errors import has_error_label
from superorm.compile.plan import Find
from tests.databases import drop_database


class Account(Document):
    __collection__ = "accounts"

    id: Mapped[int] = field(primary_key=True)
    balance: Mapped[int] = field(default=0)
    version: Mapped[int] = field(version=True)


class Note(Document):
    __collection__ = "notes"

    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str] = field(default="")


class Placed(Document):
    __collection__ = "placed"

    id: Mapped[int] = field(primary_key=True)
    at: Mapped[np.ndarray | None] = vector(2)


class Copied(Document):
    __collection__ = "copied"

    id: Mapped[int] = field(primary_key=True)
    at: Mapped[np.ndarray | None] = vector(2)


class Described(Document):
    __collection__ = "described"

    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str]
    given: Mapped[np.ndarray | None] = vector(2)
    length: Mapped[np.ndarray | None] = vector(2, source="text", model="length")


class Commands(CommandListener):
    """The commands that a client sent."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def started(self, event: Any) -> None:
        self.sent.append(dict(event.command))

    def succeeded(self, event: Any) -> None:
        pass

    def failed(self, event: Any) -> None:
        pass

    @property
    def names(self) -> list[str]:
        return [next(iter(command)) for command in self.sent]


class Watched:
    """A database on the real server whose commands are seen."""

    def __init__(self, uri: str, client: AsyncMongoClient[dict[str, Any]], name: str, commands: Commands) -> None:
        self.uri = uri
        self.client = client
        self.name = name
        self.commands = commands

    def db(self, **options: Any) -> AsyncDB:
        return AsyncDB(
            AsyncMongoDatabackend(self.client, self.name),
            AsyncMongoMetaDataStore(self.client, self.name),
            AsyncMongoArtifactStore(self.client, name=f"_filesystem:{self.name}"),
            AsyncMemoryVectorIndex(),
            **options,
        )


@pytest_asyncio.fixture
async def watched(mongodb_uri: str) -> AsyncIterator[Watched]:
    """A database on the real server whose commands are seen."""
    commands = Commands()
    name = f"test_{uuid4().hex[:12]}"
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri, event_listeners=[commands]) as client:
        yield Watched(mongodb_uri, client, name, commands)
    with pymongo.MongoClient(mongodb_uri) as client:
        drop_database(client, name)


async def stored(db: AsyncDB, collection: str = "accounts") -> list[dict[str, Any]]:
    """The documents as the backend holds them."""
    return await db.parts.data_backend.read(Find(collection, sort=[("_id", 1)]))


async def test_run_commits_and_gives_the_result(db: AsyncDB) -> None:
    """The function's result comes back, and what it did is committed."""

    async def work(session: AsyncSession) -> str:
        session.add(Account(id=1, balance=5))
        return "done"

    assert "done" == await db.run(work)
    assert [{"_id": 1, "balance": 5, "version": 1}] == await stored(db)


async def test_run_repeats_what_was_stale(db: AsyncDB) -> None:
    """Another session changes the document between reading and commit, twice; the third attempt counts on."""
    async with db.begin() as session:
        session.add(Account(id=1))
    seen: list[int] = []

    async def work(session: AsyncSession) -> int:
        account = await session.get_one(Account, 1)
        seen.append(account.balance)
        if len(seen) < 3:
            async with db.begin() as other:
                (await other.get_one(Account, 1)).balance += 10
        account.balance += 1
        return account.balance

    assert 21 == await db.run(work)
    assert [0, 10, 20] == seen
    assert [{"_id": 1, "balance": 21, "version": 4}] == await stored(db)


async def test_run_gives_up(db: AsyncDB) -> None:
    """The last error is raised, with the number of attempts."""
    async with db.begin() as session:
        session.add(Account(id=1))
    calls = 0

    async def work(session: AsyncSession) -> None:
        nonlocal calls
        calls += 1
        account = await session.get_one(Account, 1)
        async with db.begin() as other:
            (await other.get_one(Account, 1)).balance += 10
        account.balance += 1

    with pytest.raises(StaleDocumentError) as caught:
        await db.run(work, attempts=3)
    assert (3, ["db.run() made 3 attempts"]) == (calls, caught.value.__notes__)
    with pytest.raises(SessionError, match="at least 1 attempt"):
        await db.run(work, attempts=0)


async def test_run_does_not_repeat_other_errors(db: AsyncDB) -> None:
    """A duplicate key, and an error of the function's own, come at once; nothing is written."""
    async with db.begin() as session:
        session.add(Account(id=1))
    calls: list[int] = []

    async def duplicate(session: AsyncSession) -> None:
        calls.append(1)
        session.add_all([Account(id=1)])

    async def wrong(session: AsyncSession) -> None:
        calls.append(2)
        session.add(Account(id=3))
        raise LookupError("mine")

    with pytest.raises(DuplicateKeyError):
        await db.run(duplicate)
    with pytest.raises(LookupError, match="mine"):
        await db.run(wrong)
    assert [1, 2] == calls
    assert [1] == [document["_id"] for document in await stored(db)]


async def test_run_repeats_write_conflicts(db: AsyncDB, real: bool) -> None:
    """Two transactions that write one document: one of them is done again, and no change is lost."""
    if not real:
        return
    async with db.begin() as session:
        session.add_all([Note(id=1), Note(id=2)])
    calls = 0

    async def work(session: AsyncSession) -> None:
        nonlocal calls
        calls += 1
        (await session.get_one(Note, 2)).text = "mine"
        await session.flush()
        if calls == 1:
            async with db.begin() as other:
                await other.execute(update(Note).where(Note.id == 1).values(text="theirs"))
        await session.execute(update(Note).where(Note.id == 1).values(text="both"))

    await db.run(work)
    assert 2 == calls
    assert [{"_id": 1, "text": "both"}, {"_id": 2, "text": "mine"}] == await stored(db, "notes")


async def test_run_repeats_where_the_error_was_swallowed(db: AsyncDB, real: bool) -> None:
    """The session asks for a rollback because of a write conflict, which is enough to do the work again."""
    if not real:
        return
    async with db.begin() as session:
        session.add(Note(id=1))
    calls = 0

    async def work(session: AsyncSession) -> None:
        nonlocal calls
        calls += 1
        note = await session.get_one(Note, 1)
        session.add(Note(id=10 + calls))
        await session.flush()
        if calls == 1:
            async with db.begin() as other:
                (await other.get_one(Note, 1)).text = "theirs"
        note.text = f"mine {calls}"
        with suppress(SuperormError):
            await session.flush()

    await db.run(work)
    assert [{"_id": 1, "text": "mine 2"}, {"_id": 12, "text": ""}] == await stored(db, "notes")


async def test_run_without_transactions_repeats_nothing_that_was_written(db: AsyncDB, real: bool) -> None:
    """What an attempt wrote cannot be taken back there."""
    if real:
        return
    async with db.begin() as session:
        session.add(Account(id=1))
    calls = 0

    async def work(session: AsyncSession) -> None:
        nonlocal calls
        calls += 1
        account = await session.get_one(Account, 1)
        session.add(Note(id=calls))
        await session.flush()
        async with db.begin() as other:
            (await other.get_one(Account, 1)).balance += 10
        account.balance += 1

    with pytest.raises(StaleDocumentError):
        await db.run(work)
    assert (1, [1]) == (calls, [document["_id"] for document in await stored(db, "notes")])


async def test_run_repeats_nothing_that_was_committed(db: AsyncDB) -> None:
    """Neither after a commit of the function's own, nor where a listener fails after the commit."""
    async with db.begin() as session:
        session.add(Account(id=1))

    async def work(session: AsyncSession) -> None:
        (await session.get_one(Account, 1)).balance += 1

    async def committing(session: AsyncSession) -> None:
        await work(session)
        await session.commit()
        raise StaleDocumentError("of something else")

    def fail(session: AsyncSession) -> None:
        raise StaleDocumentError("of something else")

    with pytest.raises(StaleDocumentError, match="something else"):
        await db.run(committing)
    listens_for(AsyncSession, "after_commit")(fail)
    try:
        with pytest.raises(StaleDocumentError, match="something else"):
            await db.run(work)
    finally:
        remove_listener(AsyncSession, "after_commit", fail)
    assert [{"_id": 1, "balance": 2, "version": 3}] == await stored(db)


async def test_unknown_options(db: AsyncDB) -> None:
    """A misspelt option would promise what does not hold."""
    wrong: dict[str, Any] = {"require_transactions": True}
    refused = "no option 'require_transactions'; there are require_transaction, read_concern"
    with pytest.raises(ConfigurationError, match=refused):
        db.session(**wrong)
    with pytest.raises(ConfigurationError, match=refused):
        await db.run(_nothing, **wrong)
    with pytest.raises(ConfigurationError, match=refused):
        async_sessionmaker(db, **wrong)
    with pytest.raises(ConfigurationError, match=refused):
        async_sessionmaker(db).configure(**wrong)
    wrong = {"require_transaction": "no"}
    with pytest.raises(ConfigurationError, match="True or False, not 'no'"):
        AsyncSession(db, **wrong)


async def _nothing(session: AsyncSession) -> None:
    pass


async def test_streams_end_with_their_transaction(db: AsyncDB, real: bool) -> None:
    """A stream that reads in a transaction says so when that has ended; one outside of it goes on."""
    async with db.begin() as session:
        session.add_all([Note(id=key) for key in range(6)])
    async with db.session() as session:
        plain = session.stream_scalars(select(Note), batch_size=2)
        await anext(plain)
        (await session.get_one(Note, 1)).text = "changed"
        await session.flush()
        inside = session.stream_scalars(select(Note), batch_size=2)
        assert 0 == (await anext(inside)).id
        await session.commit()
        assert [1, 2, 3, 4, 5] == [note.id async for note in plain]
        if real:
            with pytest.raises(SessionError, match="transaction that this stream reads in has ended"):
                [note async for note in inside]


async def test_begin_commits_or_rolls_back(db: AsyncDB) -> None:
    """A block is committed at its end; on an exception objects are as before, and the session goes on."""
    async with db.session() as session:
        async with session.begin() as same:
            assert same is session
            account = Account(id=1)
            session.add(account)
        with pytest.raises(LookupError):  # noqa: PT012
            async with session.begin():
                account.balance = 7
                raise LookupError
        assert 0 == account.balance
        async with session.begin():
            account.balance = 8
            with pytest.raises(SessionError, match="within a unit of work"):
                async with session.begin():
                    pass
    assert [{"_id": 1, "balance": 8, "version": 2}] == await stored(db)


async def test_sessionmaker(db: AsyncDB, real: bool) -> None:
    """It makes sessions of one configuration, which may change, and which a call may override."""
    maker = async_sessionmaker(db, require_transaction=True)
    if real:
        async with maker.begin() as session:
            session.add(Account(id=1))
    else:
        called: list[str] = []
        with pytest.raises(UnsupportedError, match="transactions"):
            async with maker.begin():
                called.append("block")
        with pytest.raises(UnsupportedError, match="transactions"):
            await db.run(lambda _: called.append("function"), require_transaction=True)  # type: ignore[arg-type, return-value, func-returns-value]
        assert [] == called
        async with maker.begin(require_transaction=False) as session:
            session.add(Account(id=1))
    maker.configure(require_transaction=False)
    async with maker() as session:
        assert session.db is db
        session.add(Account(id=2))
        await session.commit()
    with pytest.raises(LookupError):  # noqa: PT012
        async with maker.begin() as session:
            session.add(Account(id=3))
            raise LookupError
    assert [1, 2] == [document["_id"] for document in await stored(db)]


async def test_sessionmaker_without_a_db(db: AsyncDB) -> None:
    """The DB may be configured later."""
    maker = async_sessionmaker()
    with pytest.raises(SessionError, match="no DB yet"):
        maker()
    maker.configure(db)
    async with maker() as session:
        assert await session.get(Account, 1) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"write_concern": WriteConcern(w=0)}, "without an answer"),
        ({"read_concern": "majority"}, "read_concern takes"),
        ({"write_concern": "majority"}, "write_concern takes"),
        ({"read_preference": "secondary"}, "read_preference takes"),
        ({"read_concern": ReadConcern("strong")}, "no read concern 'strong'"),
        ({"max_commit_time_ms": 0}, "from 1 to"),
        ({"causal_consistency": 1}, "True or False"),
        ({"causal_consistency": True, "read_concern": ReadConcern("available")}, "causal_consistency=True needs"),
        (
            {"read_concern": ReadConcern("linearizable"), "read_preference": ReadPreference.SECONDARY},
            "from the primary alone",
        ),
        ({"require_transaction": True, "read_preference": ReadPreference.NEAREST}, "reads from the primary"),
    ],
)
async def test_wrong_concerns_are_named(db: AsyncDB, options: dict[str, Any], message: str) -> None:
    """What cannot be is refused where it is given."""
    with pytest.raises(ConfigurationError, match=message):
        db.session(**options)
    with pytest.raises(ConfigurationError, match=message):
        async_sessionmaker(db, **options)()
    if "require_transaction" not in options:
        with pytest.raises(ConfigurationError, match=message):
            connect_async("mongomock://never", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"read_preference": ReadPreference.SECONDARY_PREFERRED}, "reads from the primary"),
        ({"read_concern": ReadConcern("available")}, "cannot have the read concern 'available'"),
    ],
)
async def test_what_a_transaction_cannot_do_is_refused_before_it(
    watched: Watched, options: dict[str, Any], message: str
) -> None:
    """Such a session reads, and is refused its first write before anything is sent."""
    db = watched.db(**options)
    async with db.session() as session:
        assert await session.get(Note, 1) is None
        session.add(Note(id=1))
        watched.commands.sent.clear()
        with pytest.raises(ConfigurationError, match=message):
            await session.commit()
        assert [] == watched.commands.names
        with pytest.raises(PendingRollbackError):
            await session.commit()


async def test_vectors_need_the_majority(watched: Watched) -> None:
    """A write of vectors that a failover could take back is refused; other classes take it."""
    async with watched.db(write_concern=WriteConcern(w=1)).begin() as session:
        session.add(Note(id=1))
    commit = next(command for command in watched.commands.sent if "commitTransaction" in command)
    assert {"w": 1} == commit["writeConcern"]
    async with watched.db(write_concern=WriteConcern(w=1)).session() as session:
        session.add(Placed(id=1, at=np.ones(2)))
        with pytest.raises(ConfigurationError, match="'majority'"):
            await session.commit()
        await session.rollback()
        watched.commands.sent.clear()
        with pytest.raises(ConfigurationError, match="'majority'"):
            await session.execute(select(Placed.id, Placed.at).merge_into(Copied))
        assert [] == watched.commands.sent


async def test_concerns_reach_the_server(watched: Watched) -> None:
    """What the DB says holds, and what the session says goes before it, outside of the transaction and inside."""
    db = watched.db(read_concern=ReadConcern("majority"), max_commit_time_ms=5000)
    async with db.session(write_concern=WriteConcern(wtimeout=7000)) as session:
        await session.get(Note, 1)
        session.add(Note(id=1))
        await session.commit()
    sent = {next(iter(command)): command for command in watched.commands.sent}
    assert {"level": "majority"} == sent["find"]["readConcern"]
    assert "txnNumber" not in sent["find"]
    assert "majority" == sent["insert"]["readConcern"]["level"]
    assert sent["insert"]["startTransaction"]
    assert {"w": "majority", "wtimeout": 7000} == sent["commitTransaction"]["writeConcern"]
    assert 5000 == sent["commitTransaction"]["maxTimeMS"]


async def test_default_concerns(watched: Watched) -> None:
    """Reads are local, transactions snapshots, and commits wait for the majority."""
    async with watched.db().session() as session:
        await session.get(Note, 1)
        session.add(Note(id=1))
        await session.commit()
    sent = {next(iter(command)): command for command in watched.commands.sent}
    assert {"level": "local"} == sent["find"]["readConcern"]
    assert {"level": "snapshot"} == sent["insert"]["readConcern"]
    assert {"w": "majority"} == sent["commitTransaction"]["writeConcern"]
    assert "maxTimeMS" not in sent["commitTransaction"]


@pytest.mark.parametrize("of", ["db", "session"])
async def test_causal_consistency(watched: Watched, of: str) -> None:
    """Each read and each transaction is after the time of what was before it; no other command is sent."""
    async with watched.db().begin() as session:
        session.add(Note(id=1))
    watched.commands.sent.clear()
    db = watched.db(causal_consistency=of == "db")
    async with db.session(causal_consistency=True if of == "session" else None) as session:
        note = await session.get_one(Note, 1)
        note.text = "changed"
        await session.commit()
        assert 1 == await session.count(select(Note))
        session.add(Note(id=2))
        await session.commit()
        assert "changed" == await session.scalar(select(Note.text).where(Note.id == 1))
    names = [name for name in watched.commands.names if name in ("aggregate", "find", "insert", "update")]
    used = [c for c in watched.commands.sent if next(iter(c)) in (*names, "commitTransaction") and "lsid" in c]
    documents = [command for command in used if "notes" in command.values() or "commitTransaction" in command]
    assert ["find", "update", "commitTransaction", "aggregate", "insert", "commitTransaction", "find"] == [
        next(iter(command)) for command in documents
    ]
    first, *times = [c["readConcern"].get("afterClusterTime") for c in documents if "commitTransaction" not in c]
    assert first is None
    updated, counted, inserted, found = times
    assert updated < counted <= inserted < found  # what is read after a commit waits for that


async def test_round_trips_of_a_commit(watched: Watched) -> None:
    """A commit of one changed document sends what raw PyMongo sends in a transaction: the update, and the commit."""
    db = watched.db()
    async with db.begin() as session:
        session.add(Note(id=1))
    async with db.session() as session:
        note = await session.get_one(Note, 1)
        note.text = "changed"
        watched.commands.sent.clear()
        await session.commit()
    assert ["update", "commitTransaction"] == watched.commands.names
    watched.commands.sent.clear()
    async with watched.client.start_session() as raw, await raw.start_transaction():
        await watched.client[watched.name].notes.update_one({"_id": 1}, {"$set": {"text": "raw"}}, session=raw)
    assert ["update", "commitTransaction"] == watched.commands.names


DURING: ContextVar[int] = ContextVar("DURING", default=0)
"""The number of the commit that is under way, for all that happens on its behalf."""


class Attributed(Commands):
    """The names of the commands of each numbered commit, under 0 those of the background."""

    def __init__(self) -> None:
        super().__init__()
        self.by_commit: dict[int, list[str]] = {}

    def started(self, event: Any) -> None:
        super().started(event)
        self.by_commit.setdefault(DURING.get(), []).append(event.command_name)


async def test_round_trips_of_later_commits(mongodb_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They send nothing more: which indexes others registered is read in the background, also while nobody commits."""
    monkeypatch.setattr(vector_registered, "_EVERY", 0.1)
    monkeypatch.setattr(vector_registered, "_LATE", 1.0)
    commands = Attributed()
    name = f"test_{uuid4().hex[:12]}"
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri, event_listeners=[commands]) as client:
        db = Watched(mongodb_uri, client, name, commands).db()
        async with db.begin() as session:
            session.add(Note(id=1))
        commands.by_commit.clear()
        async with db.session() as session:
            note = await session.get_one(Note, 1)
            for number in (1, 2):
                note.text = f"changed {number}"
                await aio.sleep(1.3)
                token = DURING.set(number)
                await session.commit()
                DURING.reset(token)
        in_background = [one for one in commands.by_commit.pop(0) if one == "aggregate"]
        assert {number: ["update", "commitTransaction"] for number in (1, 2)} == commands.by_commit
        assert len(in_background) > 2
        await db.close()
        commands.by_commit.clear()
        await aio.sleep(0.3)
        assert {} == commands.by_commit
        await client.drop_database(name)


@pytest.mark.parametrize("pause", [0.0, 0.4])
async def test_round_trips_of_a_commit_of_vectors(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, pause: float
) -> None:
    """One more where a vector changed, given or computed: the record that tells searches of it.

    By the same command it writes to its fence where one was computed, and looks after a while whether the version of
    the model is still in use.
    """
    monkeypatch.setattr(vector_models, "LEASE", 0.2 if pause else 60.0)
    async with watched.db() as db:
        await db.add(Model("length", lambda text: [float(len(text)), 1.0]))
        async with db.begin() as session:
            session.add(Described(id=1, text="a", given=np.ones(2)))
        async with db.session() as session:
            one = await session.get_one(Described, 1)
            for changes in ({"given": np.zeros(2)}, {"text": "two"}, {"text": "three", "given": np.ones(2)}):
                for name, value in changes.items():
                    setattr(one, name, value)
                await aio.sleep(pause)
                watched.commands.sent.clear()
                await session.commit()
                sent = [command for command in watched.commands.sent if not applies(command)]
                record = "update" if "text" in changes else "insert"
                assert ["update", record, "commitTransaction"] == [next(iter(command)) for command in sent]


def applies(command: dict[str, Any]) -> bool:
    """Whether a command comes from the task that applies records in the background."""
    return "txnNumber" not in command and "_superorm_records" in command.values()


async def test_too_large_a_document_is_named(watched: Watched) -> None:
    """A document of more than 16 MiB is no error of the server's, and nothing of its unit of work is stored."""
    async with watched.db().session() as session:
        session.add_all([Note(id=1), Note(id=2, text="x" * (16 * 2**20))])
        with pytest.raises(ValidationError, match=r"document 2.*16 MiB"):
            await session.commit()
    assert "commitTransaction" not in watched.commands.names
    assert [] == await stored(watched.db(), "notes")


async def test_large_units_of_work_are_split(watched: Watched) -> None:
    """More than one command takes go into one transaction, in several commands."""
    async with watched.db().begin() as session:
        session.add_all([Note(id=key, text="x" * (5 * 2**20)) for key in range(7)])
    inserts = [command for command in watched.commands.sent if command.get("insert") == "notes"]
    assert len(inserts) >= 3
    assert 1 == len({(bytes(command["lsid"]["id"]), command["txnNumber"]) for command in inserts})
    assert 1 == watched.commands.names.count("commitTransaction")
    with pymongo.MongoClient[dict[str, Any]](watched.uri) as client:
        assert 7 == client[watched.name].notes.count_documents({})


async def test_a_transaction_that_the_server_ended(watched: Watched) -> None:
    """The error says why that may be and what to do; after a rollback the session goes on."""
    db = watched.db()
    async with db.session() as session:
        session.add(Note(id=1))
        await session.flush()
        with pymongo.MongoClient[dict[str, Any]](watched.uri) as client:  # as the server itself does after 60 s
            insert = next(command for command in watched.commands.sent if command.get("insert") == "notes")
            client.admin.command("killSessions", [{"id": insert["lsid"]["id"]}])
        session.add(Note(id=2))
        with pytest.raises(BackendError, match="transactionLifetimeLimitSeconds") as caught:
            await session.commit()
        assert has_error_label(caught.value, "TransientTransactionError")
        await session.rollback()
        session.add(Note(id=3))
        await session.commit()
    assert [3] == [document["_id"] for document in await stored(db, "notes")]
