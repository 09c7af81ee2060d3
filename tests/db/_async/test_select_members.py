"""Fields of unions and of subclasses in select lists, and other columns, over each kind of DB."""

from __future__ import annotations

from enum import Enum
from typing import Any

import pytest
import pytest_asyncio

from superorm import (
    AsyncDB,
    Document,
    Embedded,
    Mapped,
    Registry,
    StatementError,
    ValidationError,
    case,
    field,
    func,
    load_only,
    select,
    update,
)

registry = Registry()


class Point(Embedded):
    x: Mapped[int]


class Circle(Embedded):
    radius: Mapped[float]
    centre: Mapped[Point | None] = field(default=None)
    grade: Mapped[int] = field(default=1)


class Square(Embedded):
    edge: Mapped[float]
    sides: Mapped[int] = field(default=4)
    grade: Mapped[str] = field(default="S")


class Cube(Square):
    depth: Mapped[float] = field(default=1.5)
    sides: Mapped[int] = field(default=6)


class Drawing(Document, registry=registry):
    __collection__ = "drawings_selected"
    id: Mapped[int] = field(primary_key=True)
    shape: Mapped[Circle | Square | None] = field(default=None)
    square: Mapped[Square | None] = field(default=None)
    shapes: Mapped[list[Circle | Square]] = field(factory=list)


class Red(Embedded):
    x: Mapped[int]
    share: Mapped[int] = field(default=11)
    tags: Mapped[list[int]] = field(factory=list)


class Blue(Embedded):
    x: Mapped[str]
    share: Mapped[int] = field(default=22)
    tags: Mapped[list[str]] = field(factory=list)


class Navy(Blue):
    share: Mapped[int] = field(default=33)


class Plain(Embedded):
    paint: Mapped[Red]
    paints: Mapped[dict[str, list[Red]]] = field(factory=dict)


class Framed(Embedded):
    paint: Mapped[Blue]
    paints: Mapped[dict[str, list[Blue]]] = field(factory=dict)


class Bare(Embedded):
    width: Mapped[int] = field(default=0)


class Sheet(Document, registry=registry):
    __collection__ = "sheets_selected"
    id: Mapped[int] = field(primary_key=True)
    kind: Mapped[Plain | Framed | Bare | None] = field(default=None)
    kinds: Mapped[list[Plain | Framed | Bare]] = field(factory=list)


class Loose(Document, registry=Registry()):
    __collection__ = "drawings_selected"
    id: Mapped[int] = field(primary_key=True)
    shape: Mapped[dict[str, Any]]


class Colour(Enum):
    RED = "r"
    GREEN = "g"


class Pot(Document, registry=registry):
    __collection__ = "pots_selected"
    id: Mapped[int] = field(primary_key=True)
    colour: Mapped[Colour] = field(default=Colour.RED)


class Cup(Document, registry=registry):
    __collection__ = "cups_selected"
    id: Mapped[int] = field(primary_key=True)
    size: Mapped[int] = field(default=0)
    spare: Mapped[int | None] = field(default=None)


class Mug(Document, registry=Registry()):
    __collection__ = "cups_selected"
    __on_mismatch__ = "keep"
    id: Mapped[int] = field(primary_key=True)
    size: Mapped[int] = field(default=0)


ANY: Any = Drawing


@pytest_asyncio.fixture
async def drawings(db: AsyncDB) -> AsyncDB:
    """A drawing of each kind; 4 and 5 lack keys that their classes have."""
    async with db.begin() as session:
        one, other = Circle(radius=1, centre=Point(x=5)), Square(edge=2)
        session.add(Drawing(id=1, shape=one, square=Square(edge=1), shapes=[one, other]))
        session.add(Drawing(id=2, shape=other, square=Cube(edge=1, depth=3), shapes=[other]))
        session.add(Drawing(id=3))
        session.add(Drawing(id=4, shape=Cube(edge=3), square=Cube(edge=1), shapes=[Cube(edge=7)]))
        session.add(Drawing(id=5, shape=Circle(radius=2), square=Square(edge=1)))
    changes = [ANY.shape.sides.unset(), ANY.shape.grade.unset(), ANY.square.depth.unset(), ANY.square.sides.unset()]
    async with db.begin() as session:
        await session.execute(update(Drawing).where(Drawing.id >= 4).set(*changes))
    return db


def value(part: object, cls: type, name: str) -> Any:
    """The attribute of an object of the class; None of others."""
    return getattr(part, name) if isinstance(part, cls) else None


