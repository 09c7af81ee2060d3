"""Transactions that end before their session does, and sessions that end in the middle of a call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pymongo
import pytest
import pytest_asyncio
from pymongo import ReadPreference, WriteConcern
from pymongo.read_concern import ReadConcern

from superorm import (
    AsyncDB,
    AsyncSession,
    ConfigurationError,
    Document,
    Mapped,
    PendingRollbackError,
    Registry,
    SessionError,
    StatementError,
    async_sessionmaker,
    connect_async,
    field,
    insert,
    listens_for,
    remove_listener,
    select,
)

registry = Registry()
SETTINGS: dict[str, Any] = {"vector_database": "memory://", "signing_key": "test-key"}


class Line(Document, registry=registry):
    __collection__ = "lines"

    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str] = field(default="")


class Server:
    """A server as plain PyMongo sees it; what is open there is that of an application with the database's name."""

    def __init__(self, client: pymongo.MongoClient[dict[str, Any]], name: str) -> None:
        self.client = client
        self.name = name

    def stored(self) -> list[int]:
        """The stored lines."""
        return [document["_id"] for document in self.client[self.name].lines.find(sort=[("_id", 1)])]

    def _operations(self, **options: Any) -> list[dict[str, Any]]:
        every = {"$currentOp": {"allUsers": True, "idleSessions": True, "idleConnections": True, **options}}
        return list(self.client.admin.aggregate([every]))

    def open_transactions(self) -> int:
        """How many are open, by the application's name."""
        found = [one for one in self._operations() if "transaction" in one]
        metadata = [one.get("clientMetadata", {}) for one in found]
        return [one.get("application", {}).get("name") for one in metadata].count(self.name)

    def open_cursors(self) -> list[str]:
        """The commands of those that are open over the lines."""
        found = [one for one in self._operations(idleCursors=True) if one.get("type") == "idleCursor"]
        mine = [one["cursor"]["originatingCommand"] for one in found if one["ns"] == f"{self.name}.lines"]
        return sorted("find" if "find" in command else "aggregate" for command in mine)


@pytest.fixture
def server(mongodb_uri: str, database: str) -> Iterator[Server]:
    """A database on the real server."""
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        yield Server(client, database)


@pytest_asyncio.fixture
async def db(mongodb_uri: str, database: str) -> AsyncIterator[AsyncDB]:
    """The same with thirty lines, by superorm."""
    async with connect_async(f"{mongodb_uri}&appName={database}", database=database, **SETTINGS) as db:
        await db.create_all(Line)
        async with db.begin() as session:
            session.add_all([Line(id=key) for key in range(30)])
        yield db


@contextmanager
def listening(session: AsyncSession, event: Any, listener: Any) -> Generator[None]:
    """A block in which it listens."""
    listens_for(session, event)(listener)
    try:
        yield
    finally:
        remove_listener(session, event, listener)


@pytest.mark.parametrize("causal", [False, True])
async def test_commit_of_an_ended_transaction(db: AsyncDB, server: Server, causal: bool) -> None:
    """It raises, whatever has ended the transaction, and after a rollback the session goes on."""
    async with db.session(causal_consistency=causal) as session:
        session.add(line := Line(id=100))
        await session.flush()
        within = session._work.server_session
        assert within is not None
        await within.end_session()
        with pytest.raises(SessionError, match="has ended without a commit"):
            await session.commit()
        with pytest.raises(PendingRollbackError):
            await session.commit()
        assert 100 not in server.stored()
        await session.rollback()
        assert line not in session
        session.add(line)
        await session.commit()
    assert 100 in server.stored()
    assert 0 == server.open_transactions()


async def test_the_db_is_closed_before_the_session(mongodb_uri: str, database: str, server: Server) -> None:
    """The transaction ends at once, and the commit is refused."""
    db = connect_async(f"{mongodb_uri}&appName={database}", database=database, **SETTINGS)
    await db.create_all(Line)
    session = db.session()
    session.add(Line(id=1))
    await session.flush()
    assert 1 == server.open_transactions()
    await db.close()
    assert 0 == server.open_transactions()
    with pytest.raises(SessionError, match="has ended without a commit"):
        await session.commit()
    await session.close()
    assert [] == server.stored()


