"""Expressions and statements as Python objects."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from superorm import (
    Document,
    Embedded,
    Mapped,
    Registry,
    Select,
    StatementError,
    UnsupportedError,
    aliased,
    case,
    column,
    field,
    func,
    graph_lookup,
    insert,
    load_only,
    score,
    select,
    update,
    window,
)
from superorm.expr.entities import entity_name
from superorm.expr.nodes import Field
from tests.compile.classes import Actor, Imdb, Movie, Person, Stamped

ANY: Any = Movie
COUNT: Any = func.count()
ABOUT_MOVIE = "Person.name: the statement is about Movie; join Person first"


def graph(target: Any, connect_from: Any, **options: Any) -> object:
    """A search through references with one argument of interest."""
    return graph_lookup(target, start_with=ANY.year, connect_from=connect_from, connect_to=ANY.year, **options)


@pytest.mark.parametrize(
    "question",
    [
        lambda: bool(Movie.year > 1),
        lambda: bool(Movie.year),
        lambda: bool(score()),
        lambda: Movie.year > 1 and Movie.year < 5,  # type: ignore[truthy-bool]
        lambda: Movie.year > 1 or Movie.year < 5,  # type: ignore[truthy-bool]
        lambda: not (Movie.year > 1),  # type: ignore[truthy-bool]
        lambda: 1 < Movie.year < 5,  # type: ignore[operator]
        lambda: Movie.year in [1, 2],  # type: ignore[comparison-overlap]
    ],
)
def test_conditions_have_no_truth_value(question: Callable[[], object]) -> None:
    """Where Python would ask a condition for its truth value, a TypeError says what to write."""
    with pytest.raises(TypeError, match=r"combine conditions with & \| ~, and write .between\(low, high\)"):
        question()


class Speechless:
    def __repr__(self) -> str:
        raise ValueError("nothing to say")


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda: ANY.year & (Movie.year > 1), TypeError, "put each comparison in parentheses"),
        (lambda: (ANY.year > 1) & True, TypeError, "a condition can be combined with conditions only"),
        (lambda: (ANY.year > 1) | {"a": 1}, TypeError, "conditions only, not with dict {'a': 1}"),
        (lambda: list(ANY.genres), TypeError, "Movie.genres stands for a value in the database and cannot be iterated"),
        (lambda: "x" in ANY.genres, TypeError, "write .contains(...), not `in Movie.genres`"),
        (lambda: {ANY.year: 1}, TypeError, "unhashable"),
        (lambda: ANY.nothing, AttributeError, "nothing"),
        (lambda: ANY.year.nothing, AttributeError, "a field of type int | None has no part 'nothing'"),
        (lambda: ANY.imdb.nothing, AttributeError, "Imdb has no field 'nothing'; it has rating, votes, desc"),
        (lambda: ANY.imdb[Actor.name], StatementError, "Movie.imdb has no Actor.name: it does not hold"),
        (lambda: ANY.year.in_("19"), StatementError, "Movie.year.in_() takes a list of values, not str '19'"),
        (lambda: ANY.year.in_(19), StatementError, "Movie.year.in_() takes a list of values, not int 19"),
        (lambda: ANY.year.not_in(b"19"), StatementError, "takes a list of values, not bytes"),
        (lambda: ANY.genres.all_("ab"), StatementError, "Movie.genres.all_() takes a list of values"),
        (lambda: ANY.title.in_(ANY.genres), StatementError, "in the database: write Movie.genres == Movie.title"),
        (lambda: ANY.title.not_in(ANY.genres), StatementError, "in the database: write Movie.genres != Movie.title"),
        (lambda: ANY.genres.all_(ANY.title), StatementError, "Movie.genres.all_(Movie.title) takes Python's values"),
        (lambda: ANY.genres.contains(ANY.title), StatementError, "takes a Python value: write Movie.genres == Movie.t"),
        (lambda: ANY.year.in_(Speechless()), StatementError, "not Speechless <Speechless, whose repr fails with Value"),
        (lambda: ANY.year.is_(5), StatementError, "Movie.year.is_() takes None only"),
        (lambda: ANY.title.startswith(5), StatementError, ".startswith() on a text takes a text, not int 5"),
        (lambda: ANY.title.endswith(None), StatementError, ".endswith() on a text takes a text, not NoneType"),
        (lambda: ANY.title.contains(5), StatementError, ".contains() on a text takes a text, not int 5"),
        (lambda: ANY.title.regex("a\0"), StatementError, ".regex() cannot search for a NUL character"),
        (lambda: ANY.title.startswith("\ud800"), StatementError, "lone surrogate"),
        (lambda: ANY.cast.any_(), StatementError, "Movie.cast.any_() needs a condition"),
        (lambda: ANY.title.any_(Actor.name == "x"), StatementError, "needs a list of embedded documents"),
        (lambda: ANY.cast.any_(True), StatementError, "Movie.cast.any_() takes conditions such as"),
        (lambda: select(ANY).where(True), StatementError, "where() takes conditions such as Movie.year > 1990"),
        (lambda: select(ANY).where({"year": 1}), StatementError, "such as Movie.year > 1990, not dict"),
        (lambda: select(ANY).where(ANY.year), StatementError, "where() takes conditions such as"),
        (lambda: select(ANY).order_by("year"), StatementError, "such as Movie.year.desc(), not str 'year'"),
        (lambda: select(ANY).limit(0), StatementError, "limit must be from 1 to 2147483647, not 0"),
        (lambda: select(ANY).limit(2**31), StatementError, "limit must be from 1"),
        (lambda: select(ANY).limit("5"), StatementError, "limit takes a whole number, not str '5'"),  # type: ignore[arg-type]
        (lambda: select(ANY).limit(True), StatementError, "limit takes a whole number, not bool True"),
        (lambda: select(ANY).offset(-1), StatementError, "offset must be from 0"),
        (lambda: select(ANY).like("x", k=0), StatementError, "like(k=...) must be from 1 to 10000, not 0"),
        (lambda: select(ANY).like("x", k=10_001), StatementError, "like(k=...) must be from 1 to 10000, not 10001"),
        (lambda: select(ANY).like("x", k="7"), StatementError, "like(k=...) takes a whole number"),  # type: ignore[arg-type]
        (lambda: select(ANY).like("x", num_candidates=0), StatementError, "num_candidates must be from 1"),
        (lambda: select(ANY).like("x", min_score=float("nan")), StatementError, "min_score must be a finite number"),
        (lambda: select(ANY).like("x", min_score="1"), StatementError, "min_score must be a finite number"),  # type: ignore[arg-type]
        (lambda: select(ANY).like("x", on=7), StatementError, "like(on=...) takes a vector field of Movie"),  # type: ignore[arg-type]
        (lambda: select(ANY).like("x", on=Person.face), StatementError, "a vector field of Movie, not Person.face"),
        (lambda: select(ANY).like("x").like("y"), UnsupportedError, "a statement can have one .like(...)"),
        (lambda: select("title"), StatementError, "select() takes document classes, their fields"),  # type: ignore[call-overload]
        (lambda: select(), StatementError, "select() needs a document class"),  # type: ignore[call-overload]
        (lambda: select(Imdb), StatementError, "select() takes document classes"),  # type: ignore[type-var]
        (lambda: select(Stamped), StatementError, "select(): Stamped is abstract; give a class that derives from it"),
        (lambda: select(ANY, ANY), StatementError, "select() names Movie twice"),
        (lambda: ANY.title[0], StatementError, "Movie.title is no list that has such an element, but str"),
        (lambda: ANY.genres[-1], StatementError, "Movie.genres[-1]: positions count from 0; use func.array_elem_at()"),
        (lambda: ANY.genres[True], StatementError, "a position or a key is needed"),
        (lambda: ANY.genres[1:2], StatementError, "a position or a key is needed; func.slice(Movie.genres, ...)"),
        (lambda: ANY.imdb[True], StatementError, "a position or a key, or a field of Imdb, is needed"),
        (lambda: ANY.titel, AttributeError, "Movie has no attribute 'titel'; it has id, added, title, year"),
        (lambda: ANY.title["x"], StatementError, "Movie.title['x']: Movie.title is no dict, but str"),
        (lambda: ANY.meta["a.b"], StatementError, "Movie.meta['a.b']: a key is not empty, has no dots and NUL"),
        (lambda: ANY.meta["$a"], StatementError, "does not begin with $"),
        (lambda: ANY.year.item(), StatementError, "Movie.year is no list that has such an element"),
        (lambda: ANY.year + "x", StatementError, "arithmetic takes numbers, not str 'x'; func.concat() joins texts"),
        (lambda: True + ANY.year, StatementError, "arithmetic takes numbers, not bool True"),
        (lambda: ANY.year.label("$x"), StatementError, "'$x' cannot be a label: that is a text, not empty"),
        (lambda: ANY.year.label("a.b"), StatementError, "'a.b' cannot be a label"),
        (lambda: column("__x"), StatementError, "'__x' cannot be a label"),
        (lambda: case(), StatementError, "case() needs at least one pair of a condition and a value"),
        (lambda: case((True, 1)), StatementError, "case() takes conditions such as Movie.year > 1990, not bool True"),
        (lambda: case(ANY.year > 1, 1), StatementError, "case() takes pairs of a condition and a value"),
        (lambda: aliased(ANY, "$x"), StatementError, "aliased() takes a document class and a name for it"),
        (lambda: aliased(Imdb, "x"), StatementError, "aliased() takes a document class"),  # type: ignore[type-var]
        (lambda: window(ANY.year), StatementError, "window() takes an accumulator such as func.sum(Sale.total), not"),
        (lambda: window(COUNT, documents=(0, 1)), StatementError, "window(documents=...) needs order_by="),
        (lambda: window(COUNT, documents=(0, 1), range=(0, 1)), StatementError, "documents= or range=, not both"),
        (lambda: window(COUNT, documents=5, order_by=ANY.year), StatementError, "a window's bounds are a pair"),
        (lambda: window(COUNT, documents=(0, 1.5), order_by=ANY.year), StatementError, "a window's bound is a number"),
        (lambda: window(COUNT, documents=(0, 1), unit="day"), StatementError, "window(unit='day') is for range="),
        (lambda: window(COUNT, partition_by="year"), StatementError, "window(partition_by=...) takes fields"),
        (lambda: select(ANY).join(Person), StatementError, "join(Person) needs a condition, such as Movie.author_id"),
        (lambda: select(ANY).join(Imdb, ANY.year == 1), StatementError, "join() takes a document class"),
        (lambda: select(ANY).join(Person, True), StatementError, "join() takes conditions such as"),
        (lambda: select(ANY).group_by("year"), StatementError, "group_by() takes fields and expressions, not 'year'"),
        (lambda: select(ANY).facet(), StatementError, "facet() needs statements, each under a name"),
        (lambda: select(ANY).facet(a=1), StatementError, "facet(a=...) takes a select, not 1"),
        (lambda: select(ANY).facet(a=select(Person)), StatementError, "facet(a=...) is about Person, not Movie"),
        (lambda: select(ANY).columns(), StatementError, "columns() needs a document class, or a field of one"),
        (lambda: select(ANY).union_all(ANY), StatementError, "union_all() takes a select, not"),
        (lambda: select(ANY).union_all(select(ANY.title, ANY.year)), StatementError, "select 1 and 2 columns"),
        (lambda: select(ANY).stage({"match": {}}), StatementError, "stage() takes one stage such as"),
        (lambda: select(ANY).stage({"$skip": 1, "$limit": 1}), StatementError, "stage() takes one stage such as"),
        (lambda: select(ANY).sample(0), StatementError, "sample must be from 1 to 2147483647, not 0"),
        (lambda: select(ANY).unwind("genres"), StatementError, "unwind() takes a field that holds a list, or a label"),
        (lambda: select(ANY).unwind(ANY.year + 1), StatementError, "not func.add(Movie.year, 1)"),
        (lambda: select(ANY).options(ANY.title), StatementError, "options() takes load_only(...), selectinload(...)"),
        (lambda: select(ANY).select_from("x"), StatementError, "select_from() takes a document class, not 'x'"),
        (lambda: load_only(), StatementError, "load_only() needs a field"),
        (lambda: load_only(ANY.imdb.rating), StatementError, "load_only() takes fields of a document class such as"),
        (lambda: select(ANY).merge_into(5), StatementError, "takes a document class or a collection's name"),
        (lambda: select(ANY).merge_into("x", on=[]), StatementError, "(on=...) takes names of fields, not []"),
        (lambda: select(ANY).merge_into("x", when_matched="x"), StatementError, "one of merge, replace, keepExisting"),
        (lambda: select(ANY).merge_into("x", when_not_matched="x"), StatementError, "one of insert, discard, fail"),
        (lambda: graph(5, ANY.year), StatementError, "graph_lookup() takes a document class, not 5"),
        (lambda: graph(ANY, "year"), StatementError, "graph_lookup(connect_from=...) takes a field of"),
        (lambda: graph(ANY, ANY.year, max_depth=-1), StatementError, "takes a number of steps from 0, not -1"),
        (lambda: ANY.genres.pop("x"), StatementError, "Movie.genres.pop() takes \"first\" or \"last\", not 'x'"),
        (lambda: ANY.genres.push("x", position="0"), StatementError, "Movie.genres.push(position=...) takes a whole"),
        (lambda: ANY.year.inc("x"), StatementError, "arithmetic takes numbers, not str 'x'"),
        (lambda: update(ANY).set(5), StatementError, "set() takes changes such as Movie.id.to(...), not 5"),
        (lambda: update(ANY).values(nothing=1), StatementError, "Movie has no 'nothing'; there are id, added"),
        (lambda: insert(Imdb), StatementError, "insert() takes a document class"),  # type: ignore[type-var]
        (lambda: ANY.year > 3 & ANY.year < 5, TypeError, "put each comparison in parentheses, (a > 1) & (b < 2)"),
        (lambda: ANY.year | (Movie.year > 1), TypeError, "write == True for a value that is true or false"),
        (lambda: 3 | (Movie.year > 1), TypeError, "& and | combine conditions only, not Compare("),  # type: ignore[operator]
        (lambda: (Movie.year > 1) & ANY.year, TypeError, "not with Field Movie.year; put each comparison in"),
        (lambda: ~ANY.year, TypeError, "~ negates conditions only, not Movie.year: put each comparison in parentheses"),
        (lambda: ANY.title.like("x"), AttributeError, "Movie.title: a field of type str has no part 'like'; texts"),
        (lambda: ANY.title.nope, AttributeError, "Movie.title: a field of type str has no part 'nope'"),
        (lambda: ANY.imdb.any_(Imdb.rating > 7), StatementError, "Movie.imdb holds a single one: write conditions on"),
        (lambda: ANY.cast[0].any_(Actor.name == "x"), StatementError, "Movie.cast[0] holds a single one"),
        (lambda: ANY.title.all_(["x"]), StatementError, "Movie.title.all_() needs a list; Movie.title holds none"),
        (lambda: ANY.cast[0].name.all_(["x"]), StatementError, "Movie.cast[0].name.all_() needs a list"),
        (lambda: ANY.title.size(), StatementError, "Movie.title.size() needs a list; of a text there is func.str_len"),
        (lambda: func.filter(ANY.genres, lambda item: item.size() > 1), StatementError, "item.size() needs a list"),
        (lambda: select(ANY).unwind(ANY.title), StatementError, "unwind(Movie.title): it holds no list"),
        (lambda: select(ANY).unwind(ANY.year.label("y")), StatementError, "unwind(y): it holds no list"),
        (lambda: func.filter(ANY.genres, "x"), StatementError, "func.filter() takes a Python function such as lambda"),
        (lambda: func.map(ANY.genres, None), StatementError, "func.map() takes a Python function such as lambda"),
        (lambda: func.reduce(ANY.genres, 0, 5), StatementError, "func.reduce() takes a Python function such as lambda"),
        (lambda: insert(ANY).values(None), StatementError, "takes Movie objects and dicts, or lists of them, not None"),
        (lambda: insert(ANY).values("x"), StatementError, "takes Movie objects and dicts, or lists of them, not 'x'"),
        (lambda: insert(ANY).upsert(Person.name), StatementError, "upsert() takes fields of Movie, not Person.name"),
        (lambda: update(ANY).values({"year": 3}), StatementError, "takes values by the names of fields, values("),
        (lambda: select(ANY).options(load_only(Person.name)), StatementError, "load_only(Person.name): it is no field"),
        (lambda: window(COUNT, documents=(1, -1), order_by=ANY.year), StatementError, "lower bound must not be above"),
        (lambda: window(COUNT, range=("current", -1), order_by=ANY.year), StatementError, "lower bound must not be"),
        (lambda: window(COUNT, range=(0, 1), order_by=ANY.year, unit=[]), StatementError, "window(unit=[]) is for"),
        (lambda: window(func.rank()), StatementError, "window(func.rank()) needs order_by=, as rank() depends on"),
        (lambda: window(func.shift(ANY.year, 1)), StatementError, "needs order_by=, as shift() depends on the order"),
        (lambda: func.bucket(ANY.year, boundaries=[3, 1]), StatementError, "two or more values of one type, in"),
        (lambda: func.bucket(ANY.year, boundaries=[1, 1.0]), StatementError, "in ascending order, not [1, 1.0]"),
        (lambda: func.bucket(ANY.year, boundaries=[3, "x"]), StatementError, "values of one type, in ascending order"),
    ],
)  # fmt: skip
def test_wrong_statements(wrong: Callable[[], object], error: type[Exception], message: str) -> None:
    """What cannot be meant is refused where it is written."""
    with pytest.raises(error) as raised:
        wrong()
    assert message in str(raised.value)


class Loose(Document, registry=Registry()):
    any: Mapped[Any] = field(default=None)
    either: Mapped[list[int] | int] = field(default=0)
    one: Mapped[Actor | None] = field(default=None)


class Kept(Document, registry=Registry()):
    __on_mismatch__ = "keep"

    title: Mapped[str] = field(default="")


@pytest.mark.parametrize(
    "allowed",
    [
        lambda: Loose.any.all_([1]) & (Loose.either.all_([1]) & (Loose.any.size() == 1) & (Loose.either.size() == 1)),  # type: ignore[misc]
        lambda: select(Loose.any).unwind(Loose.any),
        lambda: select(Loose.either).unwind(Loose.either),  # type: ignore[arg-type]
        lambda: ANY.cast.name.all_(["x"]) & (ANY.cast.name.size() == 1),
        lambda: ANY.meta["k"].all_([1]) & (ANY.meta["k"].size() == 1),
        lambda: ANY.embedding.size(),
        lambda: func.filter(ANY.tags, lambda item: item.size() > 1),
        lambda: func.map(column("rows"), lambda item: item.size()),
        lambda: Kept.title.size(),  # type: ignore[misc]
        lambda: select(Kept.title).unwind(Kept.title),  # type: ignore[arg-type]
        lambda: func.bucket(ANY.year, boundaries=[float("nan"), 1, 2.5]),
        lambda: window(COUNT, documents=("unbounded", -1), order_by=ANY.year),
        lambda: window(COUNT, documents=(2, "unbounded"), order_by=ANY.year),
        lambda: window(func.locf(ANY.year)),
    ],
)
def test_what_may_be_meant(allowed: Callable[[], object]) -> None:
    """Where a list may be, or an order, nothing is refused."""
    allowed()


@pytest.mark.parametrize(
    ("statement", "error", "message"),
    [
        (lambda: select(ANY).where((ANY.year > 1) | ~(Person.name == "x")), StatementError, ABOUT_MOVIE),
        (lambda: select(ANY).order_by(Person.name), StatementError, ABOUT_MOVIE),
        (lambda: select(ANY, Person.name), StatementError, ABOUT_MOVIE),
        (lambda: select(ANY).where(Imdb.rating > 1), StatementError, "Imdb.rating: the statement is about Movie"),
        (lambda: select(ANY).join(Person, Person.id == Actor.name), StatementError, "Actor.name: the statement is"),
        (lambda: select(ANY).where(ANY.cast.any_(Imdb.rating > 7)), StatementError, "on Imdb, but is about Actor"),
        (lambda: select(ANY).order_by(score()), StatementError, "score() can be used only after .like(...)"),
        (lambda: select(ANY, score()), StatementError, "score() can be selected only after .like(...)"),
        (lambda: select(ANY).where(score() > 0.5), StatementError, "score() can be used only after .like(...)"),
        (lambda: select(ANY).limit(5).like("x"), UnsupportedError, "before .like(...) cannot be run yet"),
        (lambda: select(ANY).order_by(ANY.year).like("x"), UnsupportedError, "before .like(...) cannot be run yet"),
        (lambda: select(score()), StatementError, "<Select score()> does not tell its class; add .select_from(...)"),
        (lambda: select(Imdb.rating), StatementError, "does not tell its class; add .select_from(...)"),
        (lambda: select(Stamped.added), StatementError, "does not tell its class; add .select_from(...)"),
        (lambda: select(ANY).group_by(ANY.year), StatementError, "there are no whole documents in grouped rows"),
        (lambda: select(ANY.title).group_by(ANY.year), StatementError, "Movie.title is not in the grouped rows"),
        (lambda: select(ANY).where(COUNT > 1), StatementError, "func.count() is computed over rows"),
        (lambda: select(ANY).distinct(), StatementError, "distinct() is for selected fields and values"),
        (lambda: select(ANY).unwind(ANY.genres), StatementError, "its documents are not whole after unwind()"),
        (lambda: select(ANY).where(window(COUNT) > 1), StatementError, "stands in the select list and in order_by()"),
    ],
)  # fmt: skip
def test_statements_that_cannot_be_compiled(statement: Callable[[], Any], error: type[Exception], message: str) -> None:
    """What a later call could still mend, as a join does, is refused when the statement is compiled."""
    made = statement()
    with pytest.raises(error) as raised:
        made.pipeline()
    assert message in str(raised.value)


def test_a_join_may_come_later() -> None:
    """Conditions on a joined class may stand before the join."""
    before = select(Movie).where(Person.name == "x").join(Person, Person.id == Movie.title)
    after = select(Movie).join(Person, Person.id == Movie.title).where(Person.name == "x")
    assert after.pipeline() == before.pipeline()


CALLS: list[Callable[[Any], Any]] = [
    lambda statement: statement.join(Person, Person.id == Movie.title),
    lambda statement: statement.where(Movie.year > 1990),
    lambda statement: statement.group_by(Movie.year),
    lambda statement: statement.having(func.count() > 1),
    lambda statement: statement.distinct(),
    lambda statement: statement.order_by(Movie.year.desc()),
    lambda statement: statement.offset(2),
    lambda statement: statement.limit(5),
]


@pytest.mark.parametrize("names", ["", "year"])
@given(st.permutations(range(len(CALLS))))
def test_the_order_of_calls_in_a_block(names: str, order: list[int]) -> None:
    """It does not matter: the slots are SQL's, in its order."""
    grouped = select(Movie.year, func.count().label("n")) if not names else select(Movie.year)
    expected = grouped
    for call in CALLS:
        expected = call(expected)
    statement: Any = grouped
    for position in order:
        statement = CALLS[position](statement)
    stages = [next(iter(stage)) for stage in expected.pipeline()]
    assert ["$match", "$lookup"] == [stage for stage in stages if stage in ("$match", "$lookup")][:2]
    assert ["$sort", "$skip", "$limit"] == [stage for stage in stages if stage in ("$sort", "$skip", "$limit")]
    assert repr(expected.pipeline()) == repr(statement.pipeline())


