"""Values from outside in what sessions take: keys, objects, statements."""

from __future__ import annotations

from typing import Any

import pytest
from bson import Regex

from superorm import (
    AsyncDB,
    AsyncSession,
    Document,
    Mapped,
    NoResultFound,
    Registry,
    SuperormError,
    field,
    insert,
    select,
    update,
)
from superorm.compile.plan import Find
from tests.injection.values import HOSTILE, NOT_STORED, REFUSED, Thing, same, stored

registry = Registry()
KEYS = [value for value in HOSTILE if not isinstance(stored(value), list) and value is not None]


class Named(Document, registry=registry):
    id: Mapped[str] = field(primary_key=True)
    n: Mapped[int] = field(default=0)


async def found(db: AsyncDB, key: Any = None) -> Any:
    """What is stored of a thing, by its key or the first one."""
    documents = await db.parts.data_backend.read(Find("things", {} if key is None else {"_id": key}, limit=1))
    return documents[0] if documents else None


async def test_keys_of_texts(db: AsyncDB) -> None:
    """A key finds the document with that key only; what is no text is no key."""
    texts = ["$where", "$$ROOT", "a.b", "x", ".*", "é"]
    async with AsyncSession(db) as session:
        session.add_all([Named(id=text, n=n) for n, text in enumerate(texts)])
        await session.commit()
    async with AsyncSession(db) as session:
        for n, text in enumerate(texts):
            assert n == (await session.get_one(Named, text)).n
        for value in [*HOSTILE, *REFUSED]:
            if isinstance(value, str) and stored(value) in texts:
                continue
            try:
                assert None is await session.get(Named, value)
            except (SuperormError, TypeError):
                continue


async def test_keys_of_any_type(db: AsyncDB) -> None:
    """So does one of any type: documents are found by it, or it is refused."""
    async with AsyncSession(db) as session:
        session.add_all([Thing(id=1), Thing(id="x")])
        await session.commit()
        for value in KEYS:
            if isinstance(stored(value), int) and stored(value) == 1:
                continue
            try:
                found = await session.get(Thing, value)
            except (SuperormError, TypeError):
                continue
            assert found is None or same(stored(value), found.id), ascii(value)
        for value in NOT_STORED:
            with pytest.raises((SuperormError, TypeError)):
                await session.get(Thing, value)
        assert None is await session.get(Thing, Regex(".*"))
        with pytest.raises((SuperormError, TypeError)):
            await session.get_one(Thing, {"$ne": None})
        with pytest.raises(NoResultFound):
            await session.get_one(Thing, "$where")


async def test_objects(db: AsyncDB) -> None:
    """What objects and inserts hold is stored as it is, or refused with nothing written."""
    for n, value in enumerate(HOSTILE):
        for key in (f"object {n}", f"insert {n}"):
            async with AsyncSession(db) as session:
                try:
                    if key[0] == "o":
                        session.add(Thing(id=key, value=value, values=[value]))
                    else:
                        await session.execute(insert(Thing).values(id=key, value=value, values=[value]))
                    await session.commit()
                except (SuperormError, TypeError):
                    assert None is await found(db, key)
                    await session.rollback()
                    continue
            document = await found(db, key)
            assert same(stored(value), document["value"]), ascii(value)
            assert same([stored(value)], document["values"]), ascii(value)
            async with AsyncSession(db) as session:
                read = await session.get_one(Thing, key)
                assert same(stored(value), read.value), ascii(value)


async def test_objects_that_cannot_be(db: AsyncDB) -> None:
    """What the database cannot hold is refused, and nothing is written."""
    for value in NOT_STORED:
        async with AsyncSession(db) as session:
            session.add(Thing(id="x", value=value))
            with pytest.raises((SuperormError, TypeError)):
                await session.commit()
            await session.rollback()
            with pytest.raises((SuperormError, TypeError)):
                await session.execute(insert(Thing).values(id="x", value=value))
            await session.rollback()
    assert None is await found(db)


async def test_updates(db: AsyncDB) -> None:
    """An update changes the documents that hold the value, and no others."""
    async with AsyncSession(db) as session:
        session.add_all([Thing(id=n, text=text) for n, text in enumerate(["$text", "x", "$$ROOT"])])
        await session.commit()
        for hostile in ({"$ne": None}, {"$gt": ""}, {"$exists": True}, {"$regex": "."}):
            await session.execute(update(Thing).where(Thing.text == hostile).values(n=5))  # type: ignore[arg-type]
        await session.execute(update(Thing).where(Thing.text == "$text").values(text="$n"))
        await session.commit()
    stored_things = [await found(db, n) for n in range(3)]
    assert [("$n", 0), ("x", 0), ("$$ROOT", 0)] == [(thing["text"], thing["n"]) for thing in stored_things]


@pytest.mark.parametrize("way", ["insert by key", "insert by value", "update", "update computed"])
async def test_upserts(db: AsyncDB, way: str) -> None:
    """What an upsert looks for is the value, and so is what it inserts; or it is refused with nothing written."""
    written = 0
    for n, value in enumerate(HOSTILE):
        key = f"{way} {n}"
        async with AsyncSession(db) as session:
            try:
                if way.startswith("insert"):
                    one = insert(Thing).values(id=key, value=value, text=key)
                    statement: Any = one.upsert() if way == "insert by key" else one.upsert(Thing.value)
                else:
                    where = Thing.id == key, Thing.value == value, Thing.text == key
                    change = Thing.n.inc(5) if way == "update computed" else Thing.n.to(5)
                    statement = update(Thing).where(*where).set(change).upsert()
                await session.execute(statement)
                await session.commit()
            except (SuperormError, TypeError):
                await session.rollback()
                assert None is await found(db, key), ascii(value)
                continue
        document = await found(db, key)
        if document is None:  # another one was found by its value, as `==` finds it, in a list too
            (other,) = await db.parts.data_backend.read(Find("things", {"text": key}))
            assert way == "insert by value"
            assert same(stored(value), other["value"]) or same([stored(value)], other["value"]), ascii(value)
            continue
        written += 1
        assert same(stored(value), document["value"]), ascii(value)
        if way.startswith("update"):
            assert document["n"] == 5
    assert written > 20


async def test_queries_of_like(db: AsyncDB) -> None:
    """What is no vector is refused as the query of like."""
    async with AsyncSession(db) as session:
        for value in [*HOSTILE, *REFUSED]:
            with pytest.raises((SuperormError, TypeError)):
                await session.scalars(select(Thing).like(value, on=Thing.embedding))
