"""Elements of lists, values of their own types and sums that are too large: the server against plain Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from enum import Enum
from typing import Any

import pytest

from superorm import (
    Document,
    Embedded,
    Mapped,
    Registry,
    StatementError,
    WriteError,
    case,
    delete,
    field,
    func,
    select,
    update,
    window,
)
from superorm.expr.base import Predicate
from tests.tasks.conftest import Shop

registry = Registry()


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Award(Embedded):
    year: Mapped[int]


class Role(Embedded):
    actor: Mapped[str]
    pay: Mapped[int | None] = field(default=None)
    awards: Mapped[list[Award]] = field(factory=list)


class Play(Document, registry=registry):
    __collection__ = "task_plays"
    id: Mapped[int] = field(primary_key=True)
    genres: Mapped[list[str]] = field(factory=list)
    tags: Mapped[set[str]] = field(factory=set)
    cast: Mapped[list[Role]] = field(factory=list)
    matrix: Mapped[list[list[int]]] = field(factory=list)
    ids: Mapped[list[int]] = field(factory=list)
    runs: Mapped[int] = field(default=0)
    color: Mapped[Color | None] = field(default=None)
    day: Mapped[date | None] = field(default=None)


class Pet(Document, registry=registry):
    __collection__ = "task_pets"
    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str] = field(default="")


class Dog(Pet, registry=registry):
    bark: Mapped[int] = field(default=0)


class Puppy(Dog, registry=registry):
    age: Mapped[int] = field(default=0)


class Cat(Pet, registry=registry):
    lives: Mapped[int] = field(default=9)


def plays() -> list[Play]:
    return [
        Play(
            id=1,
            genres=["x", "y"],
            tags={"a", "b"},
            cast=[Role(actor="P", pay=3, awards=[Award(year=1990)]), Role(actor="Q", pay=1)],
            matrix=[[1, 2], [3]],
            ids=[1, 2],
            runs=2**63 - 1,
            color=Color.RED,
            day=date(2020, 1, 2),
        ),
        Play(id=2, tags={"a"}, cast=[Role(actor="R"), Role(actor="S", pay=3)], matrix=[[4, 5], [6]], ids=[3, 4]),
        Play(id=3, genres=["y"], cast=[Role(actor="T", pay=2)], runs=-(2**63), color=Color.BLUE),
    ]


@pytest.fixture
def stage(shop: Shop) -> Iterator[Shop]:
    """The shop's database with some plays, of which one lacks its lists."""
    with shop.db.begin() as session:
        session.add_all(plays())
    raw = shop.db.parts.data_backend.client[shop.db.parts.data_backend.name]
    raw.task_plays.insert_one({"_id": 4})
    yield shop
    raw.drop_collection("task_plays")
    raw.drop_collection("task_pets")


def raw_documents(shop: Shop, collection: str) -> dict[Any, Any]:
    backend = shop.db.parts.data_backend
    return {one["_id"]: one for one in backend.client[backend.name][collection].find()}


def run(shop: Shop, statement: Any) -> Any:
    with shop.db.begin() as session:
        return session.execute(statement)


def first(items: list[Any]) -> Any:
    return items[0] if items else None


CONDITIONS: list[tuple[Predicate[Play], Callable[[Play], bool]]] = [
    (Play.cast[0].pay == 3, lambda one: any(role.pay == 3 for role in one.cast[:1])),
    (Play.cast[0].pay.is_(None), lambda one: any(role.pay is None for role in one.cast[:1])),
    (Play.cast[0].pay.in_([None, 2]), lambda one: any(role.pay in (None, 2) for role in one.cast[:1])),
    (Play.matrix[0].contains(1), lambda one: 1 in (first(one.matrix) or [])),
    (Play.matrix[0] == [4, 5], lambda one: [4, 5] == first(one.matrix)),
    (Play.matrix[1].contains(6), lambda one: 6 in (one.matrix[1] if one.matrix else [])),
    (Play.genres[0] == "y", lambda one: first(one.genres) == "y"),
    (Play.genres[0] != "y", lambda one: first(one.genres) != "y"),
    (Play.tags == {"b", "a"}, lambda one: one.tags == {"a", "b"}),
    (Play.tags != {"b", "a"}, lambda one: one.tags != {"a", "b"}),
    (Play.tags == {"a"}, lambda one: one.tags == {"a"}),
    (Play.tags == set(), lambda one: not one.tags),
]


