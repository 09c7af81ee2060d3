"""Torch modules with a trainer."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest
import torch

from superorm import (
    AsyncDB,
    Dataset,
    Document,
    Mapped,
    Metric,
    Model,
    Trainer,
    TrainingError,
    field,
    select,
    vector,
)
from tests.db._async.test_training import another, shown


class Point(Document):
    """A document that modules are trained on."""

    __collection__ = "points_of_trainings"

    id: Mapped[int] = field(primary_key=True)
    place: Mapped[np.ndarray | None] = vector(2)
    words: Mapped[str] = field(default="")
    height: Mapped[float] = field(default=0.0)
    side: Mapped[int] = field(default=0)
    part: Mapped[str] = field(default="train")


class Net(torch.nn.Module):
    """A linear layer, whose predictions are plain numbers or the positions of the largest."""

    def __init__(self, outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, outputs)
        self.dropout = torch.nn.Dropout(dropout)

    def forward(self, places: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.dropout(self.layer(places))
        return result

    def predict(self, items: list[Any]) -> list[Any]:
        with torch.no_grad():
            found = self(torch.as_tensor(np.stack(items), dtype=torch.float32))
        result: list[Any] = (found[:, 0] if found.shape[1] == 1 else found.argmax(dim=1)).tolist()
        return result


TO_LEARN = select(Point).where(Point.part == "train").order_by(Point.id)
HELD_OUT = select(Point).where(Point.part == "test").order_by(Point.id)


async def fill(db: AsyncDB, count: int = 64) -> None:
    await db.create_all(Point)
    generator = np.random.default_rng(7)
    places = generator.normal(size=(count, 2)).astype(np.float32)
    async with db.begin() as session:
        session.add_all(
            Point(
                id=n,
                place=place,
                words="x" * (n % 5),
                height=float(2 * place[0] - place[1] + 0.5),
                side=int(place[0] > place[1]),
                part="test" if n % 4 == 3 else "train",
            )
            for n, place in enumerate(places)
        )


def net(outputs: int = 1, dropout: float = 0.0) -> Net:
    torch.manual_seed(3)
    return Net(outputs, dropout)


def error(outputs: Any, targets: Any) -> float:
    return float(np.mean(np.abs(np.asarray(outputs) - np.asarray(targets))))


def right(outputs: Any, targets: Any) -> float:
    return float(np.mean(np.asarray(outputs) == np.asarray(targets)))


def half_squares(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return ((outputs - targets) ** 2).mean() / 2


def momentum(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.2, momentum=0.5)


async def test_least_squares(db: AsyncDB) -> None:
    """The weights are those of the exact relation; the given module keeps its own, and the user's seed its course."""
    await fill(db)
    given = net()
    before = given.layer.weight.detach().clone()
    torch.manual_seed(11)
    expected = torch.rand(2)
    torch.manual_seed(11)
    first = torch.rand(1)
    trainer = Trainer(
        select=TO_LEARN,
        key=Point.place,
        target=Point.height,
        metrics=[Metric("error", error)],
        validation=Dataset("held out", select=HELD_OUT),
        loss="MSELoss",
        learning_rate=0.1,
        epochs=100,
    )
    seen: list[tuple[int, int, str]] = []
    model = await db.add(
        Model("height", given, trainer=trainer), progress=lambda done, total, what: seen.append((done, total, what))
    )
    assert torch.equal(expected, torch.cat([first, torch.rand(1)]))
    np.testing.assert_allclose([[2, -1]], model.object.layer.weight.detach().numpy(), atol=1e-3)
    np.testing.assert_allclose([0.5], model.object.layer.bias.detach().numpy(), atol=1e-3)
    assert torch.equal(before, given.layer.weight)
    assert not model.object.training
    assert 0 <= model.metrics["error"] < 1e-2
    assert [(n, 200, "training model 'height'") for n in range(1, 201)] == seen  # 48 documents are two batches
    epochs = [line for line in model.job.logs if line.startswith("epoch")]
    assert [f"epoch {n} of 100" for n in range(1, 101)] == [line.partition(":")[0] for line in epochs]
    loaded = await another(db).load("model", "height")
    place = np.array([1, 1], np.float32)
    assert model.predict([place]) == loaded.predict([place])
    record = await db.show("model", "height", 0)
    assert "torch-module" == record["artifact"]["codec"]
    assert "torch-module" == (await db.show("training", "height", 0))["artifact"]["codec"]
    assert (await db.check()).ok


