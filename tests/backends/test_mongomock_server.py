"""Statements whose answers on mongomock once differed from the server's, on both."""

from __future__ import annotations

import cProfile
import math
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import mongomock
import pymongo
import pytest
from bson import Binary, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp

from superorm.backends._sync.mongodb import MongoDatabackend
from superorm.backends._sync.mongomock import MongomockDatabackend
from superorm.backends.mongomock_pipeline import aggregated
from superorm.compile.plan import Aggregate, Count, Find, Read
from superorm.exc import DuplicateKeyError, SuperormError, UnsupportedError
from superorm.protocols._sync.parts import DataBackend
from superorm.unitofwork.writes import Delete, Insert, Update, UpdateOp
from tests.databases import drop_database

D = Decimal128
DOCUMENTS: list[dict[str, Any]] = [
    {"_id": 1, "v": 1, "l": [1, 2], "to": None},
    {"_id": 2, "v": D("0.3333333333333333333333333333333333"), "l": [], "to": 1},
    {"_id": 3, "v": math.nan, "l": [{"a": 1}]},
    {"_id": 4, "v": "a", "to": 2},
    {"_id": 5, "v": Regex("a"), "l": [Regex("a")]},
    {"_id": 6},
    {"_id": 7, "v": b"abcd", "l": [Binary(b"", 2), b"a", Binary(b"ab", 2), b"abcdefg"]},
]
FLAGS: list[Any] = [D("0"), "", [], {}, 0, None]
BY_ID = (("_id", 1),)


@pytest.fixture(scope="module")
def backends(mongodb_uri: str) -> Iterator[list[DataBackend]]:
    """Both, with the same documents."""
    name = f"test_{uuid4().hex[:12]}"
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        found: list[DataBackend] = [MongoDatabackend(client, name), MongomockDatabackend(mongomock.MongoClient(), name)]
        for backend in found:
            backend.write(Insert("c", DOCUMENTS))
        yield found
        drop_database(client, name)


def outcomes(backends: list[DataBackend], plan: Read) -> list[Any]:
    """The answers, or the classes of the errors."""
    found: list[Any] = []
    for backend in backends:
        try:
            found.append(repr(backend.read(plan)))
        except SuperormError as error:
            found.append(type(error))
    return found


@pytest.mark.parametrize(
    "expression",
    [
        {"$abs": D("0.3333333333333333333333333333333333")},
        {"$abs": D("-1.00")},
        {"$ceil": D("Infinity")},
        {"$ceil": D("-0.5")},
        {"$floor": D("9.99E6144")},
        {"$floor": D("2.5")},
        {"$multiply": [-1, D("0")]},
        {"$divide": [D("0"), -1]},
        {"$mod": [7, 2.0]},
        {"$mod": [-7, 2.5]},
        {"$mod": [0, -(2**63)]},
        {"$pow": [-1, -3]},
        {"$pow": [1, math.nan]},
        {"$pow": [0, -math.inf]},
        {"$pow": [-math.inf, 0.5]},
        {"$log": [0, math.nan]},
        {"$trunc": [True, None]},
        {"$slice": [True, None]},
        {"$slice": [True, 1, None]},
        {"$slice": [[1], D("NaN")]},
        {"$arrayElemAt": [[1], D("NaN")]},
        {"$arrayElemAt": [[1]]},
        *({"$indexOfArray": [[1, "a", None, D("2"), [1], {"a": 1}, 1], value]} for value in (1.0, "$v", None, 2, [1])),
        *({"$indexOfArray": [[{"a": 1}, {"a": 1.0}], {"$literal": value}]} for value in ({"a": 1.0}, {"b": 1}, "a")),
        *({"$indexOfArray": [[1, 2, 1, 2], 2, *places]} for places in ((2,), (2.0, 3), (1, 9), (3, 1), (9,), (0, 0))),
        *({"$indexOfArray": [[1, 2], 2, *places]} for places in ((-1,), (0, -1), (1.5,), ("1",), (None,))),
        *({"$indexOfArray": [items, 1]} for items in (None, "$no", "$l", "$v", 1)),
        {"$eq": [1]},
        {"$ifNull": [1]},
        {"$size": [[1], [2]]},
        {"$hour": {"date": 1, "timezone": None}},
        *({"$hour": {"date": "$$NOW", "timezone": zone}} for zone in ("utc", "asia/tokyo")),
        *(
            {"$dayOfYear": {"date": {"$literal": ObjectId("65e0f5000000000000000000")}, "timezone": zone}}
            for zone in ("+24:00", "-99:99", "Asia/Tokyo")
        ),
    ],
    ids=repr,
)
def test_expressions(backends: list[DataBackend], expression: dict[str, Any]) -> None:
    """Digits, signs, types and errors of operators."""
    fields = {"_id": 0, "value": expression}
    expected, found = outcomes(backends, Aggregate("c", [{"$limit": 1}, {"$project": fields}]))
    assert expected == found or found is UnsupportedError


