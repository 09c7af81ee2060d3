"""What several do at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pymongo
import pytest

from superorm import Document, Mapped, Model, connect, connect_async, select
from tests.databases import drop_database


class Times:
    """A model that multiplies."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def predict(self, numbers: list[int]) -> list[int]:
        return [number * self.factor for number in numbers]


@pytest.fixture(params=["mongomock", "mongodb"])
def place(request: pytest.FixtureRequest, mongodb_uri: str) -> Iterator[tuple[str, str]]:
    """A URL and the name of a database that is dropped afterwards."""
    name = f"test_{uuid4().hex[:12]}"
    if request.param == "mongomock":
        yield f"mongomock://{name}", name
        return
    yield mongodb_uri, name
    with pymongo.MongoClient(mongodb_uri) as client:
        drop_database(client, name)
        drop_database(client, f"_filesystem:{name}")


def test_threads_never_share_a_version(place: tuple[str, str]) -> None:
    """Eight adds in threads get eight versions, each with its own object."""
    url, name = place
    with connect(url, database=name) as db, ThreadPoolExecutor(8) as pool:
        added = list(pool.map(lambda factor: db.add(Model("times", Times(factor))), range(8)))
        assert list(range(8)) == sorted(model.version or 0 for model in added)
    with connect(url, database=name) as db:
        assert list(range(8)) == db.show("model", "times")
        for model in added:
            assert model.object.factor == db.load("model", "times", version=model.version).object.factor
        assert db.check().ok


async def test_tasks_never_share_a_version(place: tuple[str, str]) -> None:
    """So do eight tasks."""
    url, name = place
    async with connect_async(url, database=name) as db:
        added = await asyncio.gather(*(db.add(Model("times", Times(factor))) for factor in range(8)))
        assert list(range(8)) == sorted(model.version or 0 for model in added)
        assert list(range(8)) == await db.show("model", "times")


async def test_first_commits_at_once_all_succeed(place: tuple[str, str]) -> None:
    """Six clients that first insert into a collection nobody has made yet do not get in each other's way."""

    class Visit(Document):
        number: Mapped[int]

    async def visit(number: int) -> None:
        url, name = place
        async with connect_async(url, database=name) as db, db.begin() as session:
            session.add(Visit(number=number))

    await asyncio.gather(*map(visit, range(6)))
    url, name = place
    with connect(url, database=name) as db, db.session() as session:
        assert list(range(6)) == session.scalars(select(Visit.number).order_by(Visit.number)).all()
