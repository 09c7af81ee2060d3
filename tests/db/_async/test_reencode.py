"""Encoding all vectors of an index anew by a newer version of its model."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pymongo
import pytest
from pymongo.errors import OperationFailure

from superorm import (
    AsyncDB,
    BackendError,
    ComponentNotFoundError,
    ConfigurationError,
    Document,
    Embedded,
    Mapped,
    Model,
    ObjectId,
    PredictionError,
    Registry,
    StaleDocumentError,
    StatementError,
    WriteError,
    connect_async,
    field,
    score,
    select,
    update,
    vector,
)
from superorm._async import transaction_room as transaction_room_module
from superorm._async import vector_models, vector_reencode, vector_reencode_limits
from superorm._async.transaction_room import transaction_lifetime, transaction_room, writing_seconds
from superorm._async.vector_reencode import AsyncReencoding
from superorm._io import aio
from superorm.backends.errors import has_error_label
from superorm.compile.plan import Find
from superorm.unitofwork.writes import Update, UpdateOp
from superorm.vectors.records import COLLECTION, INDEXES
from tests.db.letters import Letters

WORDS = ["heat", "cold", "soup", "fire", "rain", "tea", "ice", "stew", "salad", "bread"]


class Bird(Document):
    __collection__ = "reencode_birds"

    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str | None]
    given: Mapped[np.ndarray | None] = vector(2)
    vec: Mapped[np.ndarray | None] = vector(26, source="text", model="letters")


class Second:
    """Another version: counts letters, three times those of the first half of the alphabet, and the others once."""

    texts: list[str] = []  # noqa: RUF012
    fails = False
    """Whether it fails for the last word."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        Second.texts += texts
        if Second.fails and WORDS[-1] in texts:
            raise ValueError("no such word")
        return second(*texts)


def second(*texts: str) -> np.ndarray:
    """What the second version says."""
    return Letters().encode(texts) * np.where(np.arange(26) < 13, 3, 1).astype(np.float32)


