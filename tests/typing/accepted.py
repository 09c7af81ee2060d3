"""What type checkers accept, and the types that they infer; checked by ``nox -s types``, never called."""

from __future__ import annotations

from datetime import datetime
from typing import Any, assert_type

import numpy as np

from superorm import AsyncSession, Field, Predicate, Result, ScalarResult, Select, Session, score, select, utcnow
from tests.typing.classes import Imdb, Mood, Movie, Person, Role, Stamped


def attributes(movie: Movie, person: Person) -> None:
    """Fields on the class, values on objects; inherited ones too."""
    assert_type(Movie.title, Field[Movie, str])
    assert_type(Movie.length, Field[Movie, float | None])
    assert_type(Movie.genres, Field[Movie, list[str]])
    assert_type(Movie.imdb, Field[Movie, Imdb | None])
    assert_type(Movie.added, Field[Movie, datetime])
    assert_type(Imdb.rating, Field[Imdb, float])
    assert_type(Movie.imdb[Imdb.rating], Field[Movie, float])
    assert_type(Movie.imdb.rating, Field[Movie, Any])
    assert_type(movie.title, str)
    assert_type(movie.length, float | None)
    assert_type(movie.imdb, Imdb | None)
    assert_type(movie.added, datetime)
    assert_type(movie.mood, Mood)
    assert_type(movie.cast[0].name, str | None)
    assert_type(person.id, str)
    movie.title = "Heat"
    movie.length = 170
    movie.genres.append("Heist")
    movie.imdb = Imdb(rating=8.3)
    movie.embedding = np.zeros(384, np.float32)


def constructors() -> None:
    """Required and optional arguments."""
    assert_type(Movie(title="Heat"), Movie)
    Movie(title="Heat", year=1995, genres=["Heist"], imdb=Imdb(rating=8.3, votes=1), size="long", added=utcnow())
    Person(id="dn", name="Diane Venora", movie=None)
    assert_type(Role(actor="dn"), Role)


def conditions() -> None:
    """Each operator is a condition on the class whose field it began with."""
    assert_type(Movie.year > 1990, Predicate[Movie])
    assert_type(Movie.year == 1990, Predicate[Movie])
    assert_type(Movie.length != None, Predicate[Movie])  # noqa: E711
    assert_type(Movie.length < 3, Predicate[Movie])
    assert_type(Movie.year.between(1990, 1999), Predicate[Movie])
    assert_type(Movie.year.in_([1990, 1991]), Predicate[Movie])
    assert_type(Movie.year.not_in({1990}), Predicate[Movie])
    assert_type(Movie.length.is_(None), Predicate[Movie])
    assert_type(Movie.length.exists(), Predicate[Movie])
    assert_type(Movie.title.startswith("H"), Predicate[Movie])
    assert_type(Movie.title.contains("ea"), Predicate[Movie])
    assert_type(Movie.genres.contains("Heist"), Predicate[Movie])
    assert_type(Movie.tags.contains("x"), Predicate[Movie])
    assert_type(Movie.genres.all_(["Heist", "Crime"]), Predicate[Movie])
    assert_type(Movie.genres.regex("^H"), Predicate[Movie])
    assert_type(Movie.cast.any_(Role.actor == "dn", Role.name.is_(None)), Predicate[Movie])
    assert_type(Movie.mood == Mood.WILD, Predicate[Movie])
    assert_type(Movie.size == "long", Predicate[Movie])
    assert_type(Movie.imdb[Imdb.votes] >= 3, Predicate[Movie])
    assert_type((Movie.year > 1990) & (Movie.title == "Heat") | ~(Movie.plot == ""), Predicate[Movie])
    assert_type(Movie.added > utcnow(), Predicate[Movie])
    assert_type(Person.name.endswith("a"), Predicate[Person])


def statements() -> None:
    """What a select is from, and what its rows are."""
    assert_type(select(Movie), Select[Movie, tuple[Movie]])
    assert_type(select(Movie.title), Select[Movie, tuple[str]])
    assert_type(select(Movie.title, Movie.length), Select[Movie, tuple[str, float | None]])
    assert_type(select(Movie, score()), Select[Movie, tuple[Movie, float]])
    assert_type(select(Movie.title, score()), Select[Movie, tuple[str, float]])
    assert_type(select(Movie, Movie.title, score()), Select[Movie, tuple[Movie, str, float]])
    assert_type(select(Movie.title, Movie.year, Movie.plot), Select[Movie, tuple[str, int, str]])
    four = select(Movie.title, Movie.year, Movie.plot, Movie.genres)
    assert_type(four, Select[Movie, tuple[str, int, str, list[str]]])
    five = select(Movie.title, Movie.year, Movie.plot, Movie.genres, Movie.mood)
    assert_type(five, Select[Movie, tuple[Any, ...]])
    whole = (
        select(Movie)
        .where(Movie.year >= 1990, Movie.genres.contains("Comedy"), Stamped.added < utcnow(), Movie.imdb.rating > 7)
        .like("a heist that goes wrong", on=Movie.embedding, k=10, min_score=0.5)
        .where(Movie.title != "")
        .order_by(Movie.year.desc(), Movie.title)
        .offset(1)
        .limit(5)
    )
    assert_type(whole, Select[Movie, tuple[Movie]])
    assert_type(whole.pipeline(), list[dict[str, Any]])
    assert_type(select(Movie).like([0.5] * 384).order_by(score().desc()), Select[Movie, tuple[Movie]])


def results(session: Session) -> None:
    """What a session gives."""
    assert_type(session.get(Movie, 1), Movie | None)
    assert_type(session.get_one(Movie, 1), Movie)
    assert_type(session.scalars(select(Movie)), ScalarResult[Movie])
    assert_type(session.scalars(select(Movie.title)).all(), list[str])
    assert_type(session.scalars(select(Movie)).one(), Movie)
    assert_type(session.scalar(select(Movie.length)), float | None)
    assert_type(session.execute(select(Movie.title, Movie.year)), Result[tuple[str, int]])
    for title, year in session.execute(select(Movie.title, Movie.year)):
        assert_type(title, str)
        assert_type(year, int)
    for movie, similarity in session.execute(select(Movie, score()).like("calm")):
        assert_type(movie, Movie)
        assert_type(similarity, float)


async def async_results(session: AsyncSession) -> None:
    """The same, awaited."""
    assert_type(await session.get(Movie, 1), Movie | None)
    assert_type((await session.scalars(select(Movie))).all(), list[Movie])
    assert_type(await session.scalar(select(Movie.title)), str | None)
    assert_type((await session.execute(select(Movie, score()))).first(), tuple[Movie, float] | None)