@pytest.mark.parametrize(
    ("column", "name"),
    [
        (func.upper(Movie.title), "upper"),
        (func.to_upper(Movie.title), "to_upper"),
        (func.max(Movie.year, 3), "max"),
        (func.array_max(Movie.genres), "array_max"),
        (func.merge_objects(func.object(a=1), {"b": 2}), "merge_objects"),
        (func.regex_match(Movie.title, "a"), "regex_match"),
        (func.in_("a", Movie.genres), "in_"),
        (Movie.year == 3, "eq"),
        (Movie.year.not_in([3]), "not_in"),
        (Movie.genres.all_(["a"]), "all_"),
        (Movie.title.startswith("a"), "startswith"),
        (Movie.title.endswith("a"), "endswith"),
        (Movie.title.contains("a"), "contains"),
        (Movie.title.regex("^a"), "regex"),
        (Movie.cast.any_(Actor.name == "a"), "any_"),
        ((Movie.year > 3) | (Movie.year < 1), "or_"),
        (~(Movie.year > 3), "not_"),
        (func.bucket_auto(Movie.year, buckets=2), "bucket_auto"),
        (select(Person.name).as_list(), "as_list"),
        (graph(ANY, ANY.year), "graph_lookup"),
    ],
)
def test_names_of_columns(column: Any, name: str) -> None:
    """A column without a label is called as the function or method was, also once it was stored."""
    assert name == entity_name(column)
    statement = select(Movie).columns(Movie.title, column)
    again = Select.from_dict(statement.to_dict(), registry=Movie.__superorm__.registry)
    assert name == entity_name(again._entities[1])


