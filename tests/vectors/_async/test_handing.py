"""Documents that a commit hands to the applier, which then does not read them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from attrs import evolve
from bson import Code, ObjectId

from superorm._async import vector_ahead
from superorm._io import aio
from superorm.codec.keys import encode_key
from superorm.schema.vector_spec import FilterField
from superorm.unitofwork.writes import Insert, Update, UpdateOp
from superorm.vectors import handing
from superorm.vectors.mirror import TableRows
from superorm.vectors.records import Look, Record, State
from tests.vectors._async.world import AsyncWorld
from tests.vectors.brute import DIM, stored

VECTORS = np.random.default_rng(0).standard_normal((20, DIM)).astype("f4")


class Reads:
    """The keys of the documents whose vectors are read, and those that are known."""

    def __init__(self, records: Any) -> None:
        self.read: set[Any] = set()
        self.known: set[Any] = set()
        self._documents, records.documents = records.documents, self

    async def __call__(self, spec: Any, keys: Any, fields: Any = (), known: Any = (), **names: Any) -> Any:
        self.read.update(keys.values())
        self.known.update(document["_id"] for document in known)
        return await self._documents(spec, keys, fields, known, **names)


@pytest_asyncio.fixture
async def empty(make_world: Callable[[str], AsyncWorld], monkeypatch: pytest.MonkeyPatch) -> AsyncWorld:
    """A table without rows, and every commit hands its documents over."""
    from superorm._async import vector_tables

    monkeypatch.setattr(vector_tables, "FROM", 1)
    monkeypatch.setattr(vector_ahead, "FROM", 1)
    monkeypatch.setattr(vector_ahead, "LOOK", 10.0)
    world = make_world("lancescan-mongod")
    await world.indexes.ensure(world.spec)
    return world


async def insert(world: AsyncWorld, first: int, count: int) -> None:
    """Commit new documents with a number as their key, and hand them over."""
    async with writing(world, numbered(first, count)) as handed:
        pass
    give(world, handed)


def numbered(first: int, count: int) -> list[dict[str, Any]]:
    """Documents with a number as their key."""
    return [{"_id": key, "v": stored(VECTORS[key]), "text": "x"} for key in range(first, first + count)]


def give(world: AsyncWorld, handed: Any) -> None:
    """Hand documents over once they are committed."""
    for spec, one in handed:
        assert world.indexes.copies.hand_over(spec, one)


async def hand_over(world: AsyncWorld, documents: list[dict[str, Any]]) -> None:
    """Commit new documents, and hand them over."""
    async with writing(world, documents) as handed:
        pass
    give(world, handed)


@asynccontextmanager
async def writing(world: AsyncWorld, documents: list[dict[str, Any]]) -> AsyncIterator[Any]:
    """Around the commit of new documents: what is handed over."""
    write = Insert("things", documents)
    async with world.backend.transaction() as session:
        records = world.indexes.records({world.spec: [document["_id"] for document in documents]})
        for one in [write, *records]:
            await world.backend.write(one, session=session)
        yield world.indexes.handing([world.spec], records, [write])


async def test_what_was_handed_over_is_not_read(empty: AsyncWorld) -> None:
    """The applier reads no document of a commit of this process, and the table equals the documents."""
    reads = Reads(empty.indexes.copies.records)
    await insert(empty, 0, 10)
    await empty.indexes.apply(empty.spec)
    assert (set(), set(range(10))) == (reads.read, reads.known)
    await empty.put({3: -VECTORS[3]})
    await empty.indexes.apply(empty.spec)
    assert {3} == reads.read
    await empty.agrees(VECTORS[3], 5)
    assert [] == await empty.indexes.check(empty.spec)


async def test_a_class_that_does_not_name_what_is_mirrored(empty: AsyncWorld) -> None:
    """What it hands over lacks the fields that the table mirrors, and is read."""
    reads = Reads(empty.indexes.copies.records)
    mirroring = evolve(empty.spec, filter_fields=(FilterField("text", "str"),))
    await empty.indexes.rebuild(mirroring)
    await insert(empty, 0, 10)
    await empty.indexes.apply(mirroring)
    assert (set(range(10)), set()) == (reads.read, reads.known)
    empty.spec = mirroring
    assert [] == await empty.indexes.check(mirroring)
    await empty.agrees(VECTORS[3], 5, filter={"text": "x"})
    await insert(empty, 10, 10)
    await empty.indexes.apply(mirroring)
    assert set(range(10, 20)) == reads.known
    assert [] == await empty.indexes.check(mirroring)


async def test_what_is_not_as_declared(empty: AsyncWorld) -> None:
    """Of documents that hold something else than what is declared the table has the same, handed over or read."""
    empty.spec = evolve(
        empty.spec, filter_fields=(FilterField("c.x.y", "int"), FilterField("r", "float"), FilterField("w", "str"))
    )
    await empty.indexes.rebuild(empty.spec)
    odd: list[Any] = [5, "5", None, True, [5], [], [{"x": 5}], {"x": 5}, {"x": [5]}, {"x": [{"y": 5}]}, {}]
    within = [5, 5.5, "5", None, [5], {"y": 5}, Code("5"), datetime(2020, 1, 1, tzinfo=UTC)]
    odd += [stored(np.ones(1)), *({"x": {"y": one}} for one in within)]
    documents = [
        {"_id": key, "v": stored(VECTORS[key % 20]), "c": one, "r": one, "w": one} for key, one in enumerate(odd)
    ]
    reads = Reads(empty.indexes.copies.records)
    await hand_over(empty, documents)
    await empty.indexes.apply(empty.spec)
    assert (set(), {*range(len(odd))}) == (reads.read, reads.known)
    assert [] == await empty.indexes.check(empty.spec)
    for filter in ({"c.x.y": 5}, {"c.x.y": None}, {"c.x.y": {"$gt": 4}}, {"r": 5}, {"r": None}, {"w": "5"}):
        await empty.agrees(VECTORS[0], 30, filter=filter)


@pytest.mark.parametrize("how", ["changed", "removed", "unset"])
async def test_what_another_commit_touched_is_read(empty: AsyncWorld, how: str) -> None:
    """A document that was changed since it was handed over is taken as it is now."""
    reads = Reads(empty.indexes.copies.records)
    await insert(empty, 0, 10)
    if how == "removed":
        await empty.remove(3)
    else:
        await empty.put({3: None if how == "unset" else -VECTORS[3]})
    await empty.indexes.apply(empty.spec)
    assert ({3}, {*range(10)} - {3}) == (reads.read, reads.known)
    await empty.agrees(VECTORS[3], 5)
    assert [] == await empty.indexes.check(empty.spec)


async def test_a_later_record_that_is_stamped(empty: AsyncWorld, make_world: Callable[[str], AsyncWorld]) -> None:
    """A later commit of the key whose record another applier has stamped already, alone, is not undone."""
    await insert(empty, 0, 2)
    other = make_world("lancescan-mongod")
    await other.put({0: -VECTORS[0]})
    copies: Any = other.indexes.copies
    async with copies.tables.lock(copies.prefix(other.spec)):
        look = await copies.records.look(other.spec.name, await copies.engine())
        (later,) = [record.id for record in look.unstamped if len(record.keys) == 1]
        step = await copies.read_step(other.spec)
        first = TableRows(step.rows.keys[:1], step.rows.rows[:1], {}, step.rows.norm)
        step.ids, step.touched, step.rows = [later], [key for key in step.touched if key == first.keys[0]], first
        assert await copies.publish_step(other.spec, step, await copies.write_step(other.spec, step))
    await empty.indexes.apply(empty.spec)
    await empty.agrees(VECTORS[0], 5)
    assert [] == await empty.indexes.check(empty.spec)


def test_records_that_are_gone() -> None:
    """What was handed over before records went may have been touched by these, and is read."""
    id = ObjectId()
    document = {"_id": 1}
    key = encode_key(1)
    for floor, expected in ((4, {key: document}), (5, {})):
        look = Look(State(7, floor, 1, "t"), {id: Record(id, [1], None)}, 4)
        assert expected == handing.as_handed(look, [handing.Handed(4, frozenset([id]), [document])], {key: 1})


async def test_only_so_many_are_kept(empty: AsyncWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has no room is read, as it is where another process applied it, and nothing is kept for good."""
    from superorm._async import vector_tables

    monkeypatch.setattr(vector_tables, "MOST", 12)
    copies: Any = empty.indexes.copies
    one = handing.Handed(0, frozenset(), [{"_id": key} for key in range(13)])
    assert not copies.hand_over(empty.spec, one)
    await insert(empty, 0, 10)
    assert 1 == len(copies._handed[empty.spec.name])
    await empty.indexes.apply(empty.spec)
    assert [] == copies._handed[empty.spec.name]
    await empty.agrees(VECTORS[3], 5)


