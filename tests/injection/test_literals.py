"""Where a value is taken, it is a literal: tried on a real server, against plain Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pymongo
import pytest
from bson import Code, Regex
from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from superorm import SuperormError, case, delete, func, graph_lookup, insert, select, update, window
from superorm.unitofwork.encode import CODEC_OPTIONS
from tests.databases import drop_database
from tests.expr.operators_of import unknown_operators
from tests.injection.values import HOSTILE, REFUSED, STORED, Part, Thing, expected, same, stored

T: Any = Thing
EVERY = range(len(STORED) + 1)


@pytest.fixture(scope="module")
def things(mongodb_uri: str) -> Iterator[Collection[dict[str, Any]]]:
    """A document for each value, in all its fields, and one without any."""
    name = f"injection_{uuid4().hex[:12]}"
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        things = client[name].get_collection("things", codec_options=CODEC_OPTIONS)
        things.insert_many(
            [
                {"_id": n, "n": n, "value": value, "values": [value], "parts": [{"value": value}], "meta": {"a": value}}
                for n, value in enumerate(STORED)
            ]
        )
        things.insert_one({"_id": len(STORED), "n": len(STORED), "values": [], "parts": [{}], "meta": {}})
        yield things
        drop_database(client, name)


def others(found: list[int]) -> list[int]:
    return [n for n in EVERY if n not in found]


def plain(value: Any) -> bool:
    """Whether it is no list, of which ranges mean something else."""
    return not isinstance(stored(value), list)


def alone(value: Any) -> list[int]:
    """The documents whose value is this one, as the server's expressions compare."""
    return [n for n, other in enumerate(STORED) if same(other, stored(value))]


def all_of(value: Any) -> list[int]:
    """The documents whose list of one value holds it, or, as ``$all`` has it of lists, is it."""
    lists = [*([other] for other in STORED), []]
    return [
        n
        for n, items in enumerate(lists)
        if same(items, stored(value)) or any(same(item, stored(value)) for item in items)
    ]


def reached(value: Any) -> list[int]:
    """The documents that a list's elements find, or another value."""
    plain = stored(value)
    found = [expected(item) for item in plain] if isinstance(plain, list) else [expected(plain)]
    return sorted({n for keys in found for n in keys})


CONDITIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], list[int] | None]]] = {
    "==": (lambda value: T.value == value, expected),
    "!=": (lambda value: T.value != value, lambda value: others(expected(value))),
    "~": (lambda value: ~(T.value == value), lambda value: others(expected(value))),
    "in_": (lambda value: T.value.in_([value]), expected),
    "in_ several": (lambda value: T.value.in_([value, value]), expected),
    "not_in": (lambda value: T.value.not_in([value]), lambda value: others(expected(value))),
    "between": (lambda value: T.value.between(value, value) & (T.value == value), expected),
    "not less": (
        lambda value: ~(T.value < value) & (T.value == value),
        lambda value: expected(value) if plain(value) else None,
    ),
    ">= and <=": (
        lambda value: (T.value >= value) & (T.value <= value),
        lambda value: expected(value) if plain(value) else None,
    ),
    "key": (lambda value: T.meta["a"] == value, expected),
    "element": (lambda value: T.values[0] == value, lambda value: None if value is None else expected(value)),
    "any_": (lambda value: T.parts.any_(Part.value == value), expected),
    "any_ in_": (lambda value: T.parts.any_(Part.value.in_([value])), expected),
    "contains": (lambda value: T.values.contains(value), alone),
    "all_": (lambda value: T.values.all_([value]), all_of),
    "case": (lambda value: case((T.value == value, 1), else_=0) == 1, expected),
    "case !=": (lambda value: case((T.value != value, 1), else_=0) == 0, expected),
    "case in_": (lambda value: case((T.value.in_([value]), 1), else_=0) == 1, expected),
    "case between": (
        lambda value: case((T.value.between(value, value) & (T.value == value), 1), else_=0) == 1,
        expected,
    ),
    "case any_": (lambda value: case((T.parts.any_(Part.value == value), 1), else_=0) == 1, expected),
    "case contains": (lambda value: case((T.values.contains(value), 1), else_=0) == 1, alone),
    "case all_": (lambda value: case((T.values.all_([value]), 1), else_=0) == 1, all_of),
    "func.eq": (lambda value: func.eq(T.value, value), alone),
    "func.eq reversed": (lambda value: func.eq(value, T.value), alone),
    "func.in_": (lambda value: func.in_(value, T.values), alone),
    "func.in_ list": (lambda value: func.in_(T.value, [value]), alone),
    "func.literal": (lambda value: T.value == func.literal(value), expected),
    "func.literal reversed": (lambda value: func.literal(value) == T.value, expected),
    "func.filter": (lambda value: func.size(func.filter(T.values, lambda item: func.eq(item, value))) > 0, alone),
    "func.map": (lambda value: func.in_(True, func.map(T.values, lambda item: func.eq(item, value))), alone),
    "func.set_is_subset": (lambda value: func.set_is_subset([value], T.values), alone),
    "func.index_of_array": (lambda value: func.index_of_array(T.values, value) == 0, alone),
}


