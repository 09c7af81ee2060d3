"""The documents that a filter matches, with what memory needs to know of the same snapshot, in one round trip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen

from superorm._async.vector_view import AsyncVectorCopies
from superorm.compile.plan import Aggregate, Read
from superorm.schema.vector_spec import VectorSpec
from superorm.vectors import planning
from superorm.vectors.memory_copy import MemoryCopy
from superorm.vectors.one_read import Together, whole_if_small, with_look
from superorm.vectors.records import Look
from superorm.vectors.request import SearchRequest

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

__all__ = ["AsyncMatchingLists", "Listing"]

_VERY_FEW = 32
"""Reading so many small documents takes no longer than to read their keys, and then those of the hits."""
_RECORDS = 100
"""So many records come in the first batch too."""


@frozen
class Listing:
    """What a search with a filter reads first."""

    look: Look
    ids: Sequence[Any] | None
    """The ``_id`` of each document that matches, at most one more than are few; None where that is not known."""
    read: Read
    documents: Sequence[dict[str, Any]] = ()
    """The documents that match, if they were read and are small: whole."""
    large: Sequence[dict[str, Any]] = ()
    """The others that were read: ``_id`` and vector."""


class AsyncMatchingLists:
    """Lists the documents that match.

    Where the last search of an index found very few, they are read at once.
    """

    def __init__(self, copies: AsyncVectorCopies) -> None:
        self._copies = copies
        self._very_few: set[VectorSpec] = set()

    async def read(self, copy: MemoryCopy, request: SearchRequest, session: AsyncClientSession) -> Listing:
        """What matches, with the state and the records, in a snapshot outside transactions."""
        spec, engine, since = request.spec, await self._copies.engine(), copy.n
        at_once = spec in self._very_few and request.projection is None
        limit = _VERY_FEW if at_once else planning.FEW
        stages: list[dict[str, Any]] = [
            {"$match": request.filter or {}},
            {"$limit": limit + 1},
            whole_if_small(spec.path) if at_once else {"$project": {"_id": 1}},
            with_look(spec.name, engine, since),
        ]
        read = Aggregate(spec.collection, stages, limit + 1 + _RECORDS)
        together = Together().add(await self._copies.backend.read(read, session=session))
        look, ids = together.look(engine, since), together.ids()
        if len(ids) <= _VERY_FEW:
            self._very_few.add(spec)
        else:
            self._very_few.discard(spec)
        if not at_once:
            return Listing(look, ids, read)
        if len(ids) > limit:
            return Listing(look, None, read)
        return Listing(look, ids, read, together.documents, together.large)
