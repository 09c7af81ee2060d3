"""Rewrites of pipelines, and refusals of what a backend lacks."""

from __future__ import annotations

from typing import Any

import pytest

from superorm import Select, UnsupportedError, case, column, delete, func, select, update
from superorm.compile.compiler import compile_select
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
        unwound.where(Movie.genres.item() == "x"),
        unwound.where(column("place") == 1),
        unwound.where(func.rand() < 0.5),
        unwound.where(func.get_field(column("place"), "x") == 1),
        unwound.stage({"$match": {"$expr": {"$getField": "genres"}}}),
        unwound.stage({"$match": {"$expr": {"$in": ["x", {"$objectToArray": "$$ROOT"}]}}}),
        joined.where(Person.name == Movie.title),
        joined.where((Movie.year > 1) | (Person.name == "x")),
        select(Movie.title).order_by(Movie.year).limit(3).then().where(Movie.year > 1),
        select(Movie.title).offset(3).then().where(Movie.year > 1),
        select(Movie.title).unwind(Movie.cast).where(Movie.cast.item().imdb.rating > 1),
    ],
    ids=str,
)
def test_conditions_stay(statement: Select[Any, Any]) -> None:
    """Behind what makes or chooses the rows that they are about, or where each row has to be asked."""
    assert "$match" != names(statement)[0]


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
