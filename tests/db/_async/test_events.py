"""Listeners, over every backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from superorm import (
    AsyncDB,
    AsyncSession,
    ConfigurationError,
    Document,
    Mapped,
    PendingRollbackError,
    Registry,
    SessionError,
    async_sessionmaker,
    field,
    insert,
    listens_for,
    relationship,
    remove_listener,
    select,
    selectinload,
)
from superorm.unitofwork.tracking import Tracker

registry = Registry()


class Base(Document):
    __abstract__ = True

    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str] = field(default="")


class Animal(Base, registry=registry):
    tags: Mapped[list[str]] = field(factory=list)


class Cat(Animal):
    lives: Mapped[int] = field(default=9)


class Log(Document, registry=registry):
    text: Mapped[str]


class Herd(Base, registry=registry):
    size: Mapped[int] = field(default=0)
    sheep: Mapped[list[Sheep]] = relationship(list["Sheep"], remote_key="herd_id")


class Sheep(Base, registry=registry):
    herd_id: Mapped[int | None] = field(default=None)


Listen = Callable[[Any, str, Callable[..., Any]], None]


@pytest.fixture
def listen() -> Iterator[Listen]:
    """Listens until the end of the test."""
    added: list[tuple[Any, Any, Any]] = []

    def add(target: Any, event: Any, function: Callable[..., Any]) -> None:
        listens_for(target, event)(function)
        added.append((target, event, function))

    yield add
    for target, event, function in added:
        remove_listener(target, event, function)


async def test_documents(db: AsyncDB, listen: Listen) -> None:
    """Each event of a document is heard with the session, subclasses' too; what is not changed is not heard of."""
    heard: list[tuple[str, Any]] = []
    for event in ("insert", "update", "delete"):
        for when in ("before", "after"):
            name = f"{when}_{event}"
            listen(Base, name, lambda session, one, name=name: heard.append((name, one.id)))
    listen(Cat, "before_insert", lambda session, one: heard.append(("cat", one.id)))
    async with db.session() as session:
        listen(Animal, "after_insert", lambda given, one: heard.append(("session", given is session)))
        one, two = Animal(id=1), Cat(id=2)
        session.add_all([one, two])
        await session.flush()
        assert [("before_insert", 1), ("cat", 2), ("before_insert", 2)] == heard[:3]
        assert {("after_insert", 1), ("after_insert", 2), ("session", True)} == set(heard[3:])
        heard.clear()
        one.name = "x"
        two.lives = int("9")
        await session.commit()
        assert [("before_update", 1), ("after_update", 1)] == heard
        heard.clear()
        session.delete(two)
        await session.commit()
        assert [("before_delete", 2), ("after_delete", 2)] == heard
        heard.clear()
        await session.commit()
        await session.execute(insert(Animal).values(id=5))
        await session.bulk_insert([Animal(id=6)])
        await session.commit()
        assert [] == heard


async def test_changes_of_listeners(db: AsyncDB, listen: Listen) -> None:
    """What listeners change before a flush is written with it; what they change after it with the commit."""

    async def before(session: AsyncSession, one: Animal) -> None:
        one.tags.append("before")

    async def after(session: AsyncSession, one: Animal) -> None:
        if one.name == "late":
            return
        one.name = "late"

    async def log(session: AsyncSession) -> None:
        if session.new and not any(isinstance(one, Log) for one in session.new):
            session.add(Log(text=f"{len(session.new)} new"))

    def first(session: AsyncSession) -> None:
        session.add(Animal(id=7))

    async with db.session() as session:
        listen(Animal, "before_insert", before)
        listen(Animal, "before_update", before)
        listen(Animal, "after_insert", after)
        listen(session, "before_flush", log)
        listen(session, "before_commit", first)
        session.add(Animal(id=1))
        await session.commit()
    async with db.session() as session:
        rows = list(await session.execute(select(Animal.id, Animal.name, Animal.tags).order_by(Animal.id)))
        assert [(1, "late", ["before", "before"]), (7, "late", ["before", "before"])] == rows
        assert ["2 new"] == (await session.scalars(select(Log.text))).all()


