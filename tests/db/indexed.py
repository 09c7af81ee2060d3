"""Documents whose outputs are indexed, and what a search must find, from what plain PyMongo reads."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pymongo

from superorm import Document, Mapped, field
from superorm.backends.mongomock_engine import mongomock_client

__all__ = ["DIM", "Film", "LongFilm", "Place", "brute", "encode", "plain_database"]

DIM = 6


class Film(Document):
    """What is searched."""

    __collection__ = "indexed_films"

    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str | None] = field(default=None, name="t")
    year: Mapped[int] = field(default=0)
    tags: Mapped[list[str]] = field(factory=list)


class LongFilm(Film):
    """One of a class below."""

    parts: Mapped[int] = field(default=1)


class Place(Document):
    """Something else."""

    __collection__ = "indexed_places"

    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str] = field(default="")


def encode(text: str) -> np.ndarray:
    """The model: each text has a direction of its own."""
    if text == "bad":
        raise ValueError("a bad text")
    return np.random.default_rng(zlib.crc32(text.encode())).normal(size=DIM).astype(np.float32)


def plain_database(uri: str, name: str, *, real: bool) -> Any:
    """The database, without superorm."""
    if real:
        return pymongo.MongoClient[dict[str, Any]](uri)[name]
    return mongomock_client(name)[name]


def _numbers(stored: Any) -> np.ndarray:
    return np.frombuffer(stored, "<f4", offset=2) if isinstance(stored, bytes) else np.asarray(stored, "f4")


def brute(
    database: Any,
    query: Any,
    k: int,
    matches: Callable[[dict[str, Any]], bool] = lambda _: True,
    *,
    listener: str = "plots",
    metric: str = "cosine",
    leave_out: Any = None,
) -> list[tuple[Any, float]]:
    """Keys and scores of the k nearest of the documents that match, by the outputs as they are stored."""
    outputs = {one["_id"]["key"]: one for one in database["_superorm_outputs"].find({"_id.listener": listener})}
    q = np.asarray(query, "f8")
    found: list[tuple[float, Any]] = []
    for document in database["indexed_films"].find():
        output = outputs.get(document["_id"], {}).get("output")
        if output is None or document["_id"] == leave_out or not matches(document):
            continue
        v = _numbers(output).astype("f8")
        if metric == "cosine":
            score = (1 + v @ q / np.linalg.norm(v) / np.linalg.norm(q)) / 2
        else:
            score = (1 + v @ q) / 2 if metric == "dot" else 1 / (1 + np.linalg.norm(v - q))
        found.append((-float(score), document["_id"]))
    return [(key, -score) for score, key in sorted(found)[:k]]
