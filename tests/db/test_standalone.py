"""Sessions on a real server that is in no replica set, and so has no transactions."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pymongo
import pytest

from superorm import (
    Document,
    DuplicateKeyError,
    Mapped,
    PendingRollbackError,
    StaleDocumentError,
    UnsupportedError,
    connect,
    connect_async,
    field,
    select,
)
from superorm.backends.mongod import find_mongod
from tests.databases import drop_database

SETTINGS: dict[str, Any] = {"vector_database": "memory://", "signing_key": "test-key"}


class Item(Document):
    __collection__ = "items"

    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str] = field(default="")
    version: Mapped[int] = field(version=True)


@pytest.fixture(scope="module")
def uri() -> Iterator[str]:
    """The URI of a mongod without a replica set."""
    with tempfile.TemporaryDirectory(prefix="superorm-alone-") as directory:
        arguments = ["--bind_ip", "./alone.sock", "--nounixsocket", "--dbpath", directory, "--quiet"]
        arguments += ["--wiredTigerCacheSizeGB", "0.25"]
        server = subprocess.Popen([find_mongod(), *arguments], cwd=directory, stdout=subprocess.DEVNULL)
        try:
            socket = Path(directory, "alone.sock")
            until = time.monotonic() + 60
            while not socket.exists():
                assert time.monotonic() < until
                assert server.poll() is None
                time.sleep(0.05)
            yield f"mongodb://{quote_plus(str(socket))}/?directConnection=true"
        finally:
            server.terminate()
            server.wait()


@pytest.fixture
def client(uri: str) -> Iterator[pymongo.MongoClient[dict[str, Any]]]:
    """A client; the database ``alone`` is dropped afterwards."""
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        yield client
        drop_database(client, "alone")


def stored(client: pymongo.MongoClient[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(one["_id"], one["name"]) for one in client["alone"]["items"].find(sort=[("_id", 1)])]


def test_a_session(uri: str, client: pymongo.MongoClient[dict[str, Any]]) -> None:
    """What was flushed stays, and what was not is taken back by a rollback; each document is written at its version."""
    with connect(uri, database="alone", **SETTINGS) as db, db.session() as session:
        items = [Item(id=1, name="a"), Item(id=2, name="b")]
        session.add_all(items)
        session.flush()
        assert not db.capabilities.transactions
        assert [(1, "a"), (2, "b")] == stored(client)
        session.commit()
        items[0].name = "c"
        session.rollback()
        assert ("a", "b") == (items[0].name, items[1].name)
        assert [(1, "a"), (2, "b")] == stored(client)
        items[0].name = "c"
        session.delete(items[1])
        session.commit()
        assert [(1, "c")] == stored(client)
        client["alone"]["items"].update_one({"_id": 1}, {"$set": {"name": "theirs"}, "$inc": {"version": 1}})
        items[0].name = "mine"
        with pytest.raises(StaleDocumentError):
            session.commit()
        with pytest.raises(PendingRollbackError):
            session.commit()
        session.rollback()
        session.refresh(items[0])
        assert "theirs" == items[0].name
        session.add_all([Item(id=3), Item(id=4)])
        session.commit()
        client["alone"]["items"].insert_one({"_id": 5, "name": "theirs", "version": 1})
        session.add(Item(id=5))
        with pytest.raises(DuplicateKeyError):
            session.commit()
        session.rollback()
        assert [(1, "theirs"), (3, ""), (4, ""), (5, "theirs")] == stored(client)
        assert [1, 3, 4, 5] == session.scalars(select(Item.id).order_by(Item.id)).all()
        assert 4 == db.run(lambda session: session.count(select(Item)))
        with pytest.raises(UnsupportedError, match="transactions"):
            db.session(require_transaction=True)


async def test_an_asynchronous_session(uri: str, client: pymongo.MongoClient[dict[str, Any]]) -> None:
    """The same."""
    async with connect_async(uri, database="alone", **SETTINGS) as db, db.session() as session:
        item = Item(id=1, name="a")
        session.add(item)
        await session.flush()
        assert [(1, "a")] == stored(client)
        await session.commit()
        item.name = "b"
        await session.rollback()
        assert [(1, "a")] == stored(client)
        assert "a" == item.name
        item.name = "c"
        await session.commit()
        assert [(1, "c")] == stored(client)
        assert [1] == [one.id async for one in session.stream_scalars(select(Item))]
