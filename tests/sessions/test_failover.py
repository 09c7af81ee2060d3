"""The primary goes away under a writing load: nothing acknowledged is lost, nothing is applied twice, it goes on."""

from __future__ import annotations

import asyncio
import itertools
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pymongo
import pytest
from pymongo.read_concern import ReadConcern

from superorm import AsyncSession, Session, connect, connect_async
from superorm.exc import BackendError, WriteError
from tests.sessions.servers import Member, name_successor, replica_set, step_down, thaw, wait_primary
from tests.sessions.taking import take, take_async
from tests.sessions.unit_of_work import CLASSES, begun, steps, whole_units

WRITERS = 3
BOUND = 30.0
"""Seconds within which writers go on once the set takes transactions again."""
SET_BOUND = 120.0
"""Seconds within which the set itself takes transactions again, as plain PyMongo sees it."""
DATABASE = "failover"
SETTINGS: dict[str, Any] = {"database": DATABASE, "vector_database": "memory://", "signing_key": "test-key"}
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
    """Writers, half of them threads and half tasks, that commit unit after unit, and note what was acknowledged."""

    def __init__(self, uri: str, witness: Witness) -> None:
        self.uri = uri
        self.witness = witness
        self.kinds = {kind: [f"{kind} {number}" for number in range(WRITERS)] for kind in ("thread", "task")}
        self.acknowledged: dict[str, list[int]] = {name: [] for names in self.kinds.values() for name in names}
        self.in_doubt: dict[str, set[int]] = {name: set() for name in self.acknowledged}
        self.failures: list[BaseException] = []
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(name,)) for name in self.kinds["thread"]]
        self._threads.append(threading.Thread(target=lambda: asyncio.run(self._write_tasks())))
        self._db = connect(uri, **SETTINGS)

    @contextmanager
    def _noting(self, name: str, unit: int) -> Iterator[None]:
        try:
            yield
        except (BackendError, WriteError):  # whether it was applied is not known
            self.in_doubt[name].add(unit)
        except BaseException as error:
            self.failures.append(error)
            raise
        else:
            self.acknowledged[name].append(unit)

    def _units(self) -> Iterator[int]:
        return itertools.takewhile(lambda _: not self._stopping.is_set(), itertools.count())

    def _write(self, name: str) -> None:
        for unit in self._units():

            def one(session: Session, unit: int = unit) -> None:
                take(steps(session, name, unit))

            with self._noting(name, unit):
                self._db.run(one, attempts=200)

    async def _write_tasks(self) -> None:
        async with connect_async(self.uri, **SETTINGS) as db:

            async def write(name: str) -> None:
                for unit in self._units():

                    async def one(session: AsyncSession, unit: int = unit) -> None:
                        await take_async(steps(session, name, unit))

                    with self._noting(name, unit):
                        await db.run(one, attempts=200)

            await asyncio.gather(*map(write, self.kinds["task"]))

    def __enter__(self) -> Load:
        self._db.create_all(*CLASSES)
        with self._db.begin() as session:
            session.add_all(map(begun, self.acknowledged))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._db.close()

    def done(self) -> dict[str, int]:
        """How many units of each kind were acknowledged."""
        return {kind: sum(len(self.acknowledged[name]) for name in names) for kind, names in self.kinds.items()}

    def goes_on(self) -> float:
        """Wait until units of each kind that begin now are acknowledged; the seconds that takes."""
        start, before = time.monotonic(), self.done()
        while any(done < before[kind] + 2 * WRITERS for kind, done in self.done().items()):
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
        thaw(primary)
    elif how == "kill":
        primary.kill()
        load.goes_on()
        primary.start()
    else:
        last = name_successor(members, primary)
        primary.signal(signal.SIGSTOP)
        try:
            load.goes_on()
        finally:
            primary.signal(signal.SIGCONT)
        thaw(last)
    load.goes_on()


@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=pytest.mark.soak)], ids=["short", "long"])
def test_failover(members: list[Member], rounds: int) -> None:
    """The primary steps down, is killed and is frozen, in turn."""
    hosts = ",".join(member.address for member in members)
    uri = f"mongodb://{hosts}/?{OPTIONS}"
    with Witness(uri) as witness, Load(uri, witness) as load:
        load.goes_on()
        for _ in range(rounds):
            for how in ("step down", "kill", "stop"):
                disturb(members, how, load)
    assert [] == load.failures
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        found = whole_units(client.get_database(DATABASE, read_concern=ReadConcern("majority")))
    for name, units in found.items():
        assert sorted(units) == units
        assert set(load.acknowledged[name]) <= set(units)
        assert set(units) <= set(load.acknowledged[name]) | load.in_doubt[name]
    assert all(done > 10 * rounds for done in load.done().values())
