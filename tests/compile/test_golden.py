"""Statements and the pipelines that they become."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from bson import Decimal128, ObjectId

from superorm import Predicate, Select, StatementError, UnsupportedError, func, score, select
from superorm.compile.compiler import compile_select
from superorm.compile.plan import Find
from tests.compile.classes import Actor, Color, Distance, Imdb, Movie, Pair, Person, Stamped

UTC, CET = dt.UTC, dt.timezone(dt.timedelta(hours=2))
OPERATORS: list[tuple[Predicate[Movie], dict[str, Any]]] = [
    # comparisons
    (Movie.year == 1995, {"year": 1995}),
    (Movie.year != 1995, {"year": {"$ne": 1995}}),
    (Movie.year > 1995, {"year": {"$gt": 1995}}),
    (Movie.year >= 1995, {"year": {"$gte": 1995}}),
    (Movie.year < 1995, {"year": {"$lt": 1995}}),
    (Movie.year <= 1995, {"year": {"$lte": 1995}}),
    (Movie.year.between(1990, 1999), {"year": {"$gte": 1990, "$lte": 1999}}),
    (Movie.year.in_([1994, 1995]), {"year": {"$in": [1994, 1995]}}),
    (Movie.year.in_([]), {"year": {"$in": []}}),
    (Movie.year.not_in({1994}), {"year": {"$nin": [1994]}}),
    (1990 < Movie.year, {"year": {"$gt": 1990}}),  # type: ignore[operator]
    # null and missing
    (Movie.year == None, {"year": None}),  # noqa: E711
    (Movie.year.is_(None), {"year": None}),
    (Movie.year != None, {"year": {"$ne": None}}),  # noqa: E711
    (Movie.year.exists(), {"year": {"$exists": True}}),
    (~Movie.year.exists(), {"$nor": [{"year": {"$exists": True}}]}),
    # texts, taken literally
    (Movie.title.startswith("a.b"), {"title": {"$regex": r"^a\.b"}}),
    (Movie.title.endswith("?"), {"title": {"$regex": r"\?(?![\s\S])"}}),
    (Movie.title.contains("$x (1)"), {"title": {"$regex": r"\$x\ \(1\)"}}),
    (Movie.title.regex("^H.*t$"), {"title": {"$regex": "^H.*t$"}}),
    # lists
    (Movie.genres.contains("Heist"), {"genres": "Heist"}),
    (Movie.genres.contains(None), {"genres": {"$elemMatch": {"$eq": None}}}),  # type: ignore[arg-type]
    (Movie.tags.contains(["a", "b"]), {"tags": {"$elemMatch": {"$eq": ["a", "b"]}}}),
    (Movie.genres.all_(["Heist", "Crime"]), {"genres": {"$all": ["Heist", "Crime"]}}),
    (Movie.genres.regex("^H"), {"genres": {"$regex": "^H"}}),
    (Movie.genres == ["Heist"], {"genres": {"$eq": ["Heist"]}}),
    (Movie.cast.any_(Actor.name == "Al"), {"cast": {"$elemMatch": {"name": "Al"}}}),
    (
        Movie.cast.any_(Actor.born > 1930, Actor.born < 1950, Actor.imdb.votes == 1),
        {"cast": {"$elemMatch": {"born": {"$gt": 1930, "$lt": 1950}, "imdb.v": 1}}},
    ),
    (
        Movie.cast.any_((Actor.name == "Al") | Actor.born.is_(None)),
        {"cast": {"$elemMatch": {"$or": [{"name": "Al"}, {"born": None}]}}},
    ),
    # embedded documents
    (Movie.imdb.rating > 7, {"imdb.rating": {"$gt": 7}}),
    (Movie.imdb.votes > 7, {"imdb.v": {"$gt": 7}}),
    (Movie.imdb[Imdb.desc] == "x", {"imdb.desc": "x"}),
    (Movie.imdb == Imdb(rating=7, votes=2), {"imdb": {"$eq": {"rating": 7.0, "v": 2, "desc": ""}}}),
    (Movie.cast.name == "Al", {"cast.name": "Al"}),
    (Movie.cast.imdb.rating >= 7, {"cast.imdb.rating": {"$gte": 7}}),
    # joined conditions
    ((Movie.year > 1) & (Movie.title == "x"), {"year": {"$gt": 1}, "title": "x"}),
    ((Movie.year > 1) & (Movie.year > 2), {"$and": [{"year": {"$gt": 1}}, {"year": {"$gt": 2}}]}),
    ((Movie.year == 1) | (Movie.title == "x"), {"$or": [{"year": 1}, {"title": "x"}]}),
    (~(Movie.year == 1), {"$nor": [{"year": 1}]}),
    (
        ((Movie.year == 1) | (Movie.year == 2)) & ((Movie.title == "a") | (Movie.title == "b")),
        {"$and": [{"$or": [{"year": 1}, {"year": 2}]}, {"$or": [{"title": "a"}, {"title": "b"}]}]},
    ),
    (~((Movie.year == 1) & (Movie.title == "x")), {"$nor": [{"year": 1, "title": "x"}]}),
    # flat, however many are joined
    (
        (Movie.year == 1) | (Movie.title == "x") | (Movie.plot == "y"),
        {"$or": [{"year": 1}, {"title": "x"}, {"p": "y"}]},
    ),
    (
        ((Movie.year == 1) | (Movie.year == 2)) | ((Movie.year == 3) | (Movie.year == 4)),
        {"$or": [{"year": 1}, {"year": 2}, {"year": 3}, {"year": 4}]},
    ),
    (
        (Movie.year == 1) | ((Movie.title == "x") & (Movie.plot == "y")),
        {"$or": [{"year": 1}, {"title": "x", "p": "y"}]},
    ),
    (~((Movie.year == 1) | (Movie.title == "x")), {"$nor": [{"year": 1}, {"title": "x"}]}),
    (~~(Movie.year == 1), {"year": 1}),
    (~~((Movie.year == 1) | (Movie.year == 2)), {"$or": [{"year": 1}, {"year": 2}]}),
    (~~((Movie.year == 1) & (Movie.title == "x")), {"year": 1, "title": "x"}),
    (~((Movie.year == 1) & ~(Movie.title == "x")), {"$nor": [{"year": 1, "$nor": [{"title": "x"}]}]}),
    # the same by functions
    (func.or_(Movie.year == 1, Movie.title == "x"), {"$or": [{"year": 1}, {"title": "x"}]}),
    (func.or_(Movie.year == 1, (Movie.year == 2) | (Movie.year == 3)), {"$or": [{"year": n} for n in (1, 2, 3)]}),
    (func.and_(Movie.year == 1, Movie.title == "x"), {"year": 1, "title": "x"}),
    (func.not_(Movie.year == 1), {"$nor": [{"year": 1}]}),
    (func.not_(func.or_(Movie.year == 1, Movie.year == 2)), {"$nor": [{"year": 1}, {"year": 2}]}),
    (func.or_(Movie.year == 1, Movie.year), {"$expr": {"$or": [{"$eq": ["$year", 1]}, "$year"]}}),
    # values of all kinds
    (Movie.color == Color.BLUE, {"color": 2}),
    (Movie.color.in_([Color.RED, Color.BLUE]), {"color": {"$in": ["red", 2]}}),
    (Movie.price == Decimal("1.50"), {"price": Decimal128("1.50")}),
    (Movie.code == UUID(int=1), {"code": UUID(int=1)}),
    (Movie.id == ObjectId("0" * 24), {"_id": ObjectId("0" * 24)}),
    (Movie.plot == "x", {"p": "x"}),
    (Movie.year == np.int64(5), {"year": 5}),  # type: ignore[operator]
    (Movie.added > dt.datetime(2020, 1, 1, 2, tzinfo=CET), {"added": {"$gt": dt.datetime(2020, 1, 1, tzinfo=UTC)}}),
    (Stamped.added > dt.datetime(2020, 1, 1, tzinfo=UTC), {"added": {"$gt": dt.datetime(2020, 1, 1, tzinfo=UTC)}}),
    (Movie.added == dt.date(2020, 1, 2), {"added": dt.datetime(2020, 1, 2, tzinfo=UTC)}),  # type: ignore[operator]
]  # fmt: skip


@pytest.mark.parametrize(("condition", "expected"), OPERATORS, ids=[str(expected)[:60] for _, expected in OPERATORS])
def test_operators(condition: Predicate[Movie], expected: dict[str, Any]) -> None:
    """Each operator is the match expression that one would write by hand."""
    assert [{"$match": expected}] == select(Movie).where(condition).pipeline()


STATEMENTS: list[tuple[Select[Any, Any], list[dict[str, Any]]]] = [
    (select(Movie), []),
    (select(Movie).where(), []),
    # conditions of one block are merged, whatever the order of the calls
    (
        select(Movie).where(Movie.year >= 1990).limit(3).where(Movie.year < 2000, Movie.title == "x"),
        [{"$match": {"year": {"$gte": 1990, "$lt": 2000}, "title": "x"}}, {"$limit": 3}],
    ),
    (
        select(Movie).where(Movie.year == 1).where(Movie.year == 2, Movie.title == "x"),
        [{"$match": {"$and": [{"year": 1, "title": "x"}, {"year": 2}]}}],
    ),
    # order, offset and limit
    (
        select(Movie).limit(5).offset(2).order_by(Movie.year.desc(), Movie.title),
        [{"$sort": {"year": -1, "title": 1}}, {"$skip": 2}, {"$limit": 5}],
    ),
    (
        select(Movie).order_by(Movie.year).order_by(Movie.title.asc(), Movie.year.desc()),
        [{"$sort": {"year": 1, "title": 1}}],
    ),
    (select(Movie).limit(5).limit(3).offset(4).offset(0), [{"$limit": 3}]),
    # only what is asked for
    (select(Movie.title), [{"$project": {"title": 1, "_id": 0}}]),
    (select(Movie.title, Movie.plot, Movie.id), [{"$project": {"title": 1, "p": 1, "_id": 1}}]),
    (select(Movie.id), [{"$project": {"_id": 1}}]),
    (select(Movie.imdb.rating, Movie.imdb), [{"$project": {"imdb": 1, "_id": 0}}]),
    (select(Movie.imdb.rating, Movie.imdb.votes), [{"$project": {"imdb.rating": 1, "imdb.v": 1, "_id": 0}}]),
    (select(Distance.pair.a, Distance.km), [{"$project": {"_id.a": 1, "km": 1}}]),
    (
        select(Distance.pair).where(Distance.pair == Pair(a=1, b=2)),
        [{"$match": {"_id": {"$eq": {"a": 1, "b": 2}}}}, {"$project": {"_id": 1}}],
    ),
    (select(Movie, Movie.title), []),
    (select(Movie, Stamped.added), []),
    (select(Stamped.added, Movie.title), [{"$project": {"added": 1, "title": 1, "_id": 0}}]),
    # a search, with conditions before and after it
    (
        select(Movie).where(Movie.year > 1).like("a heist", k=3),
        [{"$match": {"year": {"$gt": 1}}}, {"$like": {"query": "a heist", "path": "embedding", "k": 3}}],
    ),
    (
        select(Movie.title, score())
        .like([1, 0, 0], on=Movie.embedding, exact=True, num_candidates=50, min_score=0.5)
        .where(Movie.year > 1)
        .order_by(score())
        .offset(1)
        .limit(2),
        [
            {
                "$like": {
                    "query": [1, 0, 0],
                    "path": "embedding",
                    "k": 10,
                    "exact": True,
                    "numCandidates": 50,
                    "minScore": 0.5,
                },
            },
            {"$match": {"year": {"$gt": 1}}},
            {"$sort": {"$score": 1}},
            {"$skip": 1},
            {"$limit": 2},
            {"$project": {"title": 1, "_id": 0}},
        ],
    ),
    (select(Person).like([0.5, 1], on=Person.face), [{"$like": {"query": [0.5, 1], "path": "face", "k": 10}}]),
    # a search before more than conditions: the score stands beside the documents' own keys
    (
        select(Movie).like("x").where(score() > 0.5).order_by(Movie.year, score().desc()),
        [
            {"$like": {"query": "x", "path": "embedding", "k": 10, "score": "__score"}},
            {"$match": {"__score": {"$gt": 0.5}}},
            {"$sort": {"year": 1, "__score": -1}},
        ],
    ),
    (
        select(Movie.year, func.max(score()).label("best")).where(Movie.year > 1).like("x", k=50).group_by(Movie.year),
        [
            {"$match": {"year": {"$gt": 1}}},
            {"$like": {"query": "x", "path": "embedding", "k": 50, "score": "__score"}},
            {"$group": {"_id": "$year", "best": {"$max": "$__score"}}},
        ],
    ),
    (
        select(Movie.title, score().label("s")).like("x"),
        [
            {"$like": {"query": "x", "path": "embedding", "k": 10, "score": "__score"}},
            {"$project": {"title": 1, "s": "$__score", "_id": 0}},
        ],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("statement", "expected"), STATEMENTS, ids=[str(pipeline)[:60] for _, pipeline in STATEMENTS])
def test_pipelines(statement: Select[Any, Any], expected: list[dict[str, Any]]) -> None:
    """A statement is the pipeline that one would write by hand, to the order of the keys."""
    assert str(expected) == str(statement.pipeline())


def test_a_plain_find_where_that_does() -> None:
    """Without a search the whole statement is one find."""
    statement = select(Movie.title).where(Movie.year > 1).order_by(Movie.year.desc()).offset(2).limit(3)
    compiled = compile_select(statement)
    assert Find("movies", {"year": {"$gt": 1}}, {"title": 1, "_id": 0}, [("year", -1)], 2, 3) == compiled.find
    assert compiled.like is None


def test_text_of_a_statement() -> None:
    """`print` shows the pipeline, with vectors cut short; `repr` what is selected."""
    statement = select(Movie).where(Movie.imdb.rating > 7).like(np.zeros(300), k=3).order_by(score().desc())
    expected = """\
