"""Vector search by the server's own search indexes: what is sent, and what is made of the answers.

No server that has them takes part: `tests.vectors._async.node` records what is sent, and answers by the manual.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import uuid4

import numpy as np
import pymongo
import pytest
import pytest_asyncio
from attrs import evolve
from pymongo import AsyncMongoClient

from superorm import BackendError, ConfigurationError, UnsupportedError, connect_async
from superorm._async.vector_indexes import AsyncVectorIndexes
from superorm.backends._async.mongomock import AsyncMongomockDatabackend
from superorm.backends.mongomock_engine import mongomock_client
from superorm.codec.keys import encode_key
from superorm.schema.vector_spec import FilterField, IndexSpec, MirroredPath, VectorSpec
from superorm.unitofwork.writes import Update, UpdateOp
from superorm.vectors._async.atlas import AsyncAtlasVectorIndex
from superorm.vectors.request import Hits, SearchRequest
from tests.vectors._async.node import AsyncNodeBackend, AsyncNodeIndex, Node
from tests.vectors._async.world import AsyncWorld, as_found
from tests.vectors.brute import DIM, brute, stored

FILTERS = (FilterField("r", "int"), FilterField("word", "str"))
SPEC = VectorSpec("things", "v", DIM, "cosine", None, FILTERS, "_type")
NAME = "superorm_v"
RNG = np.random.default_rng(83)
VECTORS = RNG.standard_normal((1_500, DIM)).astype("f4")


class AsyncAtlas(AsyncWorld):
    """A database on a server with a recorded search node."""

    node: Node

    async def near(self, query: Any, k: int = 5, *, session: Any = None, **options: Any) -> Hits:
        """A search that need not be exact."""
        request = SearchRequest(self.spec, np.asarray(query, np.float32), k=k, **options)
        return await self.indexes.search(request, as_found, session=session)

    async def near_agrees(self, query: Any, k: int = 5, **options: Any) -> Hits:
        """The same, with what brute force answers: the recorded node compares all that it has, so nothing is missed."""
        hits = await self.near(query, k, **options)
        documents = list(self.plain[self.spec.collection].find(options.get("filter") or {}).sort("_id", 1))
        expected = brute(documents, query, k, self.spec.metric)
        assert [key for key, _ in expected] == [hit.key for hit in hits]
        assert np.allclose([score for _, score in expected], [hit.score for hit in hits], atol=1e-7)
        return hits

    def searches(self) -> list[dict[str, Any]]:
        """The ``$vectorSearch`` stages that were sent."""
        return [sent["$vectorSearch"] for _, sent in self.node.sent if "$vectorSearch" in sent]

    def commands(self) -> list[dict[str, Any]]:
        """The commands that were sent."""
        return [sent for _, sent in self.node.sent if "$vectorSearch" not in sent]

    def fill(self, count: int = 200) -> None:
        """Documents that the search index has."""
        documents = [
            {"_id": i, "v": stored(VECTORS[i]), "r": i % 100, "word": f"w{i % 100:02}", "big": i % 3}
            for i in range(count)
        ]
        self.plain[self.spec.collection].insert_many(documents)
        self.node.sync(self.spec.collection)


@pytest_asyncio.fixture
async def atlas(mongodb_uri: str) -> AsyncIterator[AsyncAtlas]:
    """An empty database, whose search index is not there yet."""
    name = f"atlas_{uuid4().hex[:12]}"
    client: Any = pymongo.MongoClient(mongodb_uri)
    own: Any = AsyncMongoClient(mongodb_uri)
    world = world_of(own, client[name], Node(client[name]))
    yield world
    await world.indexes.close()
    await own.close()
    client.drop_database(name)
    client.close()


def world_of(own: Any, plain: Any, node: Node, *, lag: float = 60, timeout: float = 30) -> AsyncAtlas:
    """A process's view of a database and its node."""
    backend = AsyncNodeBackend(own, plain.name)
    engine = AsyncNodeIndex(lag=lag, timeout=timeout)
    backend.node = engine.node = node
    world = AsyncAtlas(backend, plain, AsyncVectorIndexes(backend, engine), SPEC)
    world.node = node
    return world


