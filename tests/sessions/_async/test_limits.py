"""The server's limits: how long a transaction lasts, and how much a command, a transaction and an answer hold."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from uuid import uuid4

import pymongo
import pytest
import pytest_asyncio
from pymongo.monitoring import CommandListener

from superorm import (
    AsyncDB,
    AsyncSession,
    BackendError,
    Document,
    Mapped,
    PendingRollbackError,
    Registry,
    StatementError,
    WriteError,
    field,
    joinedload,
    relationship,
    select,
    selectinload,
    update,
)
from superorm.backends.errors import has_error_label
from tests._async.databases import heard_db

registry = Registry()
MANY = 100_001
"""One more than the operations that a command holds."""


class Note(Document, registry=registry):
    __collection__ = "notes"

    id: Mapped[int] = field(primary_key=True)
    number: Mapped[int] = field(default=0)
    text: Mapped[str] = field(default="")


class Shelf(Document, registry=registry):
    __collection__ = "shelves"

    id: Mapped[int] = field(primary_key=True)
    books: Mapped[list[Book]] = relationship(list["Book"], remote_key="shelf_id")


class Book(Document, registry=registry):
    __collection__ = "books"

    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str] = field(default="")
    shelf_id: Mapped[int | None] = field(default=None)
    shelf: Mapped[Shelf | None] = relationship("Shelf", key="shelf_id")


class Commands(CommandListener):
    """The commands of transactions that a server carried out: the name, how much it held, and where."""

    def __init__(self) -> None:
        self._started: dict[int, tuple[str, int, tuple[bytes, int]]] = {}
        self._done: list[tuple[str, int, tuple[bytes, int]]] = []

    def started(self, event: Any) -> None:
        name, command = event.command_name, event.command
        if command.get("autocommit") is False:
            held = command.get({"insert": "documents", "update": "updates", "delete": "deletes"}.get(name), ())
            self._started[event.request_id] = name, len(held), (bytes(command["lsid"]["id"]), command["txnNumber"])

    def succeeded(self, event: Any) -> None:
        if event.request_id in self._started:
            self._done.append(self._started.pop(event.request_id))

    def failed(self, event: Any) -> None:
        self._started.pop(event.request_id, None)

    def taken(self) -> dict[str, list[int]]:
        """How much each of the commands since the last call held, by name; all are of one transaction."""
        taken: dict[str, list[int]] = {}
        assert 1 == len({where for _, _, where in self._done})
        for name, held, _ in self._done:
            taken.setdefault(name, []).append(held)
        self._done.clear()
        return taken


class Place:
    """A DB whose commands are seen, and the same database by plain PyMongo."""

    def __init__(self, uri: str, name: str, db: AsyncDB, commands: Commands) -> None:
        self.uri = uri
        self.name = name
        self.db = db
        self.commands = commands

    def stored(self, collection: str = "notes") -> list[dict[str, Any]]:
        with pymongo.MongoClient[dict[str, Any]](self.uri) as client:
            return list(client[self.name][collection].find(sort=[("_id", 1)]))

    def count(self, **filter: Any) -> int:
        with pymongo.MongoClient[dict[str, Any]](self.uri) as client:
            return client[self.name].notes.count_documents(filter)


async def places(uri: str, *, drop: bool) -> AsyncIterator[Place]:
    name, commands = f"limits_{uuid4().hex[:12]}", Commands()
    async with heard_db(uri, name, commands, drop=drop) as db:
        await db.create_all(Note, Shelf, Book)
        yield Place(uri, name, db, commands)


@pytest_asyncio.fixture
async def place(mongodb_uri: str) -> AsyncIterator[Place]:
    """A database on the real server."""
    async for place in places(mongodb_uri, drop=True):
        yield place


@pytest_asyncio.fixture
async def own_place(own_uri: str) -> AsyncIterator[Place]:
    """A database on the tests' own server, whose cache is small."""
    async for place in places(own_uri, drop=False):
        yield place


@pytest.fixture
def expired(own_uri: str) -> Iterator[Callable[[], None]]:
    """Transactions of the tests' own server last for a second; waits until it has ended all of them."""

    def limit(client: pymongo.MongoClient[dict[str, Any]], seconds: int) -> int:
        answer = client.admin.command({"setParameter": 1, "transactionLifetimeLimitSeconds": seconds})
        return int(answer["was"])

    with pymongo.MongoClient[dict[str, Any]](own_uri) as client:

        def wait() -> None:
            deadline = time.monotonic() + 20
            while client.admin.command("serverStatus")["transactions"]["currentOpen"]:
                assert time.monotonic() < deadline
                time.sleep(0.05)

        before = limit(client, 1)
        yield wait
        limit(client, before)


