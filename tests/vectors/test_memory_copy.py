"""Memory against a small database with snapshots, by random interleavings."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from attrs import evolve, frozen
from bson import ObjectId

from superorm.codec.keys import decode_key, encode_key
from superorm.vectors import memory_copy
from superorm.vectors.memory_copy import Forward, MemoryCopy
from superorm.vectors.records import Look, Record, State
from superorm.vectors.rows import Rows

QUERY = np.array([1, 0], np.float32)


@frozen
class Snapshot:
    """One committed state of the database."""

    docs: dict[int, float]
    records: tuple[Record, ...]
    n: int = 0
    floor: int = 0

    def look(self, since: int | None) -> Look:
        """What a search reads."""
        seen = {r.id: r for r in self.records if r.seq is None or (since is not None and r.seq > since)}
        return Look(State(self.n, self.floor, None, "token"), seen)

    def vectors(self, keys: Any) -> tuple[list[str], Any]:
        """The vectors of those documents that are there."""
        there = [key for key in keys if key in self.docs]
        rows = np.array([[1, self.docs[key]] for key in there], np.float32).reshape(-1, 2)
        return [encode_key(key) for key in there], rows

    @property
    def expected(self) -> list[int]:
        """All keys, nearest first."""
        return [key for _, key in sorted((value, key) for key, value in self.docs.items())]


def load(snapshot: Snapshot) -> MemoryCopy:
    """Memory as a snapshot has it."""
    rows = Rows(2, "euclidean")
    rows.replace((), *snapshot.vectors(snapshot.docs))
    return MemoryCopy(rows, snapshot.look(None), monotone=False)


def ranked(copy: MemoryCopy, look: Look, snapshot: Snapshot) -> list[int] | None:
    """All keys as a search in the snapshot ranks them: from memory, and the pending ones from its documents."""
    found = copy.nearest(look, QUERY, 100, [])
    if found is None:
        return None
    nearest, pending = found
    values = {decode_key(key): float(d) ** 0.5 for key, d in zip(nearest.keys, nearest.distances, strict=True)}
    values = {int(key): value for key, value in values.items()}
    assert not values.keys() & set(pending.values())
    values |= {key: snapshot.docs[key] for key in pending.values() if key in snapshot.docs}
    return [key for _, key in sorted((value, key) for key, value in values.items())]


@pytest.mark.parametrize("seed", range(40))
def test_random_interleavings(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever moves memory on meanwhile, each search answers as its own snapshot does."""
    monkeypatch.setattr(memory_copy, "HISTORY", 6)
    rng = random.Random(seed)
    now = Snapshot({key: float(key + 1) for key in range(5)}, ())
    copy = load(now)
    open_transactions: list[tuple[Snapshot, Record]] = []
    searches: list[tuple[Snapshot, MemoryCopy, Look, Forward | None]] = []
    snapshots: list[Snapshot] = []
    answered = 0
    for _ in range(400):
        action = rng.choice(["begin", "commit", "commit", "publish", "search", "step", "step", "prune", "load"])
        if action == "begin":
            open_transactions.append((now, Record(ObjectId(), [rng.randrange(5)], None)))
        elif action == "commit" and open_transactions:
            _, record = open_transactions.pop(rng.randrange(len(open_transactions)))
            docs = {key: value for key, value in now.docs.items() if key not in record.keys}
            if rng.random() < 0.7:
                docs[record.keys[0]] = rng.random() * 10
            now = evolve(now, docs=docs, records=(*now.records, record))
        elif action == "publish":
            stamped = tuple(
                r if r.seq is not None or rng.random() < 0.3 else evolve(r, seq=now.n + 1) for r in now.records
            )
            now = evolve(now, records=stamped, n=now.n + 1)
        elif action == "prune" and rng.random() < 0.2:
            floor = max(0, now.n - 3)
            kept = tuple(r for r in now.records if r.seq is None or r.seq > floor)
            now = evolve(now, records=kept, floor=max(now.floor, floor))
        elif action == "load" and rng.random() < 0.05:
            copy = load(now)
        elif action == "search":
            snapshots = [*snapshots[-5:], now]
            snapshot = rng.choice(snapshots)
            look = snapshot.look(copy.n)
            searches.append((snapshot, copy, look, None if copy.stale(look) else copy.forward(look)))
        elif action == "step" and searches:
            snapshot, seen, look, step = searches.pop(rng.randrange(len(searches)))
            if step is not None and rng.random() < 0.7:
                seen.install(step, look, *snapshot.vectors(step.keys.values()))
            answer = ranked(seen, look, snapshot)
            answered += answer is not None
            assert answer in (None, snapshot.expected)
        if copy.stale(now.look(copy.n)):
            copy = load(now)
    assert answered > 20
