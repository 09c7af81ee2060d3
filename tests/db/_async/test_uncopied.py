"""Sessions and DBs are neither copied nor pickled, and say what to do instead."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any, cast

import cloudpickle
import pytest

from superorm import AsyncDB, AsyncSession, Document, Mapped, SessionError, async_sessionmaker, field

by_value: Callable[[Any], bytes] = cast("Any", cloudpickle).dumps
ways: list[Callable[[Any], Any]] = [copy.copy, copy.deepcopy, pickle.dumps, by_value]
WAYS = pytest.mark.parametrize("way", ways)


class Pebble(Document):
    __collection__ = "uncopied_pebbles"

    id: Mapped[int] = field(primary_key=True)
    colour: Mapped[str] = field(default="grey")


class OwnSession(AsyncSession):
    """A user's own."""


@WAYS
async def test_a_session(db: AsyncDB, way: Callable[[Any], Any]) -> None:
    """Two sessions would write one unit of work; the one there is goes on."""
    async with AsyncSession(db) as session:
        session.add(Pebble(id=1))
        with pytest.raises(SessionError, match=r"AsyncSession can be neither copied .* merge\(\) documents into it"):
            way(session)
        await session.commit()
    async with OwnSession(db) as own:
        with pytest.raises(SessionError, match="this OwnSession can be neither copied nor pickled"):
            way(own)
        assert "grey" == (await own.get_one(Pebble, 1)).colour


@WAYS
async def test_a_db(db: AsyncDB, way: Callable[[Any], Any]) -> None:
    """Its connections would not work in another process, and closing a copy would close them here."""
    with pytest.raises(SessionError, match=r"this AsyncDB can be neither copied .* connect_async\(...\) anew"):
        way(db)
    async with db.begin() as session:
        session.add(Pebble(id=1))


async def test_arguments_that_are_sent_elsewhere(db: AsyncDB) -> None:
    """What they hold of a DB or a session is refused where it is sent, not where it arrives."""
    async with db.session() as session:
        for held in (db, session):
            with pytest.raises(SessionError, match="can be neither copied nor pickled"):
                by_value([held])


async def test_a_sessionmaker(db: AsyncDB) -> None:
    """A copy makes sessions of the same DB, with options of its own; it cannot go elsewhere with its DB."""
    maker = async_sessionmaker(db, max_commit_time_ms=5000)
    other = copy.copy(maker)
    other.configure(max_commit_time_ms=7000)
    assert "5000" in repr(maker)
    assert "7000" in repr(other)
    async with other.begin() as session:
        session.add(Pebble(id=2))
    with pytest.raises(SessionError, match="this AsyncDB can be neither copied"):
        pickle.dumps(maker)


async def test_objects_of_a_session(db: AsyncDB) -> None:
    """They are copied and pickled without it."""
    async with db.session() as session:
        session.add(Pebble(id=1, colour="red"))
        await session.commit()
        pebble = await session.get_one(Pebble, 1)
        for other in (copy.copy(pebble), copy.deepcopy(pebble), pickle.loads(pickle.dumps(pebble))):
            assert "red" == other.colour
            assert other not in session
