"""superorm against other mappers, each as a ratio to raw PyMongo: ``python benchmarks/mappers [--quick]``.

Each candidate is a process of its own, which measures itself; they work by turns on one private mongod.
``nox -s bench`` installs the peers.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from attrs import define, field
from bson.codec_options import CodecOptions
from data import flat, nested
from process import TaskError, Worker
from pymongo import MongoClient
from pymongo.database import Database
from rows import ASYNC_MORE, LOADED_MOST, ROWS, Row
from timing import STATEMENTS

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from harness import Time, interleave, table
from superorm.backends.mongod import open_mongod, wait_stopped

ROOT = Path(__file__).resolve().parents[2]
OFTEN = ("raw", "superorm")
ASYNC = {"raw": "raw_async", "superorm": "superorm_async"}
PEERS = ("beanie", "odmantic", "mongoengine", "ming", "mongospecs")
WHOLE = (10_000, 5, (10_000, 50_000, 1_000_000))
"""Documents, runs, and the documents in memory: of the short stream, of the load, and of the long stream."""
QUICK = (1000, 3, (1000, 5000, 50_000))
STREAM_MIB = 20
"""How much more memory a stream may take at most for a hundred times as many documents."""

Results = dict[str, dict[str, Time]]
"""Times by row and candidate."""


@define
class Run:
    """One run of everything."""

    uri: str
    pythons: Mapping[str, str]
    runs: int
    modules: Mapping[str, str] = field(factory=dict[str, str])
    """The candidates' modules where they have other names."""
    workers: dict[str, Worker] = field(factory=dict)
    failures: list[str] = field(factory=list)

    def start(self, stack: ExitStack, database: str) -> None:
        """Start a worker for each candidate."""
        for name, python in self.pythons.items():
            module = self.modules.get(name, name)
            self.workers[name] = stack.enter_context(Worker(python, module, self.uri, database))

    def row(self, row: Row, database: Database[Any], n: int) -> dict[str, Time]:
        """The medians of those that can do it; a first round warms up, and shows who fails."""
        count = n // row.share

        def candidate(name: str) -> Callable[[], Time]:
            def run() -> Time:
                fill(database, row.documents, count)
                answer = self.workers[name].run(row.task, count)
                check(database, row, count, answer)
                return Time(answer["wall"], answer["cpu"])

            return run

        able: dict[str, Callable[[], Time]] = {}
        for name, worker in self.workers.items():
            if row.task in worker.tasks:
                run = candidate(name)
                try:
                    run()
                except TaskError as error:
                    self.failures.append(f"{name}, {row.title}: {error}")
                else:
                    able[name] = run
        return interleave(able, self.runs, often=OFTEN)

    def memory(self, name: str, task: str, n: int) -> float | None:
        """MiB of a fresh worker."""
        try:
            with Worker(self.pythons[name], name, self.uri, "memory") as worker:
                return worker.run(task, n)["mib"]
        except TaskError as error:
            self.failures.append(f"{name}, {task}: {error}")
            return None


def fill(database: Database[Any], documents: str, n: int) -> None:
    """Make the collections hold what the row needs; what is there already stays."""
    if documents == "nested":
        if database.nested.estimated_document_count() != n:
            database.nested.delete_many({})
            database.nested.insert_many(nested(n))
        return
    count = 0 if documents == "nothing" else n
    there = database.flat.estimated_document_count()
    if there > count or count == 0:
        database.flat.delete_many({})
        there = 0
    more = flat(count - there, there)
    while chunk := list(islice(more, 10_000)):
        database.flat.insert_many(chunk)


def check(database: Database[Any], row: Row, n: int, answer: Mapping[str, float]) -> None:
    """Raise `TaskError` where the collection does not hold what the task should have written."""
    if row.documents == "nothing":
        aware: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True)
        stored = list(database.flat.with_options(aware).find())
        if sorted(stored, key=lambda document: document["_id"]) != list(flat(n)):
            raise TaskError("what it stored is not what it was given")
    elif "value" in answer:
        changed = database.flat.count_documents({"visits": answer["value"]})
        if changed != n:
            raise TaskError(f"it changed {changed} documents, not {n}")


