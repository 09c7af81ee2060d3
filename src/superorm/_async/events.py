"""Calling the listeners of a session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeAlias
from weakref import ref

from superorm._io import aio
from superorm.exc import SessionError
from superorm.schema.mapping import ClassMap
from superorm.unitofwork.events import DocumentEvent, EventTarget, Listener, any_listeners, listeners_of
from superorm.unitofwork.flush import FlushPlan
from superorm.unitofwork.links import map_of
from superorm.unitofwork.loads import Loads
from superorm.unitofwork.tracking import Tracker, by_class

__all__ = ["ROUNDS", "AsyncEvents", "Pending"]

Pending: TypeAlias = tuple[dict[ClassMap, list[Any]], dict[ClassMap, list[Any]]]
"""New objects, and stored ones that may have changed, by class."""
ROUNDS = 100
"""How often listeners may lead to further changes."""


class AsyncEvents:
    """The listeners for one session's events; without any nothing is done for a document."""

    def __init__(self, session: EventTarget) -> None:
        self._session = ref(session)
        self.loads = Loads()
        self.loading = False
        """Whether listeners for what was loaded are being called."""

    async def of_session(self, event: str) -> bool:
        """Call the listeners for an event of the session; whether there were any."""
        if not any_listeners():
            return False
        found = self._listeners(event)
        for listener in found:
            await aio.settled(listener(self._session()), listener)
        return bool(found)

    async def before(
        self,
        tracker: Tracker,
        pending: Pending,
        look: Callable[[], Awaitable[Pending]],
        is_changed: Callable[[ClassMap, object], bool],
    ) -> Pending:
        """Call the listeners for what is about to be flushed, also for what they add; what is to be flushed then.

        `look` finds what is to be flushed now; it is called where listeners ran.
        `is_changed` says of an object that it found whether that surely differs from its snapshot.
        """
        if not any_listeners():
            return pending
        if self._listeners("before_flush") and _has_work(tracker, pending, is_changed):
            await self.of_session("before_flush")
            pending = await look()
        called: dict[tuple[str, int], object] = {}
        for _ in range(ROUNDS):
            before = len(called)
            new, changed = pending
            for event, groups in (
                ("before_insert", new),
                ("before_update", changed),
                ("before_delete", by_class(tracker.deleted.values())),
            ):
                for mapping, objects in groups.items():
                    left = (one for one in objects if (event, id(one)) not in called)
                    if event == "before_update":
                        left = (one for one in left if is_changed(mapping, one))
                    called |= {(event, id(one)): one for one in await self._call(event, mapping, left)}
            if len(called) == before:
                return pending
            pending = await look()
        raise SessionError(
            f"listeners led to further changes {ROUNDS} times in one flush; "
            "let them add no objects whose own listeners add more"
        )

    async def after(self, plan: FlushPlan) -> bool:
        """Call the listeners for what was flushed; whether there were any."""
        if not any_listeners():
            return False
        heard = False
        for mapping, objects, _ in plan.inserted:
            heard |= bool(await self._call("after_insert", mapping, objects))
        for mapping, changed in plan.updated:
            heard |= bool(await self._call("after_update", mapping, changed.objects))
        for mapping, objects in by_class(plan.deleted).items():
            heard |= bool(await self._call("after_delete", mapping, objects))
        return await self.of_session("after_flush") or heard

    async def of_loads(self) -> None:
        """Call the listeners for what was loaded and refreshed since the last call."""
        noted = self.loads.taken()
        if not noted:
            return
        before, self.loading = self.loading, True
        rest: list[tuple[DocumentEvent, Any]] = [
            (event, one) for event, objects in reversed(noted) for one in reversed(objects)
        ]
        try:
            while rest:
                event, one = rest.pop()
                await self._call(event, map_of(one), [one])
        finally:
            self.loading = before
            self.loads.put_back(rest)

    def _listeners(self, event: str) -> list[Listener]:
        """Those for an event of the session."""
        session = self._session()
        assert session is not None  # it is at work
        targets = (*type(session).__mro__, session.made_by, session)
        return listeners_of((one for one in targets if one is not None), event)

    async def _call(self, event: str, mapping: ClassMap, objects: Iterable[object]) -> list[object]:
        """Call the listeners for an event of objects of a class; the objects, where there were listeners."""
        listeners = listeners_of(mapping.cls.__mro__, event)
        if not listeners:
            return []
        session, called = self._session(), list(objects)
        for instance in called:
            for listener in listeners:
                await aio.settled(listener(session, instance), listener)
        return called


def _has_work(tracker: Tracker, pending: Pending, is_changed: Callable[[ClassMap, object], bool]) -> bool:
    """Whether there is something to flush."""
    new, changed = pending
    differs = (is_changed(mapping, one) for mapping, objects in changed.items() for one in objects)
    return bool(new or tracker.deleted) or any(differs)
