"""What objects showed of their relationships at the last commit, for a rollback."""

from __future__ import annotations

from typing import Any

from superorm.expr.narrow import is_list
from superorm.schema.relationships import LINKS
from superorm.schema.state import RAW
from superorm.unitofwork.links import map_of, state_of
from superorm.unitofwork.shown import shown
from superorm.unitofwork.tracking import Tracker

__all__ = ["LinkHistory"]


class LinkHistory:
    """The links of a session's objects, and how to undo what flushes made of them."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._before: dict[int, tuple[Any, dict[str, Any] | None]] = {}
        """The objects whose links were changed since the last commit, with what they were."""

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

    def committed(self) -> None:
        """Nothing so far can be undone any more."""
        self._before.clear()

    def rolled_back(self) -> None:
        """The relationships of stored objects show what they did when last loaded or committed."""
        for instance, links in self._before.values():
            state_of(instance).pop(LINKS, None)
            if links is not None:
                state_of(instance)[LINKS] = links
        changed = [instance for instance, _ in self._before.values()]
        touched = [(relation, one) for one in changed for relation in map_of(one).relationships.values()]
        for relation, instance in [*touched, *shown(self._tracker)]:
            state, name = state_of(instance), relation.attribute
            if RAW not in state:
                continue
            links = state.get(LINKS, {})
            if name not in links:
                state.pop(name, None)
            elif relation.is_list:
                there = state.get(name)
                state[name] = there if is_list(there) else []
                state[name][:] = links[name]
            else:
                state[name] = links[name][0]
        self.committed()
