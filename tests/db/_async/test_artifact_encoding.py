"""How often artifacts are encoded and uploaded: once by a flush, and once for all attempts of a commit."""

from __future__ import annotations

import gc
import hashlib
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from importlib.metadata import EntryPoint
from typing import Any

import pytest
import pytest_asyncio

from superorm import (
    ArtifactSavingError,
    AsyncDB,
    AsyncSession,
    Document,
    Mapped,
    Registry,
    StaleDocumentError,
    artifact,
    field,
    select,
    undefer,
)
from superorm.artifacts.codecs import registry as codecs
from superorm.artifacts.encodings import Encoded, encode
from superorm.compile.plan import Find
from tests._async.databases import own_db

ON_SERVER = pytest.mark.parametrize("db", ["mongodb"], indirect=True)
"""What mongomock cannot do: transactions and several clients, and a store apart from this process's memory."""

registry = Registry()
NOW = timedelta(0)


class Reel(Document, registry=registry):
    __collection__ = "reels_encoded_once"

    title: Mapped[str] = field(default="")
    film: Mapped[Any] = artifact(default=None)
    copy: Mapped[Any] = artifact(default=None)


class Text:
    """What only the codec below takes."""

    def __init__(self, text: str) -> None:
        self.text = text


class TextCodec:
    """Notes what it encodes."""

    name, version, carries_code = "noting", 1, False

    def __init__(self) -> None:
        self.encoded: list[str] = []
        self.after: Callable[[Text], None] | None = None
        """Called with each object once it is encoded."""

    def takes(self, value: Any) -> bool:
        return isinstance(value, Text)

    def encode(self, value: Text) -> bytes:
        if value.text == "broken":
            raise RuntimeError("it is broken")
        data = value.text.encode()
        self.encoded.append(value.text)
        if self.after is not None:
            self.after(value)
        return data

    def decode(self, data: bytes) -> Text:
        return Text(data.decode())


@pytest.fixture
def codec(monkeypatch: pytest.MonkeyPatch) -> Iterator[TextCodec]:
    """The codec, installed."""
    found = TextCodec()

    class Entry:
        name = "noting"

        def load(self) -> TextCodec:
            return found

    entries: list[EntryPoint | Entry] = [Entry()]
    with monkeypatch.context() as patch:
        patch.setattr(codecs, "entry_points", lambda group: entries if group == "superorm.codecs" else [])
        codecs._by_name.cache_clear()
        yield found
    codecs._by_name.cache_clear()


@pytest_asyncio.fixture(params=["mongomock", "mongodb"])
async def db(request: pytest.FixtureRequest, mongodb_uri: str) -> AsyncIterator[AsyncDB]:
    """A DB over each backend."""
    async with own_db(request.param, mongodb_uri) as db:
        yield db


def puts(db: AsyncDB, patch: pytest.MonkeyPatch) -> list[str]:
    """The keys under which something is stored from now on."""
    found: list[str] = []
    put = db.parts.artifact_store.put

    async def noted(key: str, chunks: Any) -> int:
        found.append(key)
        return await put(key, chunks)

    patch.setattr(db.parts.artifact_store, "put", noted)
    return found


async def stored(db: AsyncDB) -> list[dict[str, Any]]:
    return await db.parts.data_backend.read(Find("reels_encoded_once", sort=[("title", 1)]))


async def keys(db: AsyncDB) -> set[str]:
    """The physical keys in the store."""
    found = await db.parts.artifact_store.keys()
    return {key for key, _ in found}


async def check_all_is_well(db: AsyncDB) -> None:
    """What is referred to is there, and once gc has run nothing else is."""
    await db.create_all(Reel)
    await db.gc(NOW)
    report = await db.check(Reel)
    assert report.ok
    assert not report.orphans


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


