"""What is there but not as the classes say: reported with both sides, and left as it is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pymongo
import pytest
from pymongo.database import Database

from superorm import AsyncDB, Document, Index, Mapped, MappingError, Registry, field

Plain = Database[dict[str, Any]]


class Movie(Document, registry=Registry()):
    __collection__ = "movies"
    __indexes__ = (
        Index("title", "year", unique=True, name="one"),
        Index("added", ttl=60),
        Index("title", partial=lambda Movie: Movie.year > 2000),
        Index("plot:text", weights={"plot": 2}),
        Index("tags", hidden=True),
    )

    title: Mapped[str] = field(default="")
    year: Mapped[int] = field(default=0, index=True)
    added: Mapped[Any] = field(default=None)
    plot: Mapped[str] = field(default="", name="p")
    tags: Mapped[list[str]] = field(factory=list)


class Strict(Document, registry=Registry()):
    __validate__ = True
    name: Mapped[str]
    n: Mapped[int] = field(default=0)


@pytest.fixture
def plain(db: AsyncDB, mongodb_uri: str) -> Iterator[Plain]:
    """The database of `db` through a plain client, where there is a server."""
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        yield client[db.parts.data_backend.name]


def commands(report: str) -> list[dict[str, Any]]:
    """The commands that a difference names."""
    return [ast.literal_eval(text) for text in re.findall(r"run (\{.*\})(?: and db|$)", report)]


async def test_differing_indexes(db: AsyncDB, plain: Plain, real: bool) -> None:
    """Other options, another name, other keys under the name, and what no class declares; nothing is changed.

    The commands that the report names make it as declared.
    """
    if not real:
        return
    movies = plain["movies"]
    movies.create_index([("title", 1), ("year", 1)], unique=True, name="other")
    movies.create_index([("added", 1)], expireAfterSeconds=30)
    movies.create_index([("title", 1)], partialFilterExpression={"year": {"$gt": 1990}}, sparse=False)
    movies.create_index([("p", "text")], default_language="french")
    movies.create_index([("tags", 1)])
    movies.create_index([("year", -1)], name="year_1")
    movies.create_index([("extra", 1)])
    before = [dict(index) for index in movies.list_indexes()]
    report = await db.create_all(Movie)
    assert [] == list(report.created)
    assert before == [dict(index) for index in movies.list_indexes()]
    texts = {text for text in report.differences if "to change it" not in text}
    assert {
        "the index other of movies is called one in Movie.__indexes__[0]",
        "the index extra_1 of movies, on {'extra': 1}, is declared by no class",
    } == texts
    sides = {re.match(r"the index (\S+)", text)[1]: text for text in report.differences if text not in texts}  # type: ignore[index]
    assert {"year_1", "added_1", "title_1", "p_text", "tags_1"} == sides.keys()
    for name, declared, words in (
        ("year_1", "Movie.year", "key is [['year', -1]] in the database, [['year', 1]] in the class"),
        ("added_1", "Movie.__indexes__[1]", "expireAfterSeconds is 30 in the database, 60 in the class"),
        ("title_1", "Movie.__indexes__[2]", "{'year': {'$gt': 1990}} in the database, {'year': {'$gt': 2000}} in"),
        ("p_text", "Movie.__indexes__[3]", "weights is {'p': 1} in the database, {'p': 2} in the class"),
        ("p_text", "Movie.__indexes__[3]", "default_language is 'french' in the database, 'english' in the class"),
        ("tags_1", "Movie.__indexes__[4]", "hidden is None in the database, True in the class"),
    ):
        assert f"is not as {declared} declares it" in sides[name]
        assert words in sides[name]
    for text in sides.values():
        for command in commands(text):
            plain.command(command)
    await db.create_all(Movie)
    assert sorted(texts) == sorted((await db.create_all(Movie)).differences)


async def test_the_same_in_other_words(db: AsyncDB, plain: Plain, real: bool) -> None:
    """What the server fills in, the order of a filter's keys and numbers as shells write them are no differences."""

    class Page(Document, registry=Registry()):
        __indexes__ = (
            Index("a", collation={"locale": "fr_CA"}, partial=lambda Page: (Page.b > 1) & (Page.a > 0)),
            Index("$**", exclude=["b"]),
            Index("b", ttl=5),
            Index("a:text", "b:text"),
        )
        a: Mapped[Any] = field(default=0)
        b: Mapped[Any] = field(default=0)

    if not real:
        return
    filter = {"a": {"$gt": 0.0}, "b": {"$gt": 1}}
    made: list[dict[str, Any]] = [
        {"key": {"a": 1.0}, "collation": {"locale": "fr_CA", "strength": 3}, "partialFilterExpression": filter},
        {"key": {"$**": 1}, "wildcardProjection": {"b": 0}},
        {"key": {"b": 1}, "expireAfterSeconds": 5.0},
        {"key": {"b": "text", "a": "text"}, "default_language": "english", "weights": {"a": 1.0}},
    ]
    names = ["a_1", "$**_1", "b_1", "a_text_b_text"]
    plain.command(
        "createIndexes", "page", indexes=[{**index, "name": name} for index, name in zip(made, names, strict=True)]
    )
    report = await db.create_all(Page)
    assert ([], []) == (list(report.created), list(report.differences))


