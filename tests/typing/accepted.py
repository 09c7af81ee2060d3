"""Declared classes, their fields and their constructors, with the types that both type checkers infer."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any, assert_type
from uuid import UUID

import numpy as np

from superorm import Field, Index, ObjectId, utcnow
from tests.typing.classes import Address, Colour, Film, Imdb, Mood, Movie, Person, Product, Role, Stamped


def attributes(movie: Movie, person: Person) -> None:
    """Fields on the class, values on objects; inherited ones too."""
    assert_type(Movie.title, Field[Movie, str])
    assert_type(Movie.length, Field[Movie, float | None])
    assert_type(Movie.genres, Field[Movie, list[str]])
    assert_type(Movie.imdb, Field[Movie, Imdb | None])
    assert_type(Movie.added, Field[Movie, datetime])
    assert_type(Imdb.rating, Field[Imdb, float])
    assert_type(Movie.imdb[Imdb.rating], Field[Movie, float])
    assert_type(Movie.imdb.rating, Field[Movie, Any])
    assert_type(movie.title, str)
    assert_type(movie.length, float | None)
    assert_type(movie.imdb, Imdb | None)
    assert_type(movie.added, datetime)
    assert_type(movie.mood, Mood)
    assert_type(movie.cast[0].name, str | None)
    assert_type(person.id, str)
    movie.title = "Heat"
    movie.length = 170
    movie.genres.append("Heist")
    movie.imdb = Imdb(rating=8.3)
    movie.embedding = np.zeros(384, np.float32)


def types(product: Product, film: Film) -> None:
    """All types of fields: containers, TypedDicts, registered types."""
    assert_type(Product.price, Field[Product, Decimal])
    assert_type(Product.meta, Field[Product, dict[str, int]])
    assert_type(Product.grid, Field[Product, list[list[float]]])
    assert_type(Product.colour, Field[Product, Colour | None])
    assert_type(Product.address, Field[Product, Address | None])
    assert_type(product.labels, tuple[str, ...])
    assert_type(product.codes, frozenset[str])
    assert_type(product.made, date | None)
    assert_type(product.serial, UUID)
    assert_type(product.colour, Colour | None)
    assert_type(product.address, Address | None)
    if product.address is not None:
        assert_type(product.address["city"], str)
    product.colour = Colour("red")
    product.address = {"city": "Ulm", "zip": 89073}
    assert_type(Film.title, Field[Film, str])
    assert_type(Film.version, Field[Film, int])
    assert_type(Film.cast, Field[Film, list[Role]])
    assert_type(Stamped.added, Field[Stamped, datetime])
    assert_type(film.version, int)
    assert_type(film.title, str)
    assert_type(film.added, datetime)


def constructors() -> None:
    """Required and optional arguments."""
    assert_type(Movie(title="Heat"), Movie)
    Movie(title="Heat", year=1995, genres=["Heist"], imdb=Imdb(rating=8.3, votes=1), size="long", added=utcnow())
    Person(id="dn", name="Diane Venora", movie=None)
    assert_type(Role(actor="dn"), Role)
    assert_type(Film(title="Heat", reels=2), Film)
    assert_type(Film(title="Heat").version, int)
    Product(id=1, price=Decimal("9.99"), colour=Colour("red"), address={"city": "Ulm"}, labels=("x",), meta={"a": 1})
    Person(id="dn", name="Diane Venora", movie=ObjectId())


def indexes() -> None:
    """A condition of a partial index is one, or a function of the class, which does not exist yet in its own body."""
    assert_type(Index("title", "-year", partial=lambda Movie: Movie.year > 2000), Index)
    assert_type(Index(Movie.title, Movie.year.desc(), partial=Movie.year > 2000), Index)
    assert_type(Index("title", partial=lambda Movie: (Movie.year > 2000) & Movie.title.exists(), name="late"), Index)
