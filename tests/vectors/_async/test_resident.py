"""Tables held in process memory: loaded once, moved forward by the records, within a bound."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from attrs import evolve

from superorm._async.vector_indexes import AsyncVectorIndexes
from superorm._async.vector_records import AsyncVectorRecords
from superorm._async.vector_resident import AsyncResidentTables
from superorm.unitofwork.writes import Update, UpdateOp
from superorm.vectors import memory_copy, resident
from superorm.vectors._async.lancedb import AsyncLanceVectorIndex
from superorm.vectors.errors import VersionLost
from superorm.vectors.memory_copy import MemoryCopy
from tests.vectors._async.world import AsyncWorld
from tests.vectors.brute import DIM, stored

VECTORS = np.random.default_rng(5).standard_normal((60, DIM)).astype("f4")
MakeWorld = Callable[[str], AsyncWorld]


def count(world: AsyncWorld, name: str) -> list[Any]:
    """Calls of a method of the engine, as they come."""
    tables: Any = world.indexes.copies.tables  # type: ignore[attr-defined]
    method, calls = getattr(tables, name), list[Any]()

    async def counted(*args: Any, **names: Any) -> Any:
        calls.append(args)
        return await method(*args, **names)

    setattr(tables, name, counted)
    return calls


async def filled(world: AsyncWorld, many: int = 30) -> AsyncWorld:
    """Some documents, applied."""
    await world.indexes.ensure(world.spec)
    await world.put(dict(enumerate(VECTORS[:many])))
    await world.indexes.apply(world.spec)
    return world


@pytest.mark.parametrize("pair", ["lancedb-mongod", "lancedb-mongomock"])
async def test_a_publication_costs_what_it_changed(make_world: MakeWorld, pair: str) -> None:
    """The table is read once; of later publications, by another process too, only the documents that changed."""
    reader, writer = await filled(make_world(pair)), make_world(pair)
    await writer.indexes.ensure(writer.spec)
    reads, asked = count(reader, "read"), count(reader, "nearest")
    await reader.agrees(VECTORS[0], 5)
    for step in range(6):
        await writer.put({step: -VECTORS[step], 40 + step: VECTORS[40 + step], 20 + step: None})
        if step % 2:
            await reader.agrees(VECTORS[step], 5)
        await writer.indexes.apply(writer.spec)
        hits = await reader.agrees(VECTORS[40 + step], 5)
        assert 40 + step == hits[0].key
        assert hits.explanation.pending <= 3
        assert hits.explanation.read <= 5 + 3
        assert 0 == (await reader.agrees(VECTORS[40 + step], 5)).explanation.pending
    assert (1, 0) == (len(reads), len(asked))
    assert [] == await reader.indexes.check(reader.spec)


async def test_beyond_the_bound_the_engine_is_asked(make_world: MakeWorld) -> None:
    """A table that grows beyond the bound leaves memory, one that shrinks comes back; no answer differs."""
    world = await filled(make_world("lancedb-mongod"))
    tables: Any = world.indexes.copies.tables  # type: ignore[attr-defined]
    tables.resident.limit = 32 * DIM * 4
    reads, asked = count(world, "read"), count(world, "nearest")
    await world.agrees(VECTORS[0], 5)
    assert (1, 0) == (len(reads), len(asked))
    for applied in (False, True):
        for step in range(30, 36):
            await world.put({step: VECTORS[step]})
            await world.agrees(VECTORS[step], 5)
        if applied:
            await world.indexes.apply(world.spec)
        await world.agrees(VECTORS[35], 5)
    assert asked
    assert 1 == len(reads)
    await world.remove(*range(20))
    await world.indexes.apply(world.spec)
    asked.clear()
    await world.agrees(VECTORS[35], 5)
    assert (2, 0) == (len(reads), len(asked))


async def test_two_databases_share_the_bound(make_world: MakeWorld) -> None:
    """What another database's table leaves of an engine's bound is not enough: that engine is asked."""
    one, two = await filled(make_world("lancedb-mongod")), await filled(make_world("lancedb-mongomock"))
    shared: Any = one.indexes.copies.tables  # type: ignore[attr-defined]
    shared.resident.limit = 40 * DIM * 4
    two.indexes = AsyncVectorIndexes(two.backend, shared)
    await two.indexes.rebuild(two.spec)
    for _ in range(2):
        await one.agrees(VECTORS[1], 5)
        asked = count(two, "nearest")
        await two.agrees(VECTORS[1], 5)
    assert asked


async def test_transactions_older_than_memory_remembers(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that memory has forgotten is answered by its version of the table."""
    monkeypatch.setattr(memory_copy, "HISTORY", 3)
    world = await filled(make_world("lancedb-mongod"))
    expected = [key for key, _ in world.expected(VECTORS[0], 5)]
    async with world.backend.transaction() as session:
        assert expected == [hit.key for hit in await world.search(VECTORS[0], session=session)]
        asked = count(world, "nearest")
        for step in range(8):
            await world.put({step: -VECTORS[step]})
            await world.indexes.apply(world.spec)
            await world.agrees(VECTORS[0], 5)
        assert [] == asked
        assert expected == [hit.key for hit in await world.search(VECTORS[0], session=session)]
        assert 1 == len(asked)
    await world.agrees(VECTORS[0], 5)


