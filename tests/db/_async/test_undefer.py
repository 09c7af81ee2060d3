"""Reading artifacts together with the documents of a select."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from superorm import (
    AsyncDB,
    CorruptArtifactError,
    Document,
    Mapped,
    NotLoadedError,
    Registry,
    Select,
    StatementError,
    UntrustedArtifactError,
    aliased,
    artifact,
    field,
    load_only,
    relationship,
    select,
    selectinload,
    undefer,
)
from superorm.artifacts.registry import REGISTRY
from superorm.compile.plan import Find
from superorm.unitofwork.writes import Update, UpdateOp

registry = Registry()


class Reel(Document, registry=registry):
    __collection__ = "undeferred_reels"

    title: Mapped[str] = field(default="")
    studio_id: Mapped[str | None] = field(default=None)
    data: Mapped[bytes | None] = artifact(default=None)
    notes: Mapped[list[Any] | None] = artifact(default=None, name="n")
    studio: Mapped[Studio | None] = relationship("Studio", key="studio_id")


class Scored(Reel):
    score: Mapped[bytes | None] = artifact(default=None)


class Studio(Document, registry=registry):
    __collection__ = "undeferred_studios"

    name: Mapped[str] = field(primary_key=True)
    logo: Mapped[bytes | None] = artifact(default=None)


async def fill(db: AsyncDB) -> None:
    async with db.begin() as session:
        session.add(Studio(name="A", logo=b"logo"))
        session.add(Reel(title="0", data=b"same", notes=[0], studio_id="A"))
        session.add(Reel(title="1", data=b"same", notes=[0], studio_id="A"))
        session.add(Scored(title="2", data=b"other", score=b"score"))
        session.add(Reel(title="3"))


def reels() -> Select[Reel, tuple[Reel]]:
    return select(Reel).order_by(Reel.title)


class Reads:
    """What is read of the artifact store, and how often its registry is asked."""

    def __init__(self, db: AsyncDB, monkeypatch: pytest.MonkeyPatch) -> None:
        self.blobs: list[str] = []
        self.asked = 0
        store, metadata = db.parts.artifact_store, db.parts.metadata
        get, read = store.get, metadata.read

        async def counted(key: str) -> AsyncIterator[bytes]:
            self.blobs.append(key)
            async for chunk in get(key):
                yield chunk

        async def asked(plan: Any, **options: Any) -> Any:
            self.asked += isinstance(plan, Find) and plan.collection == REGISTRY
            return await read(plan, **options)

        monkeypatch.setattr(store, "get", counted)
        monkeypatch.setattr(metadata, "read", asked)


async def test_artifacts_come_with_the_documents(db: AsyncDB, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(db)
    reads = Reads(db, monkeypatch)
    async with db.session() as session:
        found = (await session.scalars(reels().options(undefer(Reel.data, Reel.notes)))).all()
        assert (len(reads.blobs), reads.asked) == (3, 1)  # "same", [0] and "other"
        monkeypatch.undo()
        assert [reel.data for reel in found] == [b"same", b"same", b"other", None]
        assert [reel.notes for reel in found] == [[0], [0], None, None]
        assert not session.dirty
        assert found[0].notes is not None
        found[0].notes.append(1)
        assert found[1].notes == [0]
        assert [found[0]] == [one for one in found if session.is_modified(one)]
        await session.commit()
    async with db.session() as session:
        found = (await session.scalars(reels().options(undefer(Reel.notes)))).all()
        assert [reel.notes for reel in found] == [[0, 1], [0], None, None]


async def test_what_is_there_already_is_not_read(db: AsyncDB, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(db)
    async with db.session() as session:
        first, second, *_ = (await session.scalars(reels())).all()
        first.data = b"mine"
        second.data = None
        assert first.id is not None
        reads = Reads(db, monkeypatch)
        with_data = reels().options(undefer(Reel.data)).where(Reel.title < "2")
        if not db.capabilities.transactions:
            assert [one.data for one in await session.scalars(with_data)] == [b"mine", None]
            assert not reads.blobs
        got = await session.get_one(Reel, first.id, options=[undefer(Reel.data), undefer(Reel.notes)])
        assert got is first
        assert (first.data, first.notes) == (b"mine", [0])


async def test_columns_rows_and_streams(db: AsyncDB) -> None:
    await fill(db)
    statement = select(Reel.title, Reel).order_by(Reel.title).options(undefer(Reel.data))
    async with db.session() as session:
        rows = (await session.execute(statement)).all()
        assert [(title, reel.data) for title, reel in rows] == [
            ("0", b"same"),
            ("1", b"same"),
            ("2", b"other"),
            ("3", None),
        ]
    async with db.session() as session:
        streamed = [one.data async for one in session.stream_scalars(reels().options(undefer(Reel.data)), batch_size=2)]
        assert streamed == [b"same", b"same", b"other", None]
        rows_too = [reel.data async for _, reel in session.stream(statement, batch_size=3)]
        assert rows_too == [b"same", b"same", b"other", None]
    other = aliased(Reel, "other")
    async with db.session() as session:
        both = (
            select(Reel, other).join(other, Reel.title == other.title).order_by(Reel.title).options(undefer(other.data))
        )
        found = (await session.execute(both)).all()
        assert [one.data for _, one in found] == [b"same", b"same", b"other", None]


async def test_beside_other_options_and_of_subclasses(db: AsyncDB) -> None:
    await fill(db)
    async with db.session() as session:
        only = reels().options(load_only(Reel.title), undefer(Reel.data), selectinload(Reel.studio))
        found = (await session.scalars(only)).all()
        assert [one.data for one in found] == [b"same", b"same", b"other", None]
        with pytest.raises(NotLoadedError, match="notes was not loaded"):
            _ = found[0].notes
        assert found[0].studio is not None
        assert "A" == found[0].studio.name
    async with db.session() as session:
        found = (await session.scalars(reels().options(undefer(Scored.score)))).all()
        assert [one.score for one in found if isinstance(one, Scored)] == [b"score"]
    async with db.session() as session:
        (scored,) = await session.scalars(select(Scored).options(undefer(Reel.data), undefer(Scored.score)))
        assert (scored.data, scored.score) == (b"other", b"score")


async def test_what_is_flushed_in_the_transaction_is_read(db: AsyncDB) -> None:
    async with db.session() as session:
        session.add(reel := Reel(title="new", data=b"flushed"))
        await session.flush()
        await session.refresh(reel)
        (found,) = await session.scalars(reels().options(undefer(Reel.data)))
        assert found is reel
        assert b"flushed" == reel.data
        await session.rollback()


async def test_undefer_names_what_it_does_not_take(db: AsyncDB) -> None:
    with pytest.raises(StatementError, match=r"undefer\(\) takes artifact fields such as Movie.trailer, not 'data'"):
        undefer("data")  # type: ignore[arg-type]
    with pytest.raises(StatementError, match=r"undefer\(\) needs an artifact field"):
        undefer()
    async with db.session() as session:
        with pytest.raises(StatementError, match=r"undefer\(\) takes artifact fields, as artifact\(\) .*Reel\.title"):
            await session.scalars(reels().options(undefer(Reel.title)))
        with pytest.raises(StatementError, match=r"undefer\(Studio\.logo\): documents that have it are not selected"):
            await session.scalars(reels().options(undefer(Studio.logo)))  # type: ignore[arg-type]
        with pytest.raises(StatementError, match=r"undefer\(Reel\.data\): documents that have it are not selected"):
            await session.execute(select(Reel.title).options(undefer(Reel.data)))


def test_statements_with_undefer_are_stored() -> None:
    statement = reels().options(undefer(Reel.data, Reel.notes))
    again = Select.from_dict(statement.to_dict(), registry=registry)
    assert again.to_dict() == statement.to_dict()
    assert again.pipeline() == statement.pipeline()
    assert "undefer" in str(statement.to_dict()).lower()


async def test_errors_name_the_document(db: AsyncDB) -> None:
    """Of several that share a blob too; and no byte is read where one of the references is not to be trusted."""
    async with db.begin() as session:
        session.add(Reel(title="0", notes=[object]))  # a class, which is pickled
        session.add(Reel(title="1", notes=[object]))
    first, second = await db.parts.data_backend.read(Find("undeferred_reels", sort=[("title", 1)]))
    change = {"n.signature": first["n"]["signature"]}
    moved = UpdateOp(q={"_id": second["_id"]}, u={"$set": change})
    await db.parts.data_backend.write(Update("undeferred_reels", [moved]))
    async with db.session() as session:
        with pytest.raises(UntrustedArtifactError, match=r"Reel .*: notes: ") as caught:
            await session.scalars(reels().options(undefer(Reel.notes)))
    assert (caught.value.key, caught.value.field) == (second["_id"], "notes")


async def test_a_damaged_blob_is_named(db: AsyncDB) -> None:
    async with db.begin() as session:
        session.add(reel := Reel(title="0", data=b"intact"))
    store = db.parts.artifact_store
    ((key, _),) = await store.keys()
    await store.delete(key)
    await store.put(key, [b"broken"])
    async with db.session() as session:
        with pytest.raises(CorruptArtifactError, match=r"Reel .*: data: .*SHA-256") as caught:
            await session.scalars(reels().options(undefer(Reel.data)))
        assert (caught.value.document_class, caught.value.key, caught.value.field) == (Reel, reel.id, "data")
        with pytest.raises(CorruptArtifactError, match=r"Reel .*: data: "):
            await session.load(await session.get_one(Reel, reel.id), Reel.data)
