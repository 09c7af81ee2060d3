"""Vector indexes beside others: programs that search while others commit, add, remove, or die."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pymongo
import pytest

from superorm import (
    DB,
    ComponentNotFoundError,
    Listener,
    Model,
    Session,
    UnsupportedError,
    VectorIndex,
    connect,
    score,
    select,
)
from superorm._sync import listeners
from superorm._sync.index_search import IndexSearch
from superorm._sync.listener_computing import Computing
from superorm._sync.listeners import Listeners
from superorm._sync.vector_builds import TableBuilds
from superorm._sync.vector_indexes import VectorIndexes
from superorm.schema.vector_spec import VectorSpec
from tests.databases import drop_database, give_back, take
from tests.db.indexed import Film, encode

QUERY = encode("what is looked for")


class Died(BaseException):
    """A program dies."""


@pytest.fixture(params=["mongomock", "mongodb+memory", "mongodb+lancedb"])
def place(request: pytest.FixtureRequest, mongodb_uri: str, tmp_path: Path) -> Iterator[tuple[str, str, str]]:
    """A URL, the name of a database that is dropped afterwards, and a vector database."""
    name = f"test_{uuid4().hex[:12]}"
    vectors = f"lancedb://{tmp_path / 'lance'}" if request.param.endswith("lancedb") else "memory://"
    yield (f"mongomock://{name}" if request.param == "mongomock" else mongodb_uri), name, vectors
    if request.param != "mongomock":
        with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
            drop_database(client, name)
            drop_database(client, f"_filesystem:{name}")


def opened(place: tuple[str, str, str]) -> DB:
    return connect(place[0], database=place[1], vector_database=place[2], signing_key="test-key")


def fill(db: DB, count: int = 20) -> None:
    db.create_all(Film)
    with db.begin() as session:
        session.add_all([Film(id=n, text=f"film {n}", year=n) for n in range(count)])


def index() -> VectorIndex:
    model = Model("encode", encode, fingerprint="encode")
    return VectorIndex("by-plot", listener=Listener("plots", model=model, select=select(Film), key=Film.text))


def put(db: DB, key: int, text: str) -> None:
    def change(session: Session) -> None:
        session.get_one(Film, key).text = text

    db.run(change, attempts=100)


def likeness(text: str) -> float:
    v, q = encode(text).astype("f8"), QUERY.astype("f8")
    return float((1 + v @ q / np.linalg.norm(v) / np.linalg.norm(q)) / 2)


def nearest(db: DB, k: int = 5) -> list[tuple[Film, float]]:
    with db.session() as session:
        return [tuple(row) for row in session.execute(select(Film, score()).like(QUERY, on="by-plot", k=k)).all()]


def expected(db: DB, k: int = 5) -> list[int]:
    """By the documents' own texts."""
    with db.session() as session:
        films = session.scalars(select(Film)).all()
    ranked = sorted((-likeness(film.text), film.id) for film in films if film.text is not None)
    return [key for _, key in ranked[:k]]


def test_what_one_program_writes_the_other_finds(place: tuple[str, str, str]) -> None:
    """As soon as the commit has returned, whichever of them has searched before."""
    with opened(place) as one, opened(place) as other:
        fill(one)
        one.add(index())
        for turn in range(6):
            writer, reader = (one, other) if turn % 2 else (other, one)
            put(writer, turn, "what is looked for")
            assert set(range(turn + 1)) == {film.id for film, _ in nearest(reader, turn + 1)}
            with writer.begin() as session:
                session.add(Film(id=100 + turn, text=f"new {turn}"))
                session.delete(session.get_one(Film, 19 - turn))
            assert expected(reader, 50) == [film.id for film, _ in nearest(reader, 50)]
            assert expected(writer, 50) == [film.id for film, _ in nearest(writer, 50)]
        assert one.check(Film).ok


