"""A program that writes a document with sets, or looks for it: ``write`` or ``find``, the server and the database.

It runs under several seeds of Python's hashes, by which the order of sets differs.
"""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from enum import Enum
from typing import Any

from superorm import Document, Embedded, Mapped, Session, connect, field, func, insert, register_type, select, update


class Color(Enum):
    RED = "red"
    BLUE = "blue"
    THREE = 3


class Point(Embedded):
    x: Mapped[int]

    def __hash__(self) -> int:
        return hash(self.x)


class Name(Embedded):
    name: Mapped[str]

    def __hash__(self) -> int:
        return hash(self.name)


class Money:
    """Of no hash that Python gives to numbers."""

    def __init__(self, amount: int) -> None:
        self.amount = amount

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and other.amount == self.amount

    def __hash__(self) -> int:
        return hash(str(self.amount))


register_type(Money, lambda money: str(money.amount), lambda text: Money(int(text)))

WORDS = {"a", "b", "c", "dd", "ee", "é", "Z", ""}
FROZEN = frozenset(WORDS)
SETS: dict[str, Any] = {
    "words": WORDS,
    "frozen": FROZEN,
    "colors": set(Color),
    "numbers": {1, 2.5, Decimal("1.5"), float("inf"), -3},
    "pairs": {("b", 1), ("a", 2), ("a", 1)},
    "nested": {frozenset("abc"), frozenset("de"), frozenset[str]()},
    "points": {Point(x=x) for x in range(5)},
    "either": {Point(x=1), Name(name="b"), Name(name="a"), Point(x=0)},
    "money": {Money(3), Money(20), Money(100)},
    "anything": {None, True, "a", 2, b"x", (1, "y")},
    "maybe": set("xyz"),
    "lists": [WORDS, {"x", "y"}],
    "dicts": {"k": WORDS, "l": {"x", "y"}},
}


class Holder(Document):
    __collection__ = "holders"

    words: Mapped[set[str]] = field(factory=set)
    frozen: Mapped[frozenset[str]] = field(factory=frozenset)
    colors: Mapped[set[Color]] = field(factory=set)
    numbers: Mapped[set[int | float | Decimal]] = field(factory=set)
    pairs: Mapped[set[tuple[str, int]]] = field(factory=set)
    nested: Mapped[set[frozenset[str]]] = field(factory=set)
    points: Mapped[set[Point]] = field(factory=set)
    either: Mapped[set[Point | Name]] = field(factory=set)
    money: Mapped[set[Money]] = field(factory=set)
    anything: Mapped[set[Any]] = field(factory=set)
    maybe: Mapped[set[str] | int | None] = field(default=None)
    lists: Mapped[list[set[str]]] = field(factory=list)
    dicts: Mapped[dict[str, set[str]]] = field(factory=dict)
    version: Mapped[int] = field(version=True)


def write(db: Any) -> None:
    with db.begin() as session:
        session.add(Holder(**SETS))


def find(db: Any) -> dict[str, Any]:
    """What comes of each way to look for the sets; every count should be 1."""
    found: dict[str, Any] = {}
    conditions: dict[str, Any] = {}
    for name, value in SETS.items():
        part: Any = getattr(Holder, name)
        conditions |= {f"{name} ==": part == value, f"{name} in_": part.in_([value])}
        conditions[f"{name} not_in"] = ~part.not_in([value])
    conditions["contains"] = Holder.lists.contains(WORDS)
    conditions["position"] = Holder.lists[0] == WORDS
    conditions["key"] = Holder.dicts["k"].in_([WORDS])
    conditions["func.in_"] = func.in_(WORDS, Holder.lists)
    conditions["func.set_equals"] = func.set_equals(Holder.words, WORDS)
    with Session(db) as session:
        for name, condition in conditions.items():
            found[name] = len(session.scalars(select(Holder.id).where(condition)).all())
    for name, change in (("pull", Holder.lists.pull(WORDS)), ("add_to_set", Holder.lists.add_to_set(WORDS))):
        with Session(db) as session:
            session.execute(update(Holder).all().set(change))
            found[name] = len(session.scalars(select(Holder.lists)).one())
    with Session(db) as session:
        matched = session.execute(insert(Holder).values([{"words": WORDS}]).upsert(Holder.words)).matched
        found["upsert"] = matched
    with Session(db) as session:
        holder = session.scalars(select(Holder)).one()
        for name, value in SETS.items():
            setattr(holder, name, value)
        session.commit()
        found["version"] = holder.version  # another one after an update
    return found


if __name__ == "__main__":
    what, uri, name = sys.argv[1:]
    with connect(uri, database=name, vector_database="memory://") as db:
        if what == "write":
            write(db)
        else:
            print(json.dumps([find(db), str(select(Holder).where(Holder.words == WORDS, Holder.words.in_(WORDS)))]))
