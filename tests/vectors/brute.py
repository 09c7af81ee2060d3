"""What a search must answer, by numpy over documents read with plain PyMongo."""

from __future__ import annotations

from typing import Any

import numpy as np
from bson import Binary

DIM = 6


def stored(vector: Any) -> Binary:
    """A vector as the documents hold it."""
    return Binary(b"\x27\x00" + np.asarray(vector, "<f4").tobytes(), 9)


def _of_size(document: dict[str, Any], name: str) -> np.ndarray | None:
    """The vector of a document at `name`, if it has one of `DIM` numbers."""
    value = document.get(name)
    if isinstance(value, bytes):
        vector = np.frombuffer(value, "<f4", offset=2)
    elif isinstance(value, np.ndarray | list) and not any(isinstance(number, str) for number in value):
        with np.errstate(over="ignore"):
            vector = np.asarray(value, "f4")
    else:
        return None
    return vector if vector.size == DIM else None


def vector_of(document: dict[str, Any], name: str = "v") -> np.ndarray | None:
    """The vector of a document at `name`, if it has one that can be ranked."""
    vector = _of_size(document, name)
    return vector if vector is not None and np.isfinite(vector).all() else None


def brute(
    documents: list[dict[str, Any]], query: Any, k: int, metric: str = "cosine", name: str = "v"
) -> list[tuple[Any, float]]:
    """Keys and scores of the k nearest, nearest first; ties in the order of `documents`, which is sorted by _id."""
    found = [(document["_id"], vector) for document in documents if (vector := _of_size(document, name)) is not None]
    every = np.array([vector for _, vector in found], "f8").reshape(-1, DIM)
    ranked = np.isfinite(every).all(1)
    if metric == "cosine":
        ranked &= every.any(1)
    v = every[ranked]
    q = np.asarray(query, "f8")
    if metric == "cosine":
        scores = (1 + (v * q).sum(1) / (np.sqrt((v * v).sum(1)) * np.sqrt((q * q).sum()))) / 2
    elif metric == "dot":
        scores = (1 + (v * q).sum(1)) / 2
    else:
        scores = 1 / (1 + np.sqrt(((v - q) ** 2).sum(1)))
    places = np.flatnonzero(ranked)
    return [(found[places[at]][0], float(scores[at])) for at in np.argsort(-scores, kind="stable")[:k]]
