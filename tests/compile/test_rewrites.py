"""Rewrites of pipelines, and refusals of what a backend lacks."""

from __future__ import annotations

from typing import Any

import pytest

from superorm import (
    Document,
    Mapped,
    Registry,
    Select,
    UnsupportedError,
    aliased,
    case,
    column,
    delete,
    func,
    select,
    update,
)
from superorm.compile.compiler import compile_select
from superorm.compile.plan import Aggregate
from superorm.compile.rewrites import optimized
from superorm.compile.writes import compile_delete, compile_update
from superorm.expr.writes import Delete, Update
from tests.compile.classes import Movie, Person

unwound = select(Movie.title).unwind(Movie.genres, index="place")
joined = select(Movie.title).join(Person, Movie.title == Person.id)


def names(statement: Select[Any, Any]) -> list[str]:
    """The names of the stages."""
    return [next(iter(stage)) for stage in statement.pipeline()]


@pytest.mark.parametrize(
    "statement",
    [
        unwound.where(Movie.year > 1),
        unwound.where(Movie.year + 1 > Movie.imdb.votes),
        unwound.where(case((Movie.year > 1, True), else_=False) == True),  # noqa: E712
        joined.where((Movie.year > 1) | (Movie.plot == "x")),
        select(Movie.title).order_by(-Movie.year).then().where(Movie.year > 1),
    ],
    ids=str,
)
def test_conditions_go_first(statement: Select[Any, Any]) -> None:
    """Before what they do not depend on."""
    assert "$match" == names(statement)[0]


@pytest.mark.parametrize(
    "statement",
    [
        unwound.where(Movie.genres.item() != "x"),
        unwound.where(column("place") == 1),
        unwound.where(func.rand() < 0.5),
        unwound.where(func.get_field(column("place"), "x") == 1),
        unwound.stage({"$match": {"$expr": {"$getField": "genres"}}}),
        unwound.stage({"$match": {"$expr": {"$in": ["x", {"$objectToArray": "$$ROOT"}]}}}),
        joined.where(Person.name == Movie.title),
        joined.where((Movie.year > 1) | (Person.name == "x")),
        select(Movie.title).order_by(Movie.year).limit(3).then().where(Movie.year > 1),
        select(Movie.title).offset(3).then().where(Movie.year > 1),
        select(Movie.title).unwind(Movie.cast).where(~(Movie.cast.item().imdb.rating > 1)),
    ],
    ids=str,
)
def test_conditions_stay(statement: Select[Any, Any]) -> None:
    """Behind what makes or chooses the rows that they are about, or where each row has to be asked."""
    assert "$match" != names(statement)[0]


GENRES = {"$unwind": {"path": "$genres", "includeArrayIndex": "__place"}}
IMPLIED: list[tuple[Select[Any, Any], list[dict[str, Any]]]] = [
    (
        unwound.where(Movie.genres.item() == "x"),
        [{"$match": {"genres": "x"}}, GENRES, {"$match": {"genres": "x"}}],
    ),
    (
        unwound.where(Movie.genres.item().in_(["x", "y"]), Movie.genres.item() > "a", Movie.year == 1),
        [
            {"$match": {"year": 1, "genres": {"$in": ["x", "y"], "$gt": "a"}}},
            GENRES,
            {"$match": {"genres": {"$in": ["x", "y"], "$gt": "a"}}},
        ],
    ),
    (
        unwound.where(Movie.genres.item().startswith("x"), Movie.genres.item() != "xy"),
        [{"$match": {"genres": {"$regex": "^x"}}}, GENRES, {"$match": {"genres": {"$regex": "^x", "$ne": "xy"}}}],
    ),
    (
        select(Movie.title).unwind(Movie.cast).where(Movie.cast.item().born > 1, Movie.cast.item().imdb.is_(None)),
        [
            {"$match": {"cast.born": {"$gt": 1}}},
            {"$unwind": "$cast"},
            {"$match": {"cast.born": {"$gt": 1}, "cast.imdb": None}},
        ],
    ),
    # what the elements' absence may meet, and elements that may be lists themselves
    (
        unwound.where(Movie.genres.item().in_(["x", None])),  # type: ignore[list-item]
        [GENRES, {"$match": {"genres": {"$in": ["x", None]}}}],
    ),
    (
        unwound.where((Movie.genres.item() == "x") | (Movie.genres.item() == "y")),
        [GENRES, {"$match": {"$or": [{"genres": "x"}, {"genres": "y"}]}}],
    ),
    (
        select(Movie.title).unwind(Movie.tags).where(Movie.tags.item().contains("x")),
        [{"$unwind": "$tags"}, {"$match": {"tags": "x"}}],
    ),
    (
        select(Movie.title).unwind(Movie.tags).unwind(Movie.tags.item()).where(Movie.tags.item().item() == "x"),
        [{"$unwind": "$tags"}, {"$unwind": "$tags"}, {"$match": {"tags": "x"}}],
    ),
    # a condition that was there before stays the only one
    (
        unwound.where(Movie.genres.item() == "x").unwind(Movie.cast).where(Movie.genres.contains("x")),
        [{"$match": {"genres": "x"}}, GENRES, {"$match": {"genres": "x"}}, {"$unwind": "$cast"}],
    ),
]


