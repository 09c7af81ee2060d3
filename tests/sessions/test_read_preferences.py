"""With which read preference a session's reads are sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pymongo
from pymongo import ReadPreference
from pymongo.monitoring import CommandListener

from superorm import (
    DB,
    Document,
    Mapped,
    MemoryVectorIndex,
    MongoArtifactStore,
    MongoDatabackend,
    MongoMetaDataStore,
    Session,
    field,
    func,
    select,
)
from tests.sessions.servers import replica_set


class Sheet(Document):
    __collection__ = "sheets"

    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str] = field(default="")


class Sent(CommandListener):
    """The reads of a collection that a client sent: each command's name, and its read preference."""

    def __init__(self) -> None:
        self.reads: list[tuple[str, str | None]] = []

    def started(self, event: Any) -> None:
        if event.command_name in ("find", "aggregate") and "sheets" in event.command.values():
            preference = event.command.get("$readPreference", {"mode": None})
            self.reads.append((event.command_name, preference["mode"]))

    def succeeded(self, event: Any) -> None:
        pass

    def failed(self, event: Any) -> None:
        pass


READS: list[Callable[[Session], object]] = [
    lambda session: session.get(Sheet, 1),
    lambda session: session.scalars(select(Sheet)).all(),
    lambda session: list(session.stream_scalars(select(Sheet))),
    lambda session: session.count(select(Sheet)),
    lambda session: session.execute(select(Sheet.text, func.count()).group_by(Sheet.text)).all(),
]
COMMANDS = ["find", "find", "find", "aggregate", "aggregate"]


def test_read_preferences_reach_the_server(tmp_path: Path) -> None:
    """The session's, or else the DB's, goes with each read; those of a transaction go to the primary."""
    sent, preferred = Sent(), ReadPreference.SECONDARY_PREFERRED
    with replica_set(tmp_path, 1) as (member,):
        address = f"mongodb://{member.address}/?replicaSet=tests"  # to a single member PyMongo sends one of its own
        with pymongo.MongoClient[dict[str, Any]](address, event_listeners=[sent]) as client:
            parts = MongoDatabackend(client, "sheets"), MongoMetaDataStore(client, "sheets")
            store = MongoArtifactStore(client, name="_filesystem:sheets")
            db = DB(*parts, store, MemoryVectorIndex(), read_preference=ReadPreference.NEAREST)
            for options, mode in (
                ({}, "nearest"),
                ({"read_preference": preferred}, "secondaryPreferred"),
                ({"read_preference": ReadPreference.PRIMARY}, None),
            ):
                sent.reads.clear()
                with db.session(**options) as session:
                    for read in READS:
                        read(session)
                assert [(name, mode) for name in COMMANDS] == sent.reads
            sent.reads.clear()
            with db.session(read_preference=ReadPreference.PRIMARY) as session:
                session.add(Sheet(id=1))
                session.flush()
                for read in READS:
                    read(session)
            assert {None, "primary"} >= {mode for _, mode in sent.reads}
            db.close()
