"""Aggregates that read documents, and the state and the records of an index with them. Nothing here does I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import field, frozen

from superorm.vectors.records import COLLECTION, Look, look_filter

__all__ = ["SMALL", "Together", "whole_if_small", "with_look"]

SMALL = 16 << 10
"""Documents of so many bytes are read whole where they may be hits, which saves another round trip."""
_RECORD = "_superorm_record"
_LARGE = "_superorm_large"
"""Under these names records and states, and parts of large documents, come among the documents.

Those have an ``_id``, and these have none.
"""


def with_look(index: str, engine: str, since: int | None) -> dict[str, Any]:
    """The stage that adds the state and the records to the documents."""
    wrapped = [{"$match": look_filter(index, engine, since)}, {"$replaceRoot": {"newRoot": {_RECORD: "$$ROOT"}}}]
    return {"$unionWith": {"coll": COLLECTION, "pipeline": wrapped}}


def whole_if_small(path: str) -> dict[str, Any]:
    """The stage that leaves of large documents only ``_id`` and the vector at the path."""
    kept: Any = f"${path}"
    for name in reversed(path.split(".")):
        kept = {name: kept}
    small = {"$lte": [{"$bsonSize": "$$ROOT"}, SMALL]}
    return {"$replaceRoot": {"newRoot": {"$cond": [small, "$$ROOT", {_LARGE: {"_id": "$_id", **kept}}]}}}


@frozen
class Together:
    """What such an aggregate gave."""

    documents: list[dict[str, Any]] = field(factory=list[dict[str, Any]])
    """Those that came whole."""
    large: list[dict[str, Any]] = field(factory=list[dict[str, Any]])
    """Of others ``_id`` and vector."""
    looked: list[Any] = field(factory=list[Any])

    def add(self, found: Iterable[dict[str, Any]]) -> Together:
        """Tell apart what came."""
        for one in found:
            if "_id" in one:
                self.documents.append(one)
            elif _LARGE in one:
                self.large.append(one[_LARGE])
            else:
                self.looked.append(one[_RECORD])
        return self

    def look(self, engine: str, since: int | None) -> Look:
        """The state and the records."""
        return Look.of(self.looked, engine, since)

    def ids(self) -> list[Any]:
        """The ``_id`` of each document."""
        return [one["_id"] for one in (*self.documents, *self.large)]
