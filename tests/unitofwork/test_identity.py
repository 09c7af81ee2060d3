"""Identities of keys, against a server that tells duplicates."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from itertools import product
from typing import Any
from uuid import UUID, uuid4

import pymongo
import pytest
from bson import Binary, Decimal128, Int64, MaxKey, MinKey, ObjectId, Timestamp
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from superorm import ValidationError
from superorm.unitofwork.encode import CODEC_OPTIONS
from superorm.unitofwork.identity import identities, identity
from tests.databases import drop_database

MOMENT = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
KEYS: list[Any] = [
    1,
    1.0,
    Int64(1),
    Decimal128("1"),
    Decimal128("1.00"),
    True,
    "1",
    0,
    -0.0,
    Decimal128("-0"),
    False,
    1.5,
    Decimal128("1.5"),
    0.1,
    Decimal128("0.1"),
    2**53,
    2**53 + 1,
    float(2**53),
    float("nan"),
    Decimal128("NaN"),
    float("inf"),
    Decimal128("Infinity"),
    "",
    "a",
    b"a",
    Binary(b"a", 5),
    UUID(int=1),
    Binary(UUID(int=1).bytes, 4),
    Binary(UUID(int=1).bytes, 3),
    ObjectId("0" * 24),
    "0" * 24,
    MOMENT,
    MOMENT.astimezone(dt.timezone(dt.timedelta(hours=1))),
    Timestamp(1, 1),
    MinKey(),
    MaxKey(),
    {"a": 1, "b": 2},
    {"a": 1.0, "b": Int64(2)},
    {"b": 2, "a": 1},
    {"a": True, "b": 2},
    {"a": {"b": [1, 2.0]}},
    {"a": {"b": [1.0, 2]}},
    {},
]


@pytest.fixture
def collection(mongodb_uri: str) -> Iterator[Collection[dict[str, Any]]]:
    """An empty collection with a unique index over pairs and keys."""
    name = f"identity_{uuid4().hex[:12]}"
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        collection = client[name].get_collection("keys", codec_options=CODEC_OPTIONS)
        collection.create_index({"pair": 1, "key": 1}, unique=True)
        yield collection
        drop_database(client, name)


def test_identities_are_the_servers(collection: Collection[dict[str, Any]]) -> None:
    """Two keys have one identity exactly where the server takes the second for a duplicate."""
    pairs = list(product(KEYS, repeat=2))
    collection.insert_many([{"pair": n, "key": one} for n, (one, _) in enumerate(pairs)])
    with pytest.raises(BulkWriteError) as raised:
        collection.insert_many([{"pair": n, "key": other} for n, (_, other) in enumerate(pairs)], ordered=False)
    duplicates = {error["index"] for error in raised.value.details["writeErrors"] if error["code"] == 11000}
    for n, (one, other) in enumerate(pairs):
        mine, yours = identity(one), identity(other)
        assert (n in duplicates) == (mine == yours), (one, other)
        assert mine != yours or hash(mine) == hash(yours)


def test_many_at_once() -> None:
    """`identities` gives the same as `identity` for each."""
    assert [identity(key) for key in KEYS] == identities(KEYS)
    plain = [1, "a", UUID(int=3)]
    assert plain == identities(plain)
    keys = [ObjectId(), ObjectId()]
    assert [identity(key) for key in keys] == identities(keys)


@pytest.mark.parametrize("key", [object(), {1: 2}, {"a": object()}, {"a": 2**70}])
def test_what_is_no_key(key: Any) -> None:
    """It is an error of superorm's own."""
    with pytest.raises(ValidationError, match="cannot be a key"):
        identity(key)
