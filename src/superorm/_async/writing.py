# pyright: reportPrivateUsage=false
"""Carrying out statements that write, in a session's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from attrs import evolve

from superorm._async.encoding_ahead import encode_objects, encode_sources
from superorm._async.reading import AsyncReading
from superorm._async.recomputing import computed_of, recompute, recompute_outdated, refresh
from superorm._async.unit_of_work import AsyncUnitOfWork
from superorm._io.progress import Progress
from superorm.codec import documents
from superorm.codec.documents import dump_all
from superorm.codec.flat import dump_new
from superorm.compile.compiler import CompiledSelect
from superorm.compile.plan import Find
from superorm.compile.writes import (
    DeletePlan,
    MergePlan,
    UpdatePlan,
    compile_delete,
    compile_merge,
    compile_update,
    rows_select,
)
from superorm.exc import SuperormError, UnsupportedError
from superorm.expr.base import Compare
from superorm.expr.writes import Insert, MergeInto, Returning, is_delete, is_insert, is_update
from superorm.schema.document import Document
from superorm.schema.mapping import ClassMap, class_map
from superorm.schema.vector_fields import vector_fields
from superorm.schema.vector_spec import VectorPath, VectorSpec
from superorm.unitofwork import writes
from superorm.unitofwork.arguments import no_statement
from superorm.unitofwork.computed import needs
from superorm.unitofwork.encode import key_batches
from superorm.unitofwork.errors import of_class
from superorm.unitofwork.flush import FlushPlan, Work, plan_flush
from superorm.unitofwork.identity import identities, identity
from superorm.unitofwork.relations import with_referred
from superorm.unitofwork.result import Result, Row, Written, row_class
from superorm.unitofwork.rows import rows_of
from superorm.unitofwork.statement_writes import (
    Upsert,
    any_of,
    build_objects,
    identity_of,
    inserted_document,
    on_insert,
    reads_of,
    upsert_of,
)
from superorm.unitofwork.tracking import by_class

__all__ = ["AsyncWriting", "insert_objects"]


class AsyncWriting:
    """One statement that writes, in a session.

    Raises `StatementError`, `UnsupportedError`, `ValidationError` where it is made: nothing has been sent then.
    """

    def __init__(self, work: AsyncUnitOfWork, reading: AsyncReading, statement: object) -> None:
        self._work = work
        self._reading = reading
        self._db = work.db
        self._backend = work.backend
        self._returned: CompiledSelect | None = None
        self._rows: list[Row] = []
        self._plan: UpdatePlan | DeletePlan | MergePlan | Insert[Any]
        capabilities = self._db.capabilities
        limits = capabilities.unsupported_stages | capabilities.unsupported_operators, capabilities.backend
        if isinstance(statement, Returning):
            entities = statement.entities
            inner: Any = statement.statement
            statement = inner
            self._select = rows_select(class_map(inner._root), entities)
            self._returned = self._db.compiled(self._select)
        if is_update(statement):
            self._plan = compile_update(statement, *limits)
            self._new = inserted_document(self._plan) if self._plan.upsert else None
        elif is_delete(statement):
            self._plan = compile_delete(statement, *limits)
        elif isinstance(statement, MergeInto):
            self._plan = compile_merge(statement, *limits)
            if work.requires_transaction:
                raise UnsupportedError(
                    "merge_into(): the server has no $merge in transactions, and this session requires them; "
                    "use a session without require_transaction"
                )
        elif is_insert(statement):
            self._plan = statement
            self._objects, self._kinds = build_objects(statement)
            if not statement._upserts:
                work.tracker.check_outside(self._objects, self._kinds, "insert()")
        else:
            raise no_statement(statement)

    @property
    def inserts(self) -> bool:
        """Whether the statement inserts new objects."""
        return is_insert(self._plan)

    def check(self) -> None:
        """Raise `UnsupportedError`, `SessionError` for what cannot be done in the state that the session is in."""
        if is_insert(self._plan) and not self._plan._upserts:
            self._work.tracker.check_still_outside(self._objects, self._kinds, "insert()")
        if isinstance(self._plan, MergePlan) and self._work.server_session is not None:
            raise UnsupportedError(
                "merge_into(): the server has no $merge in transactions; commit() or rollback() first"
            )

    async def ahead(self) -> None:
        """Have the texts encoded that the statement is about to leave in sources, so that no transaction waits for it.

        Within the transaction only those are encoded that others, or pending changes of the session, make different.
        What cannot be encoded is an error there, if it still is to be.
        """
        plan = self._plan
        if self._work.server_session is not None:
            return
        try:
            if is_insert(plan):
                await encode_objects(self._work, self._objects, self._kinds, None)
            elif isinstance(plan, UpdatePlan):
                await encode_sources(self._work, plan, self._new)
        except SuperormError:
            if not self._db.capabilities.transactions:
                raise

    async def run(self) -> Written | Result[Any] | None:
        """What the statement did; with ``returning()`` the rows."""
        plan = self._plan
        if isinstance(plan, MergePlan):
            await self._merge(plan)
            return None
        self._work.tracker.undo.be_unsure()
        if not self._db.capabilities.transactions:
            await self.ahead()
        if isinstance(plan, UpdatePlan):
            done = await self._update(plan)
        elif isinstance(plan, DeletePlan):
            done = await self._delete(plan)
        elif plan._upserts:
            done = await self._upsert(plan)
        else:
            done = await self._insert(plan)
        if self._returned is None:
            return done
        return Result(self._rows, self._returned.names[:-1])

    # The four statements

    async def _insert(self, statement: Insert[Any]) -> Written:
        done = await insert_objects(self._work, self._objects, None)
        if self._returned is not None:
            mapping = class_map(statement._root)
            await self._read_rows([_stored_key(mapping, key) for key in done.inserted_keys])
        return done

    async def _upsert(self, statement: Insert[Any]) -> Written:
        upserts = await self._upserts(statement)
        if not upserts:
            return Written()
        mapping = class_map(statement._root)
        stored = {name for upsert in upserts for name in upsert.document}
        specs = [spec for spec in await self._indexes(mapping) if spec.concerns(stored)]
        await self._work.begin([cast("str", mapping.collection)], specs)
        tracked = self._work.tracker.of_collection(mapping.collection)
        there: dict[tuple[str, ...], Any] = {}
        by_class = any(upsert.redeclared for upsert in upserts)
        if tracked or specs or self._returned is not None or by_class:
            found = await self._there(upserts)
            there = {identity: document["_id"] for identity, document in found.items()}
            upserts = [upsert.of_class(found.get(upsert.identity, {})) for upsert in upserts]
        keys = [*there.values(), *(upsert.document["_id"] for upsert in upserts)] if specs else []
        async with self._work.recorded({spec: _once(keys) for spec in specs}):
            try:
                update = writes.Update(cast("str", mapping.collection), [upsert.op for upsert in upserts])
                result = await self._write(mapping, update)
            finally:  # some may be written
                await recompute_outdated(self._work, computed_of([mapping], dict.fromkeys(specs, keys)))
        _inserted(self._work, mapping, result.upserted)
        await refresh(self._work, mapping.collection, list(there.values()))
        if self._returned is not None:
            found = await self._there(upserts)
            await self._read_rows([found[upsert.identity]["_id"] for upsert in upserts])
        inserted = [_key(mapping, key) for key in result.upserted]
        return Written(result.matched - len(inserted), result.modified, upserted_keys=inserted)

    async def _upserts(self, statement: Insert[Any]) -> list[Upsert]:
        mapping = class_map(statement._root)
        await _compute(self._work, by_class(self._objects), None)
        by = [mapping.by_attribute[field._parts[0].attribute] for field in statement._by] or [mapping.key]
        found: list[Upsert] = []
        for instance, row in zip(self._objects, statement._rows, strict=True):
            own = class_map(instance.__class__)
            given = own.by_attribute if row is instance else row
            found.append(upsert_of(own, by, documents.dump(own, instance), instance, given))
        return found

    async def _there(self, upserts: Sequence[Upsert]) -> dict[tuple[str, ...], Mapping[str, Any]]:
        """What identifies those documents that are there, and their keys, by the values that identify them."""
        found: dict[tuple[str, ...], Mapping[str, Any]] = {}
        for read in reads_of(upserts):
            for document in await self._backend.read(read, session=self._work.server_session):
                found.setdefault(identity_of(document, upserts[0].by), document)
        return found

    async def _update(self, plan: UpdatePlan) -> Written:
        mapping, new = plan.mapping, self._new
        collection = cast("str", mapping.collection)
        fields = vector_fields(mapping)
        computed = [field for field in fields if field.source and (plan.upsert or field.follows(plan.paths))]
        made = [field.spec for field in computed]
        indexes = await self._indexes(mapping)
        specs = [spec for spec in indexes if plan.upsert or spec in made or spec.assigned_by(plan.paths)]
        await self._work.begin([collection] if plan.upsert else [], specs)
        keys: list[Any] | None = None
        if specs or self._returned is not None or self._work.tracker.of_collection(collection):
            keys = await self._keys(mapping, plan.filter)
            if new is not None and not keys:
                keys = [new["_id"]]
        async with self._work.recorded({spec: keys or [] for spec in specs}):
            done = await self._send(plan, keys)
            try:
                for field in computed:
                    if done.upserted_keys or field.follows(plan.paths):
                        await recompute(self._work, field, keys or [])
            finally:  # some may be written
                await recompute_outdated(self._work, dict.fromkeys(computed, keys or []))
        await refresh(self._work, mapping.collection, keys or [])
        if self._returned is not None:
            await self._read_rows(keys or [])
        return done

    async def _send(self, plan: UpdatePlan, keys: list[Any] | None) -> Written:
        mapping, new = plan.mapping, self._new
        collection = cast("str", mapping.collection)
        pipeline = isinstance(plan.update, list)
        update = plan.update if new is None or pipeline else on_insert(plan, new)
        filters = self._filters(plan.filter, None if plan.upsert else keys)
        ops = [writes.UpdateOp(q=one, u=update, multi=True, upsert=plan.upsert and not pipeline) for one in filters]
        result = await self._write(mapping, writes.Update(collection, ops))
        _inserted(self._work, mapping, result.upserted)
        if new is not None and pipeline and not result.matched:
            await self._write(mapping, writes.Insert(collection, [new]))
            _inserted(self._work, mapping, [new["_id"]])
            op = writes.UpdateOp(q={"_id": new["_id"]}, u=plan.update)
            await self._write(mapping, writes.Update(collection, [op]))
            return Written(upserted_keys=[_key(mapping, new["_id"])])
        inserted = [_key(mapping, key) for key in result.upserted]
        return Written(result.matched - len(inserted), result.modified, upserted_keys=inserted)

    async def _delete(self, plan: DeletePlan) -> Written:
        mapping = plan.mapping
        collection = cast("str", mapping.collection)
        specs = await self._indexes(mapping)
        await self._work.begin([], specs)
        keys: list[Any] | None = None
        if specs or self._returned is not None or self._work.tracker.of_collection(collection):
            keys = await self._keys(mapping, plan.filter)
        if self._returned is not None:
            await self._read_rows(keys or [])
        async with self._work.recorded({spec: keys or [] for spec in specs}):
            result = await self._write(mapping, writes.Delete(collection, self._filters(plan.filter, keys)))
        self._work.tracker.undo.statement_deleted(collection)
        tracked = self._work.tracker.of_collection(collection)
        gone = [instance for key in identities(keys or []) for instance in tracked.get(key, ())]
        self._work.tracker.flushed(FlushPlan(deleted=gone))
        return Written(result.matched)

    async def _merge(self, plan: MergePlan) -> None:
        mapping = plan.mapping
        fields = () if mapping is None else vector_fields(mapping)
        self._work.check_vectors([field.spec for field in fields])
        await self._db.prepare()
        session = self._work.read_session
        read, rows = [await self._work.queries.with_outputs(one, session) for one in (plan.read, plan.rows)]
        plan = evolve(plan, read=read, rows=rows)
        self._work.wrote = True
        tracked = mapping is not None and bool(self._work.tracker.of_collection(mapping.collection))
        specs: list[VectorPath] = [field.spec for field in fields]
        others = await self._db.vectors.others([plan.collection], [field.spec for field in fields])
        specs += others.get(plan.collection, ())
        if not (specs or tracked):
            await self._backend.read(plan.read, session=self._work.read_session)
            return
        for field in fields:
            await self._db.vectors.ensure(field.spec)
        keys = await self._merged_keys(plan)
        touched = dict.fromkeys(specs, keys)
        async with self._db.vectors.recording(touched):
            await self._backend.read(plan.read, session=self._work.read_session)
            if plan.on != ("_id",):
                keys = await self._merged_keys(plan)
            computed = [field for field in fields if field.source is not None]
            try:
                for field in computed:
                    await recompute(self._work, field, keys)
            finally:  # some may be written
                await recompute_outdated(self._work, dict.fromkeys(computed, keys))
        self._db.vectors.notify(spec for spec in specs if isinstance(spec, VectorSpec))
        self._work.hear(specs)
        if mapping is not None:
            await refresh(self._work, mapping.collection, keys)
        if self._db.capabilities.transactions:  # none is open, and what was merged is stored for good
            self._work.tracker.committed()
            self._work.history.committed()

    async def _merged_keys(self, plan: MergePlan) -> list[Any]:
        """The keys of the documents of the target that the rows are merged into, or would be inserted as."""
        rows = await self._backend.read(plan.rows, session=self._work.read_session)
        keys = [row["_id"] for row in rows if "_id" in row]
        if plan.on == ("_id",):
            return keys
        wanted = [{name: row.get(name) for name in plan.on} for row in rows]
        for either in any_of(wanted):
            there = Find(plan.collection, either, {"_id": 1})
            found = await self._backend.read(there, session=self._work.read_session)
            keys += [document["_id"] for document in found]
        return _once(keys)

    # What they have in common

    async def _indexes(self, mapping: ClassMap) -> list[VectorPath]:
        """The vector indexes of the class's collection."""
        known = [field.spec for field in vector_fields(mapping)]
        return [*known, *(await self._work.others([mapping])).get(cast("str", mapping.collection), ())]

    async def _keys(self, mapping: ClassMap, filter: Mapping[str, Any]) -> list[Any]:
        """The keys of the documents that a filter matches."""
        plan = Find(cast("str", mapping.collection), filter, {"_id": 1})
        found = await self._backend.read(plan, session=self._work.server_session)
        return [document["_id"] for document in found]

    def _filters(self, filter: Mapping[str, Any], keys: Sequence[Any] | None) -> list[Mapping[str, Any]]:
        """The filter; without transactions only for the documents of these keys, which are recorded as touched."""
        if keys is None or self._work.server_session is not None:
            return [filter]
        return [{"$and": [{"_id": {"$in": list(part)}}, filter]} for part in key_batches(keys)]

    async def _write(self, mapping: ClassMap, write: writes.Write) -> writes.WriteResult:
        try:
            return await self._backend.write(write, session=self._work.server_session)
        except SuperormError as error:
            raise of_class(error, mapping) from error

    async def _read_rows(self, keys: Sequence[Any]) -> None:
        """The rows of the documents with these keys, in their order."""
        assert self._returned is not None
        kind = row_class(self._returned.names[:-1])
        by_key: dict[Any, Row] = {}
        for part in key_batches(keys):
            among = self._select.where(Compare(self._select._entities[-1].expr, "$in", list(part)))  # type: ignore[union-attr]
            compiled = self._db.compiled(among)
            found = await self._backend.read(compiled.read, session=self._work.server_session)
            rows = rows_of(compiled, found, None, self._reading.load)
            for document, row in zip(found, rows, strict=True):
                by_key[identity(_at(document, compiled.outputs[-1].path))] = kind(row[:-1])
        self._rows = [by_key[key] for key in identities(list(keys)) if key in by_key]