async def test_loaded_in_a_transaction(make_world: MakeWorld) -> None:
    """Memory that a transaction loads holds what is published, not the transaction's own changes."""
    world = await filled(make_world("lancedb-mongod"))
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with world.backend.transaction() as session:
            change = Update("things", [UpdateOp(q={"_id": 0}, u={"$set": {"v": stored(-VECTORS[0])}})])
            for write in [change, *world.indexes.records({world.spec: [0]})]:
                await world.backend.write(write, session=session)
            reads = count(world, "read")
            assert 0 not in [hit.key for hit in await world.search(VECTORS[0], session=session)]
            assert 1 == len(reads)
            raise ZeroDivisionError
    assert 0 == (await world.agrees(VECTORS[0], 5))[0].key
    assert 1 == len(reads)


async def test_a_table_built_anew_is_loaded_anew(make_world: MakeWorld) -> None:
    """After a rebuild memory shows what other programs wrote, while an older transaction still searches."""
    world, other = await filled(make_world("lancedb-mongod")), make_world("lancedb-mongod")
    await world.agrees(VECTORS[0], 5)
    expected = [key for key, _ in world.expected(VECTORS[0], 5)]
    async with world.backend.transaction() as session:
        assert expected == [hit.key for hit in await world.search(VECTORS[0], session=session)]
        world.plain.things.update_one({"_id": 0}, {"$set": {"v": stored(-VECTORS[0])}})
        await other.indexes.rebuild(other.spec)
        assert 0 not in [hit.key for hit in await world.agrees(VECTORS[0], 5)]
        assert expected == [hit.key for hit in await world.search(VECTORS[0], session=session)]
        assert 0 not in [hit.key for hit in await world.agrees(VECTORS[0], 5)]


async def test_a_state_that_went(make_world: MakeWorld) -> None:
    """Where the records were removed, the index is built anew and memory is loaded anew."""
    world = await filled(make_world("lancedb-mongod"))
    for _ in range(6):
        await world.agrees(VECTORS[0], 5)
    world.plain.things.delete_one({"_id": 0})
    world.plain["_superorm_records"].delete_many({})
    async with world.backend.transaction() as session:
        assert 0 not in [hit.key for hit in await world.search(VECTORS[0], session=session)]
    await world.agrees(VECTORS[0], 5)
    await world.put({1: -VECTORS[0]})
    await world.agrees(VECTORS[0], 5)
    assert [] == await world.indexes.check(world.spec)


async def test_an_empty_table(make_world: MakeWorld) -> None:
    """A copy without rows is one all the same: what is pending is applied in the background."""
    world = make_world("lancedb-mongod")
    await world.indexes.ensure(world.spec)
    reads = count(world, "read")
    for step in range(60):
        await world.put({step: VECTORS[step]})
        if step == 0:
            await world.remove(0)
            await world.agrees(VECTORS[1], 5)
    await world.agrees(VECTORS[1], 5)
    assert 1 == len(reads)


