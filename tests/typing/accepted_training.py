# pyright: strict
"""Models with a trainer, as type checkers see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_type

from superorm import DB, AsyncDB, Dataset, Metric, Model, Trainer, select
from superorm.components.training import Job
from tests.typing.classes import Movie


def share(outputs: Sequence[Any], targets: Sequence[Any]) -> float:
    """A metric."""
    return float(sum(a == b for a, b in zip(outputs, targets, strict=True)) / len(targets))


def trainer() -> Trainer:
    """With metrics and datasets as they are and by their names, and ways as names and callables."""
    Trainer(select=select(Movie), key=Movie.title, target=Movie.year, metrics=["share"], validation="old", patience=3)
    return Trainer(
        select=select(Movie).where(Movie.year > 1990),
        key=Movie.title,
        target=Movie.year,
        metrics=[Metric("share", share)],
        validation=Dataset("old", select=select(Movie)),
    )


def training(db: DB, classifier: Any) -> None:
    """Training on creation and anew."""
    model = db.add(Model("clf", classifier, trainer=trainer()), progress=True)
    assert_type(model, Model)
    assert_type(model.job, Job)
    assert_type(model.job.wait(), Job)
    assert_type(model.job.logs, Sequence[str])
    assert_type(model.metrics, dict[str, float])
    assert_type(db.fit("clf", 0, progress=print), Model)


async def training_async(db: AsyncDB, classifier: Any) -> None:
    """The same, awaited."""
    model = await db.add(Model("clf", classifier, trainer=trainer()))
    assert_type(await model.job.wait(), Job)
    assert_type(await db.fit("clf"), Model)
