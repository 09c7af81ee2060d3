# pyright: strict
"""Listeners and their outputs, as type checkers see them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_type

from superorm import DB, AsyncDB, Listener, Model, Select, Session, VectorIndex, outputs, score, select
from superorm._async.outputs import AsyncOutputs
from superorm._sync.outputs import Outputs
from tests.typing.classes import Movie


def listeners(db: DB) -> None:
    """Adding, loading, and reading the outputs."""
    listener = Listener("titles", model=Model("length", len), select=select(Movie), key=Movie.title)
    assert_type(db.add(listener, progress=True), Listener)
    assert_type(db.load("listener", "titles"), Listener)
    assert_type(db.add(Listener("doubles", model="double", listener="titles")), Listener)
    assert_type(db.add(Listener("doubles", model="double", listener=listener)), Listener)
    outputs = db.outputs("titles")
    assert_type(outputs, Outputs)
    same: Mapping[Any, Any] = outputs
    assert_type(len(same), int)


def indexes(db: DB, session: Session) -> None:
    """Vector indexes of outputs, and searches by their names."""
    listener = Listener("titles", model=Model("length", len), select=select(Movie), key=Movie.title)
    index = VectorIndex("by-title", listener=listener, metric="dot", dim=3, model="words")
    assert_type(db.add(index, progress=True), VectorIndex)
    assert_type(db.load("vector_index", "by-title"), VectorIndex)
    assert_type(db.add(VectorIndex("by-title", listener="titles")), VectorIndex)
    statement = select(Movie, score()).where(Movie.year > 1990).like("words", on="by-title", k=3)
    assert_type(statement, Select[Movie, tuple[Movie, float]])
    for movie, similarity in session.execute(statement):
        assert_type(movie, Movie)
        assert_type(similarity, float)
    db.rebuild("by-title")


def joined_outputs(session: Session) -> None:
    """Outputs in selects: their values are not known to type checkers, whose documents they are is."""
    titles = outputs("titles")
    for row in session.execute(select(Movie, titles).where(titles > 3, Movie.year > 1990).order_by(titles.desc())):
        assert_type(row[0], Movie)
        assert_type(row[1], Any)
    own = outputs("titles", of=Movie)
    assert_type(select(Movie.title, own["label"]), Select[Movie, tuple[str, Any]])


async def listeners_async(db: AsyncDB) -> None:
    """The same, awaited."""
    assert_type(await db.add(Listener("titles", model="length", select=select(Movie), key=Movie.title)), Listener)
    assert_type(await db.add(VectorIndex("by-title", listener="titles")), VectorIndex)
    assert_type(await db.load("vector_index", "by-title"), VectorIndex)
    outputs = await db.outputs("titles")
    assert_type(outputs, AsyncOutputs)
    assert_type(await outputs.count(), int)
    async for item in outputs.items():
        assert_type(item, tuple[Any, Any])
