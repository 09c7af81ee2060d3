"""LanceDB directories: damaged, gone, copied, shared and tidied."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pytest
import pytest_asyncio

from superorm._async import vector_builds, vector_records, vector_tables, vector_upkeep
from superorm._io import aio
from superorm.exc import ConfigurationError
from superorm.schema.vector_spec import IndexSpec
from superorm.vectors import upkeep
from superorm.vectors._async.lancedb import AsyncLanceVectorIndex
from superorm.vectors.errors import VersionLost
from superorm.vectors.lance_directory import LanceDirectory
from superorm.vectors.rows import Rows
from tests.vectors._async.world import AsyncWorld
from tests.vectors.brute import DIM

VECTORS = np.random.default_rng(0).standard_normal((40, DIM)).astype("f4")


@pytest_asyncio.fixture(params=["lancedb-mongod", "lancescan-mongod"])
async def filled(request: pytest.FixtureRequest, make_world: Callable[[str], AsyncWorld]) -> AsyncWorld:
    """Forty documents, applied and searched."""
    world = make_world(request.param)
    await world.indexes.ensure(world.spec)
    await world.put(dict(enumerate(VECTORS)))
    await world.indexes.apply(world.spec)
    await world.agrees(VECTORS[0], 5)
    return world


@pytest.mark.parametrize("opened_anew", [False, True])
@pytest.mark.parametrize("damage", ["directory", "tables", "data", "truncated", "versions"])
async def test_damage(
    filled: AsyncWorld, make_world: Callable[[str], AsyncWorld], tmp_path: Path, damage: str, opened_anew: bool
) -> None:
    """A damaged or vanished table is built anew from the documents; no answer is ever silently empty."""
    root = tmp_path / "lance"
    (table,) = root.glob("*.lance")
    if damage == "directory":
        shutil.rmtree(root)
    elif damage == "tables":
        shutil.rmtree(table)
    elif damage == "versions":
        shutil.rmtree(table / "_versions")
    else:
        for file in (table / "data").iterdir():
            if damage == "data":
                file.unlink()
            else:
                file.write_bytes(file.read_bytes()[:100])
    world = filled
    if opened_anew:
        world = make_world("lancescan-mongod")
    await world.agrees(VECTORS[1], 5)
    await world.put({0: -VECTORS[0], 1: None})
    await world.agrees(VECTORS[1], 5)
    await world.indexes.rebuild(world.spec)
    await world.put({2: None})
    await world.indexes.apply(world.spec)
    await world.agrees(VECTORS[1], 5)
    assert [] == await world.indexes.check(world.spec)


async def test_writes_after_the_directory_went(filled: AsyncWorld, tmp_path: Path) -> None:
    """Applying to a directory that went builds it anew."""
    shutil.rmtree(tmp_path / "lance")
    await filled.put({0: -VECTORS[0]})
    await filled.indexes.apply(filled.spec)
    await filled.agrees(VECTORS[1], 5)
    assert [] == await filled.indexes.check(filled.spec)


async def test_a_table_that_cannot_be_written(filled: AsyncWorld) -> None:
    """As on a full disk: it is told, and searches rank the documents of what is not applied."""
    copies: Any = filled.indexes.copies

    async def full(*args: Any) -> Any:
        raise VersionLost("the disk is full")

    write, copies.tables.write = copies.tables.write, full
    await filled.put({0: -VECTORS[0]})
    with pytest.raises(VersionLost, match="full"):
        await filled.indexes.apply(filled.spec)
    (problem,) = await filled.indexes.check(filled.spec)
    assert ("unreadable", "the disk is full") == (problem.kind, problem.message)
    await filled.agrees(VECTORS[0], 5)
    copies.tables.write = write
    assert [] == await filled.indexes.check(filled.spec)


async def test_connections_are_closed_one_at_a_time(tmp_path: Path) -> None:
    """Not while another thread opens a table."""
    directory = LanceDirectory(tmp_path)
    closing = threading.Thread(target=directory.close)
    with directory._guard():
        closing.start()
        closing.join(0.05)
        assert closing.is_alive()
    closing.join(10)
    assert not closing.is_alive()


async def test_a_copied_directory_is_another_engine(
    filled: AsyncWorld, make_world: Callable[[str], AsyncWorld], tmp_path: Path
) -> None:
    """A copy of a directory does not share the original's state."""
    shutil.copytree(tmp_path / "lance", tmp_path / "copy")
    first = AsyncLanceVectorIndex(str(tmp_path / "lance"))
    second = AsyncLanceVectorIndex(str(tmp_path / "copy"))
    assert await first.open() != await second.open()
    assert await second.open() == await AsyncLanceVectorIndex(str(tmp_path / "copy")).open()


