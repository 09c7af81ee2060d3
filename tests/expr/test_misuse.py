"""What no type checker can refuse raises when it runs, and says what to write."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from superorm import Field, StatementError, func, score, select, update
from superorm.unitofwork.result import row_class
from tests.typing.classes import Film, Imdb, Movie, Person, Review

recent, long = Movie.year > 1990, Movie.title == "Heat"


@pytest.mark.parametrize(
    "code",
    [
        lambda: recent and long,
        lambda: recent or long,
        lambda: not recent,
        lambda: 1 < Movie.year < 5,
        lambda: Movie.year in [1, 2],
        lambda: [1] if recent else [2],
        lambda: bool(Movie.title),
        lambda: bool(func.count()),
        lambda: bool(score()),
        lambda: any([recent, long]),
        lambda: sorted([Movie.year, Movie.title], key=lambda one: one),
    ],
)
def test_no_truth_value(code: Callable[[], object]) -> None:
    """Python's own ``and``, ``or``, ``not``, ``if`` and chained comparisons ask for a truth value."""
    with pytest.raises(TypeError, match=r"has no truth value: combine conditions with & \| ~, and write \.between\("):
        code()


def test_no_items() -> None:
    """Nor can fields be iterated, or asked for items."""
    with pytest.raises(TypeError, match="cannot be iterated"):
        list(Movie.genres)
    with pytest.raises(TypeError, match=r"write \.contains\(\.\.\.\), not `in Movie.genres`"):
        assert "Heist" in Movie.genres
    with pytest.raises(TypeError, match="can be combined with conditions only, not with bool True"):
        assert recent & True
    with pytest.raises(TypeError, match="unhashable"):
        hash(Movie.year)


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        (lambda: select(Movie).where((Movie.year > 1) & (Person.name == "x")), "Person"),
        (lambda: select(Movie).where(Movie.title == Person.name), "Person"),
        (lambda: select(Movie).where(Review.stars > 3), "Review"),
        (lambda: select(Movie).where(Film.reels > 3), "Film"),
        (lambda: select(Movie).where(Imdb.rating > 3), "Imdb"),
        (lambda: select(Movie).order_by(Person.name), "Person"),
        (lambda: select(Movie, Person.name), "Person"),
        (lambda: update(Movie).where(Person.name == "x").values(year=1), "Person"),
        (lambda: update(Movie).all().set(Person.name.to("x")), "Person"),
    ],
)
def test_wrong_owner(statement: Callable[[], object], named: str) -> None:
    """Fields of another class are refused when the statement compiles, also where types were given up."""
    with pytest.raises(StatementError, match=named):
        str(statement())


def test_names_of_values() -> None:
    """Keywords are checked when the statement is made."""
    with pytest.raises(StatementError, match=r"Movie has no 'yeer'; there are .*year"):
        update(Movie).values(yeer=1)


def test_names_of_rows() -> None:
    """Rows name their columns."""
    row = row_class(["title", "year"])(("Heat", 1995))
    assert "Heat" == row.title
    with pytest.raises(AttributeError, match="the row has no 'yeer'; it has title, year"):
        _ = row.yeer


def test_unknown_parts() -> None:
    """Names of parts that are not in the types are looked up in the class."""
    assert isinstance(Movie.imdb.rating, Field)
    with pytest.raises(AttributeError, match="rating"):
        _ = Movie.imdb.ratng
