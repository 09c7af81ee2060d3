"""What a statement becomes: plain data that a backend executes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from attrs import define, field, frozen

__all__ = ["Aggregate", "Count", "Find", "Read"]


@define  # made by each statement: a frozen one takes three times as long
class Find:
    """A plain find; faster than a pipeline where it does the job. Never changed."""

    collection: str
    filter: Mapping[str, Any] = field(factory=dict[str, Any])
    projection: Mapping[str, Any] | None = None
    sort: Sequence[tuple[str, int]] = ()
    skip: int = 0
    limit: int = 0
    """0 means no limit."""
    naive: bool = False
    """Whether datetimes may be read naive, in UTC: `load` and `complete` of the codec make them aware."""


@frozen
class Aggregate:
    """An aggregation pipeline."""

    collection: str
    pipeline: Sequence[Mapping[str, Any]]
    batch_size: int = 0
    """Documents that the first answer holds (0: where all are read, as many as an answer takes)."""


@frozen
class Count:
    """The number of documents that match, counted no further than `limit` (0: all); read as `[{"n": number}]`."""

    collection: str
    filter: Mapping[str, Any] = field(factory=dict[str, Any])
    limit: int = 0


Read: TypeAlias = Find | Aggregate | Count
