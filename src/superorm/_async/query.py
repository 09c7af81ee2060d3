"""Running selects: plain finds and vector searches."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from attrs import evolve, frozen

from superorm._async.index_search import AsyncIndexSearch, shown_of
from superorm._async.listeners import AsyncListeners
from superorm._async.vector_indexes import AsyncVectorIndexes
from superorm._async.vector_models import AsyncVectorModels
from superorm._io import aio
from superorm.backends.errors import among_found
from superorm.codec.keys import encode_key
from superorm.compile.compiler import CompiledSelect
from superorm.compile.output_lookups import listened, with_versions
from superorm.compile.plan import Aggregate, Find, Read
from superorm.compile.searched import LikePlan, found_stages
from superorm.compile.serving import serving_index
from superorm.exc import BackendError, StatementError, SuperormError, UnsupportedError, ValidationError, VectorError
from superorm.protocols._async.parts import AsyncDataBackend
from superorm.protocols.reports import Explanation
from superorm.schema.document import Document
from superorm.schema.mapping import ClassMap
from superorm.schema.types.base import Misfit
from superorm.unitofwork.errors import key_value
from superorm.unitofwork.identity import identity
from superorm.unitofwork.like_query import check_words, is_vector, query_numbers
from superorm.unitofwork.rows import rows_of
from superorm.vectors.request import Hit, Hits, SearchRequest

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

__all__ = ["AsyncQueries", "Found"]

R = TypeVar("R", bound=Read)

_NAMING_BATCH = 1000
_VERSIONS = 4
"""How often a text is encoded for one search, where the version of the model changes meanwhile."""
_STAGES_OF_DOCUMENTS = frozenset({"$graphLookup", "$limit", "$lookup", "$match", "$set", "$skip", "$sort", "$unwind"})
"""After them the rows still have the keys of the statement's own documents, unless `$set` changes these."""


@frozen
class Found:
    """The documents of a select, in order, with the scores that a vector search gave."""

    documents: Sequence[dict[str, Any]]
    scores: Sequence[float] | None = None
    hits: Hits | None = None
    """What that found, with how it went."""
    reads: Sequence[Read] = ()
    """What was read after it."""


@frozen(eq=False)
class _Query:
    """What a vector search looks for."""

    vector: Any
    leave_out: str | None = None
    """The encoded key of the document that is the query, if it is one."""
    encoded: bool = False
    """Whether the field's model made the vector, in the version that the index has; None where it has none yet."""
    version: int | None = None


@frozen
class _OtherVersion:
    """The vectors that a search saw were made by another version than the query."""

    version: int | None


