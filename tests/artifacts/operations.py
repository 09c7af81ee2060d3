"""What is done while a store fails, and what may be there afterwards: all of it or nothing."""

from __future__ import annotations

import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from superorm import (
    DB,
    AsyncDB,
    ComponentNotFoundError,
    Document,
    Mapped,
    Model,
    Registry,
    SuperormError,
    artifact,
    select,
    undefer,
)
from superorm import field as document_field
from tests.teams import Team

__all__ = ["OPERATIONS", "Note", "Operation", "Team", "World", "under_fault"]

NOW = timedelta(0)


class Note(Document, registry=Registry()):
    __collection__ = "notes_under_faults"

    id: Mapped[int] = document_field(primary_key=True)
    own: Mapped[bytes | None] = artifact(default=None)
    shared: Mapped[bytes | None] = artifact(default=None)


class Plus:
    """A model that adds."""

    def __init__(self, number: int) -> None:
        self.number = number

    def predict(self, items: list[int]) -> list[int]:
        return [item + self.number for item in items]


class World(ABC):
    """A DB whose store fails on demand, and what is in its stores by other clients."""

    db: DB
    large: int = 0
    """Bytes that are added to the artifacts of documents."""

    def run(self, operation: Operation, number: int) -> None:
        """Do it while the store fails."""
        operation.run(self.db, self, number)

    @abstractmethod
    def other(self) -> DB:
        """The same DB as another process has it, which nothing disturbs."""

    @abstractmethod
    def documents(self, collection: str) -> list[dict[str, Any]]:
        """By plain PyMongo."""

    @abstractmethod
    def stored(self) -> dict[str, bytes]:
        """What is stored under each physical key, by a plain client; an upload that was not finished too."""

    def begin(self) -> None:
        """What is there before, and has to stay: its artifacts are shared with what is stored under faults."""
        self.db.create_all(Note)
        self.db.add(Model("kept", Plus(1)))
        with self.db.begin() as session:
            session.add(Note(id=0, shared=self.own(0)))

    def own(self, number: int) -> bytes:
        """Bytes that nothing else has."""
        return b"own %d" % number + Random(number).randbytes(self.large)

    def settle(self) -> None:
        """A collection leaves what is referred to and nothing else, and everything is in order."""
        other = self.other()
        other.gc(NOW)
        report = other.check(Note)
        assert ([], []) == (list(report.problems), list(report.orphans))
        stored, registry = self.stored(), self.documents("_superorm_blobs")
        assert stored.keys() == {blob["key"] for blob in registry}
        for blob in registry:
            assert blob["_id"] == hashlib.sha256(stored[blob["key"]]).hexdigest()
        assert [] == [one for one in self.documents("_superorm_artifacts") if one.get("kind") == "upload"]

    def intact(self) -> None:
        """What was there before reads as it did."""
        other = self.other()
        assert [3] == other.load("model", "kept").predict([2])
        with other.session() as session:
            assert self.own(0) == session.get_one(Note, 0).shared


class Operation(ABC):
    """Something that is done under a number of its own, so that it can be done many times."""

    def prepare(self, world: World, number: int) -> None:  # noqa: B027
        """What has to be there; most need nothing."""

    @abstractmethod
    def run(self, db: DB, world: World, number: int) -> None:
        """Do it."""

    @abstractmethod
    async def run_async(self, db: AsyncDB, world: World, number: int) -> None:
        """Do the same."""

    @abstractmethod
    def is_done(self, world: World, number: int) -> bool:
        """Whether it was done, by clients that nothing disturbs; raises `AssertionError` where a part of it was."""

    def undo(self, world: World, number: int) -> None:  # noqa: B027
        """Have nothing of it stay; some leave nothing."""


class Adding(Operation):
    """A component with two children, one of which shares its artifact with another component."""

    def run(self, db: DB, world: World, number: int) -> None:
        db.add(self.team(number))

    async def run_async(self, db: AsyncDB, world: World, number: int) -> None:
        await db.add(self.team(number))

    @staticmethod
    def team(number: int) -> Team:
        """What is added."""
        return Team(f"team {number}", [Model(f"own {number}", Plus(number)), Model(f"shared {number}", Plus(1))])

    def is_done(self, world: World, number: int) -> bool:
        other = world.other()
        names = {("team", f"team {number}"), ("model", f"own {number}"), ("model", f"shared {number}")}
        recorded = [one for one in world.documents("_superorm_components") if (one["kind"], one["name"]) in names]
        live = {(one["kind"], one["name"]) for one in recorded if one["state"] == "live"}
        shown = {(kind, name) for kind in ("team", "model") for name in other.show(kind)} & names
        assert live == shown
        if not live:
            for kind, name in names:
                with pytest.raises(ComponentNotFoundError):
                    other.load(kind, name)
            return False
        assert live == names
        team: Any = other.load("team", f"team {number}")
        assert [[number + 2], [3]] == [member.predict([2]) for member in team.members]
        return True

    def undo(self, world: World, number: int) -> None:
        world.db.remove("team", f"team {number}", recursive=True)