@pytest.mark.parametrize("how", ["rollback", "close", "block"])
async def test_listeners_of_a_rollback_cannot_write(db: AsyncDB, server: Server, how: str) -> None:
    """It is refused, as nobody may come to commit it; no transaction is left open, and the session goes on."""

    async def write(session: AsyncSession) -> None:
        await session.execute(insert(Line).values({"id": 200}))

    async def add(session: AsyncSession) -> None:
        session.add(Line(id=201))
        await session.flush()

    async def rolled_back(session: AsyncSession) -> None:
        if how == "block":
            async with session.begin():
                session.add(Line(id=100))
                await session.flush()
                raise ZeroDivisionError
        session.add(Line(id=100))
        await session.flush()
        await getattr(session, how)()

    for listener, key in ((write, 101), (add, 102)):
        async with db.session() as session:
            with (
                listening(session, "after_rollback", listener),
                pytest.raises(SessionError, match=r"cannot write by the session while that rolls back.*db\.begin\(\)"),
            ):
                await rolled_back(session)
            assert 0 == server.open_transactions()
            session.expunge_all()
            session.add(Line(id=key))
            await session.commit()
    assert [101, 102] == server.stored()[30:]


async def test_listeners_of_a_rollback_cannot_write_without_transactions() -> None:
    """Nor can they there, so that programs behave alike."""

    async def write(session: AsyncSession) -> None:
        await session.execute(insert(Line).values({"id": 200}))

    url = f"mongomock://{uuid4().hex}"
    async with connect_async(url, **SETTINGS) as db, db.session() as session:
        with listening(session, "after_rollback", write), pytest.raises(SessionError, match="while that rolls back"):
            await session.rollback()
        session.add(Line(id=1))
        await session.commit()
        assert 1 == await session.count(select(Line))


@pytest.mark.parametrize("causal", [False, True])
async def test_a_stream_goes_on_beside_a_transaction(db: AsyncDB, causal: bool) -> None:
    """One that began before the transaction reads to its end while its loop writes, and while it commits."""
    async with db.session(causal_consistency=causal) as session:
        found: list[int] = []
        async for line in session.stream_scalars(select(Line).order_by(Line.id), batch_size=5):
            found.append(line.id)
            if line.id % 10 == 1:
                session.add(Line(id=-line.id))
                await session.flush()
            if line.id == 25:
                await session.commit()
        assert list(range(30)) == found
        assert [-21, -11, -1] == (await session.scalars(select(Line.id).where(Line.id < 0).order_by(Line.id))).all()


@pytest.mark.parametrize("how", ["commit", "rollback", "close"])
@pytest.mark.parametrize("causal", [False, True])
async def test_cursors_end_with_their_transaction(db: AsyncDB, server: Server, causal: bool, how: str) -> None:
    """The server keeps none for a stream that is not read to its end; that is refused from then on."""
    async with db.session(causal_consistency=causal) as session:
        session.add(Line(id=100))
        await session.flush()
        statements: list[Any] = [select(Line), select(Line), select((Line.id + 1).label("next"))]
        closed, *left = [session.stream(statement, batch_size=5) for statement in statements]
        for stream in (closed, *left):
            await anext(stream)
        assert ["aggregate", "find", "find"] == server.open_cursors()
        await closed.aclose()
        assert ["aggregate", "find"] == server.open_cursors()
        await getattr(session, how)()
        assert [] == server.open_cursors()
        for stream in left:
            for _ in range(4):  # the rest of the batch
                await anext(stream)
            with pytest.raises(SessionError, match="the transaction that this stream reads in has ended"):
                await anext(stream)
    assert (100 in server.stored()) == (how == "commit")


BAD: Any = select(Line).where(Line.text.regex("("))


