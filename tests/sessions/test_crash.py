"""A process killed at any moment leaves each unit of work entirely or not at all, and all that it acknowledged."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pymongo
import pytest

from superorm import connect
from tests.sessions.unit_of_work import CLASSES, whole_units

ROOT = Path(__file__).resolve().parents[2]


def killed(uri: str, database: str, writer: str, seconds: float) -> list[int]:
    """The units that a process acknowledged which is killed so many seconds after it was ready."""
    command = [sys.executable, "-m", "tests.sessions.killed_writer", uri, database, writer]
    path = os.pathsep.join([str(ROOT), *sys.path])
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert "ready\n" == process.stdout.readline()
        time.sleep(seconds)
        process.kill()
        said = process.stdout.read()
        assert -9 == process.wait()
    return [int(line) for line in said.splitlines(keepends=True) if line.endswith("\n")]


@pytest.mark.parametrize("times", [3, pytest.param(220, marks=pytest.mark.soak)], ids=["short", "long"])
def test_a_killed_process_leaves_whole_units(own_uri: str, times: int) -> None:
    """Each process is killed at a moment of its own.

    Each has documents of its own, since the transaction in which a process is killed locks its for a minute.
    """
    rng = random.Random(times)
    acknowledged: dict[str, list[int]] = {}
    database = f"crashes_{times}"
    with connect(own_uri, database=database, vector_database="memory://", signing_key="test-key") as db:
        db.create_all(*CLASSES)
    with pymongo.MongoClient[dict[str, Any]](own_uri) as client:
        raw = client[database]
        for number in range(times):
            writer = f"process {number}"
            acknowledged[writer] = killed(own_uri, database, writer, rng.random() * 0.2)
            found = whole_units(raw)
            assert found.keys() == acknowledged.keys()
            for name, units in found.items():
                known = len(acknowledged[name])
                assert acknowledged[name] == units[:known]
                assert units[known:] in ([], [known])  # committed, and killed before it could say so
    assert sum(map(len, acknowledged.values())) > times