async def test_added_by_listeners(db: AsyncDB, listen: Listen) -> None:
    """What a listener of a document adds, changes or deletes is flushed as well, and heard of."""
    heard: list[int] = []

    def before(session: AsyncSession, one: Animal) -> None:
        heard.append(one.id)
        if one.id < 4:
            session.add(Animal(id=one.id + 1))

    listen(Animal, "before_insert", before)
    async with db.begin() as session:
        session.add(Animal(id=1))
    assert [1, 2, 3, 4] == heard
    async with db.session() as session:
        assert 4 == await session.count(select(Animal))

        def forever(session: AsyncSession, one: Log) -> None:
            session.add(Log(text=""))

        listen(Log, "before_insert", forever)
        session.add(Log(text=""))
        with pytest.raises(SessionError, match="listeners led to further changes 100 times in one flush"):
            await session.flush()


async def test_related_by_listeners(db: AsyncDB, listen: Listen) -> None:
    """What a listener adds, changes or removes by a relationship is flushed, heard of, and seen by other listeners."""
    heard: list[tuple[str, int, int | None]] = []

    def before(session: AsyncSession, herd: Herd) -> None:
        if herd.size:
            herd.sheep.append(Sheep(id=10 + herd.size))
            herd.sheep.remove(herd.sheep[0])

    listen(Herd, "before_update", before)
    for event in ("before_insert", "before_update"):
        listen(Sheep, event, lambda session, one, event=event: heard.append((event, one.id, one.herd_id)))
    async with db.session() as session:
        herd = Herd(id=1, sheep=[Sheep(id=1), Sheep(id=2)])
        session.add(herd)
        await session.commit()
        assert {("before_insert", 1, 1), ("before_insert", 2, 1)} == set(heard)
        heard.clear()
        herd.size = 3
        await session.commit()
        assert {("before_insert", 13, 1), ("before_update", 1, None)} == set(heard)
    async with db.session() as session:
        herd = await session.get_one(Herd, 1, options=[selectinload(Herd.sheep)])
        assert {2, 13} == {one.id for one in herd.sheep}