@pytest.mark.parametrize(("condition", "holds"), CONDITIONS, ids=lambda value: f"{value!r:.60}".partition(" at 0x")[0])
def test_conditions(stage: Shop, condition: Predicate[Play], holds: Callable[[Play], bool]) -> None:
    """As a filter and as a value a condition says the same."""
    there = Play.cast.exists()
    expected = [one.id for one in plays() if holds(one)]
    assert [(id,) for id in expected] == stage.rows(select(Play.id).where(condition, there).order_by(Play.id))
    as_value = select(Play.id, case((condition, 1), else_=0)).where(there).order_by(Play.id)
    assert expected == [id for id, found in stage.rows(as_value) if found]


def test_nothing_else_is_deleted(stage: Shop) -> None:
    """A first element that has the value keeps its document from being deleted."""
    run(stage, delete(Play).where(Play.cast[0].pay.is_(None), Play.cast.exists()))
    assert {1, 3, 4} == raw_documents(stage, "task_plays").keys()


def test_elements_are_assigned_where_they_are(stage: Shop) -> None:
    """Documents without such an element are not changed."""
    run(stage, update(Play).all().set(Play.genres[1].to("q"), Play.color.to(Color.BLUE)))
    run(stage, update(Play).all().set(Play.cast[1].pay.to(9)))
    run(stage, update(Play).all().set(Play.matrix[0][1].to(7)))
    found = raw_documents(stage, "task_plays")
    assert {"_id": 4} == found[4]
    assert [["x", "q"], [], ["y"]] == [found[id]["genres"] for id in (1, 2, 3)]
    assert ["blue", None, "blue"] == [found[id]["color"] for id in (1, 2, 3)]
    assert [[3, 9], [None, 9], [2]] == [[role["pay"] for role in found[id]["cast"]] for id in (1, 2, 3)]
    assert [[[1, 7], [3]], [[4, 7], [6]], []] == [found[id]["matrix"] for id in (1, 2, 3)]


@pytest.mark.parametrize(("id", "by"), [(1, 1), (3, -1), (1, 2**62), (3, -(2**63))])
def test_sums_that_are_too_large_are_refused(stage: Shop, id: int, by: int) -> None:
    """They would be stored as floating-point numbers."""
    before = raw_documents(stage, "task_plays")
    with pytest.raises(WriteError, match="overflow") as refused:
        run(stage, update(Play).where(Play.id >= id, Play.id <= id).set(Play.runs.inc(by)))
    assert "$gte" not in str(refused.value)
    assert before == raw_documents(stage, "task_plays")
    run(stage, update(Play).where(Play.id == id).set(Play.runs.inc(-by if by > -(2**63) else 1)))
    expected = before[id]["runs"] - by if by > -(2**63) else before[id]["runs"] + 1
    found = raw_documents(stage, "task_plays")[id]["runs"]
    assert (expected, True) == (found, isinstance(found, int))


def test_reduce_in_reduce(stage: Shop) -> None:
    """The inner function sees the value and the item of the outer one."""

    def plain(one: Play) -> int:
        value = 0
        for row in one.matrix:
            inner = value
            for item in one.ids:
                inner = value + inner + item * len(row)
            value = inner
        return value

    made = func.reduce(
        Play.matrix,
        0,
        lambda value, row: func.reduce(
            Play.ids, value, lambda inner, item: value + inner + item * func.array_sum(func.size(row))
        ),
    )
    statement = select(Play.id, made).where(Play.ids.exists()).order_by(Play.id)
    assert [(one.id, plain(one)) for one in plays()] == stage.rows(statement)


def test_windows_in_the_order_of_elements(stage: Shop) -> None:
    """What windows are ordered by is computed first."""
    pay = Play.cast[0].pay
    statement = select(Play.id, window(func.rank(), order_by=pay.desc())).where(Play.cast.exists()).order_by(Play.id)
    pays = [one.cast[0].pay or 0 for one in plays()]
    assert [(one.id, 1 + sum(other > own for other in pays)) for one, own in zip(plays(), pays, strict=True)] == (
        stage.rows(statement)
    )
    with pytest.raises(StatementError, match=r"order_by=Play.cast\[0\].pay: fields and labels .* func.first"):
        select(func.top(Play.id, order_by=pay)).pipeline()


