"""What is searched for in a vector index of a listener's outputs, and the vectors of documents that changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import bson
from attrs import frozen

from superorm._async.listener_computing import predicted
from superorm._async.listeners import removed
from superorm._io import aio
from superorm.codec.keys import encode_key
from superorm.codec.outputs import output_of
from superorm.codec.vectors import Vector, decode_vector, real_float32
from superorm.compile.plan import Find
from superorm.components.base import Named
from superorm.components.kept import Kept, kept
from superorm.components.listened import Source
from superorm.components.listener import Listener
from superorm.components.model import Model
from superorm.components.outputs import State, stored_output
from superorm.components.vector_index import VectorIndex
from superorm.exc import ComponentNotFoundError, StatementError, VectorError
from superorm.schema.document import Document
from superorm.schema.expression_types import type_of
from superorm.schema.types.base import Misfit
from superorm.schema.vector_spec import VectorSpec
from superorm.unitofwork.encode import CODEC_OPTIONS, REFUSALS, key_batches
from superorm.unitofwork.errors import key_value
from superorm.unitofwork.like_query import check_words, is_vector, query_numbers

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

    from superorm.expr.stages import Like
    from superorm.protocols._async.parts import AsyncDataBackend
    from superorm.schema.mapping import ClassMap

__all__ = ["AsyncIndexQueries", "Chain"]

_BATCH = 1_000


@frozen
class Chain:
    """A vector index, and the listeners that its vectors come from."""

    named: Named
    index: VectorIndex
    spec: VectorSpec
    place: Kept
    ids: tuple[str, ...]
    """Of the states: the index's, and those of the listeners, the nearest first."""
    listeners: tuple[Listener, ...]
    """From the one that listens to documents on."""

    @classmethod
    def of(cls, state: State, index: object, ids: tuple[str, ...]) -> Chain:
        assert isinstance(index, VectorIndex)
        spec = state.spec
        assert spec is not None
        listeners: list[Listener] = []
        below: Listener | str | None = index.listener
        while isinstance(below, Listener):
            listeners.insert(0, below)
            below = below.listener
        return cls(state.named, index, spec, kept(state), ids, tuple(listeners))


