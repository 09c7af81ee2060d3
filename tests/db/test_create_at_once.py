"""`create_all` by many at the same time."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pymongo
import pytest

from superorm import CreateReport, Document, Index, Mapped, Registry, connect, field
from tests.databases import drop_database

PROGRAM = """
import sys
from superorm import Document, Index, Mapped, connect, field

class Busy(Document):
    __validate__ = True
    __indexes__ = (Index("a", "-b", unique=True, partial=lambda Busy: Busy.b > 3), Index("c:text"), Index("b"))
    a: Mapped[str] = field(default="", index=True)
    b: Mapped[int] = field(default=0)
    c: Mapped[str] = field(default="")

with connect(sys.argv[1], database=sys.argv[2], vector_database="memory://", signing_key="k") as db:
    print("ready", flush=True)
    sys.stdin.readline()
    report = db.create_all(Busy)
    print(report if report.differences else "made", flush=True)
"""


@pytest.fixture
def name(mongodb_uri: str) -> Iterator[str]:
    """The name of a database that is dropped afterwards."""
    name = f"test_{uuid4().hex[:12]}"
    yield name
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        drop_database(client, name)
        drop_database(client, f"_filesystem:{name}")


def test_processes(mongodb_uri: str, name: str) -> None:
    """Processes that create all at once each succeed, and everything is there once."""
    command = [sys.executable, "-c", PROGRAM, mongodb_uri, name]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(3)]
    assert ["ready\n"] * 3 == [process.stdout.readline() for process in processes if process.stdout]
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    assert ["made\n"] * 3 == [process.communicate(timeout=60)[0] for process in processes]
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        found = [index["name"] for index in client[name]["busy"].list_indexes()]
        assert ["_id_", "a_1", "a_1_b_-1", "b_1", "c_text"] == sorted(found)
        (described,) = client[name].list_collections(filter={"name": "busy"})
        assert "$jsonSchema" in described["options"]["validator"]


def test_threads_that_disagree(mongodb_uri: str, name: str) -> None:
    """Of two declarations of one index the first wins; the other is reported as a difference."""

    def declared(**options: Any) -> type:
        class Busy(Document, registry=Registry()):
            __indexes__ = (Index("a", **options),)
            a: Mapped[str] = field(default="")

        return Busy

    classes = [declared(unique=True), declared(sparse=True)] * 3
    barrier = threading.Barrier(len(classes))

    def create(cls: type) -> CreateReport:
        with connect(mongodb_uri, database=name, vector_database="memory://", signing_key="k") as db:
            db.capabilities  # noqa: B018
            barrier.wait(30)
            return db.create_all(cls)

    with ThreadPoolExecutor(len(classes)) as pool:
        reports = list(pool.map(create, classes))
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        (index,) = [index for index in client[name]["busy"].list_indexes() if index["name"] != "_id_"]
    won = 0 if index.get("unique") else 1
    for number, report in enumerate(reports):
        assert (number % 2 == won) == (not report.differences), report
        assert all("the index a_1 of busy is not as Busy" in text for text in report.differences)
