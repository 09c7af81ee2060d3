"""Having models encode what is about to be written, before the transaction that writes it begins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from superorm._io.progress import Progress
from superorm.compile.writes import UpdatePlan
from superorm.schema.document import Document
from superorm.schema.mapping import ClassMap, class_map
from superorm.schema.vector_fields import VectorField, vector_fields
from superorm.unitofwork.computed import needs
from superorm.unitofwork.sources_ahead import sources_after
from superorm.unitofwork.statement_writes import need_of
from superorm.unitofwork.tracking import by_class

if TYPE_CHECKING:
    from superorm._async.unit_of_work import AsyncUnitOfWork

__all__ = ["SOURCES", "encode_objects", "encode_sources"]

SOURCES = 4_000
"""How many documents' sources are read at once."""


async def encode_objects(
    work: AsyncUnitOfWork, objects: Sequence[Document], kinds: Iterable[type], report: Progress | None
) -> None:
    """Have the texts of new objects encoded, where the flush before them would begin the transaction.

    `kinds` are the classes of these.
    """
    if work.server_session is None and any(_computes(class_map(kind)) for kind in kinds) and work.has_changes():
        computed = [need for mapping, group in by_class(objects).items() for need in needs(mapping, group, ())]
        await work.db.vector_models.encode(computed, work.encoded, report)


def _computes(mapping: ClassMap) -> bool:
    """Whether a class has a computed vector field."""
    return any(field.source is not None for field in mapping.vectors)


async def encode_sources(work: AsyncUnitOfWork, plan: UpdatePlan, new: Mapping[str, Any] | None) -> None:
    """Have the texts encoded that an update is about to leave in sources; `new` is the document that it may insert."""
    for field in vector_fields(plan.mapping):
        if field.source is None or not field.follows(plan.paths):
            continue
        read = sources_after(field, plan)
        if read is None:
            continue
        if new is not None and isinstance(plan.update, dict):  # it has what the update gives to others too
            await _encode(work, field, [new])
            continue
        batches = work.backend.stream(read, session=work.read_session, batch_size=SOURCES)
        async with aclosing(batches) as parts:
            async for found in parts:
                await _encode(work, field, found)
                if work.encoded.full:
                    return


async def _encode(work: AsyncUnitOfWork, field: VectorField, found: Sequence[Mapping[str, Any]]) -> None:
    need, _ = need_of(field, found)
    await work.db.vector_models.encode([need], work.encoded)
