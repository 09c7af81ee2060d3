"""Sessions over every backend, checked by reading with plain PyMongo."""

from __future__ import annotations

from datetime import date
from enum import Enum
from functools import partial
from typing import Any

import numpy as np
import pytest

from superorm import (
    AsyncDB,
    AsyncSession,
    Document,
    DuplicateKeyError,
    Embedded,
    Mapped,
    MappingError,
    MultipleResultsFound,
    NoResultFound,
    ObjectId,
    PendingRollbackError,
    SessionError,
    StaleDocumentError,
    StatementError,
    UnsupportedError,
    ValidationError,
    async_sessionmaker,
    field,
    select,
)
from superorm.compile.plan import Find
from superorm.unitofwork.writes import Insert


class Address(Embedded):
    city: Mapped[str]
    street: Mapped[str | None] = field(default=None)


class Person(Document):
    __collection__ = "people"

    name: Mapped[str] = field(index=True)
    age: Mapped[int] = field(default=0)
    tags: Mapped[list[str]] = field(factory=list)
    address: Mapped[Address | None] = field(default=None)
    nick: Mapped[str | None] = field(default=None, name="n")


class Keyed(Document):
    id: Mapped[str] = field(primary_key=True)
    email: Mapped[str] = field(unique=True, default="")


async def stored(db: AsyncDB, collection: str = "people") -> list[dict[str, Any]]:
    """The documents as the backend holds them."""
    return await db.parts.data_backend.read(Find(collection, sort=[("_id", 1)]))


async def test_commit_stores_what_was_added(db: AsyncDB) -> None:
    """Every field is stored under its key, an embedded document as a document."""
    async with db.session() as session:
        person = Person(name="Ada", age=36, tags=["x"], address=Address(city="London"), nick="a")
        session.add(person)
        assert [person] == session.new
        await session.commit()
        assert [] == session.new
    expected = {
        "_id": person.id,
        "name": "Ada",
        "age": 36,
        "tags": ["x"],
        "address": {"city": "London", "street": None},
        "n": "a",
    }
    assert [expected] == await stored(db)


async def test_nothing_is_stored_without_commit(db: AsyncDB) -> None:
    """Leaving the session's block gives up what was not committed, flushed or not."""
    async with db.session() as session:
        session.add(Person(name="Ada"))
    assert [] == await stored(db)


async def test_flush_is_undone_by_rollback_where_there_are_transactions(db: AsyncDB, real: bool) -> None:
    """A flushed document is gone after the rollback, and its object is new again."""
    if not real:
        return
    async with db.session() as session:
        person = Person(name="Ada")
        session.add(person)
        await session.flush()
        assert person in session
        await session.rollback()
        assert person not in session
        assert [] == await stored(db)
        session.add(person)
        await session.commit()
    assert ["Ada"] == [document["name"] for document in await stored(db)]


async def test_one_object_for_one_document(db: AsyncDB) -> None:
    """The identity map gives the same object from get and from queries."""
    async with db.begin() as session:
        session.add_all([Person(name="Ada"), Person(name="Bob")])
    async with db.session() as session:
        people = (await session.scalars(select(Person).order_by(Person.name))).all()
        assert ["Ada", "Bob"] == [person.name for person in people]
        assert people[0] is await session.get(Person, people[0].id)
        assert people[1] is (await session.scalars(select(Person).where(Person.name == "Bob"))).one()


async def test_changes_are_seen_at_any_depth_and_written_minimally(db: AsyncDB) -> None:
    """A changed list, embedded attribute and scalar are stored; keys that the class does not map survive."""
    async with db.begin() as session:
        session.add(Person(name="Ada", tags=["x"], address=Address(city="London")))
    backend = db.parts.data_backend
    from superorm.unitofwork.writes import Update, UpdateOp

    await backend.write(Update("people", [UpdateOp(q={"name": "Ada"}, u={"$set": {"extra": 1, "address.zip": "N1"}})]))
    async with db.session() as session:
        person = (await session.scalars(select(Person))).one()
        person.tags.append("y")
        assert person.address is not None
        person.address.street = "High St"
        person.age = 37
        assert [person] == session.dirty
        await session.commit()
    (document,) = await stored(db)
    assert {"city": "London", "street": "High St", "zip": "N1"} == document["address"]
    assert (["x", "y"], 37, 1) == (document["tags"], document["age"], document["extra"])


async def test_two_sessions_that_change_different_fields_both_win(db: AsyncDB) -> None:
    """Only what changed is sent."""
    async with db.begin() as session:
        session.add(Person(name="Ada"))
    async with db.session() as one, db.session() as two:
        first = (await one.scalars(select(Person))).one()
        second = (await two.scalars(select(Person))).one()
        first.age = 1
        second.nick = "a"
        await one.commit()
        await two.commit()
    (document,) = await stored(db)
    assert (1, "a") == (document["age"], document["n"])


