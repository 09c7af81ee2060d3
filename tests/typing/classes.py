"""Classes for the typing tests."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Literal

import numpy as np

from superorm import Document, Embedded, Mapped, ObjectId, field, utcnow, vector


class Mood(Enum):
    CALM = "calm"
    WILD = "wild"


class Imdb(Embedded):
    rating: Mapped[float]
    votes: Mapped[int] = field(default=0)


class Role(Embedded):
    actor: Mapped[str]
    name: Mapped[str | None] = field(default=None)


class Stamped(Document):
    __abstract__ = True

    added: Mapped[datetime] = field(factory=utcnow)


class Movie(Stamped):
    title: Mapped[str] = field(index=True)
    year: Mapped[int] = field(default=0)
    length: Mapped[float | None] = field(default=None)
    genres: Mapped[list[str]] = field(factory=list)
    tags: Mapped[set[str]] = field(factory=set)
    cast: Mapped[list[Role]] = field(factory=list)
    imdb: Mapped[Imdb | None] = field(default=None)
    mood: Mapped[Mood] = field(default=Mood.CALM)
    size: Mapped[Literal["short", "long"]] = field(default="short")
    plot: Mapped[str] = field(default="", name="p")
    embedding: Mapped[np.ndarray | None] = vector(384, source="plot", model="minilm")


class Person(Document):
    id: Mapped[str] = field(primary_key=True)
    name: Mapped[str]
    movie: Mapped[ObjectId | None] = field(default=None)
