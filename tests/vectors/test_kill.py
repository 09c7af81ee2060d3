"""Processes killed in the middle of the protocol."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pymongo
import pytest
from bson import ObjectId

from superorm import delete
from superorm._sync.vector_indexes import VectorIndexes
from superorm.backends._sync.mongodb import MongoDatabackend
from superorm.exc import ConfigurationError
from superorm.unitofwork.writes import Insert
from superorm.vectors._sync.lancedb import LanceVectorIndex
from tests.databases import drop_database
from tests.vectors._sync.world import World
from tests.vectors.brute import DIM, brute, stored, vector_of
from tests.vectors.peer import METRICS, Peer, Place, Question, Song, documents
from tests.vectors.processes import CONTEXT, settle, started

VECTORS = np.random.default_rng(0).standard_normal((20, DIM)).astype("f4")


def open_world(uri: str, name: str, path: Path) -> World:
    """A handle of one process."""
    client: Any = pymongo.MongoClient(uri)
    backend = MongoDatabackend(client, name, owns_client=True)
    return World(backend, client[name], VectorIndexes(backend, LanceVectorIndex(str(path))))


def killed(uri: str, name: str, path: Path, point: str) -> None:
    """Commit, begin to apply, and die by SIGKILL at the point."""
    world = open_world(uri, name, path)
    copies: Any = world.indexes.copies

    def die(*args: Any, **names: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if point == "committed":
        copies.read_step = die
    elif point == "read":
        copies.write_step = die
    elif point == "written":
        copies.publish_step = die
    elif point == "writing":
        from superorm.vectors import lance_directory

        lance_directory.merge = die  # in the table, before its commit
    elif point in ("beside the commit", "after the commit"):
        committing_ahead(world, die, after=point.startswith("after"))
    world.put({0: -VECTORS[0], 1: None, 99: VECTORS[1]})
    world.indexes.apply(world.spec)


def committing_ahead(world: World, die: Callable[..., None], *, after: bool) -> None:
    """Insert a document that is written to the table beside its commit, and die before or after that."""
    from superorm._sync import vector_ahead, vector_tables

    vector_ahead.FROM = vector_tables.FROM = 1
    vector_ahead.LOOK = 10.0
    world.indexes.ensure(world.spec)
    copies: Any = world.indexes.copies
    write, written = copies.write_step, threading.Event()

    def write_step(*args: Any) -> Any:
        made = write(*args)
        written.set()
        return made

    copies.write_step, copies.publish_step = write_step, die
    insert = Insert("things", [{"_id": ObjectId(), "v": stored(VECTORS[1])}])
    with world.backend.transaction() as session:
        records = world.indexes.records({world.spec: [insert.documents[0]["_id"]]})
        for one in (insert, *records):
            world.backend.write(one, session=session)
        ahead = world.indexes.ahead(world.indexes.handing([world.spec], records, [insert]))
        assert ahead is not None
        ahead.begin()
        written.wait()
        if not after:
            session.abort_transaction()  # as the server does by itself after a minute
            die()
    ahead.committed = True
    ahead.ended.set()
    threading.Event().wait()


@pytest.fixture
def database(mongodb_uri: str) -> Iterator[str]:
    """The name of a database that is dropped afterwards."""
    name = f"vectors_{uuid4().hex[:12]}"
    yield name
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        drop_database(client, name)


@pytest.mark.parametrize("point", ["committed", "read", "writing", "written", "beside the commit", "after the commit"])
def test_kill(mongodb_uri: str, database: str, tmp_path: Path, point: str) -> None:
    """A process killed between the commit and the publication loses nothing: searches are right, the next applies."""
    world = open_world(mongodb_uri, database, tmp_path)
    world.indexes.ensure(world.spec)
    world.put(dict(enumerate(VECTORS)))
    world.indexes.apply(world.spec)
    world.agrees(VECTORS[1], 5)
    for _ in range(2):
        process = CONTEXT.Process(target=killed, args=(mongodb_uri, database, tmp_path, point))
        process.start()
        process.join(60)
        assert -signal.SIGKILL == process.exitcode
        world.agrees(VECTORS[1], 5)
        world.put({5: None})
    world.indexes.apply(world.spec)
    world.agrees(VECTORS[1], 5)
    assert [] == world.indexes.check(world.spec)
    world.indexes.close()
    world.backend.close()


def in_child(world: World) -> None:
    """Write in a forked process, with the parent's objects; LanceDB is not touched there."""
    world.put({3: None})
    for use in (lambda: world.indexes.apply(world.spec), lambda: world.agrees(VECTORS[2], 5)):
        with pytest.raises(ConfigurationError, match="LanceDB was used before this process was forked"):
            use()


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_fork(mongodb_uri: str, database: str, tmp_path: Path) -> None:
    """LanceDB, whose threads a fork does not copy, is refused in the child, whose writes its parent finds."""
    world = open_world(mongodb_uri, database, tmp_path)
    world.indexes.ensure(world.spec)
    world.put(dict(enumerate(VECTORS)))
    world.agrees(VECTORS[1], 5)
    copies: Any = world.indexes.copies
    context = multiprocessing.get_context("fork")
    with copies.tables.lock(copies.prefix(world.spec)):
        process = context.Process(target=in_child, args=(world,))
        process.start()
    process.join(60)
    assert 0 == process.exitcode
    world.agrees(VECTORS[2], 5)
    world.indexes.apply(world.spec)
    world.agrees(VECTORS[2], 5)
    world.backend.close()


