# pyright: reportMissingTypeStubs=false
"""Blobs in a bucket, by boto3's transfers: in parts, several at once. Blocking; safe for threads."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import datetime
from itertools import chain
from typing import IO, Any, cast

from superorm.artifacts.blob_keys import check_key
from superorm.exc import ArtifactError, ArtifactNotFoundError, ArtifactSavingError, ConfigurationError
from superorm.s3_address import S3Address

__all__ = ["Download", "S3Objects", "s3_client"]

_SUFFIX = ".blob"
_PART_BYTES = 8 << 20
"""Of an upload or download that is cut into parts; smaller ones are not cut."""
_AT_ONCE = 8
"""So many parts are on their way, and in memory, at the same time."""
_DOWNLOADS = 3
"""So often a part is asked for whose answer does not come whole; each of these calls is repeated too."""
_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})


def s3_client(address: S3Address) -> Any:
    """A client of the address, with credentials as boto3 finds them. Raises ``ConfigurationError``."""
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise ConfigurationError(
            "s3:// needs boto3, which is not installed: pip install 'superorm-mongodb[s3]'"
        ) from error
    endpoint, region = address.endpoint(os.environ), address.region(os.environ)
    said = {
        "connect_timeout": address.seconds("connect_timeout"),
        "read_timeout": address.seconds("timeout"),
        "retries": None if address.retries is None else {"total_max_attempts": address.retries + 1},
    }
    config = Config(**{name: value for name, value in said.items() if value is not None})
    return cast("Any", boto3).client("s3", endpoint_url=endpoint, region_name=region, config=config)


class S3Objects:
    """The objects ``<prefix>/<key>.blob`` of a bucket, by a client of boto3. Other objects are left alone."""

    def __init__(self, client: Any, address: S3Address) -> None:
        from boto3.exceptions import Boto3Error
        from boto3.s3.transfer import TransferConfig
        from botocore.exceptions import BotoCoreError, ClientError
        from s3transfer.exceptions import RetriesExceededError

        self._client = client
        self._place = {"Bucket": address.bucket}
        self._prefix = f"{address.prefix}/" if address.prefix else ""
        self._uri = address.uri
        self._errors: tuple[type[Exception], ...] = (
            BotoCoreError,
            ClientError,
            OSError,
            Boto3Error,
            RetriesExceededError,  # a download that ended too early again and again
            KeyError,  # an answer whose headers ended too early
            _SourceFailed,
        )
        self._uploads = TransferConfig(
            multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES, max_concurrency=_AT_ONCE
        )
        # Small blobs too are asked for by a range: where an answer is cut off, boto3 asks for it again,
        # and of an object that it asks for as a whole it would give a pipe twice what has come before.
        self._downloads = TransferConfig(
            multipart_threshold=1,
            multipart_chunksize=_PART_BYTES,
            max_concurrency=_AT_ONCE,
            num_download_attempts=_DOWNLOADS,
            io_chunksize=1 << 20,
            max_io_queue=_AT_ONCE,
        )

    def _named(self, key: str) -> dict[str, str]:
        """Where a blob is. Raises `ValueError` for a key that is no plain name: `keys` would not list it."""
        check_key(key)
        return {**self._place, "Key": f"{self._prefix}{key}{_SUFFIX}"}

    def put(self, key: str, chunks: Iterable[bytes]) -> int:
        """Store the bytes under a new key; the number of bytes. A failed upload leaves nothing behind.

        Raises ``ArtifactSavingError``, and what the chunks raise.
        """
        source = _Source(chunks)
        try:
            if self._is_there(key):
                raise ArtifactSavingError(f"{self._uri}: the key {key} is in use", key=key)
            self._client.upload_fileobj(source, **self._named(key), Config=self._uploads)
        except self._errors as error:
            if source.failure is not None:
                raise source.failure from None
            if _code(error) == "NoSuchUpload" and self._holds(key, source.length):
                return source.length  # the answer that it is complete did not come, so boto3 asked again
            raise ArtifactSavingError(
                f"{self._uri}: the blob {key} cannot be stored: {_reason(error)}", key=key
            ) from error
        return source.length

    def _is_there(self, key: str) -> bool:
        try:
            self._client.head_object(**self._named(key))
        except self._errors as error:
            if _code(error) in _MISSING:
                return False
            raise
        return True

    def _holds(self, key: str, length: int) -> bool:
        """Whether a blob of that length is known to be there."""
        with suppress(*self._errors):
            return bool(length == self._client.head_object(**self._named(key)).get("ContentLength"))
        return False

    def fetch(self, key: str, sink: IO[bytes]) -> None:
        """Write the blob's bytes, in order. Raises ``ArtifactNotFoundError``, ``ArtifactError``."""
        try:
            self._client.download_fileobj(**self._named(key), Fileobj=sink, Config=self._downloads)
        except self._errors as error:
            if _code(error) in _MISSING:
                raise ArtifactNotFoundError(f"{self._uri} has no blob {key}", key=key) from error
            raise ArtifactError(f"{self._uri}: the blob {key} cannot be read: {_reason(error)}", key=key) from error

    def delete(self, key: str) -> None:
        """Remove the blob, a half-written one too. Raises ``ArtifactError``."""
        name = self._named(key)["Key"]
        try:
            self._client.delete_object(**self._named(key))
            for upload in self._unfinished(name):
                if upload["Key"] == name:
                    self._abort(key, upload["UploadId"])
        except self._errors as error:
            raise ArtifactError(f"{self._uri}: the blob {key} cannot be removed: {_reason(error)}", key=key) from error

    def _abort(self, key: str, upload: str) -> None:
        try:
            self._client.abort_multipart_upload(**self._named(key), UploadId=upload)
        except self._errors as error:
            if _code(error) != "NoSuchUpload":  # it is gone: boto3 asked again after an answer that did not come
                raise

    def keys(self) -> list[tuple[str, datetime]]:
        """The key of every blob, half-written ones too, with the time of its upload. Raises ``ArtifactError``."""
        try:
            pages = self._client.get_paginator("list_objects_v2").paginate(**self._place, Prefix=self._prefix)
            objects = [(one["Key"], one["LastModified"]) for page in pages for one in page.get("Contents", [])]
            unfinished = [(one["Key"], one["Initiated"]) for one in self._unfinished(self._prefix)]
        except self._errors as error:
            raise ArtifactError(f"{self._uri} cannot be listed: {_reason(error)}") from error
        found = {name.removeprefix(self._prefix): uploaded for name, uploaded in chain(unfinished, objects)}
        return [
            (name.removesuffix(_SUFFIX), uploaded)
            for name, uploaded in found.items()
            if name.endswith(_SUFFIX) and "/" not in name
        ]

    def _unfinished(self, prefix: str) -> Iterator[dict[str, Any]]:
        pages = self._client.get_paginator("list_multipart_uploads").paginate(**self._place, Prefix=prefix)
        return (upload for page in pages for upload in page.get("Uploads", []))


