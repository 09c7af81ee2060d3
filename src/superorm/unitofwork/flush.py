"""What a flush does, decided before anything is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from attrs import Factory, define, frozen
from bson import Regex

from superorm.codec.documents import Changes, guard_of
from superorm.codec.flat import FlatDocuments
from superorm.codec.vectors import value_at
from superorm.exc import ValidationError
from superorm.schema.declared_indexes import declared_indexes
from superorm.schema.depth import is_shallow
from superorm.schema.document import Document
from superorm.schema.listened import ListenerPath
from superorm.schema.mapping import ClassMap, class_map
from superorm.schema.state import RAW
from superorm.schema.vector_fields import vector_fields
from superorm.schema.vector_spec import VectorPath
from superorm.unitofwork.identity import distinct, identity
from superorm.unitofwork.order import collections_in_order, own_references, referred_first
from superorm.unitofwork.update_ops import UpdateOps
from superorm.unitofwork.writes import Delete, Insert, Update, UpdateOp, Write

__all__ = ["FlushPlan", "Work", "plan_flush"]


NO_OTHERS: Mapping[str, Sequence[VectorPath]] = {}


@frozen
class Work:
    """What one class has to write: new objects and their documents, changed objects, deleted objects."""

    mapping: ClassMap
    new: Sequence[Document] = ()
    documents: Sequence[dict[str, Any]] = ()
    changed: Changes = Factory(Changes)
    deleted: Sequence[Document] = ()

    @cached_property
    def keys(self) -> list[Any]:
        """Those of the new documents, as stored."""
        if isinstance(self.documents, FlatDocuments):
            return self.documents.keys
        return [document.get("_id") for document in self.documents]


@define
class FlushPlan:
    """The writes in order, the vectors that they touch, and the deleted objects.

    `inserted` and `updated` hold classes, each with written objects and what these are stored as, or what changed.
    """

    writes: list[Write] = Factory(list[Write])
    touched: dict[VectorPath, list[Any]] = Factory(dict[VectorPath, list[Any]])
    inserted: list[tuple[ClassMap, Sequence[Document], Sequence[dict[str, Any]]]] = Factory(list[Any])
    updated: list[tuple[ClassMap, Changes]] = Factory(list[Any])
    deleted: list[Document] = Factory(list[Document])
    done: int = 0
    """How many of the writes were carried out."""

    def __bool__(self) -> bool:
        return bool(self.writes)

    def so_far(self) -> str:
        """What a failure leaves where there are no transactions, for messages; empty where there is but one thing."""
        if sum(map(_operations, self.writes)) < 2:
            return ""
        stay, doubtful = _listed(self.writes[: self.done]), _listed(self.writes[self.done : self.done + 1])
        return f"there are no transactions here, so this stays: {stay}; and perhaps, or in part: {doubtful}"

    def mapping_of(self, collection: str, key: Any) -> ClassMap:
        """The class of the object that is written under a key, for messages; else one of the collection's."""
        found = self.mappings(collection)
        return found.get(identity(key)) or next(iter(found.values()))

    def mappings(self, collection: str) -> dict[Any, ClassMap]:
        """The classes of the objects that are written to a collection, by `identity`."""
        written = [(mapping, documents) for mapping, _, documents in self.inserted]
        written += [(mapping, changed.before) for mapping, changed in self.updated]
        found = [(mapping, stored["_id"]) for mapping, documents in written for stored in documents]
        found += [(class_map(type(instance)), vars(instance)[RAW]["_id"]) for instance in self.deleted]
        there = [(stored, mapping) for mapping, stored in reversed(found) if mapping.collection == collection]
        return {identity(stored): mapping for stored, mapping in there}


def _listed(writes: Iterable[Write]) -> str:
    found: list[str] = []
    for write in writes:
        done = {Insert: "inserted into", Update: "changed in", Delete: "deleted from"}[type(write)]
        found.append(f"{_operations(write)} {done} {write.collection}")
    return ", ".join(found) or "nothing"


def _operations(write: Write) -> int:
    if isinstance(write, Insert):
        return len(write.documents)
    return len(write.ops if isinstance(write, Update) else write.filters)


