"""Datasets, which keep what a select found, and metrics."""

from __future__ import annotations

from typing import Any

import pytest

from superorm import (
    AsyncDB,
    ComponentError,
    ConfigurationError,
    Dataset,
    Document,
    Mapped,
    Metric,
    PredictionError,
    load_only,
    select,
)


class Sample(Document):
    """A document of a dataset."""

    __collection__ = "samples_of_datasets"

    number: Mapped[int]
    label: Mapped[str]


EVEN = select(Sample).where(Sample.label == "even").order_by(Sample.number.desc())


def another(db: AsyncDB) -> AsyncDB:
    """The same DB as another process has it, which may not run stored code."""
    parts = db.parts
    return AsyncDB(parts.data_backend, parts.metadata, parts.artifact_store, parts.vector_database, trust="none")


async def fill(db: AsyncDB) -> None:
    async with db.begin() as session:
        session.add_all([Sample(number=number, label=["even", "odd"][number % 2]) for number in range(10)])


async def test_a_snapshot_equals_its_select(db: AsyncDB) -> None:
    """The documents are those that the select finds, in its order, and stay so; they carry no code."""
    await fill(db)
    added = await db.add(Dataset("evens", select=EVEN))
    assert 0 == added.version
    async with db.begin() as session:
        found = (await session.scalars(EVEN)).all()
        assert [one.number for one in found] == [8, 6, 4, 2, 0]
        keys = [one.id for one in found]
        for one in found:
            one.number += 100
    loaded = await another(db).load("dataset", "evens")
    for dataset in added, loaded:
        assert [8, 6, 4, 2, 0] == [one.number for one in dataset]
        assert keys == [one.id for one in dataset.objects]
        assert all(type(one) is Sample for one in dataset)
        assert 5 == len(dataset)
        assert [{"_id": key, "number": n, "label": "even"} for key, n in zip(keys, [8, 6, 4, 2, 0], strict=True)] == (
            dataset.documents
        )
    assert EVEN.to_dict() == loaded.select.to_dict()


async def test_versions_of_a_dataset(db: AsyncDB) -> None:
    """The same documents are a no-op, others the next version."""
    await fill(db)
    assert [0, 0] == [(await db.add(Dataset("evens", select=EVEN))).version for _ in range(2)]
    async with db.begin() as session:
        session.add(Sample(number=100, label="even"))
    assert 1 == (await db.add(Dataset("evens", select=EVEN))).version
    assert [5, 6] == [len(await db.load("dataset", "evens", version)) for version in (0, 1)]


async def test_an_empty_dataset(db: AsyncDB) -> None:
    """A select that finds nothing gives a dataset of nothing."""
    await db.add(Dataset("none", select=EVEN))
    assert [] == (await another(db).load("dataset", "none")).objects


async def test_what_is_no_dataset(db: AsyncDB) -> None:
    """Anything but a select of whole documents of one class is refused where it is made."""
    wrong: list[tuple[Any, str]] = [
        (Sample, "made of a select"),
        (select(Sample.number), "whole documents of one class"),
        (select(Sample, Sample.number), "whole documents of one class"),
        (select(Sample).options(load_only(Sample.number)), "without options"),
        (select(Sample).stage({"$limit": 1}), "cannot be stored"),
    ]
    for statement, words in wrong:
        with pytest.raises(ConfigurationError, match=words):
            Dataset("d", select=statement)
    with pytest.raises(ComponentError, match="no documents yet"):
        len(Dataset("d", select=EVEN))
    assert [] == await db.show("dataset")


def hits(outputs: Any, targets: Any) -> float:
    """The part of the outputs that are right."""
    right: int = sum(output == target for output, target in zip(outputs, targets, strict=True))
    return right / len(targets)


async def test_metrics(db: AsyncDB) -> None:
    """A metric is stored with its function, and gives one number for outputs and targets."""
    metric = await db.add(Metric("hits", hits))
    assert (0, 0.75) == (metric.version, metric([1, 2, 3, 4], [1, 2, 3, 5]))
    parts = db.parts
    other = AsyncDB(
        parts.data_backend, parts.metadata, parts.artifact_store, parts.vector_database, signing_keys=[b"test-key"]
    )
    loaded = await other.load("metric", "hits")
    assert 0.5 == loaded([1, 2], [1, 3])
    with pytest.raises(PredictionError, match="2 outputs with 1 targets"):
        loaded([1, 2], [1])
    with pytest.raises(PredictionError, match="ZeroDivisionError"):
        loaded([], [])
    with pytest.raises(PredictionError, match="gave a list"):
        Metric("bad", lambda outputs, targets: [])([1], [1])
    with pytest.raises(ConfigurationError, match="cannot be called"):
        Metric("bad", 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
