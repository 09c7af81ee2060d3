"""What a table can say of a filter: no row of a matching document is lost, as the server itself matches."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pymongo
import pytest
from attrs import frozen
from bson import Code, DatetimeMS, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from superorm.codec.keys import encode_key
from superorm.schema.vector_spec import FilterField, VectorSpec
from superorm.unitofwork.encode import CODEC_OPTIONS
from superorm.vectors.lance_directory import LanceDirectory
from superorm.vectors.mirror import mirrored, projection, table_rows
from superorm.vectors.push_down import PushDown, push_down
from superorm.vectors.rows import Rows
from tests.vectors.brute import DIM, stored

FIELDS = (
    FilterField("i", "int"),
    FilterField("f", "float"),
    FilterField("s", "str"),
    FilterField("b", "bool"),
    FilterField("d", "datetime"),
    FilterField("o", "ObjectId"),
    FilterField("c.i", "int"),
    FilterField("c.p.s", "str"),
)
SPEC = VectorSpec("pushed_rows", "v", DIM, filter_fields=FIELDS)
NUMBERED = {field.path: (number, field) for number, field in enumerate(FIELDS)}
UTC = dt.UTC
IDS = [ObjectId("0" * 24), ObjectId("f" * 24), ObjectId("7f" * 12), ObjectId("80" * 12)]
DAY = dt.datetime(2024, 2, 29, 12, tzinfo=UTC)
NUMBERS: list[Any] = [0, 1, -1, 5, 2**31, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), -(2**63) + 1, Int64(5), Int64(0)]
REALS: list[Any] = [0.0, -0.0, 5.0, 2.5, -2.5, 0.1, 5e-324, 1.7e308, 2.0**53, 2.0**63, math.inf, -math.inf, math.nan]
DECIMALS: list[Any] = [Decimal128("5"), Decimal128("2.5"), Decimal128("NaN"), Decimal128("0.1")]
TEXTS: list[Any] = [
    "",
    "a",
    "A",
    "b",
    "é",
    "z",
    "\uffff",
    "\U0001f600",
    "a'b",
    'a"b',
    "\\",
    "a\x00b",
    "\x00",
    "%",
    "5",
    "NULL",
]
DATES: list[Any] = [
    DAY,
    DAY.replace(microsecond=999),
    DAY.replace(microsecond=1000),
    DAY.astimezone(dt.timezone(dt.timedelta(hours=5))),
    dt.datetime(1, 1, 1, tzinfo=UTC),
    dt.datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    dt.datetime(9999, 12, 31, tzinfo=UTC),
    DatetimeMS(2**62),
    DatetimeMS(-(2**62)),
    DatetimeMS(-(2**63)),
]
OTHERS: list[Any] = [Timestamp(5, 1), MinKey(), MaxKey(), Code("a"), b"a", Regex("a"), {"i": 5}, {}, {"$a": 1}]
SCALARS: list[Any] = [None, True, False, *NUMBERS, *REALS, *DECIMALS, *TEXTS, *DATES, *IDS, *OTHERS[:5]]
ARRAYS: list[Any] = [[], [5], [None], [5, "a"], [[5]], ["a", 2.5, None], [True], [DAY]]
NATURAL: dict[str, list[Any]] = {
    "int": NUMBERS,
    "float": [*REALS, *NUMBERS],
    "str": TEXTS,
    "bool": [True, False],
    "datetime": DATES,
    "ObjectId": IDS,
}


def documents() -> list[dict[str, Any]]:
    """Documents with every value in every field, missing ones too, and others in the way of the nested fields."""
    rng = np.random.default_rng(3)
    found: list[dict[str, Any]] = []
    for value in [*SCALARS, *ARRAYS, *OTHERS]:
        found += [{"i": value, "f": value, "s": value, "b": value, "d": value, "o": value, "c": {"i": value}}]
        found += [{"c": value}, {"c": [{"i": value}, {"p": {"s": value}}]}, {"c": {"p": [{"s": value}]}}]
        found += [{"c": {"p": {"s": value}}}, {"c": {"p": value}}, {"c": {"i": [value]}}]
    for _ in range(150):
        one = {field.path: rng.choice(len(NATURAL[field.kind])) for field in FIELDS}
        named = {path: NATURAL[NUMBERED[path][1].kind][place] for path, place in one.items() if rng.random() < 0.8}
        nested = {"i": named.pop("c.i", None), "p": {"s": named.pop("c.p.s", None)}}
        found.append({**named, "c": nested})
    return [{"_id": i, "v": stored(rng.standard_normal(DIM)), **document} for i, document in enumerate(found)]


@frozen
class Both:
    """The same documents in a collection, in a table, and in memory."""

    collection: Any
    directory: LanceDirectory
    ver: int
    rows: Rows
    odd: dict[str, set[int]]
    """Of each path, the documents of which the table does not know the value."""

    def passing(self, pushed: PushDown) -> set[int]:
        """By the table, and alike in memory."""
        assert pushed.where is not None
        keys = self.directory.keys("t", self.ver, pushed.where, 10_000)
        in_memory = self.rows.nearest(np.ones(DIM, np.float32), len(self.rows), condition=pushed.condition)
        assert set(keys) == set(in_memory.keys), pushed
        return {KEYS[key] for key in keys}

    def matching(self, filter: dict[str, Any]) -> set[int]:
        return {document["_id"] for document in self.collection.find(filter, {"_id": 1})}


KEYS = {encode_key(document["_id"]): document["_id"] for document in documents()}


@pytest.fixture(scope="module")
def both(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """Written by plain PyMongo, and mirrored as they are read."""
    client: Any = pymongo.MongoClient(mongodb_uri)
    name = f"pushed_{uuid4().hex[:12]}"
    collection = client[name].get_collection("pushed_rows", codec_options=CODEC_OPTIONS)
    collection.insert_many(documents())
    read = list(collection.find({}, projection(SPEC, FIELDS)))
    rows = table_rows(SPEC, read, FIELDS)
    directory = LanceDirectory(Path(tmp_path_factory.mktemp("lance")))
    directory.open()
    directory.create("t", DIM, FIELDS)
    directory.append("t", rows.keys, rows.rows, rows.columns)
    in_memory = Rows(DIM, SPEC.metric, 0, FIELDS)
    for start in (0, 50, 1):  # some of them twice, with room made in between
        part = table_rows(SPEC, read[start : None if start else 60], FIELDS)
        in_memory.replace((), part)
    ver = directory.write("t", None, [], [], rows.rows[:0], {})
    odd = {
        field.path: {KEYS[key] for key, marked in zip(rows.keys, rows.columns[f"odd{n}"], strict=True) if marked}
        for n, field in enumerate(FIELDS)
    }
    yield Both(collection, directory, ver, in_memory, odd)
    client.drop_database(name)
    client.close()


COMPARISONS = ["$eq", "$ne", "$lt", "$lte", "$gt", "$gte"]
PATHS = list(NUMBERED)
NATURAL_AT = {path: NATURAL[field.kind] for path, (_, field) in NUMBERED.items()}


def values_at(path: str) -> st.SearchStrategy[Any]:
    """Values that a field is compared with, mostly of its own kind."""
    natural = st.sampled_from([*NATURAL_AT[path], None])
    return natural | natural | st.sampled_from([*SCALARS, *ARRAYS, *OTHERS])


def conditions_on(path: str) -> st.SearchStrategy[Any]:
    """What may be said of a field."""
    value, several = values_at(path), st.lists(values_at(path), min_size=1, max_size=4)
    compared = st.dictionaries(st.sampled_from(COMPARISONS), value, min_size=1, max_size=2)
    among = st.dictionaries(st.sampled_from(["$in", "$nin"]), several, min_size=1, max_size=1)
    rest = st.sampled_from([{"$exists": True}, {"$regex": "a"}, {"$not": {"$gt": 1}}, {"$type": "int"}, {"$size": 1}])
    return (value | compared | compared | among | among | rest).map(lambda condition: {path: condition})


atoms = st.sampled_from([*PATHS, "_id", "c", "c.p", "c.0.i"]).flatmap(
    lambda path: conditions_on(path) if path in NUMBERED else st.just({path: {"$ne": 3}})
)
filters = st.recursive(
    atoms
    | st.lists(atoms, min_size=2, max_size=3).map(lambda parts: {k: v for part in parts for k, v in part.items()}),
    lambda parts: st.builds(
        lambda operator, items: {operator: items},
        st.sampled_from(["$and", "$or", "$and", "$or", "$nor"]),
        st.lists(parts, min_size=1, max_size=3),
    ),
    max_leaves=8,
)


def check(both: Both, filter: dict[str, Any]) -> str | None:
    """Whatever matches passes; where all of the filter is said, what else passes is marked. Why it is not said."""
    pushed = push_down(filter, NUMBERED)
    if pushed.where is None:
        assert pushed.left
        return pushed.left
    matching, passing = both.matching(filter), both.passing(pushed)
    assert matching <= passing, (filter, pushed, matching - passing)
    if pushed.left is None:
        marked = {key for path in PATHS if path in str(filter) for key in both.odd[path]}
        assert passing - matching <= marked, (filter, pushed, passing - matching - marked)
    return pushed.left


@given(filter=filters)
@settings(max_examples=200, deadline=None)
def test_no_match_is_lost(both: Both, filter: dict[str, Any]) -> None:
    """Of any filter that the server takes."""
    try:
        both.matching(filter)
    except pymongo.errors.OperationFailure:
        return
    check(both, filter)


@pytest.mark.parametrize("path", PATHS)
def test_every_comparison(both: Both, path: str) -> None:
    """With each value of the field's own kind, and with null: said, and meant, as the server does."""
    said = 0
    for value in [*NATURAL_AT[path], None]:
        for operator in COMPARISONS:
            said += check(both, {path: {operator: value}}) is None
        for listed in ([value], [value, None], [value, NATURAL_AT[path][0]]):
            said += check(both, {path: {"$in": listed}}) is None
            said += check(both, {path: {"$nin": listed}}) is None
        said += check(both, {path: value}) is None
    orders = 0 if NUMBERED[path][1].kind == "bool" else 4
    beyond = [value for value in NATURAL_AT[path] if isinstance(value, float) and not math.isfinite(value)]
    beyond += [
        v for v in NATURAL_AT[path] if type(v) in (int, Int64) and abs(v) > (2**53 if path == "f" else 2**63 - 1)
    ]
    beyond += [v for v in NATURAL_AT[path] if isinstance(v, DatetimeMS) and int(v) == -(2**63)]
    assert said == (9 + orders) * (len(NATURAL_AT[path]) - len(beyond)) + 9


