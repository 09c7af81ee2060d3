"""What `create_all` makes, looked at with plain PyMongo."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from typing import Any

import pymongo
import pytest
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError as PyMongoDuplicateKeyError
from pymongo.errors import WriteError as PyMongoWriteError

from superorm import (
    AsyncDB,
    Document,
    DuplicateKeyError,
    Embedded,
    Index,
    Mapped,
    MappingError,
    Registry,
    WriteError,
    field,
    select,
)

Plain = Database[dict[str, Any]]
UTC = dt.UTC
registry = Registry()


class Person(Embedded):
    name: Mapped[str] = field(index=True, name="n")
    email: Mapped[str | None] = field(default=None)


class Movie(Document, registry=registry):
    __collection__ = "movies"
    __validate__ = True
    __indexes__ = (
        Index("title", "-year", unique=True, partial=lambda Movie: Movie.year > 2000),
        Index("meta.$**"),
        Index("cast.email", unique=True, partial=lambda Movie: Movie.cast.email.exists()),
        Index("title", collation={"locale": "en", "strength": 2}, name="ci"),
        Index("year", "title", sparse=True, hidden=True),
    )

    title: Mapped[str] = field(index="text")
    plot: Mapped[str | None] = field(default=None, name="p", index="text")
    year: Mapped[int] = field(default=0)
    added: Mapped[dt.datetime] = field(factory=lambda: dt.datetime(2030, 1, 1, tzinfo=UTC), ttl=dt.timedelta(hours=1))
    cast: Mapped[list[Person]] = field(factory=list)
    meta: Mapped[dict[str, Any]] = field(factory=dict)


class Simple(Document, registry=registry):
    """Nothing that mongomock has not."""

    title: Mapped[str] = field(unique=True)
    year: Mapped[int] = field(default=0, index=True)
    cast: Mapped[list[Person]] = field(factory=list)


@pytest.fixture
def plain(db: AsyncDB, mongodb_uri: str) -> Iterator[Plain]:
    """The database of `db` through a plain client, where there is a server."""
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri, tz_aware=True) as client:
        yield client[db.parts.data_backend.name]


def indexes(plain: Plain, collection: str) -> dict[str, dict[str, Any]]:
    """The indexes of a collection by name, without what the server numbers."""
    return {
        index["name"]: {key: value for key, value in index.items() if key not in ("v", "name")}
        for index in map(dict, plain[collection].list_indexes())
    }


async def test_on_every_backend(db: AsyncDB) -> None:
    """Collections and simple indexes are made once; unique indexes hold."""
    report = await db.create_all(Simple)
    assert [
        "collection simple",
        "index simple {'title': 1}",
        "index simple {'year': 1}",
        "index simple {'cast.n': 1}",
    ] == list(report.created)
    assert [] == list(report.differences)
    again = await db.create_all(Simple)
    assert ([], []) == (list(again.created), list(again.differences))
    assert "as declared" == str(again)
    async with db.begin() as session:
        session.add(Simple(title="Heat"))
    with pytest.raises(DuplicateKeyError, match="title='Heat'"):
        async with db.begin() as session:
            session.add(Simple(title="Heat"))


async def test_indexes_on_the_server(db: AsyncDB, plain: Plain, real: bool) -> None:
    """Every option arrives as the server lists it, by stored names."""
    if not real:
        return
    report = await db.create_all(Movie)
    assert [] == list(report.differences)
    found = indexes(plain, "movies")
    assert {"locale": "en", "strength": 2}.items() <= found["ci"].pop("collation").items()
    found["title_text_p_text"].pop("textIndexVersion")
    assert {
        "_id_": {"key": {"_id": 1}},
        "title_1_year_-1": {
            "key": {"title": 1, "year": -1},
            "unique": True,
            "partialFilterExpression": {"year": {"$gt": 2000}},
        },
        "meta.$**_1": {"key": {"meta.$**": 1}},
        "cast.email_1": {
            "key": {"cast.email": 1},
            "unique": True,
            "partialFilterExpression": {"cast.email": {"$exists": True}},
        },
        "cast.n_1": {"key": {"cast.n": 1}},
        "ci": {"key": {"title": 1}},
        "year_1_title_1": {"key": {"year": 1, "title": 1}, "sparse": True, "hidden": True},
        "added_1": {"key": {"added": 1}, "expireAfterSeconds": 3600},
        "title_text_p_text": {
            "key": {"_fts": "text", "_ftsx": 1},
            "weights": {"title": 1, "p": 1},
            "default_language": "english",
            "language_override": "language",
        },
    } == found
    again = await db.create_all(Movie)
    assert ([], []) == (list(again.created), list(again.differences))
    assert [] == [problem for problem in (await db.check()).problems if "movies" in problem]


async def test_indexes_serve_plain_queries(db: AsyncDB, plain: Plain, real: bool) -> None:
    """The server enforces and uses them: unique where the condition holds, text, wildcard, collation."""
    if not real:
        return
    await db.create_all(Movie)
    async with db.begin() as session:
        session.add_all([Movie(title="Heat", year=1995, plot="a bank heist", meta={"lang": {"main": "en"}})])
        session.add_all([Movie(title="Heat", year=1995), Movie(title="Heat", year=2013)])
    movies = plain["movies"]
    with pytest.raises(PyMongoDuplicateKeyError):
        movies.insert_one({**movies.find_one({"year": 2013}, {"_id": 0})})  # type: ignore[dict-item]
    with pytest.raises(DuplicateKeyError, match="year"):
        async with db.begin() as session:
            session.add(Movie(title="Heat", year=2013))
    assert ["a bank heist"] == [found["p"] for found in movies.find({"$text": {"$search": "heists"}})]
    for query, options, name in (
        ({"title": "Heat", "year": {"$gt": 2005}}, {}, "title_1_year_-1"),
        ({"meta.lang.main": "en"}, {}, "meta.$**_1"),
        ({"title": "hEAT"}, {"collation": {"locale": "en", "strength": 2}}, "ci"),
        ({"cast.n": "Al"}, {}, "cast.n_1"),
    ):
        plan = movies.find(query, **options).explain()["queryPlanner"]["winningPlan"]
        assert re.search(rf"'indexName': '{re.escape(name)}'", str(plan)), plan
    assert 3 == len(list(movies.find({"title": "heat"}, collation={"locale": "en", "strength": 2})))


async def test_the_validator_on_the_server(db: AsyncDB, plain: Plain, real: bool) -> None:
    """Documents of superorm pass, another program's wrong ones do not; what was there before stays as it is."""
    if not real:
        return
    plain["movies"].insert_one({"_id": "old", "title": 3})
    report = await db.create_all(Movie)
    assert "validator movies" in report.created
    (described,) = plain.list_collections(filter={"name": "movies"})
    assert ("strict", "error") == (
        described["options"]["validationLevel"],
        described["options"]["validationAction"],
    )
    assert {"_id": "old", "title": 3} == plain["movies"].find_one({"_id": "old"})
    async with db.begin() as session:
        movie = Movie(title="Heat", cast=[Person(name="Al")])
        session.add(movie)
        await session.commit()
        movie.year = 1995
    assert 1995 == plain["movies"].find_one({"title": "Heat"})["year"]  # type: ignore[index]
    for wrong in ({"title": 1}, {}, {"title": "a", "cast": [{"n": 1}]}, {"title": "a", "year": "2000"}):
        with pytest.raises(PyMongoWriteError) as caught:
            plain["movies"].insert_one(wrong)
        assert 121 == caught.value.code


