"""Streams that nobody reads to their end, and what their cursors on the server then cost whom."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pymongo
import pytest
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from superorm import DB, Document, Mapped, Registry, field, select, superduper
from tests.databases import drop_database


class Leaf(Document, registry=Registry()):
    __collection__ = "leaves_streamed"
    id: Mapped[int] = field(primary_key=True)


class Killings(CommandListener):
    """The threads in which cursors are closed."""

    def __init__(self) -> None:
        self.threads: list[int] = []

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name == "killCursors":
            self.threads.append(threading.get_ident())

    def succeeded(self, event: CommandSucceededEvent) -> None: ...

    def failed(self, event: CommandFailedEvent) -> None: ...


@pytest.fixture
def killings() -> Killings:
    return Killings()


@pytest.fixture
def client(mongodb_uri: str, killings: Killings) -> Iterator[pymongo.MongoClient[dict[str, Any]]]:
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri, event_listeners=[killings]) as client:
        yield client


@pytest.fixture
def db(client: pymongo.MongoClient[dict[str, Any]]) -> Iterator[DB]:
    name = f"forgotten_{uuid4().hex[:12]}"
    with superduper(client[name]) as db:
        with db.begin() as session:
            session.add_all([Leaf(id=n) for n in range(30)])
        yield db
        drop_database(client, name)


def open_cursors(client: pymongo.MongoClient[dict[str, Any]], db: DB) -> int:
    every = {"$currentOp": {"allUsers": True, "idleCursors": True}}
    place = f"{db.parts.data_backend.name}.leaves_streamed"
    return sum(one.get("type") == "idleCursor" and one["ns"] == place for one in client.admin.aggregate([every]))


@pytest.mark.parametrize("in_transaction", [False, True])
def test_in_a_reference_cycle(
    db: DB, client: pymongo.MongoClient[dict[str, Any]], killings: Killings, in_transaction: bool
) -> None:
    """The garbage collector sends nothing in the thread that it works in; the cursor is closed soon all the same."""
    with db.session() as session:
        if in_transaction:
            session.add(Leaf(id=100))
            session.flush()
        ring: list[Any] = [session.stream(select(Leaf), batch_size=5)]
        ring.append(ring)
        next(ring[0])
        assert 1 == open_cursors(client, db)
        del ring
        gc.collect()
        assert threading.get_ident() not in killings.threads
        deadline = time.monotonic() + 20
        while open_cursors(client, db) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert 0 == open_cursors(client, db)
        assert threading.get_ident() not in killings.threads
        session.commit()
    with db.session() as session:
        assert 30 + in_transaction == session.count(select(Leaf))


@pytest.mark.parametrize("how", ["close", "break"])
def test_left_in_good_order(db: DB, client: pymongo.MongoClient[dict[str, Any]], killings: Killings, how: str) -> None:
    """One that is closed, or that a loop leaves, closes its cursor at once."""
    with db.session() as session:
        if how == "close":
            stream: Any = session.stream_scalars(select(Leaf), batch_size=5)
            next(stream)
            stream.close()
        else:
            for _ in session.stream_scalars(select(Leaf), batch_size=5):
                break
        assert [threading.get_ident()] == killings.threads
        assert 0 == open_cursors(client, db)
