"""Every engine over every backend answers as brute force does over the documents."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from attrs import evolve
from bson import Decimal128, Int64, MaxKey, MinKey, ObjectId, Timestamp

from superorm._async.vector_search import AsyncVectorSearch
from superorm._io import aio
from superorm.codec.keys import encode_key
from superorm.exc import StatementError, VectorError
from superorm.schema.vector_spec import VectorSpec
from superorm.unitofwork.writes import Insert
from superorm.vectors.records import Look
from superorm.vectors.request import SearchRequest
from tests.vectors._async.world import AsyncWorld
from tests.vectors.brute import DIM, stored


def random_vectors(count: int, seed: int = 0) -> np.ndarray:
    """Random vectors, of which every seventh repeats the one before."""
    vectors = np.random.default_rng(seed).standard_normal((count, DIM)).astype("f4")
    vectors[6::7] = vectors[5::7][: len(vectors[6::7])]
    return vectors


async def test_nearest_first(world: AsyncWorld) -> None:
    """k nearest, nearest first, ties by _id, with scores and whole documents; applied or not."""
    vectors = random_vectors(100)
    await world.put(dict(enumerate(vectors)), word="x")
    for _ in range(2):
        for i in range(5, 25, 3):
            hits = await world.agrees(vectors[i], 7)
            assert world.plain.things.find_one({"_id": hits[0].key}) == hits[0].document | {"v": stored(vectors[i])}
        await world.indexes.apply(world.spec)


@pytest.mark.parametrize("metric", ["dot", "euclidean"])
async def test_metrics(world: AsyncWorld, metric: Any) -> None:
    """Dot product and Euclidean distance rank and score as they should."""
    world.spec = evolve(world.spec, path="v", metric=metric)
    await world.indexes.rebuild(world.spec)
    vectors = random_vectors(60, 3) * 5
    await world.put(dict(enumerate(vectors)))
    for _ in range(2):
        await world.agrees(vectors[3], 9)
        far = world.expected(vectors[3], 30)
        for number in (0, 4, 29):
            least = far[number][1] - 1e-9
            expected = [key for key, score in world.expected(vectors[3], 60) if score >= least]
            assert expected == [hit.key for hit in await world.search(vectors[3], 60, min_score=least)]
        await world.indexes.apply(world.spec)


@pytest.mark.parametrize("part", ["at once", "one by one"])
async def test_dot_products_that_cancel(world: AsyncWorld, part: str) -> None:
    """Long vectors at right angles to the query rank by what is left when their products cancel."""
    world.spec = evolve(world.spec, metric="dot")
    await world.indexes.rebuild(world.spec)
    rng = np.random.default_rng(2)
    vectors = rng.standard_normal((400, DIM)) * 1e4
    vectors -= vectors.mean(axis=1, keepdims=True)
    vectors = (vectors + rng.standard_normal((400, 1)) * 1e-4).astype("f4")
    if part == "at once":
        await world.put(dict(enumerate(vectors)))
        await world.indexes.rebuild(world.spec)
    else:
        for start in range(0, 400, 200):
            await world.put(dict(enumerate(vectors[start : start + 200], start)))
            await world.indexes.apply(world.spec)
    for factor in range(1, 8):
        await world.agrees(np.full(DIM, factor / 3, "f4"), 10)


async def test_long_keys(world: AsyncWorld) -> None:
    """A commit whose keys together are too long for one record, or one statement, is found and applied."""
    vectors = random_vectors(180, 23)
    keys = [f"{n:03}" + "z" * 100_000 for n in range(180)]
    await world.put(dict(zip(keys, vectors, strict=True)))
    for _ in range(2):
        hits = await world.agrees(vectors[7], 4)
        assert keys[7] == hits[0].key
        await world.indexes.apply(world.spec)
    await world.remove(*keys[:9])
    await world.indexes.apply(world.spec)
    await world.agrees(vectors[7], 4)
    assert [] == await world.indexes.check(world.spec)


async def test_changes_are_seen_at_once(world: AsyncWorld) -> None:
    """Inserts, updates, deletes and re-inserts answer from their commit on."""
    rng = np.random.default_rng(1)
    query = rng.standard_normal(DIM)
    for step in range(60):
        key = int(rng.integers(12))
        if rng.random() < 0.3:
            await world.remove(key)
        else:
            await world.put({key: rng.standard_normal(DIM)})
        if step % 7 == 3:
            await world.indexes.apply(world.spec)
        await world.agrees(query, 4)


async def test_vectors_that_cannot_be_ranked(world: AsyncWorld) -> None:
    """Missing, zero, not finite and wrongly sized vectors are left out, before and after they are applied."""
    good = np.arange(1, DIM + 1)
    await world.put({1: good, 2: None, 3: np.zeros(DIM), 4: np.full(DIM, np.nan), 5: np.ones(DIM + 1), 6: -good})
    for _ in range(2):
        assert [1, 6] == [hit.key for hit in await world.agrees(good, 10)]
        await world.indexes.apply(world.spec)
    await world.put({1: np.zeros(DIM)})
    await world.indexes.apply(world.spec)
    assert [6] == [hit.key for hit in await world.agrees(good, 10)]


async def test_arrays_of_doubles(world: AsyncWorld) -> None:
    """Vectors that other programs stored as arrays are found."""
    world.plain.things.insert_many([{"_id": 1, "v": [1.0] * DIM}, {"_id": 2, "v": [1.0, -1.0] * (DIM // 2)}])
    await world.indexes.rebuild(world.spec)
    assert [1, 2] == [hit.key for hit in await world.agrees(np.ones(DIM), 5)]


async def test_keys_of_every_type(world: AsyncWorld) -> None:
    """Keys of any BSON type are found and deleted."""
    keys: list[Any] = ["a'b", "", 7, 2.5, ObjectId()]
    if (await world.backend.capabilities()).transactions:  # mongomock does not take or find the others
        keys += [Int64(1 << 40), Decimal128("0.1"), uuid4(), b"\x00x", None, datetime(2020, 1, 2, tzinfo=UTC)]
        keys += [True, {"a": 1, "b": [1, 2]}, {"a": 1.5}]
    vectors = random_vectors(len(keys), 5)
    for key, vector in zip(keys, vectors, strict=True):
        await world.write([insert(key, vector)], [key])
    for _ in range(2):
        for vector in vectors:
            hits = await world.search(vector, 1)
            assert np.array_equal(np.frombuffer(hits[0].document["v"], "<f4", offset=2), vector)
        await world.indexes.apply(world.spec)
    for key in keys:
        await world.remove(key)
    assert [] == await world.search(vectors[0], 5)


def insert(key: Any, vector: Any) -> Insert:
    """The insert of one document."""
    return Insert("things", [{"_id": key, "v": stored(vector)}])


async def test_ties_in_the_servers_order(real: AsyncWorld) -> None:
    """Equal vectors come in the server's order of their keys, of mixed types too."""
    keys: list[Any] = [True, "b", "a", 3, 2.5, ObjectId(), {"a": 1}, {"a": "x"}, b"zz", b"a", Decimal128("2.7"), -1]
    keys += [None, False, "", uuid4(), uuid4(), Int64(1 << 60), Decimal128("NaN"), float("-inf"), {}, {"a": [1]}]
    keys += [datetime(2020, 1, 2, tzinfo=UTC), datetime(1950, 1, 2, tzinfo=UTC), Timestamp(3, 1), MinKey(), MaxKey()]
    await real.write([insert(key, np.ones(DIM)) for key in keys], keys)
    for _ in range(2):
        for k in (1, 8, 20, len(keys) + 1):
            await real.agrees(np.ones(DIM), k)
        await real.indexes.apply(real.spec)


