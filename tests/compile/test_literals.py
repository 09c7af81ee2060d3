"""A value from outside can never become an operator or a path: run on a server, against plain Python."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any
from uuid import uuid4

import numpy as np
import pymongo
import pytest
from bson import Regex
from pymongo.collection import Collection

from superorm import Predicate, StatementError, ValidationError, select
from superorm.compile.compiler import compile_select
from superorm.unitofwork.encode import CODEC_OPTIONS
from tests.compile.classes import Actor, Imdb, Movie
from tests.databases import drop_database

HOSTILE: list[Any] = [
    {"$ne": None},
    {"$where": "sleep(1)"},
    {"$gt": ""},
    {"$regex": ".*"},
    {"$expr": True},
    {"a": {"$ne": None}},
    {"$elemMatch": {"$exists": True}},
    {"$oid": "0" * 24},
    "$title",
    "$$ROOT",
    "$where",
    ".*",
    "",
    "a\0b",
    "é\n",
    ["$title", {"$ne": None}],
    [],
    {},
    None,
    2**63 - 1,
    True,
    0,
]
STORED: list[Any] = [*HOSTILE, "other", 1, 1.5, ["other"], {"a": 1}, dt.datetime(2020, 1, 1, tzinfo=dt.UTC)]


@pytest.fixture(scope="module")
def movies(mongodb_uri: str) -> Iterator[Collection[dict[str, Any]]]:
    """One document for each stored value under ``meta``, and in the list ``things``."""
    name = f"literals_{uuid4().hex[:12]}"
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        collection = client[name].get_collection("movies", codec_options=CODEC_OPTIONS)
        values = [{"_id": n, "meta": value, "things": [value]} for n, value in enumerate(STORED)]
        collection.insert_many([*values, {"_id": len(values)}])
        yield collection
        drop_database(client, name)


def found(movies: Collection[dict[str, Any]], condition: Predicate[Movie]) -> list[int]:
    """The keys of the documents that match."""
    return sorted(movie["_id"] for movie in movies.find(compile_select(select(Movie).where(condition)).find.filter))


def same(one: Any, other: Any) -> bool:
    """MongoDB's equality of the values used here."""
    return type(one) is type(other) and bool(one == other)


def equal_or_in(value: Any, stored: Any) -> bool:
    """MongoDB's ``$eq``: the value itself, or an element of a list."""
    return same(stored, value) or (isinstance(stored, list) and any(same(item, value) for item in stored))


@pytest.mark.parametrize("value", HOSTILE, ids=ascii)
def test_values_are_literals(movies: Collection[dict[str, Any]], value: Any) -> None:
    """Each operator finds what plain Python finds, whatever the value looks like."""
    missing = [len(STORED)] if value is None else []
    equal = [n for n, stored in enumerate(STORED) if equal_or_in(value, stored)] + missing
    others = [n for n in range(len(STORED) + 1) if n not in equal]
    assert equal == found(movies, Movie.meta == value)
    assert others == found(movies, Movie.meta != value)
    assert equal == found(movies, Movie.meta.in_([value]))
    assert others == found(movies, Movie.meta.not_in([value]))
    assert others == found(movies, ~(Movie.meta == value))
    assert equal == found(movies, Movie.meta.between(value, value) & (Movie.meta == value))
    holds = [n for n, stored in enumerate(STORED) if same(stored, value)]
    assert holds == [n for n in found(movies, Movie.things.contains(value)) if n < len(STORED) and holds]
    if value is not None:
        assert set(holds) <= set(found(movies, Movie.things.all_([value])))


@pytest.mark.parametrize("text", ["$title", ".*", "a\nb", "^x$", "é", "(", "[a-z]", "\\d", "#", " ", "a{2}", "ß|", "*"])
def test_texts_are_taken_literally(movies: Collection[dict[str, Any]], text: str) -> None:
    """startswith, endswith and contains find what Python finds, in server and Python expressions alike."""
    texts = ["", text, f"{text}x", f"x{text}", f"x{text}x", f"{text}\n", f"\n{text}", "other", "aa", "1"]
    texts_collection = movies.database.get_collection(f"texts_{uuid4().hex[:8]}")
    texts_collection.insert_many([{"title": one} for one in texts])
    for condition, expected in (
        (Movie.title.startswith(text), [one for one in texts if one.startswith(text)]),
        (Movie.title.endswith(text), [one for one in texts if one.endswith(text)]),
        (Movie.title.contains(text), [one for one in texts if text in one]),
    ):
        pattern = compile_select(select(Movie).where(condition)).find.filter
        assert sorted(expected) == sorted(one["title"] for one in texts_collection.find(pattern))
        assert expected == [one for one in texts if re.search(pattern["title"]["$regex"], one)]


