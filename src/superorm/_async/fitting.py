"""Training models on documents."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from superorm._async.query import AsyncQueries
from superorm._io import aio
from superorm._io.progress import Progress
from superorm.compile.compiler import CompiledSelect
from superorm.compile.plan import Find
from superorm.components.base import Component
from superorm.components.dataset import Dataset
from superorm.components.metric import Metric
from superorm.components.model import Model
from superorm.components.trainer import Trainer
from superorm.components.training import Fit, Training
from superorm.exc import StatementError
from superorm.protocols._async.parts import AsyncDataBackend

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

    from superorm.components.fitting.samples import Samples

__all__ = ["AsyncFitting", "Fitted"]

_BATCH = 1000


@frozen(eq=False)
class Fitted:
    """A trained object, and what came of the training."""

    object: Any
    fit: Fit


@frozen
class AsyncFitting:
    """Trains models in this process. Nothing is written."""

    backend: AsyncDataBackend
    queries: AsyncQueries
    compiled: Callable[[object], CompiledSelect]

    async def fit(
        self, model: Model, training: Training, children: Sequence[Component], progress: Progress | None
    ) -> Fitted:
        """A trained copy of the training's object, rated by the metrics that are among its children.

        The dataset among these is for validation; the outputs are those that the model gives of it.
        Raises `TrainingError`, `PredictionError`, `ValidationError`, and `StatementError` for a select that does not
        give whole documents.
        """
        from superorm.components.fitting.objects import Course, fitted

        began = time.perf_counter()
        trainer = training.trainer
        metrics = [child for child in children if isinstance(child, Metric)]
        dataset = next((child for child in children if isinstance(child, Dataset)), None)
        logs: list[str] = []
        what = f"model {model.name!r}"
        validation = None if dataset is None else await aio.in_thread(_kept, trainer, dataset)
        samples = await self._samples(trainer, what)
        logs.append(f"read {len(samples):,} documents to train on")
        caller = aio.caller()
        course = Course(what, logs.append, progress, lambda: aio.is_cancelled(caller))
        trained = await aio.in_thread(fitted, training.object, trainer, samples, validation, course)
        rated = samples if validation is None else validation
        values = await aio.in_thread(_rate, evolve(model, object=trained, trainer=None), metrics, rated)
        over = "the documents that it was trained on" if dataset is None else f"the {len(rated):,} of {dataset!r}"
        logs += [f"{name} {value:.6g}, for {over}" for name, value in values.items()]
        seconds = time.perf_counter() - began
        logs.append(f"done in {seconds:.3g} s")
        validated = None if validation is None else len(validation)
        return Fitted(trained, Fit(values, len(samples), samples.data, validated, seconds, logs))

    async def _samples(self, trainer: Trainer, what: str) -> Samples:
        """The documents, as they are at one moment where there are such, batch by batch."""
        from superorm.components.fitting.samples import Collecting

        compiled = self.compiled(trainer.select)
        if compiled.whole is None:
            raise StatementError(
                f"{what} is trained on whole documents of one class, which {trainer.select!r} does not give"
            )
        if compiled.like is None and isinstance(compiled.read, Find):  # no more than what is needed
            fields = {**(trainer.fields.find.projection or {}), "_id": 1}
            compiled = evolve(compiled, read=evolve(compiled.read, projection=fields, naive=False))
        collecting = Collecting(trainer)
        async with (
            self._moment(compiled) as session,
            aclosing(self.queries.stream(compiled, session, _BATCH)) as batches,
        ):
            async for found in batches:
                await aio.in_thread(collecting.take, found.documents)
        return await aio.in_thread(collecting.samples, what)

    @asynccontextmanager
    async def _moment(self, compiled: CompiledSelect) -> AsyncGenerator[AsyncClientSession | None]:
        if compiled.like is None and (await self.backend.capabilities()).transactions:
            async with self.backend.snapshot() as session:
                yield session
        else:
            yield None


def _kept(trainer: Trainer, dataset: Dataset) -> Samples:
    """What a dataset has kept."""
    from superorm.components.fitting.samples import Collecting

    trainer.check_validation(dataset)
    collecting = Collecting(trainer)
    collecting.take(dataset.documents)
    return collecting.samples(repr(dataset))


def _rate(model: Model, metrics: Sequence[Metric], samples: Samples) -> dict[str, float]:
    if not metrics:
        return {}
    outputs = model.predict(list(samples.inputs))
    return {metric.name: metric(outputs, samples.plain) for metric in metrics}
