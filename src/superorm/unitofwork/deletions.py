"""What becomes of the objects that belong to deleted ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from superorm.schema.relationships import Relationship
from superorm.unitofwork.link_history import LinkHistory
from superorm.unitofwork.links import held_key, own_key
from superorm.unitofwork.moves import check_none
from superorm.unitofwork.settling import arrivals
from superorm.unitofwork.tracking import Tracker, by_class

__all__ = ["deleted_parents", "parents_deleted"]


def deleted_parents(tracker: Tracker, done: set[int]) -> list[tuple[Relationship, list[Any]]]:
    """The relationships of deleted objects that are not in `done`, to which these are added."""
    deleted = [instance for key, instance in tracker.deleted.items() if key not in done]
    done.update(map(id, deleted))
    return [
        (relation, instances)
        for mapping, instances in (by_class(deleted) if deleted else {}).items()
        for relation in mapping.relationships.values()
        if relation.is_list or relation.cascades("delete")
    ]


def parents_deleted(
    tracker: Tracker, history: LinkHistory, relation: Relationship, parents: Sequence[Any], found: Iterable[Any]
) -> None:
    """Delete what was `found` stored under the relationship of deleted objects, or let go of it.

    Raises `ValidationError` where a key cannot be None.
    """
    if not relation.is_list:
        for instance in found:
            tracker.delete(instance)
        return
    part, keys = relation.key, {own_key(parent) for parent in parents}
    arrived, _ = arrivals(tracker, relation)
    there = [*found, *(child for key in keys for child in arrived.get(key, ()))]
    for child in {id(child): child for child in there}.values():
        if held_key(child, part) not in keys or id(child) in tracker.deleted:
            continue
        if relation.cascades("delete"):
            tracker.delete(child)
        else:
            check_none(child, part, f"it belonged to {relation.mapping.name}, which is deleted")
            history.set_key(child, part.attribute, None)
