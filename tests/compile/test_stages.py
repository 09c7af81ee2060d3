"""Each kind of stage, as the pipeline that one would write by hand; to be read as documentation."""

from __future__ import annotations

from typing import Any

import pytest

from superorm import Select, StatementError, aliased, case, column, func, graph_lookup, load_only, select, window
from superorm.compile.compiler import compile_select
from superorm.compile.plan import Aggregate, Find
from tests.compile.classes import Actor, Movie, Person

n = func.count().label("n")
decade = (Movie.year - Movie.year % 10).label("decade")
sequel = aliased(Movie, "sequel")
names = select(Person.name).where(Person.id == Movie.title).as_list().label("names")
rank = window(func.rank(), partition_by=Movie.color, order_by=Movie.year.desc()).label("rank")

STATEMENTS: list[tuple[Select[Any, Any], list[dict[str, Any]]]] = [
    # groups
    (select(Movie.year, n).group_by(Movie.year), [{"$group": {"_id": "$year", "n": {"$sum": 1}}}]),
    (
        select(Movie.year, Movie.plot, func.avg(Movie.imdb.rating).label("mean"))
        .where(Movie.year > 1900)
        .group_by(Movie.year, Movie.plot),
        [
            {"$match": {"year": {"$gt": 1900}}},
            {"$group": {"_id": {"year": "$year", "plot": "$p"}, "mean": {"$avg": "$imdb.rating"}}},
        ],
    ),
    (select(func.max(Movie.year)), [{"$group": {"_id": None, "max": {"$max": "$year"}}}]),
    (
        select(Movie.year, n).group_by(Movie.year).having(n > 1, Movie.year < 2000).order_by(n.desc()).limit(3),
        [
            {"$group": {"_id": "$year", "n": {"$sum": 1}}},
            {"$match": {"n": {"$gt": 1}, "_id": {"$lt": 2000}}},
            {"$sort": {"n": -1}},
            {"$limit": 3},
        ],
    ),
    (
        select(decade, n).group_by(decade),
        [{"$group": {"_id": {"$subtract": ["$year", {"$mod": ["$year", 10]}]}, "n": {"$sum": 1}}}],
    ),
    (
        select(Movie.year, (func.sum(Movie.imdb.votes) / func.count()).label("mean")).group_by(Movie.year),
        [
            {"$group": {"_id": "$year", "__1": {"$sum": "$imdb.v"}, "__2": {"$sum": 1}}},
            {"$project": {"year": "$_id", "mean": {"$divide": ["$__1", "$__2"]}, "_id": 0}},
        ],
    ),
    (
        select(Movie.year, n).group_by(Movie.year).then(func.avg(n).label("mean")),
        [
            {"$group": {"_id": "$year", "n": {"$sum": 1}}},
            {"$group": {"_id": None, "mean": {"$avg": "$n"}}},
        ],
    ),
    (select(Movie.year).distinct(), [{"$group": {"_id": "$year"}}]),
    (
        select(Movie.year, Movie.title).distinct().order_by(Movie.title),
        [  # to the server null and missing differ, but the rows would not
            {"$group": {"_id": {"year": {"$ifNull": ["$year", None]}, "title": {"$ifNull": ["$title", None]}}}},
            {"$sort": {"_id.title": 1}},
        ],
    ),
    (
        select(bucket := func.bucket(Movie.year, boundaries=[1900, 1950], default="later"), n).group_by(bucket),
        [
            {
                "$bucket": {
                    "groupBy": "$year",
                    "boundaries": [1900, 1950],
                    "default": "later",
                    "output": {"n": {"$sum": 1}},
                }
            }
        ],
    ),
    (
        select(ranges := func.bucket_auto(Movie.year, buckets=3), n).group_by(ranges),
        [{"$bucketAuto": {"groupBy": "$year", "buckets": 3, "output": {"n": {"$sum": 1}}}}],
    ),
    # computed values
    (
        select(Movie.title, (Movie.year + 1).label("next")),
        [{"$project": {"title": 1, "next": {"$add": ["$year", 1]}, "_id": 0}}],
    ),
    (
        select(Movie.title, case((Movie.year == 1895, "first"), else_="later").label("when")),
        [
            {
                "$project": {
                    "title": 1,
                    "when": {"$cond": [{"$eq": ["$year", 1895]}, "first", "later"]},
                    "_id": 0,
                }
            }
        ],
    ),
    (
        select(Movie).order_by((Movie.year % 10).asc(), Movie.title).limit(2),
        [{"$set": {"__1": {"$mod": ["$year", 10]}}}, {"$sort": {"__1": 1, "title": 1}}, {"$limit": 2}],
    ),
    # lists
    (
        select(Movie.genres.item(), n).unwind(Movie.genres).group_by(Movie.genres.item()),
        [{"$unwind": "$genres"}, {"$group": {"_id": "$genres", "n": {"$sum": 1}}}],
    ),
    (
        select(Movie.title, column("at")).unwind(Movie.cast, keep_empty=True, index="at"),
        [
            {"$unwind": {"path": "$cast", "includeArrayIndex": "__at", "preserveNullAndEmptyArrays": True}},
            {"$project": {"title": 1, "__at": 1, "_id": 0}},
        ],
    ),
    # joins
    (
        select(Movie, Person).join(Person, Movie.title == Person.id),
        [
            {"$lookup": {"from": "person", "localField": "title", "foreignField": "_id", "as": "__Person"}},
            {"$unwind": "$__Person"},
        ],
    ),
    (
        select(Movie)
        .where(Person.name == "Al", Movie.year > 1990)
        .join(Person, Person.id == Movie.title, Person.name != "", outer=True)
        .columns(Movie.title, Person.name),
        [
            {"$match": {"year": {"$gt": 1990}}},
            {
                "$lookup": {
                    "from": "person",
                    "localField": "title",
                    "foreignField": "_id",
                    "pipeline": [{"$match": {"name": {"$ne": ""}}}],
                    "as": "__Person",
                }
            },
            {"$unwind": {"path": "$__Person", "preserveNullAndEmptyArrays": True}},
            {"$match": {"__Person.name": "Al"}},
            {"$project": {"title": 1, "__Person.name": 1, "_id": 0}},
        ],
    ),
    (
        select(Movie, names).where(Movie.year == 1895),
        [
            {"$match": {"year": 1895}},
            {
                "$lookup": {
                    "from": "person",
                    "localField": "title",
                    "foreignField": "_id",
                    "pipeline": [{"$project": {"name": 1, "_id": 0}}],
                    "as": "__names",
                }
            },
        ],
    ),
    (
        select(
            Movie.title,
            graph_lookup(
                Movie, start_with=Movie.title, connect_from=Movie.title, connect_to=Movie.plot, max_depth=2
            ).label("chain"),
        ),
        [
            {
                "$graphLookup": {
                    "from": "movies",
                    "startWith": "$title",
                    "connectFromField": "title",
                    "connectToField": "p",
                    "as": "__chain",
                    "maxDepth": 2,
                }
            },
            {"$project": {"title": 1, "__chain": 1, "_id": 0}},
        ],
    ),
    # windows
    (
        select(Movie.title, rank).then().where(rank <= 3, Movie.year > 1990),
        [
            {
                "$setWindowFields": {
                    "partitionBy": "$color",
                    "sortBy": {"year": -1},
                    "output": {"__rank": {"$rank": {}}},
                }
            },
            {"$match": {"__rank": {"$lte": 3}, "year": {"$gt": 1990}}},
            {"$project": {"title": 1, "__rank": 1, "_id": 0}},
        ],
    ),
    # unions, samples, facets, raw stages
    (
        select(Movie.title).union_all(select(Person.name)).order_by(Movie.title),
        [
            {"$project": {"title": "$title", "_id": 0}},
            {"$unionWith": {"coll": "person", "pipeline": [{"$project": {"title": "$name", "_id": 0}}]}},
            {"$sort": {"title": 1}},
        ],
    ),
    (
        select(Movie).where(Movie.year == 1).union_all(select(Movie).where(Movie.year == 2)),
        [{"$match": {"year": 1}}, {"$unionWith": {"coll": "movies", "pipeline": [{"$match": {"year": 2}}]}}],
    ),
    (
        select(Movie).where(Movie.year > 1).sample(5).where(Movie.year < 9),
        [{"$match": {"year": {"$gt": 1}}}, {"$sample": {"size": 5}}, {"$match": {"year": {"$lt": 9}}}],
    ),
    (
        select(Movie)
        .where(Movie.year > 1)
        .facet(years=select(Movie.year, n).group_by(Movie.year), last=select(Movie.title).limit(1)),
        [
            {"$match": {"year": {"$gt": 1}}},
            {
                "$facet": {
                    "years": [{"$group": {"_id": "$year", "n": {"$sum": 1}}}],
                    "last": [{"$limit": 1}, {"$project": {"title": 1, "_id": 0}}],
                }
            },
        ],
    ),
    (
        select(Movie).stage({"$set": {"more": "$year"}}).where(column("more") > 5),
        [{"$set": {"more": "$year"}}, {"$match": {"more": {"$gt": 5}}}],
    ),
    # partial documents
    (
        select(Movie).options(load_only(Movie.title, Movie.plot)).where(Movie.year > 1),
        [{"$match": {"year": {"$gt": 1}}}, {"$project": {"_id": 1, "title": 1, "p": 1}}],
    ),
    # rewrites: conditions are merged, and go before what they do not depend on
    (
        select(Movie).unwind(Movie.cast).where(Movie.year > 1, Movie.cast.item()[Actor.born] > 1950).columns(Movie.id),
        [
            {"$match": {"year": {"$gt": 1}, "cast.born": {"$gt": 1950}}},
            {"$unwind": "$cast"},
            {"$match": {"cast.born": {"$gt": 1950}}},
            {"$project": {"_id": 1}},
        ],
    ),
    (
        select(Movie).where(Movie.year > 1).then().where(Movie.title == "x", Movie.year < 5),
        [{"$match": {"$and": [{"year": {"$gt": 1}}, {"title": "x", "year": {"$lt": 5}}]}}],
    ),
    (
        select(Movie).order_by(Movie.title).then().where(Movie.year > 1).limit(1),
        [{"$match": {"year": {"$gt": 1}}}, {"$sort": {"title": 1}}, {"$limit": 1}],
    ),
    (
        select(Movie).order_by(Movie.title).limit(5).then().where(Movie.year > 1),
        [{"$sort": {"title": 1}}, {"$limit": 5}, {"$match": {"year": {"$gt": 1}}}],
    ),
    (select(Movie).where(Movie.genres[0] == "Heist"), [{"$match": {"genres.0": "Heist"}}]),
]  # fmt: skip


