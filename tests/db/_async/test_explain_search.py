"""What `explain` says of vector searches: engine, strategy, counts, why, and the server's own plan."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from superorm import AsyncDB, Document, Embedded, Index, Mapped, field, score, select, vector
from superorm.vectors import planning

ROWS = 200


class Part(Embedded):
    name: Mapped[str]
    size: Mapped[int]


class Thing(Document):
    __collection__ = "explained"
    __indexes__ = (Index("number"),)
    id: Mapped[int] = field(primary_key=True)
    number: Mapped[int]
    word: Mapped[str]
    parts: Mapped[list[Part]] = field(factory=list)
    vec: Mapped[np.ndarray | None] = vector(4)


VECTORS = np.random.default_rng(5).standard_normal((ROWS, 4)).astype("f4")
SCORES = (1 + VECTORS.astype(float) @ VECTORS[0] / np.linalg.norm(VECTORS, axis=1) / np.linalg.norm(VECTORS[0])) / 2
NUMBERS = np.random.default_rng(6).permutation(ROWS).tolist()


async def fill(db: AsyncDB) -> None:
    """Store the things."""
    await db.create_all(Thing)
    async with db.begin() as session:
        session.add_all(
            Thing(
                id=i, number=NUMBERS[i], word=f"w{NUMBERS[i]}", parts=[Part(name="ab"[i % 2], size=i)], vec=VECTORS[i]
            )
            for i in range(ROWS)
        )


async def agrees(db: AsyncDB, statement: Any, matching: list[int], k: int) -> None:
    """Assert that a statement finds the nearest of those that match, as brute force does."""
    async with db.session() as session:
        rows = (await session.execute(statement)).all()
    expected = sorted(matching, key=lambda i: (-SCORES[i], i))[:k]
    assert expected == [thing.id for thing, _ in rows]
    assert np.allclose(SCORES[expected], [similarity for _, similarity in rows])


@pytest.mark.parametrize("few", [1_000, 3])
async def test_strategies(db: AsyncDB, real: bool, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each strategy is named with its counts and the reason, and answers as brute force does."""
    monkeypatch.setattr(planning, "FEW", few)
    await fill(db)
    regex = Thing.word.regex("^w.*7$")
    part = Thing.parts.any_(Part.name == "a", Part.size < 10)
    below = {n: [i for i in range(ROWS) if NUMBERS[i] < n] for n in (0, 2, 150)}
    cases: list[tuple[Any, list[int]]] = [
        (Thing.number < 0, []),
        (Thing.number < 2, below[2]),
        (Thing.number < 150, below[150]),
        (regex, [i for i in range(ROWS) if NUMBERS[i] % 10 == 7]),
        (part, list(range(0, 10, 2))),
    ]
    for condition, matching in cases:
        statement = select(Thing, score()).where(condition).like(VECTORS[0], k=2, exact=True)
        await agrees(db, statement, matching, 2)
        explanation = await db.explain(statement)
        details = explanation.details or {}
        assert ("lancedb" if "Lance" in repr(db) else "memory") == explanation.engine
        assert ROWS == details["rows in memory"]
        assert explanation.why
        assert explanation.why in str(explanation)
        if explanation.strategy == "over-fetch":
            assert few == 3
            assert 3 <= details["more match than"] < len(matching)
            assert str(details["more match than"]) in explanation.why
        else:
            assert ("mask" if len(matching) >= ROWS / 4 else "gather") == explanation.strategy
            assert len(matching) == details["documents that match"]
            assert str(len(matching)) in explanation.why
        if real and condition is cases[1][0]:
            assert "number_1" in str(details["plan"])
        elif not real:
            assert "mongomock" in details["plan"]


async def test_without_a_filter(db: AsyncDB) -> None:
    """Without a filter all rows are ranked; what filters later does not count."""
    await fill(db)
    for statement in (
        select(Thing, score()).like(VECTORS[0], k=5),
        select(Thing, score()).like(VECTORS[0], k=5).where(Thing.number >= 0).order_by(score().desc()),
    ):
        await agrees(db, statement, list(range(ROWS)), 5)
        explanation = await db.explain(statement)
        assert "exact" == explanation.strategy
        assert "no filter" in (explanation.why or "")
        assert not {"documents that match", "more match than"} & set(explanation.details or ())
        assert any("explained" == read.collection for read in explanation.reads)


async def test_of_nothing(db: AsyncDB) -> None:
    """A search without candidates, of an empty collection or by a score that none has, is explained as well."""
    await db.create_all(Thing)
    for _ in range(2):
        assert 0 == (await db.explain(select(Thing).like(VECTORS[0], k=2))).details["documents read"]
    await fill(db)
    found = await db.explain(select(Thing).like(VECTORS[0], k=2, min_score=1.5))
    assert [] == found.reads
    assert 0 == found.details["documents read"]


async def test_what_other_selects_say(db: AsyncDB, real: bool) -> None:
    """A plain select has neither an engine nor a reason."""
    if real:
        plain = await db.explain(select(Thing).where(Thing.number < 2))
        assert (None, None, "find") == (plain.engine, plain.why, plain.strategy)
        assert "why" not in str(plain)