def test_a_position_below_a_list_is_no_value(stage: Shop) -> None:
    """In a condition it is any element's; as a value it would be one of each."""
    assert [(1,)] == stage.rows(select(Play.id).where(Play.cast.awards[0].year == 1990))
    with pytest.raises(StatementError, match=r"Play.cast.awards\[0\]: as a value .* unwind"):
        stage.rows(select(Play.cast.awards[0]))
    unwound = select(Play.cast.item().awards[0]).unwind(Play.cast).order_by(Play.id)
    expected = [(first(role.awards),) for one in plays() for role in one.cast]
    assert expected == stage.rows(unwound)


def test_items_of_made_lists(stage: Shop) -> None:
    """Each item of a list that a group made is read as what it is, also where it is a list."""
    days, ids = func.push(Play.day).label("days"), func.push(Play.ids).label("made")
    there = select(Play.id, days).where(Play.day.exists()).group_by(Play.id).unwind(days).order_by(Play.id)
    assert [(one.id, one.day) for one in plays()] == stage.rows(there)
    lists = select(Play.id, ids).where(Play.ids.exists()).group_by(Play.id).unwind(ids).order_by(Play.id)
    assert [(one.id, one.ids) for one in plays()] == stage.rows(lists)


def test_computed_values_are_of_their_types(stage: Shop) -> None:
    """Choices among values of one type, and the values of accumulators, are read as those of fields."""
    statement = (
        select(
            func.if_null(Play.day, date(2000, 1, 1)),
            case((Play.id > 1, Play.color)),
            case((Play.id > 1, Play.color), else_="none"),
            func.array_first(Play.cast),
        )
        .where(Play.cast.exists())
        .order_by(Play.id)
    )
    assert [
        (
            one.day or date(2000, 1, 1),
            one.color if one.id > 1 else None,
            (one.color and one.color.value) if one.id > 1 else "none",
            one.cast[0],
        )
        for one in plays()
    ] == stage.rows(statement)
    top = select(func.top(Play.color, order_by=Play.id), func.top_n(2, Play.color, order_by=Play.id))
    assert [(Color.RED, [Color.RED, None])] == stage.rows(top)
    of_lists = select(func.first_n(2, Play.cast)).select_from(Play).where(Play.id < 2)
    assert [([plays()[0].cast],)] == stage.rows(of_lists)


def test_operators_without_arguments(stage: Shop) -> None:
    """No value is true of none, and all are."""
    assert [] == stage.rows(select(Play.id).where(func.or_()))
    assert [(False, True, [], [])] == stage.rows(
        select(func.or_(), func.and_(), func.set_union(), func.set_intersection()).select_from(Play).limit(1)
    )


def test_what_cannot_be_converted_is_the_statement(stage: Shop) -> None:
    """The server's message and code are told."""
    with pytest.raises(StatementError, match=r"Failed to parse number 'x'.*241"):
        stage.rows(select(func.to_int(Play.genres[0])).where(Play.id == 1))


def test_merges_into_a_subclass(stage: Shop) -> None:
    """New documents name their class, those that are there keep theirs, and those of other classes are refused."""
    with stage.db.begin() as session:
        session.add_all([Cat(id=1, name="c"), Puppy(id=2, name="p", age=1)])
    names = select(Play.id, func.to_string(Play.id).label("name"))
    run(stage, names.where(Play.id.in_([2, 3])).merge_into(Dog))
    with pytest.raises(StatementError, match="of another class: Cat"):
        run(stage, names.where(Play.id == 1).merge_into(Dog))
    found = raw_documents(stage, "task_pets")
    assert [("Cat", "c"), ("Puppy", "2"), ("Dog", "3")] == [(found[id]["_type"], found[id]["name"]) for id in (1, 2, 3)]
    assert 1 == found[2]["age"]
    assert [(2,), (3,)] == stage.rows(select(Dog.id).order_by(Dog.id))
