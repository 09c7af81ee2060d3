"""Fields that tables mirror: searches push conditions on them down, and answer as brute force does."""

from __future__ import annotations

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

from superorm._async import vector_builds, vector_indexes, vector_memory, vector_records, vector_server_indexes
from superorm._io import aio
from superorm.codec.keys import encode_key
from superorm.compile.plan import Aggregate, Count, Find
from superorm.schema.vector_spec import FilterField, IndexSpec, MirroredPath, VectorPath, VectorSpec
from superorm.unitofwork.writes import Insert, Update, UpdateOp
from superorm.vectors import planning, upkeep
from superorm.vectors._async.lancedb import AsyncLanceVectorIndex
from superorm.vectors.request import SearchRequest
from tests.vectors._async.test_traces import Pause, nothing
from tests.vectors._async.world import SPEC, AsyncWorld, as_found
from tests.vectors.brute import DIM, brute, stored

ROWS = 600
FIELDS = (FilterField("r", "int"), FilterField("w", "str"), FilterField("c.x", "float"))
MIRRORING = evolve(SPEC, filter_fields=FIELDS)
WHOLE: list[dict[str, Any]] = [
    {"r": {"$lt": 300}},
    {"r": {"$gte": 100, "$lte": 159}},
    {"r": 7},
    {"r": {"$in": [1, 5, 200, None]}},
    {"r": None},
    {"r": {"$ne": 5}},
    {"r": {"$nin": [None, 5, 6]}},
    {"w": {"$gt": "w1"}, "r": {"$lt": 400}},
    {"$or": [{"r": {"$lt": 30}}, {"w": "w3"}, {"$and": [{"c.x": {"$gt": 0.5}}, {"r": {"$gt": 90}}]}]},
    {"c.x": {"$lte": 0.25}},
    {"c.x": None},
]
PARTLY: list[dict[str, Any]] = [
    {"r": {"$lt": 300}, "far": True},
    {"$and": [{"w": {"$regex": "[12]"}}, {"r": {"$gte": 50}}]},
    {"$or": [{"r": {"$lt": 200}, "far": False}, {"r": {"$gt": 500}}]},
]
NOT: list[dict[str, Any]] = [
    {"far": True},
    {"r": {"$exists": True}},
    {"r": {"$gt": 2.5}},
    {"$or": [{"r": {"$lt": 300}}, {"far": True}]},
    {"$nor": [{"r": {"$lt": 30}}]},
    {"r": {"$elemMatch": {"$gt": 5}}},
]
ODD: list[Any] = [2.5, [5, 700], "7", True, 2**63 - 1, -(2**63), [None], float("nan"), {"x": 1}, [], 150.0]


