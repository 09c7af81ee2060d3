"""Updates as operators and as pipelines mean the same, and what plain Python says."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pymongo
import pytest
from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from superorm import Assignment, Document, Embedded, Mapped, Registry, field
from superorm.compile.scope import DocumentScope
from superorm.compile.update_stages import stages
from superorm.compile.updates import checked_assignments, needs_pipeline, operators
from superorm.schema.mapping import class_map
from tests.databases import drop_database

registry = Registry()


class Part(Embedded):
    name: Mapped[str] = field(default="")
    size: Mapped[int | None] = field(default=None)


class Inner(Embedded):
    n: Mapped[int | None] = field(default=None)
    words: Mapped[list[str]] = field(factory=list)


class Outer(Embedded):
    a: Mapped[int | None] = field(default=None)
    inner: Mapped[Inner | None] = field(default=None)


class Thing(Document, registry=registry):
    x: Mapped[int | None] = field(default=None)
    t: Mapped[str] = field(default="")
    words: Mapped[list[str]] = field(factory=list)
    lists: Mapped[list[list[str]]] = field(factory=list)
    parts: Mapped[list[Part]] = field(factory=list)
    outer: Mapped[Outer | None] = field(default=None)
    meta: Mapped[dict[str, Any] | None] = field(default=None)


MISSING: Any = object()
FAILS: Any = object()


class Refused(Exception):
    """The server would refuse it."""


SHAPES: list[dict[str, Any]] = [
    {},
    {"x": None, "t": None, "words": None, "outer": None, "meta": None, "parts": None},
    {"x": 5, "t": "$t", "words": ["a", "b", "a", "$x"], "outer": {"a": 1}, "meta": {"k": 1}},
    {"words": [], "outer": {"a": None, "inner": None}, "lists": [["a"], ["b"], "a", [["a"]]], "meta": {}},
    {"words": "text", "outer": 7, "meta": "m", "parts": 3},
    {"outer": {"inner": {"n": 1, "words": ["a"]}}, "meta": {"k": {"$x": 1}}},
    {"outer": {"inner": {"words": 3}}, "meta": [1, 2]},
    {"outer": [{"a": 1}], "parts": [{"name": "p", "size": 1}, {"name": "q", "size": 9}, {"name": "p"}, "p", None]},
    {"outer": {"a": 3, "inner": {"words": None, "n": None}}, "lists": [], "parts": []},
    {"outer": {"a": 3, "inner": 3}, "words": {"a": 1}, "lists": ["a", ["a", "b"], ["b", "a"]]},
]

# What plain Python makes of a document: each function changes its copy, or raises Refused.
Oracle = Callable[[dict[str, Any]], None]


def parent_of(document: dict[str, Any], path: str, *, make: bool, lenient: bool = False) -> dict[str, Any] | None:
    """The document that holds the last key; None where there is none and it is not made."""
    below: Any = document
    for name in path.split(".")[:-1]:
        if name not in below:
            if not make:
                return None
            below[name] = {}
        below = below[name]
        if not isinstance(below, dict):
            if not lenient:
                raise Refused(path)
            return None
    return below


def put(path: str, value: Any) -> Oracle:
    def change(document: dict[str, Any]) -> None:
        parent = parent_of(document, path, make=True)
        assert parent is not None
        parent[path.rpartition(".")[2]] = copy.deepcopy(value)

    return change


def remove(path: str) -> Oracle:
    def change(document: dict[str, Any]) -> None:
        parent = parent_of(document, path, make=False, lenient=True)
        if parent is not None:
            parent.pop(path.rpartition(".")[2], None)

    return change


def on_list(path: str, edit: Callable[[list[Any]], None], *, make: bool) -> Oracle:
    def change(document: dict[str, Any]) -> None:
        parent, name = parent_of(document, path, make=make), path.rpartition(".")[2]
        if parent is None or (name not in parent and not make):
            return
        value = parent.setdefault(name, [])
        if not isinstance(value, list):
            raise Refused(path)
        edit(value)

    return change


def without(values: list[Any]) -> Callable[[list[Any]], None]:
    def edit(items: list[Any]) -> None:
        items[:] = [item for item in items if item not in values]

    return edit


def added(values: list[Any]) -> Callable[[list[Any]], None]:
    def edit(items: list[Any]) -> None:
        for value in values:
            if value not in items:
                items.append(value)

    return edit


def inserted(position: int, values: list[Any]) -> Callable[[list[Any]], None]:
    def edit(items: list[Any]) -> None:
        items[position:position] = values

    return edit


def popped(position: int) -> Callable[[list[Any]], None]:
    return lambda items: items and items.pop(position)  # type: ignore[return-value]


def kept(condition: Callable[[Any], bool]) -> Callable[[list[Any]], None]:
    def edit(items: list[Any]) -> None:
        items[:] = [item for item in items if condition(item)]

    return edit


CASES: list[tuple[Assignment[Thing], Oracle]] = [
    (Thing.x.to(3), put("x", 3)),
    (Thing.x.to(None), put("x", None)),
    (Thing.t.to("$x"), put("t", "$x")),
    (Thing.t.to("$$ROOT"), put("t", "$$ROOT")),
    (Thing.t.unset(), remove("t")),
    (Thing.words.to(["$x", "b"]), put("words", ["$x", "b"])),
    (Thing.outer.to(Outer(a=1)), put("outer", {"a": 1, "inner": None})),
    (Thing.outer.to(None), put("outer", None)),
    (Thing.outer.a.to(9), put("outer.a", 9)),
    (Thing.outer.a.to(None), put("outer.a", None)),
    (Thing.outer.a.unset(), remove("outer.a")),
    (Thing.outer.inner.n.to(2), put("outer.inner.n", 2)),
    (Thing.outer.inner.n.unset(), remove("outer.inner.n")),
    (Thing.outer.inner.words.push("z"), on_list("outer.inner.words", inserted(99, ["z"]), make=True)),
    (Thing.outer.inner.words.pull("a"), on_list("outer.inner.words", without(["a"]), make=False)),
    (Thing.meta["k"].to({"a": "$x", "b": [1, {"c": "$$NOW"}]}), put("meta.k", {"a": "$x", "b": [1, {"c": "$$NOW"}]})),
    (Thing.meta["k"].unset(), remove("meta.k")),
    (Thing.meta.to({"k": "$x"}), put("meta", {"k": "$x"})),
    (Thing.words.push("$x", "a"), on_list("words", inserted(99, ["$x", "a"]), make=True)),
    (Thing.words.push("n", "m", position=0), on_list("words", inserted(0, ["n", "m"]), make=True)),
    (Thing.words.push("n", position=1), on_list("words", inserted(1, ["n"]), make=True)),
    (Thing.words.push("n", position=9), on_list("words", inserted(9, ["n"]), make=True)),
    (Thing.words.push("n", position=-1), on_list("words", inserted(-1, ["n"]), make=True)),
    (Thing.words.push("n", position=-9), on_list("words", inserted(-9, ["n"]), make=True)),
    (Thing.words.add_to_set("a", "n", "n"), on_list("words", added(["a", "n"]), make=True)),
    (Thing.outer.inner.words.pop(), on_list("outer.inner.words", popped(-1), make=False)),
    (Thing.words.pull("a", "$x"), on_list("words", without(["a", "$x"]), make=False)),
    (Thing.lists.pull(["a"]), on_list("lists", without([["a"]]), make=False)),
    (Thing.words.pop(), on_list("words", popped(-1), make=False)),
    (Thing.words.pop("first"), on_list("words", popped(0), make=False)),
    (
        Thing.parts.pull(Part.name == "p"),
        on_list("parts", kept(lambda item: not (isinstance(item, dict) and item.get("name") == "p")), make=False),
    ),
    (
        Thing.parts.pull((Part.size > 5) | (Part.size.is_(None))),
        on_list(
            "parts",
            kept(lambda item: not (isinstance(item, dict) and (item.get("size") is None or item["size"] > 5))),
            make=False,
        ),
    ),
    (
        Thing.parts.push(Part(name="$x", size=1)),
        on_list("parts", inserted(99, [{"name": "$x", "size": 1}]), make=True),
    ),
]


@pytest.fixture(scope="module")
def collection(mongodb_uri: str) -> Iterator[Collection[dict[str, Any]]]:
    name = f"test_{uuid4().hex[:12]}"
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        yield client[name]["things"]
        drop_database(client, name)


def outcome(collection: Collection[dict[str, Any]], shape: dict[str, Any], update: Any) -> Any:
    """The document after the update, or FAILS."""
    collection.replace_one({"_id": 1}, shape, upsert=True)
    try:
        collection.update_one({"_id": 1}, update)
    except OperationFailure:
        return FAILS
    return collection.find_one({"_id": 1}, {"_id": 0})


def expected_of(shape: dict[str, Any], *changes: Oracle) -> Any:
    document = copy.deepcopy(shape)
    try:
        for change in changes:
            change(document)
    except Refused:
        return FAILS
    return document


def forms(*assignments: Assignment[Thing]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    scope = DocumentScope(Thing)
    paths = checked_assignments(class_map(Thing), assignments, scope)
    return operators(paths), stages(paths, scope)


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: f"{CASES[number][0].field!r}-{number}")
def test_both_forms(collection: Collection[dict[str, Any]], number: int) -> None:
    """Operators, pipeline and plain Python agree on documents of every shape, errors included."""
    assignment, change = CASES[number]
    classic, pipeline = forms(assignment)
    for shape in SHAPES:
        expected = expected_of(shape, change)
        assert expected == outcome(collection, shape, pipeline), (shape, pipeline)
        assert expected == outcome(collection, shape, classic), (shape, classic)


def path_of(number: int) -> str:
    """The stored path of a case's field."""
    path: str = CASES[number][0].field._path  # type: ignore[attr-defined]
    return path