def again(atlas: AsyncAtlas, **options: float) -> AsyncAtlas:
    """Another process's view."""
    backend: Any = atlas.backend
    return world_of(backend.client, atlas.plain, atlas.node, **options)


async def test_the_search_index_is_made_and_awaited(atlas: AsyncAtlas) -> None:
    """One command, and a list of the indexes until this one is queryable; once, however often it is asked for."""
    atlas.node.polls = 2
    report = await atlas.indexes.create(SPEC)
    assert (report.created, report.differences) == (["search index things superorm_v"], [])
    fields = [
        {"type": "vector", "path": "v", "numDimensions": DIM, "similarity": "cosine"},
        {"type": "filter", "path": "r"},
        {"type": "filter", "path": "word"},
        {"type": "filter", "path": "_type"},
    ]
    index = {"name": NAME, "type": "vectorSearch", "definition": {"fields": fields}}
    assert atlas.commands() == [{"createSearchIndexes": "things", "indexes": [index]}]
    assert atlas.node.listed == 5  # whether there are any, whether there is this one, and then until it is ready
    assert "things" in atlas.plain.list_collection_names()
    report = await atlas.indexes.create(SPEC)
    assert (report.created, report.differences) == ([], [])
    assert len(atlas.commands()) == 1


async def test_a_search(atlas: AsyncAtlas) -> None:
    """The stage is sent outside of any session, and ranked by the documents it gave."""
    atlas.fill()
    hits = await atlas.near_agrees(VECTORS[3], 5, num_candidates=77)
    stage = {"index": NAME, "path": "v", "queryVector": stored(VECTORS[3]), "numCandidates": 77, "limit": 13}
    assert atlas.searches() == [stage]
    assert (hits.explanation.engine, hits.explanation.strategy, hits.explanation.calls) == ("atlas", "exact", 1)
    assert hits.explanation.why == "no filter stands before the search, so atlas finds the nearest of all"
    assert atlas.node.ranked == []


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("k", [1, 10, 150, 400])
async def test_metrics(atlas: AsyncAtlas, metric: Any, k: int) -> None:
    """Scores are on the contract's scale, and all that there are are found where these are fewer than k."""
    atlas.spec = evolve(SPEC, metric=metric)
    atlas.plain.things.insert_many([{"_id": "zero", "v": stored([0] * DIM)}, {"_id": "none", "v": None}])
    atlas.fill()
    hits = await atlas.near_agrees(VECTORS[7], k)
    assert min(k, 200 if metric == "cosine" else 201) == len(hits)


async def test_what_the_index_lacks_is_ranked_by_the_documents(atlas: AsyncAtlas) -> None:
    """Nothing of what is committed has reached the search index: all of it counts all the same."""
    atlas.fill()
    await atlas.near_agrees(VECTORS[0])
    await atlas.put({"new": VECTORS[0]}, r=1)
    await atlas.put({1: -VECTORS[0], 5: VECTORS[0] + 0.01})
    await atlas.remove(0, 2)
    hits = await atlas.near_agrees(VECTORS[0], 6)
    assert hits[0].key == "new"
    assert hits.explanation.pending == 5
    await atlas.near_agrees(VECTORS[0], 500)
    await atlas.near_agrees(-VECTORS[0], 3)
    await atlas.remove(*range(60))
    await atlas.near_agrees(VECTORS[9], 100)


