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

from superorm import Select, StatementError, UnsupportedError, score, select
from superorm.expr.nodes import Field
from tests.compile.classes import Actor, Imdb, Movie, Person, Stamped

ANY: Any = Movie
FULL = (
    select(Movie, Movie.imdb.rating, score())
    .where(Movie.year >= 1990, (Movie.title == "x") | ~Movie.cast.any_(Actor.name == "Al"), Stamped.added.exists())
    .like([1.0, 0.0, 0.0], on=Movie.embedding, k=7, min_score=0.25)
    .where(Movie.imdb[Imdb.desc] != "x")
    .order_by(Movie.imdb.votes.desc())
    .offset(1)
    .limit(2)
)


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


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda: ANY.year & (Movie.year > 1), TypeError, "unsupported operand"),
        (lambda: (ANY.year > 1) & True, TypeError, "a condition can be combined with conditions only"),
        (lambda: (ANY.year > 1) | {"a": 1}, TypeError, "conditions only, not with dict {'a': 1}"),
        (lambda: list(ANY.genres), TypeError, "Movie.genres is a field of a class and cannot be iterated"),
        (lambda: "x" in ANY.genres, TypeError, "write .contains(...), not `in Movie.genres`"),
        (lambda: {ANY.year: 1}, TypeError, "unhashable"),
        (lambda: ANY.nothing, AttributeError, "nothing"),
        (lambda: ANY.year.nothing, AttributeError, "a field of type int | None has no part 'nothing'"),
        (lambda: ANY.imdb.nothing, AttributeError, "Imdb has no field 'nothing'; it has rating, votes, desc"),
        (lambda: ANY.imdb[Actor.name], StatementError, "Movie.imdb has no Actor.name: it does not hold a Actor"),
        (lambda: ANY.genres[0], UnsupportedError, "Movie.genres[0]: positions and keys cannot stand in statements yet"),
        (lambda: ANY.meta["key"], UnsupportedError, "Movie.meta['key']: positions and keys"),
        (lambda: ANY.year.in_("19"), StatementError, "Movie.year.in_() takes a list of values, not str '19'"),
        (lambda: ANY.year.in_(19), StatementError, "Movie.year.in_() takes a list of values, not int 19"),
        (lambda: ANY.year.not_in(b"19"), StatementError, "takes a list of values, not bytes"),
        (lambda: ANY.genres.all_("ab"), StatementError, "Movie.genres.all_() takes a list of values"),
        (lambda: ANY.year.is_(5), StatementError, "Movie.year.is_() takes None only"),
        (lambda: ANY.title.startswith(5), StatementError, ".startswith() on a text takes a text, not int 5"),
        (lambda: ANY.title.endswith(None), StatementError, ".endswith() on a text takes a text, not NoneType"),
        (lambda: ANY.title.contains(5), StatementError, ".contains() on a text takes a text, not int 5"),
        (lambda: ANY.title.regex("a\0"), StatementError, ".regex() cannot search for a NUL character"),
        (lambda: ANY.title.startswith("\ud800"), StatementError, "lone surrogate"),
        (lambda: ANY.cast.any_(), StatementError, "Movie.cast.any_() needs a condition"),
        (lambda: ANY.title.any_(Actor.name == "x"), StatementError, "needs a list of embedded documents"),
        (lambda: ANY.cast.any_(Imdb.rating > 7), StatementError, "got a condition on Imdb, but is about Actor"),
        (lambda: ANY.cast.any_(True), StatementError, "Movie.cast.any_() takes conditions such as"),
        (lambda: select(ANY).where(True), StatementError, "where() takes conditions such as Movie.year > 1990"),
        (lambda: select(ANY).where({"year": 1}), StatementError, "such as Movie.year > 1990, not dict"),
        (lambda: select(ANY).where(ANY.year), StatementError, "where() takes conditions such as"),
        (
            lambda: select(ANY).where((ANY.year > 1) | ~(Person.name == "x")),
            StatementError,
            "where() got a condition on Person, but is about Movie",
        ),
        (lambda: select(ANY).where(Imdb.rating > 1), StatementError, "got a condition on Imdb, but is about Movie"),
        (lambda: select(ANY).order_by(Person.name), StatementError, "order_by() got a field of Person"),
        (lambda: select(ANY).order_by("year"), StatementError, "order_by() takes fields such as Movie.year.desc()"),
        (lambda: select(ANY).order_by(score()), StatementError, "score() can be sorted by only after .like(...)"),
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
        (lambda: select(ANY).like("x", on="embedding"), StatementError, "like(on=...) takes a vector field of Movie"),  # type: ignore[arg-type]
        (lambda: select(ANY).like("x", on=Person.face), StatementError, "a vector field of Movie, not Person.face"),
        (lambda: select(ANY).like("x").like("y"), UnsupportedError, "a statement can have one .like(...)"),
        (lambda: select(ANY).limit(5).like("x"), UnsupportedError, "before .like(...) cannot be run yet"),
        (lambda: select(ANY).order_by(ANY.year).like("x"), UnsupportedError, "before .like(...)"),
        (lambda: select("title"), StatementError, "select() takes document classes, their fields"),  # type: ignore[call-overload]
        (lambda: select(score()), StatementError, "select() needs a document class, or a field of one"),
        (lambda: select(), StatementError, "select() needs a document class"),  # type: ignore[call-overload]
        (lambda: select(Imdb), StatementError, "select() takes document classes"),  # type: ignore[type-var]
        (lambda: select(Imdb.rating), StatementError, "select() needs a document class, or a field of one"),
        (lambda: select(Stamped), StatementError, "select() takes document classes"),
        (lambda: select(Stamped.added), StatementError, "select() needs a document class, or a field of one"),
        (lambda: select(ANY, Person.name), UnsupportedError, "from one class for now, not from Movie, Person"),
        (lambda: select(ANY, ANY), StatementError, "select() names Movie twice"),
    ],
)  # fmt: skip
def test_wrong_statements(wrong: Callable[[], object], error: type[Exception], message: str) -> None:
    """What cannot be meant is refused where it is written."""
    with pytest.raises(error) as raised:
        wrong()
    assert message in str(raised.value)