class Download:
    """A blob's bytes, read in order while a thread fetches those that follow, not far ahead."""

    def __init__(self, objects: S3Objects, key: str) -> None:
        reader, writer = os.pipe()
        self._reader = os.fdopen(reader, "rb")
        self._thread = ThreadPoolExecutor(1)
        self._fetching = self._thread.submit(self._fetch, objects, key, os.fdopen(writer, "wb"))

    @staticmethod
    def _fetch(objects: S3Objects, key: str, writer: IO[bytes]) -> None:
        with closing(writer):
            objects.fetch(key, writer)

    def read(self, size: int) -> bytes:
        """So many bytes, fewer at the end only. Raises ``ArtifactNotFoundError``, ``ArtifactError``."""
        found = self._reader.read(size)
        if len(found) < size:
            self._fetching.result()
        return found

    def close(self) -> None:
        """End the download."""
        self._reader.close()  # so that the thread's next write fails
        self._thread.shutdown()


class _SourceFailed(Exception):
    """The chunks could not be had: no error that boto3 would try again for."""


class _Source:
    """Chunks as a file to read from."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")
        self.length = 0
        self.failure: BaseException | None = None

    def read(self, size: int = -1) -> bytes:
        """So many bytes, fewer at the end only; all that are left without a number."""
        size = sys.maxsize if size < 0 else size
        parts: list[memoryview] = []
        while size:
            if not self._rest:
                try:
                    chunk = next(self._chunks, None)
                except BaseException as error:
                    self.failure = error
                    raise _SourceFailed from error
                if chunk is None:
                    break
                self._rest = memoryview(chunk)
            part, self._rest = self._rest[:size], self._rest[size:]
            parts.append(part)
            size -= len(part)
            self.length += len(part)
        return b"".join(parts)


def _code(error: Exception) -> str | None:
    """The code of an answer of the store that is an error."""
    response: dict[str, Any] = getattr(error, "response", None) or {}  # None where no answer came
    code: str | None = response.get("Error", {}).get("Code")
    return code


def _reason(error: Exception) -> str:
    """What an error says, or the last one of several attempts."""
    if isinstance(error, KeyError):
        return f"the answer has no {error.args[0]}"
    return str(getattr(error, "last_exception", error))
