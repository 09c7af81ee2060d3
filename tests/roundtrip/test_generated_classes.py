"""Classes and values made at random, to a real server and back, as plain PyMongo sees them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from itertools import count
from math import copysign
from typing import Any
from uuid import uuid4

import bson
import pymongo
import pytest
from bson.raw_bson import RawBSONDocument
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.database import Database

from superorm.codec.documents import dump, load
from superorm.schema.mapping import class_map
from superorm.unitofwork.encode import CODEC_OPTIONS
from tests.databases import drop_database
from tests.roundtrip.kinds import Made, Unordered, document_classes
from tests.schema.helpers import change_of, exact

numbers = count()
quick = settings(
    max_examples=50,
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)


@pytest.fixture(scope="module")
def database(mongodb_uri: str) -> Iterator[Database[dict[str, Any]]]:
    """An empty database, read and written with plain PyMongo."""
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        name = f"roundtrip_{uuid4().hex[:12]}"
        yield client.get_database(name, codec_options=CODEC_OPTIONS)
        drop_database(client, name)


def draw_documents(data: st.DataObject, made: Made) -> list[Any]:
    """Some objects with different keys."""
    key = next(name for name, stored in made.stored.items() if stored == "_id")
    return data.draw(  # type: ignore[no-any-return]
        st.lists(
            made.values,
            min_size=1,
            max_size=4,
            unique_by=lambda instance: bson.encode({"": made.kinds[key].bson(getattr(instance, key))}),
        )
    )


def encoded(document: Any) -> bytes:
    """The bytes of a document, its ``_id`` first, as the server keeps it."""
    return bson.encode({"_id": document["_id"], **document}, codec_options=CODEC_OPTIONS)


def countable(value: Any) -> Any:
    """A hashable stand-in, the same for values that are alike; for scalars."""
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else encoded({"_id": value})


def alike(one: Any, other: Any) -> bool:
    """Whether BSON values are the same, but for the order of keys and sets, and for the types of equal numbers."""
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(alike(one[k], other[k]) for k in one)
    if isinstance(one, Unordered):
        return isinstance(other, list) and Counter(map(countable, one)) == Counter(map(countable, other))
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, (int, float)) and not isinstance(one, bool):
        zeros = copysign(1, one) == copysign(1, other) if one == other == 0 else True
        return not isinstance(other, bool) and ((one == other and zeros) or (one != one and other != other))
    return encoded({"_id": one}) == encoded({"_id": other})


@quick
@given(made=document_classes(), data=st.data())
def test_there_and_back(database: Database[dict[str, Any]], made: Made, data: st.DataObject) -> None:
    """What is stored is what the reference encoder says; read, it equals what was written, and is no change.

    The update that a flush would send turns the stored document into the changed object's.
    """
    mapping = class_map(made.cls)
    instances = draw_documents(data, made)
    collection = database[f"c{next(numbers)}"]
    collection.insert_many([dump(mapping, instance) for instance in instances])
    raw = collection.with_options(codec_options=bson.CodecOptions(document_class=RawBSONDocument))
    found = [document.raw for document in raw.find().sort("$natural", 1)]
    assert [encoded(made.bson(instance)) for instance in instances] == found

    collection.update_many({}, {"$set": {"unmapped": {"a": [1]}}})
    loaded = load(mapping, list(collection.find().sort("$natural", 1)))
    for before, after in zip(instances, loaded, strict=True):
        for name in made.kinds:
            assert exact(getattr(before, name), getattr(after, name)), name
        assert change_of(mapping, after) is None

    updates: list[Any] = []
    for instance in loaded:
        for _ in range(data.draw(st.integers(1, 3))):
            made.change(data.draw, instance)
        change = change_of(mapping, instance)
        if change is not None:
            updates.append(pymongo.UpdateOne({"_id": change.snapshot["_id"]}, change.update))
    if updates:
        collection.bulk_write(updates)
    stored = list(collection.find().sort("$natural", 1))
    again = load(mapping, deepcopy(stored))
    for changed, read, document in zip(loaded, again, stored, strict=True):
        assert {"a": [1]} == document.pop("unmapped")
        assert alike(made.bson(changed), document)
        for name, kind in made.kinds.items():
            assert alike(kind.bson(getattr(changed, name)), kind.bson(getattr(read, name))), name
        assert change_of(mapping, read) is None
    database.drop_collection(collection.name)
