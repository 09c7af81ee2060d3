"""A process killed at any moment leaves each unit of work entirely or not at all, and all that it acknowledged.

Without transactions it leaves no reference to a document that is not there, and the unit of work can be done again.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pymongo
import pytest

from superorm import connect
from tests.sessions import linked, unit_of_work
from tests.sessions.killed_writer import SETTINGS
from tests.sessions.taking import take

ROOT = Path(__file__).resolve().parents[2]
WRITERS = {"threads": 1, "tasks": 3}
"""How many commit units in a process at once."""


def killed(
    uri: str, database: str, units: ModuleType, kind: str, writers: Mapping[str, int], rng: random.Random
) -> dict[str, list[int]]:
    """The units that a process acknowledged, by writer, which is killed at a moment after it was ready.

    The writers are given with their first units.
    """
    acknowledged: dict[str, list[int]] = {name: [] for name in writers}

    def heard(lines: Iterable[str]) -> None:
        for line in lines:
            if line.endswith("\n"):
                name, unit = line.split(": ")
                acknowledged[name].append(int(unit))

    command = [sys.executable, "-m", "tests.sessions.killed_writer", uri, database]
    command += [units.__name__.rpartition(".")[2], kind, json.dumps(writers)]
    path = os.pathsep.join([str(ROOT), *sys.path])
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert "ready\n" == process.stdout.readline()
        heard(itertools.islice(process.stdout, rng.randrange(8)))
        time.sleep(rng.random() * 0.05)
        process.kill()
        heard(process.stdout)
        assert -9 == process.wait()
    return acknowledged


def wait_gone(client: pymongo.MongoClient[dict[str, Any]], name: str) -> None:
    """Wait until the server has done the last that an application with this name sent, and closed its connections."""
    deadline = time.monotonic() + 20
    every = [{"$currentOp": {"allUsers": True, "idleConnections": True}}, {"$match": {"appName": name}}]
    while list(client.admin.aggregate(every)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def runs(threads: int, tasks: int) -> pytest.MarkDecorator:
    """Short runs with both kinds of writers, and long ones with so many kills."""
    cases = [pytest.param(kind, 3, id=f"{kind}-short") for kind in WRITERS]
    for kind, times in (("threads", threads), ("tasks", tasks)):
        cases.append(pytest.param(kind, times, id=f"{kind}-long", marks=pytest.mark.soak))
    return pytest.mark.parametrize(("kind", "times"), cases)


@runs(threads=220, tasks=100)
def test_a_killed_process_leaves_whole_units(own_uri: str, kind: str, times: int) -> None:
    """Each process is killed at a moment of its own.

    Each has documents of its own, since the transactions in which a process is killed lock theirs for a minute.
    """
    rng = random.Random(times)
    acknowledged: dict[str, list[int]] = {}
    database = f"crashes_{kind}_{times}"
    with (
        connect(own_uri, database=database, **SETTINGS) as db,
        pymongo.MongoClient[dict[str, Any]](own_uri) as client,
    ):
        db.create_all(*unit_of_work.CLASSES)
        for number in range(times):
            writers = {f"process {number}, {writer}": 0 for writer in range(WRITERS[kind])}
            with db.begin() as session:
                session.add_all(map(unit_of_work.begun, writers))
            acknowledged |= killed(own_uri, database, unit_of_work, kind, writers, rng)
            found = unit_of_work.whole_units(client[database])
            assert found.keys() == acknowledged.keys()
            for name, units in found.items():
                known = len(acknowledged[name])
                assert acknowledged[name] == units[:known]
                assert units[known:] in ([], [known])  # committed, and killed before it could say so
    assert sum(map(len, acknowledged.values())) > times


@runs(threads=100, tasks=100)
def test_a_killed_process_leaves_no_dangling_reference(alone_uri: str, kind: str, times: int) -> None:
    """Without transactions each unit is written in order, as far as it came, and completed when it is done again."""
    rng = random.Random(times)
    database = f"crashes_{kind}_{times}"
    done = {f"{kind} {writer}": 0 for writer in range(WRITERS[kind])}
    halfway = 0
    with (
        connect(alone_uri, database=database, **SETTINGS) as db,
        pymongo.MongoClient[dict[str, Any]](alone_uri) as client,
    ):
        raw = client[database]
        assert not db.capabilities.transactions
        with db.begin() as session:
            session.add_all(map(linked.begun, done))
        for _ in range(times):
            acknowledged = killed(f"{alone_uri}&appName={database}", database, linked, kind, done, rng)
            wait_gone(client, database)
            for name, units in acknowledged.items():
                assert list(range(done[name], done[name] + len(units))) == units
                done[name] += len(units)
                stages = linked.stages(name, done[name])
                found = linked.state(raw, name)
                assert found in stages
                halfway += found not in (stages[0], stages[-1])
                with db.begin() as session:
                    take(linked.steps(session, name, done[name], again=True))
                done[name] += 1
                assert stages[-1] == linked.state(raw, name)
    assert sum(done.values()) > len(done) * times
    assert halfway or times < 100  # the kills of short runs may all have come between units
