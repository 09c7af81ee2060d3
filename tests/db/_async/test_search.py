"""Computed vectors and ``like`` through sessions, against brute force in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import pytest

from superorm import (
    AsyncDB,
    ComponentNotFoundError,
    Document,
    Embedded,
    Mapped,
    Model,
    PredictionError,
    StatementError,
    ValidationError,
    VectorError,
    field,
    score,
    select,
    vector,
)
from superorm.compile.plan import Find
from tests.db.letters import Letters

WORDS = ["heat", "cold", "soup", "fire", "rain", "tea", "ice", "stew", "salad", "bread"]


class Dish(Document):
    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str | None]
    kcal: Mapped[int] = field(default=0)
    vec: Mapped[np.ndarray | None] = vector(26, source="text", model="letters")


def cosine(query: str, text: str) -> float:
    """The score that brute force gives."""
    a, b = Letters().encode([query, text]).astype(float)
    return float((1 + a @ b / np.linalg.norm(a) / np.linalg.norm(b)) / 2)


async def fill(db: AsyncDB, number: int = 60) -> dict[int, tuple[str, int]]:
    """Store dishes; what is stored, by key."""
    await db.add(Model("letters", Letters()))
    rng = np.random.default_rng(7)
    rows = {key: (" ".join(rng.choice(WORDS, 4)), int(rng.integers(0, 800))) for key in range(number)}
    async with db.begin() as session:
        session.add_all(Dish(id=key, text=text, kcal=kcal) for key, (text, kcal) in rows.items())
    return rows


def nearest(rows: dict[int, tuple[str, int]], query: str, k: int) -> list[tuple[int, float]]:
    """The k nearest keys with their scores, ties by key."""
    ranked = sorted((-round(cosine(query, text), 6), key) for key, (text, _) in rows.items())
    return [(key, -negative) for negative, key in ranked[:k]]


async def found(db: AsyncDB, statement: Any) -> list[tuple[int, float]]:
    """Keys and rounded scores that a statement finds."""
    async with db.session() as session:
        return [(dish.id, round(similarity, 6)) for dish, similarity in (await session.execute(statement)).all()]


async def test_stored_vectors_are_what_the_model_says(db: AsyncDB) -> None:
    """Every document holds its text's vector as float32 when the commit has returned."""
    rows = await fill(db)
    documents = await db.parts.data_backend.read(Find("dish"))
    assert len(rows) == len(documents)
    for document in documents:
        assert (9, b"\x27\x00") == (document["vec"].subtype, document["vec"][:2])
        expected = Letters().encode([document["text"]])[0]
        assert np.array_equal(expected, np.frombuffer(document["vec"], "<f4", offset=2))


async def test_like_finds_the_nearest(db: AsyncDB) -> None:
    """The k nearest, nearest first, ties by key, with their scores."""
    rows = await fill(db)
    statement = select(Dish, score()).like("hot soup and tea", k=7)
    assert nearest(rows, "hot soup and tea", 7) == await found(db, statement)


async def test_where_before_chooses_what_is_searched(db: AsyncDB) -> None:
    """k of those that match, at any selectivity."""
    rows = await fill(db)
    for limit in (700, 300, 60, 20):
        matching = {key: row for key, row in rows.items() if row[1] < limit}
        statement = select(Dish, score()).where(Dish.kcal < limit).like("hot soup", k=5)
        assert nearest(matching, "hot soup", 5) == await found(db, statement)


async def test_where_after_filters_those_found(db: AsyncDB) -> None:
    """The nearest k, less those that the filter refuses."""
    rows = await fill(db)
    expected = [(key, near) for key, near in nearest(rows, "hot soup", 20) if rows[key][1] < 300]
    statement = select(Dish, score()).like("hot soup", k=20).where(Dish.kcal < 300)
    assert expected == await found(db, statement)
    assert expected[1:3] == await found(db, statement.offset(1).limit(2))
    by_kcal = sorted(expected, key=lambda hit: (rows[hit[0]][1], hit[0]))
    assert by_kcal == await found(db, statement.order_by(Dish.kcal, Dish.id))
    assert expected[::-1] == await found(db, statement.order_by(score()))


