"""Keys as strings, against what a real server holds equal, and its order."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pymongo
import pytest
from bson import Binary, CodecOptions, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Timestamp
from bson.binary import UuidRepresentation
from hypothesis import given
from hypothesis import strategies as st

from superorm.codec.keys import decode_key, encode_key, held_key, held_keys, key_of_held, sort_key
from tests.databases import drop_database

ONE = UUID(int=1)
VALUES: list[Any] = [
    None, 1, 1.0, Int64(1), Decimal128("1.00"), True, False, 0, -0.0, "1", "", "ä\0'b", b"", b"1", Binary(b"1", 5),
    2.5, Decimal128("2.5"), 0.1, Decimal128("0.1"), 1e300, Decimal128("1E+300"), Decimal128("1E+6000"), 1 << 53,
    float((1 << 53) + 2), (1 << 53) + 1, -(1 << 63), float("inf"), float("-inf"), float("nan"), Decimal128("NaN"),
    Decimal128("1234567890123456789012345678901234"), Decimal128("0.12345678901234567890123456789012"),
    ObjectId(b"a" * 12), ObjectId(b"b" * 12), ONE, Binary(ONE.bytes, 4), datetime(2020, 1, 1, tzinfo=UTC),
    datetime(1960, 1, 1, tzinfo=UTC), Timestamp(1, 2), MinKey(), MaxKey(),
    {"a": 1}, {"a": 1.0}, {"a": True}, {"b": 1}, {"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": [1.0, {"c": Int64(2)}]},
    {"a": [1, {"c": 2}]}, {"a": "x"}, {}, DBRef("c", 1),
]  # fmt: skip


@pytest.fixture
def collection(mongodb_uri: str) -> Any:
    """An empty collection."""
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        name = f"keys_{uuid4().hex[:12]}"
        options: CodecOptions[dict[str, Any]] = CodecOptions(
            uuid_representation=UuidRepresentation.STANDARD, tz_aware=True
        )
        yield client[name].get_collection("c", codec_options=options)
        drop_database(client, name)


def test_equal_as_on_the_server(collection: Any) -> None:
    """Two values have one string exactly where the server takes them for the same _id; the strings lead back."""
    groups: dict[str, list[int]] = {}
    for position, value in enumerate(VALUES):
        groups.setdefault(encode_key(value), []).append(position)
    for group in groups.values():
        collection.insert_one({"_id": VALUES[group[0]], "group": group})
        for position in group[1:]:
            with pytest.raises(pymongo.errors.DuplicateKeyError):
                collection.insert_one({"_id": VALUES[position]})
    for key, group in groups.items():
        assert key == encode_key(decode_key(key))
        assert set(key) <= set("0123456789abcdef")
        assert [group] == [document["group"] for document in collection.find({"_id": decode_key(key)})]


def test_order_of_the_server(collection: Any) -> None:
    """Values sort as the server sorts them."""
    collection.insert_many([{"n": value} for value in VALUES])
    expected = [encode_key(document["n"]) for document in collection.find().sort([("n", 1), ("_id", 1)])]
    assert expected == [encode_key(value) for value in sorted(VALUES, key=sort_key)]


@given(st.one_of(st.integers(-(1 << 63), (1 << 63) - 1), st.floats(), st.text(), st.binary(), st.booleans()))
def test_round_trip(value: Any) -> None:
    """A key leads back to a value of the same key, and never to another one's."""
    key = encode_key(value)
    back = decode_key(key)
    assert key == encode_key(back)
    assert back == value or (value != value and back != back)
    assert (type(value) is bool) == (type(back) is bool)


def test_keys_as_they_are_held() -> None:
    """Held keys are equal exactly where their strings are, lead back to them, and are the same one by one or many."""
    keys = [encode_key(value) for value in VALUES]
    held = [held_key(key) for key in keys]
    assert keys == [key_of_held(one) for one in held]
    assert len(set(keys)) == len(set(held))
    ids = [ObjectId(b"a" * 12), ObjectId(b"b" * 12)]
    for values in (VALUES, [1, -5, 1 << 53], [Int64(1), 2, -(1 << 63)], ids, [*ids, 1], [True, 1], [1.0, 2], []):
        assert [held_key(encode_key(value)) for value in values] == list(held_keys(values))
