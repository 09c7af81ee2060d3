"""What a search must answer, by numpy over documents read with plain PyMongo."""

from __future__ import annotations

from typing import Any

import numpy as np
from bson import Binary

DIM = 6


def stored(vector: Any) -> Binary:
    """A vector as the documents hold it."""
    return Binary(b"\x27\x00" + np.asarray(vector, "<f4").tobytes(), 9)


def vector_of(document: dict[str, Any], name: str = "v") -> np.ndarray | None:
    """The vector of a document at `name`, if it has one that can be ranked."""
    value = document.get(name)
    if isinstance(value, bytes):
        vector = np.frombuffer(value, "<f4", offset=2)
    elif isinstance(value, list) and not any(isinstance(number, str) for number in value):
        with np.errstate(over="ignore"):
            vector = np.asarray(value, "f4")
    else:
        return None
    return vector if vector.size == DIM and np.isfinite(vector).all() else None


def brute(
    documents: list[dict[str, Any]], query: Any, k: int, metric: str = "cosine", name: str = "v"
) -> list[tuple[Any, float]]:
    """Keys and scores of the k nearest, nearest first; ties in the order of `documents`, which is sorted by _id."""
    q = np.asarray(query, "f8")
    ranked: list[tuple[float, int, Any]] = []
    for position, document in enumerate(documents):
        vector = vector_of(document, name)
        if vector is None or (metric == "cosine" and not vector.any()):
            continue
        v = vector.astype("f8")
        if metric == "cosine":
            score = (1 + float((v * q).sum()) / (np.sqrt((v * v).sum()) * np.sqrt((q * q).sum()))) / 2
        elif metric == "dot":
            score = (1 + float((v * q).sum())) / 2
        else:
            score = 1 / (1 + float(np.sqrt(((v - q) ** 2).sum())))
        ranked.append((-score, position, document["_id"]))
    return [(key, -negative) for negative, _, key in sorted(ranked, key=lambda item: item[:2])[:k]]
