"""What a session tracks: new, stored and deleted objects, and how to undo flushes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any, TypeAlias
from weakref import ref

from superorm.codec import documents
from superorm.exc import DuplicateKeyError, SessionError
from superorm.schema.document import Document
from superorm.schema.fields import MISSING
from superorm.schema.mapping import ClassMap, class_map
from superorm.schema.partial import can_be_partial, check_partial, make_partial, make_whole
from superorm.schema.state import GONE, RAW, UNLOADED, has_getattr
from superorm.unitofwork.arguments import check_attributes, documents_in
from superorm.unitofwork.flush import FlushPlan, Work
from superorm.unitofwork.identity import IdentityMap, identities, identity

__all__ = ["Tracker", "by_class"]

_Before: TypeAlias = tuple[Document, dict[str, Any] | None, dict[str, Any] | None, frozenset[str] | None]

_TRACKERS: dict[int, ref[Tracker]] = {}
"""All trackers of the process: objects do not know who holds them, which would make each load slower."""


class Tracker:
    """The objects of one session and their states. Pure bookkeeping."""

    def __init__(self) -> None:
        name = id(self)
        _TRACKERS[name] = ref(self, lambda _: _TRACKERS.pop(name, None))
        self.identities = IdentityMap()
        self.new: dict[int, Document] = {}
        self.deleted: dict[int, Document] = {}
        self._undo: list[_Before] = []
        """Before each flush since the last commit: snapshots, those of deleted objects, and what was not loaded."""
        self._gone: dict[int, Document] = {}
        """The objects of deletions that can still be undone."""
        self._expunged: dict[int, Document] = {}
        """Objects that were expunged since: an undo gives back to them what they were, but does not track them."""
        self._unsure: list[tuple[ClassMap, Any, int]] | None = None
        """What was read since a statement wrote in a transaction, or an object was expunged, that can be undone.

        With the number of undoable changes before: one among these was of a state that is not unsure.
        """
        self._forgotten: dict[int, dict[str, Any]] = {}
        """The snapshots of objects that expired since there was something to undo."""
        self._partial = False
        """Whether there may be partial objects."""

    def add(self, instance: Document) -> None:
        """Track a new object; a stored one is taken over, a deleted one is kept after all.

        Raises `SessionError` for what is no document, and for an object that another tracker holds.
        """
        mapping = _document_map(instance)
        if self.deleted.pop(id(instance), None) is not None:
            return
        raw = _raw(instance)
        if raw is None:
            if len(_TRACKERS) > 1:
                self._check_not_elsewhere((instance,))
            self.new[id(instance)] = instance
            return
        key = raw["_id"]
        known, name = self.identities.of(mapping), identity(key)
        if name not in known:
            if self.held_elsewhere(instance):
                raise _elsewhere(instance)
            known[name] = instance
            self._expunged.pop(id(instance), None)
            self.reread(mapping, (instance,))
            self._partial = self._partial or UNLOADED in vars(instance)
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
        outside = [one for one in instances if _raw(one) is not None and not self._is_stored(one)]
        try:
            for instance in instances:
                self.add(instance)
        except SessionError:
            while len(self.new) > count:
                self.new.popitem()
            for instance in filter(self._is_stored, outside):
                self.expunge(instance)
            self.deleted.update((id(instance), instance) for instance in deleted)
            raise

    def check_outside(self, instances: Sequence[Document], kinds: Iterable[type], caller: str) -> None:
        """Raise `SessionError` where one of the objects, of these classes, is stored already, or new in a session."""
        if any(map(hasattr, instances, repeat(RAW))) or any(map(has_getattr, kinds)):
            for instance in instances:
                if _raw(instance) is not None:
                    why = "is stored already; leave it out, or add() it to write what was changed"
                    raise _not_new(instance, caller, why)
        if self.new and not self.new.keys().isdisjoint(map(id, instances)):
            instance = next(instance for instance in instances if id(instance) in self.new)
            raise _not_new(instance, caller, "was added to this session, which inserts it; expunge() it first")
        self._check_not_elsewhere(instances)

    def _check_not_elsewhere(self, new: Collection[Document]) -> None:
        """Raise `SessionError` where another tracker holds one of the new objects, or deleted it undoably."""
        for known in list(_TRACKERS.values()):
            other = known()
            for held in () if other is None or other is self else (other.new, other._gone):
                if held and not held.keys().isdisjoint(map(id, new)):
                    raise _elsewhere(next(instance for instance in new if id(instance) in held))

    def _holds(self, instance: Document) -> bool:
        """Whether the object is tracked here, or was until a deletion that can still be undone."""
        return id(instance) in self._gone or instance in self

    def held_elsewhere(self, instance: Document) -> bool:
        """Whether another session tracks the object, or deleted it undoably."""
        others = [known() for known in list(_TRACKERS.values())]
        return any(one not in (None, self) and one._holds(instance) for one in others)

    def delete(self, instance: Document) -> None:
        """Mark a stored object for deletion; a new one is only forgotten. Raises `SessionError`."""
        mapping = _document_map(instance)
        if self.new.pop(id(instance), None) is not None:
            return
        if instance not in self:
            raise _outside(mapping)
        self.deleted[id(instance)] = instance

    def __contains__(self, instance: object) -> bool:
        return id(instance) in self.new or self._is_stored(instance)

    def _is_stored(self, instance: object) -> bool:
        raw = _raw(instance)
        return raw is not None and self.identities.get(class_map(type(instance)), raw["_id"]) is instance

    def expunge(self, instance: Document) -> None:
        """Forget an object. Raises `SessionError` for what is no document."""
        mapping = _document_map(instance)
        self.new.pop(id(instance), None)
        self.deleted.pop(id(instance), None)
        if self._is_stored(instance):
            self.identities.discard(mapping, vars(instance)[RAW]["_id"])
            if self._undo:
                self._expunged[id(instance)] = instance
                self.be_unsure()

    def expunge_all(self) -> None:
        """Forget all objects."""
        if self._undo:
            for _, objects in self.identities:
                self._expunged.update((id(instance), instance) for instance in objects.values())
            self.be_unsure()
        self.identities.clear()
        self.new.clear()
        self.deleted.clear()

    def check_stored(self, instance: Document, caller: str) -> ClassMap:
        """The class of an object that is tracked as a stored one. Raises `SessionError` for any other."""
        mapping = _document_map(instance)
        if id(instance) in self.new:
            raise SessionError(
                f"{caller}: this {mapping.name} is new, so there is nothing stored of it; flush() first",
                document_class=mapping.cls,
            )
        if not self._is_stored(instance):
            raise _outside(mapping)
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
        self._partial = True
        if self._undo:  # one that is outside again after a rollback has its values back
            self._forgotten[id(instance)] = {**self._forgotten.get(id(instance), {}), **vars(instance)[RAW]}
        documents.expire(instance, attributes, version=version)

    @property
    def undoable(self) -> bool:
        """Whether something was flushed since the last commit."""
        return bool(self._undo)

    def forgotten(self, instance: object, attribute: str) -> Any:
        """The value of a field that expired since there was something to undo; `MISSING` where there is none."""
        part = class_map(type(instance)).by_attribute.get(attribute)
        raw = self._forgotten.get(id(instance), {})
        return MISSING if part is None or part.stored not in raw else part.type.from_bson(raw[part.stored])

    def is_modified(self, instance: Document) -> bool:
        """Whether a flush has something to write of it. Raises `SessionError` for what is not tracked."""
        mapping = _document_map(instance)
        if id(instance) in self.new:
            return True
        if not self._is_stored(instance):
            raise _outside(mapping)
        return documents.is_changed(mapping, instance)

    def load(self, mapping: ClassMap, found: Sequence[dict[str, Any]]) -> list[Any]:
        """The objects of stored documents, each document's one object."""
        known = self.identities.of(mapping)
        if not known:
            loaded = documents.load(mapping, found)
            keys = identities([document["_id"] for document in found])
            known.update(zip(keys, loaded, strict=True))
            self.reread(mapping, loaded)
            return loaded if len(known) == len(loaded) else [known[key] for key in keys]
        keys = identities([document["_id"] for document in found])
        if self._partial:
            self.reread(mapping, _complete(known, keys, found, None))
        fresh = {key: document for key, document in zip(keys, found, strict=True) if key not in known}
        known.update(zip(fresh, documents.load(mapping, fresh.values()), strict=True))
        self.reread(mapping, map(known.__getitem__, fresh))
        return [known[key] for key in keys]

    def load_partial(self, mapping: ClassMap, found: Sequence[dict[str, Any]], attributes: frozenset[str]) -> list[Any]:
        """The objects of documents that hold `ClassMap.stored_for` these attributes; new ones are partial.

        Those in the session already stay as they are, but for attributes that they lack.
        """
        self._partial = True
        known = self.identities.of(mapping)
        keys = identities([document["_id"] for document in found])
        self.reread(mapping, _complete(known, keys, found, attributes))
        fresh = {key: document for key, document in zip(keys, found, strict=True) if key not in known}
        known.update(zip(fresh, documents.load_partial(mapping, fresh.values(), attributes), strict=True))
        self.reread(mapping, map(known.__getitem__, fresh))
        return [known[key] for key in keys]

    def reread(self, mapping: ClassMap, instances: Iterable[Any]) -> None:
        """These objects show their documents as they were read just now."""
        if self._unsure is not None:
            count = len(self._undo)
            self._unsure += [(mapping, instance, count) for instance in instances]

    def possibly_changed(self) -> dict[ClassMap, list[Any]]:
        """The stored objects that may have changed, by class."""
        found: dict[ClassMap, list[Any]] = {}
        for root, objects in self.identities:
            groups = by_class(objects.values()) if root.family else {root: objects.values()}
            for mapping, instances in groups.items():
                candidates = documents.possibly_changed(mapping, instances)
                candidates = [instance for instance in candidates if id(instance) not in self.deleted]
                if candidates:
                    found[mapping] = candidates
        return found

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
            raw = vars(instance).pop(RAW)
            self._undo.append((instance, raw, None, vars(instance).get(UNLOADED)))
            self.identities.discard(class_map(type(instance)), raw["_id"])
            setattr(instance, GONE, raw)
            self.deleted.pop(id(instance), None)
            self._gone[id(instance)] = instance
        for mapping, instances, snapshots in plan.updated:
            self._undo += _before(mapping, instances)
            documents.written(mapping, instances, snapshots)
        for mapping, instances, snapshots in plan.inserted:
            self._undo += _before(mapping, instances)
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

    def refreshed(self, found: Iterable[tuple[Document, dict[str, Any]]]) -> None:
        """These documents are stored now: attributes that the user did not change show it, undoably."""
        for instance, document in found:
            self._undo += _before(class_map(type(instance)), (instance,))
            documents.refresh(instance, document)

    def be_unsure(self) -> None:
        """From now on documents that are loaded may hold what a rollback takes back, unknown to their objects."""
        if self._unsure is None:
            self._unsure = []

    def clear(self) -> None:
        """Forget all objects, as they are."""
        self.identities.clear()
        self.new.clear()
        self.deleted.clear()
        self.committed()
        self._partial = False

    def committed(self) -> None:
        """Nothing flushed so far can be undone any more."""
        self._undo.clear()
        self._gone.clear()
        self._expunged.clear()
        self._forgotten.clear()
        self._unsure = None

    def rolled_back(self, *, doubtful: bool = False) -> None:
        """Objects show what was last loaded or committed; new ones are outside again.

        Those that were loaded after a statement wrote in the transaction are expired, and their versions too;
        so are those of documents that an object of another class was written to,
        and all that were written, where it is `doubtful` whether they were committed after all.
        """
        self._gone.clear()
        unsure = [*self._read_unsurely(), *self._written_otherwise()]
        if doubtful:
            unsure += [(class_map(type(one)), one) for one, before, _, _ in self._undo if before is not None]
        for instance, before, _, _ in self._undo:
            if before is None:
                self._remember(instance)
                documents.unpack(instance)
        for instance, before, gone, unloaded in reversed(self._undo):
            tracked = id(instance) not in self._expunged
            if tracked or not self.held_elsewhere(instance):
                self._give_back(instance, before, gone, unloaded, tracked)
        self.committed()
        self.new.clear()
        self.deleted.clear()
        for mapping, instance in unsure:
            if self._is_stored(instance):
                if can_be_partial(mapping):
                    self._expire(instance, None, version=True)
                else:
                    self.expunge(instance)
        for instances in self.possibly_changed().values():
            for instance in instances:
                documents.revert(instance)

    def _read_unsurely(self) -> list[tuple[ClassMap, Any]]:
        """The objects that were read when this was unsure, and to which no earlier state is given back."""
        if not self._unsure:
            return []
        first: dict[int, int] = {}
        for number, (instance, *_) in enumerate(self._undo):
            first.setdefault(id(instance), number)
        return [(mapping, one) for mapping, one, count in self._unsure if first.get(id(one), count) >= count]

    def _written_otherwise(self) -> list[tuple[ClassMap, Any]]:
        """The objects whose documents were written as objects of another class that maps the collection.

        An object that was written itself is left out where that came first: what it was before is what was committed.
        """
        roots = [root for root, _ in self.identities]
        if len({root.collection for root in roots}) == len(roots):
            return []
        written: dict[str | None, dict[Any, dict[int, Document]]] = {}  # a document's objects, the first writer first
        for instance, before, gone, _ in self._undo:
            state = vars(instance)
            raw: dict[str, Any] = before or gone or state.get(RAW) or state.get(GONE) or {}
            same = written.setdefault(class_map(type(instance)).collection, {})
            same.setdefault(identity(raw.get("_id")), {}).setdefault(id(instance), instance)
        for root, objects in self.identities:
            for key, ones in written.get(root.collection, {}).items():
                if key in objects:
                    ones.setdefault(id(objects[key]), objects[key])
        later = [one for same in written.values() for ones in same.values() for one in list(ones.values())[1:]]
        return [(class_map(type(one)), one) for one in later]

    def _remember(self, instance: Document) -> None:
        """Give an object that will be outside again the values that have expired."""
        state = vars(instance)
        if UNLOADED in state and id(instance) in self._forgotten:
            state.setdefault(RAW, state.get(GONE))
            documents.complete(instance, self._forgotten[id(instance)])

    def _give_back(
        self,
        instance: Document,
        before: dict[str, Any] | None,
        gone: dict[str, Any] | None,
        unloaded: frozenset[str] | None,
        tracked: bool,
    ) -> None:
        """Let an object be what it was before a flush."""
        mapping = class_map(type(instance))
        if self._is_stored(instance):
            self.identities.discard(mapping, vars(instance)[RAW]["_id"])
        state = vars(instance)
        expired = state.get(UNLOADED, frozenset[str]())
        state.pop(RAW, None)
        state.pop(GONE, None)
        if gone is not None:
            setattr(instance, GONE, gone)
        if unloaded is not None:
            make_partial(mapping, instance, unloaded)
        elif UNLOADED in state:
            make_whole(mapping, instance)
        if before is None:
            documents.show_version(mapping, instance, gone or {})
            return
        setattr(instance, RAW, before)
        if tracked:
            self.identities.of(mapping)[identity(before["_id"])] = instance
        else:
            documents.recall(instance, expired)


