"""Removing components."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import suppress

from bson import ObjectId

from superorm._async.blobs import AsyncBlobs
from superorm._async.components import AsyncComponents
from superorm._async.metadata_units import unit
from superorm.artifacts.reference import Reference
from superorm.backends.errors import has_error_label
from superorm.compile.plan import Find
from superorm.components.base import Named
from superorm.components.listener import Listener
from superorm.components.model import Model
from superorm.components.records import COLLECTION, HIDDEN, LIVE, REMOVED, ComponentRecord
from superorm.components.removal import Removal, plan_removal
from superorm.components.vector_index import VectorIndex
from superorm.exc import ComponentInUseError, CorruptArtifactError, StaleDocumentError, SuperormError
from superorm.protocols._async.parts import AsyncDataBackend, AsyncMetaDataStore
from superorm.unitofwork.writes import Update, UpdateOp
from superorm.vectors.records import INDEXES

__all__ = ["AsyncRemoving", "references_of", "removal_of"]

_ATTEMPTS = 20
_HEARD = (Listener.kind, VectorIndex.kind)


class AsyncRemoving:
    """Removes components that nothing needs, and hides others by force."""

    def __init__(
        self, backend: AsyncDataBackend, metadata: AsyncMetaDataStore, blobs: AsyncBlobs, components: AsyncComponents
    ) -> None:
        self._backend = backend
        self._metadata = metadata
        self._blobs = blobs
        self._components = components

    async def remove(self, wanted: Named, *, force: bool, recursive: bool) -> None:
        """Remove a version, or all of them where none is given.

        Raises `ComponentNotFoundError`, and `ComponentInUseError` without `force`.
        """
        await self._components.record(wanted)  # raises where there is none
        for attempt in range(_ATTEMPTS):
            try:
                plan = await self._attempt(wanted, force, recursive)
            except SuperormError as error:
                passes = isinstance(error, StaleDocumentError) or has_error_label(error, "TransientTransactionError")
                if attempt == _ATTEMPTS - 1 or not passes:
                    raise
            else:
                if plan.hidden:
                    names = ", ".join(f"the {record.named}" for record in plan.hidden)
                    warnings.warn(f"hidden but kept, as needed by {', '.join(plan.users)}: {names}", stacklevel=3)
                return
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(self, wanted: Named, force: bool, recursive: bool) -> Removal:
        indexes = await self.indexes()
        async with unit(self._metadata) as session:
            records = await self._components.records(session=session)
            targets = [
                record
                for record in records
                if (record.kind, record.name, record.state) == (wanted.kind, wanted.name, LIVE)
                and wanted.version in {None, record.version}
            ]
            plan = plan_removal(records, targets, indexes, force=force, recursive=recursive)
            ops = [*map(removal_of, plan.removed), *(_change(record, HIDDEN) for record in plan.hidden)]
            for op in ops:  # one by one: where one is refused, what it needs is still there
                if (await self._metadata.write(Update(COLLECTION, [op]), session=session)).matched != 1:
                    raise StaleDocumentError("a component was changed at the same time; remove it again")
            await self._blobs.unused(references_of(plan.removed), session)
        return plan

    async def indexes(self) -> dict[Named, list[str]]:
        """The vector indexes that were made with each version of a model."""
        found: dict[Named, list[str]] = {}
        for index in await self._backend.read(Find(INDEXES, {"kind": "index"}, sort=[("_id", 1)])):
            found.setdefault(Named(Model.kind, index["model"], index["version"]), []).append(index["_id"])
        return found

    async def _listeners(self, named: Named) -> list[ComponentRecord]:
        """The listeners and vector indexes that need a component."""
        found = await self._components.records({"kind": {"$in": [*_HEARD]}, "state": {"$ne": REMOVED}})
        return [record for record in found if named in record.needs]

    async def check_replaceable(self, record: ComponentRecord) -> None:
        """Raise `ComponentInUseError` where vectors or outputs were made with it, which others would not fit."""
        users = [record] if record.kind in _HEARD else await self._listeners(record.named)
        if users:
            raise ComponentInUseError(
                f"the outputs of {', '.join(f'the {user.named}' for user in users)} were made with the {record.named}, "
                "so it cannot be replaced: add the next version",
                component=record.name,
            )
        indexes: Sequence[str] = (await self.indexes()).get(record.named, ())
        if indexes:
            raise ComponentInUseError(
                f"the {record.named} made the vectors of {', '.join(indexes)}, so it cannot be replaced: "
                "add it as the next version, and have them encoded anew by db.rebuild(..., reencode=True)",
                component=record.name,
            )


def references_of(records: Sequence[ComponentRecord]) -> list[Reference]:
    """What they referred to; a record whose reference cannot be read has nothing to begin a grace period for."""
    found: list[Reference] = []
    for record in records:
        with suppress(CorruptArtifactError):
            if (reference := record.reference) is not None:
                found.append(reference)
    return found


def removal_of(record: ComponentRecord) -> UpdateOp:
    """What removes it, unless it was changed since it was read."""
    nothing: dict[str, object] = {"content": "", "artifact": None, "params": {}, "children": [], "fit": None}
    return _change(record, REMOVED, nothing)


def _change(record: ComponentRecord, state: str, values: dict[str, object] | None = None) -> UpdateOp:
    guard = {"_id": record.id, "state": record.state, "touched": record.touched}
    return UpdateOp(q=guard, u={"$set": {"state": state, "touched": ObjectId(), **(values or {})}})
