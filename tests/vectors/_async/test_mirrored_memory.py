"""Fields that are mirrored in memory: searches that filter by them ask memory first."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from attrs import evolve

from superorm.schema.vector_spec import FilterField
from superorm.unitofwork.writes import Update, UpdateOp
from superorm.vectors import planning, upkeep
from tests.vectors._async.test_mirrored import KNOWN_AFTER, MIRRORING, ROWS, filled, state_of, unkept, vector
from tests.vectors._async.test_quick import paused, reads
from tests.vectors._async.world import SPEC, AsyncWorld

LESS = {"r": {"$lt": 300}}


@pytest_asyncio.fixture(params=["memory-mongod", "lancedb-mongod"])
async def calm(
    request: pytest.FixtureRequest, make_world: Callable[[str], AsyncWorld], monkeypatch: pytest.MonkeyPatch
) -> AsyncWorld:
    """Documents, applied, and in memory with what is mirrored of them."""
    monkeypatch.setattr(upkeep, "KNOWN_AFTER", timedelta(0))
    world = await filled(make_world(request.param))
    await world.agrees(vector(0), 5)
    return world


async def test_one_round_trip(calm: AsyncWorld) -> None:
    """Where nothing is pending, documents, state and records come in one aggregate, and MongoDB lists nothing."""
    await calm.write([Update("things", [UpdateOp(q={}, u={"$set": {"r": 7}}, multi=True)])], range(ROWS))
    await calm.indexes.apply(calm.spec)
    await calm.agrees(vector(0), 5)
    for filter in (LESS, {"r": {"$in": [7, 8, 9]}}, {"r": {"$ne": 8}}, {"r": 8}):
        for k in (1, 5, 50):
            plans = reads(calm)
            hits = await calm.agrees(vector(3), k, filter=filter)
            assert 1 == len(plans)
            how = hits.explanation
            assert ("push-down", 0, 1) == (how.strategy, how.pending, len(how.reads))
            assert (0 if filter == {"r": 8} else k) == len(hits)
            assert "ranked" in how.why


@pytest.mark.parametrize("applied", [False, True])
async def test_a_commit_before_the_reading(calm: AsyncWorld, applied: bool) -> None:
    """Documents that begin or cease to match after memory was asked are found, or not: all is of one snapshot."""
    (first, _), (second, _) = calm.expected(vector(3), 2, LESS)
    hidden = next(d["_id"] for d in calm.plain.things.find({"r": {"$gt": 400}}))

    async def meanwhile() -> None:
        await calm.put({first: vector(3)}, r=5_000)
        await calm.put({second: vector(3)}, r="5")
        await calm.put({hidden: vector(3)}, r=7)
        if applied:
            await calm.indexes.apply(calm.spec)

    paused(calm, meanwhile)
    for _ in range(4):
        hits = await calm.agrees(vector(3), 5, filter=LESS)
        assert hidden == hits[0].key
        assert {first, second}.isdisjoint(hit.key for hit in hits)
    assert [] == await calm.indexes.check(calm.spec)


async def test_large_documents_keep_their_fields(calm: AsyncWorld) -> None:
    """A search without a filter reads of large changed documents the vectors alone; memory does not take these."""
    await calm.put({3: vector(0), 5: vector(1)}, r=7_777, blob="x" * 20_000)
    for _ in range(2):
        await calm.agrees(vector(0), 5)
        hits = await calm.agrees(vector(0), 5, filter={"r": {"$gt": 5_000}})
        assert {3, 5} <= {hit.key for hit in hits}
    await calm.agrees(vector(0), 5, filter={"r": None})
    assert [] == await calm.indexes.check(calm.spec)


async def test_what_is_odd_is_settled_by_its_document(calm: AsyncWorld) -> None:
    """More rows pass than match: the search goes on until k of those that match have come."""
    await calm.put({i: vector(0) for i in range(40)}, r=[1_000])
    await calm.put({i: vector(0) for i in range(40, 45)}, r=[2_000, 5])
    await calm.indexes.apply(calm.spec)
    for k in (3, 5, 12):
        hits = await calm.agrees(vector(0), k, filter=LESS)
        assert {40, 41, 42} <= {hit.key for hit in hits}


async def test_fields_that_are_named_later(
    make_world: Callable[[str], AsyncWorld], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are announced, and mirrored in memory once everybody records their changes; until then nothing is."""
    monkeypatch.setattr(upkeep, "KNOWN_AFTER", KNOWN_AFTER)
    world = await filled(make_world("memory-mongod"), SPEC)
    other = unkept(make_world("memory-mongod"))
    other.spec = MIRRORING
    await other.indexes.ensure(other.spec)
    copies = other.indexes.copies
    for _ in range(2):
        left = await copies.keep(other.spec, lambda: True)
        assert 90 < left <= 100
        assert (await other.agrees(vector(0), 10, filter=LESS)).explanation.pushed is None
    assert await copies.due(other.spec)
    assert {"c.x", "r", "w"} == {field["path"] for field in state_of(world)["coming"]["filters"]}
    monkeypatch.setattr(upkeep, "KNOWN_AFTER", timedelta(0))
    assert await copies.keep(other.spec, lambda: True) is None
    assert not await copies.due(other.spec)
    assert "push-down" == (await other.agrees(vector(0), 10, filter=LESS)).explanation.strategy
    await world.put({0: vector(0)}, r=1)  # by the program that does not name the fields
    await other.agrees(vector(0), 10, filter=LESS)
    assert (await world.agrees(vector(0), 10, filter=LESS)).explanation.pushed is None
    assert [] == await other.indexes.check(other.spec)


