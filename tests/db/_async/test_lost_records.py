"""What is recorded of vector indexes goes, in whole or in part: searches recover, or say what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from superorm import AsyncDB, ConfigurationError, Document, Mapped, Model, field, select, vector
from superorm._async import vector_switch
from superorm.unitofwork.writes import Delete
from superorm.vectors.records import COLLECTION, INDEXES


class Encoder:
    """Texts by their lengths, times a factor."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def encode(self, texts: list[str]) -> np.ndarray:
        """Shape (n, 2)."""
        return np.array([[self.factor * len(text), 1] for text in texts], np.float32)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else writes: an announcement is not waited for as long."""
    monkeypatch.setattr(vector_switch, "GRACE", 0.1)


class Letter(Document):
    __collection__ = "lost_records_letters"
    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str]
    vec: Mapped[np.ndarray | None] = vector(2, metric="euclidean", source="text", model="lost-encoder")


async def lose(db: AsyncDB, collection: str) -> None:
    """Delete all documents of a collection that superorm keeps for itself."""
    await db.parts.data_backend.write(Delete(collection, [{}]))


async def near(db: AsyncDB, query: Any) -> list[int]:
    """The keys of the nearest three, nearest first."""
    async with db.session() as session:
        return (await session.scalars(select(Letter.id).like(query, k=3, exact=True))).all()


async def fill(db: AsyncDB) -> None:
    """Letters of lengths 1 to 5, encoded by the first of two versions."""
    await db.add(Model("lost-encoder", Encoder(1), fingerprint="one"))
    async with db.begin() as session:
        session.add_all(Letter(id=n, text="x" * n) for n in range(1, 6))
    assert [3, 2, 4] == await near(db, "xxx")
    await db.add(Model("lost-encoder", Encoder(-1), fingerprint="two"))
    assert [3, 2, 4] == await near(db, "xxx")


async def test_records_and_states(db: AsyncDB) -> None:
    """Their loss is made good by the documents, and the version of the model outlives it."""
    await fill(db)
    await lose(db, COLLECTION)
    assert [3, 2, 4] == await near(db, "xxx")
    async with db.begin() as session:
        session.delete(await session.get_one(Letter, 3))
        session.add(Letter(id=6, text="xxx"))
    await lose(db, COLLECTION)
    await db.rebuild(Letter.vec)
    assert [6, 2, 4] == await near(db, "xxx")
    async with db.begin() as session:
        (await session.get_one(Letter, 1)).text = "xxx"
    assert [1, 6, 2] == await near(db, "xxx")
    problems = (await db.check(Letter)).problems
    assert ["version 0 of the model" in problem for problem in problems] == [True]


async def test_the_version_of_the_model(db: AsyncDB) -> None:
    """Where it could be one of several, searches and writes by text say so; what needs no model goes on."""
    await fill(db)
    await lose(db, INDEXES)
    db.vector_models._made.clear()  # as in another process
    with pytest.raises(ConfigurationError, match=r"made the vectors of lost_records_letters\.vec is not recorded"):
        await near(db, "xxx")
    with pytest.raises(ConfigurationError, match="reencode=True"):
        async with db.begin() as session:
            session.add(Letter(id=7, text="xxx"))
    assert [3, 2, 4] == await near(db, [3, 1])
    (problem,) = (await db.check(Letter)).problems
    assert "lost_records_letters.vec" in problem
    assert "is not recorded" in problem
    await db.rebuild(Letter.vec, reencode=True)
    assert [3, 2, 4] == await near(db, "xxx")
    assert [3, 2, 4] == await near(db, [-3, 1])
    assert (await db.check(Letter)).ok


async def test_the_only_version_of_the_model(db: AsyncDB) -> None:
    """Where there is one version only, nothing is in doubt."""
    await db.add(Model("lost-encoder", Encoder(1), fingerprint="one"))
    async with db.begin() as session:
        session.add_all(Letter(id=n, text="x" * n) for n in range(1, 6))
    await lose(db, INDEXES)
    db.vector_models._made.clear()  # as in another process
    assert [3, 2, 4] == await near(db, "xxx")
    assert (await db.check(Letter)).ok
