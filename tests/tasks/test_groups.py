"""Tasks with ``$group``, ``$bucket`` and ``$facet``: the server's answers against plain Python."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime
from statistics import fmean, pstdev
from typing import Any

import pytest

from superorm import case, column, func, select
from tests.tasks.conftest import Shop
from tests.tasks.shop import Customer, Employee, Order, Product, Reading


def test_count_of_each_status(shop: Shop) -> None:
    """How many orders there are in each state, the most frequent first."""
    n = func.count().label("n")
    statement = select(Order.status, n).group_by(Order.status).order_by(n.desc(), Order.status)
    counted = Counter(order.status for order in shop.all[Order])
    assert sorted(counted.items(), key=lambda pair: (-pair[1], pair[0])) == shop.rows(statement)


def test_total_and_average_of_everything(shop: Shop) -> None:
    """Sum, mean and number over all documents, without keys."""
    statement = select(func.sum(Employee.salary), func.avg(Employee.salary), func.count())
    salaries = [one.salary for one in shop.all[Employee]]
    assert [(sum(salaries), fmean(salaries), len(salaries))] == shop.rows(statement)


def test_accumulators_over_nothing(shop: Shop) -> None:
    """One row even where nothing matches: zero, and None."""
    statement = select(func.count(Employee), func.sum(Employee.salary), func.max(Employee.salary)).where(
        Employee.salary < 0
    )
    assert [(0, 0, None)] == shop.rows(statement)


def test_orders_a_month(shop: Shop) -> None:
    """Orders by year and month."""
    year, month = func.year(Order.placed).label("year"), func.month(Order.placed).label("month")
    n = func.count().label("n")
    statement = select(year, month, n).group_by(year, month).order_by(year, month)
    counted = Counter((order.placed.year, order.placed.month) for order in shop.all[Order])
    assert [(*key, counted[key]) for key in sorted(counted)] == shop.rows(statement)


def test_orders_a_quarter_by_truncation(shop: Shop) -> None:
    """Dates cut to quarters as the key."""
    quarter = func.date_trunc(Order.placed, unit="quarter").label("quarter")
    statement = select(quarter, func.count()).group_by(quarter).order_by(quarter)
    counted: Counter[datetime] = Counter()
    for order in shop.all[Order]:
        counted[datetime(order.placed.year, (order.placed.month - 1) // 3 * 3 + 1, 1, tzinfo=UTC)] += 1
    assert sorted(counted.items()) == shop.rows(statement)


def test_groups_that_are_large_enough(shop: Shop) -> None:
    """``having``: customers with more than six orders."""
    n = func.count().label("n")
    statement = select(Order.customer_id, n).group_by(Order.customer_id).having(n > 6).order_by(Order.customer_id)
    counted = Counter(order.customer_id for order in shop.all[Order])
    expected = [(key, count) for key, count in counted.items() if count > 6]
    assert sorted(expected, key=lambda pair: (pair[0] is not None, pair[0] or 0)) == shop.rows(statement)


def test_distinct_values(shop: Shop) -> None:
    """Each pair of category and whether anything is in stock, once."""
    empty = case((Product.stock == 0, True), else_=False).label("empty")
    statement = select(Product.category, empty).distinct().order_by(Product.category, empty)
    assert sorted({(one.category, one.stock == 0) for one in shop.all[Product]}) == shop.rows(statement)


def test_titles_by_author_as_lists(shop: Shop) -> None:
    """Names gathered into a list by group: ``$push`` after a sort."""
    names = func.push(Employee.id).label("names")
    statement = (
        select(Employee)
        .order_by(Employee.id)
        .then(Employee.department, names)
        .group_by(Employee.department)
        .order_by(Employee.department)
    )
    gathered: dict[str, list[str]] = defaultdict(list)
    for one in sorted(shop.all[Employee], key=lambda one: one.id):
        gathered[one.department].append(one.id)
    assert sorted(gathered.items()) == shop.rows(statement)


def test_sets_of_values(shop: Shop) -> None:
    """``$addToSet``: the cities that customers are from, null among them; ``$min`` and ``$max`` leave null out."""
    statement = select(func.add_to_set(Customer.city), func.min(Customer.city), func.max(Customer.born))
    ((cities, first, born),) = shop.rows(statement)
    assert {one.city for one in shop.all[Customer]} == set(cities)
    assert min(one.city for one in shop.all[Customer] if one.city) == first
    assert max(one.born for one in shop.all[Customer]) == born


def test_first_and_last_of_each_group(shop: Shop) -> None:
    """The first and the last reading of each sensor in order of time."""
    first, last = func.first(Reading.at).label("first"), func.last(Reading.at).label("last")
    statement = (
        select(Reading)
        .order_by(Reading.at)
        .then(Reading.sensor, first, last)
        .group_by(Reading.sensor)
        .order_by(Reading.sensor)
    )
    expected = []
    for sensor in "abc":
        times = [one.at for one in shop.all[Reading] if one.sensor == sensor]
        expected.append((sensor, min(times), max(times)))
    assert expected == shop.rows(statement)


def test_top_three_salaries_of_each_department(shop: Shop) -> None:
    """``$topN``, an operator with arguments of its own."""
    top = func.top_n(3, Employee.salary, order_by=Employee.salary.desc()).label("top")
    statement = select(Employee.department, top).group_by(Employee.department).order_by(Employee.department)
    expected: dict[str, list[int]] = defaultdict(list)
    for one in shop.all[Employee]:
        expected[one.department].append(one.salary)
    assert [(key, sorted(expected[key], reverse=True)[:3]) for key in sorted(expected)] == shop.rows(statement)


def test_computed_from_accumulators(shop: Shop) -> None:
    """An expression over two accumulators, and spread."""
    mean = (func.sum(Employee.salary) / func.count()).label("mean")
    spread = func.std_dev_pop(Employee.salary).label("spread")
    statement = select(Employee.department, mean, spread).group_by(Employee.department).order_by(mean.desc())
    expected = []
    for department in ("dev", "ops", "hr"):
        salaries = [one.salary for one in shop.all[Employee] if one.department == department]
        expected.append((department, pytest.approx(fmean(salaries)), pytest.approx(pstdev(salaries))))
    assert sorted(expected, key=lambda row: -row[1].expected) == shop.rows(statement)


def test_conditional_sums(shop: Shop) -> None:
    """A pivot: how many orders of each customer were paid, and how many lost."""
    paid = func.sum(case((Order.status == "paid", 1), else_=0)).label("paid")
    lost = func.sum(case((Order.status == "lost", 1), else_=0)).label("lost")
    statement = (
        select(Order.customer_id, paid, lost)
        .where(Order.customer_id != None)  # noqa: E711
        .group_by(Order.customer_id)
        .order_by(Order.customer_id)
    )
    expected: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for order in shop.all[Order]:
        if order.customer_id is not None:
            expected[order.customer_id][0] += order.status == "paid"
            expected[order.customer_id][1] += order.status == "lost"
    assert [(key, *expected[key]) for key in sorted(expected)] == shop.rows(statement)


def test_groups_of_groups(shop: Shop) -> None:
    """Orders by customer, then how many customers have each number of orders."""
    n = func.count().label("n")
    customers = func.count().label("customers")
    statement = select(Order.customer_id, n).group_by(Order.customer_id).then(n, customers).group_by(n).order_by(n)
    counted = Counter(Counter(order.customer_id for order in shop.all[Order]).values())
    assert sorted(counted.items()) == shop.rows(statement)


def test_mean_of_group_sums(shop: Shop) -> None:
    """The mean of the departments' totals, without a second key."""
    total = func.sum(Employee.salary).label("total")
    statement = select(Employee.department, total).group_by(Employee.department).then(func.avg(total))
    totals: Counter[str] = Counter()
    for one in shop.all[Employee]:
        totals[one.department] += one.salary
    assert [(pytest.approx(fmean(totals.values())),)] == shop.rows(statement)


