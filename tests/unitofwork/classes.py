"""Classes for units of work."""

from __future__ import annotations

from typing import Any

import numpy as np

from superorm import Document, Embedded, Mapped, Registry, field, vector
from tests.schema.helpers import through_bson

__all__ = ["Actor", "Film", "Poster", "Tag", "stored"]

registry = Registry()


class Actor(Embedded):
    name: Mapped[str]
    born: Mapped[int] = field(default=1900)


class Film(Document, registry=registry):
    id: Mapped[int] = field(primary_key=True)
    title: Mapped[str] = field(default="")
    year: Mapped[int | None] = field(default=None, name="y")
    genres: Mapped[list[str]] = field(factory=list)
    lead: Mapped[Actor | None] = field(default=None)
    cast: Mapped[list[Actor]] = field(factory=list)
    embedding: Mapped[np.ndarray | None] = vector(2, source="title", model="m")


class Poster(Document, registry=registry):
    """Shares its collection with films."""

    __collection__ = "film"

    id: Mapped[int] = field(primary_key=True)
    size: Mapped[str] = field(default="")


class Tag(Document, registry=registry):
    word: Mapped[str] = field(default="")


def stored(key: int, **values: Any) -> dict[str, Any]:
    """A stored film."""
    return through_bson({"_id": key, "title": "", "y": None, "genres": [], "embedding": None, **values})