async def test_all_the_nearest_are_deleted(atlas: AsyncAtlas) -> None:
    """So many more are asked for that k of those that are left come at once."""
    atlas.fill()
    near = np.argsort(-(VECTORS[:200] @ VECTORS[0]) / np.linalg.norm(VECTORS[:200], axis=1))[:60]
    await atlas.remove(*near.tolist())
    hits = await atlas.near_agrees(VECTORS[0], 5)
    assert hits.explanation.calls == 1


async def test_candidates_that_are_late_are_ranked_anew(atlas: AsyncAtlas) -> None:
    """The search index ranks by what was replaced: what it gives is in no order, and all of it is looked at."""
    hasty = again(atlas, lag=0)
    hasty.fill(20)
    await hasty.put({i: VECTORS[100 + i] for i in range(20)})
    await hasty.indexes.apply(SPEC)
    for query in VECTORS[:60]:
        hits = await hasty.near_agrees(query, 13)
        assert hits.explanation.pending == 0


async def test_in_another_process_too(atlas: AsyncAtlas) -> None:
    """What is pending is in the database."""
    atlas.fill()
    await atlas.put({"new": VECTORS[0]})
    hits = await again(atlas).near_agrees(VECTORS[0])
    assert hits.explanation.pending == 1


async def test_records_are_stamped_when_their_time_has_come(atlas: AsyncAtlas) -> None:
    """Not when they are first seen: from then on this process waits `lag` seconds by its own clock."""
    late, soon = again(atlas, lag=60), again(atlas, lag=0)
    late.fill()
    await late.put({"new": VECTORS[0]})
    await late.indexes.apply(SPEC)
    await late.indexes.apply(SPEC)
    assert (await late.near_agrees(VECTORS[0])).explanation.pending == 1
    late.node.sync("things")
    await soon.indexes.apply(SPEC)
    assert (await late.near_agrees(VECTORS[0])).explanation.pending == 0
    (record,) = atlas.plain["_superorm_records"].find({"kind": "record"})
    assert record["seq"] == {"atlas": 1}


async def test_the_background_stamps(atlas: AsyncAtlas) -> None:
    """A search wakes it, and closing does not wait for it."""
    brief = again(atlas, lag=0.3)
    brief.fill()
    await brief.put({"new": VECTORS[0]})
    await brief.near_agrees(VECTORS[0])
    await brief.indexes.copies.apply(SPEC)
    assert await brief.indexes.copies.due(SPEC)
    await brief.indexes.copies.keep(SPEC, lambda: False)
    assert await brief.indexes.copies.due(SPEC)
    await brief.indexes.copies.keep(SPEC, lambda: True)
    assert not await brief.indexes.copies.due(SPEC)
    brief.node.sync("things")
    assert (await brief.near_agrees(VECTORS[0])).explanation.pending == 0
    await brief.indexes.close()


async def test_an_old_value_never_answers(atlas: AsyncAtlas) -> None:
    """Even where the server is later than it should be, and nothing is pending: the documents are what counts."""
    hasty = again(atlas, lag=0)
    hasty.fill()
    await hasty.put({3: -VECTORS[3]})
    await hasty.remove(4)
    await hasty.indexes.apply(SPEC)
    hits = await hasty.near(VECTORS[3], 3)
    assert hits.explanation.pending == 0
    assert not {3, 4} & {hit.key for hit in hits}
    assert all(abs(hit.score - dict(hasty.expected(VECTORS[3], 300))[hit.key]) < 1e-7 for hit in hits)


@pytest.mark.parametrize("seed", range(4))
async def test_any_order(atlas: AsyncAtlas, seed: int) -> None:
    """Writes, a search index that follows or does not, and stamps once it has: each answer is brute force's."""
    rng = np.random.default_rng(seed)
    stamps = again(atlas, lag=0)
    atlas.fill(60)
    for _ in range(25):
        keys = [int(key) for key in rng.integers(0, 90, 4)]
        match int(rng.integers(0, 5)):
            case 0:
                await atlas.put({key: rng.standard_normal(DIM) for key in keys}, r=int(rng.integers(0, 9)))
            case 1:
                await atlas.remove(*keys)
            case 2:
                await atlas.put({keys[0]: None, keys[1]: np.zeros(DIM)})
            case 3:
                atlas.node.sync("things")
                await stamps.indexes.apply(SPEC)
            case _:
                atlas.node.sync("things")
        filter = [None, {"r": {"$lt": 5}}, {"word": {"$regex": "^w[0-3]"}}][int(rng.integers(0, 3))]
        await atlas.near_agrees(rng.standard_normal(DIM), int(rng.integers(1, 80)), filter=filter)
    assert atlas.searches()