@pytest.mark.parametrize(("statement", "expected"), IMPLIED, ids=str)
def test_conditions_on_items_imply_some_on_the_list(
    statement: Select[Any, Any], expected: list[dict[str, Any]]
) -> None:
    """One of the elements meets it, so an index on the list finds the documents."""
    assert expected == statement.pipeline()[:-1]


PERSON = {"$lookup": {"from": "person", "localField": "title", "foreignField": "_id", "as": "__Person"}}
other = aliased(Movie, "other")
SORTED: list[tuple[Select[Any, Any], list[dict[str, Any]]]] = [
    (
        joined.order_by(Movie.year.desc(), Movie.title).limit(5),
        [{"$sort": {"year": -1, "title": 1}}, PERSON, {"$unwind": "$__Person"}, {"$limit": 5}],
    ),
    (
        joined.where(Movie.year > 1)
        .unwind(Movie.genres)
        .join(other, other.title == Movie.genres.item())
        .order_by(Movie.year),
        [
            {"$match": {"year": {"$gt": 1}}},
            PERSON,
            {"$unwind": "$__Person"},
            {"$unwind": "$genres"},
            {"$sort": {"year": 1}},
            {"$lookup": {"from": "movies", "localField": "genres", "foreignField": "title", "as": "__other"}},
            {"$unwind": "$__other"},
        ],
    ),
    (
        select(Movie.title).join(Person, Movie.genres[0] == Person.id, outer=True).order_by(Movie.year, Movie.genres),
        [
            {"$sort": {"year": 1, "genres": 1}},
            {"$set": {"__Person": {"$arrayElemAt": [{"$cond": [{"$isArray": "$genres"}, "$genres", []]}, 0]}}},
            {"$lookup": {"from": "person", "localField": "__Person", "foreignField": "_id", "as": "__Person"}},
            {"$unwind": {"path": "$__Person", "preserveNullAndEmptyArrays": True}},
        ],
    ),
    (unwound.order_by(Movie.year), [GENRES, {"$sort": {"year": 1}}]),
    # not by what the stages make, and not before the conditions on it
    (
        joined.order_by(Movie.year, Person.name),
        [PERSON, {"$unwind": "$__Person"}, {"$sort": {"year": 1, "__Person.name": 1}}],
    ),
    (unwound.order_by(Movie.year, column("place")), [GENRES, {"$sort": {"year": 1, "__place": 1}}]),
    (unwound.order_by(Movie.genres.item()), [GENRES, {"$sort": {"genres": 1}}]),
    (
        joined.where(Person.name == "x").order_by(Movie.year),
        [PERSON, {"$unwind": "$__Person"}, {"$match": {"__Person.name": "x"}}, {"$sort": {"year": 1}}],
    ),
    (unwound.limit(3).then().order_by(Movie.year), [GENRES, {"$limit": 3}, {"$sort": {"year": 1}}]),
    (unwound.sample(3).order_by(Movie.year), [GENRES, {"$sample": {"size": 3}}, {"$sort": {"year": 1}}]),
]


