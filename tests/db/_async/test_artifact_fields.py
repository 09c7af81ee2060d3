"""Artifact fields of documents: stored with their commits, read when asked for, checked and collected."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Hashable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Protocol
from uuid import UUID

import mongomock
import numpy as np
import pytest
from bson import ObjectId

from superorm import (
    ArtifactError,
    ArtifactNotFoundError,
    ArtifactSavingError,
    AsyncDB,
    AsyncMemoryVectorIndex,
    AsyncSession,
    CheckReport,
    ConfigurationError,
    Document,
    DuplicateKeyError,
    Mapped,
    MappingError,
    NotLoadedError,
    Registry,
    StatementError,
    UnsupportedError,
    UntrustedArtifactError,
    ValidationError,
    WriteError,
    artifact,
    delete,
    field,
    func,
    insert,
    load_only,
    select,
    undefer,
    update,
    vector,
)
from superorm._async.artifact_references import AsyncFieldReferences
from superorm.artifacts._async.memory import AsyncMemoryArtifactStore
from superorm.artifacts.registry import REGISTRY
from superorm.backends._async.mongomock import AsyncMongomockDatabackend, AsyncMongomockMetaDataStore
from superorm.compile.plan import Find
from superorm.unitofwork.writes import Update, UpdateOp

ON_SERVER = pytest.mark.parametrize("db", ["mongodb+memory", "mongodb+lancedb"], indirect=True)
"""What mongomock cannot do: transactions, validators, another client."""

registry = Registry()
NOW = timedelta(0)


class Film(Document, registry=registry):
    __collection__ = "films_with_artifacts"

    title: Mapped[str] = field(default="")
    poster: Mapped[bytes | None] = artifact(default=None)
    model: Mapped[Any] = artifact(default=None, name="m")
    version: Mapped[int] = field(version=True)


class Picture(Document, registry=registry):
    __collection__ = "pictures_with_artifacts"

    pixels: Mapped[np.ndarray | None] = artifact(codec="npy", default=None)


class Named(Document, registry=registry):
    __collection__ = "named_with_artifacts"

    title: Mapped[str] = field(unique=True)
    poster: Mapped[bytes | None] = artifact(default=None)


class Planted:
    """An object whose unpickling leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return _touch, (self.path,)


def _touch(path: Path) -> None:
    path.write_text("was here")


class Unpicklable:
    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("not this one")


async def stored(db: AsyncDB, collection: str = "films_with_artifacts") -> list[dict[str, Any]]:
    return await db.parts.data_backend.read(Find(collection, sort=[("title", 1)]))


async def blobs(db: AsyncDB) -> dict[str, str]:
    """The physical keys by hash, as the registry has them."""
    await db.prepare()
    return {one["_id"]: one["key"] for one in await db.parts.metadata.read(Find(REGISTRY))}


async def keys(db: AsyncDB) -> set[str]:
    """The physical keys in the store."""
    found = await db.parts.artifact_store.keys()
    return {key for key, _ in found}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def add(db: AsyncDB, **values: Any) -> ObjectId:
    async with db.begin() as session:
        session.add(film := Film(**values))
    return film.id


async def checked(db: AsyncDB) -> CheckReport:
    """What is wrong, once the indexes are made, of which this is not about."""
    await db.create_all(Film)
    return await db.check(Film)


async def test_a_document_holds_a_reference_and_the_store_the_bytes(db: AsyncDB) -> None:
    key = await add(db, title="Heat", poster=b"a poster", model={"weights": [1, 2]})
    (document,) = await stored(db)
    assert document["poster"]["sha256"] == sha256(b"a poster")
    assert (document["poster"]["size"], document["poster"]["codec"]) == (8, "bytes")
    registered = await blobs(db)
    assert document["m"]["sha256"] in registered
    assert b"a poster" == b"".join(
        [part async for part in db.parts.artifact_store.get(registered[sha256(b"a poster")])]
    )
    async with db.session() as session:
        film = await session.get_one(Film, key)
        await session.load(film, Film.poster, Film.model)
        assert (film.poster, film.model) == (b"a poster", {"weights": [1, 2]})
        assert not session.is_modified(film)
    report = await checked(db)
    assert report.ok
    assert not report.orphans


