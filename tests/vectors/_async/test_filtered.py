"""Filters of every selectivity and kind, by every strategy, answer as brute force does over the documents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from superorm.codec.keys import encode_key
from superorm.compile.plan import Find
from superorm.unitofwork.writes import Insert, Update, UpdateOp
from superorm.vectors import planning
from tests.vectors._async.test_traces import Pause, nothing
from tests.vectors._async.world import AsyncWorld
from tests.vectors.brute import DIM, brute, stored

ROWS = 1_200
FILTERS: dict[str, dict[str, Any]] = {
    "50": {"r": {"$lt": 500}},
    "10": {"r": {"$lt": 100}},
    "1": {"r": {"$lt": 10}},
    "0.1": {"r": 7},
    "0": {"r": -1},
    "far": {"far": True},
    "regex": {"word": {"$regex": "^W[0-4].*7$", "$options": "i"}},
    "elemMatch": {"parts": {"$elemMatch": {"n": {"$gt": 2}, "of": "b"}}},
    "both": {"$or": [{"word": {"$regex": "^w9"}}, {"parts": {"$elemMatch": {"n": 4, "of": {"$ne": "a"}}}}]},
}


def documents() -> list[dict[str, Any]]:
    """Documents with a vector and something to filter by; half of them are far from the first."""
    rng = np.random.default_rng(29)
    vectors = rng.standard_normal((ROWS, DIM)).astype("f4")
    vectors[6::7] = vectors[5::7][: len(vectors[6::7])]
    numbers = rng.permutation(1_000).tolist() + rng.integers(0, 1_000, ROWS - 1_000).tolist()
    far = vectors @ vectors[0] < 0
    return [
        {
            "_id": i,
            "v": stored(vectors[i]),
            "r": numbers[i],
            "far": bool(far[i]),
            "word": f"w{numbers[i]:03}",
            "parts": [{"n": int(n), "of": "ab"[int(n + i) % 2]} for n in rng.integers(0, 5, 2)],
        }
        for i in range(ROWS)
    ]


def vector(i: int) -> np.ndarray:
    """The vector of one of them."""
    return np.frombuffer(DOCUMENTS[i]["v"], "<f4", offset=2)


DOCUMENTS = documents()


@pytest_asyncio.fixture
async def filled(world: AsyncWorld) -> AsyncWorld:
    """All documents, some of them pending, some with another vector than was applied."""
    await world.write([Insert("things", DOCUMENTS)], [document["_id"] for document in DOCUMENTS])
    await world.indexes.apply(world.spec)
    return world


@pytest.fixture(params=[1_000, 20], ids=["as it is", "little is few"])
def few(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many documents are few; with 20 the larger shares take the ways of large collections."""
    monkeypatch.setattr(planning, "FEW", request.param)
    few: int = request.param
    return few


async def test_every_selectivity(filled: AsyncWorld, few: int) -> None:
    """k of them whenever k match, the nearest, applied or pending; and the strategy is the one planned."""
    strategies: set[str] = set()
    for changed in (False, True):
        if changed:
            await filled.put({i: -vector(i) for i in range(0, ROWS, 40)})
            await filled.put({i: vector(0) for i in range(1, ROWS, 400)})
        for name, filter in FILTERS.items():
            matching = filled.plain.things.count_documents(filter)
            for k in (1, 10, 30):
                hits = await filled.agrees(vector(0), k, filter=filter)
                assert min(k, matching) == len(hits)
                explained = hits.explanation
                strategies.add(explained.strategy)
                assert (explained.matched, explained.more) in [(matching, False), (few, True), (60, True)], name
                assert str(explained.matched) in explained.why
                assert explained.held in (None, ROWS)
    in_memory = await (await filled.indexes.copies.view(filled.spec, None, outside=True)).held() is not None
    expected = {"gather", "mask"} if in_memory else {"gather"}
    assert (expected if few == 1_000 else expected | {"over-fetch"}) == strategies