def by_class(objects: Collection[object]) -> dict[ClassMap, list[Any]]:
    """The objects by class, in order."""
    kinds = set(map(type, objects))
    if len(kinds) == 1:
        return {class_map(kinds.pop()): list(objects)}
    groups: dict[ClassMap, list[Any]] = {}
    for instance in objects:
        groups.setdefault(class_map(type(instance)), []).append(instance)
    return groups


def _before(mapping: ClassMap, instances: Iterable[Document]) -> list[_Before]:
    """The objects with what an undo gives back to them."""
    if has_getattr(mapping.cls):
        states = [(instance, vars(instance)) for instance in instances]
        return [(instance, state.get(RAW), state.get(GONE), state.get(UNLOADED)) for instance, state in states]
    # without touching __dict__, which takes time and memory
    return [(one, getattr(one, RAW, None), getattr(one, GONE), getattr(one, UNLOADED, None)) for one in instances]


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


def _raw(instance: object) -> dict[str, Any] | None:
    """The snapshot of a stored object."""
    return vars(instance).get(RAW)


def _document_map(instance: object) -> ClassMap:
    if not isinstance(instance, Document):
        raise SessionError(f"a session holds documents, not {type(instance).__name__} {instance!r}")
    return class_map(type(instance))


def _outside(mapping: ClassMap) -> SessionError:
    message = f"this {mapping.name} is not in the session; load it here, or add() it first"
    return SessionError(message, document_class=mapping.cls)


def _not_new(instance: Document, caller: str, why: str) -> SessionError:
    mapping = class_map(type(instance))
    key = documents.key_of(mapping, instance)
    message = f"{caller} takes new objects, and {mapping.name} {key!r:.80} {why}"
    return SessionError(message, document_class=mapping.cls, key=key)


def _elsewhere(instance: Document) -> SessionError:
    mapping = class_map(type(instance))
    key = documents.key_of(mapping, instance)
    advice = "in another session; expunge() it there, or close that session, first"
    return SessionError(f"{mapping.name} {key!r} is {advice}", document_class=mapping.cls, key=key)
