"""Blobs: stored once by content, referred to by hash, decoded only when trusted."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from superorm._io import aio
from superorm.artifacts.codecs import Codec, codec_named
from superorm.artifacts.reference import Reference
from superorm.artifacts.registry import REGISTRY, BlobConflictError, Uploaded, is_blob_conflict, registry_write
from superorm.artifacts.signing import Keyring, Owner, Trust, check_trust
from superorm.compile.plan import Find
from superorm.exc import ArtifactError, ArtifactNotFoundError, CorruptArtifactError, DuplicateKeyError
from superorm.protocols._async.parts import AsyncArtifactStore, AsyncMetaDataStore
from superorm.unitofwork.writes import Write

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

__all__ = ["AsyncBlobs", "Uploaded", "is_blob_conflict"]


class AsyncBlobs:
    """An artifact store with its registry in the metadata store.

    `keyring` is called when something is signed or verified.
    """

    def __init__(
        self,
        metadata: AsyncMetaDataStore,
        store: AsyncArtifactStore,
        keyring: Callable[[], Keyring],
        trust: Trust = "signed",
    ) -> None:
        self._metadata = metadata
        self._store = store
        self._keyring = keyring
        self._trust: Trust = trust

    async def prepare(self) -> None:
        """Make the registry's collection, which a transaction should not have to."""
        await self._metadata.create_collection(REGISTRY)

    async def upload(self, data: bytes) -> Uploaded:
        """Put the bytes into the store, unless the registry has them: the first half of a commit.

        A commit that fails afterwards leaves at most a blob that nothing refers to.
        Raises ``ArtifactSavingError``, and ``ConfigurationError`` before anything is stored where it cannot be signed.
        """
        self._keyring()
        sha256 = await aio.in_thread(_sha256, data)
        found = await self._registered(sha256)
        if found is not None and found["state"] == "live":
            return Uploaded(sha256, len(data), found["key"], found)
        key = secrets.token_hex(16)
        await self._store.put(key, [data])
        return Uploaded(sha256, len(data), key, found)

    async def register(self, uploads: Sequence[Uploaded], *, session: AsyncClientSession | None = None) -> None:
        """Write the registry for a commit that refers to the blobs, in its transaction where there are any.

        Raises an error of which `is_blob_conflict` says whether to upload again and retry.
        """
        try:
            result = await self._metadata.write(write := registry_write(uploads), session=session)
        except DuplicateKeyError as error:
            raise BlobConflictError(f"blob {error.key} was condemned: upload it again", key=error.key) from error
        if result.matched != len(write.ops):
            raise BlobConflictError("a blob was condemned or removed: upload it again")

    async def commit(self, uploaded: Uploaded, writes: Iterable[Write]) -> None:
        """Register the blob and write the metadata that refers to it, as one.

        Where there are no transactions the metadata comes last, so that no reference dangles after a crash.
        Raises as `register` does, and what the writes raise.
        """
        if not (await self._metadata.capabilities()).transactions:
            await self.register([uploaded])
            for write in writes:
                await self._metadata.write(write)
            return
        async with self._metadata.transaction() as session:
            await self.register([uploaded], session=session)
            for write in writes:
                await self._metadata.write(write, session=session)

    def reference(self, uploaded: Uploaded, codec: Codec, owner: Owner) -> Reference:
        """What the owner stores to refer to the blob, signed where there is a key."""
        reference = Reference(uploaded.sha256, uploaded.size, codec.name, codec.version)
        return self._keyring().sign(reference, owner)

    async def load(self, reference: Reference, owner: Owner) -> Any:
        """The object that a reference of this owner refers to.

        Nothing is read before the reference is found trustworthy, nothing decoded before its hash is right.
        Raises ``UntrustedArtifactError``, ``ArtifactNotFoundError``, ``CorruptArtifactError``,
        and ``ArtifactError`` where the codec fails.
        """
        codec = codec_named(reference.codec, reference.codec_version)
        if codec.carries_code:
            check_trust(reference, owner, self._keyring(), self._trust)
        name = " ".join(map(str, owner))
        try:
            data = await self._read(reference.sha256)
        except ArtifactError as error:
            raise type(error)(f"the artifact of {name}: {error}", key=error.key) from error
        try:
            return await aio.in_thread(codec.decode, data)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise ArtifactError(f"the artifact of {name} is intact, but cannot be decoded here: {reason}") from error

    async def check(self, references: Iterable[Reference]) -> list[str]:
        """What is wrong with the blobs that are referred to, a sentence each; every blob is read."""
        problems: list[str] = []
        for sha256 in sorted({reference.sha256 for reference in references}):
            try:
                await self._read(sha256)
            except ArtifactError as error:
                problems.append(str(error))
        return problems

    async def orphans(self, references: Iterable[Reference]) -> list[str]:
        """Blobs that nothing refers to, a phrase each; one whose commit is under way counts as such until then."""
        used = {reference.sha256 for reference in references}
        stored = await self._store.keys()
        registered = {document["key"]: document["_id"] for document in await self._metadata.read(Find(REGISTRY))}
        lost = [
            f"{key} in {self._store.uri}, of {time:%Y-%m-%d %H:%M}" for key, time in stored if key not in registered
        ]
        return lost + [f"{sha256} as {key}" for key, sha256 in registered.items() if sha256 not in used]

    async def _registered(self, sha256: str) -> dict[str, Any] | None:
        found = await self._metadata.read(Find(REGISTRY, {"_id": sha256}))
        return found[0] if found else None

    async def _read(self, sha256: str) -> bytes:
        """The bytes of a blob, which have this hash."""
        found = await self._registered(sha256)
        if found is None:
            raise ArtifactNotFoundError(f"{self._metadata.name}.{REGISTRY} has no blob {sha256}", key=sha256)
        key: str = found["key"]
        chunks: list[bytes] = []
        digest = hashlib.sha256()
        hasher = ThreadPoolExecutor(1)  # hashing takes as long as reading; beside it, it costs no time
        try:
            async for chunk in self._store.get(key):
                chunks.append(chunk)
                hasher.submit(digest.update, chunk)
        finally:
            await aio.in_thread(hasher.shutdown)
        actual = digest.hexdigest()
        if actual != sha256:
            raise CorruptArtifactError(
                f"{self._store.uri}: the bytes of blob {key} are not those that were stored: "
                f"their SHA-256 is {actual}, not {sha256}",
                key=key,
            )
        return b"".join(chunks)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