def times_table(results: Results, names: Sequence[str], title: str, more: float = 0.0) -> None:
    """Ratios to raw PyMongo: CPU time, wall time in brackets; `more` adds to what superorm may take."""
    lines = [[title, "raw, ms", *names[1:], "superorm at most"]]
    for row in ROWS:
        times = results[row.task]
        raw = times["raw"]
        cells = [f"{raw.cpu * 1000:.1f} ({raw.wall * 1000:.1f})"]
        for name in names[1:]:
            time = times.get(name)
            cells.append("–" if time is None else f"{time.cpu / raw.cpu:.2f} ({time.wall / raw.wall:.2f})")
        lines.append([row.title, *cells, "" if row.most is None else f"{row.most + more:.3g}"])
    table(lines)


def faster_table(results: Results, peers: Sequence[str]) -> list[str]:
    """How many times faster superorm is than each peer, by CPU time; what it misses."""
    lines = [["superorm is faster by, CPU time", *peers, "at least"]]
    misses: list[str] = []
    for row in ROWS:
        times = results[row.task]
        if "superorm" not in times or not any(peer in times for peer in peers):
            continue
        factors = {peer: times[peer].cpu / times["superorm"].cpu for peer in peers if peer in times}
        cells = [f"{factors[peer]:.1f} x" if peer in factors else "–" for peer in peers]
        lines.append([row.title, *cells, "" if row.faster is None else f"{row.faster} x"])
        if row.faster is not None:
            slow = {peer: factor for peer, factor in factors.items() if factor < row.faster}
            misses += [f"{row.title}: {factor:.2f} x faster than {peer}" for peer, factor in slow.items()]
    table(lines)
    return misses


def statement_table(times: Mapping[str, Time], names: Sequence[str]) -> list[str]:
    """Microseconds for one statement; what superorm misses."""
    micros = {name: time.cpu / STATEMENTS * 1e6 for name, time in times.items()}
    cells = [f"{micros[name]:.1f}" if name in micros else "–" for name in names]
    peers = {name: value for name, value in micros.items() if name in PEERS}
    least = min(peers.values(), default=None)
    most = "" if least is None else f"{least / 2:.1f}"
    table([["µs, CPU time", *names, "superorm at most"], ["build and compile a statement", *cells, most]])
    ratios = [f"{name} {micros['superorm'] / value:.2f}" for name, value in peers.items() if "superorm" in micros]
    print(f"superorm's ratio to {', '.join(ratios)}." if ratios else "")
    if least is not None and micros.get("superorm", 0.0) > least / 2:
        return [f"statement: {micros['superorm']:.1f} µs, at most {least / 2:.1f}"]
    return []


def memory_table(run: Run, database: Database[Any], names: Sequence[str], sizes: tuple[int, int, int]) -> list[str]:
    """MiB of streams and of loaded objects; what superorm misses."""
    few, some, many = sizes
    streams: dict[int, dict[str, float | None]] = {}
    loaded: dict[str, float | None] = {}
    for n in sizes:
        fill(database, "flat", n)
        if n == some:
            loaded = {name: run.memory(name, "memory_of_load", n) for name in names}
        else:
            streams[n] = {name: run.memory(name, "memory_of_stream", n) for name in names if name not in PEERS}
    lines = [["resident memory, MiB", *names, "superorm at most"]]
    for n, found in streams.items():
        lines.append([f"highest, streaming {n:,} flat", *(_mib(found.get(name)) for name in names), ""])
    lines.append([f"growth, loading {some:,} flat", *(_mib(loaded[name]) for name in names), ""])
    before, after = streams[few].get("superorm"), streams[many].get("superorm")
    if before is not None:
        lines[2][-1] = f"{before + STREAM_MIB:.0f}"
    dicts, objects = loaded.get("raw"), loaded.get("superorm")
    if dicts is not None:
        lines[3][-1] = f"{dicts * LOADED_MOST:.0f}"
    table(lines)
    misses: list[str] = []
    if dicts is not None and objects is not None and objects > dicts * LOADED_MOST:
        misses.append(f"loading {some:,}: {objects / dicts:.2f} x the dicts' memory, at most {LOADED_MOST}")
    if before is not None and after is not None and after - before > STREAM_MIB:
        misses.append(f"streaming {many:,}: {after - before:.0f} MiB more than {few:,}, at most {STREAM_MIB}")
    return misses


