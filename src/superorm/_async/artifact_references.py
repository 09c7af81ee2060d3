"""Looking through the references in artifact fields."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import aclosing
from typing import Any

from superorm._async.blobs import AsyncBlobs
from superorm.artifacts.fields import located, reference_of
from superorm.artifacts.reference import Reference
from superorm.codec.vectors import value_at
from superorm.compile.plan import Find
from superorm.exc import ArtifactError, ArtifactNotFoundError
from superorm.protocols._async.parts import AsyncDataBackend
from superorm.schema.mapping import ClassMap, MappedField

__all__ = ["AsyncFieldReferences"]

_BATCH = 1000


class AsyncFieldReferences:
    """The references that documents hold."""

    def __init__(self, backend: AsyncDataBackend, blobs: AsyncBlobs) -> None:
        self._backend = backend
        self._blobs = blobs
        self._checked: dict[str, list[str]] = {}

    async def check(self, mappings: Iterable[ClassMap]) -> list[str]:
        """What is wrong with the artifacts of classes of documents, a sentence each; every blob is read, once."""
        problems: list[str] = []
        for mapping in mappings:
            for part in mapping.artifacts:
                plan = Find(
                    str(mapping.collection),
                    {part.stored: {"$ne": None}, **mapping.type_filter()},
                    {part.stored: 1},
                    sort=[("_id", 1)],
                )
                async with aclosing(self._backend.stream(plan, batch_size=_BATCH)) as batches:
                    async for documents in batches:
                        for document in documents:
                            problems += await self._problems(mapping, part, document)
        return problems

    async def _problems(self, mapping: ClassMap, part: MappedField, document: dict[str, Any]) -> list[str]:
        try:
            reference = reference_of(part, document)
        except ArtifactError as error:
            return [str(located(error, mapping, part, document["_id"]))]
        found = [] if reference is None else await self._of_blob(reference)
        return [str(located(ArtifactNotFoundError(problem), mapping, part, document["_id"])) for problem in found]

    async def _of_blob(self, reference: Reference) -> list[str]:
        if reference.sha256 not in self._checked:
            self._checked[reference.sha256] = await self._blobs.check([reference])
        return self._checked[reference.sha256]

    async def used(self) -> set[str]:
        """The hashes in all fields that ever held references, of classes that are not known here too."""
        used: set[str] = set()
        for place in await self._blobs.facts.places():
            plan = Find(place.collection, {place.path: {"$exists": True}}, {place.path: 1, "_id": 0})
            async with aclosing(self._backend.stream(plan, batch_size=_BATCH)) as batches:
                async for documents in batches:
                    used.update(str(value_at(document, place.path)) for document in documents)
        return used
