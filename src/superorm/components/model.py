"""A model: any object that turns inputs into outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

from attrs import Attribute, define, field

from superorm._io.progress import Progress
from superorm.components.base import Child, Component, Named, ObjectComponent
from superorm.components.trainer import Trainer
from superorm.components.training import Fit, Job, Training, check_trainable
from superorm.exc import ComponentError, ConfigurationError, PredictionError

__all__ = ["Model"]


_METHODS = ("predict", "encode", "transform")


def _check_size(model: Model, _: Attribute[int], batch_size: object) -> None:
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ConfigurationError(f"Model {model.name!r}: batch_size must be a whole number from 1, not {batch_size!r}")


def _check_object(model: Model, _: Attribute[Any], object: Any) -> None:
    if not callable(object) and not any(hasattr(object, name) for name in _METHODS):
        raise ConfigurationError(
            f"Model {model.name!r}: a {type(object).__name__} has no {', '.join(_METHODS)} and cannot be called"
        )


def _check_trainer(model: Model, _: Attribute[Any], trainer: object) -> None:
    if trainer is not None:
        check_trainable(f"Model {model.name!r}", model.object, trainer)


@define(eq=False, slots=False, repr=False)
class Model(ObjectComponent):
    """A named, versioned object with a prediction.

    A plain function is called for each item;
    an object with ``predict``, ``encode`` or ``transform`` is called with a list of at most `batch_size` items.
    `batched` overrides that choice.
    `fingerprint` says what the content is; without one it is known by the hash of what is stored.
    `codec` names the one that stores the object, in the place of the one that its type has.
    With a `trainer`, `DB.add` trains a copy of the object, which is the model's object from then on.
    `version` is given by `DB.add`.
    """

    kind: ClassVar[str] = "model"

    object: Any = field(validator=_check_object)
    batch_size: int = field(default=64, kw_only=True, validator=_check_size)
    batched: bool = field(default=None, kw_only=True)
    trainer: Trainer | None = field(default=None, kw_only=True, validator=_check_trainer)
    """As it was given; that of a model that was loaded is in ``db.load("training", name)``."""
    training: Training | Named | None = field(init=False, default=None)
    """What a model that is trained is made from."""
    outcome: Fit | None = field(init=False, default=None)
    """What came of the training, once it is done."""
    _call: Callable[[Any], Any] = field(init=False)

    def __attrs_post_init__(self) -> None:
        if self.trainer is not None:
            given: dict[str, Any] = {"fingerprint": self.fingerprint, "codec": self.codec}
            self.training = Training(self.name, trainer=self.trainer, object=self.object, **given)
        self._bind()

    def _bind(self) -> None:
        method = next((getattr(self.object, name) for name in _METHODS if hasattr(self.object, name)), None)
        if self.batched is None:  # pyright: ignore[reportUnnecessaryComparison]
            self.batched = method is not None
        self._call = self.object if method is None else method

    @property
    def params(self) -> dict[str, Any]:
        """What is stored beside the artifact."""
        return {"batch_size": self.batch_size, "batched": self.batched, **super().params}

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

    def predict(self, items: Sequence[Any], *, progress: Progress | None = None) -> list[Any]:
        """One output for each item, in order.

        Raises `PredictionError`, whose `position` is that of the item at fault where it is known.
        """
        outputs: list[Any] = []
        for start in range(0, len(items), self.batch_size):
            batch = list(items[start : start + self.batch_size])
            outputs += self._predict_batch(batch, start)
            if progress is not None:
                progress(len(outputs), len(items), f"model {self.name}")
        return outputs

    def _predict_batch(self, batch: list[Any], start: int) -> list[Any]:
        try:
            outputs = list(self._call(batch)) if self.batched else [self._call(item) for item in batch]
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
                self._call([item] if self.batched else item)
            except Exception:  # noqa: BLE001 - any failure of the user's code points to the item
                position = start + offset
                break
        return PredictionError(
            f"model {self.name!r} failed: {type(error).__name__}: {error}", component=self.name, position=position
        )
