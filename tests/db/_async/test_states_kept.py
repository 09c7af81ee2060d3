"""What sessions must not lose, nor show of what was not committed: states of objects, over every backend."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest

from superorm import (
    AsyncDB,
    ConfigurationError,
    Document,
    Embedded,
    Mapped,
    Model,
    NoResultFound,
    NotLoadedError,
    ObjectId,
    Registry,
    SessionError,
    StaleDocumentError,
    StatementError,
    UnsupportedError,
    ValidationError,
    field,
    insert,
    load_only,
    relationship,
    select,
    selectinload,
    update,
    vector,
)
from superorm.compile.plan import Find
from superorm.unitofwork.writes import Delete, Insert, Update, UpdateOp

registry = Registry()
MIB = 1024 * 1024


class Animal(Document, registry=registry):
    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str] = field(default="")


class Cat(Animal):
    lives: Mapped[int] = field(default=9)


class Dog(Animal):
    bark: Mapped[str] = field(default="wuff")


class Account(Document, registry=registry):
    id: Mapped[int] = field(primary_key=True)
    number: Mapped[int] = field(default=0)
    version: Mapped[int] = field(version=True)


class Page(Document, registry=registry):
    id: Mapped[Any] = field(primary_key=True)
    title: Mapped[str] = field(default="")
    number: Mapped[int] = field(default=0)
    lines: Mapped[list[str]] = field(factory=list)


class Title(Document, registry=registry):
    """The same documents, of which it knows the title only."""

    __collection__ = "page"

    id: Mapped[Any] = field(primary_key=True)
    title: Mapped[str] = field(default="")


class Slotted(Document, registry=registry):
    __slots__ = ("note",)

    id: Mapped[int] = field(primary_key=True)
    number: Mapped[int] = field(default=0)


class Place(Embedded):
    shelf: Mapped[int]
    box: Mapped[str]


class Crate(Document, registry=registry):
    id: Mapped[Place] = field(primary_key=True)
    number: Mapped[int] = field(default=0)
    things: Mapped[list[Thing]] = relationship(list["Thing"], remote_key="crate_id")


class Thing(Document, registry=registry):
    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str] = field(default="")
    crate_id: Mapped[Place | None] = field(default=None)
    crate: Mapped[Crate | None] = relationship("Crate", key="crate_id")


class Text(Document, registry=registry):
    id: Mapped[int] = field(primary_key=True)
    title: Mapped[str] = field(default="")
    plot: Mapped[str] = field(default="")
    embedding: Mapped[np.ndarray | None] = vector(3, source="plot", model="lengths")


def lengths(text: str) -> Any:
    """A model of sorts."""
    return np.array([len(text), 1, 2], np.float32)


async def fill(db: AsyncDB, *instances: Document) -> None:
    """Store them."""
    async with db.begin() as session:
        session.add_all(instances)


async def stored(db: AsyncDB, collection: str) -> dict[Any, dict[str, Any]]:
    """The documents as they are in the database, by key."""
    return {one["_id"]: one for one in await db.parts.data_backend.read(Find(collection))}


# Reading by another class


async def test_get_of_another_class_leaves_the_object(db: AsyncDB) -> None:
    """Asking for a dog by the key of a cat is None, and the cat stays in the session, expired and changed as it is."""
    await fill(db, Cat(id=1, name="tom"))
    async with db.session() as session:
        cat = await session.get_one(Cat, 1)
        session.expire(cat)
        cat.name = "felix"
        assert await session.get(Dog, 1) is None
        assert await session.get(Dog, 1, options=[load_only(Dog.bark)]) is None
        assert cat in session
        await session.commit()
    assert "felix" == (await stored(db, "animal"))[1]["name"]


async def test_get_of_another_class_leaves_a_partial_object(db: AsyncDB) -> None:
    """The same of one that was loaded in part."""
    await fill(db, Cat(id=1, name="tom"))
    async with db.session() as session:
        (cat,) = await session.scalars(select(Cat).options(load_only(Cat.name)))
        assert await session.get(Dog, 1) is None
        assert cat is await session.get(Animal, 1)
        assert 9 == cat.lives


# Stale documents


async def test_stale_documents_of_long_keys(db: AsyncDB) -> None:
    """Where the keys of a flush are too long for one read, the stale document is named all the same, and briefly."""
    keys = [f"{number:04}" + "k" * 20_000 for number in range(900)]
    backend = db.parts.data_backend
    await backend.write(Insert("page", [{"_id": key, "title": "", "number": 0, "lines": []} for key in keys]))
    async with db.session() as session:
        for page in await session.scalars(select(Page)):
            page.number += 1
        await backend.write(Delete("page", [{"_id": keys[5]}]))
        with pytest.raises(StaleDocumentError, match=r"1 of 900 changed documents in page .*Page '0005k") as caught:
            await session.commit()
    assert keys[5] == caught.value.key
    assert len(str(caught.value)) < 500


async def test_stale_documents_are_compared_by_what_was_set(db: AsyncDB) -> None:
    """Of documents with conditions the one is named whose embedded part is gone, not those that were written."""
    await fill(db, *(Chest(id=number, inner=Inner(a=1, b=[1])) for number in range(3)))
    async with db.session() as session:
        for chest in await session.scalars(select(Chest)):
            chest.inner.a = 5
        update = UpdateOp(q={"_id": 1}, u={"$set": {"inner": None}})
        await db.parts.data_backend.write(Update("chest", [update]))
        with pytest.raises(StaleDocumentError, match=r"1 of 3 changed documents in chest .*\(Chest 1\)"):
            await session.commit()


class Inner(Embedded):
    a: Mapped[int]
    b: Mapped[list[int]]


class Chest(Document, registry=registry):
    id: Mapped[int] = field(primary_key=True)
    inner: Mapped[Inner] = field()


# After a rollback


async def test_versions_expire_with_what_was_loaded_after_a_statement(db: AsyncDB, real: bool) -> None:
    """A version that a statement wrote is not taken for the document's after the rollback."""
    await fill(db, Account(id=1, number=1), Account(id=2, number=1))
    async with db.session() as session:
        await session.execute(update(Account).all().values(number=5))
        first, second = await session.scalars(select(Account).order_by(Account.id))
        await session.rollback()
        with pytest.raises(NotLoadedError, match="version was not loaded, or has expired"):
            _ = first.version
        first.number = 7
        with pytest.raises(NotLoadedError, match="Account 1: version was not loaded, or has expired"):
            await session.commit()
        await session.rollback()
        session.delete(second)
        with pytest.raises(NotLoadedError, match="Account 2: version was not loaded, or has expired"):
            await session.commit()
        await session.rollback()
        await session.refresh_all([first, second])
        written = 1 if real else 2
        assert [written] * 2 == [first.version, second.version]
        first.number = 7
        session.delete(second)
        await session.commit()
    assert [{"_id": 1, "number": 7, "version": written + 1}] == list((await stored(db, "account")).values())


