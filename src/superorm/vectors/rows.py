"""Vectors of one index in memory, ranked by numpy."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from math import isfinite, sqrt
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from superorm.codec.keys import HeldKey, held_key, held_keys, key_of_held
from superorm.codec.vectors import Matrix, Vector
from superorm.schema.vector_spec import FilterField, Metric
from superorm.vectors.columns import COLUMN_BYTES, Columns
from superorm.vectors.condition import Condition
from superorm.vectors.mirror import TableRows
from superorm.vectors.planning import masks
from superorm.vectors.scores import prepare_query, rounding

__all__ = ["Nearest", "Rows", "bytes_of", "roomy"]

NO_COLUMNS: Mapping[str, Sequence[Any]] = {}
_FAR = float(np.finfo(np.float32).max)
_FEW = 512
"""So many distances are sorted at once; of more the least are chosen first."""
_PART = 100_000
"""So many numbers are gathered at once: more would not stay in the processor's cache."""


def bytes_of(rows: int, dim: int, metric: Metric, fields: int = 0) -> int:
    """The bytes that room for so many rows (dim,) with so many mirrored fields takes, without keys and texts."""
    return rows * (4 * (dim if metric == "cosine" else dim + 1) + COLUMN_BYTES * fields)


@frozen(eq=False)
class _Part:
    """Some of the rows: the first has number `start`."""

    start: int
    matrix: Matrix
    squares: NDArray[np.float32]
    """The squared length of each row; nothing under cosine, where all are 1."""


@frozen
class Nearest:
    """What an engine found: keys, nearest first, with their distances of shape (n,)."""

    keys: Sequence[str]
    distances: NDArray[np.floating]
    complete: bool
    """Whether the engine has no further row."""
    tolerance: float
    """How far a distance may be from the exact one."""

    def within(self, bound: float) -> Sequence[str]:
        """The keys up to a distance."""
        return self.keys[: bisect_right(self.distances, bound, key=float)]