@pytest.mark.parametrize("share", [0.5, 0.05, 0.004])
async def test_filters(world: AsyncWorld, share: float) -> None:
    """With a filter, always k results whenever k match, however few match."""
    vectors = random_vectors(1000, 7)
    marked = np.random.default_rng(8).random(1000) < share
    for mark in (True, False):
        await world.put({i: vectors[i] for i in np.flatnonzero(marked == mark).tolist()}, mark=mark)
    await world.indexes.apply(world.spec)
    hits = await world.agrees(vectors[0], 10, filter={"mark": True})
    assert min(10, int(marked.sum())) == len(hits)
    await world.put({int(np.flatnonzero(marked)[0]): vectors[0]}, mark=True)
    await world.put({0: vectors[0]}, mark=False)
    await world.agrees(vectors[0], 10, filter={"mark": True})


async def test_options(world: AsyncWorld) -> None:
    """leave_out, min_score and projections."""
    vectors = random_vectors(50, 11)
    await world.put(dict(enumerate(vectors)), a=1, b={"c": 2})
    for _ in range(2):
        expected = [key for key, _ in world.expected(vectors[3], 6) if key != 3]
        assert expected == [hit.key for hit in await world.search(vectors[3], 5, leave_out=encode_key(3))]
        third = world.expected(vectors[3], 3)[2]
        assert 3 == len(await world.search(vectors[3], 20, min_score=third[1] - 1e-6))
        hits = await world.search(vectors[3], 2, projection={"b.c": 1})
        assert [{"_id": hit.key, "b": {"c": 2}} for hit in hits] == [hit.document for hit in hits]
        hits = await world.search(vectors[3], 2, projection={"v": 0})
        assert [{"_id": hit.key, "a": 1, "b": {"c": 2}} for hit in hits] == [hit.document for hit in hits]
        hits = await world.search(vectors[3], 2, projection={"v": 1})
        assert {"_id", "v"} == set(hits[0].document)
        await world.indexes.apply(world.spec)


