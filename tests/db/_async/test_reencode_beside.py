"""Encoding all vectors of an index anew beside what others do with its model, its documents and its records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from superorm import (
    AsyncDB,
    ComponentNotFoundError,
    Document,
    Mapped,
    Model,
    PredictionError,
    WriteError,
    connect_async,
    field,
    score,
    select,
    vector,
)
from superorm._async import vector_models, vector_move, vector_records, vector_staging, vector_switch
from superorm._async.vector_builds import AsyncTableBuilds
from superorm._async.vector_move import AsyncMove
from superorm._async.vector_reencode import AsyncReencoding
from superorm._async.vector_staging import AsyncStaging
from superorm._async.vector_switch import AsyncSwitch
from superorm.backends.errors import has_error_label
from superorm.compile.plan import Find
from superorm.vectors.records import COLLECTION, INDEXES
from tests.db.letters import Letters

TEXTS = dict(enumerate(["heat", "cold", "soup", "fire", "rain", "tea", "ice", "stew", "salad", "bread"]))


class Herb(Document):
    __collection__ = "reencode_herbs"

    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str]
    vec: Mapped[np.ndarray | None] = vector(26, source="text", model="letters")


class Weighed:
    """Counts letters, those of the first half of the alphabet so many times."""

    def __init__(self, weight: int, fails: str = "") -> None:
        self.weight = weight
        self.fails = fails

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        if self.fails in texts:
            raise ValueError("no such word")
        return weighed(self.weight, *texts)


def weighed(weight: int, *texts: str) -> np.ndarray:
    return Letters().encode(texts) * np.where(np.arange(26) < 13, weight, 1).astype(np.float32)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else writes for long: an announcement is not waited for as long. Small batches."""
    monkeypatch.setattr(vector_models, "LEASE", 0.1)
    monkeypatch.setattr(vector_switch, "GRACE", 0.3)
    monkeypatch.setattr(vector_staging, "_BATCH", 4)
    monkeypatch.setattr(vector_move, "_BATCH", 4)


async def fill(db: AsyncDB, second: Weighed | None = None) -> None:
    """Herbs made by the first version; a second one is added."""
    await db.add(Model("letters", Weighed(1), fingerprint="1"))
    async with db.begin() as session:
        session.add_all(Herb(id=key, text=text) for key, text in TEXTS.items())
    await db.add(Model("letters", second or Weighed(3), fingerprint="2", batch_size=2))


async def stored(db: AsyncDB) -> list[list[float]]:
    """The stored vectors, by key."""
    found = await db.parts.data_backend.read(Find("reencode_herbs", sort=[("_id", 1)]))
    return [np.frombuffer(one["vec"], "<f4", offset=2).tolist() for one in found]


def rows(weight: int) -> list[list[float]]:
    """What is to be stored by one version."""
    return weighed(weight, *TEXTS.values()).tolist()


def nearest(weight: int, wanted: np.ndarray, *, leave_out: int | None = None) -> list[tuple[int, float]]:
    """The three nearest keys with their scores, by brute force."""
    keys = [key for key in TEXTS if key != leave_out]
    vectors = weighed(weight, *(TEXTS[key] for key in keys)).astype(float)
    scores = (1 + vectors @ wanted / np.linalg.norm(vectors, axis=1) / np.linalg.norm(wanted)) / 2
    ranked = sorted(zip(keys, scores, strict=True), key=lambda one: (-round(one[1], 6), one[0]))
    return [(key, round(float(similarity), 5)) for key, similarity in ranked[:3]]


async def search(db: AsyncDB, query: Any = "heater") -> list[tuple[int, float]]:
    """The same by the database."""
    async with db.session() as session:
        found = await session.execute(select(Herb.id, score()).like(query, on=Herb.vec, k=3, exact=True))
        return [(key, round(similarity, 5)) for key, similarity in found.all()]


def heater(weight: int) -> list[tuple[int, float]]:
    return nearest(weight, weighed(weight, "heater")[0].astype(float))


async def test_a_version_that_is_replaced_after_it_failed(db: AsyncDB) -> None:
    """What it encoded before it failed is not taken for what the one in its place says."""
    await fill(db, Weighed(3, fails="bread"))
    with pytest.raises(PredictionError, match="no such word"):
        await db.rebuild(Herb.vec, reencode=True)
    await db.replace(Model("letters", Weighed(5), fingerprint="3"))
    assert await db.show("model", "letters") == [0, 1]
    await db.rebuild(Herb.vec, reencode=True)
    assert rows(5) == await stored(db)
    assert heater(5) == await search(db)
    assert (await db.check(Herb)).ok


