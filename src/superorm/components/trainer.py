"""How a model is trained: on which documents, how well, and for torch modules in which steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeAlias, cast

from attrs import Attribute, define, field

from superorm.compile.plan import Find
from superorm.components.base import Child, Component, Named, check_text
from superorm.components.dataset import Dataset
from superorm.components.metric import Metric
from superorm.components.selects import check_documents
from superorm.exc import ConfigurationError, StatementError, UnsupportedError
from superorm.expr.kinds import is_field
from superorm.expr.narrow import is_list
from superorm.expr.reprs import short_repr
from superorm.expr.statements import Select, select
from superorm.schema.mapping import ClassMap, class_map

if TYPE_CHECKING:
    from superorm.compile.compiler import CompiledSelect

__all__ = ["Loss", "Optimizer", "Trainer"]

Loss: TypeAlias = Callable[[Any, Any], Any]
"""Gives a tensor of one number for a batch's outputs and targets."""
Optimizer: TypeAlias = Callable[[Any], Any]
"""Gives a torch optimizer for a module's parameters."""


def _refuse(why: str) -> NoReturn:
    raise ConfigurationError(f"Trainer: {why}")


def _check_select(trainer: Trainer, attribute: Attribute[Any], given: object) -> None:
    check_documents("a Trainer's training data", given)


def _check_metrics(trainer: Trainer, attribute: Attribute[Any], metrics: object) -> None:
    if not is_list(metrics) and not isinstance(metrics, tuple):
        _refuse(f"metrics is a list of Metrics, or of their names, not {short_repr(metrics)}")
    given = cast("Sequence[object]", metrics)
    names: set[str] = set()
    for metric in given:
        if not isinstance(metric, Metric):
            check_text("metric", metric)
        name = metric.name if isinstance(metric, Metric) else str(metric)
        if name in names:
            _refuse(f"it has two metrics called {name!r}")
        names.add(name)


def _check_validation(trainer: Trainer, attribute: Attribute[Any], validation: object) -> None:
    if validation is not None and not isinstance(validation, (Dataset, str)):
        _refuse(f"validation is a Dataset, or the name of one, not {short_repr(validation)}")


def _check_way(trainer: Trainer, attribute: Attribute[Any], given: object) -> None:
    if given is not None and not isinstance(given, str) and not callable(given):
        _refuse(f"{attribute.name} is a name or a callable, not {short_repr(given)}")


def _check_count(trainer: Trainer, attribute: Attribute[Any], count: object) -> None:
    if count is None and attribute.name == "patience":
        return
    least = 0 if attribute.name == "seed" else 1
    if type(count) is not int or not least <= count < 2**63:
        _refuse(f"{attribute.name} is a whole number from {least}, of at most 64 bits, not {short_repr(count)}")


def _check_rate(trainer: Trainer, attribute: Attribute[Any], rate: object) -> None:
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate < float("inf"):
        _refuse(f"learning_rate is a number above 0, not {short_repr(rate)}")


def _check_device(trainer: Trainer, attribute: Attribute[Any], device: object) -> None:
    if device is not None and not isinstance(device, str):
        _refuse(f'device is text such as "cuda:0", not {short_repr(device)}')