@pytest.mark.parametrize("attributes", [None, ["number"]])
async def test_a_query_gives_back_an_expired_version(db: AsyncDB, attributes: list[str] | None) -> None:
    """Queries and refreshes, whole or in part, give it back together with the values."""
    await fill(db, Account(id=1, number=1))
    async with db.session() as session:
        await session.execute(update(Account).all().values(number=5))
        account = await session.get_one(Account, 1)
        await session.rollback()
        session.expire(account)
        if attributes is None:
            assert account is (await session.scalars(select(Account))).one()
        else:
            await session.refresh(account, attributes)
        before = (await stored(db, "account"))[1]
        assert (before["number"], before["version"]) == (account.number, account.version)
        account.number = 9
        await session.commit()
    assert {"_id": 1, "number": 9, "version": before["version"] + 1} == (await stored(db, "account"))[1]


async def test_streamed_and_added_objects_expire_at_a_rollback(db: AsyncDB) -> None:
    """Objects streamed after a statement wrote, and then added, show nothing that was rolled back."""
    await fill(db, Page(id=1, number=1), Page(id=2, number=1))
    async with db.session() as session:
        await session.execute(update(Page).all().values(number=99))
        pages = [page async for page in session.stream_scalars(select(Page).order_by(Page.id))]
        session.add_all(pages)
        await session.rollback()
        now = [one["number"] for one in (await stored(db, "page")).values()]
        for page in pages:
            with pytest.raises(NotLoadedError):
                _ = page.number
        await session.refresh_all(pages)
        assert now == [page.number for page in pages]


