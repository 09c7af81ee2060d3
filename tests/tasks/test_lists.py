"""Tasks with ``$unwind`` and expressions over lists and values: the server's answers against plain Python."""

from __future__ import annotations

from collections import Counter, defaultdict
from statistics import fmean

import pytest

from superorm import case, column, func, select
from tests.tasks.conftest import Shop
from tests.tasks.shop import Customer, Item, Order, Product


def test_how_often_each_tag_occurs(shop: Shop) -> None:
    """Unwind a list of texts and count."""
    tag, n = Order.tags.item(), func.count().label("n")
    statement = select(tag, n).unwind(Order.tags).group_by(tag).order_by(n.desc(), tag)
    counted = Counter(tag for order in shop.all[Order] for tag in order.tags)
    assert sorted(counted.items(), key=lambda pair: (-pair[1], pair[0])) == shop.rows(statement)


def test_one_row_for_each_size(shop: Shop) -> None:
    """Each product once for each size; those without any are left out."""
    statement = select(Product.id, Product.sizes.item()).unwind(Product.sizes).order_by(Product.id, Product.sizes)
    expected = [(one.id, size) for one in shop.all[Product] for size in sorted(one.sizes or ())]
    assert sorted(expected) == shop.rows(statement)


def test_rows_without_elements_are_kept(shop: Shop) -> None:
    """With `keep_empty`, and with the position of each element."""
    statement = (
        select(Product.id, Product.sizes.item(), column("at"))
        .unwind(Product.sizes, keep_empty=True, index="at")
        .order_by(Product.id, column("at"))
    )
    expected = []
    for one in shop.all[Product]:
        expected += [(one.id, size, n) for n, size in enumerate(one.sizes)] if one.sizes else [(one.id, None, None)]
    assert sorted(expected, key=lambda row: (row[0], row[2] or 0)) == shop.rows(statement)


def test_turnover_of_each_product(shop: Shop) -> None:
    """Unwind embedded documents, multiply and sum."""
    item = Order.items.item()
    turnover = func.sum(item[Item.price] * item[Item.quantity]).label("turnover")
    statement = select(item[Item.sku], turnover).unwind(Order.items).group_by(item[Item.sku]).order_by(item[Item.sku])
    expected: dict[str, float] = defaultdict(float)
    for order in shop.all[Order]:
        for one in order.items:
            expected[one.sku] += one.price * one.quantity
    assert [(sku, pytest.approx(expected[sku])) for sku in sorted(expected)] == shop.rows(statement)


def test_elements_filtered_after_unwind(shop: Shop) -> None:
    """A condition on the element after `unwind` is one on that element alone."""
    statement = (
        select(Order.id, Order.items.item()[Item.sku])
        .where(Order.status == "paid")
        .unwind(Order.items)
        .where(Order.items.item()[Item.quantity] >= 5)
        .order_by(Order.id, Order.items.item()[Item.sku])
    )
    expected = [
        (order.id, item.sku)
        for order in shop.all[Order]
        if order.status == "paid"
        for item in order.items
        if item.quantity >= 5
    ]
    assert sorted(expected) == shop.rows(statement)


def test_total_of_each_order(shop: Shop) -> None:
    """``$reduce`` over embedded documents."""
    total = func.reduce(Order.items, 0.0, lambda value, this: value + this[Item.price] * this[Item.quantity]).label(
        "total"
    )
    statement = select(Order.id, total).order_by(Order.id)
    expected = [
        (one.id, pytest.approx(sum(item.price * item.quantity for item in one.items))) for one in shop.all[Order]
    ]
    assert expected == shop.rows(statement)


def test_lists_filtered_and_mapped(shop: Shop) -> None:
    """``$filter`` and ``$map`` with conditions and expressions on the item."""
    big = func.filter(Order.items, lambda item: item[Item.quantity] > 3)
    skus = func.map(big, lambda item: item.sku).label("skus")
    doubled = func.map(Order.items, lambda item: item[Item.quantity] * 2).label("doubled")
    statement = select(Order.id, skus, doubled).order_by(Order.id)
    expected = [
        (one.id, [item.sku for item in one.items if item.quantity > 3], [item.quantity * 2 for item in one.items])
        for one in shop.all[Order]
    ]
    assert expected == shop.rows(statement)


def test_statistics_of_lists(shop: Shop) -> None:
    """Size, sum, mean, greatest and first of a list in each document, which may be empty."""
    statement = select(
        Customer.scores.size().label("n"),
        func.array_sum(Customer.scores).label("sum"),
        func.array_avg(Customer.scores).label("mean"),
        func.array_max(Customer.scores).label("most"),
        Customer.scores[0].label("first"),
    ).order_by(Customer.id)
    expected = []
    for one in shop.all[Customer]:
        scores = one.scores
        mean = pytest.approx(fmean(scores)) if scores else None
        expected.append((len(scores), sum(scores), mean, max(scores, default=None), scores[0] if scores else None))
    assert expected == shop.rows(statement)


def test_lists_sorted_and_cut(shop: Shop) -> None:
    """``$sortArray`` and ``$slice``."""
    best = func.slice(func.sort_array(Customer.scores, by=-1), 2).label("best")
    statement = select(best).order_by(Customer.id)
    assert [(sorted(one.scores, reverse=True)[:2],) for one in shop.all[Customer]] == shop.rows(statement)


def test_sets(shop: Shop) -> None:
    """Orders that are gifts in a rush, by set operators; order does not matter to them."""
    both = func.set_is_subset(["gift", "rush"], Order.tags)
    statement = select(Order.id).where(both == True).order_by(Order.id)  # noqa: E712
    assert [(one.id,) for one in shop.all[Order] if {"gift", "rush"} <= set(one.tags)] == shop.rows(statement)


def test_texts_and_dates(shop: Shop) -> None:
    """Texts joined and cut, dates formatted."""
    shown = func.concat(func.to_upper(Customer.name), " of ", func.if_null(Customer.city, "nowhere")).label("shown")
    born = func.date_to_string(Customer.born, format="%Y-%m-%d").label("born")
    short = func.substr_cp(Customer.name, 0, 4).label("short")
    statement = select(shown, born, short).order_by(Customer.id)
    expected = [
        (f"{one.name.upper()} of {one.city or 'nowhere'}", one.born.strftime("%Y-%m-%d"), one.name[:4])
        for one in shop.all[Customer]
    ]
    assert expected == shop.rows(statement)


def test_cases(shop: Shop) -> None:
    """Grades by ``$switch``, and a filter on them."""
    grade = case((Product.stock > 100, "much"), (Product.stock > 20, "some"), else_="little").label("grade")
    statement = select(Product.id, grade).where(grade != "some").order_by(Product.id)

    def graded(stock: int) -> str:
        return "much" if stock > 100 else "some" if stock > 20 else "little"

    expected = sorted((one.id, graded(one.stock)) for one in shop.all[Product] if graded(one.stock) != "some")
    assert expected == shop.rows(statement)


def test_fields_compared_with_each_other(shop: Shop) -> None:
    """Products of which there are more pieces than they cost."""
    statement = select(Product.id).where(Product.stock > func.to_double(Product.price)).order_by(Product.id)
    assert sorted((one.id,) for one in shop.all[Product] if one.stock > one.price) == shop.rows(statement)
