"""Documents that are listened to, and what the outputs must be, from what the database holds."""

from __future__ import annotations

from typing import Any

from superorm import DB, Document, Listener, Mapped, Model, Session, connect, field, select
from superorm.compile.plan import Find

__all__ = ["Bare", "Note", "expected", "fill", "listener", "opened", "put", "stored"]


class Note(Document):
    """What is listened to."""

    __collection__ = "heard_notes"

    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str] = field(default="")


class Bare(Document):
    """Another class of the same collection, without what is listened to."""

    __collection__ = "heard_notes"

    id: Mapped[int] = field(primary_key=True)
    other: Mapped[int] = field(default=0)


def opened(place: tuple[str, str]) -> DB:
    return connect(place[0], database=place[1], vector_database="memory://", signing_key="test-key")


def listener() -> Listener:
    return Listener("lengths", model=Model("length", len, fingerprint="len"), select=select(Note), key=Note.text)


def fill(db: DB, count: int) -> None:
    db.create_all(Note)
    with db.begin() as session:
        session.add_all([Note(id=n, text="x" * n) for n in range(count)])


def stored(db: DB, name: str = "lengths") -> dict[Any, Any]:
    """The outputs of a listener as they stand in the database."""
    read = Find("_superorm_outputs", {"_id.listener": name})
    return {one["_id"]["key"]: one["output"] for one in db.parts.data_backend.read(read)}


def expected(db: DB) -> dict[Any, Any]:
    return {one["_id"]: len(one["text"]) for one in db.parts.data_backend.read(Find("heard_notes"))}


def put(db: DB, key: int, text: str) -> None:
    def change(session: Session) -> None:
        session.get_one(Note, key).text = text

    db.run(change, attempts=100)