async def test_the_search_follows_changes(db: AsyncDB) -> None:
    """A changed text answers for its new value only, a deleted document never comes back."""
    rows = await fill(db)
    statement = select(Dish, score()).like("zzz qqq", k=3)
    async with db.session() as session:
        dish = await session.get_one(Dish, 5)
        dish.text = "zzz qqq"
        await session.commit()
    rows[5] = ("zzz qqq", 0)
    assert (5, 1.0) == (await found(db, statement))[0]
    async with db.session() as session:
        session.delete(await session.get_one(Dish, 5))
        await session.commit()
    assert 5 not in [key for key, _ in await found(db, select(Dish, score()).like("zzz qqq", k=60))]
    del rows[5]
    assert nearest(rows, "rain", 4) == await found(db, select(Dish, score()).like("rain", k=4))
    async with db.begin() as session:
        session.add(Dish(id=5, text="rain rain"))
    rows[5] = ("rain rain", 0)
    assert nearest(rows, "rain", 4) == await found(db, select(Dish, score()).like("rain", k=4))
    assert (await db.check(Dish)).ok


async def test_flushed_changes_count_in_the_session_and_rollback_leaves_no_trace(db: AsyncDB, real: bool) -> None:
    """In a transaction its own changes are searched; outside they are not, and not after a rollback."""
    if not real:
        return
    rows = await fill(db)
    statement = select(Dish.id).like("zzz", k=1)
    async with db.session() as session:
        (await session.get_one(Dish, 8)).text = "zzz"
        assert [8] == (await session.scalars(statement)).all()
        async with db.session() as other:
            before = [key for key, _ in nearest(rows, "rain", 5)]
            assert before == (await other.scalars(select(Dish.id).like("rain", k=5))).all()
        await session.rollback()
    assert nearest(rows, "rain", 5) == await found(db, select(Dish, score()).like("rain", k=5))
    assert (await db.check(Dish)).ok


async def test_like_a_document_leaves_it_out(db: AsyncDB) -> None:
    """More like this, itself left out; a vector works as well."""
    rows = await fill(db)
    async with db.session() as session:
        dish = await session.get_one(Dish, 3)
        others = {key: row for key, row in rows.items() if key != 3}
        hits = (await session.execute(select(Dish, score()).like(dish, k=4))).all()
        assert nearest(others, rows[3][0], 4) == [(found.id, round(near, 6)) for found, near in hits]
        assert dish.vec is not None
        by_vector = (await session.scalars(select(Dish.id).like(dish.vec, on=Dish.vec, k=1))).all()
        assert [nearest(rows, rows[3][0], 1)[0][0]] == by_vector
        by_list = (await session.scalars(select(Dish.id).like(dish.vec.tolist(), k=1))).all()
        assert by_vector == by_list


async def test_min_score(db: AsyncDB) -> None:
    """Only what is at least so near."""
    rows = await fill(db)
    expected = [(key, near) for key, near in nearest(rows, "tea", 60) if near >= 0.8]
    assert expected == await found(db, select(Dish, score()).like("tea", k=60, min_score=0.8))


async def test_source_of_none_has_no_vector(db: AsyncDB) -> None:
    """It is left out of searches."""
    await db.add(Model("letters", Letters()))
    async with db.begin() as session:
        session.add_all([Dish(id=1, text=None), Dish(id=2, text="tea")])
    async with db.session() as session:
        assert [2] == (await session.scalars(select(Dish.id).like("tea", k=5))).all()
        dish = await session.get_one(Dish, 2)
        dish.text = None
        await session.commit()
        assert dish.vec is None
        assert [] == (await session.scalars(select(Dish.id).like("tea", k=5))).all()


class Broken:
    """A model that fails in the way that it is told to, on the text ``bad``."""

    def __init__(self, way: str) -> None:
        self.way = way

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        rows = np.ones((len(texts), 26), np.float32)
        if "bad" in texts:
            if self.way == "raises":
                raise RuntimeError("no such word")
            if self.way == "few":
                return rows[:-1]
            if self.way == "nan":
                rows[list(texts).index("bad"), 3] = np.nan
            if self.way == "dimension":
                return rows[:, :7]
        return rows


