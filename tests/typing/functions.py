"""The types of `func`, as both type checkers infer them."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any, assert_type

from superorm import Expr, Predicate, func, select, utcnow
from tests.typing.classes import Imdb, Movie, Person, Product, Role


def over_rows() -> None:
    """Accumulators keep the class that they are about, and the type of the values."""
    assert_type(func.count(), Expr[object, int])
    assert_type(func.count(Movie), Expr[Movie, int])
    assert_type(func.count(Movie.title), Expr[Movie, int])
    assert_type(func.sum(Movie.year), Expr[Movie, int])
    assert_type(func.sum(Movie.length), Expr[Movie, float])
    assert_type(func.sum(Product.price), Expr[Product, Decimal])
    assert_type(func.sum(Product.parent), Expr[Product, int])
    assert_type(func.sum(Product.price * Product.stock), Expr[Product, Decimal])
    assert_type(func.avg(Movie.year), Expr[Movie, float | None])
    assert_type(func.avg(Product.price), Expr[Product, Decimal | None])
    assert_type(func.max(Movie.title), Expr[Movie, str])
    assert_type(func.min(Movie.added), Expr[Movie, datetime])
    assert_type(func.max(Movie.year, 1990), Expr[Movie, int])
    assert_type(func.max(Movie.year, Movie.length), Expr[Movie, float | None])
    assert_type(func.sum(Movie.year, Movie.year, 3), Expr[Movie, int])
    assert_type(func.std_dev_pop(Movie.year), Expr[Movie, float | None])
    assert_type(func.std_dev_samp(Movie.year), Expr[Movie, float | None])
    assert_type(func.merge_objects(Movie.imdb), Expr[Movie, dict[str, Any]])
    assert_type(func.first(Movie.added), Expr[Movie, datetime])
    assert_type(func.last(Movie.title), Expr[Movie, str])
    assert_type(func.push(Movie.title), Expr[Movie, list[str]])
    assert_type(func.push(Movie.imdb), Expr[Movie, list[Imdb | None]])
    assert_type(func.add_to_set(Movie.year), Expr[Movie, list[int]])
    assert_type(func.top(Movie.title, order_by=Movie.year.desc()), Expr[Movie, str])
    assert_type(func.bottom(Movie.title, order_by=Movie.year), Expr[Movie, str])
    assert_type(func.top_n(3, Movie.title, order_by=[Movie.year, Movie.title.desc()]), Expr[Movie, list[str]])
    assert_type(func.bottom_n(3, Movie.title, order_by=Movie.year), Expr[Movie, list[str]])
    assert_type(func.first_n(3, Movie.title), Expr[Movie, list[str]])
    assert_type(func.last_n(3, Movie.title), Expr[Movie, list[str]])
    assert_type(func.max_n(3, Movie.year), Expr[Movie, list[int]])
    assert_type(func.min_n(3, Movie.year), Expr[Movie, list[int]])
    assert_type(func.percentile(Movie.year, [0.5, 0.9]), Expr[Movie, list[float] | None])
    assert_type(func.median(Movie.year), Expr[Movie, float | None])


def over_windows() -> None:
    """Operators of windows."""
    assert_type(func.document_number(), Expr[object, int])
    assert_type(func.rank(), Expr[object, int])
    assert_type(func.dense_rank(), Expr[object, int])
    assert_type(func.shift(Movie.year, -1), Expr[Movie, int | None])
    assert_type(func.shift(Movie.year, -1, 0), Expr[Movie, int | None])
    assert_type(func.derivative(Movie.year, "day"), Expr[Movie, float | None])
    assert_type(func.integral(Movie.year), Expr[Movie, float | None])
    assert_type(func.exp_moving_avg(Movie.year, n=3), Expr[Movie, float | None])
    assert_type(func.derivative(Product.price), Expr[Product, Decimal | None])
    assert_type(func.integral(Product.price), Expr[Product, Decimal | None])
    assert_type(func.exp_moving_avg(Product.price, n=3), Expr[Product, Decimal | None])
    assert_type(func.linear_fill(Movie.length), Expr[Movie, float | None])
    assert_type(func.locf(Movie.length), Expr[Movie, float | None])
    assert_type(func.covariance_pop(Movie.year, Movie.length), Expr[Movie, float | None])


def texts() -> None:
    """Texts that may be null make texts that may be null."""
    assert_type(func.lower(Movie.title), Expr[Movie, str])
    assert_type(func.upper(Movie.title), Expr[Movie, str])
    assert_type(func.concat(Movie.title, "!"), Expr[Movie, str])
    assert_type(func.concat(Movie.title, " ", Movie.plot), Expr[Movie, str])
    assert_type(func.concat(Movie.title, Movie.cast.item()[Role.name]), Expr[Movie, str | None])
    assert_type(func.trim(Movie.title), Expr[Movie, str])
    assert_type(func.trim(Movie.cast.item()[Role.name], "-"), Expr[Movie, str | None])
    assert_type(func.split(Movie.title, " "), Expr[Movie, list[str]])
    assert_type(func.split(Movie.cast.item()[Role.name], " "), Expr[Movie, list[str] | None])
    assert_type(func.substr_cp(Movie.title, 0, 3), Expr[Movie, str])
    assert_type(func.str_len_cp(Movie.title), Expr[Movie, int])
    assert_type(func.regex_match(Movie.title, "^H", "i"), Predicate[Movie])
    assert_type(func.str_len_bytes(Movie.title), Expr[object, Any])


def numbers() -> None:
    """Numbers keep their kind."""
    assert_type(func.abs(Movie.year), Expr[Movie, int])
    assert_type(func.ceil(Product.price), Expr[Product, Decimal])
    assert_type(func.floor(Movie.length), Expr[Movie, float | None])
    assert_type(func.round(Movie.length, 1), Expr[Movie, float | None])
    assert_type(func.trunc(Movie.year, -1), Expr[Movie, int])
    assert_type(func.rand() < 0.3, Predicate[object])


def dates() -> None:
    """Dates, also those that may be null, and parts of them."""
    assert_type(func.year(Movie.added), Expr[Movie, int])
    assert_type(func.month(Movie.added, "Europe/Berlin"), Expr[Movie, int])
    assert_type(func.day_of_month(Movie.added), Expr[Movie, int])
    assert_type(func.hour(Movie.added), Expr[Movie, int])
    assert_type(func.date_trunc(Movie.added, "month"), Expr[Movie, datetime])
    assert_type(func.date_trunc(Movie.added, unit="week", bin_size=2, start_of_week="mon"), Expr[Movie, datetime])
    assert_type(func.date_add(Movie.added, "day", 3), Expr[Movie, datetime])
    assert_type(func.date_subtract(Movie.added, "day", 3), Expr[Movie, datetime])
    assert_type(func.date_diff(Movie.added, Movie.added, "day"), Expr[Movie, int])
    assert_type(func.date_diff(Movie.added, utcnow(), "day"), Expr[Movie, int])
    assert_type(func.date_to_string(Movie.added, "%Y-%m"), Expr[Movie, str])
    assert_type(func.min(Product.made), Expr[Product, date | None])


def choices() -> None:
    """The type of a choice is that of its values."""
    assert_type(func.if_null(Movie.length, 0.0), Expr[Movie, float])
    assert_type(func.if_null(Movie.length, Movie.length, 0.0), Expr[Movie, float])
    assert_type(func.if_null(Movie.length, Movie.year), Expr[Movie, float])
    assert_type(func.cond(Movie.year > 1990, "new", "old"), Expr[Movie, str])
    assert_type(func.cond(Movie.year > 1990, Movie.title, "old"), Expr[Movie, str])
    assert_type(func.cond(Movie.year > 1990, Movie.title, Movie.plot), Expr[Movie, str])
    assert_type(func.eq(Movie.title, "x"), Predicate[Any])
    assert_type(func.not_(Movie.length), Predicate[Any])
    select(Movie).where(func.eq(Movie.title, "x") & (Movie.year > 1) | func.not_(Movie.length))


def conversions() -> None:
    """Conversions give the type that they are named after."""
    assert_type(func.to_string(Movie.year), Expr[Movie, str])
    assert_type(func.to_int(Movie.title), Expr[Movie, int])
    assert_type(func.to_long(Movie.title), Expr[Movie, int])
    assert_type(func.to_double(Product.price), Expr[Product, float])
    assert_type(func.to_decimal(Movie.year), Expr[Movie, Decimal])
    assert_type(func.to_bool(Movie.year), Expr[Movie, bool])
    assert_type(func.to_date(Movie.title), Expr[Movie, datetime])
    assert_type(func.is_number(Movie.year), Predicate[Movie])
    assert_type(func.is_array(Movie.year), Predicate[Movie])


def lists() -> None:
    """Functions of items know the items' type."""
    assert_type(func.filter(Movie.genres, lambda item: item > "C"), Expr[Movie, list[str]])
    assert_type(func.filter(Movie.cast, lambda item: item[Role.actor] == "x", 3), Expr[Movie, list[Role]])
    assert_type(func.map(Movie.genres, lambda item: func.str_len_cp(item)), Expr[Movie, list[int]])
    assert_type(func.map(Movie.genres, func.upper), Expr[Movie, list[str]])
    assert_type(func.map(Movie.cast, lambda item: item.name), Expr[Movie, list[Any]])
    assert_type(func.map(Movie.cast, lambda item: item[Role.actor]), Expr[Movie, list[str]])
    assert_type(func.map(Product.marks, lambda item: item * 2 + 1), Expr[Product, list[int]])
    assert_type(func.reduce(Movie.genres, 0, lambda value, this: value + func.str_len_cp(this)), Expr[Movie, int])
    assert_type(func.sort_array(Movie.genres, -1), Expr[Movie, list[str]])
    assert_type(func.sort_array(Movie.cast, Role.actor.desc()), Expr[Movie, list[Role]])
    assert_type(func.array_elem_at(Movie.genres, -1), Expr[Movie, str | None])
    assert_type(func.array_first(Movie.genres), Expr[Movie, str | None])
    assert_type(func.array_last(Movie.genres), Expr[Movie, str | None])
    assert_type(func.size(Movie.genres), Expr[Movie, int])
    assert_type(func.concat_arrays(Movie.genres, ["x"]), Expr[Movie, list[str]])
    assert_type(func.concat_arrays(Movie.genres, Movie.genres), Expr[Movie, list[str]])
    assert_type(func.zip(Movie.genres, Movie.cast), Expr[Movie, list[list[Any]]])
    assert_type(func.in_("x", Movie.genres), Predicate[Movie])
    assert_type(func.set_is_subset(["x"], Movie.genres), Predicate[Movie])
    assert_type(func.set_equals(Movie.genres, Movie.genres), Predicate[Movie])
    assert_type(func.any_element_true(Product.marks), Predicate[Product])
    assert_type(func.all_elements_true(Product.marks), Predicate[Product])


def documents() -> None:
    """Documents and lists made of values."""
    assert_type(func.object(title=Movie.title, five=5), Expr[object, dict[str, Any]])
    assert_type(func.array(Movie.title, Movie.plot), Expr[Movie, list[str]])
    assert_type(func.array(Movie.title, "x"), Expr[object, list[str]])
    assert_type(func.get_field(Product.meta, "a.b"), Expr[Product, Any])
    assert_type(func.set_field(Product.meta, "a.b", 5), Expr[Product, dict[str, Any]])
    assert_type(func.unset_field(Product.meta, "a.b"), Expr[Product, dict[str, Any]])


def within_statements() -> None:
    """Functions of a class stand where fields of the class do."""
    select(Movie).where(func.size(Movie.genres) > 1, func.is_number(Movie.year))
    select(Movie).order_by(func.lower(Movie.title), func.rand().desc())
    select(Movie.year, func.count()).group_by(Movie.year).having(func.count() > 1)
    select(Person.name, func.str_len_bytes(Person.name))
