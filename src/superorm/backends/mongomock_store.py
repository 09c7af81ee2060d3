"""mongomock's collections, taught what a server takes for one ``_id``, and to find documents by it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import bson

from superorm.backends.mongomock_match import matcher
from superorm.backends.mongomock_unique import check_unique
from superorm.codec.keys import encode_key

__all__ = ["ByKey", "seeking"]


class ByKey(dict[Any, Any]):
    """mongomock's documents by what the server takes for one ``_id``: 1 and 1.0, but not 1 and True."""

    def __contains__(self, key: object) -> bool:
        return super().__contains__(encode_key(key))

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(encode_key(key))

    def __setitem__(self, key: Any, document: Any) -> None:
        super().__setitem__(encode_key(key), document)

    def __delitem__(self, key: Any) -> None:
        super().__delitem__(encode_key(key))


def seeking(collection: Any) -> Any:
    """The collection, taught to find documents by ``_id`` without looking at all, and the rules of unique indexes."""
    if "_iter_documents" in vars(collection):  # by another engine over the same client
        return collection

    def iter_documents(conditions: Mapping[str, Any]) -> Iterator[Any]:
        key: Any = conditions.get("_id")
        keys: list[Any] = key["$in"] if key.__class__ is dict and set(key) == {"$in"} else [key]
        store = collection._store
        if not all(isinstance(key, str | int | bytes | bson.ObjectId) for key in keys):
            matches = matcher(conditions)
            documents = list(store.documents)  # which keep a lock until they have ended, should `matches` raise
            return iter([document for document in documents if matches(document)])
        found = [store[key] for key in {encode_key(key): key for key in keys}.values() if key in store]
        others = {path: condition for path, condition in conditions.items() if path != "_id"}
        return filter(matcher(others), found)

    collection._iter_documents = iter_documents
    collection._ensure_uniques = partial(check_unique, collection)
    return collection