@pytest.mark.parametrize(
    ("way", "error", "words"),
    [
        ("raises", PredictionError, "Dish 2: vec cannot be computed: .*no such word"),
        ("few", PredictionError, "Dish: vec cannot be computed: .*2 outputs for 3 inputs"),
        ("nan", VectorError, "Dish 2: vec cannot be computed: .*NaN"),
        ("dimension", VectorError, r"Dish \d: vec cannot be computed: .*shape \(7,\), expected \(26,\)"),
    ],
)
async def test_a_failing_model_is_named_and_nothing_is_written(
    db: AsyncDB, way: str, error: type[Exception], words: str
) -> None:
    """The error says class, field and key; no document and no vector is stored; after the rollback all goes on."""
    await db.add(Model("letters", Broken(way)))
    async with db.session() as session:
        session.add_all([Dish(id=1, text="good"), Dish(id=2, text="bad"), Dish(id=3, text="fine")])
        with pytest.raises(error, match=words):
            await session.commit()
        await session.rollback()
        assert 0 == await session.count(select(Dish))
        session.add(Dish(id=1, text="good"))
        await session.commit()
        assert [1] == (await session.scalars(select(Dish.id).like("x", k=3))).all()
    assert (await db.check(Dish)).ok


async def test_missing_model_and_wrong_source(db: AsyncDB) -> None:
    """The field's model must exist at the flush that needs it; a source of the wrong type never reaches it."""
    async with db.session() as session:
        session.add(Dish(id=1, text="tea"))
        with pytest.raises(ComponentNotFoundError, match=r"Dish: vec.*'letters'"):
            await session.commit()
        await session.rollback()
        await db.add(Model("letters", Letters()))
        session.add(Dish(id=1, text=5))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        with pytest.raises(ValidationError, match="Dish 1: text"):
            await session.commit()


async def test_bad_queries(db: AsyncDB) -> None:
    """A query of the wrong shape or not finite is a VectorError, what is no query a StatementError."""
    await fill(db, 3)
    async with db.session() as session:
        for query in ([1.0, 2.0], [float("nan")] * 26, [float("inf")] * 26, np.zeros((26, 2)), ["a"] * 26):
            with pytest.raises(VectorError):
                await session.execute(select(Dish).like(query))
        with pytest.raises(StatementError, match="k="):
            select(Dish).like("x", k=0)
        with pytest.raises(StatementError, match="score"):
            await session.execute(select(Dish, score()))


async def test_explain_says_what_ran(db: AsyncDB, real: bool) -> None:
    """The strategy, the engine and the reads that were sent."""
    await fill(db)
    explanation = await db.explain(select(Dish).where(Dish.kcal < 500).like("tea", k=3))
    assert explanation.strategy
    assert explanation.engine
    assert any("dish" == read.collection for read in explanation.reads)
    if real:
        plain = await db.explain(select(Dish).where(Dish.id == 3))
        assert "find" == plain.strategy
        assert "dish" in str(plain.details)


async def test_check_finds_and_rebuild_repairs_writes_by_others(db: AsyncDB) -> None:
    """A vector changed behind superorm's back is a problem until the index is rebuilt."""
    from superorm.unitofwork.writes import Update, UpdateOp

    await fill(db, 10)
    async with db.session() as session:
        await session.execute(select(Dish).like("tea"))
    changed = (await db.parts.data_backend.read(Find("dish", {"_id": 1})))[0]["vec"]
    op = UpdateOp(q={"_id": 2}, u={"$set": {"vec": changed}})
    await db.vectors.apply(_spec())
    await db.parts.data_backend.write(Update("dish", [op]))
    report = await db.check(Dish)
    assert not report.ok
    assert "2" in str(report)
    await db.rebuild(Dish.vec)
    assert (await db.check(Dish)).ok


def _spec() -> Any:
    from superorm.schema.mapping import class_map

    return class_map(Dish).vectors[0].spec


