"""What relationships make of a session's objects: keys that a flush sets, objects that it adds and deletes.

An object keeps what its relationships showed when they were loaded or flushed, beside what they show now;
the difference is what the user did.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from types import NoneType
from typing import Any, TypeAlias

from attrs import frozen

from superorm.codec.documents import has_changed, key_of, possibly_changed
from superorm.exc import SessionError, ValidationError
from superorm.expr.narrow import is_list
from superorm.schema.document import Document
from superorm.schema.mapping import ClassMap, MappedField, class_map
from superorm.schema.relationships import LINKS, Relationship
from superorm.schema.state import GONE, RAW, is_shown, is_unloaded
from superorm.unitofwork.arguments import documents_in
from superorm.unitofwork.graphs import reached
from superorm.unitofwork.identity import identity
from superorm.unitofwork.links import held_key, is_quiet, is_set, map_of, named, own_key, related_objects, state_of
from superorm.unitofwork.tracking import Tracker, by_class

__all__ = ["Relations", "with_referred"]

_Name: TypeAlias = tuple[int, str]
"""Of a key field of an object: the object's id, and the attribute."""


@frozen(eq=False)
class _Move:
    """A key to be set: to that of `parent`, or to None."""

    child: Any
    part: MappedField
    parent: Any
    why: str
    """What the user changed, for messages."""
    weak: bool = False
    """Whether another change of the same key, which says where it goes, comes first."""