async def test_options_without_an_engine(world: AsyncWorld) -> None:
    """Where the documents alone are ranked, the one left out is not among them, and k others are."""
    vectors = random_vectors(50, 12)
    await world.put(dict(enumerate(vectors)))
    unasked: Any = SimpleNamespace(unable="it is gone", in_server=False, look=Look.of([], "none"))
    for k in (1, 5, 49, 60):
        request = SearchRequest(world.spec, vectors[3], k, leave_out=encode_key(3), min_score=0.3)
        hits = await AsyncVectorSearch(world.backend, "none", unasked, request, None).run(documents_only=True)
        expected = [key for key, score in world.expected(vectors[3], 50) if key != 3 and score >= 0.3][:k]
        assert expected == [hit.key for hit in hits]


async def test_many_equal_vectors(world: AsyncWorld) -> None:
    """Among many equal vectors the first by _id are found."""
    await world.put(dict.fromkeys(range(200), np.ones(DIM)))
    await world.indexes.apply(world.spec)
    assert list(range(5)) == [hit.key for hit in await world.agrees(np.ones(DIM), 5)]


async def test_many_pending(world: AsyncWorld) -> None:
    """Thousands of pending keys, and many records, change no answer; a search has them applied."""
    vectors = random_vectors(3000, 13)
    await world.put({i: vectors[i] for i in range(2500)})
    await world.agrees(vectors[5], 10)
    for i in range(2500, 2560):
        await world.put({i: vectors[i]})
    await world.agrees(vectors[5], 10)
    pending = {"kind": "record", "seq": {"$exists": False}}
    for _ in range(500):
        if world.plain["_superorm_records"].count_documents(pending) < 50:
            break
        await aio.sleep(0.02)
    assert world.plain["_superorm_records"].count_documents(pending) < 50
    await world.agrees(vectors[5], 10)


async def test_empty(world: AsyncWorld) -> None:
    """An empty collection answers with nothing."""
    assert [] == await world.search(np.ones(DIM), 5)
    assert [] == await world.search(np.ones(DIM), 5, filter={"a": 1})


async def test_check(world: AsyncWorld) -> None:
    """A check finds vectors changed behind the protocol's back, and a rebuild mends them."""
    vectors = random_vectors(20, 17)
    await world.put(dict(enumerate(vectors)))
    await world.search(vectors[0])
    assert [] == await world.indexes.check(world.spec)
    world.plain.things.update_one({"_id": 1}, {"$set": {"v": stored(-vectors[1])}})
    world.plain.things.delete_one({"_id": 2})
    world.plain.things.insert_one({"_id": 99, "v": stored(vectors[2])})
    found = {(problem.key, problem.kind) for problem in await world.indexes.check(world.spec)}
    assert {(1, "different"), (2, "extra"), (99, "missing")} == found
    done: list[int] = []
    await world.indexes.rebuild(world.spec, lambda part, total, what: done.append(part))
    assert 20 == done[-1]
    assert [] == await world.indexes.check(world.spec)
    await world.agrees(vectors[3], 20)


async def test_two_processes(make_world: Any) -> None:
    """What one process commits and applies, another one's handle finds."""
    for pair in ("memory-mongod", "lancedb-mongod"):
        one, two = make_world(pair), make_world(pair)
        vectors = random_vectors(30, 19)
        for i in range(0, 30, 3):
            await one.put({i: vectors[i], i + 1: vectors[i + 1]})
            await two.agrees(vectors[i], 4)
            await two.put({i + 2: vectors[i + 2]})
            await (one if i % 2 else two).indexes.apply(one.spec)
            await one.agrees(vectors[i + 2], 4)


def test_bad_queries() -> None:
    """A query of the wrong shape, not finite or without direction is refused before anything is read."""
    spec = VectorSpec("things", "v", 3)
    for query in ([1, 2], [[1, 2, 3]], [1, float("nan"), 0], [0, 0, 0]):
        with pytest.raises(VectorError, match=r"things\.v"):
            SearchRequest(spec, np.asarray(query, np.float32))
    with pytest.raises(StatementError):
        SearchRequest(spec, np.ones(3, np.float32), k=0)


async def test_no_record_stays_open_where_writing_it_was_interrupted(
    world: AsyncWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interruption that comes when the record was written leaves it done, and nothing to be released by a check."""
    write = world.backend.write

    async def interrupted(what: Any, **options: Any) -> Any:
        result = await write(what, **options)
        if isinstance(what, Insert):
            raise KeyboardInterrupt
        return result

    with monkeypatch.context() as patch:
        patch.setattr(world.backend, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            async with world.indexes.recording({world.spec: [1]}):
                raise AssertionError("not reached")
    assert 0 == world.plain["_superorm_records"].count_documents({"open": True})
    assert [] == await world.indexes.check(world.spec)
