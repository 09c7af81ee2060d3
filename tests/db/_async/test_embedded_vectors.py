"""Vector fields of embedded documents: written in every way, searched, checked and rebuilt."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from superorm import (
    AsyncDB,
    Document,
    Embedded,
    Mapped,
    Model,
    StatementError,
    VectorError,
    delete,
    field,
    insert,
    score,
    select,
    update,
    vector,
)
from tests.vectors.brute import stored

DIM = 4


class Cover(Embedded):
    title: Mapped[str | None] = field(default=None)
    embedding: Mapped[np.ndarray | None] = vector(DIM, metric="euclidean", name="e")


class Printed(Cover):
    text: Mapped[str | None] = field(default=None, name="t")
    meaning: Mapped[np.ndarray | None] = vector(2, metric="dot", source="text", model="shape")


class Case(Embedded):
    front: Mapped[Cover | None] = field(default=None, name="f")


class Tape(Document):
    __collection__ = "embedded_vectors_tapes"
    id: Mapped[int] = field(primary_key=True)
    year: Mapped[int] = field(default=0)
    cover: Mapped[Cover | None] = field(default=None, name="c")
    case: Mapped[Case | None] = field(default=None)
    own: Mapped[np.ndarray | None] = vector(DIM)


class Shape:
    """An encoder of texts that counts what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts: list[str]) -> np.ndarray:
        """The length of each text and its vowels, shape (n, 2)."""
        self.asked += texts
        return np.array([self.of(text) for text in texts], np.float32)

    @staticmethod
    def of(text: str) -> list[float]:
        return [len(text), sum(text.count(vowel) for vowel in "aeiou")]


def at(number: float) -> np.ndarray:
    """A vector at a distance of 2 * `number` from zero."""
    return np.full(DIM, number, np.float32)


async def ranked(db: AsyncDB, on: Any, query: Any, k: int = 10) -> list[tuple[int, float]]:
    """The keys and scores that an exact search finds."""
    async with db.session() as session:
        rows = await session.execute(select(Tape.id, score()).like(query, on=on, k=k, exact=True))
        return [(key, round(found, 5)) for key, found in rows.all()]


def expected(numbers: dict[int, float], query: float = 0) -> list[tuple[int, float]]:
    """The same by hand, of vectors made by `at`: the distance is 2 * |number - query|."""
    rows = sorted((abs(number - query), key) for key, number in numbers.items())
    return [(key, round(1 / (1 + 2 * distance), 5)) for distance, key in rows]


async def fill(db: AsyncDB, number: int = 6) -> None:
    """Tapes of which number n has its cover's vector at n, and that of its case's front at -n."""
    async with db.begin() as session:
        for n in range(1, number + 1):
            case = Case(front=Cover(embedding=at(-n)))
            session.add(Tape(id=n, year=n, cover=Cover(title=str(n), embedding=at(n)), case=case))


async def test_objects(db: AsyncDB) -> None:
    """Searches follow objects that are added, changed within, given another cover, or none, and deleted."""
    await fill(db)
    assert expected({n: n for n in range(1, 7)}) == await ranked(db, Tape.cover.embedding, at(0))
    assert expected({n: n for n in range(1, 7)}) == await ranked(db, Tape.case.front.embedding, at(0))
    assert expected({n: n for n in range(1, 7)}) == await ranked(db, Tape.cover[Cover.embedding], at(0))
    async with db.begin() as session:
        tapes = {tape.id: tape for tape in await session.scalars(select(Tape))}
        np.testing.assert_array_equal(at(2), tapes[2].cover.embedding)
        tapes[1].cover.embedding = at(10)
        tapes[2].cover.embedding[:] = 20
        tapes[3].cover = Cover(embedding=at(30))
        tapes[4].cover = None
        tapes[5].cover.embedding = None
        session.delete(tapes[6])
        session.add(Tape(id=7))
        session.add(Tape(id=8, cover=Cover(embedding=at(0.5))))
    assert expected({1: 10, 2: 20, 3: 30, 8: 0.5}) == await ranked(db, Tape.cover.embedding, at(0))
    assert expected({n: -n for n in range(1, 6)}) == await ranked(db, Tape.case.front.embedding, at(0))
    assert (await db.check(Tape)).ok


