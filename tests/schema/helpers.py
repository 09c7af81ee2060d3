"""Documents through real BSON bytes, exact comparison, and a small interpreter of updates."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Any

import bson
import numpy as np
from attrs import frozen
from bson import Int64, ObjectId

from superorm import Document, Mapped, Registry
from superorm.codec.documents import changes_of, dump, load
from superorm.schema.mapping import ClassMap, class_map
from superorm.unitofwork.encode import CODEC_OPTIONS
from superorm.unitofwork.update_ops import UpdateOps

__all__ = ["Change", "apply", "change_of", "document_class", "exact", "load_one", "store", "through_bson"]


@frozen
class Change:
    """What a flush has to do for one object."""

    update: Any
    """As it is sent."""
    snapshot: dict[str, Any]

    @property
    def fields(self) -> set[str]:
        """The top-level keys that change."""
        stages: list[dict[str, Any]] = self.update if isinstance(self.update, list) else [self.update]
        return {path.partition(".")[0] for stage in stages for paths in stage.values() for path in paths}


def change_of(mapping: ClassMap, instance: object) -> Change | None:
    """What has changed since the snapshot; None where nothing has."""
    found = changes_of(mapping, (instance,))
    return Change(UpdateOps.of(mapping, found)[0]["u"], found.snapshots[0]) if found.objects else None


def through_bson(document: dict[str, Any]) -> dict[str, Any]:
    """The document as it comes back from the server."""
    return bson.decode(bson.encode(document, codec_options=CODEC_OPTIONS), codec_options=CODEC_OPTIONS)


def store(instance: Any) -> dict[str, Any]:
    """The stored document of a new object."""
    return through_bson(dump(class_map(type(instance)), instance))


def load_one(cls: Any, document: dict[str, Any]) -> Any:
    """The object of a stored document, which may lack a key."""
    (instance,) = load(class_map(cls), [through_bson({"_id": ObjectId(), **document})])
    return instance


def document_class(name: str = "Holder", **annotations: Any) -> Any:
    """A document class with a registry of its own, of fields without further settings."""
    namespace = {
        "__module__": __name__,
        "__qualname__": name,
        "__annotations__": {attribute: Mapped[annotation] for attribute, annotation in annotations.items()},
    }
    return type(Document)(name, (Document,), namespace, registry=Registry())


def exact(one: Any, other: Any) -> bool:
    """Whether two values are of one type and equal; NaN equals itself, and -0.0 is not 0.0."""
    if isinstance(one, Int64) or isinstance(other, Int64):  # how PyMongo reads ints of more than 32 bits
        return type(other) in (int, Int64) and type(one) in (int, Int64) and one == other
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return (one == other and math.copysign(1, one) == math.copysign(1, other)) or (one != one and other != other)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(exact(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(exact, one, other))
    if hasattr(one, "__superorm__"):
        names = class_map(type(one)).by_attribute
        return all(exact(getattr(one, name), getattr(other, name)) for name in names)
    return str(one) == str(other) if one != one or type(one).__name__ == "Decimal" else bool(one == other)


def apply(document: dict[str, Any], update: Any) -> dict[str, Any]:
    """What the server makes of a document under ``$set`` and ``$unset``; paths lead through documents only."""
    result = deepcopy(document)
    if isinstance(update, list):
        *gone, sets = update
        if gone:
            result = apply(result, {"$unset": gone[0]["$project"]})
        return apply(result, {"$set": {path: one["$literal"] for path, one in sets["$set"].items()}})
    assert update.keys() <= {"$set", "$unset"}
    paths = [*update.get("$set", {}), *update.get("$unset", {})]
    for path in paths:
        assert not any(other.startswith(f"{path}.") for other in paths), "conflicting paths"
        *parents, last = path.split(".")
        place = result
        for key in parents:
            assert type(place[key]) is dict, "a path through something else than a document"
            place = place[key]
        if path in update.get("$set", {}):
            place[last] = update["$set"][path]
        else:
            del place[last]
    return through_bson(result)
