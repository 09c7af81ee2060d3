"""What a process that goes on keeps in memory of components, while this one changes them."""

from __future__ import annotations

from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any
from uuid import uuid4

import pymongo
import pytest

from superorm import DB, Listener, Metric, Model, SuperormError, connect, select
from tests.ancestor.classes import Note, Plus
from tests.databases import drop_database
from tests.vectors.processes import started


def serve(pipe: Connection, settings: dict[str, Any]) -> None:
    """Call the methods of one DB that come over the pipe, until it is closed, and say what they give."""
    with connect(**settings) as db:
        while True:
            try:
                name, *args = pipe.recv()
            except EOFError:
                return
            try:
                pipe.send(getattr(Served(db), name)(*args))
            except SuperormError as error:
                pipe.send(type(error).__name__)


class Served:
    """What is asked of it."""

    def __init__(self, db: DB) -> None:
        self._db = db

    def predicted(self, name: str, version: int | None) -> Any:
        return self._db.load("model", name, version).predict([0])

    def listened(self) -> Any:
        model = self._db.load("listener", "l").model
        return model.predict([0]) if isinstance(model, Model) else None

    def measured(self) -> Any:
        return self._db.load("metric", "r")([1], [1])


class Other:
    """The process."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._process, self._pipe = started(serve, settings)

    def __call__(self, name: str, *args: Any) -> Any:
        """What it answers."""
        self._pipe.send((name, *args))
        assert self._pipe.poll(60)
        return self._pipe.recv()

    def close(self) -> None:
        """End it."""
        self._pipe.close()
        self._process.join(30)
        assert 0 == self._process.exitcode


@pytest.fixture
def both(mongodb_uri: str) -> Iterator[tuple[DB, Other]]:
    """A DB, and a process that has one over the same data."""
    name = f"test_{uuid4().hex[:12]}"
    settings: dict[str, Any] = {
        "url": mongodb_uri,
        "database": name,
        "vector_database": "memory://",
        "signing_key": "test-key",
    }
    other = Other(settings)
    with connect(**settings) as db:
        yield db, other
    other.close()
    with pymongo.MongoClient[Any](mongodb_uri) as client:
        for database in (name, f"_filesystem:{name}"):
            drop_database(client, database)


def mean(outputs: Any, targets: Any) -> float:
    return 1.0


def two(outputs: Any, targets: Any) -> float:
    return 2.0


def test_what_was_replaced_or_removed_is_not_served(both: tuple[DB, Other]) -> None:
    """A model, a metric, and the model of a listener, which the process has used."""
    db, other = both
    db.add(Model("m", Plus(1)))
    db.add(Metric("r", mean))
    assert ([1], [1], 1.0) == (other("predicted", "m", None), other("predicted", "m", 0), other("measured"))
    db.replace(Model("m", Plus(5)))
    db.replace(Metric("r", two))
    assert ([5], [5], 2.0) == (other("predicted", "m", None), other("predicted", "m", 0), other("measured"))
    assert 1 == db.add(Model("m", Plus(6))).version
    assert ([6], [5]) == (other("predicted", "m", None), other("predicted", "m", 0))
    db.remove("model", "m", 1)
    assert ([5], "ComponentNotFoundError") == (other("predicted", "m", None), other("predicted", "m", 1))
    db.remove("model", "m")
    db.remove("metric", "r")
    assert ["ComponentNotFoundError"] * 3 == [
        *(other("predicted", "m", version) for version in (None, 0)),
        other("measured"),
    ]
    assert 2 == db.add(Model("m", Plus(7))).version
    assert [7] == other("predicted", "m", None)


def test_a_listener_of_a_model_with_another_version(both: tuple[DB, Other]) -> None:
    """The newest version is served with its own model, and none once it is gone."""
    db, other = both
    for number in (1, 10):
        db.add(Listener("l", model=Model("m", Plus(number)), select=select(Note), key=Note.number))
        assert [number] == other("listened")
    db.remove("listener", "l", 1)
    assert [1] == other("listened")
    db.remove("listener", "l")
    assert "ComponentNotFoundError" == other("listened")