async def test_an_object_in_several_places_is_encoded_and_uploaded_once(
    db: AsyncDB, codec: TextCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    await db.prepare()
    uploads = puts(db, monkeypatch)
    text, equal = Text("a film"), Text("a film")
    async with db.session() as session:
        session.add_all([Reel(title="a", film=text, copy=text), Reel(title="b", film=text)])
        await session.commit()
        assert codec.encoded == ["a film"]
        assert len(uploads) == 1
    codec.encoded.clear()
    async with db.session() as session:
        session.add_all([Reel(title="c", film=equal), Reel(title="d", film=Text("another"), copy=equal)])
        await session.commit()
        assert codec.encoded == ["a film", "another"]
        assert len(uploads) == 2
    codec.encoded.clear()
    async with db.begin() as session:
        await session.bulk_insert([Reel(title=f"{n}", film=text, copy=equal) for n in range(3)])
        text.text = "changed"
        await session.bulk_insert([Reel(title="e", film=text)])
    assert codec.encoded == ["a film", "a film", "changed"]
    assert len(uploads) == 3
    shas = [(one.get("film") or {}).get("sha256") for one in await stored(db)]
    assert shas == [sha256(one) for one in [*["a film"] * 6, "another", "changed"]]
    await check_all_is_well(db)


async def test_a_flush_encodes_what_was_loaded_once(db: AsyncDB, codec: TextCodec) -> None:
    async with db.begin() as session:
        session.add_all([Reel(title="a", film=Text("one"), copy=Text("two")), Reel(title="b", film=Text("three"))])
    async with db.session() as session:
        (first, second) = await session.scalars(select(Reel).order_by(Reel.title).options(undefer(Reel.film)))
        codec.encoded.clear()
        await session.flush()
        assert sorted(codec.encoded) == ["one", "three"]
        codec.encoded.clear()
        first.film.text = "changed"
        second.title = "c"
        await session.flush()
        assert sorted(codec.encoded) == ["changed", "three"]
        codec.encoded.clear()
        first.film, second.film = second.film, first.film
        await session.commit()
        assert sorted(codec.encoded) == ["changed", "three"]
    assert [one["film"]["sha256"] for one in await stored(db)] == [sha256("three"), sha256("changed")]
    await check_all_is_well(db)


async def test_what_cannot_be_changed_is_encoded_once_by_a_session(
    db: AsyncDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with db.begin() as session:
        session.add(Reel(title="a", film=b"bytes", copy="text"))
    encoded: list[Any] = []

    def noted(value: Any, name: str | None) -> Encoded:
        encoded.append(value)
        return encode(value, name)

    monkeypatch.setattr("superorm.artifacts.encodings.encode", noted)
    async with db.session() as session:
        (reel,) = await session.scalars(select(Reel).options(undefer(Reel.film, Reel.copy)))
        await session.flush()
        await session.flush()
        assert encoded == [b"bytes", "text"]
        reel.film = b"other"
        await session.flush()
        await session.commit()
        assert encoded == [b"bytes", "text", b"other"]
    assert encoded == [b"bytes", "text", b"other"]
    assert (await stored(db))[0]["film"]["sha256"] == sha256("other")


async def test_more_than_is_kept_is_encoded_again(
    db: AsyncDB, codec: TextCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("superorm.artifacts.encodings._KEPT", 10)
    async with db.session() as session:
        session.add(reel := Reel(film=Text("one"), copy=Text("two")))
        await session.flush()
        codec.encoded.clear()
        reel.film.text, reel.copy.text = "12345678", "abcdefgh"
        await session.commit()
        assert codec.encoded == ["12345678", "abcdefgh", "abcdefgh"]
    (document,) = await stored(db)
    assert (document["film"]["sha256"], document["copy"]["sha256"]) == (sha256("12345678"), sha256("abcdefgh"))
    await check_all_is_well(db)


@pytest.mark.parametrize("new", [True, False], ids=["new", "loaded"])
async def test_what_is_stored_is_what_is_remembered(db: AsyncDB, codec: TextCodec, new: bool) -> None:
    """Another task changes the object as soon as it is encoded."""

    def change(value: Text) -> None:
        if value.text == "first":
            value.text = "second"

    async with db.session() as session:
        session.add(reel := Reel(film=Text("first" if new else "nothing")))
        if not new:
            await session.commit()
            reel.film.text = "first"
        codec.after = change
        await session.commit()
        codec.after = None
        assert reel.film.text == "second"
        (document,) = await stored(db)
        assert document["film"]["sha256"] == sha256("first")
        assert session.is_modified(reel)
        await session.commit()
        assert not session.is_modified(reel)
    (document,) = await stored(db)
    assert document["film"]["sha256"] == sha256("second")
    await check_all_is_well(db)


async def test_what_cannot_be_encoded_any_more_is_named(db: AsyncDB, codec: TextCodec) -> None:
    async with db.session() as session:
        session.add(reel := Reel(title="a", film=Text("whole")))
        await session.commit()
        reel.film.text = "broken"
        assert session.is_modified(reel)
        with pytest.raises(ArtifactSavingError, match=r"Reel .*: film: the codec noting failed: RuntimeError: it is"):
            await session.commit()
        await session.rollback()
    (document,) = await stored(db)
    assert document["film"]["sha256"] == sha256("whole")


@ON_SERVER
async def test_a_rollback_keeps_what_was_not_changed(db: AsyncDB, codec: TextCodec) -> None:
    async with db.begin() as session:
        session.add(Reel(title="a", film=Text("one"), copy=Text("two")))
    async with db.session() as session:
        (reel,) = await session.scalars(select(Reel).options(undefer(Reel.film, Reel.copy)))
        kept = reel.film
        reel.copy.text = "changed"
        await session.flush()
        codec.encoded.clear()
        await session.rollback()
        assert sorted(codec.encoded) == ["changed", "one"]
        assert reel.film is kept
        await session.load(reel, Reel.copy)
        assert reel.copy.text == "two"
        gone = reel.film
        session.delete(reel)
        await session.flush()
        codec.encoded.clear()
        await session.rollback()
        assert sorted(codec.encoded) == ["one", "two"]
        assert reel.film is gone


@ON_SERVER
async def test_attempts_share_what_was_uploaded(db: AsyncDB, codec: TextCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    await db.prepare()
    uploads, attempts = puts(db, monkeypatch), 0

    async def work(session: AsyncSession) -> None:
        nonlocal attempts
        attempts += 1
        session.add(Reel(title="a", film=Text("one")))
        await session.flush()
        session.add(Reel(title="b", film=Text("two")))  # uploaded beside the open transaction
        await session.flush()
        if attempts < 3:
            raise StaleDocumentError("others were first")

    await db.run(work)
    assert attempts == 3
    assert len(uploads) == 2
    assert [one["film"]["sha256"] for one in await stored(db)] == [sha256("one"), sha256("two")]
    await check_all_is_well(db)
    assert await keys(db) == set(uploads)


@pytest.mark.parametrize("collected", [False, True])
@ON_SERVER
async def test_a_commit_after_a_rollback_uses_what_was_uploaded(
    db: AsyncDB, codec: TextCodec, collected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless a collection gave it up in between."""
    await db.prepare()
    uploads = puts(db, monkeypatch)
    async with db.session() as session:
        session.add(Reel(title="a", film=Text("one")))
        await session.flush()
        await session.rollback()
        if collected:
            assert uploads == list((await db.gc(NOW)).removed)
        session.add(Reel(title="b", film=Text("one")))
        await session.commit()
        assert len(uploads) == 1 + collected
        session.add(Reel(title="c", film=Text("one")))
        await session.commit()
        assert len(uploads) == 1 + collected
    await check_all_is_well(db)
    assert await keys(db) == {uploads[-1]}


@ON_SERVER
async def test_bytes_are_not_kept_for_objects_that_the_session_forgot(db: AsyncDB) -> None:
    data = b"x" * 10_000 + bytes(1)
    async with db.session() as session:
        await session.scalars(select(Reel))
        before = sys.getrefcount(data)
        session.add(Reel(film=data))
        await session.commit()
        session.expunge_all()
        gc.collect()
        assert sys.getrefcount(data) == before