@define(eq=False, slots=False, kw_only=True)
class Trainer:
    """How a model is trained, by `DB.add` and again by `DB.fit`.

    `select` finds the documents, of one class; `key` is the field that the model is given, `target` the one that it
    should tell from it, None for models that learn without.
    The `metrics`, given or named, rate the trained model's outputs: for the documents of `validation`, a `Dataset` or
    its name, or for those that it was trained on where there is none.

    The rest is for torch modules. `loss` is the name of a class of torch.nn such as ``"CrossEntropyLoss"``, or a
    callable of outputs and targets; `optimizer` the name of one of torch.optim, or a callable of the parameters.
    Each of the `epochs` goes through all documents in an order that `seed` decides, in batches of `batch_size`;
    `learning_rate` is for an optimizer that is named.
    With `patience`, training ends when the loss over the validation documents has not become smaller for so many
    epochs, and the weights are those of the best one.
    `device` is where it is done, by default where the module is.

    Raises `ConfigurationError` for anything that cannot be.
    """

    select: Select[Any, Any] = field(validator=_check_select)
    key: Any = field()
    target: Any = field(default=None)
    metrics: Sequence[Metric | str] = field(default=(), validator=_check_metrics)
    validation: Dataset | str | None = field(default=None, validator=_check_validation)
    loss: str | Loss | None = field(default=None, validator=_check_way)
    optimizer: str | Optimizer = field(default="Adam", validator=_check_way)
    learning_rate: float = field(default=1e-3, validator=_check_rate)
    epochs: int = field(default=10, validator=_check_count)
    batch_size: int = field(default=32, validator=_check_count)
    seed: int = field(default=0, validator=_check_count)
    patience: int | None = field(default=None, validator=_check_count)
    device: str | None = field(default=None, validator=_check_device)

    def __attrs_post_init__(self) -> None:
        self._check_field("key", self.key)
        if self.target is not None:
            self._check_field("target", self.target)
        elif self.metrics:
            _refuse("metrics compare outputs with targets, so it needs a target= too")
        if self.patience is not None and self.validation is None:
            _refuse("patience looks at the loss over the validation documents, so it needs a validation= too")
        if isinstance(self.validation, Dataset):
            self.check_validation(self.validation)
        try:
            select(self.key).to_dict()
            _ = self.fields
        except (StatementError, UnsupportedError) as error:
            raise ConfigurationError(f"Trainer: {error}") from error

    def _check_field(self, which: str, given: object) -> None:
        cls = self.mapping.cls
        owner = given._owner if is_field(given) else None  # pyright: ignore[reportPrivateUsage]
        if not (isinstance(owner, type) and issubclass(cls, owner)):
            _refuse(f"its {which} is a field of {cls.__name__}, such as {cls.__name__}.id, not {short_repr(given)}")

    def check_validation(self, validation: Dataset) -> None:
        """Raise `ConfigurationError` for a dataset of documents without the trainer's fields."""
        if not issubclass(validation.mapping.cls, self.mapping.cls):
            _refuse(f"its documents are {self.mapping.name}s, those of {validation!r} {validation.mapping.name}s")

    @property
    def mapping(self) -> ClassMap:
        """The class of the documents."""
        cls: Any = self.select._entities[0]  # pyright: ignore[reportPrivateUsage]
        return class_map(cls)

    @cached_property
    def fields(self) -> CompiledSelect:
        """How key and target are read of whole documents."""
        from superorm.compile.compiler import compile_select  # which programs without trainers load later

        chosen: Any = select(self.key) if self.target is None else select(self.key, self.target)
        compiled = compile_select(chosen.select_from(self.mapping.cls))
        if not isinstance(compiled.read, Find) or not compiled.read.projection:
            _refuse("its key, or its target, is no field of single documents")
        return compiled

    @property
    def children(self) -> Sequence[Child]:
        """The metrics, and the dataset."""
        metrics = [one if isinstance(one, Metric) else Named(Metric.kind, one) for one in self.metrics]
        validation = Named(Dataset.kind, self.validation) if isinstance(self.validation, str) else self.validation
        return [*metrics, *([] if validation is None else [validation])]

    @property
    def params(self) -> dict[str, Any]:
        """All of it but its children and callables, as data."""
        options = ("learning_rate", "epochs", "batch_size", "seed", "patience", "device")
        ways = {name: getattr(self, name) for name in ("loss", "optimizer")}
        return {
            "select": self.select.to_dict(),
            "key": select(self.key).to_dict(),
            "target": None if self.target is None else select(self.target).to_dict(),
            **{name: way if isinstance(way, str) else None for name, way in ways.items()},
            **{name: getattr(self, name) for name in options},
        }

    @classmethod
    def restore(cls, params: Mapping[str, Any], callables: Mapping[str, Any], children: Sequence[Component]) -> Self:
        """The trainer of what was stored. Raises `StatementError` where its class is not declared in this process."""
        stored: dict[str, Any] = {**params, **callables}
        stored["select"] = Select[Any, Any].from_dict(params["select"])
        for name in ("key", "target"):
            if params[name] is not None:
                stored[name] = Select[Any, Any].from_dict(params[name])._entities[0]  # pyright: ignore[reportPrivateUsage]
        metrics = [child for child in children if isinstance(child, Metric)]
        validation = next((child for child in children if isinstance(child, Dataset)), None)
        return cls(**stored, metrics=metrics, validation=validation)
