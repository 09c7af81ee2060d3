"""Commits of documents with vectors: how long until nothing is pending, and what they cost the searches beside them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count, cycle
from pathlib import Path
from typing import Any

import numpy as np
from bson import Binary
from items import DIM, Rows

from harness import Time, interleave, table, timed
from superorm import DB, Document, Mapped, Session, field, select, vector

__all__ = ["RATE", "ROWS", "Note", "beside_commits", "bulk_commits"]

ROWS = 10_000
"""Documents of one commit."""
RATE = 100
"""Small commits a second."""
MOST_BULK = 1.3
"""superorm's time for a large commit, as a ratio to that by hand."""
MOST_BESIDE = 2.0
"""The p99 of searches beside small commits, as a ratio to the quiet one."""


class Note(Document):
    """A document with a vector."""

    __collection__ = "notes"
    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str] = field(default="x" * 200)
    embedding: Mapped[np.ndarray | None] = vector(DIM)


def pending(database: Any) -> bool:
    """Whether an engine has not applied a record."""
    records = database["_superorm_records"]
    stamps = [f"seq.{state['engine']}" for state in records.find({"kind": "state", "i": "notes.embedding"})]
    return any(records.find_one({"i": "notes.embedding", "kind": "record", stamp: None}) for stamp in stamps)


def _stored(database: Any, db: DB, first: int, rows: Rows) -> None:
    """Commit the documents, and wait until nothing is pending."""
    with Session(db) as session:
        session.add_all([Note(id=first + i, embedding=row) for i, row in enumerate(rows)])
        session.commit()
    while pending(database):
        time.sleep(0.02)


def bulk_commits(rows: Rows, database: Any, db: DB, folder: str, runs: int) -> list[str]:
    """Print how long 10,000 documents take until nothing is pending, against the same by hand; what is missed."""
    import lancedb
    import pyarrow as pa

    schema = pa.schema([pa.field("key", pa.int64()), pa.field("vector", pa.list_(pa.float32(), DIM))])
    theirs, number = lancedb.connect(folder).create_table("notes", schema=schema), count()

    def by_hand() -> None:
        first = next(number) * ROWS
        keys = range(first, first + ROWS)
        database.notes_by_hand.insert_many(
            {"_id": key, "text": "x" * 200, "embedding": Binary(b"\x27\x00" + row.tobytes(), 9)}
            for key, row in zip(keys, rows, strict=True)
        )
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), DIM)
        change = theirs.merge_insert("key").when_matched_update_all().when_not_matched_insert_all()
        change.execute(pa.table({"key": pa.array(keys, pa.int64()), "vector": vectors}, schema=schema))

    def superorm() -> None:
        _stored(database, db, next(number) * ROWS, rows)

    ways: dict[str, Callable[[], Time]] = {"superorm": timed(superorm), "by hand": timed(by_hand)}
    times = interleave(ways, runs)
    ratio = times["superorm"].wall / times["by hand"].wall
    table(
        [
            [f"a commit of {ROWS:,} x {DIM} until nothing is pending", *ways, "ratio", "at most"],
            ["wall, ms", *(f"{times[way].wall * 1000:.0f}" for way in ways), f"{ratio:.2f}", f"{MOST_BULK}"],
            ["CPU of this process, ms", *(f"{times[way].cpu * 1000:.0f}" for way in ways), "", ""],
        ]
    )
    return [f"a commit of {ROWS:,}: {ratio:.2f} x"] if ratio > MOST_BULK else []


@contextmanager
def _committer(uri: str, name: str, url: str) -> Iterator[Callable[[str], str]]:
    """A process that commits: what it answers to a line."""
    command = [sys.executable, str(Path(__file__).with_name("committer.py")), uri, name, url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        to, answers = process.stdin, process.stdout

        def tell(line: str, answered: bool = True) -> str:
            to.write(f"{line}\n")
            to.flush()
            return answers.readline() if answered else ""

        if answers.readline() != "ready\n":
            raise RuntimeError("the process that commits has not begun")
        yield tell


def beside_commits(
    uri: str, database: Any, url: str, dbs: dict[str, DB], rows: Rows, queries: Rows, seconds: float
) -> list[str]:
    """Print the latency of searches, quiet and beside small commits of another process; what is missed.

    All use the vector database of the URL. Quiet and loud stretches of so many seconds come by turns, three of each.
    """
    if database.notes.estimated_document_count() < ROWS:
        _stored(database, next(iter(dbs.values())), 0, rows)
    lines = [["searches, ms", "quiet p50", "quiet p99", "beside p50", "beside p99", "ratio of p99", "commits/s"]]
    misses: list[str] = []
    with _committer(uri, database.name, url) as tell:
        for way, db in dbs.items():
            found: dict[bool, list[float]] = {False: [], True: []}
            rates: list[float] = []
            query = cycle(queries)

            def search(loud: bool, found: Any = found, query: Any = query, db: DB = db) -> None:
                until = time.monotonic() + seconds
                while time.monotonic() < until:
                    start = time.perf_counter()
                    with Session(db) as session:
                        assert session.scalars(select(Note).like(next(query), k=10)).all()
                    found[loud].append(time.perf_counter() - start)

            for _ in range(3):
                while pending(database):
                    time.sleep(0.02)
                search(False)
                tell("go", answered=False)
                search(True)
                rates.append(float(tell("stop")))
            quiet, loud = (np.quantile(found[kind], (0.5, 0.99)) * 1000 for kind in (False, True))
            ratio = loud[1] / quiet[1]
            lines.append([way, *(f"{ms:.2f}" for ms in (*quiet, *loud)), f"{ratio:.2f}", f"{np.mean(rates):.0f}"])
            misses += [f"{way}, p99 beside commits: {ratio:.2f} x"] if ratio > MOST_BESIDE else []
    table(lines)
    return misses
