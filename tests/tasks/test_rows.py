"""What statements make of rows that others made: unions, facets, lists, groups of groups, on a real server."""

from __future__ import annotations

from collections.abc import Iterator
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
    Select,
    Session,
    StatementError,
    column,
    field,
    func,
    graph_lookup,
    select,
    window,
)
from tests.databases import drop_database

registry = Registry()


class Role(Embedded):
    actor: Mapped[str]


class Film(Document, registry=registry):
    __collection__ = "films"
    id: Mapped[int] = field(primary_key=True)
    title: Mapped[str]
    year: Mapped[int]
    gross: Mapped[int] = field(name="g")
    genres: Mapped[list[str]]
    cast: Mapped[list[Role]]


class Maker(Document, registry=registry):
    __collection__ = "makers"
    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str]
    year: Mapped[int]
    teacher: Mapped[int | None]


class Review(Document, registry=registry):
    __collection__ = "reviews"
    id: Mapped[int] = field(primary_key=True)
    film: Mapped[int]
    stars: Mapped[int] = field(default=0)


class Pet(Document, registry=registry):
    __collection__ = "rows_pets"
    id: Mapped[int] = field(primary_key=True)
    owner: Mapped[int] = field(default=0)


class Dog(Pet, registry=registry):
    barks: Mapped[int] = field(default=1)


class Cat(Pet, registry=registry):
    lives: Mapped[int] = field(default=9)


FILMS: list[dict[str, Any]] = [
    {"_id": 1, "title": "a", "year": 1990, "g": 10, "genres": ["x", "y"], "cast": [{"actor": "P"}, {"actor": "Q"}]},
    {"_id": 2, "title": "b", "year": 1990, "g": 20, "genres": [], "cast": []},
    {"_id": 3, "title": "c", "year": 1991, "g": 30, "genres": ["x"], "cast": [{"actor": "P"}]},
]
MAKERS: list[dict[str, Any]] = [
    {"_id": 1, "name": "d", "year": 1990, "teacher": 2},
    {"_id": 2, "name": "e", "year": 1960, "teacher": None},
]
REVIEWS = [{"_id": 1, "film": 1, "stars": 5}, {"_id": 2, "film": 1}, {"_id": 3, "film": 3, "stars": 2}]

n = func.count().label("n")
both = select(Film.title, Film.year).union_all(select(Maker.name, Maker.year))
BOTH = [*((one["title"], one["year"]) for one in FILMS), *((one["name"], one["year"]) for one in MAKERS)]
years = select(Film).facet(a=select(Film.year)).unwind(column("a"))
stars = select(Review.stars).where(Review.film == Film.id).as_list()
starred = stars.label("stars")
STARS = {film["_id"]: [one.get("stars", 0) for one in REVIEWS if one["film"] == film["_id"]] for film in FILMS}
double = (Film.year * 2).label("double")
more = (double + 1).label("more")
pushed = func.push(Film.gross).label("pushed")
genres = func.push(Film.title).label("genres")
taught = graph_lookup(Maker, start_with=Film.id, connect_from=Maker.teacher, connect_to=Maker.id)
raw = select(column("x"), n).select_from(Film).stage({"$set": {"x": "$year"}})
number = func.count(Review).label("number")
total = window(func.sum(Film.gross), order_by=Film.id, documents=("unbounded", "current")).label("total")
long = func.filter(Film.cast, lambda role: role[Role.actor] != "Q").label("long")
found = select(Maker.name).where(Maker.id == column("place")).as_list().label("found")

