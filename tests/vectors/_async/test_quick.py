"""Searches that ask memory before they read anything: one round trip, and never another answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from superorm.codec.keys import encode_key
from tests.vectors._async.world import AsyncWorld
from tests.vectors.brute import DIM

VECTORS = np.random.default_rng(9).standard_normal((40, DIM)).astype("f4")


@pytest_asyncio.fixture
async def calm(real: AsyncWorld) -> AsyncWorld:
    """Thirty documents, applied, and in memory."""
    await real.put(dict(enumerate(VECTORS[:30])))
    await real.indexes.apply(real.spec)
    await real.agrees(VECTORS[0], 5)
    return real


def reads(world: AsyncWorld) -> list[Any]:
    """What is sent to the server from now on."""
    backend: Any = world.backend
    read, plans = backend.read, list[Any]()

    async def counted(plan: Any, **names: Any) -> Any:
        plans.append(plan)
        return await read(plan, **names)

    backend.read = counted
    return plans


def paused(world: AsyncWorld, meanwhile: Callable[[], Awaitable[Any]]) -> None:
    """Have something done between the next search's asking memory and its reading."""
    backend: Any = world.backend
    read = backend.read

    async def hooked(plan: Any, **names: Any) -> Any:
        backend.read = read
        await meanwhile()
        return await read(plan, **names)

    backend.read = hooked


async def test_one_round_trip(calm: AsyncWorld) -> None:
    """Where nothing is pending documents and records come in one aggregate, for hits of any number."""
    for k in (1, 5, 29, 30, 31, 50):
        plans = reads(calm)
        hits = await calm.agrees(VECTORS[3], k)
        assert 1 == len(plans)
        assert (0, 1) == (hits.explanation.pending, len(hits.explanation.reads))
    whole = calm.plain.things.find_one({"_id": 3})
    assert whole is not None
    assert whole["_id"] == (await calm.search(VECTORS[3], 1))[0].document["_id"]


@pytest.mark.parametrize("applied", [False, True])
async def test_a_commit_before_the_reading(calm: AsyncWorld, applied: bool) -> None:
    """What was committed, and applied, after memory was asked is found: the hits are those of one snapshot."""

    async def meanwhile() -> None:
        await calm.put({3: -VECTORS[3], 31: VECTORS[3], 4: None})
        if applied:
            await calm.indexes.apply(calm.spec)

    paused(calm, meanwhile)
    assert 31 == (await calm.agrees(VECTORS[3], 5))[0].key
    for _ in range(6):
        assert 31 == (await calm.agrees(VECTORS[3], 5))[0].key
    assert [] == await calm.indexes.check(calm.spec)


async def test_an_older_snapshot(calm: AsyncWorld) -> None:
    """Where another search brought memory further after the reading began, the older state is still answered."""
    expected = [key for key, _ in calm.expected(VECTORS[3], 5)]

    async def meanwhile() -> None:
        await calm.put({3: -VECTORS[3], 32: VECTORS[3]})
        await calm.agrees(VECTORS[3], 5)
        await calm.indexes.apply(calm.spec)
        await calm.agrees(VECTORS[3], 5)

    async with calm.backend.transaction() as session:
        assert expected == [hit.key for hit in await calm.search(VECTORS[3], session=session)]
        await meanwhile()
        assert expected == [hit.key for hit in await calm.search(VECTORS[3], session=session)]
    for _ in range(6):
        await calm.agrees(VECTORS[3], 5)
    paused(calm, meanwhile)
    assert 32 == (await calm.agrees(VECTORS[3], 5))[0].key


async def test_a_rebuild_before_the_reading(calm: AsyncWorld) -> None:
    """What was asked of memory does not count when the index was built anew meanwhile."""

    async def meanwhile() -> None:
        calm.plain.things.update_one({"_id": 3}, {"$set": {"v": None}})
        await calm.indexes.rebuild(calm.spec)

    paused(calm, meanwhile)
    assert 3 not in [hit.key for hit in await calm.agrees(VECTORS[3], 5)]


async def test_documents_that_other_programs_removed(calm: AsyncWorld) -> None:
    """Where documents of candidates are gone without a record, others are looked for."""
    calm.plain.things.delete_many({"_id": {"$in": [3, 4]}})
    for _ in range(6):
        await calm.agrees(VECTORS[3], 5)


async def test_ties_beyond_the_last(calm: AsyncWorld) -> None:
    """Equal vectors beyond those read are taken into account: ties go by _id."""
    await calm.put(dict.fromkeys((50, 49, 48, 47, 46, 45), VECTORS[0]))
    await calm.indexes.apply(calm.spec)
    for _ in range(6):
        await calm.agrees(VECTORS[0], 3)


async def test_scores_and_the_document_itself(calm: AsyncWorld) -> None:
    """The least score, the document left out and the projection hold in one round trip or more."""
    for _ in range(2):
        best = await calm.search(VECTORS[3], 6)
        least = (best[3].score + best[4].score) / 2
        assert [hit.key for hit in best[:4]] == [h.key for h in await calm.search(VECTORS[3], 6, min_score=least)]
        assert [hit.key for hit in best[1:]] == [
            h.key for h in await calm.search(VECTORS[3], 5, leave_out=encode_key(3))
        ]
        shown = await calm.search(VECTORS[3], 2, projection={"_id": 1})
        assert [{"_id": hit.key} for hit in best[:2]] == [hit.document for hit in shown]


async def test_news_take_another_round_trip(calm: AsyncWorld) -> None:
    """What others wrote is read with the whole documents, once, and memory is brought forward by it."""
    for step in range(8):
        await calm.put({step: -VECTORS[step], 30 + step: VECTORS[30 + step]})
        plans = reads(calm)
        hits = await calm.search(VECTORS[30 + step], 5)
        assert (30 + step, 2, 2) == (hits[0].key, len(plans), hits.explanation.pending)
        if step % 2:
            await calm.indexes.apply(calm.spec)
        plans = reads(calm)
        hits = await calm.agrees(VECTORS[30 + step], 5)
        assert (1, 0) == (len(plans), hits.explanation.pending)


async def test_the_nearest_moved_away(calm: AsyncWorld) -> None:
    """Where many of the candidates changed, those behind them move up, few or many."""
    for many in (1, 4, 20):
        nearest = [key for key, _ in calm.expected(VECTORS[9], many)]
        await calm.put(dict.fromkeys(nearest[::2], -VECTORS[9]) | dict.fromkeys(nearest[1::2]))
        await calm.agrees(VECTORS[9], 5)
    await calm.put({key: VECTORS[key % 40] for key in range(500)})
    await calm.agrees(VECTORS[9], 5)
    await calm.agrees(VECTORS[9], 5)


async def test_memory_that_went_on(calm: AsyncWorld) -> None:
    """Others may bring memory forward between its answer and the reading, some steps or many."""
    for steps in (1, 3, 40):

        async def meanwhile(steps: int = steps) -> None:
            for step in range(steps):
                await calm.put({step % 10: -VECTORS[step % 40], 100 + step: VECTORS[(step + 7) % 40]})
                await calm.agrees(VECTORS[3], 2)

        paused(calm, meanwhile)
        await calm.agrees(VECTORS[3], 5)