async def test_warnings_only(db: AsyncDB, plain: Plain, real: bool) -> None:
    """``__validate__ = "warn"`` lets everything in."""
    if not real:
        return

    class Lax(Document, registry=Registry()):
        __validate__ = "warn"
        title: Mapped[str]

    await db.create_all(Lax)
    plain["lax"].insert_one({"title": 1})
    (described,) = plain.list_collections(filter={"name": "lax"})
    assert "warn" == described["options"]["validationAction"]
    assert [] == list((await db.create_all(Lax)).differences)


async def test_what_mongomock_has_not(db: AsyncDB, real: bool) -> None:
    """Each index and validator that mongomock cannot have is reported by name; the others are made."""
    if real:
        return
    report = await db.create_all(Movie)
    assert {
        "Movie.title": "mongomock has no text indexes",
        "Movie.__indexes__[1]": "mongomock has no wildcard indexes",
        "Movie.__indexes__[3]": "mongomock has no indexes with collation",
        "Movie.__indexes__[4]": "mongomock has no indexes with hidden",
        "Movie.__validate__": "mongomock has no validators",
    } == {
        where: re.sub(r".*(mongomock has no [\w ]+?)( and .*)?$", r"\1", text)
        for where, text in (difference.split(": ", 1) for difference in report.differences)
    }
    assert [
        "collection movies",
        "index movies {'added': 1}",
        "index movies {'cast.n': 1}",
        "index movies {'title': 1, 'year': -1}",
        "index movies {'cast.email': 1}",
    ] == list(report.created)
    async with db.begin() as session:
        session.add_all([Movie(title="a", year=1), Movie(title="a", year=1), Movie(title="a", year=2001)])
    with pytest.raises(DuplicateKeyError, match="title='a', year=2001"):
        async with db.begin() as session:
            session.add(Movie(title="a", year=2001))
    with pytest.raises(DuplicateKeyError, match=r"cast\.email='x'"):
        async with db.begin() as session:
            session.add_all([Movie(title=name, cast=[Person(name=name, email="x")]) for name in "bc"])


