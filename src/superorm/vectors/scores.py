"""Distances and scores: what ranks, and what users see.

A *distance* ranks, smaller is nearer: 1 - cos, -dot, or the squared Euclidean distance.
A *score* is what users see, larger is nearer: (1 + cos) / 2, (1 + dot) / 2, or 1 / (1 + d).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from superorm.codec.vectors import Matrix, Vector
from superorm.schema.vector_spec import Metric

__all__ = ["distance_of", "exact_distances", "longest", "prepare", "prepare_query", "rounding", "score_of"]

_ROWS = 256
"""So many rows are widened at once: more would not stay in the processor's cache."""
_EXACT_ROWS = 64
"""The same where each step makes a matrix of its own."""


def prepare(rows: Matrix, metric: Metric) -> tuple[Matrix, NDArray[np.bool_]]:
    """Rows (n, dim) as engines hold them, of unit length under cosine, and which of the n can be ranked at all.

    Rows that are not finite, or zero under cosine, cannot; what stands in their place is of no meaning.
    """
    if metric != "cosine":
        return rows, np.logical_and.reduce(np.isfinite(rows), axis=1)
    result, norms = np.empty(rows.shape, np.float32), np.empty(len(rows))
    with np.errstate(all="ignore"):
        for start in range(0, len(rows), _ROWS):
            part = slice(start, start + _ROWS)
            wide = rows[part].astype(np.float64)
            norms[part] = np.sqrt((wide * wide).sum(axis=1))
            result[part] = wide / norms[part, None]
    return result, np.isfinite(norms) & (norms > 0)  # no sum of squares of finite float32 overflows


def prepare_query(query: Vector, metric: Metric) -> Vector:
    """A finite query (dim,) as rows are prepared; under cosine it is not zero."""
    if metric != "cosine":
        return query
    wide = query.astype(np.float64)
    return (wide / math.sqrt(float(np.dot(wide, wide)))).astype(np.float32)


def exact_distances(rows: Matrix, query: Vector, metric: Metric) -> NDArray[np.float64]:
    """The distance of each row (n, dim) of a document to the query (dim,), in float64.

    Each row is summed by itself, so that equal vectors get equal distances. NaN where a row cannot be ranked.
    """
    q = query.astype(np.float64)
    with np.errstate(all="ignore"):
        if len(rows) <= _EXACT_ROWS:
            return _exact_distances(rows, q, metric)
        result = np.empty(len(rows))
        for start in range(0, len(rows), _EXACT_ROWS):
            part = slice(start, start + _EXACT_ROWS)
            result[part] = _exact_distances(rows[part], q, metric)
        return result


def _exact_distances(rows: Matrix, q: NDArray[np.float64], metric: Metric) -> NDArray[np.float64]:
    result: NDArray[np.float64]
    wide = rows.astype(np.float64)
    if metric == "euclidean":
        wide -= q
        result = (wide * wide).sum(axis=1)
    elif metric == "dot":
        result = -(wide * q).sum(axis=1)
    else:
        norms = np.sqrt((wide * wide).sum(axis=1)) * math.sqrt(float(np.dot(q, q)))
        result = 1 - np.minimum(np.maximum((wide * q).sum(axis=1) / norms, -1), 1)
        return result
    result[~np.isfinite(result)] = np.nan  # the sums of finite float32 are finite, and of others none is
    return result


def score_of(distance: float, metric: Metric) -> float:
    """The score of a distance."""
    if metric == "euclidean":
        return 1 / (1 + math.sqrt(distance))
    return 1 - distance / 2 if metric == "cosine" else (1 - distance) / 2


def distance_of(score: float, metric: Metric) -> float:
    """The distance of a score; infinite where every distance has at least that score."""
    if metric == "euclidean":
        return math.inf if score <= 0 else (1 / score - 1) ** 2 if score <= 1 else -1.0
    return 2 - 2 * score if metric == "cosine" else 1 - 2 * score


def longest(rows: Matrix) -> float:
    """The length of the longest of the rows (n, dim); 0 where there is none."""
    return math.sqrt(float(np.einsum("ij,ij->i", rows, rows, dtype=np.float64).max(initial=0)))


def rounding(dim: int, scale: float) -> float:
    """How far a sum of `dim` products in float32 may be from the exact one; `scale` bounds the sum of their sizes."""
    return (dim + 16) * 2.0**-23 * scale
