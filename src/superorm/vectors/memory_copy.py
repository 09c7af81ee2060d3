"""An index in process memory: rows, and which records they include. Nothing here does I/O."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, TypeAlias

from attrs import evolve, frozen
from bson import ObjectId

from superorm.codec.vectors import Vector
from superorm.schema.vector_spec import FilterField, Metric, VectorSpec
from superorm.vectors.condition import Condition
from superorm.vectors.mirror import table_rows
from superorm.vectors.records import Look, Record, keys_of
from superorm.vectors.rows import Nearest, Rows, roomy
from superorm.vectors.shared_lock import SharedLock

__all__ = ["Extend", "Forward", "MemoryCopy", "Ranked"]

HISTORY = 50_000
"""Keys of published records that are remembered, for older snapshots that do not see those records."""
STEPS = 32
"""Generations back for which it is remembered what changed, for searches that ranked then."""


@frozen
class Forward:
    """A step that brings memory forward: the keys to read in the same snapshot, valid for one generation."""

    generation: int
    keys: Mapping[str, Any]
    size: int | None
    """For how many rows room may be made, enough for the keys that have no row yet; None: there is no room."""

    @property
    def fits(self) -> bool:
        """Whether there is room for the step."""
        return self.size is not None


@frozen
class Ranked:
    """What memory found before anything was read of a snapshot: to be judged by `MemoryCopy.seen`."""

    generation: int
    n: int
    """Stamped records after this publication are to be read with the state."""
    nearest: Nearest


Extend: TypeAlias = Callable[["MemoryCopy", int, int], int | None]
"""Gives a copy room for rows: at least so many bytes in all, at most so many; None: there is no such room."""


class MemoryCopy:
    """Rows loaded at one publication and brought forward since, safe for threads.

    The rows include exactly: every record stamped up to `base`, and those applied since.
    `published` rows are those of the engine's table at the version that the look's state names;
    others are those of the documents as they were seen with the look.
    It asks `extend` before it takes more room.
    What is known about the rows has a lock of its own, held for moments only: event loops may wait for it.
    With `monotone`, what was seen once is never unseen: there are no snapshots, and so no older ones.
    """

    def __init__(
        self, rows: Rows, look: Look, *, published: bool, monotone: bool, extend: Extend | None = None
    ) -> None:
        assert look.state is not None
        self._lock = SharedLock()
        """Of the rows, and of what is known about them."""
        self._knowing = threading.Lock()
        """Taken within the other to change what is known, and alone to read only that."""
        self._rows = rows
        self._freed = False
        self._monotone = monotone
        self._extend = extend
        self._generation = 0
        self.token = look.state.table
        self.n = self.base = look.state.n
        included = () if published else look.unstamped
        self._unstamped: dict[ObjectId, Record] = {r.id: r for r in included if not r.open}
        """Records that the rows include, and whose stamp, later than `n`, is not known."""
        self._stamped: dict[ObjectId, Record] = {}
        """Those stamped after `base`, by their stamps."""
        self._remembered = 0
        self._steps: deque[Mapping[str, Any]] = deque(maxlen=STEPS)
        """The keys of the last generations."""

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def fields(self) -> tuple[FilterField, ...]:
        """The fields of documents that are mirrored."""
        return self._rows.fields

    @property
    def nbytes(self) -> int:
        """The bytes allocated for rows."""
        return self._rows.nbytes

    def free(self) -> None:
        """Let go of the rows, when those who rank them have ended; nothing is answered from then on."""
        with self._lock.writing(), self._knowing:
            self._rows = Rows(self._rows.dim, self._rows.metric, fields=self.fields)
            self._freed = True

    def rows_seen(self, look: Look) -> int | None:
        """How many rows there are; None where the snapshot is older than what memory remembers."""
        with self._knowing:
            return None if self._difference(look) is None else len(self._rows)

    def serves(self, dim: int, metric: Metric) -> bool:
        """Whether these are vectors of that kind."""
        return (self._rows.dim, self._rows.metric) == (dim, metric)

    def stale(self, look: Look) -> bool:
        """Whether memory must be loaded anew: records it never saw may be gone, or the state is another one."""
        return look.state is not None and (look.state.table != self.token or self.n < look.state.floor)

    def forward(self, look: Look) -> Forward | None:
        """What to read to bring memory to a snapshot outside transactions; None where it is not newer."""
        with self._knowing:
            keys, generation = self._fresh(look), self._generation
            if keys is None:
                return None
            held, needed = self._rows.size, self._rows.needed(keys)
        return Forward(generation, keys, self._room(held, needed))

    def install(self, step: Forward, look: Look, spec: VectorSpec, documents: Sequence[Mapping[str, Any]]) -> bool:
        """Bring memory forward by the documents of the step's keys; False where another was quicker."""
        assert look.state is not None
        rows = table_rows(spec, documents, self.fields)
        with self._lock.writing():
            if step.generation != self._generation or step.size is None or self._freed:
                return False
            self._rows.reserve(step.size)
            self._rows.replace(step.keys, rows)
            with self._knowing:
                self._include([r for r in look.records.values() if not r.open and not self._known(r)])
                self.n = look.state.n
                self._generation += 1
                self._steps.append(step.keys)
                self._forget()
            return True

    def nearest(
        self,
        look: Look,
        query: Vector,
        limit: int,
        leave_out: Iterable[str],
        among: Sequence[Any] | None = None,
        condition: Condition | None = None,
    ) -> tuple[Nearest, dict[str, Any]] | None:
        """The nearest rows to the query (dim,) as a snapshot sees them, and the keys to rank from its documents.

        With `among`, only the rows of these ``_id`` values; with a condition on the fields, only those that pass it.
        None where the snapshot is older than what memory remembers.
        """
        with self._lock.reading():
            pending = self._difference(look)
            if pending is None:
                return None
            return self._rows.nearest(query, limit, [*pending, *leave_out], among, condition), pending

    def rank(self, query: Vector, limit: int, leave_out: Iterable[str], condition: Condition | None = None) -> Ranked:
        """The nearest rows to the query (dim,), whatever a snapshot that is read later sees.

        With a condition on the fields, only rows that pass it.
        """
        with self._lock.reading():
            nearest = self._rows.nearest(query, limit, leave_out, condition=condition)
            return Ranked(self._generation, self.n, nearest)

    def seen(self, ranked: Ranked, look: Look) -> tuple[Nearest, dict[str, Any]] | None:
        """What was ranked before, without the keys to rank from the snapshot's documents, and these.

        None where memory went too far since, or the snapshot is older than what memory remembers.
        """
        with self._knowing:
            pending = self._difference(look)
            passed = self._generation - ranked.generation
            if pending is None or passed > len(self._steps):
                return None
            for keys in islice(reversed(self._steps), passed):
                pending |= keys
        nearest = ranked.nearest
        if not pending:
            return nearest, pending
        kept = [position for position, key in enumerate(nearest.keys) if key not in pending]
        keys = [nearest.keys[position] for position in kept]
        return evolve(nearest, keys=keys, distances=nearest.distances[kept]), pending

    def compare(self, look: Look, documents: Rows) -> dict[str, str]:
        """The keys where memory differs from the documents of a snapshot, each with how."""
        with self._lock.reading():
            pending = self._difference(look)
            return {} if pending is None else documents.compare(self._rows, pending)

    def _known(self, record: Record) -> bool:
        """Whether the rows have included the record since they were loaded, or its history is forgotten."""
        return record.seq is not None and record.seq <= self.base

    def _includes(self, record: Record) -> bool:
        return self._known(record) or record.id in self._stamped or record.id in self._unstamped

    def _fresh(self, look: Look) -> dict[str, Any] | None:
        """The keys to read to bring memory to a snapshot; None where it is not newer."""
        state = look.state
        assert state is not None
        if self._freed or state.n < self.n or self.stale(look) or not look.reaches(self.n) or self._unseen(look):
            return None
        fresh = [r for r in look.records.values() if not r.open and not self._includes(r)]
        if not fresh and state.n == self.n:
            return None
        return keys_of(fresh)

    def _room(self, held: int, needed: int) -> int | None:
        """For how many rows room may be made where so many are needed; None where there is not so much."""
        if needed <= held:
            return held
        size = max(needed, roomy(held))
        if self._extend is None:
            return size
        bytes_for = self._rows.bytes_for
        given = self._extend(self, bytes_for(needed), bytes_for(size))
        return None if given is None else given // bytes_for(1)

    def _unseen(self, look: Look) -> list[Record]:
        """The included records that the snapshot does not see."""
        assert look.state is not None
        if self._monotone:
            return []
        unseen = [r for r in self._unstamped.values() if r.id not in look.records]
        for record in reversed(self._stamped.values()):
            if record.seq is None or record.seq <= look.state.n:
                break
            if record.id not in look.records:
                unseen.append(record)
        return unseen

    def _difference(self, look: Look) -> dict[str, Any] | None:
        assert look.state is not None
        if self._freed or look.state.n < self.base or self.stale(look) or not look.reaches(self.n):
            return None
        missing = [r for r in look.records.values() if r.open or not self._includes(r)]
        return keys_of([*missing, *self._unseen(look)])

    def _include(self, done: Sequence[Record]) -> None:
        """Note the records of a look that the rows include now; stamps later than `n` come after all that are known."""
        if self._monotone:
            self._unstamped.clear()
            self._stamped.clear()
            self._remembered = 0
        for record in sorted(done, key=lambda r: r.seq or 0):
            if record.id in self._stamped:
                continue
            self._unstamped.pop(record.id, None)
            if record.seq is None:
                self._unstamped[record.id] = record
            else:
                self._stamped[record.id] = record
                self._remembered += len(record.keys)

    def _forget(self) -> None:
        """Forget the oldest publications where too many keys are remembered."""
        stamped = iter(list(self._stamped.values())) if self._remembered > HISTORY else iter(())
        for record in stamped:
            if self._remembered <= HISTORY and not self._known(record):
                break
            self.base = max(self.base, record.seq or 0)
            self._remembered -= len(record.keys)
            del self._stamped[record.id]