async def test_expiry(db: AsyncDB, plain: Plain, real: bool) -> None:
    """mongomock removes what has expired; a server is left to itself."""

    class Token(Document, registry=Registry()):
        at: Mapped[dt.datetime] = field(ttl=60)

    class Nested(Document, registry=Registry()):
        inner: Mapped[dict[str, dt.datetime]] = field(factory=dict)
        __indexes__ = (Index("inner.at", ttl=60),)

    await db.create_all(Token)
    report = await db.create_all(Nested)
    if real:
        assert 60 == indexes(plain, "token")["at_1"]["expireAfterSeconds"]
        assert 60 == indexes(plain, "nested")["inner.at_1"]["expireAfterSeconds"]
        return
    assert ["Nested.__indexes__[0]: mongomock has no expiry by nested fields, or by partial indexes"] == list(
        report.differences
    )
    now = dt.datetime.now(UTC)
    async with db.begin() as session:
        session.add_all([Token(at=now), Token(at=now - dt.timedelta(minutes=2))])
    async with db.session() as session:
        assert 1 == len((await session.scalars(select(Token))).all())


async def test_a_unique_index_over_duplicates(db: AsyncDB) -> None:
    """It cannot be made: the error names collection, fields and value; what was made before it stays."""

    class Loose(Document, registry=Registry()):
        __collection__ = "strict"
        title: Mapped[str]
        year: Mapped[int] = field(default=0)

    class Strict(Document, registry=Registry()):
        __indexes__ = (Index("year"), Index("title", "year", unique=True))
        title: Mapped[str]
        year: Mapped[int] = field(default=0)

    async with db.begin() as session:
        session.add_all([Loose(title="a", year=1), Loose(title="b", year=1), Loose(title="b", year=1)])
    with pytest.raises(DuplicateKeyError) as caught:
        await db.create_all(Strict)
    assert re.search(r"\.strict: the unique index on title, year .* title='b', year=1", str(caught.value))
    assert "title, year" == caught.value.field
    made = await db.parts.data_backend.indexes("strict")
    assert ["_id_", "year_1"] == [index["name"] for index in made]


