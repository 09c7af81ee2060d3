"""Computing vectors of documents that are stored, and showing the session's objects what is stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from superorm._async.encoding_ahead import SOURCES
from superorm.artifacts.fields import loaded
from superorm.compile.plan import Find
from superorm.exc import SuperormError
from superorm.schema.mapping import ClassMap
from superorm.schema.vector_fields import VectorField, vector_fields
from superorm.schema.vector_spec import VectorPath
from superorm.unitofwork.encode import key_batches
from superorm.unitofwork.errors import of_class
from superorm.unitofwork.identity import identity
from superorm.unitofwork.statement_writes import need_of, vector_updates
from superorm.unitofwork.writes import Update

if TYPE_CHECKING:
    from superorm._async.unit_of_work import AsyncUnitOfWork

__all__ = ["computed_of", "recompute", "recompute_outdated", "refresh"]


def computed_of(
    mappings: Iterable[ClassMap], touched: Mapping[VectorPath, Sequence[Any]]
) -> dict[VectorField, Sequence[Any]]:
    """The computed fields of the classes' collections whose indexes are touched, with the keys."""
    fields = (field for mapping in mappings for field in vector_fields(mapping))
    return {field: touched[field.spec] for field in fields if field.source is not None and field.spec in touched}


async def recompute(work: AsyncUnitOfWork, field: VectorField, keys: Sequence[Any]) -> None:
    """Compute the vectors of stored documents from their sources."""
    assert field.source is not None
    collection = cast("str", field.mapping.collection)
    for part in key_batches(keys, SOURCES):
        filter = {"_id": {"$in": list(part)}, **field.mapping.type_filter()}
        plan = Find(collection, filter, dict.fromkeys(field.needed_of(field.source), 1))
        found = await work.backend.read(plan, session=work.server_session)
        need, without = need_of(field, found)
        if need.objects:
            await work.db.vector_models.compute([need], work.encoded)
        updates = vector_updates(field, need, without, in_transaction=work.server_session is not None)
        if updates:
            try:
                await work.backend.write(Update(collection, updates), session=work.server_session)
            except SuperormError as error:
                raise of_class(error, field.mapping) from error


async def recompute_outdated(work: AsyncUnitOfWork, computed: Mapping[VectorField, Sequence[Any]]) -> bool:
    """Once vectors are stored outside a transaction: recompute them while another version takes the place of theirs.

    Who puts another version in place records it first, and then goes through all documents:
    so either it finds these, or its version is found here. Whether there was one.
    """
    recomputed = False
    while work.server_session is None and await work.db.vector_models.outdated(work.encoded):
        recomputed = True
        for field, keys in computed.items():
            await recompute(work, field, keys)
    return recomputed


async def refresh(work: AsyncUnitOfWork, collection: str | None, keys: Sequence[Any]) -> None:
    """Let the session's objects show what is stored now."""
    tracked = work.tracker.of_collection(collection)
    wanted = [key for key in keys if identity(key) in tracked] if tracked else []
    for part in key_batches(wanted):
        plan = Find(cast("str", collection), {"_id": {"$in": list(part)}})
        found = await work.backend.read(plan, session=work.read_session)
        pairs = [(instance, one) for one in found for instance in tracked[identity(one["_id"])]]
        changes = work.artifacts.changes
        await changes.look(loaded([instance for instance, _ in pairs]))
        with changes.known():
            work.tracker.undo.refreshed(pairs)
        changes.clear()
        work.events.loads.refreshed([instance for instance, _ in pairs])
