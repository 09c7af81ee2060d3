"""What every data backend does alike, mongomock and a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import mongomock
import numpy as np
import pymongo
import pytest
import pytest_asyncio
from bson import Binary, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.binary import BinaryVectorDtype
from pymongo import AsyncMongoClient

from superorm.backends._async.mongodb import AsyncMongoDatabackend, AsyncMongoMetaDataStore
from superorm.backends._async.mongomock import AsyncMongomockDatabackend, AsyncMongomockMetaDataStore
from superorm.compile.plan import Aggregate, Count, Find
from superorm.exc import DuplicateKeyError, StatementError, UnsupportedError, ValidationError, WriteError
from superorm.protocols._async.parts import AsyncDataBackend, AsyncMetaDataStore
from superorm.unitofwork.writes import Delete, Insert, Update, UpdateOp, WriteResult
from tests.databases import drop_database


@pytest_asyncio.fixture(params=["mongomock", "mongodb"])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[AsyncMongoMetaDataStore]:
    """A metadata store, which is a data backend too, over an empty database."""
    name = f"superorm_test_{uuid4().hex}"
    if request.param == "mongomock":
        yield AsyncMongomockMetaDataStore(mongomock.MongoClient(), name)
        return
    uri = request.getfixturevalue("mongodb_uri")
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(uri, tz_aware=False)
    yield AsyncMongoMetaDataStore(client, name)
    await client.close()
    with pymongo.MongoClient[dict[str, Any]](uri) as plain:
        drop_database(plain, name)


async def everything(backend: AsyncDataBackend, collection: str = "c") -> list[dict[str, Any]]:
    return await backend.read(Find(collection, sort=[("_id", 1)]))


async def update(backend: AsyncDataBackend, filter: dict[str, Any], update: Any, **options: bool) -> WriteResult:
    return await backend.write(Update("c", [UpdateOp(q=filter, u=update, **options)]))


async def test_is_a_backend(backend: AsyncMetaDataStore) -> None:
    """The classes have every member of the protocols, and know which of them share transactions."""
    assert isinstance(backend, AsyncDataBackend)
    assert isinstance(backend, AsyncMetaDataStore)
    capabilities = await backend.capabilities()
    assert ("mongomock" in type(backend).__name__.lower()) == (capabilities.backend == "mongomock")
    assert backend.shares_transactions_with(backend)
    other = AsyncMongomockDatabackend(mongomock.MongoClient(), backend.name)
    assert not backend.shares_transactions_with(other)


VALUES = {
    "str": "ä",
    "int": 7,
    "int32 boundary": 2**31 - 1,
    "long": 2**40,
    "small long": Int64(7),
    "float": 7.0,
    "bool": True,
    "null": None,
    "bytes": b"\x00\xff",
    "vector": Binary.from_vector([1.0, 2.5], BinaryVectorDtype.FLOAT32),
    "uuid": UUID(int=5),
    "oid": ObjectId(b"123456789012"),
    "datetime": datetime(2024, 5, 6, 7, 8, 9, 123000, tzinfo=UTC),
    "old": datetime(1, 1, 1, tzinfo=UTC),
    "decimal": Decimal128("1.10"),
    "regex": Regex("^a", "i"),
    "timestamp": Timestamp(5, 6),
    "min": MinKey(),
    "max": MaxKey(),
    "list": [1, [2, {"a": 3}], "x"],
    "document": {"z": 1, "a": {"b": []}},
    "dotted": {"a.b": 1, "$c": 2},
}


async def test_types_come_back(backend: AsyncDataBackend) -> None:
    """Every BSON type comes back as itself, in the order of its keys."""
    document = {"_id": 1, **VALUES}
    await backend.write(Insert("c", [document]))
    (found,) = await everything(backend)
    assert document == found
    assert list(document) == list(found)
    assert {key: type(value) for key, value in document.items() if key != "long"} == {
        key: type(value) for key, value in found.items() if key != "long"
    }
    assert Int64 is type(found["long"])
    assert 9 == found["vector"].subtype
    assert timedelta(0) == found["datetime"].utcoffset()


async def test_types_that_change(backend: AsyncDataBackend) -> None:
    """Other time zones become UTC, microseconds go, tuples become lists; also through an update and a pipeline."""
    local = datetime(2024, 1, 1, 2, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    expected = datetime(2024, 1, 1, 0, 0, 0, 123000, tzinfo=UTC)
    await backend.write(Insert("c", [{"_id": 1, "a": local, "t": (1, 2)}]))
    await update(backend, {"_id": 1}, {"$set": {"b": local, "u": UUID(int=1), "n": 2**40}})
    assert [{"_id": 1, "a": expected, "t": [1, 2], "b": expected, "u": UUID(int=1), "n": 2**40}] == await everything(
        backend
    )
    (found,) = await backend.read(Aggregate("c", [{"$match": {"a": local, "u": UUID(int=1)}}, {"$project": {"t": 0}}]))
    assert expected == found["b"]
    assert UUID(int=1) == found["u"]
    assert Int64 is type(found["n"])


async def test_stores_copies(backend: AsyncDataBackend) -> None:
    """Changing what was written, or what was read, changes nothing in the database."""
    tags = ["a"]
    vector = np.array([1, 2], "<f4")
    document = {"_id": 1, "tags": tags, "inner": {"tags": tags}, "v": Binary(b"\x27\0" + vector.tobytes(), 9)}
    await backend.write(Insert("c", [document]))
    await update(backend, {"_id": 1}, {"$set": {"more": tags}})
    tags.append("b")
    vector[0] = 9
    (found,) = await everything(backend)
    found["tags"].append("c")
    found["inner"]["tags"].append("c")
    (again,) = await everything(backend)
    assert ["a"] == again["tags"] == again["inner"]["tags"] == again["more"]
    assert [1, 2] == Binary.as_vector(again["v"]).data
    assert {"_id", "tags", "inner", "v"} == set(document)


async def test_keys(backend: AsyncDataBackend) -> None:
    """The key stands first wherever it was given, is made where it is missing, and may be a document or a UUID."""
    await backend.write(Insert("c", [{"a": 1, "_id": 5}]))
    await backend.write(Insert("c", [{"a": 2}]))
    compound = {"country": "de", "n": 1}
    await backend.write(Insert("c", [{"_id": compound, "a": 3}, {"_id": UUID(int=3), "a": 4}]))
    found = await backend.read(Find("c", sort=[("a", 1)]))
    assert [["_id", "a"]] * 4 == [list(document) for document in found]
    assert ObjectId is type(found[1]["_id"])
    assert [found[2]] == await backend.read(Find("c", {"_id": compound}))
    assert [found[3]] == await backend.read(Find("c", {"_id": UUID(int=3)}))
    assert WriteResult(1, 1) == await update(backend, {"_id": compound}, {"$set": {"a": 5}})
    assert WriteResult(2) == await backend.write(Delete("c", [{"_id": compound}, {"_id": UUID(int=3)}]))
    assert 2 == len(await everything(backend))


async def test_find(backend: AsyncDataBackend) -> None:
    """A find filters, sorts, skips, limits and projects."""
    await backend.write(Insert("c", [{"_id": i, "odd": i % 2, "x": {"y": i, "z": 0}} for i in range(10)]))
    plan = Find("c", {"_id": {"$gte": 1}}, {"x.y": 1}, sort=[("odd", -1), ("_id", 1)], skip=1, limit=3)
    assert [{"_id": i, "x": {"y": i}} for i in (3, 5, 7)] == await backend.read(plan)
    assert [{"odd": 0, "x": {"y": 2, "z": 0}}] == await backend.read(Find("c", {"_id": 2}, {"_id": 0}))
    assert [4, 6] == [d["_id"] for d in await backend.read(Find("c", {"_id": {"$in": [4, 6, 99]}, "odd": 0}))]
    assert [] == await backend.read(Find("nowhere", {"a": 1}))


async def test_aggregate_and_count(backend: AsyncDataBackend) -> None:
    """Pipelines run; a count may stop at a limit."""
    await backend.write(Insert("c", [{"_id": i, "odd": i % 2} for i in range(10)]))
    pipeline = [{"$match": {"_id": {"$lt": 9}}}, {"$group": {"_id": "$odd", "n": {"$sum": 1}}}, {"$sort": {"_id": 1}}]
    assert [{"_id": 0, "n": 5}, {"_id": 1, "n": 4}] == await backend.read(Aggregate("c", pipeline))
    assert [{"n": 5}] == await backend.read(Count("c", {"odd": 0}))
    assert [{"n": 3}] == await backend.read(Count("c", {"odd": 0}, limit=3))
    assert [{"n": 0}] == await backend.read(Count("nowhere"))


async def test_stream(backend: AsyncDataBackend) -> None:
    """A stream gives the same documents, in batches of the size asked for, of pipelines too."""
    await backend.write(Insert("c", [{"_id": i} for i in range(10)]))
    plans = Find("c", sort=[("_id", 1)]), Aggregate("c", [{"$sort": {"_id": 1}}])
    for plan in plans:
        batches = [batch async for batch in backend.stream(plan, batch_size=4)]
        assert [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]] == [[d["_id"] for d in batch] for batch in batches]
    assert [[{"n": 10}]] == [batch async for batch in backend.stream(Count("c"))]


async def test_updates(backend: AsyncDataBackend) -> None:
    """Operators, pipelines, many documents and upserts, with what they matched and changed."""
    await backend.write(Insert("c", [{"_id": i, "n": i, "tags": ["a"], "x": {"y": 1}} for i in range(3)]))
    first = {"$set": {"x.y": 2, "new": None}, "$unset": {"tags": "", "no.such": ""}, "$inc": {"n": 5}}
    assert WriteResult(1, 1) == await update(backend, {"_id": 0}, first)
    assert WriteResult(1, 0) == await update(backend, {"_id": 0}, {"$set": {"new": None}})
    assert WriteResult(0, 0) == await update(backend, {"_id": 7}, {"$set": {"n": 1}})
    assert WriteResult(2, 2) == await update(backend, {"n": {"$lt": 5}}, {"$push": {"tags": "b"}}, multi=True)
    assert WriteResult(1, 0, (8,)) == await update(
        backend, {"_id": 8}, {"$setOnInsert": {"a": 1}, "$set": {"b": 2}}, upsert=True
    )
    assert WriteResult(1, 1) == await update(
        backend, {"_id": 8}, {"$setOnInsert": {"a": 9}, "$set": {"b": 3}}, upsert=True
    )
    assert WriteResult(1, 1) == await update(backend, {"_id": 1}, [{"$set": {"double": {"$multiply": ["$n", 2]}}}])
    assert [
        {"_id": 0, "n": 5, "x": {"y": 2}, "new": None},
        {"_id": 1, "n": 1, "tags": ["a", "b"], "x": {"y": 1}, "double": 2},
        {"_id": 2, "n": 2, "tags": ["a", "b"], "x": {"y": 1}},
        {"_id": 8, "a": 1, "b": 3},
    ] == await everything(backend)


@pytest.mark.parametrize("keys", [["b", "B", "_c", "a", "é"], ["10", "9", "100", "a"]])
async def test_the_order_of_new_keys(backend: AsyncDataBackend, keys: list[str]) -> None:
    """Operators add keys in the order of their texts, numbers by value; a stage in the order in which it has them."""
    await backend.write(Insert("c", [{"_id": 1, "d": {"k": 0, "z": 0}, "n": {"z": 0}}]))
    await update(backend, {"_id": 1}, {"$set": {f"d.{key}": 1 for key in keys}, "$unset": {"d.k": ""}})
    stages: Any = [{"$project": {"n.z": 0}}, {"$set": {f"n.{key}": {"$literal": {"$x": 1}} for key in keys}}]
    await update(backend, {"_id": 1}, stages)
    (found,) = await everything(backend)
    ordered = sorted(keys, key=lambda key: key.zfill(3) if key.isdecimal() else key)
    assert (["z", *ordered], keys) == (list(found["d"]), list(found["n"]))


async def test_updates_of_many_share_nothing(backend: AsyncDataBackend) -> None:
    """A document set in many documents is one of its own in each."""
    await backend.write(Insert("c", [{"_id": i} for i in range(2)]))
    await update(backend, {}, {"$set": {"x": {"n": 1}}, "$push": {"l": {"n": 1}}}, multi=True)
    await update(backend, {"_id": 0}, {"$inc": {"x.n": 1, "l.0.n": 1}})
    assert [
        {"_id": 0, "x": {"n": 2}, "l": [{"n": 2}]},
        {"_id": 1, "x": {"n": 1}, "l": [{"n": 1}]},
    ] == await everything(backend)


@pytest.mark.parametrize(
    "operators", [{"$set": {"x.y": 1}}, {"$inc": {"x": 1}}, {"$set": {"a": 1}, "$push": {"x": 1}}, {"$set": {"_id": 9}}]
)
async def test_a_refused_update_changes_nothing(backend: AsyncDataBackend, operators: dict[str, Any]) -> None:
    """Setting below null, adding to it, pushing to it and changing the key are write errors that name the document."""
    document = {"_id": 1, "x": None, "z": [1]}
    await backend.write(Insert("c", [document]))
    with pytest.raises(WriteError, match=r"\.c.*document 1") as caught:
        await update(backend, {"_id": 1}, operators)
    assert 1 == caught.value.key
    assert [document] == await everything(backend)


async def test_deletes(backend: AsyncDataBackend) -> None:
    """Every document that a filter matches goes."""
    await backend.write(Insert("c", [{"_id": i, "odd": i % 2} for i in range(6)]))
    assert WriteResult(4) == await backend.write(Delete("c", [{"_id": 0}, {"odd": 1}, {"_id": 99}]))
    assert [2, 4] == [document["_id"] for document in await everything(backend)]


async def test_nothing_to_write(backend: AsyncDataBackend) -> None:
    """Empty writes are fine."""
    for write in Insert("c", []), Update("c", []), Delete("c", []):
        assert WriteResult(0) == await backend.write(write)


async def test_duplicate_key(backend: AsyncDataBackend) -> None:
    """The first key that exists stops an insert, which keeps what came before; the error has key and field."""
    key = UUID(int=1)
    await backend.write(Insert("c", [{"_id": key}]))
    with pytest.raises(DuplicateKeyError, match=r"\.c: .*_id=UUID\('0") as caught:
        await backend.write(Insert("c", [{"_id": 1}, {"_id": key}, {"_id": 2}]))
    assert (key, "_id") == (caught.value.key, caught.value.field)
    assert caught.value.__cause__ is not None
    assert {1, key} == {document["_id"] for document in await everything(backend)}


async def test_unique_index(backend: AsyncDataBackend) -> None:
    """A unique index refuses inserts, updates and upserts, naming the field; null and missing are one value."""
    await backend.create_index("c", [("x.y", 1), ("z", -1)], unique=True)
    await backend.write(Insert("c", [{"_id": 1, "x": {"y": 1}, "z": 1}, {"_id": 2, "x": {"y": 2}, "z": 1}]))
    with pytest.raises(DuplicateKeyError) as caught:
        await backend.write(Insert("c", [{"_id": 3, "x": {"y": 3}, "z": 1}, {"_id": 4, "x": {"y": 1}, "z": 1}]))
    assert (4, "x.y, z") == (caught.value.key, caught.value.field)
    assert "x.y=1, z=1" in str(caught.value)
    for filter, upsert in (({"_id": 2}, False), ({"_id": 9}, True)):
        with pytest.raises(DuplicateKeyError) as caught:
            await update(backend, filter, {"$set": {"x.y": 1, "z": 1}}, upsert=upsert)
        assert (filter["_id"], "x.y, z") == (caught.value.key, caught.value.field)
    assert [1, 2, 3] == [document["_id"] for document in await everything(backend)]
    assert [1, 2, 3] == [document["x"]["y"] for document in await everything(backend)]


@pytest.mark.parametrize(
    ("value", "path", "words"),
    [
        ({"a": [1, {"b": 2**63}]}, "v.a.1.b", "64 bits"),
        (["ok", "\ud800"], "v.1", "surrogate"),
        ({"a": object()}, "v.a", "builtins.object"),
        ({"a\0b": 1}, "v.a\\x00b", "NUL"),
        ({3: 1}, "v.3", "not a string"),
        ({"\udc00": 1}, "v.\\udc00", "surrogate"),
        ({"small": 1, "a": "x" * (17 << 20)}, "v", "16 MiB"),
    ],
)
async def test_what_cannot_be_stored(backend: AsyncDataBackend, value: Any, path: str, words: str) -> None:
    """A value that BSON does not take is refused with document and path before anything is written."""
    with pytest.raises(ValidationError, match=words) as caught:
        await backend.write(Insert("c", [{"_id": 1}, {"_id": 2, "v": value}]))
    assert (2, path) == (caught.value.key, caught.value.field)
    assert "document 2" in str(caught.value)
    await backend.write(Insert("c", [{"_id": 1}]))
    with pytest.raises(ValidationError, match=words) as caught:
        await backend.write(
            Update(
                "c", [UpdateOp(q={"_id": 1}, u={"$set": {"a": 1}}), UpdateOp(q={"_id": 2}, u={"$set": {"v": value}})]
            )
        )
    assert (2, path) == (caught.value.key, caught.value.field)
    assert [{"_id": 1}] == await everything(backend)


async def test_statements_that_cannot_run(backend: AsyncDataBackend) -> None:
    """A stage that nobody knows is unsupported, by name; a stage put together wrongly is a statement error."""
    await backend.write(Insert("c", [{"_id": 1, "a": 1}]))
    with pytest.raises(UnsupportedError, match=r"\$nonsense"):
        await backend.read(Aggregate("c", [{"$nonsense": {}}]))
    with pytest.raises(StatementError, match=r"\.c"):
        await backend.read(Aggregate("c", [{"$unwind": "a"}]))
    with pytest.raises(StatementError, match=r"\.c"):
        await backend.read(Find("c", {"a": {"$nonsense": 1}}))


async def test_unsupported_stages(backend: AsyncDataBackend) -> None:
    """Every stage that a backend says it cannot run is refused by name."""
    capabilities = await backend.capabilities()
    assert ("$unset" in capabilities.unsupported_stages) == (capabilities.backend == "mongomock")
    for stage in capabilities.unsupported_stages:
        with pytest.raises(UnsupportedError, match=rf"mongomock.*\{stage}"):
            await backend.read(Aggregate("c", [{"$match": {}}, {stage: {}}]))


async def test_stages_within_stages(backend: AsyncDataBackend) -> None:
    """What mongomock lacks is refused inside facets and lookups too, where a server runs it."""
    await backend.write(Insert("c", [{"_id": 1, "a": 1}]))
    lookup = {
        "from": "c",
        "let": {"k": "$_id"},
        "pipeline": [{"$match": {"$expr": {"$eq": ["$_id", "$$k"]}}}],
        "as": "b",
    }
    cases = [
        ([{"$facet": {"f": [{"$unset": "a"}]}}], [{"f": [{"_id": 1}]}], r"\$unset"),
        ([{"$lookup": lookup}, {"$project": {"a": 0}}], [{"_id": 1, "b": [{"_id": 1, "a": 1}]}], "let"),
    ]
    for pipeline, expected, name in cases:
        if (await backend.capabilities()).backend == "mongomock":
            with pytest.raises(UnsupportedError, match=name):
                await backend.read(Aggregate("c", pipeline))
        else:
            assert expected == await backend.read(Aggregate("c", pipeline))


async def test_collections_and_indexes(backend: AsyncDataBackend) -> None:
    """Making a collection or an index twice is fine; other options for an index are not."""
    for _ in range(2):
        await backend.create_collection("c")
        assert "a_1_b_-1" == await backend.create_index("c", [("a", 1), ("b", -1)])
        assert "named" == await backend.create_index("c", [("u", 1)], unique=True, name="named", sparse=True)
    assert {"c"} == await backend.collection_names()
    assert [
        {"v": 2, "key": {"_id": 1}, "name": "_id_"},
        {"v": 2, "key": {"a": 1, "b": -1}, "name": "a_1_b_-1"},
        {"v": 2, "key": {"u": 1}, "name": "named", "unique": True, "sparse": True},
    ] == await backend.indexes("c")
    assert [] == await backend.indexes("nowhere")
    with pytest.raises(WriteError, match="a_1_b_-1"):
        await backend.create_index("c", [("a", 1), ("b", -1)], unique=True)
    await backend.write(Insert("c", [{"_id": 1, "w": 1}, {"_id": 2, "w": 1}]))
    with pytest.raises(DuplicateKeyError) as caught:
        await backend.create_index("c", [("w", 1)], unique=True)
    assert "w" == caught.value.field
    for _ in range(2):
        await backend.drop_collection("c")
        assert set() == await backend.collection_names()
        assert [] == await everything(backend)


async def test_partial_unique_index(backend: AsyncDataBackend) -> None:
    """A partial index holds for the documents of its filter only."""
    await backend.create_index("c", [("a", 1)], unique=True, partialFilterExpression={"live": True})
    await backend.write(Insert("c", [{"_id": 1, "a": 1}, {"_id": 2, "a": 1}, {"_id": 3, "a": 1, "live": True}]))
    with pytest.raises(DuplicateKeyError):
        await backend.write(Insert("c", [{"_id": 4, "a": 1, "live": True}]))


async def test_transactions_where_there_are_any(backend: AsyncDataBackend) -> None:
    """Transactions and snapshots work, or are refused by name."""
    if (await backend.capabilities()).transactions:
        async with backend.transaction() as session:
            await backend.write(Insert("c", [{"_id": 1}]), session=session)
        assert [{"_id": 1}] == await everything(backend)
        return
    for refused in backend.transaction, backend.snapshot:
        with pytest.raises(UnsupportedError, match="mongomock"):
            refused()
    with pytest.raises(UnsupportedError, match="mongomock"):
        await backend.explain(Find("c"))


async def test_close_leaves_the_client_to_its_owner(backend: AsyncDataBackend) -> None:
    """A client that was passed in works on after the backend was closed."""
    await backend.close()
    await backend.create_collection("c")


def test_the_repr_has_no_client(mongodb_uri: str) -> None:
    """A repr names the database, and no password."""
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient("mongodb://user:secret@localhost/", connect=False)
    assert "secret" not in repr(AsyncMongoDatabackend(client, "shop"))
    assert "AsyncMongoDatabackend(name='shop')" == repr(AsyncMongoDatabackend(client, "shop"))