class Failing(Exception):
    """What a commit fails with."""


async def insert_ahead(world: AsyncWorld, first: int, count: int, failing: bool = False) -> None:
    """Commit new documents while they are written to the table, or fail to; then wait for the applier."""
    async with AsyncExitStack() as stack:
        handed = await stack.enter_async_context(writing(world, numbered(first, count)))
        async with vector_ahead.beside(world.indexes.ahead(handed)):
            if failing:
                raise Failing
            await stack.aclose()
    world.indexes.notify([world.spec], handed)
    while await unstamped(world) or world.indexes._background._applying:
        await aio.sleep(0.005)


async def state_of(world: AsyncWorld) -> State:
    """The state as it is published."""
    copies: Any = world.indexes.copies
    state = await copies.records.state(world.spec.name, await copies.engine())
    assert state is not None
    return state


async def unstamped(world: AsyncWorld) -> list[Record]:
    """The records that are not applied."""
    copies: Any = world.indexes.copies
    return (await copies.records.look(world.spec.name, await copies.engine())).unstamped


async def test_written_ahead_of_the_commit(empty: AsyncWorld) -> None:
    """One publication shows what was written to the table beside its commit, and nothing of it is read."""
    reads = Reads(empty.indexes.copies.records)
    before = await state_of(empty)
    await insert_ahead(empty, 0, 10)
    after = await state_of(empty)
    assert (before.n + 1, before.ver + 1) == (after.n, after.ver)
    await empty.put({3: -VECTORS[3], 4: None})
    await empty.agrees(VECTORS[3], 5)
    assert [] == await empty.indexes.check(empty.spec)
    assert ({3, 4}, set()) == (reads.read, reads.known)


