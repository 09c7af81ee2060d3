"""What sessions and DBs refuse: by name, in superorm's own errors, and before anything is sent."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from uuid import uuid4

import pymongo
import pytest
from bson.errors import BSONError

from superorm import (
    AsyncDB,
    AsyncSession,
    BackendError,
    ComponentError,
    ConfigurationError,
    Document,
    DuplicateKeyError,
    Mapped,
    PendingRollbackError,
    SessionError,
    StatementError,
    SuperormError,
    ValidationError,
    connect_async,
    delete,
    field,
    func,
    insert,
    select,
    update,
)
from superorm.compile.plan import Find
from superorm.unitofwork.writes import Insert
from tests.databases import drop_database


class Coin(Document):
    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str] = field(default="")
    year: Mapped[int] = field(default=0)


class Purse(Document):
    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str] = field(default="")


async def stored(db: AsyncDB) -> list[Any]:
    """The keys and years of the coins, as the backend holds them."""
    found = await db.parts.data_backend.read(Find("coin", sort=[("_id", 1)]))
    return [(document["_id"], document["year"]) for document in found]


async def drained(rows: Any) -> None:
    """Ask for all that a stream has."""
    async for _ in rows:
        pass


async def test_statements_over_16_mib(mongodb_uri: str) -> None:
    """One that no message holds is refused by name; a read leaves the session as it was."""
    name = f"test_{uuid4().hex[:12]}"
    async with connect_async(mongodb_uri, database=name, vector_database="memory://") as db, db.session() as session:
        session.add(Coin(id=1))
        await session.commit()
        text = Coin.name == "x" * 17_000_000
        huge = Coin.name.in_(["x" * 9_000_000, "y" * 9_000_000])
        reads: list[Callable[[], Awaitable[Any]]] = [
            lambda: session.scalars(select(Coin).where(huge)),
            lambda: session.count(select(Coin).where(huge)),
            lambda: session.execute(select(Coin.name, (Coin.year + 1).label("next")).where(text)),
            lambda: drained(session.stream(select(Coin).where(text))),
            lambda: drained(session.stream_scalars(select(Coin.id).where(text))),
            lambda: db.explain(select(Coin).where(text)),
        ]
        for read in reads:
            with pytest.raises(StatementError, match=rf"{name}\.coin: the statement takes more than 16 MiB") as caught:
                await read()
            assert isinstance(caught.value.__cause__, BSONError)
        assert 1 == await session.count(select(Coin))
        for tracked in (True, False):
            for statement in (update(Coin).where(huge).values(year=1), delete(Coin).where(huge)):
                if not tracked:
                    session.expunge(await session.get_one(Coin, 1))
                with pytest.raises(StatementError, match=r"[Cc]oin: .*16 MiB") as caught:
                    await session.execute(statement)
                assert len(str(caught.value)) < 300
                await session.rollback()
        with pytest.raises(ValidationError, match="document 1, field 'name': takes the document over 16 MiB"):
            await session.execute(update(Coin).where(Coin.id == 1).values(name="x" * 17_000_000))
    with pymongo.MongoClient[Any](mongodb_uri) as client:
        drop_database(client, name)


@pytest.fixture
def no_collection() -> Iterator[None]:
    """No garbage of other tests is collected while this one fills the stack: their finalizers would find no room."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
async def test_what_nests_too_deep(db: AsyncDB) -> None:
    """It is refused in words, whoever notices first: Python or the server."""
    condition, value = Coin.id == -1, Coin.year * 1
    for number in range(1000):
        condition = (condition | (Coin.id == number)) if number % 2 else (condition & (Coin.id != number))
        value = value + 1
    async with db.session() as session:
        statements: list[Any] = [select(Coin).where(condition), select(value), delete(Coin).where(condition)]
        for statement in [*statements, update(Coin).where(condition).values(year=1)]:
            with pytest.raises(StatementError, match="deep"):
                await session.execute(statement)
        assert [] == (await session.scalars(select(Coin))).all()


