"""`like` after filters of every selectivity against three ways by hand: ``python benchmarks/vectors [--quick]``.

Then searches without a filter, and what rows take in memory: see `engines`; and commits, large ones and many small
ones beside searches: see `writes`. ``--only`` chooses. The environment variable DIM sets the vectors' dimension.

By hand are: LanceDB with the filter pushed down to a scalar column with an index; the matching keys from MongoDB, whose
rows numpy gathers from an array in memory; the matching documents' vectors from MongoDB, ranked by numpy.
Each fetches its ten documents; none of them reads in a snapshot, and none is right after somebody writes.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # for one query a second thread only costs
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from engines import INDEXED, PROBES, indexed, plain_searches
from items import DIM, Item, K, Rows, clustered, fetched, store
from numpy.typing import NDArray
from pymongo import MongoClient
from writes import Note, beside_commits, bulk_commits

from harness import Time, interleave, table, timed
from superorm import (
    DB,
    LanceVectorIndex,
    MongoArtifactStore,
    MongoDatabackend,
    MongoMetaDataStore,
    Session,
    connect,
    select,
)
from superorm.backends.mongod import open_mongod, wait_stopped

AT_MOST = 1.5
"""superorm's time, as a ratio to the best by hand."""
RECALL = 0.99
QUERIES = 40

Find = Callable[[Rows, Mapping[str, Any]], Sequence[int]]
"""The keys of the ten nearest documents to a query, among those that a filter matches."""


class Data:
    """The documents' vectors and what they are filtered by; filters by name, with what they match."""

    def __init__(self, n: int) -> None:
        self.rows = clustered(n, 1)
        self.share = np.random.default_rng(2).permutation(n) * 1000 // n
        self.queries = clustered(QUERIES, 3)
        nearness = (self.rows @ self.queries.T).max(axis=1)
        self.far = nearness <= np.quantile(nearness, 0.13)
        self.filters: dict[str, tuple[dict[str, Any], str, NDArray[np.bool_]]] = {
            f"{per_mille / 10:g} %": ({"share": {"$lt": per_mille}}, f"share < {per_mille}", self.share < per_mille)
            for per_mille in (500, 100, 50, 10, 1)
        }
        self.filters["13 %, far from all queries"] = ({"far": True}, "far = true", self.far)

    def nearest(self, query: Rows, matching: NDArray[np.bool_]) -> set[int]:
        """By brute force."""
        keys = np.flatnonzero(matching)
        return set(keys[np.argsort(-(self.rows[keys].astype(float) @ query), kind="stable")[:K]].tolist())


def by_hand(data: Data, items: Any, folder: str) -> dict[str, Callable[[Rows, str], Sequence[int]]]:
    """The ways by hand, of a query and the name of a filter."""
    import lancedb
    import pyarrow as pa
    from lancedb.index import BTree, IvfFlat

    columns = {
        "key": pa.array(range(len(data.rows)), pa.int64()),
        "share": pa.array(data.share, pa.int64()),
        "far": pa.array(data.far, pa.bool_()),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(data.rows.ravel()), DIM),
    }
    options = {"new_table_data_storage_version": "2.0"}
    rows = lancedb.connect(folder).create_table("items", pa.table(columns), storage_options=options)
    rows.create_index("share", config=BTree())
    if len(data.rows) >= INDEXED:
        rows.create_index("vector", config=IvfFlat(distance_type="dot"))

    def best(keys: NDArray[np.int64], vectors: Rows, query: Rows) -> Sequence[int]:
        near = vectors @ query
        order = np.argpartition(-near, K - 1)[:K] if len(near) > K else np.arange(len(near))
        return fetched(items, keys[order[np.argsort(-near[order])]].tolist())

    def push_down(query: Rows, name: str) -> Sequence[int]:
        search = rows.search(query, vector_column_name="vector").distance_type("dot").nprobes(PROBES)
        found = search.where(data.filters[name][1], prefilter=True).select(["key", "_distance"]).limit(K).to_arrow()
        return fetched(items, found["key"].to_pylist())

    def keys_and_gather(query: Rows, name: str) -> Sequence[int]:
        keys = np.array([document["_id"] for document in items.find(data.filters[name][0], {"_id": 1})], np.int64)
        return best(keys, data.rows[keys], query)

    def vectors(query: Rows, name: str) -> Sequence[int]:
        documents = items.find(data.filters[name][0], {"embedding": 1}).to_list()
        raw = b"".join(document["embedding"][2:] for document in documents)
        keys = np.array([document["_id"] for document in documents], np.int64)
        return best(keys, np.frombuffer(raw, "<f4").reshape(-1, DIM), query)

    return {"LanceDB, push-down": push_down, "keys, gather": keys_and_gather, "vectors": vectors}


def statement(query: Rows, name: str) -> Any:
    """The select of a query and the name of a filter."""
    chosen = Item.far == True if "far" in name else Item.share < round(10 * float(name.split()[0]))  # noqa: E712
    return select(Item).where(chosen).like(query, k=K)


