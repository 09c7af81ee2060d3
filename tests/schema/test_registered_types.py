"""Classes that users register with functions to BSON and back."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import Any, Generic, TypeVar

import pytest
from bson import Binary, Decimal128, ObjectId

from superorm import (
    Document,
    Embedded,
    Mapped,
    MappingError,
    Registry,
    StatementError,
    UnsupportedError,
    ValidationError,
    field,
    register_type,
)
from superorm.codec.documents import dump
from superorm.expr.literals import literal
from superorm.schema.mapping import class_map
from tests.schema.helpers import change_of, document_class, load_one, store

T = TypeVar("T")


class Money:
    """Mutable, and compared by identity."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, amount: str, currency: str) -> None:
        self.amount = Decimal(amount)
        self.currency = currency

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and vars(self) == vars(other)

    def __repr__(self) -> str:
        return f"{self.amount} {self.currency}"


class Salary(Money):
    pass


class Version:
    def __init__(self, text: str) -> None:
        self.parts = tuple(map(int, text.split(".")))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self.parts == other.parts

    def __hash__(self) -> int:
        return hash(self.parts)

    def __repr__(self) -> str:
        return f"v{'.'.join(map(str, self.parts))}"


class Loud(str):
    pass


class Level(Enum):
    LOW = 1
    HIGH = 2


class Box(Generic[T]):
    def __init__(self, content: T) -> None:
        self.content = content


def money_to_bson(money: Money) -> dict[str, Any]:
    return {"n": Decimal128(money.amount), "c": money.currency}


def money_from_bson(value: dict[str, Any]) -> Money:
    return Money(str(value["n"]), value["c"])


register_type(Money, money_to_bson, money_from_bson, bson_type=dict)
register_type(Version, str, lambda text: Version(text[1:]), bson_type=str)
register_type(PurePosixPath, str, PurePosixPath)
register_type(Loud, lambda loud: loud.upper(), Loud)
register_type(Level, lambda level: level.name, lambda name: Level[name])
register_type(Box, lambda box: [box.content], lambda items: Box(items[0]))


class Part(Embedded):
    price: Mapped[Money]


class Item(Document, registry=Registry()):
    price: Mapped[Money]
    was: Mapped[Money | None] = field(default=None)
    history: Mapped[list[Money]] = field(factory=list)
    by_country: Mapped[dict[str, Money]] = field(factory=dict)
    versions: Mapped[set[Version]] = field(factory=set)
    either: Mapped[Money | str | int] = field(default=0)
    pair: Mapped[tuple[Version, int] | None] = field(default=None)
    part: Mapped[Part | None] = field(default=None)
    path: Mapped[PurePosixPath | None] = field(default=None)
    loud: Mapped[Loud] = field(default=Loud("x"))
    level: Mapped[Level] = field(default=Level.LOW)
    box: Mapped[Box[int] | None] = field(default=None)


KEY = ObjectId()
PRICE = {"n": Decimal128("1.50"), "c": "EUR"}


def price(amount: str = "1.50") -> Money:
    return Money(amount, "EUR")


def test_everywhere() -> None:
    """In fields, optional ones, lists, dicts, sets, tuples, unions and embedded documents."""
    item = Item(
        price=price(),
        was=price(),
        history=[price(), price()],
        by_country={"de": price()},
        versions={Version("1.2")},
        either=price(),
        pair=(Version("3.4"), 5),
        part=Part(price=price()),
        path=PurePosixPath("/tmp/x"),
        loud=Loud("hear"),
        level=Level.HIGH,
        box=Box(7),
    )
    stored = store(item)
    assert {
        "_id": item.id,
        "price": PRICE,
        "was": PRICE,
        "history": [PRICE, PRICE],
        "by_country": {"de": PRICE},
        "versions": ["v1.2"],
        "either": PRICE,
        "pair": ["v3.4", 5],
        "part": {"price": PRICE},
        "path": "/tmp/x",
        "loud": "HEAR",
        "level": "HIGH",
        "box": [7],
    } == stored
    again = load_one(Item, stored)
    for name in ("price", "was", "history", "by_country", "versions", "either", "pair", "part", "path", "level"):
        assert getattr(item, name) == getattr(again, name)
    assert (Loud, "HEAR", 7) == (type(again.loud), again.loud, again.box.content)
    assert change_of(class_map(Item), again) is None


def test_changes() -> None:
    """A mutated value is a change of its parts; an equal new one, or one read only, is none."""
    item = load_one(Item, store(Item(price=price(), was=price(), history=[price()])))
    item.price = price()
    item.was.amount = Decimal("2")
    change = change_of(class_map(Item), item)
    assert change is not None
    assert {"$set": {"was.n": Decimal128("2")}} == change.update
    item.was = None
    assert {"$set": {"was": None}} == change_of(class_map(Item), item).update  # type: ignore[union-attr]
    item.was = price()
    item.history[0].currency = "USD"
    expected = {"$set": {"history": [{"n": Decimal128("1.50"), "c": "USD"}]}}
    assert expected == change_of(class_map(Item), item).update  # type: ignore[union-attr]


