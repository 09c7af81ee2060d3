"""Tasks with ``$merge`` and updates by expressions: what plain PyMongo reads afterwards against plain Python."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from superorm import Document, Embedded, Mapped, Registry, Session, case, delete, field, func, insert, select, update
from tests.tasks.conftest import Shop
from tests.tasks.shop import Item, Order, Stat


class Mark(Embedded):
    points: Mapped[int]
    by: Mapped[str] = field(default="")


class Student(Document, registry=Registry()):
    __collection__ = "task_students"
    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str]
    tests: Mapped[list[int]] = field(factory=list)
    homework: Mapped[list[int]] = field(factory=list)
    marks: Mapped[list[Mark]] = field(factory=list)
    average: Mapped[float | None] = field(default=None)
    grade: Mapped[str | None] = field(default=None)
    seen: Mapped[int | None] = field(default=None)


def students() -> list[Student]:
    return [
        Student(id=1, name="Ann", tests=[95, 92, 90], homework=[10, 9], marks=[Mark(points=5), Mark(points=1, by="x")]),
        Student(id=2, name="Ben", tests=[94, 88, 90], seen=3),
        Student(id=3, name="Cid", tests=[], homework=[4], marks=[Mark(points=2)], seen=0),
        Student(id=4, name="Dan", tests=[70, 75], homework=[1, 2, 3]),
    ]


@pytest.fixture
def school(shop: Shop) -> Iterator[Shop]:
    """The shop's database with some students."""
    with shop.db.begin() as session:
        session.add_all(students())
    yield shop
    shop.db.parts.data_backend.client[shop.db.parts.data_backend.name].drop_collection("task_students")


def stored(shop: Shop, collection: str) -> list[dict[str, Any]]:
    """What plain PyMongo reads."""
    backend = shop.db.parts.data_backend
    return list(backend.client[backend.name][collection].find(sort=[("_id", 1)]))


def run(shop: Shop, statement: Any) -> Any:
    with shop.db.begin() as session:
        return session.execute(statement)


def test_average_of_a_list(school: Shop) -> None:
    """A field computed from another one of the same document."""
    run(school, update(Student).all().set(Student.average.to(func.array_avg(Student.tests))))
    expected = [sum(one.tests) / len(one.tests) if one.tests else None for one in students()]
    assert [pytest.approx(mean) for mean in expected] == [one["average"] for one in stored(school, "task_students")]


def test_grades_by_conditions(school: Shop) -> None:
    """A case over another expression, for some of the documents."""
    mean = func.array_avg(Student.tests)
    grade = case((mean >= 90, "A"), (mean >= 80, "B"), else_="C")
    run(school, update(Student).where(Student.tests != []).set(Student.grade.to(grade), Student.average.to(mean)))
    grades = []
    for one in students():
        average = sum(one.tests) / len(one.tests) if one.tests else None
        grades.append(average and ("A" if average >= 90 else "B" if average >= 80 else "C"))
    assert grades == [one["grade"] for one in stored(school, "task_students")]


def test_lists_joined(school: Shop) -> None:
    """One list after the other, in one of them."""
    run(school, update(Student).all().set(Student.tests.to(func.concat_arrays(Student.tests, Student.homework))))
    assert [one.tests + one.homework for one in students()] == [one["tests"] for one in stored(school, "task_students")]


def test_counters(school: Shop) -> None:
    """Arithmetic on null gives null; on a number the number."""
    run(school, update(Student).all().set(Student.seen.inc(5)))
    expected = [None if one.seen is None else one.seen + 5 for one in students()]
    assert expected == [one["seen"] for one in stored(school, "task_students")]


def test_lists_changed(school: Shop) -> None:
    """Push, pull by condition, and add to a set, in one statement."""
    statement = (
        update(Student)
        .where(Student.id.in_([1, 3]))
        .set(
            Student.tests.push(60, 61),
            Student.marks.pull(Mark.points < 3),
            Student.homework.add_to_set(4, 5),
        )
    )
    run(school, statement)
    for one, document in zip(students(), stored(school, "task_students"), strict=True):
        if one.id in (1, 3):
            assert [*one.tests, 60, 61] == document["tests"]
            assert [mark.points for mark in one.marks if mark.points >= 3] == [m["points"] for m in document["marks"]]
            assert one.homework + [n for n in (4, 5) if n not in one.homework] == document["homework"]
        else:
            assert one.tests == document["tests"]


def test_values_moved(school: Shop) -> None:
    """One field takes what another one holds, which is removed."""
    run(school, update(Student).all().set(Student.grade.to(Student.name), Student.seen.unset()))
    documents = stored(school, "task_students")
    assert [one.name for one in students()] == [one["grade"] for one in documents]
    assert not any("seen" in one for one in documents)


def test_upsert_and_delete(school: Shop) -> None:
    """Insert or change by key, then delete by condition."""
    run(school, insert(Student).values([{"id": 2, "name": "Bea"}, {"id": 9, "name": "Eve"}]).upsert())
    run(school, delete(Student).where(Student.name.startswith("C") | (Student.id == 4)))
    assert [(1, "Ann"), (2, "Bea"), (9, "Eve")] == [
        (one["_id"], one["name"]) for one in stored(school, "task_students")
    ]


def totals(shop: Shop) -> Any:
    """Orders and turnover of each state, as documents of Stat."""
    item = Order.items.item()
    return (
        select(
            Order.status.label("_id"),
            func.count().label("orders"),
            func.sum(item[Item.price] * item[Item.quantity]).label("total"),
        )
        .unwind(Order.items, keep_empty=True)
        .group_by(Order.status)
    )


def expected_totals(shop: Shop) -> dict[str, tuple[int, float]]:
    orders: dict[str, int] = defaultdict(int)
    total: dict[str, float] = defaultdict(float)
    for order in shop.all[Order]:
        orders[order.status] += len(order.items) or 1
        total[order.status] += sum(item.price * item.quantity for item in order.items)
    return {status: (orders[status], pytest.approx(total[status])) for status in orders}


def test_a_report_kept_up_to_date(shop: Shop) -> None:
    """``$merge`` into another class: new rows inserted, old ones merged, what else they hold is kept."""
    backend = shop.db.parts.data_backend
    database = backend.client[backend.name]
    database.task_stats.insert_one({"_id": "paid", "orders": -1, "total": -1.0, "note": "kept"})
    with Session(shop.db) as session:
        session.execute(totals(shop).merge_into(Stat))
    documents = stored(shop, "task_stats")
    assert expected_totals(shop) == {one["_id"]: (one["orders"], one["total"]) for one in documents}
    assert {"paid": "kept"} == {one["_id"]: one["note"] for one in documents if "note" in one}
    with Session(shop.db) as session:
        assert "kept" == session.get_one(Stat, "paid").note


def test_only_new_rows(shop: Shop) -> None:
    """``$merge`` into a collection by its name, which leaves what is there alone."""
    backend = shop.db.parts.data_backend
    name = f"task_{uuid4().hex[:8]}"
    backend.client[backend.name][name].insert_one({"_id": "lost", "orders": 0})
    with Session(shop.db) as session:
        session.execute(totals(shop).merge_into(name, when_matched="keepExisting"))
    found = {one["_id"]: one for one in stored(shop, name)}
    assert {"_id": "lost", "orders": 0} == found["lost"]
    assert expected_totals(shop).keys() == found.keys()