def measure(data: Data, items: Any, dbs: Mapping[str, DB], folder: str, runs: int) -> list[str]:
    """Print the table; what superorm misses."""

    def superorm(db: DB) -> Callable[[Rows, str], Sequence[int]]:
        def find(query: Rows, name: str) -> Sequence[int]:
            with Session(db) as session:
                return [item.id for item in session.scalars(statement(query, name))]

        return find

    ways = {name: superorm(db) for name, db in dbs.items()} | by_hand(data, items, folder)
    hand = [name for name in ways if name not in dbs]
    lines = [["the filter keeps, p50 in ms", *ways, *(f"{name}: ratio" for name in dbs), "recall", "strategy"]]
    misses: list[str] = []
    for name, (_, _, matching) in data.filters.items():
        recall = dict.fromkeys(ways, 0.0)
        for query in data.queries[:10]:
            expected = data.nearest(query, matching)
            for way, find in ways.items():
                recall[way] += len(expected & set(find(query, name))) / len(expected) / 10

        def candidate(find: Callable[[Rows, str], Sequence[int]], name: str = name) -> Callable[[], Time]:
            queries = cycle(data.queries)
            return timed(lambda: find(next(queries), name))

        times = interleave({way: candidate(find) for way, find in ways.items()}, runs)
        best = min(times[way].wall for way in hand if recall[way] >= RECALL)
        ratios = {way: times[way].wall / best for way in dbs}
        least = min(recall[way] for way in dbs)
        strategies = {db.explain(statement(data.queries[0], name)).strategy for db in dbs.values()}
        cells = [f"{times[way].wall * 1000:.2f}" for way in ways] + [f"{ratio:.2f}" for ratio in ratios.values()]
        lines.append([name, *cells, f"{least:.3f}", ", ".join(sorted(strategies))])
        misses += [f"{way}, {name}: {ratio:.2f} x" for way, ratio in ratios.items() if ratio > AT_MOST]
        misses += [f"{name}: recall {least:.3f}"] if least < RECALL else []
    table(lines)
    return misses


@contextmanager
def server(uri: str | None) -> Iterator[str]:
    """The URI of a server: the given one, or a private one."""
    if uri is not None:
        yield uri
        return
    with TemporaryDirectory(prefix="superorm-bench-") as folder:
        with open_mongod(folder) as lease:
            yield lease.uri
        wait_stopped(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few runs: a look, not a measurement")
    parser.add_argument("--rows", type=int, default=20_000, help="how many documents")
    parser.add_argument("--uri", help="a replica set that runs already, in place of a private one")
    parser.add_argument("--only", choices=["filters", "plain", "bulk", "beside"], help="one part alone")
    parser.add_argument("--large", type=int, default=100_000, help="how many for LanceDB without a filter")
    arguments = parser.parse_args()
    runs = 15 if arguments.quick else 60
    data, name = Data(arguments.rows), f"bench_{uuid4().hex[:8]}"
    with ExitStack() as stack:
        uri = stack.enter_context(server(arguments.uri))
        folder = stack.enter_context(TemporaryDirectory(prefix="superorm-bench-"))
        client: MongoClient[dict[str, Any]] = stack.enter_context(MongoClient(uri))
        stack.callback(client.drop_database, name)
        options: dict[str, Any] = {"database": name, "signing_key": "a key of this benchmark"}
        dbs = {
            way: stack.enter_context(connect(uri, vector_database=url, **options))
            for way, url in (("memory", "memory://"), ("lancedb", f"lancedb://{folder}/ours"))
        }
        misses: list[str] = []
        if arguments.only in (None, "filters"):
            store(data.rows, data.share, data.far, client[name].items)
            for db in dbs.values():
                db.create_all(Item)
                db.rebuild(Item.embedding)  # with the fields to filter by, which come minutes later otherwise
                db.create_all(Item)
            if len(data.rows) >= INDEXED:
                indexed(client[name])
            misses += measure(data, client[name].items, dbs, f"{folder}/theirs", runs)
        if arguments.only in (None, "plain"):
            misses += plain_searches(uri, client, f"{name}_plain", f"{folder}/plain", arguments.large, runs)
        if arguments.only in (None, "bulk", "beside"):
            notes = stack.enter_context(connect(uri, vector_database=f"lancedb://{folder}/notes", **options))
            notes.create_all(Note)
            stored = clustered(10_000, 4)
            if arguments.only != "beside":
                misses += bulk_commits(stored, client[name], notes, f"{folder}/bulk", max(5, runs // 6))
        if arguments.only in (None, "beside"):
            scan = LanceVectorIndex(f"{folder}/notes", cache_bytes=0)
            parts = MongoDatabackend(client, name), MongoMetaDataStore(client, name), MongoArtifactStore(client, name)
            on_disk = stack.enter_context(DB(*parts, scan))
            ways = {"lancedb, in memory": notes, "lancedb, on disk": on_disk}
            url, seconds = f"lancedb://{folder}/notes", 2 if arguments.quick else 5
            misses += beside_commits(uri, client[name], url, ways, stored, data.queries, seconds)
    print(f"\n{arguments.rows:,} x {DIM}, k = {K}, whole documents, medians of {runs} interleaved runs.")
    print(f"Ratio to the best by hand whose recall is {RECALL} or more; at most {AT_MOST}.")
    print("superorm misses:", "; ".join(misses) or "nothing")


if __name__ == "__main__":
    main()