async def test_two_databases_in_one_directory(filled: AsyncWorld, make_world: Any, tmp_path: Path) -> None:
    """Databases that share a directory do not share tables."""
    world = make_world("lancedb-mongomock")
    await world.put({1: VECTORS[2]})
    assert [1] == [hit.key for hit in await world.agrees(VECTORS[1], 5)]
    await world.indexes.apply(world.spec)
    await world.agrees(VECTORS[1], 5)
    await filled.agrees(VECTORS[1], 5)
    assert [] == await filled.indexes.check(filled.spec)


async def test_tidying(filled: AsyncWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Publications compact the table; superseded versions, tables and records go once no reader needs them."""
    monkeypatch.setattr(vector_upkeep, "_TIDY_EVERY", 4)
    monkeypatch.setattr(vector_builds, "READERS", timedelta(0))
    monkeypatch.setattr(upkeep, "PUBLICATIONS", 4)
    monkeypatch.setattr(upkeep, "BYTES_A_SECOND", 1 << 40)
    monkeypatch.setattr(vector_records, "READERS", timedelta(0))
    await filled.indexes.rebuild(filled.spec)
    assert 2 == len(list((tmp_path / "lance").glob("*.lance")))
    for step in range(24):
        await filled.put({step: -VECTORS[step]})
        await filled.indexes.apply(filled.spec)
        await filled.indexes.copies.keep(filled.spec, lambda: True)
        await filled.agrees(VECTORS[5], 5)
        if step == 14:
            await aio.sleep(1.1)  # the ids of records know seconds
    (table,) = (tmp_path / "lance").glob("*.lance")
    assert len(list((table / "data").iterdir())) < 20
    assert len(list((table / "_versions").iterdir())) < 30
    records = filled.plain["_superorm_records"]
    assert records.count_documents({"kind": "record"}) < 20
    (state,) = records.find({"kind": "state"})
    assert 0 < state["floor"] <= state["n"]
    assert [] == await filled.indexes.check(filled.spec)


async def test_versions_that_readers_need_stay(filled: AsyncWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compaction alone removes no version that was published a moment ago."""
    monkeypatch.setattr(vector_upkeep, "_TIDY_EVERY", 2)
    monkeypatch.setattr(upkeep, "PUBLICATIONS", 2)
    monkeypatch.setattr(upkeep, "BYTES_A_SECOND", 1 << 40)
    async with filled.backend.transaction() as session:
        await filled.search(VECTORS[1], session=session)
        for step in range(8):
            await filled.put({step: -VECTORS[step]})
            await filled.indexes.apply(filled.spec)
            await filled.indexes.copies.keep(filled.spec, lambda: True)
        hits = await filled.search(VECTORS[1], session=session)
        assert (1, 1) == (hits[0].key, hits.explanation.calls)


async def test_another_kind_of_vector(filled: AsyncWorld) -> None:
    """An index whose dimension or metric changed is built anew."""
    from attrs import evolve

    filled.spec = evolve(filled.spec, metric="euclidean")
    await filled.agrees(VECTORS[1], 5)
    assert [] == await filled.indexes.check(filled.spec)


async def test_bad_directories(make_world: Callable[[str], AsyncWorld], tmp_path: Path) -> None:
    """A path that is no directory is a configuration error that names it."""
    (tmp_path / "lance").write_text("a file")
    world = make_world("lancedb-mongod")
    with pytest.raises(ConfigurationError, match="lance"):
        await world.search(VECTORS[0])


async def test_background_applier(filled: AsyncWorld) -> None:
    """What was notified is applied soon, or on close; an error of the applier is reported by a check."""
    records = filled.plain["_superorm_records"]
    await filled.put({0: -VECTORS[0]})
    filled.indexes.notify([filled.spec])
    for _ in range(200):
        if not records.count_documents({"kind": "record", "seq": {"$exists": False}}):
            break
        await aio.sleep(0.02)
    else:
        pytest.fail("the applier did not come")
    copies: Any = filled.indexes.copies
    apply, copies.apply = copies.apply, lambda *a, **k: 1 / 0
    await filled.put({1: -VECTORS[1]})
    filled.indexes.notify([filled.spec])
    await filled.indexes.close()
    copies.apply = apply
    assert ["applier"] == [problem.kind for problem in await filled.indexes.check(filled.spec)]
    filled.indexes.notify([filled.spec])
    await filled.indexes.close()
    assert [] == await filled.indexes.check(filled.spec)


async def test_an_engine_that_gave_fewer_than_it_found_is_not_complete(tmp_path: Path) -> None:
    """Keys left out that are not in the table must not let the last of its rows go missing."""
    index = AsyncLanceVectorIndex(str(tmp_path / "lance"), cache_bytes=0)
    await index.open()
    await index.create("t", DIM)
    await index.append("t", [f"{n:02}" for n in range(40)], VECTORS)
    ver = await index.write("t", None, [], [], VECTORS[:0])
    elsewhere = [f"x{n}" for n in range(50)]
    nearest = await index.nearest("t", ver, VECTORS[0], "euclidean", 10, elsewhere, norm=9)
    assert (10, False) == (len(nearest.keys), nearest.complete)
    nearest = await index.nearest("t", ver, VECTORS[0], "euclidean", 40, elsewhere, norm=9)
    assert (40, True) == (len(nearest.keys), nearest.complete)


async def test_a_write_is_one_commit(tmp_path: Path) -> None:
    """Rows that come, change and go make one version of the table, and so do those that only go."""
    index = AsyncLanceVectorIndex(str(tmp_path / "lance"))
    await index.open()
    await index.create("t", DIM)
    await index.append("t", [f"{n:02}" for n in range(20)], VECTORS[:20])
    first = await index.write("t", None, [], [], VECTORS[:0])
    second = await index.write("t", first, ["00", "01", "aa", "bb"], ["00", "aa"], VECTORS[20:22])
    third = await index.write("t", second, ["02", "03"], [], VECTORS[:0])
    assert [first + 1, first + 2] == [second, third]
    expected = dict(zip([f"{n:02}" for n in range(20)], VECTORS, strict=False)) | {"00": VECTORS[20], "aa": VECTORS[21]}
    for ver, gone in ((second, ["01"]), (third, ["01", "02", "03"])):
        kept = [key for key in expected if key not in gone]
        rows = Rows(DIM, "dot")
        rows.put(kept, np.array([expected[key] for key in kept]))
        assert {} == rows.compare(await index.read("t", ver, DIM, "dot"))


async def test_a_table_of_before_lengths_were_recorded_is_built_anew(
    filled: AsyncWorld, make_world: Callable[[str], AsyncWorld]
) -> None:
    """Without the length of the longest row nobody knows how exact the engine is."""
    records = filled.plain["_superorm_records"]
    records.update_one({"kind": "state"}, {"$unset": {"norm": ""}})
    hits = await make_world("lancedb-mongod").agrees(VECTORS[0], 5)
    assert 1 == hits.explanation.calls
    assert np.isclose(1, records.find_one({"kind": "state"})["norm"])


def test_the_memory_for_indexes_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search reads those parts of an index again that LanceDB does not keep; the answers are the same."""
    rows = np.random.default_rng(0).standard_normal((20_000, 64)).astype("f4")
    directory = LanceDirectory(tmp_path)
    directory.open()
    directory.create("t", 64, ())
    directory.append("t", [f"{key:05}" for key in range(len(rows))], rows, {})
    assert directory.build_index("t", "euclidean", IndexSpec("ivf_flat", {"num_partitions": 20}), lambda: True)
    session, sessions = lancedb.Session, list[Any]()
    monkeypatch.setattr(lancedb, "Session", lambda **sizes: sessions.append(session(**sizes)) or sessions[-1])
    for cached in (2 << 20, 1 << 30):
        directory = LanceDirectory(tmp_path, cached)
        for query in rows[:5]:
            found = directory.nearest("t", 3, query, "euclidean", 10, (), 100.0, False, None)
            nearest = np.argsort(((rows - query) ** 2).sum(axis=1), kind="stable")[:10]
            assert [f"{key:05}" for key in nearest] == found.keys
    few, all_parts = (one.size_bytes for one in sessions)
    assert few < 3 << 20
    assert all_parts > rows.nbytes


async def stamps(world: AsyncWorld) -> list[int | None]:
    """Which publication applied each record, in the order of the commits."""
    copies: Any = world.indexes.copies
    engine = await copies.engine()
    records = world.plain["_superorm_records"].find({"kind": "record"}).sort("_id", 1)
    return [record.get("seq", {}).get(engine) for record in records]


async def test_what_is_committed_meanwhile_is_left(filled: AsyncWorld) -> None:
    """One publication applies what is there; what comes beside it waits for the next, and searches find it."""
    copies: Any = filled.indexes.copies
    write, times = copies.write_step, iter(range(3))

    async def write_step(*args: Any) -> Any:
        made = await write(*args)
        for number in times:  # a writer that is never done, as it seems
            await filled.put({number: -VECTORS[number]})
            break
        return made

    copies.write_step = write_step
    (n,) = await stamps(filled)
    await filled.put({5: None})
    await filled.indexes.apply(filled.spec)
    assert [n, n + 1, None] == await stamps(filled)
    await filled.agrees(VECTORS[0], 40)
    await filled.indexes.apply(filled.spec)
    assert [n, n + 1, n + 2, None] == await stamps(filled)
    await filled.agrees(VECTORS[0], 40)


async def test_more_than_one_publication_takes(filled: AsyncWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that was there is applied, in several publications."""
    monkeypatch.setattr(vector_tables, "_KEYS_PER_PUBLICATION", 2)
    (n,) = await stamps(filled)
    for number in range(3):
        await filled.put({number: -VECTORS[number]})
    await filled.indexes.apply(filled.spec)
    assert [n, n + 1, n + 1, n + 2] == await stamps(filled)
    await filled.agrees(VECTORS[0], 40)
    assert [] == await filled.indexes.check(filled.spec)


async def test_the_applier_pauses_beside_a_writer(filled: AsyncWorld) -> None:
    """What is committed while the applier is at work waits for its next run, a pause later."""
    copies: Any = filled.indexes.copies
    write, number = copies.write_step, 0

    async def write_step(*args: Any) -> Any:
        nonlocal number
        number += 1
        if number < 4:
            await filled.put({number: -VECTORS[number]})
            filled.indexes._background._waiting.add(filled.spec)
        return await write(*args)

    copies.write_step = write_step
    (n,) = await stamps(filled)
    await filled.put({0: -VECTORS[0]})
    filled.indexes._background._waiting.add(filled.spec)
    for applied in ([n + 1, None], [n + 1, n + 2, None], [n + 1, n + 2, n + 3, None], [n + 1, n + 2, n + 3, n + 4]):
        await filled.indexes._background._apply_waiting()
        assert [n, *applied] == await stamps(filled)
    assert not filled.indexes._background._waiting
    await filled.agrees(VECTORS[0], 40)