Movie
[{'$match': {'imdb.rating': {'$gt': 7}}},
 {'$like': {'query': '<300 numbers>', 'path': 'embedding', 'k': 3}},
 {'$sort': {'$score': -1}}]"""
    assert expected == str(statement)
    assert "<Select Movie, Movie.imdb.rating, score()>" == repr(select(Movie, Movie.imdb.rating, score()))
    assert "'<40 numbers>'" in str(select(Movie).like([0.5] * 40))


@pytest.mark.parametrize(
    ("statement", "error", "message"),
    [
        (select(Movie, score()), StatementError, "score() can be selected only after .like(...)"),
        (select(Person).like([1, 2]), StatementError, "like() needs on=: Person has the vector fields face, voice"),
        (
            select(Person).like([1, 2], on=Person.name),
            StatementError,
            "like(on=Person.name): not a vector field; Person has face, voice",
        ),
        (
            select(Movie).limit(3).like("x"),
            UnsupportedError,
            "order_by, offset and limit before .like(...) cannot be run yet; put them after it",
        ),
    ],
)
def test_what_does_not_compile(statement: Select[Any, Any], error: type[Exception], message: str) -> None:
    """The error says what is wrong with the statement as a whole."""
    with pytest.raises(error) as raised:
        statement.pipeline()
    assert message == str(raised.value)
