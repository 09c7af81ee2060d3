"""Processes that share a bucket: one is killed, or stopped for longer than its lease lasts, in the middle."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from typing import Any
from uuid import uuid4

import numpy as np
import pymongo
import pytest

from superorm import LanceVectorIndex, Session, connect, select
from superorm.schema.document import class_map
from tests.vectors.brute import DIM, vector_of
from tests.vectors.peer import METRICS, Peer, Place, Question, Song, documents
from tests.vectors.processes import settle, started
from tests.vectors.s3_server import CREDENTIALS, KEY, SECRET, S3Server
from tests.vectors.test_load import by_key, work

VECTORS = np.random.default_rng(0).standard_normal((8, DIM)).astype("f4")
(SPEC,) = (one.spec for one in class_map(Song).vectors if one.spec.path == "v")


@pytest.fixture
def place(mongodb_uri: str, s3: S3Server) -> Iterator[Place]:
    """A database whose vectors are in a bucket."""
    place = Place(mongodb_uri, f"vectors_{uuid4().hex[:12]}", s3.url(s3.bucket(), "songs"), "s3")
    yield place
    place.drop()


def apply_and_wait(pipe: Connection, place: Place, app: str, point: str) -> None:
    """Apply what is pending; at the point, under the lease, tell of it and wait for a word; tell how it ended."""
    peer = Peer(place, app)
    copies: Any = peer.db.vectors.copies
    name = {"read": "write_step", "written": "publish_step"}[point]
    step = getattr(copies, name)

    def waiting(*args: Any) -> Any:
        setattr(copies, name, step)
        pipe.send("there")
        pipe.recv()
        return step(*args)

    setattr(copies, name, waiting)
    peer.db.vectors.apply(SPEC)
    peer.close()
    pipe.send("done")


@contextmanager
def one_in_the_middle(place: Place, point: str) -> Iterator[tuple[Peer, Any, Connection, str]]:
    """A peer of this process, and another process that is in the middle of applying song 0, that is far away."""
    app = f"applier-{uuid4().hex[:12]}"
    with closing(Peer(place)) as peer:
        peer.create()
        for key in range(4):
            peer.put(key, {"v": VECTORS[key]})
        peer.commit()
        peer.apply()
        peer.db.vectors._background._applier.stop()
        peer.put(0, {"v": -VECTORS[0]})
        peer.commit()
        process, pipe = started(apply_and_wait, place, app, point)
        with pipe:
            assert "there" == pipe.recv()
            yield peer, process, pipe, app
        process.join(30)


def finds(peer: Peer) -> None:
    """Assert that the peer finds what brute force does."""
    for name in METRICS:
        for vector in VECTORS[:3]:
            answer = peer.search(Question(name, vector.tolist(), 10, True))
            answer.check()
    peer.rollback()


@pytest.mark.parametrize("point", ["read", "written"])
def test_a_killed_holder(place: Place, point: str) -> None:
    """The lease of a killed process expires; until then searches are right, then another applies and publishes."""
    with one_in_the_middle(place, point) as (peer, process, _, app):
        process.kill()
        process.join()
        assert -signal.SIGKILL == process.exitcode
        settle(peer.client, app)
        finds(peer)
        peer.apply()
        assert [] == peer.problems()
        finds(peer)
        with closing(Peer(place)) as newcomer:
            finds(newcomer)


@pytest.mark.parametrize("point", ["read", "written"])
def test_a_stopped_holder(place: Place, point: str) -> None:
    """C: a process that was stopped for longer than its lease wakes up; its write is never seen, and all goes on."""
    with one_in_the_middle(place, point) as (peer, process, pipe, _):
        os.kill(process.pid, signal.SIGSTOP)
        peer.put(0, {"v": VECTORS[0]})
        peer.commit()
        peer.apply()
        state = peer.client[place.name]["_superorm_records"].find_one({"kind": "state", "i": "songs.v"})
        finds(peer)
        os.kill(process.pid, signal.SIGCONT)
        pipe.send("go on")
        assert "done" == pipe.recv()
        process.join(30)
        assert 0 == process.exitcode
        after = peer.client[place.name]["_superorm_records"].find_one({"kind": "state", "i": "songs.v"})
        assert state is not None
        assert after is not None
        assert (state["n"], state["ver"]) == (after["n"], after["ver"])
        finds(peer)
        peer.put(1, {"v": -VECTORS[1]})
        peer.commit()
        peer.apply()
        with closing(Peer(place)) as newcomer:
            finds(newcomer)
            assert [] == newcomer.problems()


def test_two_writers(place: Place) -> None:
    """Two processes of many threads write and search: nothing fails, and no row is lost or there twice."""
    with place.client() as client, closing(Peer(place)) as peer:
        peer.create()
        pipes = [started(work, place, number, 4.0)[1] for number in range(2)]
        for pipe in pipes:
            assert pipe.recv()
        for pipe in pipes:
            pipe.send(True)
        found = [pipe.recv() for pipe in pipes]
        for pipe in pipes:
            pipe.close()
        assert [] == [error for report in found for error in report.errors]
        expected = {key: vector for report in found for key, vector in report.vectors.items()}
        stored = {one["_id"]: vector for one in documents(client, place, {}) if (vector := vector_of(one)) is not None}
        assert by_key(expected) == by_key(stored)
        assert [] == peer.problems()
        copies: Any = peer.db.vectors.copies
        state = client[place.name]["_superorm_records"].find_one({"kind": "state", "i": "songs.v"})
        assert state is not None
        rows = copies.tables.read(state["table"], state["ver"], DIM, "cosine")
        assert len(expected) == len(rows) == copies.tables.count(state["table"], state["ver"])
        finds(peer)


def test_all_that_open_at_once_are_one_engine(s3: S3Server) -> None:
    """One of them gives the engine its id."""
    bucket = s3.bucket()
    with ThreadPoolExecutor(8) as pool:
        for number in range(8):
            uri = s3.url(bucket, f"new{number}")
            opened = list(pool.map(lambda uri: LanceVectorIndex(uri, storage_options=CREDENTIALS).open(), [uri] * 8))
            assert 1 == len(set(opened))


def test_connect(mongodb_uri: str, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """URLs of both forms, with what boto3 takes from the environment; a DB's repr has the URL and no key."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_ENDPOINT_URL": s3.endpoint,
        "AWS_DEFAULT_REGION": "eu-west-1",
    }.items():
        monkeypatch.setenv(name, value)
    bucket, name = s3.bucket(), f"vectors_{uuid4().hex[:12]}"
    found: list[Any] = []
    for url in (f"s3://{bucket}/there", f"lancedb://s3://{bucket}/there"):
        with connect(mongodb_uri, database=name, vector_database=url) as db:
            if not found:
                db.create_all(Song)
                with db.begin() as session:
                    session.add_all([Song(id=n, year=n, mark=True, v=VECTORS[n], w=None) for n in range(3)])
            with Session(db) as session:
                statement = select(Song.id).like(VECTORS[1], on=Song.v, k=1)
                found.append(session.scalars(statement).all())
                assert "lancedb" == db.explain(statement).engine
            assert f"s3://{bucket}/there" in repr(db)
            assert SECRET not in repr(db)
            assert KEY not in repr(db)
            assert db.check(Song).ok
    assert [[1], [1]] == found
    with pymongo.MongoClient[Any](mongodb_uri) as client:
        assert 1 == len(client[name]["_superorm_records"].distinct("engine", {"kind": "state"}))
        client.drop_database(name)
