"""What joins and lists of other documents look up by."""

from __future__ import annotations

from typing import Any

import pytest

from superorm import Select, aliased, column, func, select
from tests.compile.classes import Movie, Person

FIRST = {"$arrayElemAt": [{"$cond": [{"$isArray": "$genres"}, "$genres", []]}, 0]}
TITLE = [{"$ifNull": ["$_id", None]}, {"$ifNull": [{"$toLower": "$$outer0"}, None]}]
ITEMS = select(Movie.title).unwind(Movie.genres)
LISTS = select(Movie.title).unwind(Movie.tags)
other = aliased(Movie, "other")


def by(foreign: str, local: str, **more: Any) -> dict[str, Any]:
    return {"$lookup": {"from": "person", "localField": local, "foreignField": foreign, **more, "as": "__Person"}}


BY_INDEX: list[tuple[Select[Any, Any], list[dict[str, Any]]]] = [
    # the item stands at the list's path
    (ITEMS.join(Person, Movie.genres.item() == Person.id), [{"$unwind": "$genres"}, by("_id", "genres")]),
    (ITEMS.join(Person, Person.name == Movie.genres.item()), [{"$unwind": "$genres"}, by("name", "genres")]),
    (
        select(Movie.title).unwind(Movie.cast).join(Person, Person.name == Movie.cast.item().name),
        [{"$unwind": "$cast"}, by("name", "cast.name")],
    ),
    (LISTS.join(Person, Movie.tags.item() == Person.id), [{"$unwind": "$tags"}, by("_id", "tags")]),
    # other values of the row are set where the documents that are found go
    (
        select(Movie.title).join(Person, Movie.genres[0] == Person.name),
        [{"$set": {"__Person": FIRST}}, by("name", "__Person")],
    ),
    (
        select(Movie.title).join(Person, Person.id == func.to_lower(Movie.title), Person.name != "x"),
        [
            {"$set": {"__Person": {"$toLower": "$title"}}},
            by("_id", "__Person", pipeline=[{"$match": {"name": {"$ne": "x"}}}]),
        ],
    ),
    # a column is of the rows
    (
        select(Movie.title).unwind(Movie.genres, index="at").join(Person, Person.id == column("at")),
        [
            {"$unwind": {"path": "$genres", "includeArrayIndex": "__at"}},
            {"$set": {"__Person": "$__at"}},
            by("_id", "__Person"),
        ],
    ),
    # by the field rather than by a value
    (
        select(Movie.title).join(Person, Person.id == func.to_lower(Movie.title), Person.name == Movie.plot),
        [by("name", "p", let={"outer0": "$title"}, pipeline=[{"$match": {"$expr": {"$eq": TITLE}}}])],
    ),
]


@pytest.mark.parametrize(("statement", "expected"), BY_INDEX, ids=str)
def test_joins_by_a_path(statement: Select[Any, Any], expected: list[dict[str, Any]]) -> None:
    """An index on the other side can be used."""
    assert [*expected, {"$unwind": "$__Person"}] == statement.pipeline()[:-1]


def test_lists_by_a_value() -> None:
    """So do the lists of other documents."""
    names = select(Person.name).where(Movie.genres[0] == Person.id).as_list().label("names")
    expected = [
        {"$set": {"__names": FIRST}},
        {
            "$lookup": {
                "from": "person",
                "localField": "__names",
                "foreignField": "_id",
                "pipeline": [{"$project": {"name": 1, "_id": 0}}],
                "as": "__names",
            }
        },
    ]
    assert expected == select(Movie, names).pipeline()


@pytest.mark.parametrize(
    "statement",
    [
        LISTS.join(Person, Movie.tags.item() == Person.name),  # whole lists may be compared
        select(Movie.title).join(Person, Person.name == func.concat(Person.id, Movie.title)),
        select(Movie.title).join(Person, func.to_lower(Person.name) == func.to_lower(Movie.title)),
        select(Movie.title).join(other, other.genres[0] == Movie.title),
        select(Movie.title).join(Person, Person.name != Movie.genres[0]),
    ],
    ids=str,
)
def test_joins_by_other_conditions(statement: Select[Any, Any]) -> None:
    """What is no equality of a path with a value of the row is an expression."""
    (lookup,) = (stage["$lookup"] for stage in statement.pipeline() if "$lookup" in stage)
    assert "localField" not in lookup
    assert "$expr" in str(lookup["pipeline"])
