"""Datetimes are aware however documents are read, and reading them changes nothing."""

from __future__ import annotations

import datetime as dt

from superorm import AsyncDB, Document, Mapped, Registry, field, select
from superorm.compile.plan import Find
from superorm.unitofwork.writes import Update, UpdateOp


class Event(Document, registry=Registry()):
    __collection__ = "events_read"
    id: Mapped[int] = field(primary_key=True)
    at: Mapped[dt.datetime]
    until: Mapped[dt.datetime | None] = field(default=None, name="u")
    name: Mapped[str] = field(default="")


AT = dt.datetime(2024, 2, 29, 12, 30, 15, 250000, tzinfo=dt.UTC)


async def test_reading(db: AsyncDB) -> None:
    """By a select of documents, of fields, by key and in a stream; nothing is dirty afterwards."""
    async with db.begin() as session:
        session.add_all([Event(id=1, at=AT), Event(id=2, at=AT, until=AT + dt.timedelta(days=1))])
    async with db.session() as session:
        events = (await session.scalars(select(Event).order_by(Event.id))).all()
        assert [(AT, None), (AT, AT + dt.timedelta(days=1))] == [(event.at, event.until) for event in events]
        assert [] == session.dirty
        await session.flush()
        events[0].name = "x"
        await session.commit()
    async with db.session() as session:
        assert AT == (await session.get_one(Event, 1)).at
        assert "x" == (await session.get_one(Event, 1)).name
        assert [(AT,), (AT,)] == (await session.execute(select(Event.at))).all()
        streamed = [event async for event in session.stream_scalars(select(Event).where(Event.at == AT))]
        assert [AT, AT] == [event.at for event in streamed]
        assert (await session.scalars(select(Event).where(Event.until > AT))).one().until == AT + dt.timedelta(days=1)


async def test_keys_that_are_not_mapped(db: AsyncDB) -> None:
    """Datetimes there survive that the document is deleted and added again, to the millisecond."""
    async with db.begin() as session:
        session.add(Event(id=1, at=AT))
    backend = db.parts.data_backend
    await backend.write(Update("events_read", [UpdateOp(q={"_id": 1}, u={"$set": {"extra": AT, "deep": {"at": AT}}})]))
    async with db.session() as session:
        event = (await session.scalars(select(Event))).one()
        session.delete(event)
        await session.commit()
        session.add(event)
        await session.commit()
    (stored,) = await backend.read(Find("events_read"))
    assert {"_id": 1, "at": AT, "u": None, "name": "", "extra": AT, "deep": {"at": AT}} == stored
