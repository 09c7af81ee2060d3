"""A shop: classes, and data that no random seed of another machine changes."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from superorm import Document, Embedded, Mapped, field

__all__ = ["Airport", "Customer", "Employee", "Item", "OldOrder", "Order", "Product", "Reading", "Stat", "data"]

START = datetime(2023, 1, 1, tzinfo=UTC)


class Item(Embedded):
    sku: Mapped[str]
    price: Mapped[float]
    quantity: Mapped[int]


class Customer(Document):
    __collection__ = "task_customers"
    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str]
    city: Mapped[str | None]
    born: Mapped[datetime]
    scores: Mapped[list[int]] = field(factory=list)


class Order(Document):
    __collection__ = "task_orders"
    id: Mapped[int] = field(primary_key=True)
    customer_id: Mapped[int | None]
    placed: Mapped[datetime]
    status: Mapped[str]
    items: Mapped[list[Item]]
    shipping: Mapped[float | None] = field(name="ship")
    tags: Mapped[list[str]] = field(factory=list)


class OldOrder(Document):
    __collection__ = "task_old_orders"
    id: Mapped[int] = field(primary_key=True)
    customer_id: Mapped[int | None]
    placed: Mapped[datetime]
    status: Mapped[str]
    total: Mapped[float]


class Product(Document):
    __collection__ = "task_products"
    id: Mapped[str] = field(primary_key=True)
    name: Mapped[str]
    category: Mapped[str]
    price: Mapped[Decimal]
    stock: Mapped[int]
    sizes: Mapped[list[str] | None] = field(default=None)


class Employee(Document):
    __collection__ = "task_employees"
    id: Mapped[str] = field(primary_key=True)
    boss: Mapped[str | None]
    salary: Mapped[int]
    department: Mapped[str]


class Airport(Document):
    __collection__ = "task_airports"
    id: Mapped[str] = field(primary_key=True)
    connects: Mapped[list[str]]
    country: Mapped[str]


class Reading(Document):
    __collection__ = "task_readings"
    id: Mapped[int] = field(primary_key=True)
    sensor: Mapped[str]
    at: Mapped[datetime]
    value: Mapped[float | None]


class Stat(Document):
    __collection__ = "task_stats"
    id: Mapped[str] = field(primary_key=True)
    orders: Mapped[int]
    total: Mapped[float]
    note: Mapped[str] = field(default="")


def data() -> dict[type[Document], list[Any]]:
    """Objects of each class."""
    rng = random.Random(7)
    cities = ["Rome", "Oslo", "Lima", "Cairo", None]
    categories = ["book", "game", "tool"]
    products = [
        Product(
            id=f"sku-{n}",
            name=f"{categories[n % 3].title()} {n}",
            category=categories[n % 3],
            price=Decimal(rng.randrange(100, 9000)) / 100,
            stock=rng.randrange(0, 200),
            sizes=rng.sample(["S", "M", "L", "XL"], rng.randrange(1, 4)) if n % 4 else ([] if n % 8 else None),
        )
        for n in range(18)
    ]
    customers = [
        Customer(
            id=n,
            name=f"Customer {n:02}",
            city=rng.choice(cities),
            born=START - timedelta(days=rng.randrange(7000, 25000)),
            scores=[rng.randrange(0, 100) for _ in range(rng.randrange(0, 6))],
        )
        for n in range(25)
    ]
    orders = [
        Order(
            id=n,
            customer_id=rng.choice([*range(30), None]),  # some are of customers that are not there
            placed=START + timedelta(minutes=rng.randrange(0, 600 * 24 * 60)),
            status=rng.choice(["new", "paid", "sent", "lost"]),
            items=[
                Item(sku=one.id, price=float(one.price), quantity=rng.randrange(1, 6))
                for one in rng.sample(products, rng.randrange(0, 5))
            ],
            shipping=rng.choice([None, 3.5, 5.0, 7.25]),
            tags=rng.sample(["gift", "rush", "web", "phone", "return"], rng.randrange(0, 4)),
        )
        for n in range(150)
    ]
    old_orders = [
        OldOrder(
            id=1000 + n,
            customer_id=rng.choice(range(25)),
            placed=START - timedelta(days=rng.randrange(1, 700)),
            status=rng.choice(["paid", "lost"]),
            total=rng.randrange(100, 50000) / 4,
        )
        for n in range(40)
    ]
    names = ["Ada", "Bob", "Cy", "Dee", "Eve", "Fay", "Gus", "Hal", "Ida", "Jon", "Kim", "Lou"]
    employees = [
        Employee(
            id=name,
            boss=names[(n - 1) // 2] if n else None,
            salary=rng.randrange(30, 90) * 1000,
            department=["dev", "ops", "hr"][n % 3],
        )
        for n, name in enumerate(names)
    ]
    codes = ["JFK", "BOS", "ORD", "PWM", "LHR", "CDG", "FRA", "NRT", "SYD", "AKL"]
    airports = [
        Airport(
            id=code,
            connects=rng.sample([other for other in codes if other != code], rng.randrange(1, 4)),
            country="US" if n < 4 else "other",
        )
        for n, code in enumerate(codes)
    ]
    readings = [
        Reading(
            id=n,
            sensor="abc"[n % 3],
            at=START + timedelta(hours=n * 5 + rng.randrange(0, 4)),
            value=None if rng.random() < 0.2 else rng.randrange(0, 4000) / 8,
        )
        for n in range(90)
    ]
    everything: list[list[Any]] = [products, customers, orders, old_orders, employees, airports, readings]
    return {type(objects[0]): objects for objects in everything}
