"""Versioned documents over every backend: who changes what somebody else changed is told so."""

from __future__ import annotations

from typing import Any

import pytest

from superorm import AsyncDB, Document, Mapped, Registry, StaleDocumentError, ValidationError, field, select
from superorm.compile.plan import Find
from superorm.unitofwork.writes import Insert


class Account(Document, registry=Registry()):
    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str] = field(default="")
    money: Mapped[int] = field(default=0)
    version: Mapped[int] = field(version=True)


async def stored(db: AsyncDB) -> list[tuple[Any, ...]]:
    """Key, money and version of each document."""
    found = await db.parts.data_backend.read(Find("account", sort=[("_id", 1)]))
    return [(one["_id"], one["money"], one.get("version")) for one in found]


async def fill(db: AsyncDB, *keys: int) -> None:
    """Accounts with these keys."""
    async with db.begin() as session:
        session.add_all([Account(id=key, money=10) for key in keys])


async def test_counting(db: AsyncDB) -> None:
    """A version begins at 1 and counts each flush that changes its document."""
    await fill(db, 1, 2)
    assert [(1, 10, 1), (2, 10, 1)] == await stored(db)
    async with db.session() as session:
        account = await session.get_one(Account, 1)
        account.money = 11
        await session.flush()
        assert 2 == account.version
        account.money = 12
        await session.commit()
        assert 3 == account.version
        await session.commit()
        new = Account(id=3)
        session.add(new)
        await session.commit()
        assert (3, 1) == (account.version, new.version)
    assert [(1, 12, 3), (2, 10, 1), (3, 0, 1)] == await stored(db)


async def test_changed_underneath(db: AsyncDB, real: bool) -> None:
    """The second of two changes fails and names the document; after a rollback and a fresh read it can be made."""
    await fill(db, 1, 2)
    async with db.session() as one, db.session() as two:
        mine, theirs = await one.get_one(Account, 1), await two.get_one(Account, 1)
        other = await one.get_one(Account, 2)
        theirs.money += 1
        await two.commit()
        mine.name = other.name = "x"
        with pytest.raises(StaleDocumentError, match=r"1 of 2 changed documents .* \(Account 1\)") as raised:
            await one.commit()
        assert (Account, 1) == (raised.value.document_class, raised.value.key)
        await one.rollback()
        assert ("", 1) == (mine.name, mine.version)
        one.expunge(mine)
        mine = await one.get_one(Account, 1)
        mine.money += 1
        await one.commit()
    first, second = await stored(db)
    assert (1, 12, 3) == first
    assert (2, 10, 1 if real else 2) == second


async def test_the_same_change_underneath(db: AsyncDB) -> None:
    """A document that somebody else has changed in the same way is named, too."""
    await fill(db, 1)
    async with db.session() as one, db.session() as two:
        for session in (one, two):
            (await session.get_one(Account, 1)).money += 1
        await two.commit()
        with pytest.raises(StaleDocumentError, match=r"1 of 1 changed documents .* \(Account 1\)") as raised:
            await one.commit()
        assert (Account, 1) == (raised.value.document_class, raised.value.key)


async def test_deleted_underneath(db: AsyncDB) -> None:
    """A change of a document that is gone fails, too."""
    await fill(db, 1)
    async with db.session() as one, db.session() as two:
        mine = await one.get_one(Account, 1)
        two.delete(await two.get_one(Account, 1))
        await two.commit()
        mine.money = 0
        with pytest.raises(StaleDocumentError, match=r"\(Account 1\)"):
            await one.commit()
    assert [] == await stored(db)


async def test_deletions(db: AsyncDB) -> None:
    """A deletion of a document that somebody changed, or deleted, fails."""
    await fill(db, 1, 2, 3)
    async with db.session() as one, db.session() as two:
        accounts = (await one.scalars(select(Account).order_by(Account.id))).all()
        (await two.get_one(Account, 1)).money = 5
        await two.commit()
        one.delete(accounts[0])
        with pytest.raises(StaleDocumentError, match=r"1 of 1 deleted documents .* \(Account 1\)"):
            await one.commit()
        await one.rollback()
        two.delete(await two.get_one(Account, 2))
        await two.commit()
        one.delete(accounts[1])
        with pytest.raises(StaleDocumentError, match=r"1 of 1 deleted documents .* \(Account 2\)"):
            await one.commit()
        await one.rollback()
        one.delete(accounts[2])
        await one.commit()
    assert [(1, 5, 2)] == await stored(db)


async def test_rollback(db: AsyncDB, real: bool) -> None:
    """After a rollback the object shows the version it had."""
    await fill(db, 1)
    async with db.session() as session:
        account = await session.get_one(Account, 1)
        new = Account(id=2)
        session.add(new)
        account.money = 3
        if real:
            await session.flush()
            assert (2, 1) == (account.version, new.version)
        await session.rollback()
        assert (1, 0, 10) == (account.version, new.version, account.money)
        session.add(new)
        account.money = 4
        await session.commit()
    assert [(1, 4, 2), (2, 0, 1)] == await stored(db)


async def test_documents_without_a_version(db: AsyncDB) -> None:
    """Those from before the class had one count as 0, for one of two writers."""
    await db.parts.data_backend.write(Insert("account", [{"_id": 1, "name": "", "money": 1}]))
    async with db.session() as one, db.session() as two:
        mine, theirs = await one.get_one(Account, 1), await two.get_one(Account, 1)
        assert 0 == mine.version
        mine.money, theirs.money = 2, 3
        await one.commit()
        with pytest.raises(StaleDocumentError):
            await two.commit()
    assert [(1, 2, 1)] == await stored(db)


async def test_assigning_one(db: AsyncDB) -> None:
    """It is refused before anything is written."""
    await fill(db, 1)
    async with db.session() as session:
        account = await session.get_one(Account, 1)
        account.money, account.version = 0, 7
        with pytest.raises(ValidationError, match="Account 1: version was set to 7; it is a version"):
            await session.commit()
    assert [(1, 10, 1)] == await stored(db)