def test_what_is_marked(both: Both) -> None:
    """Exactly what is not of the field's type, or no number that the column can hold; documents with it still match."""
    odd = {
        "int": [True, 2.5, 2**64, math.nan, math.inf, -(2**63), Decimal128("5"), "5", [5], [], {}, DAY, b"a"],
        "float": [True, 2**53 + 1, math.nan, Decimal128("2.5"), "2.5", [2.5], Timestamp(5, 1)],
        "str": [5, True, b"a", Code("a"), ["a"], IDS[0], Regex("a")],
        "bool": [0, 1, 1.0, "true", [True]],
        "datetime": [5, "2024", [DAY], Timestamp(5, 1), IDS[0]],
        "ObjectId": ["0" * 24, b"0" * 12, [IDS[0]], 5],
    }
    held = {
        "int": [(5, 5), (Int64(5), 5), (5.0, 5), (-0.0, 0), (2**63 - 1, 2**63 - 1), (None, None)],
        "float": [(5, 5.0), (2.5, 2.5), (math.inf, math.inf), (2**53, 2.0**53), (None, None)],
        "str": [("", ""), ("é", "é"), (None, None)],
        "bool": [(True, True), (False, False), (None, None)],
        "datetime": [(DAY, 1709208000000), (DAY.replace(microsecond=1999), 1709208000001), (DatetimeMS(-5), -5)],
        "ObjectId": [(IDS[1], "f" * 24), (None, None)],
    }
    for kind, values in odd.items():
        field = FilterField("x", kind)  # type: ignore[arg-type]
        columns = mirrored([{"x": value} for value in values], [field])
        assert ([None] * len(values), [True] * len(values)) == (columns["f0"], columns["odd0"]), kind
        columns = mirrored([{}, *({"x": value} for value, _ in held[kind])], [field])
        assert [None, *(value for _, value in held[kind])] == columns["f0"]
        assert [type(value) for _, value in held[kind]] == [type(value) for value in columns["f0"][1:]]
        assert not any(columns["odd0"])
    (zero,) = mirrored([{"x": -0.0}], [FilterField("x", "float")])["f0"]
    assert math.copysign(1, zero) == 1
    nested = mirrored([{"c": 5}, {"c": [{"i": 1}]}, {"c": None}, {"c": {"i": 1}}, {}], [FilterField("c.i", "int")])
    assert ([None, None, None, 1, None], [False, True, False, False, False]) == (nested["f0"], nested["odd0"])


