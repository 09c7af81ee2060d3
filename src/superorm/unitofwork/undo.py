"""What a session's objects were before what it wrote since the last commit, for a rollback."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from superorm.codec import documents
from superorm.schema.document import Document
from superorm.schema.fields import MISSING
from superorm.schema.mapping import ClassMap, class_map
from superorm.schema.partial import make_partial, make_whole
from superorm.schema.relationships import LINKS
from superorm.schema.state import GONE, RAW, UNLOADED
from superorm.unitofwork.identity import IdentityMap, identities, identity

__all__ = ["Undo"]

Before: TypeAlias = tuple[Document, dict[str, Any] | None, dict[str, Any] | None, frozenset[str] | None]
"""An object, and before a write its snapshot, that of a deleted one, and what was not loaded."""


class _States:
    """Many of these, in columns: the garbage collector would look at each tuple."""

    def __init__(self) -> None:
        self.objects: list[Document] = []
        self._snapshots: list[dict[str, Any] | None] = []
        self._gone: list[dict[str, Any] | None] = []
        self._unloaded: list[frozenset[str] | None] = []

    def __len__(self) -> int:
        return len(self.objects)

    def __iter__(self) -> Iterator[Before]:
        return zip(self.objects, self._snapshots, self._gone, self._unloaded, strict=True)

    def add(
        self,
        objects: Sequence[Document],
        snapshots: Sequence[dict[str, Any] | None],
        gone: Sequence[dict[str, Any] | None],
        unloaded: Sequence[frozenset[str] | None],
    ) -> None:
        self.objects += objects
        self._snapshots += snapshots
        self._gone += gone
        self._unloaded += unloaded

    def clear(self) -> None:
        for column in (self.objects, self._snapshots, self._gone, self._unloaded):
            column.clear()


class Undo:
    """What a session's objects were, and what else has happened to them and their documents since the last commit."""

    def __init__(self, identities: IdentityMap) -> None:
        self._identities = identities
        self._undo = _States()
        """What there was before each flush since the last commit."""
        self._written: set[int] = set()
        """The ids of the objects among the first of these."""
        self._counted = 0
        """How many of these that are."""
        self._expunged: dict[int, Document] = {}
        """Those of the objects that were expunged since: an undo gives back to them what they were, untracked."""
        self._unsure: list[tuple[Document, int]] | None = None
        """What was read since a statement wrote in a transaction, or an object that had been written was expunged.

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

    def stored(self) -> list[Document]:
        """The objects to which a rollback gives back that they are stored."""
        return [instance for instance, before, _, _ in self._undo if before is not None]

    def forgotten(self, instance: object, attribute: str) -> Any:
        """The value of a field that expired since there was something to undo; `MISSING` where there is none."""
        part = class_map(type(instance)).by_attribute.get(attribute)
        raw = self._forgotten.get(id(instance), {})
        return MISSING if part is None or part.stored not in raw else part.type.from_bson(raw[part.stored])

    def before(
        self, mapping: ClassMap, instances: Sequence[Document], snapshots: Sequence[dict[str, Any] | None]
    ) -> None:
        """These objects, which have these snapshots, are now to hold what was written of them."""
        objects: Sequence[Any] = instances
        gone = [one._superorm_gone for one in objects]
        unloaded: list[frozenset[str] | None] = [None] * len(instances)
        if set(map(type, instances)) != {mapping.cls}:  # some are partial
            unloaded = [vars(one).get(UNLOADED) for one in instances]
        self._undo.add(instances, snapshots, gone, unloaded)

    def before_deletion(self, mapping: ClassMap, instance: Document, raw: dict[str, Any]) -> None:
        """The document of this object, which had that snapshot, was deleted."""
        self._undo.add((instance,), (raw,), (None,), (vars(instance).get(UNLOADED),))
        self._removed.setdefault(mapping.collection, set()).add(identity(raw["_id"]))

    def before_expiry(self, instance: Document) -> None:
        """The object's values are about to expire; one that is outside again after a rollback has them back."""
        if self.undoable:
            self._forgotten[id(instance)] = {**self._forgotten.get(id(instance), {}), **vars(instance)[RAW]}

    def reread(self, instances: Iterable[Document]) -> None:
        """These objects show their documents as they were read just now."""
        if self._unsure is not None:
            count = len(self._undo)
            self._unsure += [(instance, count) for instance in instances]

    def refreshed(self, found: Iterable[tuple[Document, dict[str, Any]]]) -> None:
        """These documents are stored now: attributes that the user did not change show it, undoably."""
        for instance, document in found:
            self.before(class_map(type(instance)), (instance,), (vars(instance)[RAW],))
            documents.refresh(instance, document)

    def was_written(self, instance: object) -> bool:
        """Whether an undo gives something back to the object."""
        if self._counted < len(self._undo):
            self._written.update(map(id, self._undo.objects[self._counted :]))
            self._counted = len(self._undo)
        return id(instance) in self._written

    def left(self, instances: Collection[Document]) -> None:
        """These stored objects were expunged: nobody knows of what is loaded from now on whether they wrote it."""
        written = [instance for instance in instances if self.was_written(instance)]
        kept = written if self._unsure is None else instances
        self._expunged.update((id(instance), instance) for instance in kept)
        for instance in instances if self._forgotten else ():
            if id(instance) not in self._expunged:  # another object may have its id soon
                self._forgotten.pop(id(instance), None)
        if written:
            self.be_unsure()

    def came_back(self, instance: Document) -> None:
        """An object that may have been expunged is tracked again."""
        self._expunged.pop(id(instance), None)

    def be_unsure(self) -> None:
        """From now on documents that are loaded may hold what a rollback takes back, unknown to their objects."""
        if self._unsure is None:
            self._unsure = []

    def statement_inserted(self, collection: str | None, keys: Iterable[Any]) -> None:
        """A statement inserted documents with these keys, undoably."""
        if collection not in self._thinned:
            removed = self._removed.get(collection)
            new = [key for key in keys if identity(key) not in removed] if removed else keys
            self._inserted.setdefault(collection, []).extend(new)

    def statement_deleted(self, collection: str | None) -> None:
        """A statement deleted documents of the collection: those inserted from now on may have been there before."""
        self._thinned.add(collection)

    def clear(self) -> None:
        """Nothing so far can be undone any more."""
        self._undo.clear()
        self._written.clear()
        self._counted = 0
        self._expunged.clear()
        self._forgotten.clear()
        self._inserted.clear()
        self._thinned.clear()
        self._removed.clear()
        self._unsure = None

    def give_back(
        self, held_elsewhere: Callable[[Document], bool], *, doubtful: bool
    ) -> tuple[list[tuple[ClassMap, Any]], set[int]]:
        """Let all objects be what they were, and know nothing any more.

        Those that show what may never have been committed, by their classes;
        and the ids of those whose documents only a statement inserted, which are outside now.
        """
        unsure = [*self._read_unsurely(), *self._written_otherwise()]
        if doubtful:
            unsure += [(class_map(type(one)), one) for one, before, _, _ in self._undo if before is not None]
        never = [] if doubtful else self._never_stored(unsure)
        states = [*never, *self._undo]
        for instance, before, _, unloaded in states:
            if before is None and unloaded is None:
                self._remember(instance)
                documents.unpack(instance)
        for instance, before, gone, unloaded in reversed(states):
            tracked = id(instance) not in self._expunged
            if tracked or not held_elsewhere(instance):
                self._give_back(instance, before, gone, unloaded, tracked)
        self.clear()
        return unsure, {id(instance) for instance, *_ in never}

    def _read_unsurely(self) -> list[tuple[ClassMap, Any]]:
        """The objects that were read when this was unsure, and to which no earlier state is given back."""
        if not self._unsure:
            return []
        first: dict[int, int] = {}
        for number, instance in enumerate(self._undo.objects):
            first.setdefault(id(instance), number)
        unsure = [one for one, count in self._unsure if first.get(id(one), count) >= count]
        return [(class_map(type(one)), one) for one in unsure]

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
        roots = [root for root, _ in self._identities]
        if len({root.collection for root in roots}) == len(roots):
            return []
        written: dict[str | None, dict[Any, dict[int, Document]]] = {}  # a document's objects, the first writer first
        for instance, before, gone, _ in self._undo:
            state = vars(instance)
            raw: dict[str, Any] = before or gone or state.get(RAW) or state.get(GONE) or {}
            same = written.setdefault(class_map(type(instance)).collection, {})
            same.setdefault(identity(raw.get("_id")), {}).setdefault(id(instance), instance)
        for root, objects in self._identities:
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
        state = vars(instance)
        if self._identities.holds(instance):
            self._identities.discard(mapping, state[RAW]["_id"])
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
            self._identities.of(mapping)[identity(before["_id"])] = instance
        else:
            documents.recall(instance, expired)
