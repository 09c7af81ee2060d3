"""Versions and hierarchies in a unit of work: what is written, what must have matched, and what the error says."""

from __future__ import annotations

from typing import Any

import pytest

from superorm import Document, Mapped, Registry, SessionError, field
from superorm.schema.mapping import class_map
from superorm.unitofwork.flush import FlushPlan, plan_flush
from superorm.unitofwork.stale import must_match, stale_documents, stale_error
from superorm.unitofwork.tracking import Tracker
from superorm.unitofwork.writes import Delete, Insert, Update, UpdateOp
from tests.unitofwork.classes import Film, stored


class Item(Document, registry=Registry()):
    id: Mapped[int] = field(primary_key=True)
    n: Mapped[int] = field(default=0)
    m: Mapped[int | None] = field(default=None)
    version: Mapped[int] = field(version=True, name="v")


class Gadget(Item):
    size: Mapped[int] = field(default=0)


class Other(Document, registry=Registry()):
    __collection__ = "item"

    id: Mapped[int] = field(primary_key=True)


ITEM = class_map(Item)


def item(key: int, version: int, **values: Any) -> dict[str, Any]:
    """A stored item."""
    return {"_id": key, "n": 0, "m": None, "v": version, **values}


def plan(tracker: Tracker) -> FlushPlan:
    """What a flush of the session would do."""
    return plan_flush(tracker.work(tracker.new_by_class(), tracker.possibly_changed()))


def test_one_write_for_a_collection() -> None:
    """The classes of a collection are written together, versions guarded; deletions with and without them apart."""
    tracker = Tracker()
    one, two, gone = tracker.load(ITEM, [item(1, 4), item(2, 7, _type="Gadget", size=1), item(3, 2, _type="Gadget")])
    one.n, two.size = 1, 2
    (other,) = tracker.load(class_map(Other), [{"_id": 8}])
    for instance in (Item(id=4), Other(id=5), Gadget(id=6)):
        tracker.add(instance)
    tracker.delete(gone)
    tracker.delete(other)
    inserted = [
        {"_id": 4, "n": 0, "m": None, "v": 1},
        {"_id": 5},
        {"_id": 6, "_type": "Gadget", "n": 0, "m": None, "v": 1, "size": 0},
    ]
    insert, update, *deletes = plan(tracker).writes
    assert isinstance(insert, Insert)
    assert sorted(insert.documents, key=lambda document: document["_id"]) == inserted
    ops = [
        UpdateOp(q={"_id": 1, "v": 4}, u={"$set": {"n": 1, "v": 5}}),
        UpdateOp(q={"_id": 2, "v": 7}, u={"$set": {"size": 2, "v": 8}}),
    ]
    assert Update("item", ops) == update
    strict = Delete("item", [{"_id": 3, "v": 2}], strict=True)
    assert [Delete("item", [{"_id": 8}]), strict] == sorted(deletes, key=lambda write: write.strict)  # type: ignore[union-attr]
    assert [0, 2, 1] == [must_match(write) for write in (insert, update, strict)]


def test_versions_through_flush_and_rollback() -> None:
    """An object shows the version that it has in the database: after a flush the next, after a rollback the old one."""
    tracker = Tracker()
    (one,) = tracker.load(ITEM, [item(1, 4)])
    new = Item(id=2)
    tracker.add(new)
    one.n = 1
    tracker.flushed(plan(tracker))
    assert (5, 1) == (one.version, new.version)
    new.n = one.n = 2
    tracker.flushed(plan(tracker))
    assert (6, 2) == (one.version, new.version)
    tracker.rolled_back()
    assert (4, 0) == (one.version, new.version)
    tracker.add(new)
    (insert,) = plan(tracker).writes
    assert isinstance(insert, Insert)
    assert 1 == insert.documents[0]["v"]
    tracker.flushed(plan(tracker))
    tracker.committed()
    tracker.rolled_back()
    assert 1 == new.version


def test_deleted_and_added_again() -> None:
    """The version goes on counting, so that nobody who read the first document takes the second for it."""
    tracker = Tracker()
    (one,) = tracker.load(ITEM, [item(1, 4)])
    tracker.delete(one)
    tracker.flushed(plan(tracker))
    tracker.add(one)
    (insert,) = plan(tracker).writes
    assert isinstance(insert, Insert)
    assert 5 == insert.documents[0]["v"]
    tracker.flushed(plan(tracker))
    assert 5 == one.version
    tracker.rolled_back()
    assert (4, True) == (one.version, one in tracker)


def test_one_identity_for_a_hierarchy() -> None:
    """A document is one object, whichever of its classes it is asked for by."""
    tracker = Tracker()
    (gadget,) = tracker.load(class_map(Gadget), [item(1, 1, _type="Gadget")])
    assert [gadget] == tracker.load(ITEM, [item(1, 1, _type="Gadget")])
    assert gadget in tracker
    (twin,) = Tracker().load(ITEM, [item(1, 1, _type="Gadget")])
    with pytest.raises(SessionError, match="Gadget 1 is in the session already"):
        tracker.add(twin)
    gadget.size = 3
    assert {class_map(Gadget): [gadget]} == tracker.possibly_changed()
    tracker.expunge(gadget)
    assert [] == list(tracker.possibly_changed())


