# ruff: noqa: E711, E712
"""Every operator on mongomock: what a server gives, or a refusal that names the operator."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from bson import Decimal128

import superorm
from superorm import (
    DB,
    Document,
    Embedded,
    Mapped,
    Session,
    StatementError,
    SuperormError,
    UnsupportedError,
    field,
    func,
    select,
    update,
)
from superorm.backends.mongomock_engine import mongomock_client
from superorm.expr.nodes import case
from tests.compile.test_operators import (
    ACCUMULATORS,
    BOUNDED,
    DOCUMENT,
    ROWS,
    SCALARS,
    UNKNOWN,
    WINDOWS,
    Actor,
    Film,
    _calls,
    _close,
)
from tests.databases import drop_database

DAYS = [dt.datetime(2024, 2, day, 23, 30, tzinfo=dt.UTC) for day in (27, 28, 29)]


class Part(Embedded):
    name: Mapped[str]
    price: Mapped[Decimal | None] = field(default=None)


class Order(Document):
    __collection__ = "mock_orders"
    id: Mapped[int] = field(primary_key=True)
    price: Mapped[Decimal]
    share: Mapped[float]
    flag: Mapped[bool]
    day: Mapped[dt.datetime]
    n: Mapped[int | None] = field(default=None)
    name: Mapped[str] = field(default="")
    prices: Mapped[list[Decimal]] = field(factory=list)
    days: Mapped[list[dt.datetime]] = field(factory=list)
    counts: Mapped[list[int]] = field(factory=list)
    table: Mapped[list[list[int]]] = field(factory=list)
    any: Mapped[Any] = field(default=None)
    parts: Mapped[list[Part]] = field(factory=list)


def orders() -> list[Order]:
    return [
        Order(
            id=n,
            price=Decimal(n) + Decimal("0.5"),
            share=n / 2,
            flag=bool(n % 2),
            day=DAYS[n % 3],
            n=n if n % 2 else None,
            name=["Al", "bo", "Émile"][n % 3],
            prices=[Decimal("1.5"), Decimal(n)],
            days=DAYS[: n % 3],
            counts=[n, 1, 2],
            table=[[n], [1, 2]],
            any=[True, 1, 1.5, None, "1", Decimal128("1")][n % 6],
            parts=[Part(name="x", price=Decimal(n)), Part(name="y")][: n % 3],
        )
        for n in range(1, 8)
    ]


@pytest.fixture(scope="module")
def mock() -> Iterator[DB]:
    """A mongomock database with the documents of the operators' tables."""
    name = f"operators_{uuid4().hex[:8]}"
    mongomock_client(name)[name]["film"].insert_one({**DOCUMENT})
    with superorm.connect(f"mongomock://{name}") as db:
        with db.begin() as session:
            session.add_all(orders())
        yield db


@pytest.fixture(scope="module")
def server(mongodb_uri: str) -> Iterator[DB]:
    """The orders on a server."""
    name = f"operators_{uuid4().hex[:12]}"
    with superorm.connect(mongodb_uri, database=name, vector_database="memory://") as db:
        with db.begin() as session:
            session.add_all(orders())
        yield db
        drop_database(db.parts.data_backend.client, name)  # type: ignore[attr-defined]


_GUARDS = {"$type", "$mergeObjects"}
"""What superorm itself writes around other operators."""


def _operators(node: Any) -> set[str]:
    return {call.operator.op for call in _calls(node)}


def _answer(db: DB, entity: Any, source: type) -> Any:
    with Session(db) as session:
        return session.scalars(select(entity.label("value")).select_from(source)).all()


def _check(mock: DB, node: Any, expected: Any, source: type) -> None:
    """A right answer, or a refusal that names one of the operators and mongomock."""
    found = _outcome(mock, select(node.label("value")).select_from(source))
    if isinstance(found, UnsupportedError):
        assert "mongomock" in str(found)
        assert any(op in str(found) for op in {*_operators(node), *_GUARDS} - {""}), found
        return
    assert not isinstance(found, Exception), found
    found = [row[0] for row in found]
    value = (
        [{"name": item.name, "born": item.born} if isinstance(item, Actor) else item for item in found[0]]
        if found[0].__class__ is list
        else found[0]
    )
    assert expected is UNKNOWN or _close(expected, value), found


