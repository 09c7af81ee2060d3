"""Hierarchies of documents over every backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from superorm import (
    AsyncDB,
    Document,
    Mapped,
    Model,
    NotLoadedError,
    Registry,
    field,
    load_only,
    select,
    vector,
)
from superorm.compile.plan import Find

registry = Registry()


class Work(Document, registry=registry):
    __collection__ = "works"

    id: Mapped[int] = field(primary_key=True)
    title: Mapped[str] = field(default="")
    embedding: Mapped[np.ndarray | None] = vector(2, source="title", model="lengths")


class Book(Work):
    pages: Mapped[int] = field(default=1)


class Novel(Book):
    heroes: Mapped[list[str]] = field(factory=list)


class Song(Work):
    notes: Mapped[list[int]] = field(factory=list)


def encode(titles: list[str]) -> list[list[float]]:
    """A vector that says how long a text is."""
    return [[float(len(title)), 1.0] for title in titles]


async def stored(db: AsyncDB) -> list[dict[str, Any]]:
    """The documents as the backend holds them."""
    return await db.parts.data_backend.read(Find("works", sort=[("_id", 1)]))


async def fill(db: AsyncDB) -> None:
    """One document of each class."""
    await db.add(Model("lengths", encode, batched=True, fingerprint="1"))
    async with db.begin() as session:
        session.add_all([Work(id=1, title="a"), Book(id=2, title="bb", pages=10)])
        session.add_all([Novel(id=3, title="ccc", heroes=["x"]), Song(id=4, title="dddd", notes=[1])])


async def test_stored_and_read(db: AsyncDB) -> None:
    """One collection holds all; a select of a class gives it and its subclasses, each object of its own class."""
    await fill(db)
    documents = await stored(db)
    assert [None, "Book", "Novel", "Song"] == [document.get("_type") for document in documents]
    async with db.session() as session:
        kinds: dict[type[Work], list[type]] = {
            Work: [Work, Book, Novel, Song],
            Book: [Book, Novel],
            Novel: [Novel],
            Song: [Song],
        }
        for cls, expected in kinds.items():
            found = (await session.scalars(select(cls).order_by(cls.id))).all()
            assert expected == [type(one) for one in found]
            assert len(expected) == await session.count(select(cls))
        novel = (await session.scalars(select(Novel).where(Novel.pages == 1, Work.title == "ccc"))).one()
        assert ["x"] == novel.heroes
        assert [2] == (await session.scalars(select(Book.id).where(Book.pages > 1))).all()


async def test_get(db: AsyncDB) -> None:
    """The same object by any of its classes; a document of another class is none."""
    await fill(db)
    async with db.session() as session:
        novel = await session.get_one(Work, 3)
        assert novel is await session.get(Novel, 3)
        assert novel is await session.get(Book, 3)
        assert await session.get(Song, 3) is None
    async with db.session() as session:
        assert await session.get(Song, 3) is None
        assert await session.get(Book, 1) is None
        assert Novel is type(await session.get(Book, 3))


async def test_changes(db: AsyncDB) -> None:
    """Objects of several classes change, come and go in one commit; a computed vector follows."""
    await fill(db)
    async with db.session() as session:
        work, book, novel, song = (await session.scalars(select(Work).order_by(Work.id))).all()
        work.title, book.title = "zzzzz", "yy"
        assert isinstance(novel, Novel)
        novel.heroes.append("y")
        await session.flush()
        session.delete(song)
        session.add(Song(id=5, title="new"))
        await session.commit()
    one, two, three, five = await stored(db)
    assert ("zzzzz", "yy", ["x", "y"], "Song") == (one["title"], two["title"], three["heroes"], five["_type"])
    async with db.session() as session:
        assert [5.0, 1.0] == (await session.get_one(Work, 1)).embedding.tolist()  # type: ignore[union-attr]
        (nearest,) = await session.scalars(select(Work).like([3.0, 1.0], k=1))
        assert nearest.title in ("ccc", "new")


async def test_partial_documents(db: AsyncDB) -> None:
    """Only what was asked for is read; a change of the rest is written all the same, and a whole read completes it."""
    await fill(db)
    async with db.session() as session:
        work, _, novel, _ = (await session.scalars(select(Work).order_by(Work.id).options(load_only(Work.id)))).all()
        assert Novel is not type(novel)
        assert isinstance(novel, Novel)
        with pytest.raises(NotLoadedError, match="Novel 3: heroes was not loaded"):
            novel.heroes  # noqa: B018
        work.title, novel.pages = "long title", 7
        await session.commit()
        assert novel is (await session.scalars(select(Novel))).one()
        assert (Novel, 7, ["x"]) == (type(novel), novel.pages, novel.heroes)
    one, _, three, _ = await stored(db)
    assert ("long title", 7, ["x"]) == (one["title"], three["pages"], three["heroes"])
    async with db.session() as session:
        assert [10.0, 1.0] == (await session.get_one(Work, 1)).embedding.tolist()  # type: ignore[union-attr]
