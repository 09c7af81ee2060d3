"""What a vector search asks, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import field, frozen

from superorm.codec.vectors import Vector
from superorm.exc import StatementError, VectorError
from superorm.schema.vector_spec import VectorSpec
from superorm.vectors.planning import Strategy

if TYPE_CHECKING:
    from superorm.compile.plan import Read

__all__ = ["Explanation", "Hit", "Hits", "Problem", "SearchRequest"]


def _float32(query: Any) -> Vector:
    return np.asarray(query, np.float32)


@frozen(eq=False)
class SearchRequest:
    """The `k` documents nearest to a query, among those that the filter matches.

    Raises ``VectorError`` where the query is no finite vector of shape (dim,), or zero under cosine.
    """

    spec: VectorSpec
    query: Vector = field(converter=_float32)
    k: int = 10
    filter: Mapping[str, Any] | None = None
    exact: bool = False
    """Whether the engine must find exactly the nearest, where it could be faster by an index that may miss some."""
    min_score: float | None = None
    leave_out: str | None = None
    """The encoded ``_id`` of a document that is not to be found; None: none."""
    projection: Mapping[str, Any] | None = None
    """Of the documents found; None: whole."""
    num_candidates: int | None = None
    """How many neighbours an engine that asks for their number looks at; None: chosen by `k`."""
    index: str | None = None
    """The fields of the index that finds what the filter matches, taken where the data backend has it; None: none."""

    def __attrs_post_init__(self) -> None:
        name, dim = self.spec.called, self.spec.dim
        if self.query.shape != (dim,):
            raise VectorError(f"{name}: the query has shape {self.query.shape}, but the index has {dim} dimensions")
        if not np.isfinite(self.query).all():
            raise VectorError(f"{name}: the query vector is not finite")
        if self.spec.metric == "cosine" and not self.query.any():
            raise VectorError(f"{name}: a zero vector has no direction, so nothing is near it under cosine")
        if self.k < 1:
            raise StatementError(f"{name}: k is {self.k}, but at least one result must be asked for")


@frozen
class Hit:
    """A document found: `key` is its ``_id``."""

    key: Any
    score: float
    document: dict[str, Any]


@frozen
class Explanation:
    """How a search went."""

    engine: str
    strategy: Strategy
    why: str
    """Why this strategy, in one sentence."""
    held: int | None
    """The rows of the engine's copy in this process's memory; None: it is elsewhere, or could not be used."""
    matched: int | None
    """How many documents the filter matches, as far as they were counted; None: there is none, or nobody counted."""
    more: bool
    """Whether it matches more than were counted."""
    pushed: str | None
    """What the engine was given of the filter, in SQL; None: nothing."""
    passing: int | None
    """How many rows pass that, as far as they were listed, one more than are few at most; None: they were not."""
    version: int | None
    """The version of the engine's table."""
    pending: int
    """Keys that the engine had not applied yet, ranked from the documents."""
    candidates: int
    """Keys that the engine gave, all calls together."""
    read: int
    """Documents read to be ranked."""
    calls: int
    """Calls of the engine."""
    reads: Sequence[Read]
    """What was sent to the data backend."""
    searched: str | None = None
    """The vector index of a listener's outputs; None: a field's."""


class Hits(list[Hit]):
    """Hits, nearest first, ties by ``_id``, and how they were found."""

    def __init__(self, hits: Sequence[Hit], explanation: Explanation) -> None:
        super().__init__(hits)
        self.explanation = explanation


@frozen
class Problem:
    """A vector of an engine that differs from its document, or something else that is wrong with an index."""

    index: str
    kind: str
    """``missing``, ``extra``, ``different``, ``unreadable``, ``released`` or ``applier``."""
    key: Any = None
    message: str = ""

    def __str__(self) -> str:
        where = self.index if self.key is None else f"{self.index}, document {self.key!r}"
        return f"{where}: {self.message or self.kind}"