class AsyncQueries:
    """Carries out compiled selects."""

    def __init__(
        self,
        backend: AsyncDataBackend,
        vectors: AsyncVectorIndexes,
        models: AsyncVectorModels,
        listeners: AsyncListeners,
    ) -> None:
        self._backend = backend
        self._vectors = vectors
        self._models = models
        self._listeners = listeners

    async def with_outputs(self, read: R, session: AsyncClientSession | None) -> R:
        """A read with the versions of the listeners whose outputs it joins; these are brought up to date before.

        Raises `ComponentNotFoundError`, and the errors of computing outputs.
        """
        names = listened(read)
        if not names:
            return read
        versions = {name: await self._listeners.version(name, session) for name in names}
        return cast("R", with_versions(read, versions))

    async def run(self, compiled: CompiledSelect, session: AsyncClientSession | None) -> Found:
        """The documents that the select finds.

        `session` is that of the open transaction, if there is one.
        Raises `VectorError` for a query vector of the wrong shape or not finite, before any search.
        """
        if compiled.like is None:
            return Found(await self._backend.read(await self.with_outputs(compiled.read, session), session=session))
        compiled = evolve(compiled, read=await self.with_outputs(compiled.read, session))
        like = compiled.like
        assert like is not None
        if isinstance(like.on, str):
            search = AsyncIndexSearch(self._backend, self._vectors, self._listeners, compiled, like)
            return await search.run(partial(self._finish, compiled), session)
        version: int | None = None
        for _ in range(_VERSIONS):
            query = await self._query(compiled, like, version)

            async def finish(
                hits: Hits, session: AsyncClientSession | None, query: _Query = query
            ) -> Found | _OtherVersion:
                if query.encoded:
                    assert like.declared.model is not None
                    seen = await self._models.seen(like.spec, like.declared.model, session)
                    if seen != query.version:
                        return _OtherVersion(seen)
                return await self._finish(compiled, hits, session)

            found = await self._vectors.search(self._request(compiled, like, query), finish, session=session)
            if isinstance(found, Found):
                return found
            version = found.version
        raise BackendError(f"all vectors of {like.spec.name} are being encoded anew; search again")

    async def run_at_once(self, compiled: CompiledSelect) -> Found:
        """The documents that the select finds, all as they are at one moment where there are transactions."""
        if compiled.like is not None or not (await self._backend.capabilities()).transactions:
            return await self.run(compiled, None)
        compiled = evolve(compiled, read=await self.with_outputs(compiled.read, None))
        async with self._backend.transaction() as session:
            return await self.run(compiled, session)

    async def explain(self, compiled: CompiledSelect) -> Explanation:
        """How the select runs, and the server's own plan: of a vector search that of its first read of documents.

        A vector search is run for it; one that finds no candidate reads none.
        Raises `UnsupportedError` for another select where the backend has no plans.
        """
        if compiled.like is None:
            strategy = "find" if isinstance(compiled.read, Find) else "aggregate"
            read = await self.with_outputs(compiled.read, None)
            return Explanation(strategy, (read,), details=await self._backend.explain(read))
        ran = await self.run(compiled, None)
        assert ran.hits is not None
        found = _explanation(ran.hits, ran.reads)
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
        some, read = False, await self.with_outputs(compiled.read, session)
        async with aclosing(self._backend.stream(read, session=session, batch_size=batch_size)) as batches:
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
        if again is None or listened(again):
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

    def _request(self, compiled: CompiledSelect, plan: LikePlan, query: _Query) -> SearchRequest:
        return SearchRequest(
            spec=plan.spec,
            query=query.vector,
            k=plan.like.k,
            filter=dict(plan.filter) or None,
            exact=plan.like.exact,
            min_score=plan.like.min_score,
            leave_out=query.leave_out,
            projection=shown_of(compiled),
            num_candidates=plan.like.num_candidates,
            index=serving_index(compiled.mapping, plan.filter) if plan.spec.filter_fields else None,
        )

    async def _query(self, compiled: CompiledSelect, plan: LikePlan, version: int | None) -> _Query:
        """The vector to search for; of a text by this version of the field's model, or else the index's."""
        query = plan.like.query
        if isinstance(query, Document):
            if not isinstance(query, compiled.mapping.cls):
                raise StatementError(f"like() got a {type(query).__name__}; give a {compiled.mapping.name}")
            vector = getattr(plan.field.below(query), plan.field.part.attribute, None)
            key = getattr(query, compiled.mapping.key.attribute)
            if vector is None:
                raise VectorError(
                    f"{compiled.mapping.name} {key!r} has no {plan.field.attribute} to search with",
                    document_class=compiled.mapping.cls,
                    key=key,
                    field=plan.field.attribute,
                )
            return _Query(query_numbers(vector, "like() got"), encode_key(key_value(compiled.mapping, key)))
        if is_vector(query):
            return _Query(query_numbers(query, "like() got"))
        if plan.declared.model is None:
            raise StatementError(
                f"like() got {type(query).__name__} {query!r:.80}, but {plan.field.where} is not computed by a model; "
                f"give a vector of {plan.spec.dim} numbers"
            )
        source = plan.field.source
        assert source is not None
        try:
            fits = query is not None and source.type.to_bson(query) is not None
        except Misfit:
            fits = False
        if not fits:
            raise StatementError(
                f"like() got {type(query).__name__} {query!r:.80}, but {plan.field.where} is computed from "
                f"{source.where}; give a value of its type"
            )
        check_words(query)
        model, version = await self._models.query_model(plan.spec, plan.declared.model, version)
        (vector,) = await aio.in_thread(model.predict, [query])
        numbers = query_numbers(vector, f"model {plan.declared.model!r} returned")
        return _Query(numbers, encoded=True, version=version)

    async def _finish(self, compiled: CompiledSelect, found: Hits, session: AsyncClientSession | None) -> Found:
        """What follows the search in the statement, over the documents that it found."""
        if compiled.score is not None:
            assert isinstance(compiled.read, Aggregate)
            first = found_stages(compiled.score, [hit.key for hit in found], [hit.score for hit in found])
            whole = evolve(compiled.read, pipeline=[*first, *compiled.read.pipeline])
            with among_found(len(found)):
                return Found(await self._backend.read(whole, session=session), None, found, [whole])
        find = compiled.find
        hits: Sequence[Hit] = found
        reads: list[Read] = []
        if hits and (find.filter or find.sort):
            among = {"_id": {"$in": [hit.key for hit in hits]}}
            filter = {"$and": [among, find.filter]} if find.filter else among
            again = Find(find.collection, filter, {"_id": 1}, find.sort)
            reads.append(again)
            by_key = {identity(hit.key): hit for hit in hits}
            with among_found(len(found)):
                documents = await self._backend.read(again, session=session)
            kept = [identity(document["_id"]) for document in documents]
            if find.sort:
                hits = [by_key[key] for key in kept]
            else:
                chosen = set(kept)
                hits = [hit for key, hit in by_key.items() if key in chosen]
        if compiled.by_score:
            hits = sorted(hits, key=lambda hit: hit.score, reverse=compiled.by_score[0] < 0)
        stop = find.skip + find.limit if find.limit else None
        hits = hits[find.skip : stop]
        return Found([hit.document for hit in hits], [hit.score for hit in hits], found, reads)


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


def _explanation(found: Hits, reads: Sequence[Read]) -> Explanation:
    search = found.explanation
    details: dict[str, Any] = {} if search.searched is None else {"searched": search.searched}
    details["rows in memory"] = search.held
    if search.matched is not None:
        details["more match than" if search.more else "documents that match"] = search.matched
    if search.pushed is not None:
        details["pushed down"] = search.pushed
    if search.passing is not None:
        few = search.strategy == "gather"
        details["rows that pass" if few else "more rows pass than"] = search.passing
    details |= {"version": search.version, "pending": search.pending, "candidates": search.candidates}
    details |= {"documents read": search.read, "engine calls": search.calls}
    return Explanation(search.strategy, [*search.reads, *reads], search.engine, details, search.why)