def updates() -> tuple[FlushPlan, Update]:
    """A flush of three versioned changes."""
    tracker = Tracker()
    one, two, three = tracker.load(ITEM, [item(1, 4), item(2, 7, _type="Gadget"), item(3, 1, m=3)])
    one.n, two.size = 1, 2
    del three.m
    planned = plan(tracker)
    (write,) = planned.writes
    assert isinstance(write, Update)
    (read,) = stale_documents(write)
    assert [1, 2, 3] == sorted(read.filter["_id"]["$in"])
    assert {"_id": 1, "n": 1, "size": 1, "m": 1, "v": 1} == read.projection
    return planned, write


@pytest.mark.parametrize(
    ("found", "matched", "names", "key"),
    [
        ([item(1, 5, n=1), item(3, 2)], 1, "Item 3; Gadget 2", None),
        ([item(1, 5, n=9), item(2, 8, size=2), {"_id": 3, "n": 0, "v": 2}], 2, "Item 1", 1),
        ([item(1, 6, n=1), item(2, 8, size=2), {"_id": 3, "n": 0, "v": 2}], 2, "Item 1", 1),
        ([item(1, 5, n=1), item(2, 8, size=2), item(3, 2, m=4)], 2, "Item 3", 3),
        ([item(1, 5, n=1), item(2, 8, size=2), {"_id": 3, "n": 0, "v": 2}], 0, "Item 1, 3; Gadget 2", None),
    ],
)
def test_stale_updates(found: list[dict[str, Any]], matched: int, names: str, key: Any) -> None:
    """The documents that are gone, or do not look as this flush would have left them, are named by class and key."""
    planned, write = updates()
    error = stale_error(planned, write, matched, found)
    parts = sorted(names.split("; "))
    assert str(error).startswith(f"{3 - matched} of 3 changed documents in item were changed or deleted underneath (")
    assert parts == sorted(str(error).partition("(")[2].partition(")")[0].split("; "))
    assert key == error.key
    assert error.document_class in (Item, Gadget)


def test_stale_deletions() -> None:
    """Those still there are named; where some are gone that were not deleted here, all are."""
    tracker = Tracker()
    one, two = tracker.load(ITEM, [item(1, 4), item(2, 7)])
    tracker.delete(one)
    tracker.delete(two)
    planned = plan(tracker)
    (write,) = planned.writes
    assert "1 of 2 deleted documents in item were changed or deleted underneath (Item 2)" in str(
        stale_error(planned, write, 1, [item(2, 9)])
    )
    assert "(Item 1, 2)" in str(stale_error(planned, write, 1, []))


def test_stale_without_versions() -> None:
    """Only what was deleted can be seen to be stale; many keys are cut short."""
    tracker = Tracker()
    films = tracker.load(class_map(Film), [stored(key) for key in range(20)])
    for film in films:
        film.title = "x"
    planned = plan(tracker)
    (write,) = planned.writes
    error = stale_error(planned, write, 1, [stored(5, title="y")])
    assert "19 of 20 changed documents" in str(error)
    assert "(Film 0, 1, 2, 3, 4, 6, 7, 8, 9, 10 and 9 more)" in str(error)
    assert "Film 5" not in str(error)


def test_positions() -> None:
    """A document that was written by the position in a list is not taken for a stale one."""

    class Row(Document, registry=Registry()):
        id: Mapped[int] = field(primary_key=True)
        cells: Mapped[list[dict[str, int]]] = field(factory=list)
        version: Mapped[int] = field(version=True)

    tracker = Tracker()
    cells = [dict.fromkeys("abcdefgh", 1) for _ in range(3)]
    one, two = tracker.load(class_map(Row), [{"_id": key, "cells": cells, "version": 1} for key in (1, 2)])
    one.cells[2]["a"] = two.cells[2]["a"] = 5
    planned = plan(tracker)
    (write,) = planned.writes
    assert isinstance(write, Update)
    assert {"$set": {"cells.2.a": 5, "version": 2}} == write.ops[0]["u"]
    changed = {"_id": 1, "cells": [*cells[:2], {**cells[2], "a": 5}], "version": 2}
    found = [changed, {"_id": 2, "cells": cells, "version": 4}]
    error = stale_error(planned, write, 1, found)
    assert ("(Row 2)", 2) == (str(error).partition("underneath ")[2].partition(";")[0], error.key)
    shorter = {**changed, "cells": cells[:2]}
    assert "(Row 1, 2)" in str(stale_error(planned, write, 1, [shorter, found[1]]))
