"""The check of outputs, and their repair: what was interrupted, removed meanwhile, or changed by other programs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import uuid4

import numpy as np
import pymongo
import pytest

from superorm import (
    DB,
    ComponentNotFoundError,
    DuplicateKeyError,
    Listener,
    Model,
    ValidationError,
    VectorIndex,
    select,
)
from superorm._sync import listeners as module
from superorm._sync.listener_computing import Computing
from superorm._sync.listener_filling import Filling
from superorm._sync.listeners import Listeners
from superorm._sync.vector_indexes import VectorIndexes
from superorm.compile.plan import Find
from superorm.vectors import upkeep
from tests.databases import drop_database, give_back, take
from tests.db.heard import Note, expected, fill, listener, opened, put, stored
from tests.db.indexed import plain_database


class Died(BaseException):
    """A program dies."""


def die(*_: Any) -> Any:
    raise Died


def double(text: str) -> int:
    return 2 * len(text)


def vector(text: str) -> list[float]:
    return [float(len(text)), 1.0]


def turned(text: str) -> list[float]:
    return [1.0, float(len(text))]


@pytest.fixture(params=["mongomock", "mongodb"])
def place(request: pytest.FixtureRequest, mongodb_uri: str) -> Iterator[tuple[str, str]]:
    """A URL, and the name of a database that is dropped afterwards."""
    name = f"test_{uuid4().hex[:12]}"
    yield (f"mongomock://{name}" if request.param == "mongomock" else mongodb_uri), name
    if request.param != "mongomock":
        with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
            drop_database(client, name)
            drop_database(client, f"_filesystem:{name}")


@pytest.fixture
def plain(place: tuple[str, str]) -> Iterator[Any]:
    """The database without superorm."""
    real = not place[0].startswith("mongomock")
    database = plain_database(place[0], place[1], real=real)
    yield database
    if real:
        database.client.close()


def heard(name: str, function: Any) -> Listener:
    return Listener(name, model=Model(name, function), select=select(Note), key=Note.text)


def nearest(db: DB) -> list[int]:
    with db.session() as session:
        return [one.id for one in session.scalars(select(Note).like([1.0, 0.0], on="index", k=9)).all()]


def test_a_later_version_that_was_interrupted(place: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The earlier one is read, and the check says so; a rebuild goes on with the later one, in any program."""
    with opened(place) as db, opened(place) as other:
        fill(db, 4)
        db.add(heard("lengths", len))
        with monkeypatch.context() as dying:
            dying.setattr(Filling, "put", die)
            with pytest.raises(Died):
                db.add(heard("lengths", double))
        put(other, 2, "changed")
        assert {0: 0, 1: 1, 2: 7, 3: 3} == other.outputs("lengths")
        (problem,) = other.check(Note).problems
        assert problem.startswith("listener 'lengths' version 1: not all outputs were computed yet; ")
        assert problem.endswith("db.rebuild('lengths') goes on with that, and version 0 is read meanwhile")
        other.rebuild("lengths")
        assert {0: 0, 1: 2, 2: 14, 3: 6} == db.outputs("lengths")
        assert db.check(Note).ok


