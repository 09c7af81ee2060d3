"""Tables that are copied and given an index in the background, beside searches and writers."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import pytest_asyncio
from attrs import evolve
from lancedb.table import LanceTable

from superorm._async import vector_background, vector_indexes, vector_upkeep
from superorm._io import aio
from superorm.exc import BackendError
from superorm.schema.vector_spec import IndexSpec
from superorm.vectors import lance_directory, leaving, upkeep
from superorm.vectors.errors import VersionLost
from superorm.vectors.records import Made, State
from superorm.vectors.request import SearchRequest
from superorm.vectors.upkeep import index_for, is_due
from tests.vectors._async.world import SPEC, AsyncWorld, as_found
from tests.vectors.brute import DIM, brute

ROWS = 1_000
VECTORS = np.random.default_rng(0).standard_normal((ROWS, DIM)).astype("f4")


async def always_keep(copies: Any, spec: Any) -> None:
    """Put the copy in order."""
    await copies.keep(spec, lambda: True)


@pytest_asyncio.fixture
async def large(make_world: Callable[[str], AsyncWorld], monkeypatch: pytest.MonkeyPatch) -> AsyncWorld:
    """A thousand documents, so many that an index is built as soon as the copy is put in order."""
    monkeypatch.setattr(upkeep, "INDEXED_FROM", ROWS // 2)
    monkeypatch.setattr(upkeep, "BYTES_A_SECOND", 1 << 40)
    world = make_world("lancescan-mongod")
    await world.put(dict(enumerate(VECTORS)))
    await world.indexes.copies.ensure(world.spec)
    return world


def state_of(world: AsyncWorld) -> Any:
    """The state as it is stored."""
    return world.plain["_superorm_records"].find_one({"kind": "state"})


async def recall(world: AsyncWorld) -> float:
    """The part of the ten nearest that inexact searches find, over many queries."""
    documents = list(world.plain["things"].find())
    found = 0
    for query in np.random.default_rng(1).standard_normal((20, DIM)).astype("f4"):
        hits = await world.indexes.search(SearchRequest(world.spec, query, k=10), as_found)
        assert len(hits) == 10
        found += len({hit.key for hit in hits} & {key for key, _ in brute(documents, query, 10, world.spec.metric)})
    return found / 200


@pytest.mark.parametrize(
    "index",
    [
        None,
        IndexSpec("ivf_flat", {"num_partitions": 4}),
        IndexSpec("ivf_sq"),
        IndexSpec("ivf_pq", {"num_sub_vectors": 2, "num_partitions": 2}),
        IndexSpec("hnsw_flat", {"m": 10, "ef_construction": 100}),
        IndexSpec("hnsw_sq"),
    ],
    ids=str,
)
async def test_an_index_is_built(large: AsyncWorld, index: IndexSpec | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches go by the index, and find what came after it, nothing that was removed, and no old vectors."""
    large.spec = evolve(large.spec, index=index)
    copies: Any = large.indexes.copies
    assert await copies.due(large.spec)
    await always_keep(copies, large.spec)
    assert not await copies.due(large.spec)
    state = state_of(large)
    assert (index.kind if index is not None else "ivf_flat") == state["made"]["index"]["kind"]
    handle = copies.tables._directory._connect().open_table(state["table"])
    assert ["vector"] == handle.list_indices()[0].columns
    thorough, asked = lance_directory._thorough, list[str]()
    monkeypatch.setattr(lance_directory, "_thorough", lambda *args: asked.append(args[1]) or thorough(*args))
    assert await recall(large) >= 0.99
    assert 20 == len(asked)
    await large.agrees(VECTORS[5], 5)
    assert 20 == len(asked)
    await large.put({5: -VECTORS[5], ROWS: VECTORS[6], 7: None})
    await large.remove(6)
    for _ in range(2):
        assert await recall(large) >= 0.99
        request = SearchRequest(large.spec, VECTORS[6], k=20)
        keys = [hit.key for hit in await large.indexes.search(request, as_found)]
        assert ROWS == keys[0]
        assert not {6, 7} & {*keys}
        await large.indexes.apply(large.spec)
    await large.agrees(VECTORS[5], 5)
    request = SearchRequest(large.spec, VECTORS[8], k=ROWS + 5)
    assert ROWS - 1 == len(await large.indexes.search(request, as_found))
    assert [] == await large.indexes.check(large.spec)