async def test_looks(db: AsyncDB, listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flush looks at each object once, and again only where listeners ran."""
    looks: list[str] = []
    look = Tracker.possibly_changed

    def counted(self: Tracker) -> Any:
        looks.append("all")
        return look(self)

    def compared(mapping: Any, one: Any) -> bool:
        looks.append(f"{mapping.name} {one.id}")
        return True

    async with db.session() as session:
        one, two, cat = Animal(id=1), Animal(id=2), Cat(id=3)
        session.add_all([one, two, cat])
        await session.commit()
        monkeypatch.setattr(Tracker, "possibly_changed", counted)
        monkeypatch.setattr("superorm._async.artifact_changes.is_changed", compared)
        one.name = "a"
        await session.flush()
        assert ["all"] == looks
        looks.clear()
        listen(Log, "before_update", print)
        listen(AsyncSession, "after_flush", lambda session: None)
        one.name = "b"
        await session.flush()
        assert ["all"] == looks
        looks.clear()
        listen(Cat, "before_update", lambda session, one: None)
        one.name = cat.name = "c"
        await session.flush()
        assert ["all", "Cat 3", "all"] == looks
        looks.clear()
        listen(AsyncSession, "before_flush", lambda session: None)
        one.name = two.name = "d"
        await session.flush()
        assert ["all", "Animal 1", "all"] == looks


async def test_session_events(db: AsyncDB, listen: Listen) -> None:
    """Events of sessions in their order, on the class, the maker and the session."""
    heard: list[str] = []
    for event in ("before_flush", "after_flush", "before_commit", "after_commit", "after_rollback"):
        listen(AsyncSession, event, lambda session, event=event: heard.append(event))
    async with db.session() as session:
        listen(session, "after_commit", lambda given: heard.append(f"mine {given is session}"))
        session.add(Animal(id=1))
        await session.commit()
        assert ["before_commit", "before_flush", "after_flush", "after_commit", "mine True"] == heard
        heard.clear()
        await session.commit()
        assert ["before_commit", "after_commit", "mine True"] == heard
        heard.clear()
        session.add(Animal(id=2))
        await session.rollback()
        assert ["after_rollback"] == heard
        heard.clear()
    maker = async_sessionmaker(db)
    listen(maker, "before_commit", lambda session: heard.append("made"))
    async with maker() as session:
        await session.commit()
    assert ["before_commit", "made", "after_commit"] == heard
    heard.clear()
    async with db.session() as session:
        session.add(Animal(id=3))
    assert [] == heard


async def test_failures(db: AsyncDB, listen: Listen, real: bool) -> None:
    """An exception of a listener stops the flush, and the session must be rolled back."""

    def refuse(session: AsyncSession, one: Animal) -> None:
        raise ValueError(f"no {one.id}")

    for event in ("before_insert", "after_insert"):
        listens_for(Animal, event)(refuse)  # type: ignore[call-overload]
        async with db.session() as session:
            session.add(Animal(id=1))
            with pytest.raises(ValueError, match="no 1"):
                await session.commit()
            with pytest.raises(PendingRollbackError):
                await session.flush()
            await session.rollback()
            written = 0 if real or event == "before_insert" else 1
            assert written == await session.count(select(Animal))
        remove_listener(Animal, event, refuse)  # type: ignore[call-overload]


async def test_after_commit_failures(db: AsyncDB, listen: Listen) -> None:
    """An exception after the commit reaches the caller; what was committed stays, and the session goes on."""

    def fail(session: AsyncSession) -> None:
        raise ValueError("too late")

    async with db.session() as session:
        listen(session, "after_commit", fail)
        one = Animal(id=1)
        session.add(one)
        with pytest.raises(ValueError, match="too late"):
            await session.commit()
        await session.rollback()
        assert one in session
        assert 1 == await session.count(select(Animal))


async def test_queries_in_listeners(db: AsyncDB, listen: Listen) -> None:
    """Listeners may read and write through the session, but neither flush nor end what goes on."""
    counts: list[int] = []

    async def before(session: AsyncSession) -> None:
        counts.append(await session.count(select(Animal)))
        await session.execute(insert(Log).values(text="by a statement"))
        for refused in (session.flush, session.commit, session.rollback):
            with pytest.raises(SessionError, match="cannot be called by a listener while the session flushes"):
                await refused()

    async with db.session() as session:
        listen(session, "before_flush", before)
        session.add(Animal(id=1))
        await session.commit()
    async with db.session() as session:
        assert [0] == counts
        assert 1 == await session.count(select(Log))


@pytest.mark.parametrize(
    ("event", "doing"),
    [
        ("before_flush", "flushes"),
        ("after_flush", "flushes"),
        ("before_commit", "commits"),
        ("after_commit", "commits"),
        ("after_rollback", "rolls back"),
    ],
)
async def test_listeners_cannot_end_what_goes_on(db: AsyncDB, listen: Listen, event: str, doing: str) -> None:
    """Closing the session would lose what it writes, and commits in commits would never end."""
    refused: list[str] = []

    async def ending(session: AsyncSession) -> None:
        for method in (session.commit, session.rollback, session.close):
            with pytest.raises(SessionError, match=f"cannot be called by a listener while the session {doing}"):
                await method()
            refused.append(method.__name__)

    async with db.session() as session:
        listen(session, event, ending)
        session.add(Animal(id=1))
        await session.commit()
        await session.rollback()
        assert ["commit", "rollback", "close"] == refused
        assert 1 == await session.count(select(Animal))


async def test_closing_after_a_failed_listener(db: AsyncDB, listen: Listen) -> None:
    """The session forgets its objects though the listener for its rollback fails."""

    def fail(session: AsyncSession) -> None:
        raise ValueError("no")

    session = db.session()
    listen(session, "after_rollback", fail)
    listen(session, "after_flush", fail)
    one = Animal(id=1)
    session.add(one)
    with pytest.raises(ValueError, match="no"):
        await session.flush()
    session.add(two := Animal(id=2))
    with pytest.raises(ValueError, match="no"):
        await session.close()
    async with db.session() as other:
        other.add_all([one, two])


async def test_mistakes(db: AsyncDB) -> None:
    """Other targets, events and functions are refused by name."""
    wrong: list[tuple[Any, Any, str]] = [
        (Animal, "before_commit", "a class of documents has no event 'before_commit'; there are before_insert"),
        (AsyncSession, "before_insert", "a session has no event 'before_insert'; there are before_flush"),
        (int, "before_insert", "listeners are for a class of documents"),
        (Animal, "before_inserts", "has no event 'before_inserts'"),
    ]
    for target, event, message in wrong:
        with pytest.raises(ConfigurationError, match=message):
            listens_for(target, event)
        with pytest.raises(ConfigurationError, match=message):
            remove_listener(target, event, print)
    with pytest.raises(ConfigurationError, match="takes a function, not 5"):
        listens_for(Animal, "before_insert")(5)  # type: ignore[type-var]
    with pytest.raises(ConfigurationError, match="does not listen for before_insert"):
        remove_listener(Animal, "before_insert", print)