STATEMENTS: dict[str, tuple[Select[Any, Any], list[tuple[Any, ...]]]] = {
    "distinct rows of a union": (
        select(Film.year).union_all(select(Maker.year)).distinct(),
        [(1960,), (1990,), (1991,)],
    ),
    "distinct rows of groups that were unwound": (
        select(Film.year, pushed).group_by(Film.year).unwind(pushed).then(Film.year).distinct(),
        [(1990,), (1991,)],
    ),
    "distinct items of lists that groups made": (
        select(Film.year, genres).group_by(Film.year).unwind(genres).then(genres).distinct(),
        [("c",), ("a",), ("b",)],
    ),
    "a list under the name of one that was unwound": (
        select(Film.genres.item(), func.push(Film.id).label("genres")).unwind(Film.genres).group_by(Film.genres.item()),
        [("x", [1, 3]), ("y", [1])],
    ),
    "distinct rows of a facet": (years.distinct(), [(1990,), (1991,)]),
    "then after a union": (both.then(Film.year), [(year,) for _, year in BOTH]),
    "columns of a union, swapped": (
        select(Film.year, Film.gross).union_all(select(Maker.year, Maker.id)).columns(Film.gross, Film.year),
        [*((one["g"], one["year"]) for one in FILMS), *((one["_id"], one["year"]) for one in MAKERS)],
    ),
    "one column of a union": (both.columns(Film.title), [(name,) for name, _ in BOTH]),
    "more columns than of the union": (
        both.columns(Film.title, Film.year, Film.year + 1),
        [(name, year, year + 1) for name, year in BOTH],
    ),
    "the number of a union's rows": (both.columns(func.count()), [(len(BOTH),)]),
    "a union grouped by a column": (
        both.columns(column("year"), n).group_by(column("year")),
        [(1960, 1), (1990, 3), (1991, 1)],
    ),
    "titles of a union of documents": (
        select(Film).union_all(select(Film).where(Film.id == 1)).then(Film.title),
        [("a",), ("a",), ("b",), ("c",)],
    ),
    "lists of a union": (
        select(Film.id, starred).union_all(select(Film.id, starred)).where(func.size(starred) == 2),
        [(1, STARS[1]), (1, STARS[1])],
    ),
    "an order by one value computed of another": (
        select(Film.id, double, more).order_by(double, more),
        [(one["_id"], one["year"] * 2, one["year"] * 2 + 1) for one in FILMS],
    ),
    "groups of groups after then()": (
        select(Film.year, n).group_by(Film.year).then().columns(n, func.count().label("k")).group_by(n),
        [(1, 1), (2, 1)],
    ),
    "groups after then() without a label": (
        select(Film.year, func.count()).group_by(Film.year).then().where(Film.year > 1),
        [(1990, 2), (1991, 1)],
    ),
    "a computed label by its name": (select(double).then().where(column("double") > 3980), [(3982,)]),
    "a computed label by its name in an accumulator": (
        select(double).then(func.sum(column("double"))),
        [(sum(one["year"] * 2 for one in FILMS),)],
    ),
    "a label that is the name of a field too": (
        select((Film.year * 2).label("title")).then().where(column("title") > 3980),
        [(3982,)],
    ),
    "a list and its size": (
        select(Film.id, starred, func.size(stars).label("size")),
        [(key, values, len(values)) for key, values in STARS.items()],
    ),
    "a list by its name": (
        select(Film.id, starred).then().where(func.size(column("stars")) == 2),
        [(1, STARS[1])],
    ),
    "counts as lists": (
        select(
            Film.id,
            (counts := select(func.count()).select_from(Review).where(Review.film == Film.id).as_list()).label("list"),
            func.array_sum(counts).label("sum"),
        ),
        [(key, [len(values)], len(values)) for key, values in STARS.items()],
    ),
    "the sum of a facet": (
        select(Film).facet(a=select(Film.gross)).columns(func.array_sum(column("a")).label("sum")),
        [(60,)],
    ),
    "the count of a facet": (
        select(Film).facet(a=select(func.count())).columns(func.array_first(column("a")).label("count")),
        [(3,)],
    ),
    "the count of a facet without rows": (
        select(Film).where(Film.id > 9).facet(a=select(func.count())).columns(func.array_sum(column("a")).label("sum")),
        [(0,)],
    ),
    "items of a facet": (years.where(column("a") > 1990), [(1991,)]),
    "documents of an outer join": (
        select(Film.id, number).join(Review, Review.film == Film.id, outer=True).group_by(Film.id),
        [(key, len(values)) for key, values in STARS.items()],
    ),
    "groups by what a raw stage made": (raw.group_by(column("x")), [(1990, 2), (1991, 1)]),
    "distinct positions": (
        select(column("place")).select_from(Film).unwind(Film.genres, index="place").distinct(),
        [(0,), (1,)],
    ),
    "distinct lists by a path": (select(Film.cast.actor).distinct(), [(["P", "Q"],), (["P"],), ([],)]),
    "a union of paths through lists": (
        select(Film.cast.actor).union_all(select(Film.cast.actor).where(Film.id == 3)),
        [(["P", "Q"],), (["P"],), (["P"],), ([],)],
    ),
    "accumulators of paths through lists": (
        select(func.push(Film.cast.actor), func.max(Film.cast.actor)),
        [([["P", "Q"], [], ["P"]], ["P", "Q"])],
    ),
    "lists in accumulators": (
        select(Film.year, func.sum(func.size(stars)).label("sum")).group_by(Film.year),
        [(1990, 2), (1991, 1)],
    ),
    "items of a union's lists": (
        select(Film.genres).union_all(select(Film.genres).where(Film.id == 3)).unwind(Film.genres),
        [("x",), ("y",), ("x",), ("x",)],
    ),
    "items of a union's lists by their label": (
        select(Film.cast.label("all")).union_all(select(Film.cast).where(Film.id > 1)).unwind(column("all")),
        [(Role(actor="P"),), (Role(actor="Q"),), (Role(actor="P"),), (Role(actor="P"),)],
    ),
    "the sum of a window": (select(Film.id, total).then(func.sum(total)), [(10 + 30 + 60,)]),
    "sums of a window in a union": (
        select(Film.year, total)
        .union_all(select(Film.year, total))
        .columns(Film.year, func.max(total))
        .group_by(Film.year),
        [(1990, 30), (1991, 60)],
    ),
    "a join by what a raw stage made": (
        select(Film.id, Maker.name)
        .stage({"$set": {"x": {"$subtract": ["$_id", 1]}}})
        .join(Maker, Maker.id == column("x")),
        [(2, "d"), (3, "e")],
    ),
    "lists by a position": (
        select(Film.id, column("place"), found).unwind(Film.cast, index="place"),
        [(1, 0, []), (1, 1, ["d"]), (3, 0, [])],
    ),
    "lists by a label of rows that then() closed": (
        select(Film.id, (Film.id - 1).label("place")).then(Film.id, found),
        [(1, []), (2, ["d"]), (3, ["e"])],
    ),
    "embedded documents of a filtered list": (
        select(Film.id, long).where(Film.id < 3),
        [(1, [Role(actor="P")]), (2, [])],
    ),
    "items of a computed list": (select(Film.id, long).unwind(long), [(1, Role(actor="P")), (3, Role(actor="P"))]),
    "functions of items of which nothing is known": (
        select(func.map(func.array(1, 2), lambda item: item + 1), func.reduce(func.array(1, 2), 0, lambda a, b: a + b))
        .select_from(Film)
        .limit(1),
        [([2, 3], 3)],
    ),
    "graph lookups in accumulators": (
        select(Film.year, func.sum(func.size(taught)).label("sum")).group_by(Film.year),
        [(1990, 3), (1991, 0)],
    ),
}