@pytest.mark.parametrize("places", [(), (1,), (0, 2)], ids=repr)
def test_places_in_constant_lists(backends: list[DataBackend], places: tuple[int, ...]) -> None:
    """Where each document's value stands first in a list that is the same for all; -1 where it does not."""
    constant = {"$literal": [math.nan, 2, True, "a", 1.0, D("1"), {"v": 1}, math.nan, None, "$v"]}
    fields = {"at": {"$indexOfArray": [constant, "$v", *places]}, "kept": {"list": constant}}
    expected, found = outcomes(backends, Aggregate("c", [{"$set": fields}, {"$sort": {"_id": 1}}]))
    assert expected == found


def test_places_in_long_constant_lists() -> None:
    """Four times as many documents, and places in the list, take about four times as many calls, and not sixteen."""
    calls = []
    for size in (100, 400):
        keys = [{"a": n, "b": "x"} for n in range(size)]
        stages = [{"$set": {"at": {"$indexOfArray": [{"$literal": keys}, "$_id"]}}}]
        with cProfile.Profile() as profile:
            found = aggregated([{"_id": key} for key in reversed(keys)], None, stages)
        assert list(reversed(range(size))) == [one["at"] for one in found]
        calls.append(sum(entry.callcount for entry in profile.getstats()))
    assert 5 * calls[0] > calls[1]


@pytest.mark.parametrize(
    "condition",
    [
        *({op: bound} for op in ("$gt", "$gte", "$lt", "$lte") for bound in (MinKey(), MaxKey(), Regex("a"))),
        *({op: Regex("a")} for op in ("$eq", "$ne", "$regex", "$not")),
        *({op: [Regex("a"), 1]} for op in ("$in", "$nin", "$all")),
        {"$all": [Regex("a")]},
        {"$elemMatch": {"$all": [Regex("a")]}},
        *({"$exists": flag} for flag in FLAGS),
        {"$regex": "A", "$options": "i"},
        *({"$size": size} for size in (D("2"), 2.0, -1, True, None, "2")),
        *({"$not": wanted} for wanted in (1, {}, {"a": 1})),
        {"$elemMatch": 1},
        {"$type": D("1")},
        *({"$gt": binary} for binary in (b"ab", Binary(b"a", 2), Binary(b"abcdef", 2))),
    ],
    ids=repr,
)
@pytest.mark.parametrize("path", ["v", "l"])
def test_conditions(backends: list[DataBackend], path: str, condition: Any) -> None:
    """The ends of all values, regular expressions that are stored, and arguments of the wrong type."""
    expected, found = outcomes(backends, Find("c", {path: condition}, {"_id": 1}, BY_ID))
    assert expected == found or found is UnsupportedError


def test_empty_timestamps(backends: list[DataBackend]) -> None:
    """One in a condition is the least of all, and not the present time, which it is in a document."""
    for least, number in ((Timestamp(0, 0), 0), (Timestamp(1, 1), 7)):
        condition = {"$expr": {"$lt": [Timestamp(1, 0), least]}}
        for backend in backends:
            assert number == len(backend.read(Find("c", condition)))
            assert [{"n": min(number, 5)}] == backend.read(Count("c", condition, limit=5))


