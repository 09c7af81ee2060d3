"""What is said of the server's complaints."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pymongo
import pytest
from bson.errors import InvalidBSON, InvalidDocument
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    DocumentTooLarge,
    ExecutionTimeout,
    InvalidOperation,
    OperationFailure,
    ServerSelectionTimeoutError,
    WTimeoutError,
)
from pymongo.errors import DuplicateKeyError as PyMongoDuplicateKeyError

from superorm import Document, Embedded, Mapped, field, update
from superorm.backends.errors import has_error_label, reading, writing
from superorm.exc import (
    BackendError,
    ConfigurationError,
    DuplicateKeyError,
    StatementError,
    SuperormError,
    UnsupportedError,
    ValidationError,
    WriteError,
)
from tests.databases import drop_database

SCHEMA = {
    "required": ["a", "q"],
    "properties": {
        "a": {"bsonType": "int"},
        "n": {"bsonType": "object", "required": ["w"], "properties": {"k": {"bsonType": "int"}}},
    },
}


class Part(Embedded):
    """A part."""

    n: Mapped[int] = field(default=0)


class Whole(Document):
    """A document with a part."""

    n: Mapped[int] = field(default=0)
    part: Mapped[Part | None] = field(default=None)


@pytest.fixture
def database(mongodb_uri: str) -> Any:
    """A database with a validated collection."""
    with pymongo.MongoClient[Any](mongodb_uri) as client:
        database = client[f"test_{uuid4().hex[:12]}"]
        database.create_collection("checked", validator={"$jsonSchema": SCHEMA})
        yield database
        drop_database(client, database.name)


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


@pytest.mark.parametrize(
    ("error", "expected", "said"),
    [
        (OperationFailure("BSONObj exceeds maximum nested object depth", 15), StatementError, "nested object depth"),
        (OperationFailure("Unrecognized expression '$x'", 168), UnsupportedError, "cannot do this"),
        (OperationFailure("unknown group operator '$median'", 15952), UnsupportedError, "cannot do this"),
        (OperationFailure("not authorized", 13), BackendError, r"not authorized \(code 13\)"),
        (ExecutionTimeout("time is up", 50), BackendError, "time is up"),
        (OperationFailure("x" * 5000, 9), StatementError, r"x{500}\.\.\. \(code 9\)$"),
        (OperationFailure("no match", 13113), WriteError, "no match"),
        (PyMongoDuplicateKeyError("twice", 11000, {"keyValue": {"_id": 1}}), DuplicateKeyError, "twice"),
        (ServerSelectionTimeoutError("nobody"), BackendError, "cannot be reached: nobody"),
        (InvalidOperation("Cannot use MongoClient after close"), BackendError, "after close"),
        (DocumentTooLarge("big"), StatementError, "16 MiB"),
        (InvalidBSON("torn"), ValidationError, "a stored document cannot be read: torn"),
        (InvalidDocument("odd"), StatementError, "cannot be sent: odd"),
        (OverflowError("8-byte ints"), StatementError, "cannot be sent: 8-byte ints"),
    ],
)
def test_reading(error: Exception, expected: type[SuperormError], said: str) -> None:
    """Whatever the driver raises while reading is an error of superorm's, with the driver's as its cause."""
    with pytest.raises(expected, match=f"^db.c: .*{said}") as caught, reading("db.c"):
        raise error
    assert type(caught.value) is expected
    assert error is caught.value.__cause__


def test_lost_connections() -> None:
    """The part that knows more of a lost connection says it; otherwise it is a BackendError, with its labels."""
    said = ConfigurationError("it has gone")

    def lost() -> None:
        raise said

    lost_connection = AutoReconnect("closed", {"errorLabels": ["TransientTransactionError"]})
    for around in (reading, writing):
        with pytest.raises(ConfigurationError) as caught, around("db.c", lost=lost):
            raise lost_connection
        assert said is caught.value
        with pytest.raises(BackendError, match="the server cannot be reached: closed") as other, around("db.c"):
            raise lost_connection
        assert has_error_label(other.value, "TransientTransactionError")


_LATE = {"code": 64, "errmsg": "waiting for replication timed out", "errorLabels": ["RetryableWriteError"]}
_ONE = {"index": 1, "code": 9}


@pytest.mark.parametrize(
    ("error", "expected", "said"),
    [
        (WTimeoutError("late", 64, _LATE), BackendError, "was not confirmed: waiting for replication timed out$"),
        (BulkWriteError({"writeConcernErrors": [_LATE]}), BackendError, "was not confirmed: waiting for replication"),
        (BulkWriteError({"writeErrors": [{**_ONE, "errmsg": "no"}]}), WriteError, "document 'b': .* the write: no$"),
        (BulkWriteError({"writeErrors": [{**_ONE, "errmsg": "x" * 5000}]}), WriteError, r": x{500}\.\.\.$"),
        (OperationFailure("x" * 5000, 9, {"errmsg": "x" * 5000}), WriteError, r": x{500}\.\.\.$"),
        (OperationFailure("Unrecognized expression '$x'", 168), UnsupportedError, "cannot do this"),
        (ServerSelectionTimeoutError("nobody"), BackendError, "cannot be reached: nobody"),
        (InvalidOperation("Cannot use MongoClient after close"), BackendError, "after close"),
    ],
)
def test_writing(error: Exception, expected: type[SuperormError], said: str) -> None:
    """What the driver raises while writing; a write that was done but not confirmed has not been refused."""
    with pytest.raises(expected, match=said) as caught, writing("db.c", "ab".__getitem__):
        raise error
    assert type(caught.value) is expected
    assert error is caught.value.__cause__
    assert isinstance(error, WTimeoutError) == has_error_label(caught.value, "RetryableWriteError")


@pytest.mark.parametrize(("value", "kind"), [(None, "null"), (5, "int"), ([1], "array"), ("x" * 5000, "string")])
def test_errors_that_pipelines_raise(database: Any, value: Any, kind: str) -> None:
    """An update pipeline's own error says path and type, without the server's words for the way it is raised."""
    database.free.insert_one({"part": value})
    statement = update(Whole).all().set(Whole.n.to(Whole.n + 1), Whole.part[Part.n].to(3))
    (operation,) = statement.plan()["updates"]
    with pytest.raises(WriteError, match=f"refused the write: part is no document: {kind}$"), writing("db.free"):
        database.free.update_many(operation["q"], operation["u"])