async def test_written_ahead_of_a_commit_that_fails(empty: AsyncWorld) -> None:
    """What was written to the table beside it is never seen, and goes with the next publication."""
    await insert_ahead(empty, 0, 5)
    before, written = await state_of(empty), []
    copies: Any = empty.indexes.copies
    write = copies.write_step

    async def write_step(*args: Any) -> Any:
        written.append(await write(*args))
        return written[-1]

    copies.write_step = write_step
    with pytest.raises(Failing):
        await insert_ahead(empty, 5, 5, failing=True)
    while empty.indexes._background._applying:
        await aio.sleep(0.005)
    assert [before.ver + 1] == written
    assert before == await state_of(empty)
    assert {0, 1, 2, 3, 4} == {hit.key for hit in await empty.agrees(VECTORS[7], 20)}
    await empty.put({1: -VECTORS[1]})
    await empty.indexes.apply(empty.spec)
    assert before.ver + 3 == (await state_of(empty)).ver  # restored, and written
    assert [] == await empty.indexes.check(empty.spec)
    await empty.agrees(VECTORS[7], 20)


async def test_a_state_that_is_read_too_late(empty: AsyncWorld) -> None:
    """Another commit of the key may have been applied since: nothing is written, and what is there stays."""
    copies: Any = empty.indexes.copies
    async with writing(empty, numbered(0, 10)) as handed:
        pass
    await empty.put({3: -VECTORS[3]})
    ahead = vector_ahead.ahead_of(handed)
    assert ahead is not None
    ahead.begun = ahead.committed = True
    ahead.ended.set()
    await copies.write_ahead(ahead)
    assert ahead.looked.is_set()
    assert 2 == len(await unstamped(empty))
    await empty.indexes.apply(empty.spec)
    before = await state_of(empty)
    await copies.write_ahead(ahead)
    assert before == await state_of(empty)
    await empty.agrees(VECTORS[3], 5)
    assert [] == await empty.indexes.check(empty.spec)


