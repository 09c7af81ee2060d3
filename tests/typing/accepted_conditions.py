"""Conditions and values computed from fields, with the types that both type checkers infer."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any, Never, assert_type
from uuid import uuid4

from superorm import Expr, Field, Predicate, aliased, case, column, func, score, utcnow
from tests.typing.classes import Address, Colour, Film, Imdb, Mood, Movie, Person, Product, Role, Stamped


def conditions() -> None:
    """Each operator is a condition on the class whose field it began with."""
    assert_type(Movie.year == 1990, Predicate[Movie])
    assert_type(Movie.year != 1990, Predicate[Movie])
    assert_type(Movie.year > 1990, Predicate[Movie])
    assert_type(Movie.year >= 1990, Predicate[Movie])
    assert_type(Movie.year <= 1990, Predicate[Movie])
    assert_type(Movie.length < 3, Predicate[Movie])
    assert_type(Movie.length != None, Predicate[Movie])  # noqa: E711
    assert_type(Movie.year.between(1990, 1999), Predicate[Movie])
    assert_type(Movie.year.in_([1990, 1991]), Predicate[Movie])
    assert_type(Movie.year.in_(range(1990, 1999)), Predicate[Movie])
    assert_type(Movie.year.not_in({1990}), Predicate[Movie])
    assert_type(Movie.length.in_([1.5, None]), Predicate[Movie])
    assert_type(Movie.length.is_(None), Predicate[Movie])
    assert_type(Movie.length.exists(), Predicate[Movie])
    assert_type(Movie.mood == Mood.WILD, Predicate[Movie])
    assert_type(Movie.mood.in_([Mood.WILD, Mood.CALM]), Predicate[Movie])
    assert_type(Movie.size == "long", Predicate[Movie])
    assert_type(Movie.added > utcnow(), Predicate[Movie])
    assert_type(Movie.imdb == Imdb(rating=8.3), Predicate[Movie])
    assert_type((Movie.year > 1990) & (Movie.title == "Heat") | ~(Movie.plot == ""), Predicate[Movie])
    assert_type(Product.serial == uuid4(), Predicate[Product])
    assert_type(Product.price < Decimal("9.99"), Predicate[Product])
    assert_type(Product.made == date(2020, 1, 1), Predicate[Product])
    assert_type(Product.colour == Colour("red"), Predicate[Product])
    assert_type(Product.address == Address(city="Ulm"), Predicate[Product])
    assert_type(Film.version == 1, Predicate[Film])
    assert_type(Movie.id == 5, Predicate[Movie])


def texts() -> None:
    """Texts, and lists of texts, are searched."""
    assert_type(Movie.title.startswith("H"), Predicate[Movie])
    assert_type(Movie.title.startswith("h", ignore_case=True), Predicate[Movie])
    assert_type(Person.name.endswith("a"), Predicate[Person])
    assert_type(Movie.title.contains("ea", ignore_case=True), Predicate[Movie])
    assert_type(Movie.title.regex("^H"), Predicate[Movie])
    assert_type(Movie.genres.regex("^H", ignore_case=True), Predicate[Movie])
    assert_type(func.upper(Movie.title).startswith("H"), Predicate[Movie])


def lists() -> None:
    """Lists, sets and tuples match by their elements."""
    assert_type(Movie.genres.contains("Heist"), Predicate[Movie])
    assert_type(Movie.tags.contains("x"), Predicate[Movie])
    assert_type(Product.labels.contains("x"), Predicate[Product])
    assert_type(Product.codes.contains("x"), Predicate[Product])
    assert_type(Movie.genres.all_(["Heist", "Crime"]), Predicate[Movie])
    assert_type(Movie.genres == ["Heist"], Predicate[Movie])
    assert_type(Movie.cast.any_(Role.actor == "dn", Role.name.is_(None)), Predicate[Movie])
    assert_type(Movie.cast.contains(Role(actor="dn")), Predicate[Movie])
    assert_type(Movie.genres.size(), Expr[Movie, int])
    assert_type(Movie.genres.size() > 2, Predicate[Movie])


def parts() -> None:
    """Parts of values have their own types."""
    assert_type(Movie.imdb[Imdb.votes] >= 3, Predicate[Movie])
    assert_type(Movie.imdb.rating > 7, Predicate[Movie])
    assert_type(Movie.imdb.rating, Field[Movie, Any])
    assert_type(Movie.cast.name == "Al", Predicate[Movie])
    assert_type(Movie.genres[0], Field[Movie, str | None])
    assert_type(Movie.cast[0], Field[Movie, Role | None])
    assert_type(Movie.cast[0][Role.actor], Field[Movie, str])
    assert_type(Movie.cast[0].actor, Field[Movie, Any])
    assert_type(Product.labels[1], Field[Product, str | None])
    assert_type(Product.grid[1], Field[Product, list[float] | None])
    assert_type(Product.grid[1][0], Field[Product, float | None])
    assert_type(Product.meta["key"], Field[Product, int | None])
    assert_type(Product.meta["key"] > 3, Predicate[Product])
    assert_type(Product.address["city"], Field[Product, Any])
    assert_type(Movie.genres.item(), Field[Movie, str])
    assert_type(Movie.tags.item(), Field[Movie, str])
    assert_type(Product.labels.item(), Field[Product, str])
    assert_type(Product.codes.item(), Field[Product, str])
    assert_type(Movie.cast.item(), Field[Movie, Role])
    assert_type(Movie.cast.item()[Role.name], Field[Movie, str | None])
    assert_type(Movie.cast.item().name, Field[Movie, Any])


def fields_compared() -> None:
    """Fields are compared with fields and expressions, of other classes too."""
    assert_type(Movie.title == Movie.plot, Predicate[Movie])
    assert_type(Movie.length > Movie.year, Predicate[Movie])
    assert_type(Movie.year > Movie.length, Predicate[Movie])
    assert_type(Movie.year > Movie.year + 1, Predicate[Movie])
    assert_type(Movie.year.between(Movie.year - 1, Movie.year + 1), Predicate[Movie])
    assert_type(Product.stock > func.to_double(Product.price), Predicate[Product])
    assert_type(Product.movie_id == Movie.id, Predicate[Product])
    assert_type(Movie.title == Person.name, Predicate[Movie])
    other = aliased(Product, "other")
    assert_type(other, type[Product])
    assert_type(Product.parent == other.id, Predicate[Product])


def combined() -> None:
    """Conditions on a base class and on none in particular keep the class; those on two classes are for joined rows."""
    assert_type((Film.reels > 1) & (Movie.year > 1), Predicate[Film])
    assert_type((Movie.year > 1) & (Film.reels > 1), Predicate[Film])
    assert_type((Stamped.added < utcnow()) | (Movie.year > 1), Predicate[Movie])
    assert_type((func.count() > 1) & (Movie.year > 1), Predicate[Movie])
    assert_type((Movie.year > 1) | (score() > 0.5), Predicate[Movie])
    assert_type((Movie.year > 1) | (Person.name == "x"), Predicate[Never])
    assert_type((Movie.year > 1) | (Person.name == "x") & (Movie.year < 9), Predicate[Never])
    assert_type(~(Movie.year > 1), Predicate[Movie])


def arithmetic() -> None:
    """Arithmetic on numbers; what may be null stays so."""
    assert_type(Movie.year + 1, Expr[Movie, int])
    assert_type(1 + Movie.year, Expr[Movie, int])
    assert_type(Movie.year - Movie.year, Expr[Movie, int])
    assert_type(2000 - Movie.year, Expr[Movie, int])
    assert_type(Movie.year * 2, Expr[Movie, int])
    assert_type(2 * Movie.year, Expr[Movie, int])
    assert_type(Movie.year * 1.5, Expr[Movie, float])
    assert_type(Movie.year % 10, Expr[Movie, int])
    assert_type(10 % Movie.year, Expr[Movie, int])
    assert_type(-Movie.year, Expr[Movie, int])
    assert_type(Movie.year / 2, Expr[Movie, float])
    assert_type(1 / Movie.year, Expr[Movie, float])
    assert_type(Movie.length + 1, Expr[Movie, float | None])
    assert_type(-Movie.length, Expr[Movie, float | None])
    assert_type(Movie.length / 2, Expr[Movie, float | None])
    assert_type(Movie.year / Movie.length, Expr[Movie, float | None])
    assert_type(Product.price + 1, Expr[Product, Decimal])
    assert_type(Product.price - Decimal(1), Expr[Product, Decimal])
    assert_type(Product.price / 2, Expr[Product, Decimal])
    assert_type(Product.discount / 2, Expr[Product, Decimal | None])
    assert_type(2 / Product.price, Expr[Product, Decimal])
    assert_type(Product.price / Product.stock, Expr[Product, Decimal])
    assert_type(Movie.year + Product.stock, Expr[Movie, int])
    assert_type((Movie.year - Movie.year % 10) / 10 > 3, Predicate[Movie])
    assert_type(func.count() * 2, Expr[object, int])
    assert_type(func.sum(Movie.year) / func.count(), Expr[Movie, float])


def values() -> None:
    """Cases, labels, columns and constants."""
    assert_type(case((Movie.year < 1930, "silent"), else_="sound"), Expr[Movie, str])
    assert_type(case((Movie.year < 1930, 1), (Movie.year < 1950, 2), else_=3), Expr[Movie, int])
    assert_type(case((Movie.year < 1930, Movie.title), else_=Movie.plot), Expr[Movie, str])
    assert_type(case((Movie.year < 1930, "silent")), Expr[Movie, str | None])
    assert_type(column("more"), Expr[object, Any])
    assert_type(score(), Expr[object, float])
    assert_type(score() > 0.5, Predicate[object])
    assert_type(func.literal(5), Expr[object, int])
    label = (Movie.year + 1).label("next")
    assert_type(label > 1990, Predicate[Movie])
    assert_type(label + 1, Expr[Movie, int])


def of_dates(when: datetime) -> None:
    """Dates are computed with by functions."""
    assert_type(func.year(Movie.added) == 1990, Predicate[Movie])
    assert_type(func.date_add(Movie.added, "day", 1) > when, Predicate[Movie])
    assert_type(func.date_diff(Movie.added, when, "day") < 30, Predicate[Movie])