@pytest.mark.parametrize(
    "stage",
    [
        *({"$limit": number} for number in (0, -1, 2.0, 1.5, True, "1")),
        *({"$skip": number} for number in (0, -1, 2.0, 1.5)),
        *({"$sort": {"_id": direction}} for direction in (2, True, -1.0)),
        {"$project": {"v": D("1")}},
        {"$project": {"v": D("0")}},
        {"$group": {"n": {"$sum": 1}}},
        {"$group": {"_id": None, "n": {"$sum": ["$_id"]}}},
        {"$bucket": {"groupBy": "$_id", "boundaries": [0, {"$add": [1, 2]}], "default": {"$literal": "x"}}},
        {"$match": {}, "$limit": 1},
        {},
        *(
            {
                "$graphLookup": {
                    "from": "c",
                    "startWith": start,
                    "connectFromField": "_id",
                    "connectToField": "to",
                    "as": "x",
                }
            }
            for start in (None, "$to", [None, 2])
        ),
        {"$lookup": {"from": "c", "localField": "v", "foreignField": "v", "as": "x"}},
    ],
    ids=repr,
)
def test_stages(backends: list[DataBackend], stage: dict[str, Any]) -> None:
    """Arguments of stages, and walks that begin at null."""
    tail: list[dict[str, Any]] = [{"$unwind": "$x"}, {"$sort": {"_id": 1, "x._id": 1}}]
    stages = [{"$sort": {"_id": 1}}, stage, *(tail if "Lookup" in str(stage) or "$lookup" in stage else ())]
    if "$bucket" in stage:
        stages.append({"$sort": {"_id": 1}})
    expected, found = outcomes(backends, Aggregate("c", stages))
    assert expected == found or found is UnsupportedError


def test_nothing_is_written_by_a_read(backends: list[DataBackend]) -> None:
    """mongomock's own ``$out`` would answer with the documents."""
    with pytest.raises(UnsupportedError, match=r"\$out"):
        backends[1].read(Aggregate("c", [{"$out": "d"}]))


@pytest.mark.parametrize("path", ["l.1.a", "l.5.a", "l.x.a", "l.0.a.b"])
@pytest.mark.parametrize("op", ["$inc", "$set", "$min"])
def test_updates_into_lists(backends: list[DataBackend], op: str, path: str) -> None:
    """A value below one that is no document is refused, not left out."""
    found: list[Any] = []
    for backend in backends:
        backend.write(Delete("u", [{}]))
        backend.write(Insert("u", [{"_id": 1, "l": [1, 2]}]))
        try:
            backend.write(Update("u", [UpdateOp(q={"_id": 1}, u={op: {path: 3}})]))
            found.append(backend.read(Find("u")))
        except SuperormError as error:
            found.append(type(error))
    assert found[0] == found[1] or found[1] is UnsupportedError


def test_keys_that_python_finds_equal(backends: list[DataBackend]) -> None:
    """1 and 1.0 are one ``_id``; true and 1 are two, also in documents, whose fields have an order."""
    keys: list[Any] = [1, True, 0, False, {"a": 1, "b": 1}, {"b": 1, "a": 1}, {"a": True, "b": 1}]
    for backend in backends:
        backend.write(Insert("k", [{"_id": key, "n": n} for n, key in enumerate(keys)]))
        for key in (1.0, D("1"), True, {"a": 1.0, "b": 1}):
            with pytest.raises(DuplicateKeyError):
                backend.write(Insert("k", [{"_id": key}]))
        assert [[n] for n in range(len(keys))] == [
            [document["n"] for document in backend.read(Find("k", {"_id": {"$eq": key}}))] for key in keys
        ]
        assert [0, 1] == sorted(d["n"] for d in backend.read(Find("k", {"_id": {"$in": [1, True, 1.0]}})))
        backend.write(Update("k", [UpdateOp(q={"_id": True}, u={"$set": {"n": 10}})]))
        assert 1 == backend.write(Delete("k", [{"_id": 1}])).matched
        assert [10] == [document["n"] for document in backend.read(Find("k", {"_id": True}))]


def test_sets_of_new_documents(backends: list[DataBackend]) -> None:
    """What an upsert adds twice to a set is in it once, numbers of any type."""
    update = {"$addToSet": {"l": {"$each": [2, 1, 1, 1.0, True, D("2")]}}}
    for backend in backends:
        backend.write(Update("s", [UpdateOp(q={"_id": 1}, u=update, upsert=True)]))
    assert backends[0].read(Find("s")) == backends[1].read(Find("s"))
    assert 3 == len(backends[1].read(Find("s"))[0]["l"])
