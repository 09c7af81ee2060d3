"""What a session tracks: new, stored and deleted objects."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from superorm.codec import documents
from superorm.exc import DuplicateKeyError, SessionError
from superorm.schema.document import Document
from superorm.schema.mapping import ClassMap, class_map
from superorm.schema.partial import can_be_partial, check_partial
from superorm.schema.state import GONE, RAW, UNLOADED, has_getattr
from superorm.unitofwork.arguments import check_attributes, documents_in
from superorm.unitofwork.flush import FlushPlan, Work
from superorm.unitofwork.holding import HOLDERS, Holder, document_map, elsewhere, outside, raw_of
from superorm.unitofwork.identity import identities, identity
from superorm.unitofwork.undo import Undo

__all__ = ["Tracker", "by_class"]


class Tracker(Holder):
    """The objects of one session and their states. Pure bookkeeping."""

    def __init__(self) -> None:
        super().__init__()
        self.undo = Undo(self.identities)
        self.may_be_partial = False
        """Whether objects that lack something may be tracked as stored ones."""

    def add(self, instance: Document) -> None:
        """Track a new object; a stored one is taken over, a deleted one is kept after all.

        Raises `SessionError` for what is no document, and for an object that another tracker holds.
        """
        mapping = document_map(instance)
        if self.deleted.pop(id(instance), None) is not None:
            return
        raw = raw_of(instance)
        if raw is None:
            if len(HOLDERS) > 1:
                self._check_not_elsewhere((instance,))
            self.new[id(instance)] = instance
            return
        key = raw["_id"]
        known, name = self.identities.of(mapping), identity(key)
        if name not in known:
            if self.held_elsewhere(instance):
                raise elsewhere(instance)
            known[name] = instance
            self.undo.came_back(instance)
            self.undo.reread((instance,))
            self.may_be_partial = self.may_be_partial or UNLOADED in vars(instance)
        elif known[name] is not instance:
            advice = "in the session already, as another object"
            raise SessionError(f"{mapping.name} {key!r} is {advice}", document_class=mapping.cls, key=key)

    def add_all(self, instances: Iterable[Document]) -> None:
        """`add` each, or none where one of them is refused."""
        instances, kinds = documents_in(instances, "add_all()")
        if len(kinds) == 1 and not self.deleted:
            kind = kinds.pop()
            if not has_getattr(kind) and not any(getattr(instance, RAW, None) for instance in instances):
                self._check_not_elsewhere(instances)
                self.new.update(zip(map(id, instances), instances, strict=True))
                return
        count = len(self.new)
        deleted = [instance for instance in instances if id(instance) in self.deleted]
        outside = [one for one in instances if raw_of(one) is not None and not self.identities.holds(one)]
        try:
            for instance in instances:
                self.add(instance)
        except SessionError:
            while len(self.new) > count:
                self.new.popitem()
            for instance in filter(self.identities.holds, outside):
                self.expunge(instance)
            self.deleted.update((id(instance), instance) for instance in deleted)
            raise

    def check_still_outside(self, instances: Sequence[Document], kinds: Iterable[type], caller: str) -> None:
        """`check_outside` again, where a flush in between may have added some of the objects."""
        if self.new or self.undo.undoable:
            self.check_outside(instances, kinds, caller)

    def delete(self, instance: Document) -> None:
        """Mark a stored object for deletion; a new one is only forgotten. Raises `SessionError`."""
        mapping = document_map(instance)
        if self.new.pop(id(instance), None) is not None:
            return
        if instance not in self:
            raise outside(mapping)
        self.deleted[id(instance)] = instance

    def never_written(self, instance: object) -> bool:
        """Whether the object is new, and neither a flush nor what a rollback would undo knows of it."""
        return id(instance) in self.new and not self.undo.was_written(instance)

    def expunge(self, instance: Document) -> None:
        """Forget an object. Raises `SessionError` for what is no document.

        A new one, and a stored one that was not written since the last commit, are outside as if they had never been
        in; what a rollback gives back to others is given back outside.
        """
        mapping = document_map(instance)
        self.new.pop(id(instance), None)
        self.deleted.pop(id(instance), None)
        if self.identities.holds(instance):
            self.identities.discard(mapping, vars(instance)[RAW]["_id"])
            self.undo.left((instance,))

    def expunge_all(self) -> None:
        """Forget all objects."""
        for _, objects in self.identities:
            self.undo.left(objects.values())
        self.identities.clear()
        self.new.clear()
        self.deleted.clear()

    def check_stored(self, instance: Document, caller: str) -> ClassMap:
        """The class of an object that is tracked as a stored one. Raises `SessionError` for any other."""
        mapping = document_map(instance)
        if id(instance) in self.new:
            raise SessionError(
                f"{caller}: this {mapping.name} is new, so there is nothing stored of it; flush() first",
                document_class=mapping.cls,
            )
        if not self.identities.holds(instance):
            raise outside(mapping)
        return mapping

    def expire(self, instance: Document, attributes: Collection[str] | None = None) -> None:
        """Forget values and changes until the document is loaded again. Raises `SessionError`."""
        check_attributes(self.check_stored(instance, "expire()"), attributes, "expire()")
        self._expire(instance, attributes)

    def expire_all(self) -> None:
        """The same of all stored objects, or of none where one is of a class with ``__slots__``."""
        stored = [instance for _, objects in self.identities for instance in objects.values()]
        for kind in set(map(type, stored)):
            check_partial(class_map(kind))
        for instance in stored:
            self._expire(instance, None)

    def _expire(self, instance: Document, attributes: Collection[str] | None, *, version: bool = False) -> None:
        self.may_be_partial = True
        self.undo.before_expiry(instance)
        documents.expire(instance, attributes, version=version)

    def is_modified(self, instance: Document) -> bool:
        """Whether a flush has something to write of it. Raises `SessionError` for what is not tracked."""
        mapping = document_map(instance)
        if id(instance) in self.new:
            return True
        if not self.identities.holds(instance):
            raise outside(mapping)
        return documents.is_changed(mapping, instance)

    def load(self, mapping: ClassMap, found: Sequence[dict[str, Any]]) -> list[Any]:
        """The objects of stored documents, each document's one object."""
        known = self.identities.of(mapping)
        if not known:
            loaded = documents.load(mapping, found)
            keys = identities([document["_id"] for document in found])
            known.update(zip(keys, loaded, strict=True))
            self.undo.reread(loaded)
            return loaded if len(known) == len(loaded) else [known[key] for key in keys]
        keys = identities([document["_id"] for document in found])
        if self.may_be_partial:
            self.undo.reread(_complete(known, keys, found, None))
        fresh = {key: document for key, document in zip(keys, found, strict=True) if key not in known}
        known.update(zip(fresh, documents.load(mapping, fresh.values()), strict=True))
        self.undo.reread(map(known.__getitem__, fresh))
        return [known[key] for key in keys]

    def load_partial(self, mapping: ClassMap, found: Sequence[dict[str, Any]], attributes: frozenset[str]) -> list[Any]:
        """The objects of documents that hold `ClassMap.stored_for` these attributes; new ones are partial.

        Those in the session already stay as they are, but for attributes that they lack.
        """
        self.may_be_partial = True
        known = self.identities.of(mapping)
        keys = identities([document["_id"] for document in found])
        self.undo.reread(_complete(known, keys, found, attributes))
        fresh = {key: document for key, document in zip(keys, found, strict=True) if key not in known}
        known.update(zip(fresh, documents.load_partial(mapping, fresh.values(), attributes), strict=True))
        self.undo.reread(map(known.__getitem__, fresh))
        return [known[key] for key in keys]

    def possibly_changed(self) -> dict[ClassMap, list[Any]]:
        """The stored objects that may have changed, by class."""
        found: dict[ClassMap, list[Any]] = {}
        for root, objects in self.identities:
            groups = by_class(objects.values()) if root.family else {root: objects.values()}
            for mapping, instances in groups.items():
                candidates = documents.possibly_changed(mapping, instances)
                if self.deleted:
                    candidates = [instance for instance in candidates if id(instance) not in self.deleted]
                if candidates:
                    found[mapping] = candidates
        return found

    def dirty(self) -> list[Any]:
        """The same without partial objects that were not changed: the scan takes all partial ones for changed."""
        return [
            one
            for mapping, instances in self.possibly_changed().items()
            for one in instances
            if UNLOADED not in vars(one) or documents.is_changed(mapping, one)
        ]

    def with_artifacts(self) -> list[Any]:
        """The stored objects of classes that have artifact fields, or have subclasses that do."""
        return [
            instance
            for root, objects in self.identities
            if root.artifacts or any(below.artifacts for below in root.subclasses)
            for instance in objects.values()
        ]

    def new_by_class(self) -> dict[ClassMap, list[Any]]:
        """The new objects by class, in the order they were added."""
        return by_class(self.new.values())

    def work(self, new: dict[ClassMap, list[Any]], changed: dict[ClassMap, list[Any]]) -> list[Work]:
        """What each class has to write. Raises `ValidationError`, `VectorError`."""
        deleted = by_class(self.deleted.values())
        works: list[Work] = []
        for mapping in dict.fromkeys([*new, *changed, *deleted]):
            added = new.get(mapping, ())
            changes = documents.changes_of(mapping, changed.get(mapping, ()))
            gone = deleted.get(mapping, ())
            documents.check_versions(mapping, gone)
            works.append(Work(mapping, added, documents.dump_all(mapping, added), changes, gone))
        return works

    def check_free(self, plan: FlushPlan) -> None:
        """Raise `DuplicateKeyError` where another object, that is not to be deleted, has the key of a new document."""
        for mapping, _, new in plan.inserted:
            known = self.identities.of(mapping)
            for document in new if known else ():
                key = document["_id"]
                held = known.get(identity(key))
                if held is not None and id(held) not in self.deleted:
                    where = f"{mapping.name} {key!r} is in the session already, as another object"
                    raise DuplicateKeyError(
                        f"{where}; delete() or expunge() that one",
                        document_class=mapping.cls,
                        key=key,
                        field=mapping.key.attribute,
                    )

    def flushed(self, plan: FlushPlan) -> None:
        """The plan was written: the objects' snapshots follow, undoably."""
        for instance in plan.deleted:
            mapping, raw = class_map(type(instance)), vars(instance).pop(RAW)
            self.undo.before_deletion(mapping, instance, raw)
            self.identities.discard(mapping, raw["_id"])
            setattr(instance, GONE, raw)
            self.deleted.pop(id(instance), None)
            self._gone[id(instance)] = instance
        for mapping, changed in plan.updated:
            self.undo.before(mapping, changed.objects, changed.before)
            documents.written(mapping, changed.objects, changed.snapshots)
        for mapping, instances, snapshots in plan.inserted:
            self.undo.before(mapping, instances, [None] * len(instances))
            documents.written(mapping, instances, snapshots)
            keys = identities([snapshot["_id"] for snapshot in snapshots])
            self.identities.of(mapping).update(zip(keys, instances, strict=True))
            for instance in instances if self.new else ():
                self.new.pop(id(instance), None)

    def of_collection(self, collection: str | None) -> dict[Any, list[Document]]:
        """The stored objects of all classes of a collection, by `identity`."""
        found: dict[Any, list[Document]] = {}
        for mapping, objects in self.identities:
            if mapping.collection == collection:
                for key, instance in objects.items():
                    found.setdefault(key, []).append(instance)
        return found

    def clear(self) -> None:
        """Forget all objects, as they are."""
        self.identities.clear()
        self.new.clear()
        self.deleted.clear()
        self.committed()
        self.may_be_partial = False

    def committed(self) -> None:
        """Nothing flushed so far can be undone any more."""
        self._gone.clear()
        self.undo.clear()

    def rolled_back(self, *, doubtful: bool = False) -> set[int]:
        """Objects show what was last loaded or committed; new ones are outside again.

        Those that were loaded after a statement wrote in the transaction are expired, and their versions too;
        so are those of documents that an object of another class was written to,
        and all that were written, where it is `doubtful` whether they were committed after all.
        Those of documents that only a statement in the transaction inserted are outside, too: the ids of these.
        """
        self._gone.clear()
        unsure, never_stored = self.undo.give_back(self.held_elsewhere, doubtful=doubtful)
        self.new.clear()
        self.deleted.clear()
        for mapping, instance in unsure:
            if self.identities.holds(instance):
                if can_be_partial(mapping):
                    self._expire(instance, None, version=True)
                else:
                    self.expunge(instance)
        for instances in self.possibly_changed().values():
            for instance in instances:
                documents.revert(instance)
        return never_stored


def by_class(objects: Collection[object]) -> dict[ClassMap, list[Any]]:
    """The objects by class, in order."""
    kinds = set(map(type, objects))
    if len(kinds) == 1:
        return {class_map(kinds.pop()): list(objects)}
    groups: dict[ClassMap, list[Any]] = {}
    for instance in objects:
        groups.setdefault(class_map(type(instance)), []).append(instance)
    return groups


def _complete(
    known: Mapping[Any, Any], keys: Iterable[Any], found: Iterable[dict[str, Any]], attributes: frozenset[str] | None
) -> list[Any]:
    """Give the partial objects among those known what they lack; those objects."""
    completed: list[Any] = []
    for key, document in zip(keys, found, strict=True):
        instance = known.get(key)
        if instance is not None and UNLOADED in vars(instance):
            documents.complete(instance, document, attributes)
            completed.append(instance)
    return completed