async def test_options(filled: AsyncWorld, few: int) -> None:
    """leave_out, min_score and projections go with filters."""
    for filter in FILTERS.values():
        expected = [key for key, _ in filled.expected(vector(0), 11, filter) if key != 0][:10]
        assert expected == [
            hit.key for hit in await filled.search(vector(0), 10, filter=filter, leave_out=encode_key(0))
        ]
        scored = filled.expected(vector(0), ROWS, filter)
        for least in (1.1, 0.9, 0.5):
            keys = [key for key, score in scored if score >= least][:10]
            hits = await filled.search(vector(0), 10, filter=filter, min_score=least)
            assert keys == [hit.key for hit in hits]
        hits = await filled.search(vector(0), 3, filter=filter, projection={"r": 1})
        assert [{"_id": hit.key, "r": DOCUMENTS[hit.key]["r"]} for hit in hits] == [hit.document for hit in hits]


@pytest.mark.parametrize("metric", ["dot", "euclidean"])
async def test_metrics(filled: AsyncWorld, few: int, metric: Any) -> None:
    """Each metric, by rows gathered and masked."""
    from attrs import evolve

    filled.spec = evolve(filled.spec, metric=metric)
    await filled.indexes.rebuild(filled.spec)
    for filter in FILTERS.values():
        await filled.agrees(vector(3), 10, filter=filter)


async def test_many_equal_vectors(world: AsyncWorld, few: int) -> None:
    """Ties among more equal rows than are asked for come in the order of their keys."""
    equal = [{"_id": i, "v": stored(np.ones(DIM)), "r": i % 2} for i in range(300)]
    await world.write([Insert("things", equal)], [document["_id"] for document in equal])
    await world.indexes.apply(world.spec)
    for filter in ({"r": 1}, {"_id": {"$gte": 200}}, {"_id": {"$in": [7, 3, 250]}}):
        await world.agrees(np.ones(DIM), 5, filter=filter)


async def test_matching_documents_without_a_vector(world: AsyncWorld, few: int) -> None:
    """Documents that match but have no vector, or none that can be ranked, take no place."""
    odd: list[Any] = [None, [], stored(np.zeros(DIM)), stored(np.full(DIM, np.nan)), stored(np.ones(DIM + 1))]
    given = [{"_id": i, "v": odd[i % 5] if i % 3 else stored(vector(i)), "r": i % 2} for i in range(200)]
    await world.write([Insert("things", given)], [document["_id"] for document in given])
    for _ in range(2):
        for filter in ({"r": 1}, {"_id": {"$lt": 9}}, {"_id": {"$in": [1, 2, 4]}}):
            await world.agrees(vector(0), 10, filter=filter)
        await world.indexes.apply(world.spec)


@pytest.mark.parametrize("when", ["listed", "before", "after"])
@pytest.mark.parametrize("applied", [False, True])
async def test_writes_meanwhile(filled: AsyncWorld, few: int, when: str, applied: bool) -> None:
    """Documents that begin or cease to match, move or go, change no snapshot.

    That is after the matching ones were listed, where memory holds the index, or before or after the engine is asked.
    """
    transactions = (await filled.backend.capabilities()).transactions
    copies: Any = filled.indexes.copies
    await filled.agrees(vector(0), 10)
    view, key = copies.view, 0
    for filter in (FILTERS["50"], FILTERS["10"], FILTERS["1"], FILTERS["far"]):
        (first, _), (second, _), (third, _) = filled.expected(vector(0), 3, filter)
        key += 10_000

        async def meanwhile(first: int = first, second: int = second, third: int = third, key: int = key) -> None:
            await filled.put({first: vector(0)}, r=5_000, far=None)
            await filled.put({second: -vector(0)})
            await filled.remove(third)
            await filled.put({key: vector(0)}, r=7, far=True)
            if applied:
                await filled.indexes.apply(filled.spec)
                await filled.search(vector(0), 3)

        hooks = [{"listed": nothing, "before": nothing, "after": nothing, when: meanwhile}]

        async def hooked(*args: Any, hooks: list[Any] = hooks, **names: Any) -> Any:
            first = hooks.pop() if hooks else {"listed": nothing}
            await first.pop("listed")()
            seen = await view(*args, **names)
            return Pause(seen, **first) if first else seen

        in_snapshot = transactions and (when != "listed" or copies.resident(filled.spec) is not None)
        expected = [found for found, _ in filled.expected(vector(0), 10, filter)]
        copies.view = hooked
        hits = await filled.search(vector(0), 10, filter=filter)
        copies.view = view
        if not in_snapshot:
            expected = [found for found, _ in filled.expected(vector(0), 10, filter)]
        assert expected == [hit.key for hit in hits]
        await filled.agrees(vector(0), 10, filter=filter)


