"""Objects of sessions brought in line with documents and other objects, over every backend."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from superorm import (
    AsyncDB,
    Document,
    DuplicateKeyError,
    Embedded,
    Mapped,
    NoResultFound,
    NotLoadedError,
    Registry,
    SessionError,
    StaleDocumentError,
    field,
    load_only,
    select,
    update,
)
from superorm.compile.plan import Find
from superorm.unitofwork.writes import Delete, Insert, Update, UpdateOp

registry = Registry()


class Part(Embedded):
    name: Mapped[str]
    sizes: Mapped[list[int]] = field(factory=list)


class Thing(Document, registry=registry):
    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str] = field(default="")
    number: Mapped[int] = field(default=0)
    tags: Mapped[list[str]] = field(factory=list)
    counts: Mapped[dict[str, int]] = field(factory=dict)
    part: Mapped[Part | None] = field(default=None)
    parts: Mapped[list[Part]] = field(factory=list)
    data: Mapped[np.ndarray | None] = field(default=None)


class Versioned(Document, registry=registry):
    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str] = field(default="")
    number: Mapped[int] = field(default=0)
    version: Mapped[int] = field(version=True)


class Named(Document, registry=registry):
    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str] = field(unique=True)


def thing(key: int = 1) -> Thing:
    """One with something in each field."""
    return Thing(
        id=key,
        name="a",
        tags=["x"],
        counts={"k": 1},
        part=Part(name="p", sizes=[1]),
        parts=[Part(name="q")],
        data=np.zeros(3),
    )


async def fill(db: AsyncDB, *instances: Document) -> None:
    """Store them."""
    async with db.begin() as session:
        session.add_all(instances)


async def change(db: AsyncDB, collection: str, key: Any, **values: Any) -> None:
    """Change a stored document behind the sessions' backs."""
    await db.parts.data_backend.write(Update(collection, [UpdateOp(q={"_id": key}, u={"$set": values})]))


async def remove(db: AsyncDB, collection: str, key: Any) -> None:
    """Delete one."""
    await db.parts.data_backend.write(Delete(collection, [{"_id": key}]))


async def stored(db: AsyncDB, collection: str, key: Any) -> dict[str, Any] | None:
    """The document as it is in the database."""
    found = await db.parts.data_backend.read(Find(collection, {"_id": key}))
    return dict(found[0]) if found else None


async def test_refresh(db: AsyncDB) -> None:
    """It shows what is stored and loses what was changed; of given attributes only these."""
    await fill(db, thing())
    async with db.session() as session:
        one = await session.get_one(Thing, 1)
        one.tags.append("mine")
        one.name = "mine"
        await change(db, "thing", 1, name="theirs", number=7)
        await session.refresh(one, ["name"])
        assert ("theirs", 0, ["x", "mine"]) == (one.name, one.number, one.tags)
        assert session.is_modified(one)
        await session.refresh(one)
        assert ("theirs", 7, ["x"]) == (one.name, one.number, one.tags)
        assert not session.is_modified(one)
        await session.commit()
        assert "theirs" == (await stored(db, "thing", 1) or {})["name"]


async def test_refresh_of_several(db: AsyncDB) -> None:
    """Objects of several classes at once; one that is gone is named."""
    await fill(db, thing(1), thing(2), Versioned(id=1, name="v"))
    async with db.session() as session:
        found: list[Document] = [*(await session.scalars(select(Thing))), await session.get_one(Versioned, 1)]
        for collection, key in (("thing", 1), ("thing", 2), ("versioned", 1)):
            await change(db, collection, key, number=key + 4)
        await session.refresh_all(found)
        assert [5, 6, 5] == [one.number for one in found]  # type: ignore[attr-defined]
        await remove(db, "thing", 2)
        with pytest.raises(NoResultFound, match=r"Thing 2 is no longer in the database; expunge\(\) the object"):
            await session.refresh_all(found)


async def test_refresh_in_a_transaction(db: AsyncDB) -> None:
    """It sees what the session flushed, and a rollback gives back what was there before."""
    await fill(db, thing())
    async with db.session() as session:
        one = await session.get_one(Thing, 1)
        one.number = 5
        await session.flush()
        one.number = 6
        await session.refresh(one)
        assert 5 == one.number
        await session.rollback()
        assert 0 == one.number


