"""Random work of a session: what its objects show after each commit and rollback is what the database holds."""

from __future__ import annotations

import pickle
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, TypeAlias

import pytest

from superorm import (
    AsyncDB,
    AsyncSession,
    Document,
    Mapped,
    NotLoadedError,
    Registry,
    SuperormError,
    field,
    joinedload,
    load_only,
    relationship,
    select,
    selectinload,
    update,
)
from superorm.compile.plan import Find

registry = Registry()


class Owner(Document, registry=registry):
    __collection__ = "agreeing_owners"
    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str] = field(default="")
    tags: Mapped[list[str]] = field(factory=list)
    pets: Mapped[list[Pet]] = relationship(list["Pet"], remote_key="owner_id")
    toys: Mapped[list[Toy]] = relationship(list["Toy"], remote_key="owner_id", cascade="all, delete-orphan")


class Pet(Document, registry=registry):
    __collection__ = "agreeing_pets"
    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str] = field(default="")
    marks: Mapped[dict[str, int]] = field(factory=dict)
    owner_id: Mapped[int | None] = field(default=None)
    version: Mapped[int] = field(version=True)
    owner: Mapped[Owner | None] = relationship(Owner, key="owner_id")


class Toy(Document, registry=registry):
    __collection__ = "agreeing_toys"
    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str] = field(default="")
    owner_id: Mapped[int | None] = field(default=None)
    owner: Mapped[Owner | None] = relationship(Owner, key="owner_id")


Thing: TypeAlias = Owner | Pet | Toy
Child: TypeAlias = Pet | Toy

FIELDS: dict[type[Thing], list[str]] = {
    Owner: ["id", "name", "tags"],
    Pet: ["id", "name", "marks", "owner_id", "version"],
    Toy: ["id", "name", "owner_id"],
}
LISTS: dict[str, type[Child]] = {"pets": Pet, "toys": Toy}


def kind_of(one: Thing) -> type[Thing]:
    """The class of an object, which may be a partial one."""
    return next(kind for kind in FIELDS if isinstance(one, kind))