FILTERED: dict[str, tuple[dict[str, Any], dict[str, Any] | None, str, str]] = {
    "taken": ({"r": {"$lt": 50}}, {"r": {"$lt": 50}}, "push-down", "atlas takes the whole filter"),
    "both taken": (
        {"r": {"$gte": 10}, "word": {"$in": ["w11", "w12"]}},
        {"r": {"$gte": 10}, "word": {"$in": ["w11", "w12"]}},
        "push-down",
        "atlas takes the whole filter",
    ),
    "few": ({"big": 0, "r": 7}, None, "gather", "5 documents match, so few that their own vectors are ranked"),
    "one taken": (
        {"r": {"$lt": 90}, "word": {"$regex": "^w"}},
        {"r": {"$lt": 90}},
        "push-down",
        "atlas does not take the whole filter: $regex on 'word' is no operator of its filter",
    ),
    "none taken": (
        {"big": {"$gte": 0}},
        {},
        "over-fetch",
        "atlas does not take the whole filter: 'big' is no filter field of the search index",
    ),
}


@pytest.mark.parametrize("name", FILTERED)
async def test_filters(atlas: AsyncAtlas, name: str) -> None:
    """What the search index can filter by is its part; the rest is done here, and named."""
    filter, sent, strategy, why = FILTERED[name]
    atlas.fill(1_500)
    hits = await atlas.near_agrees(VECTORS[2], 10, filter=filter)
    assert strategy == hits.explanation.strategy
    assert hits.explanation.why.endswith(why)
    assert [sent] * len(atlas.searches()) == [stage.get("filter", {}) for stage in atlas.searches()]
    assert (sent is None) == (atlas.searches() == [])


async def test_a_filter_that_none_of_the_near_ones_matches(atlas: AsyncAtlas) -> None:
    """More and more are looked through, until k of them match; that some were left out is no sign of an end."""
    atlas.fill(1_500)
    order = np.argsort(-(VECTORS @ VECTORS[0]) / np.linalg.norm(VECTORS, axis=1))
    await atlas.remove(int(order[0]), int(order[1]))
    atlas.plain.things.update_many({"_id": {"$in": order[400:].tolist()}}, {"$set": {"far": True}})
    hits = await atlas.near_agrees(VECTORS[0], 10, filter={"far": True})
    assert hits.explanation.strategy == "over-fetch"
    assert [202, 802] == [stage["limit"] for stage in atlas.searches()]


async def test_changed_filter_fields_count(atlas: AsyncAtlas) -> None:
    """A change of a field that the search index filters by is pending as one of the vector is."""
    atlas.fill()
    await atlas.put({}, r=1)
    await atlas.write([Update("things", [UpdateOp(q={"_id": 8}, u={"$set": {"r": -5}})])], [8])
    hits = await atlas.near_agrees(VECTORS[8], 3, filter={"r": {"$lt": 0}})
    assert [8] == [hit.key for hit in hits]