async def test_nobody_waits_for_a_copy(large: AsyncWorld, make_world: Callable[[str], AsyncWorld]) -> None:
    """While a table is copied and its index is built others commit, apply and search, and nothing of it is lost."""
    copies: Any = large.indexes.copies
    other = make_world("lancescan-mongod")
    await other.agrees(VECTORS[0], 5)
    steps: list[str] = []

    def during(name: str, key: int) -> Any:
        step = getattr(copies.tables, name)

        async def slow(*args: Any) -> Any:
            for world in (large, other):
                await world.put({key: -VECTORS[key], key + 1: None})
                await world.agrees(VECTORS[key], 5)
                await world.indexes.copies.apply(world.spec, patience=0)
                await world.remove(key + 2)
                await world.agrees(VECTORS[key], 5)
            result = await step(*args)
            await other.put({key + 3: None})
            await other.indexes.copies.keep(other.spec, lambda: True)  # one at a time
            steps.append(name)
            return result

        return slow

    copies.tables.copy, copies.tables.build_index = during("copy", 10), during("build_index", 20)
    before = state_of(large)["table"]
    await always_keep(copies, large.spec)
    assert ["copy", "build_index"] == steps
    assert before != state_of(large)["table"]
    for key in (10, 20):
        await large.agrees(VECTORS[key], 5)
        await other.agrees(VECTORS[key], 5)
    assert [] == await large.indexes.check(large.spec)


async def test_a_table_that_was_replaced_meanwhile(large: AsyncWorld) -> None:
    """A copy of a table that was built anew meanwhile is given up, and nothing of it is left."""
    copies: Any = large.indexes.copies
    copy = copies.tables.copy

    async def slow(*args: Any) -> Any:
        await large.indexes.rebuild(large.spec)
        return await copy(*args)

    copies.tables.copy = slow
    await always_keep(copies, large.spec)
    assert state_of(large)["made"]["index"] is None
    await large.agrees(VECTORS[0], 5)
    assert 2 == len(list(copies.tables._directory.path.glob("*.lance")))  # that which serves, and the one before


async def test_an_index_that_cannot_be_built(large: AsyncWorld) -> None:
    """It is not tried again at once, and searches do without."""
    large.spec = evolve(large.spec, index=IndexSpec("ivf_pq", {"num_sub_vectors": 5}))
    copies: Any = large.indexes.copies
    with pytest.raises((RuntimeError, ValueError), match="sub"):
        await always_keep(copies, large.spec)
    await always_keep(copies, large.spec)
    assert 1 == len(list(copies.tables._directory.path.glob("*.lance")))
    await large.agrees(VECTORS[0], 5)