def test_statements_are_immutable() -> None:
    """Each call returns a new statement and leaves the old one as it was."""
    steps: list[Callable[[Any], Any]] = [
        lambda statement: statement.where(Movie.year > 1),
        lambda statement: statement.order_by(Movie.year),
        lambda statement: statement.limit(3),
        lambda statement: statement.offset(1),
        lambda statement: statement.like("x"),
    ]
    base: Any = select(Movie).where(Movie.title == "x")
    before = base.pipeline()
    after = [step(base) for step in steps]
    assert before == base.pipeline()
    assert len(steps) == len({str(statement) for statement in after} - {str(base)})
    with pytest.raises(AttributeError):
        base._root = Person
    with pytest.raises(AttributeError):
        (Movie.year > 1).value = 2  # type: ignore[attr-defined]


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


def test_pickles() -> None:
    """Statements, conditions and fields pickle and copy; fields are found again by class and name."""
    for again in (pickle.loads(pickle.dumps(FULL)), copy.deepcopy(FULL), copy.copy(FULL)):
        assert str(FULL) == str(again)
        assert FULL.pipeline() == again.pipeline()
        assert str(FULL.where(Movie.year > 1)) == str(again.where(Movie.year > 1))
    for field in (
        Movie.year,
        Movie.plot,
        Movie.imdb.votes,
        Movie.imdb[Imdb.desc],
        Movie.cast.imdb.rating,
        Stamped.added,
    ):
        again = pickle.loads(pickle.dumps(field))
        assert (repr(field), field._path) == (repr(again), again._path)
    document = pickle.loads(pickle.dumps(select(Movie).like(Movie(title="x", embedding=np.ones(3, np.float32)))))
    assert "x" == document._like.query.title
    assert b"namespace" not in pickle.dumps(FULL)


def test_the_same_field_is_one_object() -> None:
    """Reading a field of a class again costs nothing."""
    assert Movie.year is Movie.year
    assert isinstance(Movie.imdb.rating, Field)
    assert not isinstance(Movie.imdb.desc, Field)  # a method of expressions shadows this one
    assert "Movie.imdb.desc" == repr(Movie.imdb[Imdb.desc])


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
