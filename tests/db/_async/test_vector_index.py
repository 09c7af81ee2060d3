"""Vector indexes of listeners' outputs as components: added whole or not at all, kept, checked and removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from superorm import (
    AsyncDB,
    AsyncSession,
    ComponentInUseError,
    ComponentNotFoundError,
    ConfigurationError,
    Listener,
    Model,
    PredictionError,
    StatementError,
    VectorIndex,
    score,
    select,
)
from tests.db.indexed import DIM, Film, brute, encode, plain_database

QUERY = encode("what is looked for")


@pytest_asyncio.fixture
async def plain(db: AsyncDB, real: bool, mongodb_uri: str) -> Any:
    """The database without superorm; there are films."""
    await db.create_all(Film)
    async with db.begin() as session:
        session.add_all([Film(id=n, text=f"film {n}", year=n) for n in range(20)])
    database = plain_database(mongodb_uri, db.parts.data_backend.name, real=real)
    yield database
    if real:
        database.client.close()


def plots(model: Any = encode) -> Listener:
    return Listener("plots", model=Model("encode", model, fingerprint="encode"), select=select(Film), key=Film.text)


def everything(plain: Any) -> dict[str, list[Any]]:
    """All that is stored of components, outputs and vectors, but for what is left of removed components."""
    found: dict[str, list[Any]] = {}
    for name in plain.list_collection_names():
        if name.startswith(("_superorm_outputs", "_superorm_records")):
            found[name] = sorted(map(repr, plain[name].find({"kind": {"$ne": "models"}})))
    live = plain["_superorm_components"].find({"state": {"$ne": "removed"}})
    return {**found, "components": sorted((one["kind"], one["name"], one["version"]) for one in live)}


async def nearest(db: AsyncDB, k: int = 5, name: str = "by-plot", query: Any = QUERY) -> list[tuple[Any, float]]:
    async with AsyncSession(db) as session:
        rows = (await session.execute(select(Film, score()).like(query, on=name, k=k))).all()
        return [(film.id, value) for film, value in rows]


def same(expected: list[tuple[Any, float]], given: list[tuple[Any, float]]) -> None:
    assert [key for key, _ in expected] == [key for key, _ in given]
    assert np.allclose([value for _, value in expected], [value for _, value in given], atol=1e-6)


async def test_adding_loading_showing_and_removing(db: AsyncDB, plain: Any, tmp_path: Path) -> None:
    """The vectors stand in a collection of their own; the same again is nothing new; a removal takes all with it."""
    await db.create_all(Film)
    before = everything(plain)
    seen: list[tuple[int, int, str]] = []
    index = VectorIndex("by-plot", listener=plots())
    added = await db.add(index, progress=lambda done, total, what: seen.append((done, total, what)))
    assert (added is index, added.version) == (True, 0)
    assert (20, 20, "vector index by-plot") in seen
    (collection,) = (name for name in plain.list_collection_names() if name.startswith("_superorm_outputs."))
    outputs = {one["_id"]["key"]: one["output"] for one in plain["_superorm_outputs"].find()}
    assert {one["_id"]: one["v"] for one in plain[collection].find()} == outputs
    assert 20 == len(outputs)
    assert 0 == (await db.add(VectorIndex("by-plot", listener="plots", metric="cosine"))).version
    same(brute(plain, QUERY, 5), await nearest(db))
    assert ["by-plot"] == await db.show("vector_index")
    assert [0] == await db.show("vector_index", "by-plot")
    shown = await db.show("vector_index", "by-plot", 0)
    assert {"metric": "cosine"} == shown["params"]
    assert [{"kind": "listener", "name": "plots", "version": 0}] == shown["children"]
    loaded = await db.load("vector_index", "by-plot")
    assert ("by-plot", 0, "cosine", None) == (loaded.name, loaded.version, loaded.metric, loaded.dim)
    assert isinstance(loaded.listener, Listener)
    assert 1 == (await db.add(VectorIndex("by-plot", listener="plots", metric="dot"))).version
    same(brute(plain, QUERY, 5, metric="dot"), await nearest(db))
    await db.remove("vector_index", "by-plot", 1)
    same(brute(plain, QUERY, 5), await nearest(db))
    assert ("LanceVectorIndex" in repr(db)) == bool([*(tmp_path / "lance").glob("*.lance")])
    await db.remove("vector_index", "by-plot", recursive=True)
    assert {**before, "_superorm_outputs": []} == {**everything(plain), "_superorm_outputs": []}
    assert [] == list(plain["_superorm_outputs"].find())
    assert [] == [*(tmp_path / "lance").glob("*.lance")]
    assert 2 == (await db.add(VectorIndex("by-plot", listener=plots()))).version
    same(brute(plain, QUERY, 5), await nearest(db))


async def test_what_is_in_use(db: AsyncDB, plain: Any) -> None:
    """Neither the listener nor its model is removed or replaced; by force they are hidden, and the index stays."""
    await db.add(VectorIndex("by-plot", listener=plots(), model=Model("queries", encode, fingerprint="queries")))
    for kind, name in (("listener", "plots"), ("model", "queries")):
        with pytest.raises(ComponentInUseError, match=f"the {kind} '{name}' version 0 is needed by the vector_index"):
            await db.remove(kind, name)
    with pytest.raises(ComponentInUseError, match="vector_index 'by-plot' version 0"):
        await db.replace(VectorIndex("by-plot", listener="plots", metric="dot"))
    with pytest.raises(ComponentInUseError, match="vector_index 'by-plot' version 0"):
        await db.replace(Model("queries", len, fingerprint="others"))
    with pytest.warns(UserWarning, match="hidden but kept"):
        await db.remove("listener", "plots", force=True)
    async with db.begin() as session:
        (await session.get_one(Film, 3)).text = "what is looked for"
    same(brute(plain, QUERY, 5), await nearest(db))
    assert 3 == (await nearest(db, 1))[0][0]
    await db.remove("vector_index", "by-plot")
    assert [] == list(plain["_superorm_outputs"].find())
    assert [("model", "encode", 0), ("model", "queries", 0)] == everything(plain)["components"]


async def test_versions_of_the_listener(db: AsyncDB, plain: Any) -> None:
    """An index keeps the listener's version that was the newest; added again, it is of the newest now."""
    await db.add(VectorIndex("by-plot", listener=plots()))
    await db.add(Model("encode", lambda text: -encode(text), fingerprint="turned"))
    await db.add(Listener("plots", model="encode", select=select(Film), key=Film.text))
    old = await nearest(db, query="what is looked for")
    assert [key for key, _ in old] == [key for key, _ in await nearest(db)]
    assert 1 == (await db.add(VectorIndex("by-plot", listener="plots"))).version
    new = await nearest(db)
    assert {key for key, _ in old}.isdisjoint(key for key, _ in new)
    assert [key for key, _ in old] == [key for key, _ in await nearest(db, query="what is looked for")]
    with pytest.raises(ComponentInUseError):
        await db.remove("listener", "plots", 0)
    await db.remove("vector_index", "by-plot", 0)
    await db.remove("listener", "plots", 0)
    assert new == await nearest(db)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ([1.0, 2.0], r"cannot hold the output for Film 13: it is of shape \(2,\), and the index has 6 dimensions"),
        (np.full(DIM, np.nan, np.float32), "for Film 13: it is not finite"),
        ("a text", "for Film 13: it is a str, which is no vector"),
    ],
)
async def test_an_addition_that_fails_leaves_nothing(db: AsyncDB, plain: Any, output: Any, message: str) -> None:
    """Neither components nor outputs, vectors, states and records, of what was added with it either."""

    def model(text: str) -> Any:
        return output if text == "film 13" else encode(text)

    before = everything(plain)
    with pytest.raises(PredictionError, match=message):
        await db.add(VectorIndex("by-plot", listener=plots(model)))
    after = everything(plain)
    assert [] == after.pop("_superorm_outputs")
    assert before == after
    kept = await db.add(plots(model))
    outputs = everything(plain)["_superorm_outputs"]
    with pytest.raises(PredictionError, match=message):
        await db.add(VectorIndex("by-plot", listener="plots", dim=DIM))
    assert [("listener", "plots", kept.version)] == [
        one for one in everything(plain)["components"] if one[0] != "model"
    ]
    assert outputs == everything(plain)["_superorm_outputs"]
    assert not any(name.startswith("_superorm_outputs.") for name in plain.list_collection_names())


