"""A model: any object that turns inputs into outputs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, ClassVar, Self, TypeVar

from attrs import Attribute, define, field

from superorm._io import aio
from superorm._io.progress import Progress, reporting
from superorm.components.base import Child, Component, Named, ObjectComponent
from superorm.components.predicting.batches import count_of, in_batches, in_batches_async
from superorm.components.predicting.calls import METHODS, Call, Placing, call_of
from superorm.components.trainer import Trainer
from superorm.components.training import Fit, Job, Training, check_trainable
from superorm.exc import ComponentError, ConfigurationError, PredictionError
from superorm.expr.reprs import short_repr

__all__ = ["Model"]

T = TypeVar("T")


def _check_size(model: Model, _: Attribute[int], batch_size: object) -> None:
    if type(batch_size) is not int or not 1 <= batch_size < 2**63:
        raise ConfigurationError(
            f"Model {model.name!r}: batch_size must be a whole number from 1, of at most 64 bits, "
            f"not {short_repr(batch_size)}"
        )


def _check_object(model: Model, _: Attribute[Any], object: Any) -> None:
    if not callable(object) and not any(hasattr(object, name) for name in METHODS):
        raise ConfigurationError(
            f"Model {model.name!r}: a {type(object).__name__} has no {', '.join(METHODS)} and cannot be called"
        )


def _check_trainer(model: Model, _: Attribute[Any], trainer: object) -> None:
    if trainer is not None:
        check_trainable(f"Model {model.name!r}", model.object, trainer)


def _check_device(model: Model, _: Attribute[Any], device: object) -> None:
    if device is not None and not isinstance(device, str):
        raise ConfigurationError(f'Model {model.name!r}: device is text such as "cuda:0", not {short_repr(device)}')


@define(eq=False, slots=False, repr=False)
class Model(ObjectComponent):
    """A named, versioned object with a prediction.

    A plain function is called for each item;
    an object with ``predict``, ``encode`` or ``transform``, a torch module and a Hugging Face pipeline
    with at most `batch_size` items. `batched` overrides that choice.
    Torch modules predict in eval mode, without gradients, where `device` and in the `dtype` that are given:
    they are moved there at the first prediction, themselves. Their outputs come as numpy arrays.
    `fingerprint` says what the content is; without one it is known by the hash of what is stored.
    `codec` names the one that stores the object, in the place of the one that its type has.
    With a `trainer`, `DB.add` trains a copy of the object, which is the model's object from then on.
    `version` is given by `DB.add`.
    """

    kind: ClassVar[str] = "model"

    object: Any = field(validator=_check_object)
    batch_size: int = field(default=64, kw_only=True, validator=_check_size)
    batched: bool = field(default=None, kw_only=True)
    device: str | None = field(default=None, kw_only=True, validator=_check_device)
    """Of a torch module, such as ``"cpu"`` or ``"cuda:0"``; where it is, without one."""
    dtype: str | None = field(default=None, kw_only=True)
    """Of a torch module's numbers, such as ``"float32"`` or ``"bfloat16"``; as they are, without one."""
    trainer: Trainer | None = field(default=None, kw_only=True, validator=_check_trainer)
    """As it was given; that of a model that was loaded is in ``db.load("training", name)``."""
    training: Training | Named | None = field(init=False, default=None)
    """What a model that is trained is made from."""
    outcome: Fit | None = field(init=False, default=None)
    """What came of the training, once it is done."""
    _call: Call = field(init=False)

    def __attrs_post_init__(self) -> None:
        if self.trainer is not None:
            given: dict[str, Any] = {"fingerprint": self.fingerprint, "codec": self.codec}
            self.training = Training(self.name, trainer=self.trainer, object=self.object, **given)
        self._bind()

    def _bind(self) -> None:
        placing = Placing(self.device, self.dtype)
        self._call, self.batched = call_of(f"Model {self.name!r}", self.object, self.batched, placing)

    @property
    def params(self) -> dict[str, Any]:
        """What is stored beside the artifact."""
        placing = {name: value for name in ("device", "dtype") if (value := getattr(self, name)) is not None}
        return {"batch_size": self.batch_size, "batched": self.batched, **placing, **super().params}

    @property
    def children(self) -> Sequence[Child]:
        """What it is made from, where it is trained."""
        return () if self.training is None else (self.training,)

    @property
    def stored(self) -> Any:
        """The object."""
        return self.object

    def trained(self, object: Any, fit: Fit) -> None:
        """Have the object that was trained in the place of the one before."""
        self.object, self.outcome = object, fit
        self._bind()

    @property
    def metrics(self) -> dict[str, float]:
        """What the trainer's metrics gave, by their names; nothing before it is trained."""
        return {} if self.outcome is None else dict(self.outcome.metrics)

    @property
    def job(self) -> Job:
        """The training. Raises `ComponentError` for a model that has none, or none yet."""
        if self.outcome is None:
            why = "db.add(...) trains it" if self.training is not None else "it was added without a trainer"
            raise ComponentError(f"{self!r} has no job: {why}", component=self.name)
        return Job("done", self.outcome.logs)

    @classmethod
    def restore(cls, name: str, stored: Any, params: Mapping[str, Any], children: Sequence[Component]) -> Self:
        """The model of what was stored."""
        return cls(name, stored, **params)

    def predict(self, items: Sequence[Any], *, progress: Progress | bool | None = None) -> list[Any]:
        """One output for each item, in order.

        Raises `PredictionError`, whose `position` is that of the item at fault where it is known,
        and `ConfigurationError` for a device that this machine does not have.
        """
        return [output for outputs in self.predict_batches(items, progress=progress) for output in outputs]

    def predict_one(self, item: Any) -> Any:
        """The output for one item. Raises as `predict` does."""
        return self._predict_batch([item], 0)[0]

    def predict_batches(
        self, items: Iterable[Any], *, progress: Progress | bool | None = None
    ) -> Generator[Sequence[Any]]:
        """The outputs of at most `batch_size` items after the other, while the items are taken as they come.

        `progress` is True for a bar, or is called; it knows how many there are of items that have a length.
        Raises as `predict` does.
        """
        total, start = count_of(self._several(items)), 0
        with reporting(progress) as report:
            for batch in in_batches(items, self.batch_size):
                outputs = self._predict_batch(batch, start)
                start += len(batch)
                if report is not None:
                    report(start, max(total, start), f"model {self.name}")
                yield outputs

    async def predict_async(self, items: Sequence[Any], *, progress: Progress | bool | None = None) -> list[Any]:
        """What `predict` gives, computed in a thread; a cancellation takes effect after the batch that is computed."""
        found: list[Any] = []
        async with aclosing(self.predict_batches_async(items, progress=progress)) as batches:
            async for outputs in batches:
                found += outputs
        return found

    async def predict_batches_async(
        self, items: Iterable[Any] | AsyncIterable[Any], *, progress: Progress | bool | None = None
    ) -> AsyncGenerator[Sequence[Any]]:
        """What `predict_batches` gives, computed in a thread, of items that may come asynchronously."""
        total, start = count_of(self._several(items)), 0
        with reporting(progress) as report:
            async with aclosing(in_batches_async(items, self.batch_size)) as batches:
                async for batch in batches:
                    outputs = await aio.in_thread(self._predict_batch, batch, start)
                    start += len(batch)
                    if report is not None:
                        report(start, max(total, start), f"model {self.name}")
                    yield outputs

    def _several(self, items: T) -> T:
        """The items. Raises `PredictionError` for what are none, and one text, whose characters nobody means."""
        given: object = items
        if isinstance(given, str | bytes) or not isinstance(given, Iterable | AsyncIterable):
            raise PredictionError(
                f"model {self.name!r} takes a list of inputs; predict_one() takes one", component=self.name
            )
        return items

    def _predict_batch(self, batch: list[Any], start: int) -> Sequence[Any]:
        try:
            outputs = self._call(batch)
        except ConfigurationError:
            raise
        except Exception as error:
            raise self._failed(batch, start, error) from error
        if len(outputs) != len(batch):
            raise PredictionError(
                f"model {self.name!r} gave {len(outputs)} outputs for {len(batch)} inputs",
                component=self.name,
                position=start if len(batch) == 1 else None,
            )
        return outputs

    def _failed(self, batch: list[Any], start: int, error: Exception) -> PredictionError:
        """The error for a batch that failed, with the item at fault, if one alone fails too."""
        position = None
        for offset, item in enumerate(batch):
            try:
                self._call([item])
            except Exception:  # noqa: BLE001 - any failure of the user's code points to the item
                position = start + offset
                break
        return PredictionError(
            f"model {self.name!r} failed: {type(error).__name__}: {error}", component=self.name, position=position
        )
