"""Raw stages and documents that no database takes: refused on a server and on mongomock alike, with nothing written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from pymongo.errors import OperationFailure

import superorm
from superorm import (
    DB,
    Document,
    Mapped,
    Registry,
    Session,
    StatementError,
    UnsupportedError,
    ValidationError,
    column,
    field,
    func,
    insert,
    select,
    update,
)
from tests.databases import drop_database

registry = Registry()
HUGE = "x" * (17 * 1024 * 1024)


class Text(Document, registry=registry):
    __collection__ = "texts_refused_by_both"
    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str] = field(default="", name="t")


@pytest.fixture(scope="module", params=["mongomock", "mongodb"])
def db(request: pytest.FixtureRequest, mongodb_uri: str) -> Iterator[DB]:
    name = f"rb_{uuid4().hex[:10]}"
    url = f"mongomock://{name}" if request.param == "mongomock" else mongodb_uri
    where: Any = {} if request.param == "mongomock" else {"database": name}
    with superorm.connect(url, **where, vector_database="memory://", artifact_store="memory://") as db:
        with db.begin() as session:
            session.add_all([Text(id=1), Text(id=2)])
        yield db
        backend: Any = db.parts.data_backend
        drop_database(backend.client, name)


def stored(db: DB) -> list[Any]:
    """The documents, read by PyMongo."""
    backend: Any = db.parts.data_backend
    return list(backend.client[backend.name][Text.__collection__].find().sort("_id"))


@pytest.mark.parametrize(
    "stage",
    [
        {"$limit": "x"},
        {"$limit": 0},
        {"$skip": -1},
        {"$project": {}},
        {"$project": 5},
        {"$group": {}},
        {"$group": {"x": 1}},
        {"$unwind": 3},
        {"$unwind": "text"},
        {"$sort": {}},
        {"$sort": {"a": 5}},
        {"$nope": {}},
        {"$set": 3},
        {"$set": {"": 1}},
        {"$set": {"a": {"$nope": 1}}},
        {"$set": {"a": {"$cond": [1]}}},
        {"$set": {"a": {"$map": {}}}},
        {"$set": {"a": {"$switch": {}}}},
        {"$lookup": {}},
        {"$count": 3},
        {"$replaceRoot": {}},
        {"$replaceRoot": {"newRoot": 5}},
        {"$match": {"$nope": 1}},
        {"$match": {"a": {"$nope": 1}}},
        {"$facet": {}},
        {"$facet": {"a": 5}},
        {"$bucket": {}},
    ],
)
def test_malformed_stages(db: DB, stage: dict[str, Any]) -> None:
    """It is an error of the statement; the server says which, and mongomock names an operator or the field."""
    statement = select(Text).stage(stage).columns(column("a"))
    with Session(db) as session, pytest.raises((StatementError, UnsupportedError)) as raised:
        session.execute(statement).all()
    said = str(raised.value)
    if db.capabilities.backend == "mongomock":
        assert any(name in said for name in (*stage, *_inner(stage)) if name.startswith("$")) or "needs a name" in said
    else:
        assert isinstance(raised.value.__cause__, OperationFailure)


def _inner(stage: dict[str, Any]) -> Iterator[str]:
    for value in stage.values():
        if isinstance(value, dict):
            yield from value
            yield from _inner(value)


@pytest.mark.parametrize("stage", [{}, {"$match": {}, "$limit": 1}, {"match": {}}, {1: 2}, [{"$limit": 1}], "x", None])
def test_what_is_no_stage(stage: Any) -> None:
    """It is refused where it is written."""
    with pytest.raises(StatementError, match=r"stage\(\) takes one stage such as"):
        select(Text).stage(stage)


@pytest.mark.parametrize("name", ["$match", "$sort"])
@pytest.mark.parametrize("body", [1, [1], "a", None])
def test_stages_that_take_documents(name: str, body: Any) -> None:
    """What is none is refused where it is written."""
    with pytest.raises(StatementError, match=rf"stage\(\): \{name} takes a document, not {re.escape(repr(body))}"):
        select(Text).stage({name: body})


def _objects() -> list[Text]:
    return [Text(id=10), Text(id=11, text=HUGE), Text(id=12)]


def _grow(session: Session) -> None:
    session.get_one(Text, 1).text = "y"
    session.get_one(Text, 2).text = HUGE


@pytest.mark.parametrize(
    ("write", "key"),
    [
        (lambda session: session.add_all(_objects()), 11),
        (lambda session: session.bulk_insert(_objects()), 11),
        (lambda session: session.execute(insert(Text).values(_objects())), 11),
        (lambda session: session.execute(insert(Text).values(_objects()).upsert()), 11),
        (_grow, 2),
    ],
)
def test_documents_too_large(db: DB, write: Callable[[Session], Any], key: int) -> None:
    """The error names the one among others, and its largest field by the stored name; `field` is the attribute."""
    before = stored(db)
    with (
        pytest.raises(ValidationError, match=rf"document {key}, field 't': takes the document over 16 MiB") as raised,
        db.begin() as session,
    ):
        write(session)
    assert (key, "text", Text) == (raised.value.key, raised.value.field, raised.value.document_class)
    assert before == stored(db)


@pytest.mark.parametrize("computed", [False, True])
def test_updates_too_large(db: DB, computed: bool) -> None:
    """So does that of a statement, where the value is computed too."""
    before = stored(db)
    value: Any = func.concat(Text.text, HUGE[: len(HUGE) // 2], HUGE[len(HUGE) // 2 :]) if computed else HUGE
    with (
        pytest.raises(ValidationError, match=r"field 't': takes the document over 16 MiB"),
        db.begin() as session,
    ):
        session.execute(update(Text).where(Text.id == 1).set(Text.text.to(value)))
    assert before == stored(db)
