"""Models: adding, versions, loading, prediction, and what is refused."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from superorm import (
    ArtifactNotFoundError,
    ArtifactSavingError,
    AsyncDB,
    ComponentNotFoundError,
    ComponentRecord,
    ConfigurationError,
    Metric,
    Model,
    PredictionError,
    UnsupportedError,
    UntrustedArtifactError,
    func,
    select,
)
from superorm.compile.plan import Find
from superorm.unitofwork.writes import Update, UpdateOp


class Times:
    """A model that multiplies."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def predict(self, numbers: list[int]) -> list[int]:
        return [number * self.factor for number in numbers]


async def records(db: AsyncDB) -> list[dict[str, Any]]:
    """The components as they are stored."""
    return await db.parts.metadata.read(Find("_superorm_components", sort=[("version", 1)]))


async def test_versions(db: AsyncDB) -> None:
    """The same content is a no-op, other content the next version, from 0."""
    assert 0 == (await db.add(Model("times", Times(2)))).version
    assert 0 == (await db.add(Model("times", Times(2)))).version
    assert 1 == (await db.add(Model("times", Times(3)))).version
    assert ["times"] == await db.show("model")
    assert [0, 1] == await db.show("model", "times")
    assert [3, 6] == await db.predict("times", [1, 2])
    assert [2, 4] == (await db.load("model", "times", version=0)).predict([1, 2])


async def test_fingerprint_is_the_content(db: AsyncDB) -> None:
    """With a fingerprint the stored bytes do not matter."""
    assert 0 == (await db.add(Model("times", Times(2), fingerprint="a"))).version
    assert 0 == (await db.add(Model("times", Times(5), fingerprint="a"))).version
    assert 1 == (await db.add(Model("times", Times(2), fingerprint="b"))).version
    assert ["fingerprint:a", "fingerprint:b"] == [record["content"] for record in await records(db)]


async def test_the_metadata_holds_the_hash_of_the_blob(db: AsyncDB) -> None:
    """The artifact's bytes, read from the store by the registry's key, have the SHA-256 that the record says."""
    await db.add(Model("times", Times(2)))
    ((record,), (blob,)) = (await records(db), await db.parts.metadata.read(Find("_superorm_blobs")))
    data = b"".join([chunk async for chunk in db.parts.artifact_store.get(blob["key"])])
    assert hashlib.sha256(data).hexdigest() == record["artifact"]["sha256"] == blob["_id"]
    assert len(data) == blob["size"]


async def test_another_version_of_the_same_bytes_shares_the_blob(db: AsyncDB) -> None:
    """The same bytes are stored once."""
    await db.add(Model("one", Times(2)))
    await db.add(Model("two", Times(2)))
    assert 1 == len(await db.parts.artifact_store.keys())
    assert [2] == await db.predict("two", [1])


async def test_functions_and_batches(db: AsyncDB) -> None:
    """A plain function is called for each item, a model's method with batches of the given size."""
    calls: list[int] = []

    class Counting:
        def predict(self, items: list[int]) -> list[int]:
            calls.append(len(items))
            return items

    assert [2, 3] == (await db.add(Model("plus", lambda number: number + 1))).predict([1, 2])  # type: ignore[misc]
    assert list(range(5)) == Model("count", Counting(), batch_size=2).predict(list(range(5)))
    assert [2, 2, 1] == calls


