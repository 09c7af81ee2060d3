"""One of several processes that use one database and its vectors: each search beside what brute force answers."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import lancedb  # noqa: F401  # a server of forks imports this module once for all of them
import numpy as np
import pymongo
from pymongo import monitoring
from pymongo.read_concern import ReadConcern

from superorm import (
    DB,
    Document,
    DuplicateKeyError,
    LanceVectorIndex,
    Mapped,
    MongoArtifactStore,
    MongoDatabackend,
    MongoMetaDataStore,
    Session,
    StaleDocumentError,
    SuperormError,
    delete,
    field,
    insert,
    score,
    select,
    update,
    vector,
)
from superorm.backends.errors import has_error_label
from superorm.schema.document import class_map
from superorm.vectors._sync.memory import MemoryVectorIndex
from tests.databases import drop_database
from tests.vectors.brute import DIM, brute
from tests.vectors.s3_server import CREDENTIALS, LEASE

ENGINES = ["memory", "lancedb", "lancescan"]
"""The last is LanceDB with nothing of it in memory."""
METRICS = {"v": "cosine", "w": "euclidean"}


class Song(Document):
    """Of the fields to filter by one is mirrored into the vector database, the other is not."""

    __collection__ = "songs"

    id: Mapped[int] = field(primary_key=True)
    year: Mapped[int]
    mark: Mapped[bool]
    v: Mapped[np.ndarray | None] = vector(DIM, filter_fields=["year"])
    w: Mapped[np.ndarray | None] = vector(DIM, metric="euclidean")


BLANK: dict[str, Any] = {"year": 0, "mark": False}


def _song(key: int, values: Mapping[str, Any]) -> Song:
    return Song(id=key, **{**BLANK, **values})


class Place(NamedTuple):
    """Where processes meet."""

    uri: str
    name: str
    path: Path | str
    """A directory, or the URL of a bucket."""
    engine: str

    def client(self, app: str | None = None) -> pymongo.MongoClient[dict[str, Any]]:
        """A client of its own, which the server lists under the name `app`."""
        return pymongo.MongoClient(self.uri, appname=app)

    def db(self, client: Any) -> DB:
        """A DB around a client."""
        size = 0 if self.engine == "lancescan" else 1 << 20
        bucket: dict[str, Any] = {"storage_options": CREDENTIALS, "lease_seconds": LEASE} if self.engine == "s3" else {}
        return DB(
            MongoDatabackend(client, self.name),
            MongoMetaDataStore(client, self.name),
            MongoArtifactStore(client, f"_filesystem:{self.name}"),
            MemoryVectorIndex()
            if self.engine == "memory"
            else LanceVectorIndex(str(self.path), cache_bytes=size, **bucket),
            signing_keys=[b"test-key"],
        )

    def drop(self) -> None:
        """Remove the databases."""
        with self.client() as client:
            drop_database(client, self.name)
            drop_database(client, f"_filesystem:{self.name}")


def documents(client: Any, place: Place, filter: Mapping[str, Any], session: Any = None) -> list[dict[str, Any]]:
    """What plain PyMongo reads, of what is committed or in the transaction of `session`."""
    concern = None if session is not None else ReadConcern("majority")
    songs = client[place.name].get_collection("songs", read_concern=concern)
    return list(songs.find(filter, session=session).sort("_id", 1))


class Question(NamedTuple):
    """A search: `years` is a range to choose by before it, `mark` what to choose by before or after it."""

    name: str
    query: Sequence[float]
    k: int
    exact: bool
    years: tuple[int, int] | None = None
    mark: bool | None = None
    after: bool = False


class Answer(NamedTuple):
    """What a search found, and what brute force does: keys and scores."""

    found: list[tuple[int, float]]
    expected: list[tuple[int, float]]

    def check(self) -> None:
        """Raises `AssertionError` unless they are equal."""
        assert [key for key, _ in self.expected] == [key for key, _ in self.found], self
        assert np.allclose([near for _, near in self.expected], [near for _, near in self.found], atol=1e-7), self


class Peer:
    """A session of a DB, and what it is told to do with it.

    Where another transaction was in the way, the session is rolled back and "conflict" is the answer.
    """

    def __init__(self, place: Place, app: str | None = None) -> None:
        self.place = place
        with ExitStack() as stack:
            self.client = stack.enter_context(place.client(app))
            self.db = stack.enter_context(place.db(self.client))
            self.session = stack.enter_context(Session(self.db))
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Give up what is not committed, and let go of the server."""
        self._stack.close()

    def do(self, name: str, *args: Any) -> Any:
        """Call a method by its name."""
        try:
            return getattr(self, name)(*args)
        except SuperormError as error:
            if not has_error_label(error, "TransientTransactionError") and not isinstance(
                error, (DuplicateKeyError, StaleDocumentError)
            ):
                raise
            self.rollback()
            return "conflict"

    def create(self) -> None:
        """Make the collection and the indexes, at once with the field to filter by, as nobody else writes yet."""
        self.db.create_all(Song)
        self.db.rebuild(Song.v)

    def put(self, key: int, values: Mapping[str, Any]) -> None:
        """Change a song, or add it with what is missing."""
        song = self.session.get(Song, key)
        if song is None:
            self.session.add(_song(key, values))
        else:
            for name, value in values.items():
                setattr(song, name, value)

    def drop(self, key: int) -> None:
        """Delete a song, if it is there."""
        song = self.session.get(Song, key)
        if song is not None:
            self.session.delete(song)

    def statement(self, kind: str, years: tuple[int, int], values: Mapping[str, Any]) -> None:
        """Update or delete the songs of these years, or insert one under the first free key."""
        chosen = Song.year.between(*years)
        if kind == "update":
            self.session.execute(update(Song).where(chosen).values(**values))
        elif kind == "delete":
            self.session.execute(delete(Song).where(chosen))
        else:
            self.session.execute(insert(Song).values([{**BLANK, **values, "id": self._free()}]))

    def bulk(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert songs under free keys."""
        first = self._free()
        self.session.bulk_insert(_song(first + number, row) for number, row in enumerate(rows))

    def _free(self) -> int:
        return max(self.session.scalars(select(Song.id)).all(), default=0) + 1

    def flush(self) -> None:
        """Write into the transaction."""
        self.session.flush()

    def commit(self) -> None:
        """Commit."""
        self.session.commit()

    def rollback(self) -> None:
        """Roll back, and forget what was loaded: others may have changed it."""
        self.session.rollback()
        self.session.expunge_all()

    def apply(self) -> None:
        """Apply what is pending, now."""
        for one in class_map(Song).vectors:
            self.db.vectors.apply(one.spec)

    def rebuild(self, name: str) -> None:
        """Build an index anew."""
        self.db.rebuild(getattr(Song, name))

    def problems(self) -> list[str]:
        """What a check finds."""
        return list(self.db.check(Song).problems)

    def search(self, question: Question) -> Answer:
        """Search in the session."""
        before: list[Any] = []
        filter: dict[str, Any] = {}
        if question.years is not None:
            before.append(Song.year.between(*question.years))
            filter["year"] = {"$gte": question.years[0], "$lte": question.years[1]}
        if question.mark is not None and not question.after:
            before.append(Song.mark == question.mark)
            filter["mark"] = question.mark
        statement = select(Song.id, score()).where(*before)
        on = getattr(Song, question.name)
        statement = statement.like(list(question.query), on=on, k=question.k, exact=question.exact)
        if question.mark is not None and question.after:
            statement = statement.where(Song.mark == question.mark)
        found = [(key, near) for key, near in self.session.execute(statement).all()]
        read = documents(self.client, self.place, filter, self.session._work.server_session)
        expected = brute(read, question.query, question.k, METRICS[question.name], question.name)
        if question.mark is not None and question.after:
            marks = {document["_id"]: document["mark"] for document in read}
            expected = [(key, near) for key, near in expected if marks[key] == question.mark]
        return Answer(found, expected)

    def die_after(self, commands: int) -> None:
        """Be killed just before another command than so many is sent to the server, by whatever thread; -1: not."""
        Fate.left = commands


class Fate(monitoring.CommandListener):
    """Kills the process before a certain command."""

    left = -1
    _lock = threading.Lock()

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """A command is about to be sent."""
        with self._lock:
            if Fate.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            Fate.left -= Fate.left > 0

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Nothing."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Nothing."""