@pytest.mark.parametrize("place", CONDITIONS)
def test_conditions(things: Collection[dict[str, Any]], place: str) -> None:
    """A condition finds just the documents that hold the value, and so do update and delete."""
    condition, finds = CONDITIONS[place]
    for value in HOSTILE:
        statement = select(T.id).where(condition(value))
        assert [] == unknown_operators(statement.pipeline())
        found = sorted(row["_id"] for row in things.aggregate(statement.pipeline()))
        if finds(value) is None:
            continue
        assert finds(value) == found, ascii(value)
        for writes in (delete(T).where(condition(value)), update(T).where(condition(value)).set(T.n.to(0))):
            plan = writes.plan()
            (query,) = [command["q"] for command in plan.get("deletes", plan.get("updates"))]
            assert finds(value) == sorted(thing["_id"] for thing in things.find(query)), ascii(value)


def test_graph_lookup(things: Collection[dict[str, Any]]) -> None:
    """What a search through references starts with is a literal, and so are its conditions."""
    for value in HOSTILE:
        if stored(value) in (None, [None]):  # missing is null to some servers only
            continue
        for start, conditions in ((value, ()), (func.literal(value), (T.value == value,))):
            graph = graph_lookup(
                T, start_with=start, connect_from=T.text, connect_to=T.value, max_depth=0, where=conditions
            )
            pipeline = select(graph.label("found")).select_from(T).limit(1).pipeline()
            assert [] == unknown_operators(pipeline)
            if any(name[:1] == "$" for name in first_keys(stored(value))):  # the server cannot look for these
                with pytest.raises(OperationFailure, match=r"cannot nest \$"):
                    things.aggregate(pipeline)
                continue
            (row,) = things.aggregate(pipeline)
            found = sorted(thing["_id"] for thing in row["__found"])
            finds = [n for n in reached(value) if not conditions or n in expected(value)]
            assert finds == found, ascii(value)


def first_keys(value: Any) -> list[str]:
    """The first keys of a document, or of those in a list."""
    documents = [value] if isinstance(value, dict) else value if isinstance(value, list) else []
    return [key for document in documents if isinstance(document, dict) for key in list(document)[:1]]