class Relations:
    """The relationships of a session's objects, and how to undo what flushes made of them."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._before: dict[int, tuple[Any, dict[str, Any] | None]] = {}
        """The objects whose links were changed since the last commit, with what they were."""
        self._moves: dict[_Name, _Move] = {}
        self._loaded: list[tuple[Relationship, Any]] = []
        """What the session's objects show, of the flush that is under way."""
        self._noisy: list[tuple[Relationship, Any]] = []
        """Of these what shows something else than before."""

    def concern(self, new: Iterable[ClassMap]) -> bool:
        """Whether there are objects with relationships; `new` are the classes of the new ones."""
        return any(mapping.relationships for mapping in new) or any(
            root.related for root, _ in self._tracker.identities
        )

    def synchronize(self) -> None:
        """Add the new objects that others refer to, set keys as the relationships say, mark orphans for deletion.

        Raises `ValidationError` where relationships and keys contradict one another, `SessionError` as `add` does.
        """
        self.cascade()
        for relation, instance in self._noisy:
            if relation.is_list:
                self._compare_list(relation, instance)
            else:
                self._compare_one(relation, instance)
        for move in list(self._moves.values()):
            self._carry_out(move)

    def cascade(self) -> None:
        """Add the new objects that others refer to. Raises as `synchronize` does."""
        self._moves, self._noisy = {}, []
        self._loaded = self._cascaded()

    def settle(self) -> None:
        """Make all loaded relationships agree with the keys, undoably."""
        moved: dict[tuple[ClassMap, str], tuple[dict[Any, list[Any]], set[Any]]] = {}
        for relation, instance in self._loaded:
            if relation.is_list:
                name = (relation.target, relation.spec.key)
                if name not in moved:
                    moved[name] = self._moved(relation)
                self._settle_list(relation, instance, *moved[name])
            else:
                self._settle_one(relation, instance)

    def add(self, instance: Document) -> None:
        """Track an object, and the stored ones that its loaded relationships show; new ones are added by the flush.

        Raises `SessionError` as `Tracker.add` does, with none of them tracked.
        """
        tracker = self._tracker
        below = [one for one in _shown_by(instance) if RAW in state_of(one) and one not in tracker]
        try:
            for one in (*below, instance):
                tracker.add(one)
        except SessionError:
            for one in below:
                tracker.expunge(one)
            raise

    def add_all(self, instances: Iterable[Document]) -> None:
        """`add` each. Raises `SessionError`."""
        objects, kinds = documents_in(instances, "add_all()")
        if not any(class_map(kind).relationships for kind in kinds):
            self._tracker.add_all(objects)
            return
        for instance in objects:
            self.add(instance)

    def expunge(self, instance: Document) -> None:
        """Forget an object, and what cascades from it. Raises `SessionError` for what is no document."""
        self._tracker.expunge(instance)
        for other in reached(instance, "expunge"):
            self._tracker.expunge(other)

    def expire(self, instance: Document, attributes: Collection[str] | None = None) -> None:
        """Forget values of an object; where that is all of them, also of what cascades from it.

        Raises `SessionError`.
        """
        self._tracker.check_stored(instance, "expire()")
        if attributes is None:
            self.expire_below(instance)
        self._tracker.expire(instance, attributes)

    def expire_below(self, instance: Document) -> None:
        """Forget the values of what cascades from an object."""
        tracker = self._tracker
        for other in reached(instance, "refresh-expire"):
            if other is not instance and RAW in state_of(other) and other in tracker:
                tracker.expire(other)

    def changed(self) -> list[Any]:
        """The stored objects whose relationships show something else than before, and those whose keys that changes."""
        found: dict[int, Any] = {}
        for relation, instance in self._shown():
            if is_quiet(relation, instance):
                continue
            state = state_of(instance)
            value: object = state[relation.attribute]
            before: Any = state.get(LINKS, {}).get(relation.attribute)
            moved: list[Any] = []
            if is_list(value) and relation.is_list:
                old, now = ({id(one): one for one in shown} for shown in (before or (), value))
                moved = [one for name, one in {**old, **now}.items() if name not in old or name not in now]
                differs = bool(moved) or before is None
            else:
                key = own_key(value) if isinstance(value, Document) else None
                differs = (value is not None and key is None) or key != held_key(instance, relation.key)
            for one in (instance, *moved) if differs else ():
                if isinstance(one, Document) and RAW in state_of(one) and one in self._tracker:
                    found[id(one)] = one
        return [one for name, one in found.items() if name not in self._tracker.deleted]

    def remember(self, instance: Any) -> None:
        """Keep what the object's relationships were, for a rollback."""
        if id(instance) not in self._before:
            self._before[id(instance)] = (instance, state_of(instance).get(LINKS))

    def committed(self) -> None:
        """Nothing so far can be undone any more."""
        self._before.clear()
        self._loaded, self._noisy, self._moves = [], [], {}

    def rolled_back(self) -> None:
        """The relationships of stored objects show what they did when last loaded or committed."""
        for instance, links in self._before.values():
            state_of(instance).pop(LINKS, None)
            if links is not None:
                state_of(instance)[LINKS] = links
        changed = [instance for instance, _ in self._before.values()]
        touched = [(relation, one) for one in changed for relation in map_of(one).relationships.values()]
        for relation, instance in [*touched, *self._shown()]:
            state, name = state_of(instance), relation.attribute
            if RAW not in state:
                continue
            links = state.get(LINKS, {})
            if name not in links:
                state.pop(name, None)
            elif relation.is_list:
                shown = state.get(name)
                state[name] = shown if is_list(shown) else []
                state[name][:] = links[name]
            else:
                state[name] = links[name][0]
        self.committed()

    # Deleting

    def deleted_parents(self, done: set[int]) -> list[tuple[Relationship, list[Any]]]:
        """The relationships of deleted objects that are not in `done`, to which these are added."""
        deleted = [instance for key, instance in self._tracker.deleted.items() if key not in done]
        done.update(map(id, deleted))
        return [
            (relation, instances)
            for mapping, instances in (by_class(deleted) if deleted else {}).items()
            for relation in mapping.relationships.values()
            if relation.is_list or relation.cascades("delete")
        ]

    def parents_deleted(self, relation: Relationship, parents: Sequence[Any], found: Iterable[Any]) -> None:
        """Delete what was `found` stored under the relationship of deleted objects, or let go of them.

        Raises `ValidationError` where a key cannot be None.
        """
        tracker = self._tracker
        if not relation.is_list:
            for instance in found:
                tracker.delete(instance)
            return
        part, keys = relation.key, {own_key(parent) for parent in parents}
        arrived, _ = self._moved(relation)
        there = [*found, *(child for key in keys for child in arrived.get(key, ()))]
        for child in {id(child): child for child in there}.values():
            if held_key(child, part) not in keys or id(child) in tracker.deleted:
                continue
            if relation.cascades("delete"):
                tracker.delete(child)
            else:
                _check_none(child, part, f"{relation.mapping.name}, which is deleted")
                setattr(child, part.attribute, None)

    # What the user did

    def _shown(self) -> list[tuple[Relationship, Any]]:
        """The relationships that objects of the session show."""
        groups = [
            group
            for root, objects in self._tracker.identities
            if root.related
            for group in by_class(objects.values()).items()
        ]
        return [
            (relation, one)
            for mapping, instances in [*groups, *self._tracker.new_by_class().items()]
            for name, relation in mapping.relationships.items()
            for one in instances
            if name in one.__dict__
        ]

    def _cascaded(self) -> list[tuple[Relationship, Any]]:
        """The same, once the objects that they refer to are in the session too."""
        tracker = self._tracker
        loaded = self._shown()
        for relation, instance in loaded:  # which grows
            if is_quiet(relation, instance):
                continue
            self._noisy.append((relation, instance))
            for other in related_objects(relation, instance):
                state = state_of(other)
                if RAW in state or GONE in state or id(other) in tracker.new or not relation.cascades("save-update"):
                    continue
                tracker.add(other)
                loaded += [(inner, other) for name, inner in map_of(other).relationships.items() if name in state]
        return loaded

    def _compare_one(self, relation: Relationship, instance: Any) -> None:
        """A many-to-one that shows another object than before says what the key is to be."""
        mapping, state = relation.mapping, state_of(instance)
        value = state[relation.attribute]
        if value is None and RAW not in state:
            return  # as if it had not been given
        where = f"{mapping.name} {key_of(mapping, instance)!r}: {relation.attribute}"
        gone = value is not None and (id(value) in self._tracker.deleted or GONE in state_of(value))
        if gone and id(value) not in self._tracker.new and id(instance) not in self._tracker.deleted:
            raise ValidationError(
                f"{where} was set to {named(value)}, which is deleted; set it to another one, or to None",
                document_class=mapping.cls,
                key=key_of(mapping, instance),
                field=relation.attribute,
            )
        self._propose(_Move(instance, relation.key, value, f"{where} was set to {named(value)}"))

    def _compare_list(self, relation: Relationship, instance: Any) -> None:
        """Objects that came to a list say that their keys are to be its object's, those that left it None."""
        mapping, state = relation.mapping, state_of(instance)
        children = related_objects(relation, instance)
        links: dict[str, Any] = state.get(LINKS, {})
        where = f"{mapping.name} {key_of(mapping, instance)!r}: {relation.attribute}"
        if relation.attribute not in links and RAW in state:
            raise ValidationError(
                f"{where} was replaced without being loaded, so what left it is not known; "
                f"load it with selectinload({relation.where}) first",
                document_class=mapping.cls,
                key=key_of(mapping, instance),
                field=relation.attribute,
            )
        before: Sequence[Any] = links.get(relation.attribute, ())
        old, now = {id(one) for one in before}, {id(one) for one in children}
        for child in children:
            if id(child) not in old:
                if RAW in state_of(child) and child not in self._tracker:
                    self._tracker.add(child)
                why = f"{named(child)} was added to {where}"
                self._propose(_Move(child, relation.key, instance, why))
        for child in before:
            if id(child) not in now and RAW in state_of(child) and id(child) not in self._tracker.deleted:
                child = self._tracker.identities.get(relation.target, state_of(child)[RAW]["_id"])
                if child is None:
                    continue  # it was expunged
                known = is_shown(relation.key, state_of(child))
                if known and held_key(child, relation.key) != own_key(instance):
                    continue  # it has gone elsewhere
                why = f"{named(child)} was removed from {where}"
                self._propose(_Move(child, relation.key, None, why, weak=True))
            elif id(child) not in now and id(child) in self._tracker.new:
                self._propose(_Move(child, relation.key, None, where, weak=True))

    def _propose(self, move: _Move) -> None:
        name = (id(move.child), move.part.attribute)
        other = self._moves.get(name)
        if other is None or (other.weak and not move.weak):
            self._moves[name] = move
        elif not move.weak and _key_or_none(other.parent) != _key_or_none(move.parent):
            if other.parent is None or move.parent is None:  # taken from one, given to another
                self._moves[name] = move if other.parent is None else other
                return
            raise _contradiction(move, f"{other.why}, and {move.why}")

    def _carry_out(self, move: _Move) -> None:
        """Set the key, unless the user did."""
        child, part = move.child, move.part
        key = None if move.parent is None else own_key(move.parent)
        now = held_key(child, part)
        if now == key and is_shown(part, state_of(child)):
            return
        if is_set(child, part):
            if move.weak:
                return
            raise _contradiction(move, f"{move.why}, and {part.attribute} to {getattr(child, part.attribute)!r}")
        if move.parent is not None:
            parent_key = map_of(move.parent).key
            setattr(child, part.attribute, getattr(move.parent, parent_key.attribute))
            return
        if move.weak and self._is_orphan(child, part):
            self._tracker.delete(child)
            return
        _check_none(child, part, move.why)
        setattr(child, part.attribute, None)

    def _is_orphan(self, child: Any, part: MappedField) -> bool:
        """Whether a list that it left deletes its orphans."""
        for relation, instance in self._noisy:
            if relation.is_list and relation.cascades("delete-orphan") and relation.key.attribute == part.attribute:
                before: Sequence[Any] = state_of(instance).get(LINKS, {}).get(relation.attribute, ())
                if any(one is child for one in before):
                    return True
        return False

    # What the relationships show afterwards

    def _moved(self, relation: Relationship) -> tuple[dict[Any, list[Any]], set[Any]]:
        """The objects of a list's class whose keys are to be written, by key, and the keys that objects leave.

        Among the latter is None where that is not known of one.
        """
        tracker, part, cls = self._tracker, relation.key, relation.target.cls
        stored = tracker.identities.of(relation.target).values()
        groups = by_class(stored) if stored else {}
        changed = [one for mapping, found in groups.items() for one in possibly_changed(mapping, found)]
        changed = [one for one in changed if isinstance(one, cls) and has_changed(part, one)]
        gone = [one for one in tracker.deleted.values() if isinstance(one, cls)]
        states = [state_of(one) for one in [*changed, *gone] if RAW in state_of(one)]
        left = {None if is_unloaded(part, state) else identity(state[RAW].get(part.stored)) for state in states}
        new = [one for one in tracker.new.values() if isinstance(one, cls)]
        arrived: dict[Any, list[Any]] = {}
        for child in [*changed, *new]:
            if id(child) not in tracker.deleted:
                arrived.setdefault(held_key(child, part), []).append(child)
        return arrived, left

    def _settle_list(
        self, relation: Relationship, instance: Any, arrived: dict[Any, list[Any]], left: set[Any]
    ) -> None:
        key, part, deleted = own_key(instance), relation.key, self._tracker.deleted
        if key not in arrived and left.isdisjoint((key, None)) and is_quiet(relation, instance):
            return
        shown: list[Any] = state_of(instance)[relation.attribute]
        kept = [
            child
            for child in shown
            if id(child) not in deleted
            and GONE not in state_of(child)
            and (held_key(child, part) == key or not is_shown(part, state_of(child)))
        ]
        there = {id(child) for child in kept}
        kept += [child for child in arrived.get(key, ()) if id(child) not in there]
        if len(kept) != len(shown) or any(one is not other for one, other in zip(kept, shown, strict=True)):
            shown[:] = kept
        self._link(instance, relation.attribute, tuple(kept))

    def _link(self, instance: Any, name: str, shown: tuple[Any, ...] | None) -> None:
        """Keep what a relationship shows now; None where it is not loaded any more."""
        links: dict[str, Any] = state_of(instance).get(LINKS, {})
        if links.get(name) != shown:
            self.remember(instance)
            links = {other: before for other, before in links.items() if other != name}
            state_of(instance)[LINKS] = links if shown is None else {**links, name: shown}

    def _settle_one(self, relation: Relationship, instance: Any) -> None:
        state, name, part = state_of(instance), relation.attribute, relation.key
        value, key = state[name], held_key(instance, part)
        if state.get(LINKS, {}).get(name) == (value, key):
            return
        if _key_or_none(value) != key:
            move = self._moves.get((id(instance), part.attribute))
            if move is None or not isinstance(move.parent, relation.target.cls) or own_key(move.parent) != key:
                del state[name]
                self._link(instance, name, None)
                return
            state[name] = value = move.parent
        self._link(instance, name, (value, key))


