"""Unique indexes on mongomock refuse what a server refuses: through lists, with partial filters, when they are made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import mongomock
import pymongo
import pytest
from bson import Int64
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from superorm.backends._sync.mongodb import MongoDatabackend
from superorm.backends._sync.mongomock import MongomockDatabackend
from superorm.compile.plan import Find
from superorm.exc import DuplicateKeyError, WriteError
from superorm.protocols._sync.parts import DataBackend
from superorm.unitofwork.writes import Delete, Insert, Update, UpdateOp
from tests.databases import drop_database

INDEXES: list[tuple[list[tuple[str, int]], dict[str, Any]]] = [
    ([("a", 1)], {}),
    ([("a", 1)], {"sparse": True}),
    ([("a", 1)], {"partialFilterExpression": {"live": True}}),
    ([("a", 1)], {"partialFilterExpression": {"a": {"$exists": True}}}),
    ([("a.b", 1)], {}),
    ([("a.b", 1)], {"sparse": True}),
    ([("a.b", 1), ("a.c", -1)], {}),
    ([("a.b", 1), ("c", 1)], {"sparse": True}),
    ([("a.b.c", 1)], {}),
]

scalars = st.sampled_from([None, 0, 1, 1.0, Int64(1), True, "1", b"1"])
inner = st.dictionaries(st.sampled_from("bc"), scalars | st.lists(scalars, max_size=2), max_size=2)
nested = st.dictionaries(st.sampled_from("bc"), scalars | inner | st.lists(inner, max_size=2), max_size=2)
values = scalars | nested | st.lists(scalars, max_size=2) | st.lists(nested, max_size=2)
documents = st.fixed_dictionaries(
    {}, optional={"a": values, "c": scalars | st.lists(scalars, max_size=2), "live": st.booleans()}
)


@pytest.fixture(scope="module")
def server(mongodb_uri: str) -> Iterator[MongoDatabackend]:
    """A database on the real server."""
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        backend = MongoDatabackend(client, f"test_{uuid4().hex[:12]}")
        yield backend
        drop_database(client, backend.name)


def outcome(backend: DataBackend, write: Insert | Update) -> str:
    """What becomes of a write."""
    try:
        backend.write(write)
    except DuplicateKeyError as error:
        return f"duplicate {error.field}"
    except WriteError:
        return "refused"
    return "written"


def held(backend: DataBackend, collection: str) -> list[dict[str, Any]]:
    """All documents."""
    return backend.read(Find(collection, {}, None, (("_id", 1),)))


@pytest.mark.parametrize(("keys", "options"), INDEXES, ids=str)
def test_as_the_server(server: MongoDatabackend, keys: list[tuple[str, int]], options: dict[str, Any]) -> None:
    """Inserts and updates have the server's outcome, and leave the same documents."""
    name = f"c_{uuid4().hex[:8]}"
    mock = MongomockDatabackend(mongomock.MongoClient(), server.name)
    for backend in (server, mock):
        backend.create_index(name, keys, unique=True, **options)

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(documents, min_size=2, max_size=5), documents)
    def check(found: list[dict[str, Any]], update: dict[str, Any]) -> None:
        for backend in (server, mock):
            backend.write(Delete(name, [{}]))
        for key, document in enumerate(found):
            write = Insert(name, [{"_id": key, **document}])
            assert outcome(server, write) == outcome(mock, write)
        if update:
            change = Update(name, [UpdateOp(q={"_id": 0}, u={"$set": update})])
            assert outcome(server, change) == outcome(mock, change)
        assert held(server, name) == held(mock, name)

    check()


@pytest.mark.parametrize(("keys", "options"), INDEXES, ids=str)
@settings(max_examples=40, deadline=None)
@given(found=st.lists(documents, min_size=2, max_size=5))
def test_made_over_documents(keys: list[tuple[str, int]], options: dict[str, Any], found: list[dict[str, Any]]) -> None:
    """An index can be made over exactly the documents that could be inserted under it."""
    mock = MongomockDatabackend(mongomock.MongoClient(), "test")
    mock.create_index("early", keys, unique=True, **options)
    outcomes = {outcome(mock, Insert("early", [{"_id": key, **document}])) for key, document in enumerate(found)}
    mock.write(Insert("late", [{"_id": key, **document} for key, document in enumerate(found)]))
    if outcomes == {"written"}:
        mock.create_index("late", keys, unique=True, **options)
        assert 2 == len(mock.indexes("late"))
    else:
        with pytest.raises((DuplicateKeyError, WriteError)):
            mock.create_index("late", keys, unique=True, **options)
        assert 1 == len(mock.indexes("late"))
