"""What sessions give for statements, in sync and async."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, assert_type

from superorm import (
    AsyncSession,
    ObjectId,
    Result,
    ScalarResult,
    Session,
    Written,
    delete,
    func,
    insert,
    score,
    select,
    update,
)
from tests.typing.classes import Film, Movie, Person, Review, Total

two = select(Movie.title, Movie.year)


def objects(session: Session) -> None:
    """Objects by key."""
    assert_type(session.get(Movie, 1), Movie | None)
    assert_type(session.get_one(Film, 1), Film)
    assert_type(session.get_one(Film, 1).title, str)
    assert_type(session.get_one(Person, "x").movie, ObjectId | None)


def results(session: Session) -> None:
    """Rows are typed by position."""
    assert_type(session.execute(two), Result[tuple[str, int]])
    assert_type(session.execute(two).all(), list[tuple[str, int]])
    assert_type(session.execute(two).first(), tuple[str, int] | None)
    assert_type(session.execute(two).one(), tuple[str, int])
    assert_type(session.execute(two).one_or_none(), tuple[str, int] | None)
    assert_type(session.execute(two).one()[1], int)
    assert_type(session.execute(two).scalars(), ScalarResult[str])
    assert_type(session.execute(two).partitions(10), Iterator[list[tuple[str, int]]])
    assert_type(session.execute(two).mappings(), ScalarResult[dict[str, Any]])
    assert_type(session.execute(two).mappings()[0], dict[str, Any])
    assert_type(session.execute(two).keys(), tuple[str, ...])
    assert_type(len(session.execute(two)), int)
    for title, year in session.execute(two):
        assert_type(title, str)
        assert_type(year, int)
    for movie, similarity in session.execute(select(Movie, score()).like("calm")):
        assert_type(movie, Movie)
        assert_type(similarity, float)
    joined = select(Movie, Review).join(Review, Review.movie_id == Movie.id)
    assert_type(session.execute(joined).all(), list[tuple[Movie, Review]])


def scalars(session: Session) -> None:
    """The first column."""
    assert_type(session.scalars(select(Movie)), ScalarResult[Movie])
    assert_type(session.scalars(two).all(), list[str])
    assert_type(session.scalars(select(Movie)).one(), Movie)
    assert_type(session.scalars(select(Movie)).first(), Movie | None)
    assert_type(session.scalars(select(Movie)).one_or_none(), Movie | None)
    assert_type(session.scalars(select(Movie)).partitions(10), Iterator[list[Movie]])
    assert_type(session.scalar(select(Movie.length)), float | None)
    assert_type(session.scalar(select(func.count(Movie))), int | None)
    assert_type(session.scalars(delete(Movie).all().returning(Movie.title)).all(), list[str])
    assert_type(session.count(select(Movie)), int)


def streams(session: Session) -> None:
    """One by one."""
    assert_type(session.stream(two), Iterator[tuple[str, int]])
    assert_type(session.stream_scalars(select(Movie), batch_size=500), Iterator[Movie])
    assert_type(session.stream_scalars(two), Iterator[str])


def writes(session: Session) -> None:
    """What a statement that writes did, or its rows."""
    done = session.execute(update(Movie).all().values(year=1))
    assert_type(done, Written)
    assert_type(done.matched, int)
    assert_type(done.rowcount, int)
    assert_type(session.execute(insert(Movie).values(title="Heat")), Written)
    assert_type(session.execute(delete(Movie).all()), Written)
    assert_type(session.execute(delete(Movie).all().returning(Movie.title)), Result[tuple[str]])
    assert_type(session.bulk_insert([Movie(title="Heat")]), Written)
    session.execute(select(Movie.year.label("_id")).distinct().merge_into(Total))


async def asynchronously(session: AsyncSession) -> None:
    """The same, awaited."""
    assert_type(await session.get(Movie, 1), Movie | None)
    assert_type(await session.execute(two), Result[tuple[str, int]])
    assert_type((await session.execute(two)).scalars(), ScalarResult[str])
    assert_type((await session.execute(select(Movie, score()))).first(), tuple[Movie, float] | None)
    assert_type((await session.scalars(select(Movie))).all(), list[Movie])
    assert_type(await session.scalar(select(Movie.title)), str | None)
    assert_type(await session.count(select(Movie)), int)
    assert_type(session.stream(two), AsyncIterator[tuple[str, int]])
    async for title, year in session.stream(two):
        assert_type(title, str)
        assert_type(year, int)
    async for movie in session.stream_scalars(select(Movie)):
        assert_type(movie, Movie)
    assert_type(await session.execute(update(Movie).all().values(year=1)), Written)
    assert_type(await session.execute(delete(Movie).all().returning(Movie)), Result[tuple[Movie]])
    assert_type(await session.bulk_insert([Movie(title="Heat")]), Written)
    await session.execute(select(Movie.year.label("_id")).distinct().merge_into("totals"))
