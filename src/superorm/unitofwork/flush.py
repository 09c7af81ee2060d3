"""What a flush does, decided before anything is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from attrs import Factory, define, frozen
from bson import Regex

from superorm.codec.documents import Change, guard_of
from superorm.exc import ValidationError
from superorm.schema.depth import is_shallow
from superorm.schema.document import Document
from superorm.schema.mapping import ClassMap, class_map
from superorm.schema.state import RAW
from superorm.schema.vector_spec import VectorSpec
from superorm.unitofwork.identity import are_identities, identity
from superorm.unitofwork.writes import Delete, Insert, Update, UpdateOp, Write

__all__ = ["FlushPlan", "Work", "plan_flush"]


@frozen
class Work:
    """What one class has to write: new objects and their documents, changed objects, deleted objects."""

    mapping: ClassMap
    new: Sequence[Document] = ()
    documents: Sequence[dict[str, Any]] = ()
    changed: Sequence[tuple[Document, Change]] = ()
    deleted: Sequence[Document] = ()


@define
class FlushPlan:
    """The writes in order, the vectors that they touch, and the deleted objects.

    `snapshots` holds classes, each with written objects and what these are stored as.
    """

    writes: list[Write] = Factory(list[Write])
    touched: dict[VectorSpec, list[Any]] = Factory(dict[VectorSpec, list[Any]])
    snapshots: list[tuple[ClassMap, Sequence[Document], Sequence[dict[str, Any]]]] = Factory(
        list[tuple[ClassMap, Sequence[Document], Sequence[dict[str, Any]]]]
    )
    deleted: list[Document] = Factory(list[Document])

    def __bool__(self) -> bool:
        return bool(self.writes)

    def mapping_of(self, collection: str, key: Any) -> ClassMap:
        """The class of the object that is written under a key, for messages; else one of the collection's."""
        found = [(mapping, stored["_id"]) for mapping, _, snapshots in self.snapshots for stored in snapshots]
        found += [(class_map(type(instance)), vars(instance)[RAW]["_id"]) for instance in self.deleted]
        there = [(mapping, stored) for mapping, stored in found if mapping.collection == collection]
        wanted = identity(key)
        return next((mapping for mapping, stored in there if identity(stored) == wanted), there[0][0])


def plan_flush(works: Iterable[Work]) -> FlushPlan:
    """Inserts, then updates, then deletes, each collection's together.

    A delete whose key is inserted again goes before the inserts.
    Raises `ValidationError` where two new objects have one key.
    """
    works = list(works)
    new_keys = _new_keys(works)
    plan = FlushPlan()
    inserts: dict[str, list[Work]] = {}
    updates: dict[str, list[UpdateOp]] = {}
    early: dict[tuple[str, bool], list[dict[str, Any]]] = {}
    late: dict[tuple[str, bool], list[dict[str, Any]]] = {}
    for work in works:
        collection = _collection(work)
        if work.new:
            inserts.setdefault(collection, []).append(work)
            plan.snapshots.append((work.mapping, work.new, work.documents))
        if work.changed:
            changes = [change for _, change in work.changed]
            ops = [UpdateOp({"_id": change.snapshot["_id"], **change.guard}, change.update) for change in changes]
            updates.setdefault(collection, []).extend(ops)
            snapshots = [change.snapshot for change in changes]
            plan.snapshots.append((work.mapping, [instance for instance, _ in work.changed], snapshots))
        gone: list[Any] = []
        for instance in work.deleted:
            document: dict[str, Any] = vars(instance)[RAW]
            key = document["_id"]
            gone.append(key)
            deletes = early if identity(key) in new_keys[collection] else late
            strict = work.mapping.version is not None
            deletes.setdefault((collection, strict), []).append({"_id": key, **guard_of(work.mapping, document)})
        plan.deleted += work.deleted
        _touch(plan.touched, work, gone)
    plan.writes += [Delete(collection, filters, strict) for (collection, strict), filters in early.items()]
    plan.writes += [_insert(collection, found) for collection, found in inserts.items()]
    plan.writes += [Update(collection, ops) for collection, ops in updates.items()]
    plan.writes += [Delete(collection, filters, strict) for (collection, strict), filters in late.items()]
    return plan


def _collection(work: Work) -> str:
    assert work.mapping.collection is not None
    return work.mapping.collection


def _insert(collection: str, works: Sequence[Work]) -> Insert:
    documents = works[0].documents if len(works) == 1 else [one for work in works for one in work.documents]
    return Insert(collection, documents, shallow=all(is_shallow(work.mapping) for work in works))


def _new_keys(works: Iterable[Work]) -> dict[str, set[Any]]:
    """The identities of new objects, by collection."""
    found: dict[str, set[Any]] = {}
    for work in works:
        keys = found.setdefault(_collection(work), set())
        added = [document.get("_id") for document in work.documents]
        fresh: set[Any] = set(added) if are_identities(added) else set()
        if len(fresh) == len(added) and keys.isdisjoint(fresh):
            keys |= fresh
            continue
        for key in added:
            place = identity(key)
            problem = None
            if key is None:
                problem = f"a document needs a key; its {work.mapping.key.attribute} is None"
            elif isinstance(key, (list, Regex)):
                problem = f"MongoDB takes no {'array' if isinstance(key, list) else 'regular expression'} as a key"
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
    return found


def _touch(touched: dict[VectorSpec, list[Any]], work: Work, gone: Sequence[Any]) -> None:
    """The keys whose vectors may differ afterwards."""
    for part, _, spec in work.mapping.vectors:
        keys = {identity(key): key for key in gone if key is not None}
        for document in work.documents:
            if document.get(part.stored) is not None:
                keys[identity(document["_id"])] = document["_id"]
        for _, change in work.changed:
            if part.stored in change.fields:
                key = change.snapshot["_id"]
                keys[identity(key)] = key
        if keys:
            touched.setdefault(spec, []).extend(keys.values())
