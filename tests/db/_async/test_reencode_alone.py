"""Encoding all vectors anew where there are no transactions, beside writers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from superorm import (
    AsyncDB,
    AsyncSession,
    Document,
    DuplicateKeyError,
    Mapped,
    Model,
    PredictionError,
    connect_async,
    field,
    insert,
    update,
    vector,
)
from superorm._async.vector_models import AsyncVectorModels
from superorm._async.vector_reencode import AsyncReencoding
from superorm.compile.plan import Find
from tests._async.databases import own_db
from tests.db.letters import Letters

COLLECTION = "reencode_alone"
TEXTS = {1: "heat", 2: "cold", 3: "soup"}


class Fish(Document):
    __collection__ = COLLECTION

    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str | None]
    vec: Mapped[np.ndarray | None] = vector(26, source="text", model="letters")


class Triple:
    """Another version: three times as long vectors."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return 3 * Letters().encode(texts)


@pytest_asyncio.fixture(params=["mongomock", "standalone"])
async def db(request: pytest.FixtureRequest) -> AsyncIterator[AsyncDB]:
    """A DB without transactions, with documents made by the first of two versions."""
    backend = request.param
    uri = "" if backend == "mongomock" else request.getfixturevalue("alone_uri")
    async with own_db(backend, uri) as db:
        await db.add(Model("letters", Letters(), fingerprint="1"))
        async with db.begin() as session:
            session.add_all(Fish(id=key, text=text) for key, text in TEXTS.items())
        await db.add(Model("letters", Triple(), fingerprint="2"))
        assert not db.capabilities.transactions
        yield db


@pytest_asyncio.fixture
async def other(db: AsyncDB, request: pytest.FixtureRequest) -> AsyncIterator[AsyncDB]:
    """Another DB over the same database, as another process has it."""
    name = db.parts.data_backend.name
    url = f"mongomock://{name}" if "Mongomock" in repr(db) else request.getfixturevalue("alone_uri")
    async with connect_async(url, database=name, vector_database="memory://", signing_key="test-key") as other:
        yield other


async def stored(db: AsyncDB) -> dict[int, tuple[str | None, list[float] | None]]:
    """The stored texts and vectors, by key."""
    return {
        one["_id"]: (one["text"], None if one["vec"] is None else np.frombuffer(one["vec"], "<f4", offset=2).tolist())
        for one in await db.parts.data_backend.read(Find(COLLECTION))
    }


def made(texts: dict[int, str]) -> dict[int, tuple[str, list[float]]]:
    """What is to be stored: texts, and the second version's vectors of them."""
    return {key: (text, Triple().encode([text])[0].tolist()) for key, text in texts.items()}


def once_computed(monkeypatch: pytest.MonkeyPatch, then: Callable[[], Awaitable[None]]) -> None:
    """Have something done once a writer has computed vectors, and before it writes them."""
    compute, calls = AsyncVectorModels.compute, [then]

    async def computes(self: AsyncVectorModels, needs: Any, *rest: Any, **options: Any) -> None:
        await compute(self, needs, *rest, **options)
        if needs and calls:
            await calls.pop()()

    monkeypatch.setattr(AsyncVectorModels, "compute", computes)


async def add(session: AsyncSession) -> dict[int, str]:
    """A new object."""
    session.add(Fish(id=4, text="lamb"))
    return {**TEXTS, 4: "lamb"}


async def change(session: AsyncSession) -> dict[int, str]:
    """Another text of an object."""
    (await session.get_one(Fish, 1)).text = "lamb"
    return {**TEXTS, 1: "lamb"}


async def insert_rows(session: AsyncSession) -> dict[int, str]:
    """An insert statement."""
    await session.execute(insert(Fish).values([{"id": 4, "text": "lamb"}, {"id": 5, "text": "tea"}]))
    return {**TEXTS, 4: "lamb", 5: "tea"}


async def upsert_rows(session: AsyncSession) -> dict[int, str]:
    """One that replaces what is there."""
    rows = [{"id": 4, "text": "lamb"}, {"id": 1, "text": "tea"}]
    await session.execute(insert(Fish).values(rows).upsert())
    return {**TEXTS, 4: "lamb", 1: "tea"}


