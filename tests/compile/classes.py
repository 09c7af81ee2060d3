"""Classes for statements."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import numpy as np

from superorm import Document, Embedded, Mapped, Registry, field, vector

__all__ = ["Actor", "Color", "Distance", "Imdb", "Movie", "Pair", "Person", "Stamped"]

registry = Registry()


class Color(Enum):
    RED = "red"
    BLUE = 2


class Imdb(Embedded):
    rating: Mapped[float]
    votes: Mapped[int] = field(default=0, name="v")
    desc: Mapped[str] = field(default="")


class Actor(Embedded):
    name: Mapped[str]
    born: Mapped[int | None] = field(default=None)
    imdb: Mapped[Imdb | None] = field(default=None)


class Stamped(Document):
    __abstract__ = True

    added: Mapped[dt.datetime | None] = field(default=None)


class Movie(Stamped, registry=registry):
    __collection__ = "movies"

    title: Mapped[str] = field(default="")
    year: Mapped[int | None] = field(default=None)
    genres: Mapped[list[str]] = field(factory=list)
    tags: Mapped[list[list[str]]] = field(factory=list)
    imdb: Mapped[Imdb | None] = field(default=None)
    cast: Mapped[list[Actor]] = field(factory=list)
    plot: Mapped[str] = field(default="", name="p")
    color: Mapped[Color] = field(default=Color.RED)
    price: Mapped[Decimal | None] = field(default=None)
    code: Mapped[UUID | None] = field(default=None)
    meta: Mapped[dict[str, Any] | None] = field(default=None)
    things: Mapped[list[dict[str, Any]]] = field(factory=list)
    embedding: Mapped[np.ndarray | None] = vector(3, source="plot", model="minilm")


class Person(Document, registry=registry):
    id: Mapped[str] = field(primary_key=True)
    name: Mapped[str] = field(default="")
    face: Mapped[np.ndarray | None] = vector(2)
    voice: Mapped[np.ndarray | None] = vector(4)


class Pair(Embedded):
    a: Mapped[int]
    b: Mapped[int]


class Distance(Document, registry=registry):
    pair: Mapped[Pair] = field(primary_key=True)
    km: Mapped[float]