VALUES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "literal": (lambda value: func.literal(value), lambda value: value),
    "case": (lambda value: case((T.n >= 0, value)), lambda value: value),
    "case else": (lambda value: case((T.n < 0, 1), else_=value), lambda value: value),
    "case of two": (lambda value: case((T.n < 0, 1), (T.n >= 0, value), else_=2), lambda value: value),
    "cond": (lambda value: func.cond(T.n < 0, 1, value), lambda value: value),
    "if_null": (lambda value: func.if_null(T.meta["nothing"], value), lambda value: value),
    "array": (lambda value: func.array(1, value), lambda value: [1, value]),
    "array_elem_at": (lambda value: func.array_elem_at([1, value], 1), lambda value: value),
    "object": (
        lambda value: func.object(a=value, b=func.object(c=value)),
        lambda value: {"a": value, "b": {"c": value}},
    ),
    "map": (lambda value: func.map(T.parts, lambda _: value), lambda value: [value]),
    "reduce": (lambda value: func.reduce(T.parts, value, lambda so_far, _: so_far), lambda value: value),
    "reduce to": (lambda value: func.reduce(T.parts, 1, lambda _, __: value), lambda value: value),
    "concat_arrays": (lambda value: func.concat_arrays([value], [1]), lambda value: [value, 1]),
    "reverse_array": (lambda value: func.reverse_array([1, value]), lambda value: [value, 1]),
    "slice": (lambda value: func.slice([value, 1], 1), lambda value: [value]),
    "zip": (
        lambda value: func.zip([1, 2], func.array(value), defaults=[0, value]),
        lambda value: [[1, value], [2, value]],
    ),
    "set_field": (lambda value: func.set_field(func.object(), "$a.b", value), lambda value: {"$a.b": value}),
    "get_field": (lambda value: func.get_field({"$a.b": value}, "$a.b"), lambda value: value),
    "merge_objects": (
        lambda value: func.merge_objects(func.object(a=1), {"b": value}),
        lambda value: {"a": 1, "b": value},
    ),
    "let": (
        lambda value: func.reduce(T.parts, 1, lambda _, __: func.reduce(T.parts, value, lambda inner, ___: inner)),
        lambda value: value,
    ),
    "date_to_string": (lambda value: func.date_to_string(T.meta["nothing"], on_null=value), lambda value: value),
    "convert": (lambda value: func.convert(func.literal("x"), "int", on_error=value), lambda value: value),
    "shift": (lambda value: window(func.shift(T.n, 10**6, default=value), order_by=T.n), lambda value: value),
    "first of a group": (lambda value: func.first(func.literal(value)), lambda value: value),
    "max_n": (lambda value: func.array_max_n(1, [value]), lambda value: [value]),
}


@pytest.mark.parametrize("place", VALUES)
def test_values(things: Collection[dict[str, Any]], place: str) -> None:
    """A value that is selected comes back as it is."""
    make, gives = VALUES[place]
    for value in HOSTILE:
        if place in ("max_n", "reduce to") and value is None:
            continue
        if place == "shift" and isinstance(stored(value), (dict, list)):
            continue
        statement = select(make(value).label("x")).select_from(T).limit(1)
        assert [] == unknown_operators(statement.pipeline())
        (row,) = things.aggregate(statement.pipeline())
        (found,) = [found for name, found in row.items() if name != "_id"]
        assert same(gives(stored(value)), found), (ascii(value), row)


TEXTS = [value for value in map(stored, HOSTILE) if isinstance(value, str)]
TEXT_VALUES: dict[str, tuple[Callable[[str], Any], Callable[[str], Any]]] = {
    "concat": (lambda text: func.concat("<", text, ">"), lambda text: f"<{text}>"),
    "split": (lambda text: func.split(f"1{text}|2", f"{text}|"), lambda text: ["1", "2"]),
    "replace_one": (lambda text: func.replace_one("a|b", "|", text), lambda text: f"a{text}b"),
    "replace_all": (
        lambda text: func.replace_all(f"|{text}|", text or "|", "-"),
        lambda text: f"|{text}|".replace(text or "|", "-"),
    ),
    "trim": (lambda text: func.trim(f"{text}1", "1"), lambda text: text),
    "str_len_cp": (lambda text: func.str_len_cp(func.literal(text)), len),
    "str_len_cp bare": (lambda text: func.str_len_cp(text), len),
    "index_of_cp": (lambda text: func.index_of_cp(f"1{text}", text), lambda text: f"1{text}".index(text)),
    "substr_cp": (lambda text: func.substr_cp(text, 0, 100), lambda text: text),
    "to_string": (lambda text: func.to_string(func.literal(text)), lambda text: text),
    "type": (lambda text: func.type(text), lambda text: "string"),
}


