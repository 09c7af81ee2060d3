"""Encoding all vectors of an index anew by a newer version of its model."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pymongo
import pytest

from superorm import (
    AsyncDB,
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
from superorm._async import vector_models, vector_move, vector_staging, vector_switch
from superorm._async.vector_move import AsyncMove
from superorm._async.vector_staging import AsyncStaging
from superorm._async.vector_switch import AsyncSwitch
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
    monkeypatch.setattr(vector_switch, "GRACE", 0.3)
    monkeypatch.setattr(vector_staging, "_BATCH", 4)
    monkeypatch.setattr(vector_move, "_BATCH", 4)
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


class Ended(Exception):
    """A process ended here."""


def ends(monkeypatch: pytest.MonkeyPatch, of: type, name: str, *, call: int, before: bool) -> list[int]:
    """Have one call of a method end the process, as it were, before or after it did its work."""
    method, calls = getattr(of, name), list[int]()

    async def fails(self: Any, *rest: Any) -> Any:
        calls.append(1)
        if before and len(calls) == call:
            raise Ended
        result = await method(self, *rest)
        if len(calls) == call:
            raise Ended
        return result

    monkeypatch.setattr(of, name, fails)
    return calls


@pytest.mark.parametrize(
    ("of", "name", "call", "before", "switched"),
    [
        (AsyncStaging, "write", 2, True, False),
        (AsyncSwitch, "_catch_up", 2, False, False),
        (AsyncSwitch, "_publish", 1, False, False),
        (AsyncMove, "_in_transaction", 1, True, True),
        (AsyncMove, "_take", 2, False, True),
        (AsyncMove, "_in_transaction", 2, False, True),
        (AsyncMove, "_end", 1, False, True),
        (AsyncMove, "clean", 1, True, True),
    ],
)
async def test_one_that_ends_anywhere(
    db: AsyncDB,
    real: bool,
    mongodb_uri: str,
    of: type,
    name: str,
    call: int,
    before: bool,
    switched: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Until the switch the old version answers, and then the new one, everywhere; another call goes on."""
    if not real:
        return
    texts = await fill(db)
    async with await another(db, mongodb_uri) as other:
        assert nearest(texts, first) == await search(other)
        with monkeypatch.context() as patch:
            calls = ends(patch, of, name, call=call, before=before)
            with pytest.raises(Ended):
                await db.rebuild(Bird.vec, reencode=True)
            assert len(calls) == call
        encode = second if switched else first
        moving = switched and name != "clean"
        for one in (db, other):
            assert nearest(texts, encode) == await search(one)
            problems = (await one.check(Bird)).problems
            assert [switched] == ["still wait beside" in problem for problem in problems] or not moving
            assert moving or ([] if switched else ["there is version 1"]) == [p[-18:] for p in problems]
        async with other.begin() as session:
            (await session.get_one(Bird, 3)).text = "early"
            session.add(Bird(id=60, text="late"))
            session.delete(await session.get_one(Bird, 5))
        texts |= {3: "early", 60: "late"}
        del texts[5]
        for one in (db, other):
            assert nearest(texts, encode) == await search(one)
            await one.rebuild(Bird.vec)
            assert nearest(texts, encode) == await search(one)
        encoded = len(Second.texts)
        await other.rebuild(Bird.vec, reencode=True)
        if not switched:
            assert len(Second.texts) - encoded <= 2 or name == "write"
        assert rows(texts, second) == await stored(db)
        for one in (db, other):
            assert nearest(texts, second) == await search(one)
            report = await one.check(Bird)
            assert report.ok, report.problems
    assert [] == await db.parts.data_backend.read(Find("_superorm_encoded"))


