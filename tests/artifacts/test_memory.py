"""Large artifacts need little memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pymongo
import pytest

from tests.databases import drop_database
from tests.vectors.s3_server import CREDENTIALS, S3Server

ROOT = Path(__file__).resolve().parents[2]
AT_MOST = 200_000_000
"""Bytes: what the drivers hold before they send it, 24 MiB in several forms, or eight parts of 8 MiB."""


SOAK = pytest.mark.soak


@pytest.mark.parametrize("how", [[], pytest.param(["async"], marks=SOAK)], ids=["sync", "async"])
@pytest.mark.parametrize("mib", [256, pytest.param(2048, marks=SOAK)])
@pytest.mark.parametrize("store", ["gridfs", "directory", "s3"])
def test_streams(store: str, mib: int, how: list[str], request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Putting and getting keeps a process near the memory it had before, whatever the size."""
    name = f"superorm_test_{uuid4().hex}"
    where = str(tmp_path)
    if store == "gridfs":
        where = request.getfixturevalue("mongodb_uri")
    elif store == "s3":
        server: S3Server = request.getfixturevalue("s3")
        where = f"{server.url(server.bucket(), 'large')}&region=us-east-1"
    credentials = {name.upper(): value for name, value in CREDENTIALS.items()}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.artifacts.stream_process", where, str(mib), name, *how],
            cwd=ROOT,
            env={**os.environ, **credentials},
            capture_output=True,
            text=True,
            timeout=60 + mib,
        )
    finally:
        if store == "gridfs":
            with pymongo.MongoClient[dict[str, Any]](where) as plain:
                drop_database(plain, name)
    assert 0 == done.returncode, done.stderr
    assert 0 < int(done.stdout) < AT_MOST
    print(f"{store}, {mib} MiB: {int(done.stdout) / 1e6:.0f} MB")


@pytest.mark.parametrize("mib", [256, pytest.param(1024, marks=SOAK)])
def test_modules_are_mapped(mib: int, tmp_path: Path) -> None:
    """A torch module in a directory is used from its file: it takes hardly any memory of its own, and is there once."""
    for what in "save", "load":
        command = [sys.executable, "-m", "tests.artifacts.mapped_process", what, str(tmp_path), str(mib)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60 + mib)
        assert 0 == done.returncode, done.stderr
    memory = json.loads(done.stdout)
    assert mib << 20 == memory["size"]
    assert memory["own"] < 40_000_000
    assert memory["resident"] < memory["size"] * 1.2
    print(memory)
