"""What relationships make of a session's objects: keys that a flush sets, objects that it adds and deletes.

An object keeps what its relationships showed when they were loaded or flushed, beside what they show now;
the difference is what the user did.
"""

from __future__ import annotations

from collections.abc import Iterable

from superorm.exc import SessionError
from superorm.schema.document import Document
from superorm.schema.mapping import ClassMap
from superorm.schema.state import RAW
from superorm.unitofwork.link_history import LinkHistory
from superorm.unitofwork.links import named, related_objects, state_of
from superorm.unitofwork.moves import set_keys
from superorm.unitofwork.settling import Settling
from superorm.unitofwork.shown import cascade
from superorm.unitofwork.tracking import Tracker

__all__ = ["concern", "synchronize", "with_referred"]


def concern(tracker: Tracker, new: Iterable[ClassMap]) -> bool:
    """Whether there are objects with relationships; `new` are the classes of the new ones."""
    return any(mapping.relationships for mapping in new) or any(root.related for root, _ in tracker.identities)


def synchronize(tracker: Tracker, history: LinkHistory) -> Settling:
    """Add the objects that others refer to since, set keys as the relationships say, mark orphans for deletion.

    Raises `ValidationError` where relationships and keys contradict one another, `SessionError` as `add` does,
    and where an object whose key would have to be written is not in the session.
    """
    loaded, noisy = cascade(tracker)
    return Settling(tracker, history, loaded, set_keys(tracker, history, noisy))


def with_referred(objects: Iterable[Document], session: Tracker, history: LinkHistory) -> list[Document]:
    """New objects that no session tracks, and those that they refer to, their keys set as the relationships say.

    What is new in the session is left to that.
    Raises `SessionError` for lists that hold objects of it or stored ones, whose keys would have to be written too.
    """
    tracker, added = Tracker(), session.new
    try:
        tracker.new.update(added)
        tracker.deleted.update(session.deleted)
        tracker.new.update((id(one), one) for one in objects)
        loaded, noisy = cascade(tracker, stored=False)
        for relation, one in loaded:
            for child in related_objects(relation, one) if relation.is_list and id(one) not in added else ():
                if RAW in state_of(child) or id(child) in added:
                    why = "was added to this session, which inserts it" if id(child) in added else "is stored"
                    raise SessionError(
                        f"bulk_insert() writes new objects only, and {named(child)} {why}; use add() instead"
                    )
        set_keys(tracker, history, noisy)
        return [one for name, one in tracker.new.items() if name not in added]
    finally:
        tracker.clear()  # an error may keep it, and it is to hold nothing then
