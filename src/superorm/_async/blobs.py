"""Blobs: stored once by content, referred to by hash, decoded only when trusted."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping, Sequence, Set
from contextlib import aclosing
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from superorm._async.blob_facts import AsyncBlobFacts
from superorm._async.blob_gc import AsyncCollection
from superorm._io import aio
from superorm.artifacts.codecs import Codec, FileCodec, codec_named
from superorm.artifacts.collecting import drop
from superorm.artifacts.reference import Reference
from superorm.artifacts.registry import REGISTRY, BlobConflictError, Uploaded, is_blob_conflict, registry_write
from superorm.artifacts.signing import Keyring, Owner, Trust, check_trust
from superorm.artifacts.streams import Chunks, Hasher, Readable, hashed, pieces
from superorm.compile.plan import Find
from superorm.exc import ArtifactError, ArtifactNotFoundError, CorruptArtifactError, DuplicateKeyError
from superorm.protocols._async.parts import AsyncArtifactStore, AsyncMetaDataStore, LocalFiles
from superorm.unitofwork.encode import key_batches
from superorm.unitofwork.writes import Update

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
        self.facts = AsyncBlobFacts(metadata)

    async def prepare(self) -> None:
        """Make the registry's collections, which a transaction should not have to."""
        await self._metadata.create_collection(REGISTRY)
        await self.facts.prepare()

    async def upload(self, data: bytes | Readable | Iterable[bytes] | AsyncIterable[bytes]) -> Uploaded:
        """Put the bytes into the store, unless the registry has them: the first half of a commit.

        They may be a binary file or come in chunks: then little of them is in memory at once,
        and the same bytes, which are known when all have come only, are removed again.
        A commit that fails afterwards leaves at most a blob that nothing refers to.
        Raises ``ArtifactSavingError``, what the chunks raise,
        and ``ConfigurationError`` before anything is stored where it cannot be signed.
        """
        self._keyring()
        if not isinstance(data, bytes):
            return await self._upload_stream(data)
        return await self.upload_known(data, await aio.in_thread(_sha256, data))

    async def upload_known(self, data: bytes, sha256: str, earlier: Uploaded | None = None) -> Uploaded:
        """The same with bytes whose hash is known, which may be there from an earlier upload whose commit never came.

        Where a collection has not given that up, it is gone on with.
        """
        self._keyring()
        found = (await self.registered([sha256])).get(sha256)
        if found is not None and found["state"] == "live":
            return Uploaded(sha256, len(data), found["key"], found)
        if earlier is not None and await self.facts.goes_on(earlier.key):
            return Uploaded(sha256, len(data), earlier.key, found)
        key = await self.facts.begin()
        await self._store.put(key, [data])
        return Uploaded(sha256, len(data), key, found)

    async def _upload_stream(self, chunks: Readable | Iterable[bytes] | AsyncIterable[bytes]) -> Uploaded:
        key = await self.facts.begin()
        hasher = Hasher()

        async def put(source: Chunks) -> None:
            await self._store.put(key, hashed(pieces(source), hasher))

        try:
            await aio.fed(put, chunks)
            sha256 = await aio.in_thread(hasher.sha256)
        except ArtifactError:
            if hasher.failure is not None:  # such as an OSError, which the store took for its own
                raise hasher.failure from None
            raise
        finally:
            await aio.in_thread(hasher.close)
        found = (await self.registered([sha256])).get(sha256)
        if found is not None and found["state"] == "live":
            await self._store.delete(key)
            await self.facts.forget(key)
            key = found["key"]
        return Uploaded(sha256, hasher.size, key, found)

    async def register(
        self, uploads: Sequence[Uploaded], *, session: AsyncClientSession | None = None, late: Set[str] = frozenset()
    ) -> None:
        """Write the registry for a commit that refers to the blobs, in its transaction where there are any.

        `late` are physical keys that were uploaded when the transaction was open already, so that it cannot see them
        as uploads, but claims them: `AsyncBlobFacts.renew` them right before the commit, which fails where one was
        given up before it was claimed.
        Raises an error of which `is_blob_conflict` says whether to upload again and retry.
        """
        if not uploads:
            return
        # First, for where there are no transactions: nobody may find a blob in the registry that was given up.
        new = [one.key for one in uploads if one.is_new]
        await self.facts.end([key for key in new if key not in late], session)
        await self.facts.claim([key for key in new if key in late], session)
        try:
            result = await self._metadata.write(write := registry_write(uploads), session=session)
        except DuplicateKeyError as error:
            raise BlobConflictError(f"blob {error.key} was condemned: upload it again", key=error.key) from error
        if result.matched != len(write.ops):
            raise BlobConflictError("a blob was condemned or removed: upload it again")

    async def unused(self, references: Iterable[Reference], session: AsyncClientSession | None) -> None:
        """Begin the grace periods of blobs that these referred to: in the commit that removes them."""
        if ops := [drop(reference.sha256) for reference in references]:
            await self._metadata.write(Update(REGISTRY, ops), session=session)

    async def released(self, hashes: Iterable[str], session: AsyncClientSession | None) -> None:
        """The same of blobs that others may refer to: of those that nothing else ever did.

        A collection begins the grace periods of the others when it finds that nothing refers to them.
        """
        if ops := [drop(sha256, only=True) for sha256 in hashes]:
            await self._metadata.write(Update(REGISTRY, ops), session=session)

    async def collect(self, grace: timedelta) -> Sequence[str]:
        """Remove blobs that nothing has referred to for so long; their physical keys."""
        return await AsyncCollection(self._metadata, self._store, self.facts, grace).run()

    def reference(self, uploaded: Uploaded, codec: Codec, owner: Owner) -> Reference:
        """What the owner stores to refer to the blob, signed where there is a key."""
        reference = Reference(uploaded.sha256, uploaded.size, codec.name, codec.version)
        return self._keyring().sign(reference, owner)

    def signed_anew(self, reference: Reference, owner: Owner) -> Reference | None:
        """The reference signed with the first key, where another one of the keys has signed it; else None."""
        keyring = self._keyring()
        again = keyring.sign(reference, owner)
        return again if again != reference and keyring.verifies(reference, owner) else None

    async def load(self, reference: Reference, owner: Owner, *, session: AsyncClientSession | None = None) -> Any:
        """The object that a reference of this owner refers to; the registry is read in a transaction, if any.

        Nothing is read before the reference is found trustworthy, nothing decoded before its hash is right.
        Raises ``UntrustedArtifactError``, ``ArtifactNotFoundError``, ``CorruptArtifactError``,
        and ``ArtifactError`` where the codec fails.
        """
        codec = self.trusted(reference, owner)
        found = await self.registered([reference.sha256], session)
        return await self.decoded(await self.decoder(reference, codec, owner, found), owner)

    def trusted(self, reference: Reference, owner: Owner) -> Codec:
        """The codec of a reference that may be decoded. Raises ``UntrustedArtifactError``, ``ArtifactError``."""
        codec = codec_named(reference.codec, reference.codec_version)
        if codec.carries_code:
            check_trust(reference, owner, self._keyring(), self._trust)
        return codec

    async def decoder(
        self, reference: Reference, codec: Codec, owner: Owner, found: Mapping[str, dict[str, Any]]
    ) -> Callable[[], Any]:
        """What gives the object of a blob, of which all was read and has its hash; each call gives another.

        `found` is what the registry has. Raises ``ArtifactNotFoundError``, ``CorruptArtifactError``.
        """
        try:
            return await self._decoder(self._known(reference.sha256, found), codec)
        except ArtifactError as error:
            raise _of_owner(error, owner) from error

    async def decoded(self, decode: Callable[[], Any], owner: Owner) -> Any:
        """The object. Raises ``ArtifactError`` where the codec fails."""
        try:
            return await aio.in_thread(decode)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise ArtifactError(
                f"the artifact of {_name(owner)} is intact, but cannot be decoded here: {reason}"
            ) from error

    async def open(self, reference: Reference, owner: Owner) -> AsyncGenerator[bytes]:
        """The bytes that a reference of this owner refers to, in chunks, few of them in memory at once.

        What is wrong with them shows at the end at the latest: they are not to be used before all have come.
        Raises ``ArtifactNotFoundError``, ``CorruptArtifactError``, and ``ArtifactError`` where the store fails.
        """
        try:
            async with aclosing(self._stream(await self._located(reference.sha256))) as chunks:
                async for chunk in chunks:
                    yield chunk
        except ArtifactError as error:
            raise _of_owner(error, owner) from error

    async def check(self, references: Iterable[Reference]) -> list[str]:
        """What is wrong with the blobs that are referred to, a sentence each; every blob is read."""
        problems: list[str] = []
        for sha256 in sorted({reference.sha256 for reference in references}):
            try:
                async with aclosing(self._stream(await self._located(sha256))) as chunks:
                    async for _ in chunks:
                        pass
            except ArtifactError as error:
                problems.append(str(error))
        return problems

    async def orphans(self, references: Iterable[Reference], others: Set[str] = frozenset()) -> list[str]:
        """Blobs that nothing refers to, a phrase each; one whose commit is under way counts as such until then.

        `others` are hashes that are referred to beside those of the references.
        """
        used = others | {reference.sha256 for reference in references}
        stored = await self._store.keys()
        ours = f"{await self.facts.registry()}-"  # others may keep theirs in the same place
        registered = {document["key"]: document["_id"] for document in await self._metadata.read(Find(REGISTRY))}
        lost = [
            f"{key} in {self._store.uri}, of {time:%Y-%m-%d %H:%M}"
            for key, time in stored
            if key.startswith(ours) and key not in registered
        ]
        return lost + [f"{sha256} as {key}" for key, sha256 in registered.items() if sha256 not in used]

    async def registered(
        self, hashes: Sequence[str], session: AsyncClientSession | None = None
    ) -> dict[str, dict[str, Any]]:
        """What the registry has of these hashes."""
        found: dict[str, dict[str, Any]] = {}
        for some in key_batches(hashes):
            filter = {"_id": {"$in": list(some)} if len(some) > 1 else some[0]}
            read = await self._metadata.read(Find(REGISTRY, filter), session=session)
            found.update((document["_id"], document) for document in read)
        return found

    async def _decoder(self, found: Mapping[str, Any], codec: Codec) -> Callable[[], Any]:
        if isinstance(codec, FileCodec) and isinstance(self._store, LocalFiles):
            head = await self._head(found, codec)
            return partial(codec.decode_file, head, self._store.file(found["key"]))
        async with aclosing(self._stream(found)) as chunks:
            return partial(codec.decode, b"".join([chunk async for chunk in chunks]))

    async def _head(self, found: Mapping[str, Any], codec: FileCodec) -> bytes:
        """The head of a blob, all of which has its hash."""
        head, wanted = b"", 8
        async with aclosing(self._stream(found)) as chunks:
            async for chunk in chunks:
                if len(head) < wanted:
                    head += chunk
                    wanted = codec.head(head)
        return head[:wanted]

    async def _located(self, sha256: str) -> dict[str, Any]:
        """What the registry has of the hash."""
        return self._known(sha256, await self.registered([sha256]))

    def _known(self, sha256: str, found: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        if sha256 not in found:
            raise ArtifactNotFoundError(f"{self._metadata.name}.{REGISTRY} has no blob {sha256}", key=sha256)
        return found[sha256]

    async def _stream(self, found: Mapping[str, Any]) -> AsyncGenerator[bytes]:
        """The bytes of a registered blob in chunks; after the last one it raises unless they have its hash."""
        key: str = found["key"]
        hasher = Hasher()  # hashing takes as long as reading; beside it, it costs no time
        try:
            async with aclosing(self._store.get(key)) as chunks:
                async for chunk in chunks:
                    hasher.update(chunk)
                    if hasher.size > found["size"]:
                        break
                    yield chunk
            actual = await aio.in_thread(hasher.sha256)
        finally:
            await aio.in_thread(hasher.close)
        if hasher.size != found["size"]:
            than = "more" if hasher.size > found["size"] else f"{hasher.size}, less"
            wrong = f"they are {than} than the {found['size']} that were stored"
        elif actual != found["_id"]:
            wrong = f"their SHA-256 is {actual}, not {found['_id']}"
        else:
            return
        raise CorruptArtifactError(
            f"{self._store.uri}: the bytes of blob {key} are not those that were stored: {wrong}", key=key
        )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _name(owner: Owner) -> str:
    return " ".join(map(str, owner))


def _of_owner(error: ArtifactError, owner: Owner) -> ArtifactError:
    return type(error)(f"the artifact of {_name(owner)}: {error}", key=error.key)