def _shown_by(instance: object) -> list[Any]:
    """What an object's loaded relationships show that comes into a session with it."""
    return reached(instance, "save-update")[1:] if isinstance(instance, Document) else []


def with_referred(objects: Iterable[Document]) -> list[Document]:
    """New objects that no session tracks, and those that they refer to, their keys set as the relationships say.

    Raises `SessionError` for lists that hold stored objects, whose keys would have to be written too.
    """
    tracker = Tracker()
    tracker.new.update((id(one), one) for one in objects)
    relations = Relations(tracker)
    relations.cascade()
    for one in tracker.new.values():
        for name, relation in map_of(one).relationships.items():
            for child in related_objects(relation, one) if relation.is_list and name in state_of(one) else ():
                if RAW in state_of(child):
                    raise SessionError(
                        f"bulk_insert() writes new objects only, and {named(child)} is stored; use add() instead"
                    )
    relations.synchronize()
    found = list(tracker.new.values())
    tracker.clear()
    return found


def _key_or_none(instance: Any) -> Any:
    return None if instance is None else own_key(instance)


def _check_none(child: Any, part: MappedField, why: str) -> None:
    """Raise `ValidationError` where a key cannot be None."""
    if NoneType not in part.type.reads:
        mapping = map_of(child)
        raise ValidationError(
            f"{mapping.name} {key_of(mapping, child)!r}: {part.attribute} cannot be None, but it belonged to {why}; "
            "declare it as Mapped[... | None], delete the object too, or give its relationship cascade='all'",
            document_class=mapping.cls,
            key=key_of(mapping, child),
            field=part.attribute,
        )


def _contradiction(move: _Move, what: str) -> ValidationError:
    mapping = map_of(move.child)
    return ValidationError(
        f"{what}; change one of them only",
        document_class=mapping.cls,
        key=key_of(mapping, move.child),
        field=move.part.attribute,
    )
