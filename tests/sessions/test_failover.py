"""The primary goes away under a writing load: nothing acknowledged is lost, nothing is applied twice, it goes on."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pymongo
import pytest
from pymongo.read_concern import ReadConcern

from superorm import DB, Session, connect
from superorm.exc import BackendError, WriteError
from tests.sessions.servers import Member, name_successor, replica_set, step_down, wait_primary
from tests.sessions.unit_of_work import CLASSES, Total, whole_units, work

WRITERS = 3
BOUND = 30.0
"""Seconds within which writers go on once the set takes transactions again."""
SET_BOUND = 120.0
"""Seconds within which the set itself takes transactions again, as plain PyMongo sees it."""
OPTIONS = "replicaSet=tests&heartbeatFrequencyMS=500&connectTimeoutMS=1000&socketTimeoutMS=2000"


class Witness:
    """Plain PyMongo, which commits one transaction after another: when does the set itself take them?"""

    def __init__(self, uri: str) -> None:
        self.times: list[float] = []
        self._uri = uri
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def _write(self) -> None:
        with pymongo.MongoClient[dict[str, Any]](self._uri, w="majority") as client:
            collection = client["witness"]["ticks"]
            while not self._stopping.is_set():
                try:
                    with client.start_session() as session, session.start_transaction():
                        collection.update_one({"_id": 1}, {"$inc": {"n": 1}}, upsert=True, session=session)
                except pymongo.errors.PyMongoError:
                    continue
                self.times.append(time.monotonic())
                self._stopping.wait(0.05)

    def __enter__(self) -> Witness:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def since(self, start: float) -> float | None:
        """When a transaction that began after the start was committed first; None where none was yet."""
        after = [moment for moment in self.times[-200:] if moment > start]
        return after[1] if len(after) > 1 else None  # the first one may have begun before


class Load:
    """Writers that commit unit after unit by `DB.run`, and note what was acknowledged."""

    def __init__(self, db: DB, witness: Witness) -> None:
        self.db = db
        self.witness = witness
        self.acknowledged: dict[str, list[int]] = {f"writer {number}": [] for number in range(WRITERS)}
        self.in_doubt: dict[str, set[int]] = {name: set() for name in self.acknowledged}
        self.times: list[float] = []
        self.failures: list[BaseException] = []
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(name,)) for name in self.acknowledged]

    def _write(self, name: str) -> None:
        unit = -1
        try:
            while not self._stopping.is_set():
                unit += 1

                def one(session: Session, unit: int = unit) -> None:
                    work(session, name, unit)

                try:
                    self.db.run(one, attempts=200)
                except (BackendError, WriteError):  # whether it was applied is not known
                    self.in_doubt[name].add(unit)
                else:
                    self.acknowledged[name].append(unit)
                    self.times.append(time.monotonic())
        except BaseException as error:
            self.failures.append(error)
            raise

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def goes_on(self) -> float:
        """Wait until units that begin now are acknowledged; the seconds that takes."""
        start, before = time.monotonic(), len(self.times)
        while len(self.times) < before + 2 * WRITERS:
            assert [] == self.failures
            now, able = time.monotonic(), self.witness.since(start)
            assert now - start < SET_BOUND, "the set does not go on"
            assert able is None or now - able < BOUND, "the load does not go on"
            time.sleep(0.02)
        return time.monotonic() - start


@pytest.fixture
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Member]]:
    """A replica set of three members."""
    with replica_set(tmp_path_factory.mktemp("set"), 3) as members:
        yield members


def disturb(members: list[Member], how: str, load: Load) -> None:
    """Take the primary away, wait until the load goes on without it, and give it back."""
    primary = wait_primary(members)
    if how == "step down":
        step_down(primary)
        load.goes_on()
    elif how == "kill":
        primary.kill()
        load.goes_on()
        primary.start()
    else:
        name_successor(members, primary)
        primary.signal(signal.SIGSTOP)
        try:
            load.goes_on()
        finally:
            primary.signal(signal.SIGCONT)
    load.goes_on()


@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=pytest.mark.soak)], ids=["short", "long"])
def test_failover(members: list[Member], rounds: int) -> None:
    """The primary steps down, is killed and is frozen, in turn."""
    hosts = ",".join(member.address for member in members)
    uri = f"mongodb://{hosts}/?{OPTIONS}"
    with (
        connect(uri, database="failover", vector_database="memory://", signing_key="test-key") as db,
        Witness(uri) as witness,
    ):
        db.create_all(*CLASSES)
        load = Load(db, witness)
        with db.begin() as session:
            session.add_all([Total(id=name) for name in load.acknowledged])
        with load:
            load.goes_on()
            for _ in range(rounds):
                for how in ("step down", "kill", "stop"):
                    disturb(members, how, load)
    assert [] == load.failures
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        found = whole_units(client.get_database("failover", read_concern=ReadConcern("majority")))
    for name, units in found.items():
        assert sorted(units) == units
        assert set(load.acknowledged[name]) <= set(units)
        assert set(units) <= set(load.acknowledged[name]) | load.in_doubt[name]
    assert sum(map(len, load.acknowledged.values())) > 10 * rounds
