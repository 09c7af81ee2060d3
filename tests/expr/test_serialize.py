"""Statements as data."""

from __future__ import annotations

import copy
import datetime as dt
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import attrs
import numpy as np
import pymongo
import pytest
from bson import json_util
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.collection import Collection

from superorm import Registry, Select, StatementError, SuperormError, aliased, func, insert, score, select, update
from superorm.expr import assignments, base, nodes, options, rows, sources, stages, statements, thawed, writes
from superorm.expr.operators import Operator
from superorm.expr.stored_nodes import FORMS
from tests.compile.classes import Actor, Movie, Person, Stamped, registry
from tests.databases import drop_database
from tests.expr.operators_of import unknown_operators
from tests.expr.random_statements import LITERALS, STATEMENTS, WRITES


def again(data: Any, **options: Any) -> Select[Any, Any]:
    return Select.from_dict(data, registry=registry, **options)


def exact(value: Any) -> Any:
    """A value in a form that is equal only for the same types, orders of keys and bytes."""
    match value:
        case np.ndarray():
            return "array", value.astype(value.dtype.newbyteorder("<")).tobytes()
        case dict():
            return "dict", [(key, exact(item)) for key, item in value.items()]
        case list():
            return "list", [exact(item) for item in value]
        case dt.datetime():
            return "datetime", value.isoformat()
        case _:
            return type(value).__name__, repr(value)


def compiled(statement: Any) -> Any:
    """The pipeline, or why there is none."""
    try:
        return exact(statement.pipeline())
    except SuperormError as error:
        return type(error), str(error)


@pytest.fixture(scope="module")
def stored(mongodb_uri: str) -> Iterator[Collection[dict[str, Any]]]:
    name = f"stored_{uuid4().hex[:12]}"
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        yield client[name]["statements"]
        drop_database(client, name)


@given(STATEMENTS)
@settings(max_examples=300, deadline=None)
def test_statements_come_back(statement: Any) -> None:
    """What comes back compiles to the same pipeline and is stored as the same data."""
    before = compiled(statement)
    data = statement.to_dict()
    assert data == statement.to_dict()
    found = again(data)
    assert before == compiled(found)
    assert repr(data) == repr(found.to_dict())
    assert before == compiled(statement)


@given(STATEMENTS)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_stored_statements_come_back(stored: Collection[dict[str, Any]], statement: Any) -> None:
    """So does what was stored in MongoDB, or written as JSON, and read again."""
    data = statement.to_dict()
    key = stored.insert_one({"statement": data}).inserted_id
    from_database = stored.find_one(key)
    assert from_database is not None
    text = json_util.dumps(data)
    json.loads(text)
    for read in (from_database["statement"], json_util.loads(text)):
        assert compiled(statement) == compiled(again(read))


@given(WRITES)
@settings(max_examples=100, deadline=None)
def test_writes_come_back(statement: Any) -> None:
    """So do statements that write: with the same plan, or the same values for the fields."""
    data = statement.to_dict()
    found = type(statement).from_dict(json_util.loads(json_util.dumps(data)), registry=registry)
    assert repr(data) == repr(found.to_dict())
    if hasattr(statement, "plan"):
        assert planned(statement) == planned(found)
    for row, other in zip(getattr(statement, "_rows", ()), getattr(found, "_rows", ()), strict=True):
        for name, value in other.items():
            given = getattr(row, name) if isinstance(row, Movie) else row[name]
            assert type(given) is type(value)
            assert np.array_equal(given, value) if isinstance(value, np.ndarray) else same(given, value)