async def test_what_cannot_be_added(db: AsyncDB, plain: Any) -> None:
    """It is refused where it is made, or where it is added, and nothing of it stays."""
    for options, message in (
        ({"listener": ""}, "a listener needs a name"),
        ({"listener": 7}, "a listener needs a name, not 7"),
        ({"listener": "plots", "metric": "cos"}, "metric='cos'; there are 'cosine', 'dot', 'euclidean'"),
        ({"listener": "plots", "metric": ["cosine"]}, r"metric=\['cosine'\]; there are"),
        ({"listener": "plots", "dim": 0}, "dim=0; vectors have a whole number"),
        ({"listener": "plots", "dim": 2.0}, "dim=2.0; vectors have a whole number"),
        ({"listener": "plots", "model": ""}, "a model needs a name"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            VectorIndex("by-plot", **options)
    with pytest.raises(ComponentNotFoundError, match=r"VectorIndex\('by-plot'\) needs the listener 'plots'"):
        await db.add(VectorIndex("by-plot", listener="plots"))
    none = Listener("none", model=Model("none", lambda _: None), select=select(Film), key=Film.text)
    with pytest.raises(ConfigurationError, match=r"the listener 'none' version 0 has no outputs yet.* give dim="):
        await db.add(VectorIndex("by-none", listener=none))
    lengths = Listener("lengths", model=Model("length", len), select=select(Film), key=Film.text)
    with pytest.raises(ConfigurationError, match=r"indexes vectors, and the output for Film 0 is of shape \(\)"):
        await db.add(VectorIndex("by-length", listener=lengths))
    assert [] == everything(plain)["components"]
    assert not any(name.startswith("_superorm_outputs.") for name in plain.list_collection_names())


async def test_documents_that_come_later(db: AsyncDB, plain: Any) -> None:
    """With a dim there need be no output yet. One that does not fit is told to who searches, until it is mended."""
    async with db.begin() as session:
        for film in (await session.scalars(select(Film))).all():
            session.delete(film)
    given: dict[str, Any] = {"odd": [1.0], "none": None}
    model = Model("encode", lambda text: given.get(text, [1.0, len(text)]))
    await db.add(Listener("plots", model=model, select=select(Film), key=Film.text))
    await db.add(VectorIndex("by-plot", listener="plots", dim=2))
    assert [] == await nearest(db, query=[1.0, 0.0])
    async with db.begin() as session:
        session.add_all([Film(id=1, text="a"), Film(id=2, text="none"), Film(id=3, text="bbb")])
    assert [1, 3] == [key for key, _ in await nearest(db, query=[1.0, 0.0])]
    async with db.begin() as session:
        (await session.get_one(Film, 3)).text = "odd"
    with pytest.raises(PredictionError, match=r"for Film 3: it is of shape \(1,\), and the index has 2 dimensions"):
        await nearest(db, query=[1.0, 0.0])
    report = await db.check(Film)
    assert any("vector_index 'by-plot' version 0: its outputs could not be computed" in one for one in report.problems)
    async with db.begin() as session:
        (await session.get_one(Film, 3)).text = "none"
    assert [1] == [key for key, _ in await nearest(db, query=[1.0, 0.0])]
    assert (await db.check(Film)).ok


async def test_check_rebuild_and_gc(db: AsyncDB, plain: Any, real: bool) -> None:
    """What differs is reported, and mended by a rebuild; what is left of removed indexes goes."""
    await db.add(VectorIndex("by-plot", listener=plots()))
    await nearest(db)
    assert (await db.check(Film)).ok
    (collection,) = (name for name in plain.list_collection_names() if name.startswith("_superorm_outputs."))
    plain[collection].delete_one({"_id": 4})
    stored = plain[collection].find_one({"_id": 5})["v"]
    plain[collection].update_one({"_id": 6}, {"$set": {"source": b"other", "v": stored}})
    plain[collection].insert_one({"_id": 777, "source": b"", "v": stored})
    problems = (await db.check(Film)).problems
    for key, what in ((4, "is not of the document"), (6, "is not of the document"), (777, "has no document")):
        assert f"vector_index 'by-plot' version 0: the output of {key} {what}" in problems
    await db.rebuild("by-plot")
    assert (await db.check(Film)).ok
    same(brute(plain, QUERY, 20), await nearest(db, 20))
    with pytest.raises(StatementError, match="keeps the version of its model"):
        await db.rebuild("by-plot", reencode=True)
    with pytest.raises(ComponentNotFoundError):
        await db.rebuild("nowhere")
    left = "_superorm_outputs.0123456789abcdef01234567"
    plain[left].insert_one({"_id": 1})
    state = {"_id": f"{left}.v@other", "kind": "state", "i": f"{left}.v", "engine": "other", "n": 0, "floor": 0}
    plain["_superorm_records"].insert_one({**state, "ver": None, "table": None})
    await db.gc()
    assert left not in plain.list_collection_names()
    assert plain["_superorm_records"].find_one({"i": f"{left}.v"}) is None
    same(brute(plain, QUERY, 20), await nearest(db, 20))
