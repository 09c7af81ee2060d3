"""Running selects: plain finds and vector searches."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import evolve, frozen

from superorm._async.vector_indexes import AsyncVectorIndexes
from superorm._async.vector_models import AsyncVectorModels
from superorm._io import aio
from superorm.compile.compiler import CompiledSelect, LikePlan
from superorm.compile.plan import Aggregate, Find, Read
from superorm.exc import StatementError, SuperormError, UnsupportedError, ValidationError, VectorError
from superorm.protocols._async.parts import AsyncDataBackend
from superorm.protocols.reports import Explanation
from superorm.schema.document import Document
from superorm.schema.mapping import ClassMap
from superorm.schema.types.base import Misfit
from superorm.unitofwork.errors import key_value
from superorm.unitofwork.identity import identity
from superorm.unitofwork.rows import rows_of
from superorm.vectors.request import Hit, Hits, SearchRequest

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

__all__ = ["AsyncQueries", "Found"]

_NAMING_BATCH = 1000
_NO_NUMBERS = frozenset("cmMSU")
"""Kinds of arrays that numpy would turn into float32, though they hold complex numbers, times or texts."""
_STAGES_OF_DOCUMENTS = frozenset({"$graphLookup", "$limit", "$lookup", "$match", "$set", "$skip", "$sort", "$unwind"})
"""After them the rows still have the keys of the statement's own documents, unless `$set` changes these."""


@frozen
class Found:
    """The documents of a select, in order, with the scores that a vector search gave."""

    documents: Sequence[dict[str, Any]]
    scores: Sequence[float] | None = None
    explanation: Explanation | None = None
    """How a vector search went."""


class AsyncQueries:
    """Carries out compiled selects."""

    def __init__(self, backend: AsyncDataBackend, vectors: AsyncVectorIndexes, models: AsyncVectorModels) -> None:
        self._backend = backend
        self._vectors = vectors
        self._models = models

    async def run(self, compiled: CompiledSelect, session: AsyncClientSession | None) -> Found:
        """The documents that the select finds.

        `session` is that of the open transaction, if there is one.
        Raises `VectorError` for a query vector of the wrong shape or not finite, before any search.
        """
        if compiled.like is None:
            return Found(await self._backend.read(compiled.read, session=session))
        request = await self._request(compiled, compiled.like)

        async def finish(hits: Hits, session: AsyncClientSession | None) -> Found:
            return await self._finish(compiled, hits, session)

        return await self._vectors.search(request, finish, session=session)

    async def explain(self, compiled: CompiledSelect) -> Explanation:
        """How the select runs, and the server's own plan: of a vector search that of its first read of documents.

        A vector search is run for it; one that finds no candidate reads none.
        Raises `UnsupportedError` for another select where the backend has no plans.
        """
        if compiled.like is None:
            strategy = "find" if isinstance(compiled.read, Find) else "aggregate"
            return Explanation(strategy, (compiled.read,), details=await self._backend.explain(compiled.read))
        found = (await self.run(compiled, None)).explanation
        assert found is not None
        if not found.reads:
            return found
        try:
            plan: object = await self._backend.explain(found.reads[0])
        except UnsupportedError as error:
            plan = str(error)
        return evolve(found, details={**(found.details or {}), "plan": plan})

    async def stream(
        self, compiled: CompiledSelect, session: AsyncClientSession | None, batch_size: int
    ) -> AsyncGenerator[Found]:
        """The same in batches; of accumulators over nothing, which have a row, one that is empty."""
        if compiled.like is not None:
            yield await self.run(compiled, session)
            return
        some = False
        async with aclosing(self._backend.stream(compiled.read, session=session, batch_size=batch_size)) as batches:
            async for batch in batches:
                some = some or bool(batch)
                yield Found(batch)
        if not some and compiled.default_row is not None:
            yield Found([])

    async def named(
        self, compiled: CompiledSelect, session: AsyncClientSession | None, error: ValidationError
    ) -> ValidationError:
        """The error about a stored value, with the key of its document, which a select of fields does not read.

        The read is repeated with the key, up to the first document that does not fit.
        The error stays as it is where a row is not of one document, or the documents have changed meanwhile.
        """
        again = None if error.key is not None or compiled.like is not None else _with_key(compiled.read)
        if again is None:
            return error
        try:
            async with aclosing(self._backend.stream(again, session=session, batch_size=_NAMING_BATCH)) as batches:
                async for found in batches:
                    rows_of(compiled, found, None, _as_they_are)
        except ValidationError as named:
            return named
        except SuperormError:
            return error
        return error

    async def _request(self, compiled: CompiledSelect, plan: LikePlan) -> SearchRequest:
        query, leave_out = await self._query_vector(compiled, plan)
        projection = None
        if compiled.find.projection is not None:
            projection = {path: 1 for path, shown in compiled.find.projection.items() if shown} or {"_id": 1}
        return SearchRequest(
            spec=plan.spec,
            query=query,
            k=plan.like.k,
            filter=dict(plan.filter) or None,
            exact=plan.like.exact,
            min_score=plan.like.min_score,
            leave_out=leave_out,
            projection=projection,
        )

    async def _query_vector(self, compiled: CompiledSelect, plan: LikePlan) -> tuple[Any, Any]:
        """The vector to search for, and the key of the document to leave out, if the query is one."""
        query = plan.like.query
        if isinstance(query, Document):
            if not isinstance(query, compiled.mapping.cls):
                raise StatementError(f"like() got a {type(query).__name__}; give a {compiled.mapping.name}")
            vector = getattr(query, plan.part.attribute)
            key = getattr(query, compiled.mapping.key.attribute)
            if vector is None:
                raise VectorError(
                    f"{compiled.mapping.name} {key!r} has no {plan.part.attribute} to search with",
                    document_class=compiled.mapping.cls,
                    key=key,
                    field=plan.part.attribute,
                )
            return _numbers(vector, "like() got"), key_value(compiled.mapping, key)
        if isinstance(query, (list, tuple, np.ndarray)) or hasattr(query, "__array__"):
            return _numbers(query, "like() got"), None
        if plan.declared.model is None:
            raise StatementError(
                f"like() got {type(query).__name__} {query!r:.80}, but {plan.part.where} is not computed by a model; "
                f"give a vector of {plan.spec.dim} numbers"
            )
        assert plan.declared.source is not None
        source = compiled.mapping.by_attribute[plan.declared.source]
        try:
            fits = query is not None and source.type.to_bson(query) is not None
        except Misfit:
            fits = False
        if not fits:
            raise StatementError(
                f"like() got {type(query).__name__} {query!r:.80}, but {plan.part.where} is computed from "
                f"{source.where}; give a value of its type"
            )
        if isinstance(query, str) and not query.strip():
            raise VectorError(f"like() got the text {query!r:.80}, which is blank and near to nothing; give some words")
        model = await self._models.model(plan.spec, plan.declared.model)
        (vector,) = await aio.in_thread(model.predict, [query])
        return _numbers(vector, f"model {plan.declared.model!r} returned"), None

    async def _finish(self, compiled: CompiledSelect, found: Hits, session: AsyncClientSession | None) -> Found:
        """What follows the search in the statement, over the documents that it found."""
        find = compiled.find
        hits: Sequence[Hit] = found
        reads: list[Read] = []
        if hits and (find.filter or find.sort):
            among = {"_id": {"$in": [hit.key for hit in hits]}}
            filter = {"$and": [among, find.filter]} if find.filter else among
            again = Find(find.collection, filter, {"_id": 1}, find.sort)
            reads.append(again)
            by_key = {identity(hit.key): hit for hit in hits}
            kept = [identity(document["_id"]) for document in await self._backend.read(again, session=session)]
            if find.sort:
                hits = [by_key[key] for key in kept]
            else:
                chosen = set(kept)
                hits = [hit for key, hit in by_key.items() if key in chosen]
        if compiled.by_score:
            hits = sorted(hits, key=lambda hit: hit.score, reverse=compiled.by_score[0] < 0)
        stop = find.skip + find.limit if find.limit else None
        hits = hits[find.skip : stop]
        return Found([hit.document for hit in hits], [hit.score for hit in hits], _explanation(found, reads))


