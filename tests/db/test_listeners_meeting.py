"""Listeners beside others: commits at once, programs that die, programs that have not heard of a listener yet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any
from uuid import uuid4

import pymongo
import pytest

from superorm import ComponentNotFoundError, Listener, Model, PredictionError, insert, select
from superorm._sync import listeners as module
from superorm._sync.listener_computing import PATIENCE, Computing
from superorm._sync.listener_filling import Filling
from superorm._sync.listeners import Listeners
from superorm.compile.plan import Find
from superorm.unitofwork.writes import Delete, Update, UpdateOp
from superorm.vectors import upkeep
from tests.databases import drop_database
from tests.db.heard import Bare, Note, expected, fill, listener, opened, put, stored


@pytest.fixture(params=["mongomock", "mongodb"])
def place(request: pytest.FixtureRequest, mongodb_uri: str) -> Iterator[tuple[str, str]]:
    """A URL, and the name of a database that is dropped afterwards."""
    name = f"test_{uuid4().hex[:12]}"
    yield (f"mongomock://{name}" if request.param == "mongomock" else mongodb_uri), name
    if request.param != "mongomock":
        with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
            drop_database(client, name)
            drop_database(client, f"_filesystem:{name}")


def test_commits_at_once(mongodb_uri: str) -> None:
    """However the commits of several programs meet, the outputs that stand are those of the documents."""
    place = (mongodb_uri, f"test_{uuid4().hex[:12]}")
    with opened(place) as one, opened(place) as other:
        fill(one, 6)
        one.add(listener())
        one.add(Listener("texts", model=Model("text", repr, fingerprint="repr"), listener="lengths"))
        assert expected(other) == dict(other.outputs("lengths"))

        def work(worker: int) -> None:
            for turn in range(8):
                put((one, other)[worker % 2], (worker + turn) % 6, "z" * (worker + 4 * turn))

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(work, range(4)))
        assert expected(one) == stored(one)
        assert {key: repr(length) for key, length in expected(one).items()} == stored(one, "texts")
        assert one.check(Note).ok
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        drop_database(client, place[1])
        drop_database(client, f"_filesystem:{place[1]}")


def test_an_older_output_does_not_take_the_place_of_a_newer_one(
    place: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one computes from a document as it was, another computes from what it is now: the later one stays."""
    with opened(place) as db:
        fill(db, 3)
        db.add(listener())
        compute, met = Computing.outputs, list[str]()

        def meeting(self: Computing, *args: Any) -> Any:
            found = compute(self, *args)
            if not met:
                met.append("met")
                put(db, 1, "the newest text")
            return found

        monkeypatch.setattr(Computing, "outputs", meeting)
        put(db, 1, "a newer text")
        assert ["met"] == met
        assert 15 == stored(db)[1]
        assert expected(db) == stored(db)


