"""The pure parts: rows, scores, records and locks."""

from __future__ import annotations

import threading
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bson
import numpy as np
import pytest
from bson import Binary, Int64, ObjectId

from superorm.codec.keys import encode_key
from superorm.codec.vectors import decode_rows
from superorm.vectors import rows as module
from superorm.vectors.file_lock import FileLock
from superorm.vectors.owner import is_dead, open_here, owner
from superorm.vectors.records import (
    BYTES_OF_KEYS,
    KEYS_PER_RECORD,
    Look,
    Record,
    batch,
    in_parts,
    new_records,
    prunable,
)
from superorm.vectors.rows import Rows
from superorm.vectors.scores import distance_of, exact_distances, longest, prepare, score_of
from superorm.vectors.shared_lock import SharedLock
from tests.vectors.prepared import as_rows

KINDS_OF_KEYS: dict[str, Callable[[int], Any]] = {
    "int": lambda n: n - 150,
    "Int64": lambda n: Int64((n << 40) - (1 << 47)) if n % 2 else n,
    "ObjectId": lambda n: ObjectId(n.to_bytes(12, "big")),
    "str": str,
    "mixed": lambda n: (n, float(n), n + 0.5, str(n), {"n": n}, ObjectId(bytes(8) + bytes([n % 256] * 4)))[n % 6],
}  # fmt: skip
"""Makes keys of a kind that the server tells apart."""


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_rows(metric: Any) -> None:
    """Rows put, replaced, dropped and put again rank as numpy does, without those left out."""
    rng = np.random.default_rng(0)
    rows, model = Rows(4, metric), {}
    for step in range(300):
        names = [encode_key(n) for n in set(rng.integers(0, 50, 3).tolist())]
        vectors = rng.standard_normal((len(names), 4)).astype("f4")
        if step % 3 == 0:
            rows.drop(names)
            model = {name: vector for name, vector in model.items() if name not in names}
        else:
            rows.replace(names, as_rows(metric, names, vectors))
            model |= dict(zip(names, vectors, strict=True))
        assert len(model) == len(rows)
        query = rng.standard_normal(4).astype("f4")
        left = [name for name in model if name not in names]
        found = rows.nearest(query, 5, names)
        exact = dict(
            zip(model, exact_distances(np.array(list(model.values())).reshape(-1, 4), query, metric), strict=True)
        )
        assert sorted(left, key=exact.__getitem__)[:5] == found.keys
        assert np.allclose([exact[name] for name in found.keys], found.distances, atol=found.tolerance)
        assert (len(left) <= 5) == found.complete


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.3, 1.0])
@pytest.mark.parametrize("kind", KINDS_OF_KEYS)
def test_rows_among_keys(metric: Any, share: float, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the rows of some keys, gathered in parts or masked, the nearest are found, and no other."""
    monkeypatch.setattr(module, "_PART", 40)
    rng = np.random.default_rng(4)
    ids = [KINDS_OF_KEYS[kind](n) for n in range(300)]
    names = [encode_key(id) for id in ids]
    vectors = rng.standard_normal((300, 4)).astype("f4")
    rows = Rows(4, metric)
    rows.replace((), as_rows(metric, names, vectors))
    rows.drop(names[::10])
    asked = [id for id in ids if rng.random() < share]
    among = {encode_key(id) for id in asked}
    left_out = [names[1], names[7], encode_key("nor there")]
    query = rng.standard_normal(4).astype("f4")
    exact = dict(zip(names, exact_distances(vectors, query, metric), strict=True))
    chosen = [n for n in names if n in among and n not in left_out and n not in names[::10]]
    found = rows.nearest(query, 5, left_out, [*asked, KINDS_OF_KEYS[kind](300)])
    assert sorted(chosen, key=exact.__getitem__)[:5] == found.keys
    assert np.allclose([exact[name] for name in found.keys], found.distances, atol=found.tolerance)
    assert (len(chosen) <= 5) == found.complete


@pytest.mark.parametrize(("dim", "count"), [(128, 50_000), (384, 20_000)])
def test_size_of_rows(dim: int, count: int) -> None:
    """Rows whose number is known take their float32 numbers, a tenth, and 100 bytes each for keys and all the rest."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((1000, dim)).astype("f4")
    tracemalloc.start()
    try:
        rows = Rows(dim, "cosine", count)
        for _ in range(0, count, 1000):
            rows.replace((), as_rows("cosine", [encode_key(ObjectId()) for _ in range(1000)], vectors))
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == len(rows)
    assert size / count < 1.1 * 4 * dim + 100


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_scores(metric: Any) -> None:
    """Scores are on the scale of vectorSearchScore, and lead back to distances."""
    a, b = np.array([3, 4], np.float32), np.array([4, -3], np.float32)
    expected = {"cosine": [1, 0.5], "dot": [13, 0.5], "euclidean": [1, 1 / (1 + 50**0.5)]}[metric]
    distances = exact_distances(np.array([a, b]), a, metric)
    assert np.allclose(expected, [score_of(float(distance), metric) for distance in distances])
    assert np.allclose(distances, [distance_of(score_of(float(d), metric), metric) for d in distances])


def test_what_cannot_be_ranked() -> None:
    """Rows that are not finite, and zero ones under cosine, are not usable; huge and tiny ones are."""
    rows = np.array([[0, 0], [np.nan, 1], [np.inf, 1], [1e38, 1e38], [1e-40, 0]], np.float32)
    prepared, usable = prepare(rows, "cosine")
    assert [False, False, False, True, True] == usable.tolist()
    assert np.allclose(1, np.linalg.norm(prepared[usable], axis=1))
    assert [True, False, False, True, True] == prepare(rows, "euclidean")[1].tolist()
    assert [True, True, True, False, False] == np.isnan(exact_distances(rows, rows[3], "cosine")).tolist()


def test_decode_rows() -> None:
    """Binaries and arrays are read, everything else is left out, with the positions of what was read."""
    good = Binary(b"\x27\x00" + np.array([1, 2], "<f4").tobytes(), 9)
    values = [good, None, [1, 2.5], "x", Binary(good, 0), Binary(b"\x03\x00ab", 9), [1, "x"], [1, 2, 3], good]
    rows, positions = decode_rows(values, 2)
    assert ([0, 2, 8], [[1, 2], [1, 2.5], [1, 2]]) == (positions, rows.tolist())
    assert [[1, 2], [1, 2]] == decode_rows([good, good], 2)[0].tolist()
    assert (0, 2) == decode_rows([], 2)[0].shape


def test_records() -> None:
    """Keys are recorded once each, in parts; what is open or stamped is not applied."""
    documents = new_records("a.b", [*range(KEYS_PER_RECORD + 10), 1.0, True])
    assert [KEYS_PER_RECORD, 11] == [len(document["keys"]) for document in documents]
    look = Look.of([*documents, {"kind": "index", "i": "a.b"}], "e")
    assert look.state is None
    assert KEYS_PER_RECORD + 11 == len(look.pending)
    assert 1 == len(batch(look.records.values(), 100))
    other = [Record(ObjectId(), [1], None, open=True), Record(ObjectId(), [1], 3)]
    assert 2 == len(batch([*other, *look.records.values()], 100_000))


def test_long_keys_in_parts() -> None:
    """No part has more bytes of keys than a statement takes, and all keys stand in the parts, in order."""
    keys = [f"{n:05}" + "z" * 4000 for n in range(5000)]
    documents = new_records("a.b", keys)
    assert keys == [key for document in documents for key in document["keys"]]
    for document in documents:
        assert len(bson.encode(document)) < BYTES_OF_KEYS + 100_000
    assert [["x" * BYTES_OF_KEYS], ["y"]] == in_parts({encode_key(k): k for k in ["x" * BYTES_OF_KEYS, "y"]}, 10)
    assert [] == in_parts({}, 10)


def test_longest() -> None:
    """The length of the longest row, finite for rows whose squares are not."""
    rows = np.array([[3e30, 4e30], [1, 1]], np.float32)
    assert np.isclose(5e30, longest(rows))
    assert longest(rows[:0]) == 0


def test_prunable() -> None:
    """A record goes when all engines stamped it; one that waited too long goes, and the engine behind starts anew."""
    now = datetime.now(UTC)
    late, recent = ObjectId.from_datetime(now - timedelta(days=9)), ObjectId.from_datetime(now)
    states = [{"_id": "i@a", "engine": "a"}, {"_id": "i@b", "engine": "b"}]
    both = {"_id": recent, "seq": {"a": 3, "b": 5}}
    one = {"_id": recent, "seq": {"a": 4}}
    assert ([recent], {"i@a": 3, "i@b": 5}, []) == prunable([both, one], states, now - timedelta(days=7))
    assert ([late], {"i@a": 4}, ["i@b"]) == prunable([one | {"_id": late}], states, now - timedelta(days=7))
    assert ([], {}, []) == prunable([one | {"_id": late, "open": True}], states, now - timedelta(days=7))


def test_file_lock(tmp_path: Path) -> None:
    """A lock excludes other takings, in this process too, until it is released."""
    first, second = FileLock(tmp_path / "x" / "lock"), FileLock(tmp_path / "x" / "lock")
    assert first.acquire()
    assert not second.acquire()
    first.release()
    assert second.acquire()
    second.release()


def test_shared_lock() -> None:
    """Readers are in at once; a writer is alone, and readers that come later wait for it."""
    lock, events = SharedLock(), list[str]()
    both, written = threading.Barrier(2), threading.Event()

    def read() -> None:
        with lock.reading():
            both.wait(10)

    def write() -> None:
        with lock.writing():
            events.append("written")
            written.wait(10)
            events.append("done")

    def late() -> None:
        with lock.reading():
            events.append("late")

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(10)
        assert not reader.is_alive()
    with lock.reading():
        writer = threading.Thread(target=write)
        writer.start()
        while not lock._waiting:
            time.sleep(0.001)
        reader = threading.Thread(target=late)
        reader.start()
        time.sleep(0.02)
        assert [] == events
    while not events:
        time.sleep(0.001)
    time.sleep(0.02)
    assert ["written"] == events
    written.set()
    writer.join(10)
    reader.join(10)
    assert ["written", "done", "late"] == events


def test_owner() -> None:
    """This process lives, save for records it no longer has open; a number that is free, or used anew, is dead."""
    record = ObjectId()
    host, pid, _ = owner().rsplit(":", 2)
    open_here.add(record)
    assert not is_dead(record, owner())
    open_here.discard(record)
    assert is_dead(record, owner())
    assert is_dead(record, f"{host}:{pid}:12")
    assert is_dead(record, f"{host}:4194999:12")
    assert not is_dead(record, "elsewhere:4194999:12")
    assert not is_dead(record, None)


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 300])
def test_exact_distances_of_many(metric: Any, n: int) -> None:
    """However many rows there are, each gets the very distance that it has alone, NaN where it has none."""
    rng = np.random.default_rng(n)
    rows, query = rng.standard_normal((n, 37)).astype("f4"), rng.standard_normal(37).astype("f4")
    if n > 10:
        rows[n - 1] = rows[3]
        rows[n - 2, 5] = np.inf
        rows[7] = 0
    found = exact_distances(rows, query, metric)
    alone = [float(exact_distances(row[None], query, metric)[0]) for row in rows]
    assert np.array_equal(np.array(alone), found, equal_nan=True)
    wide, q = rows.astype(float), query.astype(float)
    with np.errstate(all="ignore"):
        expected = {
            "cosine": 1 - wide @ q / (np.linalg.norm(wide, axis=1) * np.linalg.norm(q)),
            "dot": -wide @ q,
            "euclidean": ((wide - q) ** 2).sum(axis=1),
        }[metric]
    finite = np.isfinite(expected)
    assert np.allclose(expected[finite], found[finite], rtol=1e-12, atol=1e-12)
    assert np.isnan(found[~finite]).all()
