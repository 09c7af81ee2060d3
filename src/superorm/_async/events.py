"""Calling the listeners of a session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import ref

from superorm._io import aio
from superorm.codec.documents import is_changed
from superorm.exc import SessionError
from superorm.schema.mapping import ClassMap
from superorm.unitofwork.events import EventTarget, any_listeners, listeners_of
from superorm.unitofwork.flush import FlushPlan
from superorm.unitofwork.tracking import Tracker, by_class

__all__ = ["ROUNDS", "AsyncEvents"]

ROUNDS = 100
"""How often listeners may lead to further changes."""


class AsyncEvents:
    """The listeners for one session's events; without any nothing is done for a document."""

    def __init__(self, session: EventTarget) -> None:
        self._session = ref(session)

    async def of_session(self, event: str) -> bool:
        """Call the listeners for an event of the session; whether there were any."""
        if not any_listeners():
            return False
        session = self._session()
        assert session is not None  # it is at work
        targets = (*type(session).__mro__, session.made_by, session)
        found = listeners_of((one for one in targets if one is not None), event)
        for listener in found:
            await aio.settled(listener(session), listener)
        return bool(found)

    async def before(self, tracker: Tracker) -> bool:
        """Call the listeners for what is about to be flushed, also for what they add; whether there were any."""
        if not any_listeners() or not _has_work(tracker):
            return False
        heard = await self.of_session("before_flush")
        called: set[tuple[str, int]] = set()
        for _ in range(ROUNDS):
            changed = {
                mapping: [one for one in objects if is_changed(mapping, one)]
                for mapping, objects in tracker.possibly_changed().items()
                if self._of_class(mapping, "before_update")
            }
            before = len(called)
            for event, groups in (
                ("before_insert", tracker.new_by_class()),
                ("before_update", changed),
                ("before_delete", by_class(tracker.deleted.values())),
            ):
                for mapping, objects in groups.items():
                    left = [one for one in objects if (event, id(one)) not in called]
                    if await self._call(event, mapping, left):
                        called.update((event, id(one)) for one in left)
            if len(called) == before:
                return heard or bool(called)
        raise SessionError(
            f"listeners led to further changes {ROUNDS} times in one flush; "
            "let them add no objects whose own listeners add more"
        )

    async def after(self, plan: FlushPlan) -> bool:
        """Call the listeners for what was flushed; whether there were any."""
        if not any_listeners():
            return False
        heard = False
        for event, written in (("after_insert", plan.inserted), ("after_update", plan.updated)):
            for mapping, objects, _ in written:
                heard |= await self._call(event, mapping, objects)
        for mapping, objects in by_class(plan.deleted).items():
            heard |= await self._call("after_delete", mapping, objects)
        return await self.of_session("after_flush") or heard

    def _of_class(self, mapping: ClassMap, event: str) -> list[Any]:
        return listeners_of(mapping.cls.__mro__, event)

    async def _call(self, event: str, mapping: ClassMap, objects: Sequence[object]) -> bool:
        listeners = self._of_class(mapping, event) if objects else []
        if not listeners:
            return False
        session = self._session()
        for instance in objects:
            for listener in listeners:
                await aio.settled(listener(session, instance), listener)
        return True


def _has_work(tracker: Tracker) -> bool:
    """Whether there is something to flush."""
    groups = tracker.possibly_changed().items()
    changed = any(is_changed(mapping, one) for mapping, objects in groups for one in objects)
    return bool(tracker.new or tracker.deleted) or changed
