"""The traces that broke simpler protocols, one step after the other, on a real server.

Document 0 is at distance 3 and document 1 at 5, the lower the nearer. S searches, W writes, A applies.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from superorm._async import vector_indexes
from superorm._async.vector_view import Unfiltered
from superorm.unitofwork.writes import Update, UpdateOp
from superorm.vectors.errors import EngineBusy
from superorm.vectors.records import Made
from superorm.vectors.request import Hits
from tests.vectors._async.world import AsyncWorld
from tests.vectors.brute import DIM, stored

QUERY = np.eye(DIM)[0]


def at(distance: float) -> np.ndarray:
    """A vector so far from the query."""
    return np.array([1.0, distance, *[0.0] * (DIM - 2)])


class Pause(Unfiltered):
    """A view of an index that does something before, and after, the engine is asked."""

    def __init__(self, view: Any, before: Callable[[], Awaitable[Any]], after: Callable[[], Awaitable[Any]]) -> None:
        self.need, self.look = view.need, view.look
        self._view, self._before, self._after = view, before, after

    async def held(self) -> Any:
        return await self._view.held()

    def pushed(self, filter: Any) -> Any:
        return self._view.pushed(filter)

    async def passing(self, where: str, limit: int) -> Any:
        await self._before()
        found = await self._view.passing(where, limit)
        await self._after()
        return found

    async def nearest(self, request: Any, limit: int, among: Any = None, where: Any = None) -> Any:
        await self._before()
        answer = await self._view.nearest(request, limit, among, where)
        await self._after()
        return answer


async def nothing() -> None:
    """The default of a pause."""


async def paused(
    world: AsyncWorld,
    *,
    before: Callable[[], Awaitable[Any]] = nothing,
    after: Callable[[], Awaitable[Any]] = nothing,
    **options: Any,
) -> list[Any]:
    """The keys that a search in the plain form finds which pauses once before and after the engine is asked."""
    copies, view, quick = world.indexes.copies, world.indexes.copies.view, vector_indexes.quick_search
    hooks = [(before, after)]

    async def hooked(*args: Any, **names: Any) -> Any:
        return Pause(await view(*args, **names), *(hooks.pop() if hooks else (nothing, nothing)))

    async def none_quick(*args: Any) -> Any:
        return None, None

    copies.view = hooked  # type: ignore[method-assign]
    vector_indexes.quick_search = none_quick
    try:
        return keys(await world.search(QUERY, 1, **options))
    finally:
        copies.view = view  # type: ignore[method-assign]
        vector_indexes.quick_search = quick


def keys(hits: Hits) -> list[Any]:
    """The keys of the hits."""
    return [hit.key for hit in hits]


@pytest_asyncio.fixture
async def two(real: AsyncWorld) -> AsyncWorld:
    """Both documents, applied, and seen by a search."""
    await real.put({0: at(3), 1: at(5)}, mark=True)
    await real.indexes.apply(real.spec)
    assert [0] == keys(await real.search(QUERY, 1))
    return real


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_b_l(two: AsyncWorld, when: str, applied: bool) -> None:
    """A, B, L: W commits, and A applies, before or after the engine is asked: the search stays in its snapshot."""

    async def meanwhile() -> None:
        await two.put({0: at(9)})
        if applied:
            await two.indexes.apply(two.spec)
            assert [1] == keys(await two.search(QUERY, 1))

    assert [0] == await paused(two, **{when: meanwhile})
    assert [1] == keys(await two.search(QUERY, 1))


async def test_f(two: AsyncWorld) -> None:
    """F: W changes a document so that it no longer matches the filter, while S searches with it."""

    async def meanwhile() -> None:
        await two.put({0: at(3)}, mark=False)
        await two.indexes.apply(two.spec)

    assert [0] == await paused(two, before=meanwhile, filter={"mark": True})
    assert [1] == keys(await two.search(QUERY, 1, filter={"mark": True}))


async def test_c(make_world: Callable[[str], AsyncWorld]) -> None:
    """C: one applier at a time; what a zombie wrote without the lock is discarded and restored away."""
    one, two = make_world("lancedb-mongod"), make_world("lancedb-mongod")
    await one.indexes.ensure(one.spec)
    await two.indexes.ensure(one.spec)
    await one.put({0: at(9), 1: at(5)})
    first: Any = one.indexes.copies
    second: Any = two.indexes.copies
    async with first.tables.lock(first.prefix(one.spec)):
        with pytest.raises(EngineBusy):
            await second.apply(one.spec, patience=0.05)
    zombie = await first.read_step(one.spec)
    await two.put({0: at(1)})
    await second.apply(one.spec)
    ver = await first.write_step(one.spec, zombie)
    assert not await first.publish_step(one.spec, zombie, ver)
    assert [0] == keys(await one.agrees(QUERY, 1))
    await two.put({1: at(4)})
    await two.indexes.apply(one.spec)
    await two.agrees(QUERY, 2)
    assert [] == await one.indexes.check(one.spec)


async def test_d_h(two: AsyncWorld) -> None:
    """D, H: a record becomes visible after one with a later id, that was applied and searched already."""
    async with two.backend.transaction() as session:
        (record,) = two.indexes.records({two.spec: [0]})
        await two.backend.write(
            Update("things", [UpdateOp(q={"_id": 0}, u={"$set": {"v": stored(at(9))}})]), session=session
        )
        await two.backend.write(record, session=session)
        await two.put({1: at(4)})
        await two.indexes.apply(two.spec)
        assert [0] == keys(await two.agrees(QUERY, 1))
    for _ in range(2):
        assert [1] == keys(await two.agrees(QUERY, 1))
        await two.indexes.apply(two.spec)
    assert [] == await two.indexes.check(two.spec)


async def test_e(make_world: Callable[[str], AsyncWorld]) -> None:
    """E: W commits, and A applies, between the scan of a rebuild and its swap."""
    world = make_world("lancedb-mongod")
    await world.indexes.ensure(world.spec)
    await world.put({0: at(3), 1: at(5)})
    await world.indexes.apply(world.spec)
    copies: Any = world.indexes.copies
    noted = await copies.records.everything(world.spec.name, await copies.engine())
    table = f"{copies.prefix(world.spec)}-0123456789ab"
    await copies.tables.create(table, DIM)
    norm = await copies.fill(world.spec, table)
    await world.put({0: at(9)})
    await world.indexes.apply(world.spec)
    await world.put({1: None})
    async with copies.tables.lock(copies.prefix(world.spec)):
        made = Made(0, datetime.now(UTC), None)
        assert await copies.finish_build(world.spec, table, noted, norm, made)
    assert [0] == keys(await world.agrees(QUERY, 2))
    state = world.plain["_superorm_records"].find_one({"kind": "state"})
    assert table == state["table"]
    assert [] == await world.indexes.check(world.spec)


async def test_j(two: AsyncWorld) -> None:
    """J: a search in a transaction sees its own changes; once it is aborted nobody does."""
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with two.backend.transaction() as session:
            change = Update("things", [UpdateOp(q={"_id": 0}, u={"$set": {"v": stored(at(9))}})])
            for write in [change, *two.indexes.records({two.spec: [0]})]:
                await two.backend.write(write, session=session)
            assert [1] == keys(await two.search(QUERY, 1, session=session))
            assert [0] == keys(await two.search(QUERY, 1))
            raise ZeroDivisionError
    assert [0] == keys(await two.agrees(QUERY, 1))
    assert [] == await two.indexes.check(two.spec)


@pytest.mark.parametrize("loaded_anew", [False, True])
async def test_k_m(two: AsyncWorld, loaded_anew: bool) -> None:
    """K, M: memory moves on, or is loaded anew, while an older transaction still searches."""
    async with two.backend.transaction() as session:
        assert [0] == keys(await two.search(QUERY, 1, session=session))
        for distance in (9, 8):
            await two.put({0: at(distance)})
            await two.indexes.apply(two.spec)
            if loaded_anew:
                await two.indexes.rebuild(two.spec)
            assert [1] == keys(await two.search(QUERY, 1))
            assert [0] == keys(await two.search(QUERY, 1, session=session))


async def test_old_versions_gone(make_world: Callable[[str], AsyncWorld]) -> None:
    """A transaction whose version of the table is gone ranks from its documents."""
    world = make_world("lancedb-mongod")
    await world.indexes.ensure(world.spec)
    await world.put({0: at(3), 1: at(5)})
    await world.indexes.apply(world.spec)
    copies: Any = world.indexes.copies
    async with world.backend.transaction() as session:
        await world.backend.read((await world.search(QUERY, 1)).explanation.reads[0], session=session)
        await world.put({0: at(9)})
        state = world.plain["_superorm_records"].find_one({"kind": "state"})
        await copies.tables.drop(state["table"])
        await copies.tables.close()
        hits = await world.search(QUERY, 1, session=session)
        assert ([0], "exact", 0) == (keys(hits), hits.explanation.strategy, hits.explanation.calls)
    assert [1] == keys(await world.agrees(QUERY, 1))


async def test_applier_dies_before_it_publishes(make_world: Callable[[str], AsyncWorld]) -> None:
    """What was written but not published is never seen, and applied by the next."""
    world = make_world("lancedb-mongod")
    await world.indexes.ensure(world.spec)
    await world.put({0: at(3), 1: at(5)})
    copies: Any = world.indexes.copies
    for distance in (9, 2, 8):
        await world.put({0: at(distance)})
        await copies.write_step(world.spec, await copies.read_step(world.spec))
        await world.agrees(QUERY, 2)
    await world.put({1: None})
    await world.indexes.apply(world.spec)
    await world.agrees(QUERY, 2)
    assert [] == await world.indexes.check(world.spec)


@pytest_asyncio.fixture(params=["memory-mongomock", "lancedb-mongomock"])
async def alone(request: pytest.FixtureRequest, make_world: Callable[[str], AsyncWorld]) -> AsyncWorld:
    """Both documents, where there are no transactions."""
    world = make_world(request.param)
    await world.indexes.ensure(world.spec)
    await world.put({0: at(3), 1: at(5)})
    await world.indexes.apply(world.spec)
    assert [0] == keys(await world.search(QUERY, 1))
    return world


async def test_s1(alone: AsyncWorld) -> None:
    """s1: A applies between the record and the write of its document."""
    async with alone.indexes.recording({alone.spec: [0]}):
        await alone.indexes.apply(alone.spec)
        assert [0] == keys(await alone.search(QUERY, 1))
        await alone.backend.write(Update("things", [UpdateOp(q={"_id": 0}, u={"$set": {"v": stored(at(9))}})]))
        assert [1] == keys(await alone.search(QUERY, 1))
    for _ in range(2):
        assert [1] == keys(await alone.agrees(QUERY, 1))
        await alone.indexes.apply(alone.spec)
    assert [] == await alone.indexes.check(alone.spec)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_s3(alone: AsyncWorld, when: str) -> None:
    """s3: W writes while S searches: S sees that the records changed, and begins again."""

    async def meanwhile() -> None:
        await alone.put({0: at(9)})
        await alone.indexes.apply(alone.spec)

    assert [1] == await paused(alone, **{when: meanwhile})


async def test_writers_that_never_rest(alone: AsyncWorld) -> None:
    """Where every attempt meets a change, the documents themselves are ranked."""
    copies: Any = alone.indexes.copies
    view, distances = copies.view, iter([9, 2, 8, 1, 7, 6])

    async def hooked(*args: Any, **names: Any) -> Any:
        result = await view(*args, **names)
        await alone.put({0: at(next(distances))})
        return result

    copies.view = hooked
    hits = await alone.search(QUERY, 1)
    copies.view = view
    assert ("exact", 0) == (hits.explanation.strategy, hits.explanation.calls)
    assert keys(hits) == keys(await alone.search(QUERY, 1))


async def test_failed_and_dead_writers(alone: AsyncWorld) -> None:
    """A write that fails closes its record; one whose process died is released by a check."""
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with alone.indexes.recording({alone.spec: [0]}):
            await alone.backend.write(Update("things", [UpdateOp(q={"_id": 0}, u={"$set": {"v": stored(at(9))}})]))
            raise ZeroDivisionError
    assert [1] == keys(await alone.search(QUERY, 1))
    records = alone.plain["_superorm_records"]
    assert 0 == records.count_documents({"open": True})
    records.update_many({"kind": "record"}, {"$set": {"open": True, "owner": "elsewhere:1:2"}, "$unset": {"seq": ""}})
    assert [] == await alone.indexes.check(alone.spec)
    from superorm.vectors.owner import owner

    records.update_many({"kind": "record"}, {"$set": {"owner": owner()}})
    problems = await alone.indexes.check(alone.spec)
    assert {"released"} == {problem.kind for problem in problems}
    assert [] == await alone.indexes.check(alone.spec)
    assert 0 == records.count_documents({"open": True})
