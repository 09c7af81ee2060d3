"""The outputs of listeners beside the rows: one ``$lookup`` each, by their key.

Which version of a listener is meant is known only when a statement runs: until then its place is taken by a document
``{"$outputs": name}``, which no server understands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from attrs import evolve

from superorm.compile.plan import Aggregate, Read
from superorm.expr.narrow import is_dict, is_list

__all__ = ["OUTPUTS", "listened", "output_stages", "with_versions"]

OUTPUTS = "_superorm_outputs"
"""The collection of outputs."""

_VERSION = "$outputs"
_WITH_STAGES = frozenset({"$facet", "$lookup", "$unionWith"})


def output_stages(name: str, key: str, document: str) -> list[dict[str, Any]]:
    """What puts the stored output of a listener under `key`; `document` is the path of the document's own key."""
    id = {"listener": {"$literal": name}, "version": {_VERSION: name}, "key": f"${document}"}
    return [
        {"$set": {key: id}},
        {"$lookup": {"from": OUTPUTS, "localField": key, "foreignField": "_id", "as": key}},
        {"$unwind": {"path": f"${key}", "preserveNullAndEmptyArrays": True}},
    ]


def listened(read: Read) -> list[str]:
    """The listeners whose versions a read needs."""
    if not isinstance(read, Aggregate):
        return []
    return list(dict.fromkeys(id["version"][_VERSION] for id in _ids(list(read.pipeline))))


def with_versions(read: Read, versions: Mapping[str, int]) -> Read:
    """The same with the versions of the listeners."""
    assert isinstance(read, Aggregate)
    return evolve(read, pipeline=_filled(read.pipeline, versions))


def _ids(stages: Any) -> Iterator[Mapping[str, Any]]:
    for name, body in _parts(stages):
        if name == "$set":
            yield from (id for value in body.values() if (id := _id(value)) is not None)
        for inner in _inner(name, body).values():
            yield from _ids(inner)


def _parts(stages: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The stages by name; without what is none, in raw stages, which is left to the server."""
    for stage in stages if is_list(stages) else ():
        if is_dict(stage) and len(stage) == 1:
            yield from ((name, body) for name, body in stage.items() if is_dict(body))


def _filled(stages: Any, versions: Mapping[str, int]) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for stage in stages:
        changed = stage
        for name, body in _parts([stage]):
            if name == "$set":
                changed = {name: {key: _with_version(value, versions) for key, value in body.items()}}
            elif inner := _inner(name, body):
                changed = {name: {**body, **{key: _filled(part, versions) for key, part in inner.items()}}}
        found.append(changed)
    return found


def _inner(name: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The pipelines within a stage."""
    found = body if name == "$facet" else {"pipeline": body.get("pipeline")}
    return {key: part for key, part in found.items() if is_list(part)} if name in _WITH_STAGES else {}


def _id(value: Any) -> Mapping[str, Any] | None:
    """The key of an output, where that is what is set."""
    is_id = is_dict(value) and is_dict(value.get("version")) and _VERSION in value["version"]
    return value if is_id else None


def _with_version(value: Any, versions: Mapping[str, int]) -> Any:
    id = _id(value)
    if id is None:
        return value
    return {**id, "version": {"$literal": versions[id["version"][_VERSION]]}}
