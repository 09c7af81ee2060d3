"""Small rewrites of pipelines: each gives the same answer with less work. Pure functions over stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from superorm.compile.plan import Aggregate, Find
from superorm.expr.narrow import is_dict, is_list

__all__ = ["as_read", "merge_matches", "move_matches_up", "optimized", "overlap"]

Stages: TypeAlias = list[dict[str, Any]]


def optimized(stages: Stages) -> Stages:
    """The stages after all rewrites; the same list where they change nothing."""
    if len(stages) < 2:
        return stages
    return merge_matches(move_matches_up(stages))


def merge_matches(stages: Stages) -> Stages:
    """Neighbouring ``$match`` stages as one."""
    merged: Stages = []
    for stage in stages:
        if merged and "$match" in stage and "$match" in merged[-1]:
            merged[-1] = {"$match": _both(merged[-1]["$match"], stage["$match"])}
        else:
            merged.append(stage)
    return stages if len(merged) == len(stages) else merged


def _both(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    if not one.keys() & other.keys():
        return {**one, **other}
    return {"$and": [*_conjuncts(one), *_conjuncts(other)]}


def _conjuncts(filter: dict[str, Any]) -> list[dict[str, Any]]:
    return filter["$and"] if filter.keys() == {"$and"} else [filter]


def move_matches_up(stages: Stages) -> Stages:
    """Each condition before the ``$lookup``, ``$unwind``, ``$set`` or ``$sort`` that it does not depend on."""
    moved = list(stages)
    changed = False
    for position in range(1, len(moved)):
        if "$match" not in moved[position]:
            continue
        conditions = moved[position]["$match"]
        here = position
        while conditions and here > 0 and (makes := _makes(moved[here - 1])) is not None:
            up = {key: value for key, value in conditions.items() if not _depends(key, value, makes)}
            if not up:
                break
            stay = {key: value for key, value in conditions.items() if key not in up}
            moved[here - 1 : here + 1] = [{"$match": up}, moved[here - 1], *([{"$match": stay}] if stay else [])]
            changed = True
            if stay:
                return move_matches_up(moved)
            here -= 1
    return moved if changed else stages


def _makes(stage: Mapping[str, Any]) -> frozenset[str] | None:
    """The paths that a stage makes or changes; None where nothing may move before it."""
    ((name, body),) = stage.items()
    if name == "$lookup":
        return frozenset({body["as"]})
    if name == "$graphLookup":
        return frozenset({body["as"]})
    if name == "$unwind":
        path = body if isinstance(body, str) else body["path"]
        index = None if isinstance(body, str) else body.get("includeArrayIndex")
        return frozenset({path[1:], *([index] if index else [])})
    if name == "$set":
        return frozenset(body)
    if name == "$sort":
        return frozenset()
    return None


def _depends(key: str, value: Any, makes: frozenset[str]) -> bool:
    return any(path == "$$ROOT" or overlap(path, made) for path in _paths(key, value) for made in makes)


def overlap(path: str, other: str) -> bool:
    """Whether one of two paths is the other, or below it."""
    return path == other or path.startswith(f"{other}.") or other.startswith(f"{path}.")


def _paths(key: str, value: Any) -> Iterator[str]:
    """The paths that an entry of a filter reads."""
    if key in ("$and", "$or", "$nor"):
        for condition in value:
            for inner_key, inner in condition.items():
                yield from _paths(inner_key, inner)
    elif key == "$expr":
        yield from _expression_paths(value)
    elif key.startswith("$"):
        yield "$$ROOT"  # $text and its like: nothing is known
    else:
        yield key


def _expression_paths(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if value.startswith("$$"):
            if value.startswith(("$$ROOT", "$$CURRENT")):
                yield "$$ROOT"
        elif value.startswith("$"):
            yield value[1:]
    elif is_dict(value):
        for key, inner in value.items():
            if key in _UNKNOWN:
                yield "$$ROOT"
            if key != "$literal":
                yield from _expression_paths(inner)
    elif is_list(value):
        for inner in value:
            yield from _expression_paths(inner)


_UNKNOWN = frozenset({"$function", "$getField", "$rand"})
"""What reads anything, or gives another value each time."""
_SLOTS = ("$match", "$sort", "$skip", "$limit", "$project")


def as_read(collection: str, stages: Stages) -> Find | Aggregate:
    """A plain find where it does the job, which is faster."""
    found: dict[str, Any] = {}
    place = 0
    for stage in stages:
        ((name, body),) = stage.items()
        if name not in _SLOTS[place:]:
            return Aggregate(collection, stages)
        place = _SLOTS.index(name) + 1
        found[name] = body
    projection: dict[str, Any] | None = found.get("$project")
    computed = projection is not None and not all(value in (0, 1) for value in projection.values())
    metas = any(not isinstance(direction, int) for direction in found.get("$sort", {}).values())
    if computed or metas:
        return Aggregate(collection, stages)
    return Find(
        collection,
        found.get("$match", {}),
        projection,
        list(found.get("$sort", {}).items()),
        found.get("$skip", 0),
        found.get("$limit", 0),
    )