async def test_rows_of_statements_that_write(db: AsyncDB) -> None:
    """Where rows are asked for, one that gives none is refused before it is carried out; returning() gives them."""
    async with db.session() as session:
        session.add(Coin(id=1))
        await session.commit()
        writes: list[Any] = [
            update(Coin).all().values(year=5),
            insert(Coin).values(id=2),
            delete(Coin).all(),
            select(Coin).merge_into(Purse),
        ]
        for statement in writes:
            for call in (session.scalars, session.scalar):
                with pytest.raises(StatementError, match=r"needs rows, and .* gives none"):
                    await call(statement)
            for refuse in (session.stream, session.stream_scalars):
                with pytest.raises(StatementError, match=r"takes a select, not .*, which writes; execute\(\)"):
                    refuse(statement)
            for call in (session.count, db.explain):
                with pytest.raises(StatementError, match=r"takes a select, not .*, which writes"):
                    await call(statement)
        await session.commit()
        assert [(1, 0)] == await stored(db)
        with pytest.raises(StatementError, match="which writes"):
            session.stream(update(Coin).all().values(year=5).returning(Coin.id))
        assert [5] == (await session.scalars(update(Coin).all().values(year=5).returning(Coin.year))).all()
        assert 3 == await session.scalar(insert(Coin).values(id=3).returning(Coin.id))
        await session.commit()
    assert [(1, 5), (3, 0)] == await stored(db)


async def test_what_is_no_statement(db: AsyncDB) -> None:
    """A class, a text and the like are refused everywhere, and a class is told how to be selected."""
    wrong: list[tuple[Any, str]] = [
        (Coin, r"write select\(Coin\), not Coin alone"),
        ("select", "such as select.*, not str"),
        (None, "not NoneType"),
        (Coin.id, "not Field"),
    ]
    async with db.session() as session:
        for given, said in wrong:
            for call in (session.execute, session.scalars, session.scalar, session.count, db.explain):
                with pytest.raises(StatementError, match=said):
                    await call(given)
            for refuse in (session.stream, session.stream_scalars):
                with pytest.raises(StatementError, match=said):
                    refuse(given)


@pytest.mark.parametrize("size", [0, -1, None, "10", 2.5, True, 2**31, 2**70])
async def test_batch_sizes(db: AsyncDB, size: Any) -> None:
    """What is no number that servers take is refused by the call, before the first row is asked for."""
    async with db.session() as session:
        for refuse in (session.stream, session.stream_scalars):
            with pytest.raises(StatementError, match="batch_size from 1 to 2147483647, not"):
                refuse(select(Coin), batch_size=size)


async def test_wrong_stored_values_name_their_document(db: AsyncDB) -> None:
    """A select of fields names the document too, though it does not read its key."""
    documents = [{"_id": key, "name": "x", "year": 7 - key} for key in range(7)]
    documents[3]["year"] = "old"
    await db.parts.data_backend.write(Insert("coin", documents))
    year = select(Coin.year).where(Coin.name == "x").order_by(Coin.id).offset(2).limit(3)
    beside = select(Coin.year, (Coin.id + 1).label("next")).where(Coin.id > 0)

    async with db.session() as session:
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: session.scalars(year),
            lambda: session.execute(select(Coin.name, Coin.year)),
            lambda: drained(session.stream(year, batch_size=1)),
            lambda: drained(session.stream_scalars(year)),
            lambda: session.execute(beside),
        ]
        for call in calls:
            with pytest.raises(ValidationError, match=r"Coin 3: the stored value of year .* got str 'old'") as caught:
                await call()
            assert (Coin, 3, "year") == (caught.value.document_class, caught.value.key, caught.value.field)
        with pytest.raises(ValidationError, match=r"Coin: the stored value of .* got str 'old'"):  # of no document
            await session.scalars(select(func.max(Coin.year)))
        assert [5] == (await session.scalars(year.limit(1))).all()