@pytest.mark.parametrize(
    ("filter", "reason"),
    [
        ({"i": {"$exists": True}}, "$exists of 'i'"),
        ({"i": {"$gt": "5"}}, "$gt of 'i' with str"),
        ({"b": {"$gt": False}}, "$gt of 'b'"),
        ({"z": 5}, "'z' is not mirrored"),
        ({"c": {"i": 5}}, "'c' is not mirrored"),
        ({"i": {"x": 5}}, "'i' is compared with a document"),
        ({"$expr": {"$gt": ["$i", 5]}}, "$expr"),
        ({"$nor": [{"i": 5}]}, "$nor"),
        ({"$or": [{"i": 5}, {"z": 5}]}, "'z' is not mirrored"),
        ({"i": {"$in": list(range(1_001))}}, "$in of 'i'"),
        ({"$or": [{"i": n} for n in range(65)]}, "more than 64 conditions"),
        ({}, "no filter"),
        (None, "no filter"),
    ],
)
def test_what_is_not_said(filter: dict[str, Any] | None, reason: str) -> None:
    """And why."""
    pushed = push_down(filter, NUMBERED)
    assert pushed.where is None
    assert pushed.left is not None
    assert reason in pushed.left


def test_a_part_of_a_filter(both: Both) -> None:
    """What can be said of a conjunction is said; of an alternative only where each part says something."""
    parts: list[dict[str, Any]] = [
        {"i": 5, "s": {"$regex": "a"}},
        {"$and": [{"z": 1}, {"i": {"$lt": 5}}]},
        {"$or": [{"i": 5, "z": None}, {"s": "a"}]},
        {"i": {"$gt": 0, "$exists": True}},
    ]
    for part in parts:
        pushed = push_down(part, NUMBERED)
        assert pushed.where
        assert check(both, part) == pushed.left is not None
        assert len(both.passing(pushed)) < len(KEYS)


def test_deep_and_long_conditions(both: Both) -> None:
    """Engines refuse them, or worse; those that are said are taken."""
    deep: dict[str, Any] = {"i": 5}
    for n in range(8):
        deep = {"$or": [{"$and": [deep, {"f": {"$gt": n}}]}, {"i": n}]}
    assert check(both, deep) is None
    assert "deep" in str(check(both, {"$or": [deep]}))
    assert check(both, {"$or": [{"i": n} for n in range(64)]}) is None
    assert check(both, {"$and": [{"i": {"$ne": n}} for n in range(64)]}) is None
    assert check(both, {"i": {"$in": list(range(1_000))}}) is None
    assert check(both, {"s": "x" * 100_000}) is None
