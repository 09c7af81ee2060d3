"""What a session's objects were before what it wrote since the last commit, for a rollback."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from superorm.codec import documents
from superorm.schema.document import Document
from superorm.schema.fields import MISSING
from superorm.schema.mapping import ClassMap, class_map
from superorm.schema.partial import make_partial, make_whole
from superorm.schema.relationships import LINKS
from superorm.schema.state import GONE, RAW, UNLOADED, has_getattr
from superorm.unitofwork.holding import Holder
from superorm.unitofwork.identity import identities, identity

__all__ = ["Before", "Undo", "states_before"]

Before: TypeAlias = tuple[Document, dict[str, Any] | None, dict[str, Any] | None, frozenset[str] | None]
"""An object, and before a write its snapshot, that of a deleted one, and what was not loaded."""


class Undo(Holder):
    """The objects of one session, and what they were."""

    def __init__(self) -> None:
        super().__init__()
        self._undo: list[Before] = []
        """What there was before each flush since the last commit."""
        self._expunged: dict[int, Document] = {}
        """Objects that were expunged since: an undo gives back to them what they were, but does not track them."""
        self._unsure: list[tuple[ClassMap, Any, int]] | None = None
        """What was read since a statement wrote in a transaction, or an object was expunged, that can be undone.

        With the number of undoable changes before: one among these was of a state that is not unsure.
        """
        self._forgotten: dict[int, dict[str, Any]] = {}
        """The snapshots of objects that expired since there was something to undo."""
        self._inserted: dict[str | None, list[Any]] = {}
        """The keys that statements inserted since, by collection, where surely none of these was there before."""
        self._thinned: set[str | None] = set()
        """The collections from which statements deleted documents since."""
        self._removed: dict[str | None, set[Any]] = {}
        """The `identity` of documents that were deleted otherwise since, by collection."""

    @property
    def undoable(self) -> bool:
        """Whether something was flushed, or inserted by a statement in a transaction, since the last commit."""
        return bool(self._undo or self._inserted)

    def forgotten(self, instance: object, attribute: str) -> Any:
        """The value of a field that expired since there was something to undo; `MISSING` where there is none."""
        part = class_map(type(instance)).by_attribute.get(attribute)
        raw = self._forgotten.get(id(instance), {})
        return MISSING if part is None or part.stored not in raw else part.type.from_bson(raw[part.stored])

    def reread(self, mapping: ClassMap, instances: Iterable[Any]) -> None:
        """These objects show their documents as they were read just now."""
        if self._unsure is not None:
            count = len(self._undo)
            self._unsure += [(mapping, instance, count) for instance in instances]

    def refreshed(self, found: Iterable[tuple[Document, dict[str, Any]]]) -> None:
        """These documents are stored now: attributes that the user did not change show it, undoably."""
        for instance, document in found:
            self._undo += states_before(class_map(type(instance)), (instance,))
            documents.refresh(instance, document)

    def be_unsure(self) -> None:
        """From now on documents that are loaded may hold what a rollback takes back, unknown to their objects."""
        if self._unsure is None:
            self._unsure = []

    def inserted(self, collection: str | None, keys: Iterable[Any]) -> None:
        """A statement inserted documents with these keys, undoably."""
        if collection not in self._thinned:
            removed = self._removed.get(collection)
            new = [key for key in keys if identity(key) not in removed] if removed else keys
            self._inserted.setdefault(collection, []).extend(new)

    def thinned(self, collection: str | None) -> None:
        """A statement deleted documents of the collection: those inserted from now on may have been there before."""
        self._thinned.add(collection)

    def committed(self) -> None:
        """Nothing flushed so far can be undone any more."""
        self._undo.clear()
        self._gone.clear()
        self._expunged.clear()
        self._forgotten.clear()
        self._inserted.clear()
        self._thinned.clear()
        self._removed.clear()
        self._unsure = None

    def _read_unsurely(self) -> list[tuple[ClassMap, Any]]:
        """The objects that were read when this was unsure, and to which no earlier state is given back."""
        if not self._unsure:
            return []
        first: dict[int, int] = {}
        for number, (instance, *_) in enumerate(self._undo):
            first.setdefault(id(instance), number)
        return [(mapping, one) for mapping, one, count in self._unsure if first.get(id(one), count) >= count]

    def _never_stored(self, unsure: Iterable[tuple[ClassMap, Any]]) -> list[Before]:
        """What to give back to those of the objects whose documents were only inserted by statements.

        An object that was loaded in part, and so cannot be stored as it is, becomes one whose document was deleted.
        """
        if not self._inserted:
            return []
        inserted = {collection: set(identities(keys)) for collection, keys in self._inserted.items()}
        found: list[Before] = []
        for mapping, instance in unsure:
            state: dict[str, Any] = instance.__dict__
            raw: dict[str, Any] = state.get(RAW) or state[GONE]
            if identity(raw["_id"]) in inserted.get(mapping.collection, ()):
                state.pop(LINKS, None)
                unloaded: frozenset[str] = state.get(UNLOADED, frozenset[str]())
                lacks = {mapping.by_attribute[name].stored for name in unloaded}
                whole = lacks <= self._forgotten.get(id(instance), {}).keys()
                found.append((instance, None, None, None) if whole else (instance, None, raw, unloaded))
        return found

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


def states_before(mapping: ClassMap, instances: Iterable[Document]) -> list[Before]:
    """The objects with what an undo gives back to them."""
    if has_getattr(mapping.cls):
        states = [(instance, vars(instance)) for instance in instances]
        return [(instance, state.get(RAW), state.get(GONE), state.get(UNLOADED)) for instance, state in states]
    # without touching __dict__, which takes time and memory
    return [(one, getattr(one, RAW, None), getattr(one, GONE), getattr(one, UNLOADED, None)) for one in instances]
