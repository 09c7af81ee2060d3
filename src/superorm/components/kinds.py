"""The kinds of components that there are."""

from __future__ import annotations

from superorm.components.base import Component
from superorm.components.dataset import Dataset
from superorm.components.listener import Listener
from superorm.components.metric import Metric
from superorm.components.model import Model
from superorm.components.training import Training
from superorm.components.vector_index import VectorIndex
from superorm.exc import UnsupportedError

__all__ = ["KINDS", "kind_named"]

KINDS: dict[str, type[Component]] = {cls.kind: cls for cls in (Dataset, Listener, Metric, Model, Training, VectorIndex)}
"""The class of each kind."""


def kind_named(kind: str) -> type[Component]:
    """The class of a kind. Raises `UnsupportedError`, which lists those that there are."""
    if kind not in KINDS:
        raise UnsupportedError(f"there are no components of the kind {kind!r} here; there are {', '.join(KINDS)}")
    return KINDS[kind]
