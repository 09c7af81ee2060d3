"""Python values beside and inside expressions, as the documents store them, on a real server."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Any

import numpy as np
import pymongo
import pytest
from bson import Decimal128

from superorm import (
    DB,
    Document,
    Embedded,
    Mapped,
    Registry,
    Select,
    Session,
    StatementError,
    Update,
    case,
    column,
    delete,
    field,
    func,
    select,
    update,
    vector,
)
from tests.databases import new_db

registry = Registry()


class Circle(Embedded):
    radius: Mapped[int] = field(name="r")


class Square(Embedded):
    side: Mapped[int]
    made: Mapped[date] = field(default=date(2020, 1, 2))


class Base(Embedded):
    a: Mapped[int]


class Sub(Base):
    b: Mapped[int] = field(default=0)


class Colour(Enum):
    RED = "r"
    GREEN = "g"


class Drawing(Document, registry=registry):
    __collection__ = "drawings"
    id: Mapped[int] = field(primary_key=True)
    shape: Mapped[Circle | Square | None] = field(default=None)
    shapes: Mapped[list[Circle | Square]] = field(factory=list)
    named: Mapped[dict[str, Circle | Square]] = field(factory=dict)
    pair: Mapped[tuple[Circle | Square, int] | None] = field(default=None)
    base: Mapped[Base | None] = field(default=None)
    bases: Mapped[list[Base]] = field(factory=list)
    colour: Mapped[Colour] = field(default=Colour.RED)
    colours: Mapped[list[Colour]] = field(factory=list)
    days: Mapped[list[date]] = field(factory=list)
    title: Mapped[str] = field(default="")
    size: Mapped[int] = field(default=0)
    limit: Mapped[int | None] = field(default=None)
    weight: Mapped[float] = field(default=0.0)
    data: Mapped[np.ndarray | None] = field(default=None)
    numbers: Mapped[list[float]] = field(factory=list)
    face: Mapped[np.ndarray | None] = vector(2)


SQUARE = Square(side=3)
ANY: Any = Drawing


def drawing() -> Drawing:
    return Drawing(
        id=1,
        shape=SQUARE,
        shapes=[SQUARE, Circle(radius=1)],
        named={"k": SQUARE},
        pair=(SQUARE, 1),
        base=Sub(a=1, b=2),
        bases=[Sub(a=1, b=2)],
        colours=[Colour.GREEN],
        days=[date(2021, 1, 1)],
        data=np.ones((2, 2)),
        numbers=[1.0, 2.0],
        face=np.array([1, 2], np.float32),
    )


@pytest.fixture
def db(mongodb_uri: str) -> Iterator[DB]:
    """One drawing."""
    with new_db(mongodb_uri, [drawing()]) as db:
        yield db


def stored(mongodb_uri: str, db: DB, collection: str = "drawings") -> dict[str, Any]:
    """The document, read by PyMongo."""
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        name: Any = db.parts.data_backend
        found = client[name.name][collection].find_one()
    assert found is not None
    return found


CONDITIONS: list[Callable[[], Any]] = [
    lambda: ANY.shape == SQUARE,
    lambda: ANY.shape.in_([SQUARE]),
    lambda: func.if_null(ANY.shape, None) == SQUARE,
    lambda: func.if_null(ANY.shape, Circle(radius=1)) == SQUARE,
    lambda: func.if_null(column("nothing"), SQUARE) == ANY.shape,
    lambda: case((ANY.size == 0, SQUARE)) == ANY.shape,
    lambda: case((ANY.size == 0, ANY.shape)) == SQUARE,
    lambda: func.cond(ANY.size == 1, Circle(radius=1), SQUARE) == ANY.shape,
    lambda: func.eq(ANY.shape, SQUARE),
    lambda: ANY.shapes == [SQUARE, Circle(radius=1)],
    lambda: ANY.shapes == (SQUARE, Circle(radius=1)),
    lambda: ANY.shapes.in_([[SQUARE, Circle(radius=1)]]),
    lambda: ANY.shapes.contains(SQUARE),
    lambda: ANY.shapes.all_([SQUARE]),
    lambda: ANY.shapes[0] == SQUARE,
    lambda: func.array_elem_at(ANY.shapes, 0) == SQUARE,
    lambda: func.array_first(ANY.shapes) == SQUARE,
    lambda: func.array_last(ANY.shapes) == Circle(radius=1),
    lambda: func.in_(SQUARE, ANY.shapes),
    lambda: func.index_of_array(ANY.shapes, SQUARE) == 0,
    lambda: func.set_is_subset([SQUARE], ANY.shapes),
    lambda: func.set_equals(ANY.shapes, [Circle(radius=1), SQUARE]),
    lambda: func.concat_arrays(ANY.shapes, [SQUARE]) == [SQUARE, Circle(radius=1), SQUARE],
    lambda: func.size(func.filter(ANY.shapes, lambda item: item == SQUARE)) == 1,
    lambda: func.filter(ANY.shapes, lambda item: item != SQUARE) == [Circle(radius=1)],
    lambda: ANY.named == {"k": SQUARE},
    lambda: ANY.named["k"] == SQUARE,
    lambda: ANY.pair == (SQUARE, 1),
    lambda: ANY.pair[0] == SQUARE,
    lambda: ANY.base == Sub(a=1, b=2),
    lambda: func.array_first(ANY.bases) == Sub(a=1, b=2),
    lambda: func.in_(Sub(a=1, b=2), ANY.bases),
    lambda: func.in_(Colour.GREEN, ANY.colours),
    lambda: func.in_(date(2021, 1, 1), ANY.days),
    lambda: ANY.data == np.ones((2, 2)),
    lambda: ANY.numbers == np.array([1, 2]),
    lambda: ANY.face == [1, 2],
    lambda: ANY.face == np.array([1, 2]),
    lambda: ANY.face.in_([np.array([1, 2])]),
]


@pytest.mark.parametrize("condition", CONDITIONS)
def test_finds_what_is_there(db: DB, condition: Callable[[], Any]) -> None:
    """Values are compared as they are stored: with the discriminator, as Binary, as arrays."""
    made = condition()
    again: Select[Any, Any] = Select.from_dict(select(Drawing.id).where(made).to_dict(), registry=registry)
    for statement in select(Drawing.id).where(made), pickle.loads(pickle.dumps(select(Drawing.id).where(made))), again:
        with Session(db) as session:
            assert [1] == session.scalars(statement).all()
            assert [] == session.scalars(select(Drawing.id).where(~made)).all()


@pytest.mark.parametrize("condition", [ANY.shapes != [SQUARE, Circle(radius=1)], ANY.named != {"k": SQUARE}])
def test_deletes_nothing_that_is_equal(db: DB, condition: Any) -> None:
    """``!=`` of an equal value holds for no document."""
    with Session(db) as session:
        assert 0 == session.execute(delete(Drawing).where(condition)).matched
        assert 1 == session.count(select(Drawing))


@pytest.mark.parametrize(
    ("change", "attribute", "value"),
    [
        (lambda: ANY.shape.to(case((ANY.size == 1, None), else_=Square(side=5))), "shape", Square(side=5)),
        (lambda: ANY.shape.to(func.if_null(None, Circle(radius=2))), "shape", Circle(radius=2)),
        (lambda: ANY.shape.to(func.literal(Circle(radius=2))), "shape", Circle(radius=2)),
        (lambda: ANY.shapes.to(func.array(SQUARE)), "shapes", [SQUARE]),
        (lambda: ANY.shapes.to(func.concat_arrays([SQUARE], [SQUARE])), "shapes", [SQUARE, SQUARE]),
        (lambda: ANY.base.to(case((ANY.size == 1, None), else_=Sub(a=3))), "base", Sub(a=3)),
        (lambda: ANY.base.to(case((ANY.size == 0, Base(a=3)))), "base", Base(a=3)),
        (lambda: ANY.colour.to(case((ANY.size == 0, Colour.GREEN), else_=Colour.RED)), "colour", Colour.GREEN),
        (lambda: ANY.days.to(func.array(date(2022, 1, 1))), "days", [date(2022, 1, 1)]),
    ],
)
def test_stores_what_is_read_again(
    db: DB, mongodb_uri: str, change: Callable[[], Any], attribute: str, value: Any
) -> None:
    """What an expression makes of Python values is stored as the same value in an object would be."""
    expected = drawing()
    setattr(expected, attribute, value)
    statement = update(Drawing).all().set(change())
    again: Update[Drawing] = Update.from_dict(statement.to_dict(), registry=registry)
    for one in statement, again:
        with db.begin() as session:
            session.execute(one)
        changed = stored(mongodb_uri, db)[attribute]
        with db.begin() as session:
            assert value == getattr(session.get_one(Drawing, 1), attribute)
            session.execute(delete(Drawing).all())
            session.add(expected)
            session.flush()
        assert stored(mongodb_uri, db)[attribute] == changed
        with db.begin() as session:
            session.execute(delete(Drawing).all())
            session.add(drawing())
        expected = drawing()
        setattr(expected, attribute, value)


@pytest.mark.parametrize(
    ("made", "value"),
    [
        (lambda: case((ANY.size > 0, Colour.GREEN), else_=Colour.RED), Colour.RED),
        (lambda: case((ANY.size > 0, Circle(radius=1)), else_=Square(side=2)), Square(side=2)),
        (lambda: case((ANY.size > 0, date(2020, 1, 1)), else_=date(2021, 1, 1)), date(2021, 1, 1)),
        (lambda: case((ANY.size > 0, Colour.GREEN), else_="none"), "none"),
        (lambda: case((ANY.size > 0, ANY.shape), else_=Circle(radius=7)), Circle(radius=7)),
        (lambda: func.literal(Colour.RED), Colour.RED),
        (lambda: func.literal([Colour.RED, Colour.GREEN]), [Colour.RED, Colour.GREEN]),
        (lambda: func.literal({"a": date(2020, 1, 1)}), {"a": date(2020, 1, 1)}),
        (lambda: func.literal((1, date(2020, 1, 1))), (1, date(2020, 1, 1))),
        (lambda: func.literal({1, 2}), {1, 2}),
        (lambda: func.literal(SQUARE), SQUARE),
        (lambda: func.literal({"$ne": date(2020, 1, 1)}), {"$ne": date(2020, 1, 1)}),
        (lambda: func.if_null(ANY.shape, Circle(radius=1)), SQUARE),
        (lambda: func.if_null(column("nothing"), Colour.RED), "r"),
        (lambda: func.map(ANY.colours, lambda item: item), [Colour.GREEN]),
        (lambda: func.map(ANY.shapes, lambda item: func.if_null(item, SQUARE)), [SQUARE, Circle(radius=1)]),
        (lambda: func.filter(ANY.shapes, lambda item: item[Square.side] == 3), [SQUARE]),
        (lambda: func.filter(func.map(ANY.shapes, lambda item: item), lambda item: item == SQUARE), [SQUARE]),
        (lambda: func.reduce(ANY.shapes, None, lambda value, this: this), Circle(radius=1)),
        (lambda: func.slice(ANY.bases, 1), [Sub(a=1, b=2)]),
        (lambda: func.array_max(ANY.days), date(2021, 1, 1)),
        (lambda: func.array_max(ANY.size, ANY.weight), 0.0),
        (lambda: func.push(func.filter(ANY.shapes, lambda item: item == SQUARE)), [[SQUARE]]),
        (lambda: func.top(ANY.shapes, order_by=ANY.size), [SQUARE, Circle(radius=1)]),
        (lambda: func.set_union(ANY.colours, [Colour.GREEN]), [Colour.GREEN]),
        (lambda: func.array(ANY.colour, Colour.GREEN), [Colour.RED, Colour.GREEN]),
        (lambda: ANY.size * 2, 0),
        (lambda: ANY.size * 1.5, 0.0),
        (lambda: ANY.size + 2**62 + 2**62 + 2**62, float(3 * 2**62)),
    ],
)
def test_reads_values_of_their_types(db: DB, made: Callable[[], Any], value: Any) -> None:
    """Rows hold objects of the types that the expressions are of, also under labels and in rows of rows."""
    statement = select(made().label("v")).select_from(Drawing)
    for one in statement, pickle.loads(pickle.dumps(statement)), statement.then():
        with Session(db) as session:
            (found,) = session.scalars(one).all()
        assert (type(value), value) == (type(found), found)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: ANY.size.to(ANY.title), "Drawing.size cannot become Drawing.title: it holds int, not str"),
        (lambda: ANY.size.to(func.upper(ANY.title)), "Drawing.size cannot become func.upper(Drawing.title): it"),
        (lambda: ANY.size.inc(ANY.title), "Drawing.size cannot become Drawing.title: it holds int, not str"),
        (lambda: ANY.title.to(ANY.size + 1), "Drawing.title cannot become func.add(Drawing.size, 1): it holds str"),
        (lambda: ANY.shapes.to(ANY.shape), "it holds list[Circle | Square], not Circle | Square | None"),
        (lambda: ANY.shapes.to(func.array_first(ANY.shapes)), "it holds list[Circle | Square], not Circle | Square"),
        (lambda: ANY.title.to(ANY.named["k"].made), "it holds str, not date"),
        (lambda: ANY.days.to(case((ANY.size > 0, 1), else_=2)), "it holds list[date], not int"),
        (lambda: ANY.title.to(func.literal(None)), "expected str, got NoneType None; func.if_null() gives another"),
        (lambda: ANY.title.to(case((ANY.size > 0, "x"))), "expected str, got NoneType None"),
        (lambda: ANY.colour.to(case((ANY.size > 0, "q"), else_="r")), "expected Colour, got str 'q'"),
        (lambda: ANY.colour.to(func.if_null(ANY.colour, "q").label("x")), "expected Colour, got str 'q'"),
        (lambda: ANY.colours.to(func.concat_arrays(ANY.colours, ["q"])), "expected Colour, got str 'q'"),
        (lambda: ANY.size.to(case((ANY.size > 0, 1.5), else_=0)), "expected int, got float 1.5"),
        (lambda: ANY.face == np.ones(3), "Drawing.face cannot be compared: expected vector of 2 numbers, not of shape"),
    ],
)
def test_refuses_what_surely_does_not_fit(wrong: Callable[[], Any], message: str) -> None:
    """An expression of another type is refused where it is assigned, a vector of another dimension where compared."""
    with pytest.raises(StatementError) as raised:
        wrong()
    assert message in str(raised.value)


def test_a_decimal_grows_by_any_number(mongodb_uri: str) -> None:
    """The server adds ints and floats to decimals, which stay such; the other way round is refused."""

    class Account(Document, registry=Registry()):
        __collection__ = "accounts"
        id: Mapped[int] = field(primary_key=True)
        n: Mapped[int]
        balance: Mapped[Decimal]
        bonus: Mapped[Decimal | None] = field(default=Decimal("0.5"))

    made: Any = Account
    with new_db(mongodb_uri, [Account(id=1, n=3, balance=Decimal("1.25"))]) as db:
        with db.begin() as session:
            grown = made.balance.inc(made.n), made.bonus.inc(made.n * 1.5)
            session.execute(update(Account).where(made.id == 1).set(*grown))
        expected = {"_id": 1, "n": 3, "balance": Decimal128("4.25"), "bonus": Decimal128("5.0")}
        assert expected == stored(mongodb_uri, db, "accounts")
    with pytest.raises(StatementError, match=r"Account\.n cannot become .*: it holds int, not Decimal"):
        made.n.inc(made.balance)


@pytest.mark.parametrize(
    "change",
    [
        lambda: ANY.size.to(ANY.size / 2),
        lambda: ANY.size.to(ANY.weight),
        lambda: ANY.weight.to(ANY.size),
        lambda: ANY.size.to(func.array_first(column("anything"))),
        lambda: ANY.size.to(func.to_int(ANY.title)),
        lambda: ANY.shape.to(func.array_first(ANY.shapes)),
        lambda: ANY.shape.to(func.object(_type="Circle", r=1)),
        lambda: ANY.shape.to(func.literal(None)),
        lambda: ANY.title.to(case((ANY.title != "", ANY.title), else_="x")),
        lambda: ANY.size.to(func.max(ANY.size, None, 0)),
        lambda: ANY.size.to(ANY.limit),
        lambda: ANY.base.a.to(ANY.limit.label("x")),
        lambda: ANY.size.to(case((ANY.limit != None, ANY.limit), else_=0)),  # noqa: E711 - a condition
        lambda: ANY.colour.to(case((ANY.size > 0, "g"), else_=Colour.RED)),
        lambda: ANY.colour.to(ANY.title),
    ],
)
def test_leaves_alone_what_may_fit(change: Callable[[], Any]) -> None:
    """Of what is not sure nothing is said: numbers may be whole, and a text an Enum's value."""
    assert change().op == "to"