@pytest.mark.parametrize(("statement", "expected"), SORTED, ids=str)
def test_orders_go_first(statement: Select[Any, Any], expected: list[dict[str, Any]]) -> None:
    """By stored fields: before the joins after which nothing else stands, as these keep it."""
    assert expected == statement.pipeline()[:-1]


@pytest.mark.parametrize(
    "stage",
    [
        {"$limit": 0},
        {"$limit": -1},
        {"$limit": 2.5},
        {"$limit": True},
        {"$skip": -1},
        {"$sort": {}},
        {"$project": {}},
        {"$lookup": 1},
        {"$unwind": 1},
        {"$set": 1},
    ],
    ids=str,
)
def test_raw_stages_are_left_to_the_server(stage: dict[str, Any]) -> None:
    """What no find, and no rewrite, takes as a pipeline does: the server says what is wrong with it."""
    for statement in select(Movie).stage(stage), select(Movie).stage(stage).then().order_by(Movie.year):
        plan = compile_select(statement).read
        assert isinstance(plan, Aggregate)
        assert stage == plan.pipeline[0]


def test_stages_without_conditions_are_left_alone() -> None:
    """The same list, not a copy."""
    stages: list[dict[str, Any]] = [{"$unwind": "$a"}, {"$sort": {"a": 1}}]
    assert optimized(stages) is stages


def test_sorting_by_what_the_server_knows() -> None:
    """It stands beside a field of any name."""
    statement = select(Movie.title).order_by(func.meta("textScore"), Movie.title)
    assert {"$sort": {"__1": {"$meta": "textScore"}, "title": 1}} == statement.pipeline()[0]


def test_literals_are_no_operators() -> None:
    """A value that looks like an operator is not taken for one that the backend lacks."""
    lacking = frozenset({"$merge", "$toInt"})
    value = {"$merge": 1}
    for condition in Movie.meta == value, Movie.meta != value, Movie.meta.in_([value, {}]), Movie.meta > value:
        compile_select(select(Movie.title).where(condition), lacking, "x")
        compile_select(select(Movie.title).where(condition).sample(1), lacking, "x")
        compile_update(update(Movie).where(condition).values(year=1), lacking, "x")
        compile_delete(delete(Movie).where(condition), lacking, "x")


@pytest.mark.parametrize(
    "statement",
    [
        select(Movie.title).where(func.to_int(Movie.title) == 1),
        select(Movie.title).where((func.to_int(Movie.title) == 1) | (Movie.year == 1)),
        select(func.to_int(Movie.title)),
        select(Movie).facet(a=select(Movie.title).where(func.to_int(Movie.title) == 1)),
        update(Movie).where(func.to_int(Movie.title) == 1).values(year=1),
        update(Movie).all().set(Movie.year.to(func.to_int(Movie.title))),
        delete(Movie).where(func.to_int(Movie.title) == 1),
    ],
    ids=repr,
)
def test_operators_are_found_wherever_they_stand(statement: Any) -> None:
    """What the backend lacks is refused by name."""
    compiler: Any = compile_select
    if isinstance(statement, (Update, Delete)):
        compiler = compile_update if isinstance(statement, Update) else compile_delete
    with pytest.raises(UnsupportedError, match=r"^this backend has no \$toInt$"):
        compiler(statement, frozenset({"$toInt"}), "this backend")


def test_lists_that_may_hold_anything_imply_nothing() -> None:
    """Where a class keeps values of a wrong type, a list in the list could be the item."""

    class Keeping(Document, registry=Registry()):
        __on_mismatch__ = "keep"
        tags: Mapped[list[str]]

    statement = select(Keeping.id).unwind(Keeping.tags).where(Keeping.tags.item() == "a")
    assert [{"$unwind": "$tags"}, {"$match": {"tags": "a"}}, {"$project": {"_id": 1}}] == statement.pipeline()
