"""Statements that are long, on the real server."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import and_, or_
from typing import Any

import pytest

from superorm import Predicate, StatementError, func, select, update
from tests.tasks.conftest import Shop
from tests.tasks.shop import Customer, Order

NUMBERS = range(1000)


@pytest.mark.parametrize("join", [lambda conditions: reduce(or_, conditions), lambda conditions: func.or_(*conditions)])
def test_one_of_a_thousand(shop: Shop, join: Callable[[list[Any]], Predicate[Customer]]) -> None:
    """A thousand conditions of which one must hold; they use an index as one would."""
    statement = select(Customer.id).where(join([Customer.id == 2 * n for n in NUMBERS]))
    expected = [(one.id,) for one in shop.all[Customer] if one.id % 2 == 0]
    assert expected == sorted(shop.rows(statement))
    assert "COLLSCAN" not in str(shop.db.explain(statement).details)


@pytest.mark.parametrize(
    "join", [lambda conditions: reduce(and_, conditions), lambda conditions: func.and_(*conditions)]
)
def test_all_of_a_thousand(shop: Shop, join: Callable[[list[Any]], Predicate[Customer]]) -> None:
    """A thousand that must all hold, and the opposite of such."""
    holds = join([Customer.id != 2 * n for n in NUMBERS])
    odd = [(one.id,) for one in shop.all[Customer] if one.id % 2]
    even = [(one.id,) for one in shop.all[Customer] if not one.id % 2]
    assert odd == sorted(shop.rows(select(Customer.id).where(holds)))
    assert even == sorted(shop.rows(select(Customer.id).where(~holds)))
    assert odd == sorted(shop.rows(select(Customer.id).where(~~holds)))


def test_as_deep_as_may_be(shop: Shop) -> None:
    """The deepest expressions and conditions that are let through, the server takes."""
    price: Any = Customer.id
    deep: list[Callable[[int], Any]] = [
        lambda n: select(reduce(lambda value, _: value + 1, range(n), price)),
        lambda n: select(reduce(lambda value, _: func.abs(value), range(n), price)),
        lambda n: select(Customer.id).where(reduce(lambda value, _: value + 1, range(n), price) > 3),
        lambda n: select(Customer.id).where(reduce(lambda one, k: ~(one & (price != -k)), range(n), price != -1)),
        lambda n: (
            select(Customer.id)
            .group_by(Customer.id)
            .having(func.sum(price) != -1)
            .order_by(reduce(lambda value, _: value + 1, range(n), price))
        ),
        lambda n: select(
            Order.id,
            select(reduce(lambda value, _: func.abs(value), range(n), price))
            .where(Customer.id == Order.customer_id)
            .as_list()
            .label("x"),
        ),
    ]
    for make in deep:
        depth = next(n for n in range(60, 120) if _is_refused(make(n)))
        shop.rows(make(depth - 1).limit(1))


def _is_refused(statement: Any) -> bool:
    try:
        statement.pipeline()
    except StatementError:
        return True
    return False


def test_conditions_of_an_update(shop: Shop) -> None:
    """Updates take as many."""
    statement = update(Customer).where(reduce(or_, [Customer.id == -1 - n for n in NUMBERS])).values(name="nobody")
    assert 1000 == len(statement.plan()["updates"][0]["q"]["$or"])
    with shop.db.begin() as session:
        assert 0 == session.execute(statement).matched