async def test_documents_mended_meanwhile(db: AsyncDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the document cannot be found again, or not be asked for, the error stays as it was."""
    await db.parts.data_backend.write(Insert("coin", [{"_id": 1, "name": "x", "year": "old"}]))

    async def nothing(*arguments: Any, **options: Any) -> Any:
        for _ in ():
            yield []

    async def broken(*arguments: Any, **options: Any) -> Any:
        raise BackendError("gone")
        yield []

    for replacement in (nothing, broken):
        with monkeypatch.context() as patch:
            patch.setattr(db.parts.data_backend, "stream", replacement)
            async with db.session() as session:
                with pytest.raises(ValidationError, match=r"^Coin: the stored value of year") as caught:
                    await session.scalars(select(Coin.year))
                assert caught.value.key is None


async def test_objects_of_another_session(db: AsyncDB) -> None:
    """An object is in one session; once that has forgotten it, or is closed, it may be added to another."""
    async with db.session() as first, db.session() as second:
        coin = Coin(id=1)
        first.add(coin)
        await first.commit()
        with pytest.raises(SessionError, match=r"Coin 1 is in another session; expunge\(\) it there"):
            second.add(coin)
        with pytest.raises(SessionError, match="Coin 1 is in another session"):
            second.add_all([coin, Coin(id=3)])
        first.expunge(coin)
        second.add(coin)
        coin.year = 1
        await second.commit()
    async with db.session() as third:
        third.add(coin)  # both are closed
        coin.year = 2
        await third.commit()
    assert [(1, 2)] == await stored(db)


async def test_what_is_no_document(db: AsyncDB) -> None:
    """It is refused before anything is written, and the session goes on."""
    wrong: list[Any] = [None, Coin, Coin(id=1), 3, "ab", [Coin(id=1), None], Coin.id, select(Coin)]
    async with db.session() as session:
        for given in wrong:
            with pytest.raises(SessionError, match=r"bulk_insert\(\) takes documents"):
                await session.bulk_insert(given)
            with pytest.raises(SessionError, match=r"add_all\(\) takes documents"):
                session.add_all(given)
        for one in (None, Coin, 3):
            for refuse in (session.add, session.delete, session.expunge):
                with pytest.raises(SessionError, match="a session holds documents, not"):
                    refuse(one)  # type: ignore[arg-type]
        assert [] == session.new
        await session.bulk_insert([Coin(id=4)])
        await session.commit()
    assert [(4, 0)] == await stored(db)


@pytest.mark.parametrize("given", [None, "mongomock://demo", {}, Coin])
def test_sessions_need_a_db(given: Any) -> None:
    """Anything else is refused at once, without showing it: a URL may hold a password."""
    with pytest.raises(ConfigurationError, match=r"takes the DB that connect\w*\(\.\.\.\) gives, not") as caught:
        AsyncSession(given)
    assert "demo" not in str(caught.value)


async def test_a_failed_merge(db: AsyncDB, real: bool) -> None:
    """It says what is there already, and leaves the session usable: it is no part of a transaction."""
    async with db.session() as session:
        session.add_all([Coin(id=1), Purse(id=1)])
        await session.commit()
        if not real:
            with pytest.raises(SuperormError, match=r"\$merge"):
                await session.execute(select(Coin.id).merge_into(Purse, when_matched="fail"))
            return
        with pytest.raises(DuplicateKeyError, match=rf"a document exists already: .*{Purse.__name__.lower()}"):
            await session.execute(select(Coin.id).merge_into(Purse, when_matched="fail"))
        assert 1 == await session.count(select(Coin))


async def test_names_of_components(db: AsyncDB) -> None:
    """Only text names a component, only a number a version: conditions never reach a query."""
    wrong: Any
    for wrong in ({"$gt": ""}, None, 3, Coin):
        with pytest.raises(ComponentError, match="the kind of a component is text"):
            await db.load(wrong, "x")
        with pytest.raises(ComponentError, match="the name of a component is text"):
            await db.load("model", wrong)
        with pytest.raises(ComponentError, match="the name of a component is text"):
            await db.predict(wrong, [1])
        with pytest.raises(ComponentError, match="the kind of a component is text"):
            await db.show(wrong)
    for wrong in ({"$gt": 0}, "1", True):
        with pytest.raises(ComponentError, match="the version of a component is a number"):
            await db.load("model", "x", wrong)


async def test_a_closed_client(mongodb_uri: str) -> None:
    """Whatever is asked of a database whose client was closed is a BackendError; the session can be rolled back."""
    name = f"test_{uuid4().hex[:12]}"
    async with connect_async(mongodb_uri, database=name, vector_database="memory://") as db, db.session() as session:
        session.add(Coin(id=1))
        await session.flush()
        backend: Any = db.parts.data_backend
        await backend.client.close()
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: session.get(Coin, 2),
            lambda: db.explain(select(Coin)),
            lambda: db.create_all(Coin),
            lambda: db.check(Coin),
            lambda: db.show("model"),
        ]
        for call in calls:
            with pytest.raises(BackendError, match="after close"):
                await call()
        calls = [lambda: session.scalars(select(Coin)), lambda: session.count(select(Coin)), session.commit]
        for call in calls:  # its transaction is gone since the first of them
            with pytest.raises(PendingRollbackError, match="after close"):
                await call()
        await session.rollback()
        assert [] == session.new
