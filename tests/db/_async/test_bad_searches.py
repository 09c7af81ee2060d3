"""Bad input of vector searches and of vectors: each is a clear error, before anything is read or written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from superorm import (
    AsyncDB,
    ComponentNotFoundError,
    Document,
    Embedded,
    Mapped,
    StatementError,
    VectorError,
    field,
    insert,
    select,
    update,
    vector,
)


class Frame(Embedded):
    vec: Mapped[np.ndarray | None] = vector(3)


class Photo(Document):
    __collection__ = "bad_searches_photos"
    id: Mapped[int] = field(primary_key=True)
    title: Mapped[str] = field(default="")
    vec: Mapped[np.ndarray | None] = vector(3)
    frame: Mapped[Frame | None] = field(default=None)


class Other(Document):
    __collection__ = "bad_searches_others"
    vec: Mapped[np.ndarray | None] = vector(3)


class Bare(Document):
    __collection__ = "bad_searches_bare"
    title: Mapped[str] = field(default="")


BAD = [[1, 2], [1, 2, 3, 4], [], [[1, 2, 3]], [1, 2, float("nan")], [1, 2, float("inf")], [1e300, 0, 0], ["a"] * 3]


async def fill(db: AsyncDB) -> None:
    """Three photos."""
    async with db.begin() as session:
        session.add_all(Photo(id=n, vec=[n, 1, 0], frame=Frame(vec=[n, 1, 0])) for n in (1, 2, 3))


async def keys(db: AsyncDB) -> list[int]:
    """What a search finds."""
    async with db.session() as session:
        return (await session.scalars(select(Photo.id).like([1, 1, 0], on=Photo.vec, k=5))).all()


@pytest.mark.parametrize("query", BAD, ids=repr)
async def test_queries(db: AsyncDB, query: Any) -> None:
    """Of the wrong dimension or shape, or not finite."""
    async with db.session() as session:
        for on in (Photo.vec, Photo.frame.vec):
            with pytest.raises(VectorError):
                await session.scalars(select(Photo).like(query, on=on))


async def test_names(db: AsyncDB) -> None:
    """A text names an index: where it is the name of a field, the error tells how a field is given."""
    async with db.session() as session:
        for on in ("vec", "frame.vec"):
            with pytest.raises(ComponentNotFoundError, match=rf"for the vector field give on=Photo\.{on}$"):
                await session.scalars(select(Photo).like([1, 2, 3], on=on))
        with pytest.raises(ComponentNotFoundError, match=r"db\.add\(\.\.\.\)$"):
            await session.scalars(select(Photo).like([1, 2, 3], on="title"))


@pytest.mark.parametrize("value", BAD, ids=repr)
async def test_values(db: AsyncDB, value: Any) -> None:
    """The same as values of objects and statements, named with class, key and field; nothing is written."""
    await fill(db)
    for path, made in (("vec", Photo(id=9, vec=value)), ("frame.vec", Photo(id=9, frame=Frame(vec=value)))):
        with pytest.raises(VectorError, match=rf"Photo 9: {path} cannot be stored"):
            async with db.begin() as session:
                session.add(made)
    async with db.session() as session:
        (photo,) = (await session.scalars(select(Photo).where(Photo.id == 1))).all()
        photo.vec = value
        with pytest.raises(VectorError, match="Photo 1: vec cannot be stored"):
            await session.commit()
        await session.rollback()
        for statement in (
            lambda: insert(Photo).values([{"id": 9, "vec": value}]),
            lambda: update(Photo).where(Photo.id == 1).values(vec=value),
            lambda: update(Photo).where(Photo.id == 1).set(Photo.frame.vec.to(value)),
            lambda: update(Photo).where(Photo.id == 1).values(frame=Frame(vec=value)),
        ):
            with pytest.raises((VectorError, StatementError), match="vec cannot"):
                await session.execute(statement())
            await session.rollback()
    assert [1, 2, 3] == sorted(await keys(db))


@pytest.mark.parametrize("k", [0, -1, 10_000_000, True, 2.5, "3", None], ids=repr)
def test_k(k: Any) -> None:
    """Anything but a whole number from 1 to the most there is is refused when the statement is made."""
    with pytest.raises(StatementError, match="k="):
        select(Photo).like([1, 2, 3], on=Photo.vec, k=k)


@pytest.mark.parametrize("option", [{"min_score": float("nan")}, {"min_score": "1"}, {"num_candidates": 0}], ids=repr)
def test_options(option: Any) -> None:
    """So are options that say nothing."""
    with pytest.raises(StatementError, match=next(iter(option))):
        select(Photo).like([1, 2, 3], on=Photo.vec, **option)


def test_fields() -> None:
    """Names that are no fields, fields of others, fields that hold no vector, and classes without any."""
    with pytest.raises(AttributeError, match="nope"):
        select(Photo).like([1, 2, 3], on=Photo.nope)  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="nope"):
        select(Photo).like([1, 2, 3], on=Photo.frame.nope)
    for on in (Other.vec, Photo.title, Photo.frame):
        with pytest.raises(StatementError):
            select(Photo).like([1, 2, 3], on=on).pipeline()
    with pytest.raises(StatementError, match="Bare has no vector field"):
        select(Bare).like([1, 2, 3]).pipeline()
    with pytest.raises(StatementError, match=r"vec, frame\.vec"):
        select(Photo).like([1, 2, 3]).pipeline()


async def test_vectors_that_are_gone(db: AsyncDB, tmp_path: Path) -> None:
    """A vector database that went is built anew from the documents, by the search or by one call."""
    await fill(db)
    assert [1, 2, 3] == await keys(db)
    shutil.rmtree(tmp_path / "lance", ignore_errors=True)
    assert [1, 2, 3] == await keys(db)
    assert (await db.check(Photo)).ok
    shutil.rmtree(tmp_path / "lance", ignore_errors=True)
    for on in (Photo.vec, Photo.frame.vec):
        await db.rebuild(on)
    assert [1, 2, 3] == await keys(db)
    assert (await db.check(Photo)).ok


async def test_vectors_that_are_damaged(db: AsyncDB, tmp_path: Path) -> None:
    """Files that cannot be read are made anew by the search, and by one call; the answer is never empty."""
    await fill(db)
    assert [1, 2, 3] == await keys(db)
    for file in (tmp_path / "lance").rglob("*"):
        if file.is_file() and file.suffix in (".lance", ".manifest"):
            file.write_bytes(b"damaged")
    assert [1, 2, 3] == await keys(db)
    for on in (Photo.vec, Photo.frame.vec):
        await db.rebuild(on)
    assert [1, 2, 3] == await keys(db)
    assert (await db.check(Photo)).ok