async def test_searches_meanwhile(db: AsyncDB, real: bool, mongodb_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They answer by the old version until the switch, and by the new one then, in whatever step; each transaction
    keeps what it saw."""
    if not real:
        return
    texts = await fill(db)
    seen: list[str] = []

    async with await another(db, mongodb_uri) as other:

        def looks(of: type, name: str, encode: Any, *, before: bool = False) -> None:
            method = getattr(of, name)

            async def around(self: Any, *rest: Any) -> Any:
                if before:
                    for one in (db, other):
                        assert nearest(texts, encode) == await search(one)
                result = await method(self, *rest)
                for one in (db, other):
                    assert nearest(texts, encode) == await search(one)
                seen.append(name)
                return result

            monkeypatch.setattr(of, name, around)

        looks(AsyncStaging, "write", first)
        looks(AsyncSwitch, "_catch_up", first)
        looks(AsyncSwitch, "_switch", first)
        looks(AsyncMove, "_move_some", second, before=True)
        looks(AsyncMove, "_end", second)
        looks(AsyncMove, "_clean_some", second)
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
        assert {"write", "_catch_up", "_switch", "_move_some", "_end", "_clean_some"} == {*seen}
        assert 4 <= seen.count("_move_some")
        for one in (db, other):
            assert nearest(texts, second) == await search(one)


async def test_writes_and_searches_of_all_forms_while_vectors_move(
    db: AsyncDB, real: bool, mongodb_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sources that change, documents that come and go, and searches with filters and by a document, between all steps.

    What is read by a transaction and undone leaves no trace.
    """
    if not real:
        return
    texts = await fill(db)
    move, rounds = AsyncMove._in_transaction, list[int]()  # pyright: ignore[reportPrivateUsage]

    async def agrees(one: AsyncDB) -> None:
        assert nearest(texts, second) == await search(one)
        some = {key: text for key, text in texts.items() if key >= 5}
        async with one.session() as session:
            like = select(Bird.id, score()).where(Bird.id >= 5).like("heater", on=Bird.vec, k=3, exact=True)
            found = [(key, round(similarity, 5)) for key, similarity in (await session.execute(like)).all()]
            assert nearest(some, second) == found
            bird = await session.get_one(Bird, 1)
            near = (await session.scalars(select(Bird.id).like(bird, on=Bird.vec, k=3, exact=True))).all()
            others = {key: text for key, text in texts.items() if key != 1}
            assert [key for key, _ in nearest(others, second, texts[1])] == near

    async with await another(db, mongodb_uri) as other:

        async def moves(self: Any, *rest: Any) -> Any:
            result = await move(self, *rest)
            rounds.append(len(rounds))
            number = 70 + rounds[-1]
            for one in (db, other):
                await agrees(one)
            async with other.begin() as session:
                (await session.get_one(Bird, 0)).text = f"heat{len(rounds) * 'a'}"
                (await session.get_one(Bird, 9)).text = f"bread{len(rounds) * 'o'}"
                session.add(Bird(id=number, text="lamb"))
                if number > 70:
                    session.delete(await session.get_one(Bird, number - 1))
            texts.update({0: f"heat{len(rounds) * 'a'}", 9: f"bread{len(rounds) * 'o'}", number: "lamb"})
            texts.pop(number - 1, None)
            async with db.session() as session:
                (await session.get_one(Bird, 4)).text = "none of this"
                await session.flush()
                like = select(Bird.id, score()).like("heater", on=Bird.vec, k=3, exact=True)
                found = [(key, round(similarity, 5)) for key, similarity in (await session.execute(like)).all()]
                assert nearest({**texts, 4: "none of this"}, second) == found
                await session.rollback()
            for one in (db, other):
                await agrees(one)
            return result

        monkeypatch.setattr(AsyncMove, "_in_transaction", moves)
        await db.rebuild(Bird.vec, reencode=True)
        assert len(rounds) >= 4
        assert rows(texts, second) == await stored(db)
        for one in (db, other):
            await agrees(one)
            report = await one.check(Bird)
            assert report.ok, report.problems


async def test_beside_writers(db: AsyncDB, real: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written while it encodes has vectors of the new version too, also what others wrote without any."""
    texts = await fill(db)
    staged, switch = AsyncStaging.write, AsyncSwitch._switch  # pyright: ignore[reportPrivateUsage]
    backend = db.parts.data_backend
    writes: list[int] = []

    async def stages(self: Any, *rest: Any) -> None:
        await staged(self, *rest)
        if len(writes) < 3:
            writes.append(70 + len(writes))
            async with db.begin() as session:
                session.add(Bird(id=writes[-1], text="lamb"))
                (await session.get_one(Bird, 0)).text = f"heat{len(writes) * 'a'}"

    async def switches(self: Any, *rest: Any) -> None:
        await switch(self, *rest)
        change = UpdateOp(q={"_id": 9}, u={"$set": {"text": "breada"}})
        await backend.write(Update("reencode_birds", [change]))

    monkeypatch.setattr(AsyncStaging, "write", stages)
    monkeypatch.setattr(AsyncSwitch, "_switch", switches)
    await db.rebuild(Bird.vec, reencode=True)
    texts |= {0: "heataaa", 70: "lamb", 71: "lamb", 72: "lamb"}
    if real:
        texts[9] = "breada"
    assert rows(texts, second) == await stored(db)
    assert nearest(texts, second) == await search(db)
    report = await db.check(Bird)
    assert report.ok, report.problems


async def test_two_at_once(db: AsyncDB, real: bool, mongodb_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One switches, and both move; then vectors are what the newest version says."""
    if not real:
        return
    texts = await fill(db)
    switch, move, done = AsyncSwitch.run, AsyncMove._move_some, list[str]()  # pyright: ignore[reportPrivateUsage]
    async with await another(db, mongodb_uri) as other:

        async def switches(self: Any, *rest: Any) -> None:
            if not done:
                done.append("switch")
                await other.rebuild(Bird.vec, reencode=True)
            await switch(self, *rest)

        async def moves(self: Any, *rest: Any) -> Any:
            if len(done) == 1:
                done.append("move")
                await db.rebuild(Bird.vec, reencode=True)
            return await move(self, *rest)

        monkeypatch.setattr(AsyncSwitch, "run", switches)
        monkeypatch.setattr(AsyncMove, "_move_some", moves)
        await db.rebuild(Bird.vec, reencode=True)
        assert ["switch", "move"] == done
        assert rows(texts, second) == await stored(db)
        for one in (db, other):
            assert nearest(texts, second) == await search(one)
            report = await one.check(Bird)
            assert report.ok, report.problems
    assert [] == await db.parts.data_backend.read(Find("_superorm_encoded"))


class Third(Second):
    """One more version: counts letters, those of the second half of the alphabet five times."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return third(*texts)


def third(*texts: str) -> np.ndarray:
    """What the third version says."""
    return Letters().encode(texts) * np.where(np.arange(26) < 13, 1, 5).astype(np.float32)


async def test_a_newer_version_while_vectors_move(
    db: AsyncDB, real: bool, mongodb_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes over; what waits of the one before it goes."""
    if not real:
        return
    texts = await fill(db)
    move, done = AsyncMove._in_transaction, list[str]()  # pyright: ignore[reportPrivateUsage]
    async with await another(db, mongodb_uri) as other:

        async def moves(self: Any, *rest: Any) -> Any:
            result = await move(self, *rest)
            if not done:
                done.append("third")
                await other.add(Model("letters", Third(), fingerprint="3"))
                await other.rebuild(Bird.vec, reencode=True)
            return result

        monkeypatch.setattr(AsyncMove, "_in_transaction", moves)
        await db.rebuild(Bird.vec, reencode=True)
        assert rows(texts, third) == await stored(db)
        for one in (db, other):
            assert nearest(texts, third) == await search(one)
            report = await one.check(Bird)
            assert report.ok, report.problems
    assert [] == await db.parts.data_backend.read(Find("_superorm_encoded"))


async def test_another_machine(
    db: AsyncDB, real: bool, mongodb_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tables are another engine's, and are made anew, of vectors that are still to be moved too."""
    if not real:
        return
    texts = await fill(db)
    options: Any = {"database": db.parts.data_backend.name, "signing_key": "test-key"}
    async with connect_async(mongodb_uri, vector_database=f"lancedb://{tmp_path / 'there'}", **options) as there:
        assert nearest(texts, first) == await search(there)
        with monkeypatch.context() as patch:
            ends(patch, AsyncMove, "_in_transaction", call=1, before=False)
            with pytest.raises(Ended):
                await db.rebuild(Bird.vec, reencode=True)
        assert nearest(texts, second) == await search(there)
        async with there.begin() as session:
            (await session.get_one(Bird, 9)).text = "early"
        texts[9] = "early"
        for one in (db, there):
            assert nearest(texts, second) == await search(one)
        await db.rebuild(Bird.vec, reencode=True)
        assert rows(texts, second) == await stored(db)
        for one in (db, there):
            assert nearest(texts, second) == await search(one)
            report = await one.check(Bird)
            assert report.ok, report.problems


async def test_records_that_go_while_it_encodes(
    db: AsyncDB, real: bool, mongodb_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins anew then: what was changed meanwhile cannot be known from the records any more."""
    if not real:
        return
    texts = await fill(db)
    fresh, calls = AsyncSwitch._catch_up, list[int]()  # pyright: ignore[reportPrivateUsage]

    async def catches_up(self: Any, *rest: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            async with db.begin() as session:
                (await session.get_one(Bird, 0)).text = "early"
            with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
                records = client[db.parts.data_backend.name][COLLECTION]
                for state in records.find({"kind": "state"}):
                    records.update_one({"_id": state["_id"]}, {"$inc": {"n": 1}, "$set": {"floor": state["n"] + 1}})
                records.delete_many({"kind": "record"})
        return await fresh(self, *rest)

    monkeypatch.setattr(AsyncSwitch, "_catch_up", catches_up)
    await db.rebuild(Bird.vec, reencode=True)
    texts[0] = "early"
    assert len(calls) == 3
    assert rows(texts, second) == await stored(db)
    assert nearest(texts, second) == await search(db)
    assert (await db.check(Bird)).ok


async def test_again_by_the_same_version(db: AsyncDB, mongodb_uri: str) -> None:
    """It makes good what another program wrote, and what depends on it."""
    texts = await fill(db)
    await db.rebuild(Bird.vec, reencode=True)
    change = UpdateOp(q={"_id": 9}, u={"$set": {"text": "heater"}})
    await db.parts.data_backend.write(Update("reencode_birds", [change]))
    async with await another(db, mongodb_uri) as other:
        assert nearest(texts, second) == await search(other)
        texts[9] = "heater"
        await db.rebuild(Bird.vec, reencode=True)
        assert rows(texts, second) == await stored(db)
        for one in (db, other):
            assert nearest(texts, second) == await search(one)
            assert (await one.check(Bird)).ok
    assert [] == await db.parts.data_backend.read(Find("_superorm_encoded"))


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
    put = AsyncSwitch._publish  # pyright: ignore[reportPrivateUsage]
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

        monkeypatch.setattr(AsyncSwitch, "_publish", puts)
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
    monkeypatch.setattr(vector_switch, "_ANNOUNCED", 1.0)
    texts = await fill(db)
    put = AsyncSwitch._publish  # pyright: ignore[reportPrivateUsage]
    errors: list[BaseException] = []
    async with await another(db, mongodb_uri) as other:
        async with other.session() as session:
            assert await session.scalar(
                select(Bird).like("lamb", on=Bird.vec, k=1)
            )  # whose engine is known from then on

        async def puts(self: Any, *rest: Any) -> None:
            if not errors:
                await aio.sleep(1.2)
                with pytest.raises(WriteError) as raised:
                    async with other.begin() as session:
                        session.add(Bird(id=80, text="lamb"))
                errors.append(raised.value)
            await put(self, *rest)

        monkeypatch.setattr(AsyncSwitch, "_publish", puts)
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
    switch = AsyncSwitch._switch  # pyright: ignore[reportPrivateUsage]
    tried: list[float | None] = []

    async def switches(self: Any, *rest: Any) -> None:
        tried.append(await announced(db))
        if len(tried) == 1:
            await announce(db, None)
        elif len(tried) == 3:
            await announce(db, later)
            raise ValueError("killed")
        await switch(self, *rest)

    monkeypatch.setattr(AsyncSwitch, "_switch", switches)
    await db.rebuild(Bird.vec, reencode=True)
    assert len(tried) == 2
    assert None not in tried
    assert await announced(db) is None
    assert rows(texts, second) == await stored(db)
    await db.add(Model("letters", Third(), fingerprint="3"))
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
