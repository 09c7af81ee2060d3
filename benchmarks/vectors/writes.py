"""Commits of documents with vectors: how long until nothing is pending, and what they cost the searches beside them."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count, cycle
from typing import Any

import numpy as np
from bson import Binary
from numpy.typing import NDArray

from harness import Time, interleave, table, timed
from superorm import DB, Document, Mapped, Session, connect, field, select, vector

__all__ = ["Note", "beside_commits", "bulk_commits"]

DIM = 384
ROWS = 10_000
"""Documents of one commit."""
RATE = 100
"""Small commits a second."""
MOST_BULK = 1.3
"""superorm's time for a large commit, as a ratio to that by hand."""
MOST_BESIDE = 2.0
"""The p99 of searches beside small commits, as a ratio to the quiet one."""

Rows = NDArray[np.float32]


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
        first = next(number) * ROWS
        with Session(db) as session:
            session.add_all([Note(id=first + i, embedding=row) for i, row in enumerate(rows)])
            session.commit()
        while pending(database):
            time.sleep(0.02)

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


def _commit(uri: str, name: str, url: str, begun: Any, stop: Any, done: Any) -> None:
    """Commit one document after the other, so many a second, in a process of its own."""
    rng = np.random.default_rng()
    with connect(uri, database=name, vector_database=url, signing_key="a key of this benchmark") as db:
        start, made = time.monotonic(), 0
        while not stop.is_set():
            with Session(db) as session:
                session.get_one(Note, int(rng.integers(ROWS))).embedding = rng.standard_normal(DIM).astype("f4")
                session.commit()
            made += 1
            begun.set()
            time.sleep(max(0.0, start + made / RATE - time.monotonic()))
        done.value = made / (time.monotonic() - start)


@contextmanager
def _commits(uri: str, name: str, url: str) -> Iterator[Any]:
    """Commits beside what is done here; their rate, known at the end."""
    context = multiprocessing.get_context("spawn")
    begun, stop, done = context.Event(), context.Event(), context.Value("d", 0.0)
    process = context.Process(target=_commit, args=(uri, name, url, begun, stop, done))
    process.start()
    if not begun.wait(120):
        raise RuntimeError("the process that commits has not begun")
    yield done
    stop.set()
    process.join()


def beside_commits(uri: str, name: str, url: str, dbs: dict[str, DB], queries: Rows, seconds: float) -> list[str]:
    """Print the latency of searches, quiet and beside small commits of another process; what is missed.

    All use the vector database of the URL. Quiet and loud stretches come by turns.
    """
    lines = [["searches, ms", "quiet p50", "quiet p99", "beside p50", "beside p99", "ratio of p99", "commits/s"]]
    misses: list[str] = []
    for way, db in dbs.items():
        found: dict[bool, list[float]] = {False: [], True: []}
        rates: list[float] = []
        query = cycle(queries)

        def search(loud: bool, until: float, found: Any = found, query: Any = query, db: DB = db) -> None:
            while time.monotonic() < until:
                start = time.perf_counter()
                with Session(db) as session:
                    assert session.scalars(select(Note).like(next(query), k=10)).all()
                found[loud].append(time.perf_counter() - start)

        for _ in range(2):
            search(False, time.monotonic() + seconds)
            with _commits(uri, name, url) as rate:
                search(True, time.monotonic() + seconds)
            rates.append(rate.value)
        quiet, loud = (np.quantile(found[kind], (0.5, 0.99)) * 1000 for kind in (False, True))
        ratio = loud[1] / quiet[1]
        lines.append([way, *(f"{ms:.2f}" for ms in (*quiet, *loud)), f"{ratio:.2f}", f"{np.mean(rates):.0f}"])
        misses += [f"{way}, p99 beside commits: {ratio:.2f} x"] if ratio > MOST_BESIDE else []
    table(lines)
    return misses
