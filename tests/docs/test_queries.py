"""The pages about queries show what a server answers."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any
from uuid import uuid4

from superorm import connect
from tests.databases import drop_database

HOW_TO = Path(__file__).resolve().parents[2] / "docs/how-to"


def test_pages(mongodb_uri: str) -> None:
    """Each example gives what stands below it; later pages build on the documents of the first."""
    name = f"test_{uuid4().hex[:12]}"
    problems: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    with connect(mongodb_uri, database=name, vector_database="memory://") as db:
        names: dict[str, Any] = {"__name__": "queries", "db": db}
        for page in ("queries.md", "queries-groups.md", "queries-several.md"):
            text = (HOW_TO / page).read_text(encoding="utf-8").replace("```", "")
            test = doctest.DocTestParser().get_doctest(text, names, page, page, 0)
            assert len(test.examples) > 15
            runner.run(test, out=problems.append, clear_globs=False)
            names = test.globs
        names["session"].close()
        drop_database(db.parts.data_backend.client, name)
    assert [] == problems