@pytest.mark.parametrize(("node", "_", "expected"), SCALARS, ids=[str(row[1])[:60] for row in SCALARS])
def test_scalars(mock: DB, node: Any, _: Any, expected: Any) -> None:
    """The tables' operators of values."""
    _check(mock, node, expected, Film)


@pytest.mark.parametrize(("call", "_", "expected"), ACCUMULATORS, ids=repr)
def test_accumulators(mock: DB, call: Any, _: Any, expected: Any) -> None:
    """The tables' operators over rows, in the order of the documents."""
    name = mock.parts.data_backend.name
    collection = mongomock_client(name)[name]["film"]
    kept = list(collection.find())
    collection.delete_many({})
    try:
        collection.insert_many([{**row} for row in ROWS])
        _check(mock, call, expected, Film)
    finally:
        collection.delete_many({})
        collection.insert_many(kept)


@pytest.mark.parametrize(("call", "_", "__"), WINDOWS, ids=repr)
def test_windows(mock: DB, call: Any, _: Any, __: Any) -> None:
    """There are no windows at all."""
    frame: dict[str, Any] = {"documents": ("unbounded", "unbounded")} if call.operator.name in BOUNDED else {}
    with pytest.raises(UnsupportedError, match=r"mongomock has no \$"):
        _answer(mock, superorm.window(call, order_by=Film.n, **frame), Film)


K = Order
LATER = DAYS[1]
TYPED: list[Any] = [
    *(
        getattr(func, name)(getattr(K, kind))
        for name in ("min", "max", "first", "last", "push")
        for kind in (
            "price",
            "share",
            "flag",
            "day",
            "n",
            "name",
            "prices",
            "days",
            "any",
        )
    ),
    *(getattr(func, name)(getattr(K, kind)) for name in ("sum", "avg") for kind in ("price", "share", "n", "id")),
    *(
        getattr(func, f"array_{name}")(getattr(K, kind))
        for name in ("min", "max", "first", "last")
        for kind in (
            "prices",
            "days",
            "counts",
            "table",
        )
    ),
    *(getattr(func, f"array_{name}")(getattr(K, kind)) for name in ("sum", "avg") for kind in ("prices", "counts")),
    K.price + 1,
    K.price * K.price,
    K.price - K.id,
    K.price / 3,
    K.price % 2,
    func.abs(K.price),
    func.ceil(K.price),
    func.floor(K.price),
    func.trunc(K.price),
    func.trunc(K.price, 1),
    func.sqrt(K.price),
    func.pow(K.price, 2),
    K.price + K.share,
    func.avg(K.price + K.share),
    K.share / 3,
    K.id % 4,
    K.n + 1,
    func.pow(K.id, 2),
    func.pow(2, K.share),
    func.subtract(K.day, K.days[0]),
    func.subtract(K.day, 1000),
    func.add(K.day, 1000),
    func.if_null(K.n, K.price),
    *(
        getattr(func, name)(K.day, zone)
        for name in ("year", "month", "day_of_month", "hour", "day_of_week", "week")
        for zone in ("+02:00", "-0330", "Asia/Tokyo", "UTC")
    ),
    func.eq(K.n, None),
    func.eq(K.any, 1),
    func.gt(K.any, 1),
    func.lt(K.price, K.share),
    func.gt(K.table, [[3]]),
    func.in_(1, K.counts),
    func.in_(Decimal(1), K.prices),
    func.in_(K.any, [1, True]),
    func.size(K.prices),
    func.filter(K.days, lambda day: day >= LATER),
    func.filter(K.prices, lambda price: price > Decimal(2)),
    func.filter(K.prices, lambda price: price > Decimal(1), limit=1),
    func.map(K.prices, lambda price: price * 2),
    func.concat_arrays(K.prices, K.days),
    func.slice(K.counts, -2),
    func.slice(K.counts, -2, 1),
    func.slice(K.counts, 9, 1),
    K.counts[1],
    func.array_elem_at(K.prices, -1),
    K.table[0],
    K.parts[0].price,
    func.array_to_object(func.object_to_array(func.object(a=K.n))),
    func.concat(K.name, "x"),
    func.split(K.name, "l"),
    case((K.any == 1, "one"), (K.flag == True, K.name), else_=K.n),
    func.and_(K.n, K.share),
    func.or_(K.n, K.any),
    func.not_(K.any),
    func.is_number(K.any),
    func.is_array(K.prices),
]


