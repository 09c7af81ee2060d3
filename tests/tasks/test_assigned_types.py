"""Expressions that become a field's value: those of a type that it never holds are refused, also deep inside."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from superorm import (
    Document,
    Embedded,
    Mapped,
    Registry,
    Session,
    StatementError,
    case,
    field,
    func,
    select,
    update,
)
from tests.databases import new_db

registry = Registry()


class Disc(Embedded):
    radius: Mapped[float] = field(default=1.0)


class Ring(Disc):
    hole: Mapped[float] = field(default=0.5)


class Box(Embedded):
    edge: Mapped[float] = field(default=1.0)


class Board(Document, registry=registry):
    __collection__ = "boards_of_assigned_types"
    id: Mapped[int] = field(primary_key=True)
    mixed: Mapped[list[Disc] | Box | None] = field(default=None)
    any_shape: Mapped[Disc | Box | None] = field(default=None)
    shapes: Mapped[list[Disc | Box]] = field(factory=list)
    disc: Mapped[Disc | None] = field(default=None)
    box: Mapped[Box | None] = field(default=None)
    boxes: Mapped[list[Box]] = field(factory=list)
    ring: Mapped[Ring | None] = field(default=None)
    discs: Mapped[list[Disc]] = field(factory=list)
    rings: Mapped[list[Ring]] = field(factory=list)
    counts: Mapped[list[int]] = field(factory=list)
    shares: Mapped[list[float]] = field(factory=list)
    words: Mapped[list[str]] = field(factory=list)
    by_name: Mapped[dict[str, int]] = field(factory=dict)
    texts: Mapped[dict[str, str]] = field(factory=dict)
    either: Mapped[list[int] | str] = field(default="")
    n: Mapped[int] = field(default=1)
    day: Mapped[date] = field(default=date(2020, 1, 1))
    free: Mapped[Any] = field(default=None)


B: Any = Board
UNNAMED = ", whose documents do not name their class as these have to"


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (
            lambda: B.mixed.to(B.mixed[0]),
            r"Board\.mixed .* Board\.mixed\[0\]: it holds list\[Disc\] \| Box \| None, not Disc$",
        ),
        (lambda: B.mixed.to(B.disc), r"Board\.mixed cannot become Board\.disc"),
        (lambda: B.mixed.to(func.array_elem_at(B.mixed, 0)), r"it holds list\[Disc\] \| Box \| None, not Disc$"),
        (lambda: B.mixed.to(func.if_null(B.disc, Box())), r"it holds list\[Disc\] \| Box \| None, not Disc$"),
        # whichever of the two equal unions typing has seen first
        (
            lambda: B.either.to(B.either[0]),
            r"it holds (list\[int\] \| str|str \| list\[int\]), not int$",
        ),
        (lambda: B.disc.to(B.discs), r"it holds Disc \| None, not list\[Disc\]$"),
        (lambda: B.disc.to(B.shapes[0].edge), r"it holds Disc \| None, not float$"),
        (lambda: B.counts.to(B.words), r"it holds list\[int\], not list\[str\]$"),
        (lambda: B.counts.to(func.concat_arrays(B.counts, B.words)), r"Board\.counts cannot become Board\.words"),
        (lambda: B.words.to(func.map(B.counts, lambda one: one + 1)), r"it holds list\[str\], not list\[int"),
        (lambda: B.by_name.to(B.texts), r"it holds dict\[str, int\], not dict\[str, str\]$"),
        (
            lambda: B.n.to(case((B.n > 1, B.n), else_=B.words[0])),
            r"Board\.n .* Board\.words\[0\]: it holds int, not str$",
        ),
        (lambda: B.n.to(func.if_null(B.texts["a"], B.n)), r"it holds int, not str$"),
        (lambda: B.any_shape.to(B.disc.radius), r"it holds Disc \| Box \| None, not float$"),
        (lambda: B.mixed.to(B.ring), r"not Ring \| None$"),
    ],
)
def test_what_never_fits(made: Callable[[], Any], message: str) -> None:
    """The error says what the field holds, and what it would be."""
    with pytest.raises(StatementError, match=message):
        made()


@pytest.mark.parametrize(
    "made",
    [
        lambda: B.any_shape.to(B.box),
        lambda: B.any_shape.to(B.boxes[0]),
        lambda: B.any_shape.to(func.if_null(B.box, B.any_shape)),
        lambda: B.shapes.to(B.boxes),
        lambda: B.shapes.to(func.concat_arrays(B.shapes, B.boxes)),
        lambda: B.any_shape.to(B.disc),  # one that is no Ring does not
        lambda: B.any_shape.to(B.discs[0]),
        lambda: B.any_shape.to(func.if_null(B.disc, B.any_shape)),
        lambda: B.shapes.to(B.discs),
        lambda: B.ring.to(B.disc),  # would be read as a Ring
        lambda: B.rings.to(B.discs),
    ],
)
def test_documents_that_do_not_name_their_class(made: Callable[[], Any]) -> None:
    """Among others they could not be read again."""
    with pytest.raises(StatementError, match=UNNAMED):
        made()


@pytest.mark.parametrize(
    ("made", "attribute", "expected"),
    [
        (lambda: B.mixed.to(B.discs), "mixed", [Disc(radius=3.0)]),
        (lambda: B.any_shape.to(B.shapes[1]), "any_shape", Box(edge=5.0)),
        (lambda: B.any_shape.to(case((B.n > 9, B.any_shape), else_=Disc())), "any_shape", Disc()),
        (lambda: B.any_shape.to(B.ring), "any_shape", Ring(hole=0.1)),
        (lambda: B.shapes.to(B.rings), "shapes", [Ring(hole=0.2)]),
        (lambda: B.disc.to(B.ring), "disc", Ring(hole=0.1)),
        (lambda: B.discs.to(B.rings), "discs", [Ring(hole=0.2)]),
        (lambda: B.disc.to(B.discs[0]), "disc", Disc(radius=3.0)),
        (lambda: B.disc.to(B.shapes[0]), "disc", Disc(radius=4.0)),
        (lambda: B.shares.to(B.counts), "shares", [1.0, 2.0]),
        (lambda: B.counts.to(func.filter(B.counts, lambda one: one > 1)), "counts", [2]),
        (lambda: B.counts.to(case((B.n > 9, B.counts), else_=[])), "counts", []),
        (lambda: B.free.to(B.words), "free", ["w"]),
        (lambda: B.words.to(B.free), "words", ["f"]),
        (lambda: B.either.to(B.counts), "either", [1, 2]),
        (lambda: B.either.to(B.words[0]), "either", "w"),
    ],
)
def test_what_may_fit(mongodb_uri: str, made: Callable[[], Any], attribute: str, expected: Any) -> None:
    """It is assigned, and read as what it is."""
    lists: dict[str, Any] = {"discs": [Disc(radius=3.0)], "rings": [Ring(hole=0.2)], "counts": [1, 2]}
    shapes = [Disc(radius=4.0), Box(edge=5.0)]
    board = Board(id=1, ring=Ring(hole=0.1), shapes=shapes, words=["w"], free=["f"], **lists)
    with new_db(mongodb_uri, [board]) as db:
        with db.begin() as session:
            session.execute(update(Board).where(Board.id == 1).set(made()))
        with Session(db) as session:
            found = getattr(session.scalars(select(Board)).one(), attribute)
        assert expected == found
        assert type(expected) is type(found)