def same(given: Any, value: Any) -> bool:
    """Equal as documents keep it: times in milliseconds, decimals by their value."""
    if isinstance(given, dt.datetime):
        return given.replace(microsecond=given.microsecond // 1000 * 1000, fold=0) == value
    return bool(given == value)


def planned(statement: Any) -> Any:
    try:
        return exact(statement.plan())
    except SuperormError as error:
        return type(error), str(error)


@given(LITERALS)
@settings(max_examples=300, deadline=None)
def test_literals_come_back(value: Any) -> None:
    """A literal keeps its type and value, whatever its keys are called."""
    statement = select(Movie).where(Movie.meta == value)
    before = statement._steps[-1].where[0].right  # type: ignore[union-attr]
    after = again(json_util.loads(json_util.dumps(statement.to_dict())))._steps[-1].where[0].right  # type: ignore[union-attr]
    assert exact(before) == exact(after)


def test_every_node_can_be_stored() -> None:
    """No class of nodes is missing in the table."""
    modules = [assignments, base, nodes, options, rows, sources, stages, statements, writes]
    found = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    made = {one for one in found if attrs.has(one) and one.__module__.startswith("superorm.expr.")}
    made -= {one for one in found if one.__module__ == thawed.__name__}  # twins, of which nobody sees an instance
    assert {base.Predicate, Operator, writes.Conditional} == made - {form.cls for form in FORMS.values()}


def test_data_is_plain() -> None:
    """It holds dicts with plain keys, lists and BSON values only, and literal dicts as pairs."""
    hostile = {"$ne": None, "a.b": {"node": "Raw", "stage": {"ref": 0}}}
    statement = select(Movie).where(Movie.meta == hostile, Stamped.added.exists())
    data = statement.to_dict()
    assert 1 == data["format"]
    pairs = [["$ne", None], ["a.b", {"dict": [["node", "Raw"], ["stage", {"dict": [["ref", 0]]}]]}]]
    assert {"node": "Compare", "left": {"ref": 0}, "op": "$eq", "right": {"dict": pairs}} == data["nodes"][1]
    owner = {"class": "tests.compile.classes.Movie"}
    assert {"node": "Field", "owner": owner, "steps": [["field", "meta"]]} == data["nodes"][0]
    json.loads(json.dumps(data))


def test_what_stands_twice_is_one_node() -> None:
    """A label or condition that stands in several places does so again, and equal ones stay apart."""
    label = (Movie.year + 1).label("n")
    statement = select(Movie, label).where(label > 1, (Movie.year + 1) > 2).order_by(label)
    found = again(statement.to_dict())
    (block,) = found._steps
    assert found._entities[1] is block.where[0].left is block.order_by[0].expr  # type: ignore[union-attr]
    assert block.where[0].left.expr is not block.where[1].left  # type: ignore[union-attr]


def test_long_conditions_are_no_deep_data(stored: Collection[dict[str, Any]]) -> None:
    """A hundred conditions joined by | can be stored."""
    condition = Movie.year == 0
    for year in range(1, 150):
        condition |= Movie.year == year
    statement = select(Movie).where(condition)
    stored.insert_one({"_id": "long", **statement.to_dict()})
    read: Any = stored.find_one("long")
    read.pop("_id")
    assert statement.pipeline() == again(read).pipeline()


def test_the_default_registry() -> None:
    """Without a registry classes are those of Document's, and one of another is not found."""
    with pytest.raises(StatementError, match=r"nodes\[1\].root.class: the registry has no class"):
        Select.from_dict(select(Movie).to_dict())
    with pytest.raises(StatementError, match=r"has no class 'tests.compile.classes.Movie'"):
        Select.from_dict(select(Movie).to_dict(), registry=Registry())


def test_merge_into_comes_back() -> None:
    """So do statements that write."""
    for statement in (
        select(Movie).where(Movie.year > 1).merge_into("old", on=["title", "year"], when_matched="fail"),
        select(Movie).merge_into(Person, when_not_matched="discard"),
    ):
        data = json_util.loads(json_util.dumps(statement.to_dict()))
        found = type(statement).from_dict(data, registry=registry)
        assert statement.select.pipeline() == found.select.pipeline()
        for name in ("target", "on", "when_matched", "when_not_matched"):
            assert getattr(statement, name) == getattr(found, name)
        with pytest.raises(StatementError, match=r"Select.from_dict\(\): data: expected a Select, not a MergeInto"):
            again(data)


def test_what_then_selects() -> None:
    """An accumulator after ``then`` is over its rows."""
    n = func.count().label("n")
    statement = select(Movie.year, n).group_by(Movie.year).then(func.count().label("m"))
    assert statement.pipeline() == again(statement.to_dict()).pipeline()
    assert 2 == sum("$group" in stage for stage in statement.pipeline())


def test_raw_stages() -> None:
    """A raw stage is refused, unless the data is trusted."""
    statement = select(Movie).stage({"$match": {"$expr": {"$gt": ["$year", 1]}}})
    data = statement.to_dict()
    with pytest.raises(StatementError, match=r"nodes\[1\]: nothing in a raw stage is checked; pass allow_raw=True"):
        again(data)
    assert statement.pipeline() == again(data, allow_raw=True).pipeline()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (lambda: select(Movie).like(Movie(title="x")), "a document as the query of like() cannot be stored"),
        (lambda: select(Movie).like(object()), "a value of type object cannot stand in a statement"),
        (lambda: select(Movie).like(np.zeros((2, 2))), "an array of float64 and shape (2, 2) is no vector"),
        (lambda: select(Movie).like(np.array([object()])), "an array of object"),
        (lambda: deep_condition(250), "nested more than 200 levels deep"),
        (lambda: select(Movie).where(Movie.meta == deep_list(250)), "nested more than 200 levels deep"),
        (lambda: wide(17), "more than 100000 nodes"),
    ],
)
def test_what_cannot_be_stored(statement: Callable[[], Any], message: str) -> None:
    """It is refused when it is stored, not when it is read."""
    with pytest.raises(StatementError) as raised:
        statement().to_dict()
    assert message in str(raised.value)


