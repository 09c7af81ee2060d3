"""Faults of the server at each command of a unit of work: it is applied once, or there is an error and it is not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import numpy as np
import pymongo
import pytest
import pytest_asyncio

from superorm import (
    AsyncDB,
    AsyncSession,
    Document,
    Mapped,
    Model,
    PendingRollbackError,
    SuperormError,
    connect_async,
    field,
    func,
    select,
    vector,
)
from superorm._async import vector_models
from superorm.backends._async import transactions
from superorm.schema.mapping import class_map
from tests.sessions.faults import (
    APP,
    FAULTS,
    PASSING,
    SHORT,
    Mode,
    cases,
    end_given_up,
    failing,
    failing_write,
    given_up,
    nothing_open,
)

ATTEMPTS = 3
UNDER_FAULTS = pytest.mark.parametrize(
    ("fault", "mode"),
    [
        pytest.param(fault, mode, id=f"{fault}, {mode}", marks=[] if (fault, mode) in SHORT else pytest.mark.soak)
        for fault in FAULTS
        for mode in ("once", "always")
    ],
)


class Tally(Document):
    __collection__ = "tallies"

    id: Mapped[int] = field(primary_key=True)
    number: Mapped[int] = field(default=0)
    units: Mapped[list[int]] = field(factory=list)


class Unit(Document):
    __collection__ = "units"

    id: Mapped[int] = field(primary_key=True)


class Picture(Document):
    __collection__ = "pictures"

    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str]
    seen: Mapped[np.ndarray | None] = vector(2)
    said: Mapped[np.ndarray | None] = vector(2, source="text", model="lengths")


def length_of(text: str) -> list[float]:
    return [float(len(text)), 1.0]


class Place:
    """A DB whose commands fail on demand, and the same database by plain PyMongo."""

    def __init__(self, uri: str, name: str, db: AsyncDB) -> None:
        self.uri = uri
        self.name = name
        self.db = db
        self.unit = 0

    def applied(self) -> int:
        """How many units there are; what the units did agrees."""
        with pymongo.MongoClient[dict[str, Any]](self.uri) as client, client.start_session(snapshot=True) as snapshot:
            tally = client[self.name].tallies.find_one({"_id": 0}, session=snapshot)
            units = [document["_id"] for document in client[self.name].units.find(session=snapshot)]
        assert tally is not None
        assert tally["number"] == len(tally["units"]) == len(set(tally["units"]))
        assert tally["units"][-1:] == units
        return int(tally["number"])

    async def work(self, session: AsyncSession) -> None:
        """A unit that sends each of the commands, all in its transaction."""
        session.add(Unit(id=self.unit))
        await session.flush()
        tally = await session.get_one(Tally, 0)
        before = await session.scalar(select(func.max(Unit.id)).where(Unit.id < self.unit))
        tally.number += 1
        tally.units.append(self.unit)
        if before is not None:
            session.delete(await session.get_one(Unit, before))

    async def next_unit(self) -> int:
        """Begin a unit; the number of those before it."""
        self.unit += 1
        return self.applied()


@pytest_asyncio.fixture
async def place(own_uri: str, impatient: None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    """A database with one unit in it."""
    monkeypatch.setattr(transactions, "_COMMIT_SECONDS", 0.1)
    end_given_up(own_uri)
    name = f"faults_{uuid4().hex[:12]}"
    db = connect_async(f"{own_uri}&appName={APP}", database=name, vector_database="memory://", signing_key="test-key")
    async with db:
        await db.create_all(Tally, Unit)
        async with db.begin() as session:
            session.add(Tally(id=0))
        place = Place(own_uri, name, db)
        await db.run(place.work)
        yield place


def succeeds(fault: str, command: str, mode: Mode) -> bool:
    """Whether `AsyncDB.run` has to come through."""
    if mode == "always":
        return False
    return fault in PASSING or fault == "unknown result"


async def run_under(place: Place, fault: str, command: str, mode: Mode) -> None:
    """A unit by `AsyncDB.run` under a fault."""
    before = await place.next_unit()
    error: SuperormError | None = None
    with failing(place.uri, fault, command, mode):
        try:
            await place.db.run(place.work, attempts=ATTEMPTS)
        except SuperormError as raised:
            error = raised
    after = place.applied()
    assert succeeds(fault, command, mode) == (error is None), error
    if given_up(fault, command, mode):
        end_given_up(place.uri)
    nothing_open(place.uri)
    applied = error is None or fault == "unknown result"  # which the server carries out, and does not say so
    assert before + applied == after


async def session_under(place: Place, fault: str, command: str, mode: Mode) -> None:
    """A unit by a session under a fault, which goes on after a rollback."""
    before = await place.next_unit()
    error: SuperormError | None = None
    async with place.db.session() as session:
        with failing(place.uri, fault, command, mode):
            try:
                await place.work(session)
                await session.commit()
            except SuperormError as raised:
                error = raised
                if command not in ("find", "aggregate"):
                    with pytest.raises(PendingRollbackError):
                        await session.flush()
            await session.rollback()
        if given_up(fault, command, mode):
            end_given_up(place.uri)
        nothing_open(place.uri)
        assert before + (error is None or fault == "unknown result") == place.applied()
        if mode == "always" or command != "commitTransaction":
            assert error is not None
        before = await place.next_unit()
        await place.work(session)
        await session.commit()
    assert before + 1 == place.applied()
    nothing_open(place.uri)


@UNDER_FAULTS
async def test_run(place: Place, fault: str, mode: Mode) -> None:
    """`AsyncDB.run` applies a unit exactly once, or raises and applies nothing."""
    for which, command in cases():
        if which == fault:
            await run_under(place, fault, command, mode)


@UNDER_FAULTS
async def test_session(place: Place, fault: str, mode: Mode) -> None:
    """A session raises superorm's error, and goes on after a rollback."""
    for which, command in cases():
        if which == fault:
            await session_under(place, fault, command, mode)


