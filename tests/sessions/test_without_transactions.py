"""Faults between the writes of a flush where there are no transactions.

What was written stays, no reference leads nowhere, the error says how far it came, and the unit can be done again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from uuid import uuid4

import pymongo
import pytest

from superorm import BackendError, DuplicateKeyError, PendingRollbackError, SuperormError, connect, connect_async
from superorm.backends.mongomock_engine import MongomockEngine, mongomock_client
from tests.databases import drop_database
from tests.sessions import linked
from tests.sessions.driven import Driven
from tests.sessions.faults import APP, failing_write
from tests.sessions.killed_writer import SETTINGS
from tests.sessions.linked import Author, Book, Page, Reader
from tests.sessions.taking import take

WRITER = "writer"
WRITES = [
    "1 inserted into linked_authors",
    "2 inserted into linked_books",
    "3 inserted into linked_pages",
    "1 changed in linked_readers",
    "3 deleted from linked_pages",
    "2 deleted from linked_books",
    "1 deleted from linked_authors",
]
"""Those of a unit, as messages name them."""

Failing = Callable[[str, int], AbstractContextManager[None]]
"""A block in which writes have a fault, after the first so many."""


@pytest.fixture(params=["mongodb", "mongomock"])
def server(request: pytest.FixtureRequest) -> str:
    """What keeps the documents."""
    return str(request.param)


@pytest.fixture
def name() -> str:
    """The name of a database."""
    return f"alone_{uuid4().hex[:12]}"


@pytest.fixture
def raw(request: pytest.FixtureRequest, server: str, name: str) -> Iterator[Any]:
    """The database without superorm."""
    if server == "mongomock":
        yield mongomock_client(name)[name]
        return
    with pymongo.MongoClient[dict[str, Any]](request.getfixturevalue("alone_uri")) as client:
        yield client[name]
        drop_database(client, name)


@pytest.fixture
def failing(request: pytest.FixtureRequest, server: str, monkeypatch: pytest.MonkeyPatch) -> Failing:
    """How to make writes fail."""
    if server == "mongodb":
        uri = request.getfixturevalue("alone_uri")
        return lambda fault, number: failing_write(uri, fault, number)
    write = MongomockEngine.write

    @contextmanager
    def fails(fault: str, number: int) -> Iterator[None]:
        left = [number]

        def count(engine: MongomockEngine, what: Any) -> Any:
            if not left[0]:
                raise BackendError(fault)
            left[0] -= 1
            return write(engine, what)

        with monkeypatch.context() as patch:
            patch.setattr(MongomockEngine, "write", count)
            yield

    return fails


@pytest.fixture(params=["sync", "async"])
def db(request: pytest.FixtureRequest, server: str, name: str, raw: Any, impatient: None) -> Iterator[Any]:
    """The database by a DB, or by an `AsyncDB` that is driven."""
    url = f"mongomock://{name}"
    if server == "mongodb":
        url = f"{request.getfixturevalue('alone_uri')}&appName={APP}"
    if request.param == "sync":
        with connect(url, database=name, **SETTINGS) as db:
            yield db
        return
    with asyncio.Runner() as runner:
        db = Driven(connect_async(url, database=name, **SETTINGS), runner)
        try:
            yield db
        finally:
            db.close()


def do(session: Any, unit: int, *, again: bool = False) -> None:
    """Commit a unit."""
    take(linked.steps(session, WRITER, unit, again=again))
    session.commit()


@pytest.mark.parametrize("fault", ["time-out", "network", "unknown result"])
def test_a_fault_between_writes(db: Any, raw: Any, server: str, failing: Failing, fault: str) -> None:
    """Each write of a unit fails once; the unit is then completed in the same session, or in another."""
    session = db.session()
    session.add(linked.begun(WRITER))
    session.commit()
    do(session, 0)
    for number in range(len(WRITES)):
        unit = number + 1
        stages = linked.stages(WRITER, unit)
        assert stages[0] == linked.state(raw, WRITER)
        with failing(fault, number), pytest.raises(SuperormError) as raised:
            do(session, unit)
        done = number + (fault == "unknown result" and server == "mongodb")  # which is carried out
        assert stages[done] == linked.state(raw, WRITER)
        stay = ", ".join(WRITES[:number]) or "nothing"
        note = f"there are no transactions here, so this stays: {stay}; and perhaps, or in part: {WRITES[number]}"
        assert [note] == raised.value.__notes__
        with pytest.raises(PendingRollbackError):
            session.commit()
        session.rollback()
        if number % 2:
            session.close()
            session = db.session()
        do(session, unit, again=True)
        assert stages[-1] == linked.state(raw, WRITER)
    session.close()


def there(raw: Any, key: str) -> set[str]:
    """The collections that have a document of this key."""
    return {name for name in raw.list_collection_names() if raw[name].count_documents({"_id": key})}


@pytest.mark.parametrize("number", [1, 2, 3])
def test_classes_that_refer_to_one_another(db: Any, raw: Any, failing: Failing, number: int) -> None:
    """What counts are the references which there are, and all but those of a knot are never without their document."""
    book = Book(id="1", author=Author(id="1"), pages=[Page(id="1")])
    given = [*book.pages, Reader(id="1", book=book), book, book.author]
    session = db.session()
    session.add_all(given)
    with failing("time-out", number), pytest.raises(SuperormError):
        session.commit()
    assert number == len(there(raw, "1"))
    linked.none_dangling(raw)
    session.rollback()
    given = [session.merge(one) for one in given]
    session.commit()
    assert 4 == len(there(raw, "1"))
    for one in reversed(given):
        session.delete(one)
    with failing("time-out", number), pytest.raises(SuperormError):
        session.commit()
    assert 4 - number == len(there(raw, "1"))
    linked.none_dangling(raw)
    session.close()


def test_a_knot(db: Any, raw: Any, failing: Failing) -> None:
    """One of two documents that refer to one another is written first; what else refers to them comes later."""
    book = Book(id="1", author=Author(id="1", reader=Reader(id="1")), pages=[Page(id="1")])
    book.author.reader.author = book.author
    session = db.session()
    session.add_all([*book.pages, book, book.author, book.author.reader])
    with failing("time-out", 1), pytest.raises(SuperormError):
        session.commit()
    assert there(raw, "1") in ({"linked_authors"}, {"linked_readers"})
    session.close()


def test_merged_again(db: Any, raw: Any) -> None:
    """A list of new objects whose documents are there keeps them in its list: they hold its object's key."""
    for _ in range(2):
        session = db.session()
        book = session.merge(Book(id="book", pages=[Page(id="first"), Page(id="second")]))
        session.commit()
        assert ["first", "second"] == [page.id for page in book.pages]
        assert [{"_id": "first", "book_id": "book"}, {"_id": "second", "book_id": "book"}] == list(
            raw.linked_pages.find(sort=[("_id", 1)])
        )
        session.close()


def test_a_write_halfway(db: Any, raw: Any) -> None:
    """The note is also about the only write, where that is of several documents."""
    raw.linked_pages.insert_one({"_id": "b"})
    for names, notes in ("abc", ["perhaps, or in part: 3 inserted into linked_pages"]), ("b", []):
        session = db.session()
        session.add_all([Page(id=name) for name in names])
        with pytest.raises(DuplicateKeyError) as raised:
            session.commit()
        assert notes == [note.partition("; and ")[2] for note in getattr(raised.value, "__notes__", [])]
        session.rollback()
        session.close()
    assert ["a", "b"] == sorted(page["_id"] for page in raw.linked_pages.find())