async def test_delete(db: AsyncDB) -> None:
    """A deleted document is gone after the commit; one deleted underneath is stale when changed."""
    async with db.begin() as session:
        session.add_all([Person(name="Ada"), Person(name="Bob")])
    async with db.session() as session:
        ada = (await session.scalars(select(Person).where(Person.name == "Ada"))).one()
        session.delete(ada)
        assert [ada] == session.deleted
        assert await session.get(Person, ada.id) is None
        await session.commit()
        assert ada not in session
    assert ["Bob"] == [document["name"] for document in await stored(db)]


async def test_deleted_underneath(db: AsyncDB) -> None:
    """Changing a document that somebody else deleted is a StaleDocumentError, and nothing is written."""
    async with db.begin() as session:
        session.add(Person(name="Ada"))
    async with db.session() as one, db.session() as two:
        first = (await one.scalars(select(Person))).one()
        two.delete((await two.scalars(select(Person))).one())
        await two.commit()
        first.age = 3
        with pytest.raises(StaleDocumentError, match="deleted underneath"):
            await one.commit()
    assert [] == await stored(db)


async def test_rollback_restores_objects(db: AsyncDB) -> None:
    """After a rollback objects show what was committed."""
    async with db.begin() as session:
        session.add(Person(name="Ada", tags=["x"], address=Address(city="London")))
    async with db.session() as session:
        person = (await session.scalars(select(Person))).one()
        person.name = "Eve"
        person.tags.append("y")
        assert person.address is not None
        person.address.city = "Paris"
        await session.rollback()
        assert ("Ada", ["x"]) == (person.name, person.tags)
        assert Address(city="London") == person.address
        assert [] == session.dirty or await session.flush() is None
        await session.commit()
    assert "Ada" == (await stored(db))[0]["name"]


async def test_wrong_value_is_named_and_nothing_is_written(db: AsyncDB) -> None:
    """The error says class, key and field; the session asks for a rollback; nothing is written."""
    async with db.session() as session:
        wrong = Person(name="Bob", address=Address(city=3))  # type: ignore[arg-type]
        session.add_all([Person(name="Ada"), wrong])
        with pytest.raises(ValidationError, match=r"Person .*address\.city.*expected str, got int 3") as caught:
            await session.commit()
        assert (Person, wrong.id, "address.city") == (caught.value.document_class, caught.value.key, caught.value.field)
        with pytest.raises(PendingRollbackError, match="rollback"):
            await session.commit()
        await session.rollback()
        assert [] == session.new
    assert [] == await stored(db)


@pytest.mark.parametrize("value", [2**63, "\ud800", {"a": 1}])
async def test_unstorable_value_writes_nothing(db: AsyncDB, value: object) -> None:
    """What BSON cannot hold is refused before anything is written."""
    async with db.session() as session:
        person = Person(name="Ada")
        setattr(person, "age" if isinstance(value, int) else "name", value)
        session.add_all([Person(name="Bob"), person])
        with pytest.raises(ValidationError, match="Person"):
            await session.commit()
    assert [] == await stored(db)


async def test_duplicate_key(db: AsyncDB, real: bool) -> None:
    """A key that is there already is a DuplicateKeyError, and with transactions nothing else is written."""
    async with db.begin() as session:
        session.add(Keyed(id="a"))
    async with db.session() as session:
        session.add_all([Keyed(id="b"), Keyed(id="a")])
        with pytest.raises(DuplicateKeyError) as caught:
            await session.commit()
        assert (Keyed, "a", "id") == (caught.value.document_class, caught.value.key, caught.value.field)
        await session.rollback()
    keys = [document["_id"] for document in await stored(db, "keyed")]
    assert (["a"] if real else ["a", "b"]) == keys


async def test_delete_and_add_again_in_one_flush(db: AsyncDB) -> None:
    """The delete goes first where the key is used again."""
    async with db.begin() as session:
        session.add(Keyed(id="a", email="old"))
    async with db.session() as session:
        session.delete(await session.get_one(Keyed, "a"))
        session.add(Keyed(id="a", email="new"))
        await session.commit()
    assert [{"_id": "a", "email": "new"}] == await stored(db, "keyed")


async def test_two_new_objects_with_one_key(db: AsyncDB) -> None:
    """They are refused before anything is written."""
    async with db.session() as session:
        session.add_all([Keyed(id="a"), Keyed(id="a")])
        with pytest.raises(ValidationError, match="two new objects"):
            await session.commit()
    assert [] == await stored(db, "keyed")


