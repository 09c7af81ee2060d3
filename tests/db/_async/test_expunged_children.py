"""Objects that were expunged, or deleted, while lists and references of a session show them, over every backend."""

from __future__ import annotations

import pytest

from superorm import (
    AsyncDB,
    AsyncSession,
    Document,
    Mapped,
    Registry,
    SessionError,
    ValidationError,
    field,
    relationship,
    select,
    selectinload,
)

registry = Registry()


class Shelf(Document, registry=registry):
    __collection__ = "expunged_shelves"
    id: Mapped[int] = field(primary_key=True)
    books: Mapped[list[Book]] = relationship(list["Book"], remote_key="shelf_id")


class Book(Document, registry=registry):
    __collection__ = "expunged_books"
    id: Mapped[int] = field(primary_key=True)
    title: Mapped[str] = field(default="")
    shelf_id: Mapped[int | None] = field(default=None)
    shelf: Mapped[Shelf | None] = relationship(Shelf, key="shelf_id")
    notes: Mapped[list[Note]] = relationship(list["Note"], remote_key="book_id", cascade="all, delete-orphan")


class Note(Document, registry=registry):
    __collection__ = "expunged_notes"
    id: Mapped[int] = field(primary_key=True)
    book_id: Mapped[int]


class Atlas(Document, registry=registry):
    __collection__ = "expunged_atlases"
    id: Mapped[int] = field(primary_key=True)
    pages: Mapped[list[Page]] = relationship(list["Page"], remote_key="atlas_id")


class Page(Document, registry=registry):
    __collection__ = "expunged_pages"
    id: Mapped[int] = field(primary_key=True)
    atlas_id: Mapped[int]
    atlas: Mapped[Atlas | None] = relationship(Atlas, key="atlas_id")


OUTSIDE = (
    r"Book 1 was removed from Shelf 1: books, but is not in this session, which thus cannot write its shelf_id; "
    r"add\(\) it, or put it back into the list"
)


async def fill(db: AsyncDB) -> None:
    """Shelf 1 with books 1 and 2, an empty shelf 2; book 1 has note 1."""
    async with db.begin() as session:
        session.add_all([Shelf(id=1), Shelf(id=2), Book(id=1, shelf_id=1), Book(id=2, shelf_id=1)])
        session.add(Note(id=1, book_id=1))


async def shelf_of(session: AsyncSession, key: int) -> Shelf:
    return await session.get_one(Shelf, key, options=[selectinload(Shelf.books)])


def book_of(shelf: Shelf, key: int) -> Book:
    return next(book for book in shelf.books if book.id == key)


async def stored(db: AsyncDB) -> dict[int, int | None]:
    """The shelves of the books, as they are in the database."""
    async with db.session() as session:
        return {row[0]: row[1] for row in await session.execute(select(Book.id, Book.shelf_id))}


@pytest.mark.parametrize("expunged_first", [True, False])
async def test_removed(db: AsyncDB, expunged_first: bool) -> None:
    """What leaves a list, and is not in the session, cannot be written: an error says so, and a rollback mends it."""
    await fill(db)
    async with db.session() as session:
        shelf = await shelf_of(session, 1)
        book = book_of(shelf, 1)
        if expunged_first:
            session.expunge(book)
            shelf.books.remove(book)
        else:
            shelf.books.remove(book)
            session.expunge(book)
        with pytest.raises(SessionError, match=OUTSIDE) as caught:
            await session.commit()
        assert (Book, 1, "shelf_id") == (caught.value.document_class, caught.value.key, caught.value.field)
        await session.rollback()
        assert {1, 2} == {one.id for one in shelf.books}
        assert 1 == book.shelf_id
        session.add(book)
        shelf.books.remove(book)
        await session.commit()
        assert book.shelf_id is None
    assert {1: None, 2: 1} == await stored(db)


async def test_put_back(db: AsyncDB) -> None:
    """A list that shows it again, or that is not loaded any more, says nothing of it."""
    await fill(db)
    async with db.session() as session:
        shelf = await shelf_of(session, 1)
        book = book_of(shelf, 1)
        session.expunge(book)
        shelf.books.remove(book)
        shelf.books.append(book)
        book.title = "lost"
        await session.commit()
        assert book not in session
        shelf.books.remove(book)
        session.expire(shelf, ["books"])
        await session.commit()
        assert "" == (await session.get_one(Book, 1)).title
    assert {1: 1, 2: 1} == await stored(db)


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
async def test_moved(db: AsyncDB, order: tuple[int, int]) -> None:
    """What comes to another list is in the session again, whichever list is looked at first."""
    await fill(db)
    async with db.session() as session:
        shelves = {key: await shelf_of(session, key) for key in order}
        book = book_of(shelves[1], 1)
        session.expunge(book)
        shelves[1].books.remove(book)
        shelves[2].books.append(book)
        book.title = "moved"
        await session.commit()
        assert book in session
        assert 2 == book.shelf_id
        assert "moved" == await session.scalar(select(Book.title).where(Book.id == 1))
    assert {1: 2, 2: 1} == await stored(db)