def test_any_and_embedded_values(movies: Collection[dict[str, Any]]) -> None:
    """A value inside of any_ and of an embedded document is a literal too."""
    people = movies.database.get_collection(f"people_{uuid4().hex[:8]}")
    people.insert_many([{"cast": [{"name": "$x"}]}, {"cast": [{"name": "y"}]}])
    people.insert_one({"imdb": {"rating": 1.0, "v": 0, "desc": "$x"}})
    operator: Any = {"$ne": None}
    for condition, count in (
        (Movie.cast.any_(Actor.name == "$x"), 1),
        (Movie.cast.any_(Actor.name == operator), 0),
        (Movie.imdb == Imdb(rating=1, desc="$x"), 1),
    ):
        assert count == people.count_documents(compile_select(select(Movie).where(condition)).find.filter)


REFUSED: list[tuple[Any, str]] = [
    (2**63, "9223372036854775808 does not fit into 64 bits"),
    ([1, {"a": -(2**63) - 1}], "does not fit into 64 bits"),
    ("\ud800", "holds a lone surrogate"),
    ({"\udfff": 1}, "holds a lone surrogate"),
    ({"a\0": 1}, "'a\\x00' cannot be a key of a document"),
    ({1: 1}, "1 cannot be a key of a document"),
    (dt.datetime(2020, 1, 1), "has no time zone"),  # noqa: DTZ001
    (dt.datetime.max.replace(tzinfo=dt.timezone(dt.timedelta(hours=-1))), "beyond the years"),
    (Decimal("1" * 35), "more than the 34 digits"),
    (object(), "of type object cannot stand in a statement"),
    (Movie, "cannot stand in a statement"),
    (re.compile("x"), "of type Pattern cannot stand in a statement"),
    (Regex("x"), "of type Regex cannot stand in a statement"),
    (np.zeros(2), "of type ndarray cannot stand in a statement"),
    (np.timedelta64(1, "D"), "of type timedelta64 cannot stand in a statement"),
    (np.timedelta64("NaT"), "only what BSON holds: np.timedelta64('NaT')"),
    (np.datetime64(1, "ns"), "of type datetime64 cannot stand in a statement, only what BSON holds"),
    (np.datetime64("NaT"), "of type datetime64 cannot stand in a statement"),
    (Imdb(rating="x"), "Imdb.rating cannot stand in a statement: expected float, got str 'x'"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("unit", ["Y", "D", "s", "ns", "NaT"])
def test_spans_of_numpy_are_no_numbers(unit: str) -> None:
    """On either side of an operator, with an expression on the other, they are refused as timedeltas are."""
    span: Any = np.timedelta64("NaT") if unit == "NaT" else np.timedelta64(1, unit)  # type: ignore[call-overload]
    year: Any = Movie.year
    operations: list[Callable[[Any], object]] = [
        lambda one: year + one,
        lambda one: one + year,
        lambda one: year - one,
        lambda one: one - year,
        lambda one: year * one,
        lambda one: one * year,
        lambda one: year / one,
        lambda one: one / year,
        lambda one: year % one,
        lambda one: year.inc(one),
    ]
    for operation in operations:
        for one in span, dt.timedelta(days=1):
            with pytest.raises(StatementError, match=f"arithmetic takes numbers, not {type(one).__name__}"):
                operation(one)
    with pytest.raises(ValidationError, match=r"Movie\.year cannot be stored: expected int, got timedelta64"):
        year.to(span)
    with pytest.raises(StatementError, match="of type timedelta64 cannot stand in a statement"):
        _ = span < year


def test_numbers_of_numpy_before_expressions() -> None:
    """They are as they are after them."""
    year: Any = Movie.year
    for one, other in (
        (np.float64(2) * year, 2.0 * year),
        (np.int64(2) + year, 2 + year),
        (np.int32(2) - year, 2 - year),
        (np.float32(2) / year, 2.0 / year),
    ):
        assert select(Movie).columns(other).pipeline() == select(Movie).columns(one).pipeline()
    assert select(Movie).where(year > 3).pipeline() == select(Movie).where(np.int64(3) < year).pipeline()
    with pytest.raises(StatementError, match="arithmetic takes numbers, not ndarray"):
        _ = np.zeros(2) * year


@pytest.mark.parametrize(("value", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_is_no_literal(value: Any, message: str) -> None:
    """It is refused where the condition is written."""
    conditions: list[Callable[[], object]] = [lambda: Movie.meta == value, lambda: Movie.meta.in_([value])]
    for condition in conditions if value is not Movie.title else conditions[:1]:
        with pytest.raises(StatementError) as raised:
            condition()
        assert message in str(raised.value)