async def test_results(db: AsyncDB) -> None:
    """all, first, one, one_or_none, rows with names, counts."""
    async with db.begin() as session:
        session.add_all([Person(name=name, age=age) for age, name in enumerate("abc")])
    async with db.session() as session:
        assert 2 == await session.count(select(Person).where(Person.age > 0))
        rows = (await session.execute(select(Person.name, Person.age).order_by(Person.age.desc()))).all()
        assert [("c", 2), ("b", 1), ("a", 0)] == rows
        assert ("c", 2) == (rows[0].name, rows[0].age)  # type: ignore[attr-defined]
        names = await session.scalars(select(Person.name).order_by(Person.name).offset(1).limit(1))
        assert ["b"] == names.all()
        assert "a" == await session.scalar(select(Person.name).order_by(Person.name))
        assert await session.scalar(select(Person.name).where(Person.age == 9)) is None
        with pytest.raises(NoResultFound):
            (await session.scalars(select(Person).where(Person.age == 9))).one()
        with pytest.raises(MultipleResultsFound):
            (await session.scalars(select(Person))).one_or_none()
        with pytest.raises(ValidationError, match=r"Person.*cannot be its id"):
            await session.get_one(Person, rows)
        with pytest.raises(NoResultFound, match="Person"):
            await session.get_one(Person, ObjectId())


async def test_query_sees_flushed_changes_where_there_are_transactions(db: AsyncDB, real: bool) -> None:
    """Queries flush first; without transactions only flush and commit write."""
    async with db.session() as session:
        session.add(Person(name="Ada"))
        assert int(real) == await session.count(select(Person))


