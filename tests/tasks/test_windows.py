"""Tasks with ``$setWindowFields``: the server's answers against plain Python."""

from __future__ import annotations

from datetime import timedelta
from itertools import groupby
from statistics import fmean
from typing import Any

import pytest

from superorm import func, select, window
from tests.tasks.conftest import Shop
from tests.tasks.shop import Employee, OldOrder, Reading


def by_sensor(shop: Shop) -> list[list[Any]]:
    """The readings of each sensor in order of time."""
    ordered = sorted(shop.all[Reading], key=lambda one: (one.sensor, one.at))
    return [list(group) for _, group in groupby(ordered, key=lambda one: one.sensor)]


def test_running_total(shop: Shop) -> None:
    """The sum of all documents up to each, apart by department."""
    total = window(
        func.sum(Employee.salary),
        partition_by=Employee.department,
        order_by=Employee.id,
        documents=("unbounded", "current"),
    ).label("total")
    statement = select(Employee.id, total).order_by(Employee.id)
    expected = [
        (one.id, sum(o.salary for o in shop.all[Employee] if o.department == one.department and o.id <= one.id))
        for one in sorted(shop.all[Employee], key=lambda one: one.id)
    ]
    assert expected == shop.rows(statement)


def test_moving_average(shop: Shop) -> None:
    """The mean of each reading, the one before and the one after; what is null is left out."""
    mean = window(func.avg(Reading.value), partition_by=Reading.sensor, order_by=Reading.at, documents=(-1, 1)).label(
        "mean"
    )
    statement = select(Reading.id, mean).order_by(Reading.sensor, Reading.at)
    expected = []
    for readings in by_sensor(shop):
        for n, one in enumerate(readings):
            values = [o.value for o in readings[max(n - 1, 0) : n + 2] if o.value is not None]
            expected.append((one.id, pytest.approx(fmean(values)) if values else None))
    assert expected == shop.rows(statement)


def test_sum_over_a_time(shop: Shop) -> None:
    """A window by the value of a date: the last 24 hours."""
    total = window(
        func.sum(Reading.value), partition_by=Reading.sensor, order_by=Reading.at, range=(-24, "current"), unit="hour"
    ).label("total")
    statement = select(Reading.id, total).order_by(Reading.id)
    expected = []
    for one in shop.all[Reading]:
        last = timedelta(hours=24)
        values = [
            o.value
            for o in shop.all[Reading]
            if o.sensor == one.sensor and o.value is not None and timedelta(0) <= one.at - o.at <= last
        ]
        expected.append((one.id, pytest.approx(sum(values))))
    assert expected == shop.rows(statement)


def test_ranks(shop: Shop) -> None:
    """Position, rank and dense rank, by department."""
    by: dict[str, Any] = {"partition_by": Employee.department, "order_by": Employee.salary.desc()}
    statement = select(
        Employee.id, window(func.rank(), **by).label("rank"), window(func.dense_rank(), **by).label("dense")
    ).order_by(Employee.id)
    expected = []
    for one in sorted(shop.all[Employee], key=lambda one: one.id):
        above = [o.salary for o in shop.all[Employee] if o.department == one.department and o.salary > one.salary]
        expected.append((one.id, len(above) + 1, len(set(above)) + 1))
    assert expected == shop.rows(statement)


def test_two_best_of_each_department(shop: Shop) -> None:
    """A condition on a window, which `then` lets follow."""
    place = window(func.document_number(), partition_by=Employee.department, order_by=[Employee.salary.desc()]).label(
        "place"
    )
    statement = select(Employee.department, Employee.salary, place).then().where(place <= 2)
    expected = []
    for department in ("dev", "ops", "hr"):
        salaries = sorted((o.salary for o in shop.all[Employee] if o.department == department), reverse=True)
        expected += [(department, salary, n + 1) for n, salary in enumerate(salaries[:2])]
    assert sorted(expected) == sorted(shop.rows(statement))


def test_difference_to_the_one_before(shop: Shop) -> None:
    """``$shift`` within an expression."""
    before = window(func.shift(Reading.at, by=-1), partition_by=Reading.sensor, order_by=Reading.at)
    hours = func.date_diff(before, Reading.at, unit="hour").label("hours")
    statement = select(Reading.id, before.label("before"), hours).order_by(Reading.sensor, Reading.at)
    expected: list[Any] = []
    for readings in by_sensor(shop):
        for earlier, one in zip([None, *readings], readings, strict=False):
            hours_between = None if earlier is None else round((one.at - earlier.at) / timedelta(hours=1))
            expected.append((one.id, earlier and earlier.at, hours_between))
    assert expected == shop.rows(statement)


def test_gaps_filled(shop: Shop) -> None:
    """``$locf``: null takes the last value that is not."""
    filled = window(func.locf(Reading.value), partition_by=Reading.sensor, order_by=Reading.at).label("filled")
    statement = select(Reading.id, filled).order_by(Reading.sensor, Reading.at)
    expected = []
    for readings in by_sensor(shop):
        last = None
        for one in readings:
            last = one.value if one.value is not None else last
            expected.append((one.id, last))
    assert expected == shop.rows(statement)


def test_share_of_the_whole(shop: Shop) -> None:
    """A window without order is the whole partition; the share is an expression over it."""
    whole = window(func.sum(OldOrder.total), partition_by=OldOrder.status)
    statement = select(OldOrder.id, (OldOrder.total / whole).label("share")).order_by(OldOrder.id)
    totals = {
        status: sum(one.total for one in shop.all[OldOrder] if one.status == status) for status in ("paid", "lost")
    }
    expected = [(one.id, pytest.approx(one.total / totals[one.status])) for one in shop.all[OldOrder]]
    assert expected == shop.rows(statement)


def test_window_over_groups(shop: Shop) -> None:
    """Totals of departments, and each one's rank."""
    total = func.sum(Employee.salary).label("total")
    place = window(func.rank(), order_by=total.desc()).label("place")
    statement = (
        select(Employee.department, total)
        .group_by(Employee.department)
        .then(Employee.department, total, place)
        .order_by(place)
    )
    totals = {
        department: sum(one.salary for one in shop.all[Employee] if one.department == department)
        for department in ("dev", "ops", "hr")
    }
    ordered = sorted(totals.items(), key=lambda pair: -pair[1])
    assert [(*pair, n) for n, pair in enumerate(ordered, 1)] == shop.rows(statement)
