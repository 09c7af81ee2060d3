"""Several classes in one collection, and several vectors in one class: a write through one reaches all indexes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient

from superorm import (
    AsyncDB,
    BackendError,
    Document,
    Mapped,
    connect_async,
    delete,
    field,
    insert,
    select,
    update,
    vector,
)
from superorm._async import vector_records, vector_registered
from superorm._io import aio
from superorm.compile.plan import Aggregate, Find
from superorm.schema.registry import Registry
from superorm.vectors.records import COLLECTION

elsewhere = Registry()
"""Classes that the others know nothing of, as those of another program."""
NAME = "shared_vectors_songs"


class Song(Document):
    __collection__ = NAME
    id: Mapped[int] = field(primary_key=True)
    title: Mapped[str] = field(default="")
    sound: Mapped[np.ndarray | None] = vector(2, metric="euclidean")
    words: Mapped[np.ndarray | None] = vector(3, metric="euclidean")


class Cover(Song):
    """A subclass with a vector more."""

    own: Mapped[np.ndarray | None] = vector(2, metric="euclidean")


class Entry(Document):
    """A class of the same collection that knows of no vector."""

    __collection__ = NAME
    id: Mapped[int] = field(primary_key=True)
    title: Mapped[str] = field(default="")


class Sound(Document):
    """One that knows the same vector by another name, and another one."""

    __collection__ = NAME
    id: Mapped[int] = field(primary_key=True)
    vec: Mapped[np.ndarray | None] = vector(2, metric="euclidean", name="sound")
    mood: Mapped[np.ndarray | None] = vector(2, metric="euclidean")


class Plain(Document, registry=elsewhere):
    """One of a registry of its own."""

    __collection__ = NAME
    id: Mapped[int] = field(primary_key=True)
    title: Mapped[str] = field(default="")
    mix: Mapped[np.ndarray | None] = vector(2, metric="euclidean")


class Numbers(Document, registry=elsewhere):
    """One in which the same field is no vector."""

    __collection__ = NAME
    id: Mapped[int] = field(primary_key=True)
    sound: Mapped[list[float] | None] = field(default=None)


def at(number: float, size: int = 2) -> Any:
    """A vector, the farther from zero the larger the number."""
    return np.full(size, number, np.float32)


async def near(db: AsyncDB, on: Any, size: int = 2) -> list[int]:
    """The keys that an exact search of the vectors nearest to zero finds."""
    async with db.session() as session:
        owner = on._owner
        return (await session.scalars(select(owner.id).like(at(0, size), on=on, k=20, exact=True))).all()


async def fill(db: AsyncDB) -> None:
    """Two documents of each class that has vectors."""
    async with db.begin() as session:
        session.add_all(Song(id=n, sound=at(n), words=at(n, 3)) for n in (1, 2))
        session.add_all(Cover(id=n, sound=at(n), words=at(n, 3), own=at(n)) for n in (3, 4))
        session.add_all(Sound(id=n, vec=at(n), mood=at(n)) for n in (5, 6))
    assert [1, 2, 3, 4, 5, 6] == await near(db, Song.sound)
    assert [1, 2, 3, 4] == await near(db, Song.words, 3)
    assert [3, 4] == await near(db, Cover.own)
    assert [5, 6] == await near(db, Sound.mood)


HOW = ["objects", "statements", "others"]


async def change(db: AsyncDB, how: str) -> None:
    """Delete a document of each pair through another class; add one."""
    async with db.begin() as session:
        if how == "objects":
            for key in (1, 3, 5):
                session.delete(await session.get_one(Entry, key))
        elif how == "statements":
            await session.execute(delete(Entry).where(Entry.id.in_([1, 3, 5])))
        else:
            await session.execute(delete(Plain).where(Plain.id.in_([1, 3, 5])))
        session.add(Cover(id=7, sound=at(7), own=at(7)))


@pytest.mark.parametrize("how", HOW)
async def test_what_is_deleted_through_another_class(db: AsyncDB, how: str) -> None:
    """No search of any index finds it any more, and one finds what was added by another class."""
    await fill(db)
    await change(db, how)
    assert [2, 4, 6, 7] == await near(db, Song.sound)
    assert [2, 4, 6, 7] == await near(db, Sound.vec)
    assert [2, 4] == await near(db, Song.words, 3)
    assert [4, 7] == await near(db, Cover.own)
    assert [6] == await near(db, Sound.mood)
    assert (await db.check(Song, Sound)).ok


async def test_what_is_deleted_through_classes_of_two_registries(db: AsyncDB) -> None:
    """In one flush: each class's deletion reaches the indexes that only the other one knows."""
    await fill(db)
    async with db.begin() as session:
        session.add_all(Plain(id=n, mix=at(n)) for n in (8, 9))
    assert [8, 9] == await near(db, Plain.mix)
    async with db.begin() as session:
        session.delete(await session.get_one(Entry, 8))
        session.delete(await session.get_one(Plain, 1))
    assert [9] == await near(db, Plain.mix)
    assert [2, 3, 4, 5, 6] == await near(db, Song.sound)
    report = await db.check(Song, Sound, Plain)
    assert report.ok, report.problems


