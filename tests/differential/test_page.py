"""The page about null, missing and order: what it shows is what a server answers."""

from __future__ import annotations

import doctest
from pathlib import Path
from uuid import uuid4

import pymongo

from superorm import connect
from tests.databases import drop_database

PAGE = Path(__file__).resolve().parents[2] / "docs/concepts/null-and-order.md"


def test_null_and_order(mongodb_uri: str) -> None:
    """Each example of the page gives what stands below it."""
    name = f"test_{uuid4().hex[:12]}"
    page = doctest.DocTestParser().get_doctest(
        PAGE.read_text(encoding="utf-8").replace("```", ""), {"__name__": "page"}, PAGE.name, str(PAGE), 0
    )
    assert len(page.examples) > 20
    problems: list[str] = []
    with pymongo.MongoClient(mongodb_uri) as client:
        with connect(mongodb_uri, database=name, vector_database="memory://") as db, db.session() as session:
            page.globs |= {"session": session, "collection": client[name]["items"]}
            doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(page, out=problems.append)
        drop_database(client, name)
    assert [] == problems