async def test_several_indexes_on_one_field(db: AsyncDB, plain: Plain, real: bool) -> None:
    """Indexes with the same keys are matched by their options, whatever their names and order."""

    class Page(Document, registry=Registry()):
        __indexes__ = (
            Index("a"),
            Index("a", sparse=True, name="s"),
            Index("a", collation={"locale": "en"}, name="c"),
        )
        a: Mapped[Any] = field(default=0)

    if not real:
        return
    plain["page"].create_index([("a", 1)], sparse=True, name="first")
    report = await db.create_all(Page)
    assert ["index page {'a': 1}"] * 2 == list(report.created)
    assert ["the index first of page is called s in Page.__indexes__[1]"] == list(report.differences)


async def test_differing_collections(db: AsyncDB, plain: Plain, real: bool) -> None:
    """Options of the collection that change how it works are reported; a view gets nothing."""
    if not real:
        return
    plain.create_collection("lot", capped=True, size=4096, collation={"locale": "en"})

    class Lot(Document, registry=Registry()):
        n: Mapped[int] = field(index=True)

    report = await db.create_all(Lot)
    assert ["index lot {'n': 1}"] == list(report.created)
    assert ["lot has the option capped=True", "lot has the option collation={'locale': 'en'"] == [
        re.match(r".*?(True|'en')", text)[0]  # type: ignore[index]
        for text in report.differences
        if "the option" in text
    ]
    plain.create_collection("strict", viewOn="lot", pipeline=[])
    report = await db.create_all(Strict)
    assert [] == list(report.created)
    assert ["strict has the option viewOn='lot', which no class declares"] == list(report.differences)


async def test_a_collection_with_a_collation(db: AsyncDB, plain: Plain, real: bool) -> None:
    """Indexes have their collection's collation unless they say otherwise, which is no difference."""

    class Page(Document, registry=Registry()):
        __indexes__ = (Index("a"), Index("b", collation={"locale": "simple"}))
        a: Mapped[Any] = field(default=0)
        b: Mapped[Any] = field(default=0)

    if not real:
        return
    plain.create_collection("page", collation={"locale": "en", "strength": 2})
    await db.create_all(Page)
    report = await db.create_all(Page)
    assert [] == list(report.created)
    assert 1 == len(report.differences)
    assert ["en", None] == [
        index.get("collation", {}).get("locale") for index in list(plain["page"].list_indexes())[1:]
    ]


async def test_differing_validators(db: AsyncDB, plain: Plain, real: bool) -> None:
    """Another validator stays, and is reported with both sides and the command that sets the declared one."""
    if not real:
        return
    schema = {"bsonType": "object", "properties": {"name": {"bsonType": "int"}}}
    plain.create_collection("strict", validator={"$jsonSchema": schema}, validationAction="warn")
    report = await db.create_all(Strict)
    assert [] == list(report.created)
    (text,) = report.differences
    assert "the validator of strict is not as Strict declares it" in text
    assert "$jsonSchema.properties.name.bsonType is 'int' in the database, 'string' in the class" in text
    assert "validationAction is 'warn' in the database, 'error' in the class" in text
    (options,) = plain.list_collections(filter={"name": "strict"})
    assert {"$jsonSchema": schema} == options["options"]["validator"]
    (command,) = commands(text)
    plain.command(command)
    assert [] == list((await db.create_all(Strict)).differences)
    with pytest.raises(pymongo.errors.WriteError):
        plain["strict"].insert_one({"name": 1})


async def test_validators_that_no_class_declares(db: AsyncDB, plain: Plain, real: bool) -> None:
    """A validator beside a class without ``__validate__`` is reported; an empty one is none."""
    if not real:
        return
    plain.create_collection("movies", validator={"year": {"$gt": 0}})
    assert "movies has a validator, which no class declares" in (await db.create_all(Movie)).differences
    plain.command({"collMod": "movies", "validator": {}})
    assert [] == list((await db.create_all(Movie)).differences)
    plain.create_collection("strict", validator={})
    assert ["validator strict"] == list((await db.create_all(Strict)).created)


async def test_classes_that_do_not_agree(db: AsyncDB) -> None:
    """A collection of two classes has a validator only if both ask for one, in the same way."""
    own = Registry()

    class A(Document, registry=own):
        __collection__ = "shared"
        __validate__ = True
        a: Mapped[int]

    class B(Document, registry=own):
        __collection__ = "shared"
        b: Mapped[int]

    report = await db.create_all(A)
    assert ["shared gets no validator: B, which shares it, does not declare __validate__"] == list(report.differences)
    B.__validate__ = "warn"
    with pytest.raises(MappingError, match="A, B share shared"):
        await db.create_all(A)


async def test_check_reports_the_same(db: AsyncDB, plain: Plain, real: bool) -> None:
    """`check` names what is missing and what differs."""
    if not real:
        return
    name = f"checked_{uuid4().hex[:8]}"
    plain[name].create_index([("year", 1)], unique=True)

    class Checked(Document):
        __collection__ = name
        __validate__ = True
        title: Mapped[str] = field(index=True)
        year: Mapped[int] = field(default=0, index=True)

    problems = [problem for problem in (await db.check()).problems if name in problem]
    assert 3 == len(problems)
    assert f"{name} has no index {{'title': 1}}, which Checked.title declares" in problems[0]
    assert f"{name} has no validator, which Checked declares" in problems[1]
    assert "unique is True in the database, None in the class" in problems[2]
    await db.create_all(Checked)
    assert problems[2:] == [problem for problem in (await db.check()).problems if name in problem]
