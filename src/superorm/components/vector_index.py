"""A vector index over the outputs of a listener: documents are found by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, NoReturn, Self, get_args

from attrs import Attribute, define, field

from superorm.components.base import Child, Component, Named, check_text
from superorm.components.listened import Listened, Outputs
from superorm.components.listener import Listener
from superorm.components.model import Model
from superorm.exc import ConfigurationError
from superorm.expr.reprs import short_repr
from superorm.schema.vector_spec import Metric

__all__ = ["VectorIndex"]


def _check_listener(index: VectorIndex, _: Attribute[Any], given: object) -> None:
    if not isinstance(given, Listener):
        check_text("listener", given)


def _check_metric(index: VectorIndex, _: Attribute[Any], given: object) -> None:
    if given not in get_args(Metric):
        index.refuse(f"metric={short_repr(given)}; there are {', '.join(map(repr, get_args(Metric)))}")


def _check_dim(index: VectorIndex, _: Attribute[Any], given: object) -> None:
    if given is not None and (type(given) is not int or given < 1):
        index.refuse(f"dim={short_repr(given)}; vectors have a whole number of numbers, from 1 on")


def _check_model(index: VectorIndex, _: Attribute[Any], given: object) -> None:
    if given is not None and not isinstance(given, Model):
        check_text("model", given)


@define(eq=False, slots=False, repr=False)
class VectorIndex(Component):
    """An index of the outputs of a listener, which are vectors: `Select.like` finds documents by it, by its name.

    `listener` is the name of one that was added, or a `Listener`, which is added with it;
    the version that is the newest then is the index's.
    `metric` is ``"cosine"``, ``"dot"`` or ``"euclidean"``. Each output is None, for a document that is not to be found,
    or a list or an array of `dim` finite numbers; without a `dim` as many as the first one has.

    What is searched for is given to the models that the outputs come from. `model` takes their place: another one,
    or its name, that gives vectors of the same space, such as the text encoder that belongs to an encoder of images.

    Raises `ConfigurationError` for anything else.
    """

    kind: ClassVar[str] = "vector_index"

    listener: Listener | str = field(kw_only=True, validator=_check_listener)
    metric: Metric = field(default="cosine", kw_only=True, validator=_check_metric)
    dim: int | None = field(default=None, kw_only=True, validator=_check_dim)
    model: Model | str | None = field(default=None, kw_only=True, validator=_check_model)

    def refuse(self, why: str) -> NoReturn:
        """Raise `ConfigurationError`."""
        raise ConfigurationError(f"{self!r}: {why}")

    @cached_property
    def listened(self) -> Listened:
        """The outputs that it indexes, of one that was loaded, with the listeners that it needs."""
        assert isinstance(self.listener, Listener)
        listener = self.listener
        return Outputs(Named(listener.kind, listener.name, listener.version), listener.listened.mapping)

    @property
    def named_listener(self) -> Named:
        """The listener whose outputs it indexes."""
        if isinstance(self.listener, str):
            return Named(Listener.kind, self.listener)
        return Named(Listener.kind, self.listener.name, self.listener.version)

    @property
    def children(self) -> Sequence[Child]:
        """The listener, and the model of queries where it has one of its own."""
        listener = Named(Listener.kind, self.listener) if isinstance(self.listener, str) else self.listener
        if self.model is None:
            return (listener,)
        return (listener, Named(Model.kind, self.model) if isinstance(self.model, str) else self.model)

    @property
    def params(self) -> dict[str, Any]:
        """The metric, and the dimension where it was given."""
        return {"metric": self.metric} if self.dim is None else {"metric": self.metric, "dim": self.dim}

    @classmethod
    def restore(cls, name: str, stored: Any, params: Mapping[str, Any], children: Sequence[Component]) -> Self:
        """The index of what was stored."""
        listener, *models = children
        assert isinstance(listener, Listener)
        model = models[0] if models else None
        assert model is None or isinstance(model, Model)
        return cls(name, listener=listener, model=model, **params)
