"""States that a session seldom is in: expired before a rollback, without transactions allowed, loaded in part."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pymongo
import pytest
import pytest_asyncio

from superorm import (
    AsyncDB,
    Document,
    Embedded,
    Mapped,
    NotLoadedError,
    Registry,
    UnsupportedError,
    connect_async,
    field,
    joinedload,
    load_only,
    relationship,
    select,
    selectinload,
)

registry = Registry()


class Part(Embedded):
    sizes: Mapped[list[int]] = field(factory=list)


class Thing(Document, registry=registry):
    __collection__ = "things"

    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str] = field(default="", name="n")
    number: Mapped[int] = field(default=0)
    tags: Mapped[list[str]] = field(factory=list)
    part: Mapped[Part | None] = field(default=None)
    data: Mapped[np.ndarray | None] = field(default=None)
    version: Mapped[int] = field(version=True)


class Author(Document, registry=registry):
    __collection__ = "authors"

    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str] = field(default="")
    books: Mapped[list[Book]] = relationship(list["Book"], remote_key="author_id", cascade="all")


class Book(Document, registry=registry):
    __collection__ = "books"

    id: Mapped[int] = field(primary_key=True)
    title: Mapped[str] = field(default="")
    author_id: Mapped[int | None] = field(default=None, name="a")
    author: Mapped[Author | None] = relationship("Author", key="author_id")


class Novel(Book, registry=registry):
    editor_id: Mapped[int | None] = field(default=None)
    editor: Mapped[Author | None] = relationship("Author", key="editor_id")


@pytest_asyncio.fixture
async def db(mongodb_uri: str, database: str) -> AsyncIterator[AsyncDB]:
    """A database on the real server."""
    url = mongodb_uri
    async with connect_async(url, database=database, vector_database="memory://", signing_key="test-key") as db:
        await db.create_all(Thing, Author, Book)
        yield db


def stored(uri: str, database: str, collection: str) -> list[dict[str, Any]]:
    """The documents, by plain PyMongo."""
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        return list(client[database][collection].find(sort=[("_id", 1)]))


# Expired, then rolled back


def thing(key: int) -> Thing:
    return Thing(id=key, name="a", number=3, tags=["x"], part=Part(sizes=[1, 2]), data=np.arange(3.0))


def shown(one: Thing) -> tuple[Any, ...]:
    assert one.part is not None
    assert one.data is not None
    return one.id, one.name, one.number, one.tags, one.part.sizes, one.data.tolist(), one.version


@pytest.mark.parametrize("how", ["one", "all", "twice", "deleted", "expunged"])
async def test_new_objects_that_expired(db: AsyncDB, mongodb_uri: str, database: str, how: str) -> None:
    """After a rollback they are outside again with their values, read nothing, and can be added again."""
    async with db.session() as session:
        one = thing(1)
        session.add(one)
        await session.flush()
        if how == "all":
            session.expire_all()
        elif how == "twice":
            session.expire(one, ["name", "tags"])
            session.expire(one)
        else:
            session.expire(one)
        for name in ("name", "tags", "part", "data"):
            with pytest.raises(NotLoadedError, match=rf"Thing 1: {name} was not loaded, or has expired; refresh\(\)"):
                getattr(one, name)
        if how == "deleted":
            session.delete(one)
            await session.flush()
        if how == "expunged":
            session.expunge(one)
        await session.rollback()
        assert one not in session
        assert (1, "a", 3, ["x"], [1, 2], [0, 1, 2], 0) == shown(one)
        assert repr(thing(1)) == repr(one)
        assert [] == stored(mongodb_uri, database, "things")
        session.add(one)
        await session.commit()
        assert (1, "a", 3, ["x"], [1, 2], [0, 1, 2], 1) == shown(one)
    (document,) = stored(mongodb_uri, database, "things")
    del document["data"]
    expected = {"_id": 1, "n": "a", "number": 3, "tags": ["x"], "part": {"sizes": [1, 2]}, "version": 1}
    assert expected == document


async def test_new_objects_that_expired_and_were_changed(db: AsyncDB) -> None:
    """What was set, flushed or loaded again since stays; what expired in part only has the rest, too."""
    async with db.session() as session:
        set_, flushed, loaded, part = (thing(key) for key in range(4))
        session.add_all([set_, flushed, loaded, part])
        await session.flush()
        flushed.name = "b"
        await session.flush()
        for one in (set_, flushed, loaded):
            session.expire(one)
        session.expire(part, ["tags"])
        set_.name = "c"
        part.name = "d"
        await session.refresh(loaded)
        loaded.tags.append("y")
        await session.rollback()
        assert [False] * 4 == [one in session for one in (set_, flushed, loaded, part)]
        assert (0, "c", 3, ["x"], [1, 2], [0, 1, 2], 0) == shown(set_)
        assert (1, "b", 3, ["x"], [1, 2], [0, 1, 2], 0) == shown(flushed)
        assert (2, "a", 3, ["x", "y"], [1, 2], [0, 1, 2], 0) == shown(loaded)
        assert (3, "d", 3, ["x"], [1, 2], [0, 1, 2], 0) == shown(part)


async def test_new_objects_that_expired_with_others(db: AsyncDB) -> None:
    """Objects that expired with the one that shows them have their values back too; stored ones stay expired."""
    async with db.begin() as session:
        session.add(Book(id=9, title="stored"))
    async with db.session() as session:
        before = await session.get_one(Book, 9)
        author = Author(id=1, name="a", books=[Book(id=1, title="t")])
        (book,) = author.books
        session.add(author)
        await session.flush()
        session.expire(author)
        session.expire(before)
        with pytest.raises(NotLoadedError):
            _ = book.title
        await session.rollback()
        assert ("a", "t", None) == (author.name, book.title, book.author_id)  # the key was the flush's
        with pytest.raises(NotLoadedError, match=r"Book 9: title was not loaded, or has expired"):
            _ = before.title
        await session.refresh(before)
        assert "stored" == before.title


# merge_into where a transaction is required


async def test_merge_where_a_transaction_is_required(db: AsyncDB, mongodb_uri: str, database: str) -> None:
    """It is refused before anything is sent, as the server has no ``$merge`` in transactions; the session goes on."""
    async with db.begin() as session:
        session.add(Author(id=1))
    async with db.session(require_transaction=True) as session:
        added = Author(id=2)
        session.add(added)
        for target in ("copies", Author):
            with pytest.raises(UnsupportedError, match=r"merge_into\(\).*this session requires them"):
                await session.execute(select(Author).merge_into(target))
        assert [added] == session.new  # not even flushed
        await session.commit()
    assert [] == stored(mongodb_uri, database, "copies")
    assert [1, 2] == [one["_id"] for one in stored(mongodb_uri, database, "authors")]
    async with db.session() as session:
        await session.execute(select(Author).merge_into("copies"))
    assert [1, 2] == [one["_id"] for one in stored(mongodb_uri, database, "copies")]


# Relationships of what was loaded in part


@pytest.mark.parametrize("load", [selectinload, joinedload])
async def test_relationships_beside_load_only(db: AsyncDB, mongodb_uri: str, database: str, load: Any) -> None:
    """The key by which a relationship is found is loaded too; what else was left out stays so."""
    async with db.begin() as session:
        session.add_all([Author(id=1, name="a"), Author(id=2, name="e")])
        session.add_all([Book(id=1, title="t", author_id=1), Book(id=3)])
        session.add(Novel(id=2, title="n", author_id=1, editor_id=2))
    statement = select(Book).options(load_only(Book.title), load(Book.author), load(Novel.editor)).order_by(Book.id)
    async with db.session() as session:
        books = (await session.scalars(statement)).all()
        assert ["a", "a", None] == [book.author and book.author.name for book in books]
        assert [1, 1, None] == [book.author_id for book in books]
        (novel,) = [book for book in books if isinstance(book, Novel)]
        assert novel.editor is not None
        assert (2, "e") == (novel.editor_id, novel.editor.name)
        author = books[0].author
        novel.author = novel.editor
        await session.commit()
        assert [1, 2, None] == [one.get("a") for one in stored(mongodb_uri, database, "books")]
        assert ["t", "n", ""] == [one["title"] for one in stored(mongodb_uri, database, "books")]
        assert author is not None
    async with db.session() as session:
        rows = [
            (row[0].id, row[0].author and row[0].author.id, row[1])
            async for row in session.stream(
                select(Book, Book.title).options(load_only(Book.id), load(Book.author)).order_by(Book.id)
            )
        ]
        assert [(1, 1, "t"), (2, 2, "n"), (3, None, "")] == rows
    async with db.session() as session:
        author = (await session.scalars(select(Author).options(load_only(Author.id), load(Author.books)))).first()
        assert author is not None
        assert [1] == [book.id for book in author.books]
        with pytest.raises(NotLoadedError, match="Author 1: name"):
            _ = author.name
    async with db.session() as session:
        books = (await session.scalars(select(Book).options(load_only(Book.title)).order_by(Book.id))).all()
        with pytest.raises(NotLoadedError, match="Book 1: author_id"):
            _ = books[0].author_id
        again = (await session.scalars(statement)).all()
        assert all(one is other for one, other in zip(books, again, strict=True))
        assert [1, 2, None] == [book.author and book.author.id for book in books]
        found = await session.get(Book, 1, options=[load_only(Book.id), load(Book.author)])
        assert books[0] is found