async def test_a_filter_field_that_no_class_names(atlas: AsyncAtlas) -> None:
    """Its changes are not recorded, so the search index is not asked for it, though it has it."""
    atlas.fill(1_500)
    await atlas.indexes.create(SPEC)
    atlas.spec = evolve(SPEC, filter_fields=FILTERS[:1])
    atlas.plain.things.update_many({"_id": 8}, {"$set": {"word": "w90"}})
    hits = await atlas.near_agrees(VECTORS[8], 3, filter={"word": {"$gte": "w1"}, "r": {"$lt": 90}})
    assert hits[0].key == 8
    assert [{"r": {"$lt": 90}}] == [stage["filter"] for stage in atlas.searches()]
    await atlas.near_agrees(VECTORS[8], 3, filter={"word": {"$in": [f"w{n}" for n in range(10, 100)]}})
    assert "filter" not in atlas.searches()[-1]


async def test_a_collation(atlas: AsyncAtlas) -> None:
    """Texts that the server compares by a collation are not compared by the search index."""
    atlas.plain.create_collection("things", collation={"locale": "en", "strength": 1})
    atlas.fill(1_500)
    hits = await atlas.near_agrees(VECTORS[8], 3, filter={"word": {"$ne": "W10"}, "r": {"$lt": 90}})
    assert hits
    assert [{"r": {"$lt": 90}}] == [stage["filter"] for stage in atlas.searches()]
    (found, *_) = await atlas.near(VECTORS[8], 3, filter={"word": {"$in": [f"W{n:02}" for n in range(90)]}})
    assert found.key == 8
    assert "filter" not in atlas.searches()[-1]


async def test_every_program_records_changes_of_filter_fields(atlas: AsyncAtlas) -> None:
    """Also through classes that do not name them, or all of them."""
    fields = [MirroredPath("things", field.path, "things.v") for field in FILTERS]
    await atlas.indexes.create(evolve(SPEC, filter_fields=FILTERS[:1]))
    bare = evolve(SPEC, filter_fields=())
    assert {"things": fields[:1]} == await again(atlas).indexes.others(["things"], [bare])
    await again(atlas).indexes.create(evolve(SPEC, filter_fields=FILTERS[1:]))
    other = again(atlas)
    assert {"things": fields} == await other.indexes.others(["things"], [bare])
    await other.indexes.close()


async def test_leave_out_and_min_score(atlas: AsyncAtlas) -> None:
    """The document that is the query, and what is not near enough, are no results, and take no place."""
    atlas.fill()
    hits = await atlas.near(VECTORS[5], 5, leave_out=encode_key(5))
    expected = [one for one in atlas.expected(VECTORS[5], 6) if one[0] != 5]
    assert [key for key, _ in expected] == [hit.key for hit in hits]
    floor = expected[2][1]
    hits = await atlas.near(VECTORS[5], 5, leave_out=encode_key(5), min_score=floor - 1e-9)
    assert [key for key, _ in expected[:3]] == [hit.key for hit in hits]


async def test_exact(atlas: AsyncAtlas) -> None:
    """A search index is never asked for what must be exact."""
    atlas.fill()
    hits = await atlas.agrees(VECTORS[1], 20, filter={"r": {"$gt": 3}})
    assert atlas.searches() == []
    assert hits.explanation.strategy == "exact"
    assert hits.explanation.why == (
        "exact=True: a search index may miss some, and lags behind, so the documents' own vectors rank the documents "
        "that match"
    )