async def test_statements(db: AsyncDB) -> None:
    """So they do after insert, update and delete statements that set the cover whole, its vector, or parts of it."""
    async with db.begin() as session:
        await session.bulk_insert([Tape(id=n, cover=Cover(embedding=at(n))) for n in range(1, 7)])
        await session.execute(insert(Tape).values([{"id": 7, "cover": Cover(embedding=at(7))}]))
        await session.execute(update(Tape).where(Tape.id == 1).values(cover=Cover(embedding=at(10))))
        await session.execute(update(Tape).where(Tape.id == 2).set(Tape.cover.embedding.to(at(20))))
        await session.execute(update(Tape).where(Tape.id == 3).set(Tape.cover.unset()))
        await session.execute(update(Tape).where(Tape.id == 4).set(Tape.cover.embedding.to(None)))
        await session.execute(update(Tape).where(Tape.id == 5).set(Tape.cover.title.to("five")))
        await session.execute(delete(Tape).where(Tape.id == 6))
    numbers = {1: 10.0, 2: 20.0, 5: 5.0, 7: 7.0}
    assert expected(numbers) == await ranked(db, Tape.cover.embedding, at(0))
    async with db.begin() as session:
        rows = [Tape(id=1, cover=Cover(embedding=at(1))), Tape(id=9, cover=Cover(embedding=at(9)))]
        await session.execute(insert(Tape).values(rows).upsert())
        changed = update(Tape).where(Tape.id == 11).values(cover=Cover(embedding=at(11)))
        await session.execute(changed.upsert())
    numbers |= {1: 1.0, 9: 9.0, 11: 11.0}
    assert expected(numbers) == await ranked(db, Tape.cover.embedding, at(0))
    assert (await db.check(Tape)).ok


async def test_the_session_sees_its_own_changes(db: AsyncDB, real: bool) -> None:
    """Flushed changes count within the session, and a rollback leaves no trace."""
    await fill(db, 3)
    async with db.session() as session:
        tape = await session.get_one(Tape, 3)
        tape.cover.embedding = at(0)
        await session.flush()
        near = select(Tape.id).like(at(0), on=Tape.cover.embedding, k=1)
        assert [3] == (await session.scalars(near)).all()
        await session.rollback()
    if real:
        assert expected({1: 1, 2: 2, 3: 3}) == await ranked(db, Tape.cover.embedding, at(0))


async def test_filters_documents_and_bad_queries(db: AsyncDB) -> None:
    """Pre-filters, "more like this", and what `like` and `rebuild` refuse."""
    await fill(db)
    async with db.session() as session:
        near = select(Tape.id).where(Tape.year > 3).like(at(0), on=Tape.cover.embedding, k=2)
        assert [4, 5] == (await session.scalars(near)).all()
        tape = await session.get_one(Tape, 2)
        like = select(Tape.id).like(tape, on=Tape.cover.embedding, k=2)
        assert [1, 3] == (await session.scalars(like)).all()
        with pytest.raises(VectorError, match=r"Tape 9 has no cover\.embedding"):
            await session.scalars(select(Tape.id).like(Tape(id=9), on=Tape.cover.embedding))
        with pytest.raises(VectorError, match="3"):
            await session.scalars(select(Tape.id).like([1, 2, 3], on=Tape.cover.embedding))
        with pytest.raises(StatementError, match=r"cover\.embedding, .*case\.front\.embedding, .*own"):
            await session.scalars(select(Tape.id).like(at(0)))
        with pytest.raises(StatementError, match="not a vector field"):
            await session.scalars(select(Tape.id).like(at(0), on=Tape.cover.title))
    with pytest.raises(StatementError, match=r"Movie\.embedding"):
        await db.rebuild(Tape.cover)


