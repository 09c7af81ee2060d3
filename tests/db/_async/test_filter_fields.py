"""Fields named to filter by, changed in every way, beside searches that push conditions on them down."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from superorm import AsyncDB, Document, Embedded, Mapped, delete, field, insert, select, update, vector
from superorm._async import vector_tables
from superorm.schema.registry import Registry
from superorm.vectors import planning, upkeep
from tests._async.databases import own_db

elsewhere = Registry()
"""Classes that the others know nothing of, as those of another program."""
DAY = datetime(2024, 3, 1, tzinfo=UTC)


class Bottling(Embedded):
    year: Mapped[int | None] = field(default=None)


class Wine(Document):
    __collection__ = "filtered_wines"
    id: Mapped[int] = field(primary_key=True)
    price: Mapped[float | None] = field(default=None, name="p")
    grape: Mapped[str] = field(default="")
    bottled: Mapped[Bottling | None] = field(default=None)
    tasted: Mapped[datetime | None] = field(default=None)
    notes: Mapped[str] = field(default="")
    cellar: Mapped[int] = field(default=0, index=True)
    nose: Mapped[np.ndarray | None] = vector(
        2, metric="euclidean", filter_fields=["price", "grape", "bottled.year", "tasted", "cellar"]
    )


class Priced(Document, registry=elsewhere):
    """A class of the same collection that knows of no vector."""

    __collection__ = "filtered_wines"
    id: Mapped[int] = field(primary_key=True)
    p: Mapped[float | None] = field(default=None)


class Smelt(Document, registry=elsewhere):
    """One that knows the vector, but not what is mirrored beside it."""

    __collection__ = "filtered_wines"
    id: Mapped[int] = field(primary_key=True)
    grape: Mapped[str] = field(default="")
    nose: Mapped[np.ndarray | None] = vector(2, metric="euclidean")


def at(number: float) -> Any:
    """A vector, the farther from zero the larger the number."""
    return np.full(2, number, np.float32)


@pytest_asyncio.fixture
async def db(mongodb_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AsyncDB]:
    """Sixty wines, in a table that LanceDB searches, in which five are few."""
    monkeypatch.setattr(planning, "FEW", 5)
    monkeypatch.setattr(upkeep, "KNOWN_AFTER", timedelta(0))
    monkeypatch.setattr(vector_tables, "FROM", 1)  # the wines are handed to the applier
    async with own_db("mongodb", mongodb_uri, f"lancedb://{tmp_path / 'lance'}") as db:
        db.vectors.copies.tables.resident.limit = 0  # type: ignore[attr-defined]
        await db.create_all(Wine)
        async with db.begin() as session:
            session.add_all(
                Wine(
                    id=n,
                    price=n / 2,
                    grape="red" if n % 2 else "white",
                    bottled=Bottling(year=2000 + n % 20) if n % 5 else None,
                    tasted=DAY + timedelta(hours=n),
                    cellar=3 if n < 4 else 1,
                    nose=at(n),
                )
                for n in range(60)
            )
        await db.vectors.apply(_spec())
        yield db


def _spec() -> Any:
    from superorm.schema.mapping import class_map

    (found,) = class_map(Wine).vectors
    return found.spec


async def near(db: AsyncDB, *conditions: Any, k: int = 6) -> list[int]:
    """The keys of the wines nearest to zero that match; the search pushes down what they say."""
    stmt = select(Wine).where(*conditions).like(at(0), k=k)
    explanation = await db.explain(stmt)
    assert explanation.details is not None
    assert "pushed down" in explanation.details
    async with db.session() as session:
        return [wine.id for wine in await session.scalars(stmt)]


async def test_explain(db: AsyncDB) -> None:
    """The strategy, what was pushed down, how many rows pass, and why."""
    found = await db.explain(select(Wine).where(Wine.price > 10, Wine.grape == "red").like(at(0), k=3))
    assert ("push-down", "lancedb") == (found.strategy, found.engine)
    assert found.details is not None
    assert "f0 > 10.0" in found.details["pushed down"]
    assert "f1 = 'red'" in found.details["pushed down"]
    assert 5 == found.details["more rows pass than"]
    assert "more than 5 rows pass the filter" in str(found.why)
    found = await db.explain(select(Wine).where(Wine.price.in_([1.0, 2.0, 3.5])).like(at(0), k=3))
    assert found.details is not None
    assert ("gather", 3) == (found.strategy, found.details["rows that pass"])
    assert "no declared index" in str(found.why)
    for cellar, strategy, why in ((3, "gather", "4 documents"), (1, "push-down", "more than 5 documents")):
        found = await db.explain(select(Wine).where(Wine.cellar == cellar).like(at(0), k=3))
        assert strategy == found.strategy
        assert f"{why} match by the index on cellar" in str(found.why)
        assert found.details is not None
        assert ("pushed down" in found.details) == (strategy == "push-down")
    found = await db.explain(select(Wine).where(Wine.price < 20, Wine.notes == "").like(at(0), k=3))
    assert "push-down" == found.strategy
    assert "'notes' is not mirrored" in str(found.why)
    found = await db.explain(select(Wine).where(Wine.notes == "").like(at(0), k=3))
    assert "over-fetch" == found.strategy
    assert "pushed down" not in (found.details or {})


async def test_conditions_of_every_kind(db: AsyncDB) -> None:
    """As typed conditions are written."""
    assert [21, 23, 25, 27, 29, 31] == await near(db, Wine.price > 10, Wine.grape != "white")
    assert [0, 5, 10, 15, 20, 25] == await near(db, Wine.bottled.year == None)  # noqa: E711
    assert [19, 39, 59] == await near(db, Wine.bottled.year >= 2019)
    assert [31, 32, 33, 34, 35, 36] == await near(db, Wine.tasted > DAY + timedelta(hours=30))
    assert [0, 1, 58, 59] == await near(db, (Wine.price < 1) | (Wine.price > 28.5))
    assert [1, 2, 4] == await near(db, Wine.price.in_([0.5, 1.0, 2]))


async def test_statements(db: AsyncDB) -> None:
    """Updates, upserts and deletions count at once, in the session too, and when they are applied."""
    async with db.begin() as session:
        await session.execute(update(Wine).where(Wine.id.in_([40, 41])).values(price=-1.0))
        stmt = select(Wine).where(Wine.price < 3).like(at(0), k=9)
        assert [0, 1, 2, 3, 4, 5, 40, 41] == [wine.id for wine in await session.scalars(stmt)]
    async with db.begin() as session:
        await session.execute(update(Wine).where(Wine.id == 2).values(price=None))
        await session.execute(delete(Wine).where(Wine.id == 3))
        await session.execute(insert(Wine).values([{"id": 4, "price": 99.0}, {"id": 99, "price": 0.0}]).upsert())
    for _ in range(2):
        assert [0, 1, 5, 40, 41] == await near(db, Wine.price < 3, k=9)
        assert [2] == await near(db, Wine.price == None)  # noqa: E711
        await db.vectors.apply(_spec())
    assert (await db.check(Wine)).ok


async def test_objects_and_rollbacks(db: AsyncDB) -> None:
    """What a session changes counts for itself at once, for others after the commit, and never after a rollback."""
    cheap = select(Wine).where(Wine.price < 3).like(at(0), k=9)
    async with db.session() as session:
        wine = await session.get_one(Wine, 50)
        wine.price = 1.0
        (await session.get_one(Wine, 0)).price = 70.0
        await session.flush()
        assert [1, 2, 3, 4, 5, 50] == [wine.id for wine in await session.scalars(cheap)]
        await db.vectors.apply(_spec())
        assert [0, 1, 2, 3, 4, 5] == await near(db, Wine.price < 3, k=9)
        await session.rollback()
    assert [0, 1, 2, 3, 4, 5] == await near(db, Wine.price < 3, k=9)
    async with db.begin() as session:
        wine = await session.get_one(Wine, 51)
        wine.price = 2.0
        assert wine.bottled is not None
        wine.bottled.year = 1900
        (await session.get_one(Wine, 1)).bottled = None
    for _ in range(2):
        assert [0, 1, 2, 3, 4, 5, 51] == await near(db, Wine.price < 3, k=9)
        assert [51] == await near(db, Wine.bottled.year < 1950)
        assert [0, 1, 5] == await near(db, Wine.bottled.year == None, k=3)  # noqa: E711
        await db.vectors.apply(_spec())
    assert (await db.check(Wine)).ok


@pytest.mark.parametrize("how", ["objects", "statements"])
async def test_through_classes_that_do_not_name_the_fields(db: AsyncDB, how: str) -> None:
    """What they change of mirrored fields is noticed all the same."""
    async with db.begin() as session:
        if how == "objects":
            (await session.get_one(Priced, 45)).p = 0.25
            (await session.get_one(Smelt, 46)).grape = "green"
        else:
            await session.execute(update(Priced).where(Priced.id == 45).values(p=0.25))
            await session.execute(update(Smelt).where(Smelt.id == 46).values(grape="green"))
    for _ in range(2):
        assert [0, 1, 45] == await near(db, Wine.price < 1)
        assert [46] == await near(db, Wine.grape == "green")
        await db.vectors.apply(_spec())
    assert (await db.check(Wine)).ok


async def test_rebuild(db: AsyncDB) -> None:
    """Repairs what another program wrote behind our back."""
    from superorm.unitofwork.writes import Update, UpdateOp

    op = UpdateOp(q={"_id": 47}, u={"$set": {"p": 0.25}})
    await db.parts.data_backend.write(Update("filtered_wines", [op]))
    report = await db.check(Wine)
    (problem,) = report.problems
    assert "document 47: its vector in the engine is different" in problem
    await db.rebuild(Wine.nose)
    assert [0, 1, 47] == await near(db, Wine.price < 1)
    assert (await db.check(Wine)).ok