async def test_an_index_that_the_server_refuses(db: AsyncDB, real: bool) -> None:
    """The server's own complaint is raised, where it is about no index that is there."""
    if not real:
        return

    class Odd(Document, registry=Registry()):
        __indexes__ = (Index("a", collation={"locale": "nowhere"}),)
        a: Mapped[int] = field(default=0)

    with pytest.raises(WriteError, match="nowhere"):
        await db.create_all(Odd)


async def test_a_mapping_error_makes_nothing(db: AsyncDB) -> None:
    """Declarations that cannot be are refused before anything is made."""

    class Wrong(Document, registry=Registry()):
        __indexes__ = (Index("a"), Index("part.nobody"))
        a: Mapped[int] = field(default=0)
        part: Mapped[Person | None] = field(default=None)

    with pytest.raises(MappingError, match="nobody"):
        await db.create_all(Simple, Wrong)
    assert not {"simple", "wrong"} & await db.parts.data_backend.collection_names()


async def test_unique_in_a_subclass(db: AsyncDB) -> None:
    """It holds for its documents and those of its subclasses; others, which may lack the field, are not held to it."""

    class Vehicle(Document, registry=Registry()):
        id: Mapped[int] = field(primary_key=True)

    class Car(Vehicle):
        plate: Mapped[str] = field(unique=True)

    class Van(Car):
        pass

    class Bike(Vehicle):
        plate: Mapped[str] = field(default="none")

    assert {"collection vehicle", "index vehicle {'plate': 1}"} == set((await db.create_all(Vehicle)).created)
    assert [] == list((await db.create_all(Car)).differences)
    async with db.begin() as session:
        session.add_all([Vehicle(id=1), Vehicle(id=2), Bike(id=3), Bike(id=4), Car(id=5, plate="none")])
    for number, again in enumerate((Car, Van), 6):
        with pytest.raises(DuplicateKeyError, match="plate"):
            async with db.begin() as session:
                session.add(again(id=number, plate="none"))

    class Bus(Car):
        pass

    (difference,) = (await db.create_all(Vehicle)).differences
    assert "is not as Car.plate declares it" in difference


async def test_classes_of_one_collection(db: AsyncDB, plain: Plain, real: bool) -> None:
    """A hierarchy shares its collection: the indexes of all classes are made, and the validator knows each."""
    own = Registry()

    class Shape(Document, registry=own):
        __validate__ = True
        name: Mapped[str] = field(default="", index=True)

    class Circle(Shape):
        __indexes__ = (Index("-radius"),)
        radius: Mapped[float]

    class Square(Shape):
        side: Mapped[int] = field(unique=True)
        __indexes__ = (Index("side", "name", sparse=True),)

    report = await db.create_all(Circle)
    assert {"index shape {'name': 1}", "index shape {'radius': -1}", "index shape {'side': 1}"} < set(report.created)
    if not real:
        return
    assert [] == list((await db.create_all(Shape)).differences)
    async with db.begin() as session:
        session.add_all([Circle(radius=2.0), Square(side=2)])
    with pytest.raises(PyMongoWriteError):
        plain["shape"].insert_one({"_type": "Circle", "radius": "2", "side": 7})


async def test_what_has_no_collection(db: AsyncDB) -> None:
    """Only documents are made, and got by key."""

    class Part(Embedded):
        n: Mapped[int] = field(default=0)

    for given, words in ((Part, "Part is an Embedded, which has no collection"), ("x", "'x' is no class")):
        with pytest.raises(MappingError, match=words):
            await db.create_all(given)  # type: ignore[arg-type]
        with pytest.raises(MappingError, match=words):
            await db.check(given)  # type: ignore[arg-type]
    async with db.session() as session:
        with pytest.raises(MappingError, match="Part is an Embedded: it has no key"):
            await session.get(Part, 1)