async def test_fields_that_are_ready_at_once(
    make_world: Callable[[str], AsyncWorld], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes have others loaded anew with one field each: none of these is forgotten."""
    monkeypatch.setattr(upkeep, "KNOWN_AFTER", KNOWN_AFTER)
    worlds = [unkept(make_world("memory-mongod")) for _ in range(2)]
    specs = [evolve(SPEC, filter_fields=(FilterField(path, "int"),)) for path in ("r", "w")]
    for world, spec in zip(worlds, specs, strict=True):
        await world.indexes.ensure(spec)
    monkeypatch.setattr(upkeep, "KNOWN_AFTER", timedelta(0))
    first, second = (world.indexes.copies for world in worlds)
    ready = first.records.to_mirror

    async def ready_before(*given: Any) -> Any:
        found = await ready(*given)
        assert await second.keep(specs[1], lambda: True) is None
        return found

    monkeypatch.setattr(first.records, "to_mirror", ready_before)
    assert await first.keep(specs[0], lambda: True) == 0
    monkeypatch.undo()
    monkeypatch.setattr(upkeep, "KNOWN_AFTER", timedelta(0))
    assert await first.keep(specs[0], lambda: True) is None
    assert {"r", "w"} == {field["path"] for field in state_of(worlds[0])["made"]["filters"]}
    assert not await first.due(specs[0])
    assert not await second.due(specs[1])


async def test_a_rebuild_mirrors_what_is_named_now(calm: AsyncWorld) -> None:
    """Other fields, and another kind of one."""
    unkept(calm)
    calm.spec = evolve(SPEC, filter_fields=(FilterField("r", "float"), FilterField("far", "bool")))
    filter = {"r": {"$lt": 300.5}, "far": False}
    await calm.agrees(vector(0), 10, filter=filter)
    await calm.indexes.rebuild(calm.spec)
    hits = await calm.agrees(vector(0), 10, filter=filter)
    assert ("push-down", 0) == (hits.explanation.strategy, hits.explanation.pending)
    assert "(f0 < 300.5 AND f1 = false) OR odd0 OR odd1" == hits.explanation.pushed
    assert [] == await calm.indexes.check(calm.spec)


@pytest.mark.parametrize("few", [True, False])
async def test_a_transaction_that_is_older(
    make_world: Callable[[str], AsyncWorld], monkeypatch: pytest.MonkeyPatch, few: bool
) -> None:
    """Memory was loaded anew since: the transaction finds what its snapshot has, by the documents."""
    monkeypatch.setattr(upkeep, "KNOWN_AFTER", timedelta(0))
    monkeypatch.setattr(planning, "FEW_READ", 1_000 if few else 10)
    world = await filled(make_world("memory-mongod"))
    expected = world.expected(vector(3), 10, LESS)
    async with world.backend.transaction() as session:
        assert expected == [(h.key, h.score) for h in await world.search(vector(3), 10, filter=LESS, session=session)]
        (first, _), *_ = expected
        await world.put({first: -vector(3)}, r=5_000)
        await world.indexes.apply(world.spec)
        await world.indexes.rebuild(world.spec)
        hits = await world.search(vector(3), 10, filter=LESS, session=session)
        assert expected == [(hit.key, hit.score) for hit in hits]
    await world.agrees(vector(3), 10, filter=LESS)
