"""What the relationships of a session's objects show, and which of it is new."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import is_not
from typing import Any, TypeAlias

from superorm.expr.narrow import is_list
from superorm.schema.document import Document
from superorm.schema.relationships import LINKS, Relationship
from superorm.schema.state import GONE, RAW
from superorm.unitofwork.links import held_key, is_quiet, key_or_none, map_of, related_objects, state_of
from superorm.unitofwork.tracking import Tracker, by_class

__all__ = ["Shown", "cascade", "related_changes", "separate", "shown"]

Shown: TypeAlias = tuple[Relationship, Any]
"""A relationship, and an object that shows it."""


def shown(tracker: Tracker) -> list[Shown]:
    """The relationships that objects of the session show."""
    groups = [
        group for root, objects in tracker.identities if root.related for group in by_class(objects.values()).items()
    ]
    return [
        (relation, one)
        for mapping, instances in [*groups, *tracker.new_by_class().items()]
        for name, relation in mapping.relationships.items()
        for one in instances
        if name in one.__dict__
    ]


def separate(slots: Iterable[Shown]) -> None:
    """Give each of the relationships a list of its own, where one was given to several; the first one keeps it."""
    holders: dict[int, Shown] = {}
    for slot in slots:
        relation, instance = slot
        value: object = state_of(instance).get(relation.attribute)
        if is_list(value) and any(map(is_not, holders.setdefault(id(value), slot), slot)):
            state_of(instance)[relation.attribute] = list(value)


def cascade(tracker: Tracker, *, stored: bool = True) -> tuple[list[Shown], list[Shown]]:
    """Add the objects that others refer to since; what all show then, and of this what is not as it was before.

    With ``stored=False`` only new ones are added.
    Each list is a relationship's own then, so that an edit of one leaves the others as they are.
    Raises `ValidationError` for relationships that show what is none of their class, `SessionError` as `add` does.
    """
    loaded, noisy = shown(tracker), list[Shown]()
    followed: set[tuple[int, str]] = set()
    for slot in loaded:  # which grows
        relation, instance = slot
        follow = bool(followed) and (id(instance), relation.attribute) in followed
        if not is_quiet(relation, instance):
            noisy.append(slot)
        elif not follow:
            continue
        for other in _arriving(tracker, relation, instance, stored, follow):
            tracker.add(other)
            inner = [one for name, one in map_of(other).relationships.items() if name in state_of(other)]
            loaded += [(one, other) for one in inner]
            followed.update((id(other), one.attribute) for one in inner if not _outweighs(relation, one))
    changed = {id(slot) for slot in noisy}
    lists = [slot for slot in loaded if slot[0].is_list]
    separate(sorted(lists, key=lambda slot: id(slot) in changed))
    return loaded, noisy


def _outweighs(relation: Relationship, inner: Relationship) -> bool:
    """Whether an object that came to a list leaves what its own relationship shows, as both are of one key."""
    return relation.is_list and not inner.is_list and relation.spec.key == inner.spec.key


def _arriving(tracker: Tracker, relation: Relationship, instance: Any, stored: bool, follow: bool) -> Iterator[Any]:
    """The objects outside of the session that a relationship brings into it.

    Those are the new ones, and if `stored` these too, whose changes would not be written otherwise;
    by a list without the cascade too, as their keys are to be written.
    What a list showed before counts only where the object came just now, and all is to `follow` it.
    """
    saves = relation.cascades("save-update")
    before: Any = state_of(instance).get(LINKS, {}).get(relation.attribute, ())
    settled = relation.is_list and RAW in state_of(instance) and not (follow and saves)
    old = {id(one) for one in before} if settled else set[int]()
    for other in related_objects(relation, instance):
        if RAW in state_of(other):
            if stored and (saves or relation.is_list) and id(other) not in old and other not in tracker:
                yield other
        elif saves and GONE not in state_of(other) and id(other) not in tracker.new:
            yield other


def related_changes(tracker: Tracker) -> list[Any]:
    """The stored objects whose relationships show something else than before, and those whose keys that changes."""
    found = {
        id(one): one
        for relation, instance in shown(tracker)
        if not is_quiet(relation, instance)
        for one in _touched(relation, instance)
        if isinstance(one, Document) and RAW in state_of(one) and one in tracker and id(one) not in tracker.deleted
    }
    return list(found.values())


def _touched(relation: Relationship, instance: Any) -> list[Any]:
    """The object, where its relationship shows something else than before, and what came to its list or left it."""
    state = state_of(instance)
    value: object = state[relation.attribute]
    if is_list(value) != relation.is_list:
        return [instance]  # which the flush refuses
    if is_list(value):
        before: Any = state.get(LINKS, {}).get(relation.attribute)
        old, now = ({id(one): one for one in objects} for objects in (before or (), value))
        moved = [one for name, one in {**old, **now}.items() if name not in old or name not in now]
        return [instance, *moved] if moved or before is None else []
    key = key_or_none(value) if value is None or isinstance(value, Document) else None
    differs = (value is not None and key is None) or key != held_key(instance, relation.key)
    return [instance] if differs else []
