"""What comes back is of the type that the type checkers were told."""

from __future__ import annotations

import ast
import types
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Union, get_args, get_origin
from uuid import uuid4

import pymongo
import pytest
from bson import Decimal128

import superorm
from superorm import DB, Predicate, Session, func, select, window
from superorm.expr.base import Call
from superorm.expr.kinds import is_call, is_field, walk
from tests.databases import drop_database
from tests.typing import functions
from tests.typing.classes import Movie, Product

_AT = datetime(2020, 1, 31, 12, tzinfo=UTC)
MOVIES: list[dict[str, Any]] = [
    {
        "_id": n,
        "title": title,
        "year": 1990 + n,
        "length": length,
        "genres": ["Drama", "Comedy"],
        "tags": ["a"],
        "cast": [{"actor": "x", "name": "y"}, {"actor": "z", "name": None}],
        "imdb": {"rating": 7.5, "votes": 3},
        "mood": "calm",
        "size": "short",
        "p": "a plot",
        "added": _AT.replace(day=n),
    }
    for n, title, length in ((1, "1990", 90.0), (2, "2020-01-31T00:00:00Z", 5), (3, "Heat", None))
]
PRODUCTS: list[dict[str, Any]] = [
    {
        "_id": n,
        "price": Decimal128("1.50"),
        "discount": None,
        "stock": n,
        "meta": {"k": 1},
        "labels": ["a"],
        "codes": ["c"],
        "grid": [[1.0]],
        "marks": [1, 2],
        "made": datetime(2020, 1, n, tzinfo=UTC),
        "serial": uuid4(),
        "parent": n,
    }
    for n in (1, 2)
]
NEWER = {"percentile", "median"}
"""Operators that the servers of the tests may not have."""
TITLES = {"to_int": "1990", "to_long": "1990", "to_date": "2020-01-31T00:00:00Z"}
"""The titles that can be converted."""


def assertions() -> Iterator[Any]:
    """Each expression of the typing tests of `func`, with the type that is asserted of it."""
    source = Path(functions.__file__).read_text()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "assert_type":
            made, kind = (ast.unparse(argument) for argument in node.args)
            if not any(made.startswith(f"func.{name}(") for name in NEWER):
                yield pytest.param(made, kind, id=made)


def is_of(value: object, kind: Any) -> bool:
    """Whether a value is an instance of a type, its items too."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(is_of(value, member) for member in arguments)
    if origin is list:
        return isinstance(value, list) and all(is_of(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(is_of(item, arguments[1]) for item in value.values())
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is datetime:
        return isinstance(value, datetime) and value.tzinfo is not None
    if kind is date:
        return type(value) is date
    return isinstance(value, kind)


@pytest.fixture(scope="module")
def db(mongodb_uri: str) -> Iterator[DB]:
    """Movies and products, written by PyMongo."""
    name = f"types_{uuid4().hex[:10]}"
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri, uuidRepresentation="standard") as client:
        client[name]["movie"].insert_many(MOVIES)
        client[name]["product"].insert_many(PRODUCTS)
        with superorm.connect(mongodb_uri, database=name, vector_database="memory://") as db:
            yield db
        drop_database(client, name)


def statement(made: Any, root: Any) -> Any:
    """A select of the expression, over the rows that it needs."""
    calls = [node for _, node in walk([made]) if is_call(node)]
    items = any(part.step == ("element", None) for _, node in walk([made]) if is_field(node) for part in node._parts)  # pyright: ignore[reportPrivateUsage]
    if isinstance(made, Call) and made.operator.kind == "window":
        unit = "unit" in dict(made.options)
        order: Any = Product.stock if root is Product else Movie.added if unit else Movie.year
        made = window(made, order_by=order, documents=(-1, 0) if made.operator.name == "derivative" else None)
    title = next((TITLES[call.operator.name] for call in calls if call.operator.name in TITLES), None)
    found = select(made.label("v")).select_from(root)
    found = found if title is None else found.where(Movie.title == title)
    return found.unwind(Movie.cast) if items else found


def test_there_are_assertions() -> None:
    """They are found."""
    assert len(list(assertions())) > 90


@pytest.mark.parametrize(("made", "kind"), [*assertions()])
def test_rows_are_of_the_asserted_type(db: DB, made: str, kind: str) -> None:
    """Each function of the typing tests gives what `assert_type` says that it gives."""
    names = vars(functions)
    asserted = eval(kind, names)
    expected = bool if get_origin(asserted) is Predicate or asserted is Predicate else get_args(asserted)[1]
    with Session(db) as session:
        values = session.scalars(statement(eval(made, names), Product if "Product." in made else Movie)).all()
    assert values
    assert [] == [value for value in values if not is_of(value, expected)]


def test_sums_of_nothing(db: DB) -> None:
    """Over no rows too."""
    with Session(db) as session:
        prices = session.execute(select(func.sum(Product.price), func.avg(Product.price)).where(Product.id == 0)).one()
        lengths = session.scalars(select(func.sum(Movie.length)).where(Movie.year == 0)).one()
    assert (Decimal, type(None), float) == (type(prices[0]), type(prices[1]), type(lengths))
