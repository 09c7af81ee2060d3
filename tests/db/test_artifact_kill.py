"""A process killed at any moment leaves no document whose artifact is not there."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pymongo

from superorm import connect, select
from tests.databases import drop_database, end_transactions
from tests.db.artifact_writer import Blob

ROOT = Path(__file__).resolve().parents[2]
KILLS = 4


def killed(uri: str, database: str, rng: random.Random, *, first: bool) -> list[str]:
    """What a process acknowledged, which is killed at a moment after it was ready, or after its `first` commit."""
    command = [sys.executable, "-m", "tests.db.artifact_writer", uri, database]
    path = os.pathsep.join([str(ROOT), *sys.path])
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert "ready\n" == process.stdout.readline()
        lines = [process.stdout.readline()] if first else []
        time.sleep(0.1 + rng.random())
        process.kill()
        lines += process.stdout.readlines()
        assert -9 == process.wait()
    return [line.strip() for line in lines if line.endswith("\n")]


def test_every_committed_document_has_its_artifact(mongodb_uri: str) -> None:
    name, rng = f"test_{uuid4().hex[:12]}", random.Random(7)
    acknowledged: list[str] = []
    client: pymongo.MongoClient[dict[str, Any]]
    with pymongo.MongoClient(mongodb_uri) as client:
        named = f"{mongodb_uri}{'&' if '?' in mongodb_uri else '/?'}appName={name}"
        for number in range(KILLS):
            acknowledged += killed(named, name, rng, first=number % 2 == 0)
            end_transactions(client, name)
            with connect(mongodb_uri, database=name, vector_database="memory://", signing_key="key") as db:
                db.create_all(Blob)
                assert db.check(Blob).ok
                db.gc(timedelta(0))
                report = db.check(Blob)
                assert report.ok
                assert not report.orphans
                with db.session() as session:
                    found = session.scalars(select(Blob)).all()
                    assert {one.digest for one in found} >= set(acknowledged)
                    assert 0 == len(found) % 2
                    for one in found:
                        assert hashlib.sha256(one.data).hexdigest() == one.digest
        assert acknowledged
        drop_database(client, name)
        drop_database(client, f"_filesystem:{name}")
