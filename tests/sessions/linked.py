"""A unit of work over documents that refer to one another by relationships, and what no crash may leave of such units.

All references are to documents that are there, also where there are no transactions.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from superorm import AsyncSession, Document, Mapped, Session, field, relationship
from tests.sessions.taking import Steps

PAGES = 3


class Author(Document):
    __collection__ = "linked_authors"

    id: Mapped[str] = field(primary_key=True)
    reader_id: Mapped[str | None] = field(default=None)
    reader: Mapped[Reader | None] = relationship("Reader", key="reader_id")


class Book(Document):
    __collection__ = "linked_books"

    id: Mapped[str] = field(primary_key=True)
    author_id: Mapped[str | None] = field(default=None)
    author: Mapped[Author | None] = relationship("Author", key="author_id")
    sequel_id: Mapped[str | None] = field(default=None)
    sequel: Mapped[Book | None] = relationship("Book", key="sequel_id")
    pages: Mapped[list[Page]] = relationship(list["Page"], remote_key="book_id", cascade="all")


class Page(Document):
    __collection__ = "linked_pages"

    id: Mapped[str] = field(primary_key=True)
    book_id: Mapped[str | None] = field(default=None)


class Reader(Document):
    """How many units a writer committed, and the author of the last."""

    __collection__ = "linked_readers"

    id: Mapped[str] = field(primary_key=True)
    units: Mapped[int] = field(default=0)
    author_id: Mapped[str | None] = field(default=None)
    author: Mapped[Author | None] = relationship("Author", key="author_id")
    book_id: Mapped[str | None] = field(default=None)
    book: Mapped[Book | None] = relationship("Book", key="book_id")


CLASSES: list[type[Document]] = [Page, Book, Author, Reader]
REFERENCES = [
    ("linked_pages", "book_id", "linked_books"),
    ("linked_readers", "book_id", "linked_books"),
    ("linked_readers", "author_id", "linked_authors"),
    ("linked_books", "sequel_id", "linked_books"),
    ("linked_books", "author_id", "linked_authors"),
    ("linked_authors", "reader_id", "linked_readers"),
]
"""Each with where it leads: what refers to others is read before these, since a last write may be on its way."""


def begun(writer: str) -> Reader:
    """What there has to be of a writer before its first unit."""
    return Reader(id=writer)


def steps(session: Session | AsyncSession, writer: str, unit: int, *, again: bool = False) -> Steps:
    """Insert an author with two books and pages, have the reader take one up, delete those of the unit before.

    Everything is given in an order in which it must not be written.
    With `again` the unit may have been written in part before.
    """
    name = f"{writer}, {unit}"
    reader = yield session.get_one(Reader, writer)
    author = Author(id=name, reader=reader)
    sequel = Book(id=f"{name}, sequel", author=author)
    book = Book(id=f"{name}, book", author=author, sequel=sequel)
    book.pages = [Page(id=f"{name}, {number}") for number in range(PAGES)]
    if again:
        book = yield session.merge(book)
        author = book.author
    else:
        session.add_all([*book.pages, book, sequel, author])
    reader.units = unit + 1
    reader.book, reader.author = book, author
    before = f"{writer}, {unit - 1}"
    for cls, key in ((Author, before), (Book, f"{before}, sequel"), (Book, f"{before}, book")):
        old = yield session.get(cls, key)
        if old is not None:
            session.delete(old)


State: TypeAlias = tuple[int, dict[str, set[str]]]
"""How many units a reader took up, and the keys of the writer's other documents by collection."""


def stages(writer: str, unit: int) -> list[State]:
    """What there is before a unit, and after each of its writes: what others refer to comes first, and goes last."""
    found = [(unit, _documents(writer, unit - 1))]
    for name, keys in _documents(writer, unit).items():
        found.append((unit, {**found[-1][1], name: found[-1][1][name] | keys}))
    found.append((unit + 1, found[-1][1]))
    for name, keys in reversed(_documents(writer, unit - 1).items()):
        found.append((unit + 1, {**found[-1][1], name: found[-1][1][name] - keys}))
    return found


def _documents(writer: str, unit: int) -> dict[str, set[str]]:
    """Those of a unit, none of those before the first."""
    name = f"{writer}, {unit}"
    pages = {f"{name}, {number}" for number in range(PAGES)}
    found = {"linked_authors": {name}, "linked_books": {f"{name}, book", f"{name}, sequel"}, "linked_pages": pages}
    return {key: set[str]() for key in found} if unit < 0 else found


def none_dangling(database: Any) -> None:
    """Each reference leads to a document that is there."""
    for holder, key, other in REFERENCES:
        named = {document[key] for document in database[holder].find()} - {None}
        assert named <= {document["_id"] for document in database[other].find()}, (holder, key)


def state(database: Any, writer: str) -> State:
    """What there is; none dangling."""
    none_dangling(database)
    reader = database.linked_readers.find_one({"_id": writer})
    mine = {"_id": {"$regex": f"^{writer}, "}}
    return reader["units"], {name: {one["_id"] for one in database[name].find(mine)} for name in _documents(writer, 0)}
