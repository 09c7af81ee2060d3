"""Values that statements write to fields which subclasses declare otherwise: documents get the form of their class."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
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
    SuperormError,
    UnsupportedError,
    Update,
    ValidationError,
    case,
    field,
    insert,
    select,
    update,
)
from superorm.unitofwork.encode import CODEC_OPTIONS
from tests.databases import new_db
from tests.injection.values import HOSTILE, same
from tests.injection.values import stored as plain

registry = Registry()


class Pin(Embedded):
    size: Mapped[int] = field(default=1)


class Nail(Embedded):
    length: Mapped[int] = field(default=1)


class Tight(Embedded):
    part: Mapped[Pin] = field(factory=Pin)


class Loose(Embedded):
    part: Mapped[Pin | Nail] = field(factory=Pin)


def not_nine(_: object, __: object, value: Pin | Nail) -> None:
    if isinstance(value, Pin) and value.size == 9:
        raise ValueError("no nines")


class Board(Document, registry=registry):
    __collection__ = "boards_written_by_class"
    id: Mapped[int] = field(primary_key=True)
    pin: Mapped[Pin] = field(factory=Pin)
    spare: Mapped[Pin] = field(factory=Pin)
    pins: Mapped[list[Pin]] = field(factory=list)
    marks: Mapped[list[int]] = field(factory=list)
    n: Mapped[int] = field(default=0)
    price: Mapped[int] = field(default=1)
    held: Mapped[Tight | Loose] = field(factory=Tight)
    all_held: Mapped[list[Tight | Loose]] = field(factory=lambda: [Tight(), Loose()])


class Wide(Board):
    marks: Mapped[set[int]] = field(factory=set)  # type: ignore[assignment]
    pin: Mapped[Pin | Nail] = field(factory=Pin, validator=not_nine)  # type: ignore[assignment]
    pins: Mapped[list[Pin | Nail]] = field(factory=list)  # type: ignore[assignment]
    n: Mapped[str] = field(default="")  # type: ignore[assignment]
    price: Mapped[float] = field(default=1.0)  # type: ignore[assignment]


class Wider(Wide):
    notes: Mapped[list[int]] = field(factory=list)


class Plain(Board):
    """Declares nothing again."""


BOARD: Any = Board
PIN = {"size": 3}
NAMED = {"_type": "Pin", "size": 3}


@pytest.fixture(params=["mongomock", "mongodb"])
def db(request: pytest.FixtureRequest, mongodb_uri: str) -> Iterator[DB]:
    """A document of each class."""
    boards = [Board(id=1, spare=Pin(size=7)), Wide(id=2, held=Loose()), Wider(id=3), Plain(id=4)]
    with new_db("mongomock" if request.param == "mongomock" else mongodb_uri, boards) as db:
        yield db


def stored(db: DB, key: str) -> list[Any]:
    """What the documents have under a key, read by PyMongo."""
    backend: Any = db.parts.data_backend
    collection = backend.client[backend.name][Board.__collection__]
    return [one.get(key) for one in collection.find().sort("_id")]


def backend_is_mongomock(db: DB) -> bool:
    return db.capabilities.backend == "mongomock"


def run(db: DB, statement: Any) -> None:
    """Carried out, and every document is read again."""
    with db.begin() as session:
        session.execute(statement)
    with Session(db) as session:
        for one in session.scalars(select(Board)):
            assert [one.pin, one.pins, one.n, one.held]


def test_given_to_all(db: DB) -> None:
    """A value, as each class stores it; in subclasses that do not declare the field again as their base does."""
    run(db, update(Board).all().set(Board.pin.to(Pin(size=3))))
    assert [PIN, NAMED, NAMED, PIN] == stored(db, "pin")
    run(db, update(Board).all().values(pin=Pin(size=4)))
    assert [{"size": 4}, {"_type": "Pin", "size": 4}] == stored(db, "pin")[:2]


def test_given_to_a_subclass_by_a_field_of_its_base(db: DB) -> None:
    """What the statement is about tells how it is stored, not where the field was named."""
    statement = update(Wide).all().set(BOARD.pin.to(Pin(size=3)))
    (sent,) = statement.plan()["updates"]
    assert ({"_type": {"$in": ["Wide", "Wider"]}}, {"$set": {"pin": NAMED}}) == (sent["q"], sent["u"])
    run(db, statement)
    assert [{"size": 1}, NAMED, NAMED, {"size": 1}] == stored(db, "pin")


def test_what_is_sent() -> None:
    """Operators where all classes store a value alike; else an update pipeline that tells the classes apart."""
    (sent,) = update(Board).all().set(Board.spare.to(Pin(size=3))).plan()["updates"]
    assert {"$set": {"spare": PIN}} == sent["u"]
    (sent,) = update(Board).all().set(Board.pin.to(Pin(size=3))).plan()["updates"]
    named = {"case": {"$in": ["$_type", ["Wide", "Wider"]]}, "then": {"$literal": NAMED}}
    assert [{"$set": {"pin": {"$switch": {"branches": [named], "default": {"$literal": PIN}}}}}] == sent["u"]
    (sent,) = update(Wider).all().values(n="x").plan()["updates"]
    assert {"$set": {"n": "x"}} == sent["u"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda: BOARD.pins.push(Pin(size=3)), [[PIN], [NAMED], [NAMED], [PIN]]),
        (lambda: BOARD.pins.push(Pin(size=3), position=0), [[PIN], [NAMED], [NAMED], [PIN]]),
        (lambda: BOARD.pins.add_to_set(Pin(size=3), Pin(size=3)), [[PIN], [NAMED], [NAMED], [PIN]]),
        (lambda: BOARD.pins.to([Pin(size=3)]), [[PIN], [NAMED], [NAMED], [PIN]]),
    ],
)
def test_lists(db: DB, change: Callable[[], Any], expected: list[Any]) -> None:
    """Elements, too; mongomock refuses what it has no operators for by name, and writes nothing."""
    statement = update(Board).all().set(change())
    if backend_is_mongomock(db) and "$isArray" in str(statement.plan()):
        with pytest.raises(UnsupportedError, match=r"mongomock has no \$"):
            run(db, statement)
        expected = [[]] * 4
    else:
        run(db, statement)
    assert expected == stored(db, "pins")


def test_numbers(db: DB) -> None:
    """A whole number is a float field's too: no pipeline is needed, and each class reads what it declares."""
    run(db, update(Board).all().set(Board.price.to(5), Board.spare.to(Pin(size=3))))
    run(db, update(Board).all().set(Board.price.inc(2)))
    with Session(db) as session:
        prices = session.scalars(select(Board).order_by(Board.id)).all()
    assert [7, 7.0, 7.0, 7] == [one.price for one in prices]
    assert [int, float, float, int] == [type(one.price) for one in prices]


