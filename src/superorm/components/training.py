"""A training: a trainer, and the object as it was before; what came of it once it was done."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from attrs import define, field, frozen

from superorm.artifacts.codecs.base import is_a
from superorm.components.base import Child, Component, ObjectComponent
from superorm.components.trainer import Trainer
from superorm.exc import ConfigurationError

__all__ = ["Fit", "Job", "Training", "check_trainable", "is_module"]

_WAYS = ("loss", "optimizer")


def is_module(object: Any) -> bool:
    """Whether it is a torch module."""
    return is_a(object, "torch.nn", "Module")


def check_trainable(what: str, object: Any, trainer: object) -> None:
    """Raise `ConfigurationError` for an object that the trainer cannot train."""
    if not isinstance(trainer, Trainer):
        raise ConfigurationError(f"{what}: trainer is a Trainer(...), not a {type(trainer).__name__}")
    if callable(getattr(object, "fit", None)):
        given = [name for name in ("loss", "patience", "device") if getattr(trainer, name) is not None]
        if given:
            raise ConfigurationError(
                f"{what}: {', '.join(given)} of its trainer is for torch modules; a {type(object).__name__} is trained "
                "by its own fit(), and has its options itself"
            )
    elif is_module(object):
        from superorm.components.fitting.modules import check_module

        check_module(what, object, trainer)
    else:
        raise ConfigurationError(
            f"{what}: a {type(object).__name__} cannot be trained; a trainer needs an object with fit(), "
            "such as a scikit-learn estimator, or a torch module"
        )


@define(eq=False, slots=False, repr=False)
class Training(ObjectComponent):
    """What a model with a trainer is made from. `DB.add` stores it with the model, under the model's name."""

    kind: ClassVar[str] = "training"

    trainer: Trainer = field(kw_only=True)
    object: Any = field(kw_only=True)
    """As it was given: it is never trained itself."""

    @property
    def params(self) -> dict[str, Any]:
        """The trainer, as data."""
        return {"trainer": self.trainer.params, **super().params}

    @property
    def children(self) -> Sequence[Child]:
        """The trainer's metrics and dataset."""
        return self.trainer.children

    @property
    def stored(self) -> Any:
        """The object, with the callables of its trainer."""
        ways = {name: getattr(self.trainer, name) for name in _WAYS}
        callables = {name: way for name, way in ways.items() if way is not None and not isinstance(way, str)}
        if not callables:
            return self.object
        from superorm.components.fitting.given import Given

        return Given(self.object, callables)

    @classmethod
    def restore(cls, name: str, stored: Any, params: Mapping[str, Any], children: Sequence[Component]) -> Self:
        """The training of what was stored."""
        options = {**params}
        given = {way: value for way, value in options.pop("trainer").items() if way not in _WAYS or value is not None}
        callables: Mapping[str, Any] = {}
        if is_a(stored, "superorm.components.fitting.given", "Given"):
            stored, callables = stored.object, stored.callables
        return cls(name, trainer=Trainer.restore(given, callables, children), object=stored, **options)


@frozen
class Fit:
    """What came of a training."""

    metrics: Mapping[str, float]
    """By the metrics' names."""
    documents: int
    """On how many it was trained."""
    data: str
    """The SHA-256 of these documents' keys and values, in order: where it is the same, so were they."""
    validated: int | None
    """For how many documents the metrics are, where these are others."""
    seconds: float
    logs: Sequence[str]

    def to_bson(self) -> dict[str, Any]:
        """What is stored: names of metrics may have dots, which keys may not."""
        metrics = [{"name": name, "value": value} for name, value in self.metrics.items()]
        return {
            "metrics": metrics,
            "documents": self.documents,
            "data": self.data,
            "validated": self.validated,
            "seconds": self.seconds,
            "logs": list(self.logs),
        }

    @classmethod
    def from_bson(cls, stored: Mapping[str, Any]) -> Self:
        """What was stored."""
        values: dict[str, Any] = {**stored}
        values["metrics"] = {one["name"]: one["value"] for one in stored["metrics"]}
        return cls(**values)


@frozen
class Job:
    """The training of a model. It is over when the model has been added, in the process that adds it."""

    status: Literal["done"]
    logs: Sequence[str]
    """What was told of it, line by line."""

    def wait(self) -> Job:
        """The job once it is over, which it is; in asynchronous code it may be awaited."""
        return self

    def __await__(self) -> Generator[None, None, Job]:
        return self
        yield
