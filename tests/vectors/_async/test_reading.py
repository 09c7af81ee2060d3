"""What searches read of documents: whole only those that are returned, and of many that match no more than needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from superorm._async.vector_view import Unfiltered
from superorm.compile.plan import Find
from superorm.unitofwork.writes import Insert
from superorm.vectors import planning
from superorm.vectors._async.lancedb import AsyncLanceVectorIndex
from superorm.vectors.one_read import SMALL
from tests.vectors._async.world import AsyncWorld
from tests.vectors.brute import DIM, stored

ROWS = 60
VECTORS = np.random.default_rng(41).standard_normal((ROWS, DIM)).astype("f4")
PAIRS = ["memory-mongod", "lancedb-mongod"]
MakeWorld = Callable[[str], AsyncWorld]


class Unserved(Unfiltered):
    """A view of an index that no copy can answer for."""

    need = None

    def __init__(self, look: Any) -> None:
        self.look = look

    async def held(self) -> None:
        """No rows."""

    def pushed(self, filter: Any) -> None:
        """No columns."""

    async def nearest(self, *args: Any) -> None:
        """No answer."""


async def filled(world: AsyncWorld, pad: int) -> AsyncWorld:
    """Documents of so many bytes and more, applied."""
    await world.indexes.ensure(world.spec)
    documents = [{"_id": i, "v": stored(VECTORS[i]), "r": i % 3, "pad": "x" * pad} for i in range(ROWS)]
    await world.write([Insert("things", documents)], [*range(ROWS)])
    await world.indexes.apply(world.spec)
    return world


def whole(world: AsyncWorld) -> list[Any]:
    """The keys of the documents that come whole from now on, and None for each round trip."""
    backend: Any = world.backend
    read, stream, came = backend.read, backend.stream, list[Any]()

    async def read_counted(plan: Any, **names: Any) -> Any:
        found = await read(plan, **names)
        came.append(None)
        came.extend(one["_id"] for one in found if "pad" in one)
        return found

    async def stream_counted(plan: Any, **names: Any) -> Any:
        came.append(None)
        async for found in stream(plan, **names):
            came.extend(one["_id"] for one in found if "pad" in one)
            yield found

    backend.read, backend.stream = read_counted, stream_counted
    return came


@pytest.mark.parametrize("pair", PAIRS)
async def test_large_documents_come_whole_only_where_they_are_hits(make_world: MakeWorld, pair: str) -> None:
    """Whatever the filter matches, and whatever is pending: no large document is sent that is not returned."""
    world = await filled(make_world(pair), SMALL)
    filters: list[dict[str, Any]] = [{"r": 0}, {"_id": {"$lt": 50}}, {"_id": {"$lt": 7}}]
    for filter in filters:
        for _ in range(2):
            came = whole(world)
            hits = await world.agrees(VECTORS[3], 2, filter=filter)
            assert {hit.key for hit in hits} == set(came) - {None}
            assert all(len(hit.document["pad"]) == SMALL for hit in hits)
    await world.agrees(VECTORS[3], 2)
    await world.put(dict.fromkeys(range(20, 30), VECTORS[4]), pad="y" * SMALL)
    came = whole(world)
    hits = await world.agrees(VECTORS[4], 2)
    assert len([key for key in came if key is not None]) <= 2 * 2
    assert {hit.key for hit in hits} <= set(came)
    came = whole(world)
    assert [3] == [hit.key for hit in await world.search(VECTORS[3], 30, min_score=0.9999)]
    assert 3 in came
    assert len([key for key in came if key is not None]) < 5


@pytest.mark.parametrize("pair", PAIRS)
async def test_small_documents_save_a_round_trip(make_world: MakeWorld, pair: str) -> None:
    """Very few small documents come with the list, and what is pending with its vectors."""
    world = await filled(make_world(pair), 10)
    for step in range(4):
        came = whole(world)
        hits = await world.agrees(VECTORS[3], 2, filter={"r": 0})
        assert step < 2 or came.count(None) == 1  # the first loads memory, the second learns how few match
        assert 20 == hits.explanation.matched
    await world.agrees(VECTORS[3], 2)
    await world.put(dict.fromkeys(range(20, 30), VECTORS[4]), pad="y")
    came = whole(world)
    await world.agrees(VECTORS[4], 2)
    assert 2 == came.count(None)


async def test_projections_of_large_fields(make_world: MakeWorld) -> None:
    """The size of what is shown counts: pending documents of which little is shown come at once."""
    world = await filled(make_world("memory-mongod"), SMALL)
    for shown, many in (({"pad": 1}, 2), ({"r": 1}, 0), ({"pad": 0}, 0), ({"_id": 1}, 0)):
        await world.put({key: VECTORS[4] + (key - 19) / 50 * VECTORS[5] for key in range(20, 30)}, r=7)
        came = whole(world)
        hits = await world.search(VECTORS[4], 2, filter={"r": {"$gte": 0}}, projection=shown)
        assert [4, 20] == [hit.key for hit in hits]
        for hit in hits:
            document = world.plain.things.find_one({"_id": hit.key}, shown)
            assert document == hit.document
        assert many == len([key for key in came if key is not None])


@pytest.mark.parametrize("pair", PAIRS)
async def test_many_that_match_have_no_vector(
    make_world: MakeWorld, pair: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys are listed up to three for each row; where even more match, the rows are looked through instead."""
    monkeypatch.setattr(planning, "FEW", 1_000)
    world = await filled(make_world(pair), 0)
    bare = [{"_id": i, "r": 1} for i in range(1_000, 3_500)]
    await world.write([Insert("things", bare)], [])
    await world.agrees(VECTORS[0], 5)
    for k in (1, 5, 30, 500):
        for query in (VECTORS[1], -VECTORS[1]):
            hits = await world.agrees(query, k, filter={"r": 1})
            explained = hits.explanation
            assert ("over-fetch", True) == (explained.strategy, explained.more)
            assert all(
                plan.limit for plan in explained.reads if isinstance(plan, Find) and plan.projection == {"_id": 1}
            )
            assert explained.read <= ROWS


