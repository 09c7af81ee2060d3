"""Updates about a base class, where a document of a subclass could not be read after them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NotRequired

import pytest
from typing_extensions import TypedDict

from superorm import (
    AsyncDB,
    Document,
    Embedded,
    Mapped,
    Registry,
    StatementError,
    SuperormError,
    UnsupportedError,
    Update,
    ValidationError,
    case,
    field,
    func,
    select,
    update,
)
from superorm.compile.plan import Find

registry = Registry()


class Pin(Embedded):
    size: Mapped[int] = field(default=1)


class Nail(Embedded):
    length: Mapped[int] = field(default=1)


class Part(Embedded):
    x: Mapped[int] = field(default=1)
    given: Mapped[int] = field(default=7)


class Strict(Part):
    x: Mapped[int] = field()
    given: Mapped[str] = field(default="text")  # type: ignore[assignment]


class Closed(Embedded):
    __extra__ = "forbid"
    y: Mapped[int] = field(default=1)


class Lax(TypedDict):
    a: int
    b: NotRequired[int]


class Firm(TypedDict):
    a: int
    b: int


class Base(Document, registry=registry):
    __collection__ = "updates_by_class"
    id: Mapped[int] = field(primary_key=True)
    n: Mapped[int] = field(default=1)
    other: Mapped[int] = field(default=2)
    plain: Mapped[int] = field(default=3)
    items: Mapped[list[int]] = field(factory=lambda: [1, 2])
    limit: Mapped[int] = field(default=1)
    pin: Mapped[Pin] = field(factory=Pin)
    pins: Mapped[list[Pin]] = field(factory=lambda: [Pin(size=9)])
    part: Mapped[Part] = field(factory=Part)
    held: Mapped[Part | Closed] = field(factory=Part)
    data: Mapped[Lax] = field(factory=lambda: Lax(a=1, b=2))


class Sub(Base):
    n: Mapped[int] = field()
    other: Mapped[str] = field(default="text")  # type: ignore[assignment]
    items: Mapped[tuple[int, int]] = field(default=(1, 2))  # type: ignore[assignment]
    limit: Mapped[Literal[1, 2]] = field(default=1)  # pyright: ignore[reportIncompatibleVariableOverride]
    pin: Mapped[Pin | Nail] = field(factory=Pin)  # type: ignore[assignment]
    pins: Mapped[list[Pin | Nail]] = field(factory=lambda: [Pin(size=9)])  # type: ignore[assignment]
    data: Mapped[Firm] = field(factory=lambda: Firm(a=1, b=2))  # type: ignore[assignment]


class Null(Base):
    items: Mapped[list[int] | None] = field(default=None)  # type: ignore[assignment]


BASE: Any = Base
NOTHING: Any = None
NAMED = {"_type": "Pin", "size": 5}


async def stored(db: AsyncDB) -> list[dict[str, Any]]:
    """The documents as the backend holds them."""
    return await db.parts.data_backend.read(Find(Base.__collection__, sort=[("_id", 1)]))


async def fill(db: AsyncDB) -> None:
    """A document of each class, and one whose embedded documents are of the narrower class."""
    async with db.begin() as session:
        narrow = Base(id=3, part=Strict(x=1), held=Closed())
        session.add_all([Base(id=1), Sub(id=2, n=1), narrow])


async def run(db: AsyncDB, statement: Any) -> None:
    """Carried out, and every document is read again."""
    async with db.begin() as session:
        await session.execute(statement)
    async with db.session() as session:
        for one in (await session.scalars(select(Base))).all():
            assert [one.n, one.other, one.items, one.limit, one.pin, one.pins, one.part, one.held, one.data]


@pytest.mark.parametrize(
    ("change", "narrow", "message"),
    [
        (lambda: Base.n.unset(), 2, r"Sub\.n cannot be assigned: documents cannot be read without it"),
        (lambda: Base.part.x.unset(), 3, r"Strict\.x cannot be assigned: documents cannot be read without it"),
        (lambda: BASE.data["b"].unset(), 2, r"Sub\.data\['b'\] cannot be assigned: documents cannot be read"),
        (lambda: Base.items.pop(), 2, r"Sub\.items is a tuple\[int, int\], whose length pop\(\) changes"),
        (lambda: Base.items.pull(1), 2, r"Sub\.items is a tuple\[int, int\], whose length pull\(\) changes"),
        (lambda: Base.items.push(3), 2, r"Sub\.items is a tuple\[int, int\], whose length push\(\) changes"),
        (lambda: Base.items.add_to_set(3), 2, r"Sub\.items is a tuple\[int, int\], whose length add_to_set\(\)"),
        (lambda: Base.limit.inc(1), 2, r"Sub\.limit is a Literal\[1, 2\], which a sum need not be"),
        (lambda: Base.held.x.to(3), 3, r"Base\.held\.x cannot be assigned: Closed does not declare it, and __extra__"),
        (lambda: Base.held.x.inc(3), 3, r"Base\.held\.x cannot be assigned: Closed does not declare it, and __extra__"),
        (lambda: Base.n.to(Base.other), 2, r"Sub\.n: Base\.n cannot become Sub\.other: it holds int, not str"),
        (lambda: Base.plain.to(Base.other), 2, r"Base\.plain cannot become Sub\.other: it holds int, not str"),
        (lambda: Base.plain.inc(Base.other), 2, r"Base\.plain cannot become Sub\.other: it holds int, not str"),
        (
            lambda: Base.plain.to(case((Base.n == 0, 5), else_=func.if_null(Base.other, 6))),
            2,
            r"Base\.plain cannot become Sub\.other: it holds int, not str",
        ),
    ],
)
async def test_refused_where_the_class_is_met(
    db: AsyncDB, real: bool, change: Callable[[], Any], narrow: int, message: str
) -> None:
    """It fails where a document of the class is met, and nothing is written; the others are changed."""
    await fill(db)
    before = await stored(db)
    statement = update(Base).all().set(change())
    if not real:
        with pytest.raises(UnsupportedError, match=r"mongomock has no \$"):
            await run(db, statement)
        assert before == await stored(db)
        return
    with pytest.raises(SuperormError, match=message):
        await run(db, statement)
    assert before == await stored(db)
    await run(db, update(Base).where(Base.id != narrow).set(change()))
    after = await stored(db)
    for document, earlier in zip(after, before, strict=True):
        assert (document == earlier) is (document["_id"] == narrow)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda: BASE.pin.to(case((Base.n == 0, Pin(size=4)), else_=Pin(size=5))), ("pin", {"size": 5}, NAMED)),
        (lambda: BASE.pin.to(func.if_null(NOTHING, Pin(size=5))), ("pin", {"size": 5}, NAMED)),
        (lambda: BASE.pin.to(func.literal(Pin(size=5))), ("pin", {"size": 5}, NAMED)),
        (lambda: BASE.pins.to(case((Base.n == 1, [Pin(size=5)]), else_=[])), ("pins", [{"size": 5}], [NAMED])),
    ],
)
async def test_values_inside_expressions(
    db: AsyncDB, change: Callable[[], Any], expected: tuple[str, Any, Any]
) -> None:
    """They are stored as each class stores them, too."""
    await fill(db)
    await run(db, update(Base).all().set(change()))
    key, of_base, of_sub = expected
    assert [of_base, of_sub, of_base] == [document[key] for document in await stored(db)]


async def test_null_where_a_class_takes_it(db: AsyncDB, real: bool) -> None:
    """A list that is null in a document whose class allows that counts as missing."""
    async with db.begin() as session:
        session.add_all([Base(id=1), Null(id=2)])
    for change in (Base.items.pull(7), Base.items.pop()):
        statement = update(Base).all().set(change)
        if not real:
            with pytest.raises(UnsupportedError, match=r"mongomock has no \$"):
                await run(db, statement)
        else:
            async with db.begin() as session:
                await session.execute(statement)
    assert [[1] if real else [1, 2], None] == [document["items"] for document in await stored(db)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: BASE.n.unset(), r"cannot be read without it"),
        (lambda: BASE.items.pop(), r"Sub\.items is a tuple\[int, int\], whose length pop\(\) changes"),
        (lambda: BASE.limit.inc(1), r"Sub\.limit is a Literal\[1, 2\]"),
        (lambda: BASE.plain.to(BASE.other), r"Base\.plain cannot become Sub\.other: it holds int, not str"),
        (lambda: Base.plain.to(BASE.part.given), r"Base\.plain cannot become Strict\.given: it holds int, not str"),
    ],
)
def test_refused_when_compiled(change: Callable[[], Any], message: str) -> None:
    """A statement whose every document is of such a class, and what only the embedded documents tell."""
    with pytest.raises(StatementError, match=message):
        update(Sub).all().set(change()).plan()


def test_what_is_sent() -> None:
    """A list of fixed length is assigned as a whole; nothing is told apart where no class differs."""
    (sent,) = update(Base).all().set(BASE.data["b"].to(3), Base.plain.unset()).plan()["updates"]
    assert {"$set": {"data.b": 3}, "$unset": {"plain": ""}} == sent["u"]
    (sent,) = update(Sub).all().set(BASE.other.to(BASE.other)).plan()["updates"]
    assert [{"$set": {"other": {"$ifNull": ["$other", None]}}}] == sent["u"]


class Counted(Document, registry=registry):
    __collection__ = "updates_counted"
    id: Mapped[int] = field(primary_key=True)
    seen: Mapped[int | Literal["unknown"]] = field(default=0)


async def test_a_number_beside_a_literal_that_is_none(db: AsyncDB) -> None:
    """A sum is a number, which a field that may also be a text reads."""
    async with db.begin() as session:
        session.add(Counted(id=1))
        await session.flush()
        await session.execute(update(Counted).all().set(Counted.seen.inc(2)))
    async with db.session() as session:
        assert [2] == (await session.scalars(select(Counted.seen))).all()


def test_pulls_are_stored() -> None:
    """With the forms in which other classes store the values."""
    statement = update(Base).all().set(Base.pins.pull(Pin(size=3), Pin(size=4)), Base.items.pull(1, 1))
    again = Update[Base].from_dict(statement.to_dict(), registry=registry)
    assert statement.plan() == again.plan()
    assert {"_type": "Pin", "size": 3} in BASE.pins.pull(Pin(size=3)).value


class Apart(Document, registry=registry):
    __collection__ = "updates_apart"
    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str] = field(default="")
    number: Mapped[int] = field(default=0)


class Texts(Apart):
    number: Mapped[str] = field(default="")  # type: ignore[assignment]


async def test_the_class_itself(db: AsyncDB) -> None:
    """What only documents of a subclass could take is refused for those of the class itself."""
    apart: Any = Apart
    async with db.begin() as session:
        session.add_all([Apart(id=1), Texts(id=2, number="x")])
    change = apart.text.to(apart.number)
    for statement in (update(Apart).all().set(change), update(Texts).all().set(change)):
        async with db.session() as session:
            if statement.plan()["updates"][0]["q"]:
                await session.execute(statement)
                await session.commit()
                continue
            with pytest.raises(SuperormError, match=r"text: Apart\.text cannot become|mongomock has no"):
                await session.execute(statement)
    found = await db.parts.data_backend.read(Find(Apart.__collection__, sort=[("_id", 1)]))
    assert ["", "x"] == [one["text"] for one in found]


def no_nines(_: object, __: object, value: int) -> None:
    if value == 9:
        raise ValueError("no nines")


def marked(text: str) -> str:
    return f"{text}!"


class Checked(Document, registry=registry):
    __collection__ = "updates_checked"
    id: Mapped[int] = field(primary_key=True)
    n: Mapped[int] = field(default=0, validator=no_nines)
    code: Mapped[str] = field(default="", converter=marked)
    other: Mapped[str] = field(default="a")


class Looser(Checked):
    n: Mapped[int] = field(default=0)
    other: Mapped[str] = field(default="a", converter=str.upper)


async def test_values_inside_expressions_are_checked(db: AsyncDB) -> None:
    """Validators and converters see the literals that become values, those of each class its own, and once."""
    with pytest.raises(ValidationError, match=r"Checked\.n cannot be stored: ValueError: no nines"):
        Checked.n.to(case((Checked.id == 1, 3), else_=func.if_null(Checked.n, 9)))
    async with db.begin() as session:
        session.add_all([Checked(id=1), Looser(id=2)])
    statement = update(Checked).all()
    any_checked: Any = Checked
    code = any_checked.code.to(case((Checked.id == 1, "x"), else_=Checked.other))
    statement = statement.set(code, Checked.other.to(case((Checked.id < 9, "b"), else_="c")))
    again = Update[Checked].from_dict(statement.to_dict(), registry=registry)
    assert statement.plan() == again.plan()
    async with db.begin() as session:
        await session.execute(again)
    found = await db.parts.data_backend.read(Find(Checked.__collection__, sort=[("_id", 1)]))
    assert [("x!", "b"), ("A", "B")] == [(one["code"], one["other"]) for one in found]
