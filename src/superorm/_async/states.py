"""Bringing a session's objects in line with stored documents, and with objects from outside."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final, TypeVar, cast

from superorm._async.unit_of_work import AsyncUnitOfWork
from superorm.codec import documents
from superorm.codec.merging import check_same_version, copies_for, copy_to_add, show_copies
from superorm.compile.plan import Find
from superorm.compile.related import Loading
from superorm.exc import NoResultFound, SessionError
from superorm.expr.reprs import short_repr
from superorm.schema.document import Document
from superorm.schema.mapping import ClassMap, class_map
from superorm.schema.relationships import Relationship
from superorm.schema.state import RAW, UNLOADED
from superorm.unitofwork.arguments import check_attributes, documents_in
from superorm.unitofwork.encode import key_batches
from superorm.unitofwork.errors import key_value
from superorm.unitofwork.graphs import loaded_graph, relations_to_merge, separate_lists, show_merged
from superorm.unitofwork.identity import identity
from superorm.unitofwork.links import check_key

__all__ = ["AsyncStates"]

D = TypeVar("D", bound=Document)
_NO_KEY: Final = object()
"""In the place of the stored key of an object that is given one when it is flushed."""


class AsyncStates:
    """How a unit of work reads single documents again, and takes in copies of objects."""

    def __init__(self, work: AsyncUnitOfWork) -> None:
        self._work = work

    # Refresh

    async def refresh(self, instances: Sequence[Document], attributes: Collection[str] | None, caller: str) -> None:
        """Read the documents again. Raises as `AsyncSession.refresh` does."""
        work = self._work
        work.check_usable()
        groups: dict[ClassMap, list[Any]] = {}
        for instance in instances:
            mapping = work.tracker.check_stored(instance, caller)
            check_attributes(mapping, attributes, caller)
            groups.setdefault(mapping, []).append(instance)
        if attributes is None:
            for instance in instances:
                work.cascades.expire_below(instance)
        for mapping, group in groups.items():
            named = [relation for name, relation in mapping.relationships.items() if name in (attributes or ())]
            keys = [relation.spec.key for relation in named if not relation.is_list]
            wanted = None if attributes is None else [*attributes, *keys]
            found = await self._read(mapping, map(_tracked_key, group), wanted)
            await self._check_found(mapping, group, found)
            there = [(instance, found[identity(_tracked_key(instance))]) for instance in group]
            for instance, document in there:
                with work.history.changing((instance,)):
                    documents.reload(instance, document, wanted)
                work.tracker.undo.reread((instance,))
            work.events.loads.refreshed(group)
            await work.related.load(tuple(map(Loading, named)), group, {}, work.tracker)
        await work.events.of_loads()

    async def _read(
        self, mapping: ClassMap, keys: Iterable[Any], attributes: Iterable[str] | None = None
    ) -> dict[Any, dict[str, Any]]:
        """The stored documents with these keys, of the class itself and its subclasses, by `identity`."""
        await self._work.ready()
        projection = None if attributes is None else dict.fromkeys(mapping.stored_for(attributes), 1)
        found: dict[Any, dict[str, Any]] = {}
        for part in key_batches(list(keys)):
            filter = {"_id": {"$in": list(part)}, **mapping.type_filter()}
            plan = Find(cast("str", mapping.collection), filter, projection)
            for document in await self._work.backend.read(plan, session=self._work.read_session):
                found[identity(document["_id"])] = document
        return found

    async def _check_found(self, mapping: ClassMap, group: Iterable[object], found: dict[Any, dict[str, Any]]) -> None:
        """Raise `NoResultFound` for the first object whose document is gone, or of another class by now."""
        for instance in group:
            key = _tracked_key(instance)
            if identity(key) in found:
                continue
            there = await self._read(mapping.root, [key]) if mapping.root is not mapping else {}
            name = mapping.root.discriminator
            why = "no longer in the database"
            for document in there.values():
                why = f"in the database as another class by now: its {name} is {document.get(name)!r:.80}"
            raise NoResultFound(
                f"{mapping.name} {short_repr(key)} is {why}; expunge() the object", document_class=mapping.cls, key=key
            )

    # Merge

    async def merge(self, instances: Iterable[D], caller: str) -> list[D]:
        """The session's objects with these objects' keys and values. Raises as `AsyncSession.merge` does."""
        given, _ = documents_in(instances, caller)
        kept = self._kept(given)
        try:
            return await self._merge(given)
        except BaseException:
            tracker = self._work.tracker
            tracker.deleted.update((id(one), one) for one in kept if one in tracker)
            raise

    def _kept(self, given: Sequence[Document]) -> list[Document]:
        """The session's objects of these that were to be deleted, and stay after all, before a flush deletes them."""
        tracker = self._work.tracker
        if not tracker.deleted:
            return []
        kept = [one for one in given if id(one) in tracker.deleted]
        new = _by_key(tracker.new.values())
        for one in loaded_graph(given, tracker):
            mapping = class_map(type(one))
            key = _stored_key(mapping, one)
            target: Any = None if key is _NO_KEY else tracker.identities.get(mapping, key)
            if id(target) in tracker.deleted and (mapping.root, identity(key)) not in new:
                kept.append(target)
        for one in kept:
            tracker.add(one)
        return kept

    async def _merge(self, given: Sequence[Document]) -> list[Any]:
        work, tracker = self._work, self._work.tracker
        await work.autoflush()
        outside = [(class_map(type(one)), one) for one in loaded_graph(given, tracker)]
        keys = {id(one): _stored_key(mapping, one) for mapping, one in outside}
        await self._load(outside, keys)
        new = _by_key(tracker.new.values()) if outside else {}
        targets: dict[int, Any] = {}
        added: list[Document] = []
        onto: list[tuple[ClassMap, Any, Document]] = []
        for mapping, one in outside:  # nothing is changed before all are known to fit
            key = keys[id(one)]
            place = None if key is _NO_KEY else (mapping.root, identity(key))
            target = None if place is None else tracker.identities.get(mapping, key)
            if target is not None and id(target) not in tracker.deleted:
                check_same_version(mapping, target, one)
            else:
                target = None if place is None else new.get(place)
            if target is None:
                target = copy_to_add(mapping, one)
                added.append(target)
                if place is not None:
                    new[place] = target
            else:
                _check_class(mapping, target, key)
                onto.append((mapping, target, one))
            targets[id(one)] = target
        related = await self._related_to_merge(outside, targets)
        copies = [(target, copies_for(mapping, target, one)) for mapping, target, one in onto]
        for target in added:
            tracker.add(target)
        for target, values in copies:
            show_copies(target, values)
        separate_lists(tracker, related)
        for relation, source in related:
            show_merged(relation, source, targets, work.history)
        return [targets.get(id(one), one) for one in given]

    async def _related_to_merge(
        self, outside: Iterable[tuple[ClassMap, object]], targets: dict[int, Any]
    ) -> list[tuple[Relationship, object]]:
        """The relationships that the given objects show; the targets' own lists are loaded.

        Raises `ValidationError` for keys that cannot be any.
        """
        work = self._work
        shown = [(relation, one) for mapping, one in outside for relation in relations_to_merge(mapping, one)]
        lists: dict[Relationship, list[Any]] = {}
        for relation, one in shown:
            if relation.is_list and RAW in vars(targets[id(one)]):
                lists.setdefault(relation, []).append(targets[id(one)])
            elif not relation.is_list:
                check_key(one, relation.key)
        for relation, instances in lists.items():  # what leaves them has to be known
            await work.related.load((Loading(relation),), instances, {}, work.tracker)
        await work.events.of_loads()
        return shown

    async def _load(self, outside: Iterable[tuple[ClassMap, object]], keys: dict[int, Any]) -> None:
        """Track the documents with these keys, and load those anew that are tracked in part."""
        tracker = self._work.tracker
        wanted: dict[ClassMap, dict[Any, Any]] = {}
        for mapping, one in outside:
            if keys[id(one)] is _NO_KEY:
                continue
            known = tracker.identities.get(mapping, keys[id(one)])
            if known is None or UNLOADED in vars(known):
                wanted.setdefault(mapping.root, {})[identity(keys[id(one)])] = keys[id(one)]
        for root, among in wanted.items():
            found = await self._read(root, among.values())
            self._work.events.loads.load(tracker, root, list(found.values()))
        await self._work.events.of_loads()