@pytest.mark.parametrize("place", TEXT_VALUES)
@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_texts(things: Collection[dict[str, Any]], place: str, text: str) -> None:
    """So are texts where the server's functions take these."""
    make, gives = TEXT_VALUES[place]
    statement = select(make(text).label("x")).select_from(T).limit(1)
    (row,) = things.aggregate(statement.pipeline())
    assert gives(text) == row["x"]


@pytest.mark.parametrize(
    "text", [*TEXTS, "a+b", "(", "[a]", "\\", "\\E", "\\Q.\\E", "a|b", "$", "^", "x{2}", "#", " "], ids=ascii
)
def test_searches(things: Collection[dict[str, Any]], text: str) -> None:
    """startswith, endswith and contains take all characters as they are, in both languages; a NUL they refuse."""
    candidates = ["", text, f"{text}x", f"x{text}", f"x{text}x", f"{text}\n", "other", "aa", "xx", "b", "a\\b"]
    collection = things.database[f"texts_{uuid4().hex[:8]}"]
    collection.insert_many([{"_id": n, "text": one} for n, one in enumerate(candidates)])
    for search, holds in (
        (T.text.startswith, str.startswith),
        (T.text.endswith, str.endswith),
        (T.text.contains, str.__contains__),
    ):
        if "\0" in text:
            with pytest.raises(SuperormError):
                search(text)
            continue
        finds = [n for n, one in enumerate(candidates) if holds(one, text)]
        for condition in (search(text), case((search(text), 1), else_=0) == 1):
            found = collection.aggregate(select(T.id).where(condition).pipeline())
            assert finds == sorted(row["_id"] for row in found)


def test_regex(things: Collection[dict[str, Any]]) -> None:
    """Of a regular expression nothing is escaped, and its documentation says so."""
    collection = things.database["patterns"]
    collection.insert_many([{"_id": n, "text": text} for n, text in enumerate(["abc", "a.c", "x"])])
    for condition in (T.text.regex("^a.c$"), func.regex_match(T.text, "^a.c$")):
        assert [0, 1] == [row["_id"] for row in collection.aggregate(select(T.id).where(condition).pipeline())]
    assert "nothing is escaped" in T.text.regex.__doc__


def test_buckets(things: Collection[dict[str, Any]]) -> None:
    """Boundaries and the group of the others are literals, or refused where the server would evaluate them."""
    for value in (value for value in HOSTILE if value is not None):
        bucket = func.bucket(T.n, boundaries=[-2, -1], default=value)
        statement = select(bucket.label("key"), func.count().label("n")).group_by(bucket)
        if isinstance(stored(value), (dict, list)) or str(stored(value))[:1] == "$":
            if stored(value) not in ([], [[]], [None]):
                with pytest.raises(SuperormError, match="takes no documents and texts that begin with"):
                    statement.pipeline()
            continue
        (row,) = things.aggregate(statement.pipeline())
        assert same(stored(value), row["key"]), ascii(value)
        assert len(EVERY) == row["n"]
    for text in TEXTS:
        bucket = func.bucket(T.value, boundaries=[text, f"{text}\1"], default=0)
        statement = select(bucket.label("key"), func.count().label("n")).group_by(bucket)
        if text[:1] == "$":
            with pytest.raises(SuperormError, match="takes no documents and texts that begin with"):
                statement.pipeline()
            continue
        counts = {row["key"]: row["n"] for row in things.aggregate(statement.pipeline())}
        assert sum(isinstance(other, str) and text <= other < f"{text}\1" for other in STORED) == counts[text]