async def test_added_objects_that_were_there_before_keep_their_values(db: AsyncDB) -> None:
    """One that was expunged and added again shows after a rollback what it did before the flush."""
    await fill(db, Page(id=1, number=1))
    async with db.session() as session:
        page = await session.get_one(Page, 1)
        page.number = 5
        await session.flush()
        session.expunge(page)
        session.add(page)
        await session.rollback()
        assert 1 == page.number
        assert page in session


@pytest.mark.parametrize("read", ["refresh", "load"])
async def test_objects_of_another_class_expire_at_a_rollback(db: AsyncDB, read: str) -> None:
    """What was read of a document that the session wrote as an object of another class does not outlive a rollback."""
    await fill(db, Page(id=1, title="a"), Page(id=2, title="a"))
    async with db.session() as session:
        other = await session.get_one(Page, 2)
        if read == "refresh":
            page = await session.get_one(Page, 1)
        title = await session.get_one(Title, 1)
        title.title = "zz"
        await session.flush()
        if read == "refresh":
            await session.refresh(page)
        else:
            page = await session.get_one(Page, 1)
        assert "zz" == page.title
        await session.rollback()
        assert ("a", "a") == (title.title, other.title)
        with pytest.raises(NotLoadedError):
            _ = page.title
        await session.refresh(page)
        assert (await stored(db, "page"))[1]["title"] == page.title


# Keys shared


@pytest.mark.parametrize("way", ["one", "list", "merge"])
async def test_compound_keys_are_copied(db: AsyncDB, way: str) -> None:
    """What an object holds of another's compound key is its own: it can be changed in place."""
    crates = [Crate(id=Place(shelf=1, box="x")), Crate(id=Place(shelf=1, box="y"))]
    await fill(db, *crates, Thing(id=1))
    async with db.session() as session:
        crate = await session.get_one(Crate, Place(shelf=1, box="x"))
        thing = await session.get_one(Thing, 1)
        if way == "one":
            thing.crate = crate
        elif way == "list":
            await session.refresh(crate, ["things"])
            crate.things.append(thing)
        else:
            thing = await session.merge(Thing(id=1, crate=crate))
        await session.commit()
        assert thing.crate_id is not None
        assert thing.crate_id is not crate.id
        thing.crate_id.box = "y"
        await session.commit()
        assert "x" == crate.id.box
    assert {"shelf": 1, "box": "y"} == (await stored(db, "thing"))[thing.id]["crate_id"]


# bulk_insert and insert


@pytest.mark.parametrize("call", ["bulk_insert", "insert"])
async def test_inserts_refuse_what_sessions_hold(db: AsyncDB, call: str) -> None:
    """Stored objects and those that a session will insert are refused before anything is sent, and nothing fails."""
    await fill(db, Page(id=1), Cat(id=1))
    async with db.session() as session, db.session() as other:

        async def write(*pages: Document) -> None:
            if call == "bulk_insert":
                await session.bulk_insert(pages)
            else:
                await session.execute(insert(type(pages[0])).values(list(pages)))

        added, elsewhere, there = Page(id=2), Page(id=3), await session.get_one(Page, 1)
        session.add(added)
        other.add(elsewhere)
        with pytest.raises(SessionError, match=rf"{call}\(\) takes new objects, and Page 1 is stored already"):
            await write(Page(id=4), there)
        with pytest.raises(SessionError, match=rf"{call}\(\) takes new objects, and Page 2 was added to this session"):
            await write(Page(id=4), added)
        with pytest.raises(SessionError, match="Page 3 is in another session"):
            await write(Page(id=4), elsewhere)
        (partial,) = await session.scalars(select(Animal).options(load_only(Animal.name)))
        with pytest.raises(SessionError, match="Cat 1 is stored already"):
            await write(partial)
        await write(Page(id=4))
        await session.commit()
        await other.commit()
    assert {1, 2, 3, 4} == set(await stored(db, "page"))


# What calls are given


async def test_attributes_that_are_no_names(db: AsyncDB) -> None:
    """Fields and lists among the attributes are a SessionError."""
    await fill(db, Page(id=1))
    async with db.session() as session:
        page = await session.get_one(Page, 1)
        for wrong in (Page.title, ["title"]):
            with pytest.raises(SessionError, match="give attributes by their names"):
                session.expire(page, [wrong])  # type: ignore[list-item]
            with pytest.raises(SessionError, match="give attributes by their names"):
                await session.refresh(page, [wrong])  # type: ignore[list-item]


