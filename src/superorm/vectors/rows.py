"""Vectors of one index in memory, ranked by numpy."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from math import sqrt

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from superorm.codec.vectors import Matrix, Vector
from superorm.schema.vector_spec import Metric
from superorm.vectors.planning import masks
from superorm.vectors.scores import prepare, rounding

__all__ = ["Nearest", "Rows"]

_FAR = float(np.finfo(np.float32).max)
_PART = 200_000
"""So many numbers are gathered at once: more would not stay in the processor's cache."""


@frozen
class Nearest:
    """What an engine found: keys, nearest first, with their distances of shape (n,)."""

    keys: Sequence[str]
    distances: NDArray[np.floating]
    complete: bool
    """Whether the engine has no further row."""
    tolerance: float
    """How far a distance may be from the exact one."""


class Rows:
    """Contiguous float32 rows as `prepare` makes them, with a free list and a map from key to row.

    There is room for `size` rows; more is made as they come. Keys are held as bytes, half as long as their digits.
    Not safe for threads by itself.
    """

    def __init__(self, dim: int, metric: Metric, size: int = 0) -> None:
        self.dim = dim
        self.metric: Metric = metric
        self._matrix: Matrix = np.zeros((size, dim), np.float32)
        self._squares: NDArray[np.float32] = np.zeros(0 if metric == "cosine" else size, np.float32)
        """The squared length of each row; nothing under cosine, where all are 1."""
        self._keys: list[bytes] = []
        self._where: dict[bytes, int] = {}
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._where)

    @property
    def nbytes(self) -> int:
        return self._matrix.nbytes

    def lacking(self, keys: Iterable[str]) -> int:
        """How many of the keys have no row."""
        return sum(key not in self._where for key in map(bytes.fromhex, keys))

    def compare(self, other: Rows, leave_out: Container[str] = ()) -> dict[str, str]:
        """Where an engine's rows, `other`, differ from these of the documents: missing, extra or different."""
        problems: dict[bytes, str] = dict.fromkeys(self._where.keys() - other._where.keys(), "missing")
        problems |= dict.fromkeys(other._where.keys() - self._where.keys(), "extra")
        for key in self._where.keys() & other._where.keys():
            if not np.array_equal(self._matrix[self._where[key]], other._matrix[other._where[key]]):
                problems[key] = "different"
        return {key.hex(): problem for key, problem in problems.items() if key.hex() not in leave_out}

    def put(self, keys: Sequence[str], rows: Matrix) -> None:
        """Insert or replace rows (n, dim) that are prepared already."""
        held = [*map(bytes.fromhex, keys)]
        fresh = sum(key not in self._where for key in held)
        self._reserve(len(self._keys) + max(0, fresh - len(self._free)))
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
        self._matrix[slots] = rows
        if self.metric != "cosine":
            self._squares[slots] = np.einsum("ij,ij->i", rows, rows)

    def drop(self, keys: Iterable[str]) -> None:
        """Remove the rows of those keys that are there."""
        for key in map(bytes.fromhex, keys):
            slot = self._where.pop(key, None)
            if slot is not None:
                self._free.append(slot)

    def replace(self, touched: Iterable[str], keys: Sequence[str], rows: Matrix) -> None:
        """Bring the touched keys to what the documents say: `rows` (n, dim), not prepared, under `keys`; others go."""
        prepared, usable = prepare(rows, self.metric)
        kept = [key for key, use in zip(keys, usable, strict=True) if use]
        self.drop(set(touched).difference(kept))
        self.put(kept, prepared[usable])

    def nearest(
        self, query: Vector, limit: int, leave_out: Iterable[str] = (), among: Iterable[str] | None = None
    ) -> Nearest:
        """The `limit` nearest rows to a query (dim,) that is not prepared, without the keys left out.

        With `among`, only the rows of these keys count.
        """
        target = prepare(query[None], self.metric)[0][0]
        if among is not None:
            return self._nearest_among(target, limit, among, leave_out)
        used = len(self._keys)
        left_out = map(self._where.get, map(bytes.fromhex, leave_out))
        hidden: list[int] = [*self._free, *(slot for slot in left_out if slot is not None)]
        distances = self._distances(target, self._matrix[:used], self._squares[:used])
        distances[hidden] = np.inf
        alive = used - len(set(hidden))
        count = min(limit, alive)
        order = np.argpartition(distances, count - 1)[:count] if 0 < count < used else np.arange(used)
        order = order[np.argsort(distances[order], kind="stable")][:count]
        slots: list[int] = order.tolist()
        return Nearest(
            [self._keys[slot].hex() for slot in slots],
            distances[order],
            count == alive,
            rounding(self.dim, self._scale(target)),
        )

    def _nearest_among(self, target: Vector, limit: int, among: Iterable[str], leave_out: Iterable[str]) -> Nearest:
        """The nearest of the rows of some keys: few are gathered, of many all rows are ranked, which is faster."""
        slot_of, raw = self._where.get, bytes.fromhex
        chosen = {slot for key in among if (slot := slot_of(raw(key))) is not None}
        chosen.difference_update(slot for key in leave_out if (slot := slot_of(raw(key))) is not None)
        slots = np.fromiter(chosen, np.intp, len(chosen))
        if masks(len(slots), len(self)):
            used = len(self._keys)
            distances = self._distances(target, self._matrix[:used], self._squares[:used])[slots]
        else:
            parts = np.array_split(slots, 1 + len(slots) * self.dim // _PART)
            distances = np.concatenate([self._gathered(target, part) for part in parts])
        count = min(limit, len(slots))
        order = np.argpartition(distances, count - 1)[:count] if 0 < count < len(slots) else np.arange(len(slots))
        order = order[np.argsort(distances[order], kind="stable")][:count]
        found: list[int] = slots[order].tolist()
        return Nearest(
            [self._keys[slot].hex() for slot in found],
            distances[order],
            count == len(slots),
            rounding(self.dim, self._scale(target)),
        )

    def _gathered(self, target: Vector, slots: NDArray[np.intp]) -> NDArray[np.float32]:
        squares = self._squares if self.metric == "cosine" else self._squares[slots]
        return self._distances(target, self._matrix[slots], squares)

    def _distances(self, target: Vector, matrix: Matrix, squares: NDArray[np.float32]) -> NDArray[np.float32]:
        """The distance of each row (n, dim), with its squared length (n,), to the prepared query; finite."""
        with np.errstate(all="ignore"):
            products = matrix @ target
            if self.metric == "euclidean":
                distances = np.maximum(squares + np.dot(target, target) - 2 * products, 0)
            else:
                distances = 1 - products if self.metric == "cosine" else -products
        finite: NDArray[np.float32] = np.nan_to_num(distances, copy=False, nan=_FAR, posinf=_FAR, neginf=-_FAR)
        return finite

    def _scale(self, target: Vector) -> float:
        if self.metric == "cosine":
            return 1.0
        largest, length = sqrt(float(self._squares.max(initial=0))), sqrt(float(np.dot(target, target)))
        return largest * length if self.metric == "dot" else (largest + length) ** 2

    def _reserve(self, size: int) -> None:
        if size > len(self._matrix):
            self._matrix, self._squares = self._copies(size)

    def _copies(self, size: int) -> tuple[Matrix, NDArray[np.float32]]:
        """Matrix and squares with room for `size` rows, and for some more where there is not so much yet."""
        held = len(self._matrix)
        size = held if size <= held else max(size, held * 11 // 10)
        return _longer(self._matrix, size), self._squares if self.metric == "cosine" else _longer(self._squares, size)


def _longer(rows: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """A copy with room for `size` rows."""
    result = np.zeros((size, *rows.shape[1:]), np.float32)
    result[: len(rows)] = rows
    return result