Unit = dict[int, np.ndarray | None]
"""The new vectors of a commit by key; None where the song is deleted."""


def commit_for_ever(pipe: Connection, place: Place, app: str, seed: int) -> None:
    """Commit one unit after another; each is told before it is begun, and True once it is committed."""
    rng = np.random.default_rng(seed)
    peer = Peer(place, app)
    pipe.send(True)
    while True:
        keys = rng.choice(30, rng.integers(1, 6), replace=False).tolist()
        unit: Unit = {key: None if rng.random() < 0.3 else rng.standard_normal(DIM).astype("f4") for key in keys}
        pipe.send(unit)
        fields = {key: {"v": v, "w": -v, "year": 1, "mark": True} for key, v in unit.items() if v is not None}
        if rng.random() < 0.5:
            for key in unit:
                peer.put(key, fields[key]) if key in fields else peer.drop(key)
        else:
            peer.session.execute(delete(Song).where(Song.id.in_(keys)))
            peer.session.bulk_insert(Song(id=key, **values) for key, values in fields.items())
            peer.session.expunge_all()
        peer.commit()
        pipe.send(True)
        what = rng.random()
        if what < 0.2:
            peer.rebuild("v")
        elif what < 0.6:
            peer.apply()


def committed(place: Place, client: Any, seed: int, rng: random.Random) -> tuple[Unit, Unit]:
    """What a process committed for certain that is killed at a random moment; and what it was at.

    At times that is in its first commit, which also opens the vector database.
    """
    app = f"killed-{uuid4().hex[:12]}"
    process, pipe = started(commit_for_ever, place, app, seed)
    certain, unit = Unit(), Unit()
    with pipe:
        assert pipe.recv()
        if rng.random() < 0.8:
            certain = pipe.recv()
            assert pipe.recv()
        time.sleep(rng.random() * 0.1)
        process.kill()
        process.join()
        assert -signal.SIGKILL == process.exitcode
        try:
            while True:
                said = pipe.recv()
                if said is True:
                    certain, unit = {**certain, **unit}, {}
                else:
                    unit = said
        except (EOFError, ConnectionError):
            settle(client, app)
            return certain, unit


def changed(before: Unit, unit: Unit) -> dict[int, bytes]:
    """The bytes of the vectors after a unit."""
    return {key: vector.tobytes() for key, vector in {**before, **unit}.items() if vector is not None}


def finds_all(peer: Peer, read: list[dict[str, Any]]) -> None:
    """Assert that a peer finds the vectors of all these documents, and no other."""
    query = VECTORS[0].tolist()
    for name, metric in METRICS.items():
        answer = peer.search(Question(name, query, 1000, True))
        answer.check()
        assert brute(read, query, 1000, metric, name) == answer.expected
    peer.rollback()


@pytest.mark.parametrize("times", [4, pytest.param(120, marks=pytest.mark.soak)], ids=["short", "long"])
@pytest.mark.parametrize("engine", ["memory", "lancedb"])
def test_killed_at_any_moment(mongodb_uri: str, database: str, tmp_path: Path, engine: str, times: int) -> None:
    """Every committed vector is found and no other, by who was there and by who comes, and nothing is amiss."""
    place = Place(mongodb_uri, database, tmp_path / "lance", engine)
    rng = random.Random(times)
    known: Unit = {}
    inside = 0
    with place.client() as client, closing(Peer(place)) as witness:
        witness.create()
        for number in range(times):
            certain, unit = committed(place, client, number, rng)
            known |= certain
            read = documents(client, place, {})
            found = {one["_id"]: vector for one in read if (vector := vector_of(one)) is not None}
            assert changed(found, {}) in (changed(known, {}), changed(known, unit))
            inside += bool(unit)
            known = dict(found)
            with closing(Peer(place)) as newcomer:
                checkers = [witness, newcomer] if number % 2 else [newcomer, witness]
                for peer in checkers:
                    finds_all(peer, read)
                assert [] == checkers[0].problems()
                for peer in checkers:
                    finds_all(peer, read)
    print(f"{engine}: {times} kills, {inside} of them within a commit")
    assert inside >= times // 20
