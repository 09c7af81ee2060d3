"""What tests do with whole databases."""

from __future__ import annotations

from typing import Any

__all__ = ["drop_database"]


def drop_database(client: Any, name: str) -> None:
    """Drop a database of a PyMongo client, one collection after the other.

    ``dropDatabase`` waits a tenth of a second for the journal if there is a collection, the collections' drops do not.
    """
    database = client[name]
    for collection in database.list_collection_names():
        if not collection.startswith("system."):
            database.drop_collection(collection)
    client.drop_database(name)
