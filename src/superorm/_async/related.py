"""Reading what relationships refer to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

from superorm.backends.errors import joining
from superorm.compile.plan import Find
from superorm.compile.related import Column, Loading, find_related, joined_relations, take_joined
from superorm.expr.narrow import is_list
from superorm.schema.dates import reads_naive
from superorm.schema.mapping import ClassMap
from superorm.schema.relationships import Relationship
from superorm.schema.state import RAW, UNLOADED
from superorm.unitofwork.deletions import deleted_parents, parents_deleted
from superorm.unitofwork.encode import key_batches
from superorm.unitofwork.identity import identity
from superorm.unitofwork.links import is_loaded, link, own_key, related_objects, state_of, wanted_keys
from superorm.unitofwork.tracking import Tracker

if TYPE_CHECKING:
    from superorm._async.unit_of_work import AsyncUnitOfWork

__all__ = ["AsyncRelated"]


class AsyncRelated:
    """Loads what the relationships of a unit of work's objects refer to."""

    def __init__(self, work: AsyncUnitOfWork) -> None:
        self._work = work

    async def load_columns(
        self,
        columns: Sequence[Column],
        rows: Sequence[Sequence[Any]],
        joined: dict[str, list[dict[str, Any]]],
        tracker: Tracker | None,
    ) -> None:
        """`load` for the documents in columns of rows."""
        for column in columns:
            objects = [row[column.position] for row in rows]
            await self.load(column.loadings, [one for one in objects if one is not None], joined, tracker)

    async def load(
        self,
        loadings: Sequence[Loading],
        objects: Sequence[Any],
        joined: dict[str, list[dict[str, Any]]],
        tracker: Tracker | None,
    ) -> None:
        """Let the objects' relationships show what they refer to, and theirs; what is loaded already stays as it is.

        `joined` are the documents that were read together with these, by the names of loadings.
        Without a `tracker` the other objects are not tracked; in one call each document is one object all the same.
        """
        if tracker is None:
            tracker = Tracker()
            await self._load(loadings, objects, joined, tracker)
            tracker.clear()
            return
        await self._load(loadings, objects, joined, tracker)

    async def _load(
        self,
        loadings: Sequence[Loading],
        objects: Sequence[Any],
        joined: dict[str, list[dict[str, Any]]],
        tracker: Tracker,
    ) -> None:
        for loading in loadings:
            relation = loading.relation
            cls = relation.mapping.cls
            having = [one for one in {id(one): one for one in objects}.values() if isinstance(one, cls)]
            lacking = [one for one in having if not is_loaded(relation, one)]
            together = _of_class(relation.target, joined.get(loading.name, ()))
            if len(lacking) < len(having) and tracker is self._work.tracker and tracker.may_be_partial:
                await self._complete(relation, having, together)
            inner = joined
            fresh = {identity(document["_id"]) for document in together} if loading.joined else set[Any]()
            if lacking:
                keys = wanted_keys(relation, lacking)
                if loading.name in joined:
                    others = self._work.events.loads.load(tracker, relation.target, together)
                else:
                    others, inner = await self._read(loading, keys, tracker)
                    fresh = set(map(own_key, others)) if loading.joined else fresh
                own = lacking if tracker is self._work.tracker else ()
                for one in own if self._work.server_session is not None else ():
                    self._work.history.remember(one)
                with self._work.history.changing(own):
                    link(relation, lacking, others)
            if loading.children:
                below = [other for one in having for other in related_objects(relation, one)]
                below = [other for other in below if UNLOADED not in vars(other) or other not in tracker]
                known = [other for other in below if own_key(other) not in fresh] if loading.joined else []
                if known:  # nothing was joined to these
                    await self._load(loading.children, known, {}, tracker)
                    below = [other for other in below if own_key(other) in fresh]
                await self._load(loading.children, below, inner, tracker)

    async def _complete(self, relation: Relationship, having: Iterable[Any], found: Sequence[dict[str, Any]]) -> None:
        """Give what objects show already, and what has expired or was loaded in part, the values that it lacks.

        They stand in the documents `found`, or are read.
        """
        work, target = self._work, relation.target
        keys: dict[Any, Any] = {}
        for one in having:
            value: object = state_of(one).get(relation.attribute)
            others: list[Any] = value if is_list(value) else [value]
            for other in others:
                if isinstance(other, target.cls) and UNLOADED in vars(other) and other in work.tracker:
                    keys[own_key(other)] = vars(other)[RAW]["_id"]
        if not keys:
            return
        there = {key: document for document in found if (key := identity(document["_id"])) in keys}
        for chunk in key_batches([stored for key, stored in keys.items() if key not in there]):
            filter = {"_id": {"$in": list(chunk)}, **target.type_filter()}
            read = Find(cast("str", target.collection), filter, naive=reads_naive(target))
            documents = await work.backend.read(read, session=work.read_session)
            there |= {identity(document["_id"]): document for document in documents}
        work.events.loads.load(work.tracker, target, list(there.values()))

    async def cascade_deletes(self) -> None:
        """Read what deleted objects refer to, and delete it too or let go of it, as the relationships say."""
        work, done = self._work, set[int]()
        while parents := deleted_parents(work.tracker, done):
            for relation, instances in parents:
                keys = wanted_keys(relation, instances)
                found, _ = await self._read(Loading(relation), keys, work.tracker)
                parents_deleted(work.tracker, work.history, relation, instances, found)
        await work.events.of_loads()

    async def _read(
        self, loading: Loading, keys: dict[Any, Any], tracker: Tracker
    ) -> tuple[list[Any], dict[str, list[dict[str, Any]]]]:
        """The objects that a relationship refers to by the keys, and what was joined to them."""
        work, relation = self._work, loading.relation
        target = relation.target
        there: list[Any] = []
        if not relation.is_list and not loading.joined:  # what is there stays as it is, so it need not be read
            known = tracker.identities.of(target)
            there = [known[key] for key in keys if key in known and UNLOADED not in vars(known[key])]
            there = [one for one in there if isinstance(one, target.cls)]
            work.events.loads.given(there)
            keys = {key: stored for key, stored in keys.items() if key not in known or UNLOADED in vars(known[key])}
        found: list[dict[str, Any]] = []
        with joining(joined_relations(loading.joined)):
            for chunk in key_batches(list(keys.values())):
                read = find_related(loading, chunk)
                found += await work.backend.read(read, session=work.read_session)
        joined = take_joined(found) if loading.joined else {}
        return [*there, *work.events.loads.load(tracker, target, found)], joined


def _of_class(target: ClassMap, found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each document once, of those that are of a class."""
    if target.parent is not None:
        names = {target.type_name, *(below.type_name for below in target.subclasses)}
        found = [document for document in found if document.get(target.discriminator) in names]
    return list({identity(document["_id"]): document for document in found}.values())