def test_in_embedded_documents(db: DB) -> None:
    """The classes of embedded documents are told apart where these stand, in lists by their position."""
    whole = update(Board).all().set(BOARD.held.part.to(Pin(size=3)))
    if backend_is_mongomock(db):
        with pytest.raises(UnsupportedError, match=r"mongomock has no \$"):
            run(db, whole)
        return
    run(db, whole)
    tight, loose = {"_type": "Tight", "part": PIN}, {"_type": "Loose", "part": NAMED}
    assert [tight, loose, tight, tight] == stored(db, "held")
    run(db, update(Board).all().set(BOARD.all_held[0].part.to(Pin(size=3))))
    run(db, update(Board).all().set(BOARD.all_held[1].part.to(Pin(size=3))))
    assert [[tight, loose]] * 4 == stored(db, "all_held")


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (lambda: update(Board).all().set(Board.n.to(3)), r"Wide\.n cannot be stored: expected str, got int 3"),
        (lambda: update(Board).all().set(Board.pin.to(Pin(size=9))), r"Wide\.pin cannot be stored: .*no nines"),
        (
            lambda: update(Board).all().set(BOARD.pin.to(case((Board.n == 0, Pin(size=5)), else_=Board.spare))),
            r"Wide\.pin: Board\.pin cannot become",
        ),
        (lambda: update(Board).all().set(BOARD.pin.to(BOARD.spare)), r"Wide\.pin: .* do not name their class"),
        (lambda: update(Board).all().set(BOARD.marks.push(2, 1)), r"Wide\.marks is a set, whose order push\(\)"),
        (lambda: update(Board).all().set(BOARD.n.to(BOARD.spare[Pin.size])), r"Wide\.n: .* holds str"),
    ],
)
def test_what_a_class_cannot_hold(db: DB, statement: Callable[[], Update[Board]], message: str) -> None:
    """It fails where a document of that class is met, and nothing is written; others take it."""
    before = [stored(db, key) for key in ("pin", "n", "marks")]
    if backend_is_mongomock(db):
        with pytest.raises(UnsupportedError, match=r"mongomock has no \$"):
            run(db, statement())
        assert before == [stored(db, key) for key in ("pin", "n", "marks")]
        return
    with pytest.raises(SuperormError, match=message):
        run(db, statement())
    assert before == [stored(db, key) for key in ("pin", "n", "marks")]
    changes = statement()._assignments  # pyright: ignore[reportPrivateUsage]
    run(db, update(Board).where(Board.id == 1).set(*changes))
    assert before != [stored(db, key) for key in ("pin", "n", "marks")]


