"""What is said of the server's complaints."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pymongo
import pytest

from superorm.backends.errors import reading, writing
from superorm.exc import StatementError, WriteError

SCHEMA = {
    "required": ["a", "q"],
    "properties": {
        "a": {"bsonType": "int"},
        "n": {"bsonType": "object", "required": ["w"], "properties": {"k": {"bsonType": "int"}}},
    },
}


@pytest.fixture
def database(mongodb_uri: str) -> Any:
    """A database with a validated collection."""
    with pymongo.MongoClient[Any](mongodb_uri) as client:
        database = client[f"test_{uuid4().hex[:12]}"]
        database.create_collection("checked", validator={"$jsonSchema": SCHEMA})
        yield database
        client.drop_database(database.name)


def test_validators_name_fields(database: Any) -> None:
    """The paths that a validator complains of stand in the error, of single and of bulk writes."""
    with pytest.raises(WriteError, match="Document failed validation") as raised, writing("db.checked"):
        database.checked.insert_many([{"_id": 1, "a": "x", "n": {"k": "s"}}])
    assert {"a", "n.k", "n.w", "q"} == set(str(raised.value.field).split(", "))
    assert str(raised.value.field) in str(raised.value)
    with pytest.raises(WriteError, match=r"Document failed validation \(q\)$"), writing("db.checked"):
        database.checked.insert_one({"_id": 1, "a": 5})


def test_no_whole_replies(database: Any) -> None:
    """The server's message and code are shown, not the rest of its reply."""
    with pytest.raises(StatementError, match=r"\$divide .*\(code \d+\)$") as raised, reading("db.checked"):
        database.command({"aggregate": "checked", "pipeline": [{"$match": {"$expr": {"$divide": [1]}}}], "cursor": {}})
    assert "clusterTime" not in str(raised.value)
