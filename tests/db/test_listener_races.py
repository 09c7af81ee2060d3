"""Processes that add, replace and remove listeners beside writers, some of them killed: the outputs are right then."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import pymongo
import pytest

from superorm import DB, connect, select
from superorm.vectors import upkeep
from tests.databases import drop_database, end_transactions
from tests.db.listener_writer import FUNCTIONS, KEYS, NAMES, Word

ROOT = Path(__file__).resolve().parents[2]


class Programs:
    """Processes that act at once; some are killed."""

    def __init__(self, client: pymongo.MongoClient[dict[str, Any]], uri: str, database: str, vectors: str) -> None:
        self.client = client
        self.uri = f"{uri}{'&' if '?' in uri else '/?'}appName="
        self.arguments = database, vectors
        self.faults: list[str] = []
        self.done = 0

    def run(self, rng: Random, seconds: float, *, registering: bool) -> None:
        """Two of them; one is killed now and then, and another one takes its place."""
        running = [self._start(rng, registering) for _ in range(2)]
        for _, process in running:
            _await_ready(process)
        end = time.monotonic() + seconds
        while (pause := 0.3 + 1.2 * rng.random()) < end - time.monotonic():
            time.sleep(pause)
            self._end(*running.pop(0), killed=rng.random() < 0.8)
            running.append(self._start(rng, registering))
            _await_ready(running[-1][1])
        time.sleep(max(end - time.monotonic(), 0))
        for number, one in enumerate(running):
            self._end(*one, killed=number == 0 or rng.random() < 0.5)

    def _start(self, rng: Random, registering: bool) -> tuple[str, subprocess.Popen[str]]:
        name, what = uuid4().hex, "registering" if registering else "writing"
        command = [
            sys.executable,
            "-m",
            "tests.db.listener_writer",
            self.uri + name,
            *self.arguments,
            str(rng.random()),
            what,
        ]
        path = os.pathsep.join([str(ROOT), *sys.path])
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )
        return name, process

    def _end(self, name: str, process: subprocess.Popen[str], *, killed: bool) -> None:
        if killed:
            process.kill()
        told, errors = process.communicate()
        end_transactions(self.client, name)  # which the server would do after a minute
        self.done += told.count("done")
        self.faults += told.replace("done\n", "").split("FAULT")[1:]
        if not killed and (process.returncode or errors):
            self.faults.append(f"{process.returncode} {errors}")


def _await_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert "ready\n" == process.stdout.readline()


def expected(database: Any, record: dict[str, Any]) -> dict[Any, Any]:
    """A version's outputs, by plain documents: of its own model and select, and of those that it listens to."""
    of = {child["kind"]: child for child in record["children"]}
    if "listener" in of:
        before = database["_superorm_components"].find_one(dict(of["listener"]))
        sources = expected(database, before)
    else:
        limit = KEYS // 2 if "$lt" in repr(record["params"]["select"]) else KEYS
        sources = {one["_id"]: one.get("text") for one in database[Word.__collection__].find() if one["_id"] < limit}
    if record["kind"] == "vector_index":
        return sources
    function = FUNCTIONS[of["model"]["name"].split()[0]]
    return {key: function(source) for key, source in sources.items() if source is not None}


def stored(database: Any, record: dict[str, Any]) -> dict[Any, Any]:
    of = {"_id.listener": record["name"], "_id.version": record["version"]}
    return {one["_id"]["key"]: one["output"] for one in database["_superorm_outputs"].find(of)}


def verify(db: DB, database: Any) -> None:
    """All outputs of all versions are those of the documents, once what was recorded is computed."""
    problems = db.check(Word).problems
    unfilled = [one for one in problems if "not all outputs were computed yet" in one]
    for name in {one.split("'")[1] for one in unfilled}:
        db.rebuild(name)
    if unfilled:
        problems = db.check(Word).problems
    assert [] == [*problems]
    records = list(database["_superorm_components"].find({"kind": {"$in": [*NAMES]}, "state": {"$ne": "removed"}}))
    for record in records:
        if record["kind"] == "listener":
            assert expected(database, record) == stored(database, record)
    for record in records:
        if record["kind"] == "vector_index" and record["version"] == max(db.show("vector_index", "i")):
            wanted = {key: one for key, one in expected(database, record).items() if one is not None}
            with db.session() as session:
                found = session.scalars(select(Word).like([1.0, 1.0, 1.0], on="i", k=KEYS)).all()
            assert {*wanted} == {one.id for one in found}


@pytest.mark.parametrize(
    ("engine", "seeds", "rounds", "seconds"),
    [
        ("memory", [1], 1, 0.5),
        pytest.param("memory", range(10, 16), 3, 5.0, marks=pytest.mark.soak),
        pytest.param("lancedb", range(20, 24), 3, 5.0, marks=pytest.mark.soak),
    ],
)
def test_listeners_come_and_go_beside_writers(
    mongodb_uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    engine: str,
    seeds: Sequence[int],
    rounds: int,
    seconds: float,
) -> None:
    """After each time in which they come and go, and after each in which documents are only written: all is right.

    When they are gone, nothing of them is left.
    """
    for seed in seeds:
        rng, name = Random(seed), f"test_{uuid4().hex[:12]}"
        vectors = "memory://" if engine == "memory" else f"lancedb://{tmp_path / str(seed)}"
        with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
            programs, database = Programs(client, mongodb_uri, name, vectors), client[name]
            with connect(mongodb_uri, database=name, vector_database=vectors, signing_key="key") as db:
                db.create_all(Word)
                for registering in (True, False) * rounds:
                    programs.run(rng, seconds, registering=registering)
                    assert not programs.faults, "\n".join(programs.faults)
                    with monkeypatch.context() as later:
                        if registering:  # every program knows of the listeners by now
                            later.setattr(upkeep, "KNOWN_AFTER", timedelta(0))
                            for one in db.show("listener"):
                                dict(db.outputs(one).items())
                        verify(db, database)
                for kind in ("vector_index", "listener"):
                    for one in sorted(db.show(kind), reverse=True):
                        db.remove(kind, one)
                db.gc()
                assert 0 == database["_superorm_outputs"].count_documents({})
                assert [] == list(database["_superorm_records"].find({"kind": "listener"}))
                assert [] == [one for one in database.list_collection_names() if one.startswith("_superorm_outputs.")]
                assert db.check(Word).ok
            assert programs.done
            drop_database(client, name)
            drop_database(client, f"_filesystem:{name}")