async def test_misuse(db: AsyncDB) -> None:
    """What is no document, no statement, or not in the session is refused by name."""
    async with db.session() as session:
        with pytest.raises(SessionError, match="documents, not str"):
            session.add("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        with pytest.raises(SessionError, match="not in the session"):
            session.delete(Person(name="Ada"))
        with pytest.raises(StatementError, match="select"):
            await session.execute({"$where": "1"})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def test_required_transactions(db: AsyncDB, real: bool) -> None:
    """A session that requires transactions cannot be made where there are none."""
    await db.open()
    if not real:
        for make in (partial(AsyncSession, db), db.session, async_sessionmaker(db)):
            with pytest.raises(UnsupportedError, match="mongomock has no transactions here, and this session requires"):
                make(require_transaction=True)
        return
    async with AsyncSession(db, require_transaction=True) as session:
        session.add(Person(name="Ada"))
        await session.commit()
    assert 1 == len(await stored(db))


async def test_stored_value_of_the_wrong_type_is_named_when_read(db: AsyncDB) -> None:
    """The error says document, field and value."""

    await db.parts.data_backend.write(Insert("people", [{"_id": 1, "name": 5}]))
    async with db.session() as session:
        with pytest.raises(ValidationError, match=r"stored value of _id|stored value of name"):
            (await session.scalars(select(Person))).all()


async def test_arrays_survive(db: AsyncDB) -> None:
    """A numpy array that is no vector keeps shape and type."""

    class Picture(Document):
        pixels: Mapped[np.ndarray]

    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    async with db.begin() as session:
        session.add(Picture(pixels=pixels))
    async with db.session() as session:
        found = (await session.scalars(select(Picture))).one()
        assert np.array_equal(pixels, found.pixels)
        assert pixels.dtype == found.pixels.dtype
        found.pixels[0, 0] = 9
        await session.commit()
    async with db.session() as session:
        assert 9 == (await session.scalars(select(Picture))).one().pixels[0, 0]


async def test_get_flushes_first_where_there_are_transactions(db: AsyncDB, real: bool) -> None:
    """A new object is found by its key as by a query; after an error the session asks for a rollback."""
    async with db.begin() as session:
        session.add(Keyed(id="a"))
    async with db.session() as session:
        new = Keyed(id="b", email="b")
        session.add(new)
        assert (new if real else None) is await session.get(Keyed, "b")
        session.add(Keyed(id="a", email="c"))
        with pytest.raises(DuplicateKeyError):
            await session.flush()
        with pytest.raises(PendingRollbackError, match="rollback"):
            await session.get(Keyed, "z")


async def test_get_of_what_takes_the_place_of_a_deleted_object(db: AsyncDB, real: bool) -> None:
    """The new object is found as any other one is, and not added once more."""
    async with db.begin() as session:
        session.add(Keyed(id="a", email="old"))
    async with db.session() as session:
        old = await session.get_one(Keyed, "a")
        session.delete(old)
        assert await session.get(Keyed, "a") is None
        new = Keyed(id="a", email="new")
        session.add(new)
        assert (new if real else None) is await session.get(Keyed, "a")
        assert (new if real else None) is await session.get(Keyed, "a", options=[])
        await session.commit()
        assert new is await session.get(Keyed, "a")
        session.delete(new)
        session.add(Keyed(id="b"))
        assert await session.get(Keyed, "a") is None
        await session.commit()
        assert ["b"] == (await session.scalars(select(Keyed.id))).all()


async def test_get_by_keys_that_are_stored_as_something_else(db: AsyncDB) -> None:
    """A compound key, a date and an Enum are found by their Python values, as the one object."""

    class Place(Embedded):
        city: Mapped[str]
        number: Mapped[int]

    class Colour(Enum):
        RED = "red"

    class Placed(Document):
        id: Mapped[Place | date | Colour] = field(primary_key=True)

    keys: list[Place | date | Colour] = [Place(city="x", number=1), date(2020, 2, 29), Colour.RED]
    async with db.begin() as session:
        session.add_all(Placed(id=key) for key in keys)
    async with db.session() as session:
        for key in keys:
            found = await session.get_one(Placed, key)
            assert found is await session.get(Placed, key)


async def test_a_db_never_opened_commits_nothing() -> None:
    """An empty unit of work needs no connection."""
    from superorm import connect_async

    db = connect_async("mongomock://never_opened")
    async with db.begin() as session:
        assert [] == session.new
    await db.close()


async def test_unmapped_keys_survive_a_deletion_that_is_taken_back(db: AsyncDB) -> None:
    """A deleted document that is added again keeps them, also where the first try was rolled back."""

    await db.parts.data_backend.write(Insert("keyed", [{"_id": "a", "email": "", "extra": 1}]))
    async with db.session() as session:
        keyed = await session.get_one(Keyed, "a")
        session.delete(keyed)
        await session.commit()
        session.add(keyed)
        if db.capabilities.transactions:
            await session.flush()
        await session.rollback()
        session.add(keyed)
        await session.commit()
    assert [{"_id": "a", "email": "", "extra": 1}] == await stored(db, "keyed")


async def test_closing_leaves_committed_objects_alone(db: AsyncDB) -> None:
    """Lists and embedded objects of what did not change since the commit stay the same objects; changes are undone."""
    tags, address = ["a"], Address(city="London")
    one, other = Person(name="Ada", tags=tags, address=address), Person(name="Bob", tags=["b"])
    async with db.session() as session:
        session.add_all([one, other])
        await session.commit()
        other.tags.append("c")
        other.name = "Rob"
    assert one.tags is tags
    assert one.address is address
    assert ("Bob", ["b"]) == (other.name, other.tags)
    async with db.session() as session:
        found = await session.get_one(Person, one.id)
        read = found.tags
        found.age = 5
        await session.flush()
        found.address = None
        await session.rollback()
        assert found.tags is read
        assert (0, Address(city="London")) == (found.age, found.address)
        assert [] == list(filter(session.is_modified, session.dirty))
        read.append("x")
        await session.commit()
    assert [["a", "x"], ["b"]] == [document["tags"] for document in await stored(db)]


async def test_what_is_no_document(db: AsyncDB) -> None:
    """Objects of other classes are refused with an error that says so."""
    async with db.session() as session:
        with pytest.raises(SessionError, match="a session holds documents, not int 5"):
            session.expunge(5)  # type: ignore[arg-type]
        for other in (Person(name="Ada"), "x", Address, int):
            with pytest.raises(MappingError):
                await session.get(other, 1)  # type: ignore[arg-type, type-var]


async def test_fields_that_have_to_be_there(db: AsyncDB) -> None:
    """An object that lacks a field without a default is refused before anything is written."""
    async with db.session() as session:
        person = Person(name="Ada", address=Address(city="London"))
        del person.name
        session.add_all([Keyed(id="a"), person])
        with pytest.raises(ValidationError, match=r"Person .*: name cannot be stored"):
            await session.commit()
        await session.rollback()
        assert [] == await stored(db)
        assert [] == await stored(db, "keyed")
        person.name = "Ada"
        session.add(person)
        await session.commit()
    async with db.session() as session:
        found = await session.get_one(Person, person.id)
        assert [] == found.tags
        del found.tags
        await session.commit()
        del found.name
        with pytest.raises(ValidationError, match=r"Person .*: name cannot be stored"):
            await session.commit()
    assert ("Ada", False) == ((document := (await stored(db))[0])["name"], "tags" in document)
