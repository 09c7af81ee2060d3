"""Small rewrites of pipelines: each gives the same answer with less work. Pure functions over stages."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any, TypeAlias

from bson import MaxKey, MinKey

from superorm.compile.plan import Aggregate, Find
from superorm.expr.literals import ATOMIC
from superorm.expr.narrow import is_dict, is_list

__all__ = ["as_read", "imply_matches", "merge_matches", "move_matches_up", "move_sorts_up", "optimized", "overlap"]

Stages: TypeAlias = list[dict[str, Any]]


def optimized(stages: Stages, flat: Collection[str] = ()) -> Stages:
    """The stages after all rewrites; the same list where they change nothing.

    `flat` are the paths of lists that hold no lists.
    """
    if len(stages) < 2:
        return stages
    moved = move_matches_up(stages)
    if flat:
        moved = move_matches_up(imply_matches(moved, flat))
    return merge_matches(move_sorts_up(moved))


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
    if all(repr(one[key]) == repr(other[key]) for key in one.keys() & other.keys()):
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


def imply_matches(stages: Stages, flat: Collection[str]) -> Stages:
    """Before each ``$unwind`` what the ``$match`` after it implies for the list: that one of its elements meets it."""
    known = next((n for n, stage in enumerate(stages) if not _CHOOSE & stage.keys() and _makes(stage) is None), None)
    found = list(stages)
    for position in reversed(range(len(stages[:known]) - 1)):
        path = _unwound(found[position])
        if path in flat and "$match" in found[position + 1]:
            implied: dict[str, Any] = {}
            for key, value in _entries(found[position + 1]["$match"]):
                part = _of_an_element(value) if key == path or key.startswith(f"{path}.") else None
                if part is not None:
                    implied = _both(implied, {key: part})
            if implied:
                found.insert(position, {"$match": implied})
    return stages if len(found) == len(stages) else found


_CHOOSE = frozenset({"$match", "$limit", "$skip", "$sample"})
"""The stages that leave documents as they are."""


def _unwound(stage: Mapping[str, Any]) -> str | None:
    body: Any = stage.get("$unwind")
    path: Any = body.get("path") if is_dict(body) else body
    return path[1:] if isinstance(path, str) else None


def _entries(filter: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The conditions by path that all must hold."""
    for key, value in filter.items():
        if key == "$and":
            for inner in value:
                yield from _entries(inner)
        elif not key.startswith("$"):
            yield key, value


def _of_an_element(value: Any) -> Any:
    """Of a condition on an element what a list with that element meets too; None for nothing."""
    if not is_dict(value):
        return value if _is_single(value) else None
    kept = {
        op: given
        for op, given in value.items()
        if op in _OF_ELEMENTS and all(map(_is_single, given if is_list(given) else [given]))
    }
    return kept or None


def _is_single(value: object) -> bool:
    """Whether it is neither a list nor a document, nor stands for a missing value too."""
    return type(value) in _SINGLE


_SINGLE = (ATOMIC | {datetime}) - {type(None), MinKey, MaxKey}
_OF_ELEMENTS = frozenset({"$eq", "$gt", "$gte", "$in", "$lt", "$lte", "$options", "$regex"})


def move_sorts_up(stages: Stages) -> Stages:
    """Each order by stored fields before the joins that keep it: an index can serve it, and a limit ends the joins."""
    moved = list(stages)
    changed = False
    for position, stage in enumerate(stages):
        sort: Any = stage.get("$sort")
        if not is_dict(sort) or not all(isinstance(direction, int) for direction in sort.values()):
            continue
        here = position
        while (before := _before_lookup(moved, here, sort)) is not None:
            here = before
        if here < position:
            moved.insert(here, moved.pop(position))
            changed = True
    return moved if changed else stages


def _before_lookup(stages: Stages, end: int, sort: Mapping[str, Any]) -> int | None:
    """Where the ``$lookup`` begins that ends here, with the ``$set`` and ``$unwind`` of what it makes.

    None where none does, and where the order is by what it makes.
    """
    unwound = _unwound(stages[end - 1]) if end else None
    place = end - 1 if unwound is None else end - 2
    if place < 0 or not stages[place].keys() & {"$lookup", "$graphLookup"}:
        return None
    makes = _makes(stages[place])
    if makes is None or (unwound is not None and unwound not in makes):
        return None
    made = makes | (_makes(stages[end - 1]) or makes)
    if any(overlap(path, one) for path in sort for one in made):
        return None
    return place - 1 if place and "$set" in stages[place - 1] and _makes(stages[place - 1]) == makes else place


def _makes(stage: Mapping[str, Any]) -> frozenset[str] | None:
    """The paths that a stage makes or changes; None where nothing may move before it."""
    ((name, body),) = stage.items()
    if name in ("$lookup", "$graphLookup"):
        made = body.get("as") if is_dict(body) else None
        return frozenset({made}) if isinstance(made, str) else None
    if name == "$unwind":
        path = _unwound(stage)
        index = body.get("includeArrayIndex") if is_dict(body) else None
        return None if path is None else frozenset({path, *([index] if index else [])})
    if name == "$set":
        return frozenset(body) if is_dict(body) else None
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
    if computed or metas or not _is_for_find(found):
        return Aggregate(collection, stages)
    return Find(
        collection,
        found.get("$match", {}),
        projection,
        list(found.get("$sort", {}).items()),
        found.get("$skip", 0),
        found.get("$limit", 0),
    )


def _is_for_find(found: Mapping[str, Any]) -> bool:
    """Whether a find takes the bodies of the stages as a pipeline does: what is no limit to it, the server refuses."""
    limit, skip = found.get("$limit", 1), found.get("$skip", 0)
    full = all(found.get(name) != {} for name in ("$sort", "$project"))
    return full and type(limit) is int and limit > 0 and type(skip) is int and skip >= 0
