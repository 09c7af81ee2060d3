"""The shop on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest
from attrs import frozen

from superorm import DB, Document, Session
from tests.databases import new_db
from tests.tasks.shop import data


@frozen
class Shop:
    """The database, and what is in it as plain objects."""

    db: DB
    all: dict[type[Document], list[Any]]

    def rows(self, statement: Any) -> list[Any]:
        """The rows of a statement, as tuples."""
        with Session(self.db) as session:
            return [tuple(row) for row in session.execute(statement)]


@pytest.fixture(scope="session")
def shop(mongodb_uri: str) -> Iterator[Shop]:
    """The shop, filled once; its tests do not change it, but for documents of their own."""
    with new_db(mongodb_uri, chain.from_iterable(data().values())) as db:
        yield Shop(db, data())