@pytest.fixture(scope="module")
def db(mongodb_uri: str) -> Iterator[DB]:
    """The films, their makers and reviews, as they stand above."""
    name = f"rows_{uuid4().hex[:10]}"
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(mongodb_uri)
    client[name]["films"].insert_many(FILMS)
    client[name]["makers"].insert_many(MAKERS)
    client[name]["reviews"].insert_many(REVIEWS)
    with superorm.connect(mongodb_uri, database=name, vector_database="memory://", artifact_store="memory://") as db:
        yield db
    drop_database(client, name)
    client.close()


@pytest.mark.parametrize("name", STATEMENTS)
def test_rows(db: DB, name: str) -> None:
    """The rows are those of plain Python, and those of the statement that was stored and read again."""
    statement, expected = STATEMENTS[name]
    stored = Select.from_dict(statement.to_dict(), registry=registry, allow_raw=True)
    assert statement.pipeline() == stored.pipeline()
    with Session(db) as session:
        assert sorted(expected, key=repr) == sorted(map(tuple, session.execute(statement)), key=repr)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (both.columns(Film.gross), "Film.gross is not in the rows of the union; they have title, year"),
        (select(Dog.id, Cat.id).join(Cat, Pet.owner == Cat.owner), "a field of Pet is ambiguous: Dog and Cat"),
        (
            select(Dog.id, Cat.id).join(Cat, Dog.owner == Cat.owner).where(Pet.owner == 1),
            "a field of Pet is ambiguous: Dog and Cat",
        ),
        (select(Pet).where(Dog.barks == 3), "Dog is a subclass of Pet; select(Dog), or use a field of Pet"),
        (
            select(Film.id, (Film.gross * 1).label("n")).order_by((Film.year * -1).label("n")),
            "two columns have the label 'n'",
        ),
        (
            select((Film.year % 2).label("k"), n).group_by((Film.gross % 20).label("k")),
            "two columns have the label 'k'",
        ),
        (select(Film.year, n).group_by(Film.year).then(func.avg(n).label("n")), "two columns have the label 'n'"),
        (select(Film.id, double).where(column("double") > 1), "column('double') is not there yet"),
        (select(double, n).group_by(column("double")), "column('double') is not there yet"),
        (select(Film.genres.label("all")).unwind(column("all")), "column('all') is not there yet"),
        (select(Film).join(Review, Review.film == Film.id).distinct(), "select fields, as the key"),
        (select(Film).facet(a=select(Film).facet(b=select(Film))), "facet() cannot stand in a facet"),
    ],
)
def test_what_is_refused(statement: Select[Any, Any], message: str) -> None:
    """What could mean one thing or another, and what cannot be, is refused by name."""
    with pytest.raises(StatementError) as raised:
        statement.pipeline()
    assert message in str(raised.value)


def test_a_merge_is_shown() -> None:
    """By its target and its rows."""
    assert "<MergeInto totals of <Select Film.id>>" == repr(select(Film.id).merge_into("totals"))