def apart(one: str, other: str) -> bool:
    """Whether neither path is the other, or leads to it."""
    return not f"{one}.".startswith(f"{other}.") and not f"{other}.".startswith(f"{one}.")


PAIRS = [
    (one, other)
    for one in range(len(CASES))
    for other in range(len(CASES))
    if apart(path_of(one), path_of(other))
    and (path_of(one)[:5] == path_of(other)[:5] == "outer" or (other > one and (one + other) % 13 == 0))
]


def test_both_forms_together(collection: Collection[dict[str, Any]]) -> None:
    """The same of two assignments in one statement, each with every second shape."""
    for number, (one, other) in enumerate(PAIRS):
        classic, pipeline = forms(CASES[one][0], CASES[other][0])
        for shape in SHAPES[number % 2 :: 2]:
            expected = expected_of(shape, CASES[one][1], CASES[other][1])
            assert expected == outcome(collection, shape, pipeline), (shape, pipeline)
            assert expected == outcome(collection, shape, classic), (shape, classic)


def test_which_form() -> None:
    """A pipeline is sent only where something is computed, or a list may be null."""
    assert not needs_pipeline([Thing.x.to(3), Thing.words.push("x"), Thing.outer.a.unset()])
    assert needs_pipeline([Thing.x.inc(1)])
    assert needs_pipeline([Thing.t.to("x"), Thing.x.to(Thing.x + 1)])


