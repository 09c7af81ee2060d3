"""Names of any text, of components of every kind together: added, found, joined, searched and removed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from superorm import (
    AsyncDB,
    Dataset,
    Document,
    Listener,
    Mapped,
    Metric,
    Model,
    Trainer,
    VectorIndex,
    field,
    outputs,
    select,
)


class Word(Document):
    """What is listened to and searched."""

    __collection__ = "words_of_any_names"

    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str]


class Mean:
    """A model that learns the mean of the targets."""

    mean = 0.0

    def fit(self, texts: list[str], numbers: list[int]) -> None:
        self.mean = sum(numbers) / len(numbers)

    def predict(self, texts: list[str]) -> list[float]:
        return [self.mean for _ in texts]


def place(text: str) -> np.ndarray:
    return np.array([1.0, len(text)], np.float32)


def worst(outputs: Any, targets: Any) -> float:
    return float(max(abs(a - b) for a, b in zip(outputs, targets, strict=True)))


@pytest.mark.parametrize("name", ["a.b/c\\d", " $a: 'b' \"c\" ", "日本語 🎬\n", "../..", "a%2Fb?c#d"], ids=repr)
async def test_every_kind(db: AsyncDB, name: str) -> None:
    """All that can be done by a name is done for each, and nothing is left of them in the end."""
    await db.create_all(Word)
    async with db.begin() as session:
        session.add_all([Word(id=number, text="x" * number) for number in (1, 2, 3)])
    await db.add(Dataset(name, select=select(Word)))
    await db.add(Metric(name, worst))
    trainer = Trainer(select=select(Word), key=Word.text, target=Word.id, metrics=[name], validation=name)
    trained = f"{name} trained"
    await db.add(Model(trained, Mean(), trainer=trainer))
    assert {name: 1.0} == (await db.show("model", trained, 0))["metrics"]
    await db.add(Listener(name, model=Model(name, place), select=select(Word), key=Word.text))
    await db.add(VectorIndex(name, listener=name, metric="euclidean"))
    for kind in "dataset", "metric", "listener", "vector_index":
        assert ([name], [0]) == (await db.show(kind), await db.show(kind, name))
        assert name == (await db.load(kind, name)).name
    assert sorted([name, trained]) == await db.show("model")
    async with db.begin() as session:
        session.add(Word(id=7, text="x" * 7))
    found = await db.outputs(name)
    assert {1, 2, 3, 7} == {key async for key, _ in found.items()}
    async with db.session() as session:
        joined = (await session.execute(select(Word.id, outputs(name)).order_by(Word.id))).all()
        assert [(1, 1.0), (2, 2.0), (3, 3.0), (7, 7.0)] == [(key, float(output[1])) for key, output in joined]
        nearest = await session.scalars(select(Word).like("x" * 6, on=name, k=2))
        assert [7, 3] == [word.id for word in nearest]
    assert (await db.check(Word)).ok
    for kind, which in (
        ("vector_index", name),
        ("listener", name),
        ("model", name),
        ("model", trained),
        ("metric", name),
        ("dataset", name),
    ):
        await db.remove(kind, which)
        assert which not in await db.show(kind)