def plan_flush(
    works: Iterable[Work], *, transaction: bool = False, others: Mapping[str, Sequence[VectorPath]] = NO_OTHERS
) -> FlushPlan:
    """Inserts, then updates, then deletes, each collection's together.

    Documents that others refer to are inserted before these, and deleted after them.
    A delete whose key is inserted again goes before the inserts.
    In a transaction, where nobody sees what is between, collections with unique indexes have their values freed first:
    there deletes and then updates go before the inserts.
    `others` are, by collection, vectors that not all of its classes know.
    Raises `ValidationError` where two new objects have one key.
    """
    works = list(works)
    new_keys = _new_keys(works)
    freed = {_collection(work) for work in works if _has_unique(work.mapping.root)} if transaction else set[str]()
    plan = FlushPlan()
    inserts: dict[str, list[Work]] = {}
    updates: dict[str, list[UpdateOps]] = {}
    deep: set[str] = set()
    early: dict[tuple[str, bool], list[dict[str, Any]]] = {}
    late: dict[tuple[str, bool], list[dict[str, Any]]] = {}
    for work in works:
        collection = _collection(work)
        if work.new:
            inserts.setdefault(collection, []).append(work)
            plan.inserted.append((work.mapping, work.new, work.documents))
        if work.changed.objects:
            updates.setdefault(collection, []).append(UpdateOps.of(work.mapping, work.changed))
            if not is_shallow(work.mapping):
                deep.add(collection)
            plan.updated.append((work.mapping, work.changed))
        gone: list[Any] = []
        for instance in work.deleted:
            document: dict[str, Any] = vars(instance)[RAW]
            key = document["_id"]
            gone.append(key)
            deletes = early if collection in freed or identity(key) in new_keys[collection] else late
            strict = work.mapping.version is not None
            deletes.setdefault((collection, strict), []).append({"_id": key, **guard_of(work.mapping, document)})
        plan.deleted += work.deleted
        _touch(plan.touched, work, gone, others.get(collection, ()))
    own: dict[str, list[str]] = {}
    if any(work.mapping.relationships for work in works):
        own = own_references(work.mapping for work in works)
        inserts, late = _in_order(works, inserts, late, own)
    plan.writes += [Delete(collection, filters, strict) for (collection, strict), filters in early.items()]
    changes = {name: _update(name, ops, shallow=name not in deep) for name, ops in updates.items()}
    plan.writes += [update for name, update in changes.items() if name in freed]
    plan.writes += [_insert(collection, found, own.get(collection)) for collection, found in inserts.items()]
    plan.writes += [update for name, update in changes.items() if name not in freed]
    plan.writes += [Delete(collection, filters, strict) for (collection, strict), filters in late.items()]
    return plan


def _collection(work: Work) -> str:
    assert work.mapping.collection is not None
    return work.mapping.collection


def _has_unique(root: ClassMap) -> bool:
    """Whether a class of the hierarchy declares a unique index."""
    known: dict[ClassMap, bool] = root.functions.setdefault("unique", {})
    for mapping in (root, *root.subclasses):  # subclasses may come later
        if mapping not in known:
            known[mapping] = any(one.options.get("unique") for one in declared_indexes(mapping))
    return any(known.values())


def _in_order(
    works: Sequence[Work],
    inserts: dict[str, list[Work]],
    deletes: dict[tuple[str, bool], list[dict[str, Any]]],
    own: Mapping[str, Sequence[str]],
) -> tuple[dict[str, list[Work]], dict[tuple[str, bool], list[dict[str, Any]]]]:
    """The inserts and deletes as the references between the documents say."""
    new: dict[str, list[Mapping[str, Any]]] = {}
    gone: dict[str, list[Mapping[str, Any]]] = {}
    for work in works:
        if work.new:
            new.setdefault(_collection(work), []).extend(work.documents)
        if work.deleted:
            gone.setdefault(_collection(work), []).extend(vars(instance)[RAW] for instance in work.deleted)
    first = collections_in_order([work.mapping for work in works if work.new], new)
    last = collections_in_order([work.mapping for work in works if work.deleted], gone)
    ordered = dict(sorted(deletes.items(), key=lambda item: -last.index(item[0][0])))
    for name, keys in own.items():
        if gone.get(name):
            rank = {identity(one["_id"]): number for number, one in enumerate(referred_first(gone[name], keys))}
            for filters in (found for (collection, _), found in ordered.items() if collection == name):
                filters.sort(key=lambda filter: -rank[identity(filter["_id"])])
    return {name: inserts[name] for name in first}, ordered


def _update(collection: str, found: Sequence[UpdateOps], *, shallow: bool) -> Update:
    ops: Sequence[UpdateOp] = found[0]
    if len(found) > 1:
        ops = [one for several in found for one in several]
    return Update(collection, ops, shallow)


def _insert(collection: str, works: Sequence[Work], own: Sequence[str] | None) -> Insert:
    """`own` are the stored names of keys that refer to documents of the same collection."""
    documents: Sequence[Any] = works[0].documents
    if len(works) > 1:
        documents = [one for work in works for one in work.documents]
    if own:
        documents = referred_first(documents, own)
    return Insert(collection, documents, shallow=all(is_shallow(work.mapping) for work in works))


def _new_keys(works: Iterable[Work]) -> dict[str, set[Any]]:
    """The identities of new objects, by collection."""
    found: dict[str, set[Any]] = {}
    for work in works:
        keys = found.setdefault(_collection(work), set())
        fresh = distinct(work.keys)
        if len(fresh) == len(work.keys) and keys.isdisjoint(fresh):
            found[_collection(work)] = keys | fresh if keys else fresh
            continue
        for key in work.keys:
            place = identity(key)
            problem = None
            if key is None and not work.mapping.has_null_key:
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


def _touch(touched: dict[VectorPath, list[Any]], work: Work, gone: Sequence[Any], others: Sequence[VectorPath]) -> None:
    """The keys whose vectors may differ afterwards."""
    own = (field.spec for field in vector_fields(work.mapping))
    known = {(spec.name, spec.path): spec for spec in (*others, *own)}  # several indexes may mirror one path
    for spec in known.values():
        is_own = "." not in spec.path
        keys = {identity(key): key for key in gone}
        is_heard = isinstance(spec, ListenerPath)
        for document in work.documents:
            if is_heard or (document.get(spec.path) if is_own else value_at(document, spec.path)) is not None:
                keys[identity(document["_id"])] = document["_id"]
        for update, document in zip(work.changed.updates, work.changed.before, strict=True):
            if spec.touched_by(update):
                keys[identity(document["_id"])] = document["_id"]
        if keys:
            touched.setdefault(spec, []).extend(keys.values())