async def test_in_a_transaction(atlas: AsyncAtlas) -> None:
    """The stage is sent outside of it; its own changes count, and what was committed meanwhile does not."""
    atlas.fill()
    await atlas.near_agrees(VECTORS[0])
    await atlas.indexes.ensure(SPEC)
    async with atlas.backend.transaction() as session:
        first = await atlas.near(VECTORS[0], 3, session=session)
        await atlas.put({"other": VECTORS[0]})
        mine = [Update("things", [UpdateOp(q={"_id": 1}, u={"$set": {"v": stored(VECTORS[0])}})])]
        for write in [*mine, *atlas.indexes.records({SPEC: [1]})]:
            await atlas.backend.write(write, session=session)
        atlas.node.sync("things")
        hits = await atlas.near(VECTORS[0], 3, session=session)
    assert [0, 1, first[1].key] == [hit.key for hit in hits]
    assert len(atlas.searches()) == 3
    assert {"other", 0, 1} == {hit.key for hit in await atlas.near_agrees(VECTORS[0], 3)}


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
async def test_similarity_expressions(atlas: AsyncAtlas, metric: Any) -> None:
    """From 8.3 on without a search node the server ranks, under any filter, and in transactions too."""
    atlas.node.search, atlas.node.version = False, (8, 3, 0)
    atlas.spec = evolve(SPEC, metric=metric)
    odd = [[1.0] * (DIM - 1), ["a"] * DIM, [1.5] * DIM, [np.inf] * DIM, [np.nan] * DIM, [0.0] * DIM, 7, None]
    atlas.plain.things.insert_many(
        [{"_id": f"odd{i}", "v": v, "word": "w1"} for i, v in enumerate(odd)]
        + [{"_id": f"odd{i}b", "v": stored(v), "word": "w1"} for i, v in enumerate(odd) if i not in (1, 6, 7)]
    )
    atlas.fill()
    filter = {"word": {"$regex": "^w1"}}
    hits = await atlas.near_agrees(VECTORS[1], 40, filter=filter)
    assert len(hits) > 20
    assert hits.explanation.strategy == "exact"
    assert hits.explanation.why == (
        "the server has no search node, so the server's $similarity expressions rank the documents that match"
    )
    assert atlas.node.sent == []
    near = VECTORS[1] * (9 if metric == "dot" else 1)
    await atlas.put({"new": near}, word="w1")
    assert "new" in {hit.key for hit in await atlas.near_agrees(VECTORS[1], 2, filter=filter)}
    before = len(atlas.node.ranked)
    async with atlas.backend.transaction() as session:
        mine = [Update("things", [UpdateOp(q={"_id": "mine"}, u={"$set": {"v": stored(near)}}, upsert=True)])]
        await atlas.backend.write(mine[0], session=session)
        hits = await atlas.near(VECTORS[1], 3, session=session)
    assert {"mine", "new"} < {hit.key for hit in hits}
    assert before + 1 == len(atlas.node.ranked)
    assert (await atlas.indexes.check(atlas.spec)) == []


async def test_many_that_are_left_out(atlas: AsyncAtlas) -> None:
    """Where the first answer holds too many that cannot be ranked, more is asked for."""
    atlas.node.search, atlas.node.version = False, (8, 3, 0)
    atlas.spec = evolve(SPEC, metric="dot")
    large = [1e39] * DIM  # no float32 holds it
    atlas.plain.things.insert_many([{"_id": f"large{i}", "v": large} for i in range(30)])
    atlas.fill()
    assert len(await atlas.near_agrees(np.ones(DIM), 10)) == 10
    assert [18, 72] == [pipeline[-2]["$limit"] for pipeline in atlas.node.ranked]


async def test_a_search_index_that_has_gone(atlas: AsyncAtlas) -> None:
    """The server says nothing of it and gives nothing, which is looked into: it is made anew and searched."""
    atlas.fill()
    await atlas.near_agrees(VECTORS[0])
    atlas.node.indexes.clear()
    await atlas.near_agrees(VECTORS[0])
    assert ["createSearchIndexes"] * 2 == [next(iter(command)) for command in atlas.commands()]


async def test_a_search_index_that_has_gone_in_a_transaction(atlas: AsyncAtlas) -> None:
    """Nothing can be made there: the documents are ranked."""
    atlas.fill()
    await atlas.near_agrees(VECTORS[0])
    atlas.node.indexes.clear()
    async with atlas.backend.transaction() as session:
        hits = await atlas.near(VECTORS[0], 3, session=session)
    assert [key for key, _ in atlas.expected(VECTORS[0], 3)] == [hit.key for hit in hits]
    assert len(atlas.commands()) == 1


