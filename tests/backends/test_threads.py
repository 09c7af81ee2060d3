"""Backends used by many threads at once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import mongomock
import pytest
from pymongo import MongoClient

from superorm.backends._sync.mongodb import MongoDatabackend
from superorm.backends._sync.mongomock import MongomockDatabackend
from superorm.backends.mongomock_engine import mongomock_client
from superorm.compile.plan import Count, Find
from superorm.exc import DuplicateKeyError
from superorm.unitofwork.writes import Insert, Update, UpdateOp, WriteResult
from tests.databases import drop_database

THREADS = 8


@pytest.fixture(params=["mongomock", "mongodb"])
def backends(request: pytest.FixtureRequest) -> Iterator[list[MongoDatabackend]]:
    """One backend a thread, all of one database; on a server each has a client of its own, as processes would."""
    name = f"superorm_test_{uuid4().hex}"
    if request.param == "mongomock":
        client = mongomock.MongoClient()
        yield [MongomockDatabackend(client, name) for _ in range(THREADS)]
        return
    uri = request.getfixturevalue("mongodb_uri")
    made = [MongoDatabackend(MongoClient(uri), name, owns_client=True) for _ in range(THREADS)]
    yield made
    drop_database(made[0].client, name)
    for backend in made:
        backend.close()


def at_once(backends: list[MongoDatabackend], work: Callable[[MongoDatabackend], Any]) -> list[Any]:
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, backends))


def test_creating_at_once(backends: list[MongoDatabackend]) -> None:
    """Any number of processes may make the same collection and index at the same time."""

    def create(backend: MongoDatabackend) -> str:
        backend.create_collection("c")
        return backend.create_index("c", [("a", 1)], unique=True)

    assert ["a_1"] * THREADS == at_once(backends, create)
    assert {"c"} == backends[0].collection_names()
    assert 2 == len(backends[0].indexes("c"))


def test_one_of_many_wins_a_key(backends: list[MongoDatabackend]) -> None:
    """Of inserts of one key at the same time one succeeds, by `_id` and by a unique index."""
    backends[0].create_index("c", [("u", 1)], unique=True)

    def insert(backend: MongoDatabackend, document: dict[str, Any]) -> int:
        try:
            return backend.write(Insert("c", [document])).matched
        except DuplicateKeyError:
            return 0

    for i in range(10):
        assert 1 == sum(at_once(backends, lambda backend, i=i: insert(backend, {"_id": i, "u": i})))
        assert 1 == sum(at_once(backends, lambda backend, i=i: insert(backend, {"u": f"u{i}"})))
    assert [{"n": 20}] == backends[0].read(Count("c"))


def test_no_update_is_lost(backends: list[MongoDatabackend]) -> None:
    """Updates of one document at the same time all count."""
    backends[0].write(Insert("c", [{"_id": 1, "n": 0}]))

    def increment(backend: MongoDatabackend) -> None:
        for _ in range(20):
            assert WriteResult(1, 1) == backend.write(Update("c", [UpdateOp(q={"_id": 1}, u={"$inc": {"n": 1}})]))

    at_once(backends, increment)
    assert [{"_id": 1, "n": 20 * THREADS}] == backends[0].read(Find("c"))


def test_clients_by_name() -> None:
    """The same name is the same data, within the process; any other client is not."""
    name = uuid4().hex
    MongomockDatabackend(mongomock_client(name), "db").write(Insert("c", [{"_id": 1}]))
    assert [{"_id": 1}] == MongomockDatabackend(mongomock_client(name), "db").read(Find("c"))
    assert [] == MongomockDatabackend(mongomock_client(f"{name}2"), "db").read(Find("c"))
    assert [] == MongomockDatabackend(mongomock.MongoClient(), "db").read(Find("c"))


def test_a_client_with_time_zones() -> None:
    """A mongomock client of the user's own may be set up either way."""
    date = datetime(2024, 1, 1, tzinfo=UTC)
    backend = MongomockDatabackend(mongomock.MongoClient(tz_aware=True), "db")
    backend.write(Insert("c", [{"_id": 1, "d": date}]))
    backend.write(Update("c", [UpdateOp(q={"d": date}, u={"$set": {"n": 1}})]))
    assert [{"_id": 1, "d": date, "n": 1}] == backend.read(Find("c", {"d": {"$gte": date}}))


def test_any_number_of_backends_share_a_client() -> None:
    """Reading does not get slower, or end in a RecursionError, with each of them."""
    name = uuid4().hex
    depths: list[int] = []
    for _ in range(3):
        backend = MongomockDatabackend(mongomock_client(name), "db")
        assert [] == backend.read(Find("c", {"n": 1}))
        depths.append(depth_of_scan(backend))
    assert 1 == len(set(depths))


def depth_of_scan(backend: MongomockDatabackend) -> int:
    """How many calls a scan of a collection makes."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        backend.read(Find("c", {"n": 1}))
    finally:
        sys.setprofile(None)
    return calls
