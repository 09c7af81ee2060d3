"""Writes as data: what a flush decides and a backend executes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypeAlias, TypedDict

from attrs import field, frozen

__all__ = ["Delete", "Insert", "Update", "UpdateOp", "Write", "WriteResult"]


@frozen
class Insert:
    """New documents, in order."""

    collection: str
    documents: Sequence[Mapping[str, Any]]
    shallow: bool = field(default=False, eq=False)
    """Whether it is known, without looking, that none nests too deep."""

    def part(self, start: int, end: int) -> Insert:
        """Some of the documents."""
        return Insert(self.collection, self.documents[start:end], self.shallow)


class UpdateOp(TypedDict):
    """One update, as it stands in the server's ``update`` command: there may be many, and they are sent as they are."""

    q: Mapping[str, Any]
    """What it is applied to: every document that matches under ``multi``, else the first."""
    u: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    """Operators (a mapping of ``$set`` and relatives), or a pipeline."""
    multi: NotRequired[bool]
    upsert: NotRequired[bool]


@frozen
class Update:
    """Updates, in order."""

    collection: str
    ops: Sequence[UpdateOp]
    shallow: bool = field(default=False, eq=False)
    """Whether it is known, without looking, that no value nests too deep."""

    def part(self, start: int, end: int) -> Update:
        """Some of the updates."""
        return Update(self.collection, self.ops[start:end], self.shallow)


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

    def __add__(self, other: WriteResult) -> WriteResult:
        """What both did."""
        upserted = (*self.upserted, *other.upserted)
        return WriteResult(self.matched + other.matched, self.modified + other.modified, upserted)
