"""Random changes at any depth of an object, flushed, give the document that is made of the changed object."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias
from uuid import uuid4

import bson
import numpy as np
import pymongo
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from superorm import (
    DB,
    Document,
    Embedded,
    Mapped,
    Registry,
    Session,
    StaleDocumentError,
    connect,
    field,
    load_only,
    select,
)
from superorm.codec.documents import changes_of
from superorm.compile.plan import Find
from superorm.schema.mapping import class_map
from superorm.unitofwork.writes import Insert
from tests.databases import drop_database

registry = Registry()


class Leaf(Embedded):
    n: Mapped[int] = field(default=0)
    words: Mapped[list[str]] = field(factory=list)


class Branch(Embedded):
    name: Mapped[str] = field(default="")
    leaf: Mapped[Leaf | None] = field(default=None)
    leaves: Mapped[list[Leaf]] = field(factory=list)
    table: Mapped[dict[str, int]] = field(factory=dict)


class Plain(Document, registry=registry):
    id: Mapped[int] = field(primary_key=True)
    title: Mapped[str] = field(default="")
    branch: Mapped[Branch | None] = field(default=None)
    branches: Mapped[list[Branch]] = field(factory=list)
    table: Mapped[dict[str, list[int]]] = field(factory=dict)
    by_name: Mapped[dict[str, Branch]] = field(factory=dict, name="n")
    grid: Mapped[list[list[int]]] = field(factory=list)
    data: Mapped[np.ndarray | None] = field(default=None)


class Counted(Document, registry=registry):
    id: Mapped[int] = field(primary_key=True)
    title: Mapped[str] = field(default="")
    branch: Mapped[Branch | None] = field(default=None)
    branches: Mapped[list[Branch]] = field(factory=list)
    table: Mapped[dict[str, list[int]]] = field(factory=dict)
    by_name: Mapped[dict[str, Branch]] = field(factory=dict, name="n")
    grid: Mapped[list[list[int]]] = field(factory=list)
    data: Mapped[np.ndarray | None] = field(default=None)
    version: Mapped[int] = field(version=True)


class Circle(Embedded):
    radius: Mapped[int] = field(default=0)


class Square(Embedded):
    __extra__ = "forbid"

    side: Mapped[int] = field(default=0)


class Cube(Square):
    color: Mapped[str] = field(default="")


class Drawing(Document, registry=registry):
    __collection__ = "nested_drawings"

    id: Mapped[int] = field(primary_key=True)
    shape: Mapped[Circle | Square | None] = field(default=None)
    shapes: Mapped[dict[str, Square]] = field(factory=dict)


KEYS = st.sampled_from(["k", "l", "0", "10", "2", "a b", "é", "a-b", "K"])
NUMBERS = st.integers(-3, 3)
WORDS = st.text("ab", max_size=2)
LEAVES = st.builds(Leaf, n=NUMBERS, words=st.lists(WORDS, max_size=3))
BRANCHES = st.builds(
    Branch,
    name=WORDS,
    leaf=st.none() | LEAVES,
    leaves=st.lists(LEAVES, max_size=3),
    table=st.dictionaries(KEYS, NUMBERS, max_size=3),
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "title": WORDS,
    "branch": st.none() | BRANCHES,
    "branches": st.lists(BRANCHES, max_size=3),
    "table": st.dictionaries(KEYS, st.lists(NUMBERS, max_size=3), max_size=3),
    "by_name": st.dictionaries(KEYS, BRANCHES, max_size=3),
    "grid": st.lists(st.lists(NUMBERS, max_size=3), max_size=3),
    "data": st.none() | st.lists(NUMBERS, min_size=1, max_size=3).map(lambda values: np.array(values, np.float64)),
}
PARTS: dict[type, dict[str, st.SearchStrategy[Any]]] = {
    Plain: FIELDS,
    Counted: FIELDS,
    Branch: {
        "name": WORDS,
        "leaf": st.none() | LEAVES,
        "leaves": st.lists(LEAVES, max_size=3),
        "table": st.dictionaries(KEYS, NUMBERS, max_size=3),
    },
    Leaf: {"n": NUMBERS, "words": st.lists(WORDS, max_size=3)},
}


def mutate(draw: Any, value: Any, like: st.SearchStrategy[Any] | None = None) -> None:
    """Change something in a value, or in a part of it, in place."""
    if isinstance(value, np.ndarray):
        value[draw(st.integers(0, len(value) - 1))] = draw(st.floats(-2, 2))
    elif isinstance(value, list):
        change_list(draw, value)
    elif isinstance(value, dict):
        change_dict(draw, value)
    else:
        name = draw(st.sampled_from(sorted(PARTS[type(value)])))
        inner = getattr(value, name)
        if isinstance(inner, (list, dict, np.ndarray, Branch, Leaf)) and draw(st.booleans()):
            mutate(draw, inner)
        else:
            setattr(value, name, draw(PARTS[type(value)][name]))


def change_list(draw: Any, value: list[Any]) -> None:
    """Append, delete, copy, turn round or change an item."""
    action = draw(st.sampled_from(["change", "append", "delete", "turn"])) if value else "none"
    match action:
        case "append":
            value.append(draw(st.sampled_from(value)))
        case "delete":
            del value[draw(st.integers(0, len(value) - 1))]
        case "turn":
            value.reverse()
        case "change":
            place = draw(st.integers(0, len(value) - 1))
            if isinstance(value[place], (list, dict, Branch, Leaf)):
                mutate(draw, value[place])
            else:
                value[place] = draw(WORDS if isinstance(value[place], str) else NUMBERS)
        case _:
            pass


def change_dict(draw: Any, value: dict[str, Any]) -> None:
    """Delete, add or change a value."""
    if not value:
        return
    key = draw(st.sampled_from(sorted(value)))
    match draw(st.sampled_from(["change", "delete", "add"])):
        case "delete":
            del value[key]
        case "add":
            value[draw(KEYS)] = value[key]
        case _:
            if isinstance(value[key], int):
                value[key] = draw(NUMBERS)
            else:
                mutate(draw, value[key])


def document_of(value: Any) -> Any:
    """What is to be stored for an object, made by hand; arrays are left out."""
    if isinstance(value, (Plain, Counted)):
        names = {"by_name": "n"}
        document = {names.get(name, name): document_of(getattr(value, name)) for name in FIELDS if name != "data"}
        return {"_id": value.id, **document} | ({"version": value.version} if isinstance(value, Counted) else {})
    if isinstance(value, Embedded):
        return {name: document_of(getattr(value, name)) for name in PARTS[type(value)]}
    if isinstance(value, list):
        return [document_of(item) for item in value]
    if isinstance(value, dict):
        return {key: document_of(item) for key, item in value.items()}
    return value


@pytest.fixture(scope="module", params=["mongomock", "mongodb"])
def place(request: pytest.FixtureRequest, mongodb_uri: str) -> Iterator[tuple[DB, Any]]:
    """A DB, and what reads its documents as they are."""
    name = f"test_{uuid4().hex[:12]}"
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        url = f"mongomock://{name}" if request.param == "mongomock" else mongodb_uri
        with connect(url, database=name, vector_database="memory://", signing_key="test-key") as db:
            yield db, client[name] if request.param == "mongodb" else None
        drop_database(client, name)


def read(place: tuple[DB, Any], collection: str) -> dict[str, Any]:
    """The one document as plain PyMongo reads it; on mongomock as the backend does."""
    db, database = place
    document = database[collection].find_one() if database is not None else None
    if document is None:
        (document,) = db.parts.data_backend.read(Find(collection))
    return {name: value for name, value in document.items() if name != "data"}


def check_size(instance: Any) -> None:
    """An update sends no more of values than naming the changed fields whole; with a version no more bytes in all."""
    mapping = class_map(type(instance))
    found = changes_of(mapping, (instance,))
    for update, snapshot in zip(found.updates, found.snapshots, strict=True):
        sets, unsets = update.get("$set", {}), update.get("$unset", {})
        fields = dict.fromkeys(path.partition(".")[0] for path in (*sets, *unsets))
        whole = {name: snapshot[name] for name in fields if name in snapshot}
        if mapping.version is None:
            sent = sum(len(bson.encode({"": value})) for value in sets.values())
            assert sent <= sum(len(bson.encode({"": value})) for value in whole.values())
        else:
            sent = len(bson.encode(sets)) + len(bson.encode(unsets))
            assert sent <= len(bson.encode(whole)) + len(bson.encode({}))


def items(value: Any) -> Any:
    """The document with its keys in order, to compare also their order."""
    if isinstance(value, dict):
        return [(key, items(item)) for key, item in value.items()]
    return [items(item) for item in value] if isinstance(value, list) else value


@settings(max_examples=60, deadline=None)
@given(data=st.data(), cls=st.sampled_from([Plain, Counted]))
def test_random_changes(place: tuple[DB, Any], data: st.DataObject, cls: type[Any]) -> None:
    """What is stored after each flush is what the object says, the order of keys too."""
    db, _ = place
    collection = cls.__collection__
    draw: Any = data.draw
    with db.begin() as session:
        for one in session.scalars(_all(cls)):
            session.delete(one)
    with db.begin() as session:
        session.add(cls(id=1, **{name: draw(values) for name, values in FIELDS.items()}))
    with db.session() as session:
        one = session.get_one(cls, 1)
        for _ in range(draw(st.integers(1, 3))):
            for _ in range(draw(st.integers(1, 3))):
                mutate(draw, one)
            check_size(one)
            session.commit()
            assert not session.is_modified(one)
            assert items(document_of(one)) == items(read(place, collection))
            kept = None if one.data is None else one.data.tolist()
            with db.session() as other:
                again = other.get_one(cls, 1)
                assert kept == (None if again.data is None else again.data.tolist())
        mutate(draw, one)
        session.rollback()
        assert items(document_of(one)) == items(read(place, collection))


def _all(cls: type[Any]) -> Any:
    return select(cls)


def test_two_sessions(place: tuple[DB, Any]) -> None:
    """Of two sessions that change different fields, or different parts of one, both win."""
    db, _ = place
    with db.begin() as session:
        for one in session.scalars(_all(Plain)):
            session.delete(one)
    with db.begin() as session:
        session.add(Plain(id=1, branch=Branch(leaf=Leaf()), by_name={"a": Branch(), "b": Branch()}, table={"k": [1]}))
    with db.session() as first, db.session() as second:
        one, two = first.get_one(Plain, 1), second.get_one(Plain, 1)
        one.title = "first"
        one.branch.name = "first"
        one.by_name["a"].table["x"] = 1
        one.table["l"] = [2]
        two.grid.append([1])
        two.branch.leaf.n = 2
        two.by_name["b"].name = "second"
        two.table["k"].append(3)
        first.commit()
        second.commit()
    document = read(place, Plain.__collection__)
    assert ("first", [[1]], {"k": [1, 3], "l": [2]}) == (document["title"], document["grid"], document["table"])
    assert ("first", 2) == (document["branch"]["name"], document["branch"]["leaf"]["n"])
    assert ({"x": 1}, "second") == (document["n"]["a"]["table"], document["n"]["b"]["name"])


Way: TypeAlias = tuple[dict[str, list[int]], Callable[[Any], Any], Callable[[Any], Any], dict[str, list[int]]]
KEYS_OF_TWO: dict[str, Way] = {
    "into an empty one": (
        {},
        lambda one: one.setdefault("a", [1]),
        lambda two: two.setdefault("b", [2]),
        {"a": [1], "b": [2]},
    ),
    "in any order": (
        {"k": []},
        lambda one: one.setdefault("m", [1]),
        lambda two: two.update(z=[2], b=[3]),
        {"k": [], "m": [1], "z": [2], "b": [3]},
    ),
    "numbers": (
        {"k": []},
        lambda one: one.update({"3": [1], "20": [1]}),
        lambda two: two.update({"10": [2], "2": [2]}),
        {"k": [], "3": [1], "20": [1], "10": [2], "2": [2]},
    ),
    "one out, some in": (
        {"k": [], "l": []},
        lambda one: one["k"].append(1),
        lambda two: (two.pop("l"), two.update(z=[2], b=[3])),
        {"k": [1], "z": [2], "b": [3]},
    ),
    "the last one out": ({"k": []}, lambda one: one.setdefault("a", [1]), lambda two: two.pop("k"), {"a": [1]}),
}


@pytest.mark.parametrize("case", KEYS_OF_TWO)
def test_two_sessions_and_the_keys_of_a_dict(place: tuple[DB, Any], case: str) -> None:
    """Both win, be the dict empty before or after, and whatever the order in which a session adds its keys."""
    db, _ = place
    before, first_change, second_change, expected = KEYS_OF_TWO[case]
    with db.begin() as session:
        for one in session.scalars(_all(Plain)):
            session.delete(one)
    with db.begin() as session:
        session.add(Plain(id=1, table=before))
    with db.session() as first, db.session() as second:
        one, two = first.get_one(Plain, 1), second.get_one(Plain, 1)
        first_change(one.table)
        second_change(two.table)
        first.commit()
        second.commit()
        two.title = "again"  # what it knows of the document is still so
        second.commit()
    assert items(expected) == items(read(place, Plain.__collection__)["table"])


def test_two_sessions_and_what_was_missing(place: tuple[DB, Any]) -> None:
    """Where both change parts of a default, or of what both add, the later one is told, and `DB.run` does it again."""
    db, _ = place
    collection = Plain.__collection__

    def change_branch(session: Session) -> None:
        plain = session.get_one(Plain, 1)
        plain.branch.table["b"] = 2
        plain.table["b"] = [2]
        plain.by_name.setdefault("new", Branch()).name = "second"

    with db.begin() as session:
        for one in session.scalars(_all(Plain)):
            session.delete(one)
    db.parts.data_backend.write(Insert(collection, [{"_id": 1, "branch": {"name": "", "leaf": None, "leaves": []}}]))
    with db.session() as first, db.session() as second:
        one = first.get_one(Plain, 1)
        one.branch.table["a"] = 1
        one.table["a"] = [1]
        one.by_name["new"] = Branch(table={"k": 1})
        change_branch(second)
        first.commit()
        with pytest.raises(StaleDocumentError, match=r"Plain 1\b"):
            second.commit()
    db.run(change_branch)
    document = read(place, collection)
    assert ({"a": 1, "b": 2}, {"a": [1], "b": [2]}) == (document["branch"]["table"], document["table"])
    assert ({"k": 1}, "second") == (document["n"]["new"]["table"], document["n"]["new"]["name"])


@pytest.mark.parametrize("attribute", ["table", "by_name"])
def test_what_was_not_loaded_is_not_missing(place: tuple[DB, Any], attribute: str) -> None:
    """A field of a partial object is set, whether its document has it or not."""
    db, _ = place
    with db.begin() as session:
        for one in session.scalars(_all(Plain)):
            session.delete(one)
    with db.begin() as session:
        session.add(Plain(id=1, table={"k": [1]}, by_name={"k": Branch()}))
    with db.session() as session:
        one = session.scalars(select(Plain).options(load_only(Plain.title))).one()
        setattr(one, attribute, {})
        session.commit()
    assert {} == read(place, Plain.__collection__)[{"by_name": "n"}.get(attribute, attribute)]


@pytest.mark.parametrize("cls", [Plain, Counted])
def test_two_at_once(place: tuple[DB, Any], cls: Any) -> None:
    """So they do by `DB.run` while the other has its transaction open, in which the server lets only one write."""
    db, raw = place
    if raw is None:
        return
    with db.begin() as session:
        for one in session.scalars(_all(cls)):
            session.delete(one)
    with db.begin() as session:
        session.add(cls(id=1, branch=Branch(leaf=Leaf())))
    attempts: list[int] = []

    def change(session: Session) -> None:
        attempts.append(len(attempts))
        one = session.get_one(cls, 1)
        one.grid.append([1])
        one.branch.leaf.n = 2

    with db.session() as first, ThreadPoolExecutor(1) as other:
        one = first.get_one(cls, 1)
        one.title = one.branch.name = "first"
        first.flush()
        second = other.submit(db.run, change, attempts=1000)
        while len(attempts) < 3:
            assert not second.done()
            time.sleep(0.01)
        first.commit()
        second.result(30)
    document = read(place, cls.__collection__)
    assert ("first", [[1]]) == (document["title"], document["grid"])
    assert ("first", 2) == (document["branch"]["name"], document["branch"]["leaf"]["n"])


def test_parts_that_are_gone(place: tuple[DB, Any]) -> None:
    """A change inside of what another session took away is refused, not stored as a fragment."""
    db, _ = place
    for gone in (None, Branch(name="other")):
        with db.begin() as session:
            for one in session.scalars(_all(Plain)):
                session.delete(one)
        with db.begin() as session:
            session.add(Plain(id=1, branch=Branch(leaf=Leaf(), table={"k": 1})))
        with db.session() as first, db.session() as second:
            one, two = first.get_one(Plain, 1), second.get_one(Plain, 1)
            one.branch = gone
            assert two.branch is not None
            assert two.branch.leaf is not None
            two.branch.leaf.n = 5
            first.commit()
            with pytest.raises(StaleDocumentError, match=r"1 of 1 changed documents in plain .*Plain 1"):
                second.commit()
            second.rollback()
            second.refresh(two)
            assert gone == two.branch


def test_parts_of_another_class(place: tuple[DB, Any]) -> None:
    """A change inside of what another session made one of another class is refused; two such parts are not mixed."""
    db, _ = place
    with db.begin() as session:
        for drawing in session.scalars(select(Drawing)):
            session.delete(drawing)
    with db.begin() as session:
        session.add(Drawing(id=1, shape=Circle(radius=1), shapes={"a": Square(side=1), "b": Cube(side=1)}))
    with db.session() as first, db.session() as second, db.session() as third:
        one, two, three = (session.get_one(Drawing, 1) for session in (first, second, third))
        one.shape, one.shapes["b"] = Square(side=2), Square(side=3)
        assert isinstance(two.shape, Circle)
        two.shape.radius = 5
        three.shapes["b"].side, three.shapes["a"] = 7, Cube(color="red")
        first.commit()
        for session in (second, third):
            with pytest.raises(StaleDocumentError, match="Drawing 1"):
                session.commit()
            session.rollback()
        second.refresh(two)
        assert (Square(side=2), {"a": Square(side=1), "b": Square(side=3)}) == (two.shape, two.shapes)
        two.shape.side = 6
        third.refresh(three)
        three.shapes["b"], three.shapes["a"] = Cube(side=4), Cube(color="red")
        second.commit()
        third.commit()
    document = read(place, Drawing.__collection__)
    assert {"_type": "Square", "side": 6} == document["shape"]
    assert {"_type": "Cube", "side": 0, "color": "red"} == document["shapes"]["a"]
    assert {"_type": "Cube", "side": 4, "color": ""} == document["shapes"]["b"]


def test_positions(place: tuple[DB, Any]) -> None:
    """With a version an item of a list is set by its position; without one the list, as it may be another by now."""
    for cls, expected in ((Counted, {"branches.1.leaf.n": 5, "version": 2}), (Plain, None)):
        db, _ = place
        with db.begin() as session:
            for one in session.scalars(_all(cls)):
                session.delete(one)
        with db.begin() as session:
            session.add(cls(id=1, branches=[Branch(leaf=Leaf(), name="a" * 50), Branch(leaf=Leaf(), name="b" * 50)]))
        with db.session() as session:
            one = session.get_one(cls, 1)
            one.branches[1].leaf.n = 5
            (update,) = changes_of(class_map(cls), (one,)).updates
            assert (expected or {"branches": document_of(one.branches)}) == update["$set"]
            session.commit()
        assert 5 == read(place, cls.__collection__)["branches"][1]["leaf"]["n"]
