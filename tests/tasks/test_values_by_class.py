"""Python values in conditions on fields that several classes declare, and that these store differently."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from superorm import (
    DB,
    Document,
    Embedded,
    Mapped,
    Registry,
    Session,
    StatementError,
    case,
    delete,
    field,
    func,
    select,
    update,
)
from tests.databases import new_db

registry = Registry()


class Pin(Embedded):
    size: Mapped[int] = field(default=1)


class Nail(Embedded):
    length: Mapped[int] = field(default=1)


class Fixed(Embedded):
    """Pins are all that it has, so that their documents need not name their class."""

    part: Mapped[Pin] = field(factory=Pin)
    parts: Mapped[list[Pin]] = field(factory=lambda: [Pin()])
    named: Mapped[dict[str, Pin]] = field(factory=lambda: {"a": Pin()})


class Loose(Embedded):
    part: Mapped[Pin | Nail] = field(factory=Pin)
    parts: Mapped[list[Pin | Nail]] = field(factory=lambda: [Pin()])
    named: Mapped[dict[str, Pin | Nail]] = field(factory=lambda: {"a": Pin()})


class Shelf(Document, registry=registry):
    __collection__ = "shelves_of_values_by_class"
    id: Mapped[int] = field(primary_key=True)
    held: Mapped[Fixed | Loose]
    mixed: Mapped[list[Pin] | Pin | Nail | None] = field(default=None)
    several: Mapped[list[Pin | Nail] | Fixed | None] = field(default=None)
    pin: Mapped[Pin] = field(factory=Pin)


class Wide(Shelf):
    pin: Mapped[Pin | Nail] = field(factory=Pin)  # type: ignore[assignment]


SHELF: Any = Shelf
PIN = {"size": 1}
NAMED = {"_type": "Pin", "size": 1}


@pytest.fixture(scope="module", params=["mongomock", "mongodb"])
def db(request: pytest.FixtureRequest, mongodb_uri: str) -> Iterator[DB]:
    """A shelf of each kind, twice with what is looked for and twice with something else."""
    other: dict[str, Any] = {"part": Pin(size=2), "parts": [Pin(size=2)], "named": {"a": Pin(size=2)}}
    shelves = [
        Shelf(id=1, held=Fixed(), mixed=[Pin()], several=[Pin()]),
        Wide(id=2, held=Loose(), mixed=Pin(), several=[Nail()]),
        Shelf(id=3, held=Fixed(**other), mixed=[Pin(size=2)], pin=Pin(size=2)),
        Wide(id=4, held=Loose(**other), mixed=Nail(), pin=Nail()),
    ]
    with new_db("mongomock" if request.param == "mongomock" else mongodb_uri, shelves) as db:
        yield db


@pytest.mark.parametrize(
    ("expected", "condition"),
    [
        ([1, 2], SHELF.held.part == Pin()),
        ([1, 2], SHELF.held[Loose.part] == Pin()),
        ([3, 4], SHELF.held.part != Pin()),
        ([1, 2], SHELF.held.part.in_([Pin(), Nail()])),
        ([3, 4], SHELF.held.part.not_in([Pin(), Nail()])),
        ([1, 2], SHELF.held.parts == [Pin()]),
        ([1, 2], SHELF.held.parts == Pin()),
        ([1, 2], SHELF.held.parts.contains(Pin())),
        ([1, 2], SHELF.held.parts[0] == Pin()),
        ([1, 2], SHELF.held.named == {"a": Pin()}),
        ([1, 2], SHELF.held.named["a"] == Pin()),
        ([1, 2], func.if_null(SHELF.held.part, None) == Pin()),
        ([1, 2], case((Shelf.id > 0, SHELF.held.part), else_=None) == Pin()),
        ([1, 2], SHELF.mixed == Pin()),
        ([1, 2], SHELF.mixed.contains(Pin())),
        ([1], SHELF.mixed == [Pin()]),
        ([4], SHELF.mixed == Nail()),
        ([1], SHELF.several.contains(Pin())),
        ([2], SHELF.several == Nail()),
        ([1, 2], SHELF.pin == Pin()),
        ([4], SHELF.pin == Nail()),
    ],
)
def test_equal_in_each_class(db: DB, expected: list[int], condition: Any) -> None:
    """A value is found as documents of each of the classes store it."""
    with Session(db) as session:
        assert expected == session.scalars(select(Shelf.id).where(condition).order_by(Shelf.id)).all()


def test_pulled_in_each_class(db: DB) -> None:
    """A value is removed from lists as each of the classes stores it."""
    two = [Pin(), Pin(size=5)]
    with Session(db) as session:
        session.add(Shelf(id=11, held=Fixed(parts=two), mixed=two))
        session.add(Wide(id=12, held=Loose(parts=[Nail(), *two])))
        session.commit()
        both = Shelf.id.in_([11, 12])
        session.execute(update(Shelf).where(both).set(SHELF.held.parts.pull(Pin(), Pin(size=9))))
        left = session.scalars(select(SHELF.held).where(both).order_by(Shelf.id)).all()
        assert [[Pin(size=5)], [Nail(), Pin(size=5)]] == [held.parts for held in left]
        session.execute(delete(Shelf).where(both))
        session.commit()


def test_what_is_sent() -> None:
    """Both forms, or the only one where all the classes store it alike."""
    (stage,) = select(Shelf).where(SHELF.held.part == Pin()).pipeline()
    assert {"$match": {"held.part": {"$in": [PIN, NAMED]}}} == stage
    (stage,) = select(Shelf).where(SHELF.held.part == Nail()).pipeline()
    assert {"$match": {"held.part": {"$eq": {"_type": "Nail", "length": 1}}}} == stage
    (stage,) = select(Shelf).where(SHELF.several == Pin()).pipeline()
    assert {"$match": {"several": {"$eq": NAMED}}} == stage


@pytest.mark.parametrize(
    "made",
    [
        lambda: SHELF.held.part > Pin(),
        lambda: SHELF.held.part.between(Pin(), Nail()),
        lambda: SHELF.held.parts.all_([Pin()]),
        lambda: func.eq(SHELF.held.part, Pin()),
    ],
)
def test_one_value_is_refused(made: Any) -> None:
    """Where there is place for one of the forms only, the statement shows both."""
    with pytest.raises(StatementError, match=r"Pin\(size=1\).* may be stored as \{'size': 1\} or as \{'_type': 'Pin'"):
        made()


class Counted(Document, registry=registry):
    __collection__ = "counted_of_values_by_class"
    id: Mapped[int] = field(primary_key=True)
    value: Mapped[set[int]] = field(factory=set)


class Counting(Counted):
    value: Mapped[int] = field(default=0)  # type: ignore[assignment]


class Twice(Counted):
    value: Mapped[tuple[int, int]] = field(default=(0, 0))  # type: ignore[assignment]


def test_beside_numbers_and_lists_that_are_not_told_apart() -> None:
    """Values of other types, too, are literals beside a field that is a number, or one of two kinds of lists."""
    assert [Counting, Twice] == Counted.__subclasses__()
    anything: Any = Counted.value
    for value, stored in ((Pin(), {"size": 1}), (2, 2), ("x", "x"), ([7], [7]), ((1, 2), [1, 2])):
        made: Any = case((Counted.id > 1, value), else_=anything)
        assert [stored] == [literal for _, literal in made.whens]