async def test_a_model_that_never_made_a_vector_is_not_kept(db: AsyncDB) -> None:
    """The version of an index's model is fixed by its first vectors, not by a failure or a search before them."""
    await db.add(Model("letters", Broken("dimension")))
    async with db.session() as session:
        session.add(Dish(id=1, text="bad"))
        with pytest.raises(VectorError, match="shape"):
            await session.commit()
        await session.rollback()
        with pytest.raises(VectorError, match="shape"):
            await session.execute(select(Dish).like("bad"))
    rows = await fill(db)
    assert nearest(rows, "tea", 3) == await found(db, select(Dish, score()).like("tea", k=3))
    await db.add(Model("letters", Broken("raises")))
    async with db.begin() as session:
        session.add(Dish(id=1000, text="bad"))
    assert nearest(rows, "tea", 3) == await found(db, select(Dish, score()).like("tea", k=3))


async def test_two_processes_that_begin_with_different_versions_agree(
    db: AsyncDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who finds another version recorded computes again with that."""
    await db.add(Model("letters", Letters(), fingerprint="a"))
    await db.add(Model("letters", Broken("no"), fingerprint="b"))
    record = db.vector_models._record  # pyright: ignore[reportPrivateUsage]

    async def late(spec: Any, name: str, version: int) -> int | None:
        await record(spec, name, 0)
        return await record(spec, name, version)

    monkeypatch.setattr(db.vector_models, "_record", late)
    async with db.begin() as session:
        session.add(Dish(id=1, text="tea"))
    (document,) = await db.parts.data_backend.read(Find("dish"))
    assert np.array_equal(Letters().encode(["tea"])[0], np.frombuffer(document["vec"], "<f4", offset=2))


async def test_a_computed_vector_that_somebody_changed_is_computed_again(db: AsyncDB) -> None:
    """It stays what the model says of its source."""
    rows = await fill(db, 5)
    async with db.session() as session:
        dish = await session.get_one(Dish, 2)
        assert dish.vec is not None
        dish.vec[:] = 1
        (await session.get_one(Dish, 3)).vec = None
        await session.commit()
    for document in await db.parts.data_backend.read(Find("dish")):
        expected = Letters().encode([rows[document["_id"]][0]])[0]
        assert np.array_equal(expected, np.frombuffer(document["vec"], "<f4", offset=2))


async def test_like_a_document_of_a_compound_key_leaves_it_out(db: AsyncDB) -> None:
    """The key is compared as it is stored."""

    class Place(Embedded):
        city: Mapped[str]

    class Placed(Document):
        id: Mapped[Place | date] = field(primary_key=True)
        vec: Mapped[np.ndarray | None] = vector(2)

    async with db.begin() as session:
        keys: list[Place | date] = [Place(city="x"), Place(city="y"), date(2020, 1, 1)]
        for number, key in enumerate(keys):
            session.add(Placed(id=key, vec=np.array([1, number], np.float32)))
    async with db.session() as session:
        everything = (await session.scalars(select(Placed))).all()
        for one in everything:
            others = (await session.scalars(select(Placed).like(one, k=9))).all()
            assert {id(other) for other in everything if other is not one} == {id(other) for other in others}


async def test_a_query_that_is_no_source(db: AsyncDB) -> None:
    """What the source field could not hold does not reach the model; what the model gives must be a vector."""
    await fill(db, 3)
    async with db.session() as session:
        for query in (5, None, 2.5):
            with pytest.raises(StatementError, match=r"like.*Dish\.text"):
                await session.execute(select(Dish).like(query))


class Wordy:
    """A model that gives no vector for one text."""

    def encode(self, texts: Sequence[str]) -> list[Any]:
        return ["no" if text == "bad" else [1.0] * 26 for text in texts]


async def test_a_model_that_gives_no_vector_for_a_query(db: AsyncDB) -> None:
    """It is a VectorError."""
    await db.add(Model("letters", Wordy()))
    async with db.begin() as session:
        session.add(Dish(id=1, text="good"))
    async with db.session() as session:
        with pytest.raises(VectorError, match="'letters' returned 'no'"):
            await session.execute(select(Dish).like("bad"))