class Angry:
    pass


def refuse(value: Any) -> Any:
    raise KeyError("no")


register_type(Angry, refuse, refuse)
register_type(Box, lambda box: [box.content], lambda items: Box(items[0]))


def returning(value: Any) -> type:
    """A registered class whose to_bson gives `value`."""

    class Returning:
        def __repr__(self) -> str:
            return "R"

    register_type(Returning, lambda _: value, lambda _: Returning())
    return Returning


ANGRY = Angry()
REFUSED: list[tuple[Any, Any, str, str]] = [
    (Money, 5, "value", "expected Money, got int 5"),
    (Money, None, "value", "expected Money, got NoneType None"),
    (list[Money], [price(), 5], "value.1", "expected Money, got int 5"),
    (dict[str, Money | None], {"a": 5}, "value.a", "expected Money, got int 5"),
    (Money, Salary("1", "EUR"), "value", "expected Money itself, as which it would be read, got Salary 1 EUR"),
    (dict[str, list[Angry]], {"a": [ANGRY]}, "value.a.0", f"to_bson of Angry failed on Angry {ANGRY!r}"[:60]),
    (Angry | None, ANGRY, "value", "KeyError: 'no'"),
]


@pytest.mark.parametrize(("annotation", "value", "path", "message"), REFUSED)
def test_refused_at_flush(annotation: Any, value: Any, path: str, message: str) -> None:
    """A value that does not fit, or that to_bson fails on, names class, key, path and value."""
    cls = document_class(value=annotation)
    instance = cls(value=value)
    with pytest.raises(ValidationError) as raised:
        dump(class_map(cls), instance)
    assert f"Holder {instance.id!r}: {path} cannot be stored: " in str(raised.value)
    assert message in str(raised.value)
    assert (cls, instance.id, path) == (raised.value.document_class, raised.value.key, raised.value.field)


@pytest.mark.parametrize(
    ("given", "path", "message"),
    [
        (None, "value", "expected a value other than None from the function to_bson of Returning, got NoneType None"),
        (object, "value", "expected a value that BSON holds from the function to_bson of Returning, got type"),
        ({"a": [1, {2}]}, "value.a.1", "expected a value that BSON holds from the function to_bson of Returning"),
        ({"$a": 1}, "value", "expected a key that is a string without dots, dollar signs and NUL from the function"),
        (2**63, "value", "expected an int of at most 64 bits from the function to_bson of Returning"),
    ],
)
def test_what_to_bson_may_not_give(given: Any, path: str, message: str) -> None:
    """Its result is checked as a value of its own."""
    kind = returning(given)
    cls = document_class(value=kind)
    with pytest.raises(ValidationError) as raised:
        store(cls(value=kind()))
    assert path == raised.value.field
    assert message in str(raised.value)


def test_another_bson_type_than_announced() -> None:
    """What bson_type promises is kept."""

    class Odd:
        pass

    register_type(Odd, lambda _: b"x", lambda _: Odd(), bson_type=(str, dict))
    with pytest.raises(ValidationError, match="expected dict or str from the function to_bson of Odd, got bytes b'x'"):
        store(document_class(value=Odd)(value=Odd()))
    register_type(Odd, lambda _: Binary(b"x", 0), lambda _: Odd(), bson_type=bytes)
    assert b"x" == store(document_class(value=Odd)(value=Odd()))["value"]


@pytest.mark.parametrize(
    ("annotation", "raw", "path", "message"),
    [
        (Money, {"n": 1}, "value", "from_bson of Money failed on dict {'n': 1}: KeyError: 'c'"),
        (list[Money], [PRICE, {}], "value.1", "from_bson of Money failed on dict {}: KeyError: 'n'"),
        (Money, "1 EUR", "value", "expected Money, got str '1 EUR'"),
        (Money | None, 5, "value", "expected Money, got int 5"),
        (Money | int, {}, "value", "from_bson of Money failed on dict {}: KeyError: 'n'"),
        (PurePosixPath, None, "value", "expected PurePosixPath, got NoneType None"),
    ],
)
def test_refused_at_reading(annotation: Any, raw: Any, path: str, message: str) -> None:
    """What does not fit, or from_bson fails on, names class, key, path and value; the cause is kept."""
    cls = document_class(value=annotation)
    with pytest.raises(ValidationError) as raised:
        load_one(cls, {"_id": KEY, "value": raw}).value  # noqa: B018
    assert f"Holder {KEY!r}: the stored value of {path} does not fit: {message}" in str(raised.value)
    assert (cls, KEY, path) == (raised.value.document_class, raised.value.key, raised.value.field)
    assert ("failed" in message) == isinstance(raised.value.__cause__, KeyError)


