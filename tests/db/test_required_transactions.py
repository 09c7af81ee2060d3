"""Sessions that require transactions where there are none: refused before anything is read or written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import mongomock
import pytest

from superorm import (
    AsyncSession,
    Document,
    Mapped,
    Session,
    UnsupportedError,
    connect,
    connect_async,
    field,
    select,
    sessionmaker,
    superduper,
)

SETTINGS: dict[str, Any] = {"vector_database": "memory://", "signing_key": "test-key"}
REFUSED = pytest.raises(UnsupportedError, match=r"mongomock has no transactions here.*leave out require_transaction")


class Wanted(Document):
    __collection__ = "wanted"

    id: Mapped[int] = field(primary_key=True)


def test_of_a_db_that_was_not_used_before() -> None:
    """A session can be made only where there are transactions; what to look at, the DB finds out then."""
    client: Any = mongomock.MongoClient()
    with superduper(client.wanted) as db:
        with REFUSED:
            Session(db, require_transaction=True)
        with REFUSED:
            sessionmaker(db, require_transaction=True)()
        Session(db, require_transaction=False).close()


async def test_of_an_asynchronous_twin() -> None:
    """What its DB can do is known, and so what the twin can."""
    with connect(f"mongomock://{uuid4().hex}", **SETTINGS) as db:
        with REFUSED:
            AsyncSession(db, require_transaction=True)
        async with AsyncSession(db) as session:
            assert 0 == await session.count(select(Wanted))


async def first_stream(session: AsyncSession) -> None:
    assert [] == [one async for one in session.stream(select(Wanted))]


async def block(session: AsyncSession) -> None:
    async with session:
        pass


async def added(session: AsyncSession) -> None:
    session.add(Wanted(id=1))
    await session.flush()


CALLS: list[Callable[[AsyncSession], Awaitable[object]]] = [
    block,
    added,
    first_stream,
    lambda session: session.get(Wanted, 1),
    lambda session: session.scalars(select(Wanted)),
    lambda session: session.count(select(Wanted)),
    lambda session: session.merge(Wanted(id=1)),
    lambda session: session.bulk_insert([Wanted(id=1)]),
]


@pytest.mark.parametrize("call", CALLS)
async def test_of_an_asynchronous_db_that_was_not_used_before(
    call: Callable[[AsyncSession], Awaitable[object]],
) -> None:
    """Making a session waits for nothing: its block, or its first call, says it, and from then on the making."""
    name = uuid4().hex
    async with connect_async(f"mongomock://{name}", **SETTINGS) as other:
        db = connect_async(f"mongomock://{name}", **SETTINGS)
        session = AsyncSession(db, require_transaction=True)
        with REFUSED:
            await call(session)
        with REFUSED:
            AsyncSession(db, require_transaction=True)
        await db.close()
        async with other.session() as reading:
            assert 0 == await reading.count(select(Wanted))
