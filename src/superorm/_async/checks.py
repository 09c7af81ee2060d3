"""The check of a DB."""

from __future__ import annotations

from collections.abc import Sequence

from superorm._async.artifact_references import AsyncFieldReferences
from superorm._async.blobs import AsyncBlobs
from superorm._async.components import AsyncComponents
from superorm._async.create import declared_collections, look, mapped_documents, vector_specs
from superorm._async.listener_checks import AsyncListenerChecks
from superorm._async.vector_indexes import AsyncVectorIndexes
from superorm.artifacts.reference import Reference
from superorm.compile.plan import Find
from superorm.components.model import Model
from superorm.components.records import LIVE
from superorm.exc import CorruptArtifactError
from superorm.protocols._async.parts import AsyncDataBackend
from superorm.protocols.reports import CheckReport
from superorm.vectors.records import INDEXES

__all__ = ["check"]


async def check(
    backend: AsyncDataBackend,
    components: AsyncComponents,
    blobs: AsyncBlobs,
    vectors: AsyncVectorIndexes,
    listeners: AsyncListenerChecks,
    classes: Sequence[type],
) -> CheckReport:
    """Everything that is not as it should be. Nothing is changed but records that dead processes left open."""
    problems: list[str] = []
    records = await components.records()
    references: list[Reference] = []
    for record in records:
        name = " ".join(map(str, record.owner))
        try:
            reference = record.reference
        except CorruptArtifactError as error:
            problems.append(f"{name}: {error}")
            continue
        if reference is not None:
            references.append(reference)
            problems += [f"{name}: {problem}" for problem in await blobs.check([reference])]
    there = {record.named for record in records}
    problems += [
        f"{' '.join(map(str, record.owner))}: it needs the {child}, which is not there"
        for record in records
        for child in record.needs
        if child not in there
    ]
    mappings = mapped_documents(classes)
    present: set[str] = set()
    for declared in declared_collections(mappings):
        if plan := await look(backend, declared):
            problems += [*plan.missing(declared), *plan.differences]
            present.add(declared.collection)
    specs = [spec for spec in vector_specs(mappings) if spec.collection in present]
    for spec in specs:
        problems += [str(problem) for problem in await vectors.check(spec)]
    newest: dict[str, int] = {}
    for record in records:
        if record.kind == Model.kind and record.state == LIVE:
            newest[record.name] = max(record.version, newest.get(record.name, 0))
    made = Find(INDEXES, {"_id": {"$in": [spec.name for spec in specs]}, "kind": "index"}, sort=[("_id", 1)])
    recorded = await backend.read(made) if specs else []
    classes_below = [one for mapping in mappings for one in (mapping, *mapping.subclasses)]
    models = {field.spec: field.declared.model for mapping in classes_below for field in mapping.vectors}
    known = {index["_id"] for index in recorded}
    for spec in [spec for spec in specs if newest.get(models[spec] or "", 0) and spec.name not in known]:
        if await backend.read(Find(spec.collection, {spec.path: {"$ne": None}}, {"_id": 1}, limit=1)):
            problems.append(
                f"{spec.name}: which version of the model {models[spec]!r} made its vectors is not recorded"
            )
    for index in recorded:
        if newest.get(index["model"], 0) > index["version"]:
            problems.append(
                f"{index['_id']}: its vectors are made by version {index['version']} of the model {index['model']!r}, "
                f"which searches and writes keep, but there is version {newest[index['model']]}"
            )
        if index.get("placing"):
            problems.append(
                f"{index['_id']}: some vectors may not be of version {index['version']} of the model "
                f"{index['model']!r} yet, as without transactions they are put in place one after the other; "
                "if no rebuild is at it, rebuild(..., reencode=True) goes on"
            )
        if index.get("moving"):
            problems.append(
                f"{index['_id']}: some vectors of version {index['version']} of the model {index['model']!r} still "
                "wait beside their documents, which makes searches slower; if no rebuild is at it, "
                "rebuild(..., reencode=True) goes on"
            )
    problems += await listeners.check()
    fields = AsyncFieldReferences(backend, blobs)
    problems += await fields.check([mapping for mapping in mappings if mapping.collection in present])
    return CheckReport(problems, await blobs.orphans(references, await fields.used()))
