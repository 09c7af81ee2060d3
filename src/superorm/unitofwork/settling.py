"""Loaded relationships after a flush set keys: what they show then."""

from __future__ import annotations

from typing import Any, TypeAlias

from attrs import frozen

from superorm.codec.documents import has_changed, possibly_changed
from superorm.schema.fields import MISSING
from superorm.schema.relationships import LINKS, Relationship
from superorm.schema.state import GONE, RAW, is_shown, is_unloaded
from superorm.unitofwork.identity import identity
from superorm.unitofwork.link_history import LinkHistory
from superorm.unitofwork.links import held_key, is_quiet, key_or_none, own_key, state_of
from superorm.unitofwork.moves import Moves
from superorm.unitofwork.shown import Shown
from superorm.unitofwork.tracking import Tracker, by_class

__all__ = ["Settling", "arrivals"]

_Arrivals: TypeAlias = tuple[dict[Any, list[Any]], set[Any]]


@frozen
class Settling:
    """The relationships that a session's objects show, once their keys are set."""

    tracker: Tracker
    history: LinkHistory
    loaded: list[Shown]
    moves: Moves

    def settle(self) -> None:
        """Make them agree with the keys, undoably."""
        known: dict[tuple[type, str], _Arrivals] = {}
        for relation, instance in self.loaded:
            if not relation.is_list:
                self._settle_one(relation, instance)
                continue
            name = (relation.target.cls, relation.spec.key)
            if name not in known:
                arrived, left = arrivals(self.tracker, relation)
                known[name] = arrived, left | self.history.parents(relation.key.attribute)
            self._settle_list(relation, instance, *known[name])

    def _settle_list(
        self, relation: Relationship, instance: Any, arrived: dict[Any, list[Any]], left: set[Any]
    ) -> None:
        key, part, deleted = own_key(instance), relation.key, self.tracker.deleted
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
            self.history.show(instance, relation.attribute, tuple(kept))
        self.history.keep(instance, relation.attribute, tuple(kept))

    def _settle_one(self, relation: Relationship, instance: Any) -> None:
        state, name, part = state_of(instance), relation.attribute, relation.key
        value, key = state[name], held_key(instance, part)
        if state.get(LINKS, {}).get(name) == (value, key):
            return
        if key_or_none(value) != key:
            move = self.moves.get((id(instance), part.attribute))
            if move is None or not isinstance(move.parent, relation.target.cls) or own_key(move.parent) != key:
                self.history.show(instance, name, MISSING)
                self.history.keep(instance, name, None)
                return
            value = move.parent
            self.history.show(instance, name, value)
        self.history.keep(instance, name, (value, key))


def arrivals(tracker: Tracker, relation: Relationship) -> _Arrivals:
    """The objects of a list's class whose keys are to be written, by key, and the keys that objects leave.

    Among the latter is None where that is not known of one.
    """
    part, cls = relation.key, relation.target.cls
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