async def test_arrays_come_back_and_a_change_in_place_is_written(db: AsyncDB) -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    async with db.begin() as session:
        session.add(picture := Picture(pixels=pixels))
    async with db.begin() as session:
        found = await session.get_one(Picture, picture.id)
        await session.load(found, Picture.pixels)
        np.testing.assert_array_equal(found.pixels, pixels)
        found.pixels = found.pixels.copy()
        assert not session.is_modified(found)
        found.pixels[0, 0] = 200
        assert session.is_modified(found)
    async with db.session() as session:
        found = await session.get_one(Picture, picture.id)
        await session.load(found, Picture.pixels)
        assert 200 == found.pixels[0, 0]


async def test_the_same_bytes_are_stored_once(db: AsyncDB) -> None:
    async with db.begin() as session:
        session.add_all([Film(title="a", poster=b"same", model=b"same"), Film(title="b", poster=b"same")])
        await session.flush()
        session.add(Film(title="c", poster=b"same"))
    await add(db, title="d", poster=b"same")
    assert list(await blobs(db)) == [sha256(b"same")]
    assert await keys(db) == set((await blobs(db)).values())


async def test_other_changes_leave_the_reference_alone(db: AsyncDB) -> None:
    key = await add(db, title="Heat", poster=b"a poster")
    (before,) = await stored(db)
    async with db.begin() as session:
        (await session.get_one(Film, key)).title = "Ronin"
    (after,) = await stored(db)
    assert after == {**before, "title": "Ronin", "version": 2}


async def test_what_is_replaced_or_deleted_goes(db: AsyncDB) -> None:
    key = await add(db, title="a", poster=b"first")
    other = await add(db, title="b", poster=b"second")
    await add(db, title="c", poster=b"third")
    async with db.begin() as session:
        (await session.get_one(Film, key)).poster = b"new"
        session.delete(await session.get_one(Film, other))
        await session.execute(delete(Film).where(Film.title == "c"))
    assert 3 == len((await checked(db)).orphans)
    await db.gc(NOW)
    assert list(await blobs(db)) == [sha256(b"new")]
    assert await keys(db) == set((await blobs(db)).values())
    report = await checked(db)
    assert report.ok
    assert not report.orphans


async def test_gc_keeps_what_the_grace_period_protects(db: AsyncDB) -> None:
    key = await add(db, title="a", poster=b"first")
    async with db.begin() as session:
        (await session.get_one(Film, key)).poster = None
    assert not (await db.gc()).removed
    assert (await stored(db))[0]["poster"] is None


@ON_SERVER
async def test_a_rollback_leaves_nothing_that_gc_does_not_remove(db: AsyncDB) -> None:
    await add(db, title="a", poster=b"kept")
    async with db.session() as session:
        session.add(film := Film(title="b", poster=b"given up"))
        await session.flush()
        await session.rollback()
        assert film.poster == b"given up"
        assert film not in session
    assert [sha256(b"kept")] == list(await blobs(db))
    await db.gc(NOW)
    assert await keys(db) == set((await blobs(db)).values())
    assert not (await checked(db)).orphans


@ON_SERVER
async def test_a_rolled_back_change_shows_what_was_stored(db: AsyncDB) -> None:
    key = await add(db, title="a", poster=b"old")
    async with db.session() as session:
        film = await session.get_one(Film, key)
        film.poster = b"new"
        await session.flush()
        assert not session.is_modified(film)
        await session.rollback()
        await session.load(film, Film.poster)
        assert film.poster == b"old"
        film.poster = b"newer"
        await session.commit()
    assert (await stored(db))[0]["poster"]["sha256"] == sha256(b"newer")


async def test_what_was_flushed_can_be_read_before_the_commit(db: AsyncDB) -> None:
    async with db.session() as session:
        session.add(film := Film(title="a", poster=b"new"))
        await session.flush()
        await session.refresh(film)
        await session.load(film, Film.poster)
        assert film.poster == b"new"
        await session.commit()


async def test_bulk_inserts_and_insert_statements(db: AsyncDB) -> None:
    async with db.begin() as session:
        await session.bulk_insert([Film(title=f"{n}", poster=bytes([n])) for n in range(3)])
        await session.execute(insert(Film).values(title="3", poster=bytes([3])))
    async with db.session() as session:
        films = (await session.scalars(select(Film).order_by(Film.title))).all()
        for film in films:
            await session.load(film, Film.poster)
        assert [film.poster for film in films] == [bytes([n]) for n in range(4)]
    assert (await checked(db)).ok


