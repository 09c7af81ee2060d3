"""A listener's backfill beside the same by hand: ``python benchmarks/listeners [--quick]``.

By hand is plain PyMongo: reading key and text of all documents, calling the model for each, and a ``bulk_write`` of
new documents for each thousand. The model gives 384 floats, and does next to nothing for them.
superorm's outputs can be kept equal to the documents from then on; those by hand are what they are.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pymongo import InsertOne, MongoClient

from harness import Time, interleave, table, timed
from superorm import DB, Document, Listener, Mapped, Model, connect, field, select
from superorm.backends.mongod import open_mongod, wait_stopped

AT_MOST = 1.3
"""superorm's time, as a ratio to that by hand."""
ANCESTOR = 154.0
"""Seconds that the same took SuperDuperDB: 20,000 documents on mongomock."""
BATCH = 1_000
DIMENSION = 384


class Text(Document):
    """What is listened to."""

    __collection__ = "texts"

    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str]


def model(text: str) -> list[float]:
    return [float(len(text))] * DIMENSION


class Ours:
    """A listener that is added, and removed again."""

    def __init__(self, db: DB) -> None:
        self._db = db
        db.add(Model("trivial", model, fingerprint="trivial"))

    def run(self) -> None:
        self._db.add(Listener("bench", model="trivial", select=select(Text), key=Text.text))

    def clear(self) -> int:
        """Remove all; how many outputs there were."""
        if not self._db.show("listener"):
            return 0
        count = len(self._db.outputs("bench"))
        self._db.remove("listener", "bench")
        return count


class ByHand:
    """Outputs in a collection of their own."""

    def __init__(self, client: MongoClient[dict[str, Any]], name: str) -> None:
        self._texts, self._outputs = client[name]["texts"], client[name]["by_hand"]

    def run(self) -> None:
        cursor = self._texts.find({}, {"text": 1}, batch_size=BATCH)
        while found := cursor.to_list(BATCH):
            new = [
                InsertOne({"_id": {"listener": "bench", "key": one["_id"]}, "output": model(one["text"])})
                for one in found
            ]
            self._outputs.bulk_write(new)

    def clear(self) -> int:
        return self._outputs.delete_many({}).deleted_count


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
    parser.add_argument("--count", type=int, default=20_000, help="how many documents")
    parser.add_argument("--uri", help="a replica set that runs already, in place of a private one")
    arguments = parser.parse_args()
    runs, name, count = 3 if arguments.quick else 9, f"bench_{uuid4().hex[:8]}", arguments.count
    with ExitStack() as stack:
        uri = stack.enter_context(server(arguments.uri))
        client: MongoClient[dict[str, Any]] = stack.enter_context(MongoClient(uri))
        stack.callback(client.drop_database, f"_filesystem:{name}")
        stack.callback(client.drop_database, name)
        db = stack.enter_context(connect(uri, database=name, vector_database="memory://", signing_key="a benchmark's"))
        client[name]["texts"].insert_many([{"_id": n, "text": f"the text of number {n}"} for n in range(count)])
        ways = {"superorm": Ours(db), "by hand": ByHand(client, name)}

        def measured(way: Ours | ByHand) -> Time:
            way.clear()
            time = timed(way.run)()
            assert way.clear() == count
            return time

        for way in ways.values():
            measured(way)  # once unmeasured
        times = interleave({key: lambda way=way: measured(way) for key, way in ways.items()}, runs)
    ours, hand = times["superorm"], times["by hand"]
    ratio = ours.wall / hand.wall
    cells = [f"{time.wall:.2f}" for time in (ours, hand)] + [f"{time.cpu:.2f}" for time in (ours, hand)]
    row = [f"backfill of {count:,} x {DIMENSION}", *cells, f"{ratio:.2f}", f"{AT_MOST}", f"{ANCESTOR:.0f}"]
    table([["", "seconds", "by hand", "CPU s", "by hand", "ratio", "at most", "the ancestor's s"], row])
    print(f"\nMedians of {runs} interleaved runs; CPU is this process's alone. The ancestor's is for 20,000 documents.")
    print("superorm misses:", f"{ratio:.2f} x" if ratio > AT_MOST else "nothing")


if __name__ == "__main__":
    main()