def first(*texts: str) -> np.ndarray:
    """What the first version says."""
    return Letters().encode(texts)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody else writes for long: an announcement is not waited for as long. Small batches."""
    monkeypatch.setattr(vector_models, "LEASE", 0.1)
    monkeypatch.setattr(vector_reencode, "GRACE", 0.3)
    monkeypatch.setattr(vector_reencode, "_BATCH", 4)
    Second.texts = []
    yield
    Second.fails = False


async def fill(db: AsyncDB) -> dict[int, str]:
    """Birds made by the first version; their texts, by key. A second version is added."""
    await db.add(Model("letters", Letters(), fingerprint="1", batch_size=2))
    texts = dict(enumerate(WORDS))
    async with db.begin() as session:
        session.add_all(Bird(id=key, text=text) for key, text in texts.items())
        session.add(Bird(id=100, text=None))
    await db.add(Model("letters", Second(), fingerprint="2", batch_size=2))
    return texts


async def stored(db: AsyncDB) -> dict[int, list[float] | None]:
    """The stored vectors, by key."""
    return {
        one["_id"]: None if one["vec"] is None else np.frombuffer(one["vec"], "<f4", offset=2).tolist()
        for one in await db.parts.data_backend.read(Find("reencode_birds"))
    }


def rows(texts: dict[int, str], encode: Any) -> dict[int, list[float] | None]:
    """What is to be stored by one version."""
    return {100: None, **{key: encode(text)[0].tolist() for key, text in texts.items()}}


async def search(db: AsyncDB, query: str = "heater") -> list[tuple[int, float]]:
    """The three nearest keys with their scores."""
    async with db.session() as session:
        found = await session.execute(select(Bird.id, score()).like(query, on=Bird.vec, k=3, exact=True))
        return [(key, round(similarity, 5)) for key, similarity in found.all()]


def nearest(texts: dict[int, str], encode: Any, query: str = "heater") -> list[tuple[int, float]]:
    """The same by brute force."""
    vectors, wanted = encode(*texts.values()).astype(float), encode(query)[0].astype(float)
    scores = (1 + vectors @ wanted / np.linalg.norm(vectors, axis=1) / np.linalg.norm(wanted)) / 2
    ranked = sorted(zip(texts, scores, strict=True), key=lambda one: (-round(one[1], 6), one[0]))
    return [(key, round(float(similarity), 5)) for key, similarity in ranked[:3]]


async def another(db: AsyncDB, mongodb_uri: str) -> AsyncDB:
    """Another DB over the same database, as another process has it."""
    name = db.parts.data_backend.name
    url = mongodb_uri if "Mongomock" not in repr(db) else f"mongomock://{name}"
    return connect_async(url, database=name, vector_database="memory://", signing_key="test-key")


async def test_reencode(db: AsyncDB, mongodb_uri: str) -> None:
    """Searches and writes keep the version until then, and take the newest from then on, in other processes too."""
    texts = await fill(db)
    async with await another(db, mongodb_uri) as other:
        for one in (db, other):
            assert nearest(texts, first) == await search(one)
        async with other.begin() as session:
            session.add(Bird(id=50, text="lamb"))
        texts[50] = "lamb"
        assert rows(texts, first) == await stored(db)
        assert ["reencode_birds.vec" in problem for problem in (await db.check(Bird)).problems] == [True]
        await db.rebuild(Bird.vec, reencode=True)
        assert rows(texts, second) == await stored(db)
        assert sorted(set(texts.values())) == sorted(Second.texts)
        for one in (db, other):
            assert nearest(texts, second) == await search(one)
        async with other.begin() as session:
            session.add(Bird(id=51, text="late"))
            (await session.get_one(Bird, 3)).text = "early"
            await session.execute(update(Bird).where(Bird.id == 4).values(text="between"))
        texts |= {51: "late", 3: "early", 4: "between"}
        assert rows(texts, second) == await stored(db)
        for one in (db, other):
            assert nearest(texts, second) == await search(one)
    report = await db.check(Bird)
    assert report.ok, report.problems
    assert [] == await db.parts.data_backend.read(Find("_superorm_encoded"))


async def test_reencode_what_no_model_computes(db: AsyncDB) -> None:
    """It is refused, and so is a model that is not there."""
    with pytest.raises(StatementError, match=r"Bird\.given is not"):
        await db.rebuild(Bird.given, reencode=True)
    with pytest.raises(ComponentNotFoundError, match="letters"):
        await db.rebuild(Bird.vec, reencode=True)


async def test_reencode_by_a_model_of_another_name(db: AsyncDB) -> None:
    """A class that names another model is told so, until all is encoded anew."""
    texts = await fill(db)

    class Renamed(Document, registry=Registry()):
        __collection__ = "reencode_birds"

        id: Mapped[int] = field(primary_key=True)
        text: Mapped[str | None]
        vec: Mapped[np.ndarray | None] = vector(26, source="text", model="others")

    await db.add(Model("others", Second(), fingerprint="1"))
    with pytest.raises(ConfigurationError, match=r"reencode=True"):
        async with db.begin() as session:
            session.add(Renamed(id=60, text="x"))
    await db.rebuild(Renamed.vec, reencode=True)
    assert rows(texts, second) == await stored(db)
    async with db.begin() as session:
        session.add(Renamed(id=60, text="x"))
    assert rows({**texts, 60: "x"}, second) == await stored(db)


async def test_an_interrupted_one_changes_nothing_and_goes_on(db: AsyncDB) -> None:
    """The old version still answers; a repetition encodes only what is not encoded yet, and completes."""
    texts = await fill(db)
    Second.fails = True
    with pytest.raises(PredictionError, match=r"Bird 9: vec cannot be computed.*no such word"):
        await db.rebuild(Bird.vec, reencode=True)
    assert rows(texts, first) == await stored(db)
    assert nearest(texts, first) == await search(db)
    Second.fails = False
    before = len(Second.texts)
    async with db.begin() as session:
        (await session.get_one(Bird, 0)).text = "meat"
    texts[0] = "meat"
    await db.rebuild(Bird.vec, reencode=True)
    assert rows(texts, second) == await stored(db)
    assert ["meat", *WORDS[8:]] == sorted(Second.texts[before:], key=["meat", *WORDS].index)
    assert nearest(texts, second) == await search(db)
    assert (await db.check(Bird)).ok


async def test_one_that_ends_while_the_vectors_are_put_in_place(
    db: AsyncDB, real: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a transaction all of them are put in place, or none."""
    if not real:
        return
    texts = await fill(db)
    put = AsyncReencoding._put  # pyright: ignore[reportPrivateUsage]
    calls: list[int] = []

    async def fails(self: Any, *rest: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyError("stop")
        await put(self, *rest)

    monkeypatch.setattr(AsyncReencoding, "_put", fails)
    with pytest.raises(KeyError, match="stop"):
        await db.rebuild(Bird.vec, reencode=True)
    assert rows(texts, first) == await stored(db)
    assert nearest(texts, first) == await search(db)
    await db.rebuild(Bird.vec, reencode=True)
    assert rows(texts, second) == await stored(db)
    assert nearest(texts, second) == await search(db)


async def test_searches_meanwhile_answer_by_the_old_version(
    db: AsyncDB, real: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While sources are encoded, and while the transaction is open; then by the new one alone."""
    if not real:
        return
    texts = await fill(db)
    put, staged = AsyncReencoding._put, AsyncReencoding._write_staged  # pyright: ignore[reportPrivateUsage]
    answers: list[bool] = []

    async def puts(self: Any, *rest: Any) -> None:
        await put(self, *rest)
        answers.append(nearest(texts, first) == await search(db))

    async def stages(self: Any, *rest: Any) -> None:
        await staged(self, *rest)
        answers.append(nearest(texts, first) == await search(db))

    monkeypatch.setattr(AsyncReencoding, "_put", puts)
    monkeypatch.setattr(AsyncReencoding, "_write_staged", stages)
    async with db.session() as session:
        statement = select(Bird.id, score()).like("heater", on=Bird.vec, k=3, exact=True)
        session.add(Bird(id=200, text=None))
        await session.flush()  # its transaction sees what was before
        before = [(key, round(similarity, 5)) for key, similarity in (await session.execute(statement)).all()]
        assert nearest(texts, first) == before
        await db.rebuild(Bird.vec, reencode=True)
        again = [(key, round(similarity, 5)) for key, similarity in (await session.execute(statement)).all()]
        assert before == again
        await session.rollback()
    assert len(answers) >= 6
    assert all(answers)
    assert nearest(texts, second) == await search(db)


async def test_beside_writers(db: AsyncDB, real: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written while it encodes, and while it puts vectors in place, has vectors of the new version too."""
    texts = await fill(db)
    staged, put = AsyncReencoding._write_staged, AsyncReencoding._put  # pyright: ignore[reportPrivateUsage]
    backend = db.parts.data_backend
    writes: list[int] = []

    async def stages(self: Any, *rest: Any) -> None:
        await staged(self, *rest)
        if len(writes) < 3:
            async with db.begin() as session:
                writes.append(70 + len(writes))
                session.add(Bird(id=writes[-1], text="lamb"))
                (await session.get_one(Bird, 0)).text = f"heat{len(writes) * 'a'}"

    async def puts(self: Any, *rest: Any) -> None:
        if real and len(writes) < 5:  # a conflict with this transaction
            writes.append(0)
            change = UpdateOp(q={"_id": 9}, u={"$set": {"text": f"bread{len(writes) * 'a'}"}})
            await backend.write(Update("reencode_birds", [change]))
        await put(self, *rest)

    monkeypatch.setattr(AsyncReencoding, "_write_staged", stages)
    monkeypatch.setattr(AsyncReencoding, "_put", puts)
    await db.rebuild(Bird.vec, reencode=True)
    texts |= {0: "heataaa", 70: "lamb", 71: "lamb", 72: "lamb"}
    if real:
        texts[9] = "breadaaaaa"
    assert rows(texts, second) == await stored(db)
    assert nearest(texts, second) == await search(db)
    report = await db.check(Bird)
    assert report.ok, report.problems


async def test_vectors_that_one_transaction_cannot_hold(
    db: AsyncDB, real: bool, mongodb_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are refused before any is encoded, with the limit, which is a tenth of the server's cache."""
    if not real:
        return
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        cache = client.admin.command("serverStatus")["wiredTiger"]["cache"]["maximum bytes configured"]
    texts = await fill(db)
    monkeypatch.setattr(vector_reencode_limits, "_OVERHEAD", cache // 10 // 11)
    with pytest.raises(BackendError, match=rf"reencode_birds\.vec.* 11 documents .* {cache // 10 >> 20} MiB"):
        await db.rebuild(Bird.vec, reencode=True)
    assert [] == Second.texts
    assert rows(texts, first) == await stored(db)
    assert nearest(texts, first) == await search(db)
    monkeypatch.setattr(vector_reencode_limits, "_OVERHEAD", cache // 10 // 11 - 105)  # with 26 numbers of four bytes
    await db.rebuild(Bird.vec, reencode=True)
    assert rows(texts, second) == await stored(db)


async def test_vectors_that_take_too_long(
    db: AsyncDB, real: bool, mongodb_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are refused before any is encoded, with the server's limit, where even their mere writing takes longer."""
    if not real:
        return
    backend: Any = db.parts.data_backend
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        parameter = client.admin.command("getParameter", 1, transactionLifetimeLimitSeconds=1)
        assert parameter["transactionLifetimeLimitSeconds"] == await transaction_lifetime(backend)
        texts = await fill(db)
        taken = [5.0, 4.0, 6.0] * 2
        monkeypatch.setattr(transaction_room_module, "_TRIAL", 11)
        monkeypatch.setattr(transaction_room_module, "time", Steps(taken))
        for limit, refused in ((3.9, True), (4.1, False)):

            async def lifetime(backend: Any, limit: float = limit) -> float:
                return limit

            monkeypatch.setattr(vector_reencode_limits, "transaction_lifetime", lifetime)
            if refused:
                with pytest.raises(BackendError, match=r"11 documents take more than 4 seconds .* after 4 \(trans"):
                    await db.rebuild(Bird.vec, reencode=True)
                assert [] == Second.texts
                assert [] == list(client[backend.name]["_superorm_encoded"].find())
                assert rows(texts, first) == await stored(db)
        await db.rebuild(Bird.vec, reencode=True)
    assert [] == taken
    assert rows(texts, second) == await stored(db)


async def test_how_long_writing_takes(db: AsyncDB, real: bool) -> None:
    """In proportion to the documents, and nothing of the trial stays."""
    if not real:
        return
    backend: Any = db.parts.data_backend
    await backend.create_collection("reencode_trials")
    assert 0 == await writing_seconds(backend, "reencode_trials", 999, 100)
    start = time.monotonic()
    seconds = await writing_seconds(backend, "reencode_trials", 5_000, 100)
    assert 0 < seconds < 5 * (time.monotonic() - start)
    assert [] == await backend.read(Find("reencode_trials"))


@pytest.mark.parametrize("broken", [1, 3])
async def test_trials_that_the_server_ends(
    db: AsyncDB, real: bool, broken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that ends for a moment's reason says nothing, as the transaction itself is begun again; others count."""
    if not real:
        return
    backend: Any = db.parts.data_backend
    write, tried = backend.write, 0

    async def ended(*args: Any, **options: Any) -> Any:
        nonlocal tried
        tried += 1
        if tried <= broken:
            labels = {"errorLabels": ["TransientTransactionError"]}
            raise BackendError("ended") from OperationFailure("rolled back for eviction", 251, labels)
        return await write(*args, **options)

    await backend.create_collection("reencode_trials")
    monkeypatch.setattr(backend, "write", ended)
    assert (await writing_seconds(backend, "reencode_trials", 5_000, 100) > 0) is (broken < 3)
    assert [3, []] == [tried, await backend.read(Find("reencode_trials"))]


class Steps:
    """A clock on which every second look comes after the next of these seconds."""

    def __init__(self, taken: list[float]) -> None:
        self.taken, self.now, self.began = taken, 0.0, False

    def monotonic(self) -> float:
        self.began = not self.began
        if not self.began:
            self.now += self.taken.pop(0)
        return self.now


class Refuses:
    """A server that refuses commands, with this code."""

    name = "refuses"

    def __init__(self, code: int) -> None:
        self.code = code
        self.client = self.admin = self

    async def command(self, command: Any) -> Any:
        raise OperationFailure(f"{next(iter(command))} is refused", self.code)

    @asynccontextmanager
    async def snapshot(self) -> AsyncGenerator[Any]:
        yield self


@pytest.mark.parametrize("code", [13, 323, 8000], ids=["Unauthorized", "APIStrictError", "AtlasError"])
async def test_a_server_that_does_not_say_how_much_it_holds(code: int) -> None:
    """Nothing is known of its room then, and so nothing refused."""
    backend: Any = Refuses(code)
    assert await transaction_room(backend) is None
    assert await transaction_lifetime(backend) is None


async def test_a_session_that_computed_by_the_old_version(
    db: AsyncDB, mongodb_uri: str, real: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commit is refused, and done again its vectors are of the new version."""
    if not real:
        return
    monkeypatch.setattr(vector_models, "LEASE", 0.0)
    texts = await fill(db)
    async with await another(db, mongodb_uri) as other, other.session() as session:
        session.add(Bird(id=80, text="lamb"))
        await session.flush()
        await db.rebuild(Bird.vec, reencode=True)
        with pytest.raises(StaleDocumentError, match="encoded anew"):
            await session.commit()
        await session.rollback()
        assert rows(texts, second) == await stored(db)
        session.add(Bird(id=80, text="lamb"))
        await session.commit()
    assert rows({**texts, 80: "lamb"}, second) == await stored(db)


async def test_a_commit_while_the_vectors_are_put_in_place(
    db: AsyncDB, mongodb_uri: str, real: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It conflicts with that, and `db.run` does it again."""
    if not real:
        return
    monkeypatch.setattr(vector_models, "LEASE", 0.0)
    texts = await fill(db)
    put = AsyncReencoding._put  # pyright: ignore[reportPrivateUsage]
    errors: list[BaseException] = []
    async with await another(db, mongodb_uri) as other, other.session() as session:
        session.add(Bird(id=80, text="lamb"))
        await session.flush()

        async def puts(self: Any, *rest: Any) -> None:
            if not errors:
                with pytest.raises(WriteError) as raised:
                    await session.commit()
                errors.append(raised.value)
                await session.rollback()
            await put(self, *rest)

        monkeypatch.setattr(AsyncReencoding, "_put", puts)
        await db.rebuild(Bird.vec, reencode=True)
    assert has_error_label(errors[0], "TransientTransactionError")
    assert rows(texts, second) == await stored(db)


async def test_writers_wait_for_a_version_that_is_announced(db: AsyncDB, real: bool) -> None:
    """They begin their transaction when it has come, or the announcement is over."""
    if not real:
        return
    texts = await fill(db)
    until = time.time() + 1
    await announce(db, until)
    await aio.sleep(0.2)  # what is known of the version holds for so long
    async with db.begin() as session:
        session.add(Bird(id=80, text="lamb"))
    assert time.time() >= until
    assert rows({**texts, 80: "lamb"}, first) == await stored(db)


async def test_a_commit_when_the_announcement_is_over(
    db: AsyncDB, mongodb_uri: str, real: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vectors that take longer to be put in place than writers wait: who adds one by the old version has a conflict."""
    if not real:
        return
    monkeypatch.setattr(vector_models, "LEASE", 0.0)
    monkeypatch.setattr(vector_reencode, "_ANNOUNCED", 1.0)
    texts = await fill(db)
    put = AsyncReencoding._put  # pyright: ignore[reportPrivateUsage]
    errors: list[BaseException] = []
    async with await another(db, mongodb_uri) as other:

        async def puts(self: Any, *rest: Any) -> None:
            if not errors:
                await aio.sleep(1.2)
                with pytest.raises(WriteError) as raised:
                    async with other.begin() as session:
                        session.add(Bird(id=80, text="lamb"))
                errors.append(raised.value)
            await put(self, *rest)

        monkeypatch.setattr(AsyncReencoding, "_put", puts)
        await db.rebuild(Bird.vec, reencode=True)
        assert has_error_label(errors[0], "TransientTransactionError")
        assert rows(texts, second) == await stored(db)
        async with other.begin() as session:
            session.add(Bird(id=80, text="lamb"))
    assert rows({**texts, 80: "lamb"}, second) == await stored(db)


async def announced(db: AsyncDB) -> float | None:
    """Until when another version is announced."""
    (found,) = await db.parts.data_backend.read(Find(INDEXES, {"_id": "reencode_birds.vec"}))
    return found.get("switching")


async def announce(db: AsyncDB, until: float | None) -> None:
    """Announce one, as another process does, or take it away."""
    change: Any = {"$unset": {"switching": ""}} if until is None else {"$set": {"switching": until}}
    await db.parts.data_backend.write(Update(INDEXES, [UpdateOp(q={"_id": "reencode_birds.vec"}, u=change)]))
    if until is not None:
        told = UpdateOp(q={"_id": "models"}, u={"$set": {"token": ObjectId()}})
        assert (await db.parts.data_backend.write(Update(COLLECTION, [told]))).modified


async def test_an_announcement_that_nobody_took_back(db: AsyncDB, real: bool) -> None:
    """That of a process that was killed goes with the next commit of a vector."""
    if not real:
        return
    texts = await fill(db)
    await announce(db, time.time() - 1)
    await aio.sleep(0.2)  # what is known of the version holds for so long
    async with db.begin() as session:
        session.add(Bird(id=80, text="lamb"))
    assert await announced(db) is None
    assert rows({**texts, 80: "lamb"}, first) == await stored(db)


async def test_announcements_of_two(db: AsyncDB, real: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose announcement another took away announces it again; who fails leaves that of another in place."""
    if not real:
        return
    texts = await fill(db)
    switch = AsyncReencoding._switch  # pyright: ignore[reportPrivateUsage]
    tried: list[float | None] = []

    async def switches(self: Any, *rest: Any) -> None:
        tried.append(await announced(db))
        if len(tried) == 1:
            await announce(db, None)
        elif len(tried) == 3:
            await announce(db, later)
            raise ValueError("killed")
        await switch(self, *rest)

    monkeypatch.setattr(AsyncReencoding, "_switch", switches)
    await db.rebuild(Bird.vec, reencode=True)
    assert len(tried) == 2
    assert None not in tried
    assert await announced(db) is None
    assert rows(texts, second) == await stored(db)
    later = time.time() + 100
    with pytest.raises(ValueError, match="killed"):
        await db.rebuild(Bird.vec, reencode=True)
    assert later == await announced(db)


async def test_progress(db: AsyncDB) -> None:
    """Documents done and in all, while they are encoded."""
    await fill(db)
    seen: list[tuple[int, int]] = []

    def report(done: int, total: int, what: str) -> None:
        if "encoding" in what:
            seen.append((done, total))

    await db.rebuild(Bird.vec, reencode=True, progress=report)
    assert (11, 11) == seen[-1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


class Cover(Embedded):
    text: Mapped[str]
    vec: Mapped[np.ndarray | None] = vector(26, source="text", model="letters")


class Album(Document):
    __collection__ = "reencode_albums"

    id: Mapped[int] = field(primary_key=True)
    cover: Mapped[Cover | None] = field(default=None)


async def test_vectors_of_embedded_documents(db: AsyncDB) -> None:
    """They are encoded anew where they are; where nothing is embedded nothing appears."""
    await fill(db)
    await db.add(Model("letters", Letters(), fingerprint="3"))
    async with db.begin() as session:
        session.add_all([Album(id=1, cover=Cover(text="blue")), Album(id=2)])
    await db.add(Model("letters", Second(), fingerprint="4"))
    await db.rebuild(Album.cover.vec, reencode=True)
    one, two = await db.parts.data_backend.read(Find("reencode_albums", sort=[("_id", 1)]))
    assert second("blue")[0].tolist() == np.frombuffer(one["cover"]["vec"], "<f4", offset=2).tolist()
    assert {"_id": 2, "cover": None} == two
    assert (await db.check(Album)).ok


class Pet(Document):
    __collection__ = "reencode_pets"

    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str]
    vec: Mapped[np.ndarray | None] = vector(26, source="text", model="letters")


class Dog(Pet):
    tail: Mapped[int] = field(default=0)


async def test_all_classes_of_the_index(db: AsyncDB) -> None:
    """A field that a class inherits is encoded anew for all documents of the collection."""
    await fill(db)
    await db.add(Model("letters", Letters(), fingerprint="3"))
    async with db.begin() as session:
        session.add_all([Pet(id=1, text="cat"), Dog(id=2, text="rex")])
    await db.add(Model("letters", Second(), fingerprint="4"))
    await db.rebuild(Dog.vec, reencode=True)
    found = await db.parts.data_backend.read(Find("reencode_pets", sort=[("_id", 1)]))
    assert second("cat", "rex").tolist() == [np.frombuffer(one["vec"], "<f4", offset=2).tolist() for one in found]
    assert (await db.check(Pet, Dog)).ok