def test_numbers_of_numpy() -> None:
    """They stand in arithmetic as Python's numbers do."""
    assert repr(Movie.year + 2) == repr(ANY.year + np.int64(2)) == repr(ANY.year + np.uint8(2))
    assert repr(2 * ANY.year) == repr(np.int64(2) * ANY.year)
    assert repr(ANY.year / 0.5) == repr(ANY.year / np.float32(0.5))
    assert repr(ANY.year.inc(2)) == repr(ANY.year.inc(np.int64(2)))
    value = ANY.year.inc(np.int64(2)).value
    assert (int, 2) == (type(value), value)
    with pytest.raises(StatementError, match="arithmetic takes numbers, not bool"):
        _ = ANY.year + np.bool_(True)
    for span in np.timedelta64(5, "ns"), np.timedelta64(5, "s"):
        with pytest.raises(StatementError, match="arithmetic takes numbers, not timedelta64"):
            _ = ANY.year + span
        with pytest.raises(StatementError, match="arithmetic takes numbers, not timedelta64"):
            ANY.year.inc(span)
        with pytest.raises(StatementError, match="a value of type timedelta64 cannot stand in a statement"):
            func.max(ANY.year, span)
    with pytest.raises(StatementError, match="a value of type longdouble cannot stand in a statement"):
        _ = ANY.year + np.longdouble(2)


