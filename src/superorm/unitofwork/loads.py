"""What listeners for loading are to hear of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from superorm.codec import documents
from superorm.schema.mapping import ClassMap
from superorm.schema.state import UNLOADED
from superorm.unitofwork.events import DocumentEvent, hears_loads
from superorm.unitofwork.identity import identities
from superorm.unitofwork.tracking import Tracker

__all__ = ["Loads"]


class Loads:
    """Makes objects of stored documents, and notes them for the listeners of their classes, where there are any."""

    def __init__(self) -> None:
        self._noted: list[tuple[DocumentEvent, Sequence[Any]]] = []
        self.unheard: dict[int, tuple[DocumentEvent, Any]] = {}
        """What was noted of tracked objects in calls that failed, and that nobody was given since; by id."""

    def load(
        self,
        tracker: Tracker | None,
        mapping: ClassMap,
        found: Sequence[dict[str, Any]],
        only: frozenset[str] | None = None,
    ) -> list[Any]:
        """`Tracker.load`, or `load_partial` where `only` are the attributes; without a tracker all are new objects."""
        if not hears_loads(mapping.cls):
            return _load(tracker, mapping, found, only)
        if tracker is None:
            loaded = _load(None, mapping, found, only)
            self._noted.append(("load", loaded))
            return loaded
        known = tracker.identities.of(mapping)
        before: dict[Any, Any] = {key: known.get(key) for key in identities([document["_id"] for document in found])}
        partial = [(one, lacked) for one in before.values() if (lacked := _lacking(one)) is not None]
        loaded = _load(tracker, mapping, found, only)
        self._noted.append(("load", [known[key] for key, one in before.items() if one is None]))
        self.given(before.values())
        self.refreshed([one for one, lacked in partial if _lacking(one) != lacked])
        return loaded

    def refreshed(self, instances: Sequence[Any]) -> None:
        """These objects show what was read of their documents."""
        if instances and any(hears_loads(kind) for kind in set(map(type, instances))):
            self._noted.append(("refresh", instances))

    def given(self, instances: Iterable[Any]) -> None:
        """Note what listeners have not heard of these objects."""
        for one in instances if self.unheard else ():
            if (unheard := self.unheard.pop(id(one), None)) is not None:
                self._noted.append((unheard[0], [one]))

    def failed(self, tracker: Tracker) -> None:
        """A call failed: what was noted in it is heard of once it is given to somebody, and by then still tracked."""
        for event, instances in self.taken():
            for one in instances:
                if one in tracker:
                    self.unheard.setdefault(id(one), (event, one))

    def clear(self) -> None:
        """Nothing is tracked any more."""
        self.unheard.clear()

    def put_back(self, rest: Iterable[tuple[DocumentEvent, Any]]) -> None:
        """These were not heard of, as a listener raised."""
        for event, one in rest:
            self._noted.append((event, [one]))

    def taken(self) -> list[tuple[DocumentEvent, Sequence[Any]]]:
        """What was noted since the last call."""
        noted, self._noted = self._noted, []
        return noted


def _lacking(instance: object) -> frozenset[str] | None:
    """What a partial object lacks; None for any other."""
    return None if instance is None else vars(instance).get(UNLOADED)


def _load(
    tracker: Tracker | None, mapping: ClassMap, found: Sequence[dict[str, Any]], only: frozenset[str] | None
) -> list[Any]:
    if only is not None:
        return (documents if tracker is None else tracker).load_partial(mapping, found, only)
    return (documents if tracker is None else tracker).load(mapping, found)
