"""Which sessions hold which objects: an object is in one at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import repeat
from typing import Any, cast
from weakref import ref

from superorm.codec import documents
from superorm.exc import SessionError
from superorm.expr.reprs import short_repr, typed_repr
from superorm.schema.document import Document
from superorm.schema.mapping import ClassMap, MappedField, class_map
from superorm.schema.state import RAW, has_getattr
from superorm.unitofwork.identity import IdentityMap

__all__ = ["HOLDERS", "Holder", "document_map", "elsewhere", "outside", "raw_of"]

HOLDERS: dict[int, ref[Holder]] = {}
"""All holders of the process: objects do not know who holds them, which would make each load slower."""


class Holder:
    """The objects of one session."""

    def __init__(self) -> None:
        self.identities = IdentityMap()
        self.new: dict[int, Document] = {}
        self.deleted: dict[int, Document] = {}
        self.read_artifact: Callable[[ClassMap, MappedField, dict[str, Any]], Any] | None = None
        """Gives the artifact of a field of a document; None where that has to be awaited."""
        self._gone: dict[int, Document] = {}
        """The objects of deletions that can still be undone."""
        name = id(self)  # last: other threads look into each that is known
        HOLDERS[name] = ref(self, lambda _: HOLDERS.pop(name, None))

    def __contains__(self, instance: object) -> bool:
        return id(instance) in self.new or self.identities.holds(instance)

    def check_outside(self, instances: Sequence[Document], kinds: Iterable[type], caller: str) -> None:
        """Raise `SessionError` where one of the objects, of these classes, is stored already, or new in a session."""
        if any(map(hasattr, instances, repeat(RAW))) or any(map(has_getattr, kinds)):
            for instance in instances:
                if raw_of(instance) is not None:
                    why = "is stored already; leave it out, or add() it to write what was changed"
                    raise _not_new(instance, caller, why)
        if self.new and not self.new.keys().isdisjoint(map(id, instances)):
            instance = next(instance for instance in instances if id(instance) in self.new)
            raise _not_new(instance, caller, "was added to this session, which inserts it; expunge() it first")
        self._check_not_elsewhere(instances)

    def _check_not_elsewhere(self, new: Collection[Document]) -> None:
        """Raise `SessionError` where another session holds one of the new objects, or deleted it undoably."""
        for known in list(HOLDERS.values()):
            other = known()
            if other is None or other is self:
                continue
            for held in (other.new, other._gone):
                if held and not held.keys().isdisjoint(map(id, new)):
                    instance = next(instance for instance in new if id(instance) in held)
                    raise elsewhere(instance, gone=held is other._gone)

    def _holds(self, instance: Document) -> bool:
        """Whether the object is tracked here, or was until a deletion that can still be undone."""
        return id(instance) in self._gone or instance in self

    @staticmethod
    def of(instance: object) -> Holder | None:
        """Who holds the object, or deleted it undoably."""
        others = (known() for known in list(HOLDERS.values()))
        return next((one for one in others if one is not None and one._holds(cast("Document", instance))), None)

    def held_elsewhere(self, instance: Document) -> bool:
        """Whether another session tracks the object, or deleted it undoably."""
        others = [known() for known in list(HOLDERS.values())]
        return any(one not in (None, self) and one._holds(instance) for one in others)


def raw_of(instance: object) -> dict[str, Any] | None:
    """The snapshot of a stored object."""
    return vars(instance).get(RAW)


def document_map(instance: object) -> ClassMap:
    """The class of a document. Raises `SessionError` for anything else."""
    if not isinstance(instance, Document):
        raise SessionError(f"a session holds documents, not {typed_repr(instance)}")
    return class_map(type(instance))


def outside(mapping: ClassMap) -> SessionError:
    """The error of an object that is not in the session."""
    message = f"this {mapping.name} is not in the session; load it here, or add() it first"
    return SessionError(message, document_class=mapping.cls)


def _not_new(instance: Document, caller: str, why: str) -> SessionError:
    mapping = class_map(type(instance))
    key = documents.key_of(mapping, instance)
    message = f"{caller} takes new objects, and {mapping.name} {short_repr(key)} {why}"
    return SessionError(message, document_class=mapping.cls, key=key)


def elsewhere(instance: Document, *, gone: bool = False) -> SessionError:
    """The error of an object that another session holds, or, where it is `gone`, deleted undoably."""
    mapping = class_map(type(instance))
    key = documents.key_of(mapping, instance)
    advice = "is in another session; expunge() it there, or close that session, first"
    if gone:
        advice = "was deleted in another session, which can still take that back; commit() or close() that first"
    return SessionError(f"{mapping.name} {short_repr(key)} {advice}", document_class=mapping.cls, key=key)