def test_conditions_that_were_pickled_before_they_had_a_method() -> None:
    """They are as those of `regex`, and can be printed, copied and pickled."""
    made = Movie.title.startswith("a")
    assert "startswith" == entity_name(pickle.loads(pickle.dumps(made)))
    made.__setstate__({"left": Movie.title, "pattern": "^a", "options": ""})  # type: ignore[attr-defined]
    for one in made, copy.copy(made), pickle.loads(pickle.dumps(made)):
        assert ("regex", repr(Movie.title.startswith("a"))) == (entity_name(one), repr(one))


def test_unions_are_joined_as_they_are() -> None:
    """What declared types say is not what stands in rows: of unwound lists the items, and numbers of any kind."""
    for one, other in (
        (select(Movie.genres).unwind(Movie.genres), select(Person.name)),
        (select(Person.name), select(Movie.genres).unwind(Movie.genres)),
        (select(Movie.genres).stage({"$unwind": "$genres"}), select(Person.name)),
        (select(Movie.year), select(func.to_decimal(Movie.year))),
        (select(Movie.year), select(Person.name)),
    ):
        assert one.union_all(other).columns(func.count()).pipeline()  # type: ignore[arg-type]


def test_statements_are_immutable() -> None:
    """Each call returns a new statement and leaves the old one as it was."""
    steps: list[Callable[[Any], Any]] = [
        lambda statement: statement.where(Movie.year > 1),
        lambda statement: statement.order_by(Movie.year),
        lambda statement: statement.limit(3),
        lambda statement: statement.offset(1),
        lambda statement: statement.like("x"),
        lambda statement: statement.join(Person, Person.id == Movie.title),
        lambda statement: statement.sample(5),
        lambda statement: statement.stage({"$limit": 7}),
        lambda statement: statement.columns(Movie.title),
        lambda statement: statement.columns(Movie.year).group_by(Movie.year),
        lambda statement: statement.union_all(select(Movie)),
        lambda statement: statement.facet(all=select(Movie)),
        lambda statement: statement.columns(Movie.title).distinct(),
    ]
    base: Any = select(Movie).where(Movie.title == "x")
    before = base.pipeline()
    after = [step(base) for step in steps]
    assert before == base.pipeline()
    assert len(steps) == len({str(statement) for statement in after} - {str(base)})
    with pytest.raises(AttributeError):
        base._root = Person
    with pytest.raises(AttributeError):
        (Movie.year > 1).right = 2  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        Movie.year.desc().direction = 1  # type: ignore[misc]
    for name in ("limit", "order_by", "anything"):
        with pytest.raises(AttributeError):
            setattr(base, name, Person)
    with pytest.raises(AttributeError):
        Movie.imdb.rating = 2  # type: ignore[attr-defined]