async def test_refusals(db: AsyncDB) -> None:
    """New objects, those of others, attributes that are none, and anything else are refused by name."""
    await fill(db, thing())
    async with db.session() as session:
        one, new = await session.get_one(Thing, 1), Thing(id=2)
        with pytest.raises(SessionError, match="this Thing is not in the session"):
            await session.refresh(new)
        session.add(new)
        nothing: Any = 5
        text: Any = "name"
        for given, attributes, message in (
            (new, None, "this Thing is new, so there is nothing stored of it"),
            (nothing, None, "a session holds documents, not int 5"),
            (one, ["nothing"], "Thing has no field or relationship 'nothing'"),
            (one, text, r"takes attributes in a list such as \['title'\], not 'name'"),
        ):
            with pytest.raises(SessionError, match=message):
                session.expire(given, attributes)
            with pytest.raises(SessionError, match=message):
                await session.refresh(given, attributes)
        with pytest.raises(SessionError, match="this Thing is not in the session"):
            session.is_modified(Thing(id=3))


async def test_expunging_what_is_not_there(db: AsyncDB) -> None:
    """It is refused: a new one, one that is outside already, and one of another session, which stays in that."""
    async with db.begin() as session:
        session.add(Thing(id=1))
    async with db.session() as session, db.session() as other:
        thing = await session.get_one(Thing, 1)
        for outside in (Thing(id=2), thing):
            with pytest.raises(SessionError, match="this Thing is not in the session"):
                other.expunge(outside)
        assert thing in session
        session.expunge(thing)
        with pytest.raises(SessionError, match="this Thing is not in the session"):
            session.expunge(thing)
        other.add(thing)
        assert thing in other


async def test_expire(db: AsyncDB) -> None:
    """What is expired is forgotten, changes too, and touching it says what to do until it is loaded again."""
    await fill(db, thing(1), thing(2))
    async with db.session() as session:
        one, two = (await session.scalars(select(Thing).order_by(Thing.id))).all()
        one.name = "lost"
        one.counts["k"] = 2
        one.tags.append("kept")
        session.expire(one, ["name", "counts"])
        for name in ("name", "counts"):
            with pytest.raises(NotLoadedError, match=rf"Thing 1: {name} was not loaded, or has expired; refresh\(\)"):
                getattr(one, name)
        assert ["x", "kept"] == one.tags
        assert "counts=" not in repr(one)
        await session.refresh(one, ["name"])
        assert "a" == one.name
        session.expire_all()
        assert (1, 2) == (one.id, two.id)
        with pytest.raises(NotLoadedError):
            two.part  # noqa: B018
        await change(db, "thing", 2, number=3)
        assert [one, two] == (await session.scalars(select(Thing).order_by(Thing.id))).all()
        assert (["x"], {"k": 1}, 3, Part(name="p", sizes=[1])) == (one.tags, one.counts, two.number, two.part)
        assert not session.is_modified(one)
        assert Thing is type(one)


async def test_expired_and_changed(db: AsyncDB) -> None:
    """What is assigned to an expired object is written, and nothing else; `get` loads it again, or finds it gone."""
    await fill(db, thing(1), thing(2))
    async with db.session() as session:
        one, two = (await session.scalars(select(Thing).order_by(Thing.id))).all()
        session.expire_all()
        await change(db, "thing", 1, number=3)
        one.name = "new"
        await session.commit()
        document = await stored(db, "thing", 1)
        assert document is not None
        assert ("new", 3, ["x"]) == (document["name"], document["number"], document["tags"])
        assert one is await session.get(Thing, 1)
        assert 3 == one.number
        await remove(db, "thing", 2)
        assert await session.get(Thing, 2) is None
        assert two not in session
        session.expire(one)
        session.delete(one)
        await session.commit()
        assert await stored(db, "thing", 1) is None


async def test_expired_versions(db: AsyncDB) -> None:
    """A change of an expired object fails where the document changed underneath, until it is loaded again."""
    await fill(db, Versioned(id=1))
    async with db.session() as session:
        one = await session.get_one(Versioned, 1)
        session.expire(one)
        async with db.begin() as other:
            (await other.get_one(Versioned, 1)).number = 5
        one.name = "new"
        with pytest.raises(StaleDocumentError):
            await session.commit()
        await session.rollback()
        session.expire(one)
        await session.refresh(one)
        assert (2, 5) == (one.version, one.number)
        one.name = "new"
        session.expire(one)
        async with db.begin() as other:
            (await other.get_one(Versioned, 1)).number = 6
        await session.get_one(Versioned, 1)
        one.name = "newer"
        await session.commit()
        assert {"_id": 1, "name": "newer", "number": 6, "version": 4} == await stored(db, "versioned", 1)


async def test_merge(db: AsyncDB) -> None:
    """Copies of the values go into the session's object; what was not different is not written."""
    await fill(db, thing())
    given = thing()
    given.name = "merged"
    given.tags.append("y")
    given.parts[0].sizes.append(3)
    assert given.data is not None
    given.data[1] = 2.0
    async with db.session() as session:
        one = await session.merge(given)
        assert given not in session
        assert one in session
        assert one is await session.get(Thing, 1)
        given.tags.append("after")
        given.parts[0].name = "after"
        given.data[2] = 9
        assert (["x", "y"], [Part(name="q", sizes=[3])]) == (one.tags, one.parts)
        assert one.data is not None
        assert [0.0, 2.0, 0.0] == one.data.tolist()
        await change(db, "thing", 1, counts={"theirs": 1})
        await session.commit()
        assert one is await session.merge(one)
    document = await stored(db, "thing", 1)
    assert document is not None
    assert ("merged", ["x", "y"], {"theirs": 1}) == (document["name"], document["tags"], document["counts"])


