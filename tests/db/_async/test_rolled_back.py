"""Objects whose documents a rolled back transaction inserted, and what stays of others, over every backend."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from superorm import (
    AsyncDB,
    AsyncSession,
    Document,
    Mapped,
    NoResultFound,
    NotLoadedError,
    Registry,
    SessionError,
    ValidationError,
    delete,
    field,
    insert,
    load_only,
    relationship,
    select,
    selectinload,
    update,
)
from superorm.compile.plan import Find
from superorm.unitofwork.writes import Delete, Insert, Update, UpdateOp

registry = Registry()


class Page(Document, registry=registry):
    id: Mapped[Any] = field(primary_key=True)
    title: Mapped[str] = field(default="")
    number: Mapped[int] = field(default=0)
    lines: Mapped[list[str]] = field(factory=list)


class Account(Document, registry=registry):
    id: Mapped[int] = field(primary_key=True)
    number: Mapped[int] = field(default=0)
    version: Mapped[int] = field(version=True)


class Slotted(Document, registry=registry):
    __slots__ = ("note",)

    id: Mapped[int] = field(primary_key=True)
    number: Mapped[int] = field(default=0)


class Animal(Document, registry=registry):
    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str] = field(default="")


class Cat(Animal):
    lives: Mapped[int] = field(default=9)


class Author(Document, registry=registry):
    id: Mapped[int] = field(primary_key=True)
    books: Mapped[list[Book]] = relationship(list["Book"], remote_key="author_id")


class Book(Document, registry=registry):
    id: Mapped[int] = field(primary_key=True)
    author_id: Mapped[int | None] = field(default=None)
    author: Mapped[Author | None] = relationship("Author", key="author_id")


async def fill(db: AsyncDB, *instances: Document) -> None:
    """Store them."""
    async with db.begin() as session:
        session.add_all(instances)


async def stored(db: AsyncDB, collection: str) -> dict[Any, dict[str, Any]]:
    """The documents as they are in the database, by key."""
    return {one["_id"]: one for one in await db.parts.data_backend.read(Find(collection))}


async def write(session: AsyncSession, way: str, *instances: Account) -> None:
    """Insert them by a statement."""
    if way == "bulk_insert":
        await session.bulk_insert(instances)
    elif way == "insert":
        await session.execute(insert(Account).values(list(instances)))
    elif way == "upsert":
        await session.execute(insert(Account).values(list(instances)).upsert())
    else:
        for one in instances:
            await session.execute(update(Account).where(Account.id == one.id).values(number=one.number).upsert())


# Documents that only statements inserted


@pytest.mark.parametrize("way", ["bulk_insert", "insert", "upsert", "update"])
async def test_inserted_by_a_statement_and_loaded(db: AsyncDB, real: bool, way: str) -> None:
    """After a rollback such an object is outside, with its values, and can be added; without transactions it stays."""
    await fill(db, Account(id=1, number=1))
    async with db.session() as session:
        await write(session, way, Account(id=2, number=5))
        old, new = await session.scalars(select(Account).order_by(Account.id))
        await session.rollback()
        assert old in session
        if not real:
            assert new in session
            return
        assert new not in session
        assert [] == session.dirty
        assert (2, 5, 0) == (new.id, new.number, new.version)
        assert await session.get(Account, 2) is None
        session.add(new)
        await session.commit()
        assert 1 == new.version
    assert {"_id": 2, "number": 5, "version": 1} == (await stored(db, "account"))[2]


@pytest.mark.parametrize("then", ["change", "flush", "delete", "expire", "expunge"])
async def test_what_was_done_to_it_meanwhile(db: AsyncDB, real: bool, then: str) -> None:
    """It is outside, and whole, whatever the session did with it in the transaction."""
    if not real:
        return
    async with db.session() as session:
        await session.bulk_insert([Page(id=1, number=5, lines=["a"])])
        page = await session.get_one(Page, 1)
        if then in ("change", "flush"):
            page.number = 6
        elif then == "delete":
            session.delete(page)
        elif then == "expire":
            session.expire(page)
        else:
            session.expunge(page)
        if then in ("flush", "delete"):
            await session.flush()
        await session.rollback()
        assert page not in session
        assert (6 if then in ("change", "flush") else 5) == page.number
        assert ["a"] == page.lines
        session.add(page)
        await session.commit()
    assert [(1, page.number, ["a"])] == [
        (one["_id"], one["number"], one["lines"]) for one in (await stored(db, "page")).values()
    ]


async def test_one_that_another_session_took_over(db: AsyncDB, real: bool) -> None:
    """It stays as it is there."""
    if not real:
        return
    async with db.session() as session, db.session() as other:
        await session.bulk_insert([Page(id=1, number=5)])
        page = await session.get_one(Page, 1)
        session.expunge(page)
        other.add(page)
        await session.rollback()
        assert page in other
        assert 5 == page.number


async def test_one_that_was_loaded_in_part(db: AsyncDB, real: bool) -> None:
    """It is outside too, still without what was not loaded, and is refused by name when it is added."""
    if not real:
        return
    async with db.session() as session:
        await session.bulk_insert([Account(id=1, number=5)])
        (account,) = await session.scalars(select(Account).options(load_only(Account.id)))
        await session.rollback()
        assert account not in session
        with pytest.raises(NotLoadedError, match="Account 1: number was not loaded"):
            _ = account.number
        session.add(account)
        with pytest.raises(NotLoadedError, match="Account 1 was loaded in part only, so it cannot be added again"):
            await session.flush()
    assert {} == await stored(db, "account")


@pytest.mark.parametrize("then", ["partial", "expired"])
async def test_one_of_a_subclass(db: AsyncDB, real: bool, then: str) -> None:
    """Loaded by its base, it may lack what only its own class has; the session goes on after the rollback."""
    if not real:
        return
    await fill(db, Cat(id=1, name="there"))
    async with db.session() as session:
        await session.bulk_insert([Cat(id=2, name="never")])
        query = select(Animal).order_by(Animal.id)
        there, never = await session.scalars(query.options(load_only(Animal.name)) if then == "partial" else query)
        if then == "expired":
            session.expire_all()
        await session.rollback()
        assert [True, False] == [one in session for one in (there, never)]
        await session.refresh(there)
        assert ("there", 9) == (there.name, vars(there)["lives"])
        session.add(new := Cat(id=2))
        await session.commit()
        assert new in session
    assert {1: "there", 2: ""} == {key: one["name"] for key, one in (await stored(db, "animal")).items()}


async def test_one_with_slots(db: AsyncDB, real: bool) -> None:
    """The same of a class whose objects cannot expire."""
    if not real:
        return
    async with db.session() as session:
        await session.bulk_insert([Slotted(id=1, number=5)])
        one = await session.get_one(Slotted, 1)
        await session.rollback()
        assert one not in session
        session.add(one)
        await session.commit()
    assert {1: {"_id": 1, "number": 5}} == await stored(db, "slotted")


@pytest.mark.parametrize("flushed", [False, True])
async def test_related_objects_of_such_documents(db: AsyncDB, real: bool, flushed: bool) -> None:
    """What refers to one another goes on to do so, and is stored together when it is added."""
    if not real:
        return
    async with db.session() as session:
        if flushed:
            session.add(Page(id=1))
        await session.bulk_insert([Author(id=1), Book(id=1, author_id=1)])
        author = await session.get_one(Author, 1, options=[selectinload(Author.books)])
        (book,) = author.books
        await session.rollback()
        assert author not in session
        assert book not in session
        session.add(author)
        await session.commit()
        assert [book] == author.books
        assert book in session
    assert {1: {"_id": 1, "author_id": 1}} == await stored(db, "book")


@pytest.mark.parametrize("then", ["set", "list", "again"])
async def test_references_to_such_documents(db: AsyncDB, real: bool, then: str) -> None:
    """An object that refers to one, before or after the rollback, brings it to the session: no key is left dangling."""
    if not real:
        return
    await fill(db, Book(id=1))
    async with db.session() as session:
        await session.bulk_insert([Author(id=1)])
        author = await session.get_one(Author, 1, options=[selectinload(Author.books)])
        new = Book(id=2, author=author)
        if then == "again":
            session.add(new)
            await session.flush()
        await session.rollback()
        if then == "set":
            book = await session.get_one(Book, 1)
            book.author = author
        elif then == "list":
            author.books.append(await session.get_one(Book, 1))
            session.add(author)
        else:
            session.add(new)
        await session.commit()
        assert author in session
    assert {1: {"_id": 1}} == await stored(db, "author")
    assert 1 == (await stored(db, "book"))[2 if then == "again" else 1]["author_id"]


async def test_keys_that_name_no_document(db: AsyncDB) -> None:
    """A key set by hand, or of a parent that others deleted, is stored as it is; the relationship shows None then."""
    await fill(db, Author(id=1))
    async with db.session() as session:
        author = await session.get_one(Author, 1)
        await db.parts.data_backend.write(Delete("author", [{"_id": 1}]))
        session.add_all([Book(id=1, author=author), Book(id=2, author_id=99)])
        await session.commit()
    assert {1: 1, 2: 99} == {key: one["author_id"] for key, one in (await stored(db, "book")).items()}
    async with db.session() as session:
        books = await session.scalars(select(Book).options(selectinload(Book.author)))
        assert [None, None] == [book.author for book in books]


@pytest.mark.parametrize("way", ["statement", "session"])
async def test_documents_that_were_there_before(db: AsyncDB, real: bool, way: str) -> None:
    """Where a document was deleted first, and another of its key inserted, its object is not taken for a new one."""
    if not real:
        return
    await fill(db, Page(id=1, number=1))
    async with db.session() as session:
        if way == "statement":
            await session.execute(delete(Page).where(Page.id == 1))
        else:
            session.delete(await session.get_one(Page, 1))
            await session.flush()
        await session.bulk_insert([Page(id=1, number=5)])
        await session.get_one(Page, 1)
        await session.rollback()
        page = await session.get_one(Page, 1)
        assert 1 == page.number
        page.number = 7
        await session.commit()
    assert 7 == (await stored(db, "page"))[1]["number"]


async def test_inserted_after_another_was_deleted(db: AsyncDB, real: bool) -> None:
    """The object of an inserted document is outside after a rollback, though others of its collection were deleted."""
    if not real:
        return
    await fill(db, Page(id=1, number=1))
    async with db.session() as session:
        session.delete(await session.get_one(Page, 1))
        await session.bulk_insert([Page(id=2, number=5)])
        page = await session.get_one(Page, 2)
        await session.rollback()
        assert page not in session
        session.add(page)
        await session.commit()
    assert {1: 1, 2: 5} == {key: one["number"] for key, one in (await stored(db, "page")).items()}


async def test_committed_inserts_are_forgotten(db: AsyncDB) -> None:
    """What a statement inserted before a commit stays in the session at a later rollback."""
    async with db.session() as session:
        await session.bulk_insert([Page(id=1, number=5)])
        await session.commit()
        await session.bulk_insert([Page(id=2, number=6)])
        page = await session.get_one(Page, 1)
        await session.rollback()
        assert page in session
        await session.refresh(page)
        assert 5 == page.number


# What is dirty


@pytest.mark.parametrize("cls", [Account, Page])
async def test_expired_objects_are_not_dirty(db: AsyncDB, cls: type[Account | Page]) -> None:
    """An object that expired, by a rollback or by a call, is dirty only once something of it is set."""
    await fill(db, cls(id=1), cls(id=2))
    async with db.session() as session:
        await session.execute(update(cls).all().values(number=5))
        first, second = await session.scalars(select(cls).order_by(cls.id))
        await session.rollback()
        assert [] == session.dirty
        session.expire(first)
        assert [] == session.dirty
        await session.refresh_all([first, second])
        session.expire(first, ["number"])
        assert [] == session.dirty
        first.number = 9
        assert [first] == session.dirty
        await session.commit()
        assert [] == session.dirty
    assert 9 == (await stored(db, cls.__name__.lower()))[1]["number"]


async def test_partial_objects_are_not_dirty(db: AsyncDB) -> None:
    """One that was loaded in part is dirty only once something of it is set."""
    await fill(db, Page(id=1, title="a"), Page(id=2, title="b", lines=["x"]))
    async with db.session() as session:
        pages = list(await session.scalars(select(Page).options(load_only(Page.title, Page.lines)).order_by(Page.id)))
        assert [] == session.dirty
        pages[1].lines.append("y")
        assert [pages[1]] == session.dirty
        await session.commit()
    assert ["x", "y"] == (await stored(db, "page"))[2]["lines"]


# Refreshing


async def test_a_refresh_that_fails_in_the_middle(db: AsyncDB, real: bool) -> None:
    """What it has read is not taken for what is stored after a rollback."""
    if not real:
        return
    await fill(db, Account(id=1, number=1), Account(id=2))
    backend = db.parts.data_backend
    async with db.session() as session:
        first, second = await session.scalars(select(Account).order_by(Account.id))
        await backend.write(Delete("account", [{"_id": 1}]))
        await backend.write(Update("account", [UpdateOp(q={"_id": 2}, u={"$set": {"number": "x"}})]))
        await session.bulk_insert([Account(id=1, number=9)])
        with pytest.raises(ValidationError, match="Account 2: the stored value of number does not fit"):
            await session.refresh_all([first, second])
        assert 9 == first.number
        await session.rollback()
        assert first not in session
        session.add(first)
        await session.commit()
    assert {"_id": 1, "number": 9, "version": 1} == (await stored(db, "account"))[1]


async def test_a_refresh_of_what_is_gone(db: AsyncDB) -> None:
    """Where one of the documents is gone, none of the objects is refreshed."""
    await fill(db, Page(id=1, number=1), Page(id=2))
    backend = db.parts.data_backend
    async with db.session() as session:
        first, second = await session.scalars(select(Page).order_by(Page.id))
        await backend.write(Delete("page", [{"_id": 2}]))
        first.number = 5
        with pytest.raises(NoResultFound, match="Page 2 is no longer in the database"):
            await session.refresh_all([first, second])
        assert 5 == first.number


# Long keys and values


async def test_statements_about_long_keys(db: AsyncDB) -> None:
    """Keys, or values that identify documents, that are too long for one message are sent in several."""
    keys = [f"{number:04}" + "k" * 100_000 for number in range(180)]
    backend = db.parts.data_backend
    await backend.write(Insert("page", [{"_id": key, "title": "", "number": 0, "lines": []} for key in keys]))
    async with db.session() as session:
        pages = list(await session.scalars(select(Page)))
        await session.refresh_all(pages)
        done = await session.execute(update(Page).all().values(number=1))
        assert 180 == done.matched
        assert {1} == {page.number for page in pages}
        rows = await session.execute(update(Page).all().values(number=2).returning(Page.number))
        assert [(2,)] * 180 == [tuple(row) for row in rows]
        await session.commit()
    async with db.session() as session:
        assert 180 == len(await session.merge_all([Page(id=key, number=3) for key in keys]))
        await session.commit()
        done = await session.execute(delete(Page).all())
        await session.commit()
        assert 180 == done.matched
    assert {} == await stored(db, "page")


async def test_upserts_by_long_values(db: AsyncDB) -> None:
    """The same of an upsert by a field."""
    titles = [f"{number:04}" + "t" * 100_000 for number in range(200)]
    rows = [Page(id=number, title=title) for number, title in enumerate(titles)]
    async with db.session() as session:
        done = await session.execute(insert(Page).values(rows).upsert(Page.title).returning(Page.id))
        assert list(range(200)) == [row[0] for row in done]
        await session.commit()
    assert set(range(200)) == set(await stored(db, "page"))


# merge_into


async def test_relationships_after_a_merge_into(db: AsyncDB, real: bool) -> None:
    """What relationships showed before it is not given back by a rollback after it."""
    if not real:  # mongomock has no $merge
        return
    await fill(db, Author(id=1))
    async with db.session() as session:
        author = await session.get_one(Author, 1, options=[selectinload(Author.books)])
        await fill(db, Book(id=1, author_id=1))
        author.books.append(book := await session.get_one(Book, 1))  # which holds its key already
        await session.execute(select(Author.id.label("_id")).where(Author.id == 3).merge_into(Book))
        await session.rollback()
        assert [book] == author.books


# Inserts beside what the session will insert


async def test_inserts_of_objects_whose_parent_the_session_inserts(db: AsyncDB) -> None:
    """A parent that was added is inserted once, by the session; the objects that refer to it hold its key."""
    async with db.session() as session:
        author = Author(id=1)
        session.add(author)
        await session.bulk_insert([Book(id=1, author=author)])
        await session.execute(insert(Book).values([Book(id=2, author=author)]))
        await session.commit()
        assert author in session
    assert {1: {"_id": 1}} == await stored(db, "author")
    assert {1: 1, 2: 1} == {key: one["author_id"] for key, one in (await stored(db, "book")).items()}


@pytest.mark.parametrize("call", ["bulk_insert", "insert"])
@pytest.mark.parametrize("parent", ["new", "stored"])
async def test_inserts_of_objects_that_the_session_inserts(db: AsyncDB, call: str, parent: str) -> None:
    """Those that a cascade brings to the session are refused before anything is written, and stored once."""
    async with db.session() as session:
        session.add(author := Author(id=1))
        if parent == "stored":
            await session.commit()
            await session.refresh(author, ["books"])
        author.books.append(book := Book(id=1))
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "bulk_insert": lambda: session.bulk_insert([book]),
            "insert": lambda: session.execute(insert(Book).values([book])),
        }
        with pytest.raises(SessionError, match=rf"{call}\(\) takes new objects, and Book 1 (is stored|was added)"):
            await calls[call]()
        await session.commit()
    assert {1: {"_id": 1, "author_id": 1}} == await stored(db, "book")


async def test_inserts_of_lists_that_hold_objects_of_the_session(db: AsyncDB) -> None:
    """They are refused, as the keys of these would have to be written too."""
    async with db.session() as session:
        session.add(book := Book(id=1))
        author = Author(id=1, books=[book])
        with pytest.raises(
            SessionError, match=r"Book 1 (is stored|was added to this .*); use add\(\) instead"
        ) as raised:
            await session.bulk_insert([author])
        await session.rollback()
        assert {} == await stored(db, "author")
        session.add(author)  # as it says, while the error and what it refers to are still there
        await session.commit()
        assert raised.value.__traceback__ is not None
    assert {1: 1} == {key: one["author_id"] for key, one in (await stored(db, "book")).items()}


async def test_inserts_of_objects_whose_parent_is_to_be_deleted(db: AsyncDB) -> None:
    """They are refused as by a flush."""
    await fill(db, Author(id=1))
    async with db.session() as session:
        author = await session.get_one(Author, 1)
        session.delete(author)
        with pytest.raises(ValidationError, match="Book 1: author was set to Author 1, which is deleted"):
            await session.bulk_insert([Book(id=1, author=author)])
    assert {} == await stored(db, "book")
