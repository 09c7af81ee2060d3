"""TypedDicts, aliases and abstract containers as types of fields."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping, MutableSequence, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import IntEnum
from typing import Annotated, Any, NewType, NotRequired, Required, TypedDict
from uuid import UUID

import pytest
import typing_extensions
from bson import Decimal128, ObjectId
from typing_extensions import TypeAliasType

from superorm import Document, Embedded, Mapped, MappingError, Registry, UnsupportedError, ValidationError, field
from superorm.codec.documents import dump
from superorm.schema.lookup import class_finder
from superorm.schema.mapping import class_map
from tests.schema.helpers import change_of, document_class, load_one, store
from tests.schema.values import Moment

KEY = ObjectId()


class Point(Embedded):
    x: Mapped[int]


class Place(TypedDict):
    name: str
    zip: NotRequired[int]


class Stay(TypedDict, total=False):
    place: Required[Place]
    price: Decimal
    days: list[date]
    point: Point | None


class LongStay(Stay):
    weeks: int


class Visit(Moment):
    place: Place


class Loop(TypedDict):
    point: Point
    loops: list[Loop]


class Node(typing_extensions.TypedDict):
    n: int
    nodes: typing_extensions.NotRequired[list[Node]]


Odd = TypedDict("Odd", {"with space": int, "class": "str"})


class Trip(Document, registry=Registry()):
    stay: Mapped[Stay]
    stays: Mapped[list[LongStay]] = field(factory=list)
    node: Mapped[Node | None] = field(default=None)
    mixed: Mapped[dict[str, Place | int]] = field(factory=dict)
    odd: Mapped[Odd | None] = field(default=None)


STAY: dict[str, Any] = {"place": {"name": "A"}, "price": Decimal("1.5"), "days": [date(2020, 1, 2)]}


def test_inherited_from_another_module() -> None:
    """The names in inherited annotations are those of the module that they stand in."""
    now = datetime(2020, 1, 2, tzinfo=UTC)
    visit = {"at": now, "place": {"name": "A"}}
    assert visit == store(document_class(visit=Visit)(visit=visit))["visit"]


def test_classes_inside_are_found_by_name() -> None:
    """Also in TypedDicts that hold themselves."""
    holder = document_class(loop=Loop)
    assert Point is class_finder(holder.__superorm_registry__)(f"{__name__}.Point")


def trip(**values: Any) -> Any:
    """A trip with a short stay."""
    return Trip(**{"stay": {"place": {"name": "A"}}, **values})


def test_typed_dicts() -> None:
    """They are stored as documents of their parts, in the order in which their keys stand."""
    value = trip(
        stay={**STAY, "point": Point(x=1)},
        stays=[{"weeks": 2, "place": {"zip": 5, "name": "B"}}],
        node={"n": 1, "nodes": [{"n": 2}, {"n": 3, "nodes": []}]},
        mixed={"a": {"name": "C"}, "b": 1},
        odd={"with space": 1, "class": "x"},
    )
    stored = store(value)
    assert {
        "_id": value.id,
        "stay": {
            "place": {"name": "A"},
            "price": Decimal128("1.5"),
            "days": [datetime.fromisoformat("2020-01-02T00:00:00+00:00")],
            "point": {"x": 1},
        },
        "stays": [{"weeks": 2, "place": {"zip": 5, "name": "B"}}],
        "node": {"n": 1, "nodes": [{"n": 2}, {"n": 3, "nodes": []}]},
        "mixed": {"a": {"name": "C"}, "b": 1},
        "odd": {"with space": 1, "class": "x"},
    } == stored
    assert ["weeks", "place"] == list(stored["stays"][0])
    again = load_one(Trip, stored)
    for name in ("stay", "stays", "node", "mixed", "odd"):
        assert getattr(value, name) == getattr(again, name)
    assert dict is type(again.stay)
    assert change_of(class_map(Trip), again) is None
    again.stay["days"].append(date(2020, 1, 3))
    again.stay["place"]["zip"] = 7
    del again.stay["price"]
    expected = {
        "$set": {
            "stay.place.zip": 7,
            "stay.days": [datetime.fromisoformat(f"2020-01-0{n}T00:00:00+00:00") for n in (2, 3)],
        },
        "$unset": {"stay.price": ""},
    }
    assert expected == change_of(class_map(Trip), again).update  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("values", "path", "message"),
    [
        ({"stay": {}}, "stay", "expected a Stay, which has the key 'place', got dict {}"),
        ({"stay": {"place": {"zip": 1}}}, "stay.place", "expected a Place, which has the key 'name', got dict"),
        ({"stay": {"place": {"name": 1}}}, "stay.place.name", "expected str, got int 1"),
        ({"stay": {**STAY, "more": 1}}, "stay.more", "Stay has no key 'more'"),
        ({"stay": {**STAY, "days": [5]}}, "stay.days.0", "expected date, got int 5"),
        ({"stay": {**STAY, "a.b": 1}}, "stay", "expected a key that is a string without dots, dollar signs and NUL"),
        ({"stay": {**STAY, 1: 1}}, "stay", "expected a key that is a string"),
        ({"stay": {**STAY, "point": Point(x=2**63)}}, "stay.point.x", "an int of at most 64 bits"),
        ({"stays": [{"weeks": 1, "place": {"name": "x"}}, {"place": 5}]}, "stays.1.place", "expected Place, got int 5"),
        ({"node": {"n": 1, "nodes": [{"n": 1}, {"n": "x"}]}}, "node.nodes.1.n", "expected int, got str 'x'"),
        ({"stay": None}, "stay", "expected Stay, got NoneType None"),
    ],
)
def test_typed_dicts_that_do_not_fit(values: dict[str, Any], path: str, message: str) -> None:
    """A wrong type, a key too many or too few is refused with its path."""
    with pytest.raises(ValidationError) as raised:
        dump(class_map(Trip), trip(**values))
    assert message in str(raised.value)
    assert path == raised.value.field


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ({"stay": {}}, "stay"),
        ({"stay": {"place": {"name": 5}}}, "stay.place.name"),
        ({"node": {"n": 1, "nodes": [{"n": None}]}}, "node.nodes.0.n"),
        ({"node": [1]}, "node"),
    ],
)
def test_stored_typed_dicts_that_do_not_fit(raw: dict[str, Any], path: str) -> None:
    """The same when they are read."""
    with pytest.raises(ValidationError) as raised:
        getattr(load_one(Trip, {"_id": KEY, **raw}), next(iter(raw)))
    assert (Trip, KEY, path) == (raised.value.document_class, raised.value.key, raised.value.field)


def test_undeclared_keys_that_were_stored_are_kept() -> None:
    """They can be seen, survive a change beside them, a copy and a pickle, and can be removed; new ones are refused."""
    raw = {"stay": {"place": {"name": "A", "new": {"a": [1]}}, "old": 1}, "stays": []}
    instance = load_one(Trip, raw)
    assert raw["stay"] == instance.stay
    assert change_of(class_map(Trip), instance) is None
    instance.stay["place"]["name"] = "B"
    assert {"$set": {"stay.place.name": "B"}} == change_of(class_map(Trip), instance).update  # type: ignore[union-attr]
    for stay in (copy.deepcopy(instance.stay), pickle.loads(pickle.dumps(instance.stay))):
        assert {**raw["stay"], "place": {"name": "B", "new": {"a": [1]}}} == store(trip(stay=stay))["stay"]
    instance.stay["place"]["new"]["a"].append(2)
    assert [1, 2] == change_of(class_map(Trip), instance).update["$set"]["stay.place.new.a"]  # type: ignore[union-attr]
    del instance.stay["old"]
    assert {"stay.old": ""} == change_of(class_map(Trip), instance).update["$unset"]  # type: ignore[union-attr]
    instance.stay["newer"] = 1
    with pytest.raises(ValidationError) as raised:
        change_of(class_map(Trip), instance)
    assert "stay.newer" == raised.value.field


def test_keys_of_typed_dicts_in_statements() -> None:
    """Declared keys can be named, with their types behind them."""
    assert "stay.place" == Trip.stay["place"]._path  # type: ignore[index]
    assert "stay.point.x" == Trip.stay["point"].x._path  # type: ignore[index]


def test_typed_dicts_that_are_refused() -> None:
    """A key that no document can have, a type that is not known, and no set can hold one."""
    bad = TypedDict("bad", {"a.b": int})  # type: ignore[misc]

    class Unknown(TypedDict):
        a: object

    with pytest.raises(MappingError, match=r"Holder\.x: bad has a key that no document can have, 'a\.b'"):
        document_class(x=bad)
    with pytest.raises(MappingError, match=r"Holder\.x: no type <class 'object'> is known"):
        document_class(x=list[Unknown])
    with pytest.raises(MappingError, match="a set cannot hold Place"):
        document_class(x=set[Place])
    for union in (Place | Point, Place | dict[str, int], Place | Stay):
        with pytest.raises(UnsupportedError, match="cannot be told apart"):
            document_class(x=union)


Ids = NewType("Ids", list[UUID])
Maybe = TypeAliasType("Maybe", "Point | str | None")
Numbers = TypeAliasType("Numbers", list["int | float"])
Endless = TypeAliasType("Endless", "list[Endless] | int")  # type: ignore[misc]


class Size(IntEnum):
    S = 1


class MyInt(int):
    pass


@pytest.mark.parametrize(
    ("annotation", "value", "stored"),
    [
        (Ids, [UUID(int=1)], [UUID(int=1)]),
        (Maybe, Point(x=1), {"x": 1}),
        (Maybe, None, None),
        (Maybe | int, 5, 5),
        (Numbers, [1, 2.5], [1, 2.5]),
        (Annotated[Numbers, "x"] | None, [1], [1]),
        (Size | None, Size.S, 1),
        (Sequence[int], [1], [1]),
        (MutableSequence[int], [1], [1]),
        (AbstractSet[int], {1}, [1]),
        (Mapping[str, Point], {"a": Point(x=1)}, {"a": {"x": 1}}),
        (Mapping[str, Sequence[Annotated[int, 3]]], {"a": [1]}, {"a": [1]}),
    ],
)
def test_aliases_and_abstract_containers(annotation: Any, value: Any, stored: Any) -> None:
    """They are the types that they stand for."""
    cls = document_class(value=annotation)
    raw = store(cls(value=value))
    assert stored == raw["value"]
    assert value == load_one(cls, raw).value


def test_aliases_flatten_unions() -> None:
    """Members of a union in an alias are members of the union around it."""
    other = TypeAliasType("other", Place | None)
    with pytest.raises(UnsupportedError, match=r"Place \| .* cannot be told apart|.* \| Place cannot be told apart"):
        document_class(x=Maybe | other)


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (Endless, "the type Endless holds itself; write Any in its place"),
        (object, "no type <class 'object'> is known; use one of"),
        (Trip, r"no type .*Trip'> is known: a Document has a collection of its own; derive it from Embedded"),
        (Mapping[int, str], "the keys of a dict must be str, not <class 'int'>"),
        (list[Any] | tuple[int, int], "cannot be told apart"),
        (date | Any, "cannot be told apart"),
    ],
)
def test_annotations_that_are_refused(annotation: Any, message: str) -> None:
    """Each says why."""
    with pytest.raises((MappingError, UnsupportedError), match=message):
        document_class(x=annotation)


@pytest.mark.parametrize("kind", [MyInt, complex, range])
def test_classes_that_are_not_registered(kind: Any) -> None:
    """They are an error at first use that says how to register them; a subclass of a known class is another class."""
    cls = document_class(x=kind)
    with pytest.raises(
        MappingError, match=rf"Holder\.x: no type .* call superorm\.register_type\({kind.__name__}, to_bson"
    ):
        store(cls(x=1))


def test_any_in_unions() -> None:
    """Any stands beside what is stored as it is."""
    cls = document_class(x=Any | int | None, y=list[Any] | str)
    raw = store(cls(x={"a": 1}, y=["b"]))
    assert ({"a": 1}, ["b"]) == (load_one(cls, raw).x, load_one(cls, raw).y)