async def test_another_document_of_the_commit(empty: AsyncWorld) -> None:
    """A commit inserts a document without a vector, which no record names, and changes one that was there."""
    await insert_ahead(empty, 0, 5)
    async with AsyncExitStack() as stack:
        documents = [*numbered(5, 9), {"_id": 14, "v": None, "text": "x"}]
        session = await stack.enter_async_context(empty.backend.transaction())
        change = Update("things", [UpdateOp(q={"_id": 3}, u={"$set": {"v": stored(-VECTORS[3])}})])
        records = empty.indexes.records({empty.spec: [3, *range(5, 14)]})
        writes = [Insert("things", documents), change]
        for one in [*writes, *records]:
            await empty.backend.write(one, session=session)
        handed = empty.indexes.handing([empty.spec], records, writes)
        async with vector_ahead.beside(empty.indexes.ahead(handed)):
            await stack.aclose()
    empty.indexes.notify([empty.spec], handed)
    while await unstamped(empty) or empty.indexes._background._applying:
        await aio.sleep(0.005)
    assert [] == await empty.indexes.check(empty.spec)
    await empty.agrees(VECTORS[3], 20)


async def test_several_indexes(empty: AsyncWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The applier is at one of them until the commit has ended: no commit waits for another."""
    second = evolve(empty.spec, path="w")
    await empty.indexes.ensure(second)
    begun: list[tuple[str, bool]] = []
    begin = vector_ahead.AsyncAhead.begin

    async def noting(ahead: vector_ahead.AsyncAhead) -> None:
        await begin(ahead)
        begun.append((ahead.spec.name, ahead.looked.is_set()))

    monkeypatch.setattr(vector_ahead.AsyncAhead, "begin", noting)
    monkeypatch.setattr(vector_ahead, "LOOK", 0.5)
    specs = [empty.spec, second]
    documents = [{**one, "w": one["v"]} for one in numbered(0, 10)]
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(empty.backend.transaction())
        records = empty.indexes.records({spec: list(range(10)) for spec in specs})
        write = Insert("things", documents)
        for one in [write, *records]:
            await empty.backend.write(one, session=session)
        handed = empty.indexes.handing(specs, records, [write])
        async with vector_ahead.beside(empty.indexes.ahead(handed)):
            await stack.aclose()
    empty.indexes.notify(specs, handed)
    while await unstamped(empty) or empty.indexes._background._applying:
        await aio.sleep(0.005)
    assert [(empty.spec.name, True)] == begun
    for spec in specs:
        assert [] == await empty.indexes.check(spec)


async def test_another_writer_at_work(empty: AsyncWorld, make_world: Callable[[str], AsyncWorld]) -> None:
    """A commit does not wait for the lock that another holds; its records are applied as all are."""
    other: Any = make_world("lancescan-mongod").indexes.copies
    copies: Any = empty.indexes.copies
    async with other.tables.lock(other.prefix(empty.spec)), writing(empty, numbered(0, 10)) as handed:
        ahead = vector_ahead.ahead_of(handed)
        assert ahead is not None
        await copies.write_ahead(ahead)
        assert ahead.looked.is_set()
    await empty.indexes.apply(empty.spec)
    assert [] == await empty.indexes.check(empty.spec)
    await empty.agrees(VECTORS[3], 5)


async def test_what_is_not_written_ahead(empty: AsyncWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that touches more than it inserts, several flushes, and few documents are left to the applier."""
    async with writing(empty, numbered(0, 10)) as handed:
        assert vector_ahead.ahead_of(handed)
        assert vector_ahead.ahead_of([*handed, *handed]) is None
        write = Insert("things", [{"_id": 1, "v": stored(VECTORS[1])}])
        more = empty.indexes.handing([empty.spec], empty.indexes.records({empty.spec: [1, 2]}), [write])
        assert vector_ahead.ahead_of(more) is None
        other = empty.indexes.handing([empty.spec], empty.indexes.records({empty.spec: [2]}), [write])
        assert vector_ahead.ahead_of(other) is None
        monkeypatch.setattr(vector_ahead, "FROM", 11)
        assert vector_ahead.ahead_of(handed) is None