def test_ranges_of_prices(shop: Shop) -> None:
    """``$bucket``: products by range of salary, with one for what is outside."""
    salary = func.bucket(Employee.salary, boundaries=[30_000, 45_000, 60_000], default="more").label("salary")
    statement = select(salary, func.count(), func.push(Employee.id)).group_by(salary)
    expected: dict[Any, list[str]] = defaultdict(list)
    for one in shop.all[Employee]:
        key = "more" if one.salary >= 60_000 else 45_000 if one.salary >= 45_000 else 30_000
        expected[key].append(one.id)
    rows = {key: (n, set(names)) for key, n, names in shop.rows(statement)}
    assert {key: (len(names), set(names)) for key, names in expected.items()} == rows


def test_even_ranges(shop: Shop) -> None:
    """``$bucketAuto``: four ranges of as many products each as can be."""
    price = func.bucket_auto(Product.stock, buckets=4).label("range")
    statement = select(price, func.count().label("n")).group_by(price)
    rows = shop.rows(statement)
    assert len(shop.all[Product]) == sum(n for _, n in rows)
    for bounds, n in rows:
        last = bounds["max"] == max(one.stock for one in shop.all[Product])
        inside = [
            one.stock
            for one in shop.all[Product]
            if bounds["min"] <= one.stock < bounds["max"] or (last and one.stock == bounds["max"])
        ]
        assert n == len(inside)


def test_facets(shop: Shop) -> None:
    """Several summaries of the same rows in one go."""
    n = func.count().label("n")
    statement = (
        select(Order)
        .where(Order.shipping > 4)
        .facet(
            by_status=select(Order.status, n).group_by(Order.status).order_by(Order.status),
            latest=select(Order.id, Order.placed).order_by(Order.placed.desc(), Order.id).limit(3),
            total=select(func.count(Order)),
        )
    )
    orders = [one for one in shop.all[Order] if one.shipping is not None and one.shipping > 4]
    latest = sorted(orders, key=lambda one: one.placed, reverse=True)[:3]
    ((by_status, newest, total),) = shop.rows(statement)
    assert sorted(Counter(one.status for one in orders).items()) == [tuple(row) for row in by_status]
    assert [(one.id, one.placed) for one in latest] == [tuple(row) for row in newest]
    assert [len(orders)] == total


def test_a_facet_unwound(shop: Shop) -> None:
    """What follows `facet` works on its one row."""
    statement = (
        select(Order).facet(ids=select(Order.id).where(Order.status == "new")).unwind(column("ids")).then(func.count())
    )
    assert [(sum(one.status == "new" for one in shop.all[Order]),)] == shop.rows(statement)