def test_what_no_document_of_the_statement_can_hold() -> None:
    """It is refused when the statement is compiled."""
    with pytest.raises(ValidationError, match=r"Wide\.n cannot be stored: expected str, got int 3"):
        update(Wide).all().set(BOARD.n.to(3)).plan()
    with pytest.raises(StatementError, match=r"Wide\.n: Board\.n cannot become .* it holds str, not float"):
        update(Wide).all().set(BOARD.n.to(BOARD.price)).plan()


def test_updates_that_insert(db: DB) -> None:
    """The document that is made is of the statement's class; those that are there keep the form of theirs."""
    run(db, update(Board).where(Board.id == 7).set(Board.pin.to(Pin(size=3))).upsert())
    run(db, update(Wide).where(Wide.id == 8).set(BOARD.pin.to(Pin(size=3))).upsert())
    run(db, update(Board).where(Board.id == 2).set(Board.pin.to(Pin(size=3))).upsert())
    assert [{"size": 1}, NAMED, {"_type": "Pin", "size": 1}, {"size": 1}, PIN, NAMED] == stored(db, "pin")


def test_inserts_of_what_is_there(db: DB) -> None:
    """Values are stored as the document that is there stores them; what does not fit it is refused before any write."""
    rows = [{"id": 1, "pin": Pin(size=3)}, {"id": 3, "pin": Pin(size=3)}, {"id": 9, "pin": Pin(size=3)}]
    run(db, insert(Board).values(rows).upsert())
    assert [PIN, {"_type": "Pin", "size": 1}, NAMED, {"size": 1}, PIN] == stored(db, "pin")
    before = stored(db, "n")
    with pytest.raises(ValidationError, match=r"Wider 3, which is there already: n cannot be stored: expected str"):
        run(db, insert(Board).values([{"id": 1, "n": 5}, {"id": 3, "n": 5}]).upsert())
    assert before == stored(db, "n")


def test_days() -> None:
    """A value that both classes store alike is sent as it is."""

    class Dated(Document, registry=Registry()):
        __collection__ = "dated_written_by_class"
        day: Mapped[date | None] = field(default=None)

    class Either(Dated):
        day: Mapped[date | str | None] = field(default=None)  # type: ignore[assignment]

    assert issubclass(Either, Dated)
    (sent,) = update(Dated).all().set(Dated.day.to(date(2020, 1, 2))).plan()["updates"]
    assert ["$set"] == list(sent["u"])


class Held(Document, registry=registry):
    __collection__ = "held_written_by_class"
    id: Mapped[int] = field(primary_key=True)
    value: Mapped[Any] = field(default=None)
    values: Mapped[list[Any]] = field(factory=list)


class Heard(Held):
    value: Mapped[int | None] = field(default=None)
    values: Mapped[list[int]] = field(factory=list)


def test_values_from_outside(mongodb_uri: str) -> None:
    """Where classes are told apart the values are literals, too."""
    with new_db(mongodb_uri) as db:
        backend: Any = db.parts.data_backend
        documents = backend.client[backend.name][Held.__collection__]
        told = 0
        for value in HOSTILE:
            documents.delete_many({})
            documents.insert_one({"_id": 1, "value": 0, "values": []})
            try:
                statement = update(Held).all().set(Held.value.to(value), Held.values.push(value))
                (sent,) = statement.plan()["updates"]
            except SuperormError:
                continue
            told += "$switch" in str(sent["u"])
            with db.begin() as session:
                session.execute(statement)
            expected = {"_id": 1, "value": plain(value), "values": [plain(value)]}
            assert same(expected, documents.with_options(CODEC_OPTIONS).find_one()), ascii(value)
        assert told > 20
