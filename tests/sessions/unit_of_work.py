"""A unit of work over documents that refer to one another, and what is left of such units in the database."""

from __future__ import annotations

from typing import Any

from superorm import AsyncSession, Document, Mapped, ObjectId, Session, field
from tests.sessions.taking import Steps

CHILDREN = 3


class Total(Document):
    """How many units a writer committed, and which was the last."""

    __collection__ = "totals"

    id: Mapped[str] = field(primary_key=True)
    units: Mapped[int] = field(default=0)
    last: Mapped[ObjectId | None] = field(default=None)
    version: Mapped[int] = field(version=True)


class Parent(Document):
    __collection__ = "parents"

    unit: Mapped[int]
    before: Mapped[ObjectId | None] = field(default=None)
    children: Mapped[list[ObjectId]] = field(factory=list)


class Child(Document):
    __collection__ = "children"

    parent: Mapped[ObjectId]
    number: Mapped[int]


CLASSES: list[type[Document]] = [Total, Parent, Child]


def begun(writer: str) -> Total:
    """What there has to be of a writer before its first unit."""
    return Total(id=writer)


def steps(session: Session | AsyncSession, writer: str, unit: int) -> Steps:
    """Insert a parent with its children, take a child from the writer's parent before, and count."""
    total = yield session.get_one(Total, writer)
    parent = Parent(unit=unit, before=total.last)
    children = [Child(parent=parent.id, number=number) for number in range(CHILDREN)]
    parent.children.extend(child.id for child in children)
    if total.last is not None:
        before = yield session.get_one(Parent, total.last)
        session.delete((yield session.get_one(Child, before.children.pop())))
    session.add_all([*children, parent])
    total.units += 1
    total.last = parent.id


def whole_units(database: Any) -> dict[str, list[int]]:
    """Each writer's units in the order they were committed.

    Checks that each is there entirely and once, and that nothing else is there, in one snapshot.
    """
    with database.client.start_session(snapshot=True) as snapshot:
        parents = {document["_id"]: document for document in database.parents.find(session=snapshot)}
        children = {document["_id"]: document for document in database.children.find(session=snapshot)}
        totals = list(database.totals.find(session=snapshot))
    found: dict[str, list[int]] = {}
    for total in totals:
        at, expected = total["last"], CHILDREN
        units: list[int] = []
        while at is not None:
            parent = parents.pop(at)
            own = [children.pop(key) for key in parent["children"]]
            assert [(at, number) for number in range(expected)] == [(child["parent"], child["number"]) for child in own]
            units.append(parent["unit"])
            at, expected = parent["before"], CHILDREN - 1
        assert total["units"] == len(units) == len(set(units))
        found[total["_id"]] = units[::-1]
    assert {} == parents
    assert {} == children
    return found