async def test_close_frees_the_memory(make_world: MakeWorld) -> None:
    """A closed engine holds nothing."""
    world = await filled(make_world("lancedb-mongod"))
    await world.agrees(VECTORS[0], 5)
    tables: Any = world.indexes.copies.tables  # type: ignore[attr-defined]
    assert isinstance(tables, AsyncLanceVectorIndex)
    assert tables.resident._copies
    await tables.close()
    assert not tables.resident._copies


async def test_allocated_rows_stay_within_the_bound(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """All copies of a database together, dead rows and one that is being loaded included, take no more than the bound.

    Searches that do not get room are answered by the engine.
    """
    one = await filled(make_world("lancedb-mongod"))
    tables: Any = one.indexes.copies.tables  # type: ignore[attr-defined]
    tables.resident.limit = 100 * DIM * 4
    worlds = [one]
    for name in ("others", "more"):
        spec = evolve(one.spec, collection=name)
        await one.indexes.rebuild(spec)
        worlds.append(AsyncWorld(one.backend, one.plain, one.indexes, spec))
        await filled(worlds[-1], 40)
    made: list[MemoryCopy] = []
    begin = MemoryCopy.__init__

    def noted(self: MemoryCopy, *args: Any, **names: Any) -> None:
        begin(self, *args, **names)
        made.append(self)

    read = tables.read

    async def reading(*args: Any) -> Any:
        rows = await read(*args)
        loading.append(rows.nbytes)
        assert rows.nbytes + sum(copy.nbytes for copy in made) <= tables.resident.limit
        return rows

    loading: list[int] = []
    monkeypatch.setattr(MemoryCopy, "__init__", noted)
    tables.read = reading
    asked = count(one, "nearest")
    for step in range(30):
        for number, world in enumerate(worlds):
            await world.put({100 + step: VECTORS[step], 200 + 3 * step + number: VECTORS[step]})
            await world.remove(*range(step))
            if step % 3 == number:
                await world.indexes.apply(world.spec)
            await world.agrees(VECTORS[step], 5)
            assert sum(copy.nbytes for copy in made) <= tables.resident.limit
        if step == 20:
            monkeypatch.setattr(resident, "IDLE", 0.0)
    assert loading
    assert asked


async def test_room_for_one_of_two_that_are_loaded_at_once(make_world: MakeWorld) -> None:
    """Two tables that are first searched at once, each half as large again as what is left, are not both loaded."""
    one = await filled(make_world("lancedb-mongod"))
    spec = evolve(one.spec, collection="others")
    await one.indexes.rebuild(spec)
    two = await filled(AsyncWorld(one.backend, one.plain, one.indexes, spec))
    tables: Any = one.indexes.copies.tables  # type: ignore[attr-defined]
    tables.resident.limit = 40 * DIM * 4
    reads = count(one, "read")
    read = tables.read

    async def meanwhile(*args: Any) -> Any:
        tables.read = read
        assert not tables.resident.admits("another", 11 * DIM * 4)
        return await read(*args)

    tables.read = meanwhile
    await one.agrees(VECTORS[1], 5)
    await two.agrees(VECTORS[1], 5)
    assert 1 == len(reads)


async def test_a_table_lost_while_it_is_loaded_leaves_its_room(make_world: MakeWorld) -> None:
    """Where a load fails, what was taken for it is given back."""
    world = await filled(make_world("lancedb-mongod"))
    tables: Any = world.indexes.copies.tables  # type: ignore[attr-defined]
    tables.resident.limit = 30 * DIM * 4
    read = tables.read

    async def lost(*args: Any) -> Any:
        tables.read = read
        raise VersionLost("gone")

    tables.read = lost
    await world.agrees(VECTORS[1], 5)
    assert tables.resident.admits("another", 30 * DIM * 4) or tables.resident._copies
    await world.agrees(VECTORS[1], 5)
    assert tables.resident._copies


async def test_names_of_copies_are_never_used_again(make_world: MakeWorld) -> None:
    """Backends that are gone leave no copy that another one's index takes for its own."""
    world = await filled(make_world("lancedb-mongod"))
    tables: Any = world.indexes.copies.tables  # type: ignore[attr-defined]
    await world.agrees(VECTORS[0], 5)
    (name,) = tables.resident._copies
    others = {AsyncResidentTables(tables, AsyncVectorRecords(world.backend))._name(world.spec) for _ in range(9)}
    assert 9 == len(others - {name})