@pytest.mark.parametrize("grouped", [False, True], ids=["plain", "grouped"])
@pytest.mark.parametrize("entity", TYPED, ids=repr)
def test_typed(mock: DB, server: DB, entity: Any, grouped: bool) -> None:
    """Decimals, dates, lists in lists, null: on mongomock as on a server, over rows and in groups."""
    statement = select(entity.label("value")).order_by(Order.id)
    if getattr(getattr(entity, "operator", None), "kind", "") == "accumulator":
        statement = select(entity.label("value"))
        if grouped:
            statement = select(Order.flag, entity.label("value")).group_by(Order.flag).order_by(Order.flag)
    elif grouped:
        statement = select(Order.flag, func.push(entity).label("value")).group_by(Order.flag).order_by(Order.flag)
    _compare(mock, server, statement, _operators(entity))


CONDITIONS: list[Any] = [
    K.price > 2,
    K.price == Decimal("2.5"),
    K.price.in_([Decimal("1.5"), Decimal("3.5")]),
    K.price < K.share,
    K.share == 1,
    K.price.between(2, 4),
    K.flag == True,
    K.any == 1,
    K.any == True,
    K.any != 1,
    K.any == Decimal128("1"),
    K.any.in_([1, "1"]),
    K.any > 1,
    K.any == None,
    K.n > 0,
    ~(K.n > 0),
    K.n == None,
    K.n.exists(),
    K.share == math.nan,
    K.share > math.nan,
    K.day > LATER,
    K.day == LATER,
    K.days.contains(LATER),
    K.prices.contains(Decimal("1.50")),
    K.counts.size() == 3,
    K.counts.all_([1, 2]),
    K.counts == [1, 1, 2],
    K.counts[0] > 3,
    K.table.contains([3]),
    K.table[1][0] == 1,
    K.parts.any_(Part.price > 1),
    K.parts.any_(Part.price == Decimal(1), Part.name == "x"),
    K.parts[Part.price] > 3,
    K.parts[0].price == Decimal(4),
    K.parts.size() == 0,
    K.name.startswith("A"),
    K.name.regex("^É"),
    K.name.regex("B", ignore_case=True),
    K.name.contains("il"),
    K.name.regex(r"^\w+$"),
    K.name.regex(r"^\w+$", ignore_case=True),
    K.prices[0] < K.prices[1],
    func.array_sum(K.prices) > 4,
    func.year(K.day, "+02:00") == 2024,
    func.hour(K.day, "+02:00") == 1,
]
SORTS: list[Any] = [
    [K.price],
    [K.price.desc()],
    [K.any, K.id],
    [K.any.desc(), K.id],
    [K.n, K.id],
    [K.day, K.price.desc()],
    [K.name],
    [K.prices, K.id],
    [func.array_sum(K.prices), K.id],
]


@pytest.mark.parametrize("condition", CONDITIONS, ids=repr)
def test_conditions(mock: DB, server: DB, condition: Any) -> None:
    """The same of conditions on typed data, in filters, in expressions, and turned round."""
    for one in (condition, ~condition, func.cond(condition, True, False) == True):
        _compare(
            mock, server, select(Order.id).where(one).order_by(Order.id), {"$regex", "$cond", *_operators(condition)}
        )


