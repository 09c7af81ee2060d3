"""Vectors of a new version of a model that wait beside the documents, in a collection. Nothing here does I/O.

The collection `STAGE` holds::

    {_id: {i: index, m: model, v: version, k: key}, s: stored path of the source, h: hash of the source,
     c: content of the model, d: [vector]}

`d` is empty for a document that has no place for a vector. Until the version is in use, it may be replaced by one of
another content, which `c` tells apart.
While vectors of the recorded version may be there alone, a document of the collection of records says so::

    {_id: "<i>#moving", kind: "moving", i, model, version}

A vector of that version that waits is the document's as long as the hash is that of its source;
else its own is, as whoever changes the source stores the vector with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import bson
from bson.max_key import MaxKey
from bson.min_key import MinKey

from superorm.codec.vectors import value_at
from superorm.unitofwork.encode import CODEC_OPTIONS
from superorm.unitofwork.writes import UpdateOp
from superorm.vectors.records import Moving

__all__ = [
    "STAGE",
    "mark",
    "marked",
    "marker",
    "source_hash",
    "staged_id",
    "staged_since",
    "staged_until",
    "stands",
    "with_vectors",
]

STAGE = "_superorm_encoded"


def source_hash(document: Mapping[str, Any], path: str) -> bytes:
    """That of the source at a stored path."""
    return hashlib.sha256(bson.encode({"s": value_at(document, path)}, codec_options=CODEC_OPTIONS)).digest()


def staged_id(index: str, moving: Moving, key: Any) -> dict[str, Any]:
    """The ``_id`` of what waits for the document of this key."""
    return {"i": index, "m": moving.model, "v": moving.version, "k": key}


def staged_since(index: str, moving: Moving, after: Mapping[str, Any] | None) -> dict[str, Any]:
    """The filter of what waits of an index, by the order of ``_id``: from the first on, or after an ``_id``."""
    start = {"$gte": staged_id(index, moving, MinKey())} if after is None else {"$gt": after}
    return {"_id": {**start, "$lte": staged_id(index, moving, MaxKey())}}


def staged_until(index: str, moving: Moving) -> dict[str, Any]:
    """The filter of what waits of this version and older ones of its model."""
    first = {"i": index, "m": moving.model, "v": MinKey(), "k": MinKey()}
    return {"_id": {"$gte": first, "$lte": staged_id(index, moving, MaxKey())}}


def stands(staged: Mapping[str, Any], document: Mapping[str, Any]) -> bool:
    """Whether what waits is of the document's source as it is."""
    return bool(staged["h"] == source_hash(document, staged["s"]))


def marker(index: str) -> dict[str, Any]:
    """The filter of the document that says that vectors of the index may wait."""
    return {"_id": f"{index}#moving"}


def mark(index: str, moving: Moving) -> UpdateOp:
    """What writes that document."""
    said = {"kind": "moving", "i": index, "model": moving.model, "version": moving.version}
    return UpdateOp(q=marker(index), u={"$set": said}, upsert=True)


def marked(recorded: Sequence[Mapping[str, Any]]) -> Moving | None:
    """What is moving by what is recorded of an index, in its document of `INDEXES`; None: nothing."""
    return Moving.of(recorded[0]) if recorded and recorded[0].get("moving") else None


def with_vectors(documents: Iterable[Mapping[str, Any]], path: str, vectors: Mapping[int, Any]) -> None:
    """Put vectors into documents that were read, by the documents' positions."""
    *parents, last = path.split(".")
    for position, document in enumerate(documents):
        held: Any = document
        for name in parents:
            held = cast("dict[str, Any]", held).get(name) if isinstance(held, dict) else None
        if position in vectors and isinstance(held, dict):
            held[last] = vectors[position]
