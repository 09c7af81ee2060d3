"""Many at once count in the same versioned documents, and no count is lost."""

from __future__ import annotations

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mongomock
import pymongo
import pytest

from superorm import AsyncSession, Document, Mapped, Session, connect, connect_async, field, superduper
from superorm.exc import StaleDocumentError

WORKERS = 8
ATTEMPTS = 10_000
TIMES = pytest.mark.parametrize("times", [8, pytest.param(300, marks=pytest.mark.soak)], ids=["short", "long"])
SETTINGS: dict[str, Any] = {"vector_database": "memory://", "signing_key": "test-key"}


class Counter(Document):
    __collection__ = "counters"

    id: Mapped[int] = field(primary_key=True)
    number: Mapped[int] = field(default=0)
    by: Mapped[list[int]] = field(factory=lambda: [0] * WORKERS)
    version: Mapped[int] = field(version=True)


def is_exact(uri: str, database: str, expected: list[list[int]]) -> None:
    """Each counter holds every step, in the sum, by worker and in its version."""
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        found = list(client[database].counters.find(sort=[("_id", 1)]))
    assert [
        {"_id": key, "number": sum(by), "by": by, "version": 1 + sum(by)} for key, by in enumerate(expected)
    ] == found


def steps_of(worker: int, times: int) -> list[int]:
    """Which counter a worker increments, each time."""
    rng = random.Random(worker)
    return [rng.randrange(2) for _ in range(times)]


def expected_counts(times: int) -> list[list[int]]:
    """What the counters hold by worker at the end."""
    return [[steps_of(worker, times).count(key) for worker in range(WORKERS)] for key in range(2)]


@TIMES
def test_threads_count_exactly(mongodb_uri: str, database: str, times: int) -> None:
    """Eight threads increment two counters."""
    with connect(mongodb_uri, database=database, **SETTINGS) as db:
        db.create_all(Counter)
        with db.begin() as session:
            session.add_all([Counter(id=0), Counter(id=1)])

        def count(worker: int) -> None:
            for key in steps_of(worker, times):

                def step(session: Session, key: int = key) -> None:
                    counter = session.get_one(Counter, key)
                    counter.number += 1
                    counter.by[worker] += 1

                db.run(step, attempts=ATTEMPTS)

        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(count, range(WORKERS)))
        is_exact(mongodb_uri, database, expected_counts(times))


@TIMES
async def test_tasks_count_exactly(mongodb_uri: str, database: str, times: int) -> None:
    """Eight tasks increment two counters."""
    async with connect_async(mongodb_uri, database=database, **SETTINGS) as db:
        await db.create_all(Counter)
        async with db.begin() as session:
            session.add_all([Counter(id=0), Counter(id=1)])

        async def count(worker: int) -> None:
            for key in steps_of(worker, times):

                async def step(session: AsyncSession, key: int = key) -> None:
                    counter = await session.get_one(Counter, key)
                    counter.number += 1
                    counter.by[worker] += 1

                await db.run(step, attempts=ATTEMPTS)

        await asyncio.gather(*map(count, range(WORKERS)))
        is_exact(mongodb_uri, database, expected_counts(times))


def test_threads_on_mongomock_count_exactly() -> None:
    """Without transactions the version alone keeps increments apart: who was late is told, and does it again."""
    raw = mongomock.MongoClient()["contention"]
    with superduper(raw) as db:
        with db.begin() as session:
            session.add(Counter(id=0))

        def count(worker: int) -> None:
            for _ in range(20):
                while True:
                    with Session(db) as session:
                        counter = session.get_one(Counter, 0)
                        counter.number += 1
                        try:
                            session.commit()
                        except StaleDocumentError:
                            continue
                        break

        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(count, range(WORKERS)))
        assert WORKERS * 20 == raw["counters"].find_one({"_id": 0})["number"]