def test_a_program_that_dies_after_its_commit(place: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of what it changed is lost: who searches next finds it."""
    with opened(place) as one, opened(place) as other:
        fill(one)
        one.add(index())
        assert expected(other) == [film.id for film, _ in nearest(other)]
        with monkeypatch.context() as dying:
            dying.setattr(Listeners, "follow", lambda self, paths: None)
            put(one, 7, "what is looked for")
            with one.begin() as session:
                session.delete(session.get_one(Film, expected(one)[1]))
        assert 7 == nearest(other)[0][0].id
        assert expected(other, 30) == [film.id for film, _ in nearest(other, 30)]


def test_an_addition_that_was_interrupted_goes_on(place: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """By adding it again, or by a search in another program."""

    def die(self: Computing, state: Any, *args: Any) -> Any:
        if state.spec is not None:
            raise Died
        return publish(self, state, *args)

    publish = Computing.publish
    with opened(place) as one, opened(place) as other:
        fill(one)
        with monkeypatch.context() as dying:
            dying.setattr(Computing, "publish", die)
            with pytest.raises(Died):
                one.add(index())
        put(one, 7, "what is looked for")
        with one.session() as session:
            session.add(Film(id=500, text="new"))
            session.flush()
            if one.capabilities.transactions:
                with pytest.raises(UnsupportedError, match="not all vectors of the vector_index 'by-plot' version 0"):
                    session.execute(select(Film).like(QUERY, on="by-plot"))
                session.rollback()
        assert expected(other, 30) == [film.id for film, _ in nearest(other, 30)]
        assert 0 == one.add(index()).version
        assert expected(one, 30) == [film.id for film, _ in nearest(one, 30)]
        assert one.check(Film).ok


def test_additions_at_once(place: tuple[str, str, str]) -> None:
    """They are one version, of which all vectors are there."""
    with opened(place) as one, opened(place) as other:
        fill(one, 40)
        with ThreadPoolExecutor(4) as threads:
            added = list(threads.map(lambda db: db.add(index()).version, [one, other, one, other]))
        assert [0, 0, 0, 0] == added
        assert expected(one, 50) == [film.id for film, _ in nearest(other, 50)]
        assert one.check(Film).ok


def test_an_index_that_another_program_removes(place: tuple[str, str, str]) -> None:
    """It is gone for all; one of the same name is another one."""
    with opened(place) as one, opened(place) as other:
        fill(one)
        one.add(index())
        assert expected(other) == [film.id for film, _ in nearest(other)]
        one.remove("vector_index", "by-plot", recursive=True)
        with pytest.raises(ComponentNotFoundError, match="no vector_index 'by-plot'"):
            nearest(other)
        put(other, 3, "what is looked for")
        assert 1 == one.add(index()).version
        assert 3 == nearest(other)[0][0].id
        assert expected(other, 30) == [film.id for film, _ in nearest(other, 30)]


def test_what_is_swept_beside_an_addition(place: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sweeps has seen the collection of an index that is added, and not how far that is: it stays."""
    made, looked, ended = threading.Event(), threading.Event(), threading.Event()
    make, drop = listeners.described, VectorIndexes.drop

    def making(*args: Any) -> dict[str, Any]:
        told = make(*args)
        made.set()
        assert looked.wait(20)
        return told

    def dropping(self: VectorIndexes, spec: VectorSpec) -> None:
        looked.set()
        assert ended.wait(20)
        drop(self, spec)

    with opened(place) as one, opened(place) as other:
        fill(one)
        one.add(Model("another", len))
        monkeypatch.setattr(listeners, "described", making)
        monkeypatch.setattr(VectorIndexes, "drop", dropping)

        def add() -> None:
            one.add(index())
            ended.set()

        with ThreadPoolExecutor(1) as threads:
            added = threads.submit(add)
            assert made.wait(20)
            other.remove("model", "another")
            looked.set()
            added.result()
        assert expected(one, 30) == [film.id for film, _ in nearest(one, 30)]
        assert expected(other, 30) == [film.id for film, _ in nearest(other, 30)]
        assert one.check(Film).ok


def test_a_removal_while_the_vector_database_is_filled(
    mongodb_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who adds the index is told that it was removed, and nothing of it stays."""
    place, finish, met = (
        (mongodb_uri, take(mongodb_uri), f"lancedb://{tmp_path}"),
        TableBuilds.finish_build,
        list[str](),
    )
    with opened(place) as one, opened(place) as other:
        fill(one)

        def meeting(self: TableBuilds, *args: Any) -> Any:
            if not met:
                met.append("met")
                other.remove("vector_index", "by-plot", recursive=True)
            return finish(self, *args)

        monkeypatch.setattr(TableBuilds, "finish_build", meeting)
        with pytest.raises(ComponentNotFoundError, match="the vector_index 'by-plot' version 0 was removed"):
            one.add(index())
        assert ["met"] == met
        other.gc()
        with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
            assert [] == [name for name in client[place[1]].list_collection_names() if "_outputs." in name]
            assert [] == [*client[place[1]]["_superorm_records"].find({"i": {"$regex": "_outputs"}})]
    give_back(*place[:2])


def test_a_change_in_the_middle_of_a_search(place: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What a search gives is of one moment: no document of later, nor one with the score of its earlier text."""
    show, met = IndexSearch._show, list[str]()
    with opened(place) as one, opened(place) as other:
        fill(one)
        one.add(index())
        first = expected(one)[0]

        def meeting(self: IndexSearch, *args: Any) -> Any:
            if not met:
                met.append("met")
                put(other, first, "something else")
            return show(self, *args)

        monkeypatch.setattr(IndexSearch, "_show", meeting)
        found = nearest(one)
        assert ["met"] == met
        for film, value in found:
            assert film.text is not None
            assert pytest.approx(likeness(film.text), abs=1e-6) == value
        assert expected(one) == [film.id for film, _ in nearest(one)]


def test_searches_beside_commits(mongodb_uri: str, tmp_path: Path) -> None:
    """Whatever others commit meanwhile, each score is that of the text that was found with it, nearest first."""
    place = (mongodb_uri, f"test_{uuid4().hex[:12]}", f"lancedb://{tmp_path / 'lance'}")
    over = threading.Event()
    with opened(place) as one, opened(place) as other:
        fill(one, 30)
        one.add(index())

        def write(worker: int) -> int:
            rng, turns = np.random.default_rng(worker), 0
            while not over.is_set():
                put(one, int(rng.integers(10)) * 3 + worker, f"changed {rng.integers(1000)}")
                turns += 1
            return turns

        with ThreadPoolExecutor(2) as threads:
            writing = [threads.submit(write, worker) for worker in range(2)]
            try:
                end, searches = time.monotonic() + 3, 0
                while time.monotonic() < end or searches < 3:
                    found = nearest(other, 12)
                    assert 12 == len(found)
                    scores = [value for _, value in found]
                    assert [pytest.approx(likeness(str(film.text)), abs=1e-6) for film, _ in found] == scores
                    assert sorted(scores, reverse=True) == scores
                    searches += 1
            finally:
                over.set()
            assert all(one.result() for one in writing)
        assert expected(other, 40) == [film.id for film, _ in nearest(other, 40)]
        assert one.check(Film).ok
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        drop_database(client, place[1])
        drop_database(client, f"_filesystem:{place[1]}")
