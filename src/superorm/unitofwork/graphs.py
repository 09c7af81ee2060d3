"""What a merge makes of loaded relationships: which objects it copies, and what these show."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

from superorm.schema.document import Document
from superorm.schema.mapping import ClassMap
from superorm.schema.relationships import Relationship
from superorm.schema.state import RAW
from superorm.unitofwork.links import held_key, is_loaded, is_set, map_of, own_key, related_objects, state_of

__all__ = ["loaded_graph", "relations_to_merge", "show_merged"]


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


def show_merged(relation: Relationship, given: Any, targets: dict[int, Any]) -> None:
    """Let the target of a given object show the targets of what that shows."""
    others = [targets.get(id(other), other) for other in related_objects(relation, given)]
    others = list({id(other): other for other in others}.values())
    target = targets[id(given)]
    state = state_of(target)
    if not relation.is_list:
        state[relation.attribute] = other = others[0] if others else None
        key = None if other is None else own_key(other)
        if not is_set(given, relation.key) and held_key(target, relation.key) != key:
            # the given object's own flush would have set it
            setattr(target, relation.spec.key, getattr(other, relation.target.key.attribute, None))
        return
    shown: list[Any] = state.setdefault(relation.attribute, [])
    if {id(other) for other in shown} != {id(other) for other in others}:
        shown[:] = others