def deep_condition(depth: int) -> Select[Any, Any]:
    condition = Movie.year == 0
    for _ in range(depth):
        condition = ~(condition & (Movie.year == 0))
    return select(Movie).where(condition)


def deep_list(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def wide(doublings: int) -> Select[Any, Any]:
    condition = Movie.year == 0
    for _ in range(doublings):
        condition &= condition
    return select(Movie).where(condition)


FULL = (
    select(Movie, (Movie.year + 1).label("n"), score())
    .where(Movie.year >= 1990, Movie.cast.any_(Actor.name == "Al"), Movie.meta == {"a": [1]})
    .join(aliased(Person, "critic"), Movie.title == "x")
    .like(np.array([1.0, 0.0, 0.0]), on=Movie.embedding, k=7)
    .order_by(Movie.title.desc())
    .limit(5)
)


def node(data: dict[str, Any], name: str) -> dict[str, Any]:
    """The last node of a class."""
    found: dict[str, Any] = [node for node in data["nodes"] if node["node"] == name][-1]
    return found


def change(name: str, key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        node(data, name)[key] = value

    return change


def drop(name: str, key: str) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        del node(data, name)[key]

    return change


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda data: data.update(format=2), "format: this release reads format 1, not int 2"),
        (lambda data: data.update(format=True), "format: this release reads format 1, not bool True"),
        (lambda data: data.update(more=1), "data: expected format and nodes"),
        (lambda data: data.pop("format"), "data: expected format and nodes"),
        (lambda data: data.update(nodes=[]), "nodes: expected a list of nodes"),
        (lambda data: data.update(nodes={"0": 1}), "nodes: expected a list of nodes"),
        (lambda data: data["nodes"].insert(0, "$where"), "nodes[0]: expected a node, not str '$where'"),
        (lambda data: data["nodes"].pop(), "data: expected a Select, not a Block"),
        (lambda data: data["nodes"].append({"node": "__import__"}), ".node: unknown node '__import__'"),
        (lambda data: data["nodes"].append({"node": ["Score"]}), "expected a node, not dict"),
        (lambda data: data["nodes"].append({"node": "Score", "x": 1}), "unknown key 'x'; a Score has none"),
        (change("Block", "limit", "5"), ".limit: expected a whole number, not str '5'"),
        (change("Block", "limit", -1), "limit must be from 1 to 2147483647, not -1"),
        (change("Block", "limit", 5.0), ".limit: expected a whole number, not float"),
        (change("Block", "limit", True), ".limit: expected a whole number, not bool"),
        (change("Block", "offset", -1), "offset must be from 0"),
        (change("Block", "$where", "1"), "unknown key '$where'; a Block has joins, where,"),
        (change("Block", "where", [{"ref": 0}]), ".where[0]: expected a node Predicate, not Field"),
        (change("Block", "where", {"list": []}), ".where: expected 0 or more items, not list []"),
        (change("Block", "where", [{"ref": 999}]), ".where[0].ref: expected the position of a node before this one"),
        (change("Block", "where", [{"ref": -1}]), ".where[0].ref: expected the position of a node before this one"),
        (change("Block", "distinct", 1), ".distinct: expected true or false, not int 1"),
        (change("Compare", "op", "$where"), ".op: expected one of '$eq', '$ne'"),
        (change("Compare", "op", ["$eq"]), ".op: expected one of"),
        (change("Compare", "op", "$in"), ".right: expected a list of values, not dict"),
        (change("Compare", "op", "$exists"), ".right: expected one of True, not dict"),
        (change("Compare", "op", "$elemMatch"), ".right: expected {'$eq': value}, not dict"),
        (change("Compare", "right", {"$ne": None}), ".right.$ne: unknown tag '$ne'"),
        (change("Compare", "right", {"list": 1, "dict": []}), ".right: expected a value, or a dict that is one"),
        (change("Compare", "right", {"dict": {"a": 1}}), ".right.dict: expected a list, not dict"),
        (change("Compare", "right", {"dict": [["a"]]}), ".right.dict[0]: expected a key and a value"),
        (change("Compare", "right", {"dict": [[1, 2]]}), ".right.dict: expected a text, not int 1"),
        (change("Compare", "right", {"dict": [["a\0", 2]]}), ".right.dict: 'a\\x00' cannot be a key"),
        (change("Compare", "right", {"list": [{"list": [{"x": 1}]}]}), ".right.list[0].list[0].x: unknown tag 'x'"),
        (change("Compare", "right", {"list": [{"ref": 0}]}), ".right.list[0].ref: unknown tag 'ref'"),
        (change("Compare", "right", 2**63), ".right: 9223372036854775808 does not fit into 64 bits"),
        (change("Compare", "right", "\ud800"), ".right: '\\ud800' holds a lone surrogate"),
        (change("Compare", "right", object()), ".right: expected a value, or a dict"),
        (change("Compare", "right", [1]), ".right: expected an expression or a value, not tuple"),
        (change("Compare", "right", {"datetime": "2020-01-01"}), ".right.datetime: datetime.datetime("),
        (change("Compare", "right", {"datetime": "x"}), ".right.datetime: Invalid isoformat string"),
        (change("Compare", "right", {"datetime": 1}), ".right.datetime: expected a text"),
        (change("Compare", "right", {"uuid": "x"}), ".right.uuid: badly formed"),
        (change("Compare", "right", {"int64": 2**64}), ".right.int64: expected a whole number of 64 bits"),
        (change("Compare", "right", {"binary": [999, b""]}), ".right.binary: "),
        (change("Compare", "right", {"binary": "x"}), ".right.binary: expected a list of int, bytes"),
        (change("Compare", "right", {"array": ["<f4", b"1234"]}), ".right: expected an expression or a value"),
        (change("Compare", "right", {"list": [{"array": ["<f4", b""]}]}), "[0]: an array cannot stand in a list"),
        (change("Compare", "right", {"class": "tests.compile.classes.Movie"}), "expected an expression or a value"),
        (change("Like", "query", {"array": ["|O8", b"12345678"]}), ".query.array: expected one of the types"),
        (change("Like", "query", {"array": ["<f4", b"123"]}), ".query.array: "),
        (change("Like", "k", 10_001), "steps[1]: like(k=...) must be from 1 to 10000"),
        (change("Like", "k", "$k"), ".k: expected a whole number"),
        (change("Like", "min_score", float("nan")), "steps[1]: min_score must be a finite number"),
        (change("Like", "on", 7), ".on: expected a node Field, not int 7, and expected a text, not int 7"),
        (change("Like", "on", ""), "steps[1]: like(on=...) takes a vector field of Movie, not ''"),
        (drop("Like", "query"), "a Like needs query"),
        (change("Field", "steps", []), "Movie has no such field: ()"),
        (change("Field", "steps", "year"), ".steps: expected 0 or more items, not str 'year'"),
        (change("Field", "steps", ["year"]), ".steps[0]: expected a step such as field, name, not str 'year'"),
        (change("Field", "steps", [["field", "nothing"]]), "Movie has no such field: (('field', 'nothing'),)"),
        (change("Field", "steps", [["field", "__class__"]]), ".steps[0]: expected a step"),
        (change("Field", "steps", [["field", "mro"]]), "Movie has no such field"),
        (change("Field", "steps", [["field", "year"], ["field", "x"]]), "has no part 'x'"),
        (change("Field", "steps", [["field", "year"], ["element", 0]]), "is no list"),
        (change("Field", "steps", [["field", "genres"], ["element", -1]]), ".steps[1]: expected a step"),
        (change("Field", "steps", [["field", "genres"], ["element", "0"]]), ".steps[1]: expected a step"),
        (change("Field", "steps", [["field", "meta"], ["key", "$where"]]), "does not begin with $"),
        (change("Field", "steps", [["field", "meta"], ["key", "a.b"]]), "has no dots"),
        (change("Field", "owner", {"class": "os"}), ".owner.class: the registry has no class 'os'"),
        (change("Field", "owner", {"class": "builtins.dict"}), "the registry has no class 'builtins.dict'"),
        (change("Field", "owner", {"class": ["x"]}), ".owner.class: the registry has no class"),
        (change("Field", "owner", "tests.compile.classes.Movie"), ".owner: expected a class, not str"),
        (change("Alias", "name", "$x"), "aliased() takes a document class and a name for it"),
        (change("Alias", "cls", {"class": "tests.compile.classes.Actor"}), ".cls: expected a document class"),
        (change("Join", "target", {"class": "tests.compile.classes.Actor"}), ".target: expected a document class"),
        (change("Join", "on", []), ".on: expected 1 or more items"),
        (change("Order", "direction", 2), ".direction: expected one of 1, -1, not int 2"),
        (change("Order", "direction", True), ".direction: expected one of 1, -1, not bool True"),
        (change("Label", "name", "$n"), "'$n' cannot be a label"),
        (change("Label", "name", "a.b"), "'a.b' cannot be a label"),
        (change("Call", "operator", "$function"), ".operator: expected one of"),
        (change("Call", "operator", "function"), ".operator: expected one of"),
        (change("Call", "operator", "literal"), ": it is func.literal(a), not func.literal(Movie.year, 1)"),
        (change("Call", "operator", "let"), ".args: variables are a func.object()"),
        (change("Call", "options", [["as", "$$ROOT"]]), ".options.as: expected a variable's name"),
        (change("Call", "options", [["sortBy", {"dict": [["$function", 1]]}]]), ".options.sortBy: expected "),
        (change("Call", "options", [["a", 1], ["a", 1]]), ".options: func.add has an argument twice"),
        (change("Call", "args", [{"class": "tests.compile.classes.Movie"}]), ".args: only func.count() takes a class"),
        (change("Call", "args", []), "nodes[1]: it is func.add(a, b, ...), not func.add()"),
        (change("Call", "options", [["$where", 1]]), "not func.add(Movie.year, 1, $where=1)"),
        (change("Select", "root", {"class": "tests.compile.classes.Actor"}), ".root: expected a document class"),
        (change("Select", "root", "movies"), ".root: expected a document class"),
        (change("Select", "entities", []), ".entities: expected 1 or more items"),
        (change("Select", "entities", ["$title"]), ".entities[0]: expected a document class or an expression"),
        (change("Select", "steps", [{"ref": 0}]), ".steps[0]: expected a node Like or"),
        (lambda data: node(data, "Select")["steps"].pop(), ".steps: expected blocks, with one other step between"),
        (lambda data: node(data, "Select")["steps"].insert(0, data["nodes"]), ".steps[0][0]: expected a value"),
        (change("Select", "steps", [[[[]]]]), ".steps[0][0][0]: lists nested too deep"),
    ],
)
def test_hostile_data(changed: Callable[[dict[str, Any]], None], message: str) -> None:
    """What no statement gives is refused with its place."""
    data = copy.deepcopy(FULL.to_dict())
    changed(data)
    with pytest.raises(StatementError) as raised:
        again(data)
    assert str(raised.value).startswith("Select.from_dict(): ")
    assert message in str(raised.value)


