"""Four processes that open and leave one path at once."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from pymongo import MongoClient

from superorm.backends.mongod import open_mongod, wait_stopped
from tests.mongod.processes import everything, servers, until

VISITS = 2

VISITOR = """
import os, random, signal, sys, time
from pymongo import MongoClient
from superorm.backends.mongod import lease, open_mongod

path, seed, visits = sys.argv[1], sys.argv[2], int(sys.argv[3])
chance = random.Random(seed)
for visit in range(visits):
    lease.GRACE = chance.choice([0.0, 0.05, 0.3])
    time.sleep(chance.random() * chance.choice([0.0, 0.2, 1.2]))
    use = open_mongod(path)
    with MongoClient(use.uri) as client:
        client.test.visits.insert_one({"_id": f"{seed}-{visit}"})
    time.sleep(chance.random() * chance.choice([0.0, 0.1, 0.3]))
    if visit < visits - 1 or chance.random() < 0.4:
        use.close()
    elif chance.random() < 0.5:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def visit_at_once(path: Path, rounds: int) -> None:
    """Let four visitors in, `rounds` times; each time one server at most at any moment, and none in the end."""
    for number in range(rounds):
        seeds = [f"{number}-{visitor}-{random.random()}" for visitor in range(4)]
        visitors = [
            subprocess.Popen([sys.executable, "-c", VISITOR, str(path), seed, str(VISITS)], stderr=subprocess.PIPE)
            for seed in seeds
        ]
        seen: list[list[int]] = []

        def all_left(visitors: list[subprocess.Popen[bytes]] = visitors, seen: list[list[int]] = seen) -> bool:
            seen.append(servers(path))
            return all(visitor.poll() is not None for visitor in visitors)

        assert until(all_left, seconds=60, interval=0.06)
        for visitor in visitors:
            assert visitor.communicate()[1] == b""
            assert visitor.returncode in {0, -9}
        assert any(seen)
        assert 1 >= max(map(len, seen)), seen
        assert wait_stopped(path)
        assert until(lambda: not everything(path), seconds=5)
    with open_mongod(path) as lease, MongoClient(lease.uri) as client:
        assert rounds * 4 * VISITS == client.test.visits.count_documents({})


def test_four_processes_at_once(data: Path) -> None:
    """Two rounds."""
    visit_at_once(data, 2)


@pytest.mark.soak
def test_four_processes_at_once_many_times(data: Path) -> None:
    """Fifty rounds."""
    visit_at_once(data, 50)