async def test_uploads_in_an_open_transaction(db: AsyncDB, real: bool) -> None:
    """A transaction cannot see that an upload began after it; a collection must not take its bytes all the same."""
    async with db.session() as session:
        session.add(Film(title="a", poster=b"first"))
        await session.flush()
        session.add(Film(title="b", poster=b"second"))
        await session.flush()
        await session.commit()
    await db.gc(NOW)
    await db.gc(NOW)
    assert {sha256(b"first"), sha256(b"second")} == set(await blobs(db))
    assert await keys(db) == set((await blobs(db)).values())
    assert (await checked(db)).ok
    if not real:
        return
    async with db.session() as session:
        session.add(Film(title="c"))
        await session.flush()
        session.add(Film(title="d", poster=b"third"))
        await session.flush()
        await db.gc(NOW)  # which has no patience
        await session.commit()
    assert list("abcd") == [one["title"] for one in await stored(db)]
    assert (await checked(db)).ok


async def test_statements_with_artifacts(db: AsyncDB) -> None:
    await add(db, title="a", poster=b"old")
    async with db.session() as session:
        with pytest.raises(UnsupportedError, match=r"Film\.poster: a statement cannot store an artifact"):
            await session.execute(update(Film).where(Film.title == "a").values(poster=b"new"))
    async with db.begin() as session:
        having = select(Film).where(Film.poster != None)  # noqa: E711
        assert 1 == len((await session.scalars(having)).all())
        await session.execute(update(Film).where(Film.title == "a").values(poster=None))
        assert not (await session.scalars(having)).all()


class Coded(Document, registry=registry):
    __collection__ = "coded_with_artifacts"

    id: Mapped[Any] = field(primary_key=True)
    poster: Mapped[bytes | None] = artifact(default=None)


@pytest.mark.parametrize("key", [UUID(int=7), {"a": UUID(int=7), "b": 1}, b"\x00", 1.5], ids=str)
async def test_keys_of_any_type(db: AsyncDB, key: Any) -> None:
    async with db.begin() as session:
        session.add(Coded(id=key, poster=b"bytes"))
    async with db.session() as session:
        found = await session.get_one(Coded, key)
        await session.load(found, Coded.poster)
        assert b"bytes" == found.poster
    assert (await db.check()).ok


class Copied(Document, registry=registry):
    __collection__ = "copied_with_artifacts"

    title: Mapped[str] = field(default="")
    poster: Mapped[bytes | None] = artifact(default=None)


async def test_references_are_not_merged_into_other_documents(db: AsyncDB) -> None:
    await add(db, title="a", poster=b"old")
    async with db.session() as session:
        with pytest.raises(StatementError, match="'poster' is an artifact, and a reference to one belongs to its own"):
            await session.execute(select(Film).merge_into(Copied))
    assert not await stored(db, "copied_with_artifacts")


def test_no_model_is_given_an_artifact() -> None:
    with pytest.raises(MappingError, match="source='poster' is an artifact, which no model is given"):

        class Seen(Document, registry=Registry()):
            poster: Mapped[bytes | None] = artifact(default=None)
            seen: Mapped[np.ndarray | None] = vector(3, source="poster", model="eye")


async def test_expire_refresh_and_partial_objects(db: AsyncDB) -> None:
    key = await add(db, title="a", poster=b"old")
    async with db.session() as session:
        film = await session.get_one(Film, key)
        film.poster = b"changed"
        await session.refresh(film)
        await session.load(film, Film.poster)
        assert film.poster == b"old"
        session.expire(film, ["poster"])
        with pytest.raises(NotLoadedError, match="poster was not loaded, or has expired"):
            await session.load(film, Film.poster)
    async with db.begin() as session:
        (film,) = await session.scalars(select(Film).options(load_only(Film.poster)))
        await session.load(film, Film.poster)
        assert film.poster == b"old"
        film.poster = b"new"
    assert (await stored(db))[0]["poster"]["sha256"] == sha256(b"new")