def test_statements_keep_values_of_their_own() -> None:
    """Changing a list, an array or the pipeline afterwards does not change the statement."""
    years, vector, nested = [1, 2], np.array([1.0, 0, 0]), {"a": [1]}
    statement = select(Movie).where(Movie.year.in_(years), Movie.meta == nested).like(vector)
    before = str(statement.pipeline())
    years.append(3)
    nested["a"].append(2)
    vector[0] = 9
    pipeline = statement.pipeline()
    pipeline[0]["$match"]["year"]["$in"].append(4)
    pipeline[1]["$like"]["query"][0] = 7
    assert before == str(statement.pipeline())


def test_the_same_field_is_one_object() -> None:
    """Reading a field of a class again costs nothing."""
    assert Movie.year is Movie.year
    assert isinstance(Movie.imdb.rating, Field)
    assert not isinstance(Movie.imdb.desc, Field)  # a method of expressions shadows this one
    assert "Movie.imdb.desc" == repr(Movie.imdb[Imdb.desc])


class Step(Embedded):
    name: Mapped[str]


class Run(Embedded):
    args: Mapped[list[int]]
    operator: Mapped[Step | None]


class Job(Document, registry=Registry()):
    run: Mapped[Run]
    runs: Mapped[list[Run]]


def test_fields_that_are_called_like_parts_of_expressions() -> None:
    """They are fields of the embedded documents."""
    assert [{"$project": {"run": 1, "_id": 0}}] == select(Job.run).pipeline()
    named = func.filter(Job.runs, lambda run: run.operator.name == "x")
    (stage,) = select(named.label("named")).pipeline()
    assert {"$eq": ["$$item.operator.name", "x"]} == stage["$project"]["named"]["$filter"]["cond"]


@given(st.lists(st.sampled_from(["where", "order_by", "limit", "offset"]), max_size=8))
def test_the_order_of_calls_does_not_matter(calls: list[str]) -> None:
    """Within a block the calls are slots."""
    arguments = {"where": Movie.year > 1, "order_by": Movie.year, "limit": 3, "offset": 2}

    def build(names: list[str]) -> Select[Any, Any]:
        statement: Any = select(Movie)
        for name in names:
            statement = getattr(statement, name)(arguments[name])
        return statement  # type: ignore[no-any-return]

    assert build(calls).pipeline() == build(sorted(calls)).pipeline()