CHANGES = update(Movie).where(Movie.year > 1).set(Movie.title.to("x"), Movie.genres.push("y", position=1))
ROWS = insert(Movie).values(title="x", year=1).upsert(Movie.title)


@pytest.mark.parametrize(
    ("statement", "changed", "message"),
    [
        (CHANGES, change("Assignment", "op", "$push"), ".op: expected one of 'to', 'unset'"),
        (CHANGES, change("Assignment", "op", "__init__"), ".op: expected one of 'to', 'unset'"),
        (CHANGES, change("Assignment", "op", "inc"), "arithmetic takes numbers, not list ['y']"),
        (CHANGES, change("Assignment", "op", "pop"), ".value: expected one of 1, -1"),
        (CHANGES, change("Assignment", "value", "$year"), ".value: expected a list of values, not str"),
        (CHANGES, change("Assignment", "value", {"list": [5]}), "expected str, got int 5"),
        (CHANGES, change("Assignment", "value", {"list": [{"dict": [["$each", 1]]}]}), "expected str, got dict"),
        (CHANGES, change("Assignment", "position", "$x"), ".position: expected a whole number"),
        (CHANGES, change("Assignment", "field", "title"), ".field: expected a node Field"),
        (CHANGES, change("Update", "assignments", [{"ref": 0}]), ".assignments[0]: expected a node Assignment"),
        (CHANGES, change("Update", "all", 1), ".all: expected true or false"),
        (CHANGES, change("Update", "root", "movies"), ".root: expected a document class"),
        (CHANGES, change("Update", "$where", "1"), "unknown key '$where'; a Update has root, where"),
        (ROWS, change("Insert", "rows", [{"dict": [["nothing", 1]]}]), ".rows[0]: Movie has no 'nothing'"),
        (ROWS, change("Insert", "rows", [{"dict": [["year", "x"]]}]), "expected int, got str 'x'"),
        (ROWS, change("Insert", "rows", [{"dict": [["meta", {"dict": [["$a", 1]]}]]}]), "dollar signs"),
        (ROWS, change("Insert", "rows", {"list": []}), ".rows: expected 0 or more items"),
        (ROWS, change("Insert", "rows", [1]), ".rows[0]: expected a dict value, not int"),
        (ROWS, change("Insert", "by", ["title"]), ".by[0]: expected a node Field"),
    ],
)
def test_hostile_writes(statement: Any, changed: Callable[[dict[str, Any]], None], message: str) -> None:
    """So is what no statement that writes gives; values must fit their fields."""
    data = copy.deepcopy(statement.to_dict())
    changed(data)
    with pytest.raises(StatementError) as raised:
        type(statement).from_dict(data, registry=registry)
    assert message in str(raised.value)