def _at(document: Any, path: Iterable[str]) -> Any:
    for name in path:
        document = document[name]
    return document


def _once(keys: Iterable[Any]) -> list[Any]:
    """Each key once."""
    return list({identity(key): key for key in keys}.values())


def _key(mapping: ClassMap, stored: Any) -> Any:
    return mapping.key.type.from_bson(stored)


def _stored_key(mapping: ClassMap, key: Any) -> Any:
    return mapping.key.type.to_bson(key)


async def _compute(work: AsyncUnitOfWork, groups: Mapping[ClassMap, Sequence[Any]], report: Progress | None) -> None:
    """Compute the vectors of new objects, given by class."""
    computed = [need for mapping, group in groups.items() for need in needs(mapping, group, ())]
    await work.db.vector_models.compute(computed, work.encoded, report, wait=work.server_session is None)


def _inserted(work: AsyncUnitOfWork, mapping: ClassMap, keys: Iterable[Any]) -> None:
    """Note the keys of documents that a statement inserted, where a rollback takes them back."""
    if work.server_session is not None:
        work.tracker.undo.statement_inserted(mapping.collection, keys)


async def insert_objects(work: AsyncUnitOfWork, objects: Sequence[Document], report: Progress | None) -> Written:
    """Insert new objects without tracking them."""
    groups = by_class(objects)
    if any(mapping.relationships for mapping in groups):
        objects = with_referred(objects, work.tracker, work.history)
        groups = by_class(objects)
    await _compute(work, groups, report)
    works = [
        Work(mapping, group, (dump_all if mapping.artifacts else dump_new)(mapping, group))
        for mapping, group in groups.items()
    ]
    try:
        await work.artifacts.store(works)
    finally:
        work.artifacts.changes.clear()
    plan = plan_flush(works, others=await work.others(groups))
    await work.carry_out(plan)
    for one in works:
        _inserted(work, one.mapping, one.keys)
    if len(works) == 1 and works[0].mapping.key.type.plain:
        return Written(inserted_keys=works[0].keys)
    return Written(inserted_keys=[getattr(instance, class_map(type(instance)).key.attribute) for instance in objects])
