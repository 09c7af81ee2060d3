"""A process that commits one small document after the other while it is told to: see `writes.beside_commits`.

It reads ``go`` and ``stop`` line by line, says ``ready`` when it is, and after each ``stop`` how many commits a second
it made. It ends with its input, so also when the process that started it is killed.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from items import DIM
from writes import RATE, ROWS, Note

from superorm import DB, Session, connect


def commit(db: DB, rng: np.random.Generator, stop: threading.Event) -> float:
    """Change one vector a commit, so many times a second, or as often as that is possible; the rate."""
    start, made = time.monotonic(), 0
    while not stop.is_set():
        with Session(db) as session:
            session.get_one(Note, int(rng.integers(ROWS))).embedding = rng.standard_normal(DIM).astype("f4")
            session.commit()
        made += 1
        stop.wait(max(0.0, start + made / RATE - time.monotonic()))
    return made / (time.monotonic() - start)


def main() -> None:
    uri, name, url = sys.argv[1:]
    rng = np.random.default_rng()
    with connect(uri, database=name, vector_database=url, signing_key="a key of this benchmark") as db:
        with Session(db) as session:
            session.get_one(Note, 0)  # everything is open then
        print("ready", flush=True)
        while sys.stdin.readline():
            stop = threading.Event()
            threading.Thread(target=lambda stop=stop: (sys.stdin.readline(), stop.set()), daemon=True).start()
            print(commit(db, rng, stop), flush=True)


if __name__ == "__main__":
    main()
