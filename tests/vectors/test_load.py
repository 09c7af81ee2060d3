"""Processes of many threads that write and search one table at once."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import lancedb
import numpy as np
import pytest

from superorm import DB, Session, score, select
from tests.vectors.brute import DIM, brute, vector_of
from tests.vectors.peer import Peer, Place, Song, documents
from tests.vectors.processes import started

PROCESSES, THREADS, SONGS = 4, 8, 20


class Report(NamedTuple):
    """What a process saw."""

    errors: list[str]
    vectors: dict[int, np.ndarray]
    """What it left."""
    commits: list[float]
    """Seconds each."""
    searches: list[float]


class Worker:
    """A thread's part: the songs of one year, which nobody else writes."""

    def __init__(self, db: DB, year: int) -> None:
        self._db, self._year = db, year
        self._rng = np.random.default_rng(year)
        self.vectors: dict[int, np.ndarray] = {}
        self.commits: list[float] = []
        self.searches: list[float] = []

    def turn(self) -> None:
        """Write some songs in one commit, and search."""
        rng = self._rng
        keys = (self._year * SONGS + rng.choice(SONGS, rng.integers(1, 4), replace=False)).tolist()
        with Session(self._db) as session:
            for key in keys:
                self._change(session, key)
            timed(self.commits, session.commit)
        for key in self.vectors.keys() & keys:
            (first, *others) = self._search(self.vectors[key], 5)
            assert (key, 1.0) == (first[0], round(first[1], 6))
            assert len(others) + 1 == len({first[0], *(other for other, _ in others)})
        mine = [{"_id": key, "v": vector} for key, vector in sorted(self.vectors.items())]
        query = rng.standard_normal(DIM).astype("f4")
        for k in (3, 1000):
            expected = brute(mine, query, k)
            found = self._search(query, k, Song.year == self._year)
            assert [key for key, _ in expected] == [key for key, _ in found]
            assert np.allclose([near for _, near in expected], [near for _, near in found], atol=1e-7)

    def _change(self, session: Session, key: int) -> None:
        if key not in self.vectors:
            self.vectors[key] = self._vector()
            session.add(Song(id=key, year=self._year, mark=True, v=self.vectors[key], w=None))
        elif self._rng.random() < 0.3:
            session.delete(session.get_one(Song, key))
            del self.vectors[key]
        else:
            session.get_one(Song, key).v = self.vectors[key] = self._vector()

    def _vector(self) -> np.ndarray:
        return self._rng.standard_normal(DIM).astype("f4")

    def _search(self, query: np.ndarray, k: int, *where: Any) -> list[tuple[int, float]]:
        statement = select(Song.id, score()).where(*where).like(query, on=Song.v, k=k, exact=True)
        with Session(self._db) as session:
            return [(key, near) for key, near in timed(self.searches, session.execute, statement).all()]


def timed(seconds: list[float], function: Callable[..., Any], *args: Any) -> Any:
    """Call the function; its duration is added."""
    begin = time.perf_counter()
    result = function(*args)
    seconds.append(time.perf_counter() - begin)
    return result


def work(pipe: Connection, place: Place, number: int, seconds: float) -> None:
    """Write and search in many threads of one DB for some seconds once told to, and report."""
    errors: list[str] = []
    with place.client() as client, place.db(client) as db:
        workers = [Worker(db, number * THREADS + thread) for thread in range(THREADS)]
        pipe.send(True)
        assert pipe.recv()
        deadline = time.monotonic() + seconds

        def run(worker: Worker) -> None:
            try:
                while time.monotonic() < deadline and not errors:
                    worker.turn()
            except BaseException:  # noqa: BLE001 - it is reported
                errors.append(traceback.format_exc())

        threads = [threading.Thread(target=run, args=(worker,)) for worker in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    vectors = {key: vector for worker in workers for key, vector in worker.vectors.items()}
    commits = [seconds for worker in workers for seconds in worker.commits]
    searches = [seconds for worker in workers for seconds in worker.searches]
    pipe.send(Report(errors, vectors, commits, searches))


def reports(place: Place, seconds: float) -> list[Report]:
    """What all processes saw that work at the same time."""
    pipes = [started(work, place, number, seconds)[1] for number in range(PROCESSES)]
    for pipe in pipes:
        assert pipe.recv()
    for pipe in pipes:
        pipe.send(True)
    return [pipe.recv() for pipe in pipes]


def in_ms(seconds: Iterable[float]) -> str:
    """The median and the 99th percentile."""
    p50, p99 = np.percentile(np.asarray(list(seconds)) * 1000, [50, 99])
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"


def by_key(vectors: dict[int, np.ndarray]) -> dict[int, bytes]:
    """Comparable."""
    return {key: vector.tobytes() for key, vector in vectors.items()}


@pytest.mark.parametrize("seconds", [5, pytest.param(60, marks=pytest.mark.soak)], ids=["short", "long"])
@pytest.mark.parametrize("engine", ["lancedb", "lancescan"])
def test_load(
    mongodb_uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], engine: str, seconds: float
) -> None:
    """No search is wrong, no row is lost or there twice, and nothing fails."""
    place = Place(mongodb_uri, f"vectors_{uuid4().hex[:12]}", tmp_path / "lance", engine)
    with place.client() as client, closing(Peer(place)) as peer:
        peer.create()
        found = reports(place, seconds)
        assert [] == [error for report in found for error in report.errors]
        expected = {key: vector for report in found for key, vector in report.vectors.items()}
        stored = {one["_id"]: vector for one in documents(client, place, {}) if (vector := vector_of(one)) is not None}
        assert by_key(expected) == by_key(stored)
        assert [] == peer.problems()
        state = client[place.name]["_superorm_records"].find_one({"kind": "state", "i": "songs.v"})
        assert state is not None

        table = lancedb.connect(place.path).open_table(state["table"])
        table.checkout(state["ver"])
        keys = table.to_arrow()["key"].to_pylist()
        assert len(expected) == len(keys) == len(set(keys))
        rows = np.stack(table.to_arrow()["vector"].to_pylist())
        units = np.stack([vector / np.linalg.norm(vector) for vector in expected.values()])
        assert np.allclose(units[np.lexsort(units.T)], rows[np.lexsort(rows.T)], atol=1e-6)
        commits = [one for report in found for one in report.commits]
        searches = [one for report in found for one in report.searches]
        with capsys.disabled():
            print(f"\n{engine}: {len(commits)} commits, {in_ms(commits)}; {len(searches)} searches, {in_ms(searches)}")
    place.drop()
