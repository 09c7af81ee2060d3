"""Sets: the order in which they are stored, what is a change of one, and what they may hold."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

import pytest
from bson import Binary, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp
from hypothesis import given
from hypothesis import strategies as st

from superorm import Document, Embedded, Mapped, Registry, ValidationError, field, register_type
from superorm.expr.literals import literal
from superorm.expr.order import in_order
from superorm.schema.mapping import class_map
from tests.differential.values import key_of
from tests.schema.helpers import change_of, document_class, load_one, store

registry = Registry()


class Point(Embedded):
    x: Mapped[int]
    note: Mapped[str] = field(default="")

    def __hash__(self) -> int:
        return hash(self.x)


class Name(Embedded):
    name: Mapped[str]

    def __hash__(self) -> int:
        return hash(self.name)


class Loose(Embedded):
    """Equal by one field alone."""

    x: Mapped[int]
    note: Mapped[str] = field(default="")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Loose) and other.x == self.x

    def __hash__(self) -> int:
        return hash(self.x)


class Brittle(Embedded):
    x: Mapped[int]

    def __hash__(self) -> int:
        raise RuntimeError("no hash today")


class Holder(Document, registry=registry):
    words: Mapped[set[str]] = field(factory=set)
    floats: Mapped[set[float]] = field(factory=set)
    amounts: Mapped[set[Decimal]] = field(factory=set)
    groups: Mapped[set[frozenset[str]]] = field(factory=set)
    points: Mapped[set[Point]] = field(factory=set)
    loose: Mapped[set[Loose]] = field(factory=set)
    either: Mapped[frozenset[Point | Name] | None] = field(default=None)
    anything: Mapped[set[Any]] = field(factory=set)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.decimals(allow_nan=False, places=2, min_value=-(10**6), max_value=10**6).map(Decimal128)
    | st.text(max_size=3)
    | st.binary(max_size=3)
    | st.datetimes(timezones=st.just(dt.UTC)),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=3,
)


@given(
    values=st.lists(st.text(max_size=2)) | st.lists(st.integers(-(2**63), 2**63 - 1)) | st.lists(VALUES, max_size=6),
    random=st.randoms(use_true_random=False),
)
def test_the_order_is_the_servers(values: list[Any], random: Random) -> None:
    """Whatever order they come in, of one type or of several; and equal numbers are equal, whatever their types."""
    mixed = random.sample(values, len(values))
    expected = sorted(map(key_of, values))
    assert expected == list(map(key_of, in_order(mixed)))


def test_every_type_has_a_place() -> None:
    """Also those that no server sorts by."""
    values = [
        Regex("a"),
        Regex("b"),
        MinKey(),
        MaxKey(),
        Timestamp(1, 2),
        ObjectId(),
        UUID(int=1),
        Binary(b"x", 5),
        None,
    ]
    wanted = in_order(values)
    for seed in range(20):
        assert wanted == in_order(Random(seed).sample(values, len(values)))


def test_equal_numbers_of_other_types_change_no_order() -> None:
    """A literal of ints is in the order of the stored doubles and decimals."""
    assert [1, 2.5, 3, 10] == literal({10, 2.5, 3, 1}) == literal({1.0, 10.0, 2.5, 3.0})
    assert [1, Decimal128("2.5"), 10] == literal({Decimal("2.5"), 10, 1})
    assert [-1, 0, "a", True] == literal(frozenset({"a", True, 0, -1}))


@pytest.mark.parametrize(
    ("name", "stored", "value", "same"),
    [
        ("words", ["b", "a", "c"], {"a", "b", "c"}, True),
        ("words", ["b", "a", "a"], {"a", "b"}, True),
        ("words", ["b", "a"], {"a", "c"}, False),
        ("words", ["b", "a"], {"a"}, False),
        ("floats", [2, 1.0], {1.0, 2.0}, True),
        ("floats", [1.0, 0.0], {1.0, -0.0}, False),
        ("amounts", [Decimal128("2"), Decimal128("1.0")], {Decimal("1.0"), Decimal("2")}, True),
        ("amounts", [Decimal128("2"), Decimal128("1.0")], {Decimal("1.00"), Decimal("2")}, False),
        ("groups", [["c"], ["b", "a"]], {frozenset("ab"), frozenset("c")}, True),
        ("groups", [["c"], ["b", "a"]], {frozenset("ac"), frozenset("c")}, False),
        ("points", [{"x": 2, "note": ""}, {"x": 1, "note": ""}], {Point(x=1), Point(x=2)}, True),
        ("points", [{"x": 2}, {"x": 1}], {Point(x=1), Point(x=2, note="new")}, False),
        ("loose", [{"x": 1, "note": ""}], {Loose(x=1, note="new")}, False),
        ("anything", ["a", True], {"a", True}, True),
        ("anything", ["a", True], {"a", 1}, False),
    ],
)
def test_changes_are_those_of_sets(name: str, stored: list[Any], value: set[Any], same: bool) -> None:
    """Another order is none; other elements are, to the type and the sign."""
    holder = load_one(Holder, {**store(Holder()), name: stored})
    setattr(holder, name, value)
    change = change_of(class_map(Holder), holder)
    assert same is (change is None)
    if change is not None:
        assert {name} == change.fields


def test_an_element_changed_in_place_is_a_change() -> None:
    """Also where the elements say that they are equal."""
    holder = load_one(Holder, {**store(Holder(loose={Loose(x=1), Loose(x=2)})), "points": [{"x": 2}, {"x": 1, "y": 0}]})
    assert {Point(x=1), Point(x=2)} == holder.points
    assert change_of(class_map(Holder), holder) is None
    next(one for one in holder.loose if one.x == 2).note = "new"
    change = change_of(class_map(Holder), holder)
    assert change is not None
    assert {"$set": {"loose": [{"x": 1, "note": ""}, {"x": 2, "note": "new"}]}} == change.update


def test_embedded_documents_with_a_hash() -> None:
    """Sets hold them, of one class or of several, and they come back."""
    points = {Point(x=3), Point(x=1, note="a"), Point(x=2)}
    either: frozenset[Point | Name] = frozenset({Point(x=1), Name(name="a")})
    stored = store(Holder(points=points, either=either))
    assert [1, 2, 3] == [point["x"] for point in stored["points"]]
    assert [{"_type": "Name", "name": "a"}, {"_type": "Point", "x": 1, "note": ""}] == stored["either"]
    holder = load_one(Holder, stored)
    assert (points, either) == (holder.points, holder.either)
    held = document_class(x=set[tuple[Point, int]])
    assert {(Point(x=1), 2)} == load_one(held, store(held(x={(Point(x=1), 2)}))).x


def test_registered_types_with_a_hash() -> None:
    """Sets hold them, also where the class is registered late."""

    class Money:
        def __init__(self, amount: int) -> None:
            self.amount = amount

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Money) and other.amount == self.amount

        def __hash__(self) -> int:
            return -self.amount

    held = document_class(x=set[Money])
    register_type(Money, lambda money: money.amount, Money)
    stored = store(held(x={Money(2), Money(1), Money(3)}))
    assert [1, 2, 3] == stored["x"]
    assert {Money(1), Money(2), Money(3)} == load_one(held, stored).x


def test_a_hash_that_fails() -> None:
    """It is reported with the field, when the set is read."""
    held = document_class(x=set[Brittle])
    holder = load_one(held, {"x": [{"x": 1}]})
    with pytest.raises(ValidationError, match=r"Holder .*x.*__hash__ or __eq__ of Brittle failed .*no hash today"):
        holder.x  # noqa: B018