async def test_looking_for_the_indexes_of_others_reads_no_record(
    db: AsyncDB, mongodb_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of which there may be many: the server looks at the states alone."""
    await fill(db)
    if "Mongomock" in repr(db):
        return
    backend, sent = db.parts.data_backend, list[Any]()
    read = backend.read

    async def reads(plan: Any, **settings: Any) -> Any:
        sent.append(plan)
        return await read(plan, **settings)

    monkeypatch.setattr(vector_registered, "_LATE", -1.0)
    monkeypatch.setattr(backend, "read", reads)
    async with db.begin() as session:
        session.add(Song(id=20))
    # upkeep in the background reads with Find
    (plan,) = [one for one in sent if isinstance(one, Aggregate) and one.collection == COLLECTION]
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri) as client:
        command: dict[str, Any] = {"aggregate": COLLECTION, "pipeline": list(plan.pipeline), "cursor": {}}
        explained = await client[backend.name].command("explain", command, verbosity="executionStats")
        states = await client[backend.name][COLLECTION].count_documents({"kind": {"$in": ["state", "models"]}})
        records = await client[backend.name][COLLECTION].count_documents({"kind": "record"})
    assert records > 0
    assert states == _examined(explained)


def _examined(explained: Any) -> int:
    """How many documents an explained command looked at."""
    if "executionStats" in explained:
        return explained["executionStats"]["totalDocsExamined"]
    return explained["stages"][0]["$cursor"]["executionStats"]["totalDocsExamined"]


async def test_what_is_set_through_another_class(db: AsyncDB) -> None:
    """Objects and statements that change one vector leave the others found where they are."""
    await fill(db)
    async with db.begin() as session:
        (await session.get_one(Sound, 1)).vec = at(9)
        await session.execute(update(Sound).where(Sound.id == 2).values(vec=at(8), mood=at(8)))
        await session.execute(insert(Sound).values([{"id": 10, "vec": at(10)}]))
        await session.execute(insert(Entry).values([{"id": 3, "title": "no vectors"}]).upsert())
    assert [3, 4, 5, 6, 2, 1, 10] == await near(db, Song.sound)
    assert [1, 2, 3, 4] == await near(db, Song.words, 3)
    assert [5, 6, 2] == await near(db, Sound.mood)
    assert (await db.check(Song, Sound)).ok


@pytest_asyncio.fixture
async def other(db: AsyncDB, real: bool, mongodb_uri: str, tmp_path: Path) -> AsyncIterator[AsyncDB]:
    """Another program's view of the same database, with the same vectors where they are in files."""
    if not real:
        yield db
        return
    vectors = f"lancedb://{tmp_path / 'lance'}" if "Lance" in repr(db) else "memory://"
    name = db.parts.data_backend.name
    async with connect_async(mongodb_uri, database=name, vector_database=vectors) as found:
        yield found


async def test_writes_of_a_program_that_does_not_know_the_vectors(db: AsyncDB, other: AsyncDB) -> None:
    """It finds in the database which indexes there are, and says what it touched."""
    async with db.begin() as session:
        session.add_all(Song(id=n, sound=at(n), words=at(n, 3)) for n in range(1, 7))
    assert [1, 2, 3, 4, 5, 6] == await near(db, Song.sound)
    async with other.begin() as session:
        session.delete(await session.get_one(Plain, 1))
        await session.execute(delete(Plain).where(Plain.id == 2))
        await session.execute(update(Plain).where(Plain.id == 3).values(title="the same place"))
        await session.execute(insert(Plain).values([{"id": 8, "mix": at(8)}]))
    assert [3, 4, 5, 6] == await near(db, Song.sound)
    assert [3, 4, 5, 6] == await near(db, Song.words, 3)
    assert (await db.check(Song)).ok


async def test_indexes_of_other_programs_are_read_again(
    db: AsyncDB, other: AsyncDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index that another program registers later is noticed after a while, and old records of it are let go."""
    async with other.begin() as session:
        session.add(Plain(id=100))
    async with db.begin() as session:
        session.add_all(Song(id=n, sound=at(n)) for n in range(1, 4))
    assert [1, 2, 3] == await near(db, Song.sound)
    monkeypatch.setattr(vector_registered, "_LATE", 0.0)
    for key in (1, 2):
        async with other.begin() as session:
            await session.execute(delete(Plain).where(Plain.id == key))
    assert [3] == await near(db, Song.sound)


async def test_writes_before_an_index_of_another_program_is_noticed(db: AsyncDB, other: AsyncDB, real: bool) -> None:
    """What is deleted is not found; a check finds vectors that were stored for something else, a rebuild repairs."""
    if not real:
        return
    async with other.begin() as session:
        session.add(Plain(id=100))
    async with db.begin() as session:
        session.add_all(Song(id=n, sound=at(n)) for n in range(1, 5))
    assert [1, 2, 3, 4] == await near(db, Song.sound)
    async with other.begin() as session:
        await session.execute(delete(Plain).where(Plain.id == 1))
        await session.execute(update(Numbers).where(Numbers.id == 2).values(sound=None))
        session.add(Numbers(id=5, sound=[0.5, 0.5]))
    assert {3, 4} <= {*await near(db, Song.sound)} <= {3, 4, 5}
    problems = (await db.check(Song)).problems
    assert any(f"{NAME}.sound" in one and "5" in one and "missing" in one for one in problems), problems
    await db.rebuild(Song.sound)
    assert [5, 3, 4] == await near(db, Song.sound)
    assert (await db.check(Song)).ok


async def test_indexes_of_other_programs_are_noticed_in_the_background(
    db: AsyncDB, other: AsyncDB, real: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before what was read last is too old."""
    if not real:
        return
    monkeypatch.setattr(other.vectors._registered._reading, "_every", 0.1)
    async with other.begin() as session:
        session.add(Plain(id=100))
    async with db.begin() as session:
        session.add_all(Song(id=n, sound=at(n)) for n in range(1, 4))
    for _ in range(100):
        if f"{NAME}.sound" in await other.vectors._registered.indexes():
            break
        await aio.sleep(0.1)
    async with other.begin() as session:
        await session.execute(delete(Plain).where(Plain.id == 1))
    assert [2, 3] == await near(db, Song.sound)


async def test_indexes_of_other_programs_are_read_where_that_failed_in_the_background(
    db: AsyncDB, other: AsyncDB, real: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the first commit after what was read last is too old, which has the error if it fails again."""
    if not real:
        return
    registered, failed = other.vectors._registered, list[int]()

    async def fails(plan: Any, **settings: Any) -> Any:
        if plan.collection == COLLECTION:
            failed.append(1)
            raise BackendError("no connection")
        return await read(plan, **settings)

    read = other.parts.data_backend.read
    monkeypatch.setattr(registered._reading, "_every", 0.05)
    with monkeypatch.context() as patch:
        patch.setattr(other.parts.data_backend, "read", fails)
        registered._reading.start()
        for _ in range(100):
            if failed:
                break
            await aio.sleep(0.05)
        await aio.sleep(0.3)
        assert [1] == failed  # not again and again
        patch.setattr(vector_registered, "_LATE", 0.0)
        with pytest.raises(BackendError, match="no connection"):
            async with other.begin() as session:
                session.add(Plain(id=100))
    monkeypatch.setattr(vector_registered, "_LATE", 0.0)
    async with db.begin() as session:
        session.add_all(Song(id=n, sound=at(n)) for n in range(1, 4))
    async with other.begin() as session:
        await session.execute(delete(Plain).where(Plain.id == 1))
    assert [2, 3] == await near(db, Song.sound)


async def test_old_records_of_indexes_that_nobody_applies_are_let_go(
    db: AsyncDB, other: AsyncDB, real: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the state of an engine that did not come for long, so that no more are written."""
    async with db.begin() as session:
        session.add_all(Song(id=n, sound=at(n)) for n in range(1, 4))
    async with other.begin() as session:
        await session.execute(delete(Plain).where(Plain.id == 1))
    await db.close()
    if not real:
        return
    for name in ("READERS", "_LATE"):
        monkeypatch.setattr(vector_records, name, timedelta(seconds=-5))
    monkeypatch.setattr(vector_registered, "_LATE", 0.0)
    monkeypatch.setattr(other.vectors._background._keeper, "_pause", 0.1)
    for key in (2, 3):
        async with other.begin() as session:
            await session.execute(delete(Plain).where(Plain.id == key))
    left = Find(COLLECTION, {"i": f"{NAME}.sound", "keys": {"$in": [1, 2]}})
    for _ in range(100):
        if not await other.parts.data_backend.read(left):
            break
        await aio.sleep(0.1)
    assert [] == await other.parts.data_backend.read(left)
