"""The updates of many changed documents, as a server's command holds them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast, overload

from superorm.codec.documents import Changes, Edit, guard_of, update_of
from superorm.codec.vectors import value_at
from superorm.expr.narrow import is_dict, is_list
from superorm.schema.class_keys import class_keys
from superorm.schema.mapping import ClassMap
from superorm.unitofwork.writes import UpdateOp

__all__ = ["UpdateOps", "operators_of"]


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
        mapping, make, kinds = self._mapping, update_of, class_keys(self._mapping)
        updates = zip(self._before, self._edits, self._snapshots, strict=True)
        if mapping.version is not None:
            for document, edit, snapshot in updates:
                yield {"q": {"_id": document["_id"], **guard_of(mapping, document)}, "u": _sent(make(edit, snapshot))}
        else:
            for document, edit, snapshot in updates:
                filter = {"_id": document["_id"]}
                if type(edit) is dict:
                    filter |= _parents(edit, document, kinds) | _absent(edit, document)
                    yield {"q": filter, "u": _sent(edit)}
                else:
                    yield {"q": filter, "u": make(edit, snapshot)}

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


def operators_of(update: Any) -> Mapping[str, Mapping[str, Any]]:
    """The ``$set`` and ``$unset`` of an update that was sent."""
    if not is_list(update):
        return cast("Mapping[str, Mapping[str, Any]]", update)
    stages: dict[str, dict[str, Any]] = {operator: paths for stage in update for operator, paths in stage.items()}
    sets = {path: literal["$literal"] for path, literal in stages["$set"].items()}
    return {"$set": sets, "$unset": stages.get("$project", {})}


def _sent(update: dict[str, Any]) -> dict[str, Any] | list[dict[str, Any]]:
    """The update as a command takes it: a pipeline where the order matters in which keys are added to a document."""
    sets, unsets = update.get("$set", {}), update.get("$unset", {})
    if sets.keys().isdisjoint(unsets):
        return update
    gone = {path: 0 for path in unsets if path not in sets}
    if not any("." in path for path in sets if path in unsets):
        return {"$set": sets, "$unset": dict.fromkeys(gone, "")} if gone else {"$set": sets}
    stages: list[dict[str, Any]] = [{"$set": {path: {"$literal": value} for path, value in sets.items()}}]
    return [{"$project": gone}, *stages] if gone else stages


def _parents(update: Mapping[str, Any], before: dict[str, Any], kinds: Iterable[str]) -> dict[str, Any]:
    """That there still are the embedded documents into which an update sets: else it would make fragments of them.

    They are of their classes still, as the keys `kinds` say.
    """
    found: dict[str, Any] = {}
    for path in [path.rpartition(".")[0] for path in update.get("$set", ()) if "." in path]:
        found[path] = {"$type": "object"}
        for key in kinds:
            found[f"{path}.{key}"] = value_at(before, path).get(key, {"$exists": False})
    return found


def _absent(update: Mapping[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """That nobody has made the documents meanwhile that an update adds: else it would set over what is in them."""
    unsets = update.get("$unset", ())
    added: list[str] = []
    for path, value in update.get("$set", {}).items():
        parent, _, key = path.rpartition(".")
        if is_dict(value) and (key not in value_at(before, parent) if parent else path in unsets):
            added.append(path)
    return {path: {"$exists": False} for path in added}
