"""The documents of the benchmarks: made, written and fetched with plain PyMongo."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from bson import Binary
from numpy.typing import NDArray

from superorm import Document, Mapped, field, vector

__all__ = ["DIM", "Item", "K", "Rows", "clustered", "fetched", "store"]

DIM = int(os.environ.get("DIM", "384"))
K = 10
"""So many nearest are asked for."""

Rows: TypeAlias = NDArray[np.float32]


class Item(Document):
    """A document with something to filter by."""

    __collection__ = "items"
    id: Mapped[int] = field(primary_key=True)
    share: Mapped[int] = field(index=True)
    """Below n for n in a thousand of all."""
    far: Mapped[bool] = field(index=True)
    text: Mapped[str] = field(default="x" * 200)
    embedding: Mapped[np.ndarray | None] = vector(DIM, filter_fields=["share", "far"])


def clustered(n: int, seed: int) -> Rows:
    """Vectors of unit length in a hundred clusters, shape (n, DIM)."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((100, DIM))
    rows = centres[rng.integers(100, size=n)] + 0.7 * rng.standard_normal((n, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def store(rows: Rows, share: Sequence[Any], far: Sequence[Any], items: Any) -> None:
    """Write the documents of the rows (n, DIM) as superorm would."""
    for start in range(0, len(rows), 2000):
        stop = min(start + 2000, len(rows))
        items.insert_many(
            {
                "_id": i,
                "share": int(share[i]),
                "far": bool(far[i]),
                "text": "x" * 200,
                "embedding": Binary(b"\x27\x00" + rows[i].tobytes(), 9),
            }
            for i in range(start, stop)
        )
    items.create_index("share")
    items.create_index("far")


def fetched(items: Any, keys: Sequence[int]) -> Sequence[int]:
    """The keys, nearest first, of those documents that are there; they are read."""
    found = {document["_id"]: document for document in items.find({"_id": {"$in": list(keys)}})}
    return [key for key in keys if key in found]
