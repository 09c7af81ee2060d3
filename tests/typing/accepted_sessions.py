"""Sessions, their makers and `run`, sync and async, with the types that both type checkers infer."""

from __future__ import annotations

from typing import assert_type

from superorm import (
    DB,
    AsyncDB,
    AsyncSession,
    Document,
    ScalarResult,
    Session,
    async_sessionmaker,
    joinedload,
    load_only,
    select,
    selectinload,
    sessionmaker,
)
from tests.typing.classes import Movie, Shelf, Volume


def states(session: Session, volume: Volume, movie: Movie) -> None:
    """Merging gives the class of what is merged, reading again gives nothing."""
    assert_type(session.merge(volume), Volume)
    assert_type(session.merge_all([movie]), list[Movie])
    session.refresh(volume)
    session.refresh(volume, ["shelf"])
    session.refresh_all([volume, movie], ("id",))
    session.expire(volume, ["shelf", "next_id"])
    session.expunge(volume)
    assert_type(session.is_modified(volume), bool)
    assert_type(session.new, list[Document])
    assert_type(session.dirty, list[Document])
    assert_type(session.deleted, list[Document])


def options(session: Session) -> None:
    """Documents with options are documents of the same class."""
    chain = joinedload(Shelf.volumes).selectinload(Volume.next)
    assert_type(session.get(Volume, 1, options=[selectinload(Volume.shelf), load_only(Volume.shelf_id)]), Volume | None)
    assert_type(session.get_one(Shelf, 1, options=[chain]), Shelf)
    assert_type(session.scalars(select(Shelf).options(chain)), ScalarResult[Shelf])
    assert_type(session.scalars(select(Volume).options(selectinload(Volume.shelf))).one().shelf, Shelf | None)


def _count(session: Session) -> int:
    return session.count(select(Movie))


async def _count_async(session: AsyncSession) -> int:
    return await session.count(select(Movie))


def blocks(db: DB) -> None:
    """Sessions of a DB and of a maker."""
    with db.begin() as session:
        assert_type(session, Session)
    with db.session() as session, session.begin() as same:
        assert_type(same, Session)
    make = sessionmaker(db, require_transaction=True)
    assert_type(make(), Session)
    with make.begin() as session:
        assert_type(session, Session)
    assert_type(db.run(_count), int)
    assert_type(db.run(lambda session: session.get(Movie, 1)), Movie | None)
    assert_type(db.run(_count, 3, causal_consistency=True), int)


async def states_async(session: AsyncSession, volume: Volume, movie: Movie) -> None:
    """The same, awaited."""
    assert_type(await session.merge(volume), Volume)
    assert_type(await session.merge_all([movie]), list[Movie])
    await session.refresh(volume, ["shelf"])
    session.expire(volume, ["shelf"])
    assert_type(await session.get(Volume, 1, options=[selectinload(Volume.shelf)]), Volume | None)
    assert_type(await session.scalars(select(Shelf).options(joinedload(Shelf.volumes))), ScalarResult[Shelf])


async def blocks_async(db: AsyncDB) -> None:
    """The same of asynchronous sessions."""
    async with db.begin() as session:
        assert_type(session, AsyncSession)
    async with db.session() as session, session.begin() as same:
        assert_type(same, AsyncSession)
    make = async_sessionmaker(db, require_transaction=True)
    assert_type(make(), AsyncSession)
    async with make.begin() as session:
        assert_type(session, AsyncSession)
    assert_type(await db.run(_count_async), int)
    assert_type(await db.run(lambda session: session.get(Movie, 1)), Movie | None)