async def test_gone_elsewhere(db: AsyncDB) -> None:
    """Where its key says already that it belongs elsewhere, the list only follows; another session writes it."""
    await fill(db)
    async with db.session() as session:
        shelf = await shelf_of(session, 1)
        book = book_of(shelf, 1)
        session.expunge(book)
        async with db.session() as other:
            other.add(book)
            book.shelf_id = 2
            await other.commit()
        shelf.books.remove(book)
        await session.commit()
        assert [2] == [one.id for one in shelf.books]
    assert {1: 2, 2: 1} == await stored(db)


async def test_loaded_again(db: AsyncDB) -> None:
    """The session's other object of the document is what is written."""
    await fill(db)
    async with db.session() as session:
        shelf = await shelf_of(session, 1)
        book = book_of(shelf, 1)
        session.expunge(book)
        twin = await session.get_one(Book, 1)
        shelf.books.remove(book)
        await session.commit()
        assert (None, 1) == (twin.shelf_id, book.shelf_id)
        shelf.books.append(book)
        with pytest.raises(SessionError, match="Book 1 is in the session already, as another object"):
            await session.flush()
    assert {1: None, 2: 1} == await stored(db)


async def test_orphans(db: AsyncDB) -> None:
    """What would be deleted as an orphan is not either; the session's other object of it is."""
    await fill(db)
    async with db.session() as session:
        book = await session.get_one(Book, 1, options=[selectinload(Book.notes)])
        (note,) = book.notes
        session.expunge(note)
        book.notes.clear()
        with pytest.raises(SessionError, match="Note 1 was removed from Book 1: notes, but is not in this session"):
            await session.flush()
        await session.rollback()
        await session.get_one(Note, 1)
        book.notes.clear()
        await session.commit()
        assert 0 == await session.count(select(Note))


async def test_deleted(db: AsyncDB) -> None:
    """What was deleted and flushed cannot come to a list or a reference, by class, field and position; `add` can."""
    await fill(db)
    async with db.session() as session:
        first, second = await shelf_of(session, 1), await shelf_of(session, 2)
        book = book_of(first, 1)
        session.delete(book)
        await session.commit()
        assert [2] == [one.id for one in first.books]
        second.books += [Book(id=3), book]
        message = r"Shelf 2: books\[1\] is Book 1, which is deleted; take it out of the list, or add\(\) it"
        with pytest.raises(ValidationError, match=message) as caught:
            await session.flush()
        assert (Shelf, 2, "books") == (caught.value.document_class, caught.value.key, caught.value.field)
        await session.rollback()
        with pytest.raises(ValidationError, match=r"Shelf 3: books\[0\] is Book 1, which is deleted"):
            await session.bulk_insert([Shelf(id=3, books=[book])])
        await session.rollback()
        session.delete(first)
        await session.commit()
        other = await session.get_one(Book, 2)
        other.shelf = first
        with pytest.raises(ValidationError, match="Book 2: shelf was set to Shelf 1, which is deleted"):
            await session.flush()
        await session.rollback()
        session.add(book)
        book.shelf_id = None
        second.books.append(book)
        await session.commit()
    assert {1: 2, 2: None} == await stored(db)


async def test_deleted_parents(db: AsyncDB) -> None:
    """What becomes of a list is nobody's concern once its object is deleted too."""
    await fill(db)
    async with db.session() as session:
        first, second = await shelf_of(session, 1), await shelf_of(session, 2)
        book = book_of(first, 1)
        session.delete(book)
        await session.flush()
        second.books.append(book)
        session.delete(second)
        await session.commit()
        assert 1 == await session.count(select(Shelf))
    assert {2: 1} == await stored(db)


async def test_keys_that_cannot_be_none(db: AsyncDB) -> None:
    """The message says what took the key away."""
    async with db.session() as session:
        atlas = Atlas(id=1, pages=[Page(id=1, atlas_id=1)])
        session.add(atlas)
        await session.commit()
        (page,) = atlas.pages
        page.atlas = atlas
        await session.flush()
        atlas.pages.clear()
        refused = "Page 1: atlas_id cannot be None, but "
        with pytest.raises(ValidationError, match=f"{refused}Page 1 was removed from Atlas 1: pages; declare it as"):
            await session.flush()
        await session.rollback()
        page.atlas = None
        with pytest.raises(ValidationError, match=f"{refused}Page 1: atlas was set to None"):
            await session.flush()
        await session.rollback()
        session.delete(atlas)
        with pytest.raises(ValidationError, match=f"{refused}it belonged to Atlas, which is deleted"):
            await session.flush()