@pytest.mark.parametrize("pair", ["memory-mongod", "lancedb-mongod", "lancescan-mongod"])
async def test_in_a_transaction(make_world: Callable[[str], AsyncWorld], few: int, pair: str) -> None:
    """A transaction's own changes count, of vectors and of what is filtered by; those that others commit do not."""
    world = make_world(pair)
    await world.indexes.ensure(world.spec)
    await world.write([Insert("things", DOCUMENTS)], [document["_id"] for document in DOCUMENTS])
    await world.indexes.apply(world.spec)
    async with world.backend.transaction() as session:
        changes = [
            UpdateOp(q={"_id": 0}, u={"$set": {"r": 5_000, "far": True}}),
            UpdateOp(q={"_id": 1}, u={"$set": {"r": 7, "v": stored(vector(0))}}),
            UpdateOp(q={"_id": 2}, u={"$set": {"r": 7}}),
        ]
        (record,) = world.indexes.records({world.spec: [1]})
        for write in (Update("things", changes), record):
            await world.backend.write(write, session=session)
        for filter in (FILTERS["50"], FILTERS["10"], FILTERS["0.1"], FILTERS["far"]):
            for step in range(2):
                hits = await world.search(vector(0), 10, filter=filter, session=session)
                own = await world.backend.read(Find("things", filter, sort=[("_id", 1)]), session=session)
                assert [key for key, _ in brute(own, vector(0), 10)] == [hit.key for hit in hits]
                if step == 0:
                    await world.put({int(hits[-1].key) if hits[-1].key > 2 else 3: None}, r=5_001)
                    await world.indexes.apply(world.spec)
                    await world.agrees(vector(0), 10, filter=filter)


@pytest.mark.parametrize("pair", ["memory-mongod", "lancedb-mongod"])
async def test_very_few_are_read_at_once(make_world: Callable[[str], AsyncWorld], pair: str) -> None:
    """Where the last search found very few, the next takes one read; it is right too where many match."""
    world = make_world(pair)
    await world.indexes.ensure(world.spec)
    await world.write([Insert("things", DOCUMENTS)], [document["_id"] for document in DOCUMENTS])
    await world.indexes.apply(world.spec)
    await world.agrees(vector(0), 10, filter=FILTERS["50"])
    for filter in (FILTERS["1"], FILTERS["0.1"], FILTERS["0"]):
        await world.agrees(vector(0), 10, filter=filter)
        hits = await world.agrees(vector(0), 10, filter=filter)
        assert (1, 0) == (len(hits.explanation.reads), hits.explanation.calls)
        (key,) = await world.search(vector(1), 1)
        await world.put({key.key: -vector(1)}, r=7)
        assert 1 == len((await world.agrees(vector(0), 10, filter=filter)).explanation.reads)
    for filter in (FILTERS["10"], FILTERS["10"], FILTERS["0"], FILTERS["50"], FILTERS["far"]):
        await world.agrees(vector(0), 10, filter=filter)
    hits = await world.search(vector(0), 10, filter=FILTERS["0.1"], projection={"r": 1})
    assert all({"_id": hit.key, "r": 7} == hit.document for hit in hits)


async def test_random_writes(filled: AsyncWorld, few: int) -> None:
    """Whatever is written between searches, each filter gives what matches now, by its vector of now."""
    rng = np.random.default_rng(31)
    names = list(FILTERS)
    for step in range(40):
        keys = rng.integers(0, ROWS + 50, 3).tolist()
        if step % 4 == 0:
            await filled.remove(*keys)
        else:
            number = int(rng.integers(0, 1_000))
            moved = {key: rng.standard_normal(DIM) for key in keys}
            await filled.put(moved, r=number, word=f"w{number:03}", far=bool(step % 2))
        if step % 5 == 0:
            await filled.indexes.apply(filled.spec)
        filter = FILTERS[names[step % len(names)]]
        hits = await filled.search(rng.standard_normal(DIM), 5, filter=filter)
        assert len(hits) == min(5, filled.plain.things.count_documents({"$and": [filter, {"v": {"$ne": None}}]}))
        await filled.agrees(vector(step), 5, filter=filter)
    assert [] == await filled.indexes.check(filled.spec)
