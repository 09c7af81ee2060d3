"""The keys that a flush sets because of what the user did to relationships."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import NoneType
from typing import Any, TypeAlias

from attrs import frozen

from superorm.codec.documents import has_changed
from superorm.exc import SessionError, ValidationError
from superorm.schema.mapping import MappedField
from superorm.schema.relationships import LINKS, Relationship
from superorm.schema.state import GONE, RAW, is_shown
from superorm.unitofwork.link_history import LinkHistory
from superorm.unitofwork.links import (
    given_key,
    held_key,
    is_set,
    key_or_none,
    map_of,
    named,
    own_key,
    place,
    refused,
    related_objects,
    state_of,
)
from superorm.unitofwork.shown import Shown
from superorm.unitofwork.tracking import Tracker

__all__ = ["Move", "Moves", "check_none", "set_keys"]


@frozen(eq=False)
class Move:
    """A key to be set, because a relationship of `instance` shows something else than before."""

    relation: Relationship
    instance: Any
    child: Any
    part: MappedField
    """What holds the key of the child."""
    parent: Any
    """Whose key it is to be, or None."""
    orphan: bool = False
    """Whether the child left a parent that deletes what leaves it."""

    @property
    def weak(self) -> bool:
        """Whether the child only left a list: another change of the key, which says where it goes, comes first."""
        return self.parent is None and self.relation.is_list

    @property
    def why(self) -> str:
        """What the user changed, for messages."""
        where = place(self.relation, self.instance)
        if not self.relation.is_list:
            return f"{where} was set to {named(self.parent)}"
        return f"{named(self.child)} was {'removed from' if self.parent is None else 'added to'} {where}"


Moves: TypeAlias = Mapping[tuple[int, str], Move]
"""By the id of the object whose key is set, and the attribute that holds it."""


def set_keys(tracker: Tracker, history: LinkHistory, noisy: Iterable[Shown]) -> Moves:
    """Set keys as the relationships that show something else than before say, and mark orphans for deletion.

    Raises `ValidationError` where relationships and keys contradict one another,
    `SessionError` where an object whose key would have to be written is not in the session.
    """
    moves: dict[tuple[int, str], Move] = {}
    for relation, instance in noisy:
        moves_of = _moves_of_list if relation.is_list else _moves_of_one
        for move in moves_of(tracker, history, relation, instance):
            name = (id(move.child), move.part.attribute)
            moves[name] = _stronger(moves[name], move) if name in moves else move
    for move in moves.values():
        _carry_out(tracker, history, move)
    return moves


def _moves_of_one(tracker: Tracker, history: LinkHistory, relation: Relationship, instance: Any) -> Iterator[Move]:
    """A many-to-one that shows another object than before says what the key is to be."""
    state = state_of(instance)
    value = state[relation.attribute]
    if value is None and RAW not in state:
        return  # as if it had not been given
    before = state.get(LINKS, {}).get(relation.attribute)
    if before is not None and before[0] is value and _is_users(history, instance, relation.key):
        return  # only the key of that object changed
    orphan = value is None and _leaves_owner(tracker, relation, instance)
    move = Move(relation, instance, instance, relation.key, value, orphan)
    gone = value is not None and (id(value) in tracker.deleted or GONE in state_of(value))
    if gone and id(value) not in tracker.new and id(instance) not in tracker.deleted:
        message = f"{move.why}, which is deleted; set it to another one, or to None"
        raise refused(instance, relation.attribute, message)
    if not (RAW in state and _holds(instance, relation.key, value)):
        yield move


def _leaves_owner(tracker: Tracker, relation: Relationship, instance: Any) -> bool:
    """Whether the parent of a stored object, where the session knows it, has a list that deletes what leaves it."""
    raw: dict[str, Any] = state_of(instance)[RAW]
    parent, _ = state_of(instance).get(LINKS, {}).get(relation.attribute, (None, None))
    key = raw.get(relation.key.stored)
    if parent is None and key is not None:
        parent = tracker.identities.get(relation.target, key)
    return parent is not None and any(
        other.is_list
        and other.spec.key == relation.spec.key
        and other.cascades("delete-orphan")
        and isinstance(instance, other.target.cls)
        for other in map_of(parent).relationships.values()
    )


def _holds(instance: Any, part: MappedField, value: Any) -> bool:
    """Whether a stored object has held the key of another since it was loaded: then showing that says nothing new."""
    is_held = is_shown(part, state_of(instance)) and held_key(instance, part) == key_or_none(value)
    return is_held and not has_changed(part, instance)


def _moves_of_list(tracker: Tracker, history: LinkHistory, relation: Relationship, instance: Any) -> Iterator[Move]:
    """Objects that came to a list say that their keys are to be its object's, those that left it None."""
    state, name, part = state_of(instance), relation.attribute, relation.key
    children = related_objects(relation, instance)
    links: dict[str, Any] = state.get(LINKS, {})
    if name not in links and RAW in state:
        message = (
            f"{place(relation, instance)} was replaced without being loaded, so what left it is not known; "
            f"load it with selectinload({relation.where}) first"
        )
        raise refused(instance, name, message)
    before: Sequence[Any] = links.get(name, ())
    old, now = {id(one) for one in before}, {id(one) for one in children}
    owns = relation.cascades("delete-orphan")
    for position, child in enumerate(children):
        if id(child) in old and (RAW in state or _is_users(history, child, part)):
            continue
        if GONE in state_of(child) and id(child) not in tracker.new:
            if id(instance) in tracker.deleted:
                continue
            advice = "take it out of the list, or add() it, which inserts it again"
            message = f"{place(relation, instance)}[{position}] is {named(child)}, which is deleted; {advice}"
            raise refused(instance, name, message)
        yield Move(relation, instance, child, part, instance)
    for child in before:
        if id(child) in now or id(child) in tracker.deleted:
            continue
        raw: dict[str, Any] | None = state_of(child).get(RAW)
        if raw is not None:
            twin = tracker.identities.get(relation.target, raw["_id"])
            child = child if twin is None else twin  # another object where it was expunged and loaded again
            held = held_key(child, part)
            given_up = owns and held is None and has_changed(part, child)
            if is_shown(part, state_of(child)) and held != own_key(instance) and not given_up:
                continue  # it has gone elsewhere
        elif id(child) not in tracker.new:
            continue
        yield Move(relation, instance, child, part, None, owns)


