"""Objects that come into a session, leave it or expire, and what follows them by their relationships."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from superorm.expr.narrow import is_list
from superorm.schema.document import Document
from superorm.schema.mapping import class_map
from superorm.schema.state import RAW
from superorm.unitofwork.arguments import documents_in
from superorm.unitofwork.holding import document_map, outside
from superorm.unitofwork.link_history import LinkHistory
from superorm.unitofwork.links import map_of, state_of
from superorm.unitofwork.tracking import Tracker

__all__ = ["Cascades"]


class Cascades:
    """What is done to a session's objects, and by loaded relationships to others."""

    def __init__(self, tracker: Tracker, history: LinkHistory) -> None:
        self._tracker = tracker
        self._history = history

    def add(self, instance: Document) -> None:
        """Track an object, and the stored ones that its loaded relationships show; new ones are added by the flush.

        Raises `SessionError` as `Tracker.add` does, with none of them tracked.
        """
        below = self._outside_below(instance)
        if below:
            self._tracker.add_all((*below, instance))
        else:
            self._tracker.add(instance)

    def add_all(self, instances: Iterable[Document]) -> None:
        """`add` each, or none. Raises `SessionError`."""
        objects, kinds = documents_in(instances, "add_all()")
        if any(class_map(kind).relationships for kind in kinds):
            objects = [one for instance in objects for one in (*self._outside_below(instance), instance)]
        self._tracker.add_all(objects)

    def _outside_below(self, instance: object) -> list[Any]:
        """The stored objects that an object's relationships show, and which the session does not have."""
        return [one for one in _below(instance, "save-update") if RAW in state_of(one) and one not in self._tracker]

    def expunge(self, instance: Document) -> None:
        """Forget an object, and what cascades from it. Raises `SessionError` for what is no document in the session."""
        mapping = document_map(instance)
        if instance not in self._tracker:
            raise outside(mapping)
        for one in (instance, *_below(instance, "expunge")):
            if self._tracker.never_written(one):
                self._history.left(one)
            self._tracker.expunge(one)

    def expunge_all(self) -> None:
        """Forget all objects."""
        for one in filter(self._tracker.never_written, list(self._tracker.new.values())):
            self._history.left(one)
        self._tracker.expunge_all()

    def delete(self, instance: Document) -> None:
        """Mark a stored object for deletion; a new one is only forgotten. Raises `SessionError`."""
        if self._tracker.never_written(instance):
            self._history.left(instance)
        self._tracker.delete(instance)

    def expire(self, instance: Document, attributes: Collection[str] | None = None) -> None:
        """Forget values of an object; where that is all of them, also of what cascades from it.

        Raises `SessionError`.
        """
        self._tracker.check_stored(instance, "expire()")
        if attributes is None:
            self.expire_below(instance)
        with self._history.changing((instance,)):
            self._tracker.expire(instance, attributes)

    def expire_all(self) -> None:
        """Forget the values of all stored objects."""
        stored = [instance for _, objects in self._tracker.identities for instance in objects.values()]
        with self._history.changing(stored):
            self._tracker.expire_all()

    def expire_below(self, instance: Document) -> None:
        """Forget the values of what cascades from an object."""
        tracker = self._tracker
        below = [one for one in _below(instance, "refresh-expire") if RAW in state_of(one) and one in tracker]
        with self._history.changing(below):
            for other in below:
                tracker.expire(other)


def _below(instance: object, cascade: str) -> list[Any]:
    """What a document refers to by loaded relationships of this cascade, and so on."""
    found: dict[int, Any] = {id(instance): instance}
    pending: list[Any] = [instance] if isinstance(instance, Document) else []
    for one in pending:  # which grows
        for name, relation in map_of(one).relationships.items():
            if not relation.cascades(cascade) or name not in state_of(one):
                continue
            value: object = state_of(one)[name]
            others: list[Any] = value if is_list(value) else [value]
            new = [other for other in others if isinstance(other, relation.target.cls) and id(other) not in found]
            found |= {id(other): other for other in new}
            pending += new
    return pending[1:]