async def test_options_that_are_no_list(db: AsyncDB) -> None:
    """An option of `get` and `get_one` that is not in a list is a StatementError."""
    async with db.session() as session:
        wrong: Any
        for wrong in (load_only(Page.title), "title", 3):
            for call in (session.get, session.get_one):
                with pytest.raises(StatementError, match=r"get\(\) takes options in a list"):
                    await call(Page, 1, options=wrong)
        with pytest.raises(StatementError, match=r"options\(\) takes load_only"):
            await session.get(Page, 1, options=["title"])  # type: ignore[list-item]


@pytest.mark.parametrize("progress", [3, "x", [1]])
async def test_progress_that_cannot_be_called(db: AsyncDB, progress: Any) -> None:
    """It is refused before anything is written, and the session goes on."""
    await db.add(Model("lengths", lengths))
    async with db.session() as session:
        session.add(Text(id=1, plot="abc"))
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: session.flush(progress=progress),
            lambda: session.commit(progress=progress),
            lambda: session.bulk_insert([Text(id=2, plot="a")], progress=progress),
        ]
        for call in calls:
            with pytest.raises(ConfigurationError, match="progress= takes True, or a callable"):
                await call()
        await session.commit()
    assert [1] == list(await stored(db, "text"))


async def test_long_keys_in_messages(db: AsyncDB) -> None:
    """A message does not hold all of a long key."""
    async with db.session() as session:
        with pytest.raises(NoResultFound) as caught:
            await session.get_one(Page, "k" * MIB)
        assert len(str(caught.value)) < 200
        assert "k" * MIB == caught.value.key


# All or none


async def test_expire_all_with_slots(db: AsyncDB) -> None:
    """Where one object cannot expire, none does."""
    await fill(db, Page(id=1, title="a"), Slotted(id=1))
    async with db.session() as session:
        page = await session.get_one(Page, 1)
        page.title = "b"
        await session.get_one(Slotted, 1)
        with pytest.raises(UnsupportedError, match="Slotted cannot be loaded in part"):
            session.expire_all()
        assert "b" == page.title
        await session.commit()
    assert "b" == (await stored(db, "page"))[1]["title"]


@pytest.mark.parametrize("related", [False, True])
async def test_add_all_adds_all_or_none(db: AsyncDB, related: bool) -> None:
    """Where one is refused, the others are as they were: outside, or to be deleted."""
    cls: Any = Thing if related else Page
    name = "thing" if related else "page"
    await fill(db, cls(id=1), cls(id=2))
    async with db.session() as session, db.session() as other:
        deleted = await session.get_one(cls, 1)
        detached = await other.get_one(cls, 2)
        other.expunge(detached)
        foreign = cls(id=3)
        other.add(foreign)
        session.delete(deleted)
        new = cls(id=4)
        already = cls(id=5)
        session.add(already)
        with pytest.raises(SessionError, match="in another session"):
            session.add_all([new, deleted, detached, already, foreign])
        assert [False, False, True] == [one in session for one in (new, detached, already)]
        assert [deleted] == session.deleted
        await session.commit()
    assert {2, 5} == set(await stored(db, name))


async def test_merge_all_merges_all_or_none(db: AsyncDB) -> None:
    """Where one is refused, nothing is added, changed or kept from its deletion."""
    await fill(db, Account(id=1, number=1), Account(id=2, number=1), Account(id=3, number=1))
    async with db.session() as session, db.session() as other:
        _, second, third = await session.scalars(select(Account).order_by(Account.id))
        given = [Account(id=9), await other.get_one(Account, 1), await other.get_one(Account, 3)]
        given += [await other.get_one(Account, 2)]
        given[1].number = 7
        second.number = 5
        await session.commit()
        session.delete(third)
        with pytest.raises(StaleDocumentError, match="Account 2 is at version 2, and the object to merge has 1"):
            await session.merge_all(given)
        assert ([], [], [third]) == (session.new, session.dirty, session.deleted)
        await session.commit()
    assert {1: 1, 2: 5} == {key: one["number"] for key, one in (await stored(db, "account")).items()}