class AsyncIndexQueries:
    """Makes vectors of what a statement searches for, and of documents."""

    def __init__(self, backend: AsyncDataBackend, mapping: ClassMap, like: Like) -> None:
        self._backend = backend
        self._mapping = mapping
        self._like = like

    def check(self, chain: Chain) -> None:
        """Raise `StatementError` where the index is of the documents of another collection."""
        of = chain.index.listened.mapping
        if of.collection != self._mapping.collection:
            raise StatementError(
                f"like(on={self._like.on!r}): the {chain.named} is of documents of {of.name}, not of "
                f"{self._mapping.name}",
                document_class=self._mapping.cls,
                component=chain.named.name,
            )

    def removed(self, chain: Chain) -> ComponentNotFoundError:
        """The error about an index that was removed meanwhile."""
        return removed(chain.named)

    async def query(
        self, chain: Chain, pending: Mapping[str, Any], session: AsyncClientSession | None
    ) -> tuple[Any, str | None]:
        """The vector to search for, and the encoded key of the document that is the query, if it is one.

        Raises `StatementError`, `VectorError`, `PredictionError`.
        """
        query = self._like.query
        if isinstance(query, Document):
            if not isinstance(query, self._mapping.cls):
                raise StatementError(f"like() got a {type(query).__name__}; give a {self._mapping.name}")
            key = key_value(self._mapping, getattr(query, self._mapping.key.attribute))
            vector = await self._vector_of(chain, key, pending, session)
            if vector is None:
                raise VectorError(
                    f"{self._mapping.name} {key!r} has no output in the {chain.named} to search with",
                    document_class=self._mapping.cls,
                    key=key,
                    component=chain.named.name,
                )
            return vector, encode_key(key)
        value = query if chain.index.model is not None else _as_read(chain.listeners[0], query)
        if is_vector(query) and _is_meant(chain, query, value):
            return query_numbers(query, "like() got"), None
        return await self._encoded(chain, query, value), None

    async def _vector_of(
        self, chain: Chain, key: Any, pending: Mapping[str, Any], session: AsyncClientSession | None
    ) -> Vector | None:
        if encode_key(key) in pending:
            return next((vector for _, vector in await self.vectors(chain, [key], session)), None)
        found = await self._backend.read(Find(chain.spec.collection, {"_id": key}), session=session)
        return decode_vector(found[0][chain.spec.path]) if found else None

    async def _encoded(self, chain: Chain, query: object, value: Any) -> Any:
        """What the models make of a value: the index's own, or those of the listeners, one after the other."""
        root, own = chain.listeners[0], chain.index.model
        given = f"like() got {type(query).__name__} {query!r:.80}"
        if query is None:
            raise StatementError(f"{given}; give a vector, a document, or what the models of the {chain.named} take")
        if value is None:
            raise StatementError(
                f"{given}, but the {chain.named} is made from {root.key!r}; give a value of its type, a vector or a "
                "document, or give the index a model of queries: VectorIndex(..., model=...)"
            )
        check_words(query)
        for position, model in enumerate([own] if own is not None else [one.model for one in chain.listeners]):
            assert isinstance(model, Model)
            if position:  # as the listener reads it
                value = output_of(stored_output(chain.named, query, value)[0])
            (value,) = await aio.in_thread(model.predict, [value])
            if value is None:
                raise VectorError(f"{given}, for which the {model.kind} {model.name!r} gives None: nothing is near it")
        return query_numbers(value, f"for {query!r:.80} the models of the {chain.named} returned")

    async def vectors(
        self, chain: Chain, keys: Sequence[Any], session: AsyncClientSession | None
    ) -> list[tuple[Any, Vector]]:
        """What the index is to hold of these documents, as the session sees them; of those that have an output.

        Raises `ValidationError` where a stored value does not fit, `PredictionError`.
        """
        root, found = chain.listeners[0], list[tuple[Any, Vector]]()
        for part in key_batches(keys, _BATCH):
            plan = root.listened.find_among(part)
            sources = root.listened.sources(await self._backend.read(plan, session=session))
            for listener in chain.listeners:
                named = Named(listener.kind, listener.name, listener.version)
                outputs: Sequence[Any] = await predicted(named, listener, sources) if sources else ()
                sources = [
                    Source(source.key, output_of(stored_output(named, source.key, output)[0]), b"")
                    for source, output in zip(sources, outputs, strict=True)
                    if output is not None
                ]
            for source in sources:
                stored, _ = chain.place.stored(self._mapping.name, source.key, source.value)
                vector = decode_vector(stored[chain.spec.path])
                assert vector is not None
                found.append((source.key, vector))
        return found


def _is_meant(chain: Chain, query: object, value: object) -> bool:
    """Whether a list or an array is a vector, and not the `value` that the models take: as one of the index is first.

    A model of queries takes other lists than of numbers.
    """
    numbers = real_float32(query)
    if numbers is not None and numbers.shape == (chain.spec.dim,):
        return True
    return value is None if chain.index.model is None else numbers is not None and numbers.ndim == 1


def _as_read(root: Listener, query: object) -> Any:
    """The query as it would be read from a document, in the field that the listener's model is given.

    None where it is no value of that.
    """
    kind = type_of(root.key)
    if kind is None:
        return None
    try:
        stored = kind.to_bson(query)
        data = bson.encode({"value": stored}, codec_options=CODEC_OPTIONS)
    except (Misfit, *REFUSALS):
        return None
    if stored is None:
        return None
    return kind.from_bson(bson.decode(data, CODEC_OPTIONS)["value"])  # pyright: ignore[reportUnknownMemberType]