def _mib(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"


def limits(results: Results, more: float = 0.0) -> list[str]:
    """The rows in which superorm takes longer than it may."""
    misses: list[str] = []
    for row in ROWS:
        times = results[row.task]
        if row.most is not None and "superorm" in times:
            ratio = times["superorm"].cpu / times["raw"].cpu
            if ratio > row.most + more:
                misses.append(f"{row.title}{', async' if more else ''}: {ratio:.2f}, at most {row.most + more:.3g}")
    return misses


def rows(run: Run, database: Database[Any], n: int, wanted: Sequence[Row]) -> Results:
    """Measure rows, and print each as soon as it is known."""
    results: Results = {}
    with ExitStack() as stack:
        run.start(stack, database.name)
        for row in wanted:
            times = results[row.task] = run.row(row, database, n if row in ROWS else 1)
            so_far = ", ".join(f"{run.modules.get(name, name)} {time.cpu * 1000:.1f}" for name, time in times.items())
            print(f"{row.title}, CPU ms: {so_far}", file=sys.stderr)
    return results


def measure(run: Run, n: int, sizes: tuple[int, int, int]) -> None:
    """Measure all and print the tables."""
    names = list(run.pythons)
    client: MongoClient[dict[str, Any]]
    with MongoClient(run.uri) as client:
        results = rows(run, client.mappers, n, (*ROWS, Row("build and compile a statement", "statement")))
        statement = results.pop("statement")
        beside = Run(run.uri, dict.fromkeys(OFTEN, sys.executable), 5 * run.runs, ASYNC)
        asynchronous = rows(beside, client.mappers, n, ROWS)
        run.failures += beside.failures
        print(f"N = {n:,} ({n // 5:,} modified), medians of {run.runs} interleaved runs;")
        print(f"raw and superorm run {run.runs} times beside each of the others.\n")
        times_table(results, names, "CPU (wall) time, ratio to raw PyMongo")
        print()
        times_table(asynchronous, OFTEN, "AsyncSession, ratio to AsyncMongoClient", ASYNC_MORE)
        print()
        misses = limits(results) + limits(asynchronous, ASYNC_MORE)
        misses += faster_table(results, [name for name in names if name in PEERS])
        print()
        misses += statement_table(statement, names)
        print()
        misses += memory_table(run, client.memory, names, sizes)
    print("\nraw_aware is raw with tz_aware=True: superorm reads aware datetimes too, most peers do not.")
    print("CPU time is the client's, of all its threads; the server's is not counted. –: it has no means for that.")
    workers = run.workers.items()
    report("Measured", [worker.versions for _, worker in workers])
    report("Notes", [f"{name}, {task}: {note}." for name, worker in workers for task, note in worker.notes.items()])
    report("superorm misses", misses)
    report("Failed", run.failures)


def report(heading: str, lines: Sequence[str]) -> None:
    """Print lines below a heading."""
    print("\n".join(["", f"{heading}:", *(f"  {line}" for line in lines or ["none"])]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few documents and runs: a look, not a measurement")
    parser.add_argument("--peers", default=str(ROOT / ".nox/peers/bin/python"), help="the Python that has the peers")
    parser.add_argument("--only", nargs="+", choices=PEERS, default=PEERS, help="of the peers, only these")
    arguments = parser.parse_args()
    if not Path(arguments.peers).exists():
        parser.error(f"there is no {arguments.peers}: run nox -s bench, which installs the peers")
    n, runs, sizes = QUICK if arguments.quick else WHOLE
    pythons = dict.fromkeys(("raw", "raw_aware", "superorm"), sys.executable)
    pythons |= dict.fromkeys(arguments.only, arguments.peers)
    with TemporaryDirectory(prefix="superorm-bench-") as folder:
        with open_mongod(folder) as lease:
            run = Run(lease.uri, pythons, runs)
            measure(run, n, sizes)
        wait_stopped(folder)
    return 1 if run.failures else 0


if __name__ == "__main__":
    sys.exit(main())
