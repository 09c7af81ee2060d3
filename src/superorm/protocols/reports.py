"""What the checks of a DB report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from attrs import frozen

from superorm.compile.plan import Aggregate, Count, Find, Read

__all__ = ["CheckReport", "CreateReport", "Explanation", "GcReport"]

_SHOWN = 3
"""How much of a long list is printed."""


@frozen
class CheckReport:
    """The outcome of `DB.check`."""

    problems: Sequence[str] = ()
    """What is wrong, one sentence each: dangling references, bad hashes, vectors that differ, indexes that differ."""
    orphans: Sequence[str] = ()
    """Blobs that nothing refers to, which is no problem."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def __str__(self) -> str:
        lines = ["ok" if self.ok else f"{len(self.problems)} problems", *(f"  {problem}" for problem in self.problems)]
        if self.orphans:
            lines.append(f"{len(self.orphans)} blobs that nothing refers to")
        return "\n".join(lines)


@frozen
class GcReport:
    """The outcome of `DB.gc`."""

    removed: Sequence[str] = ()
    """The physical keys of the blobs that were removed from the artifact store."""

    def __str__(self) -> str:
        return f"{len(self.removed)} blobs removed"


@frozen
class CreateReport:
    """The outcome of `DB.create_all`."""

    created: Sequence[str] = ()
    """Collections, indexes and validators that were made."""
    differences: Sequence[str] = ()
    """What is there but not as the classes say, and what the backend cannot have, one sentence each.

    Nothing of it was changed.
    """

    def __str__(self) -> str:
        lines = [f"created {thing}" for thing in self.created]
        return "\n".join([*lines, *(f"differs: {difference}" for difference in self.differences)] or ["as declared"])


@frozen
class Explanation:
    """How a statement runs."""

    strategy: str
    """``find`` or ``aggregate``.

    Of a vector search ``exact``, ``gather``, ``mask``, ``push-down`` or ``over-fetch``.
    """
    reads: Sequence[Read]
    """The reads that were sent, in order."""
    engine: str | None = None
    """The vector engine."""
    details: Mapping[str, Any] | None = None
    """The server's own plan; of a vector search the counts, and under ``plan`` that of its first read of documents."""
    why: str | None = None
    """Why a vector search went that way."""

    def __str__(self) -> str:
        lines = [f"strategy: {self.strategy}"]
        if self.engine is not None:
            lines.append(f"engine: {self.engine}")
        if self.why is not None:
            lines.append(f"why: {self.why}")
        for name, value in (self.details or {}).items():
            lines.append(f"{name}: {value}")
        lines += [f"read: {_shown(read)}" for read in self.reads]
        return "\n".join(lines)


def _shown(read: Read) -> str:
    """The read in the server's own terms, long lists cut."""
    match read:
        case Aggregate(collection, pipeline):
            return f"{collection} aggregate {_short(list(pipeline))!r}"
        case Count(collection, filter, limit):
            return f"{collection} count {_short(filter)!r}" + (f" limit {limit}" if limit else "")
        case Find(collection, filter, projection, sort, skip, limit):
            parts = [("", filter), ("project ", projection), ("sort ", dict(sort)), ("skip ", skip), ("limit ", limit)]
            return f"{collection} find " + " ".join(f"{name}{_short(value)!r}" for name, value in parts if value)


def _short(value: Any) -> Any:
    if isinstance(value, Mapping):
        document = cast("Mapping[str, Any]", value)
        return {key: _short(item) for key, item in document.items()}
    if isinstance(value, list):
        items = cast("Sequence[Any]", value)
        return [_short(item) for item in items] if len(items) <= _SHOWN else [*items[:_SHOWN], Ellipsis]
    return value