def _with_key(read: Read) -> Read | None:
    """The same read with the documents' keys; None where its rows have them, or are not of one document each."""
    if isinstance(read, Find):
        return evolve(read, projection={**read.projection, "_id": 1}) if read.projection else None
    if not isinstance(read, Aggregate) or not read.pipeline:
        return None
    *before, last = read.pipeline
    fields = last.get("$project", {})
    if fields.get("_id") != 0 or any(stage.keys() - _STAGES_OF_DOCUMENTS for stage in before):
        return None
    if any("_id" in stage.get("$set", ()) for stage in before):
        return None
    return evolve(read, pipeline=[*before, {"$project": {**fields, "_id": 1}}])


def _as_they_are(mapping: ClassMap, found: Sequence[dict[str, Any]], only: frozenset[str] | None) -> list[Any]:
    return list(found)


def _numbers(given: Any, whence: str) -> Any:
    """The same in float32, infinite where that is too small for it."""
    try:
        wide = np.asarray(given)
        if wide.dtype.kind not in _NO_NUMBERS:
            with np.errstate(over="ignore"):
                return wide.astype(np.float32, copy=False)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last by torch, of a tensor with a gradient
        pass
    raise VectorError(f"{whence} {given!r:.80}, which is no vector of real numbers")


def _explanation(found: Hits, reads: Sequence[Read]) -> Explanation:
    search = found.explanation
    details: dict[str, Any] = {"rows in memory": search.held}
    if search.matched is not None:
        details["more match than" if search.more else "documents that match"] = search.matched
    details |= {"version": search.version, "pending": search.pending, "candidates": search.candidates}
    details |= {"documents read": search.read, "engine calls": search.calls}
    return Explanation(search.strategy, [*search.reads, *reads], search.engine, details, search.why)
