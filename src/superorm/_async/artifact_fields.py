"""The artifact fields of a session's documents: stored before these are written, and read when asked for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import evolve

from superorm._async.artifact_changes import AsyncArtifactChanges
from superorm._io import aio
from superorm.artifacts.codecs import Codec
from superorm.artifacts.encodings import Encoded
from superorm.artifacts.fields import Pending, Wanted, located, owner_of, pending, place_of
from superorm.artifacts.reference import Reference
from superorm.artifacts.registry import Uploaded
from superorm.compile.undeferred import Undeferred
from superorm.exc import ArtifactError, UnsupportedError
from superorm.schema.mapping import ClassMap, MappedField, class_map
from superorm.schema.state import RAW, TOUCHED, is_unloaded, not_loaded

if TYPE_CHECKING:
    from superorm._async.unit_of_work import AsyncUnitOfWork
    from superorm.unitofwork.flush import Work

__all__ = ["AsyncArtifactFields"]

_AT_ONCE = 4
"""So many objects are encoded and uploaded at once, in an event loop."""


class AsyncArtifactFields:
    """What a unit of work uploads, registers and reads. Nothing is sent where no artifact is written."""

    def __init__(self, work: AsyncUnitOfWork) -> None:
        self._work = work
        self.changes = AsyncArtifactChanges()
        self._uploads: dict[str, Uploaded] = {}
        """What was uploaded since the last commit or rollback, by hash."""
        self.earlier: dict[str, Uploaded] = {}
        """What was uploaded for commits that did not come, by hash: its bytes may be there still."""
        self._unregistered: dict[str, Uploaded] = {}
        """What is to be registered with the next writes."""
        self._registered: set[str] = set()
        """The hashes that the open transaction has registered."""
        self.late: set[str] = set()
        """The physical keys of what was uploaded after the open transaction began, which cannot see that."""

    async def store(self, works: Iterable[Work]) -> None:
        """Upload the artifacts of what is about to be written, and put references in their places.

        Raises `ArtifactSavingError` that names class, key and field, and `UnsupportedError` where blobs are
        registered elsewhere than in the documents' database.
        """
        found = pending(works)
        if not found:
            return
        await self._check(found[0])
        for place in {place_of(one.mapping, one.part): None for one in found}:
            await self._work.db.blobs.facts.learn_place(place)
        groups: dict[tuple[int, str | None], list[Pending]] = {}
        for one in found:
            groups.setdefault((id(one.held.value), one.held.codec), []).append(one)
        locks: defaultdict[str, aio.Lock] = defaultdict(aio.Lock)
        await aio.each(partial(self._store_object, locks), groups.values(), min(_AT_ONCE, len(groups)))

    async def _check(self, one: Pending) -> None:
        db = self._work.db
        await self._work.ready()
        await db.prepare()
        if not self._registered_here():
            metadata, backend = db.parts.metadata, db.parts.data_backend
            raise UnsupportedError(
                f"{one.mapping.name}.{one.part.attribute}: artifact fields need the documents and the metadata in one "
                f"database of one client, and here they are in {backend!r} and {metadata!r}",
                document_class=one.mapping.cls,
                field=one.part.attribute,
            )

    def _registered_here(self) -> bool:
        """Whether blobs are registered in the documents' database, in their transactions."""
        metadata, backend = self._work.db.parts.metadata, self._work.db.parts.data_backend
        return metadata.shares_transactions_with(backend) and metadata.name == backend.name

    async def _store_object(self, locks: Mapping[str, aio.Lock], places: Sequence[Pending]) -> None:
        """Store an object that is in several places; who stores bytes holds the lock of their hash."""
        for one in places:
            try:
                encoded = await self.changes.encoded(one.held, self._uploads)
                async with locks[encoded.sha256]:
                    uploaded = await self._uploaded(encoded)
                self._refer(one, encoded, uploaded)
            except ArtifactError as error:
                raise located(error, one.mapping, one.part, one.key) from error

    async def _uploaded(self, encoded: Encoded) -> Uploaded:
        sha256 = encoded.sha256
        uploaded = self._uploads.get(sha256)
        if uploaded is None:
            assert encoded.data is not None
            uploaded = await self._work.db.blobs.upload_known(encoded.data, sha256, self.earlier.get(sha256))
            self._uploads[sha256] = uploaded
            if self._work.server_session is not None and uploaded.is_new:
                self.late.add(uploaded.key)
        encoded.data = None
        return uploaded

    def _refer(self, one: Pending, encoded: Encoded, uploaded: Uploaded) -> None:
        """Put a reference in an object's place, to be registered."""
        before = self._unregistered.get(encoded.sha256)
        self._unregistered[encoded.sha256] = uploaded if before is None else evolve(before, uses=before.uses + 1)
        owner = owner_of(one.mapping, one.part, one.key)
        one.put(self._work.db.blobs.reference(uploaded, encoded.codec, owner))

    async def register(self) -> None:
        """Register what was uploaded, before the documents that refer to it are written, in their transaction."""
        if not self._unregistered:
            return
        uploads = [self._again(one) for one in self._unregistered.values()]
        await self._work.db.blobs.register(uploads, session=self._work.server_session, late=self.late)
        self._registered.update(self._unregistered)
        self._unregistered.clear()

    def _again(self, uploaded: Uploaded) -> Uploaded:
        """The same, which is only touched where an earlier flush of the transaction registered it."""
        if uploaded.sha256 not in self._registered:
            return uploaded
        return evolve(uploaded, found={"key": uploaded.key, "state": "live"})

    async def release(self, hashes: Iterable[str]) -> None:
        """Begin the grace periods of what documents refer to no more, in their transaction.

        Where blobs are registered elsewhere, these documents' are not among them.
        """
        if self._registered_here():
            await self._work.db.blobs.released(hashes, self._work.server_session)

    async def confirm(self) -> None:
        """The transaction is about to be committed. Raises `BlobConflictError` where an upload was given up."""
        await self._work.db.blobs.facts.renew(self.late)

    def aborted(self) -> None:
        """The transaction is begun again: what was registered in it is not registered any more."""
        self._registered.clear()
        self.late.clear()
        self._unregistered.clear()

    def committed(self) -> None:
        """The transaction is over, and what was uploaded for it is stored."""
        self.aborted()
        self._uploads.clear()
        self.earlier.clear()

    def rolled_back(self) -> None:
        """The transaction is over, and what was uploaded for it may be uploaded for the next one."""
        self.aborted()
        self.earlier |= {sha256: one for sha256, one in self._uploads.items() if one.is_new}
        self._uploads.clear()
        self.changes.clear()

    async def read(self, mapping: ClassMap, part: MappedField, document: dict[str, Any]) -> Any:
        """The artifact that a document refers to. Raises what `AsyncSession.load` raises, which names it."""
        (value,) = await self._read([Wanted(mapping, part, document)])
        return value

    async def load(self, fields: Iterable[tuple[object, MappedField]]) -> None:
        """Read fields of objects where they were neither read nor assigned."""
        lacking: dict[tuple[int, str], tuple[object, Wanted]] = {}
        for instance, part in fields:
            mapping, state = class_map(type(instance)), vars(instance)
            if part.attribute in state or state.get(TOUCHED, 0) & part.bit:
                continue
            raw: dict[str, Any] = state[RAW]
            if is_unloaded(part, state):
                raise not_loaded(mapping, part, raw)
            if raw.get(part.stored) is not None:  # touching it reads nothing
                lacking[id(instance), part.attribute] = instance, Wanted(mapping, part, raw)
        values = await self._read([wanted for _, wanted in lacking.values()])
        for (instance, wanted), value in zip(lacking.values(), values, strict=True):
            state, part = vars(instance), wanted.part
            if state.get(RAW) is wanted.document and part.attribute not in state:
                setattr(instance, part.attribute, value)
                setattr(instance, TOUCHED, state.get(TOUCHED, 0) | part.bit)

    async def undefer(self, columns: Iterable[Undeferred], rows: Sequence[Sequence[Any]]) -> None:
        """`load` for the documents in columns of rows that have the fields."""
        fields: list[tuple[Any, MappedField]] = []
        for column in columns:
            objects: list[object] = [
                row[column.position] for row in rows if isinstance(row[column.position], column.owner)
            ]
            fields += [(one, class_map(type(one)).by_attribute[column.attribute]) for one in objects]
        await self.load(fields)

    async def _read(self, wanted: Sequence[Wanted]) -> list[Any]:
        """The artifacts; those of a blob are decoded one after the other, so that it is read once."""
        if not wanted:
            return []
        work, blobs = self._work, self._work.db.blobs
        await work.ready()
        groups: dict[tuple[str, str, int], list[tuple[int, Wanted, Reference, Codec]]] = {}
        for position, one in enumerate(wanted):
            with one.named():
                reference = one.reference()
                name = reference.sha256, reference.codec, reference.codec_version
                groups.setdefault(name, []).append((position, one, reference, blobs.trusted(reference, one.owner)))
        found = await blobs.registered([*dict.fromkeys(sha256 for sha256, *_ in groups)], work.server_session)
        values: list[Any] = [None] * len(wanted)
        for group in groups.values():
            _, first, reference, codec = group[0]
            with first.named():
                decode = await blobs.decoder(reference, codec, first.owner, found)
            for position, one, *_ in group:
                with one.named():
                    values[position] = await blobs.decoded(decode, one.owner)
        return values
