"""Statements at random, for properties that all of them have."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
from bson import Binary, DatetimeMS, Decimal128, Int64, MaxKey, MinKey, ObjectId, Timestamp
from hypothesis import strategies as st

from superorm import aliased, case, column, delete, func, graph_lookup, insert, load_only, score, select, update, window
from tests.compile.classes import Actor, Color, Imdb, Movie, Pair, Person, Stamped

__all__ = ["LITERALS", "NAMES", "STATEMENTS", "WRITES"]

M: Any = Movie
P: Any = aliased(Person, "critic")

NAMES = st.sampled_from(["n", "total", "é", "a b", "year", "x'y"])
KEYS = st.sampled_from(["a", "$ne", "$where", "a.b", "", "node", "ref", "é"]) | st.text(max_size=3).filter(
    lambda text: "\0" not in text
)
TEXTS = st.sampled_from(["", "$title", "$$ROOT", "a.*b", "\0", "2020-01-01", "ß"]) | st.text(max_size=6)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | TEXTS
    | st.binary(max_size=6)
    | st.datetimes(timezones=st.sampled_from([dt.UTC, dt.timezone(dt.timedelta(hours=-5, minutes=-30))]))
    | st.dates()
    | st.uuids()
    | st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20, places=3)
    | st.sampled_from(
        [
            ObjectId("5f9f1b9b9b9b9b9b9b9b9b9b"),
            Int64(5),
            Binary(b"x", 128),
            Binary(b"y", 0),
            DatetimeMS(2**60),
            Decimal128("NaN"),
            Decimal("1E+6"),
            MinKey(),
            MaxKey(),
            Timestamp(1, 2),
            Color.RED,
            Pair(a=1, b=2),
        ]
    )
)
LITERALS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=5
)
VECTORS = st.lists(st.floats(-10, 10, width=32), min_size=3, max_size=3)
QUERIES = (
    VECTORS
    | VECTORS.map(lambda numbers: np.array(numbers, np.float32))
    | VECTORS.map(lambda numbers: np.array(numbers, ">f8"))
    | st.text()
)

ANY_FIELDS = st.sampled_from(
    [M.meta, M.meta["key"], M.things[0], M.meta["a"]["b"][3], P.face, P.name, M.color, Stamped.added, M.imdb]
)
NUMBERS = st.sampled_from([M.year, M.imdb.rating, M.imdb.votes, M.cast[1].imdb.rating, M.imdb[Imdb.votes]])
TEXT_FIELDS = st.sampled_from([M.title, M.plot, M.imdb[Imdb.desc], M.genres[0], P.id])
LISTS = st.sampled_from([M.genres, M.tags, M.things, M.tags[2]])
FIELDS = ANY_FIELDS | NUMBERS | TEXT_FIELDS | LISTS

COMPARISONS: list[Callable[[Any, Any], Any]] = [
    lambda left, right: left == right,
    lambda left, right: left != right,
    lambda left, right: left < right,
    lambda left, right: left <= right,
    lambda left, right: left > right,
    lambda left, right: left >= right,
    lambda left, right: left.in_([right, 1]),
    lambda left, right: left.not_in([right]),
    lambda left, right: left.between(right, 5),
]
SEARCHES: list[Callable[[Any, str], Any]] = [
    lambda field, text: field.startswith(text),
    lambda field, text: field.endswith(text, ignore_case=True),
    lambda field, text: field.contains(text),
    lambda field, text: field.regex(text, ignore_case=True),
]


def arithmetic(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    number = inner | st.integers(-5, 5)
    return st.one_of(
        st.builds(lambda one, other: one + other, inner, number),
        st.builds(lambda one, other: other - one, inner, number),
        st.builds(lambda one, other: one * other / 2, inner, number),
        st.builds(lambda one: -one % 7, inner),
    )


EXPRESSIONS = st.recursive(NUMBERS, arithmetic, max_leaves=4) | LISTS.map(lambda field: field.size())

SIMPLE = st.one_of(
    st.builds(lambda compare, left, right: compare(left, right), st.sampled_from(COMPARISONS), FIELDS, LITERALS),
    st.builds(
        lambda compare, left, right: compare(left, right),
        st.sampled_from(COMPARISONS[:6]),
        EXPRESSIONS,
        EXPRESSIONS | st.integers(0, 9),
    ),
    st.builds(
        lambda search, field, text: search(field, text),
        st.sampled_from(SEARCHES),
        TEXT_FIELDS,
        TEXTS.filter(lambda text: "\0" not in text),
    ),
    FIELDS.map(lambda field: field.exists()),
    FIELDS.map(lambda field: field.is_(None)),
    st.builds(lambda field, value: field.contains(value), LISTS, LITERALS),
    st.builds(lambda field, values: field.all_(values), LISTS, st.lists(LITERALS, min_size=1, max_size=3)),
    st.builds(
        lambda name, born: M.cast.any_(Actor.name == name, Actor.born.in_([born])),
        TEXTS,
        st.integers(0, 9),
    ),
)
CONDITIONS = st.recursive(
    SIMPLE,
    lambda inner: (
        st.builds(lambda one, other: one & other, inner, inner)
        | st.builds(lambda one, other: one | other, inner, inner)
        | inner.map(lambda one: ~one)
    ),
    max_leaves=4,
)
CASES = st.builds(
    lambda condition, value, other: case((condition, value), else_=other), CONDITIONS, LITERALS, LITERALS | FIELDS
)
LABELS = st.builds(lambda value, name: value.label(name), EXPRESSIONS | CASES, NAMES)
ORDERS = st.builds(
    lambda place, down: place.desc() if down else place, FIELDS | LABELS | st.just(score()), st.booleans()
)
FUNCTIONS = st.one_of(
    st.builds(lambda text, n: func.filter(M.genres, lambda item: item > text, limit=n), TEXTS, st.none() | st.just(3)),
    st.just(func.map(M.cast, lambda actor: func.filter(M.genres, lambda genre: genre == actor.name))),
    st.just(func.map(M.genres, lambda genre: func.reduce(M.genres, genre, lambda value, this: value + this + genre))),
    st.builds(lambda text: func.reduce(M.genres, text, lambda value, this: func.concat(value, this)), TEXTS),
    st.sampled_from([func.sort_array(M.genres, -1), func.sort_array(M.cast, [Actor.imdb.votes.desc(), Actor.name])]),
    st.builds(lambda value, other: func.object(a=value, b=other), LITERALS, FIELDS),
    st.builds(lambda value, other: func.array(value, other), LITERALS, FIELDS),
    st.builds(lambda value: func.literal(value), LITERALS),
    st.builds(lambda key: func.get_field(M.meta, key), KEYS.filter(bool)),
    st.builds(lambda one, other: func.zip(M.genres, M.things, defaults=[one, other]), LITERALS, LITERALS),
    st.builds(
        lambda size, zone: func.date_trunc(Stamped.added, "month", bin_size=size, timezone=zone),
        st.none() | st.integers(1, 9) | NUMBERS,
        st.none() | TEXTS,
    ),
    st.builds(lambda condition, one, other: func.cond(condition, one, other), CONDITIONS, LITERALS, FIELDS),
)
ACCUMULATORS = st.one_of(
    st.just(func.count()),
    st.just(func.count(Movie)),
    FIELDS.map(func.count),
    NUMBERS.map(func.sum),
    FIELDS.map(func.push),
    st.builds(lambda field, n, place: func.top_n(n, field, order_by=[place.desc()]), FIELDS, st.integers(1, 5), FIELDS),
)
WINDOWS = st.builds(
    lambda call, partitions, frame: window(call, partition_by=partitions, order_by=M.year, **frame),
    ACCUMULATORS | st.just(func.rank()),
    st.lists(FIELDS, max_size=2),
    st.sampled_from(
        [
            {},
            {"documents": (-1, "current")},
            {"documents": ("unbounded", 2)},
            {"range": (-1.5, 3)},
            {"range": (0, 1), "unit": "day"},
        ]
    ),
)
BUCKETS = st.sampled_from(
    [
        func.bucket(M.year, boundaries=[1900, 1950.5, 2000], default="$other"),
        func.bucket(M.title, boundaries=["$a", "b"]),
        func.bucket_auto(M.imdb.rating, buckets=4, granularity="R5"),
    ]
)
GROUPS = st.one_of(
    st.builds(
        lambda key, call, name: select(key, call.label(name)).select_from(M).group_by(key), FIELDS, ACCUMULATORS, NAMES
    ),
    st.builds(lambda key, call: select(key.label("key"), call).group_by(key), BUCKETS, ACCUMULATORS),
)
GRAPHS = st.builds(
    lambda start, depth, where: graph_lookup(
        Person,
        start_with=start,
        connect_from=Person.name,
        connect_to=Person.id,
        max_depth=depth,
        depth_field="depth",
        where=where,
    ),
    TEXT_FIELDS,
    st.none() | st.integers(0, 3),
    st.sampled_from([(), Person.name != "$x"]),
)


def steps(statements: st.SearchStrategy[Any], arguments: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """Some of the methods called with an argument each, as far as they take it."""

    @st.composite
    def build(draw: st.DrawFn) -> Any:
        statement = draw(statements)
        for name in draw(st.lists(st.sampled_from(sorted(arguments)), max_size=4)):
            if name != "like" or "Like" not in repr(statement._steps):
                statement = CALLS[name](statement, draw(arguments[name]))
        return statement

    return build()


CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "where": lambda statement, condition: statement.where(condition),
    "order_by": lambda statement, order: statement.order_by(order),
    "limit": lambda statement, count: statement.limit(count),
    "offset": lambda statement, count: statement.offset(count),
    "distinct": lambda statement, _: statement.distinct(),
    "group_by": lambda statement, keys: statement.group_by(*keys),
    "having": lambda statement, condition: statement.having(condition),
    "join": lambda statement, outer: statement.join(P, P.id == M.title, outer=outer),
    "like": lambda statement, like: statement.like(like[0], like[1], **like[2]),
    "unwind": lambda statement, unwind: statement.unwind(unwind[0], keep_empty=unwind[1], index=unwind[2]),
    "sample": lambda statement, size: statement.sample(size),
    "facet": lambda statement, facets: statement.facet(**facets),
    "union_all": lambda statement, other: other.union_all(statement.columns(*other._entities)),
    "then": lambda statement, entities: statement.then(*entities),
    "columns": lambda statement, entity: statement.columns(entity),
    "options": lambda statement, fields: statement.options(load_only(*fields)),
    "as_list": lambda statement, name: select(M, statement.as_list().label(name)),
}
SLOTS: dict[str, st.SearchStrategy[Any]] = {
    "where": CONDITIONS,
    "order_by": ORDERS,
    "limit": st.integers(1, 2**31 - 1),
    "offset": st.integers(0, 2**31 - 1),
    "distinct": st.none(),
    "group_by": st.lists(FIELDS | LABELS, max_size=2),
    "having": CONDITIONS,
}
ROOTS = st.one_of(
    st.just(select(M)),
    FIELDS.filter(lambda field: field._owner is Movie).map(lambda field: select(field, M)),
    st.builds(lambda label: select(M, label, score()).select_from(M), LABELS),
    st.builds(lambda value: select(M, value.label("value")), GRAPHS | FUNCTIONS | WINDOWS),
    GROUPS,
)
SMALL = steps(ROOTS, SLOTS)
STATEMENTS = steps(
    ROOTS,
    {
        **SLOTS,
        "join": st.booleans(),
        "like": st.tuples(
            QUERIES,
            st.none() | st.just(M.embedding),
            st.fixed_dictionaries(
                {},
                optional={
                    "k": st.integers(1, 10_000),
                    "exact": st.booleans(),
                    "num_candidates": st.integers(1, 99),
                    "min_score": st.floats(0, 1),
                },
            ),
        ),
        "unwind": st.tuples(LISTS, st.booleans(), st.none() | NAMES),
        "sample": st.integers(1, 99),
        "facet": st.dictionaries(NAMES.filter(lambda name: name != "year"), SMALL, min_size=1, max_size=2),
        "union_all": SMALL,
        "then": st.lists(NAMES.map(column) | NAMES.map(func.count().label), max_size=2),
        "columns": FIELDS | LABELS,
        "options": st.lists(st.sampled_from([M.title, M.year]), min_size=1, max_size=2),
        "as_list": NAMES,
    },
)

PLAIN = st.text(max_size=5)
ACTORS = st.builds(lambda name, born: Actor(name=name, born=born), PLAIN, st.none() | st.integers(0, 9))
CHANGES = st.one_of(
    st.builds(lambda text: M.title.to(text), PLAIN),
    st.builds(lambda value: M.year.to(value), EXPRESSIONS | st.none() | st.integers(0, 9)),
    st.builds(lambda value: M.price.to(value), st.decimals(-9, 9, places=2)),
    st.builds(lambda value: M.color.to(value), st.sampled_from(Color)),
    st.builds(lambda value: M.code.to(value), st.uuids()),
    st.builds(lambda value: Stamped.added.to(value), st.datetimes(timezones=st.just(dt.UTC))),
    st.builds(lambda value: M.meta.to({"$a": value} if value == 1 else {"a": value}), st.integers(2, 9) | PLAIN),
    st.builds(lambda actor: M.cast.push(actor, position=0), ACTORS),
    st.builds(lambda texts: M.genres.add_to_set(*texts), st.lists(PLAIN, max_size=2)),
    st.builds(lambda texts: M.genres.pull(*texts), st.lists(PLAIN, min_size=1, max_size=2)),
    st.builds(lambda name: M.cast.pull(Actor.name == name), TEXTS),
    st.builds(lambda end: M.things.pop(end), st.sampled_from(["first", "last"])),
    st.builds(lambda by: M.imdb.votes.inc(by), EXPRESSIONS | st.integers(-9, 9)),
    st.just(M.plot.unset()),
    st.builds(lambda rating: M.imdb.to(Imdb(rating=rating)), st.floats(0, 9)),
)
ROWS = st.fixed_dictionaries(
    {"title": PLAIN},
    optional={
        "color": st.sampled_from(Color),
        "price": st.none() | st.decimals(-9, 9, places=2),
        "cast": st.lists(ACTORS, max_size=2),
        "meta": st.dictionaries(st.sampled_from("ab"), st.integers(0, 9) | PLAIN, max_size=2),
        "embedding": st.none() | VECTORS.map(lambda numbers: np.array(numbers, np.float32)),
        "added": st.datetimes(timezones=st.just(dt.UTC)),
    },
)
WRITES = st.one_of(
    st.builds(lambda where, change: update(M).where(where).set(change), CONDITIONS, CHANGES),
    st.builds(lambda change: update(M).all().set(change).upsert(), CHANGES),
    st.builds(lambda where: delete(M).where(where), CONDITIONS),
    st.builds(lambda where: delete(M).where(where).returning(M.title, M.year), CONDITIONS),
    st.just(delete(M).all()),
    st.builds(lambda rows: insert(M).values(rows).upsert(M.title), st.lists(ROWS, max_size=3)),
    st.builds(lambda row: insert(M).values(Movie(**row)), ROWS),
    st.builds(lambda statement: statement.merge_into("old", on=["title"]), SMALL),
)