async def test_merge_keeps_what_was_to_be_deleted(db: AsyncDB) -> None:
    """An object marked for deletion stays where it, or a copy of it, is merged: with and without transactions."""
    await fill(db, Page(id=1, title="a"), Page(id=2, title="a"))
    async with db.session() as session:
        first, second = await session.scalars(select(Page).order_by(Page.id))
        copy = deepcopy(second)
        copy.title = "b"
        session.delete(first)
        assert first is await session.merge(first)
        session.delete(second)
        assert second is await session.merge(copy)
        assert [] == session.deleted
        await session.commit()
        assert "b" == second.title
    assert {1: "a", 2: "b"} == {key: one["title"] for key, one in (await stored(db, "page")).items()}


async def test_merge_of_what_was_replaced(db: AsyncDB) -> None:
    """Where another object takes the place of one to be deleted, a merge goes to that one."""
    await fill(db, Page(id=1, title="a"))
    async with db.session() as session:
        session.delete(await session.get_one(Page, 1))
        replacing = Page(id=1, title="b")
        session.add(replacing)
        assert replacing is await session.merge(Page(id=1, title="c", number=3))
        await session.flush()
        assert ("c", 3) == (replacing.title, replacing.number)
        await session.commit()
    assert {"_id": 1, "title": "c", "number": 3, "lines": []} == (await stored(db, "page"))[1]


# Large documents


async def test_documents_that_grow_too_large(db: AsyncDB) -> None:
    """An update that takes a document over 16 MiB is a ValidationError naming class and key, and is not stored."""
    await fill(db, Page(id=1, lines=["x" * 5 * MIB] * 2), Page(id=2))
    async with db.session() as session:
        page = await session.get_one(Page, 1)
        page.title = "y" * 9 * MIB
        with pytest.raises(ValidationError, match=r"Page: .*document 1: the update takes .* over 16 MiB") as caught:
            await session.commit()
        assert (Page, 1) == (caught.value.document_class, caught.value.key)
        await session.rollback()
        assert "" == page.title
        page.title = "z"
        await session.commit()
        with pytest.raises(ValidationError, match=r"Page: .*the update takes the document over 16 MiB"):
            await session.execute(update(Page).all().set(Page.lines.push("x" * 8 * MIB)))
        await session.rollback()
        page.title = "y" * 17 * MIB
        with pytest.raises(ValidationError, match="field 'title': takes the document over 16 MiB"):
            await session.commit()
    found = await stored(db, "page")
    assert ("z", 2) == (found[1]["title"], len(found[1]["lines"]))


# Computed vectors


async def test_a_vector_assigned_without_its_source(db: AsyncDB) -> None:
    """It cannot be computed then, and the error says what it is computed from."""
    await db.add(Model("lengths", lengths))
    await fill(db, Text(id=1, title="t", plot="abcd"))
    async with db.session() as session:
        (text,) = await session.scalars(select(Text).options(load_only(Text.title)))
        text.embedding = np.ones(3, np.float32)
        with pytest.raises(
            NotLoadedError, match="Text 1: embedding is computed from plot, which was not loaded"
        ) as caught:
            await session.commit()
        assert (Text, 1, "embedding") == (caught.value.document_class, caught.value.key, caught.value.field)
        await session.rollback()
        text.title = "u"
        await session.commit()
    assert "u" == (await stored(db, "text"))[1]["title"]


# Streams of causally consistent sessions


async def test_a_causal_stream_outlives_the_begin_of_a_transaction(db: AsyncDB, real: bool) -> None:
    """A stream that was begun before the first flush is read to its end after it, as without causal consistency."""
    await fill(db, *(Page(id=number) for number in range(50)))
    async with db.session(causal_consistency=real) as session:
        seen: list[int] = []
        async for page in session.stream_scalars(select(Page).order_by(Page.id), batch_size=10):
            seen.append(page.id)
            if page.id == 4:
                session.add(Page(id=100))
                await session.flush()
            if page.id == 25:
                await session.commit()
        assert list(range(50)) == seen[:50]
        rows = [row.id async for row in session.stream(select(Page.id), batch_size=10)]
        assert {*range(50), 100} == set(rows)
    assert 51 == len(await stored(db, "page"))


# Documents of two classes, and statements outside of transactions