CHANGES: dict[str, tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]] = {
    "to": (lambda value: T.value.to(value), lambda thing, value: {**thing, "value": value}),
    "values": (lambda value: value, lambda thing, value: {**thing, "value": value}),
    "key": (lambda value: T.meta["a"].to(value), lambda thing, value: {**thing, "meta": {"a": value}}),
    "to an expression": (lambda value: T.value.to(func.literal(value)), lambda thing, value: {**thing, "value": value}),
    "push": (lambda value: T.values.push(value), lambda thing, value: {**thing, "values": [*thing["values"], value]}),
    "push at": (
        lambda value: T.values.push(value, position=0),
        lambda thing, value: {**thing, "values": [value, *thing["values"]]},
    ),
    "add_to_set": (
        lambda value: T.values.add_to_set(value),
        lambda thing, value: {
            **thing,
            "values": thing["values"] + [value] * (not any(same(value, other) for other in thing["values"])),
        },
    ),
    "pull": (
        lambda value: T.values.pull(value),
        lambda thing, value: {**thing, "values": [other for other in thing["values"] if not same(value, other)]},
    ),
    "pull parts": (
        lambda value: T.parts.pull(Part.value == value),
        lambda thing, value: {
            **thing,
            "parts": [part for n, part in enumerate(thing["parts"]) if n not in expected(value)],
        },
    ),
}


@pytest.mark.parametrize("beside", ["alone", "beside an expression"])
@pytest.mark.parametrize("place", CHANGES)
def test_changes(things: Collection[dict[str, Any]], place: str, beside: str) -> None:
    """What an update writes is the value, or refused where no document may hold it."""
    make, gives = CHANGES[place]
    thing = {"_id": "x", "n": 0, "value": 0, "values": STORED, "parts": [{"value": one} for one in STORED], "meta": {}}
    changed = things.database.get_collection("changed", codec_options=CODEC_OPTIONS)
    written = 0
    for value in HOSTILE:
        changed.replace_one({"_id": "x"}, thing, upsert=True)
        try:
            statement = update(T).where(T.id == "x")
            statement = statement.values(value=value) if place == "values" else statement.set(make(value))
            statement = statement.set(T.n.to(T.n + 1)) if beside != "alone" else statement
            plan = statement.plan()
        except SuperormError:
            continue
        reply = things.database.command({**plan, "update": "changed"}, codec_options=CODEC_OPTIONS)
        assert "writeErrors" not in reply, (ascii(value), reply)
        after = changed.find_one("x")
        assert same({**gives(thing, stored(value)), "n": int(beside != "alone")}, after), (ascii(value), after)
        written += 1
    assert written > 20


REFUSING: dict[str, Callable[[Any], Any]] = {
    **{name: condition for name, (condition, _) in CONDITIONS.items()},
    **{name: value for name, (value, _) in VALUES.items()},
    **{f"change {name}": change for name, (change, _) in CHANGES.items() if name != "values"},
    "update values": lambda value: update(T).values(value=value),
    "startswith": lambda value: T.text.startswith(value),
    "endswith": lambda value: T.text.endswith(value),
    "contains text": lambda value: T.text.contains(value),
    "regex": lambda value: T.text.regex(value),
    "bucket": lambda value: func.bucket(T.value, boundaries=[value, value]),
    "bucket default": lambda value: func.bucket(T.value, boundaries=[1, 2], default=value),
    "start_with": lambda value: graph_lookup(T, start_with=value, connect_from=T.id, connect_to=T.value),
    "insert": lambda value: insert(T).values(id=1, text=value).to_dict(),
}


ANY_FIELD = {f"change {name}" for name in ("to", "key", "push", "push at", "add_to_set", "pull")}
ANY_FIELD |= {"update values", "insert"}
"""Where a value for a field of any type is taken: that may be a regular expression, or code that is not run."""


@pytest.mark.parametrize("place", REFUSING)
def test_no_values(place: str) -> None:
    """What is no value is refused where it is written."""
    for value in REFUSED:
        if not isinstance(value, (Code, Regex)) or place not in ANY_FIELD:
            refused(place, value)


@pytest.mark.parametrize("place", ["startswith", "endswith", "contains text", "regex", "insert"])
def test_no_texts(place: str) -> None:
    """Where a text is needed, nothing else is taken for one."""
    for value in HOSTILE:
        if not isinstance(stored(value), str):
            refused(place, value)


def refused(place: str, value: Any) -> None:
    try:
        given = REFUSING[place](value)
    except (SuperormError, TypeError):
        return
    pytest.fail(f"{place} took {value!a} and gave {given!a}")
