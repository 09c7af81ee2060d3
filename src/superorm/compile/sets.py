"""Lists as the server stores those of sets: each value once, in the order of sets."""

from __future__ import annotations

from typing import Any

from superorm.compile.constants import bound
from superorm.schema.types.base import BsonType
from superorm.schema.types.containers import ListType, UnionType

__all__ = ["as_set", "is_set", "with_values"]


def is_set(kind: BsonType | None) -> bool:
    """Whether values of the type are stored in the order of sets."""
    members = kind.members if isinstance(kind, UnionType) else (kind,)
    return any(isinstance(one, ListType) and one.is_set for one in members)


def as_set(expression: Any) -> Any:
    """A list as a set; what is no list stays as it is."""
    empty: list[Any] = []
    return bound(expression, "v", lambda v: {"$cond": [{"$isArray": v}, with_values(empty, v, in_order=True), v]})


def with_values(base: Any, values: Any, *, in_order: bool) -> Any:
    """A list with those of the values that it does not hold: each `in_order` of what is there, else at the end."""
    added: list[Any] = ["$$value", ["$$this"]]
    if in_order:
        less, greater = (
            {"$filter": {"input": "$$value", "as": "e", "cond": {op: ["$$e", "$$this"]}}} for op in ("$lt", "$gt")
        )
        added = [less, ["$$this"], greater]
    add = {"$cond": [{"$in": ["$$this", "$$value"]}, "$$value", {"$concatArrays": added}]}
    return {"$reduce": {"input": values, "initialValue": base, "in": add}}