@pytest.mark.parametrize("data", [None, 1, "x", [], [1], {}, {"$where": "1"}, {"format": 1}, b"x", object()])
def test_no_data(data: Any) -> None:
    """So is what is no statement at all."""
    with pytest.raises(StatementError, match="expected format and nodes"):
        again(data)


def test_large_data() -> None:
    """A statement that few data would make large or deep is refused."""
    data = select(Movie).where(Movie.year == 0).to_dict()
    for name, items, message in (
        ("more than 100000 nodes", 2, "more than 100000 nodes"),
        ("deep", 1, "nested more than 200 levels deep"),
    ):
        hostile = copy.deepcopy(data)
        for position in range(1, 1000):
            ref = {"ref": position}
            hostile["nodes"].insert(position + 1, {"node": "Logical", "op": "$and", "items": [ref] * items})
        with pytest.raises(StatementError, match=message):
            again(hostile)
        assert name


def test_deep_values() -> None:
    """A value that is nested without end is refused, not a RecursionError."""
    data = FULL.to_dict()
    value: Any = 1
    for _ in range(100_000):
        value = {"list": [value]}
    node(data, "Compare")["right"] = value
    with pytest.raises(StatementError, match="nested more than 200 levels deep"):
        again(data)


REPLACEMENTS = [
    *(None, True, -1, 0, 1, 2, 5, 2**63, 1.5, float("nan"), "", "$where", "$function", "$year", "$$ROOT", "a.b", "x\0"),
    *("$eq", "$in", "$elemMatch", "$and", "year", "Compare", "Raw", "\ud800", b"x", object(), [], {}, [[]]),
    *([{"ref": 0}], {"ref": 0}, {"ref": 1}, {"ref": 3}, {"$where": "1"}, {"dict": [["$function", 1]]}),
    *({"list": [1, {"dict": [["$accumulator", {"list": []}]]}]}, {"class": "tests.compile.classes.Person"}),
    *({"class": "os.system"}, {"node": "Score"}, {"node": "Raw", "stage": {"dict": [["$out", "x"]]}}, ["field", "id"]),
]


