"""Statements pickle and copy, here and in another process."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from superorm import aliased, func, load_only, score, select, update
from tests.compile.classes import Actor, Imdb, Movie, Person, Stamped
from tests.expr.random_statements import STATEMENTS, WRITES
from tests.expr.test_serialize import compiled, exact, planned

P: Any = aliased(Person, "critic")
WAYS: list[Callable[[Any], Any]] = [
    lambda node: pickle.loads(pickle.dumps(node)),
    lambda node: pickle.loads(pickle.dumps(node, 2)),
    copy.deepcopy,
    copy.copy,
]
TOTAL = (Movie.year + 1).label("n")
FULL = (
    select(Movie, TOTAL, func.filter(Movie.genres, lambda genre: genre > "A").label("kept"))
    .where(Movie.year >= 1990, Movie.cast.any_(Actor.name == "Al"), Stamped.added.exists(), TOTAL > 5)
    .join(P, P.id == Movie.title)
    .order_by(TOTAL, Movie.imdb[Imdb.votes].desc())
    .offset(1)
    .limit(2)
)


@given(STATEMENTS)
@settings(max_examples=100, deadline=None)
def test_selects(statement: Any) -> None:
    """What was pickled or copied compiles to the same, and what stood twice in it does so again."""
    for way in WAYS:
        again = way(statement)
        assert compiled(statement) == compiled(again)
        assert repr(statement.to_dict()) == repr(again.to_dict())


@given(WRITES)
@settings(max_examples=50, deadline=None)
def test_writes(statement: Any) -> None:
    """So does what writes."""
    for way in WAYS:
        again = way(statement)
        if hasattr(statement, "plan"):
            assert planned(statement) == planned(again)
        if not any(isinstance(row, Movie) for row in getattr(statement, "_rows", ())):
            assert repr(statement.to_dict()) == repr(again.to_dict())


def test_labels_stay_one() -> None:
    """A label that stands in several places is one object again, and so is a variable."""
    for way in WAYS:
        again = way(FULL)
        (block,) = again._steps
        assert again._entities[1] is block.where[3].left is block.order_by[0].expr
        assert FULL.pipeline() == again.pipeline()
    nested = func.filter(Movie.genres, lambda genre: (genre > "A") & (genre < "Z"))
    for way in WAYS[:3]:
        low, high = way(nested).options[1][1].items
        assert low.left._owner is high.left._owner


def test_statements_can_be_continued() -> None:
    """A statement that came back takes more conditions, on the same classes."""
    base = select(Movie).where(Movie.title == "x")
    again = pickle.loads(pickle.dumps(base))
    assert Movie is again._root
    more: list[Callable[[Any], Any]] = [
        lambda statement: statement.where(Movie.year > 1),
        lambda statement: statement.options(load_only(Movie.title)),
        lambda statement: statement.like([1, 0, 0], on=Movie.embedding).columns(Movie, score()),
    ]
    for add in more:
        assert add(base).pipeline() == add(again).pipeline()


@pytest.mark.parametrize(
    "field",
    [
        Movie.year,
        Movie.plot,
        Movie.imdb.votes,
        Movie.imdb[Imdb.desc],
        Movie.cast[0].imdb.rating,
        Movie.meta["a"]["b"],
        Movie.genres.item(),
        Stamped.added,
        P.face,
        P.name,
    ],
    ids=repr,
)
def test_fields(field: Any) -> None:
    """A field is found again by its class and steps, and holds none of the class's declarations."""
    for way in WAYS:
        again = way(field)
        assert (repr(field), field._path, field._owner) == (repr(again), again._path, again._owner)
    assert b"annotation" not in pickle.dumps(field)


def test_a_document_as_query() -> None:
    """A document pickles as the query of like."""
    again = pickle.loads(pickle.dumps(select(Movie).like(Movie(title="x", embedding=np.ones(3, np.float32)))))
    assert "x" == again._steps[1].query.title


def test_another_process() -> None:
    """What one process pickles another one that imports the classes reads, and it sends back the same."""
    statements = [
        FULL,
        select(Movie).like(np.array([1.0, 0, 0]), k=3).columns(Movie, score()),
        select(Movie.year, func.count().label("n")).group_by(Movie.year),
    ]
    writes = [update(Movie).where(Movie.year > 1).set(Movie.genres.push("x"), Movie.year.inc(1))]
    code = (
        "import pickle, sys\n"
        "statements, writes = pickle.load(sys.stdin.buffer)\n"
        "made = [one.pipeline() for one in statements] + [one.plan() for one in writes]\n"
        "sys.stdout.buffer.write(pickle.dumps((made, statements, writes)))\n"
    )
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps((statements, writes)),
        cwd=root,
        capture_output=True,
        check=False,
    )
    assert b"" == run.stderr
    made, back, written = pickle.loads(run.stdout)
    assert [exact(one.pipeline()) for one in statements] == [exact(one) for one in made[:3]]
    assert [exact(one.plan()) for one in writes] == [exact(one) for one in made[3:]]
    assert [exact(one.pipeline()) for one in statements] == [exact(one.pipeline()) for one in back]
    assert [exact(one.plan()) for one in writes] == [exact(one.plan()) for one in written]
