"""Writes as data: what a flush decides and a backend executes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from attrs import field, frozen

__all__ = ["Delete", "Insert", "Update", "UpdateOp", "Write", "WriteResult"]


@frozen
class Insert:
    """New documents, in order."""

    collection: str
    documents: Sequence[Mapping[str, Any]]
    shallow: bool = field(default=False, eq=False)
    """Whether it is known, without looking, that none nests too deep."""


@frozen
class UpdateOp:
    """One update: operators (a mapping of ``$set`` and relatives) or a pipeline, applied to what the filter matches."""

    filter: Mapping[str, Any]
    update: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    multi: bool = False
    upsert: bool = False


@frozen
class Update:
    """Updates, in order."""

    collection: str
    ops: Sequence[UpdateOp]


@frozen
class Delete:
    """Every document that one of the filters matches."""

    collection: str
    filters: Sequence[Mapping[str, Any]]
    strict: bool = False
    """Whether each filter names one document that must be there as it says; a flush checks the number that matched."""


Write: TypeAlias = Insert | Update | Delete


@frozen
class WriteResult:
    """What a write did: `matched` counts inserted, matched or deleted documents."""

    matched: int
    modified: int = 0
    upserted: Sequence[Any] = ()
    """The ``_id`` values of documents that updates inserted; `matched` counts these too."""