class Rows:
    """Float32 rows as `prepare` makes them, with a free list and a map from key to row, and mirrored fields of each.

    There is room for `size` rows; more is made as they come, without moving those that are there.
    Keys are held as `superorm.codec.keys.held_key` makes them, smaller than their digits.
    Not safe for threads by itself.
    """

    def __init__(self, dim: int, metric: Metric, size: int = 0, fields: Sequence[FilterField] = ()) -> None:
        self.dim = dim
        self.metric: Metric = metric
        self._parts: list[_Part] = []
        self.size = 0
        """There is room for so many rows."""
        self._keys: list[HeldKey] = []
        self._where: dict[HeldKey, int] = {}
        self._free: list[int] = []
        self._columns = Columns(fields)
        self.reserve(size)

    def __len__(self) -> int:
        return len(self._where)

    @property
    def fields(self) -> tuple[FilterField, ...]:
        """The fields that are mirrored."""
        return self._columns.fields

    def bytes_for(self, rows: int) -> int:
        """The bytes that room for so many rows of this kind takes."""
        return bytes_of(rows, self.dim, self.metric, len(self.fields))

    @property
    def nbytes(self) -> int:
        """The bytes allocated for rows, those without a key included."""
        return self.bytes_for(self.size)

    def needed(self, keys: Iterable[str]) -> int:
        """For how many rows there must be room when all these keys have one."""
        return self._needed(map(held_key, keys))

    def _needed(self, keys: Iterable[HeldKey]) -> int:
        fresh = sum(key not in self._where for key in keys)
        return len(self._keys) + max(0, fresh - len(self._free))

    def reserve(self, size: int) -> None:
        """Make room for so many rows."""
        more = size - self.size
        if more > 0:
            squares = np.zeros(0 if self.metric == "cosine" else more, np.float32)
            self._parts.append(_Part(self.size, np.zeros((more, self.dim), np.float32), squares))
            self._columns.reserve(size)
            self.size = size

    def compare(self, other: Rows, leave_out: Container[str] = ()) -> dict[str, str]:
        """Where an engine's rows, `other`, differ from these of the documents: missing, extra or different."""
        problems: dict[HeldKey, str] = dict.fromkeys(self._where.keys() - other._where.keys(), "missing")
        problems |= dict.fromkeys(other._where.keys() - self._where.keys(), "extra")
        for key in self._where.keys() & other._where.keys():
            if not np.array_equal(self._row(key), other._row(key)) or self._values(key) != other._values(key):
                problems[key] = "different"
        named = {key_of_held(key): problem for key, problem in problems.items()}
        return {key: problem for key, problem in named.items() if key not in leave_out}

    def put(self, keys: Sequence[str], rows: Matrix, columns: Mapping[str, Sequence[Any]] = NO_COLUMNS) -> None:
        """Insert or replace rows (n, dim) that are prepared already, and what is mirrored of their documents."""
        held = [*map(held_key, keys)]
        needed = self._needed(held)
        if needed > self.size:
            self.reserve(max(needed, roomy(self.size)))
        slots: list[int] = []
        for key in held:
            slot = self._where.get(key)
            if slot is None:
                slot = self._free.pop() if self._free else len(self._keys)
                if slot == len(self._keys):
                    self._keys.append(key)
                self._keys[slot] = key
                self._where[key] = slot
            slots.append(slot)
        numbers = np.array(slots, np.intp)
        self._columns.put(numbers, columns)
        if (numbers[1:] < numbers[:-1]).any():
            order = np.argsort(numbers, kind="stable")
            numbers, rows = numbers[order], rows[order]
        for part, chosen in self._by_part(numbers):
            part.matrix[numbers[chosen] - part.start] = rows[chosen]
            if self.metric != "cosine":
                part.squares[numbers[chosen] - part.start] = np.einsum("ij,ij->i", rows[chosen], rows[chosen])

    def drop(self, keys: Iterable[str]) -> None:
        """Remove the rows of those keys that are there."""
        for key in map(held_key, keys):
            slot = self._where.pop(key, None)
            if slot is not None:
                self._free.append(slot)

    def replace(self, touched: Iterable[str], rows: TableRows) -> None:
        """Bring the touched keys to what the documents say: those without a row go."""
        self.drop(set(touched).difference(rows.keys))
        self.put(rows.keys, rows.rows, rows.columns)

    def nearest(
        self,
        query: Vector,
        limit: int,
        leave_out: Iterable[str] = (),
        among: Sequence[Any] | None = None,
        condition: Condition | None = None,
    ) -> Nearest:
        """The `limit` nearest rows to a query (dim,) that is not prepared, without the keys left out.

        With `among`, only the rows of these ``_id`` values count, each of which stands there once;
        with a condition on the mirrored fields, only those that pass it.
        """
        target = prepare_query(query, self.metric)
        if among is not None:
            return self._nearest_among(target, limit, among, leave_out)
        used = len(self._keys)
        left_out = map(self._where.get, map(held_key, leave_out))
        hidden: list[int] = [*self._free, *(slot for slot in left_out if slot is not None)]
        if condition is not None:
            passing = self._columns.mask(condition, used)
            passing[hidden] = False
            return self._nearest_of(target, limit, np.flatnonzero(passing))
        distances = self._all(target)
        distances[hidden] = np.inf
        alive = used - len(set(hidden))
        return self._best(target, distances, None, min(limit, alive), limit >= alive)

    def _nearest_among(self, target: Vector, limit: int, among: Sequence[Any], leave_out: Iterable[str]) -> Nearest:
        """The nearest of the rows of some keys."""
        slot_of = self._where.get
        chosen = [slot for slot in map(slot_of, held_keys(among)) if slot is not None]
        if hidden := {*map(slot_of, map(held_key, leave_out))}:
            chosen = [slot for slot in chosen if slot not in hidden]
        slots = np.array(chosen, np.intp)
        slots.sort()
        return self._nearest_of(target, limit, slots)

    def _nearest_of(self, target: Vector, limit: int, slots: NDArray[np.intp]) -> Nearest:
        """The nearest of rows by their numbers (n,), which ascend.

        Few are gathered, of many all rows are ranked, which is faster.
        """
        if masks(len(slots), len(self)):
            distances = self._all(target)[slots]
        elif (parts := 1 + len(slots) * self.dim // _PART) == 1:
            distances = self._gathered(target, slots)
        else:
            distances = np.concatenate([self._gathered(target, part) for part in np.array_split(slots, parts)])
        return self._best(target, distances, slots, min(limit, len(slots)), limit >= len(slots))

    def _best(
        self, target: Vector, distances: NDArray[np.float32], slots: NDArray[np.intp] | None, count: int, complete: bool
    ) -> Nearest:
        """So many of the least distances (n,), which are those of these slots (n,), or of all rows."""
        if 0 < count and _FEW < len(distances) and count < len(distances):
            order = np.argpartition(distances, count - 1)[:count]
            order = order[np.argsort(distances[order], kind="stable")]
        else:
            order = np.argsort(distances, kind="stable")[:count]
        found: list[int] = (order if slots is None else slots[order]).tolist()
        keys = [key_of_held(self._keys[slot]) for slot in found]
        return Nearest(keys, distances[order], complete, rounding(self.dim, self._scale(target)))

    def _row(self, key: HeldKey) -> Vector:
        slot = self._where[key]
        part = next(part for part in reversed(self._parts) if part.start <= slot)
        row: Vector = part.matrix[slot - part.start]
        return row

    def _values(self, key: HeldKey) -> tuple[Any, ...]:
        return self._columns.get(self._where[key])

    def _by_part(self, slots: NDArray[np.intp]) -> Iterator[tuple[_Part, slice]]:
        """The parts that hold rows of these numbers (n,), which ascend, each with where they stand among the n."""
        if len(self._parts) == 1:
            yield self._parts[0], slice(0, len(slots))
            return
        bounds: list[int] = np.searchsorted(slots, [part.start for part in self._parts]).tolist()
        for part, (begin, end) in zip(self._parts, pairwise([*bounds, len(slots)]), strict=True):
            if begin < end:
                yield part, slice(begin, end)

    def _all(self, target: Vector) -> NDArray[np.float32]:
        """The distance of each row to the prepared query, those that are free included."""
        used = len(self._keys)
        return self._distances(target, [(p.matrix[: used - p.start], p.squares) for p in self._parts if p.start < used])

    def _gathered(self, target: Vector, slots: NDArray[np.intp]) -> NDArray[np.float32]:
        """The distances of rows by their numbers (n,), which ascend."""
        chosen = [(part, slots[which] - part.start) for part, which in self._by_part(slots)]
        cosine = self.metric == "cosine"
        return self._distances(target, [(p.matrix[n], p.squares if cosine else p.squares[n]) for p, n in chosen])

    def _distances(self, target: Vector, parts: Sequence[tuple[Matrix, NDArray[np.float32]]]) -> NDArray[np.float32]:
        """The distance of each row (n, dim), with at least n squared lengths, to the prepared query; finite."""
        distances: NDArray[np.float32]
        with np.errstate(all="ignore"):
            products = _joined([matrix @ target for matrix, _ in parts])
            if self.metric == "euclidean":
                squares = _joined([squares[: len(matrix)] for matrix, squares in parts])
                distances = np.maximum(squares + np.dot(target, target) - 2 * products, 0)
            else:
                distances = 1 - products if self.metric == "cosine" else -products
            if not isfinite(float(distances.sum())):
                np.nan_to_num(distances, copy=False, nan=_FAR, posinf=_FAR, neginf=-_FAR)
        return distances

    def _scale(self, target: Vector) -> float:
        if self.metric == "cosine":
            return 1.0
        largest = sqrt(max((float(part.squares.max(initial=0)) for part in self._parts), default=0.0))
        length = sqrt(float(np.dot(target, target)))
        return largest * length if self.metric == "dot" else (largest + length) ** 2


def roomy(size: int) -> int:
    """For how many rows room is made where more than `size` are needed, so that the parts stay few."""
    return size + max(64, size // 10)


def _joined(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, np.float32), *parts])
