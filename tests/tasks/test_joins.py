"""Tasks with ``$lookup``, ``$graphLookup`` and ``$unionWith``: the server's answers against plain Python."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import pytest

from superorm import aliased, func, graph_lookup, select
from tests.tasks.conftest import Shop
from tests.tasks.shop import Airport, Customer, Employee, Item, OldOrder, Order, Product


def test_each_order_with_its_customer(shop: Shop) -> None:
    """An inner join: orders of customers that are not there, or of none, are left out."""
    statement = (
        select(Order)
        .join(Customer, Order.customer_id == Customer.id)
        .columns(Order.id, Customer.name)
        .order_by(Order.id)
    )
    names = {one.id: one.name for one in shop.all[Customer]}
    expected = [(one.id, names[one.customer_id]) for one in shop.all[Order] if one.customer_id in names]
    assert expected == shop.rows(statement)


def test_orders_without_a_customer_too(shop: Shop) -> None:
    """An outer join, as objects of both classes."""
    statement = select(Order, Customer).join(Customer, Order.customer_id == Customer.id, outer=True).order_by(Order.id)
    known = {one.id for one in shop.all[Customer]}
    expected = [(one.id, one.customer_id if one.customer_id in known else None) for one in shop.all[Order]]
    rows = shop.rows(statement)
    assert expected == [(order.id, customer and customer.id) for order, customer in rows]
    assert [one.shipping for one in shop.all[Order]] == [order.shipping for order, _ in rows]


def test_orders_of_customers_from_a_city(shop: Shop) -> None:
    """Conditions on both sides of a join."""
    statement = (
        select(Order)
        .join(Customer, Order.customer_id == Customer.id)
        .where(Customer.city == "Oslo", Order.status.in_(["new", "paid"]))
        .columns(Order.id)
        .order_by(Order.id)
    )
    oslo = {one.id for one in shop.all[Customer] if one.city == "Oslo"}
    expected = [(one.id,) for one in shop.all[Order] if one.customer_id in oslo and one.status in ("new", "paid")]
    assert expected == shop.rows(statement)


def test_turnover_of_each_city(shop: Shop) -> None:
    """Join, unwind and group."""
    item = Order.items.item()
    turnover = func.sum(item[Item.price] * item[Item.quantity]).label("turnover")
    statement = (
        select(Order)
        .join(Customer, Order.customer_id == Customer.id)
        .unwind(Order.items)
        .group_by(Customer.city)
        .columns(Customer.city, turnover)
        .order_by(Customer.city)
    )
    cities = {one.id: one.city for one in shop.all[Customer]}
    expected: dict[str | None, float] = defaultdict(float)
    for order in shop.all[Order]:
        if order.customer_id in cities:
            for one in order.items:
                expected[cities[order.customer_id]] += one.price * one.quantity
    rows = sorted(expected.items(), key=lambda row: (row[0] is not None, row[0] or ""))
    assert [(city, pytest.approx(total)) for city, total in rows] == shop.rows(statement)


def test_join_by_the_elements_of_a_list(shop: Shop) -> None:
    """Each order with each of its products: a path through a list joins by its elements."""
    statement = (
        select(Order)
        .join(Product, Order.items.sku == Product.id)
        .columns(Order.id, Product.category)
        .distinct()
        .order_by(Order.id, Product.category)
    )
    categories = {one.id: one.category for one in shop.all[Product]}
    expected = {(order.id, categories[item.sku]) for order in shop.all[Order] for item in order.items}
    assert sorted(expected) == shop.rows(statement)


def test_join_with_more_conditions(shop: Shop) -> None:
    """Beside the equal keys a comparison between the two, and a condition on the other side alone."""
    statement = (
        select(Employee)
        .join(
            boss := aliased(Employee, "chief"),
            Employee.boss == boss.id,
            boss.salary > Employee.salary,
            boss.department != "hr",
        )
        .columns(Employee.id, boss.id, (boss.salary - Employee.salary).label("more"))
        .order_by(Employee.id)
    )
    by_name = {one.id: one for one in shop.all[Employee]}
    expected = []
    for one in sorted(shop.all[Employee], key=lambda one: one.id):
        chief = by_name.get(one.boss)
        if chief and chief.salary > one.salary and chief.department != "hr":
            expected.append((one.id, chief.id, chief.salary - one.salary))
    assert expected == shop.rows(statement)


def test_three_classes(shop: Shop) -> None:
    """Two joins, one through the elements of a list."""
    statement = (
        select(Order)
        .join(Customer, Order.customer_id == Customer.id)
        .join(Product, Order.items.sku == Product.id)
        .where(Product.category == "book", Customer.city == "Rome")
        .columns(Customer.id, Product.id)
        .distinct()
        .order_by(Customer.id, Product.id)
    )
    rome = {one.id for one in shop.all[Customer] if one.city == "Rome"}
    books = {one.id for one in shop.all[Product] if one.category == "book"}
    expected = {
        (order.customer_id, item.sku)
        for order in shop.all[Order]
        if order.customer_id in rome
        for item in order.items
        if item.sku in books
    }
    assert sorted(expected) == shop.rows(statement)


def test_a_list_of_others_in_each_row(shop: Shop) -> None:
    """Each customer with the latest two paid orders: a select inside, with conditions, order and limit."""
    latest = (
        select(Order.id, Order.placed)
        .where(Order.customer_id == Customer.id, Order.status == "paid")
        .order_by(Order.placed.desc())
        .limit(2)
        .as_list()
        .label("latest")
    )
    statement = select(Customer.id, latest).order_by(Customer.id)
    expected = []
    for one in shop.all[Customer]:
        paid = [order for order in shop.all[Order] if order.customer_id == one.id and order.status == "paid"]
        paid.sort(key=lambda order: order.placed, reverse=True)
        expected.append((one.id, [(order.id, order.placed) for order in paid[:2]]))
    assert expected == [(key, [tuple(row) for row in rows]) for key, rows in shop.rows(statement)]


def test_lists_of_values_and_of_objects(shop: Shop) -> None:
    """One column gives a list of values, a class a list of objects."""
    tags = select(Order.status).where(Order.customer_id == Customer.id).as_list().label("states")
    whole = select(Order).where(Order.customer_id == Customer.id).as_list().label("orders")
    statement = select(Customer.id, tags, whole).order_by(Customer.id)
    for key, states, orders in shop.rows(statement):
        mine = [order for order in shop.all[Order] if order.customer_id == key]
        assert Counter(order.status for order in mine) == Counter(states)
        assert {order.id: order.tags for order in mine} == {order.id: order.tags for order in orders}


def test_customers_without_orders(shop: Shop) -> None:
    """A condition on the size of a list of others."""
    orders = select(Order.id).where(Order.customer_id == Customer.id).as_list()
    statement = select(Customer.id).where(func.size(orders) == 0).order_by(Customer.id)
    having = {order.customer_id for order in shop.all[Order]}
    assert [(one.id,) for one in shop.all[Customer] if one.id not in having] == shop.rows(statement)


def test_a_select_that_does_not_depend_on_the_row(shop: Shop) -> None:
    """The same list for each row."""
    books = select(Product.id).where(Product.category == "book").order_by(Product.id).as_list().label("books")
    statement = select(Airport.id, books).where(Airport.country == "US").order_by(Airport.id)
    expected = sorted(one.id for one in shop.all[Product] if one.category == "book")
    assert [(one.id, expected) for one in sorted(shop.all[Airport], key=lambda one: one.id) if one.country == "US"] == (
        shop.rows(statement)
    )


def test_correlated_by_inequality(shop: Shop) -> None:
    """For each employee how many earn more, by a select that compares with the outer row."""
    other = aliased(Employee, "other")
    richer = select(other.id).where(other.salary > Employee.salary).as_list()
    statement = select(Employee.id, func.size(richer).label("richer")).order_by(Employee.id)
    salaries = [one.salary for one in shop.all[Employee]]
    expected = [(one.id, sum(salary > one.salary for salary in salaries)) for one in shop.all[Employee]]
    assert sorted(expected) == shop.rows(statement)


def test_everybody_above(shop: Shop) -> None:
    """``$graphLookup`` up a tree, with the number of steps."""
    above = graph_lookup(
        Employee, start_with=Employee.boss, connect_from=Employee.boss, connect_to=Employee.id, depth_field="steps"
    ).label("above")
    statement = select(Employee.id, above).order_by(Employee.id)
    by_name = {one.id: one for one in shop.all[Employee]}
    expected: list[Any] = []
    for one in sorted(shop.all[Employee], key=lambda one: one.id):
        chain, name = [], one.boss
        while name is not None:
            chain.append((name, len(chain)))
            name = by_name[name].boss
        expected.append((one.id, sorted(chain)))
    found = [(key, sorted((one["_id"], one["steps"]) for one in chain)) for key, chain in shop.rows(statement)]
    assert expected == found


def test_everybody_below_counted(shop: Shop) -> None:
    """``$graphLookup`` down a tree, counted and sorted by."""
    below = graph_lookup(Employee, start_with=Employee.id, connect_from=Employee.id, connect_to=Employee.boss)
    n = func.size(below).label("n")
    statement = select(Employee.id, n).order_by(n.desc(), Employee.id)
    children: dict[str | None, list[str]] = defaultdict(list)
    for one in shop.all[Employee]:
        children[one.boss].append(one.id)

    def count(name: str) -> int:
        return sum(1 + count(child) for child in children[name])

    expected = [(one.id, count(one.id)) for one in shop.all[Employee]]
    assert sorted(expected, key=lambda row: (-row[1], row[0])) == shop.rows(statement)


def test_airports_within_two_flights(shop: Shop) -> None:
    """``$graphLookup`` through a list, to a depth, of documents that meet a condition."""
    reached = graph_lookup(
        Airport,
        start_with=Airport.connects,
        connect_from=Airport.connects,
        connect_to=Airport.id,
        max_depth=1,
        where=Airport.country == "other",
    ).label("reached")
    statement = select(Airport.id, reached).order_by(Airport.id)
    by_code = {one.id: one for one in shop.all[Airport] if one.country == "other"}
    expected = []
    for one in sorted(shop.all[Airport], key=lambda one: one.id):
        first = {code for code in one.connects if code in by_code}
        second = {code for name in first for code in by_code[name].connects if code in by_code}
        expected.append((one.id, sorted(first | second)))
    found = [(key, sorted(airport["_id"] for airport in airports)) for key, airports in shop.rows(statement)]
    assert expected == found


def test_old_and_new_orders(shop: Shop) -> None:
    """``$unionWith``: the rows of two classes, sorted together."""
    statement = (
        select(Order.id, Order.placed)
        .where(Order.status == "paid")
        .union_all(select(OldOrder.id, OldOrder.placed).where(OldOrder.status == "paid"))
        .order_by(Order.placed.desc(), Order.id)
        .limit(20)
    )
    both = [one for kind in (Order, OldOrder) for one in shop.all[kind] if one.status == "paid"]
    both.sort(key=lambda one: (-one.placed.timestamp(), one.id))
    assert [(one.id, one.placed) for one in both[:20]] == shop.rows(statement)


def test_report_over_a_union(shop: Shop) -> None:
    """The rows of a union grouped."""
    n = func.count().label("n")
    statement = (
        select(Order.customer_id)
        .union_all(select(OldOrder.customer_id))
        .then(Order.customer_id, n)
        .group_by(Order.customer_id)
        .order_by(n.desc(), Order.customer_id)
        .limit(5)
    )
    counted = Counter(one.customer_id for kind in (Order, OldOrder) for one in shop.all[kind])
    expected = sorted(counted.items(), key=lambda pair: (-pair[1], pair[0] is not None, pair[0] or 0))
    assert expected[:5] == shop.rows(statement)


def test_a_union_of_documents(shop: Shop) -> None:
    """Documents of one class by two conditions, one twice."""
    statement = select(Product).where(Product.stock < 50).union_all(select(Product).where(Product.category == "book"))
    expected = Counter(one.id for one in shop.all[Product] if one.stock < 50)
    expected.update(one.id for one in shop.all[Product] if one.category == "book")
    assert expected == Counter(row[0].id for row in shop.rows(statement))


def test_a_union_of_values_with_those_of_a_union_of_documents(shop: Shop) -> None:
    """The inner union is of whole documents, of which two values are selected afterwards."""
    documents = select(Product).where(Product.stock < 50).union_all(select(Product).where(Product.category == "book"))
    inner = documents.columns(Product.id, Product.stock)
    statement = select(Order.status, Order.customer_id).union_all(inner)
    expected = Counter((one.status, one.customer_id) for one in shop.all[Order])
    expected.update((one.id, one.stock) for one in shop.all[Product] if one.stock < 50)
    expected.update((one.id, one.stock) for one in shop.all[Product] if one.category == "book")
    assert expected == Counter(shop.rows(statement))


def test_an_element_of_the_outer_row(shop: Shop) -> None:
    """A select inside may name an element of the outer row's list by its position."""
    first = select(Product.category).where(Product.id == Order.items[0].sku).as_list().label("first")
    statement = select(Order.id, first).order_by(Order.id)
    categories = {one.id: one.category for one in shop.all[Product]}
    expected = [(one.id, [categories[one.items[0].sku]] if one.items else []) for one in shop.all[Order]]
    assert expected == shop.rows(statement)


def test_customers_by_the_whole_list_of_their_orders(shop: Shop) -> None:
    """A list that was looked up is compared as a list with lists, and by its elements with anything else."""
    large = Order.id > 60
    states = select(Order.status).where(Order.customer_id == Customer.id, large).order_by(Order.id).as_list()
    found = {
        one.id: [order.status for order in shop.all[Order] if order.customer_id == one.id and order.id > 60]
        for one in shop.all[Customer]
    }
    some = next(states for states in found.values() if states)
    assert [] in found.values()
    expected = [
        (states == some, [key for key, given in found.items() if given == some]),
        (states == [], [key for key, given in found.items() if not given]),
        (states != some, [key for key, given in found.items() if given != some]),
        (states.in_([[], some]), [key for key, given in found.items() if given in ([], some)]),
        (states.in_(["paid"]), [key for key, given in found.items() if "paid" in given]),
    ]
    for condition, keys in expected:
        statement = select(Customer.id).where(condition).order_by(Customer.id)
        assert [(key,) for key in sorted(keys)] == shop.rows(statement)
