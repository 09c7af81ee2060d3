"""What the relationships of a session's objects show, and which of it is new."""

from __future__ import annotations

from typing import Any, TypeAlias

from superorm.expr.narrow import is_list
from superorm.schema.document import Document
from superorm.schema.relationships import LINKS, Relationship
from superorm.schema.state import GONE, RAW
from superorm.unitofwork.links import held_key, is_quiet, key_or_none, map_of, related_objects, state_of
from superorm.unitofwork.tracking import Tracker, by_class

__all__ = ["Shown", "cascade", "related_changes", "shown"]

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


def cascade(tracker: Tracker) -> tuple[list[Shown], list[Shown]]:
    """Add the new objects that others refer to; what all show then, and of this what is not as it was before.

    Raises `ValidationError` for relationships that show what is none of their class, `SessionError` as `add` does.
    """
    loaded, noisy = shown(tracker), list[Shown]()
    for relation, instance in loaded:  # which grows
        if is_quiet(relation, instance):
            continue
        noisy.append((relation, instance))
        for other in related_objects(relation, instance):
            state = state_of(other)
            if RAW in state or GONE in state or id(other) in tracker.new or not relation.cascades("save-update"):
                continue
            tracker.add(other)
            loaded += [(inner, other) for name, inner in map_of(other).relationships.items() if name in state]
    return loaded, noisy


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