@pytest.mark.parametrize(
    ("path", "holder", "name", "classes"),
    [
        (ANY.shape.radius, "shape", "radius", Circle),
        (ANY.shape.sides, "shape", "sides", Square),
        (ANY.shape.grade, "shape", "grade", (Circle, Square)),
        (ANY.shape[Cube.depth], "shape", "depth", Cube),
        (ANY.square.depth, "square", "depth", Cube),
        (ANY.square.sides, "square", "sides", Square),
        (ANY.square.edge, "square", "edge", Square),
    ],
)
async def test_of_one_class(drawings: AsyncDB, path: Any, holder: str, name: str, classes: Any) -> None:
    """What the whole object has, its default where the key is missing; None of an object of another class."""
    async with drawings.session() as session:
        whole = (await session.scalars(select(Drawing).order_by(Drawing.id))).all()
        expected = [value(getattr(one, holder), classes, name) for one in whole]
        assert expected == (await session.scalars(select(path).order_by(Drawing.id))).all()
        for statement in (
            select(Drawing.id, path),
            select(Drawing, path),
            select(Drawing, path).options(load_only(Drawing.id)),
            select(path.label("it"), (Drawing.id + 1).label("next")),
        ):
            rows = (await session.execute(statement.order_by(Drawing.id))).all()
            assert expected == [row[0 if row._names[0] == "it" else 1] for row in rows]
        streamed = [one async for one in session.stream_scalars(select(path).order_by(Drawing.id))]
        assert expected == streamed
        for wanted in {one for one in expected if one is not None and len(set(map(type, expected))) < 3}:
            stored = select(path).where(path == wanted)
            assert {wanted} >= set((await session.scalars(stored)).all())


async def test_of_lists(drawings: AsyncDB) -> None:
    """A list has the value, or None, of each item; of an unwound list it is that of the item in the row."""
    radius, edge = ANY.shapes.radius, ANY.shapes.edge
    async with drawings.session() as session:
        rows = (await session.execute(select(Drawing.id, radius, edge).order_by(Drawing.id))).all()
        assert [(1, [1.0, None], [None, 2.0]), (2, [None], [2.0])] == rows[:2]
        assert [(3, [], []), (4, [None], [7.0]), (5, [], [])] == rows[2:]
        item = Drawing.shapes.item()
        statement = select(Drawing.id, item[Circle.radius], item[Square.sides], item[Cube.depth])  # type: ignore[call-overload]
        rows = (await session.execute(statement.unwind(Drawing.shapes))).all()
        expected = [(1, 1.0, None, None), (1, None, 4, None), (2, None, 4, None), (4, None, 6, 1.5)]
        assert expected == sorted(rows, key=lambda row: (row[0], row[1] is None))


async def test_two_levels_below(db: AsyncDB) -> None:
    """Each document on the way tells by its class what stands below it."""
    async with db.begin() as session:
        plain = Plain(paint=Red(x=1, tags=[3]), paints={"k": [Red(x=2)]})
        framed = Framed(paint=Blue(x="b", tags=["t"]), paints={"k": [Blue(x="c"), Navy(x="d")]})
        navy = Framed(paint=Navy(x="n"))
        for id, kind in enumerate((plain, framed, navy, Bare(), None)):
            session.add(Sheet(id=id, kind=kind, kinds=[] if kind is None else [kind, plain]))
    any_: Any = Sheet
    shares = [any_.kind.paint.share.unset(), any_.kind.paints["k"][0].share.unset()]
    async with db.begin() as session:
        await session.execute(update(Sheet).all().set(shares[0]))
        await session.execute(update(Sheet).where(Sheet.id < 2).set(shares[1]))
    async with db.session() as session:
        paint, paints = any_.kind.paint, any_.kind.paints["k"]
        columns = [paint.share, paint.x, paint.tags, paints.share, paints.x]
        found = (await session.execute(select(Sheet).columns(Sheet.id, *columns).order_by(Sheet.id))).all()
        whole = (await session.scalars(select(Sheet).order_by(Sheet.id))).all()
        expected: list[Any] = []
        for one in whole:
            inner: Any = getattr(one.kind, "paint", None)
            below: Any = getattr(one.kind, "paints", {}).get("k")
            many = [None if below is None else [getattr(each, name) for each in below] for name in ("share", "x")]
            expected.append((one.id, *[getattr(inner, name, None) for name in ("share", "x", "tags")], *many))
        assert (11, 22, 33, None, None) == tuple(row[1] for row in expected)
        assert expected == list(found)
        for column, values in zip(columns, list(zip(*expected, strict=True))[1:], strict=True):
            assert list(values) == (await session.scalars(select(column).order_by(Sheet.id))).all()
        item = Sheet.kinds.item()
        tags: Any = select(Sheet.id, any_.kinds.paint.share, item[Framed.paint].x).unwind(Sheet.kinds)  # type: ignore[index]
        rows = (await session.execute(tags.where(Sheet.id == 1))).all()
        assert [(1, 11, 1), (1, 22, "b")] == sorted(rows, key=lambda row: row[1])
        unwound = select(any_.kind.paint.tags).unwind(any_.kind.paint.tags).order_by(Sheet.id)
        assert [3, "t"] == (await session.scalars(unwound)).all()