async def test_expired_transactions(own_place: Place, expired: Callable[[], None]) -> None:
    """Whatever comes next is an error that names the limit; nothing is half there; the session goes on."""

    async def flush(session: AsyncSession) -> None:
        session.add(Note(id=99))
        await session.flush()

    async def query(session: AsyncSession) -> None:
        await session.scalars(select(Note))

    async def statement(session: AsyncSession) -> None:
        await session.execute(update(Note).where(Note.id == 100).values(number=9))

    async def commit(session: AsyncSession) -> None:
        await session.commit()

    place = own_place
    steps = [flush, query, statement, commit]
    async with place.db.begin() as session:
        session.add_all([Note(id=100 + n) for n in range(len(steps))])
    sessions = [place.db.session() for _ in steps]
    notes: list[tuple[Note, Note]] = []
    for n, session in enumerate(sessions):
        new, old = Note(id=n), await session.get_one(Note, 100 + n)
        session.add(new)
        old.number = 1
        await session.flush()
        notes.append((new, old))
    expired()
    before = [{"_id": 100 + n, "number": 0, "text": ""} for n in range(len(steps))]
    assert before == place.stored()
    for n, (step, session, (new, old)) in enumerate(zip(steps, sessions, notes, strict=True)):
        with pytest.raises(BackendError, match="transactionLifetimeLimitSeconds") as caught:
            await step(session)
        assert has_error_label(caught.value, "TransientTransactionError")
        with pytest.raises((PendingRollbackError, BackendError)):  # it cannot be committed in part
            await session.commit()
        assert before == place.stored()
        await session.rollback()
        assert (False, True, 0) == (new in session, old in session, old.number)
        session.add(new)
        old.number = 2
        await session.commit()
        before = [{"_id": n, "number": 0, "text": ""}, *before]
        before = [{**one, "number": 2} if one["_id"] == 100 + n else one for one in before]
        before.sort(key=lambda one: one["_id"])
        assert before == place.stored()
        await session.close()


async def test_expired_transactions_are_repeated(own_place: Place, expired: Callable[[], None]) -> None:
    """`AsyncDB.run` does the unit of work again, and it is applied once."""
    place = own_place
    async with place.db.begin() as session:
        session.add(Note(id=1))
    attempts: list[int] = []

    async def count(session: AsyncSession) -> int:
        note = await session.get_one(Note, 1)
        note.number += 1
        session.add(Note(id=2, number=note.number))
        await session.flush()
        attempts.append(note.number)
        if len(attempts) == 1:
            expired()
        return note.number

    assert 1 == await place.db.run(count)
    assert [1, 1] == attempts
    assert [{"_id": 1, "number": 1, "text": ""}, {"_id": 2, "number": 1, "text": ""}] == place.stored()


async def test_more_operations_than_a_command_holds(place: Place) -> None:
    """One flush inserts, or updates, more documents than a command holds, in one transaction."""
    async with place.db.session() as session:
        notes = [Note(id=key) for key in range(MANY)]
        session.add_all(notes)
        await session.commit()
        assert {"insert": [MANY - 1, 1], "commitTransaction": [0]} == place.commands.taken()
        assert (MANY, MANY) == (place.count(), place.count(number=0))
        for note in notes:
            note.number = 1
        await session.commit()
        taken = place.commands.taken()
        assert {"update", "commitTransaction"} == taken.keys()
        assert (MANY, [0]) == (sum(taken["update"]), taken["commitTransaction"])
        assert (MANY, MANY) == (place.count(), place.count(number=1))


@pytest.mark.soak
async def test_more_deletions_than_a_command_holds(place: Place) -> None:
    """So does one that deletes as many."""
    with pymongo.MongoClient[dict[str, Any]](place.uri) as client:
        client[place.name].notes.insert_many([{"_id": key, "number": 0, "text": ""} for key in range(MANY)])
    async with place.db.session() as session:
        for note in await session.scalars(select(Note)):
            session.delete(note)
        await session.commit()
    taken = place.commands.taken()
    assert {"delete", "commitTransaction"} == taken.keys()
    assert (MANY, [0]) == (sum(taken["delete"]), taken["commitTransaction"])
    assert 0 == place.count()


