"""What tests do with whole databases."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from pymongo import MongoClient

import superorm
from superorm import DB

__all__ = ["drop_database", "drop_free", "end_transactions", "give_back", "new_db", "take"]

KEPT = {
    "_superorm_artifacts": {"_id_"},
    "_superorm_blobs": {"_id_"},
    "_superorm_components": {"_id_", "artifact.sha256_1", "kind_1_name_1_version_1"},
    "_superorm_indexes": {"_id_"},
    "_superorm_records": {"_id_"},
}
"""The collections that superorm makes in each database, with their indexes."""
_free: dict[str, list[str]] = {}
"""The databases by their server's URI, that hold nothing but these, empty ones."""


def take(uri: str) -> str:
    """The name of a database that nobody uses, and in which no user has a collection.

    To make superorm's own collections anew for each test costs the server more than most tests do.
    """
    free = _free.setdefault(uri, [])
    return free.pop() if free else f"test_{uuid4().hex[:12]}"


def give_back(uri: str, name: str) -> None:
    """Empty a database that was taken, for the next test: what is not as superorm makes it is dropped."""
    with MongoClient[dict[str, Any]](uri) as client:
        database = client[name]
        for found in list(database.list_collections()):
            collection = database[found["name"]]
            if not found["options"] and KEPT.get(collection.name) == set(collection.index_information()):
                collection.delete_many({})
            elif not collection.name.startswith("system."):
                collection.drop()
        drop_database(client, f"_filesystem:{name}")
    _free[uri].append(name)


def drop_free(uri: str) -> None:
    """Drop the databases that were given back."""
    with MongoClient[dict[str, Any]](uri) as client:
        for name in _free.pop(uri, []):
            drop_database(client, name)


def end_transactions(client: MongoClient[dict[str, Any]], name: str) -> None:
    """End the transactions that the dead application with this name left open."""
    every = [{"$currentOp": {"allUsers": True, "idleSessions": True}}, {"$match": {"appName": name}}]
    deadline = time.monotonic() + 20
    while found := [one for one in client.admin.aggregate(every) if "lsid" in one]:
        assert time.monotonic() < deadline
        client.admin.command("killAllSessionsByPattern", [{"lsid": one["lsid"]} for one in found])
        time.sleep(0.02)


@contextmanager
def new_db(where: str, objects: Iterable[Any] = ()) -> Generator[DB]:
    """A DB with these objects, on the server of a URL, or in memory for ``"mongomock"``; emptied at the end."""
    name = f"test_{uuid4().hex[:12]}" if where == "mongomock" else take(where)
    url = f"mongomock://{name}" if where == "mongomock" else where
    with superorm.connect(url, database=name, vector_database="memory://", artifact_store="memory://") as db:
        with db.begin() as session:
            session.add_all(objects)
        yield db
    if where != "mongomock":
        give_back(where, name)


def drop_database(client: Any, name: str) -> None:
    """Drop a database of a PyMongo client, one collection after the other.

    ``dropDatabase`` waits a tenth of a second for the journal if there is a collection, the collections' drops do not.
    """
    database = client[name]
    for collection in database.list_collection_names():
        if not collection.startswith("system."):
            database.drop_collection(collection)
    client.drop_database(name)
