"""What calls a model's object with a batch, whatever it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, TypeAlias, cast

import numpy as np
from attrs import frozen

from superorm.artifacts.codecs.base import is_a
from superorm.exc import ConfigurationError
from superorm.expr.narrow import is_list

__all__ = ["METHODS", "Call", "Placing", "call_of", "is_module"]

METHODS = ("predict", "encode", "transform")

Call: TypeAlias = Callable[[list[Any]], Sequence[Any]]
"""Gives the outputs of a batch."""


@frozen
class Placing:
    """Where a torch module computes, and in what type of numbers; None: as it is."""

    device: str | None = None
    dtype: str | None = None

    def __bool__(self) -> bool:
        return self.device is not None or self.dtype is not None


def is_module(object: Any) -> bool:
    """Whether it is a torch module."""
    return is_a(object, "torch.nn", "Module")


def call_of(what: str, object: Any, batched: bool | None, placing: Placing) -> tuple[Call, bool]:
    """What gives the outputs of a batch, and whether the object takes whole batches.

    Raises `ConfigurationError`, which names `what`, for options that the object does not have.
    """
    method: Any
    if is_a(object, "transformers", "Pipeline"):
        method = _of_pipeline(object)
    else:
        method = next((getattr(object, name) for name in METHODS if hasattr(object, name)), None)
    whole = batched if batched is not None else method is not None or is_module(object)
    if is_module(object):
        from superorm.components.predicting.modules import module_call

        return module_call(what, object, method, whole, placing), whole
    if placing:
        given = " and ".join(name for name in ("device", "dtype") if getattr(placing, name) is not None)
        raise ConfigurationError(f"{what}: {given} is for torch modules; give it to the {type(object).__name__} itself")
    call = object if method is None else method
    if not whole:
        return lambda batch: [call(item) for item in batch], whole
    return lambda batch: outputs_of(call(batch)), whole


def _of_pipeline(pipeline: Any) -> Callable[[Any], Any]:
    """Its `predict` would take batches apart again."""
    return lambda given: pipeline(given, batch_size=len(given)) if isinstance(given, list) else pipeline(given)  # pyright: ignore[reportUnknownArgumentType]


def outputs_of(outputs: Any) -> Sequence[Any]:
    """The outputs one by one: of arrays and tables their rows, of sparse matrices these as dense ones."""
    if is_list(outputs):
        return outputs
    kind = type(outputs).__name__
    if isinstance(outputs, (str, bytes, Mapping, Set)):
        raise TypeError(f"a {kind} for a batch is not one output for each item")
    if hasattr(outputs, "toarray"):
        outputs = outputs.toarray()
    elif hasattr(outputs, "to_numpy"):
        outputs = outputs.to_numpy()
    flat = isinstance(outputs, np.ndarray) and outputs.ndim == 1  # of numbers, which come as Python's own
    plain: list[Any] = cast("Any", outputs).tolist() if flat else list(cast("Any", outputs))
    return plain
