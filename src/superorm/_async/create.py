"""Making what the classes declare."""

from __future__ import annotations

from collections.abc import Sequence

from superorm._async.vector_indexes import AsyncVectorIndexes
from superorm.protocols._async.parts import AsyncDataBackend
from superorm.protocols.reports import CreateReport
from superorm.schema.indexes import declared_indexes, index_differences
from superorm.schema.mapping import ClassMap, class_map
from superorm.schema.registry import default_registry

__all__ = ["create_all", "mapped_documents"]


def mapped_documents(classes: Sequence[type]) -> list[ClassMap]:
    """The given document classes, or all that are declared. Raises `MappingError`."""
    return [class_map(cls) for cls in classes] if classes else list(default_registry)


async def create_all(backend: AsyncDataBackend, vectors: AsyncVectorIndexes, classes: Sequence[type]) -> CreateReport:
    """Make collections, indexes and vector indexes; report what is there but differs."""
    created: list[str] = []
    differences: list[str] = []
    present = await backend.collection_names()
    for mapping in mapped_documents(classes):
        collection = mapping.collection
        assert collection is not None
        if collection not in present:
            await backend.create_collection(collection)
            present.add(collection)
            created.append(f"collection {collection}")
        existing = await backend.indexes(collection)
        differences += index_differences(mapping, existing)
        known = {tuple(index["key"].items()) for index in existing}
        for index in declared_indexes(mapping):
            if index.keys not in known:
                await backend.create_index(collection, index.keys, unique=index.unique)
                created.append(f"index {collection} {dict(index.keys)}")
        for _, _, spec in mapping.vectors:
            await vectors.ensure(spec)
    return CreateReport(created, differences)
