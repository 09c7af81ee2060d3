"""A DB whose vectors are searched by the server's own search indexes, which are recorded: see `tests.vectors`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import numpy as np
import pymongo
import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient

from superorm import (
    AsyncAtlasVectorIndex,
    AsyncDB,
    ConfigurationError,
    Document,
    Embedded,
    Listener,
    Mapped,
    Model,
    StatementError,
    VectorError,
    VectorIndex,
    field,
    score,
    select,
    vector,
)
from superorm.artifacts._async.gridfs import AsyncMongoArtifactStore
from superorm.backends._async.mongodb import AsyncMongoDatabackend, AsyncMongoMetaDataStore
from superorm.schema.mapping import class_map
from superorm.schema.registry import Registry
from superorm.schema.vector_spec import VectorSpec
from tests.db.indexed import Film
from tests.vectors._async.node import AsyncNodeBackend, AsyncNodeIndex, Node

registry = Registry()


class Frame(Embedded):
    light: Mapped[str] = field(default="")
    embedding: Mapped[np.ndarray | None] = vector(2, metric="euclidean", filter_fields=["light"])


class Picture(Document, registry=registry):
    __collection__ = "atlas_pictures"

    id: Mapped[int] = field(primary_key=True)
    year: Mapped[int] = field(default=0)
    tags: Mapped[list[str]] = field(factory=list)
    embedding: Mapped[np.ndarray | None] = vector(2, filter_fields=["year"])
    frame: Mapped[Frame | None] = field(default=None)


class Portrait(Picture, registry=registry):
    sitter: Mapped[str] = field(default="")


@pytest_asyncio.fixture
async def db(mongodb_uri: str) -> AsyncIterator[AsyncDB]:
    """A DB on a server with a recorded search node."""
    name = f"atlas_db_{uuid4().hex[:12]}"
    client: Any = pymongo.MongoClient(mongodb_uri)
    own: Any = AsyncMongoClient(mongodb_uri)
    backend, engine = AsyncNodeBackend(own, name), AsyncNodeIndex(lag=60)
    backend.node = engine.node = Node(client[name])
    metadata, artifacts = AsyncMongoMetaDataStore(own, name), AsyncMongoArtifactStore(own, name=name)
    async with AsyncDB(backend, metadata, artifacts, engine, signing_keys=[b"test-key"]) as db:
        yield db
    await own.close()
    client.drop_database(name)
    client.close()


def tinted(year: int) -> list[float]:
    """The model of a listener."""
    return [1.0, year / 128]


def node_of(db: AsyncDB) -> Node:
    """What was recorded."""
    backend: Any = db.parts.data_backend
    node: Node = backend.node
    return node


def sent(db: AsyncDB) -> list[dict[str, Any]]:
    """The ``$vectorSearch`` stages."""
    return [stage["$vectorSearch"] for _, stage in node_of(db).sent if "$vectorSearch" in stage]


def at(degrees: float) -> np.ndarray:
    """A direction."""
    radians = np.radians(degrees)
    return np.array([np.cos(radians), np.sin(radians)], "f4")


async def pictures(db: AsyncDB) -> None:
    """Pictures of which every third is a portrait, all of them in the search indexes."""
    await db.create_all(Picture)
    async with db.begin() as session:
        for i in range(60):
            kind = Portrait if i % 3 == 0 else Picture
            frame = Frame(light="warm" if i % 2 else "cold", embedding=np.array([i, 0], "f4"))
            session.add(kind(id=i, year=2000 + i % 10, tags=[f"t{i % 4}"], embedding=at(i), frame=frame))
    node_of(db).sync("atlas_pictures")
    engine: Any = db.parts.vector_database
    engine.lag = 0
    for one in class_map(Picture).vectors:
        await db.vectors.apply(one.spec)
    engine.lag = 60


async def test_create_all(db: AsyncDB) -> None:
    """Each vector field has a search index, with the fields to filter by; a second time there is nothing to do."""
    report = await db.create_all(Picture)
    assert [
        "search index atlas_pictures superorm_embedding",
        "search index atlas_pictures superorm_frame__embedding",
    ] == [made for made in report.created if made.startswith("search")]
    created = [command["indexes"][0] for _, command in node_of(db).sent]
    assert [
        ["embedding", "year", "_type"],
        ["frame.embedding", "frame.light", "_type"],
    ] == [[one["path"] for one in index["definition"]["fields"]] for index in created]
    again = await db.create_all(Picture)
    assert (again.created, again.differences) == ([], [])
    fields = node_of(db).indexes["atlas_pictures", "superorm_embedding"]["definition"]["fields"]
    del fields[1]
    differs = "the search index 'superorm_embedding' of atlas_pictures has no filter field 'year'"
    assert [differs] == list((await db.create_all(Picture)).differences)
    assert [f"atlas_pictures.embedding: {differs}"] == list((await db.check(Picture)).problems)


async def test_searches(db: AsyncDB) -> None:
    """Before and after like, by class, below an embedded document: what is sent, and what comes of it."""
    await pictures(db)
    async with db.session() as session:
        before = select(Picture.id).where(Picture.year >= 2005).like(at(20), on=Picture.embedding, k=4)
        assert [19, 18, 17, 16] == (await session.scalars(before)).all()
        after = select(Picture).like(at(20), on=Picture.embedding, k=4).where(Picture.year < 2001).limit(3)
        assert [20] == [one.id for one in (await session.scalars(after)).all()]
        portraits = select(Portrait, score()).like(at(20), on=Portrait.embedding, k=2)
        found = (await session.execute(portraits)).all()
        assert [21, 18] == [one.id for one, _ in found]
        assert all(type(one) is Portrait for one, _ in found)
        scores = [(1 + np.cos(np.radians(angle))) / 2 for angle in (1, 2)]
        assert np.allclose([one for _, one in found], scores, atol=1e-6)
        framed = select(Picture.id, score()).where(Picture.frame[Frame.light] == "warm")
        framed = framed.like([20, 0], on=Picture.frame[Frame.embedding], k=3)
        rows = (await session.execute(framed)).all()
        assert [(19, 1 / 2), (21, 1 / 2), (17, 1 / 4)] == [(key, pytest.approx(one)) for key, one in rows]
    assert [{"year": {"$gte": 2005}}, None, {"_type": "Portrait"}, {"frame.light": "warm"}] == [
        stage.get("filter") for stage in sent(db)
    ]
    assert ["superorm_embedding"] * 3 + ["superorm_frame__embedding"] == [stage["index"] for stage in sent(db)]


async def test_commits_are_searchable_when_they_return(db: AsyncDB) -> None:
    """The search index has none of it yet. Rolled back changes leave no trace."""
    await pictures(db)
    statement = select(Picture).like(at(200), on=Picture.embedding, k=2)
    async with db.session() as session:
        session.add(Picture(id=100, embedding=at(200)))
        await session.flush()
        assert 100 == (await session.scalars(statement)).all()[0].id
        await session.rollback()
        assert 100 not in {one.id for one in (await session.scalars(statement)).all()}
        moved = await session.get_one(Picture, 5)
        moved.embedding = at(201)
        session.add(Picture(id=101, embedding=at(203)))
        await session.commit()
        assert [5, 101] == [one.id for one in (await session.scalars(statement)).all()]
        session.delete(moved)
        await session.commit()
        near = select(Picture.id).like(at(5), on=Picture.embedding, k=3)
        assert {4, 6} < set((await session.scalars(near)).all())
        assert 101 == (await session.scalars(statement)).all()[0].id


async def test_explain(db: AsyncDB) -> None:
    """Engine, strategy and why, with what was sent."""
    await pictures(db)
    statement = select(Picture).where(Picture.year > 2003).like(at(0), on=Picture.embedding, k=2)
    explanation = await db.explain(statement)
    assert ("atlas", "push-down") == (explanation.engine, explanation.strategy)
    assert explanation.why == "atlas takes the whole filter"
    assert "$vectorSearch" in str(explanation)
    few = await db.explain(statement.where(Picture.id >= 0))  # of what was found
    assert few.strategy == "push-down"
    tagged = select(Picture).where(Picture.tags.contains("t1")).like(at(0), on=Picture.embedding, k=2)
    assert "gather" == (await db.explain(tagged)).strategy
    exact = select(Picture).like(at(0), on=Picture.embedding, k=2, exact=True)
    assert "exact" == (await db.explain(exact)).strategy
    assert db.capabilities.search_index_lag == 60


async def test_a_server_without_any(mongodb_uri: str) -> None:
    """A DB made by hand says so at its first use."""
    name = f"atlas_db_{uuid4().hex[:12]}"
    own: Any = AsyncMongoClient(mongodb_uri)
    parts = (
        AsyncMongoDatabackend(own, name),
        AsyncMongoMetaDataStore(own, name),
        AsyncMongoArtifactStore(own, name=name),
    )
    db = AsyncDB(*parts, AsyncAtlasVectorIndex())
    with pytest.raises(ConfigurationError, match=r"atlas:// needs a server with a search node.*; use lancedb://"):
        await db.create_all(Picture)
    await db.close()
    assert name not in await own.list_database_names()
    await own.close()


async def test_bad_queries(db: AsyncDB) -> None:
    """They are refused before anything is sent."""
    await db.create_all(Picture)
    before = len(node_of(db).sent)
    async with db.session() as session:
        with pytest.raises(VectorError):
            await session.scalars(select(Picture).like([0, 0], on=Picture.embedding))
        for query in ([1, 2, 3], [], [[1, 2]], [np.nan, 1], [np.inf, 1]):
            for on in (Picture.embedding, Picture.frame.embedding):
                with pytest.raises(VectorError):
                    await session.scalars(select(Picture).like(query, on=on))
        with pytest.raises(StatementError, match="k="):
            select(Picture).like([1, 2], on=Picture.embedding, k=0)
        with pytest.raises(StatementError, match="Picture has the vector fields"):
            await session.scalars(select(Picture).like([1, 2]))
    assert before == len(node_of(db).sent)


async def test_check_and_rebuild(db: AsyncDB) -> None:
    """A search index that has gone is a problem, and is made anew by one call."""
    await pictures(db)
    assert (await db.check(Picture)).ok
    node_of(db).indexes.pop(("atlas_pictures", "superorm_embedding"))
    (problem,) = (await db.check(Picture)).problems
    assert problem == (
        "atlas_pictures.embedding: atlas_pictures has no search index 'superorm_embedding'; rebuild() makes it"
    )
    await db.rebuild(Picture.embedding)
    assert (await db.check(Picture)).ok


async def test_an_index_of_outputs(db: AsyncDB) -> None:
    """Its search index is on the collection of its vectors; the documents are found beside them."""
    await db.create_all(Film)
    async with db.begin() as session:
        session.add_all([Film(id=n, year=n, tags=["even"] * (n % 2 == 0)) for n in range(200)])
    listener = Listener("tints", model=Model("tinted", tinted), select=select(Film), key=Film.year)
    await db.add(VectorIndex("by-tint", listener=listener, metric="euclidean"))
    (collection,) = (where for where, _ in node_of(db).indexes if where.startswith("_superorm_outputs."))
    spec = VectorSpec(collection, "v", 2, "euclidean")
    node_of(db).sync(collection)
    engine: Any = db.parts.vector_database
    engine.lag = 0
    await db.vectors.apply(spec)
    engine.lag = 60
    node_of(db).sent.clear()
    async with db.session() as session:
        near = select(Film.id).like(20, on="by-tint", k=3)
        assert [20, 19, 21] == (await session.scalars(near)).all()
        even = select(Film.id).where(Film.tags.contains("even")).like([1.0, 20 / 128], on="by-tint", k=3)
        assert [20, 18, 22] == (await session.scalars(even)).all()
        (await session.get_one(Film, 39)).year = 20
        session.delete(await session.get_one(Film, 19))
        await session.commit()
        assert [20, 39, 21] == (await session.scalars(near)).all()
    assert ["v"] * 3 == [stage["path"] for stage in sent(db)]
    assert {collection} == {where for where, _ in node_of(db).sent}
    assert (await db.check(Film)).ok