@pytest.mark.parametrize("how", ["scalars", "execute", "stream", "stream_scalars", "count", "listener"])
async def test_a_failed_read_in_a_transaction(db: AsyncDB, server: Server, how: str) -> None:
    """The server has ended the transaction, so the session asks for a rollback and names what failed."""

    async def read(session: AsyncSession) -> None:
        if how.startswith("stream"):
            async for _ in getattr(session, how)(BAD):
                pass
        elif how == "listener":
            await session.scalars(BAD)
        else:
            await getattr(session, how)(BAD)

    async def swallow(session: AsyncSession) -> None:
        with pytest.raises(StatementError, match="Regular expression is invalid"):
            await read(session)

    async with db.session() as session:
        await swallow(session)  # outside of a transaction nothing is lost
        session.add(Line(id=100))
        await session.flush()
        if how == "listener":
            with listening(session, "before_commit", swallow), pytest.raises(PendingRollbackError):
                await session.commit()
        else:
            await swallow(session)
        session.add(Line(id=101))
        for method in (session.flush, session.commit):
            with pytest.raises(PendingRollbackError, match=r"StatementError.*Regular expression is invalid"):
                await method()
        await session.rollback()
        session.add(Line(id=102))
        await session.commit()
    assert [102] == server.stored()[30:]


async def test_a_failed_read_is_not_repeated(db: AsyncDB, server: Server) -> None:
    """A unit of work whose function goes on after the failure would fail again."""
    calls: list[int] = []

    async def work(session: AsyncSession) -> None:
        calls.append(1)
        session.add(Line(id=100))
        await session.flush()
        with pytest.raises(StatementError):
            await session.scalars(BAD)
        session.add(Line(id=101))

    with pytest.raises(PendingRollbackError, match="Regular expression is invalid") as raised:
        await db.run(work)
    assert ["db.run() made 1 attempt"] == raised.value.__notes__
    assert 1 == len(calls)
    assert 30 == len(server.stored())


async def test_refused_before_it_is_sent(db: AsyncDB, server: Server) -> None:
    """What never reaches the server leaves the transaction as it is."""
    async with db.session() as session:
        session.add(Line(id=100))
        await session.flush()
        with pytest.raises(StatementError):
            await session.scalars(select(Line).where(Line.id == 2**70))
        with pytest.raises(SessionError):
            await session.refresh(Line(id=5))
        await session.commit()
    assert [100] == server.stored()[30:]


MAKERS: list[tuple[dict[str, Any], str]] = [
    ({"read_concern": "majority"}, "read_concern takes"),
    ({"write_concern": WriteConcern(w=0)}, "may be lost without notice"),
    ({"max_commit_time_ms": 0}, "from 1 to"),
    ({"causal_consistency": True, "read_concern": ReadConcern("available")}, "causal_consistency=True needs"),
    ({"require_transaction": True, "read_preference": ReadPreference.NEAREST}, "reads from the primary"),
]


@pytest.mark.parametrize(("options", "message"), MAKERS)
async def test_makers_of_impossible_sessions(options: dict[str, Any], message: str) -> None:
    """They are refused when they are made or configured, also where each option alone could be."""
    with pytest.raises(ConfigurationError, match=message):
        async_sessionmaker(**options)
    maker = async_sessionmaker()
    *first, last = [{name: value} for name, value in options.items()]
    for one in first:
        maker.configure(**one)
    with pytest.raises(ConfigurationError, match=message):
        maker.configure(**last)


@pytest.mark.parametrize("wrong", [1, 0, "mongodb://host/db", AsyncSession])
async def test_makers_for_what_is_no_db(wrong: Any) -> None:
    """So are those of anything but a DB."""
    with pytest.raises(ConfigurationError, match=r"sessionmaker\(\) takes the DB"):
        async_sessionmaker(wrong)
    with pytest.raises(ConfigurationError, match=r"sessionmaker\(\) takes the DB"):
        async_sessionmaker().configure(wrong)


async def test_run_takes_no_generator_function(db: AsyncDB, server: Server) -> None:
    """Nothing of it would have run."""

    async def work(session: AsyncSession) -> AsyncIterator[int]:
        session.add(Line(id=100))
        yield 1

    wrong: Any = work
    with pytest.raises(SessionError, match="work"):
        await db.run(wrong)
    assert 30 == len(server.stored())
