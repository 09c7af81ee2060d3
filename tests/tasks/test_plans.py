"""What the real server makes of statements: indexes are used as they would be by hand."""

from __future__ import annotations

from typing import Any

from superorm import Document, Mapped, Registry, Session, field, func, select
from tests.tasks.conftest import Shop


class Book(Document, registry=Registry()):
    __collection__ = "task_books"
    id: Mapped[int] = field(primary_key=True)
    year: Mapped[int] = field(index=True)
    title: Mapped[str] = field(default="")
    author_id: Mapped[int] = field(default=0)
    tags: Mapped[list[str]] = field(factory=list)


class Writer(Document, registry=Registry()):
    __collection__ = "task_writers"
    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str] = field(default="")


def stages(plan: Any) -> list[str]:
    """The names of the stages of the server's plan, from the outside inwards."""
    if isinstance(plan, list):
        return [name for one in plan for name in stages(one)]
    if not isinstance(plan, dict):
        return []
    own = [plan["stage"]] if isinstance(plan.get("stage"), str) else []
    return own + [name for key, value in plan.items() if key != "rejectedPlans" for name in stages(value)]


def explained(shop: Shop, statement: Any) -> list[str]:
    shop.db.create_all(Book, Writer)
    return stages(dict(shop.db.explain(statement).details))


def test_a_covered_query(shop: Shop) -> None:
    """Fields of an index alone are read from it, without the documents."""
    found = explained(shop, select(Book.year).where(Book.year > 1990).order_by(Book.year.desc()).limit(3))
    assert "PROJECTION_COVERED" in found
    assert "FETCH" not in found
    assert "SORT" not in found


def test_a_covered_group(shop: Shop) -> None:
    """So is a group by an indexed field."""
    found = explained(shop, select(Book.year, func.count()).where(Book.year > 1990).group_by(Book.year))
    assert "IXSCAN" in found
    assert "FETCH" not in found


def test_a_condition_after_a_join(shop: Shop) -> None:
    """It goes before the join where it can, and uses the index there."""
    statement = (
        select(Book)
        .join(Writer, Book.author_id == Writer.id)
        .unwind(Book.tags)
        .where(Book.year == 1995, Writer.name == "x")
        .columns(Book.id, Writer.name)
    )
    assert {"$match": {"year": 1995}} == statement.pipeline()[0]
    assert "IXSCAN" in explained(shop, statement)


def test_sort_and_limit_together(shop: Shop) -> None:
    """The server sorts no more than it has to keep."""
    statement = select(Book).order_by(Book.title).limit(2)
    plan = dict(shop.db.explain(statement).details)
    assert "'limitAmount': 2" in str(plan)
    with Session(shop.db) as session:
        assert [] == session.scalars(statement).all()
