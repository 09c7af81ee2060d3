"""Making what the classes declare."""

from __future__ import annotations

from collections.abc import Sequence

from superorm._async.vector_indexes import AsyncVectorIndexes
from superorm.exc import MappingError, UnsupportedError, WriteError
from superorm.protocols._async.parts import AsyncDataBackend
from superorm.protocols.reports import CreateReport
from superorm.schema.mapping import ClassMap, class_map
from superorm.schema.registry import Registry, default_registry
from superorm.schema.vector_spec import VectorSpec
from superorm.unitofwork.collection_plan import CollectionPlan, Declared, Present, declared_by, plan_collection

__all__ = ["create_all", "declared_collections", "look", "mapped_documents", "vector_specs"]


def mapped_documents(classes: Sequence[type]) -> list[ClassMap]:
    """The given document classes, or all that are declared. Raises `MappingError`."""
    mappings = [class_map(cls) for cls in classes] if classes else list(default_registry)
    for mapping in mappings:
        if mapping.collection is None:
            raise MappingError(f"{mapping.name} is an Embedded, which has no collection", document_class=mapping.cls)
    return mappings


def declared_collections(mappings: Sequence[ClassMap]) -> list[Declared]:
    """What is declared for the collections of the given classes, by these and all others of their registries."""
    found: dict[str, dict[type, ClassMap]] = {}
    for mapping in mappings:
        assert mapping.collection is not None
        registry: Registry = getattr(mapping.cls, "__superorm_registry__", default_registry)
        others = [other for other in registry if other.collection == mapping.collection]
        found.setdefault(mapping.collection, {}).update({other.cls: other for other in (*others, mapping)})
    return [declared_by(collection, list(classes.values())) for collection, classes in found.items()]


def vector_specs(mappings: Sequence[ClassMap]) -> list[VectorSpec]:
    """The vector indexes of the given classes and their subclasses, each once."""
    classes = [one for mapping in mappings for one in (mapping, *mapping.subclasses)]
    return list(dict.fromkeys(field.spec for mapping in classes for field in mapping.vectors))


async def look(backend: AsyncDataBackend, declared: Declared) -> CollectionPlan | None:
    """What the database lacks of what is declared for a collection; None where the collection is not there."""
    options = await backend.collection_options(declared.collection)
    if options is None:
        return None
    indexes = [] if "viewOn" in options else await backend.indexes(declared.collection)
    return plan_collection(declared, Present(options, indexes))


async def create_all(backend: AsyncDataBackend, vectors: AsyncVectorIndexes, classes: Sequence[type]) -> CreateReport:
    """Make collections, indexes, validators and vector indexes; report what is there but differs."""
    created: list[str] = []
    differences: list[str] = []
    mappings = mapped_documents(classes)
    for declared in declared_collections(mappings):
        await _create(backend, declared, created, differences)
    for spec in vector_specs(mappings):
        report = await vectors.create(spec)
        created += report.created
        differences += report.differences
    return CreateReport(created, differences)


async def _create(backend: AsyncDataBackend, declared: Declared, created: list[str], differences: list[str]) -> None:
    collection = declared.collection
    plan = await look(backend, declared)
    if plan is None:
        await backend.create_collection(collection)
        created.append(f"collection {collection}")
        plan = await look(backend, declared)
        assert plan is not None
    differences += plan.differences
    for index in plan.indexes:
        try:
            await backend.create_index(collection, index.keys, **index.options)
        except UnsupportedError as error:
            differences.append(f"{index.where}: {error}")
        except WriteError:
            found = await _made_meanwhile(backend, declared, index.name, plan)
            if found is None:
                raise
            differences += found
        else:
            created.append(f"index {collection} {dict(index.keys)}")
    if plan.validation is not None:
        try:
            await backend.modify_collection(collection, plan.validation)
        except UnsupportedError as error:
            differences.append(f"{declared.classes}.__validate__: {error}")
        else:
            created.append(f"validator {collection}")


async def _made_meanwhile(
    backend: AsyncDataBackend, declared: Declared, name: str, before: CollectionPlan
) -> list[str] | None:
    """The differences of an index that another process made otherwise; None where none did."""
    plan = await look(backend, declared)
    if plan is None or any(index.name == name for index in plan.indexes):
        return None
    return [difference for difference in plan.differences if difference not in before.differences]
