"""What an object shows of its relationships, and what it showed when they were loaded or flushed."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from operator import is_
from typing import Any

from bson import ObjectId

from superorm.codec.documents import has_changed, key_of, stored_value
from superorm.exc import ValidationError
from superorm.expr.narrow import is_list
from superorm.expr.reprs import short_repr
from superorm.schema.document import Document
from superorm.schema.mapping import ClassMap, MappedField, class_map
from superorm.schema.relationships import LINKS, Relationship
from superorm.schema.state import GONE, RAW, is_shown
from superorm.unitofwork.identity import identity

__all__ = [
    "check_key",
    "given_key",
    "held_key",
    "is_loaded",
    "is_quiet",
    "is_set",
    "key_or_none",
    "link",
    "map_of",
    "named",
    "own_key",
    "place",
    "refused",
    "related_objects",
    "state_of",
    "wanted_keys",
]

_AS_THEY_ARE = (ObjectId, str, int)
"""Keys of these types are stored as they are."""


def related_objects(relation: Relationship, instance: Any) -> list[Any]:
    """The objects that a loaded relationship shows. Raises `ValidationError` for what is none of its class."""
    value: object = state_of(instance)[relation.attribute]
    cls = relation.target.cls
    if not relation.is_list and value is None:
        return []
    objects: list[Any] = value if is_list(value) else [value]
    if is_list(value) != relation.is_list or not all(isinstance(one, cls) for one in objects):
        raise _misfit(relation, instance, value)
    return objects


def _misfit(relation: Relationship, instance: Any, value: object) -> ValidationError:
    """The error of what a relationship cannot show: the first one of a list that is none of its class."""
    where, cls = place(relation, instance), relation.target.cls
    expected = f"a list of {cls.__name__}" if relation.is_list else f"{cls.__name__} or None"
    if relation.is_list and is_list(value):
        number, value = next((n, one) for n, one in enumerate(value) if not isinstance(one, cls))
        where, expected = f"{where}[{number}]", cls.__name__
    return refused(instance, relation.attribute, f"{where} is {expected}, not {short_repr(value)}")


def is_loaded(relation: Relationship, instance: Any) -> bool:
    """Whether an object shows the relationship; not where its key was changed since."""
    state = state_of(instance)
    if relation.attribute not in state:
        return False
    links: dict[str, Any] = state.get(LINKS, {})
    before = links.get(relation.attribute)
    if relation.is_list or before is None or before[0] is not state[relation.attribute]:
        return True
    return bool(before[1] == held_key(instance, relation.key))


def wanted_keys(relation: Relationship, instances: Iterable[Any]) -> dict[Any, Any]:
    """The stored keys by which to find what the relationship of the objects shows, by `identity`."""
    found: dict[Any, Any] = {}
    for instance in instances:
        mapping = map_of(instance)
        part = mapping.key if relation.is_list else mapping.by_attribute[relation.spec.key]
        value = getattr(instance, part.attribute)
        if type(value) in _AS_THEY_ARE and not part.checked:
            found[identity(value)] = value
        elif value is not None:
            stored = stored_value(mapping, part, instance, value)
            found[identity(stored)] = stored
    return found


def link(relation: Relationship, instances: Iterable[Any], others: Iterable[Any]) -> None:
    """Let the relationship of the objects show those of the `others` that belong to each."""
    if relation.is_list:
        groups: dict[Any, list[Any]] = {}
        for child in others:
            raw: dict[str, Any] = state_of(child)[RAW]
            groups.setdefault(identity(raw.get(relation.key.stored)), []).append(child)
        for instance in instances:
            found = groups.get(own_key(instance), [])
            state = state_of(instance)
            state[relation.attribute] = list(found)
            state[LINKS] = {**state.get(LINKS, {}), relation.attribute: tuple(found)}
        return
    by_key = {own_key(other): other for other in others}
    part, name = relation.key, relation.attribute
    for instance in instances:
        key = held_key(instance, part)
        other = None if key is None else by_key.get(key)
        state = state_of(instance)
        state[name] = other
        state[LINKS] = {**state.get(LINKS, {}), name: (other, key)}


def is_quiet(relation: Relationship, instance: object) -> bool:
    """Whether a relationship shows what it did when it was loaded or flushed; new parents, by the same keys."""
    state = state_of(instance)
    before: Any = state[LINKS].get(relation.attribute) if LINKS in state else None
    if before is None:
        return False
    value: object = state[relation.attribute]
    if not relation.is_list:
        return before[0] is value and (value is None or RAW in state_of(value) or before[1] == own_key(value))
    if not (is_list(value) and len(value) == len(before) and all(map(is_, value, before))):
        return False
    return RAW in state or all(held_key(child, relation.key) == own_key(instance) for child in value)


def state_of(instance: object) -> dict[str, Any]:
    return vars(instance)


def map_of(instance: object) -> ClassMap:
    return class_map(type(instance))


def held_key(instance: Any, part: MappedField) -> Any:
    """The `identity` of what a key field of an object holds, or None. Raises `ValidationError`."""
    value = state_of(instance).get(part.attribute)
    if type(value) in _AS_THEY_ARE and not part.checked:
        return identity(value)
    if not is_shown(part, state_of(instance)):
        return None
    value = getattr(instance, part.attribute, None)
    if value is None:
        return None
    mapping = map_of(instance)
    return identity(stored_value(mapping, mapping.by_attribute[part.attribute], instance, value))


def check_key(instance: Any, part: MappedField) -> None:
    """Raise `ValidationError` where a key field of an object holds what cannot be a key."""
    held_key(instance, part)


def is_set(instance: Any, part: MappedField) -> bool:
    """Whether the user set a key field to something since it was loaded."""
    if not is_shown(part, state_of(instance)):
        return False
    return has_changed(part, instance) if RAW in state_of(instance) else held_key(instance, part) is not None


def own_key(instance: Any) -> Any:
    """The `identity` of an object's key."""
    raw: dict[str, Any] | None = state_of(instance).get(RAW) or state_of(instance).get(GONE)
    return held_key(instance, map_of(instance).key) if raw is None else identity(raw["_id"])


def given_key(instance: Any) -> Any:
    """An object's key as others are to hold it: a copy, unless it cannot be changed in place."""
    value = getattr(instance, map_of(instance).key.attribute, None)
    return value if type(value) in _AS_THEY_ARE else deepcopy(value)


def key_or_none(instance: Any) -> Any:
    """The same, and None of None."""
    return None if instance is None else own_key(instance)


def named(instance: Any) -> str:
    """An object's class and key, for messages."""
    if not isinstance(instance, Document):
        return short_repr(instance)
    mapping = map_of(instance)
    return f"{mapping.name} {short_repr(key_of(mapping, instance))}"


def place(relation: Relationship, instance: Any) -> str:
    """A relationship of an object, for messages."""
    return f"{named(instance)}: {relation.attribute}"


def refused(instance: Any, attribute: str, message: str) -> ValidationError:
    """The error for what an object shows or holds under an attribute."""
    mapping = map_of(instance)
    return ValidationError(message, document_class=mapping.cls, key=key_of(mapping, instance), field=attribute)