@pytest.mark.parametrize(("statement", "expected"), STATEMENTS, ids=[str(pipeline)[:60] for _, pipeline in STATEMENTS])
def test_stages(statement: Select[Any, Any], expected: list[dict[str, Any]]) -> None:
    """A statement is the pipeline that one would write by hand, to the order of the keys."""
    assert str(expected) == str(statement.pipeline())


def test_find_and_aggregate() -> None:
    """A find where a pipeline is not needed, also with options and blocks that merge; else an aggregation."""
    statement = select(Movie).options(load_only(Movie.title)).where(Movie.year > 1).then().where(Movie.title == "x")
    expected = Find("movies", {"year": {"$gt": 1}, "title": "x"}, {"title": 1, "_id": 1}, [])
    assert expected == compile_select(statement).read
    assert isinstance(compile_select(select(Movie).sample(1)).read, Aggregate)


def test_a_join_of_a_class_with_itself() -> None:
    """The other name stands for the other document."""
    statement = select(Movie).join(sequel, sequel.title == Movie.plot).where(sequel.year > 2000).columns(sequel.title)
    assert [
        {"$lookup": {"from": "movies", "localField": "p", "foreignField": "title", "as": "__sequel"}},
        {"$unwind": "$__sequel"},
        {"$match": {"__sequel.year": {"$gt": 2000}}},
        {"$project": {"__sequel.title": 1, "_id": 0}},
    ] == statement.pipeline()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (select(Movie.title, Person.name), "Person.name: the statement is about Movie; join Person first"),
        (select(Movie).where(Person.name == "x"), "Person.name: the statement is about Movie; join Person first"),
        (
            select(Movie.plot, n).group_by(Movie.year),
            "Movie.plot is not in the grouped rows; they have n, year; group_by() it or select func.first(Movie.plot)",
        ),
        (
            select(Movie.id).having(func.count() > 1),
            "Movie.id is not in the grouped rows; they have no columns; group_by() it or select func.first(Movie.id)",
        ),
        (select(Movie).group_by(Movie.year), "Movie: there are no whole documents in grouped rows; select fields"),
        (
            select(Movie).unwind(Movie.genres),
            "Movie: its documents are not whole after unwind(); select fields",
        ),
        (select(func.count()), "<Select func.count()> does not tell its class; add .select_from(...)"),
        (select(Movie).having(Movie.year > 1), "having() needs group_by() in its block; write where()"),
        (select(Movie).distinct(), "distinct() is for selected fields and values: documents differ by their keys"),
        (
            select(Movie).join(Movie, Movie.id == Movie.id),
            "join(Movie): it is there already; join aliased(...) of it",
        ),
        (select(Movie, Person), "Person is not in the rows; join it first"),
    ],
)
def test_what_does_not_compile(statement: Select[Any, Any], message: str) -> None:
    """The error says what is wrong, and what to do."""
    with pytest.raises(StatementError) as raised:
        statement.pipeline()
    assert message == str(raised.value)