@pytest.mark.parametrize("pair", PAIRS)
async def test_documents_read_are_counted(make_world: MakeWorld, pair: str) -> None:
    """Where all that match were ranked, or all that were listed, that many were read, those without vectors too."""
    world = await filled(make_world(pair), 0)
    bare = [{"_id": i, "r": 9} for i in range(1_000, 3_500)]
    more = [{"_id": i, "r": 9, "v": stored(VECTORS[i % ROWS])} for i in range(4_000, 6_000)]
    await world.write([Insert("things", [*bare, *more])], [document["_id"] for document in more])
    copies: Any = world.indexes.copies
    view = copies.view

    async def unserved(*args: Any, **names: Any) -> Unserved:
        return Unserved((await view(*args, **names)).look)

    copies.view = unserved
    async with world.backend.transaction() as session:
        hits = await world.search(VECTORS[3], 2, session=session)
        assert len(bare) + len(more) + ROWS == hits.explanation.read
        hits = await world.search(VECTORS[3], 2, filter={"r": 9}, session=session)
        assert len(bare) + len(more) == hits.explanation.read
    copies.view = view
    assert 20 == (await world.agrees(VECTORS[3], 20, filter={"r": 0})).explanation.read


async def test_engines_that_load_share_their_lock_with_their_copies(make_world: MakeWorld) -> None:
    """The lock that is held while a table is loaded is the one that a forked child makes anew."""
    world = await filled(make_world("lancedb-mongod"), 0)
    tables: Any = world.indexes.copies.tables  # type: ignore[attr-defined]
    assert isinstance(tables, AsyncLanceVectorIndex)
    read, seen = tables.read, list[bool]()

    async def reading(*args: Any) -> Any:
        seen.append(tables.resident.loading.locked())
        return await read(*args)

    setattr(tables, "read", reading)  # noqa: B010
    await world.agrees(VECTORS[3], 5)
    assert [True] == seen
    assert not tables.resident.loading.locked()
