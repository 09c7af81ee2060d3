"""What ``like`` refuses, and what a check says of the models behind vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from superorm import AsyncDB, Document, Mapped, Model, StatementError, VectorError, field, select, vector


class Lengths:
    """An encoder of texts that counts its calls."""

    def __init__(self, second: float = 1) -> None:
        self.second = second
        self.calls = 0

    def encode(self, texts: list[str]) -> np.ndarray:
        """The length of each text and a constant, shape (n, 2)."""
        self.calls += 1
        return np.array([[len(text), self.second] for text in texts], np.float32)


class Note(Document):
    __collection__ = "search_input_notes"
    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str | None]
    vec: Mapped[np.ndarray | None] = vector(2, source="text", model="lengths")


@pytest.mark.parametrize(
    "query",
    [np.array([1j, 1]), [1j, 1], [1e300, 1], np.array([1, -1e300]), ["1", "2"], [10**400, 1], [np.nan, 1], [0, 0]],
    ids=repr,
)
async def test_queries_that_are_no_vectors(db: AsyncDB, query: Any) -> None:
    """Complex numbers, numbers beyond float32, texts and zeros are refused as vectors, without a warning."""
    async with db.session() as session:
        with pytest.raises(VectorError):
            await session.scalars(select(Note).like(query))


@pytest.mark.parametrize("query", ["", "  ", "\n\t"])
async def test_blank_texts(db: AsyncDB, query: str) -> None:
    """A blank text is refused before the model is called."""
    encoder = Lengths()
    await db.add(Model("lengths", encoder))
    async with db.session() as session:
        with pytest.raises(VectorError, match="blank"):
            await session.scalars(select(Note).like(query))
    assert encoder.calls == 0


@pytest.mark.parametrize("exact", ["yes", 1, None])
def test_exact_is_true_or_false(exact: Any) -> None:
    """Anything but True and False is refused when the statement is made."""
    with pytest.raises(StatementError, match="exact"):
        select(Note).like([1, 2], exact=exact)


async def test_check_says_that_a_model_has_a_newer_version(db: AsyncDB) -> None:
    """The index keeps the version of its first vectors, and a check names both."""
    await db.add(Model("lengths", Lengths(), fingerprint="a"))
    async with db.begin() as session:
        session.add(Note(id=1, text="tea"))
    assert (await db.check(Note)).ok
    await db.add(Model("lengths", Lengths(7), fingerprint="b"))
    await db.add(Model("lengths", Lengths(8), fingerprint="c"))
    await db.add(Model("others", Lengths(9), fingerprint="d"))
    (problem,) = (await db.check(Note)).problems
    assert "notes.vec" in problem
    assert "version 0 of the model 'lengths'" in problem
    assert "version 2" in problem