async def test_merge_of_new_objects(db: AsyncDB) -> None:
    """Where there is no document a copy is added; several of one key are one object."""
    async with db.session() as session:
        given = thing()
        again = thing()
        again.name = "again"
        one, other, same = await session.merge_all([given, thing(2), again])
        assert one is same
        assert [one, other] == session.new
        assert one is not given
        assert one is await session.merge(again)
        await session.commit()
    document = await stored(db, "thing", 1)
    assert document is not None
    assert "again" == document["name"]
    assert await stored(db, "thing", 2) is not None


async def test_merge_from_elsewhere(db: AsyncDB) -> None:
    """Objects of other sessions, unpickled and partial ones can be merged; keys that no field maps stay."""
    await db.parts.data_backend.write(Insert("thing", [{"_id": 1, "name": "a", "extra": 1}]))
    async with db.session() as first, db.session() as second:
        one = await first.get_one(Thing, 1)
        one.name = "b"
        again: Thing = pickle.loads(pickle.dumps(one))
        merged = await second.merge(one)
        assert merged is not one
        assert "b" == merged.name
        again.tags.append("t")
        assert merged is await second.merge(again)
        assert ["t"] == merged.tags
        await second.commit()
        assert {"_id": 1, "name": "b", "extra": 1, "tags": ["t"]} == await stored(db, "thing", 1)
    async with db.session() as first, db.session() as second:
        (part,) = (await first.scalars(select(Thing).options(load_only(Thing.name)))).all()
        part.number = 4
        merged = await second.merge(part)
        assert ("b", 4, ["t"]) == (merged.name, merged.number, merged.tags)
        await remove(db, "thing", 1)
        second.expunge_all()
        with pytest.raises(NotLoadedError, match="Thing 1 was loaded in part only, and its document is gone"):
            await second.merge(part)
        await second.merge(again)
        await second.commit()
        document = await stored(db, "thing", 1)
        assert document is not None
        assert (1, "b", ["t"]) == (document["extra"], document["name"], document["tags"])


async def test_merge_of_versions(db: AsyncDB) -> None:
    """An object of an older version is refused; a new one whose version is not set is taken."""
    await fill(db, Versioned(id=1), Versioned(id=2))
    async with db.session() as session:
        old, gone = await session.get_one(Versioned, 1), await session.get_one(Versioned, 2)
        session.expunge_all()
        async with db.begin() as other:
            (await other.get_one(Versioned, 1)).number = 5
            other.delete(await other.get_one(Versioned, 2))
        with pytest.raises(StaleDocumentError, match="Versioned 1 is at version 2, and the object to merge has 1"):
            await session.merge(old)
        with pytest.raises(StaleDocumentError, match="Versioned 2 was deleted underneath"):
            await session.merge(gone)
        merged = await session.merge(Versioned(id=1, name="new"))
        await session.commit()
        assert 3 == merged.version
        assert {"_id": 1, "name": "new", "number": 0, "version": 3} == await stored(db, "versioned", 1)


async def test_merge_of_deleted(db: AsyncDB) -> None:
    """A document that is to be deleted, or was in this transaction, is there after a merge."""
    await fill(db, thing())
    async with db.session() as session:
        one = await session.get_one(Thing, 1)
        session.delete(one)
        given = thing()
        given.name = "back"
        await session.merge(given)
        await session.commit()
    document = await stored(db, "thing", 1)
    assert document is not None
    assert "back" == document["name"]


