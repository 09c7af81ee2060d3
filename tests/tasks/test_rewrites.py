"""Statements whose pipelines are rewritten, on a real server: the answers of plain Python, by way of indexes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pymongo.database import Database
from pymongo.errors import OperationFailure

from superorm import Document, Embedded, Mapped, Registry, Select, field, func, select
from tests.tasks.conftest import Shop
from tests.tasks.test_plans import stages

registry = Registry()


class Page(Embedded):
    n: Mapped[int]
    by: Mapped[int | None] = field(default=None)


class Novel(Document, registry=registry):
    __collection__ = "task_novels"
    id: Mapped[int] = field(primary_key=True)
    year: Mapped[int] = field(index=True)
    genres: Mapped[list[str] | None] = field(default=None, index=True)
    authors: Mapped[list[int | None] | None] = field(default=None)
    shelves: Mapped[list[list[int]] | None] = field(default=None)
    pages: Mapped[list[Page]] = field(factory=list)


class Author(Document, registry=registry):
    __collection__ = "task_authors"
    id: Mapped[int] = field(primary_key=True)
    number: Mapped[int | None] = field(default=None, index=True)
    numbers: Mapped[list[int] | None] = field(default=None)


Documents = list[dict[str, Any]]


@pytest.fixture(scope="module")
def database(shop: Shop) -> Iterator[Database[dict[str, Any]]]:
    """Novels and authors, written by plain PyMongo: with lists, without, with null."""
    rng = random.Random(3)
    backend: Any = shop.db.parts.data_backend
    database = backend.client[backend.name]
    shop.db.create_all(Novel, Author)
    choices: dict[str, list[Any]] = {
        "genres": [[], ["a"], ["b", "a"], ["c", "a1", "b"], ["a1", "a1"], None],
        "authors": [[], [1], [2, 3], [11, 1], [None, 4], [5, 5], None],
        "shelves": [[], [[1, 2], [3]], [[]], [[7, 7], [20]], None],
        "pages": [[], [{"n": 1, "by": 1}, {"n": 2, "by": None}], [{"n": 3}], [{"n": 2, "by": 3}]],
    }
    for n in range(80):
        novel = {"_id": n, "year": 1900 + (n * 37) % 80}
        for key, values in choices.items():
            if rng.random() < 0.9:
                novel[key] = rng.choice(values)
        database["task_novels"].insert_one(novel)
    for n in range(12):
        author: dict[str, Any] = {"_id": n, "number": n % 5, "numbers": rng.sample(range(6), n % 3)}
        database["task_authors"].insert_one(author)
    database["task_authors"].insert_many([{"_id": 20, "number": None, "numbers": None}, {"_id": 21}])
    yield database
    database["task_novels"].drop()
    database["task_authors"].drop()


def unwound(novels: Documents, name: str) -> Documents:
    """A row for each element."""
    return [{**one, name: item} for one in novels for item in one.get(name) or []]


def element(values: Any, position: int) -> Any:
    return values[position] if values and position < len(values) else None


def first_by(novel: dict[str, Any]) -> Any:
    page = element(novel.get("pages"), 0)
    return page and page.get("by")


def size(value: Any) -> int | None:
    return len(value) if isinstance(value, list) else None


def meets(value: Any, other: Any) -> bool:
    """Whether a value equals one of a path: as it is, or one of its elements; null is missing."""
    return value == other or (isinstance(other, list) and value in other)


JOINS: dict[str, tuple[Select[Any, Any], str, Callable[[dict[str, Any], dict[str, Any]], bool]]] = {
    "item by key": (
        select(Novel.id, Author.id).unwind(Novel.authors).join(Author, Novel.authors.item() == Author.id),
        "authors",
        lambda novel, author: novel["authors"] == author["_id"],
    ),
    "item by number": (
        select(Novel.id, Author.id).unwind(Novel.authors).join(Author, Novel.authors.item() == Author.number),
        "authors",
        lambda novel, author: novel["authors"] == author.get("number"),
    ),
    "item by numbers": (
        select(Novel.id, Author.id).unwind(Novel.authors).join(Author, Author.numbers == Novel.authors.item()),  # type: ignore[operator]
        "authors",
        lambda novel, author: meets(novel["authors"], author.get("numbers")),
    ),
    "list that is an item by key": (
        select(Novel.id, Author.id).unwind(Novel.shelves).join(Author, Novel.shelves.item() == Author.id),  # type: ignore[operator]
        "shelves",
        lambda novel, author: author["_id"] in novel["shelves"],
    ),
    "field of an item by number": (
        select(Novel.id, Author.id).unwind(Novel.pages).join(Author, Novel.pages.item().by == Author.number),
        "pages",
        lambda novel, author: novel["pages"].get("by") == author.get("number"),
    ),
    "position by key": (
        select(Novel.id, Author.id).join(Author, Novel.authors[1] == Author.id),
        "",
        lambda novel, author: element(novel.get("authors"), 1) == author["_id"],
    ),
    "position by number": (
        select(Novel.id, Author.id).join(Author, Author.number == Novel.pages[0].by),
        "",
        lambda novel, author: first_by(novel) == author.get("number"),
    ),
    "expression by numbers": (
        select(Novel.id, Author.id).join(Author, func.size(Novel.genres) == Author.numbers),
        "",
        lambda novel, author: meets(size(novel.get("genres")), author.get("numbers")),
    ),
}


@pytest.mark.parametrize("name", JOINS)
def test_joins(shop: Shop, database: Database[dict[str, Any]], name: str) -> None:
    """By items, positions and values: null is missing, and equals null, where both may be."""
    statement, path, condition = JOINS[name]
    novels, authors = list(database["task_novels"].find()), list(database["task_authors"].find())
    rows = unwound(novels, path) if path else novels
    expected = [(one["_id"], author["_id"]) for one in rows for author in authors if condition(one, author)]
    assert len(expected) > 5
    assert sorted(expected) == sorted(shop.rows(statement))
    assert "localField" in str(statement.pipeline())


def test_lists(shop: Shop, database: Database[dict[str, Any]]) -> None:
    """A list of those whose number is that of an element by its position."""
    found = select(Author.id).where(Author.number == Novel.authors[0]).order_by(Author.id).as_list().label("found")
    authors = list(database["task_authors"].find().sort("_id"))
    expected = [
        (one["_id"], [author["_id"] for author in authors if author.get("number") == element(one.get("authors"), 0)])
        for one in database["task_novels"].find().sort("_id")
    ]
    assert expected == shop.rows(select(Novel.id, found).order_by(Novel.id))


@pytest.mark.parametrize("keep", [False, True])
def test_conditions_on_items(shop: Shop, database: Database[dict[str, Any]], keep: bool) -> None:
    """The condition on the list before the unwind leaves out no row, and takes the index."""
    item = Novel.genres.item()
    conditions: list[tuple[Any, Callable[[Any], bool]]] = [
        (item == "a1", lambda value: value == "a1"),
        (item.in_(["a", "c"]), lambda value: value in ("a", "c")),
        ((item > "a") & (item < "b"), lambda value: value is not None and "a" < value < "b"),
        ((item >= "a1") & (item != "b"), lambda value: value is not None and value >= "a1" and value != "b"),
        (item.startswith("a"), lambda value: value is not None and value.startswith("a")),
        (item.is_(None), lambda value: value is None),
        (item != "a", lambda value: value != "a"),
    ]
    novels = list(database["task_novels"].find())
    rows = [(one["_id"], value) for one in novels for value in one.get("genres") or ([None] if keep else [])]
    for condition, holds in conditions:
        statement = select(Novel.id, item).unwind(Novel.genres, keep_empty=keep).where(condition)
        expected = sorted((row for row in rows if holds(row[1])), key=repr)
        assert expected == sorted(((row[0], row[1]) for row in shop.rows(statement)), key=repr)
    statement = select(Novel.id).unwind(Novel.genres, keep_empty=keep).where(item == "a1")
    assert "IXSCAN" in stages(dict(shop.db.explain(statement).details))


def test_conditions_on_fields_of_items(shop: Shop, database: Database[dict[str, Any]]) -> None:
    """Each element is asked alone, and those of lists in lists as they are."""
    page = Novel.pages.item()
    statement = select(Novel.id, page.n).unwind(Novel.pages).where(page.n > 1, page.by == 3)
    rows = unwound(list(database["task_novels"].find()), "pages")
    expected = [
        (one["_id"], one["pages"]["n"]) for one in rows if one["pages"]["n"] > 1 and one["pages"].get("by") == 3
    ]
    assert expected == sorted(shop.rows(statement))
    statement = select(Novel.id).unwind(Novel.shelves).where(Novel.shelves.item().contains(7))
    shelves = unwound(list(database["task_novels"].find()), "shelves")
    assert [(one["_id"],) for one in shelves if 7 in one["shelves"]] == sorted(shop.rows(statement))


@pytest.mark.parametrize("outer", [False, True])
def test_orders_and_joins(shop: Shop, database: Database[dict[str, Any]], outer: bool) -> None:
    """The order of the join's rows is the index's, and the limit is of them."""
    statement = (
        select(Novel.id, Author.id)
        .join(Author, Novel.authors[0] == Author.id, outer=outer)
        .order_by(Novel.year.desc())
        .limit(20)
    )
    known = {one["_id"] for one in database["task_authors"].find()}
    rows = sorted(database["task_novels"].find(), key=lambda one: -one["year"])
    firsts = [(one["_id"], element(one.get("authors"), 0)) for one in rows]
    pairs = [(key, first if first in known else None) for key, first in firsts]
    assert [pair for pair in pairs if outer or pair[1] is not None][:20] == shop.rows(statement)
    plan = stages(dict(shop.db.explain(statement).details))
    assert "IXSCAN" in plan
    assert "SORT" not in plan


def test_a_raw_limit_of_nothing(shop: Shop, database: Database[dict[str, Any]]) -> None:
    """The server refuses it, and nothing reads everything instead."""
    with pytest.raises(OperationFailure, match="limit must be positive"):
        list(database["task_novels"].aggregate([{"$limit": 0}]))
    with pytest.raises(Exception, match="limit must be positive"):
        shop.rows(select(Novel).stage({"$limit": 0}))
