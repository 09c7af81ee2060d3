"""The shop on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from attrs import frozen

import superorm
from superorm import DB, Document, Session
from tests.databases import drop_database
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
    name = f"tasks_{uuid4().hex[:10]}"
    with superorm.connect(mongodb_uri, database=name, vector_database="memory://", artifact_store="memory://") as db:
        objects = data()
        with db.begin() as session:
            for several in objects.values():
                session.add_all(several)
        yield Shop(db, data())
        drop_database(db.parts.data_backend.client, name)
