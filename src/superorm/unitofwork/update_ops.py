"""The updates of many changed documents, as a server's command holds them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

from superorm.codec.documents import Changes, Edit, guard_of, update_of
from superorm.schema.mapping import ClassMap
from superorm.unitofwork.writes import UpdateOp

__all__ = ["UpdateOps"]


class UpdateOps(Sequence[UpdateOp]):
    """The updates of one class's documents, each made anew when it is asked for.

    They hold what their documents still have to be like: of their version, or with the parts set into.
    Four dicts for each would be as many containers for the garbage collector to look through, and out of the
    processor's caches again when they are encoded.
    """

    __slots__ = ("_before", "_edits", "_mapping", "_snapshots")

    def __init__(
        self,
        mapping: ClassMap,
        before: Sequence[dict[str, Any]],
        edits: Sequence[Edit],
        snapshots: Sequence[dict[str, Any]],
    ) -> None:
        self._mapping = mapping
        self._before = before
        self._edits = edits
        self._snapshots = snapshots

    @classmethod
    def of(cls, mapping: ClassMap, changed: Changes) -> UpdateOps:
        """The updates that carry out changes."""
        return cls(mapping, changed.before, changed.edits, changed.snapshots)

    def __len__(self) -> int:
        return len(self._before)

    def __iter__(self) -> Iterator[UpdateOp]:
        mapping, make = self._mapping, update_of
        updates = zip(self._before, self._edits, self._snapshots, strict=True)
        if mapping.version is not None:
            for document, edit, snapshot in updates:
                yield {"q": {"_id": document["_id"], **guard_of(mapping, document)}, "u": make(edit, snapshot)}
        else:
            for document, edit, snapshot in updates:
                update = make(edit, snapshot)
                filter = {"_id": document["_id"]}
                if type(edit) is dict:
                    filter |= _parents(update)
                yield {"q": filter, "u": update}

    @overload
    def __getitem__(self, index: int) -> UpdateOp: ...
    @overload
    def __getitem__(self, index: slice) -> UpdateOps: ...
    def __getitem__(self, index: int | slice) -> UpdateOp | UpdateOps:
        if isinstance(index, slice):
            return UpdateOps(self._mapping, self._before[index], self._edits[index], self._snapshots[index])
        place = range(len(self))[index]
        return next(iter(self[place : place + 1]))

    def __eq__(self, other: object) -> bool:
        return list(self) == (list(other) if isinstance(other, UpdateOps) else other)

    __hash__ = None  # type: ignore[assignment]


def _parents(update: Mapping[str, Any]) -> dict[str, Any]:
    """That there still are the embedded documents into which an update sets: else it would make fragments of them."""
    nested = [path.rpartition(".")[0] for path in update.get("$set", ()) if "." in path]
    return {path: {"$type": "object"} for path in nested}
