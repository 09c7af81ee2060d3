"""Statements that write, and the changes that fields make."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, assert_type

from superorm import Assignment, Delete, Insert, Update, delete, func, insert, select, update, utcnow
from superorm.expr.writes import MergeInto, Returning
from tests.typing.classes import Colour, Film, Imdb, Movie, Product, Role, Stamped, Total


def assignments() -> None:
    """Each change is one of the class whose field it began with."""
    assert_type(Movie.year.to(1995), Assignment[Movie])
    assert_type(Movie.year.to(Movie.year + 1), Assignment[Movie])
    assert_type(Movie.length.to(None), Assignment[Movie])
    assert_type(Movie.length.to(Movie.year), Assignment[Movie])
    assert_type(Movie.length.to(Movie.length / 2), Assignment[Movie])
    assert_type(Movie.title.to(func.concat(Movie.title, "!")), Assignment[Movie])
    assert_type(Movie.imdb.to(Imdb(rating=8.3)), Assignment[Movie])
    assert_type(Movie.imdb[Imdb.rating].to(8.3), Assignment[Movie])
    assert_type(Movie.imdb.votes.inc(1), Assignment[Movie])
    assert_type(Movie.imdb[Imdb.votes].inc(1), Assignment[Movie])
    assert_type(Movie.year.inc(1), Assignment[Movie])
    assert_type(Movie.year.inc(Movie.year), Assignment[Movie])
    assert_type(Movie.length.inc(1), Assignment[Movie])
    assert_type(Product.price.inc(Decimal(1)), Assignment[Product])
    assert_type(Product.price.to(Product.price * 2), Assignment[Product])
    assert_type(Product.colour.to(Colour("red")), Assignment[Product])
    assert_type(Product.meta["key"].to(5), Assignment[Product])
    assert_type(Product.sold.to(utcnow()), Assignment[Product])
    assert_type(Movie.genres.to(["Heist"]), Assignment[Movie])
    assert_type(Movie.genres.to(func.filter(Movie.genres, lambda item: item != "x")), Assignment[Movie])
    assert_type(Movie.genres.push("x", "y"), Assignment[Movie])
    assert_type(Movie.genres.push("x", position=0), Assignment[Movie])
    assert_type(Movie.cast.push(Role(actor="dn")), Assignment[Movie])
    assert_type(Product.labels.push("x"), Assignment[Product])
    assert_type(Movie.genres.add_to_set("x"), Assignment[Movie])
    assert_type(Movie.tags.add_to_set("x"), Assignment[Movie])
    assert_type(Movie.genres.pull("x", "y"), Assignment[Movie])
    assert_type(Movie.tags.pull("x"), Assignment[Movie])
    assert_type(Movie.cast.pull(Role.actor == "dn", Role.name.is_(None)), Assignment[Movie])
    assert_type(Movie.cast.pull(Role(actor="dn")), Assignment[Movie])
    assert_type(Movie.genres.pop(), Assignment[Movie])
    assert_type(Movie.genres.pop("first"), Assignment[Movie])
    assert_type(Movie.length.unset(), Assignment[Movie])


def updates() -> None:
    """Updates, with conditions and changes of the class or of one that it derives from."""
    assert_type(update(Movie), Update[Movie])
    assert_type(update(Movie).where(Movie.year > 1990, Stamped.added < utcnow()), Update[Movie])
    assert_type(update(Movie).all().set(Movie.year.inc(1), Movie.genres.push("x")), Update[Movie])
    assert_type(update(Movie).where(Movie.title == "Heat").values(year=1995, plot=Movie.title), Update[Movie])
    assert_type(update(Movie).where(Movie.title == "Heat").values(year=1995).upsert(), Update[Movie])
    assert_type(
        update(Film).where(Film.reels > 1, Movie.year > 1).set(Film.reels.to(1), Movie.year.to(2)), Update[Film]
    )
    assert_type(update(Movie).all().values(year=1).plan(), dict[str, Any])


def inserts() -> None:
    """Inserts of objects, dicts and keywords."""
    assert_type(insert(Movie), Insert[Movie])
    assert_type(insert(Movie).values([Movie(title="Heat"), {"title": "Up"}]), Insert[Movie])
    assert_type(insert(Movie).values(Movie(title="Heat")), Insert[Movie])
    assert_type(insert(Movie).values({"title": "Heat"}), Insert[Movie])
    assert_type(insert(Movie).values(title="Heat", year=1995), Insert[Movie])
    assert_type(insert(Movie).values([Film(title="Heat")]), Insert[Movie])
    assert_type(insert(Product).values([{"id": 1}]).upsert(), Insert[Product])
    assert_type(insert(Product).values([{"id": 1}]).upsert(Product.serial, Product.parent), Insert[Product])


def deletes() -> None:
    """Deletes, with conditions."""
    assert_type(delete(Movie), Delete[Movie])
    assert_type(delete(Movie).where(Movie.year < 1950, Movie.title != ""), Delete[Movie])
    assert_type(delete(Movie).all(), Delete[Movie])


def returning() -> None:
    """Rows of what was written are typed as those of selects."""
    changed = update(Movie).all().values(year=1)
    assert_type(changed.returning(Movie), Returning[tuple[Movie]])
    assert_type(changed.returning(Movie.title), Returning[tuple[str]])
    assert_type(changed.returning(Movie, Movie.year), Returning[tuple[Movie, int]])
    assert_type(changed.returning(Movie.title, Movie.year), Returning[tuple[str, int]])
    assert_type(changed.returning(Movie.title, Movie.year, Movie.plot), Returning[tuple[str, int, str]])
    four = changed.returning(Movie.title, Movie.year, Movie.plot, Movie.length)
    assert_type(four, Returning[tuple[str, int, str, float | None]])
    five = changed.returning(Movie.title, Movie.year, Movie.plot, Movie.length, Movie.mood)
    assert_type(five, Returning[tuple[Any, ...]])
    assert_type(insert(Product).values([{"id": 1}]).returning(Product.id), Returning[tuple[int]])
    assert_type(delete(Movie).all().returning(Movie), Returning[tuple[Movie]])


def merged() -> None:
    """A select written into a collection."""
    report = select(Movie.year.label("_id"), func.count().label("films")).group_by(Movie.year)
    assert_type(report.merge_into("totals"), MergeInto)
    assert_type(report.merge_into(Total), MergeInto)
    assert_type(report.merge_into(Total, on=["id"], when_matched="keepExisting", when_not_matched="discard"), MergeInto)
    report.merge_into("totals", on="_id", when_matched="replace", when_not_matched="fail")
