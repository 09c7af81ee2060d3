"""Classes for the typing tests."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Literal, NotRequired, TypedDict
from uuid import UUID, uuid4

import numpy as np

from superorm import Document, Embedded, Index, Mapped, ObjectId, field, register_type, relationship, utcnow, vector


class Mood(Enum):
    CALM = "calm"
    WILD = "wild"


class Imdb(Embedded):
    rating: Mapped[float]
    votes: Mapped[int] = field(default=0)


class Cover(Embedded):
    artist: Mapped[str] = field(default="")
    embedding: Mapped[np.ndarray | None] = vector(3, index={"kind": "hnsw_sq", "m": 8}, filter_fields=["artist"])


class Album(Document):
    cover: Mapped[Cover] = field(factory=Cover)
    embedding: Mapped[np.ndarray | None] = vector(2, index="ivf_flat")


class Role(Embedded):
    actor: Mapped[str]
    name: Mapped[str | None] = field(default=None)


class Disc(Embedded):
    radius: Mapped[float]


class Solid(Embedded):
    depth: Mapped[float] = field(default=1.0)


class Ball(Solid):
    radius: Mapped[float]


class Sketch(Document):
    shape: Mapped[Disc | Solid | None] = field(default=None)
    solid: Mapped[Solid | None] = field(default=None)
    __indexes__ = (Index("solid.depth", unique=True, partial=lambda Sketch: Sketch.solid.depth > 0),)


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


class Film(Movie):
    reels: Mapped[int] = field(default=1)
    version: Mapped[int] = field(version=True)


class Colour:
    """A type of the user's own."""

    def __init__(self, code: str) -> None:
        self.code = code


def _code(colour: Colour) -> str:
    return colour.code


register_type(Colour, _code, Colour)


class Address(TypedDict):
    city: str
    zip: NotRequired[int]


class Product(Document):
    id: Mapped[int] = field(primary_key=True)
    price: Mapped[Decimal]
    discount: Mapped[Decimal | None] = field(default=None)
    stock: Mapped[int] = field(default=0)
    meta: Mapped[dict[str, int]] = field(factory=dict)
    labels: Mapped[tuple[str, ...]] = field(default=())
    codes: Mapped[frozenset[str]] = field(default=frozenset())
    grid: Mapped[list[list[float]]] = field(factory=list)
    marks: Mapped[list[int]] = field(factory=list)
    made: Mapped[date | None] = field(default=None)
    sold: Mapped[datetime | None] = field(default=None)
    serial: Mapped[UUID] = field(factory=uuid4)
    colour: Mapped[Colour | None] = field(default=None)
    address: Mapped[Address | None] = field(default=None)
    parent: Mapped[int | None] = field(default=None)
    movie_id: Mapped[ObjectId | None] = field(default=None)


class Review(Document):
    movie_id: Mapped[ObjectId]
    stars: Mapped[int]
    text: Mapped[str] = field(default="")
    at: Mapped[datetime] = field(factory=utcnow)


class Total(Document):
    id: Mapped[int] = field(primary_key=True)
    films: Mapped[int] = field(default=0)


class Shelf(Document):
    name: Mapped[str] = field(default="")
    volumes: Mapped[list[Volume]] = relationship(list["Volume"], remote_key="shelf_id")


class Volume(Document):
    shelf_id: Mapped[ObjectId | None] = field(default=None)
    shelf: Mapped[Shelf | None] = relationship(Shelf, key="shelf_id")
    next_id: Mapped[ObjectId | None] = field(default=None)
    next: Mapped[Volume | None] = relationship("Volume", key="next_id", cascade="all")
