"""Vectors of large commits, which are written to the engine's table while the documents are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from superorm import AsyncDB, AsyncSession, Document, DuplicateKeyError, Mapped, field, select, vector
from superorm._async import vector_ahead, vector_tables
from superorm._io import aio

DIM, COUNT = 8, 20
ROWS = np.random.default_rng(7).standard_normal((3 * COUNT, DIM)).astype(np.float32)

pytestmark = pytest.mark.parametrize("db", ["mongodb+lancedb"], indirect=True)


class Plate(Document):
    """A document with a vector."""

    __collection__ = "plates_ahead"

    number: Mapped[int] = field(primary_key=True)
    embedding: Mapped[np.ndarray | None] = vector(DIM)


def plates(first: int, count: int = COUNT) -> list[Plate]:
    """Documents of these numbers."""
    return [Plate(number=number, embedding=ROWS[number]) for number in range(first, first + count)]


class Watched:
    """What the DB writes: ``table`` for the engine's table, and ``documents`` once it has that behind it."""

    def __init__(self, db: AsyncDB, monkeypatch: pytest.MonkeyPatch, *, waiting: bool) -> None:
        self.written: list[str] = []
        backend, copies = db.parts.data_backend, db.vectors.copies
        write, write_step, event = backend.write, copies.write_step, aio.Event()

        async def write_table(*args: Any) -> Any:
            made = await write_step(*args)
            self.written.append("table")
            event.set()
            return made

        async def write_documents(one: Any, **options: Any) -> Any:
            if one.collection == Plate.__collection__:
                if waiting:
                    await event.wait(20)
                self.written.append("documents")
            return await write(one, **options)

        monkeypatch.setattr(copies, "write_step", write_table)
        monkeypatch.setattr(backend, "write", write_documents)


async def started(db: AsyncDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some documents, in a table; from now on a commit of a few is a large one."""
    monkeypatch.setattr(vector_ahead, "FROM", 2)
    monkeypatch.setattr(vector_tables, "FROM", 1)
    async with db.begin() as session:
        session.add_all(plates(0))
    await agrees(db, COUNT)
    while db.vectors._background._applying or await pending(db):  # type: ignore[attr-defined]
        await aio.sleep(0.005)


async def pending(db: AsyncDB) -> int:
    """How many records the engine has not applied."""
    copies: Any = db.vectors.copies
    return len((await copies.records.look("plates_ahead.embedding", await copies.engine())).unstamped)


async def agrees(db: AsyncDB, count: int) -> None:
    """A search among so many documents agrees with brute force."""
    rows = ROWS[:count].astype(float)
    near = rows @ rows[3] / np.linalg.norm(rows, axis=1)
    async with AsyncSession(db) as session:
        found = await session.scalars(select(Plate).like(ROWS[3], k=2 * len(ROWS), exact=True))
        assert [*np.argsort(-near, kind="stable")] == [one.number for one in found]


async def test_beside_the_documents(db: AsyncDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is written before the documents are sent, and published once they are committed."""
    await started(db, monkeypatch)
    watched = Watched(db, monkeypatch, waiting=True)
    async with db.begin() as session:
        session.add_all(plates(COUNT))
    await agrees(db, 2 * COUNT)
    while await pending(db):
        await aio.sleep(0.005)
    assert ["table", "documents"] == watched.written
    await agrees(db, 2 * COUNT)
    assert (await db.check()).ok


async def test_documents_that_are_refused(db: AsyncDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the table holds of a commit that failed is never seen, and the next one goes on."""
    await started(db, monkeypatch)
    watched = Watched(db, monkeypatch, waiting=True)
    async with AsyncSession(db) as session:
        session.add_all([*plates(COUNT), *plates(3, 1)])
        with pytest.raises(DuplicateKeyError):
            await session.commit()
    assert ["table", "documents"] == watched.written
    while db.vectors._background._applying:  # type: ignore[attr-defined]
        await aio.sleep(0.005)
    await agrees(db, COUNT)
    async with db.begin() as session:
        session.add_all(plates(COUNT))
    await agrees(db, 2 * COUNT)
    while await pending(db):
        await aio.sleep(0.005)
    await agrees(db, 2 * COUNT)
    assert (await db.check()).ok


async def test_a_flush_is_no_commit(db: AsyncDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """What may be rolled back for long is written to the table by the commit alone."""
    await started(db, monkeypatch)
    watched = Watched(db, monkeypatch, waiting=False)
    async with AsyncSession(db) as session:
        session.add_all(plates(COUNT))
        await session.flush()
        assert not db.vectors._background._aheads  # type: ignore[attr-defined]
        assert ["documents"] == watched.written
        await session.commit()
    await agrees(db, 2 * COUNT)
    while await pending(db):
        await aio.sleep(0.005)
    assert ["documents", "table"] == watched.written
    assert (await db.check()).ok