@pytest.mark.parametrize("then", ["change", "delete"])
async def test_writes_of_two_classes_to_a_document(db: AsyncDB, real: bool, then: str) -> None:
    """What was read after the other class wrote is not taken for what is stored after a rollback."""
    await fill(db, Page(id=1, title="old"))
    async with db.session() as session:
        title = await session.get_one(Title, 1)
        title.title = "uncommitted"
        await session.flush()
        page = await session.get_one(Page, 1)
        assert "uncommitted" == page.title
        if then == "change":
            page.number = 5
        else:
            session.delete(page)
        await session.flush()
        await session.rollback()
        assert "old" == title.title
        with pytest.raises(NotLoadedError):
            _ = page.title
        if not real and then == "delete":  # which is not undone there
            return
        page.title = "uncommitted"
        await session.commit()
    assert "uncommitted" == (await stored(db, "page"))[1]["title"]


async def test_the_first_class_to_write_a_document_shows_it_after_a_rollback(db: AsyncDB) -> None:
    """What an object was before the first write to its document is given back to it."""
    await fill(db, Page(id=1, title="old"))
    async with db.session() as session:
        page = await session.get_one(Page, 1)
        page.number = 5
        await session.flush()
        title = await session.get_one(Title, 1)
        title.title = "uncommitted"
        await session.flush()
        await session.rollback()
        assert ("old", 0) == (page.title, page.number)
        page.title = "new"
        await session.commit()
    assert "new" == (await stored(db, "page"))[1]["title"]


async def test_a_rollback_after_a_merge(db: AsyncDB, real: bool) -> None:
    """What was merged into a collection is stored at once: objects go on to show it, and changes are told from it."""
    if not real:  # mongomock has no $merge
        return
    await fill(db, Page(id=1, title="old"), Animal(id=1, name="merged"))
    async with db.session() as session:
        page = await session.get_one(Page, 1)
        await session.execute(select(Animal.id.label("_id"), Animal.name.label("title")).merge_into(Page))
        assert "merged" == page.title
        await session.rollback()
        assert "merged" == page.title
        page.title = "old"
        await session.commit()
    assert "old" == (await stored(db, "page"))[1]["title"]


# What a flush adds


class Shelf(Document, registry=registry):
    id: Mapped[int] = field(primary_key=True)
    books: Mapped[list[Book]] = relationship(list["Book"], remote_key="shelf_id")


class Book(Document, registry=registry):
    id: Mapped[ObjectId] = field(primary_key=True, factory=ObjectId)
    title: Mapped[str] = field(default="")
    shelf_id: Mapped[int | None] = field(default=None)


@pytest.mark.parametrize("call", ["bulk_insert", "insert"])
async def test_inserts_refuse_what_their_flush_adds(db: AsyncDB, real: bool, call: str) -> None:
    """An object that a cascade stores in the flush before is refused, and the session goes on."""
    await fill(db, Shelf(id=1))
    async with db.session() as session:
        shelf = await session.get_one(Shelf, 1, options=[selectinload(Shelf.books)])
        shelf.books.append(book := Book(title="x"))
        if not real:  # there is no flush before
            await session.flush()
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "bulk_insert": lambda: session.bulk_insert([book]),
            "insert": lambda: session.execute(insert(Book).values([book])),
        }
        with pytest.raises(SessionError, match=rf"{call}\(\) takes new objects, and Book .* is stored already"):
            await calls[call]()
        await session.commit()
    assert [(1, "x")] == [(one["shelf_id"], one["title"]) for one in (await stored(db, "book")).values()]


# get with options


async def test_get_with_options_of_what_is_to_be_deleted(db: AsyncDB) -> None:
    """It is None as without options; so it is of what is there no more, which the session forgets."""
    await fill(db, Page(id=1), Page(id=2))
    async with db.session() as session:
        first, second = await session.scalars(select(Page).order_by(Page.id))
        session.delete(first)
        session.expire(first)
        session.expire(second)
        await db.parts.data_backend.write(Delete("page", [{"_id": 2}]))
        options = [load_only(Page.title)]
        assert await session.get(Page, 1) is None
        assert await session.get(Page, 1, options=options) is None
        assert [first] == session.deleted
        session.expunge(first)
        assert await session.get(Page, 2, options=options) is None
        assert second not in session
