"""What a session tracks: new, stored and deleted objects, and how to undo flushes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from superorm.codec import documents
from superorm.exc import SessionError
from superorm.schema.document import Document
from superorm.schema.mapping import ClassMap, class_map
from superorm.schema.state import GONE, RAW
from superorm.unitofwork.flush import FlushPlan, Work
from superorm.unitofwork.identity import IdentityMap, identities, identity

__all__ = ["Tracker"]


class Tracker:
    """The objects of one session and their states. Pure bookkeeping."""

    def __init__(self) -> None:
        self.identities = IdentityMap()
        self.new: dict[int, Document] = {}
        self.deleted: dict[int, Document] = {}
        self._undo: list[tuple[Document, dict[str, Any] | None, dict[str, Any] | None]] = []
        """The snapshots before each flush since the last commit, oldest first, and those of deleted objects."""

    def add(self, instance: Document) -> None:
        """Track a new object; a stored one is taken over, a deleted one is kept after all."""
        mapping = _document_map(instance)
        if self.deleted.pop(id(instance), None) is not None:
            return
        raw = _raw(instance)
        if raw is None:
            self.new[id(instance)] = instance
            return
        known = self.identities.of(mapping).setdefault(identity(raw["_id"]), instance)
        if known is not instance:
            raise SessionError(
                f"{mapping.name} {raw['_id']!r} is in the session already, as another object",
                document_class=mapping.cls,
                key=raw["_id"],
            )

    def delete(self, instance: Document) -> None:
        """Mark a stored object for deletion; a new one is only forgotten. Raises `SessionError`."""
        mapping = _document_map(instance)
        if self.new.pop(id(instance), None) is not None:
            return
        if instance not in self:
            raise SessionError(
                f"this {mapping.name} is not in the session; load it here, or add() it first",
                document_class=mapping.cls,
            )
        self.deleted[id(instance)] = instance

    def __contains__(self, instance: object) -> bool:
        return id(instance) in self.new or self._is_stored(instance)

    def _is_stored(self, instance: object) -> bool:
        raw = _raw(instance)
        return raw is not None and self.identities.of(class_map(type(instance))).get(identity(raw["_id"])) is instance

    def expunge(self, instance: Document) -> None:
        """Forget an object."""
        self.new.pop(id(instance), None)
        self.deleted.pop(id(instance), None)
        if self._is_stored(instance):
            self.identities.discard(class_map(type(instance)), vars(instance)[RAW]["_id"])

    def load(self, mapping: ClassMap, found: Sequence[dict[str, Any]]) -> list[Any]:
        """The objects of stored documents, each document's one object."""
        known = self.identities.of(mapping)
        if not known:
            loaded = documents.load(mapping, found)
            keys = identities([document["_id"] for document in found])
            known.update(zip(keys, loaded, strict=True))
            return loaded if len(known) == len(loaded) else [known[key] for key in keys]
        keys = identities([document["_id"] for document in found])
        fresh = {key: document for key, document in zip(keys, found, strict=True) if key not in known}
        known.update(zip(fresh, documents.load(mapping, fresh.values()), strict=True))
        return [known[key] for key in keys]

    def possibly_changed(self) -> dict[ClassMap, list[Any]]:
        """The stored objects that may have changed, by class."""
        found: dict[ClassMap, list[Any]] = {}
        for mapping, objects in self.identities:
            candidates = documents.possibly_changed(mapping, objects.values())
            candidates = [instance for instance in candidates if id(instance) not in self.deleted]
            if candidates:
                found[mapping] = candidates
        return found

    def new_by_class(self) -> dict[ClassMap, list[Any]]:
        """The new objects by class, in the order they were added."""
        found: dict[ClassMap, list[Any]] = {}
        for instance in self.new.values():
            found.setdefault(class_map(type(instance)), []).append(instance)
        return found

    def work(self, new: dict[ClassMap, list[Any]], changed: dict[ClassMap, list[Any]]) -> list[Work]:
        """What each class has to write. Raises `ValidationError`, `VectorError`."""
        deleted: dict[ClassMap, list[Any]] = {}
        for instance in self.deleted.values():
            deleted.setdefault(class_map(type(instance)), []).append(instance)
        works: list[Work] = []
        for mapping in dict.fromkeys([*new, *changed, *deleted]):
            dumped = [(instance, documents.dump(mapping, instance)) for instance in new.get(mapping, ())]
            changes = [(instance, documents.change_of(mapping, instance)) for instance in changed.get(mapping, ())]
            works.append(
                Work(
                    mapping,
                    dumped,
                    [(instance, change) for instance, change in changes if change is not None],
                    deleted.get(mapping, ()),
                )
            )
        return works

    def flushed(self, plan: FlushPlan) -> None:
        """The plan was written: the objects' snapshots follow, undoably."""
        for instance in plan.deleted:
            raw = vars(instance).pop(RAW)
            self._undo.append((instance, raw, None))
            self.identities.discard(class_map(type(instance)), raw["_id"])
            setattr(instance, GONE, raw)
            self.deleted.pop(id(instance), None)
        for instance, snapshot in plan.snapshots:
            mapping = class_map(type(instance))
            self._undo.append((instance, _raw(instance), vars(instance).get(GONE)))
            documents.written(mapping, instance, snapshot)
            self.identities.of(mapping)[identity(snapshot["_id"])] = instance
            self.new.pop(id(instance), None)

    def committed(self) -> None:
        """Nothing flushed so far can be undone any more."""
        self._undo.clear()

    def rolled_back(self) -> None:
        """Objects show what was last loaded or committed; new ones are outside again."""
        for instance, before, gone in reversed(self._undo):
            mapping = class_map(type(instance))
            state = vars(instance)
            now = state.pop(RAW, None)
            if now is not None:
                self.identities.discard(mapping, now["_id"])
            state.pop(GONE, None)
            if gone is not None:
                setattr(instance, GONE, gone)
            if before is not None:
                setattr(instance, RAW, before)
                self.identities.of(mapping)[identity(before["_id"])] = instance
        self._undo.clear()
        self.new.clear()
        self.deleted.clear()
        for instances in self.possibly_changed().values():
            for instance in instances:
                documents.restore(instance)


def _raw(instance: object) -> dict[str, Any] | None:
    """The snapshot of a stored object."""
    return vars(instance).get(RAW)


def _document_map(instance: object) -> ClassMap:
    if not isinstance(instance, Document):
        raise SessionError(f"a session holds documents, not {type(instance).__name__} {instance!r}")
    return class_map(type(instance))
