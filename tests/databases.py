"""What tests do with whole databases."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import superorm
from superorm import DB

__all__ = ["drop_database", "new_db"]


@contextmanager
def new_db(where: str, objects: Iterable[Any] = ()) -> Generator[DB]:
    """A DB with these objects, on the server of a URL, or in memory for ``"mongomock"``; dropped at the end."""
    name = f"test_{uuid4().hex[:12]}"
    url = f"mongomock://{name}" if where == "mongomock" else where
    with superorm.connect(url, database=name, vector_database="memory://", artifact_store="memory://") as db:
        try:
            with db.begin() as session:
                session.add_all(objects)
            yield db
        finally:
            backend: Any = db.parts.data_backend
            drop_database(backend.client, name)


def drop_database(client: Any, name: str) -> None:
    """Drop a database of a PyMongo client, one collection after the other.

    ``dropDatabase`` waits a tenth of a second for the journal if there is a collection, the collections' drops do not.
    """
    database = client[name]
    for collection in database.list_collection_names():
        if not collection.startswith("system."):
            database.drop_collection(collection)
    client.drop_database(name)
