"""How far the loading of vectors is that a first search needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from superorm import AsyncDB, AsyncSession, ConfigurationError, Document, Mapped, connect_async, field, select, vector

COUNT = 30
ROWS = np.random.default_rng(3).standard_normal((COUNT, 4)).astype(np.float32)

ON_SERVER = pytest.mark.parametrize("db", ["mongodb+memory"], indirect=True)


class Sketch(Document):
    """A document with a vector."""

    __collection__ = "sketches_loaded"

    number: Mapped[int] = field(primary_key=True)
    embedding: Mapped[np.ndarray | None] = vector(4)


@ON_SERVER
@pytest.mark.parametrize("engine", ["memory://", "lancedb"])
async def test_a_first_search_tells_how_far_it_is(db: AsyncDB, mongodb_uri: str, tmp_path: Path, engine: str) -> None:
    """Another process's engine has no copy yet: the first search makes it, and says so; the second has it."""
    async with db.begin() as session:
        session.add_all(Sketch(number=number, embedding=row) for number, row in enumerate(ROWS))
    told, before = list[tuple[int, int, str]](), 0
    url = f"lancedb://{tmp_path / 'own'}" if engine == "lancedb" else engine
    options: Any = {"database": db.parts.data_backend.name, "signing_key": "test-key"}
    async with connect_async(
        mongodb_uri, vector_database=url, progress=lambda *one: told.append(one), **options
    ) as other:
        near = np.argsort(-(ROWS @ ROWS[7]) / np.linalg.norm(ROWS, axis=1))[:5]
        for _ in range(2):
            async with AsyncSession(other) as session:
                found = await session.scalars(select(Sketch).like(ROWS[7], k=5))
                assert [*near] == [sketch.number for sketch in found]
            assert (COUNT, COUNT, "sketches_loaded.embedding") == told[-1]
            assert sorted(told) == told
            before = before or len(told)
        assert before == len(told)


@ON_SERVER
async def test_a_bar(db: AsyncDB, mongodb_uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    async with db.begin() as session:
        session.add_all(Sketch(number=number, embedding=row) for number, row in enumerate(ROWS))
    options: Any = {"database": db.parts.data_backend.name, "signing_key": "test-key", "vector_database": "memory://"}
    async with connect_async(mongodb_uri, progress=True, **options) as other, AsyncSession(other) as session:
        assert 5 == len((await session.scalars(select(Sketch).like(ROWS[7], k=5))).all())
    assert "sketches_loaded.embedding: 100%" in capsys.readouterr().err


def test_what_is_no_progress() -> None:
    wrong: Any = "yes"
    with pytest.raises(ConfigurationError, match="progress= takes True, or a callable"):
        connect_async("mongomock://no_progress", progress=wrong)