def test_a_program_that_dies_after_its_commit(place: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What it did not compute is recorded with the documents: whoever reads next computes it, deletions too."""
    with opened(place) as db:
        fill(db, 4)
        db.add(listener())
        with monkeypatch.context() as dying:
            dying.setattr(Listeners, "follow", lambda self, paths: None)
            put(db, 2, "changed")
            with db.begin() as session:
                session.delete(session.get_one(Note, 3))
        assert {0: 0, 1: 1, 2: 2, 3: 3} == stored(db)
        with opened(place) as other:
            outputs = other.outputs("lengths")
            assert 7 == outputs[2]
            assert 3 not in outputs
            assert {0: 0, 1: 1, 2: 7} == dict(outputs)


def test_a_backfill_that_was_interrupted_goes_on(place: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading outputs of which not all were computed goes on where it ended; so does adding the listener again."""
    asked: list[str] = []

    class Hearing:
        def predict(self, texts: list[str]) -> list[int]:
            if len(asked) >= 4 and not going_on:
                raise SystemExit
            asked.extend(texts)
            return [len(text) for text in texts]

        def __getstate__(self) -> dict[str, Any]:
            return {}

    going_on = False
    model = Model("length", Hearing(), fingerprint="hearing")
    monkeypatch.setattr(module, "BATCH", 2)
    with opened(place) as db:
        fill(db, 9)
        with pytest.raises(SystemExit):
            db.add(Listener("lengths", model=model, select=select(Note), key=Note.text))
        assert 4 == len(stored(db))
        assert not db.check(Note).ok
        going_on = True
        assert 9 == len(db.outputs("lengths"))
        assert 9 == len(asked)
        assert expected(db) == stored(db)
        assert db.check(Note).ok
        db.add(Listener("lengths", model=model, select=select(Note), key=Note.text))
        assert 9 == len(asked)


def test_a_program_that_has_not_heard_of_the_listener(place: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What it writes until it has, and commits until then, is found once every program knows of the listener."""
    with opened(place) as old, opened(place) as new:
        fill(old, 5)  # it has asked which listeners there are
        new.add(listener())
        put(old, 2, "changed")
        with old.begin() as session:
            session.delete(session.get_one(Note, 4))
        assert {0: 0, 1: 1, 2: 2, 3: 3, 4: 4} == stored(new)
        monkeypatch.setattr(upkeep, "KNOWN_AFTER", timedelta(0))
        assert {0: 0, 1: 1, 2: 7, 3: 3} == dict(new.outputs("lengths"))


def test_check_tells_what_is_wrong(place: tuple[str, str]) -> None:
    """Outputs that somebody changed, or left, behind superorm's back."""
    with opened(place) as db:
        fill(db, 3)
        db.add(listener())
        backend = db.parts.data_backend
        backend.write(Update("heard_notes", [UpdateOp(q={"_id": 1}, u={"$set": {"text": "behind"}})]))
        backend.write(Delete("heard_notes", [{"_id": 2}]))
        problems = db.check(Note).problems
        assert ["the output of 1 is not of the document", "the output of 2 has no document"] == [
            problem.rpartition(": ")[2] for problem in problems
        ]


def test_outputs_are_a_mapping(place: tuple[str, str]) -> None:
    """With all that mappings have."""
    with opened(place) as db:
        fill(db, 3)
        db.add(listener())
        outputs = db.outputs("lengths")
        assert 3 == len(outputs)
        assert {0, 1, 2} == set(outputs)
        assert 1 in outputs
        assert 5 not in outputs
        assert outputs.get(5) is None
        assert [0, 1, 2] == sorted(outputs.values())
        assert {(0, 0), (1, 1), (2, 2)} == set(outputs.items())
        assert {0: 0, 1: 1, 2: 2} == outputs
        assert "lengths" in repr(outputs)


def test_a_model_that_fails_leaves_the_outputs_of_others(place: tuple[str, str]) -> None:
    """Where the outputs of one commit cannot be computed, the error tells the document."""

    def length(text: str) -> int:
        return len(text) // (text != "bad")

    with opened(place) as db:
        fill(db, 3)
        db.add(Listener("lengths", model=Model("length", length), select=select(Note), key=Note.text))
        put(db, 1, "bad")
        with pytest.raises(PredictionError, match="Note 1"):
            db.outputs("lengths")[0]
        put(db, 1, "good")
        assert {0: 0, 1: 4, 2: 2} == db.outputs("lengths")


def test_the_time_is_that_of_the_server(mongodb_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program whose clock is a year ahead does not hold that every program knows of the listener."""

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + timedelta(days=365)

    monkeypatch.setattr(module, "datetime", Ahead)
    place = (mongodb_uri, f"test_{uuid4().hex[:12]}")
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri, tz_aware=True) as client, opened(place) as db:
        fill(db, 2)
        db.add(listener())
        assert 2 == len(db.outputs("lengths"))
        (state,) = client[place[1]]["_superorm_records"].find({"kind": "listener"})
        assert not state["settled"]
        assert abs(state["since"] - datetime.now(UTC)) < timedelta(minutes=5)
        monkeypatch.setattr(upkeep, "KNOWN_AFTER", timedelta(0))
        assert 2 == len(db.outputs("lengths"))
        (state,) = client[place[1]]["_superorm_records"].find({"kind": "listener"})
        assert state["settled"]
        drop_database(client, place[1])
        drop_database(client, f"_filesystem:{place[1]}")


MEETINGS: list[Callable[[], None]] = []
ASKED: list[str] = []


class Meeting:
    """Does once what was put into `MEETINGS` while it is asked, in whatever program."""

    def predict(self, texts: list[str]) -> list[int]:
        ASKED.extend(texts)
        if MEETINGS:
            MEETINGS.pop()()
        return [len(text) for text in texts]


class Third:
    """A model that calls `MEETINGS` for the third of the documents that `fill` makes."""

    def __call__(self, text: str) -> int:
        if len(text) == 2:
            MEETINGS[0]()
        return len(text)


def meeting_model(meet: Callable[[], None]) -> Model:
    """One that calls `meet` the first time that it is asked."""
    ASKED.clear()
    MEETINGS[:] = [meet]
    return Model("length", Meeting(), fingerprint="meeting")


def test_a_commit_beside_a_backfill_computes_what_it_changed(
    place: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It neither waits for all the others, nor computes them; the backfill leaves its outputs alone."""
    monkeypatch.setattr(module, "BATCH", 2)
    seen: list[dict[Any, Any]] = []
    with opened(place) as db, opened(place) as other:
        fill(db, 9)

        def meet() -> None:
            put(other, 0, "changed first")
            put(other, 8, "changed last")
            with other.begin() as session:
                session.delete(session.get_one(Note, 1))
            seen.append(stored(other))

        db.add(Listener("lengths", model=meeting_model(meet), select=select(Note), key=Note.text))
        assert [{0: 13, 8: 12}] == seen
        assert {0: 13, 8: 12, **{n: n for n in range(2, 8)}} == stored(db)
        assert expected(db) == stored(db)
        assert db.check(Note).ok


def test_what_is_deleted_beside_a_backfill_has_no_output(
    place: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it was read before, and nothing else was changed."""
    monkeypatch.setattr(module, "BATCH", 2)
    with opened(place) as db, opened(place) as other:
        fill(db, 5)

        def meet() -> None:
            with other.begin() as session:
                session.delete(session.get_one(Note, 1))
            assert {} == stored(other)

        db.add(Listener("lengths", model=meeting_model(meet), select=select(Note), key=Note.text))
        assert {0: 0, 2: 2, 3: 3, 4: 4} == stored(db) == expected(db)
        assert db.check(Note).ok


def test_a_listener_to_outputs_that_are_being_inserted(mongodb_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has all that its own backfill did not see, of documents too whose program died after the commit."""
    monkeypatch.setattr(module, "BATCH", 2)
    place, put, met = (mongodb_uri, f"test_{uuid4().hex[:12]}"), Filling.put, list[str]()
    with opened(place) as db, opened(place) as other:
        fill(db, 2)

        def meet(filling: Filling, found: Any) -> None:
            put(filling, found)
            if met:
                return
            met.append("once")
            filling.settle()
            other.add(Listener("texts", model=Model("text", repr, fingerprint="repr"), listener="lengths"))
            assert {0: "0", 1: "1"} == stored(other, "texts")
            with monkeypatch.context() as dying:
                dying.setattr(Listeners, "follow", lambda self, paths: None)
                with other.begin() as session:
                    session.add_all([Note(id=8, text="new"), Note(id=9, text="newer")])

        monkeypatch.setattr(Filling, "put", meet)
        db.add(listener())
        assert {0: 0, 1: 1, 8: 3, 9: 5} == stored(db)
        assert {0: "0", 1: "1", 8: "3", 9: "5"} == dict(db.outputs("texts"))
        assert db.check(Note).ok
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        drop_database(client, place[1])
        drop_database(client, f"_filesystem:{place[1]}")


def test_a_model_that_fails_while_outputs_are_written(mongodb_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the listener stays: what is being written is waited for, and removed with the rest."""
    monkeypatch.setattr(module, "BATCH", 2)
    begun, failed, write = Event(), Event(), Computing.insert

    def slowly(self: Computing, outputs: Any) -> None:
        begun.set()
        assert failed.wait(10)
        time.sleep(0.2)
        write(self, outputs)

    def fails() -> None:
        assert begun.wait(10)
        failed.set()
        raise OSError("no connection")

    MEETINGS[:] = [fails]
    monkeypatch.setattr(Computing, "insert", slowly)
    place = (mongodb_uri, f"test_{uuid4().hex[:12]}")
    with opened(place) as db:
        fill(db, 5)
        with pytest.raises(PredictionError, match="no connection"):
            db.add(Listener("lengths", model=Model("length", Third()), select=select(Note), key=Note.text))
        assert {} == stored(db)
        assert [] == db.show("listener")
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        drop_database(client, place[1])
        drop_database(client, f"_filesystem:{place[1]}")


def test_a_model_that_takes_longer_than_the_server_keeps_cursors(
    mongodb_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The documents are read again, and nothing is computed twice."""
    monkeypatch.setattr(module, "BATCH", 2)
    place = (mongodb_uri, f"test_{uuid4().hex[:12]}")
    namespace = f"{place[1]}.heard_notes"
    killed: list[int] = []

    def kill() -> None:
        found = client.admin.aggregate([{"$currentOp": {"idleCursors": True}}, {"$match": {"ns": namespace}}])
        idle = [one["cursor"]["cursorId"] for one in found if one["type"] == "idleCursor"]
        killed.extend(client[place[1]].command("killCursors", "heard_notes", cursors=idle)["cursorsKilled"])

    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client, opened(place) as db:
        fill(db, 11)
        model = meeting_model(kill)
        MEETINGS.append(kill)
        db.add(Listener("lengths", model=model, select=select(Note), key=Note.text))
        assert 2 == len(killed)
        assert ["x" * n for n in range(11)] == sorted(ASKED)
        assert expected(db) == stored(db)
        drop_database(client, place[1])
        drop_database(client, f"_filesystem:{place[1]}")


def test_a_program_that_dies_while_it_publishes(mongodb_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its transaction lasts until the server ends it: commits do not wait for that, readers do."""
    monkeypatch.setattr(module, "_AFTER_COMMIT", 0.1)
    place = (mongodb_uri, f"test_{uuid4().hex[:12]}")
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client, opened(place) as db:
        name = "transactionLifetimeLimitSeconds"
        assert client.admin.command({"getParameter": 1, name: 1})[name] < PATIENCE
        fill(db, 3)
        db.add(listener())
        records = client[place[1]]["_superorm_records"]
        with client.start_session() as dead, ThreadPoolExecutor(1) as threads:
            dead.start_transaction()
            assert 1 == records.update_one({"kind": "listener"}, {"$inc": {"n": 1}}, session=dead).modified_count
            put(db, 1, "changed")
            assert {0: 0, 1: 1, 2: 2} == stored(db)
            reading = threads.submit(lambda: dict(db.outputs("lengths")))
            with pytest.raises(TimeoutError):
                reading.result(1)
            dead.abort_transaction()
            assert {0: 0, 1: 7, 2: 2} == reading.result(60)
        drop_database(client, place[1])
        drop_database(client, f"_filesystem:{place[1]}")


def test_a_listener_that_is_removed_during_its_backfill(
    place: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever adds it is told; nothing of it stays."""
    monkeypatch.setattr(module, "BATCH", 2)
    with opened(place) as db, opened(place) as other:
        fill(db, 9)
        model = meeting_model(lambda: other.remove("listener", "lengths"))
        with pytest.raises(ComponentNotFoundError, match="'lengths' version 0 was removed"):
            db.add(Listener("lengths", model=model, select=select(Note), key=Note.text))
        assert {} == stored(db)
        assert [] == db.parts.data_backend.read(Find("_superorm_records", {"kind": {"$in": ["listener", "record"]}}))
        assert [] == db.show("model")


def test_a_backfill_that_fails_where_another_succeeds(place: tuple[str, str]) -> None:
    """What somebody else has added meanwhile, with all its outputs, stays."""
    with opened(place) as db, opened(place) as other:
        fill(db, 3)

        def meet() -> None:
            good = Model("length", len, fingerprint="meeting")
            other.add(Listener("lengths", model=good, select=select(Note), key=Note.text))
            raise OSError("no connection")

        with pytest.raises(PredictionError, match="no connection"):
            db.add(Listener("lengths", model=meeting_model(meet), select=select(Note), key=Note.text))
        assert ["lengths"] == db.show("listener")
        assert {0: 0, 1: 1, 2: 2} == dict(other.outputs("lengths"))


def test_a_program_that_dies_between_the_listeners_of_a_chain(
    place: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the second one is to compute was recorded when the first one's outputs were published."""
    with opened(place) as db:
        fill(db, 4)
        db.add(listener())
        db.add(Listener("texts", model=Model("text", repr, fingerprint="repr"), listener="lengths"))
        compute = Computing.compute

        def dying(self: Computing, state: Any, *args: Any) -> None:
            if state.named.name == "texts":
                raise OSError("dead")
            compute(self, state, *args)

        with monkeypatch.context() as death:
            death.setattr(Computing, "compute", dying)
            put(db, 2, "changed")
            with db.begin() as session:
                session.delete(session.get_one(Note, 3))
        assert 7 == stored(db)[2]
        assert "2" == stored(db, "texts")[2]
        with opened(place) as other:
            assert {0: "0", 1: "1", 2: "7"} == dict(other.outputs("texts"))
            assert other.check(Note).ok


def test_a_listener_that_comes_while_the_outputs_before_it_are_computed(
    place: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has read that nobody listens to the outputs does not publish them, but looks again."""
    with opened(place) as db, opened(place) as other:
        fill(db, 3)
        db.add(listener())
        compute, met = Computing.outputs, list[str]()

        def meeting(self: Computing, *args: Any) -> Any:
            found = compute(self, *args)
            if not met:
                met.append("met")
                with monkeypatch.context() as stopped:
                    stopped.setattr(Listeners, "compute_recorded", lambda self, state: None)
                    other.add(Listener("texts", model=Model("text", repr, fingerprint="repr"), listener="lengths"))
            return found

        monkeypatch.setattr(Computing, "outputs", meeting)
        put(db, 1, "a newer text")
        assert ["met"] == met
        assert {0: "0", 1: "12", 2: "2"} == dict(other.outputs("texts"))


def test_a_chain_that_was_there_before_any_document(place: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents of a program that has not heard of it are found for all of its listeners."""
    with opened(place) as old, opened(place) as new:
        fill(old, 0)
        with old.begin() as session:
            session.add(Note(id=50, text="x"))
            session.flush()
            session.delete(session.get_one(Note, 50))
        new.add(listener())
        new.add(Listener("texts", model=Model("text", repr, fingerprint="repr"), listener="lengths"))
        with old.begin() as session:
            session.add_all([Note(id=n, text="x" * n) for n in range(4)])
        assert {} == stored(new)
        monkeypatch.setattr(upkeep, "KNOWN_AFTER", timedelta(0))
        assert {n: str(n) for n in range(4)} == dict(new.outputs("texts"))
        assert {n: n for n in range(4)} == dict(new.outputs("lengths"))


def test_check_tells_of_a_model_that_fails_elsewhere(place: tuple[str, str]) -> None:
    """A program that has committed nothing itself computes what is recorded, and reports why it cannot."""

    def length(text: str) -> int:
        return len(text) // (text != "bad")

    with opened(place) as db, opened(place) as other:
        fill(db, 3)
        db.add(Listener("lengths", model=Model("length", length), select=select(Note), key=Note.text))
        put(db, 1, "bad")
        (problem,) = other.check(Note).problems
        assert "its outputs could not be computed" in problem
        assert "Note 1" in problem
        put(other, 1, "good")
        assert other.check(Note).ok


def test_documents_without_the_field(place: tuple[str, str]) -> None:
    """What another class of the collection inserts, or upserts, has the field's default to the listener."""
    with opened(place) as db:
        fill(db, 1)
        db.add(listener())
        with db.begin() as session:
            session.add(Bare(id=7))
            session.execute(insert(Bare).values([{"id": 8}]).upsert())
        assert {0: 0, 7: 0, 8: 0} == stored(db)