@pytest.mark.parametrize("fault", ["network", "not primary", "conflict"])
async def test_abort(place: Place, fault: str) -> None:
    """A fault of the abort changes nothing: the user's own error comes through, and nothing is applied."""
    before = await place.next_unit()

    async def give_up() -> None:
        async with place.db.begin() as session:
            await place.work(session)
            await session.flush()
            raise ZeroDivisionError

    with failing(place.uri, fault, "abortTransaction", "once"), pytest.raises(ZeroDivisionError):
        await give_up()
    assert before == place.applied()
    await place.next_unit()
    await place.db.run(place.work)
    assert before + 1 == place.applied()
    nothing_open(place.uri)  # the server session is used again, which ends what an abort in vain left open


def pictures(place: Place) -> list[list[dict[str, Any]]]:
    """What is stored of pictures, of units, and of the keys whose vectors were touched."""
    with pymongo.MongoClient[dict[str, Any]](place.uri) as client:
        stored = client[place.name]
        records = stored["_superorm_records"].find({"kind": "record"}, {"keys": 1}, sort=[("_id", 1)])
        return [
            list(stored.pictures.find(sort=[("_id", 1)])),
            list(stored.units.find(sort=[("_id", 1)])),
            list(records),
        ]


@pytest.mark.parametrize(("lease", "writes"), [(60.0, 6), (0.0, 7)], ids=["known", "looked for"])
@pytest.mark.parametrize("fault", ["transient", "conflict", "time-out", "not primary"])
async def test_each_write_of_vectors(
    place: Place, fault: str, lease: float, writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever write of a flush fails, also that of the records, nothing is applied, and the session goes on."""
    db = place.db
    await db.add(Model("lengths", length_of, fingerprint="1"))
    async with db.begin() as session:
        session.add_all([Picture(id=0, text="zero"), Picture(id=1, text="one")])
    for vectors in class_map(Picture).vectors:
        await db.vectors.apply(vectors.spec)  # so that nothing else is written below
    monkeypatch.setattr(vector_models, "LEASE", lease)
    failed = 0
    while failed < 10:
        before = pictures(place)
        async with db.session() as session:
            zero, one = await session.get_one(Picture, 0), await session.get_one(Picture, 1)
            session.add_all([Unit(id=100), Picture(id=100, text="new", seen=np.ones(2))])
            zero.text = "another"
            session.delete(one)
            with failing_write(place.uri, fault, failed):
                try:
                    await session.commit()
                    break
                except SuperormError:
                    with pytest.raises(PendingRollbackError):
                        await session.flush()
                await session.rollback()
            assert "zero" == zero.text
            assert before == pictures(place)
        nothing_open(place.uri)
        failed += 1
    # a fence in the place of the one that the failure before may have left written to, two collections inserted into,
    # an update, a deletion, the records, and what a switch would be in conflict with, as by that lease every look at
    # the version was too slow
    assert writes == failed
    found, units, records = pictures(place)
    assert [0, 100] == [one["_id"] for one in found]
    assert {100} < {one["_id"] for one in units}
    touched = sorted(key for one in records[len(before[2]) :] for key in one["keys"])
    assert [0, 1, 1, 100, 100] == touched  # only one vector of the changed picture


@pytest.mark.parametrize(
    "fault",
    ["transient", "not primary", *(pytest.param(name, marks=pytest.mark.soak) for name in ("conflict", "time-out"))],
)
async def test_each_command_of_a_first_flush(own_uri: str, impatient: None, fault: str) -> None:
    """Whichever command fails by which a DB prepares itself before its first transaction, a later commit succeeds."""
    name = f"faults_{uuid4().hex[:12]}"
    uri = f"{own_uri}&appName={APP}"
    failed = 0
    while failed < 30:
        db = connect_async(uri, database=name, vector_database="memory://", signing_key="test-key")
        async with db, db.session() as session:
            session.add_all([Unit(id=failed), Tally(id=failed)])
            with failing_write(own_uri, fault, failed, FIRST):
                try:
                    await session.commit()
                    break
                except SuperormError:
                    with pytest.raises(PendingRollbackError):
                        await session.flush()
                await session.rollback()
            assert failed == stored_units(own_uri, name)
            nothing_open(own_uri)
            session.add_all([Unit(id=failed), Tally(id=failed)])
            await session.commit()
        with pymongo.MongoClient[dict[str, Any]](own_uri) as client:
            assert failed + 1 == stored_units(own_uri, name)
            for collection in client[name].list_collection_names(filter={"name": {"$regex": "^_superorm|tallies"}}):
                client[name].drop_collection(collection)
        failed += 1
    assert 8 < failed < 30
    assert failed + 1 == stored_units(own_uri, name)


FIRST = ["listCollections", "aggregate", "create", "createIndexes", "find", "insert", "update"]
"""The commands that a first flush sends before the commit."""


def stored_units(uri: str, name: str) -> int:
    """How many units there are."""
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        return client[name].units.count_documents({})