async def test_merge_and_pickle(db: AsyncDB) -> None:
    key = await add(db, title="a", poster=b"old", model=[1])
    async with db.session() as session:
        film = await session.get_one(Film, key)
        await session.load(film, Film.poster)
    copy: Film = pickle.loads(pickle.dumps(film))
    assert copy.poster == b"old"
    with pytest.raises(NotLoadedError, match="the artifact model was not read, and it is in no session"):
        _ = copy.model
    copy.poster = b"merged"
    async with db.begin() as session:
        merged = await session.merge(copy)
        assert merged.poster == b"merged"
    (document,) = await stored(db)
    assert document["poster"]["sha256"] == sha256(b"merged")
    async with db.session() as session:
        film = await session.get_one(Film, key)
        await session.load(film, Film.model)
        assert film.model == [1]


async def test_load_names_what_it_takes(db: AsyncDB) -> None:
    key = await add(db, title="a", poster=b"old")
    async with db.session() as session:
        film = await session.get_one(Film, key)
        for given in ([], [Film.title], [Picture.pixels], ["poster"]):
            with pytest.raises(StatementError, match=r"load\(\)"):
                await session.load(film, *given)


async def test_what_cannot_be_stored_is_named_and_nothing_is_written(db: AsyncDB) -> None:
    key = ObjectId()
    with pytest.raises(ArtifactSavingError, match=rf"Film ObjectId\('{key}'\): model: ") as caught:
        async with db.begin() as session:
            session.add(Film(id=key, title="a", model=Unpicklable()))
    assert (caught.value.document_class, caught.value.field, caught.value.key) == (Film, "model", key)
    with pytest.raises(ArtifactError, match=r"Picture .*pixels: "):
        async with db.begin() as session:
            session.add(Picture(pixels=np.array([object()])))
    assert not await stored(db)
    assert not await blobs(db)


async def test_a_failed_commit_leaves_nothing_that_gc_does_not_remove(db: AsyncDB) -> None:
    await db.create_all(Named)
    async with db.begin() as session:
        session.add(Named(title="a", poster=b"kept"))
    with pytest.raises(DuplicateKeyError):
        async with db.begin() as session:
            session.add(Named(title="a", poster=b"refused"))
    await db.gc(NOW)
    assert list(await blobs(db)) == [sha256(b"kept")]
    report = await db.check(Named)
    assert report.ok
    assert not report.orphans