async def test_failures(db: AsyncDB) -> None:
    """Unknown components, wrong outputs and objects that cannot be stored are named; nothing is stored."""
    with pytest.raises(ComponentNotFoundError, match=r"no model 'nothing': there are none"):
        await db.load("model", "nothing")
    with pytest.raises(ConfigurationError, match="int"):
        Model("x", 3)
    with pytest.raises(PredictionError, match="0 outputs for 1 inputs"):
        Model("x", lambda batch: [], batched=True).predict([1])
    with pytest.raises(ArtifactSavingError, match="generator"):
        await db.add(Model("x", Unpicklable()))
    with pytest.raises(UnsupportedError, match="str"):
        await db.add("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert ([], [], []) == (await records(db), await db.show("model"), await db.parts.artifact_store.keys())
    await db.add(Model("times", Times(2)))
    with pytest.raises(ComponentNotFoundError, match="versions 0"):
        await db.load("model", "times", version=7)


async def test_components_are_found_by_selects(db: AsyncDB) -> None:
    """Their records are mapped documents like others, of which each version is one."""
    for name, factor, size in (("a", 2, 8), ("a", 3, 64), ("b", 2, 8)):
        await db.add(Model(name, Times(factor), batch_size=size))
    await db.add(Metric("a", len))  # type: ignore[arg-type]
    await db.add(Model("gone", Times(9)))
    await db.remove("model", "gone")
    live = select(ComponentRecord).where(ComponentRecord.kind == "model", ComponentRecord.state == "live")
    async with db.session() as session:
        found = await session.scalars(live.order_by(ComponentRecord.name, ComponentRecord.version.desc()))
        assert [("a", 1), ("a", 0), ("b", 0)] == [(one.name, one.version) for one in found]
        small = live.where(ComponentRecord.params["batch_size"] < 10).order_by(ComponentRecord.name)
        assert ["a", "b"] == [one.name for one in await session.scalars(small)]
        shared = select(ComponentRecord.artifact["sha256"], func.count().label("n")).where(
            ComponentRecord.kind == "model", ComponentRecord.state == "live"
        )
        rows = await session.execute(shared.group_by(ComponentRecord.artifact["sha256"]))
        assert [1, 2] == sorted(row.n for row in rows)


class Unpicklable:
    """An object that holds a generator."""

    def __init__(self) -> None:
        self.generator = (number for number in range(3))

    def predict(self, items: list[Any]) -> list[Any]:
        return items


async def test_another_users_models_are_refused(db: AsyncDB) -> None:
    """Without the key that signed it a model is not loaded, and the error names the key's id."""
    await db.add(Model("times", Times(2)))
    other = AsyncDB(
        db.parts.data_backend,
        db.parts.metadata,
        db.parts.artifact_store,
        db.parts.vector_database,
        signing_keys=(b"another key",),
    )
    with pytest.raises(UntrustedArtifactError, match="SUPERORM_SIGNING_KEY"):
        await other.load("model", "times")


async def test_check_is_clean(db: AsyncDB) -> None:
    """After adding, nothing is wrong and nothing is left over; a lost blob is a problem."""
    await db.add(Model("times", Times(2)))
    report = await db.check()
    assert (True, []) == (report.ok, list(report.orphans))
    (blob,) = await db.parts.metadata.read(Find("_superorm_blobs"))
    await db.parts.artifact_store.delete(blob["key"])
    report = await db.check()
    assert not report.ok
    assert "model times 0" in str(report)
    assert blob["key"] in str(report)


async def test_a_lost_blob_names_its_component(db: AsyncDB) -> None:
    """The error says which component cannot be loaded, in words and as an attribute."""
    await db.add(Model("times", Times(2)))
    stored = await db.parts.artifact_store.keys()
    for key, _ in stored:
        await db.parts.artifact_store.delete(key)
    parts = db.parts
    other = AsyncDB(
        parts.data_backend, parts.metadata, parts.artifact_store, parts.vector_database, signing_keys=[b"test-key"]
    )
    with pytest.raises(ArtifactNotFoundError, match=r"model times 0.* has no blob") as caught:
        await other.load("model", "times")
    assert "times" == caught.value.component


async def test_check_reports_what_is_no_reference(db: AsyncDB) -> None:
    """A record without a usable reference is a problem in the report, and the other records are still checked."""
    await db.add(Model("good", Times(2)))
    await db.add(Model("times", Times(2)))
    filter = {"kind": "model", "name": "times"}
    await db.parts.metadata.write(
        Update("_superorm_components", [UpdateOp(q=filter, u={"$set": {"artifact": {"a": 1}}})])
    )
    report = await db.check()
    assert ["model times 0"] == [problem.partition(":")[0] for problem in report.problems]
    assert not report.orphans
