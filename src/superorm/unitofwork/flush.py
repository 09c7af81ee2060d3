"""What a flush does, decided before anything is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from attrs import Factory, define, frozen

from superorm.codec.documents import Change
from superorm.exc import ValidationError
from superorm.schema.document import Document
from superorm.schema.mapping import ClassMap
from superorm.schema.state import RAW
from superorm.schema.vector_spec import VectorSpec
from superorm.unitofwork.identity import identity
from superorm.unitofwork.writes import Delete, Insert, Update, UpdateOp, Write

__all__ = ["FlushPlan", "Work", "plan_flush"]


@frozen
class Work:
    """What one class has to write: dumped new objects, changed objects, deleted objects."""

    mapping: ClassMap
    new: Sequence[tuple[Document, dict[str, Any]]] = ()
    changed: Sequence[tuple[Document, Change]] = ()
    deleted: Sequence[Document] = ()


@define
class FlushPlan:
    """The writes in order, the vectors that they touch, the objects' snapshots after them, and the deleted objects."""

    writes: list[Write] = Factory(list[Write])
    touched: dict[VectorSpec, list[Any]] = Factory(dict[VectorSpec, list[Any]])
    snapshots: list[tuple[Document, dict[str, Any]]] = Factory(list[tuple[Document, dict[str, Any]]])
    deleted: list[Document] = Factory(list[Document])

    def __bool__(self) -> bool:
        return bool(self.writes)


def plan_flush(works: Iterable[Work]) -> FlushPlan:
    """Inserts, then updates, then deletes; a delete whose key is inserted again goes before the inserts.

    Raises `ValidationError` where two new objects have one key.
    """
    works = list(works)
    new_keys = _new_keys(works)
    plan = FlushPlan()
    early: list[Write] = []
    inserts: list[Write] = []
    updates: list[Write] = []
    deletes: list[Write] = []
    for work in works:
        collection = _collection(work)
        if work.new:
            inserts.append(Insert(collection, [document for _, document in work.new]))
        if work.changed:
            ops = [UpdateOp({"_id": change.snapshot["_id"]}, change.update) for _, change in work.changed]
            updates.append(Update(collection, ops))
        gone: list[Any] = [vars(instance)[RAW]["_id"] for instance in work.deleted]
        again = [key for key in gone if (collection, identity(key)) in new_keys]
        rest = [key for key in gone if (collection, identity(key)) not in new_keys]
        for keys, deletions in (again, early), (rest, deletes):
            if keys:
                deletions.append(Delete(collection, [{"_id": key} for key in keys]))
        plan.deleted += work.deleted
        plan.snapshots += work.new
        plan.snapshots += [(instance, change.snapshot) for instance, change in work.changed]
        _touch(plan.touched, work, gone)
    plan.writes = early + inserts + updates + deletes
    return plan


def _collection(work: Work) -> str:
    assert work.mapping.collection is not None
    return work.mapping.collection


def _new_keys(works: Iterable[Work]) -> set[tuple[str, Any]]:
    """The keys of new objects, each with its collection."""
    keys: set[tuple[str, Any]] = set()
    for work in works:
        for _, document in work.new:
            key = document.get("_id")
            place = _collection(work), identity(key)
            problem = None
            if key is None:
                problem = f"a document needs a key; its {work.mapping.key.attribute} is None"
            elif place in keys:
                problem = "two new objects have this key; keep one of them"
            if problem is not None:
                raise ValidationError(
                    f"{work.mapping.name} {key!r}: {problem}",
                    document_class=work.mapping.cls,
                    key=key,
                    field=work.mapping.key.attribute,
                )
            keys.add(place)
    return keys


def _touch(touched: dict[VectorSpec, list[Any]], work: Work, gone: Sequence[Any]) -> None:
    """The keys whose vectors may differ afterwards."""
    for part, _, spec in work.mapping.vectors:
        keys = {identity(key): key for key in gone if key is not None}
        for _, document in work.new:
            if document.get(part.stored) is not None:
                keys[identity(document["_id"])] = document["_id"]
        for _, change in work.changed:
            if part.stored in change.fields:
                key = change.snapshot["_id"]
                keys[identity(key)] = key
        if keys:
            touched.setdefault(spec, []).extend(keys.values())