def _stronger(one: Move, other: Move) -> Move:
    """Which of two moves of the same key counts. Raises `ValidationError` where they contradict one another."""
    if one.parent is other.parent is None and one.orphan != other.orphan:
        return one if one.orphan else other
    if other.weak:
        return one
    if one.weak or one.parent is None:
        return other
    if other.parent is not None and own_key(one.parent) != own_key(other.parent):
        raise _contradiction(other, f"{one.why}, and {other.why}")
    return one  # taken from one, given to another


def _carry_out(tracker: Tracker, history: LinkHistory, move: Move) -> None:
    """Set the key, unless the user did."""
    child, part = move.child, move.part
    if move.weak and RAW in state_of(child) and child not in tracker:
        raise _outside(move)
    key, now = key_or_none(move.parent), held_key(child, part)
    if now == key and is_shown(part, state_of(child)) and not move.orphan:
        return
    if _is_users(history, child, part) and not (move.orphan and now is None):
        if move.weak:
            return
        raise _contradiction(move, f"{move.why}, and {part.attribute} to {getattr(child, part.attribute)!r}")
    if move.parent is not None:
        history.set_key(child, part.attribute, given_key(move.parent))
        if key is not None:
            history.came_to(part.attribute, key)
    elif move.orphan:
        tracker.delete(child)
    else:
        check_none(child, part, move.why)
        history.set_key(child, part.attribute, None)


def _is_users(history: LinkHistory, child: Any, part: MappedField) -> bool:
    """Whether the user set the key, and not a relationship before listeners were called."""
    return is_set(child, part) and not history.gave(child, part.attribute)


def check_none(child: Any, part: MappedField, why: str) -> None:
    """Raise `ValidationError` where a key cannot be None."""
    if NoneType not in part.type.reads:
        raise refused(
            child,
            part.attribute,
            f"{named(child)}: {part.attribute} cannot be None, but {why}; "
            "declare it as Mapped[... | None], delete the object too, or give its relationship cascade='all'",
        )


def _outside(move: Move) -> SessionError:
    """The error of an object that left a list, and was expunged before that could be written."""
    child, mapping = move.child, map_of(move.child)
    return SessionError(
        f"{move.why}, but is not in this session, which thus cannot write its {move.part.attribute}; "
        "add() it, or put it back into the list",
        document_class=mapping.cls,
        key=state_of(child)[RAW]["_id"],
        field=move.part.attribute,
    )


def _contradiction(move: Move, what: str) -> ValidationError:
    return refused(move.child, move.part.attribute, f"{what}; change one of them only")