@given(STATEMENTS | WRITES, st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_changed_data(statement: Any, data: st.DataObject) -> None:
    """Data changed at random is refused by a StatementError, or makes a statement without foreign operators."""
    changed = copy.deepcopy(statement.to_dict())
    for _ in range(data.draw(st.integers(1, 3))):
        mutate(changed, data)
    try:
        found: Any = type(statement).from_dict(changed, registry=registry)
    except StatementError:
        return
    with suppress(SuperormError):
        for name in ("pipeline", "plan"):
            if hasattr(found, name):
                assert [] == unknown_operators(stages_of(getattr(found, name)()))


CHANGE_OPERATORS = {"$set", "$unset", "$inc", "$push", "$addToSet", "$pull", "$pullAll", "$pop", "$setOnInsert"}


def stages_of(plan: Any) -> list[dict[str, Any]]:
    """The conditions and changes of a pipeline, or of an update or delete command."""
    if isinstance(plan, list):
        return plan
    found: list[dict[str, Any]] = []
    for command in plan.get("updates", plan.get("deletes")):
        changes = command.get("u", [])
        found += [{"$match": command["q"]}, *(changes if isinstance(changes, list) else [])]
        if isinstance(changes, dict):
            assert changes.keys() <= {
                "$set",
                "$unset",
                "$inc",
                "$push",
                "$addToSet",
                "$pull",
                "$pullAll",
                "$pop",
                "$setOnInsert",
            }
    return found


def mutate(tree: Any, data: st.DataObject) -> None:
    """Change one place: delete, replace, insert, or put there what stands under the same key elsewhere."""
    places = [(holder, key) for holder in containers(tree) for key in keys(holder)]
    if not places:
        return
    holder, key = data.draw(st.sampled_from(places))
    how = data.draw(st.sampled_from(["delete", "replace", "insert", "swap", "swap"]))
    if how == "swap" and isinstance(holder, dict):
        new = data.draw(st.sampled_from([other[name] for other, name in places if name == key]))
    else:
        new = data.draw(st.sampled_from(REPLACEMENTS) | st.sampled_from([other[name] for other, name in places]))
    new = copy.deepcopy(new)
    if how == "delete":
        del holder[key]
    elif how in ("replace", "swap"):
        holder[key] = new
    elif isinstance(holder, list):
        holder.insert(key, new)
    else:
        holder[data.draw(st.sampled_from(["$where", "node", "ref", "where", "limit", "options", "else_"]))] = new


def keys(holder: Any) -> list[Any]:
    return list(holder) if isinstance(holder, dict) else list(range(len(holder)))


def containers(tree: Any) -> Iterator[Any]:
    if isinstance(tree, (dict, list)):
        yield tree
        for value in list(tree.values() if isinstance(tree, dict) else tree):
            yield from containers(value)
