"""An index in process memory: rows, and which records they include. Nothing here does I/O."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from superorm.codec.vectors import Matrix, Vector
from superorm.schema.vector_spec import Metric
from superorm.vectors.records import Look, Record, keys_of
from superorm.vectors.rows import Nearest, Rows

__all__ = ["Forward", "MemoryCopy"]

HISTORY = 50_000
"""Keys of applied records that are remembered, for older snapshots that do not see those records."""


@frozen
class Forward:
    """A step that brings memory forward: the keys to read in the same snapshot, valid for one generation."""

    generation: int
    records: Sequence[Record]
    keys: Mapping[str, Any]


class MemoryCopy:
    """Rows loaded at one publication and brought forward since, safe for threads.

    The rows include exactly: every record stamped up to `base`, and those in `applied`.
    With `monotone`, what was seen once is never unseen: there are no snapshots, and so no older ones.
    """

    def __init__(self, rows: Rows, look: Look, *, monotone: bool) -> None:
        assert look.state is not None
        self._lock = threading.Lock()
        self._rows = rows
        self._monotone = monotone
        self._generation = 0
        self.token = look.state.table
        self.n = self.base = look.state.n
        self._applied = {r.id: r for r in look.unstamped if not r.open}

    def serves(self, dim: int, metric: Metric) -> bool:
        """Whether these are vectors of that kind."""
        return (self._rows.dim, self._rows.metric) == (dim, metric)

    def stale(self, look: Look) -> bool:
        """Whether memory must be loaded anew: records it never saw may be gone, or the state is another one."""
        return look.state is not None and (look.state.table != self.token or self.n < look.state.floor)

    def forward(self, look: Look) -> Forward | None:
        """What to read to bring memory to a snapshot outside transactions; None where it is not newer."""
        with self._lock:
            return self._forward(look)

    def install(self, step: Forward, look: Look, keys: Sequence[str], rows: Matrix) -> bool:
        """Bring memory forward by what was read: `rows` (n, dim) under `keys`; False where another was quicker."""
        assert look.state is not None
        with self._lock:
            if step.generation != self._generation:
                return False
            self._rows.replace(step.keys, keys, rows)
            done = {r.id: r for r in look.records.values() if not r.open and not self._known(r)}
            self._applied = done if self._monotone else self._applied | done
            self.n = look.state.n
            self._generation += 1
            self._forget()
            return True

    def nearest(
        self, look: Look, query: Vector, limit: int, leave_out: Sequence[str]
    ) -> tuple[Nearest, dict[str, Any]] | None:
        """The nearest rows to the query (dim,) as a snapshot sees them, and the keys to rank from its documents.

        None where the snapshot is older than what memory remembers.
        """
        with self._lock:
            pending = self._difference(look)
            if pending is None:
                return None
            return self._rows.nearest(query, limit, [*pending, *leave_out]), pending

    def compare(self, look: Look, documents: Rows) -> dict[str, str]:
        """The keys where memory differs from the documents of a snapshot, each with how."""
        with self._lock:
            pending = self._difference(look)
            return {} if pending is None else documents.compare(self._rows, pending)

    def _known(self, record: Record) -> bool:
        """Whether the rows have included the record since they were loaded, or its history is forgotten."""
        return record.seq is not None and record.seq <= self.base

    def _forward(self, look: Look) -> Forward | None:
        state = look.state
        assert state is not None
        fresh = [r for r in look.records.values() if not r.open and not self._known(r) and r.id not in self._applied]
        if state.n < self.n or self._unseen(look) or not (fresh or state.n > self.n):
            return None
        return Forward(self._generation, fresh, keys_of(fresh))

    def _unseen(self, look: Look) -> list[Record]:
        """The applied records that the snapshot does not see."""
        assert look.state is not None
        if self._monotone:
            return []
        n = look.state.n
        return [
            r for r in self._applied.values() if r.id not in look.records and not (r.seq is not None and r.seq <= n)
        ]

    def _difference(self, look: Look) -> dict[str, Any] | None:
        assert look.state is not None
        if look.state.n < self.base or self.stale(look):
            return None
        missing = [r for r in look.records.values() if r.open or (r.id not in self._applied and not self._known(r))]
        return keys_of([*missing, *self._unseen(look)])

    def _forget(self) -> None:
        stamped = sorted((r for r in self._applied.values() if r.seq is not None), key=lambda r: r.seq or 0)
        surplus = sum(len(r.keys) for r in stamped) - HISTORY
        for record in stamped:
            if surplus <= 0:
                break
            surplus -= len(record.keys)
            self.base = max(self.base, record.seq or 0)
        self._applied = {r.id: r for r in self._applied.values() if not self._known(r)}