@pytest.mark.parametrize("bulk", [True, False])
@pytest.mark.parametrize("first", [True, False])
async def test_more_bytes_than_a_message_holds(place: Place, first: bool, bulk: bool) -> None:
    """So do documents of very different sizes, be the large ones in the first command of the transaction or not."""
    sizes = {key: 2**20 if key % 2 else 1 for key in range(100)}  # of which a sample may show the small ones only
    async with place.db.begin() as session:
        if not first:
            session.add(Note(id=-1))
            await session.flush()
        notes = [Note(id=key, text="x" * size) for key, size in sizes.items()]
        if bulk:
            await session.bulk_insert(notes)
        else:
            session.add_all(notes)
    taken = place.commands.taken()
    assert (100 + (not first), [0]) == (sum(taken["insert"]), taken["commitTransaction"])
    assert sizes == {one["_id"]: len(one["text"]) for one in place.stored() if one["_id"] >= 0}


@pytest.fixture
def evicted(own_uri: str) -> Callable[[], None]:
    """Waits until the tests' own server has written what was changed in its cache, as far as it does."""

    def wait() -> None:
        deadline = time.monotonic() + 60
        with pymongo.MongoClient[dict[str, Any]](own_uri) as client:
            while True:
                cache = client.admin.command("serverStatus")["wiredTiger"]["cache"]
                if cache["tracked dirty bytes in the cache"] < cache["maximum bytes configured"] / 10:
                    return
                assert time.monotonic() < deadline
                time.sleep(0.05)

    return wait


async def test_more_than_a_transaction_holds(own_place: Place, evicted: Callable[[], None]) -> None:
    """What the server's cache cannot hold is an error that says what to do; nothing is there; parts of it work."""
    place = own_place
    notes = [Note(id=key, text=f"{key:08}" * 2**17) for key in range(200)]
    async with place.db.session() as session:
        for _ in range(5):
            evicted()
            session.add_all(notes)
            with pytest.raises(WriteError) as raised:
                await session.commit()
            assert 0 == place.count()
            await session.rollback()
            if not has_error_label(raised.value, "TransientTransactionError"):  # as a full cache may be reported first
                break
        assert "commit smaller units of work" in str(raised.value)
    evicted()
    for start in range(0, 40, 10):

        async def add(session: Any, start: int = start) -> None:
            session.add_all([Note(id=key, text=f"{key:08}" * 2**17) for key in range(start, start + 10)])

        await place.db.run(add)  # again where the cache is full still
    assert 40 == place.count()


@pytest.mark.parametrize("transaction", [False, True])
async def test_more_joined_than_an_answer_holds(place: Place, transaction: bool) -> None:
    """A document too large with what is joined to it is an error that says what to do, and that works."""
    async with place.db.begin() as session:
        session.add(Shelf(id=1))
        session.add_all([Book(id=key, text="x" * 2**22, shelf_id=1) for key in range(5)])
    joined = [
        select(Shelf).options(joinedload(Shelf.books)),
        select(Shelf).options(joinedload(Shelf.books).joinedload(Book.shelf)),
    ]
    for statement in joined:
        async with place.db.session() as session:
            if transaction:
                session.add(Note(id=1))
                await session.flush()
            with pytest.raises((StatementError, BackendError), match=r"selectinload .* joinedload for Shelf\.books"):
                await session.scalars(statement)
    for statement in joined:
        async with place.db.session() as session:
            with pytest.raises((StatementError, BackendError), match=r"selectinload .* joinedload for Shelf\.books"):
                [shelf async for shelf in session.stream_scalars(statement)]
    async with place.db.session() as session:
        if transaction:
            session.add(Note(id=1))
            await session.flush()
        below = select(Book).where(Book.id == 1).options(selectinload(Book.shelf).joinedload(Shelf.books))
        with pytest.raises((StatementError, BackendError), match=r"selectinload .* joinedload for Shelf\.books"):
            await session.scalars(below)
        await session.rollback()
        shelf = (await session.scalars(select(Shelf).options(selectinload(Shelf.books)))).one()
        assert [0, 1, 2, 3, 4] == sorted(book.id for book in shelf.books)
        shelf.books[0].text = "short"
        await session.commit()
    assert [5, *[2**22] * 4] == sorted(len(one["text"]) for one in place.stored("books"))
