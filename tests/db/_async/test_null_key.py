"""The document whose key is null, declared or written by other programs, is one like any other."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from superorm import (
    AsyncDB,
    Document,
    DuplicateKeyError,
    Listener,
    Mapped,
    MappingError,
    Model,
    Registry,
    ValidationError,
    artifact,
    delete,
    field,
    func,
    insert,
    relationship,
    select,
    update,
    vector,
)
from superorm.compile.plan import Find
from superorm.unitofwork.writes import Insert

COLLECTION = "spots_of_any_key"


class Spot(Document):
    __collection__ = COLLECTION

    key: Mapped[Any] = field(primary_key=True)
    vec: Mapped[np.ndarray | None] = vector(2, metric="euclidean")


async def near(db: AsyncDB, query: Any) -> list[Any]:
    """The keys found, the nearest first."""
    async with db.session() as session:
        return [spot.key for spot in await session.scalars(select(Spot).like(query, k=5))]


async def test_the_document_of_key_null_is_left_out_and_leaves_the_index(db: AsyncDB) -> None:
    """It is not near itself, and when it is deleted its vector goes from the engine."""
    async with db.begin() as session:
        session.add_all([Spot(key=n, vec=np.array([n, 0], np.float32)) for n in (1, 2)])
    backend = db.parts.data_backend
    (one,) = await backend.read(Find(COLLECTION, {"_id": 1}))
    await backend.write(Insert(COLLECTION, [{**one, "_id": None}]))  # the vector of 1, by another program
    await db.rebuild(Spot.vec)
    async with db.session() as session:
        null = await session.get_one(Spot, None)
        assert [1, 2] == await near(db, null)
        assert {None, 1} == set((await near(db, [1.0, 0.0]))[:2])
        session.delete(null)
        await session.commit()
    assert [] == await backend.read(Find(COLLECTION, {"_id": None}))
    assert [1, 2] == await near(db, [1.0, 0.0])
    assert (await db.check()).ok


class Card(Document):
    """One of whose keys may be null."""

    __collection__ = "cards_null_key"

    key: Mapped[str | None] = field(primary_key=True)
    text: Mapped[str] = field(default="")
    year: Mapped[int] = field(default=0)
    vec: Mapped[np.ndarray | None] = vector(2, source="text", model="letters-of-cards", metric="euclidean")
    scan: Mapped[bytes | None] = artifact(default=None)


def letters(text: str) -> np.ndarray:
    """The model: how many of two letters there are."""
    return np.array([text.count("a"), text.count("b")], np.float32)


async def documents(db: AsyncDB) -> dict[Any, dict[str, Any]]:
    """The documents as they are stored."""
    return {one["_id"]: one for one in await db.parts.data_backend.read(Find("cards_null_key"))}


async def agree(db: AsyncDB) -> None:
    """Searches and outputs are those of the stored documents, and nothing is wrong with the database."""
    there = await documents(db)
    assert {key: len(one["text"]) for key, one in there.items()} == {
        key: output async for key, output in (await db.outputs("lengths-of-cards")).items()
    }
    for query in ([0.0, 0.0], [3.0, 0.0], [0.0, 3.0]):
        distances = {key: float(np.sum((letters(one["text"]) - query) ** 2)) for key, one in there.items()}
        async with db.session() as session:
            found = [card.key for card in await session.scalars(select(Card).like(query, k=5))]
        assert sorted(distances.values()) == [distances[key] for key in found]
        assert set(there) == set(found)
    assert (await db.check()).ok


async def test_the_life_of_a_document_of_key_null(db: AsyncDB) -> None:
    """With a computed vector, an artifact, and a listener's output."""
    await db.add(Model("letters-of-cards", letters))
    await db.create_all(Card)
    async with db.begin() as session:
        session.add_all([Card(key=None, text="aaa", scan=b"null"), Card(key="b", text="bbb", scan=b"b")])
    await db.add(Listener("lengths-of-cards", model=Model("len-of-cards", len), select=select(Card), key=Card.text))
    await agree(db)
    async with db.session() as session:
        card = await session.get_one(Card, None)
        assert card is (await session.scalars(select(Card).where(Card.key.is_(None)))).one()
        assert card is (await session.scalars(select(Card).where(Card.key.in_([None])))).one()
        await session.load(card, Card.scan)
        assert b"null" == card.scan
        assert ["b"] == [one.key for one in await session.scalars(select(Card).like(card, k=5))]
        card.text, card.scan = "ab", b"changed"
        await session.commit()
        await session.refresh(card)
        assert "ab" == card.text
        session.expire(card)
        assert card is (await session.scalars(select(Card).where(Card.text == "ab"))).one()
        merged = await session.merge(Card(key=None, text="aab", year=3))
        assert merged is card
        await session.commit()
    await agree(db)
    assert ("aab", 3) == ((await documents(db))[None]["text"], (await documents(db))[None]["year"])
    async with db.session() as session:
        await session.execute(update(Card).where(Card.key.is_(None)).values(text="bb"))
        await session.execute(update(Card).all().values(year=Card.year + 1))
        await session.commit()
    await agree(db)
    assert {None: 4, "b": 1} == {key: one["year"] for key, one in (await documents(db)).items()}
    async with db.session() as session:
        session.add(Card(key=None, text="again"))
        with pytest.raises(DuplicateKeyError) as raised:
            await session.commit()
        assert "key" == raised.value.field
        await session.rollback()
        await session.execute(insert(Card).values([Card(key=None, text="aaaa")]).upsert())
        await session.commit()
    await agree(db)
    assert "aaaa" == (await documents(db))[None]["text"]
    await db.rebuild(Card.vec)
    await agree(db)
    async with db.session() as session:
        session.delete(await session.get_one(Card, None))
        await session.flush()
        assert await session.get(Card, None) is None
        await session.rollback()
        assert (await session.get_one(Card, None)).text == "aaaa"
        await session.execute(delete(Card).where(Card.key.is_(None)))
        await session.commit()
    assert {"b"} == set(await documents(db))
    await db.gc(timedelta(0))
    await agree(db)
    async with db.session() as session:
        assert await session.get(Card, None) is None
        with pytest.raises(ValidationError, match="two new objects have this key"):
            await session.bulk_insert([Card(key=None), Card(key=None)])
        await session.rollback()
        await session.bulk_insert([Card(key=None, text="a"), Card(key="c", text="")])
        await session.commit()
        keys = [one.key async for one in session.stream_scalars(select(Card).order_by(Card.key))]
        assert [None, "b", "c"] == keys
        counted = await session.execute(select(Card.key, func.count()).group_by(Card.key))
        assert {(None, 1), ("b", 1), ("c", 1)} == set(map(tuple, counted))
    await agree(db)


def test_references_to_what_may_be_null() -> None:
    """None in a reference means that there is no document, so that no relationship leads to such a class."""

    class Deck(Document, registry=Registry()):
        __collection__ = "decks_null_key"

        id: Mapped[int] = field(primary_key=True)
        card_key: Mapped[str | None] = field(default=None)
        card: Mapped[Card | None] = relationship(Card, key="card_key")

    with pytest.raises(MappingError, match=r"Deck\.card: Card\.key may be None, which means in Deck\.card_key"):
        select(Deck).join(Deck.card)


def test_null_by_default() -> None:
    """Only one document could be made without a key."""
    with pytest.raises(MappingError, match=r"Sole\.id: None cannot be the default of a primary key"):

        class Sole(Document, registry=Registry()):
            __collection__ = "sole_null_key"

            id: Mapped[int | None] = field(primary_key=True, default=None)


async def test_null_is_declared(db: AsyncDB) -> None:
    """A key that is anything is not null by oversight."""
    async with db.session() as session:
        session.add(Spot(key=None))
        with pytest.raises(ValidationError, match="a document needs a key; its key is None"):
            await session.commit()