async def test_below_one_class(drawings: AsyncDB) -> None:
    """A part of what one class embeds is None of the others too."""
    async with drawings.session() as session:
        found = (await session.scalars(select(ANY.shape.centre.x).order_by(Drawing.id))).all()
        assert [5, None, None, None, None] == found


async def test_a_missing_key_without_default(drawings: AsyncDB) -> None:
    """It is an error where the class of the document has the field."""
    async with drawings.begin() as session:
        session.add(Loose(id=6, shape={"_type": "Circle"}))
    async with drawings.session() as session:
        with pytest.raises(
            ValidationError, match=r"Drawing 6: the stored value of shape\.radius does not fit.*missing"
        ):
            await session.execute(select(Drawing.id, ANY.shape.radius))


async def test_what_a_field_cannot_become(db: AsyncDB) -> None:
    """Values in a case that the field cannot hold are refused before anything is stored; others are written."""
    green = Pot.id == 1
    with pytest.raises(StatementError, match=r"Pot\.colour cannot become .*: expected Colour, got str 'q'"):
        Pot.colour.to(case((green, "q"), else_="r"))  # type: ignore[arg-type]
    async with db.begin() as session:
        session.add_all([Pot(id=1), Pot(id=2)])
    async with db.begin() as session:
        change = Pot.colour.to(case((green, Colour.GREEN), else_=Colour.RED))
        await session.execute(update(Pot).all().set(change))
        colours = (await session.scalars(select(Pot.colour).order_by(Pot.id))).all()
        assert [Colour.GREEN, Colour.RED] == colours


async def test_what_a_condition_rules_out(db: AsyncDB) -> None:
    """A field takes one that may be None where a condition leaves none; a class that keeps values takes any."""
    async with db.begin() as session:
        session.add_all([Cup(id=1, spare=4), Cup(id=2)])
    async with db.begin() as session:
        there = update(Cup).where(Cup.spare != None)  # noqa: E711 - a condition
        await session.execute(there.set(Cup.size.to(Cup.spare)))  # type: ignore[arg-type]
        assert [4, 0] == (await session.scalars(select(Cup.size).order_by(Cup.id))).all()
    async with db.begin() as session:
        unknown: Any = case((Mug.id == 1, "unknown"), else_=Mug.size)
        await session.execute(update(Mug).all().set(Mug.size.to(unknown)))
        assert ["unknown", 0] == (await session.scalars(select(Mug.size).order_by(Mug.id))).all()


async def test_names_of_columns(db: AsyncDB, real: bool) -> None:
    """A column without a label is called as the function or method was."""
    async with db.begin() as session:
        session.add(Drawing(id=1, shape=Circle(radius=1)))
    inner = select(Pot.id).where(Pot.id == Drawing.id).as_list()
    columns: list[Any] = [Drawing.id == 1, Drawing.id.in_([1]), (Drawing.id > 1) | (Drawing.id < 0)]
    columns.append(func.sum(Drawing.id, 1))
    if real:  # mongomock has not all of these
        columns += [
            inner,
            func.merge_objects(func.object(a=1), {"b": 2}),
            func.upper(ANY.id),
            func.regex_match("a", "a"),
        ]
    statement: Any = select(Drawing).columns(*columns)
    async with db.session() as session:
        result = await session.execute(statement)
        more = ("as_list", "merge_objects", "upper", "regex_match") if real else ()
        assert ("eq", "in_", "or_", "sum", *more) == result.keys()
        values = (True, True, False, 2, [], {"a": 1, "b": 2}, "1", True)
        assert values[: len(columns)] == tuple(result.one())