async def update_rows(session: AsyncSession) -> dict[int, str]:
    """An update statement."""
    await session.execute(update(Fish).where(Fish.id <= 2).values(text="lamb"))
    return {**TEXTS, 1: "lamb", 2: "lamb"}


@pytest.mark.parametrize("write", [add, change, insert_rows, upsert_rows, update_rows])
async def test_a_writer_that_computed_before(
    db: AsyncDB,
    other: AsyncDB,
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[[AsyncSession], Awaitable[dict[int, str]]],
) -> None:
    """What it stores when all else is encoded anew is of the new version in the end, and its objects show that."""

    once_computed(monkeypatch, lambda: db.rebuild(Fish.vec, reencode=True))
    async with other.session() as session:
        texts = await write(session)
        await session.commit()
        assert made(texts) == await stored(db)
        for key in texts:
            vec = (await session.get_one(Fish, key)).vec
            assert vec is not None
            assert made(texts)[key][1] == vec.tolist()
    for one in (db, other):
        report = await one.check(Fish)
        assert report.ok, report.problems


async def test_a_writer_that_fails_in_the_middle(db: AsyncDB, other: AsyncDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has stored until then is of the new version too."""
    once_computed(monkeypatch, lambda: db.rebuild(Fish.vec, reencode=True))
    with pytest.raises(DuplicateKeyError):
        async with other.begin() as session:
            session.add_all([Fish(id=4, text="lamb"), Fish(id=1, text="tea"), Fish(id=5, text="ice")])
    found = await stored(db)
    assert "lamb" == found[4][0]
    assert made({key: str(text) for key, (text, _) in found.items()}) == found


async def test_an_update_whose_computing_fails(db: AsyncDB, other: AsyncDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it stored before, of the version that was replaced meanwhile, is computed again."""
    compute, calls = AsyncVectorModels.compute, list[int]()

    async def computes(self: AsyncVectorModels, needs: Any, *rest: Any, **options: Any) -> None:
        counts = bool(needs) and self is other.vector_models
        calls.extend([len(needs)] * counts)
        if counts and len(calls) == 2:
            raise PredictionError("this one cannot be encoded")
        await compute(self, needs, *rest, **options)
        if counts and len(calls) == 1:
            await db.rebuild(Fish.vec, reencode=True)

    monkeypatch.setattr("superorm._async.recomputing.SOURCES", 1)
    monkeypatch.setattr(AsyncVectorModels, "compute", computes)
    async with other.session() as session:
        with pytest.raises(PredictionError, match="this one cannot be encoded"):
            await session.execute(update(Fish).where(Fish.id <= 2).values(text="lamb"))
        await session.rollback()
    found = await stored(db)
    assert made({1: "lamb"})[1] == found[1]
    assert "lamb" == found[2][0]


async def test_two_switches_beside_one_writer(db: AsyncDB, other: AsyncDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """A further version that comes while the writer computes by the second one."""

    async def third() -> None:
        await db.add(Model("letters", Triple(), fingerprint="3"))
        await db.add(Model("letters", Letters(), fingerprint="4"))
        await db.rebuild(Fish.vec, reencode=True)

    async def reencode() -> None:
        await db.rebuild(Fish.vec, reencode=True)
        once_computed(monkeypatch, third)

    once_computed(monkeypatch, reencode)
    async with other.begin() as session:
        session.add(Fish(id=4, text="lamb"))
    texts = {**TEXTS, 4: "lamb"}
    assert {key: (text, Letters().encode([text])[0].tolist()) for key, text in texts.items()} == await stored(db)


async def test_a_source_that_changes_while_vectors_are_put_in_place(
    db: AsyncDB, other: AsyncDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vector of the old text does not replace that of the new one."""
    put, calls = AsyncReencoding._put, [1]  # pyright: ignore[reportPrivateUsage]

    async def puts(self: Any, *rest: Any) -> None:
        if calls.pop():
            calls.append(0)
            async with other.begin() as session:
                (await session.get_one(Fish, 2)).text = "tea"
        await put(self, *rest)

    monkeypatch.setattr(AsyncReencoding, "_put", puts)
    await db.rebuild(Fish.vec, reencode=True)
    assert made({**TEXTS, 2: "tea"}) == await stored(db)
    report = await other.check(Fish)
    assert report.ok, report.problems
