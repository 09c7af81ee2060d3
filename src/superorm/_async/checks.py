"""The check of a DB."""

from __future__ import annotations

from collections.abc import Sequence

from superorm._async.blobs import AsyncBlobs
from superorm._async.components import AsyncComponents
from superorm._async.create import declared_collections, look, mapped_documents, vector_specs
from superorm._async.vector_indexes import AsyncVectorIndexes
from superorm.artifacts.reference import Reference
from superorm.exc import CorruptArtifactError
from superorm.protocols._async.parts import AsyncDataBackend
from superorm.protocols.reports import CheckReport

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
    mappings = mapped_documents(classes)
    present: set[str] = set()
    for declared in declared_collections(mappings):
        if plan := await look(backend, declared):
            problems += [*plan.missing(declared), *plan.differences]
            present.add(declared.collection)
    for spec in vector_specs(mappings):
        if spec.collection in present:
            problems += [str(problem) for problem in await vectors.check(spec)]
    return CheckReport(problems, await blobs.orphans(references))