async def test_an_optimizer_that_asks_several_times(db: AsyncDB) -> None:
    """LBFGS finds the exact relation in one step over all documents, and logs the loss before it."""
    await fill(db)
    trainer = Trainer(
        select=TO_LEARN,
        key=Point.place,
        target=Point.height,
        loss="MSELoss",
        optimizer="LBFGS",
        learning_rate=1,
        epochs=1,
        batch_size=64,
    )
    given = net()
    model = await db.add(Model("height", given, trainer=trainer))
    np.testing.assert_allclose([[2, -1]], model.object.layer.weight.detach().numpy(), atol=1e-3)
    np.testing.assert_allclose([0.5], model.object.layer.bias.detach().numpy(), atol=1e-3)
    async with db.session() as session:
        points = (await session.scalars(TO_LEARN)).all()
    with torch.no_grad():
        outputs = given(torch.tensor(np.stack([point.place for point in points if point.place is not None])))
    before = float(np.mean([(float(one) - point.height) ** 2 for one, point in zip(outputs, points, strict=True)]))
    (line,) = [line for line in model.job.logs if line.startswith("epoch")]
    assert before == pytest.approx(float(line.rpartition(" ")[2]), rel=1e-4)


async def test_the_same_seed(db: AsyncDB) -> None:
    """The same seed gives the same weights, dropout included; another gives others."""
    await fill(db)

    async def weights(name: str, seed: int) -> torch.Tensor:
        trainer = Trainer(
            select=TO_LEARN, key=Point.place, target=Point.side, loss="CrossEntropyLoss", epochs=2, seed=seed
        )
        model = await db.add(Model(name, net(2, dropout=0.5), trainer=trainer))
        found: torch.Tensor = model.object.layer.weight
        return found

    one, same, other = await weights("one", 5), await weights("same", 5), await weights("other", 6)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