def incremented(path: str, by: int) -> Oracle:
    def change(document: dict[str, Any]) -> None:
        *parents, name = path.split(".")
        below: Any = document
        for parent in parents:
            below = below.get(parent) if isinstance(below, dict) else MISSING
            if below is None:
                return
            if not isinstance(below, dict):
                raise Refused(path)
        value = below.get(name)
        if value is not None and not isinstance(value, int):
            raise Refused(path)
        below[name] = None if value is None else value + by

    return change


@pytest.mark.parametrize(
    ("assignment", "change"),
    [
        (Thing.x.inc(2), incremented("x", 2)),
        (Thing.x.to(Thing.x + 2), incremented("x", 2)),
        (Thing.outer.a.inc(2), incremented("outer.a", 2)),
        (Thing.outer.a.to(Thing.outer.a + 2), incremented("outer.a", 2)),
        (Thing.outer.inner.n.inc(-1), incremented("outer.inner.n", -1)),
    ],
    ids=lambda value: repr(value) if isinstance(value, Assignment) else "",
)
def test_arithmetic(collection: Collection[dict[str, Any]], assignment: Assignment[Thing], change: Oracle) -> None:
    """Arithmetic on null and missing gives null; below a document that is null or missing it changes nothing."""
    scope = DocumentScope(Thing)
    pipeline = stages(checked_assignments(class_map(Thing), [assignment], scope), scope)
    for shape in SHAPES:
        assert expected_of(shape, change) == outcome(collection, shape, pipeline), shape
