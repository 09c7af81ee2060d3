"""Searches without a filter, against the same by hand, and the memory that vectors take."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from items import DIM, Item, K, Rows, clustered, fetched, store

from harness import interleave, table, timed
from superorm import DB, Session, connect, select

__all__ = ["INDEXED", "PROBES", "indexed", "plain_searches"]

IN_MEMORY = 20_000
INDEXED = 50_000
"""From so many rows on an index of LanceDB pays."""
PROBES = 256
"""So many of its partitions are searched."""
AT_MOST = 1.3
"""superorm's time, as a ratio to that by hand."""
RECALL = 0.99
ROW_BYTES = 100
"""Beside 1.1 x the float32 numbers, so many bytes a row may take in memory."""
ANCESTOR = 63
"""SuperDuperDB 0.1.0: milliseconds of one cosine query over 20,000 vectors, on a 2-core machine."""

Find = Callable[[Rows], Sequence[int]]


def _superorm(db: DB) -> Find:
    def find(query: Rows) -> Sequence[int]:
        with Session(db) as session:
            return [item.id for item in session.scalars(select(Item).like(query, k=K))]

    return find


def _scan(rows: Rows, items: Any) -> Find:
    """All rows ranked by numpy, and one find of the documents."""

    def find(query: Rows) -> Sequence[int]:
        near = rows @ query
        order = np.argpartition(-near, K)[:K]
        return fetched(items, order[np.argsort(-near[order])].tolist())

    return find


def _direct(rows: Rows, items: Any, folder: str) -> Find:
    """A search of LanceDB, by an index as superorm gives to tables of that size, and one find of the documents."""
    import lancedb
    import pyarrow as pa
    from lancedb.index import IvfFlat

    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), DIM)
    options = {"new_table_data_storage_version": "2.0"}
    data = pa.table({"key": pa.array(range(len(rows)), pa.int64()), "vector": vectors})
    held = lancedb.connect(folder).create_table("items", data, storage_options=options)
    held.create_index("vector", config=IvfFlat(distance_type="dot"))

    def find(query: Rows) -> Sequence[int]:
        search = held.search(query, vector_column_name="vector").distance_type("dot").nprobes(PROBES)
        return fetched(items, search.select(["key", "_distance"]).limit(K).to_arrow()["key"].to_pylist())

    return find


def _recall(find: Find, rows: Rows, queries: Rows) -> float:
    best = [set(np.argsort(-(rows.astype(float) @ query), kind="stable")[:K].tolist()) for query in queries]
    return sum(len(some & set(find(query))) for some, query in zip(best, queries, strict=True)) / K / len(queries)


def _compare(title: str, ours: Find, hand: Find, rows: Rows, queries: Rows, runs: int) -> tuple[list[str], list[str]]:
    """A line of the table, and what is missed."""
    recall = [_recall(find, rows, queries[:10]) for find in (ours, hand)]
    turns = {way: cycle(queries) for way in ("ours", "hand")}
    finds = {"ours": ours, "hand": hand}
    times = interleave({way: timed(lambda way=way: finds[way](next(turns[way]))) for way in finds}, runs)
    ratio = times["ours"].wall / times["hand"].wall
    cells = [f"{times[way].wall * 1000:.2f}" for way in finds]
    misses = [f"{title}: {ratio:.2f} x"] if ratio > AT_MOST else []
    misses += [f"{title}: recall {recall[0]:.3f}"] if recall[0] < RECALL else []
    return [title, *cells, f"{ratio:.2f}", f"{AT_MOST}", *(f"{part:.3f}" for part in recall)], misses


def indexed(database: Any, seconds: float = 1200) -> None:
    """Wait until the table has its index, which is built in the background."""
    until = time.monotonic() + seconds
    found = {"kind": "state", "i": "items.embedding", "made.index.kind": {"$exists": True}}
    while database["_superorm_records"].find_one(found) is None:
        if time.monotonic() > until:
            raise RuntimeError(f"no index was built within {seconds:g} seconds")
        time.sleep(0.2)


def plain_searches(uri: str, client: Any, name: str, folder: str, large: int, runs: int) -> list[str]:
    """Print what searches without a filter take over each engine, and the size of rows in memory; what is missed."""
    lines = [["no filter, p50 in ms", "superorm", "by hand", "ratio", "at most", "recall", "recall by hand"]]
    sizes = [["rows in memory", "bytes a row", "at most"]]
    misses: list[str] = []
    queries = clustered(40, 3)
    for n, url in ((IN_MEMORY, "memory://"), (large, f"lancedb://{folder}/ours")):
        rows, database = clustered(n, 1), client[f"{name}_{n}"]
        items = database.items
        try:
            store(rows, [0] * n, [False] * n, items)
            options: dict[str, Any] = {"database": database.name, "signing_key": "a key of this benchmark"}
            with connect(uri, vector_database=url, **options) as db:
                db.create_all(Item)
                # with the fields to filter by, which come minutes later otherwise
                taken = _size(lambda db=db: db.rebuild(Item.embedding)) / n
                ours = _superorm(db)
                if url == "memory://":
                    title, hand = f"memory, {n:,} x {DIM}, against numpy and a find", _scan(rows, items)
                    most = 1.1 * 4 * DIM + ROW_BYTES
                    sizes.append([f"{n:,} x {DIM}", f"{taken:.0f}", f"{most:.0f}"])
                    misses += [f"{taken:.0f} bytes a row in memory"] if taken > most else []
                else:
                    indexed(database)
                    title, hand = f"LanceDB, {n:,} x {DIM}, against LanceDB and a find", _direct(rows, items, folder)
                line, missed = _compare(title, ours, hand, rows, queries, runs)
        finally:
            client.drop_database(database.name)
        lines.append(line)
        misses += missed
    lines.append([f"the ancestor, {IN_MEMORY:,} x {DIM}, on a machine of two cores", str(ANCESTOR), *[""] * 5])
    table(lines)
    table(sizes)
    return misses


def _size(load: Callable[[], object]) -> int:
    """The bytes that stay allocated after the first search, which loads the rows."""
    gc.collect()
    tracemalloc.start()
    try:
        load()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
