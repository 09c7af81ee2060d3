"""Random changes of relationships against a plain dict."""

from __future__ import annotations

import pickle
from random import Random

import pytest

from superorm import (
    AsyncDB,
    AsyncSession,
    Document,
    Mapped,
    NotLoadedError,
    Registry,
    field,
    joinedload,
    relationship,
    select,
    selectinload,
)

registry = Registry()


class Owner(Document, registry=registry):
    __collection__ = "random_owners"
    id: Mapped[int] = field(primary_key=True)
    things: Mapped[list[Thing]] = relationship(list["Thing"], remote_key="owner_id")


class Thing(Document, registry=registry):
    __collection__ = "random_things"
    id: Mapped[int] = field(primary_key=True)
    owner_id: Mapped[int | None] = field(default=None)
    owner: Mapped[Owner | None] = relationship(Owner, key="owner_id")


class World:
    """A session with everything loaded, and what the database should hold: the owner of each thing."""

    def __init__(self, session: AsyncSession, random: Random) -> None:
        self.session = session
        self.random = random
        self.owners: dict[int, Owner] = {}
        self.things: dict[int, Thing] = {}
        self.model: dict[int, int | None] = {}
        self.next = 0
        self.touched: set[int] = set()

    async def load(self) -> None:
        """Load what is not loaded."""
        option = self.random.choice([selectinload, joinedload])
        both = option(Owner.things).selectinload(Thing.owner)
        owners = await self.session.scalars(select(Owner).options(both))
        self.owners = {owner.id: owner for owner in owners}
        things = await self.session.scalars(select(Thing).options(option(Thing.owner)))
        self.things = {thing.id: thing for thing in things}
        self.touched.clear()

    def change(self) -> None:
        """Change something that was not changed since the last flush."""
        owner = self.random.choice([*self.owners.values()]) if self.owners else None
        kind = self.random.randrange(7)
        if kind == 0:
            self.next += 1
            self.owners[self.next] = Owner(id=self.next)
            self.session.add(self.owners[self.next])
            return
        if kind == 1:
            self.next += 1
            thing = Thing(id=self.next)
            self.things[self.next] = thing
            self.model[self.next] = None
            self.session.add(thing)
            if owner is None:
                return
            self.model[self.next] = owner.id
            if self.random.random() < 0.5:
                thing.owner = owner
            else:
                owner.things.append(thing)
            self.touched.add(thing.id)
            return
        free = [thing for key, thing in self.things.items() if key not in self.touched]
        if not free or owner is None:
            return
        thing = self.random.choice(free)
        self.touched.add(thing.id)
        before = self.model[thing.id]
        if kind == 2:
            thing.owner = owner
            self.model[thing.id] = owner.id
        elif kind == 3:
            thing.owner_id = owner.id
            self.model[thing.id] = owner.id
        elif kind == 4 and all(one is not thing for one in owner.things):
            owner.things.append(thing)
            self.model[thing.id] = owner.id
            if before is not None and self.random.random() < 0.5:
                self.owners[before].things.remove(thing)
        elif kind == 5 and before is not None:
            self.owners[before].things.remove(thing)
            self.model[thing.id] = None
        elif kind == 6 and self.random.random() < 0.5:
            self.session.delete(thing)
            del self.things[thing.id], self.model[thing.id]

    def delete_owner(self) -> None:
        """Delete an owner, which lets go of its things; once the last flush has settled all."""
        if self.owners:
            key, owner = self.random.choice([*self.owners.items()])
            self.session.delete(owner)
            del self.owners[key]
            self.model = {thing: None if was == key else was for thing, was in self.model.items()}

    async def reload(self) -> None:
        """Read, forget or take in something again, once the last flush has settled all."""
        if not self.owners:
            return
        session, random = self.session, self.random
        key, owner = random.choice([*self.owners.items()])
        kind = random.randrange(6)
        if kind == 0:
            await self.merge(key)
        elif kind == 1 and owner.things:
            session.expunge(random.choice(owner.things))
            session.expire(owner, ["things"])
            await self.load()
        elif kind == 2:
            session.expunge_all()
            await self.load()
        elif kind == 3:
            await session.refresh(owner, ["things"])
        elif kind == 4:
            session.expire(owner)
            await self.load()
        elif kind == 5 and self.things:
            thing = random.choice([*self.things.values()])
            await session.refresh(thing)
            if random.random() < 0.5:
                await session.refresh(thing, ["owner"])
        assert [] == session.dirty or kind == 0

    async def merge(self, key: int) -> None:
        """Merge an owner of another session with its things, one of them taken away, one new, or a whole new list."""
        async with self.session.db.session() as other:
            both = selectinload(Owner.things).selectinload(Thing.owner)
            given = await other.get_one(Owner, key, options=[both])
        if self.random.random() < 0.5:
            given = pickle.loads(pickle.dumps(given))
        for thing in self.random.sample(given.things, len(given.things) // 2):
            self.model[thing.id] = None
            self.touched.add(thing.id)
            if self.random.random() < 0.5:
                thing.owner = None
            else:
                given.things.remove(thing)
        if self.random.random() < 0.5:
            self.next += 1
            self.model[self.next] = key
            self.touched.add(self.next)
            given.things.append(Thing(id=self.next))
        merged = await self.session.merge(given)
        assert merged is self.owners[key]
        self.things.update({thing.id: thing for thing in merged.things})

    def check(self) -> None:
        """Keys, lists and references are those of the model, as far as they are loaded."""
        assert self.model == {key: thing.owner_id for key, thing in self.things.items()}
        for key, owner in self.owners.items():
            assert {one for one, was in self.model.items() if was == key} == {thing.id for thing in owner.things}
            assert len(owner.things) == len({id(thing) for thing in owner.things})
        for key, thing in self.things.items():
            try:
                shown = thing.owner
            except NotLoadedError:
                continue
            assert shown is (None if self.model[key] is None else self.owners[self.model[key] or 0])


@pytest.mark.parametrize("seed", range(12))
async def test_random_changes(db: AsyncDB, seed: int) -> None:
    """The database and the objects agree with the model after each flush, commit and rollback."""
    random = Random(seed)
    async with db.session() as session:
        world = World(session, random)
        committed: dict[int, int | None] = {}
        for _ in range(12):
            await world.load()
            if world.random.random() < 0.5:
                await world.reload()
            elif world.random.random() < 0.3:
                world.delete_owner()
                await session.commit()
                committed = dict(world.model)
                world.check()
            for _ in range(random.randrange(12)):
                world.change()
            if random.random() < 0.3 and db.capabilities.transactions:
                await session.flush()
                world.check()
            if random.random() < 0.3:
                await session.rollback()
                world.model = dict(committed)
                async with db.session() as other:
                    there = {owner.id for owner in await other.scalars(select(Owner))}
                world.owners = {key: owner for key, owner in world.owners.items() if key in there}
                await world.load()
                world.check()
                continue
            await session.commit()
            world.check()
            committed = dict(world.model)
            async with db.session() as other:
                rows = await other.execute(select(Thing.id, Thing.owner_id))
                assert committed == {row[0]: row[1] for row in rows}