class World:
    """A session, the objects that were seen in it, and things to do to them."""

    def __init__(self, session: AsyncSession, random: Random) -> None:
        self.session = session
        self.random = random
        self.seen: dict[int, Thing] = {}
        self.outside: dict[int, Thing] = {}
        """Objects that were never committed, with their keys as they were made, that a rollback put outside."""
        self.with_key: set[int] = set()
        """The children whose keys were set by hand."""
        self.stored: set[int] = set()
        """The keys of the stored owners."""
        self.inserted: set[int] = set()
        """The keys that bulk inserts gave."""
        self.next = 0

    def pick(self, *kinds: type[Thing]) -> Any:
        """An object of the session, or None."""
        found = [one for one in self.seen.values() if isinstance(one, kinds) and one in self.session]
        return self.random.choice(found) if found else None

    def make(self, kind: type[Thing]) -> Any:
        self.next += 1
        one = kind(id=self.next)
        self.seen[id(one)] = one
        return one

    async def step(self) -> None:
        """Do one of the things."""
        work: list[Callable[[], Awaitable[None]]] = [
            self.add,
            self.change,
            self.set_reference,
            self.set_reference,
            self.set_key,
            self.change_list,
            self.change_list,
            self.delete,
            self.load,
            self.load,
            self.forget,
            self.merge,
            self.merge_of_another,
            self.write_by_statement,
            self.bulk,
            self.add_again,
            self.session.flush,
        ]
        await self.random.choice(work)()

    async def add(self) -> None:
        self.session.add(self.make(self.random.choice([*FIELDS])))

    async def change(self) -> None:
        one = self.pick(Owner, Pet, Toy)
        if one is None:
            return
        one.name = f"n{self.random.randrange(9)}"
        if isinstance(one, Owner) and "tags" in vars(one):
            one.tags.append("t")
        elif isinstance(one, Pet) and "marks" in vars(one):
            one.marks["m"] = self.random.randrange(9)

    async def set_reference(self) -> None:
        child = self.pick(Pet, Toy)
        if child is not None:
            child.owner = self.pick(Owner) if self.random.random() < 0.8 else None

    async def set_key(self) -> None:
        child = self.pick(Pet, Toy)
        if child is not None and self.stored:
            child.owner_id = self.random.choice([*sorted(self.stored), None])
            self.with_key.add(id(child))

    async def change_list(self) -> None:
        owner, (name, kind) = self.pick(Owner), self.random.choice([*LISTS.items()])
        if owner is None or name not in vars(owner):
            return
        children: list[Any] = getattr(owner, name)
        choice = self.random.random()
        if choice < 0.4:
            child = self.pick(kind)
            if child is not None and all(one is not child for one in children):
                children.append(child)
        elif choice < 0.5:
            children.append(self.make(kind))
        elif children:
            child = children.pop(self.random.randrange(len(children)))
            if choice > 0.9:
                child.owner = owner

    async def delete(self) -> None:
        one = self.pick(Owner, Pet, Toy)
        if one is not None and self.random.random() < 0.5:
            self.session.delete(one)

    async def load(self) -> None:
        statements: list[Any] = [
            select(Owner).options(selectinload(Owner.pets), selectinload(Owner.toys).selectinload(Toy.owner)),
            select(Owner).options(joinedload(Owner.pets)),
            select(Pet).options(selectinload(Pet.owner)),
            select(Pet).options(load_only(Pet.name)),
            select(Toy).options(selectinload(Toy.owner).selectinload(Owner.toys)),
            select(Owner),
        ]
        for one in await self.session.scalars(self.random.choice(statements)):
            self.seen[id(one)] = one

    async def forget(self) -> None:
        """Expire or refresh something."""
        one, session = self.pick(Owner, Pet, Toy), self.session
        if one is None or any(one is new for new in session.new):
            return
        among = ["pets", "toys", "name", "tags"] if isinstance(one, Owner) else ["owner", "owner_id", "name"]
        attributes = [self.random.choice(among)] if self.random.random() < 0.5 else None
        if self.random.random() < 0.5:
            session.expire(one, attributes)
        else:
            await session.refresh(one, attributes)

    async def merge(self) -> None:
        """Merge a copy of an object of the session, with what it shows."""
        one = self.pick(Owner, Pet, Toy)
        if one is None:
            return
        given = pickle.loads(pickle.dumps(one))
        given.name = "merged"
        merged = await self.session.merge(given)
        self.seen[id(merged)] = merged

    async def merge_of_another(self) -> None:
        """Merge what another session loaded."""
        kind: Any = self.random.choice([Pet, Toy])
        async with self.session.db.session() as other:
            found = (await other.scalars(select(kind).options(selectinload(kind.owner)))).all()
        if found:
            merged = await self.session.merge(self.random.choice(found))
            self.seen[id(merged)] = merged

    async def write_by_statement(self) -> None:
        if self.random.random() < 0.3:
            kind: Any = self.random.choice([Owner, Pet, Toy])
            await self.session.execute(update(kind).where(kind.name < "n5").values(name="by statement"))

    async def bulk(self) -> None:
        if self.random.random() < 0.3:
            self.next += 3
            self.inserted |= {self.next - 2, self.next - 1, self.next}
            owner = Owner(id=self.next, pets=[Pet(id=self.next - 1)])
            await self.session.bulk_insert([owner, Toy(id=self.next - 2, owner=owner)])

    async def add_again(self) -> None:
        """Add what a rollback put outside, with another owner; its key is as before."""
        if not self.outside:
            return
        one = self.outside.pop(self.random.choice([*self.outside]))
        self.session.add(one)
        self.seen[id(one)] = one
        if not isinstance(one, Owner):
            assert one.owner_id is None
            one.owner = self.pick(Owner)

    async def rollback(self) -> None:
        """Roll back; what was new before is outside then."""
        before = [one for one in self.seen.values() if one in self.session]
        await self.session.rollback()
        stored = {(kind_of(one), one.id) for one in await self.documents_as_objects()}
        left = [one for one in before if one not in self.session and (kind_of(one), one.id) not in stored]
        left = [one for one in left if one.id not in self.inserted]
        self.outside |= {id(one): one for one in left if id(one) not in self.with_key}
        self.seen = {name: one for name, one in self.seen.items() if one in self.session}

    async def documents_as_objects(self) -> list[Thing]:
        async with self.session.db.session() as other:
            return [one for kind in FIELDS for one in await other.scalars(select(kind))]

    async def check(self) -> None:
        """All that objects of the session show is as the database has it."""
        backend = self.session.db.parts.data_backend
        there = {
            kind: {one["_id"]: one for one in await backend.read(Find(f"agreeing_{kind.__name__.lower()}s"))}
            for kind in FIELDS
        }
        self.stored = {*there[Owner]}
        self.seen = {name: one for name, one in self.seen.items() if one in self.session}
        assert [] == [*self.session.new, *self.session.deleted]
        for one in self.seen.values():
            if one.id not in there[kind_of(one)]:  # one that expired, as it was in a transaction that was rolled back
                assert not {"name", "pets", "toys", "owner"} & vars(one).keys()
                self.session.expunge(one)
                continue
            document = there[kind_of(one)][one.id]
            assert not self.session.is_modified(one)
            for name in FIELDS[kind_of(one)]:
                if name in vars(one) and (name != "version" or "name" in vars(one)):
                    assert document["_id" if name == "id" else name] == getattr(one, name), (one, name)
            if not isinstance(one, Owner):
                self.check_reference(one, document["owner_id"], there[Owner])
                continue
            for name, kind in LISTS.items():
                if name in vars(one):
                    expected = {key for key, child in there[kind].items() if child["owner_id"] == one.id}
                    shown = [child.id for child in getattr(one, name)]
                    assert sorted(expected) == sorted(shown), (one, name)

    def check_reference(self, one: Child, key: int | None, owners: dict[int, Any]) -> None:
        try:
            shown = one.owner
        except NotLoadedError:
            return
        assert (key if key in owners else None) == (None if shown is None else shown.id), one


async def work(db: AsyncDB, seed: int, steps: int) -> None:
    """Steps of random work; what fails is rolled back."""
    random = Random(seed)
    async with db.session() as session:
        world = World(session, random)
        for _ in range(steps):
            choice = random.random()
            try:
                if choice < 0.12:
                    await session.commit()
                    await world.check()
                elif choice < 0.2 and db.capabilities.transactions:
                    await world.rollback()
                    await world.check()
                else:
                    await world.step()
            except SuperormError:
                await world.rollback()
                if not db.capabilities.transactions:  # some of it may be stored
                    session.expunge_all()
                    world.outside.clear()
                await world.check()


@pytest.mark.parametrize("seed", range(4))
async def test_agreement(db: AsyncDB, seed: int) -> None:
    """Fields, keys, lists and references agree with the database after each commit and rollback."""
    await work(db, seed, 100)