def _tracked_key(instance: object) -> Any:
    raw: dict[str, Any] = vars(instance)[RAW]
    return raw["_id"]


def _stored_key(mapping: ClassMap, instance: object) -> Any:
    """The stored key of an object, which may be new; `_NO_KEY` where it has none yet."""
    raw: dict[str, Any] | None = vars(instance).get(RAW)
    if raw is not None:
        return raw["_id"]
    key = getattr(instance, mapping.key.attribute, None)
    return _NO_KEY if key is None and not mapping.has_null_key else key_value(mapping, key)


def _by_key(instances: Iterable[object]) -> dict[tuple[ClassMap, Any], Any]:
    """Those of new objects that have a key, by the root of their class and the key."""
    found: dict[tuple[ClassMap, Any], Any] = {}
    for one in instances:
        mapping = class_map(type(one))
        key = _stored_key(mapping, one)
        if key is not _NO_KEY:
            found[mapping.root, identity(key)] = one
    return found


def _check_class(mapping: ClassMap, target: object, key: Any) -> None:
    """Raise `SessionError` where the session's object is of another class."""
    there = class_map(type(target))
    if there is not mapping:
        raise SessionError(
            f"{mapping.name} {key!r} cannot be merged: the stored document is a {there.name}",
            document_class=mapping.cls,
            key=key,
        )
