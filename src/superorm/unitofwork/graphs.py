"""What a merge makes of loaded relationships: which objects it copies, and what these show."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Any

from superorm.schema.document import Document
from superorm.schema.mapping import ClassMap
from superorm.schema.relationships import Relationship
from superorm.schema.state import RAW
from superorm.unitofwork.link_history import LinkHistory
from superorm.unitofwork.links import (
    given_key,
    held_key,
    is_loaded,
    is_quiet,
    is_set,
    key_or_none,
    map_of,
    related_objects,
    state_of,
)
from superorm.unitofwork.shown import Shown, separate, shown
from superorm.unitofwork.tracking import Tracker

__all__ = ["loaded_graph", "relations_to_merge", "separate_lists", "show_merged"]


def loaded_graph(given: Iterable[Document], own: Container[object]) -> list[Document]:
    """The objects to merge: those given, and what they refer to by loaded relationships, that are not `own`.

    Raises `ValidationError` for relationships that show what is none of their class.
    """
    found = {id(one): one for one in given if one not in own}
    pending = list(found.values())
    for one in pending:  # which grows
        for relation in relations_to_merge(map_of(one), one):
            for other in related_objects(relation, one):
                if id(other) not in found and other not in own:
                    found[id(other)] = other
                    pending.append(other)
    return pending


def relations_to_merge(mapping: ClassMap, given: Any) -> list[Relationship]:
    """The relationships that an object shows; an empty one of a new object says nothing."""
    state = state_of(given)
    return [
        relation
        for name, relation in mapping.relationships.items()
        if relation.cascades("merge") and is_loaded(relation, given) and (RAW in state or state[name])
    ]


def separate_lists(tracker: Tracker, given: Sequence[Shown]) -> None:
    """Give each object a list of its own, before a merge edits those of the session, where the given ones show some."""
    if any(relation.is_list for relation, _ in given):
        separate([*shown(tracker), *given])


def show_merged(relation: Relationship, given: Any, targets: dict[int, Any], history: LinkHistory) -> None:
    """Let the target of a given object show the targets of what that shows."""
    others = [targets.get(id(other), other) for other in related_objects(relation, given)]
    others = list({id(other): other for other in others}.values())
    target = targets[id(given)]
    state = state_of(target)
    if not relation.is_list:
        state[relation.attribute] = other = others[0] if others else None
        if is_quiet(relation, given):  # what it shows is of its key, which the target has by now
            history.keep(target, relation.attribute, (other, held_key(target, relation.key)))
        elif not is_set(given, relation.key) and held_key(target, relation.key) != key_or_none(other):
            # the given object's own flush would have set it
            setattr(target, relation.spec.key, None if other is None else given_key(other))
        return
    there: list[Any] = state.setdefault(relation.attribute, [])
    if set(map(id, there)) != set(map(id, others)):
        there[:] = others
    for other in related_objects(relation, given):
        child = targets.get(id(other), other)
        if RAW in state_of(child) and RAW not in state_of(other) and not is_set(other, relation.key):
            setattr(child, relation.spec.key, given_key(target))  # as above
