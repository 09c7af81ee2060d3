"""Values that statements write where subclasses declare lists, sets, numbers and embedded fields otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pymongo
import pytest

import superorm
from superorm import (
    DB,
    Document,
    Embedded,
    Mapped,
    Registry,
    StatementError,
    SuperormError,
    ValidationError,
    WriteError,
    field,
    select,
    update,
)
from tests.databases import drop_database

registry = Registry()


def at_least_ten(_: object, __: object, value: int) -> None:
    if value < 10:
        raise ValueError("less than ten")


class Part(Embedded):
    x: Mapped[int] = field(default=1)
    y: Mapped[int] = field(default=10)


class Named(Part):
    x: Mapped[str] = field(default="a")  # type: ignore[assignment]
    y: Mapped[int] = field(default=10, validator=at_least_ten)


class Top(Document, registry=registry):
    __collection__ = "forms_by_class"
    id: Mapped[int] = field(primary_key=True)
    marks: Mapped[list[int]] = field(factory=list)
    source: Mapped[list[int]] = field(factory=lambda: [3, 1, 2, 1])
    kept: Mapped[set[int]] = field(factory=set)
    n: Mapped[int] = field(default=10)
    other: Mapped[int] = field(default=1)
    part: Mapped[Part] = field(factory=Part)


class Low(Top):
    marks: Mapped[set[int]] = field(factory=set)  # type: ignore[assignment]
    kept: Mapped[list[int]] = field(factory=lambda: [5, 2])  # type: ignore[assignment]
    n: Mapped[int] = field(default=10, validator=at_least_ten)


class Text(Top):
    n: Mapped[str] = field(default="")  # type: ignore[assignment]


class Whole(Text):
    n: Mapped[int] = field(default=5)  # type: ignore[assignment]


TOP: Any = Top


@pytest.fixture
def db(mongodb_uri: str) -> Iterator[DB]:
    """A document of each class."""
    name = f"fb_{uuid4().hex[:10]}"
    with superorm.connect(mongodb_uri, database=name, vector_database="memory://", artifact_store="memory://") as db:
        with db.begin() as session:
            session.add_all([Top(id=1), Low(id=2, part=Named()), Text(id=3), Whole(id=4)])
        yield db
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        drop_database(client, name)


def stored(db: DB, key: str) -> list[Any]:
    """What the documents have under a key, read by PyMongo."""
    backend: Any = db.parts.data_backend
    return [one[key] for one in backend.client[backend.name][Top.__collection__].find().sort("_id")]


def run(db: DB, statement: Any) -> None:
    """Carried out, and every document is read again."""
    with db.begin() as session:
        session.execute(statement)
    with db.session() as session:
        assert all([one.marks, one.n, one.part] for one in session.scalars(select(Top)))


def test_lists_that_become_sets(db: DB) -> None:
    """The list that an expression gives is a set, in the order of sets, in documents whose class declares one."""
    run(db, update(Top).all().set(Top.marks.to(Top.source)))
    assert [[3, 1, 2, 1], [1, 2, 3], [3, 1, 2, 1], [3, 1, 2, 1]] == stored(db, "marks")
    run(db, update(Low).all().set(TOP.marks.to(Low.source)))
    assert [1, 2, 3] == stored(db, "marks")[1]
    run(db, update(Low).where(Low.id == 7).set(TOP.marks.to(Low.source)).upsert())
    assert [1, 2, 3] == stored(db, "marks")[4]


def test_lists_keep_their_order(db: DB) -> None:
    """What is added to sets in their order is not put into the midst of a list."""
    with pytest.raises(WriteError, match=r"Low\.kept is a list, whose order add_to_set\(\) does not keep"):
        run(db, update(Top).all().set(Top.kept.add_to_set(3)))
    assert [[], [5, 2], [], []] == stored(db, "kept")
    run(db, update(Low).all().set(Low.kept.add_to_set(3)))
    assert [5, 2, 3] == stored(db, "kept")[1]


def test_amounts(db: DB) -> None:
    """What a number grows by is none of the field's values: the validator of a subclass does not see it."""
    run(db, update(Top).where(Top.id <= 2).set(Top.n.inc(2)))
    assert [12, 12, "", 5] == stored(db, "n")


def test_a_subclass_alone_can_hold_it(db: DB) -> None:
    """An expression that the statement's own class cannot hold is written to documents of a subclass that can."""
    run(db, update(Text).where(Text.id == 4).set(TOP.n.to(Top.other)))
    assert [10, 10, "", 1] == stored(db, "n")
    with pytest.raises(WriteError, match=r"Text\.n: .* it holds str, not int"):
        run(db, update(Text).all().set(TOP.n.to(Top.other)))
    assert [10, 10, "", 1] == stored(db, "n")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda: TOP.n.to(3), ValidationError, r"^Text\.n cannot be stored: expected str, got int 3$"),
        (lambda: TOP.n.to(Top.other), StatementError, r"^Text\.n: .* it holds str, not int$"),
    ],
)
def test_new_documents(db: DB, change: Callable[[], Any], error: type[SuperormError], message: str) -> None:
    """One that the statement's own class could not hold is refused before anything is sent."""
    with pytest.raises(error, match=message):
        update(Text).where(Text.id == 9).set(change()).upsert().plan()
    with pytest.raises(error, match=message):
        run(db, update(Text).where(Text.id == 9).set(change()).upsert())
    assert 4 == len(stored(db, "_id"))


def test_embedded_documents_that_name_no_class(db: DB) -> None:
    """They are of the class that the field declares, whichever class's field the statement named."""
    with pytest.raises(WriteError, match=r"Part\.x cannot be stored: expected int, got str 'w'"):
        run(db, update(Top).all().set(TOP.part[Named.x].to("w")))
    run(db, update(Top).where(Top.id == 2).set(TOP.part[Named.x].to("w")))
    assert [1, "w", 1, 1] == [one["x"] for one in stored(db, "part")]


def test_validators_of_embedded_classes(db: DB) -> None:
    """That of the class that a document names sees the value."""
    with pytest.raises(WriteError, match=r"Named\.y cannot be stored: ValueError: less than ten"):
        run(db, update(Top).all().set(Top.part.y.to(3)))
    run(db, update(Top).where(Top.id != 2).set(Top.part.y.to(3)))
    assert [3, 10, 3, 3] == [one["y"] for one in stored(db, "part")]
