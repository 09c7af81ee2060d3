"""Listeners: functions that sessions call around the writing of documents, and around flushes and commits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeAlias, TypeVar, get_args, overload
from weakref import WeakKeyDictionary, WeakSet

from superorm.exc import ConfigurationError
from superorm.expr.reprs import short_repr
from superorm.schema.document import Document

__all__ = [
    "DocumentEvent",
    "EventTarget",
    "Listener",
    "SessionEvent",
    "any_listeners",
    "hears_loads",
    "listeners_of",
    "listens_for",
    "remove_listener",
]

DocumentEvent: TypeAlias = Literal[
    "before_insert",
    "after_insert",
    "before_update",
    "after_update",
    "before_delete",
    "after_delete",
    "load",
    "refresh",
]
"""Called with the session and the document."""
SessionEvent: TypeAlias = Literal["before_flush", "after_flush", "before_commit", "after_commit", "after_rollback"]
"""Called with the session."""
Listener: TypeAlias = Callable[..., Any]
F = TypeVar("F", bound=Listener)

_DOCUMENT_EVENTS: tuple[str, ...] = get_args(DocumentEvent)
_SESSION_EVENTS: tuple[str, ...] = get_args(SessionEvent)
_LISTENERS: WeakKeyDictionary[Any, dict[str, list[Listener]]] = WeakKeyDictionary()
"""By class of documents, class of sessions, or object that is an `EventTarget`."""
_LOADED: WeakSet[type] = WeakSet()
"""The classes of documents with listeners for ``load`` or ``refresh``."""


class EventTarget:
    """What session events can be listened for on: classes that derive from it, and their objects."""

    made_by: EventTarget | None = None
    """The sessionmaker that made the session, and whose listeners are called too."""


@overload
def listens_for(target: type[Document], event: DocumentEvent) -> Callable[[F], F]: ...
@overload
def listens_for(target: type[EventTarget] | EventTarget, event: SessionEvent) -> Callable[[F], F]: ...
def listens_for(target: object, event: str) -> Callable[[F], F]:
    """A decorator: the function is called at every such event of the target.

    ``before_insert, after_insert, before_update, after_update, before_delete, after_delete, load, refresh`` of a class
    of documents, its subclasses included, are called with the session and the document;
    ``before_flush, after_flush, before_commit, after_commit, after_rollback`` of `Session`, `AsyncSession`,
    a sessionmaker or one session are called with the session.
    In an `AsyncSession` the function may be async; a `Session` refuses such.

    Raises `ConfigurationError` for other targets and events.
    """
    _check(target, event)

    def register(function: F) -> F:
        if not callable(function):
            raise ConfigurationError(
                f"listens_for({short_repr(target)}, {event!r}) takes a function, not {short_repr(function)}"
            )
        _LISTENERS.setdefault(target, {}).setdefault(event, []).append(function)
        _note_loads(target)
        return function

    return register


@overload
def remove_listener(target: type[Document], event: DocumentEvent, function: Listener) -> None: ...
@overload
def remove_listener(target: type[EventTarget] | EventTarget, event: SessionEvent, function: Listener) -> None: ...
def remove_listener(target: object, event: str, function: Listener) -> None:
    """Undo `listens_for`. Raises `ConfigurationError` where the function does not listen."""
    _check(target, event)
    known = _LISTENERS.get(target, {})
    if function not in known.get(event, ()):
        raise ConfigurationError(f"{short_repr(function)} does not listen for {event} of {short_repr(target)}")
    known[event].remove(function)
    if not any(known.values()):
        del _LISTENERS[target]
    _note_loads(target)


def _note_loads(target: object) -> None:
    if isinstance(target, type):
        known = _LISTENERS.get(target, {})
        (_LOADED.add if known.get("load") or known.get("refresh") else _LOADED.discard)(target)


def any_listeners() -> bool:
    """Whether there is any listener at all."""
    return bool(_LISTENERS)


def hears_loads(cls: type) -> bool:
    """Whether there may be listeners for the loading of objects of a class, or of one that derives from it."""
    return bool(_LOADED) and any(issubclass(cls, target) or issubclass(target, cls) for target in _LOADED)


def listeners_of(targets: Iterable[object], event: str) -> list[Listener]:
    """The listeners for an event of any of the targets, in this order."""
    return [one for target in targets for one in _LISTENERS.get(target, {}).get(event, ())] if _LISTENERS else []


def _check(target: object, event: str) -> None:
    """Raise `ConfigurationError` where the target has no such event."""
    kind = target if isinstance(target, type) else type(target)
    if isinstance(target, type) and issubclass(target, Document):
        events, what = _DOCUMENT_EVENTS, "a class of documents"
    elif issubclass(kind, EventTarget):
        events, what = _SESSION_EVENTS, "a session"
    else:
        raise ConfigurationError(
            "listeners are for a class of documents, Session, AsyncSession, a sessionmaker or a session, "
            f"not {short_repr(target)}"  # pyright: ignore[reportUnknownArgumentType]
        )
    if event not in events:
        raise ConfigurationError(f"{what} has no event {short_repr(event)}; there are {', '.join(events)}")