@pytest.mark.parametrize(
    ("of", "name", "call"), [(AsyncStaging, "write", 2), (AsyncSwitch, "_catch_up", 1), (AsyncSwitch, "_catch_up", 2)]
)
async def test_a_version_that_is_replaced_while_it_encodes(
    db: AsyncDB, real: bool, of: type, name: str, call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything is of the one in its place."""
    if not real and of is AsyncSwitch:
        return
    await fill(db)
    method, calls = getattr(of, name), list[int]()

    async def replaces(self: Any, *rest: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            await db.replace(Model("letters", Weighed(5), fingerprint="3"))
        return await method(self, *rest)

    monkeypatch.setattr(of, name, replaces)
    await db.rebuild(Herb.vec, reencode=True)
    assert len(calls) > call
    assert rows(5) == await stored(db)
    assert heater(5) == await search(db)
    assert (await db.check(Herb)).ok
    assert [] == await db.parts.data_backend.read(Find("_superorm_encoded"))


async def test_a_version_that_is_removed_while_it_encodes(db: AsyncDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not switched to: the one before stays in use."""
    await fill(db)
    stage = AsyncStaging.stage

    async def removes(self: Any, *rest: Any) -> None:
        await stage(self, *rest)
        if await db.show("model", "letters") == [0, 1]:
            await db.remove("model", "letters", 1)

    monkeypatch.setattr(AsyncStaging, "stage", removes)
    with pytest.raises(ComponentNotFoundError, match="letters version 1"):
        await db.rebuild(Herb.vec, reencode=True)
    assert rows(1) == await stored(db)
    assert heater(1) == await search(db)
    assert (await db.check(Herb)).ok


async def test_an_object_that_was_loaded_before_its_vector_moved(
    db: AsyncDB, real: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search by it is by the vector that its document has, in whatever step it was loaded."""
    if not real:
        return
    await fill(db)
    move, seen = AsyncMove._in_transaction, list[Any]()  # pyright: ignore[reportPrivateUsage]
    near = {key: nearest(3, weighed(3, TEXTS[key])[0].astype(float), leave_out=key) for key in (1, 9)}
    assert near[1] != nearest(3, weighed(1, TEXTS[1])[0].astype(float), leave_out=1)
    async with db.session() as session:
        old = {key: await session.get_one(Herb, key) for key in near}

        async def moves(self: Any, *rest: Any) -> Any:
            if len(seen) < 3:
                seen.append({key: await search(db, old[key]) for key in near})
            return await move(self, *rest)

        monkeypatch.setattr(AsyncMove, "_in_transaction", moves)
        await db.rebuild(Herb.vec, reencode=True)
    assert [near] * 3 == seen  # neither moved, the one, and both but for the last batch


async def test_another_engine_that_comes_when_all_is_moved(
    db: AsyncDB, real: bool, mongodb_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not say for ever that vectors are still to be moved."""
    if not real:
        return
    await fill(db)
    options: Any = {"database": db.parts.data_backend.name, "signing_key": "test-key"}
    ended: list[int] = []

    async def stays(self: Any, *rest: Any) -> None:
        """The process ended here."""

    with monkeypatch.context() as patch:
        patch.setattr(AsyncMove, "run", stays)
        await db.rebuild(Herb.vec, reencode=True)
    async with connect_async(mongodb_uri, vector_database=f"lancedb://{tmp_path / 'there'}", **options) as there:
        backend = there.parts.data_backend
        read = backend.read

        async def reads(plan: Any, **rest: Any) -> Any:
            found = await read(plan, **rest)
            registering = plan.collection == INDEXES and isinstance(plan.filter["_id"], str)
            if not ended and registering and any(one.get("moving") for one in found):
                ended.append(1)
                await db.rebuild(Herb.vec, reencode=True)
            return found

        monkeypatch.setattr(backend, "read", reads)
        assert heater(3) == await search(there)
        assert [1] == ended
        monkeypatch.undo()
        assert [] == await read(Find(COLLECTION, {"kind": "moving"}))
        assert rows(3) == await stored(db)
        for one in (db, there):
            assert heater(3) == await search(one)
            assert (await one.check(Herb)).ok


async def test_records_that_were_noted_are_not_read_again(
    db: AsyncDB, real: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction reads what was recorded since it was looked last, not all that was kept meanwhile."""
    if not real:
        return
    await fill(db)
    stage, look = AsyncStaging.stage, AsyncSwitch._look  # pyright: ignore[reportPrivateUsage]
    looks: list[int] = []

    async def stages(self: Any, *rest: Any) -> None:
        if not looks[1:]:
            for text in ["other", TEXTS[1]] * 5:
                async with db.begin() as session:
                    (await session.get_one(Herb, 1)).text = text
            assert (await db.check(Herb)).problems[1:] == []  # which applies what was recorded
        await stage(self, *rest)

    async def looked(self: Any, *rest: Any, **options: Any) -> Any:
        found = await look(self, *rest, **options)
        looks.append(len(found.records))
        return found

    monkeypatch.setattr(AsyncStaging, "stage", stages)
    monkeypatch.setattr(AsyncSwitch, "_look", looked)
    await db.rebuild(Herb.vec, reencode=True)
    assert looks[1] >= 10
    assert looks[-1] == 0
    assert rows(3) == await stored(db)
    assert (await db.check(Herb)).ok


class Tagged(Document):
    __collection__ = "reencode_tagged"

    id: Mapped[int] = field(primary_key=True)
    tags: Mapped[dict[str, UUID]]
    vec: Mapped[np.ndarray | None] = vector(3, source="tags", model="tags")


class Tags:
    """Counts them."""

    def __init__(self, weight: int) -> None:
        self.weight = weight

    def encode(self, values: Sequence[Any]) -> np.ndarray:
        return np.array([[len(value), self.weight, 1] for value in values], np.float32)


async def test_sources_of_other_types(db: AsyncDB) -> None:
    """Whatever can be stored can be compared with what was encoded."""
    await db.add(Model("tags", Tags(1), fingerprint="1"))
    async with db.begin() as session:
        session.add(Tagged(id=1, tags={"a": UUID(int=1), "b": UUID(int=2)}))
    await db.add(Model("tags", Tags(2), fingerprint="2"))
    await db.rebuild(Tagged.vec, reencode=True)
    (found,) = await db.parts.data_backend.read(Find("reencode_tagged"))
    assert [2, 2, 1] == np.frombuffer(found["vec"], "<f4", offset=2).tolist()


async def test_one_that_ends_without_transactions(db: AsyncDB, real: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check says that vectors of two versions may be there, until another call has put all in place."""
    if real:
        return
    await fill(db)
    put, calls = AsyncReencoding._put, list[int]()  # pyright: ignore[reportPrivateUsage]

    async def ends(self: Any, *rest: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        await put(self, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(AsyncReencoding, "_put", ends)
        with pytest.raises(KeyboardInterrupt):
            await db.rebuild(Herb.vec, reencode=True)
    assert [rows(3)[:4], rows(1)[4:]] == [(await stored(db))[:4], (await stored(db))[4:]]
    assert ["may not be of version 1" in problem for problem in (await db.check(Herb)).problems] == [True]
    await db.rebuild(Herb.vec, reencode=True)
    assert rows(3) == await stored(db)
    assert (await db.check(Herb)).ok


@pytest.mark.parametrize("first", [False, True])
async def test_a_table_that_is_built_while_the_version_is_switched(
    db: AsyncDB, real: bool, mongodb_uri: str, tmp_path: Path, first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is built again, of the new vectors, whether a user has it built or the first search of a machine."""
    if not real:
        return
    await fill(db)
    options: Any = {"database": db.parts.data_backend.name, "signing_key": "test-key"}
    async with connect_async(mongodb_uri, vector_database=f"lancedb://{tmp_path / 'there'}", **options) as there:
        assert first or heater(1) == await search(there)
        builder, append, calls = there.vectors.copies, AsyncTableBuilds._append, list[int]()  # pyright: ignore[reportPrivateUsage]

        async def appends(self: Any, *rest: Any) -> float:
            norm = await append(self, *rest)
            if self is builder and not calls:
                calls.append(1)
                await db.rebuild(Herb.vec, reencode=True)
            return norm

        monkeypatch.setattr(AsyncTableBuilds, "_append", appends)
        if not first:
            await there.rebuild(Herb.vec)
        assert heater(3) == await search(there)
        assert [1] == calls
        for one in (db, there):
            assert (await one.check(Herb)).ok


async def test_another_engine_that_comes_while_the_version_is_switched(
    db: AsyncDB, real: bool, mongodb_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits until that is through: nobody would tell it that what it has built is of the old version."""
    if not real:
        return
    await fill(db)
    monkeypatch.setattr(vector_records, "_REGISTERING", 3)
    options: Any = {"database": db.parts.data_backend.name, "signing_key": "test-key"}
    publish, errors = AsyncSwitch._publish, list[BaseException]()  # pyright: ignore[reportPrivateUsage]
    async with connect_async(mongodb_uri, vector_database=f"lancedb://{tmp_path / 'there'}", **options) as there:

        async def publishes(self: Any, *rest: Any) -> None:
            await publish(self, *rest)
            if not errors:
                with pytest.raises(WriteError) as raised:
                    await search(there)
                errors.append(raised.value)

        monkeypatch.setattr(AsyncSwitch, "_publish", publishes)
        await db.rebuild(Herb.vec, reencode=True)
        assert has_error_label(errors[0], "TransientTransactionError")
        for one in (db, there):
            assert heater(3) == await search(one)
            assert (await one.check(Herb)).ok
