"""Models with a trainer: trained on documents when they are added, and anew by `fit`."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.dummy import DummyRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from superorm import (
    AsyncDB,
    ComponentError,
    ComponentInUseError,
    ComponentNotFoundError,
    ConfigurationError,
    Dataset,
    Document,
    Listener,
    Mapped,
    Metric,
    Model,
    PredictionError,
    Trainer,
    TrainingError,
    field,
    select,
    vector,
)
from superorm.components.kinds import KINDS
from tests._async.databases import own_db


class Flower(Document):
    """A document that models are trained on."""

    __collection__ = "flowers_of_trainings"

    id: Mapped[int] = field(primary_key=True)
    words: Mapped[str] = field(default="")
    sizes: Mapped[list[float]] = field(factory=list)
    height: Mapped[float | None] = field(default=None, name="h")
    kind: Mapped[str | None] = field(default=None)
    part: Mapped[str] = field(default="train")
    place: Mapped[np.ndarray | None] = vector(2)


class Stone(Document):
    """A document of another class."""

    __collection__ = "stones_of_trainings"

    weight: Mapped[float]


TO_LEARN = select(Flower).where(Flower.part == "train").order_by(Flower.id)
HELD_OUT = select(Flower).where(Flower.part == "test").order_by(Flower.id)


def another(db: AsyncDB) -> AsyncDB:
    """The same DB as another process has it."""
    parts = db.parts
    return AsyncDB(
        parts.data_backend, parts.metadata, parts.artifact_store, parts.vector_database, signing_keys=[b"test-key"]
    )


def flower(number: int) -> Flower:
    """The height is three times the first size plus twice the second, and one."""
    sizes = [float(number % 7), float(number % 5)]
    words, kind = [("thorn red petal", "rose"), ("bulb early spring", "tulip")][number % 2]
    return Flower(
        id=number,
        words=f"{words} {number}",
        sizes=sizes,
        height=3 * sizes[0] + 2 * sizes[1] + 1,
        kind=kind,
        part="test" if number % 4 == 3 else "train",
        place=np.array(sizes),
    )


async def fill(db: AsyncDB, first: int = 0, end: int = 40) -> None:
    await db.create_all(Flower)
    async with db.begin() as session:
        session.add_all([flower(number) for number in range(first, end)])


def mean_error(outputs: Any, targets: Any) -> float:
    return float(np.mean([abs(float(output) - target) for output, target in zip(outputs, targets, strict=True)]))


def right(outputs: Any, targets: Any) -> float:
    return sum(output == target for output, target in zip(outputs, targets, strict=True)) / len(targets)


async def shown(db: AsyncDB) -> dict[str, dict[str, list[int]]]:
    """All components that can be seen."""
    found = {kind: {name: await db.show(kind, name) for name in await db.show(kind)} for kind in KINDS}
    return {kind: names for kind, names in found.items() if names}


async def test_trained_on_creation(db: AsyncDB) -> None:
    """The model is the one of least squares over the documents; the metric is that over those held out."""
    await fill(db)
    plain = LinearRegression()
    validation = Dataset("held out", select=HELD_OUT)
    trainer = Trainer(
        select=TO_LEARN,
        key=Flower.sizes,
        target=Flower.height,
        metrics=[Metric("mean.error", mean_error)],
        validation=validation,
    )
    model = await db.add(Model("height", plain, trainer=trainer))
    assert 0 == model.version
    assert not hasattr(plain, "coef_")
    np.testing.assert_allclose([3, 2], model.object.coef_, atol=1e-9)
    np.testing.assert_allclose([6 + 6 + 1], model.predict([[2.0, 3.0]]))
    assert {"mean.error"} == set(model.metrics)
    assert 0 <= model.metrics["mean.error"] < 1e-9
    record = await db.show("model", "height", 0)
    assert model.metrics == record["metrics"]
    assert (30, 10) == (record["documents"], record["validated"])
    assert [{"kind": "training", "name": "height", "version": 0}] == record["children"]
    assert {
        "dataset": {"held out": [0]},
        "metric": {"mean.error": [0]},
        "model": {"height": [0]},
        "training": {"height": [0]},
    } == await shown(db)
    loaded = await another(db).load("model", "height")
    np.testing.assert_allclose([13], loaded.predict([[2.0, 3.0]]))
    assert model.metrics == loaded.metrics
    np.testing.assert_allclose([13], await another(db).predict("height", [[2.0, 3.0]]))
    assert (await db.check()).ok


async def test_the_job(db: AsyncDB) -> None:
    """It is over when the model is there, and tells what was done, also of a model that was loaded."""
    await fill(db)
    untrained = Model(
        "height", LinearRegression(), trainer=Trainer(select=TO_LEARN, key=Flower.sizes, target=Flower.height)
    )
    with pytest.raises(ComponentError, match=r"Model\('height'\) has no job: db.add\(...\) trains it"):
        _ = untrained.job
    model = await db.add(untrained)
    for one in model, await another(db).load("model", "height"):
        assert one.job.wait() is not None
        assert "done" == one.job.status
        assert "read 30 documents to train on" == one.job.logs[0]
        assert one.job.logs[-1].startswith("done in ")
    with pytest.raises(ComponentError, match="added without a trainer"):
        _ = (await db.add(Model("plain", LinearRegression()))).job


async def test_the_same_again_is_not_trained_again(db: AsyncDB) -> None:
    """Neither the same instance, nor the same content, nor what was loaded, though the documents are others now."""
    await fill(db)

    def made(alpha: int = 0) -> Model:
        trainer = Trainer(select=TO_LEARN.where(Flower.id >= alpha), key=Flower.sizes, target=Flower.height)
        return Model("height", Counting(), trainer=trainer)

    Counting.fits = 0
    model = made()
    for _ in range(2):
        assert 0 == (await db.add(model)).version
    await fill(db, 40, 50)
    again = await another(db).add(made())
    assert (0, 1) == (again.version, Counting.fits)
    assert 30 == again.object.count
    assert model.metrics == again.metrics
    assert "done" == again.job.status
    assert 0 == (await db.add(await another(db).load("model", "height"))).version
    assert 1 == (await db.add(made(alpha=10))).version
    assert 2 == Counting.fits
    assert {"model": {"height": [0, 1]}, "training": {"height": [0, 1]}} == await shown(db)


async def test_one_instance_in_two_databases(db: AsyncDB) -> None:
    """In each it is trained from what was given, on the documents there, and adding it again gives what is there."""
    await fill(db)
    async with own_db("mongomock", "") as other:
        await fill(other, 0, 20)
        trainer = Trainer(select=TO_LEARN, key=Flower.sizes, target=Flower.height)
        model = Model("count", Recording(), trainer=trainer)
        assert 30 == (await db.add(model)).object.count
        assert (0, 15) == ((await other.add(model)).version, model.object.count)
        assert (0, 30) == ((await db.add(model)).version, model.object.count)
        assert (0, 15) == ((await other.add(model)).version, model.object.count)


async def test_a_fingerprint(db: AsyncDB) -> None:
    """The same fingerprint is the same content, of the model and of what it is made from."""
    await fill(db)
    for constant in 1.0, 2.0:
        trainer = Trainer(select=TO_LEARN, key=Flower.sizes, target=Flower.height)
        regressor = DummyRegressor(strategy="constant", constant=constant)
        added = await db.add(Model("m", regressor, trainer=trainer, fingerprint="first"))
        assert (0, [1.0]) == (added.version, added.predict([[0.0, 0.0]]))
    assert {"model": {"m": [0]}, "training": {"m": [0]}} == await shown(db)


async def test_fit_anew(db: AsyncDB) -> None:
    """The next version is trained on the documents of now, and rated by the snapshot of before; the first one stays."""
    await fill(db)
    trainer = Trainer(
        select=TO_LEARN,
        key=Flower.sizes,
        target=Flower.height,
        metrics=[Metric("mean error", mean_error)],
        validation=Dataset("held out", select=HELD_OUT),
    )
    await db.add(Model("mean", DummyRegressor(), trainer=trainer))
    first = await db.show("model", "mean", 0)
    async with db.begin() as session:
        async for one in session.stream_scalars(select(Flower)):
            one.height = 1000.0
            session.add(one)
    await db.add(Metric("mean error", right))
    second = await another(db).fit("mean")
    assert 1 == second.version
    assert [1000.0] == second.predict([[0.0, 0.0]])
    kept = [flower(number) for number in range(40) if number % 4 == 3]
    heights = [one.height for one in kept if one.height is not None]
    assert math.isclose(float(np.mean([1000 - height for height in heights])), second.metrics["mean error"])
    assert first == await db.show("model", "mean", 0)
    again = await db.show("model", "mean", 1)
    assert (first["content"], first["children"]) == (again["content"], again["children"])
    assert first["data"] != again["data"]
    assert [1000.0] == (await db.load("model", "mean")).predict([[0.0, 0.0]])
    assert [0, 1] == await db.show("model", "mean")
    await db.remove("metric", "mean error", 1)
    assert 1 == (await db.add(Model("mean", DummyRegressor(), trainer=trainer))).version
    assert again["data"] == (await db.show("model", "mean", (await db.fit("mean", 0)).version))["data"]
    assert (await db.check()).ok


async def test_what_cannot_be_fit(db: AsyncDB) -> None:
    """A model that there is not, or without a trainer."""
    with pytest.raises(ComponentNotFoundError):
        await db.fit("none")
    await db.add(Model("plain", LinearRegression()))
    with pytest.raises(ComponentError, match="model 'plain' version 0 was added without a trainer"):
        await db.fit("plain")


@pytest.mark.parametrize("transformer", [False, True], ids=["classifier", "transformer"])
async def test_texts_vectors_and_no_target(db: AsyncDB, transformer: bool) -> None:
    """A pipeline over texts, an estimator over vectors, and one that learns without a target."""
    await fill(db)
    if transformer:
        scaler = await db.add(Model("scale", StandardScaler(), trainer=Trainer(select=TO_LEARN, key=Flower.place)))
        places = np.array([one.place for one in (flower(n) for n in range(40)) if one.part == "train"])
        np.testing.assert_allclose(places.mean(axis=0), scaler.object.mean_, rtol=1e-6)
        assert np.float32 == scaler.object.transform(places[:1].astype(np.float32)).dtype
        return
    texts = Pipeline([("words", TfidfVectorizer()), ("classifier", LogisticRegression())])
    for key, object in (Flower.words, texts), (Flower.place, LogisticRegression()):
        trainer = Trainer(select=TO_LEARN, key=key, target=Flower.kind, metrics=[Metric("right", right)])
        model = await db.add(Model(f"kind by {key}", object, trainer=trainer))
        assert ["rose", "tulip"] == list(model.object.classes_)
        given = ["a red thorn", "early in spring"] if object is texts else [flower(0).place, flower(1).place]
        if object is texts:
            assert ["rose", "tulip"] == model.predict(given)
            assert 1.0 == model.metrics["right"]
        assert (await db.show("model", model.name, 0))["validated"] is None
        assert "for the documents that it was trained on" in model.job.logs[1]


async def test_any_select_of_documents(db: AsyncDB) -> None:
    """Order and limit are kept, and what is no plain find is read all the same."""
    await fill(db)
    ordered = select(Flower).order_by(Flower.id.desc()).limit(3)
    for name, statement, keys in (
        ("ordered", ordered, [39, 38, 37]),
        ("searched", select(Flower).like([6.0, 4.0], on=Flower.place, k=1, exact=True), [17]),
    ):
        trainer = Trainer(select=statement, key=Flower.id, target=Flower.height)
        model = await db.add(Model(name, Recording(), trainer=trainer))
        assert keys == list(model.object.inputs)
        np.testing.assert_array_equal([flower(key).height for key in keys], model.object.targets)


async def test_metrics_and_a_dataset_by_name(db: AsyncDB) -> None:
    """The newest versions are taken, and recorded with the training; the progress says when it is over."""
    await fill(db)
    await db.add(Metric("rate", right))
    await db.add(Metric("rate", mean_error))
    await db.add(Dataset("held out", select=HELD_OUT.limit(3)))
    await db.add(Dataset("held out", select=HELD_OUT))
    regressor = DummyRegressor(strategy="constant", constant=1.0)
    trainer = Trainer(select=TO_LEARN, key=Flower.sizes, target=Flower.height, metrics=["rate"], validation="held out")
    seen: list[tuple[int, int, str]] = []
    model = await another(db).add(
        Model("m", regressor, trainer=trainer), progress=lambda done, total, what: seen.append((done, total, what))
    )
    assert [(1, 1, "training model 'm'")] == seen
    heights = [one.height for one in map(flower, range(40)) if one.part == "test" and one.height is not None]
    assert math.isclose(float(np.mean(heights)) - 1, model.metrics["rate"])
    children = [tuple(child.values()) for child in (await db.show("training", "m", 0))["children"]]
    assert [("metric", "rate", 1), ("dataset", "held out", 1)] == children
    assert 0 == (await db.add(Model("m", regressor, trainer=trainer))).version
    await db.add(Dataset("held out", select=HELD_OUT.limit(2)))
    assert 1 == (await db.add(Model("m", regressor, trainer=trainer))).version
    assert 2 == (await db.show("model", "m", 1))["validated"]


def bad_trainers() -> list[tuple[dict[str, Any], str]]:
    return [
        ({"select": Flower}, "training data is made of a select"),
        ({"select": select(Flower.height)}, "whole documents of one class"),
        ({"key": Stone.weight}, "its key is a field of Flower"),
        ({"key": "sizes"}, "its key is a field of Flower"),
        ({"target": Stone.weight}, "its target is a field of Flower"),
        ({"target": None, "metrics": ["m"]}, "needs a target="),
        ({"metrics": "mean error"}, "metrics is a list"),
        ({"metrics": [mean_error]}, "a metric needs a name"),
        ({"metrics": ["m", Metric("m", right)]}, "two metrics called 'm'"),
        ({"validation": HELD_OUT}, "validation is a Dataset, or the name of one"),
        ({"validation": Dataset("stones", select=select(Stone))}, "Flowers, those of .* Stones"),
        ({"loss": 3}, "loss is a name or a callable"),
        ({"epochs": 0}, "epochs is a whole number from 1"),
        ({"batch_size": 2.5}, "batch_size is a whole number"),
        ({"seed": -1}, "seed is a whole number from 0"),
        ({"learning_rate": 0}, "learning_rate is a number above 0"),
        ({"patience": 2}, "needs a validation="),
        ({"device": 0}, "device is text"),
    ]


@pytest.mark.parametrize(("wrong", "message"), bad_trainers(), ids=[message for _, message in bad_trainers()])
async def test_bad_trainers(wrong: dict[str, Any], message: str) -> None:
    """They are refused where they are made."""
    given = {"select": TO_LEARN, "key": Flower.sizes, "target": Flower.height, **wrong}
    with pytest.raises(ConfigurationError, match=message):
        Trainer(**given)


async def test_what_cannot_be_trained() -> None:
    """Objects without a way to train them, and options that are not theirs, are refused where the model is made."""
    trainer = Trainer(select=TO_LEARN, key=Flower.sizes, target=Flower.height)
    with pytest.raises(ConfigurationError, match="Model 'm': a builtin_function_or_method cannot be trained"):
        Model("m", len, trainer=trainer)
    with pytest.raises(ConfigurationError, match=r"trainer is a Trainer\(...\), not a dict"):
        Model("m", LinearRegression(), trainer={})  # type: ignore[arg-type]
    module = torch.nn.Linear(2, 1)
    for options, message in (
        ({}, "needs a loss="),
        ({"loss": "NoLoss"}, "torch has no loss 'NoLoss', but .*MSELoss"),
        ({"loss": "MSELoss", "optimizer": "Best"}, "torch has no optimizer 'Best', but .*SGD"),
        ({"loss": "MSELoss", "device": "cuda:77"}, "device 'cuda:77' is not here"),
        ({"loss": "MSELoss", "target": None}, "needs a target="),
    ):
        given: dict[str, Any] = {"select": TO_LEARN, "key": Flower.sizes, "target": Flower.height, **options}
        with pytest.raises(ConfigurationError, match=message):
            Model("m", module, trainer=Trainer(**given))
    losing = Trainer(select=TO_LEARN, key=Flower.sizes, target=Flower.height, loss="MSELoss")
    with pytest.raises(ConfigurationError, match="loss of its trainer is for torch modules"):
        Model("m", LinearRegression(), trainer=losing)
    with pytest.raises(ConfigurationError, match="no parameters that can be trained"):
        Model("m", torch.nn.Flatten(), trainer=losing)


async def test_bad_documents(db: AsyncDB) -> None:
    """None in a target or a key, and a select that finds nothing, leave nothing; the error says what to do."""
    await fill(db, 0, 4)
    async with db.begin() as session:
        session.add(Flower(id=9, sizes=[1.0, 2.0]))

    def made(**options: Any) -> Model:
        metric = Metric("error", mean_error)
        given = {"select": TO_LEARN, "key": Flower.sizes, "target": Flower.height, "metrics": [metric], **options}
        return Model("m", LinearRegression(), trainer=Trainer(**given))

    with pytest.raises(TrainingError, match=r"Flower 9 has None as .*height, the target .*is_\(None\)") as caught:
        await db.add(made())
    assert (Flower, 9, "h") == (caught.value.document_class, caught.value.key, caught.value.field)
    with pytest.raises(TrainingError, match=r"Flower 9 has None as .*place, the key"):
        await db.add(made(key=Flower.place, target=Flower.id))
    with pytest.raises(TrainingError, match="model 'm': there are no Flowers"):
        await db.add(made(select=select(Flower).where(Flower.id > 100)))
    with pytest.raises(TrainingError, match=r"Dataset\('empty'\): there are no Flowers"):
        await db.add(
            made(
                select=TO_LEARN.where(Flower.id < 4),
                validation=Dataset("empty", select=select(Flower).where(Flower.id > 100)),
            )
        )
    with pytest.raises(ComponentNotFoundError, match="needs the metric 'none'"):
        await db.add(made(metrics=["none"]))
    with pytest.raises(ComponentNotFoundError, match="needs the dataset 'none'"):
        await db.add(made(validation="none"))
    assert {} == await shown(db)
    assert (await db.check()).ok


async def test_a_training_that_fails(db: AsyncDB) -> None:
    """Whether the object, its predictions, the metric or the storing fails, nothing is there; nor a blob, after gc."""
    await fill(db)

    def bad(outputs: Any, targets: Any) -> float:
        raise ArithmeticError("a bad metric")

    for object, metric, error, message in (
        (Failing("fit"), mean_error, TrainingError, "could not be trained on 30 documents: KeyError: 'fit'"),
        (Failing("predict"), mean_error, PredictionError, "predict"),
        (LinearRegression(), bad, PredictionError, "a bad metric"),
        (Failing("pickle"), mean_error, Exception, "generator"),
    ):
        trainer = Trainer(
            select=TO_LEARN,
            key=Flower.sizes,
            target=Flower.height,
            metrics=[Metric("error", metric)],
            validation=Dataset("held out", select=HELD_OUT),
        )
        with pytest.raises(error, match=message):
            await db.add(Model("m", object, trainer=trainer))
        assert {} == await shown(db)
        report = await db.check()
        assert report.ok
        assert [] == list(report.orphans)


async def test_a_failing_fit_leaves_the_version_before(db: AsyncDB) -> None:
    """The next version is not there, and what was there is still served."""
    await fill(db)
    trainer = Trainer(select=TO_LEARN, key=Flower.sizes, target=Flower.height)
    model = await db.add(Model("m", Failing("many"), trainer=trainer))
    assert [30] == model.predict([1])
    await fill(db, 40, 60)
    with pytest.raises(TrainingError, match="too many"):
        await db.fit("m")
    assert {"model": {"m": [0]}, "training": {"m": [0]}} == await shown(db)
    assert [30] == await db.predict("m", [1])
    report = await db.check()
    assert report.ok
    assert [] == list(report.orphans)


async def test_removal(db: AsyncDB) -> None:
    """The training goes with its last model, its metrics only where they are to go too; until then they are needed."""
    await fill(db)
    trainer = Trainer(select=TO_LEARN, key=Flower.sizes, target=Flower.height, metrics=[Metric("error", mean_error)])
    await db.add(Model("m", LinearRegression(), trainer=trainer))
    await db.fit("m")
    with pytest.raises(ComponentInUseError, match="training 'm' version 0"):
        await db.remove("metric", "error")
    with pytest.raises(ComponentInUseError, match="model 'm' version 0, the model 'm' version 1"):
        await db.remove("training", "m")
    await db.remove("model", "m", 0)
    assert {"metric": {"error": [0]}, "model": {"m": [1]}, "training": {"m": [0]}} == await shown(db)
    await db.remove("model", "m")
    assert {"metric": {"error": [0]}} == await shown(db)
    await db.add(Model("m", LinearRegression(), trainer=trainer))
    await db.remove("model", "m", recursive=True)
    assert {} == await shown(db)
    assert (await db.check()).ok


async def test_replacing(db: AsyncDB) -> None:
    """A trained model takes the place of one, and an untrained one that of a trained one, in other processes too."""
    await fill(db)
    other = another(db)
    trainer = Trainer(select=TO_LEARN, key=Flower.sizes, target=Flower.height)
    await db.add(Model("m", DummyRegressor(strategy="constant", constant=1.0), trainer=trainer))
    assert [1.0] == await other.predict("m", [[0.0, 0.0]])
    replaced = await db.replace(Model("m", DummyRegressor(strategy="constant", constant=2.0), trainer=trainer))
    assert (0, [2.0]) == (replaced.version, replaced.predict([[0.0, 0.0]]))
    assert [2.0] == await other.predict("m", [[0.0, 0.0]])
    assert {"model": {"m": [0]}, "training": {"m": [1]}} == await shown(db)
    await db.replace(Model("m", LinearRegression().fit([[0.0, 0.0]], [3.0])))
    assert [3.0] == await other.predict("m", [[0.0, 0.0]])
    assert "metrics" not in await db.show("model", "m", 0)
    assert {"model": {"m": [0]}} == await shown(db)
    report = await db.check()
    assert report.ok
    await db.gc(grace=timedelta(0))
    await db.gc(grace=timedelta(0))
    assert [] == list((await db.check()).orphans)


async def test_replacing_one_of_two_that_were_trained_alike(db: AsyncDB) -> None:
    """What the other one was made from stays, and it can be trained anew; so can one whose training is hidden."""
    await fill(db)
    trainer = Trainer(select=TO_LEARN, key=Flower.sizes, target=Flower.height)
    await db.add(Model("m", DummyRegressor(strategy="constant", constant=1.0), trainer=trainer))
    assert 1 == (await db.fit("m")).version
    two = Model("m", DummyRegressor(strategy="constant", constant=2.0), trainer=trainer)
    two.version = 0
    await db.replace(two)
    assert {"model": {"m": [0, 1]}, "training": {"m": [0, 1]}} == await shown(db)
    with pytest.warns(UserWarning, match="hidden but kept, as needed by the model 'm' version 1"):
        await db.remove("training", "m", 0, force=True)
    assert {"model": {"m": [0, 1]}, "training": {"m": [1]}} == await shown(db)
    assert (2, [1.0]) == ((anew := await db.fit("m", 1)).version, anew.predict([[0.0, 0.0]]))
    plain = Model("m", LinearRegression().fit([[0.0, 0.0]], [3.0]))
    for version in (1, 2):
        plain.version = version
        await db.replace(plain)
        with pytest.raises(ComponentError, match="without a trainer"):
            await db.fit("m", version)
    assert {"model": {"m": [0, 1, 2]}, "training": {"m": [1]}} == await shown(db)
    records = await db.components.records({"kind": "training", "state": "hidden"})
    assert [] == list(records)
    assert (await db.check()).ok


async def test_a_listener_of_a_model_to_train(db: AsyncDB) -> None:
    """The model is trained, and its outputs are those of the trained one."""
    await fill(db)
    trainer = Trainer(select=TO_LEARN, key=Flower.sizes, target=Flower.height)
    model = Model("height", LinearRegression(), trainer=trainer)
    await db.add(Listener("heights", model=model, select=select(Flower), key=Flower.sizes))
    outputs = await db.outputs("heights")
    assert 40 == await outputs.count()
    assert math.isclose(3 * 1 + 2 * 1 + 1, float(await outputs[1]), abs_tol=1e-9)


class Counting:
    """Counts how often it is trained."""

    fits = 0

    def fit(self, inputs: Any, targets: Any) -> None:
        Counting.fits += 1
        self.count = len(inputs)

    def predict(self, items: list[Any]) -> list[Any]:
        return [self.count] * len(items)


class Recording:
    """Keeps what it was given."""

    def fit(self, inputs: Any, targets: Any) -> None:
        self.inputs, self.targets = inputs, targets
        self.count = getattr(self, "count", 0) + len(inputs)

    def predict(self, items: list[Any]) -> list[Any]:
        return items


class Failing:
    """Fails where it is told to."""

    def __init__(self, where: str) -> None:
        self.where = where

    def fit(self, inputs: Any, targets: Any) -> None:
        self.count = len(inputs)
        if self.where == "fit":
            raise KeyError("fit")
        if self.where == "many" and len(inputs) > 30:
            raise ValueError("too many")
        if self.where == "pickle":
            self.generator = (number for number in range(3))

    def predict(self, items: list[Any]) -> list[Any]:
        if self.where == "predict":
            raise KeyError("predict")
        return [self.count] * len(items)


async def test_one_that_is_trained_is_another_than_one_that_is_not(db: AsyncDB) -> None:
    """Whatever the fingerprint says: neither is served in the place of the other."""
    await fill(db)
    trainer = Trainer(select=TO_LEARN, key=Flower.sizes, target=Flower.height)
    await db.add(Model("plain", abs, fingerprint="one"))
    trained = await db.add(Model("plain", LinearRegression(), fingerprint="one", trainer=trainer))
    assert (trained.version, trained.job.status) == (1, "done")
    again = await db.add(Model("plain", LinearRegression(), fingerprint="one", trainer=trainer))
    assert (again.version, again.object.coef_.tolist()) == (1, trained.object.coef_.tolist())
    assert (await db.add(Model("plain", abs, fingerprint="one"))).version == 2
    assert (await db.load("model", "plain")).predict([-3]) == [3]
    assert (await db.load("model", "plain", 1)).metrics == {}
    assert (await db.add(await db.load("model", "plain"))).version == 2


async def test_a_dataset_that_was_not_added_is_taken_again(db: AsyncDB) -> None:
    """An add that fails leaves no documents in it: mended ones count."""
    await fill(db)
    async with db.session() as session:
        session.add(broken := Flower(id=900, part="test"))
        await session.commit()
    trainer = Trainer(
        select=TO_LEARN, key=Flower.sizes, target=Flower.height, validation=Dataset("kept", select=HELD_OUT)
    )
    model = Model("mended", LinearRegression(), trainer=trainer)
    with pytest.raises(TrainingError, match="900"):
        await db.add(model)
    async with db.session() as session:
        session.delete(await session.get_one(Flower, broken.id))
        await session.commit()
        held_out = len((await session.scalars(HELD_OUT)).all())
    assert (await db.add(model)).version == 0
    assert (await db.show("model", "mended", 0))["validated"] == held_out


async def test_metrics_are_of_what_the_documents_have(db: AsyncDB) -> None:
    """Neither a fit that changes its inputs nor a metric that changes what it is given counts."""
    await fill(db)

    class Scaling(LinearRegression):
        """Divides its inputs in place."""

        def fit(self, inputs: Any, targets: Any) -> Any:
            super().fit(inputs, targets)
            inputs /= 100
            return self

    def emptied(outputs: Any, targets: Any) -> float:
        outputs.clear()
        targets.clear()
        return 0.0

    def worst(outputs: Any, targets: Any) -> float:
        return max(abs(one - other) for one, other in zip(outputs, targets, strict=True))

    trainer = Trainer(
        select=TO_LEARN,
        key=Flower.sizes,
        target=Flower.height,
        metrics=[Metric("emptied", emptied), Metric("worst", worst)],
    )
    added = await db.add(Model("scaling", Scaling(), trainer=trainer))
    async with db.session() as session:
        flowers = (await session.scalars(TO_LEARN)).all()
    outputs = added.predict([one.sizes for one in flowers])
    expected = max(abs(output - one.height) for output, one in zip(outputs, flowers, strict=True))
    assert added.metrics["worst"] == pytest.approx(expected)


async def test_numbers_that_are_too_large_are_refused_early() -> None:
    for options in ({"seed": 2**63}, {"epochs": 2**70}, {"batch_size": 2**63}):
        with pytest.raises(ConfigurationError, match="64 bits"):
            Trainer(select=TO_LEARN, key=Flower.sizes, target=Flower.height, **options)
    with pytest.raises(ConfigurationError, match="64 bits"):
        Model("large", abs, batch_size=2**63)
    with pytest.raises(ConfigurationError, match="Model 'placed': device is text"):
        Model("placed", torch.nn.Linear(1, 1), device=torch.device("cpu"))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="no field of single documents"):
        Trainer(select=TO_LEARN, key=Flower.sizes[0], target=Flower.height)
    with pytest.raises(PredictionError, match="'huge' failed: OverflowError"):
        Metric("huge", lambda outputs, targets: 10**400)([], [])
