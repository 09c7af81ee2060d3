"""What bulk inserts send, as the server and PyMongo's listeners see it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pymongo
import pytest
import pytest_asyncio
from bson import json_util
from pymongo.monitoring import CommandListener

from superorm import (
    AsyncDB,
    AsyncSession,
    Document,
    DuplicateKeyError,
    Mapped,
    PendingRollbackError,
    Registry,
    ValidationError,
    field,
    insert,
)
from tests._async.databases import heard_db

registry = Registry()


class Line(Document, registry=registry):
    __collection__ = "bulk_lines"

    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str]
    number: Mapped[float] = field(default=0.5)


class Inserts(CommandListener):
    """The inserts into the collection, as a listener that writes JSON sees them."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def started(self, event: Any) -> None:
        if event.command_name == "insert" and event.command["insert"] == "bulk_lines":
            self.sent.append(json_util.dumps(event.command["documents"]))

    def succeeded(self, event: Any) -> None:
        pass

    def failed(self, event: Any) -> None:
        pass


class Place:
    """A DB whose inserts are seen, and its collection by plain PyMongo."""

    def __init__(self, uri: str, name: str, db: AsyncDB, inserts: Inserts) -> None:
        self.uri = uri
        self.name = name
        self.db = db
        self.inserts = inserts

    def stored(self) -> list[dict[str, Any]]:
        with pymongo.MongoClient[dict[str, Any]](self.uri) as client:
            return list(client[self.name].bulk_lines.find(sort=[("_id", 1)]))


@pytest_asyncio.fixture
async def place(mongodb_uri: str) -> AsyncIterator[Place]:
    name, inserts = f"bulk_{uuid4().hex[:12]}", Inserts()
    async with heard_db(mongodb_uri, name, inserts) as db:
        yield Place(mongodb_uri, name, db, inserts)


async def write(session: AsyncSession, way: str, lines: list[Line]) -> None:
    if way == "bulk_insert":
        await session.bulk_insert(lines)
    else:
        await session.execute(insert(Line).values(lines))


ways = pytest.mark.parametrize("way", ["bulk_insert", "insert"])


@ways
async def test_one_command_of_whole_documents(place: Place, way: str) -> None:
    expected = [{"_id": key, "text": f"t{key}", "number": 0.5} for key in range(300)]
    async with place.db.begin() as session:
        await write(session, way, [Line(id=key, text=f"t{key}") for key in range(300)])
    assert [expected] == [json_util.loads(sent) for sent in place.inserts.sent]
    assert expected == place.stored()


@ways
async def test_values_that_only_the_encoding_refuses(place: Place, way: str) -> None:
    """The document and the field are named, and nothing has been sent."""
    lines = [Line(id=key, text="\ud800" if key == 150 else "t") for key in range(300)]
    async with place.db.session() as session:
        with pytest.raises(ValidationError, match=r"field 'text': text with a lone surrogate") as caught:
            await write(session, way, lines)
        assert (150, "text", Line) == (caught.value.key, caught.value.field, caught.value.document_class)
        assert [] == place.inserts.sent
        with pytest.raises(PendingRollbackError):
            await session.commit()
        await session.rollback()
        lines[150].text = "t"
        await write(session, way, lines)
        await session.commit()
    assert [{"_id": key, "text": "t", "number": 0.5} for key in range(300)] == place.stored()


@ways
async def test_keys_that_are_there(place: Place, way: str) -> None:
    async with place.db.begin() as session:
        await write(session, way, [Line(id=150, text="first")])
    async with place.db.session() as session:
        with pytest.raises(DuplicateKeyError) as caught:
            await write(session, way, [Line(id=key, text="second") for key in range(300)])
        assert (150, "id") == (caught.value.key, caught.value.field)
    with pytest.raises(ValidationError, match="Line 7: two new objects have this key"):
        async with place.db.begin() as session:
            await write(session, way, [Line(id=7, text="a"), Line(id=8, text="b"), Line(id=7, text="c")])
    assert [{"_id": 150, "text": "first", "number": 0.5}] == place.stored()
