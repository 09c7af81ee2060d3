"""What objects showed of their relationships at the last commit, for a rollback."""

from __future__ import annotations

from collections.abc import Container, Generator, Iterable
from contextlib import contextmanager
from functools import partial
from operator import is_
from typing import Any, cast

from superorm.expr.narrow import is_list
from superorm.schema.document import Document
from superorm.schema.fields import MISSING
from superorm.schema.relationships import LINKS, Relationship
from superorm.schema.state import RAW
from superorm.unitofwork.links import map_of, state_of
from superorm.unitofwork.shown import separate, shown
from superorm.unitofwork.tracking import Tracker

__all__ = ["LinkHistory"]


class LinkHistory:
    """The links of a session's objects, and how to undo what flushes made of them."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._before: dict[int, tuple[Any, dict[str, Any] | None]] = {}
        """The objects whose links were changed since the last commit, with what they were."""
        self._set: dict[str, dict[int, tuple[Any, Any, Any]]] = {}
        """Keys and relationships, by name, that the session set since: objects, what they had and what they were given.

        New objects that are outside again would show that as if the user had set it.
        """
        self._given: dict[str, dict[int, tuple[Any, Any, Any]]] = {}
        """Keys that relationships gave, by name: objects, the keys, and the snapshots (or None) at that time."""
        self._parents: dict[str, set[Any]] = {}
        """The same keys of parents, by name, by `identity`."""
        self._kept: dict[int, list[tuple[Any, Any, str]]] = {}
        """New objects, by id, and the objects and relationships whose links came to hold them since."""

    def remember(self, instance: Any) -> None:
        """Keep what the object's relationships were, for a rollback."""
        if id(instance) not in self._before:
            self._before[id(instance)] = (instance, state_of(instance).get(LINKS))

    def keep(self, instance: Any, name: str, shown: tuple[Any, ...] | None) -> None:
        """Let the links hold what a relationship shows now; None where it is not loaded any more."""
        links: dict[str, Any] = state_of(instance).get(LINKS, {})
        if links.get(name) != shown:
            self.remember(instance)
            links = {other: before for other, before in links.items() if other != name}
            state_of(instance)[LINKS] = links if shown is None else {**links, name: shown}
            for one in shown or ():
                if isinstance(one, Document) and RAW not in state_of(one):
                    self._kept.setdefault(id(one), []).append((one, instance, name))

    def set_key(self, instance: Any, attribute: str, key: object) -> None:
        """Set a key as a relationship says."""
        before = state_of(instance).get(attribute, MISSING)
        setattr(instance, attribute, key)
        self._note(instance, attribute, before, key)
        self._given.setdefault(attribute, {})[id(instance)] = (instance, key, state_of(instance).get(RAW))

    def came_to(self, attribute: str, key: object) -> None:
        """A relationship gave that key, by `identity`."""
        self._parents.setdefault(attribute, set()).add(key)

    def parents(self, attribute: str) -> set[Any]:
        """The keys that relationships gave since the last commit: listeners may have taken objects from there again."""
        return self._parents.get(attribute, set())

    def gave(self, instance: Any, attribute: str) -> bool:
        """Whether the object holds a key that a relationship gave it and no flush has written yet."""
        given = self._given.get(attribute, {}).get(id(instance))
        if given is None:
            return False
        _, key, snapshot = given
        return snapshot is state_of(instance).get(RAW) and _same(key, _held(instance, attribute))

    def show(self, instance: Any, name: str, shown: object) -> None:
        """Let a relationship show what the keys say: of a list its content, a tuple; `MISSING` if it is not loaded."""
        self.remember(instance)
        before = _held(instance, name)
        _hold(instance, name, shown)
        self._note(instance, name, before, shown)

    @contextmanager
    def changing(self, instances: Iterable[Any]) -> Generator[None]:
        """A block in which relationships of the objects are loaded, or expire."""
        before: list[tuple[Any, str, Any]] = []
        if self._tracker.undo.undoable:
            named = [(one, name) for one in instances for name in map_of(one).relationships]
            before = [(one, name, _held(one, name)) for one, name in named]
        yield
        for instance, name, held in before:
            self._note(instance, name, held, _held(instance, name))

    def _note(self, instance: Any, attribute: str, before: object, given: object) -> None:
        noted = self._set.setdefault(attribute, {})
        known = noted.get(id(instance))
        if known is not None and (before is MISSING or _same(known[2], before)):  # the user set nothing in between
            before = known[1]
        elif before is MISSING:
            before = self._tracker.undo.forgotten(instance, attribute)
        noted[id(instance)] = (instance, before, given)

    def left(self, instance: Any) -> None:
        """A new object, which was never written, is outside: it and others show, and hold as keys, what the user set.

        Where that is the object itself, the next flush takes it for news.
        """
        relations, links = map_of(instance).relationships, state_of(instance).get(LINKS, {})
        children = [(child, relations[name]) for name in links if relations[name].is_list for child in links[name]]
        for child, relation in children:
            self._take_back(child, relation.key.attribute)
        for _, other, name in self._kept.pop(id(instance), ()):
            self._let_go(other, map_of(other).relationships[name], instance)
        if id(instance) in self._before:
            _, before = self._before.pop(id(instance))
            state_of(instance).pop(LINKS, None)
            if before is not None:
                state_of(instance)[LINKS] = before
        for attribute in self._set:
            self._take_back(instance, attribute)

    def _let_go(self, other: Any, relation: Relationship, gone: Any) -> None:
        """What an object's relationship shows is not settled any more, as one of it is outside."""
        name = relation.attribute
        links: tuple[Any, ...] = state_of(other).get(LINKS, {}).get(name, ())
        if not _has(links, gone):
            return
        if not relation.is_list:
            self.keep(other, name, None)
            self._take_back(other, name)
            self._take_back(other, relation.key.attribute)
            return
        held, (_, before, given) = _held(other, name), self._set.get(name, {}).get(id(other), (None, (), ()))
        if _has(held, gone) and _has(given, gone) and not _has(before, gone):
            self.show(other, name, tuple(one for one in held if one is not gone))
        self.keep(other, name, tuple(one for one in links if one is not gone))

    def _take_back(self, instance: Any, attribute: str) -> None:
        """Undo what the session set, unless the user has set something else since."""
        self._given.get(attribute, {}).pop(id(instance), None)
        noted = self._set.get(attribute, {}).pop(id(instance), None)
        if noted is not None and _same(noted[2], _held(instance, attribute)):
            _hold(instance, attribute, noted[1])

    def committed(self) -> None:
        """Nothing so far can be undone any more."""
        self._before.clear()
        self._set.clear()
        self._given.clear()
        self._parents.clear()
        self._kept.clear()

    def rolled_back(self, *, doubtful: bool = False, never_stored: Container[int] = ()) -> None:
        """The relationships of stored objects show what they did when last loaded or committed.

        Those that changed since are not loaded any more where it is `doubtful` whether that was committed after all.
        New objects show, and hold as keys, what the user set;
        those that were loaded, but whose documents were `never_stored`, by their ids, what was loaded.
        """
        tracker = self._tracker
        ours = [pair for pair in self._before.values() if pair[0] in tracker or not tracker.held_elsewhere(pair[0])]
        for instance, links in ours:
            state = state_of(instance)
            state.pop(LINKS, None)
            if links is not None and not (doubtful and RAW in state):
                state[LINKS] = links
        touched = [(relation, one) for one, _ in ours for relation in map_of(one).relationships.values()]
        slots = [*touched, *shown(tracker)]
        separate(slots)
        for attribute, noted in self._set.items():
            for instance, before, given in noted.values():
                loaded = before is MISSING and id(instance) in never_stored
                if RAW not in state_of(instance) and not loaded and _same(given, _held(instance, attribute)):
                    _hold(instance, attribute, before)
        for relation, instance in slots:
            state, name = state_of(instance), relation.attribute
            if RAW not in state:
                continue
            links = state.get(LINKS, {})
            if name not in links:
                state.pop(name, None)
            elif relation.is_list:
                _hold(instance, name, links[name])
            else:
                state[name] = links[name][0]
        self.committed()


def _held(instance: object, attribute: str) -> Any:
    """What an object has under an attribute: the content of a list as a tuple; or `MISSING`."""
    value: object = state_of(instance).get(attribute, MISSING)
    return tuple(value) if is_list(value) else value


def _hold(instance: object, attribute: str, value: object) -> None:
    """Let an object have that under the attribute; a list stays the same list."""
    state = state_of(instance)
    if isinstance(value, tuple):
        there: object = state.get(attribute)
        state[attribute] = there = there if is_list(there) else []
        there[:] = value
    elif value is not MISSING:
        setattr(instance, attribute, value)
    else:
        state.pop(attribute, None)


def _has(shown: object, one: object) -> bool:
    """Whether what a relationship shows has the object."""
    return isinstance(shown, tuple) and any(map(partial(is_, one), cast("tuple[object, ...]", shown)))


def _same(one: Any, other: Any) -> bool:
    """Whether these are the same objects, or equal keys."""
    if type(one) is type(other) is tuple:
        return len(one) == len(other) and all(map(is_, one, other))
    return one is other or (not isinstance(one, Document) and bool(one == other))
