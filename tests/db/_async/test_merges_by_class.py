"""Rows merged into a class whose subclasses declare fields otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from superorm import (
    AsyncDB,
    Document,
    Mapped,
    Registry,
    StatementError,
    UnsupportedError,
    case,
    field,
    func,
    select,
)
from superorm.compile.plan import Find

registry = Registry()


class Source(Document, registry=registry):
    __collection__ = "merge_sources"
    id: Mapped[int] = field(primary_key=True)
    n: Mapped[int] = field(default=5)
    text: Mapped[str] = field(default="a")
    items: Mapped[list[int]] = field(factory=lambda: [2, 1, 2])


class Other(Document, registry=registry):
    __collection__ = "merge_others"
    __discriminator__ = "_type"
    id: Mapped[int] = field(primary_key=True)


class Base(Document, registry=registry):
    __collection__ = "merges_by_class"
    id: Mapped[int] = field(primary_key=True)
    n: Mapped[int] = field(default=0)
    free: Mapped[int] = field(default=0)
    items: Mapped[list[int]] = field(factory=list)


class Text(Base):
    __extra__ = "forbid"
    n: Mapped[str] = field(default="")  # type: ignore[assignment]
    items: Mapped[set[int]] = field(factory=set)  # type: ignore[assignment]
    more: Mapped[int] = field(default=0)


class Full(Base):
    needed: Mapped[int]


class Alone(Document, registry=registry):
    __collection__ = "merges_alone"
    id: Mapped[int] = field(primary_key=True)
    kind: Mapped[str] = field(name="_type", default="")


def named(name: str | None) -> Any:
    """A column that names the class of each row."""
    return func.literal(name).label("_type")


async def fill(db: AsyncDB) -> None:
    """A document of each class, and rows with the same keys."""
    async with db.begin() as session:
        session.add_all([Base(id=1), Text(id=2), Full(id=3, needed=1)])
        session.add_all([Source(id=key) for key in range(1, 5)])


async def stored(db: AsyncDB) -> list[dict[str, Any]]:
    """The documents as the backend holds them."""
    return await db.parts.data_backend.read(Find(Base.__collection__, sort=[("_id", 1)]))


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            lambda: select(Source.id, Source.n).merge_into(Base),
            r"merge_into\(Base\): Text\.n holds str, and 'n' is int; rows may be written to documents of Text, too",
        ),
        (
            lambda: select(Source.id, Source.items).merge_into(Base),
            r"Text\.items holds set\[int\], and 'items' is list",
        ),
        (lambda: select(Source.id, Source.text.label("more")).merge_into(Base), r"Text\.more holds int, and 'more' is"),
        (lambda: select(Source.id, Source.n.label("unknown")).merge_into(Base), r"Text has no field for 'unknown'"),
        (
            lambda: select(Source.id, named("Text"), Source.n).merge_into(Base, when_matched="keepExisting"),
            r"Text\.n holds str, and 'n' is int",
        ),
        (
            lambda: select(Source.id, named("Full")).merge_into(Base, when_matched="replace"),
            r"no column is Full\.needed, and documents could not be read without it",
        ),
        (
            lambda: select(Source.id, case((Source.n > 1, "Base"), else_="Text").label("_type"), Source.n).merge_into(
                Base, when_matched="replace"
            ),
            r"Text\.n holds str, and 'n' is int",
        ),
        (
            lambda: select(Source.id, named("Gone")).merge_into(Base),
            r"names the class of a document, .*, and is 'Gone'",
        ),
        (lambda: select(Other).merge_into(Base), r"names the class of a document, .*, and is 'Other'"),
    ],
)
async def test_refused_before_anything_is_written(db: AsyncDB, statement: Callable[[], Any], message: str) -> None:
    """What a document of a subclass, as which a row may end, could not be read with."""
    await fill(db)
    before = await stored(db)
    with pytest.raises(StatementError, match=message):
        async with db.session() as session:
            await session.execute(statement())
    assert before == await stored(db)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (lambda: select(Source.id, Source.n.label("free")).merge_into(Base), {"free": [5, 5, 5, 5]}),
        (
            lambda: select(Source.id, Source.n).merge_into(Base, when_matched="keepExisting"),
            {"n": [0, "", 0, 5]},
        ),
        (
            lambda: select(Source.id, Source.n).merge_into(Base, when_matched="replace"),
            {"n": [5, 5, 5, 5], "_type": [None] * 4},
        ),
        (
            lambda: select(Source.id, Source.text.label("n"), named("Text")).merge_into(Base, when_matched="replace"),
            {"n": ["a"] * 4, "_type": ["Text"] * 4},
        ),
        (
            lambda: select(Source.id, Source.n, named(None)).merge_into(Base, when_matched="replace"),
            {"n": [5, 5, 5, 5], "_type": [None] * 4},
        ),
        (lambda: select(Base.id, Base.n).merge_into(Base), {"n": [0, "", 0]}),
        (lambda: select(Base).merge_into(Base), {"_type": [None, "Text", "Full"]}),
        (
            lambda: select(Source.id, Source.n).where(Source.id == 3).merge_into(Full),
            {"n": [0, "", 5], "_type": [None, "Text", "Full"]},
        ),
    ],
)
async def test_rows_that_can_be_read(
    db: AsyncDB, real: bool, statement: Callable[[], Any], expected: dict[str, list[Any]]
) -> None:
    """What all classes of documents that are met can hold is written, and read again."""
    await fill(db)
    async with db.session() as session:
        if not real:
            with pytest.raises(UnsupportedError, match=r"mongomock has no \$merge"):
                await session.execute(statement())
            return
        await session.execute(statement())
    assert expected == {key: [one.get(key) for one in await stored(db)] for key in expected}
    async with db.session() as session:
        for one in (await session.scalars(select(Base))).all():
            assert one.n in (0, 5, "", "a")


@pytest.mark.parametrize("name", ["_type", "kind"])
async def test_a_class_alone_names_nothing_by_its_discriminator(db: AsyncDB, real: bool, name: str) -> None:
    """As long as no class derives from it, that is a key like any other."""
    await fill(db)
    statement = select(Source.id, func.literal("x").label(name)).merge_into(Alone)
    async with db.session() as session:
        if not real:
            with pytest.raises(UnsupportedError, match=r"mongomock has no \$merge"):
                await session.execute(statement)
            return
        await session.execute(statement)
    async with db.session() as session:
        assert {"x"} == {one.kind for one in await session.scalars(select(Alone))}
