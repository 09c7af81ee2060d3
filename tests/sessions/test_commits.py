"""Commits whose result is unknown, and units of work that the server asks to repeat."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pymongo
import pytest
from pymongo.monitoring import CommandListener

from superorm import (
    DB,
    BackendError,
    Document,
    Mapped,
    MemoryVectorIndex,
    MongoArtifactStore,
    MongoDatabackend,
    MongoMetaDataStore,
    Session,
    WriteError,
    connect_async,
    field,
)
from superorm._sync import retrying
from superorm.backends.errors import has_error_label


class Entry(Document):
    __collection__ = "entries"

    id: Mapped[int] = field(primary_key=True)


class Commits(CommandListener):
    """The write concerns of the commits that were sent."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def started(self, event: Any) -> None:
        if event.command_name == "commitTransaction":
            self.sent.append(dict(event.command["writeConcern"]))

    def succeeded(self, event: Any) -> None:
        pass

    def failed(self, event: Any) -> None:
        pass


@contextmanager
def failing(uri: str, command: str, mode: object, **how: Any) -> Iterator[None]:
    """Let the server fail a command."""
    with pymongo.MongoClient[Any](uri) as client:
        point = {"configureFailPoint": "failCommand", "mode": mode, "data": {"failCommands": [command], **how}}
        client.admin.command(point)
        try:
            yield
        finally:
            client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


class Place:
    """A DB whose commits are seen."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.commits = Commits()
        self.client = pymongo.MongoClient[Any](uri, event_listeners=[self.commits])
        self.name = name = f"commits_{uuid4().hex[:12]}"
        self.db = DB(
            MongoDatabackend(self.client, name),
            MongoMetaDataStore(self.client, name),
            MongoArtifactStore(self.client, name=f"_filesystem:{name}"),
            MemoryVectorIndex(),
        )
        self.db.create_all(Entry)

    def stored(self) -> list[int]:
        return [one["_id"] for one in self.client[self.name].entries.find(sort=[("_id", 1)])]


@pytest.fixture
def place(own_uri: str, impatient: None) -> Iterator[Place]:
    """A database on a server that fails on demand."""
    place = Place(own_uri)
    yield place
    place.client.admin.command("killAllSessions", [])  # a commit that failed on demand leaves its transaction open
    place.db.close()
    place.client.close()


UNKNOWN: list[dict[str, Any]] = [
    {"closeConnection": True},
    {"errorCode": 262, "errorLabels": ["RetryableWriteError"]},
    {"writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}},
]


@pytest.mark.parametrize("how", UNKNOWN, ids=["connection", "timeout", "wtimeout"])
def test_an_unknown_result_is_cleared_up(place: Place, how: dict[str, Any]) -> None:
    """The commit is sent again, to the majority and with a time limit, until the result is known."""
    with failing(place.uri, "commitTransaction", {"times": 5}, **how), place.db.begin() as session:
        session.add(Entry(id=1))
    assert [1] == place.stored()
    assert len(place.commits.sent) >= 6
    assert {"w": "majority"} == place.commits.sent[0]
    assert [{"w": "majority", "wtimeout": 10_000}] * 2 == place.commits.sent[-2:]


async def test_an_unknown_result_is_cleared_up_async(place: Place) -> None:
    """The same in an event loop."""
    async with connect_async(place.uri, database=place.name, vector_database="memory://", signing_key="key") as db:
        await db.open()
        with failing(place.uri, "commitTransaction", {"times": 5}, closeConnection=True):
            async with db.begin() as session:
                session.add(Entry(id=1))
    assert [1] == place.stored()


def test_a_commit_that_takes_too_long_is_not_repeated(place: Place) -> None:
    """Where the time for it is over, the error says that the result is not known."""
    with failing(place.uri, "commitTransaction", {"times": 1}, errorCode=50), place.db.session() as session:
        session.add(Entry(id=1))
        with pytest.raises(BackendError, match="not known whether"):
            session.commit()
        assert 1 == len(place.commits.sent)
        session.rollback()
        session.add(Entry(id=2))
        session.commit()
    assert 2 in place.stored()


def test_run_does_not_repeat_a_unit_of_work_that_may_be_committed(place: Place) -> None:
    """Doing it again might do it twice."""
    calls = 0

    def work(session: Session) -> None:
        nonlocal calls
        calls += 1
        session.add(Entry(id=calls))

    unknown = pytest.raises(BackendError, match="not known whether")
    with failing(place.uri, "commitTransaction", {"times": 1}, errorCode=50), unknown:
        place.db.run(work)
    assert 1 == calls


@pytest.mark.parametrize("command", ["insert", "commitTransaction"])
@pytest.mark.parametrize("code", [112, 251], ids=["conflict", "gone"])
def test_run_repeats_what_the_server_says_may_pass(place: Place, command: str, code: int) -> None:
    """An error with the label TransientTransactionError, in the work or in its commit."""
    calls = 0

    def work(session: Session) -> int:
        nonlocal calls
        calls += 1
        session.add(Entry(id=calls))
        session.flush()
        return calls

    how = {"errorCode": code, "errorLabels": ["TransientTransactionError"]}
    with failing(place.uri, command, {"times": 2}, **how):
        assert 3 == place.db.run(work)
    assert [3] == place.stored()


def test_run_gives_up_after_so_many_attempts(place: Place) -> None:
    """The last error carries the server's label, and says how often it was tried."""
    how = {"errorCode": 112, "errorLabels": ["TransientTransactionError"]}
    with failing(place.uri, "insert", "alwaysOn", **how), pytest.raises(WriteError, match="Failing command") as caught:
        place.db.run(lambda session: session.add(Entry(id=1)), attempts=3)
    assert has_error_label(caught.value, "TransientTransactionError")
    assert ["db.run() made 3 attempts"] == caught.value.__notes__
    assert [] == place.stored()


def test_run_gives_up_after_two_minutes(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many attempts are left."""
    monkeypatch.setattr(retrying, "_SECONDS", 0.2)
    how = {"errorCode": 112, "errorLabels": ["TransientTransactionError"]}
    with failing(place.uri, "insert", "alwaysOn", **how), pytest.raises(WriteError, match="Failing command") as caught:
        place.db.run(lambda session: session.add(Entry(id=1)), attempts=10_000)
    (note,) = caught.value.__notes__
    assert 1 < int(note.split()[2]) < 1000