class Removing(Operation):
    """The removal of a component with its children."""

    def prepare(self, world: World, number: int) -> None:
        Adding().run(world.db, world, number)

    def run(self, db: DB, world: World, number: int) -> None:
        db.remove("team", f"team {number}", recursive=True)

    async def run_async(self, db: AsyncDB, world: World, number: int) -> None:
        await db.remove("team", f"team {number}", recursive=True)

    def is_done(self, world: World, number: int) -> bool:
        return not Adding().is_done(world, number)


class Committing(Operation):
    """A document with an artifact of its own and one that it shares, and another that gives one up."""

    def prepare(self, world: World, number: int) -> None:
        with world.db.begin() as session:
            session.add(Note(id=-number, own=b"given up %d" % number))

    def run(self, db: DB, world: World, number: int) -> None:
        with db.begin() as session:
            session.get_one(Note, -number).own = None
            session.add(Note(id=number, own=world.own(number), shared=world.own(0)))

    async def run_async(self, db: AsyncDB, world: World, number: int) -> None:
        async with db.begin() as session:
            (await session.get_one(Note, -number)).own = None
            session.add(Note(id=number, own=world.own(number), shared=world.own(0)))

    def is_done(self, world: World, number: int) -> bool:
        by_id = {one["_id"]: one for one in world.documents("notes_under_faults")}
        with world.other().session() as session:
            statement = select(Note).where(Note.id.in_([number, -number])).order_by(Note.id)
            old, *new = session.scalars(statement.options(undefer(Note.own, Note.shared)))
            if number not in by_id:
                assert [] == new
                assert b"given up %d" % number == old.own
                return False
            assert by_id[-number]["own"] is None
            assert old.own is None
            assert [(world.own(number), world.own(0))] == [(one.own, one.shared) for one in new]
            return True

    def undo(self, world: World, number: int) -> None:
        with world.db.begin() as session:
            session.delete(session.get_one(Note, number))
            session.delete(session.get_one(Note, -number))


class Collecting(Operation):
    """A collection of the artifacts of a removed component, and of an upload whose commit never came."""

    def prepare(self, world: World, number: int) -> None:
        Adding().run(world.db, world, number)
        world.db.remove("team", f"team {number}", recursive=True)
        world.db.blobs.upload(b"lost %d" % number)

    def run(self, db: DB, world: World, number: int) -> None:
        db.gc(NOW)

    async def run_async(self, db: AsyncDB, world: World, number: int) -> None:
        await db.gc(NOW)

    def is_done(self, world: World, number: int) -> bool:
        assert not Adding().is_done(world, number)
        return True  # what a conflict with others left is for the next one, as what an error left is


class Reading(Operation):
    """A component and the artifacts of a document, which are right where they are given at all."""

    def run(self, db: DB, world: World, number: int) -> None:
        fresh = DB(*_parts(db), signing_keys=[b"key"])  # which has nothing in memory
        assert [3] == fresh.load("model", "kept").predict([2])
        with fresh.session() as session:
            assert world.own(0) == session.get_one(Note, 0).shared

    async def run_async(self, db: AsyncDB, world: World, number: int) -> None:
        assert [3] == (await db.load("model", "kept")).predict([2])
        async with db.session() as session:
            note = await session.get_one(Note, 0, options=[undefer(Note.shared)])
            assert world.own(0) == note.shared

    def is_done(self, world: World, number: int) -> bool:
        world.intact()
        return True


OPERATIONS: dict[str, Operation] = {
    "add": Adding(),
    "commit": Committing(),
    "remove": Removing(),
    "gc": Collecting(),
    "load": Reading(),
}


def _parts(db: DB) -> tuple[Any, Any, Any, Any]:
    parts = db.parts
    return parts.data_backend, parts.metadata, parts.artifact_store, parts.vector_database


def under_fault(
    world: World,
    operation: Operation,
    number: int,
    arm: Callable[[], None],
    disarm: Callable[[], None],
    errors: type[SuperormError],
    seconds: float,
) -> SuperormError | None:
    """Do it once under a fault; the error, if any.

    Whatever comes of it, all of it is there or nothing; afterwards everything is in order,
    and where it was not done, it succeeds now.
    """
    operation.prepare(world, number)
    arm()
    failed: SuperormError | None = None
    start = time.monotonic()
    try:
        world.run(operation, number)
    except errors as error:
        failed = error
    finally:
        took = time.monotonic() - start
        disarm()
    assert took < seconds
    done = operation.is_done(world, number)
    assert done or failed is not None
    world.settle()
    if not done or (failed is not None and isinstance(operation, Reading)):
        world.run(operation, number)
    assert operation.is_done(world, number)
    operation.undo(world, number)
    return failed