async def test_check_and_rebuild(db: AsyncDB) -> None:
    """Writes by other programs are found by a check, and repaired by a rebuild."""
    await fill(db)
    assert (await db.check(Tape)).ok
    await ranked(db, Tape.cover.embedding, at(0))
    tapes = db.parts.data_backend
    from superorm.unitofwork.writes import Update, UpdateOp

    op = UpdateOp(q={"_id": 2}, u={"$set": {"c.e": stored(at(50))}})
    await tapes.write(Update(Tape.__collection__, [op]))
    (problem,) = (await db.check(Tape)).problems
    assert "embedded_vectors_tapes.c.e" in problem
    await db.rebuild(Tape.cover.embedding)
    assert (await db.check(Tape)).ok
    assert expected({1: 1, 2: 50, 3: 3, 4: 4, 5: 5, 6: 6}) == await ranked(db, Tape.cover.embedding, at(0))


def by_meaning(texts: dict[int, str], query: str) -> list[tuple[int, float]]:
    """Keys and scores of texts, by the dot product of their shapes."""
    rows = [(-float(np.dot(Shape.of(text), Shape.of(query))), key) for key, text in texts.items()]
    return [(key, (1 - dot) / 2) for dot, key in sorted(rows)]


async def test_computed(db: AsyncDB) -> None:
    """A computed vector of one of the embedded classes follows its source, through objects and statements."""
    shape = Shape()
    await db.add(Model("shape", shape, fingerprint="shape"))
    meaning = Tape.cover[Printed.meaning]
    async with db.begin() as session:
        session.add_all(Tape(id=n, cover=Printed(text="a" * n)) for n in range(1, 6))
        session.add(Tape(id=6, cover=Cover(title="plain")))
        session.add(Tape(id=7, cover=Printed()))
        session.add(Tape(id=8))
    texts = {n: "a" * n for n in range(1, 6)}
    assert by_meaning(texts, "aab") == await ranked(db, meaning, "aab")
    asked = len(shape.asked)
    async with db.begin() as session:
        tapes = {tape.id: tape for tape in await session.scalars(select(Tape))}
        np.testing.assert_array_equal(np.array([3, 3], np.float32), tapes[3].cover.meaning)
        tapes[1].cover.title = "only this"
        tapes[1].year = 1900
        tapes[2].cover.text = "bcbcbcbcb"
        tapes[3].cover.text = None
        tapes[4].cover = Cover(title="no more")
        tapes[5].cover.meaning = np.array([9, 9], np.float32)  # is computed again
        tapes[6].cover = Printed(text="ee")
    assert ["aaaaa", "bcbcbcbcb", "ee"] == sorted(set(shape.asked[asked:]) - {"a"})
    texts = {1: "a", 2: "bcbcbcbcb", 5: "aaaaa", 6: "ee"}
    assert by_meaning(texts, "aab") == await ranked(db, meaning, "aab")
    async with db.begin() as session:
        await session.execute(update(Tape).where(Tape.id == 1).set(Tape.cover[Printed.text].to("uuuu")))
        await session.execute(update(Tape).where(Tape.id == 2).values(cover=Printed(text="i")))
        await session.execute(update(Tape).where(Tape.id == 5).set(Tape.cover[Printed.text].to(None)))
        await session.execute(update(Tape).where(Tape.id == 6).values(cover=None))
        await session.execute(update(Tape).where(Tape.id.in_([7, 8])).values(year=3))
        with pytest.raises(StatementError, match="it is computed; change text"):
            await session.execute(update(Tape).where(Tape.id == 1).set(meaning.to(None)))
    texts = {1: "uuuu", 2: "i"}
    assert by_meaning(texts, "aab") == await ranked(db, meaning, "aab")
    async with db.session() as session:
        tape = await session.get_one(Tape, 1)
        np.testing.assert_array_equal(np.array([4, 4], np.float32), tape.cover.meaning)
        tape.cover.text = 7
        with pytest.raises(Exception, match=r"Tape 1: cover\.text cannot be stored"):
            await session.commit()
        await session.rollback()
    assert (await db.check(Tape)).ok