def test_an_index_whose_later_version_was_interrupted(place: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches go on with the earlier one, until a rebuild has made the vectors of the later one."""
    with opened(place) as db, opened(place) as other:
        fill(db, 4)
        db.add(VectorIndex("index", listener=heard("vectors", vector)))
        db.add(heard("vectors", turned))
        with monkeypatch.context() as dying:
            dying.setattr(Filling, "put", die)
            with pytest.raises(Died):
                db.add(VectorIndex("index", listener="vectors"))
        assert [3, 2, 1, 0] == nearest(other)
        (problem,) = other.check(Note).problems
        assert problem.startswith("vector_index 'index' version 1: not all outputs were computed yet; db.rebuild(")
        other.rebuild("index")
        assert [0, 1, 2, 3] == nearest(other)
        assert other.check(Note).ok


def test_an_addition_that_was_interrupted_before_it_was_announced(
    place: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is stored of it is reported; reading begins with the outputs."""
    with opened(place) as db, opened(place) as other:
        fill(db, 4)
        with monkeypatch.context() as dying:
            dying.setattr(Listeners, "add", die)
            with pytest.raises(Died):
                db.add(heard("lengths", len))
        assert ["listener 'lengths' version 0: not all outputs were computed yet; reading them goes on with that"] == [
            *other.check(Note).problems
        ]
        assert {0: 0, 1: 1, 2: 2, 3: 3} == other.outputs("lengths")
        assert other.check(Note).ok


@pytest.mark.parametrize(("cls", "at"), [(Listeners, "catch_up_before"), (VectorIndexes, "check")])
def test_what_is_removed_beside_a_check(
    place: tuple[str, str], monkeypatch: pytest.MonkeyPatch, cls: Any, at: str
) -> None:
    """It is no problem that it is not there any more."""
    before, met = getattr(cls, at), list[str]()
    with opened(place) as db, opened(place) as other:
        fill(db, 4)
        db.add(VectorIndex("index", listener=heard("vectors", vector)))

        def meeting(self: Any, *args: Any, **options: Any) -> Any:
            if not met:
                met.append("met")
                other.remove("vector_index", "index", recursive=True)
            return before(self, *args, **options)

        monkeypatch.setattr(cls, at, meeting)
        assert [] == [*db.check(Note).problems]
        assert ["met"] == met


def test_a_commit_beside_a_removal(
    place: tuple[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """That outputs cannot be computed which are about to go is no error; who reads them is told."""
    sweep, met = Listeners.sweep, list[str]()
    with opened(place) as db, opened(place) as other:
        fill(db, 4)
        db.add(heard("lengths", len))
        outputs = other.outputs("lengths")

        def meeting(self: Listeners) -> None:
            put(other, 2, "changed")
            with pytest.raises(ComponentNotFoundError, match="no listener 'lengths"):
                outputs[2]
            met.append("met")
            sweep(self)

        monkeypatch.setattr(Listeners, "sweep", meeting)
        db.remove("listener", "lengths")
        assert ["met"] == met
        assert [] == [one for one in caplog.records if one.name == "superorm.listeners"]


def test_outputs_that_come_after_a_removal(mongodb_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who adds a listener, and dies before it hears that others removed it, leaves nothing for long."""
    insert = Computing.insert
    place = (mongodb_uri, take(mongodb_uri))
    with opened(place) as db, opened(place) as other:
        fill(db, 4)
        db.add(heard("kept", len))

        def meeting(self: Computing, outputs: Any) -> None:
            other.remove("listener", "lengths")
            insert(self, outputs)
            raise Died

        with monkeypatch.context() as dying:
            dying.setattr(Computing, "insert", meeting)
            with pytest.raises(Died):
                db.add(listener())
        assert 4 == len(stored(other))
        other.gc()
        assert {} == stored(other)
        assert expected(other) == stored(other, "kept")
        assert other.check(Note).ok
    give_back(*place)


def test_outputs_that_another_program_lost_or_damaged(place: tuple[str, str], plain: Any) -> None:
    """They are reported, told where they are read, and computed anew by a rebuild: with what depends on them."""
    with opened(place) as db:
        fill(db, 8)
        db.add(heard("vectors", vector))
        db.add(Listener("arrays", model=Model("arrays", np.array), listener="vectors"))
        db.add(VectorIndex("index", listener="arrays"))
        assert db.check(Note).ok
        outputs = plain["_superorm_outputs"]
        outputs.delete_one({"_id.listener": "vectors", "_id.key": 1})
        outputs.update_one({"_id.listener": "vectors", "_id.key": 2}, {"$unset": {"output": 1}})
        outputs.update_one({"_id.listener": "vectors", "_id.key": 3}, {"$unset": {"source": 1}})
        outputs.update_one({"_id.listener": "arrays", "_id.key": 4}, {"$set": {"output": "garbage"}})
        outputs.update_one({"_id.listener": "arrays", "_id.key": 5}, {"$set": {"output": None}})
        outputs.update_one({"_id.listener": "arrays", "_id.key": 6}, {"$set": {"output.dtype": "garbage"}})
        problems = db.check(Note).problems
        for key, what in ((1, "is not of the document"), (2, "was changed by"), (3, "is not of the document")):
            assert any(f"'vectors' version 0: the output of {key} {what}" in one for one in problems)
        for key in (4, 5, 6):
            assert any(f"'arrays' version 0: the output of {key} was changed by" in one for one in problems)
        with pytest.raises(ValidationError, match="listener 'arrays' version 0 for 4 was changed by another program"):
            db.outputs("arrays")[4]
        for name in ("vectors", "arrays"):
            db.rebuild(name)
        assert {key: vector("x" * key) for key in range(8)} == db.outputs("vectors")
        assert {key: vector("x" * key) for key in range(8)} == {
            key: [*one] for key, one in db.outputs("arrays").items()
        }
        assert [7, 6, 5, 4, 3, 2, 1, 0] == nearest(db)
        assert db.check(Note).ok


def test_vectors_that_another_program_changed(place: tuple[str, str], plain: Any) -> None:
    """An index holds what the outputs are, which is compared with them."""
    with opened(place) as db:
        fill(db, 8)
        db.add(VectorIndex("index", listener=heard("vectors", vector)))
        (collection,) = (name for name in plain.list_collection_names() if name.startswith("_superorm_outputs."))
        other = plain[collection].find_one({"_id": 0})["v"]
        plain[collection].update_one({"_id": 7}, {"$set": {"v": other}})
        plain[collection].update_one({"_id": 6}, {"$unset": {"v": 1}})
        problems = db.check(Note).problems
        for key in (6, 7):
            assert f"vector_index 'index' version 0: the output of {key} was changed by another program" in problems
        db.rebuild("index")
        assert [7, 6, 5, 4, 3, 2, 1, 0] == nearest(db)
        assert db.check(Note).ok


def test_a_rebuild_of_nothing(place: tuple[str, str]) -> None:
    """There is neither a listener nor an index of that name."""
    with opened(place) as db:
        db.add(listener())
        assert {} == stored(db) == expected(db)
        with pytest.raises(ComponentNotFoundError, match="no vector_index 'nowhere'"):
            db.rebuild("nowhere")


def test_an_earlier_output_that_comes_after_a_later_one(
    place: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without transactions a program may write it, and die, when others have computed the later one: that is found."""
    with opened(place) as db, opened(place) as other:
        fill(db, 3)
        db.add(listener())
        write, met = db.parts.data_backend.write, list[str]()

        def meeting(plan: Any, **options: Any) -> Any:
            if plan.collection != "_superorm_outputs" or met:
                return write(plan, **options)
            met.append("met")
            if options.get("session") is None:
                put(other, 1, "the newest text")
            write(plan, **options)
            raise Died

        monkeypatch.setattr(db.parts.data_backend, "write", meeting)
        with pytest.raises(Died):
            put(db, 1, "a newer text")
        assert ["met"] == met
        assert expected(other) == dict(other.outputs("lengths"))
        assert other.check(Note).ok
        assert other.parts.data_backend.read(Find("_superorm_records", {"kind": "record"})) == []


SLOWLY: list[Any] = []


def slow(text: str) -> int:
    if SLOWLY:
        SLOWLY.pop()()
        time.sleep(0.3)
    return len(text)


def test_a_slow_model_beside_others(place: tuple[str, str], plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that a model takes is no time for which others are in the way: the outputs are compared once more."""
    published = {"$inc": {"n": 1}}
    monkeypatch.setattr(module, "_AFTER_COMMIT", 0.2)
    with opened(place) as db:
        fill(db, 3)
        db.add(heard("lengths", slow))
        SLOWLY[:] = [lambda: plain["_superorm_records"].update_one({"kind": "listener"}, published)]
        put(db, 1, "changed")
        assert [] == SLOWLY
        assert {0: 0, 1: 7, 2: 2} == stored(db)


def test_an_output_that_comes_when_others_have_ended(place: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Who inserts the output of a document that is deleted by then, and dies, leaves it to the second comparison."""
    texts = Listener("texts", model=Model("text", repr, fingerprint="repr"), listener="lengths")
    insert, met = Computing.insert, list[str]()
    with opened(place) as db, opened(place) as other:
        fill(db, 3)
        db.add(listener())

        def meeting(self: Computing, outputs: Any) -> None:
            if met:
                insert(self, outputs)
                return
            met.append("met")
            with other.begin() as session:
                session.delete(session.get_one(Note, 0))
            other.add(Listener("texts", model=Model("text", repr, fingerprint="repr"), listener="lengths"))
            assert {1: "1", 2: "2"} == other.outputs("texts")
            with suppress(DuplicateKeyError):  # by the second one
                insert(self, outputs)
            raise Died

        monkeypatch.setattr(Computing, "insert", meeting)
        with pytest.raises(Died):
            db.add(texts)
        assert {0, 1, 2} == {*stored(other, "texts")}
        monkeypatch.setattr(upkeep, "KNOWN_AFTER", timedelta(0))
        assert {1: "1", 2: "2"} == other.outputs("texts")
        assert other.check(Note).ok