def test_from_bson_gives_something_else() -> None:
    """A silent wrong type is refused."""

    class Wrong:
        pass

    register_type(Wrong, lambda _: 1, lambda _: "wrong")  # type: ignore[arg-type, return-value]
    with pytest.raises(ValidationError, match=r"expected Wrong from the function from_bson .*, got str 'wrong'"):
        load_one(document_class(value=Wrong), {"value": 1}).value  # noqa: B018


def test_subclasses_that_come_back() -> None:
    """An instance of a subclass is taken where it is read as one, as those of Path are."""
    register_type(Path, str, Path, bson_type=str)
    cls = document_class(value=Path, other=Path | int)
    again = load_one(cls, store(cls(value=Path("/a/b"), other=Path("c"))))
    assert (Path("/a/b"), Path("c")) == (again.value, again.other)
    assert "/a/b" == literal(Path("/a/b"))


def test_registering_later_and_again() -> None:
    """A class may be declared before its types are registered; registering again holds everywhere."""

    class Late:
        def __init__(self, n: int) -> None:
            self.n = n

    cls = document_class(value=Late | None)
    with pytest.raises(
        MappingError,
        match=r"Holder\.value: no type .*Late'> is known; call superorm\.register_type\(Late, to_bson, from_bson\)",
    ):
        store(cls(value=None))
    register_type(Late, lambda late: late.n, Late)
    stored = store(cls(value=Late(5)))
    assert (5, 5) == (stored["value"], load_one(cls, stored).value.n)
    register_type(Late, lambda late: str(late.n), lambda text: Late(int(text)))
    stored = store(cls(value=Late(5)))
    assert ("5", 5) == (stored["value"], load_one(cls, stored).value.n)


def test_literals() -> None:
    """Registered values stand in statements as they are stored, also of classes derived from BSON's own."""
    assert PRICE == literal(price())
    assert ["v1.2", "HIGH", "HEAR"] == literal([Version("1.2"), Level.HIGH, Loud("hear")])
    with pytest.raises(StatementError, match=r"a Angry cannot stand in a statement: to_bson of Angry failed on Angry"):
        literal(ANGRY)


def test_keys() -> None:
    """A registered class may be the type of the primary key."""

    class Release(Document, registry=Registry()):
        version: Mapped[Version] = field(primary_key=True)

    assert {"_id": "v1.2"} == store(Release(version=Version("1.2")))
    assert Version("1.2") == load_one(Release, {"_id": "v1.2"}).version


@pytest.mark.parametrize(
    "annotation", [Money | dict[str, int], Version | str, PurePosixPath | int, Money | Part, Box[int] | Money]
)
def test_unions_that_cannot_be_told_apart(annotation: Any) -> None:
    """Without bson_type a registered class reads anything."""
    with pytest.raises(UnsupportedError, match=r"Holder\.value: .* cannot be told apart once they are stored"):
        document_class(value=annotation)


def test_sets_need_a_hash() -> None:
    """A class without one cannot be in a set."""
    with pytest.raises(MappingError, match=r"Holder\.value: a set cannot hold Money, which has no hash"):
        document_class(value=set[Money])


@pytest.mark.parametrize(
    ("register", "message"),
    [
        (lambda: register_type(int, str, int), r"register_type\(int\): give a class of your own"),
        (lambda: register_type(Decimal, str, Decimal), "give a class of your own"),
        (lambda: register_type(object, str, str), "give a class of your own"),
        (lambda: register_type(Part, str, Part), "give a class of your own"),  # type: ignore[arg-type]
        (lambda: register_type("Money", str, str), r"register_type\(Money\): give a class"),  # type: ignore[arg-type]
        (lambda: register_type(list[int], str, list), r"give a class of your own"),
        (lambda: register_type(Angry, 3, str), "to_bson and from_bson must be functions"),  # type: ignore[arg-type]
        (lambda: register_type(Angry, str, None), "to_bson and from_bson must be functions"),  # type: ignore[arg-type]
        (lambda: register_type(Angry, refuse, refuse, bson_type=[]), r"bson_type=\[\] is none of Binary, "),  # type: ignore[arg-type]
        (lambda: register_type(Angry, refuse, refuse, bson_type=()), r"bson_type=\(\) is none of Binary, "),
        (lambda: register_type(Angry, refuse, refuse, bson_type=set), r"bson_type=<class 'set'> is none of Binary, "),
        (lambda: register_type(Angry, refuse, refuse, bson_type=(str, type(None))), "bson_type=<class 'NoneType'> is"),
    ],
)
def test_settings_that_are_refused(register: Callable[[], None], message: str) -> None:
    """Each says what is wrong."""
    with pytest.raises(MappingError, match=message):
        register()
