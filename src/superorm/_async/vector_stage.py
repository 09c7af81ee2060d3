"""Reading vectors that wait beside the documents while an index is switched to another version of its model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import evolve

from superorm.codec.keys import decode_key, encode_key
from superorm.codec.vectors import decode_rows, value_at
from superorm.compile.plan import Find
from superorm.schema.vector_spec import VectorSpec
from superorm.vectors.mirror import without_parts
from superorm.vectors.records import Moving, in_parts
from superorm.vectors.request import SearchRequest
from superorm.vectors.staged import STAGE, staged_id, stands, with_vectors

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

    from superorm.protocols._async.parts import AsyncDataBackend

__all__ = ["as_moved", "move_in", "waiting"]

_IDS = 4_000


async def waiting(
    backend: AsyncDataBackend,
    spec: VectorSpec,
    moving: Moving | None,
    ids: Sequence[Any],
    *,
    session: AsyncClientSession | None,
) -> dict[int, Any]:
    """The stored vectors of the version that wait for these documents and stand, by their positions.

    Only those that are the documents' vectors, in place of their own.
    """
    if moving is None or not ids:
        return {}
    positions = {encode_key(id): position for position, id in enumerate(ids)}
    vectors: dict[int, Any] = {}
    for part in in_parts(dict(zip(positions, ids, strict=True)), _IDS):
        plan = Find(STAGE, {"_id": {"$in": [staged_id(spec.name, moving, id) for id in part]}})
        staged = [one for one in await backend.read(plan, session=session) if one["d"]]
        if not staged:
            continue
        by_key = {encode_key(one["_id"]["k"]): one for one in staged}
        shown = dict.fromkeys(without_parts(one["s"] for one in staged), 1)
        sources = Find(spec.collection, {"_id": {"$in": [one["_id"]["k"] for one in staged]}}, shown)
        for document in await backend.read(sources, session=session):
            key = encode_key(document["_id"])
            if stands(by_key[key], document):
                vectors[positions[key]] = by_key[key]["d"][0]
    return vectors


async def move_in(
    backend: AsyncDataBackend,
    spec: VectorSpec,
    moving: Moving | None,
    documents: Sequence[Mapping[str, Any]],
    *,
    session: AsyncClientSession | None,
) -> None:
    """Put what waits into documents that were read in the session, in place of their own vectors."""
    ids = [document["_id"] for document in documents] if moving is not None else []
    with_vectors(documents, spec.path, await waiting(backend, spec, moving, ids, session=session))


async def as_moved(
    backend: AsyncDataBackend, request: SearchRequest, moving: Moving | None, session: AsyncClientSession | None
) -> SearchRequest:
    """The request, by the vector that the document has whose object is the query, if it has one.

    That of the object was perhaps read before the switch, or before the one that waited was put in its place.
    """
    spec = request.spec
    if moving is None or request.leave_out is None:
        return request
    documents = await backend.read(
        Find(spec.collection, {"_id": decode_key(request.leave_out)}, {spec.path: 1}), session=session
    )
    await move_in(backend, spec, moving, documents, session=session)
    rows, _ = decode_rows([value_at(document, spec.path) for document in documents], spec.dim)
    return evolve(request, query=rows[0]) if len(rows) else request
