"""The bound on what is held in memory."""

from __future__ import annotations

import os

import pytest

from superorm.codec.keys import encode_key
from superorm.vectors import resident
from superorm.vectors.memory_copy import MemoryCopy
from superorm.vectors.records import Look, State
from superorm.vectors.resident import Resident
from superorm.vectors.rows import Rows
from tests.vectors.brute import DIM


def copy_of(rows: int) -> MemoryCopy:
    """A copy of so many rows."""
    import numpy as np

    held = Rows(DIM, "cosine")
    held.put([encode_key(n) for n in range(rows)], np.ones((rows, DIM), np.float32))
    return MemoryCopy(held, Look(State(0, 0, 1, "t")), published=True, monotone=False)


def test_room() -> None:
    """Copies take their rows' bytes of the limit; a copy's own room is its to take again."""
    held, row = Resident(100 * DIM * 4), DIM * 4
    assert held.admits("a", 100 * row)
    assert not held.admits("a", 100 * row + 1)
    held.put("a", copy_of(60))
    assert held.get("a") is not None
    assert held.admits("a", 100 * row)
    assert held.admits("b", 40 * row)
    assert not held.admits("b", 41 * row)
    held.drop("a")
    assert held.admits("b", 100 * row)
    assert 100 == held.most(DIM)
    assert Resident().admits("a", 1 << 60)
    assert Resident().most(DIM) is None


def test_idle_copies_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those not used for a while go, the longest unused first, and only where that is enough."""
    held, row = Resident(100 * DIM * 4), DIM * 4
    for name in "abc":
        held.put(name, copy_of(30))
        held.get(name)
    assert not held.admits("d", 40 * row)
    monkeypatch.setattr(resident, "IDLE", 0.0)
    held.get("a")
    assert not held.admits("d", 101 * row)
    assert held.admits("d", 40 * row)
    monkeypatch.setattr(resident, "IDLE", 60.0)
    assert ["a", "c"] == [name for name in "abc" if held.get(name) is not None]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_fork() -> None:
    """A forked child does not wait for locks that threads of its parent held, and begins with nothing."""
    held = Resident(1 << 20)
    held.put("a", copy_of(3))
    with held._lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if held.get("a") is None else 1)
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert held.get("a") is not None