def documents() -> list[dict[str, Any]]:
    """Documents of which some hold what does not fit, or nothing; half of them are far from the first."""
    rng = np.random.default_rng(29)
    vectors = rng.standard_normal((ROWS, DIM)).astype("f4")
    far = vectors @ vectors[0] < 0
    found: list[dict[str, Any]] = []
    for i in range(ROWS):
        one: dict[str, Any] = {"_id": i, "v": stored(vectors[i]), "far": bool(far[i])}
        if i % 11:
            one["r"] = ODD[i // 25 % len(ODD)] if i % 25 == 0 else int(rng.integers(0, 600))
        if i % 7:
            one["w"] = ["w9"] if i % 50 == 1 else f"w{int(rng.integers(0, 5))}"
        if i % 5:
            one["c"] = [{"x": 0.75}] if i % 40 == 1 else {"x": float(rng.random())}
        found.append(one)
    return found


DOCUMENTS = documents()
KNOWN_AFTER = upkeep.KNOWN_AFTER


def vector(i: int) -> np.ndarray:
    """The vector of one of them."""
    return np.frombuffer(DOCUMENTS[i]["v"], "<f4", offset=2)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few documents are few that small collections take the ways of large ones, and all know of fields at once."""
    monkeypatch.setattr(planning, "FEW", 20)
    monkeypatch.setattr(upkeep, "KNOWN_AFTER", timedelta(0))


async def filled(world: AsyncWorld, spec: Any = MIRRORING) -> AsyncWorld:
    """The world with all documents, applied."""
    world.spec = spec
    await world.indexes.ensure(spec)
    await world.write([Insert("things", DOCUMENTS)], [document["_id"] for document in DOCUMENTS])
    await world.indexes.apply(spec)
    return world


@pytest_asyncio.fixture(
    params=[
        "lancescan-mongod",
        "lancedb-mongod",
        "memory-mongod",
        "lancescan-mongomock",
        "lancedb-mongomock",
        "memory-mongomock",
    ]
)
async def world(request: pytest.FixtureRequest, make_world: Callable[[str], AsyncWorld]) -> AsyncWorld:
    """In the engine, or in memory, with a server and without."""
    return await filled(make_world(request.param))


@pytest_asyncio.fixture
async def scanned(make_world: Callable[[str], AsyncWorld]) -> AsyncWorld:
    """In the engine."""
    return await filled(make_world("lancescan-mongod"))


def unkept(world: AsyncWorld) -> AsyncWorld:
    """The world, in which the copy is put in order only where the test does that."""
    keeper: Any = world.indexes._background._keeper
    keeper.wake = Mock()
    return world


def state_of(world: AsyncWorld) -> Any:
    """The state as it is stored."""
    return world.plain["_superorm_records"].find_one({"kind": "state"})


def state_of_engine(world: AsyncWorld, engine: str) -> Any:
    """That of one of several engines."""
    return world.plain["_superorm_records"].find_one({"i": SPEC.name, "engine": engine})


async def test_every_filter(world: AsyncWorld) -> None:
    """k of them whenever k match, applied or pending, and pushed down where that says the same."""
    in_memory = await (await world.indexes.copies.view(world.spec, None, outside=True)).held() is not None
    for changed in (False, True):
        if changed:
            await world.put({i: -vector(i) for i in range(0, ROWS, 40)}, r=7)
            await world.put({i: vector(0) for i in range(1, ROWS, 100)}, r=[5], w="w1")
            await world.put({ROWS + 1: vector(0)}, c={"x": 0.1}, r=None)
        for pushed, filters in (("whole", WHOLE), ("part", PARTLY), ("not", NOT)):
            for filter in filters:
                with_vectors = {"$and": [filter, {"v": {"$ne": None}}]}
                matching = world.plain.things.count_documents(with_vectors)
                for k in (1, 10, 30):
                    hits = await world.agrees(vector(0), k, filter=filter)
                    assert min(k, matching) == len(hits)
                    how = hits.explanation
                    if in_memory:
                        assert (pushed == "whole") == (how.pushed is not None) == (how.strategy == "push-down")
                        assert how.passing is None
                    elif pushed == "whole":
                        assert how.strategy == (
                            "gather" if how.passing < 20 or matching <= how.passing else "push-down"
                        )
                        assert how.matched is None
                        assert str(how.passing) in how.why
                    elif matching > 20:
                        assert how.strategy == ("push-down" if pushed == "part" else "over-fetch")
                        assert (pushed == "part") == (how.pushed is not None)
                        assert "mirrored" in how.why or "cannot be pushed down" in how.why
    assert [] == await world.indexes.check(world.spec)


async def test_options(scanned: AsyncWorld) -> None:
    """leave_out, min_score and projections go with conditions that are pushed down."""
    for filter in WHOLE:
        expected = [key for key, _ in scanned.expected(vector(0), 11, filter) if key != 0][:10]
        assert expected == [
            hit.key for hit in await scanned.search(vector(0), 10, filter=filter, leave_out=encode_key(0))
        ]
        keys = [key for key, score in scanned.expected(vector(0), ROWS, filter) if score >= 0.7][:10]
        assert keys == [hit.key for hit in await scanned.search(vector(0), 10, filter=filter, min_score=0.7)]
        hits = await scanned.search(vector(0), 3, filter=filter, projection={"far": 1})
        assert [{"_id": hit.key, "far": DOCUMENTS[hit.key]["far"]} for hit in hits] == [hit.document for hit in hits]


@pytest.mark.parametrize("most", [5, 40, 150])
async def test_an_index_of_the_server(scanned: AsyncWorld, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Where it finds what matches, the server lists few, and of more the engine looks; pending changes count."""
    monkeypatch.setattr(planning, "FEW", most)
    await scanned.backend.create_index("things", [("r", 1)])
    for changed in (False, True):
        if changed:
            await scanned.put({i: -vector(i) for i in range(0, ROWS, 40)}, r=7)
            await scanned.put({i: vector(0) for i in range(1, ROWS, 100)}, r=[5])
        for below in (5, 60, 100, 400):
            filter = {"r": {"$gte": 0, "$lt": below}}
            matching = scanned.plain.things.count_documents(filter)
            hits = await scanned.agrees(vector(0), 10, filter=filter, index="r")
            how = hits.explanation
            assert ("push-down" if matching > most else "gather") == how.strategy
            assert (min(most, matching), matching > most, None) == (how.matched, how.more, how.passing)
            assert "by the index on r" in how.why


async def test_an_index_that_is_not_there(scanned: AsyncWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is only declared, was dropped, or leaves documents out, is none that the server reads by."""
    monkeypatch.setattr(planning, "FEW", 40)
    monkeypatch.setattr(vector_server_indexes, "_LATE", 0.0)
    things = scanned.plain.things

    async def examined() -> int:
        """How many documents the server reads for the most costly read, as its own plans say."""
        hits = await scanned.agrees(vector(0), 10, filter={"r": {"$gte": 0, "$lt": 20}}, index="r")
        assert ("by the index on r" in hits.explanation.why) == ("r_1" in things.index_information())
        found = 0
        for read in hits.explanation.reads:
            if isinstance(read, Find):
                command: dict[str, Any] = {"find": "things", "filter": read.filter, "limit": read.limit}
            elif isinstance(read, Count):
                command = {"count": "things", "query": read.filter, "limit": read.limit}
            else:
                assert isinstance(read, Aggregate)
                command = {"aggregate": "things", "pipeline": read.pipeline, "cursor": {}}
            plan = things.database.command({"explain": command, "verbosity": "executionStats"})
            stats = (
                plan["executionStats"] if "executionStats" in plan else plan["stages"][0]["$cursor"]["executionStats"]
            )
            found = max(found, stats["totalDocsExamined"])
        return found

    matching = things.count_documents({"r": {"$gte": 0, "$lt": 20}})
    assert 10 < matching <= 40
    most = matching + 10
    assert await examined() <= most
    things.create_index([("r", 1)])
    assert await examined() <= most
    things.drop_index("r_1")
    assert await examined() <= most
    for options in ({"sparse": True}, {"partialFilterExpression": {"r": {"$gt": 5}}}, {"collation": {"locale": "de"}}):
        things.create_index([("r", 1)], name="odd", **options)
        assert await examined() <= most
        things.drop_index("odd")


async def test_ties_by_an_index_of_the_server(scanned: AsyncWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those as near as the k-th, the least keys are found; what is left out or cannot be ranked takes no place."""
    monkeypatch.setattr(planning, "FEW", 200)
    await scanned.backend.create_index("things", [("r", 1)])
    tied, far, lost = range(0, 60, 2), range(61, 160), range(161, 200)
    await scanned.put({i: vector(0) for i in tied} | {i: -vector(0) for i in far}, r=5_000)
    await scanned.put({i: np.zeros(DIM, np.float32) for i in lost}, r=5_000)
    await scanned.put({200: None}, r=5_000)
    for k in (1, 29, 30, 31, 129, 140):
        hits = await scanned.agrees(vector(0), k, filter={"r": 5_000}, index="r")
        how = hits.explanation
        assert ("gather", 169, False) == (how.strategy, how.matched, how.more)
        left = await scanned.search(vector(0), k, filter={"r": 5_000}, index="r", leave_out=encode_key(2))
        assert [key for key in (*tied, *far) if key != 2][:k] == [hit.key for hit in left]
    few = await scanned.agrees(-vector(0), 3, filter={"r": {"$gte": 5_000, "$lt": 5_001}}, index="r")
    assert [61, 62, 63] == [hit.key for hit in few]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("pair", ["lancescan-mongod", "lancescan-mongomock"])
async def test_writes_meanwhile(make_world: Callable[[str], AsyncWorld], when: str, applied: bool, pair: str) -> None:
    """Documents that begin or cease to match while the engine is asked change no snapshot, and no later answer."""
    world = await filled(make_world(pair))
    transactions = (await world.backend.capabilities()).transactions
    copies: Any = world.indexes.copies
    view = copies.view
    for step, filter in enumerate([{"r": {"$lt": 300}}, {"r": {"$lt": 12}}, {"r": {"$lt": 300}, "far": {"$ne": None}}]):
        (first, _), (second, _), (third, _) = world.expected(vector(0), 3, filter)
        hidden = [d["_id"] for d in world.plain.things.find({"r": {"$gt": 400}}).limit(2)]

        async def meanwhile(first: int = first, second: int = second, third: int = third, keys: Any = hidden) -> None:
            await world.put({first: vector(0)}, r=5_000)
            await world.put({second: vector(0)}, r="5")
            await world.remove(third)
            await world.put({key: vector(0) for key in keys}, r=7)
            if applied:
                await world.indexes.apply(world.spec)

        hooks = [{"before": nothing, "after": nothing, when: meanwhile}]

        async def hooked(*args: Any, hooks: list[Any] = hooks, **names: Any) -> Any:
            seen = await view(*args, **names)
            return Pause(seen, **hooks.pop()) if hooks else seen

        expected = [found for found, _ in world.expected(vector(0), 10, filter)]
        copies.view = hooked
        hits = await world.search(vector(0), 10, filter=filter)
        copies.view = view
        assert hits.explanation.pushed, step
        if not transactions:
            expected = [found for found, _ in world.expected(vector(0), 10, filter)]
        assert expected == [hit.key for hit in hits]
        await world.agrees(vector(0), 10, filter=filter)
        await world.indexes.apply(world.spec)
        await world.agrees(vector(0), 10, filter=filter)


async def test_in_a_transaction(scanned: AsyncWorld) -> None:
    """A transaction's own changes of mirrored fields count there, those of others do not, and an abort undoes them."""
    filter = {"r": {"$lt": 300}}
    before = [key for key, _ in scanned.expected(vector(0), 10, filter)]
    try:
        async with scanned.backend.transaction() as session:
            hits = await scanned.search(vector(0), 10, filter=filter, session=session)
            assert before == [hit.key for hit in hits]
            op = UpdateOp(q={"_id": {"$in": before[:2]}}, u={"$set": {"r": 5_000}}, multi=True)
            for write in [Update("things", [op]), *scanned.indexes.records({scanned.spec: before[:2]})]:
                await scanned.backend.write(write, session=session)
            await scanned.put({before[2]: vector(3)}, r=6_000)
            await scanned.indexes.apply(scanned.spec)
            hits = await scanned.search(vector(0), 8, filter=filter, session=session)
            assert hits.explanation.pushed
            assert before[2:] == [hit.key for hit in hits]
            raise KeyError
    except KeyError:
        pass
    hits = await scanned.agrees(vector(0), 10, filter=filter)
    assert before[:2] == [hit.key for hit in hits][:2]


@pytest.mark.parametrize("kind", [None, "ivf_sq", "ivf_pq", "hnsw_flat", "hnsw_sq"])
async def test_recall_with_an_index(
    make_world: Callable[[str], AsyncWorld], monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    """At every selectivity, where the engine asks its index, in a copy of the table that has the columns too."""
    monkeypatch.setattr(upkeep, "INDEXED_FROM", 100)
    monkeypatch.setattr(upkeep, "BYTES_A_SECOND", 1 << 40)
    index = None if kind is None else IndexSpec(kind, {"num_sub_vectors": 2} if kind == "ivf_pq" else {})
    world = make_world("lancescan-mongod")
    world.spec = evolve(MIRRORING, index=index)
    await world.indexes.ensure(world.spec)
    rng = np.random.default_rng(7)
    vectors = rng.standard_normal((4_000, DIM)).astype("f4")
    numbers = rng.permutation(4_000).tolist()
    given = [{"_id": i, "v": stored(vectors[i]), "r": numbers[i]} for i in range(4_000)]
    await world.write([Insert("things", given)], list(range(4_000)))
    await world.indexes.apply(world.spec)
    await world.indexes.copies.keep(world.spec, lambda: True)
    assert (kind or "ivf_flat") == state_of(world)["made"]["index"]["kind"]
    for below in (2_000, 400, 40):
        filter, found = {"r": {"$lt": below}}, 0
        matching = list(world.plain.things.find(filter))
        for query in rng.standard_normal((20, DIM)).astype("f4"):
            hits = await world.indexes.search(SearchRequest(world.spec, query, k=10, filter=filter), as_found)
            assert (10, "push-down") == (len(hits), hits.explanation.strategy)
            found += len({hit.key for hit in hits} & {key for key, _ in brute(matching, query, 10)})
        assert found >= 0.99 * 200, below
    await world.put({1: vectors[0]}, r=39)
    await world.agrees(vectors[0], 10, filter={"r": {"$lt": 40}})


async def test_random_writes(scanned: AsyncWorld) -> None:
    """Whatever is written between searches, each filter gives what matches now."""
    rng = np.random.default_rng(31)
    filters = [*WHOLE, *PARTLY, *NOT]
    for step in range(60):
        keys = rng.integers(0, ROWS + 50, 3).tolist()
        if step % 4 == 0:
            await scanned.remove(*keys)
        else:
            value = [int(rng.integers(0, 600)), None, ODD[step % len(ODD)]][step % 3]
            moved = {key: rng.standard_normal(DIM) for key in keys}
            await scanned.put(moved, r=value, w=f"w{step % 5}", c={"x": float(rng.random())})
        if step % 5 == 0:
            await scanned.indexes.apply(scanned.spec)
        await scanned.agrees(vector(step), 5, filter=filters[step % len(filters)])
    assert [] == await scanned.indexes.check(scanned.spec)


async def test_fields_that_are_named_later(
    make_world: Callable[[str], AsyncWorld], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are announced, and mirrored once everybody records their changes; until then searches do without."""
    world = await filled(make_world("lancescan-mongod"), SPEC)
    monkeypatch.setattr(upkeep, "KNOWN_AFTER", KNOWN_AFTER)
    other = unkept(make_world("lancescan-mongod"))
    other.spec = MIRRORING
    filter = {"r": {"$lt": 300}}
    hits = await other.agrees(vector(0), 10, filter=filter)
    assert ("over-fetch", None) == (hits.explanation.strategy, hits.explanation.pushed)
    assert "'r' is not mirrored" in hits.explanation.why
    copies, table = other.indexes.copies, state_of(world)["table"]
    assert await copies.due(other.spec)
    for _ in range(2):
        left = await copies.keep(other.spec, lambda: True)
        assert 90 < left <= 100
    state = state_of(world)
    assert table == state["table"]
    assert {"c.x", "r", "w"} == {field["path"] for field in state["coming"]["filters"]}
    assert datetime.now(UTC) - state["coming"]["at"].replace(tzinfo=UTC) < timedelta(seconds=60)
    found = await make_world("lancescan-mongod").indexes.others(["things"], [SPEC])
    assert [MirroredPath("things", path, SPEC.name) for path in ("c.x", "r", "w")] == found["things"]
    announced = state["coming"]["at"]
    monkeypatch.setattr(upkeep, "KNOWN_AFTER", timedelta(0))
    await copies.keep(other.spec, lambda: False)
    assert table == state_of(world)["table"]
    assert await copies.keep(other.spec, lambda: True) is None
    state = state_of(world)
    assert announced == state["coming"]["at"]
    assert table != state["table"]
    assert {"r", "w", "c.x"} == {field["path"] for field in state["made"]["filters"]}
    assert [] == state["coming"]["filters"]
    assert not await copies.due(other.spec)
    hits = await other.agrees(vector(0), 10, filter=filter)
    assert "push-down" == hits.explanation.strategy
    await world.put({0: vector(0)}, r=1)  # by the program that does not name the fields
    await world.indexes.apply(world.spec)
    await other.agrees(vector(0), 10, filter=filter)
    hits = await world.agrees(vector(0), 10, filter=filter)
    assert ("over-fetch", None) == (hits.explanation.strategy, hits.explanation.pushed)
    assert [] == await other.indexes.check(other.spec)


@pytest.fixture
def skewed(monkeypatch: pytest.MonkeyPatch) -> type[datetime]:
    """A client's clock, of an hour ago where its class attribute does not say otherwise."""

    class Skewed(datetime):
        by = timedelta(hours=-1)

        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + cls.by

    for module in (vector_builds, vector_memory, vector_records):
        monkeypatch.setattr(module, "datetime", Skewed)
    return Skewed


@pytest.mark.parametrize("kind", ["lancescan-mongod", "memory-mongod"])
async def test_clocks_that_are_wrong(
    kind: str, make_world: Callable[[str], AsyncWorld], skewed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An announcement waits by the server's clock, however wrong those of who makes it and who looks at it are."""
    monkeypatch.setattr(upkeep, "KNOWN_AFTER", KNOWN_AFTER)
    world = await filled(make_world(kind), SPEC)
    other = unkept(make_world(kind))
    other.spec = MIRRORING
    await other.indexes.ensure(other.spec)
    for hours in (-1, 1, 0, 2):
        skewed.by = timedelta(hours=hours)
        left = await other.indexes.copies.keep(other.spec, lambda: True)
        assert left is not None
        assert 90 < left <= 100
    assert ROWS == len(await world.agrees(vector(0), ROWS))
    assert abs(datetime.now(UTC) - state_of(world)["coming"]["at"].replace(tzinfo=UTC)) < timedelta(seconds=60)
    skewed.by = timedelta(hours=-1)
    await other.indexes.rebuild(other.spec)  # at once, which the machines that follow have to know
    state = state_of(world)
    assert abs(datetime.now(UTC) - state["made"]["at"].replace(tzinfo=UTC)) < timedelta(seconds=60)
    assert [] == state["coming"]["filters"]
    assert [] == await other.indexes.check(other.spec)


async def test_what_is_rebuilt_without_fields_forgets_them(
    make_world: Callable[[str], AsyncWorld], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a table does not mirror a field any more, its changes are not recorded, however it was announced before."""
    monkeypatch.setattr(upkeep, "KNOWN_AFTER", timedelta(0))
    world = unkept(make_world("lancescan-mongod"))
    await world.indexes.ensure(SPEC)
    world.spec = MIRRORING
    await world.indexes.copies.keep(world.spec, lambda: True)
    assert {"r", "w", "c.x"} == {field["path"] for field in state_of(world)["made"]["filters"]}
    world.spec = evolve(SPEC, filter_fields=(FilterField("r", "int"),))
    await world.indexes.rebuild(world.spec)
    found = await make_world("lancescan-mongod").indexes.others(["things"], [SPEC])
    assert [MirroredPath("things", "r", SPEC.name)] == found["things"]


async def test_another_field_and_another_kind(scanned: AsyncWorld) -> None:
    """A rebuild mirrors what is named now; a column of another kind is not asked."""
    unkept(scanned)
    scanned.spec = evolve(SPEC, filter_fields=(FilterField("r", "float"), FilterField("far", "bool")))
    filter = {"r": {"$lt": 300.5}, "far": False}
    hits = await scanned.agrees(vector(0), 10, filter=filter)
    assert hits.explanation.pushed is None
    await scanned.indexes.copies.keep(scanned.spec, lambda: True)
    assert 5 == len(state_of(scanned)["made"]["filters"])  # others may still use the other columns
    hits = await scanned.agrees(vector(0), 10, filter=filter)
    assert ("push-down", None) == (hits.explanation.strategy, hits.explanation.matched)
    scanned.spec = evolve(SPEC, filter_fields=(FilterField("far", "bool"),))
    await scanned.indexes.rebuild(scanned.spec)
    assert [{"path": "far", "kind": "bool"}] == state_of(scanned)["made"]["filters"]
    assert "push-down" == (await scanned.agrees(vector(0), 10, filter={"far": True})).explanation.strategy
    await scanned.put({0: -vector(0)}, far=True)
    await scanned.indexes.apply(scanned.spec)
    await scanned.agrees(vector(0), 10, filter={"far": True})
    assert [] == await scanned.indexes.check(scanned.spec)


async def test_who_knows_which_fields(scanned: AsyncWorld, make_world: Callable[[str], AsyncWorld]) -> None:
    """What a table mirrors, and not all classes that are written through name, is recorded all the same."""
    indexes = make_world("lancescan-mongod").indexes
    few = evolve(SPEC, filter_fields=FIELDS[:1])
    lacking = [MirroredPath("things", "c.x", "things.v"), MirroredPath("things", "w", "things.v")]
    assert {"things": []} == await indexes.others(["things"], [MIRRORING])
    assert {"things": lacking} == await indexes.others(["things"], [few])
    assert {"things": lacking} == await indexes.others(["things"], [MIRRORING, few])
    everything = [VectorPath("things", "v"), lacking[0], MirroredPath("things", "r", "things.v"), lacking[1]]
    assert {"things": everything, "x": []} == await indexes.others(["things", "x"], [])
    assert {"x": []} == await indexes.others(["x"], [few])
    (insert,) = indexes.records({lacking[0]: [1, 2]})
    assert [("things.v", [1, 2])] == [(record["i"], record["keys"]) for record in insert.documents]


async def test_fields_are_known_while_the_table_is_built(make_world: Callable[[str], AsyncWorld]) -> None:
    """A class that does not name them records their changes from the start, though no index was registered lately."""
    world = make_world("lancescan-mongod")
    assert {} == await world.indexes.others(["things"], [SPEC])
    copies: Any = world.indexes.copies
    fill, known = copies.fill, list[Any]()

    async def filled_meanwhile(*given: Any, **named: Any) -> Any:
        known.append(await world.indexes.others(["things"], [SPEC]))
        return await fill(*given, **named)

    copies.fill = filled_meanwhile
    await world.indexes.ensure(MIRRORING)
    assert known == [{"things": [MirroredPath("things", one, "things.v") for one in ("c.x", "r", "w")]}]


async def change(world: AsyncWorld, known: list[VectorSpec], key: int, **fields: Any) -> int:
    """A commit by a program whose class names these indexes, and no others; how many records it left."""
    others = await world.indexes.others(["things"], known)
    touched = [one for one in (*known, *others.get("things", ())) if one.assigned_by(fields)]
    records = world.indexes.records({one: [key] for one in touched})
    async with world.backend.transaction() as session:
        for write in [Update("things", [UpdateOp(q={"_id": key}, u={"$set": fields})]), *records]:
            await world.backend.write(write, session=session)
    return sum(len(one.documents) for one in records)


@pytest.mark.parametrize("known", [[], [SPEC]], ids=["first index", "another engine"])
@pytest.mark.parametrize("when", ["during the build", "after it"])
async def test_an_engine_that_is_new(
    make_world: Callable[[str], AsyncWorld],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    known: list[VectorSpec],
    when: str,
) -> None:
    """What a program writes that does not know of the fields yet is found, also once they are mirrored."""
    monkeypatch.setattr(upkeep, "KNOWN_AFTER", KNOWN_AFTER)
    writer = make_world("lancescan-mongod")
    if known:
        await filled(writer, SPEC)
    else:
        await writer.write([Insert("things", DOCUMENTS)], [])
    assert not (await writer.indexes.others(["things"], known)).get("things")  # read now, for half a minute
    other = make_world("lancescan-mongod")
    tables = AsyncLanceVectorIndex(str(tmp_path / "elsewhere"), cache_bytes=0)
    other.indexes, other.spec = vector_indexes.AsyncVectorIndexes(other.backend, tables), MIRRORING
    copies: Any = unkept(other).indexes.copies
    filter = {"r": -2_000}
    fill = copies.fill

    async def then_changed(*args: Any, **options: Any) -> Any:
        done = await fill(*args, **options)
        await change(writer, known, 1, r=-2_000)
        return done

    if when == "during the build":
        copies.fill = then_changed
    await other.indexes.ensure(MIRRORING)
    copies.fill = fill
    if when == "after it":
        assert not await change(writer, known, 1, r=-2_000)
    hits = await other.agrees(vector(0), 10, filter=filter)
    assert ([1], None) == ([hit.key for hit in hits], hits.explanation.pushed)
    assert 0 < await copies.keep(MIRRORING, lambda: True) <= 100
    assert not await change(writer, known, 2, r=-2_000)
    monkeypatch.setattr(upkeep, "KNOWN_AFTER", timedelta(0))  # the time has passed
    writer.indexes._registered._read_at = float("-inf")
    assert await change(writer, known, 3, r=-2_000)
    copies.fill = then_changed
    assert await copies.keep(MIRRORING, lambda: True) is None
    copies.fill = fill
    hits = await other.agrees(vector(0), 10, filter=filter)
    assert {1, 2, 3} == {hit.key for hit in hits}
    assert "r" in {field["path"] for field in state_of_engine(other, await copies.engine())["made"]["filters"]}
    assert hits.explanation.pushed
    await change(writer, known, 4, r=-2_000)
    await other.indexes.apply(MIRRORING)
    await other.agrees(vector(0), 10, filter=filter)
    assert [] == await other.indexes.check(MIRRORING)


async def test_an_engine_of_an_index_that_others_mirror(
    scanned: AsyncWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It mirrors at once what all programs have known for long."""
    monkeypatch.setattr(upkeep, "KNOWN_AFTER", KNOWN_AFTER)
    long = {"$set": {"made.at": datetime.now(UTC) - KNOWN_AFTER}}
    scanned.plain["_superorm_records"].update_one({"kind": "state"}, long)
    tables = AsyncLanceVectorIndex(str(tmp_path / "elsewhere"), cache_bytes=0)
    scanned.indexes = vector_indexes.AsyncVectorIndexes(scanned.backend, tables)
    hits = await scanned.agrees(vector(0), 10, filter={"r": {"$lt": 300}})
    assert "push-down" == hits.explanation.strategy


async def test_others_are_put_in_order_while_one_waits(
    make_world: Callable[[str], AsyncWorld], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its fields are mirrored when their time has come, by what the state says then."""
    monkeypatch.setattr(upkeep, "KNOWN_AFTER", KNOWN_AFTER)
    world = make_world("lancescan-mongod")
    world.indexes._background._keeper._pause = 0.02  # type: ignore[attr-defined]
    copies: Any = world.indexes.copies
    kept, keep = list[str](), copies.keep

    async def noted(spec: Any, go_on: Any) -> Any:
        after = await keep(spec, go_on)
        kept.append(spec.name)
        return after

    async def until(done: Callable[[], bool]) -> None:
        for _ in range(3_000):
            if done():
                return
            await aio.sleep(0.01)
        pytest.fail("the keeper waits")

    def fields() -> set[str]:
        return {field["path"] for field in state_of_engine(world, engine)["made"]["filters"]}

    copies.keep, engine, other = noted, await copies.engine(), evolve(SPEC, path="other")
    await filled(world, SPEC)
    await world.indexes.ensure(MIRRORING)
    await until(lambda: MIRRORING.name in kept)
    await world.indexes.ensure(other)
    world.indexes.notify([other])
    await until(lambda: other.name in kept)
    assert set() == fields()
    await copies.rebuild(evolve(SPEC, filter_fields=(FilterField("far", "bool"),)))
    assert 90 < world.indexes._background._later[MIRRORING] - time.monotonic() <= 100
    monkeypatch.setattr(upkeep, "KNOWN_AFTER", timedelta(0))  # the time has come
    world.indexes._background._later[MIRRORING] = 0
    await until(lambda: {"far", "r", "w", "c.x"} == fields())
    await world.indexes.close()
    world.spec = MIRRORING
    hits = await world.agrees(vector(0), 10, filter={"r": {"$lt": 300}})
    assert "push-down" == hits.explanation.strategy


async def test_fields_that_are_named_while_the_copy_waits(make_world: Callable[[str], AsyncWorld]) -> None:
    """A copy that is to be put in order anyway is given them."""
    world = unkept(make_world("lancescan-mongod"))
    await world.indexes.ensure(SPEC)
    world.indexes._background._kept.add(SPEC)
    await world.indexes.ensure(MIRRORING)
    assert [FIELDS] == [spec.filter_fields for spec in world.indexes._background._kept]


async def test_writes_by_other_programs(scanned: AsyncWorld) -> None:
    """A check finds rows that mirror what is not there any more, and a rebuild repairs them."""
    (nearest, _), *_ = scanned.expected(vector(0), 1, {"r": {"$gt": 400}})
    scanned.plain.things.update_one({"_id": nearest}, {"$set": {"r": 7}})
    (problem,) = await scanned.indexes.check(scanned.spec)
    assert (nearest, "different") == (problem.key, problem.kind)
    await scanned.indexes.rebuild(scanned.spec)
    assert [] == await scanned.indexes.check(scanned.spec)
    await scanned.agrees(vector(0), 10, filter={"r": {"$lt": 300}})


async def test_a_collation(make_world: Callable[[str], AsyncWorld]) -> None:
    """Texts that the server compares by a collation are not compared by the engine."""
    world = make_world("lancescan-mongod")
    world.plain.create_collection("things", collation={"locale": "en", "strength": 1})
    await filled(world)
    hits = await world.agrees(vector(0), 10, filter={"w": {"$gt": "W1"}})
    assert hits
    assert hits.explanation.pushed is None
    hits = await world.agrees(vector(0), 10, filter={"w": "W1", "r": {"$lt": 400}})
    assert hits
    assert "w" not in str(hits.explanation.pushed)


async def test_a_writer_that_knows_no_columns(scanned: AsyncWorld) -> None:
    """It cannot write to the table, where it would leave the columns as they were."""
    import lancedb
    import pyarrow as pa

    tables: Any = scanned.indexes.copies
    state, vectors = state_of(scanned), np.ones(2 * DIM, "f4")
    table = lancedb.connect(tables.tables.uri).open_table(state["table"])
    change = table.merge_insert("key").when_matched_update_all().when_not_matched_insert_all()
    rows = {"key": [encode_key(1), encode_key(-1)], "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors), DIM)}
    with pytest.raises(ValueError, match="odd0"):
        change.execute(pa.table(rows))
    assert state["ver"] == table.version
