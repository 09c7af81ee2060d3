"""The check of a DB."""

from __future__ import annotations

from collections.abc import Sequence

from superorm._async.blobs import AsyncBlobs
from superorm._async.components import AsyncComponents
from superorm._async.create import mapped_documents
from superorm._async.vector_indexes import AsyncVectorIndexes
from superorm.artifacts.reference import Reference
from superorm.exc import CorruptArtifactError
from superorm.protocols._async.parts import AsyncDataBackend
from superorm.protocols.reports import CheckReport
from superorm.schema.indexes import index_differences, missing_indexes

__all__ = ["check"]


async def check(
    backend: AsyncDataBackend,
    components: AsyncComponents,
    blobs: AsyncBlobs,
    vectors: AsyncVectorIndexes,
    classes: Sequence[type],
) -> CheckReport:
    """Everything that is not as it should be. Nothing is changed but records that dead processes left open."""
    problems: list[str] = []
    records = await components.records()
    references: list[Reference] = []
    for record in records:
        name = " ".join(map(str, record.owner))
        try:
            references.append(record.reference)
        except CorruptArtifactError as error:
            problems.append(f"{name}: {error}")
        else:
            problems += [f"{name}: {problem}" for problem in await blobs.check(references[-1:])]
    present = await backend.collection_names()
    for mapping in mapped_documents(classes):
        if mapping.collection not in present:
            continue
        existing = await backend.indexes(mapping.collection)
        problems += missing_indexes(mapping, existing)
        problems += index_differences(mapping, existing)
        for _, _, spec in mapping.vectors:
            problems += [str(problem) for problem in await vectors.check(spec)]
    return CheckReport(problems, await blobs.orphans(references))