@pytest.mark.parametrize("call", ["put", "keys", "get", "delete"])
async def test_a_store_that_fails(db: AsyncDB, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    key = await add(db, title="a", poster=b"kept")
    other = await add(db, title="b", poster=b"goes")
    async with db.begin() as session:
        session.delete(await session.get_one(Film, other))
    store = db.parts.artifact_store

    async def fail(*_: Any, **__: Any) -> Any:
        raise ArtifactError("the store is away")

    async def fail_later(*_: Any, **__: Any) -> Any:
        raise ArtifactError("the store is away")
        yield b""

    with monkeypatch.context() as patched:
        patched.setattr(store, call, fail_later if call == "get" else fail)
        if call == "put":
            with pytest.raises(ArtifactError, match=r"Film .*poster: the store is away"):
                await add(db, title="c", poster=b"new")
        elif call == "get":
            async with db.session() as session:
                film = await session.get_one(Film, key)
                with pytest.raises(ArtifactError, match=r"Film .*poster: .*the store is away"):
                    await session.load(film, Film.poster)
            assert any("Film" in problem and "poster" in problem for problem in (await checked(db)).problems)
        else:
            with pytest.raises(ArtifactError, match="the store is away"):
                await db.gc(NOW)
    assert ["a"] == [document["title"] for document in await stored(db)]
    await db.gc(NOW)
    report = await checked(db)
    assert report.ok
    assert not report.orphans
    assert list(await blobs(db)) == [sha256(b"kept")]


async def test_a_missing_blob_is_named(db: AsyncDB) -> None:
    key = await add(db, title="a", poster=b"lost")
    for name in await keys(db):
        await db.parts.artifact_store.delete(name)
    async with db.session() as session:
        film = await session.get_one(Film, key)
        with pytest.raises(ArtifactNotFoundError, match=rf"Film ObjectId\('{key}'\): poster: ") as caught:
            await session.load(film, Film.poster)
    assert (caught.value.document_class, caught.value.field, caught.value.key) == (Film, "poster", key)
    (problem,) = (await checked(db)).problems
    assert f"Film ObjectId('{key}'): poster: " in problem


@pytest.mark.parametrize("how", ["copied", "unsigned", "codec", "moved"])
async def test_a_planted_reference_never_reaches_the_unpickler(db: AsyncDB, tmp_path: Path, how: str) -> None:
    """What is signed for one document, or as another field or codec, is no good in another place."""
    mark = tmp_path / "mark"
    key = await add(db, title="a", model=Planted(mark))
    data = pickle.dumps(Planted(mark))
    other = await add(db, title="b", poster=data, model=b"harmless")
    first, second = await stored(db)
    change: dict[str, Any] = {"m": first["m"]}
    if how == "unsigned":
        change = {"m": {name: value for name, value in first["m"].items() if name != "signature"}}
    elif how == "codec":
        change = {"m": {**second["m"], "codec": first["m"]["codec"], "codec_version": first["m"]["codec_version"]}}
    elif how == "moved":
        change = {"poster": first["m"]}
    at = key if how in ("unsigned", "moved") else other
    await db.parts.data_backend.write(Update("films_with_artifacts", [UpdateOp(q={"_id": at}, u={"$set": change})]))
    async with db.session() as session:
        film = await session.get_one(Film, at)
        with pytest.raises(UntrustedArtifactError, match=rf"Film ObjectId\('{at}'\)"):
            await session.load(film, Film.poster if how == "moved" else Film.model)
    assert not mark.exists()


async def test_a_reference_that_is_none_is_named(db: AsyncDB) -> None:
    key = await add(db, title="a", poster=b"x")
    write = Update("films_with_artifacts", [UpdateOp(q={"_id": key}, u={"$set": {"poster": {"sha256": "x"}}})])
    await db.parts.data_backend.write(write)
    (problem,) = (await checked(db)).problems
    assert f"Film ObjectId('{key}'): poster: not a reference to an artifact" in problem
    await db.parts.data_backend.write(
        Update("films_with_artifacts", [UpdateOp(q={"_id": key}, u={"$set": {"poster": "text"}})])
    )
    async with db.session() as session:
        film = await session.get_one(Film, key)
        with pytest.raises(ValidationError, match=r"poster does not fit: expected a reference to an artifact"):
            _ = film.poster


async def test_gc_knows_fields_of_classes_that_it_never_saw(db: AsyncDB) -> None:
    await add(db, title="a", poster=b"kept")
    parts = db.parts
    fresh = AsyncDB(*(getattr(parts, one) for one in ("data_backend", "metadata", "artifact_store", "vector_database")))
    assert not (await fresh.gc(NOW)).removed
    assert list(await blobs(db)) == [sha256(b"kept")]


async def test_run_uploads_again_what_gc_condemned_meanwhile(db: AsyncDB, monkeypatch: pytest.MonkeyPatch) -> None:
    await db.prepare()
    register, calls = db.blobs.register, 0

    async def meet(uploads: Any, **options: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:  # a collection with no patience gave the upload up
            for upload in await db.blobs.facts.uploads():
                assert await db.blobs.facts.give_up(upload)
        await register(uploads, **options)

    monkeypatch.setattr(db.blobs, "register", meet)

    async def work(session: AsyncSession) -> None:
        session.add(Film(title="a", poster=b"again"))

    await db.run(work)
    assert 2 == calls
    monkeypatch.undo()
    await db.gc(NOW)
    report = await checked(db)
    assert report.ok
    assert not report.orphans
    assert await keys(db) == set((await blobs(db)).values())


@ON_SERVER
async def test_a_validator_accepts_references(db: AsyncDB) -> None:

    class Valid(Document, registry=Registry()):
        __collection__ = "valid_with_artifacts"
        __validate__ = True
        poster: Mapped[bytes] = artifact()
        other: Mapped[bytes | None] = artifact(default=None)

    await db.create_all(Valid)
    async with db.begin() as session:
        session.add(Valid(poster=b"x"))
    wrong = Update("valid_with_artifacts", [UpdateOp(q={}, u={"$set": {"poster": "text"}})])
    with pytest.raises(WriteError):
        await db.parts.data_backend.write(wrong)


async def test_documents_and_metadata_in_two_databases_are_refused() -> None:
    client = mongomock.MongoClient()
    db = AsyncDB(
        AsyncMongomockDatabackend(client, "one"),
        AsyncMongomockMetaDataStore(client, "two"),
        AsyncMemoryArtifactStore("memory://fields"),
        AsyncMemoryVectorIndex(),
        signing_keys=[b"key"],
    )
    with pytest.raises(UnsupportedError, match=r"Film\.poster: artifact fields need the documents and the metadata in"):
        await add(db, title="a", poster=b"x")
    assert not await stored(db)


async def test_an_unknown_codec_is_refused_before_anything_is_written(db: AsyncDB) -> None:
    class Odd(Document, registry=Registry()):
        __collection__ = "odd_with_artifacts"
        poster: Mapped[bytes] = artifact(codec="nothing")

    with pytest.raises(ConfigurationError, match="there is no codec 'nothing'"):
        async with db.begin() as session:
            session.add(Odd(poster=b"x"))
    assert not await stored(db, "odd_with_artifacts")


async def test_create_all_indexes_the_hashes(db: AsyncDB, real: bool) -> None:
    """Looking for what fields refer to is answered by the index alone, as the server says."""
    report = await db.create_all(Film)
    assert {"index films_with_artifacts {'poster.sha256': 1}", "index films_with_artifacts {'m.sha256': 1}"} <= {
        *report.created
    }
    assert not (await db.create_all(Film)).created
    for title in "abc":
        await add(db, title=title, poster=title.encode() if title < "c" else None)
    indexes = {tuple(one["key"]): one for one in await db.parts.data_backend.indexes("films_with_artifacts")}
    assert indexes[("poster.sha256",)]["sparse"] is True
    if not real:
        return
    used = await AsyncFieldReferences(db.parts.data_backend, db.blobs).used()
    assert used == {sha256(b"a"), sha256(b"b")}
    sent: list[Find] = []
    backend = db.parts.data_backend

    class Looked:
        def stream(self, plan: Find, **options: Any) -> Any:
            sent.append(plan)
            return backend.stream(plan, **options)

    await AsyncFieldReferences(Looked(), db.blobs).used()  # type: ignore[arg-type]
    (plan,) = [one for one in sent if one.projection == {"poster.sha256": 1, "_id": 0}]
    stages = str((await db.parts.data_backend.explain(plan))["queryPlanner"]["winningPlan"])
    assert "IXSCAN" in stages
    assert "FETCH" not in stages
    assert "COLLSCAN" not in stages


@pytest.mark.parametrize(
    "statement",
    [
        select(Film.poster),
        select(Film.title, Film.poster.label("p")),
        select(Film.poster).distinct(),
        select(Film).order_by(Film.poster),
        select(Film).order_by(Film.poster.desc()),
        select(Film).where(Film.poster == b"x"),
        select(Film).where(Film.title == "a", (Film.title == "b") | (Film.poster != b"x")),
        select(Film).where(Film.poster.in_([None, b"x"])),
        select(Film).where(Film.poster > b"x"),
        select(Film).where(Film.poster == Film.model),
        select(Film).where(Film.poster.regex("x")),
        select(func.max(Film.poster)),
        select(func.count()).select_from(Film).group_by(Film.poster),
        select(func.if_null(Film.poster, b"")),
        select(Film.title, func.count()).group_by(Film.title).having(func.max(Film.poster) > b""),
        select(Named).join(Film, Film.poster == Named.poster),
        select(Named, select(Film.poster).as_list().label("posters")),
        select(Named.title).union_all(select(Film.poster)),
        select(Film).facet(some=select(Film.poster)),
        select(Film).then().where(Film.poster == b"x"),
        delete(Film).where(Film.poster == b"x"),
        update(Film).where(Film.poster == b"x").values(title="b"),
        update(Film).where(Film.title == "a").set(Film.poster.to(Film.model)),
    ],
    ids=repr,
)
async def test_artifacts_are_refused_where_their_references_would_be_seen(db: AsyncDB, statement: Any) -> None:
    async with db.session() as session:
        with pytest.raises(
            StatementError, match=r"Film\.(poster|model) is an artifact, which the database does not hold"
        ):
            await session.execute(statement)


async def test_artifacts_are_compared_with_none(db: AsyncDB) -> None:
    await add(db, title="with", poster=b"x")
    await add(db, title="without")
    async with db.begin() as session:
        for condition, titles in [
            (Film.poster == None, ["without"]),  # noqa: E711
            (Film.poster != None, ["with"]),  # noqa: E711
            (Film.poster.is_(None), ["without"]),
            (Film.poster.in_([None]), ["without"]),
            (~Film.poster.in_([None]) & (Film.title != ""), ["with"]),
            (Film.poster.exists(), ["with", "without"]),
        ]:
            found = await session.scalars(select(Film.title).where(condition).order_by(Film.title))
            assert titles == found.all(), str(condition)
        await session.execute(update(Film).where(Film.poster != None).values(poster=None))  # noqa: E711
        assert [None, None] == [film.poster for film in await session.scalars(select(Film))]
    assert [None, None] == [document["poster"] for document in await stored(db)]


class Shape(Protocol):
    def area(self) -> float: ...


class Strict(Document, registry=registry):
    __collection__ = "strict_artifacts"

    data: Mapped[bytes] = artifact()
    table: Mapped[dict[str, int] | list[int] | None] = artifact(default=None)
    pixels: Mapped[np.ndarray[Any, np.dtype[np.uint8]] | None] = artifact(default=None)
    number: Mapped[Annotated[float | None, "of a sort"]] = artifact(default=None)
    any: Mapped[Any] = artifact(default=None)
    object: Mapped[Hashable] = artifact(default=None)
    shape: Mapped[Shape] = artifact(default=None)
    later: Mapped[Later | None] = artifact(default=None)
    unknown: Mapped[OnlyForCheckers] = artifact(default=None)  # noqa: F821 # pyright: ignore[reportUndefinedVariable]


class Later:
    """Declared after the class that names it."""


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("data", None, "bytes"),
        ("data", "text", "bytes"),
        ("table", b"x", "dict or list or None"),
        ("pixels", [1], "ndarray or None"),
        ("number", "1", "float or int or None"),
        ("later", b"x", "Later or None"),
        ("object", [], "Hashable"),
    ],
)
async def test_what_does_not_fit_is_refused_before_anything_is_uploaded(
    db: AsyncDB, field: str, value: Any, expected: str
) -> None:
    message = rf"Strict .*{field} cannot be stored: expected {expected}, got"
    values: dict[str, Any] = {"data": b"fits", "any": b"another", field: value}
    with pytest.raises(ValidationError, match=message) as caught:
        async with db.begin() as session:
            session.add(Strict(**values))
    assert (caught.value.document_class, caught.value.field) == (Strict, field)
    async with db.begin() as session:
        session.add(strict := Strict(data=b"fits"))
    before = await keys(db)
    async with db.session() as session:
        found = await session.get_one(Strict, strict.id)
        found.any = b"another"
        setattr(found, field, value)
        with pytest.raises(ValidationError, match=message):
            await session.commit()
        await session.rollback()
        with pytest.raises(ValidationError, match=message):
            await session.bulk_insert([Strict(**values)])
        await session.rollback()
    assert before == await keys(db)
    assert [sha256(b"fits")] == list(await blobs(db))
    if value is None:
        with pytest.raises(ValidationError, match=r"Strict\.data cannot be stored: expected bytes"):
            update(Strict).where(Strict.id == strict.id).values(data=None)


async def test_a_default_has_to_fit() -> None:
    with pytest.raises(MappingError, match=r"Wrong\.data"):

        class Wrong(Document, registry=Registry()):
            data: Mapped[bytes] = artifact(default=None)


async def test_what_fits_is_stored(db: AsyncDB) -> None:
    values: dict[str, Any] = {
        "data": b"x",
        "table": [1],
        "pixels": np.zeros(2, np.uint8),
        "number": 1,
        "any": {1},
        "object": "text",
        "shape": 3,
        "later": Later(),
        "unknown": b"x",
    }
    async with db.begin() as session:
        session.add(strict := Strict(**values))
    async with db.session() as session:
        found = await session.get_one(Strict, strict.id, options=[undefer(Strict.table, Strict.number, Strict.later)])
        assert (found.table, found.number, type(found.later)) == ([1], 1, Later)
