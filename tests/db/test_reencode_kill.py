"""Processes killed at any moment while they encode all vectors anew, beside one that writes and searches."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pymongo
import pytest

from superorm import DB, Document, Mapped, Model, Session, connect, field, score, select, vector
from superorm._sync import vector_models, vector_move, vector_staging, vector_switch
from tests.databases import drop_database
from tests.db.letters import Letters
from tests.vectors.processes import settle, started

DIM = 26
COUNT = 60
QUICK = {"LEASE": vector_models, "GRACE": vector_switch, "_ANNOUNCED": vector_switch}
INDEX = "killed_words.vec"


class Word(Document):
    __collection__ = "killed_words"

    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str]
    vec: Mapped[np.ndarray | None] = vector(DIM, source="text", model="weighted")


class Weighted:
    """Counts letters, each with a weight of this version."""

    def __init__(self, version: int) -> None:
        self.version = version

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        weights = np.random.default_rng(self.version).integers(1, 9, DIM).astype("f4")
        return Letters().encode(texts) * weights


def hurry() -> None:
    """Announcements are short, and batches small."""
    vector_models.LEASE, vector_switch.GRACE, vector_switch._ANNOUNCED = 0.05, 0.15, 2.0  # pyright: ignore[reportPrivateUsage]
    vector_staging._BATCH = vector_move._BATCH = 7  # pyright: ignore[reportPrivateUsage]


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, module in QUICK.items():
        monkeypatch.setattr(module, name, getattr(module, name))
    for module in (vector_staging, vector_move):
        monkeypatch.setattr(module, "_BATCH", 1)
    hurry()


def opened(uri: str, database: str, vectors: str, app: str = "witness") -> DB:
    """A DB of one process."""
    named = f"{uri}{'&' if '?' in uri else '/?'}appName={app}"
    return connect(named, database=database, vector_database=vectors, signing_key="test-key")


POINTS: list[tuple[type, str, int]] = [
    (vector_staging.Staging, "write", 3),
    (vector_switch.Switch, "_catch_up", 2),
    (vector_switch.Switch, "_publish", 1),
    (vector_move.Move, "_in_transaction", 1),
    (vector_move.Move, "_take", 2),
    (vector_move.Move, "clean", 1),
]
"""The last that a process does, and in which call."""


def dies(of: type, name: str, call: int) -> None:
    """Have this process be killed by SIGKILL when it has done something so many times."""
    method, calls = getattr(of, name), list[int]()

    def last(self: Any, *rest: Any) -> Any:
        result = method(self, *rest)
        calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(of, name, last)


def reencode(pipe: Connection, uri: str, database: str, vectors: str, app: str, point: int | None = None) -> None:
    """What is killed, perhaps at one of the points; it tells that it begins, and that it is done."""
    hurry()
    if point is not None:
        dies(*POINTS[point])
    with opened(uri, database, vectors, app) as db:
        pipe.send("begins")
        db.rebuild(Word.vec, reencode=True)
        pipe.send("done")
        threading.Event().wait()


def a_text(rng: random.Random) -> str:
    return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 12)))


class Writer(threading.Thread):
    """Commits one change after another until it is told to end."""

    def __init__(self, db: DB, seed: int) -> None:
        super().__init__()
        self.db, self.rng, self.ended, self.commits = db, random.Random(seed), threading.Event(), 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.ended.wait(0.01):
                self.db.run(self.change)
                self.commits += 1
        except BaseException as error:  # noqa: BLE001 - raised by the test
            self.error = error

    def change(self, session: Session) -> None:
        key = self.rng.randrange(COUNT + 10)
        word = session.get(Word, key)
        if word is None:
            session.add(Word(id=key, text=a_text(self.rng)))
        elif self.rng.random() < 0.2:
            session.delete(word)
        else:
            word.text = a_text(self.rng)


@pytest.fixture
def database(mongodb_uri: str) -> Iterator[str]:
    """The name of a database that is dropped afterwards."""
    name = f"killed_{uuid4().hex[:12]}"
    yield name
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        drop_database(client, name)


def agrees(db: DB, texts: dict[int, str], version: int, query: str) -> None:
    """Assert that the ten nearest to a text are those by this version of the model, of these texts."""
    every, wanted = (Weighted(version).encode(one).astype(float) for one in (list(texts.values()), [query]))
    scores = (1 + every @ wanted[0] / np.linalg.norm(every, axis=1) / np.linalg.norm(wanted)) / 2
    best = sorted(zip((-scores).round(5).tolist(), texts, strict=True))[:10]
    with db.session() as session:
        rows = session.execute(select(Word.id, score()).like(query, on=Word.vec, k=10, exact=True)).all()
    found = sorted((round(-similarity, 5), key) for key, similarity in rows)
    assert [similarity for similarity, _ in best] == pytest.approx([similarity for similarity, _ in found], abs=2e-5)
    for key, similarity in rows:
        assert scores[[*texts].index(key)] == pytest.approx(similarity, abs=2e-5)


@pytest.mark.parametrize("times", [len(POINTS), pytest.param(100, marks=pytest.mark.soak)], ids=["short", "long"])
@pytest.mark.parametrize("engine", ["memory", "lancedb"])
def test_killed_while_it_encodes_all_anew(
    mongodb_uri: str, database: str, tmp_path: Path, engine: str, times: int
) -> None:
    """Searches are by one version, the old or the new one, of all committed sources; the next call makes it whole."""
    vectors = "memory://" if engine == "memory" else f"lancedb://{tmp_path / 'lance'}"
    rng = random.Random(times)
    states: dict[str, int] = {}
    with (
        pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client,
        opened(mongodb_uri, database, vectors) as db,
    ):
        plain = client[database]
        db.add(Model("weighted", Weighted(0), fingerprint="0"))
        with db.begin() as session:
            session.add_all(Word(id=key, text=a_text(rng)) for key in range(COUNT))

        def read() -> tuple[dict[int, str], dict[int, list[float]]]:
            found = list(plain["killed_words"].find())
            rows = {one["_id"]: np.frombuffer(one["vec"], "<f4", offset=2).tolist() for one in found}
            return {one["_id"]: one["text"] for one in found}, rows

        def settled(version: int) -> None:
            texts, rows = read()
            assert dict(zip(texts, Weighted(version).encode([*texts.values()]).tolist(), strict=True)) == rows

        newest, duration = 0, 0.0
        for number in range(times):
            newest += 1
            db.add(Model("weighted", Weighted(newest), fingerprint=str(newest)))
            app, writer = f"killed-{uuid4().hex[:12]}", Writer(db, number)
            point = number if times == len(POINTS) else None
            process, pipe = started(reencode, mongodb_uri, database, vectors, app, point)
            with pipe:
                assert "begins" == pipe.recv()
                writer.start()
                start = time.monotonic()
                if point is None:
                    if pipe.poll(rng.random() * 1.1 * duration if number else 120):  # the first one is not cut short
                        assert "done" == pipe.recv()
                        duration = time.monotonic() - start
                    process.kill()
                process.join(120)
            assert -signal.SIGKILL == process.exitcode
            settle(client, app)
            writer.ended.set()
            writer.join(60)
            assert writer.error is None, writer.error
            assert writer.commits
            (recorded,) = plain["_superorm_indexes"].find({"_id": INDEX})
            version, moving = recorded["version"], bool(recorded.get("moving"))
            state = "moving" if moving else "new" if version == newest else "old"
            states[state] = states.get(state, 0) + 1
            texts, _ = read()
            with opened(mongodb_uri, database, vectors) as newcomer:
                for one in (db, newcomer):
                    for query in ("heat", a_text(rng)):
                        agrees(one, texts, version, query)
                problems = newcomer.check(Word).problems
                assert len(problems) == moving + (version < newest), problems
                assert moving == any("still wait beside" in problem for problem in problems)
                if not moving:
                    settled(version)
                if rng.random() < 0.6:
                    newcomer.rebuild(Word.vec, reencode=True)
                    settled(newest)
                    assert newcomer.check(Word).ok
                    assert 0 == plain["_superorm_encoded"].count_documents({})
                    for one in (db, newcomer):
                        agrees(one, texts, newest, "heat")
        db.rebuild(Word.vec, reencode=True)
        settled(newest)
        assert db.check(Word).ok
    print(f"{engine}: {times} kills, {states}")
    assert {"old", "moving", "new"} == {*states}


def test_two_processes_at_once(mongodb_uri: str, database: str, tmp_path: Path) -> None:
    """Both end, with the same vectors, beside a third that writes."""
    vectors = f"lancedb://{tmp_path / 'lance'}"
    rng = random.Random(1)
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client, opened(mongodb_uri, database, vectors) as db:
        for version in range(2):
            db.add(Model("weighted", Weighted(version), fingerprint=str(version)))
            if not version:
                with db.begin() as session:
                    session.add_all(Word(id=key, text=a_text(rng)) for key in range(COUNT))
        writer = Writer(db, 5)
        both = [started(reencode, mongodb_uri, database, vectors, "both") for _ in range(2)]
        for _, pipe in both:
            assert "begins" == pipe.recv()
        writer.start()
        for process, pipe in both:
            with pipe:
                assert pipe.poll(120)
                assert "done" == pipe.recv()
            process.kill()
            process.join()
        writer.ended.set()
        writer.join(60)
        assert writer.error is None, writer.error
        assert writer.commits
        found = {one["_id"]: one for one in client[database]["killed_words"].find()}
        texts = {key: one["text"] for key, one in found.items()}
        for (key, text), row in zip(texts.items(), Weighted(1).encode([*texts.values()]), strict=True):
            assert row.tolist() == np.frombuffer(found[key]["vec"], "<f4", offset=2).tolist(), text
        agrees(db, texts, 1, "heat")
        report = db.check(Word)
        assert report.ok, report.problems
        assert 0 == client[database]["_superorm_encoded"].count_documents({})