async def test_a_search_index_that_was_changed(atlas: AsyncAtlas) -> None:
    """The server refuses a filter that it has no field for any more: what it has is looked up, for another search."""
    atlas.fill(1_500)
    filter = {"r": {"$lt": 90}}
    await atlas.near_agrees(VECTORS[2], 10, filter=filter)
    definition = atlas.node.indexes["things", NAME]["definition"]
    atlas.node.indexes["things", NAME]["definition"] = {"fields": definition["fields"][:1]}
    hits = await atlas.near_agrees(VECTORS[2], 10, filter=filter)
    assert hits.explanation.strategy == "over-fetch"
    assert [filter, filter, {}] == [stage.get("filter", {}) for stage in atlas.searches()][:3]


async def test_what_the_server_refuses_is_an_error(atlas: AsyncAtlas) -> None:
    """Where the search index is as it was, its answer is the user's."""
    atlas.fill()
    await atlas.near_agrees(VECTORS[0])
    atlas.node.refuses = BackendError("things: the search node is overloaded")
    with pytest.raises(BackendError, match="overloaded"):
        await atlas.near(VECTORS[0])


async def test_no_search_index_in_a_transaction(atlas: AsyncAtlas) -> None:
    """The same where there never was one."""
    atlas.fill()
    async with atlas.backend.transaction() as session:
        hits = await atlas.near(VECTORS[0], 3, session=session)
    assert [key for key, _ in atlas.expected(VECTORS[0], 3)] == [hit.key for hit in hits]
    assert "things has no queryable search index" in hits.explanation.why


async def test_a_search_index_that_takes_too_long(atlas: AsyncAtlas) -> None:
    """The error says what the server says, and how to wait longer."""
    atlas.node.polls = 1_000_000
    hasty = again(atlas, timeout=0.2)
    with pytest.raises(BackendError, match=r"'superorm_v' of things is BUILDING after 0\.2 seconds.*\?timeout=0\.4"):
        await hasty.indexes.create(SPEC)
    with pytest.raises(BackendError, match="BUILDING"):
        await hasty.near(VECTORS[0])


async def test_a_search_index_that_fails(atlas: AsyncAtlas) -> None:
    """There is nothing to wait for."""
    atlas.node.status = "FAILED"
    with pytest.raises(BackendError, match="'superorm_v' of things has failed"):
        await atlas.indexes.create(SPEC)


async def test_a_search_index_of_other_vectors(atlas: AsyncAtlas) -> None:
    """It is reported and left as it is, and the documents are ranked, which is said."""
    atlas.fill()
    fields = [{"type": "vector", "path": "v", "numDimensions": 4, "similarity": "cosine"}]
    index = {"name": NAME, "type": "vectorSearch", "definition": {"fields": fields}, "left": -1}
    atlas.node.indexes["things", NAME] = index
    report = await atlas.indexes.create(SPEC)
    difference = f"the search index 'superorm_v' of things has numDimensions 4, the class declares {DIM}"
    assert (report.created, report.differences) == ([], [difference])
    hits = await atlas.near_agrees(VECTORS[0])
    assert hits.explanation.why == f"{difference}, so the documents' own vectors rank the documents that match"
    assert atlas.node.sent == []
    problems = [str(problem) for problem in await atlas.indexes.check(SPEC)]
    assert [f"things.v: {difference}"] == problems
    await atlas.indexes.rebuild(SPEC)
    assert ["dropSearchIndex", "createSearchIndexes"] == [next(iter(command)) for command in atlas.commands()]
    assert await atlas.indexes.check(SPEC) == []
    await atlas.near_agrees(VECTORS[0])
    assert len(atlas.searches()) == 1


