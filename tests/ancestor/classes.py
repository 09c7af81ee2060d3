"""Documents and models of these tests, and what brute force finds among them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from superorm import Document, Mapped, field, vector
from tests.db.letters import Letters

__all__ = ["TEXTS", "Letter", "Letters", "LongTale", "Note", "Plus", "Point", "Tale", "cosine", "ranked"]

TEXTS = [
    f"{word} {other}" for word in ("heat", "cold", "soup", "fire") for other in ("rain", "tea", "ice", "stew", "salad")
]


class Letter(Document):
    """A text with the vector that a model makes of it."""

    __collection__ = "ancestor_letters"

    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str | None]
    kind: Mapped[str] = field(default="")
    vec: Mapped[np.ndarray | None] = vector(26, source="text", model="letters")


class Point(Document):
    """Vectors that the user gives, of each metric, under a text as key."""

    __collection__ = "ancestor_points"

    id: Mapped[str] = field(primary_key=True)
    cosine: Mapped[np.ndarray | None] = vector(3, metric="cosine")
    dot: Mapped[np.ndarray | None] = vector(3, metric="dot")
    euclidean: Mapped[np.ndarray | None] = vector(3, metric="euclidean")


class Tale(Document):
    """A text that listeners listen to."""

    __collection__ = "ancestor_tales"

    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str]


class LongTale(Tale):
    """A tale of another kind, in the same collection."""

    chapters: Mapped[int] = field(default=1)


class Note(Document):
    """A document that no listener listens to."""

    __collection__ = "ancestor_notes"

    id: Mapped[int] = field(primary_key=True)
    number: Mapped[int] = field(default=0)


class Plus:
    """A model that adds."""

    def __init__(self, number: int) -> None:
        self.number = number

    def predict(self, items: list[int]) -> list[int]:
        return [item + self.number for item in items]


def cosine(one: str, other: str) -> float:
    """Of the vectors of two texts, by numpy alone."""
    a, b = (np.array([text.count(chr(97 + n)) for n in range(26)], float) for text in (one, other))
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def ranked(stored: Iterable[dict[str, Any]], text: str) -> list[int]:
    """The keys of stored letters, the nearest to a text first, ties by key."""
    return [key for _, key in sorted((-round(cosine(text, one["text"]), 6), one["_id"]) for one in stored)]
