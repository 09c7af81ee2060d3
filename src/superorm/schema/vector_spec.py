"""What the vector side needs to know of a vector field, without the class that declares it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from functools import cached_property
from typing import Any, Literal, Required, TypeAlias, TypedDict

from attrs import field, frozen

__all__ = [
    "PARAMETERS",
    "FilterField",
    "FilterKind",
    "IndexSpec",
    "Metric",
    "MirroredPath",
    "VectorIndexKind",
    "VectorIndexOptions",
    "VectorPath",
    "VectorSpec",
    "meet",
]

Metric: TypeAlias = Literal["cosine", "dot", "euclidean"]
VectorIndexKind: TypeAlias = Literal[
    "flat", "ivf_flat", "ivf_sq", "ivf_pq", "ivf_rq", "hnsw_flat", "hnsw_sq", "hnsw_pq"
]
PARAMETERS: Mapping[VectorIndexKind, tuple[str, ...]] = {
    "flat": (),
    "ivf_flat": ("num_partitions",),
    "ivf_sq": ("num_partitions",),
    "ivf_pq": ("num_partitions", "num_sub_vectors", "num_bits"),
    "ivf_rq": ("num_partitions", "num_bits"),
    "hnsw_flat": ("num_partitions", "m", "ef_construction"),
    "hnsw_sq": ("num_partitions", "m", "ef_construction"),
    "hnsw_pq": ("num_partitions", "m", "ef_construction", "num_sub_vectors", "num_bits"),
}
"""The kinds of index, each with the parameters that it takes, whole numbers from 1 on."""
FilterKind: TypeAlias = Literal["bool", "int", "float", "str", "datetime", "ObjectId"]


def meet(path: str, other: str) -> bool:
    """Whether two dotted paths are the same, or one is of a part of the other."""
    return path == other or path.startswith(f"{other}.") or other.startswith(f"{path}.")


class VectorIndexOptions(TypedDict, total=False):
    """A kind of index with parameters; see `PARAMETERS` for those that each kind takes."""

    kind: Required[VectorIndexKind]
    num_partitions: int
    num_sub_vectors: int
    num_bits: int
    m: int
    ef_construction: int


@frozen
class IndexSpec:
    """The index that a field asks of an engine that has several kinds; ``flat`` is none, all rows are compared."""

    kind: VectorIndexKind
    parameters: Mapping[str, int] = field(factory=dict[str, int])
    """Those given, by the names in `PARAMETERS`; the engine chooses the others."""


@frozen
class FilterField:
    """A scalar field that an engine mirrors, to filter by."""

    path: str
    """The stored path, dotted."""
    kind: FilterKind
    """The type of its values; null and missing ones stand beside."""

    def as_document(self) -> dict[str, Any]:
        """As it is stored."""
        return {"path": self.path, "kind": self.kind}


@frozen(slots=False)
class VectorPath:
    """The place of vectors that are indexed: all that is known of those of classes that are not declared here."""

    collection: str
    path: str
    """The stored path, dotted."""

    @property
    def name(self) -> str:
        """The index's name, unique in its database: ``collection.path``."""
        return f"{self.collection}.{self.path}"

    @property
    def paths(self) -> tuple[str, ...]:
        """The stored paths of the fields that the index holds."""
        return (self.path,)

    @cached_property
    def watched(self) -> tuple[str, ...]:
        """The stored paths of which an update changes what the index holds: the fields, and what they are in."""
        parts = [path.split(".") for path in self.paths]
        return tuple(dict.fromkeys(".".join(names[:n]) for names in parts for n in range(1, len(names) + 1)))

    def concerns(self, stored: Set[str]) -> bool:
        """Whether a document with these keys, or a change of theirs, may matter to the index."""
        return not stored.isdisjoint(self.watched)

    def assigned_by(self, paths: Iterable[str]) -> bool:
        """Whether what the index holds is among these stored paths, or in what is there, or a part of it."""
        return any(meet(path, one) for path in paths for one in self.paths)

    def touched_by(self, update: Mapping[str, Mapping[str, Any]]) -> bool:
        """Whether the operators of an update of one document name what the index holds, or what that is in."""
        return any(path in values for values in update.values() for path in self.watched)


@frozen(slots=False)
class MirroredPath(VectorPath):
    """A field beside a vector that its index mirrors, though the class that is written through does not say so."""

    index: str
    """The index's name."""

    @property
    def name(self) -> str:
        return self.index


@frozen(slots=False)
class VectorSpec(VectorPath):
    """One vector index: a path that holds float32 vectors of `dim` numbers in the documents of a collection.

    Two are equal where they hold the same vectors, however these are indexed.
    """

    dim: int
    metric: Metric = "cosine"
    index: IndexSpec | None = field(default=None, eq=False)
    """The index asked for; None: chosen by the number of rows."""
    filter_fields: tuple[FilterField, ...] = field(default=(), eq=False)
    """The fields that engines with tables are to mirror, and others to filter by."""
    discriminator: str | None = field(default=None, eq=False)
    """The key under which documents hold the name of their class."""
    label: str | None = field(default=None, eq=False)
    """What messages call the index, where that is not its name."""

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path, *(one.path for one in self.filter_fields))

    @property
    def called(self) -> str:
        """The index's name in messages."""
        return self.label or self.name