async def test_check(atlas: AsyncAtlas) -> None:
    """It makes nothing: that there is no search index, or that the server does not keep it, is reported."""
    atlas.fill()
    assert ["things.v: things has no search index 'superorm_v'; rebuild() makes it"] == [
        str(problem) for problem in await atlas.indexes.check(SPEC)
    ]
    assert atlas.node.sent == []
    await atlas.indexes.create(SPEC)
    assert await atlas.indexes.check(SPEC) == []
    atlas.node.status = "STALE"
    assert ["things.v: the search index 'superorm_v' of things is STALE"] == [
        str(problem) for problem in await atlas.indexes.check(SPEC)
    ]


async def test_a_kind_of_index_that_it_has_not(atlas: AsyncAtlas) -> None:
    """It is refused before anything is made."""
    with pytest.raises(UnsupportedError, match="MongoDB's search has no index 'ivf_flat'"):
        await atlas.indexes.create(evolve(SPEC, index=IndexSpec("ivf_flat")))
    assert atlas.node.sent == []


async def test_more_than_the_stage_takes(atlas: AsyncAtlas) -> None:
    """``numCandidates`` ends at 10,000; a larger k is answered by the documents."""
    atlas.fill()
    hits = await atlas.near_agrees(VECTORS[0], 5_001)
    assert len(hits) == 200
    assert hits.explanation.why.startswith("more than 5000 keys at once are too many for $vectorSearch")
    assert atlas.searches() == []


@pytest.mark.parametrize("version", [(6, 0, 5), (6, 0, 10), (7, 0, 1), (8, 2, 9)])
@pytest.mark.parametrize("search", [False, True])
async def test_servers_that_cannot_search(atlas: AsyncAtlas, version: tuple[int, ...], search: bool) -> None:
    """The error says which server this is, and what it lacks."""
    atlas.node.version, atlas.node.search = version, search
    if search and version == (8, 2, 9):
        await atlas.indexes.open()
        return
    shown = ".".join(map(str, version))
    with pytest.raises(ConfigurationError, match=rf"this is MongoDB {shown} without a search node \(.*lancedb://"):
        await atlas.indexes.open()


async def test_connecting_to_this_server(mongodb_uri: str) -> None:
    """It has neither a search node nor 8.3, which is said before anything is made."""
    name = f"atlas_{uuid4().hex[:12]}"
    words = r"atlas:// needs a server with a search node.*without a search node \(Unrecognized pipeline stage name"
    with pytest.raises(ConfigurationError, match=words):
        async with connect_async(mongodb_uri, database=name, vector_database="atlas://"):
            pass
    with pymongo.MongoClient(mongodb_uri) as client:
        assert name not in client.list_database_names()


async def test_other_backends() -> None:
    """It is the server's own, so there must be one; and an engine serves one backend."""
    with pytest.raises(ConfigurationError, match="mongomock has none"):
        async with connect_async("mongomock://atlas", vector_database="atlas://"):
            pass
    backend = AsyncMongomockDatabackend(mongomock_client("atlas"), "atlas")
    with pytest.raises(ConfigurationError, match="atlas:// is the search of a MongoDB server"):
        AsyncVectorIndexes(backend, AsyncAtlasVectorIndex())
    with pytest.raises(ConfigurationError, match="give it to a DB"):
        await AsyncAtlasVectorIndex().server()


async def test_an_engine_serves_one_backend(atlas: AsyncAtlas) -> None:
    """Its search indexes are those of one database."""
    engine = AsyncNodeIndex()
    engine.serve(atlas.backend)
    other: Any = atlas.backend
    with pytest.raises(ConfigurationError, match="give each DB its own"):
        engine.serve(AsyncNodeBackend(other.client, "other"))


def test_numbers_that_cannot_be() -> None:
    """Waiting takes time."""
    for options in ({"lag": -1.0}, {"timeout": 0.0}):
        settings: Mapping[str, float] = options
        with pytest.raises(ConfigurationError, match="atlas:// takes a lag"):
            AsyncAtlasVectorIndex(**settings)
