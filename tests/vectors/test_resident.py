"""The bound on what is held in memory."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

from superorm.codec.keys import encode_key
from superorm.vectors import resident
from superorm.vectors.memory_copy import MemoryCopy
from superorm.vectors.records import Look, State
from superorm.vectors.resident import Resident
from superorm.vectors.rows import Rows
from tests.vectors.brute import DIM

ROW = DIM * 4


def copy_of(rows: int) -> MemoryCopy:
    """A copy of so many rows."""
    held = Rows(DIM, "cosine", rows)
    held.put([encode_key(n) for n in range(rows)], np.ones((rows, DIM), np.float32))
    return MemoryCopy(held, Look(State(0, 0, 1, "t")), published=True, monotone=False)


def held_by(limit: int | None) -> Resident[threading.Lock]:
    """Copies within a limit of so many rows."""
    return Resident(threading.Lock, None if limit is None else limit * ROW)


def test_room() -> None:
    """Copies take their rows' bytes of the limit; a copy's own room is its to take again."""
    held = held_by(100)
    assert held.admits("a", 100 * ROW)
    assert not held.admits("a", 100 * ROW + 1)
    held.put("a", copy_of(60))
    assert held.get("a") is not None
    assert held.admits("a", 100 * ROW)
    assert held.admits("b", 40 * ROW)
    assert not held.admits("b", 41 * ROW)
    held.drop("a")
    assert held.admits("b", 100 * ROW)
    assert held_by(None).admits("a", 1 << 60)
    assert held_by(None).extend("a") is None


def test_a_load_takes_its_room_at_once() -> None:
    """What is being loaded counts like what is there, until it is given up."""
    held = held_by(100)
    held.put("a", copy_of(30))
    assert held.reserve("b", 60 * ROW)
    assert not held.admits("c", 11 * ROW)
    assert not held.reserve("c", 11 * ROW)
    assert held.reserve("c", 10 * ROW)
    held.drop("b")
    assert held.admits("d", 60 * ROW)


def test_what_is_loaded_anew_is_freed_first() -> None:
    """The old copy's rows go before the new ones come, wherever it is still referred to, and it answers nothing."""
    held, old = held_by(100), copy_of(60)
    held.put("a", old)
    assert held.reserve("a", 100 * ROW)
    look, query = Look(State(0, 0, 1, "t")), np.ones(DIM, np.float32)
    assert 0 == old.nbytes
    assert held.get("a") is None
    assert old.nearest(look, query, 5, []) is None
    assert old.seen(old.rank(query, 5, []), look) is None
    assert old.forward(look) is None
    assert old.rows_seen(look) is None


def test_copies_extend_within_what_the_others_leave() -> None:
    """A copy gets what is left at most, and a copy that was replaced gets nothing."""
    held = held_by(100)
    a, b = copy_of(50), copy_of(30)
    held.put("a", a)
    held.put("b", b)
    more = held.extend("a")
    assert more is not None
    assert more(a, 71 * ROW, 90 * ROW) is None
    assert 60 * ROW == more(a, 51 * ROW, 60 * ROW)
    assert 70 * ROW == more(a, 61 * ROW, 90 * ROW)
    other = held.extend("b")
    assert other is not None
    assert other(b, 31 * ROW, 40 * ROW) is None
    assert more(b, ROW, ROW) is None
    held.drop("b", a)
    assert held.get("b") is b


def test_idle_copies_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those not used for a while go, the longest unused first, and only where that is enough."""
    held = held_by(100)
    copies = {name: copy_of(30) for name in "abc"}
    for name, copy in copies.items():
        held.put(name, copy)
        held.get(name)
    assert not held.reserve("d", 40 * ROW)
    monkeypatch.setattr(resident, "IDLE", 0.0)
    held.get("a")
    assert not held.reserve("d", 101 * ROW)
    assert held.reserve("d", 40 * ROW)
    monkeypatch.setattr(resident, "IDLE", 60.0)
    assert ["a", "c"] == [name for name in "abc" if held.get(name) is not None]
    assert [30 * ROW, 0, 30 * ROW] == [copy.nbytes for copy in copies.values()]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_fork() -> None:
    """A forked child does not wait for locks that threads of its parent held, and begins with nothing."""
    held = Resident(threading.Lock, 1 << 20)
    held.put("a", copy_of(3))
    with held.loading, held._lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if held.get("a") is None and held.loading.acquire(timeout=5) else 1)
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert held.get("a") is not None