async def test_against_a_loop_by_hand(db: AsyncDB) -> None:
    """With one batch of all documents the order makes no difference: the steps are those of plain gradient descent."""
    await fill(db)
    trainer = Trainer(
        select=TO_LEARN,
        key=Point.place,
        target=Point.side,
        loss="CrossEntropyLoss",
        optimizer="SGD",
        learning_rate=0.5,
        epochs=5,
        batch_size=48,
    )
    model = await db.add(Model("side", net(2), trainer=trainer))
    async with db.session() as session:
        points = (await session.scalars(TO_LEARN)).all()
    x = torch.tensor(np.stack([point.place for point in points if point.place is not None]))
    y = torch.tensor([point.side for point in points])
    plain = net(2)
    for _ in range(5):
        loss = torch.nn.functional.cross_entropy(plain(x), y)
        weight, bias = torch.autograd.grad(loss, [plain.layer.weight, plain.layer.bias])
        with torch.no_grad():
            plain.layer.weight -= 0.5 * weight
            plain.layer.bias -= 0.5 * bias
    np.testing.assert_allclose(plain.layer.weight.detach(), model.object.layer.weight.detach(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(plain.layer.bias.detach(), model.object.layer.bias.detach(), rtol=1e-4, atol=1e-6)


async def test_callables(db: AsyncDB) -> None:
    """A loss and an optimizer of the user's come back for the next fit; they are content."""
    await fill(db)

    def made(optimizer: Any = momentum) -> Model:
        trainer = Trainer(
            select=TO_LEARN, key=Point.place, target=Point.height, loss=half_squares, optimizer=optimizer, epochs=20
        )
        return Model("height", net(), trainer=trainer)

    model = await db.add(made())
    np.testing.assert_allclose([[2, -1]], model.object.layer.weight.detach().numpy(), atol=1e-3)
    assert 0 == (await another(db).add(made())).version
    again = await another(db).fit("height")
    assert 1 == again.version
    assert torch.equal(model.object.layer.weight, again.object.layer.weight)
    assert 1 == (await db.add(made())).version
    assert 2 == (await db.add(made("SGD"))).version


async def test_early_stopping(db: AsyncDB) -> None:
    """Once the loss over the validation documents only grows, training ends, with the weights of the best epoch."""
    await fill(db)
    async with db.begin() as session:
        for point in await session.scalars(HELD_OUT):
            point.side = 1 - point.side
    trainer = Trainer(
        select=TO_LEARN,
        key=Point.place,
        target=Point.side,
        metrics=[Metric("right", right)],
        validation=Dataset("held out", select=HELD_OUT),
        loss="CrossEntropyLoss",
        optimizer="SGD",
        learning_rate=0.5,
        epochs=50,
        patience=3,
    )
    logs = (await db.add(Model("side", net(2), trainer=trainer))).job.logs
    epochs = [line for line in logs if line.startswith("epoch")]
    losses = [float(line.rpartition(" ")[2]) for line in epochs]
    best = losses.index(min(losses)) + 1
    assert best + 3 == len(epochs) < 50
    assert f"the weights are those of epoch {best}" in logs
    model = await db.load("model", "side")
    async with db.session() as session:
        points = (await session.scalars(HELD_OUT)).all()
    with torch.no_grad():
        outputs = model.object(torch.tensor(np.stack([point.place for point in points if point.place is not None])))
        found = torch.nn.functional.cross_entropy(outputs, torch.tensor([point.side for point in points]))
    assert min(losses) == pytest.approx(float(found), rel=1e-4)


class Lengths(Net):
    """A module that takes texts."""

    def forward(self, texts: Any) -> torch.Tensor:
        numbers = torch.tensor([[float(len(text)), 1.0] for text in texts])
        result: torch.Tensor = self.layer(numbers)
        return result


async def test_texts(db: AsyncDB) -> None:
    """What is no array is given to the module as a list."""
    await fill(db)
    trainer = Trainer(
        select=TO_LEARN, key=Point.words, target=Point.id, loss="MSELoss", learning_rate=0.1, epochs=1, batch_size=7
    )
    torch.manual_seed(0)
    model = await db.add(Model("lengths", Lengths(1), trainer=trainer))
    assert (1, 1) == tuple(model.object(["xx"]).shape)


async def test_what_fails(db: AsyncDB) -> None:
    """A loss that is no number, targets that are none, an optimizer that is none: nothing is stored."""
    await fill(db)

    def wide(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return outputs - targets

    def endless(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return outputs.sum() / 0

    def none(parameters: Any) -> None:
        return None

    wrong: list[tuple[dict[str, Any], str]] = [
        ({"loss": wide}, r"loss gave a tensor of the shape \(32, 1\), not a tensor with one number"),
        ({"loss": endless}, "the loss is -?inf in epoch 1: .*smaller learning_rate"),
        ({"loss": "MSELoss", "optimizer": none}, "optimizer gave a NoneType, not a torch optimizer"),
        ({"loss": "MSELoss", "target": Point.words}, "the targets Point.words are not numbers"),
        ({"loss": "CrossEntropyLoss", "target": Point.id}, "could not be trained on 48 documents: IndexError"),
        ({"loss": "MSELoss", "key": Point.words}, "could not be trained on 48 documents: TypeError"),
    ]
    for options, message in wrong:
        given = {"select": TO_LEARN, "key": Point.place, "target": Point.height, **options}
        outputs = 2 if options["loss"] == "CrossEntropyLoss" else 1
        with pytest.raises(TrainingError, match=message):
            await db.add(Model("m", net(outputs), trainer=Trainer(**given)))
        assert {} == await shown(db)
        assert [] == list((await db.check()).orphans)


@pytest.mark.parametrize("patience", [None, 3])
async def test_a_loss_over_the_validation_documents_that_is_no_number(db: AsyncDB, patience: int | None) -> None:
    """Training ends with an error: nothing could tell which epoch was the best."""
    await fill(db)
    async with db.begin() as session:
        (await session.get_one(Point, 3)).height = float("nan")
    trainer = Trainer(
        select=TO_LEARN,
        key=Point.place,
        target=Point.height,
        validation=Dataset("held out", select=HELD_OUT),
        loss="MSELoss",
        patience=patience,
    )
    with pytest.raises(TrainingError, match="the loss is nan over the validation documents after epoch 1: look for"):
        await db.add(Model("height", net(), trainer=trainer))
    assert {} == await shown(db)


async def test_nothing_else_waits(db: AsyncDB) -> None:
    """The training is in a thread where there is an event loop; where there is none, in the caller's own."""
    await fill(db)
    seen: set[int] = set()
    trainer = Trainer(select=TO_LEARN, key=Point.place, target=Point.height, loss="MSELoss", epochs=3)
    await db.add(Model("m", net(), trainer=trainer), progress=lambda *_: seen.add(threading.get_ident()))
    assert (threading.get_ident() in seen) == (not asyncio.iscoroutinefunction(fill))
    assert 1 == len(seen)
