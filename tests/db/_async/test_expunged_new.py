"""Objects that are expunged before they were ever written, over every backend."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from superorm import (
    AsyncDB,
    AsyncSession,
    Document,
    Mapped,
    NotLoadedError,
    Registry,
    ValidationError,
    field,
    insert,
    relationship,
    select,
    selectinload,
)

registry = Registry()


class Ship(Document, registry=registry):
    __collection__ = "unwritten_ships"
    id: Mapped[int] = field(primary_key=True)
    masts: Mapped[list[Mast]] = relationship(list["Mast"], remote_key="ship_id", cascade="all")


class Mast(Document, registry=registry):
    __collection__ = "unwritten_masts"
    id: Mapped[int] = field(primary_key=True)
    height: Mapped[int] = field(default=1)
    ship_id: Mapped[int | None] = field(default=None)
    ship: Mapped[Ship | None] = relationship(Ship, key="ship_id")
    sails: Mapped[list[Sail]] = relationship(list["Sail"], remote_key="mast_id")


class Sail(Document, registry=registry):
    __collection__ = "unwritten_sails"
    id: Mapped[int] = field(primary_key=True)
    mast_id: Mapped[int | None] = field(default=None)
    mast: Mapped[Mast | None] = relationship(Mast, key="mast_id")


class Port(Document, registry=registry):
    __collection__ = "unwritten_ports"
    id: Mapped[int] = field(primary_key=True)


async def fill(db: AsyncDB) -> None:
    """Ship 1 with mast 1, ship 2 without."""
    async with db.begin() as session:
        session.add_all([Ship(id=1, masts=[Mast(id=1)]), Ship(id=2)])


async def ship_of(session: AsyncSession, key: int) -> Ship:
    return await session.get_one(Ship, key, options=[selectinload(Ship.masts)])


async def stored(db: AsyncDB) -> dict[int, int | None]:
    """The ships of the masts, as they are in the database."""
    async with db.session() as session:
        return {row[0]: row[1] for row in await session.execute(select(Mast.id, Mast.ship_id))}


async def look(session: AsyncSession, new: Any) -> None:
    """Let the session set keys and lists without writing the new object.

    Without transactions a statement that inserts does; else a flush that is refused before it writes.
    """
    if not session.db.capabilities.transactions:
        await session.execute(insert(Port).values(id=new.id))
        return
    bad: Any = Mast(id=99, height="high")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    session.add(bad)
    with pytest.raises(ValidationError, match="height"):
        await session.flush()
    session.expunge(bad)


async def looked(session: AsyncSession) -> None:
    """After that, where it has to be."""
    if session.db.capabilities.transactions:
        await session.rollback()


async def test_added_elsewhere(db: AsyncDB) -> None:
    """It and its children by cascade are outside as they were given, and another session stores them so."""
    await fill(db)
    async with db.session() as session, db.session() as other:
        ship = Ship(id=3, masts=[Mast(id=3), Mast(id=4)])
        session.add(ship)
        await look(session, ship)
        session.expunge(ship)
        assert [] == session.new
        assert [None, None] == [mast.ship_id for mast in ship.masts]
        await looked(session)
        ship.id = 5
        other.add(ship)
        await other.commit()
        assert [5, 5] == [mast.ship_id for mast in ship.masts]
        await session.commit()
    assert {1: 1, 3: 5, 4: 5} == await stored(db)


async def test_a_child_given_elsewhere(db: AsyncDB) -> None:
    """The key that its list would have given it is taken back, so that another list of another session may give one."""
    await fill(db)
    async with db.session() as session, db.session() as other:
        ship, mast = await ship_of(session, 1), Mast(id=3)
        ship.masts.append(mast)
        await look(session, mast)
        session.expunge(mast)
        assert mast.ship_id is None
        assert mast in ship.masts
        await looked(session)
        if mast in ship.masts:
            ship.masts.remove(mast)
        (await ship_of(other, 2)).masts.append(mast)
        await other.commit()
        await session.commit()
        assert 2 == mast.ship_id
        assert [1] == [one.id for one in ship.masts]
    assert {1: 1, 3: 2} == await stored(db)


async def test_a_list_that_showed_it_by_its_key(db: AsyncDB) -> None:
    """Such a list does so no longer; the key is the user's and stays."""
    await fill(db)
    async with db.session() as session:
        ship, mast = await ship_of(session, 1), Mast(id=3, ship_id=1)
        session.add(mast)
        await look(session, mast)
        session.expunge(mast)
        assert [1] == [one.id for one in ship.masts]
        assert 1 == mast.ship_id
        await looked(session)
        await session.commit()
        assert {1: 1} == await stored(db)
        session.add(mast)
        await session.commit()
        assert [1, 3] == [one.id for one in ship.masts]
    assert {1: 1, 3: 1} == await stored(db)


async def test_a_parent(db: AsyncDB) -> None:
    """What refers to it has its key no longer; what shows it when that is flushed brings it back."""
    await fill(db)
    async with db.session() as session:
        mast, kept = Mast(id=3, sails=[Sail(id=1), Sail(id=2)]), Sail(id=3)
        kept.mast = mast
        session.add_all([mast, kept])
        await look(session, mast)
        session.expunge(mast)
        assert [None] * 3 == [one.mast_id for one in (*mast.sails[:2], kept)]
        assert kept.mast is mast
        await looked(session)
        session.add(kept)
        await session.commit()
        assert mast in session
        assert {3} == {one.mast_id for one in (*mast.sails, kept)}
    assert {1: 1, 3: None} == await stored(db)


@pytest.mark.parametrize("how", ["expunge_all", "delete"])
async def test_other_ways_out(db: AsyncDB, how: str) -> None:
    """`expunge_all`, and `delete` of what is new, let go of it just so."""
    await fill(db)
    async with db.session() as session, db.session() as other:
        ship, mast = await ship_of(session, 1), Mast(id=3)
        mast.ship = ship
        session.add(mast)
        await look(session, mast)
        if how == "delete":
            session.delete(mast)
        else:
            session.expunge_all()
        assert mast.ship_id is None
        await looked(session)
        mast.ship = await other.get_one(Ship, 2)
        other.add(mast)
        await other.commit()
    assert {1: 1, 3: 2} == await stored(db)


async def test_nothing_is_kept(db: AsyncDB) -> None:
    """The session holds neither the object nor what it was, written before or not."""
    await fill(db)
    async with db.session() as session:
        new = Mast(id=3)
        old = await session.get_one(Mast, 1)
        session.add(Port(id=1))
        await session.flush()
        session.add(new)
        refs = [weakref.ref(new), weakref.ref(old)]
        session.expunge(new)
        session.expunge(old)
        del new, old
        gc.collect()
        assert [None, None] == [ref() for ref in refs]


@pytest.mark.parametrize("written", [False, True])
async def test_what_is_loaded_again(db: AsyncDB, real: bool, written: bool) -> None:
    """After a rollback it is expired only where the expunged object had been written."""
    await fill(db)
    if not real:  # what was flushed stays written there
        return
    async with db.session() as session:
        old = await session.get_one(Mast, 1)
        if written:
            old.height = 5
        session.add(Port(id=2))
        await session.flush()
        session.expunge(old)
        again = await session.get_one(Mast, 1)
        assert again is not old
        assert (5 if written else 1) == again.height
        await session.rollback()
        if written:
            with pytest.raises(NotLoadedError):
                _ = again.height
        else:
            assert 1 == again.height
