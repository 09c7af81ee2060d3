"""Requests a second of a FastAPI app on superorm, and of the same app on PyMongo: ``python benchmarks/web``.

Both run under uvicorn, one process each, on one private mongod;
64 connections that are kept alive ask the one, then the other, by turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import monotonic, perf_counter, sleep
from typing import Any

from pymongo import MongoClient

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "mappers"))
from data import flat

from harness import table
from superorm.backends.mongod import open_mongod, wait_stopped

HERE = Path(__file__).resolve().parent
AT_LEAST = 0.7
"""superorm's requests a second, as a ratio to PyMongo's."""
CONNECTIONS = 64
DOCUMENTS = 10_000
APPS = ("pymongo", "superorm")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@contextmanager
def serving(app: str, uri: str, database: str) -> Iterator[int]:
    """The app under uvicorn; its port."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port), "--no-access-log", "--log-level=error"]
    process = subprocess.Popen(command, cwd=HERE, env={**os.environ, "APP": app, "URI": uri, "DATABASE": database})
    try:
        deadline = monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                if process.poll() is not None or monotonic() > deadline:
                    raise RuntimeError(f"uvicorn does not serve the app on {app}") from None
                sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait()


async def ask(port: int, expected: Mapping[str, Mapping[str, Any]], seconds: float) -> float:
    """Requests a second of all connections together. Raises `RuntimeError` for a wrong answer."""
    keys = cycle(expected)
    end = perf_counter() + seconds

    async def connection() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        done = 0
        while perf_counter() < end:
            key = next(keys)
            writer.write(f"GET /people/{key} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            body = await reader.readexactly(length)
            if done % 100 == 0 and not _is_right(json.loads(body), expected[key]):
                raise RuntimeError(f"asked for {key}, and got {body!r}")
            done += 1
        writer.close()
        return done

    start = perf_counter()
    total = sum(await asyncio.gather(*(connection() for _ in range(CONNECTIONS))))
    return total / (perf_counter() - start)


def _is_right(answer: Mapping[str, Any], document: Mapping[str, Any]) -> bool:
    return all(answer[name] == document[name] for name in ("name", "email", "age", "score", "active"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a look, not a measurement")
    quick = parser.parse_args().quick
    runs, seconds = (2, 1.0) if quick else (9, 5.0)
    with TemporaryDirectory(prefix="superorm-bench-") as folder:
        with open_mongod(folder) as lease, MongoClient[dict[str, Any]](lease.uri) as client:
            documents = list(flat(DOCUMENTS))
            client.web.flat.insert_many(documents)
            expected = {str(document["_id"]): document for document in documents}
            rates: dict[str, list[float]] = {app: [] for app in APPS}
            with serving(APPS[0], lease.uri, "web") as first, serving(APPS[1], lease.uri, "web") as second:
                ports = {APPS[0]: first, APPS[1]: second}
                for run in range(runs + 1):
                    for app in APPS if run % 2 else reversed(APPS):
                        rate = asyncio.run(ask(ports[app], expected, seconds))
                        if run:  # the first warms up
                            rates[app].append(rate)
        wait_stopped(folder)
    medians = {app: median(found) for app, found in rates.items()}
    ratio = medians["superorm"] / medians["pymongo"]
    heading = ["requests a second, one document each", *APPS, "ratio", "at least"]
    table(
        [
            heading,
            [
                f"FastAPI, {CONNECTIONS} connections",
                *(f"{medians[app]:.0f}" for app in APPS),
                f"{ratio:.2f}",
                f"{AT_LEAST}",
            ],
        ]
    )
    print(f"Medians of {runs} runs of {seconds:g} s by turns; the server, the app and who asks share the machine.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
