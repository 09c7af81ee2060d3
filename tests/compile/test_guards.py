"""Conditions in aggregation expressions against MongoDB's match language, on a real server."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pymongo
import pytest
from attrs import evolve
from bson import Binary, Code, DatetimeMS, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.codec_options import CodecOptions, DatetimeConversion
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.collection import Collection

from superorm import Document, Embedded, Mapped, Predicate, Registry, field
from superorm.compile.expressions import emit, emit_condition, projected
from superorm.compile.match import match
from superorm.compile.scope import DocumentScope
from superorm.expr.base import Compare, ElemMatch, Logical, Matches
from superorm.expr.functions import func
from superorm.expr.nodes import case
from tests.databases import drop_database

registry = Registry()


class Inner(Embedded):
    x: Mapped[Any] = field(default=None)
    ys: Mapped[list[Any]] = field(factory=list)


class Part(Embedded):
    x: Mapped[Any] = field(default=None)
    n: Mapped[int | None] = field(default=None)
    inner: Mapped[Inner | None] = field(default=None)
    inners: Mapped[list[Inner]] = field(factory=list)


class Thing(Document, registry=registry):
    n: Mapped[int | None] = field(default=None)
    m: Mapped[str | None] = field(default=None)
    a: Mapped[Any] = field(default=None)
    xs: Mapped[list[int]] = field(factory=list)
    part: Mapped[Part | None] = field(default=None)
    parts: Mapped[list[Part]] = field(factory=list)
    d: Mapped[dict[str, Any]] = field(factory=dict)


NAN = math.nan
DAY = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
SCALARS: list[Any] = [
    None,
    True,
    False,
    0,
    -0.0,
    5,
    5.0,
    Int64(7),
    -math.inf,
    math.inf,
    NAN,
    Decimal128("5"),
    Decimal128("NaN"),
    Decimal128("-Infinity"),
    "",
    "a",
    "b",
    "$a",
    "5",
    {},
    {"x": 5},
    {"x": None},
    {"$x": 1},
    b"",
    b"a",
    Binary(b"a", 9),
    UUID(int=5),
    ObjectId("0" * 24),
    ObjectId("1" * 24),
    DAY,
    DatetimeMS(-(2**63)),
    DatetimeMS(2**63 - 1),
    Timestamp(0, 1),
    Timestamp(5, 5),
    MinKey(),
    MaxKey(),
]
ARRAYS: list[Any] = [[], [None], [5], [5, "a"], [[5]], [[]], [[None], 5], [{"x": 5}], [NAN, 3], [MinKey()], [{}]]
UNDECLARED: list[Any] = [Regex("a"), Code("a")]
"""Values that are stored, but are no literals."""
STORED = SCALARS + ARRAYS + UNDECLARED


def _documents() -> Iterator[dict[str, Any]]:
    yield {}
    for v in SCALARS + UNDECLARED:  # an array in a field of a type that is none is out of scope
        yield {"n": v, "m": v, "a": v}
        yield {"n": 5, "m": v, "part": v}
        yield {"part": {"n": v, "inner": {"x": v}}, "parts": [{"n": v}]}
        yield {"part": {"n": 5, "inner": v, "x": v}, "parts": [{"n": v}, {"n": 5}, {}]}
    for v in STORED:
        yield {"a": v, "xs": v, "d": {"k": v}, "parts": v, "n": 5}
        yield {"a": [v], "xs": [v], "d": {"k": [v, 5]}, "parts": [v], "m": "a"}
        yield {"a": [v, "a"], "xs": [3, v], "d": v if not isinstance(v, list) else {}, "parts": {"x": v, "n": 5}}
        yield {"a": {"x": v}, "xs": [[v]], "parts": [{"x": v}, {"x": 5, "n": 7}]}
        yield {"parts": [{"x": [v], "inner": {"x": v, "ys": v}}, 5, {"n": 5, "inners": v}]}
        yield {"parts": [{"inners": [{"x": v, "ys": [v]}, {}]}, {"inners": {"x": 5, "ys": v}}], "xs": [v, [v]]}
        yield {"part": {"x": v, "inners": v, "inner": {"ys": v}}, "parts": [[{"x": v}]]}
        yield {"part": {"x": [v, 5], "inners": [{"x": v}, {"ys": [v, 3]}]}, "a": v, "m": "a"}


@pytest.fixture(scope="module")
def things(mongodb_uri: str) -> Iterator[Collection[Any]]:
    """A collection of documents with values of every type in every place."""
    with pymongo.MongoClient[Any](mongodb_uri, uuidRepresentation="standard") as client:
        name = f"guards_{uuid4().hex[:12]}"
        options = CodecOptions[Any](uuid_representation=4, datetime_conversion=DatetimeConversion.DATETIME_AUTO)
        collection = client.get_database(name, codec_options=options)["things"]
        collection.insert_many([{"_id": n, **document} for n, document in enumerate(_documents())])
        yield collection
        drop_database(client, name)


FIELDS: list[Any] = [
    Thing.n,
    Thing.m,
    Thing.a,
    Thing.xs,
    Thing.part,
    Thing.part.n,
    Thing.part.x,
    Thing.part.inner.x,
    Thing.part.inner.ys,
    Thing.part.inners.x,
    Thing.part.inners.ys,
    Thing.parts,
    Thing.parts.x,
    Thing.parts.n,
    Thing.parts.inner.x,
    Thing.parts.inner.ys,
    Thing.parts.inners.x,
    Thing.parts.inners.ys,
    Thing.d["k"],
]
PART_FIELDS: list[Any] = [Part.x, Part.n, Part.inner.x, Part.inner.ys, Part.inners.x]
LITERALS = SCALARS + ARRAYS
FLIPPED = {"$eq": "$eq", "$ne": "$ne", "$gt": "$lt", "$gte": "$lte", "$lt": "$gt", "$lte": "$gte"}


def _conditions(fields: list[Any]) -> st.SearchStrategy[Predicate[Any]]:
    field = st.sampled_from(fields)
    literal = st.sampled_from(LITERALS)
    some = st.lists(literal, max_size=3)
    return st.one_of(
        st.builds(Compare, field, st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]), literal),
        st.builds(Compare, field, st.sampled_from(["$in", "$nin", "$all"]), some),
        st.builds(Compare, field, st.just("$exists"), st.booleans()),
        st.builds(Compare, field, st.just("$elemMatch"), st.builds(lambda value: {"$eq": value}, literal)),
        st.builds(Matches, field, st.sampled_from(["^a", "b$", "", "^5"]), st.sampled_from(["", "i"])),
    )


def _joined(conditions: st.SearchStrategy[Predicate[Any]]) -> st.SearchStrategy[Predicate[Any]]:
    items = st.lists(conditions, min_size=1, max_size=3).map(tuple)
    return st.builds(Logical, st.sampled_from(["$and", "$or", "$nor"]), items)


def _mismatches(things: Collection[Any], condition: Predicate[Any]) -> list[Any]:
    """The documents on which the two forms of a condition differ."""
    scope = DocumentScope(Thing)
    plain, emitted = match([condition], scope), emit_condition(condition, scope)
    expected = {document["_id"] for document in things.find(plain, {"_id": 1})}
    found = {
        document["_id"] for document in things.aggregate([{"$match": {"$expr": emitted}}, {"$project": {"_id": 1}}])
    }
    assert "$expr" not in plain
    return list(things.find({"_id": {"$in": list(expected ^ found)}}))


SETTINGS = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@SETTINGS
@given(condition=st.one_of(_conditions(FIELDS), _joined(_conditions(FIELDS))))
def test_conditions_mean_the_same_in_expressions(things: Collection[Any], condition: Predicate[Any]) -> None:
    """A condition as `$expr` finds what it finds in the match language, whatever is stored."""
    assert [] == _mismatches(things, condition)


@pytest.mark.parametrize(
    ("op", "value"),
    [*((op, None) for op in FLIPPED), ("$in", [5, None]), ("$nin", [5, None]), ("$all", [None]), ("$in", [MinKey()])],
    ids=repr,
)
def test_null_in_every_place(things: Collection[Any], op: Any, value: Any) -> None:
    """Null and what is missing are found alike in each field, below documents and lists."""
    for path in FIELDS:
        assert [] == _mismatches(things, Compare(path, op, value)), path


@SETTINGS
@given(
    items=st.lists(st.one_of(_conditions(PART_FIELDS), _joined(_conditions(PART_FIELDS))), min_size=1, max_size=3),
    negated=st.booleans(),
)
def test_conditions_on_one_element(things: Collection[Any], items: list[Predicate[Any]], negated: bool) -> None:
    """The same of `any_`, but for elements that are arrays, which no `any_` finds in an expression."""
    condition: Predicate[Any] = ElemMatch(Thing.parts, tuple(items))
    differing = _mismatches(things, Logical("$nor", (condition,)) if negated else condition)
    assert [] == [document for document in differing if not any(isinstance(part, list) for part in document["parts"])]


COMPUTED: list[Any] = [
    func.if_null(Thing.a, Thing.n),
    case((Thing.n == 5, Thing.m), else_=Thing.a),
    func.array(Thing.n, Thing.a),
    Thing.xs.size(),
    func.literal([5, None]),
    Thing.n > 3,
]


@SETTINGS
@given(node=st.sampled_from(COMPUTED), condition=_conditions([Thing.a]))
def test_conditions_on_computed_values(things: Collection[Any], node: Any, condition: Any) -> None:
    """A condition on an expression is the condition on a field that holds its value."""
    scope = DocumentScope(Thing)
    on_node = evolve(condition, left=node)
    if isinstance(condition, Compare) and condition.op in ("$exists", "$elemMatch"):  # of fields only
        return
    stages = [{"$set": {"a": projected(node, scope)}}, {"$match": match([condition], scope)}, {"$project": {"_id": 1}}]
    expected = [document["_id"] for document in things.aggregate([*stages, {"$sort": {"_id": 1}}])]
    pipeline = [{"$match": {"$expr": emit_condition(on_node, scope)}}, {"$sort": {"_id": 1}}, {"$project": {"_id": 1}}]
    assert expected == [document["_id"] for document in things.aggregate(pipeline)]


@SETTINGS
@given(condition=_conditions([Thing.a]))
def test_conditions_on_items(things: Collection[Any], condition: Any) -> None:
    """A condition on the items of a list is the condition on the field that an unwound item stands in."""
    scope = DocumentScope(Thing)
    lists = {"$match": {"a": {"$type": "array"}}}
    unwound = [lists, {"$unwind": "$a"}, {"$match": match([condition], scope)}, {"$project": {"_id": 1}}]
    expected = sorted(document["_id"] for document in things.aggregate(unwound))
    kept = func.filter(Thing.a, lambda item: evolve(condition, left=item))
    stages = [lists, {"$project": {"kept": emit(kept, scope)}}, {"$unwind": "$kept"}, {"$project": {"_id": 1}}]
    assert expected == sorted(document["_id"] for document in things.aggregate(stages))


@pytest.mark.parametrize("op", ["$eq", "$gte"])
def test_fields_against_fields_of_one_element(things: Collection[Any], op: Any) -> None:
    """Within `any_`, both sides are about the same element, whatever lists are looked into on the way."""
    pairs: list[tuple[Any, Any]] = [
        (Part.inners[0].x, Part.n),
        (Part.inners.x, Part.n),
        (Part.inner.ys, Part.n),
        (Part.n, Part.inners[0].x),
    ]
    scope = DocumentScope(Thing)
    for left, right in pairs:
        listed = {"$cond": [{"$isArray": "$parts"}, "$parts", []]}
        objects = {"$filter": {"input": listed, "cond": {"$eq": [{"$type": "$$this"}, "object"]}}}
        inner = emit_condition(Compare(left, op, right), DocumentScope(Part))
        pipeline = [
            {"$set": {"p": objects}},
            {"$unwind": "$p"},
            {"$replaceWith": {"$mergeObjects": ["$p", {"of": "$_id"}]}},
        ]
        found = things.aggregate([*pipeline, {"$match": {"$expr": inner}}])
        emitted = emit_condition(ElemMatch(Thing.parts, (Compare(left, op, right),)), scope)
        expected = sorted({document["of"] for document in found})
        assert expected
        assert expected == sorted(document["_id"] for document in things.find({"$expr": emitted}, {"_id": 1}))


def _at(document: Any, path: str) -> Any:
    for key in path.split("."):
        document = document.get(key) if isinstance(document, dict) else None
    return document


@pytest.mark.parametrize("op", ["$eq", "$ne", "$gte", "$lt"])
@pytest.mark.parametrize(
    ("left", "right", "flipped"),
    [
        (Thing.n, Thing.m, False),
        (Thing.a, Thing.n, False),
        (Thing.n, Thing.a, True),
        (Thing.a, Thing.xs, False),
        (Thing.xs, Thing.a, False),
        (Thing.parts.n, Thing.n, False),
        (Thing.part.x, Thing.n, False),
        (Thing.m, Thing.parts.inners.x, True),
        (Thing.parts.inners.ys, Thing.a, False),
    ],
    ids=repr,
)
def test_fields_against_fields(things: Collection[Any], left: Any, right: Any, op: Any, flipped: bool) -> None:
    """A field against a field is the field against the other's value as a literal; of one list, the list's side."""
    field, value = (right, left) if flipped else (left, right)
    plain = FLIPPED[op] if flipped else op
    ids, filters = [], []
    for document in things.find():
        found = _at(document, value._path)
        if not isinstance(found, (Regex, MinKey, MaxKey)):
            ids.append(document["_id"])
            filters.append({"_id": document["_id"], field._path: {plain: found}})
    emitted = emit_condition(Compare(left, op, right), DocumentScope(Thing))
    expected = [document["_id"] for document in things.find({"$or": filters}, {"_id": 1}).sort("_id")]
    pipeline = [{"$match": {"_id": {"$in": ids}, "$expr": emitted}}, {"$sort": {"_id": 1}}]
    assert expected == [document["_id"] for document in things.aggregate(pipeline)]
