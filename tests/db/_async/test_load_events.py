"""Listeners for ``load`` and ``refresh``, over every backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from superorm import (
    AsyncDB,
    AsyncSession,
    Document,
    Mapped,
    Registry,
    ValidationError,
    field,
    insert,
    joinedload,
    listens_for,
    load_only,
    relationship,
    remove_listener,
    select,
    selectinload,
    update,
)
from superorm.unitofwork.events import hears_loads
from superorm.unitofwork.writes import Update, UpdateOp

registry = Registry()


class Owner(Document, registry=registry):
    __collection__ = "owners"

    id: Mapped[int] = field(primary_key=True)
    pets: Mapped[list[Pet]] = relationship(list["Pet"], remote_key="owner_id", cascade="all")


class Pet(Document, registry=registry):
    __collection__ = "pets"

    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str] = field(default="")
    tags: Mapped[list[str]] = field(factory=list)
    owner_id: Mapped[int | None] = field(default=None)
    owner: Mapped[Owner | None] = relationship("Owner", key="owner_id")


class Dog(Pet, registry=registry):
    barks: Mapped[int] = field(default=0)


class Heard:
    """What listeners for all of the classes heard since the last look."""

    def __init__(self) -> None:
        self._heard: list[tuple[str, str, int]] = []

    def listener(self, event: str) -> Callable[[AsyncSession, Any], None]:
        def hear(session: AsyncSession, one: Any) -> None:
            assert isinstance(session, AsyncSession)
            self._heard.append((event, "Dog" if isinstance(one, Dog) else type(one).__name__, one.id))

        return hear

    def taken(self) -> list[tuple[str, str, int]]:
        heard, self._heard = self._heard, []
        return sorted(heard)


@pytest.fixture
def heard() -> Iterator[Heard]:
    """Listens to both classes until the end of the test."""
    heard = Heard()
    added: list[tuple[Any, Any, Any]] = []
    for cls in (Owner, Pet):
        for event in ("load", "refresh"):
            added.append((cls, event, heard.listener(event)))
            listens_for(cls, event)(added[-1][2])
    yield heard
    for target, event, function in added:
        remove_listener(target, event, function)


async def fill(db: AsyncDB) -> None:
    """Two owners, and three pets of the first."""
    async with db.begin() as session:
        session.add_all([Owner(id=1), Owner(id=2)])
        session.add_all([Pet(id=1, name="a", owner_id=1), Dog(id=2, name="b", owner_id=1), Pet(id=3, owner_id=1)])


async def test_load(db: AsyncDB, heard: Heard) -> None:
    """It is called once for each object that is made of a document, whichever way that is read, but for new ones."""
    await fill(db)
    assert [] == heard.taken()
    pets = [("load", "Pet", 1), ("load", "Dog", 2), ("load", "Pet", 3)]
    async with db.session() as session:
        await session.get(Pet, 1)
        assert [("load", "Pet", 1)] == heard.taken()
        await session.get(Pet, 1)
        await session.scalars(select(Pet).where(Pet.id < 2))
        assert [] == heard.taken()
        await session.scalars(select(Pet))
        assert sorted(pets[1:]) == heard.taken()
        await session.execute(select(Pet, Pet.name))
        assert [] == heard.taken()
    async with db.session() as session:
        await session.execute(select(Pet, Pet.name))
        assert sorted(pets) == heard.taken()
        await session.merge(Owner(id=2))
        assert [("load", "Owner", 2)] == heard.taken()
        new = Owner(id=3)
        session.add(new)
        await session.commit()
        assert [] == heard.taken()
    for load in (selectinload, joinedload):
        async with db.session() as session:
            owner = await session.get_one(Owner, 1, options=[load(Owner.pets)])
            assert sorted([("load", "Owner", 1), *pets]) == heard.taken()
            assert 3 == len(owner.pets)
        async with db.session() as session:
            statement = select(Pet).options(load(Pet.owner))
            assert 3 == len([pet async for pet in session.stream_scalars(statement, batch_size=10)])
            assert sorted([("load", "Owner", 1), *pets]) == heard.taken()
            assert 3 == len([row async for row in session.stream(statement)])
            assert sorted([("load", "Owner", 1), *pets]) == heard.taken()
    async with db.session() as session:
        (row,) = await session.execute(insert(Pet).values([{"id": 4}]).returning(Pet))
        assert [("load", "Pet", 4)] == heard.taken()
        session.delete(await session.get_one(Owner, 1))
        await session.commit()  # which reads what it deletes, too
        assert sorted([("load", "Owner", 1), *pets]) == heard.taken()
        assert 4 == row[0].id


async def test_refresh(db: AsyncDB, heard: Heard) -> None:
    """It is called where values are read into an object that is there already."""
    await fill(db)
    async with db.session() as session:
        pet, dog = await session.get_one(Pet, 1), await session.get_one(Dog, 2)
        heard.taken()
        await session.refresh(pet)
        assert [("refresh", "Pet", 1)] == heard.taken()
        await session.refresh(dog, ["name", "owner"])
        assert [("load", "Owner", 1), ("refresh", "Dog", 2)] == heard.taken()
        session.expire(pet)
        await session.scalars(select(Pet))
        assert [("load", "Pet", 3), ("refresh", "Pet", 1)] == heard.taken()
        session.expire(dog, ["name"])
        await session.get(Pet, 2)
        assert [("refresh", "Dog", 2)] == heard.taken()
        await session.execute(update(Pet).where(Pet.id < 3).values(name="c"))
        assert [("refresh", "Dog", 2), ("refresh", "Pet", 1)] == heard.taken()
        assert "c" == pet.name
        await session.commit()
    async with db.session() as session:
        await session.scalars(select(Pet).options(load_only(Pet.name)))
        assert [("load", "Dog", 2), ("load", "Pet", 1), ("load", "Pet", 3)] == heard.taken()
        await session.scalars(select(Pet).options(load_only(Pet.name)))
        assert [] == heard.taken()
        await session.scalars(select(Pet).options(load_only(Pet.owner_id)).where(Pet.id == 1))
        assert [("refresh", "Pet", 1)] == heard.taken()


async def spoil(db: AsyncDB) -> None:
    """Another pet of the first owner, whose name is none."""
    async with db.begin() as session:
        await session.execute(insert(Pet).values({"id": 9, "owner_id": 1}))
    backend = (await db.open()).data_backend
    await backend.write(Update("pets", [UpdateOp(q={"_id": 9}, u={"$set": {"name": 5}})]))


async def test_failed_queries(db: AsyncDB, heard: Heard) -> None:
    """They are not heard of; an object that one left in the session is, once, when it is given to the caller."""
    await fill(db)
    await spoil(db)
    bad = select(Owner).options(selectinload(Owner.pets))
    async with db.session() as session:
        with pytest.raises(ValidationError, match="name"):
            [owner async for owner in session.stream_scalars(bad)]
        await session.count(select(Owner))
        await session.get(Pet, 1)
        assert [("load", "Pet", 1)] == heard.taken()
        with pytest.raises(ValidationError, match="name"):
            await session.scalars(bad)
        assert [] == heard.taken()
        await session.scalars(select(Pet).where(Pet.id == 2))
        assert [("load", "Dog", 2)] == heard.taken()
        for expected in ([("load", "Owner", 2)], []):
            await session.scalars(select(Owner).where(Owner.id == 2))
            assert expected == heard.taken()
        for expected in ([("load", "Owner", 1)], []):
            await session.get(Owner, 1)
            assert expected == heard.taken()
        await session.close()
        with pytest.raises(ValidationError):
            await session.scalars(bad)
        for expected in ([("load", "Owner", 1), ("load", "Pet", 1)], []):
            await session.scalars(select(Pet).where(Pet.id == 1).options(selectinload(Pet.owner)))
            assert expected == heard.taken()
        await session.close()  # with another owner not heard of
        await session.get(Owner, 2)
        assert [("load", "Owner", 2)] == heard.taken()


async def test_failed_queries_of_partial_objects(db: AsyncDB, heard: Heard) -> None:
    """What such a query read into an object is heard of later, too."""
    await fill(db)
    await spoil(db)
    async with db.session() as session:
        (one,) = await session.scalars(select(Pet).where(Pet.id == 1).options(load_only(Pet.name)))
        assert [("load", "Pet", 1)] == heard.taken()
        statement = select(Pet, Owner).join(Owner, Owner.id == Pet.owner_id).where(Pet.id == 1)
        with pytest.raises(ValidationError, match="name"):
            await session.execute(statement.options(selectinload(Owner.pets)))
        assert 1 == one.owner_id
        assert [] == heard.taken()
        await session.scalars(select(Pet).where(Pet.id == 1))
        assert [("refresh", "Pet", 1)] == heard.taken()


async def test_listeners_use_what_they_get(db: AsyncDB) -> None:
    """They see objects whole, with their relationships, may query, and what they change is flushed."""
    await fill(db)
    shown: list[tuple[int, list[int]]] = []

    async def load(session: AsyncSession, owner: Owner) -> None:
        shown.append((owner.id, sorted(pet.id for pet in owner.pets)))
        for pet in await session.scalars(select(Pet).where(Pet.owner_id == owner.id)):
            pet.tags.append("seen")

    listens_for(Owner, "load")(load)
    try:
        async with db.session() as session:
            await session.scalars(select(Owner).options(selectinload(Owner.pets)).order_by(Owner.id))
            assert [(1, [1, 2, 3]), (2, [])] == shown
            await session.commit()
    finally:
        remove_listener(Owner, "load", load)
    async with db.session() as session:
        assert [["seen"]] * 3 == (await session.scalars(select(Pet.tags))).all()


async def test_errors_of_listeners(db: AsyncDB) -> None:
    """They reach the caller; what was loaded stays in the session, which goes on."""
    await fill(db)

    def load(session: AsyncSession, pet: Pet) -> None:
        raise ZeroDivisionError

    listens_for(Pet, "load")(load)
    try:
        async with db.session() as session:
            with pytest.raises(ZeroDivisionError):
                await session.scalars(select(Pet))
            pet = await session.get_one(Pet, 1)
            pet.name = "z"
            await session.commit()
    finally:
        remove_listener(Pet, "load", load)
    async with db.session() as session:
        assert "z" == await session.scalar(select(Pet.name).where(Pet.id == 1))


async def test_what_an_error_of_a_listener_left_unheard(db: AsyncDB) -> None:
    """The other objects are heard of once a query gives them; that of the error is not heard of twice."""
    await fill(db)
    heard: list[int] = []

    def load(session: AsyncSession, pet: Pet) -> None:
        heard.append(pet.id)
        if pet.id == 2:
            raise ZeroDivisionError

    listens_for(Pet, "load")(load)
    try:
        async with db.session() as session:
            with pytest.raises(ZeroDivisionError):
                await session.scalars(select(Pet).order_by(Pet.id))
            assert [1, 2] == heard
            await session.scalars(select(Pet).order_by(Pet.id))
            assert [1, 2, 3] == heard
    finally:
        remove_listener(Pet, "load", load)


def test_only_classes_that_are_listened_to(heard: Heard) -> None:
    """What is loaded of others is not looked at; so is nothing once no listener is left."""
    assert [True, True, True] == [hears_loads(cls) for cls in (Owner, Pet, Dog)]

    class Other(Document, registry=registry):
        id: Mapped[int] = field(primary_key=True)

    assert not hears_loads(Other)

    def listen(session: AsyncSession, dog: Dog) -> None:
        pass

    listens_for(Other, "before_insert")(listen)
    assert not hears_loads(Other)
    listens_for(Other, "refresh")(listen)
    assert hears_loads(Other)
    remove_listener(Other, "refresh", listen)
    assert not hears_loads(Other)
    remove_listener(Other, "before_insert", listen)