async def test_an_index_whose_build_failed_once(large: AsyncWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again after a while, after a longer one the next time, though nothing is written meanwhile."""
    failures, create = [OSError("no space left"), OSError("no space left")], LanceTable.create_index

    def fails(self: LanceTable, *args: Any, **options: Any) -> None:
        if failures:
            raise failures.pop()
        create(self, *args, **options)

    monkeypatch.setattr(LanceTable, "create_index", fails)
    monkeypatch.setattr(vector_upkeep, "_AGAIN", 0.5)
    monkeypatch.setattr(vector_background, "_AFTER_ERROR", 0.1)
    indexes = vector_indexes.AsyncVectorIndexes(large.backend, large.indexes.copies.tables)  # type: ignore[attr-defined]
    indexes._background._keeper._pause = 0.05
    begun = time.monotonic()
    await indexes.ensure(large.spec)
    while state_of(large)["made"]["index"] is None:
        assert time.monotonic() - begun < 60
        await aio.sleep(0.01)
    assert not failures
    assert time.monotonic() - begun > 0.5 + 1.0
    await indexes.close()
    await large.agrees(VECTORS[0], 5)


async def test_it_ends_when_it_is_not_to_go_on(large: AsyncWorld) -> None:
    """A DB that is closed does not wait for the whole copy, and leaves nothing of it behind."""
    copies: Any = large.indexes.copies
    before = state_of(large)["table"]
    await copies.keep(large.spec, lambda: False)
    assert before == state_of(large)["table"]
    assert 1 == len(list(copies.tables._directory.path.glob("*.lance")))
    assert {} == state_of(large)["drop"]
    with pytest.raises(VersionLost):
        await copies.tables.copy(before, 99, before, lambda: True)


async def test_an_index_that_is_finished_while_closing(large: AsyncWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was waited for is published."""
    begun, create = list[str](), LanceTable.create_index

    def last(self: LanceTable, *args: Any, **options: Any) -> None:
        begun.append(self.name)
        create(self, *args, **options)

    monkeypatch.setattr(LanceTable, "create_index", last)
    await large.indexes.copies.keep(large.spec, lambda: not begun)  # type: ignore[attr-defined]
    assert (begun[0], "ivf_flat") == (state_of(large)["table"], state_of(large)["made"]["index"]["kind"])
    await large.agrees(VECTORS[0], 5)


@pytest.mark.parametrize("cut_off", [False, True])
async def test_closing_while_an_index_is_built(
    large: AsyncWorld, monkeypatch: pytest.MonkeyPatch, cut_off: bool
) -> None:
    """It is not waited for, and never published; it goes when it is finished, and who comes later builds another.

    So it is where the closing is cut off before that.
    """
    monkeypatch.setattr(leaving, "PATIENCE", 0.3)
    begun, go, create = list[str](), threading.Event(), LanceTable.create_index

    def slow(self: LanceTable, *args: Any, **options: Any) -> None:
        begun.append(self.name)
        assert go.wait(100)
        create(self, *args, **options)

    monkeypatch.setattr(LanceTable, "create_index", slow)
    indexes = vector_indexes.AsyncVectorIndexes(large.backend, large.indexes.copies.tables)  # type: ignore[attr-defined]
    indexes._background._keeper._pause = 0.01
    before = state_of(large)["table"]
    await indexes.ensure(large.spec)
    for _ in range(1_000):
        if begun:
            break
        await aio.sleep(0.01)
    now = datetime.now(UTC).replace(tzinfo=None)
    if cut_off:

        async def ends() -> None:
            raise InterruptedError

        monkeypatch.setattr(indexes._background._applier, "stop", ends)
        with pytest.raises(InterruptedError):
            await indexes.close()
        for _ in range(1_000):
            if min(State.of(state_of(large)).drop.values()) < now + timedelta(hours=1):
                break
            await aio.sleep(0.01)
        else:
            pytest.fail("the index is still waited for")
    else:
        start = time.monotonic()
        await indexes.close()
        assert time.monotonic() - start < 30
    copies: Any = large.indexes.copies
    path = copies.tables._directory.path
    assert {before, begun[0]} == {table.stem for table in path.glob("*.lance")}
    state = state_of(large)
    assert (before, [begun[0].rpartition("-")[2]]) == (state["table"], list(state["drop"]))
    await large.agrees(VECTORS[0], 5)
    go.set()
    for _ in range(1_000):
        if [before] == [table.stem for table in path.glob("*.lance")]:
            break
        await aio.sleep(0.01)
    else:
        pytest.fail("what was left is not removed")
    await always_keep(copies, large.spec)
    assert "ivf_flat" == state_of(large)["made"]["index"]["kind"]
    await large.agrees(VECTORS[0], 5)


LEAVES = """
import sys, time
import numpy as np
from superorm.schema.vector_spec import IndexSpec
from superorm.vectors import leaving
from superorm.vectors.lance_directory import LanceDirectory
from pathlib import Path

leaving.PATIENCE = 0.5
directory = LanceDirectory(Path(sys.argv[1]))
directory.open()
rows = np.random.default_rng(0).standard_normal((40_000, 64)).astype("f4")
directory.create("t", 64, ())
directory.append("t", [f"{key:05}" for key in range(len(rows))], rows, {})
slowly = IndexSpec("hnsw_sq", {"m": 60, "ef_construction": 20_000})
print(directory.build_index("t", "cosine", slowly, lambda: False), directory._pinned("t", 2).index)
"""


def test_a_process_ends_while_an_index_is_built(tmp_path: Path) -> None:
    """It does not wait for LanceDB, whose work would take minutes."""
    done = subprocess.run([sys.executable, "-c", LEAVES, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert (0, "False None\n") == (done.returncode, done.stdout), done.stderr


async def test_a_publication_in_doubt(large: AsyncWorld) -> None:
    """A table whose publication was committed, though nobody could say so, is not removed."""
    copies: Any = large.indexes.copies
    publish, before = copies.records.publish, state_of(large)["table"]

    async def doubtful(*args: Any) -> Any:
        await publish(*args)
        raise BackendError("the connection is lost")

    copies.records.publish = doubtful
    with pytest.raises(BackendError, match="lost"):
        await always_keep(copies, large.spec)
    state = state_of(large)
    assert before != state["table"]
    assert await copies.tables.has(state["table"], state["ver"])
    await large.agrees(VECTORS[0], 5)


async def test_a_build_that_fails(large: AsyncWorld) -> None:
    """Nothing of it is left."""
    copies: Any = large.indexes.copies

    async def failing(*args: Any) -> Any:
        raise BackendError("the connection is lost")

    append, copies.tables.append = copies.tables.append, failing
    with pytest.raises(BackendError, match="lost"):
        await large.indexes.rebuild(large.spec)
    assert 1 == len(list(copies.tables._directory.path.glob("*.lance")))
    assert {} == state_of(large)["drop"]
    copies.tables.append = append
    await large.indexes.rebuild(large.spec)
    await large.agrees(VECTORS[0], 5)


async def test_the_background(large: AsyncWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is due when an index is first used, and after commits, is done in the background, where nothing waits."""
    monkeypatch.setattr(vector_background, "_PAUSE", 0.01)
    indexes = vector_indexes.AsyncVectorIndexes(large.backend, large.indexes.copies.tables)  # type: ignore[attr-defined]
    copies: Any = indexes.copies
    keep, begun, released = copies.keep, list[Any](), list[bool]()

    async def blocked(spec: Any, go_on: Any) -> None:
        begun.append(spec)
        while not released:
            await aio.sleep(0.01)
        await keep(spec, go_on)

    copies.keep = blocked
    indexes._background._keeper._pause = 0.01
    await indexes.ensure(large.spec)
    for _ in range(300):
        if begun:
            break
        await aio.sleep(0.01)
    large.indexes = indexes
    await large.put({0: -VECTORS[0]})
    indexes.notify([large.spec])
    records = large.plain["_superorm_records"]
    for _ in range(300):
        if not records.count_documents({"kind": "record", "seq": {"$exists": False}}):
            break
        await aio.sleep(0.01)
    else:
        pytest.fail("the applier waits")
    await large.agrees(VECTORS[0], 5)
    assert (1, None) == (len(begun), state_of(large)["made"]["index"])
    released.append(True)
    for _ in range(500):
        if state_of(large)["made"]["index"] is not None:
            break
        await aio.sleep(0.01)
    assert "ivf_flat" == state_of(large)["made"]["index"]["kind"]
    await indexes.close()
    await large.agrees(VECTORS[0], 5)


async def test_one_table_commit_for_many_records(large: AsyncWorld) -> None:
    """Forty commits that are applied together make one version of the table, so do changes and removals in it."""
    before = state_of(large)
    for key in range(20):
        await large.put({key: -VECTORS[key]})
        await large.remove(100 + key)
    await large.indexes.apply(large.spec)
    after = state_of(large)
    assert (before["n"] + 1, before["ver"] + 1) == (after["n"], after["ver"])
    assert [] == await large.indexes.check(large.spec)


@pytest.mark.parametrize("rows", [20_000, 200_000, 1_000_000, 10_000_000])
def test_rows_without_structure_are_found(rows: int) -> None:
    """Nine tenths of the parts are looked into: fewer miss more than one in a hundred of 200,000 random rows."""
    search = Mock()
    lance_directory._thorough(search, "IVF_FLAT", 18, rows)
    (probes,) = search.nprobes.call_args.args
    assert probes >= 0.9 * rows / 4096  # LanceDB's parts


NOW = datetime(2026, 1, 1, tzinfo=UTC)


def table(n: int = 0, index: IndexSpec | None = None, age: float = 1e6, changed: int = 0) -> State:
    """The state of a table at publication 100."""
    made = Made(n, NOW - timedelta(seconds=age), index)
    return State(100, 0, 1, "t", made=made, changed=changed)


def test_which_index() -> None:
    """As declared, from 20,000 rows on; else none for what memory holds; a table keeps the one it has."""
    spec, flat = evolve(SPEC, dim=100), IndexSpec("ivf_flat")
    hnsw = IndexSpec("hnsw_sq", {"m": 8})
    assert index_for(spec, table(), 19_999, 0) is None
    assert flat == index_for(spec, table(), 20_000, 0)
    assert index_for(spec, table(), 20_000, 8_000_000) is None
    assert flat == index_for(spec, table(), 20_001, 8_000_000)
    assert index_for(spec, table(), 20_000, None) is None
    assert hnsw == index_for(evolve(spec, index=hnsw), table(index=flat), 20_000, None)
    assert hnsw == index_for(spec, table(index=hnsw), 30_000, 1 << 40)
    assert hnsw == index_for(spec, table(index=hnsw), 10, 0)
    assert index_for(evolve(spec, index=IndexSpec("flat")), table(index=hnsw), 30_000, 0) is None


def test_when() -> None:
    """After many publications, or changes where there is an index, at once for another index, the rarer the larger."""
    spec, flat = evolve(SPEC, dim=256), IndexSpec("ivf_flat")
    assert is_due(spec, table(n=36), 1024, None, NOW)
    assert not is_due(spec, table(n=37), 1024, None, NOW)
    assert is_due(spec, table(age=1.01), 1024, None, NOW)  # a megabyte
    assert not is_due(spec, table(age=0.99), 1024, None, NOW)
    assert is_due(spec, table(n=100), 1024, flat, NOW)
    assert is_due(spec, table(n=36, age=0), 1024, flat, NOW)  # its first index
    other = IndexSpec("ivf_pq", {})
    assert not is_due(spec, table(age=0.99, index=other), 1024, flat, NOW)
    assert is_due(spec, table(age=1.01, index=other), 1024, flat, NOW)
    assert not is_due(spec, table(index=flat, changed=102), 1024, flat, NOW)
    assert is_due(spec, table(index=flat, changed=103), 1024, flat, NOW)
    assert is_due(spec, State(64, 0, 1, "t"), 1024, None, NOW)
    assert not is_due(spec, State(63, 0, 1, "t"), 1024, None, NOW)