@pytest.mark.parametrize("sort", SORTS, ids=repr)
def test_sorts(mock: DB, server: DB, sort: Any) -> None:
    """And of orders: of numbers of all types, of different types, and of lists, which mongomock cannot sort by."""
    for statement in select(Order.id), select(Order.id, func.abs(Order.id).label("value")):
        _compare(mock, server, statement.order_by(*sort), {"sort by"})


UPDATES: list[Any] = [
    [K.price.inc(Decimal("1.5"))],
    [K.share.inc(2.0)],
    [K.price.to(K.price * 2)],
    [K.day.to(func.add(K.day, 1000))],
    [K.n.to(func.if_null(K.n, 0) + 1)],
    [K.any.to(func.array_avg(K.prices))],
    [K.any.to(func.array_max(K.days))],
    [K.prices.pull(Decimal("1.5"))],
    [K.prices.add_to_set(Decimal("1.50"), Decimal(9), Decimal("9.0"))],
    [K.counts.pull(1)],
    [K.parts.pull(Part.price > 3)],
    [K.days.push(LATER)],
    [K.any.to(func.divide(K.id, 0))],
    [K.any.to(func.trunc(K.share, 1))],
    [K.table.pull([1, 2])],
]


@pytest.mark.parametrize("assignments", UPDATES, ids=repr)
def test_updates(mock: DB, server: DB, assignments: Any) -> None:
    """Updates, most of them by pipelines, leave what a server has, fail as there, or are refused by name."""
    outcomes: list[Any] = []
    for db in (mock, server):
        session = db.session()
        try:
            session.execute(update(Order).where(Order.id > 2).set(*assignments))
            outcomes.append([repr(row) for row in session.execute(select(Order).order_by(Order.id)).all()])
            session.rollback()
        except SuperormError as error:
            outcomes.append(error)
        finally:
            session.close()
            _restore(mock)
    if isinstance(outcomes[0], UnsupportedError):
        assert "mongomock" in str(outcomes[0])
        assert "$" in str(outcomes[0])
    elif isinstance(outcomes[1], SuperormError):
        assert isinstance(outcomes[0], type(outcomes[1])), outcomes
    else:
        assert outcomes[1] == outcomes[0]


def _restore(mock: DB) -> None:
    name = mock.parts.data_backend.name
    mongomock_client(name)[name]["mock_orders"].delete_many({})
    with mock.begin() as session:
        session.add_all(orders())


ERRORS: list[Any] = [
    Order.id / (Order.id - 3),
    Order.id % (Order.id - 3),
    func.ln(Order.id - 3),
    func.sqrt(Order.id - 3),
    func.add(Order.id, Order.name),
    func.size(Order.name),
    func.hour(Order.name),
    func.hour(Order.day, timezone="Nowhere"),
]


@pytest.mark.parametrize("entity", ERRORS, ids=repr)
def test_errors(mock: DB, server: DB, entity: Any) -> None:
    """What fails on a server fails in the same way."""
    statement = select(entity.label("value")).order_by(Order.id)
    outcomes = [_outcome(db, statement) for db in (mock, server)]
    assert type(outcomes[1]) is type(outcomes[0]), outcomes
    assert isinstance(outcomes[0], (StatementError, list))


def _outcome(db: DB, statement: Any) -> Any:
    with Session(db) as session:
        try:
            return session.execute(statement).all()
        except SuperormError as error:
            return error


def _compare(mock: DB, server: DB, statement: Any, names: set[str]) -> None:
    found, expected = _outcome(mock, statement), _outcome(server, statement)
    if isinstance(found, UnsupportedError):
        assert "mongomock" in str(found)
        assert any(name in str(found) for name in {*names, *_GUARDS} - {""}), found
    elif isinstance(expected, Exception):
        assert type(expected) is type(found), (expected, found)
    else:
        assert not isinstance(found, Exception), found
        assert list(map(repr, expected)) == list(map(repr, found))
