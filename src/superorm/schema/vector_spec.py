"""What the vector side needs to know of a vector field, without the class that declares it."""

from __future__ import annotations

from typing import Literal, TypeAlias

from attrs import frozen

__all__ = ["Metric", "VectorSpec"]

Metric: TypeAlias = Literal["cosine", "dot", "euclidean"]


@frozen
class VectorSpec:
    """One vector index: a path that holds float32 vectors of `dim` numbers in the documents of a collection."""

    collection: str
    path: str
    """The stored path, dotted."""
    dim: int
    metric: Metric = "cosine"

    @property
    def name(self) -> str:
        """The index's name, unique in its database: ``collection.path``."""
        return f"{self.collection}.{self.path}"