async def test_rollback_of_everything(db: AsyncDB, real: bool) -> None:
    """After a rollback objects show what was last loaded or committed, whatever was done to them."""
    await fill(db, *(thing(key) for key in range(1, 8)))
    async with db.session() as session:
        kept, nested, expired, merged, expunged, deleted, again = (
            await session.scalars(select(Thing).order_by(Thing.id))
        ).all()
        new = thing(9)
        session.add(new)
        kept.name = "flushed"
        expired.name = "flushed"
        expunged.name = "flushed"
        session.delete(deleted)
        session.delete(again)
        await session.flush()
        session.add(again)
        nested.tags.append("t")
        nested.counts["n"] = 1
        assert nested.part is not None
        assert nested.data is not None
        nested.part.sizes[0] = 5
        nested.parts.append(Part(name="r"))
        nested.data[0] = 1
        await session.flush()
        nested.data[0] = 2
        session.expire(expired)
        session.expunge(expunged)
        given = thing(4)
        given.tags = ["merged"]
        await session.merge(given)
        await session.refresh(kept)
        await session.rollback()
        assert ["a", "a", "a"] == [kept.name, expired.name, merged.name]
        assert (["x"], {"k": 1}, Part(name="p", sizes=[1]), [Part(name="q")]) == (
            nested.tags,
            nested.counts,
            nested.part,
            nested.parts,
        )
        assert [0, 0, 0] == nested.data.tolist()
        assert ["x"] == merged.tags
        inside = [kept, nested, expired, merged, deleted, again]
        assert [True] * 6 + [False] * 2 == [one in session for one in (*inside, expunged, new)]
        assert not any(session.is_modified(one) for one in inside)
        if real:
            session.add(new)
            await session.commit()
            assert 8 == await session.count(select(Thing))


async def test_loads_after_statements(db: AsyncDB, real: bool) -> None:
    """What was loaded after a statement wrote is expired by a rollback, as it may never have been there."""
    if not real:
        return
    await fill(db, thing(1), thing(2))
    async with db.session() as session:
        before = await session.get_one(Thing, 2)
        await session.execute(update(Thing).all().values(number=9))
        await session.bulk_insert([thing(3)])
        one, there = await session.get_one(Thing, 1), await session.get_one(Thing, 3)
        assert [9, 9] == [before.number, one.number]
        await session.rollback()
        assert 0 == before.number
        with pytest.raises(NotLoadedError):
            one.number  # noqa: B018
        assert one is await session.get(Thing, 1)
        assert 0 == one.number
        assert await session.get(Thing, 3) is None
        assert there not in session


async def test_expunged_in_a_transaction(db: AsyncDB, real: bool) -> None:
    """An object that was expunged after a flush stays outside, and its twin does not show what was rolled back."""
    if not real:
        return
    await fill(db, thing())
    async with db.session() as session:
        one = await session.get_one(Thing, 1)
        one.number = 5
        await session.flush()
        session.expunge(one)
        twin = await session.get_one(Thing, 1)
        assert 5 == twin.number
        await session.rollback()
        assert one not in session
        assert twin in session
        await session.refresh(twin)
        assert 0 == twin.number
        session.expunge(twin)
        session.add(one)
        await session.commit()  # what it still has is a change of what is stored
        assert 5 == (await stored(db, "thing", 1) or {})["number"]


async def test_two_sessions(db: AsyncDB) -> None:
    """A new object, and one whose deletion may be undone, are of one session only."""
    async with db.session() as first, db.session() as second:
        new = thing()
        first.add(new)
        with pytest.raises(SessionError, match=r"Thing 1 is in another session; expunge\(\) it there"):
            second.add(new)
        with pytest.raises(SessionError, match="Thing 1 is in another session"):
            second.add_all([thing(2), new])
        assert [] == second.new
        await first.commit()
        first.delete(new)
        await first.flush()
        with pytest.raises(SessionError, match="Thing 1 is in another session"):
            second.add(new)
        await second.rollback()
        await first.commit()
        second.add(new)
        await second.commit()
        await first.rollback()
        assert new in second
        assert new not in first
        second.expunge_all()
        first.add(new)


async def test_unique_values_again(db: AsyncDB, real: bool) -> None:
    """In a transaction a unique value can be freed by a deletion or a change, and taken by a new document."""
    await db.create_all(Named)
    await fill(db, Named(id=1, name="a"), Named(id=2, name="b"))
    async with db.session() as session:
        one, two = await session.get_one(Named, 1), await session.get_one(Named, 2)
        session.delete(one)
        two.name = "a"
        session.add(Named(id=3, name="b"))
        if real:
            await session.commit()
            assert [(2, "a"), (3, "b")] == list(await session.execute(select(Named.id, Named.name).order_by(Named.id)))
        else:  # inserts go first there, so that references always lead somewhere
            with pytest.raises(DuplicateKeyError):
                await session.commit()


async def test_a_key_that_another_object_has(db: AsyncDB) -> None:
    """A new object does not take the place of one in the session, though somebody else deleted its document."""
    async with db.begin() as session:
        session.add(Thing(id=1, name="old"))
    async with db.session() as session:
        old = await session.get_one(Thing, 1)
        old.number = 5
        await db.parts.data_backend.write(Delete("thing", [{"_id": 1}]))
        new = Thing(id=1, name="new")
        session.add(new)
        with pytest.raises(DuplicateKeyError, match="Thing 1 is in the session already, as another object"):
            await session.flush()
        await session.rollback()
        session.expunge(old)
        session.add(new)
        await session.commit()
        assert new is await session.get_one(Thing, 1)
