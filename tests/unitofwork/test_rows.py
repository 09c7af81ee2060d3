"""Rows of what was selected."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from superorm import (
    Document,
    Mapped,
    MultipleResultsFound,
    NoResultFound,
    Registry,
    StatementError,
    ValidationError,
    field,
    func,
    score,
    select,
)
from superorm.codec.documents import load
from superorm.compile.compiler import compile_select
from superorm.schema.mapping import class_map
from superorm.unitofwork.result import Result, Row, ScalarResult, row_class
from superorm.unitofwork.rows import rows_of
from tests.unitofwork.classes import Actor, Film, stored

FILM = class_map(Film)


class Keeping(Document, registry=Registry()):
    __on_mismatch__ = "keep"
    n: Mapped[int]
    names: Mapped[list[str]] = field(factory=list)
    lead: Mapped[Actor | None] = field(default=None)


FOUND = [stored(1, title="a", lead={"name": "Al"}, y=1995), {"_id": 2, "title": "b"}, {"_id": 3, "lead": None}]


def rows(statement: Any, found: Any = FOUND) -> list[Row]:
    """The rows of a statement over the documents."""
    return rows_of(compile_select(statement), found, [0.5, 0.25, 0.125], lambda mapping, found, _: load(mapping, found))


def test_names_and_values() -> None:
    """Values by position and by the attributes' names; missing keys read as defaults, and as None where the part is."""
    title, year, name, born = Film.title, Film.year, Film.lead.name, Film.lead.born
    found = rows(select(title, year, name, born))
    assert [("a", 1995, "Al", 1900), ("b", None, None, None), ("", None, None, None)] == found
    assert ("a", 1995, 1900) == (found[0].title, found[0].year, found[0].born)
    with pytest.raises(AttributeError, match="the row has no 'y'; it has title, year, name, born"):
        found[0].y  # noqa: B018
    assert "(title='a', year=1995, name='Al', born=1900)" == repr(found[0])


def test_documents_keys_and_scores() -> None:
    """Whole documents are loaded, and named by their class."""
    found = rows(select(Film, Film.id, score()).like("x"))
    assert [1, 2, 3] == [row.Film.id for row in found] == [row.id for row in found]
    assert [0.5, 0.25, 0.125] == [row.score for row in found]
    assert Actor(name="Al") == rows(select(Film.lead))[0][0]


def test_names_that_tuples_have() -> None:
    """A column wins over a method of tuples."""
    row = row_class(["count", "index", "count"])((7, 8, 9))
    assert (7, 8) == (row.count, row.index)  # type: ignore[comparison-overlap]


def test_rows_pickle() -> None:
    """Rows are tuples that pickle with their names."""
    (row, *_) = rows(select(Film.title, Film.year))
    again = pickle.loads(pickle.dumps(row))
    assert (row, "a") == (again, again.title)


def test_wrong_values() -> None:
    """They name document, path and value."""
    with pytest.raises(ValidationError, match=r"Film 1: the stored value of lead\.name does not fit: expected str"):
        rows(select(Film.lead.name, Film.id), [{"_id": 1, "lead": {"name": 5}}])
    with pytest.raises(ValidationError, match=r"lead\.name does not fit: expected str, but the key is missing"):
        rows(select(Film.lead.name), [{"_id": 1, "lead": {}}])


def test_paths_through_lists() -> None:
    """They give a list, of what each element holds."""
    assert [(["x", "y"],)] == rows(select(Film.cast.name), [{"cast": [{"name": "x"}, {"name": "y"}]}])
    with pytest.raises(ValidationError, match=r"Film 1: the stored value of cast\.name does not fit: expected str"):
        rows(select(Film.cast.name), [{"_id": 1, "cast": [{"name": "x"}, {"name": 5}]}])


def test_missing_keys_in_lists() -> None:
    """Each element that lacks the key has the field's default."""
    found = [{"cast": [{"name": "x"}, {"name": "y", "born": 1940}]}]
    assert [([1900, 1940],)] == rows(select(Film.cast.born), found)


def test_values_that_are_kept() -> None:
    """Where the class, or one around it, keeps values of a wrong type, its columns do too: as copies."""
    found: list[dict[str, Any]] = [{"_id": 1, "n": "x", "names": {"a": [1]}, "lead": {"name": 5}}, {"_id": 2}]
    n, names, lead, name = Keeping.n, Keeping.names, Keeping.lead, Keeping.lead.name
    first, second = rows(select(n, names, lead, name), found)
    assert ("x", {"a": [1]}, {"name": 5}, 5) == first
    assert (None, [], None, None) == second
    first[1]["a"].append(2)
    assert {"a": [1]} == found[0]["names"]
    (row,) = rows(select(func.push(n).label("all"), func.max(n).label("last")), [{"all": [1, "x"], "last": "x"}])
    assert ([1, "x"], "x") == row
    with pytest.raises(ValidationError, match=r"^Film: the stored value of y does not fit"):
        rows(select(Film.year), [{"y": "x"}])


def test_results() -> None:
    """`all`, `first`, `one`, `one_or_none`, `scalars` and `mappings` as in SQLAlchemy."""
    found = Result(rows(select(Film.title, Film.year)))
    assert 3 == len(found)
    assert ["a", "b", ""] == found.scalars().all() == list(found.scalars())
    mappings = found.mappings()
    assert {"title": "a", "year": 1995} == mappings[0] == mappings.all()[0] == mappings.first()
    assert ["a", "b", ""] == [one["title"] for one in mappings]
    assert ["b", ""] == [one["title"] for part in mappings.partitions(1) for one in part][1:]
    with pytest.raises(MultipleResultsFound):
        mappings.one()
    assert ("a", 1995) == found.first()
    assert (
        [[("a", 1995), ("b", None)], [("", None)]] == list(found.partitions(2)) == list(found.partitions(np.int64(2)))
    )  # type: ignore[arg-type]
    with pytest.raises(StatementError, match=r"partitions\(size\) must be from 1 to \d+, not 0"):
        found.partitions(0)
    with pytest.raises(StatementError, match=r"partitions\(size\) takes a whole number, not str 'x'"):
        found.partitions("x")  # type: ignore[arg-type]
    for result in (found, ScalarResult([1, 2])):
        with pytest.raises(MultipleResultsFound, match="one result was required and there are"):
            result.one()
        with pytest.raises(MultipleResultsFound):
            result.one_or_none()
    empty = ScalarResult[int]([])
    assert (None, None, []) == (empty.first(), empty.one_or_none(), empty.all())
    with pytest.raises(NoResultFound, match="one result was required and there is none"):
        empty.one()
    assert (5, 5) == (ScalarResult([5]).one(), ScalarResult([5]).one_or_none())
    assert ScalarResult([None]).one() is None
