"""What mongomock finds in lists, and what it cannot add: as a server does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

import superorm
from superorm import DB, Document, Embedded, Mapped, Session, StatementError, WriteError, field, func, select, update


class Part(Embedded):
    size: Mapped[int]


class Whole(Document):
    __collection__ = "mock_wholes"
    id: Mapped[int] = field(primary_key=True)
    parts: Mapped[list[Part]] = field(factory=list)
    n: Mapped[int] = field(default=0)


SIZES = [[1, 9], [4], [], [2, 3], [9, 4]]


@pytest.fixture
def db() -> Iterator[DB]:
    """A mongomock database with lists of embedded documents."""
    with superorm.connect(
        f"mongomock://lists_{uuid4().hex[:8]}", vector_database="memory://", artifact_store="memory://"
    ) as db:
        with db.begin() as session:
            session.add_all([Whole(id=n, parts=[Part(size=size) for size in sizes]) for n, sizes in enumerate(SIZES)])
        yield db


def ids(db: DB, condition: Any) -> list[int]:
    with Session(db) as session:
        return list(session.scalars(select(Whole.id).where(condition).order_by(Whole.id)).all())


def test_two_bounds_are_two_conditions(db: DB) -> None:
    """One element may meet the one and another the other."""
    between = [n for n, sizes in enumerate(SIZES) if any(s >= 3 for s in sizes) and any(s <= 5 for s in sizes)]
    assert between == ids(db, Whole.parts[Part.size].between(3, 5))
    assert [n for n in range(len(SIZES)) if n not in between] == ids(db, ~Whole.parts[Part.size].between(3, 5))
    one = [n for n, sizes in enumerate(SIZES) if any(3 <= s <= 5 for s in sizes)]
    assert one == ids(db, Whole.parts.any_(Part.size.between(3, 5)))


def test_operators_without_arguments(db: DB) -> None:
    """No value is true of none, and all are."""
    assert [] == ids(db, func.or_())
    assert [*range(len(SIZES))] == ids(db, func.and_())


def test_sums_that_are_too_large_are_refused(db: DB) -> None:
    """They are no integers of 64 bits, and the document stays as it is."""
    with db.begin() as session:
        session.execute(update(Whole).where(Whole.id == 1).values(n=2**63 - 1))
    with pytest.raises(WriteError, match="8-byte"), db.begin() as session:
        session.execute(update(Whole).where(Whole.id == 1).set(Whole.n.inc(1)))
    assert [1] == ids(db, Whole.n == 2**63 - 1)


def test_a_read_that_failed_does_not_stand_in_the_way(db: DB) -> None:
    """mongomock's store is locked while it is looked through: not for as long as an error is kept."""
    with pytest.raises(StatementError) as kept:
        ids(db, func.divide(1, Whole.n) > 0)
    with db.begin() as session:
        session.execute(update(Whole).where(Whole.id == 0).set(Whole.n.to(1)))
        session.add(Whole(id=99))
    assert [99] == ids(db, Whole.id > 90)
    assert "$divide" in str(kept.value) or "zero" in str(kept.value)
