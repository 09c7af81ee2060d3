"""LanceDB tables in a bucket. Blocking; safe for threads."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from bson import ObjectId

from superorm.exc import ConfigurationError
from superorm.s3_address import S3Address
from superorm.vectors.lance_directory import INDEX_CACHE, LanceDirectory, require_lancedb
from superorm.vectors.lance_rows import arrow_library

__all__ = ["LanceBucket"]

_IDENTITY = b"superorm.engine"
_ATTEMPTS = 3
_NOT_GIVEN = re.compile(
    r"Generic S3 error|Generic \{ store: \"S3\"|lacked the necessary privileges|lacked valid authentication"
)
"""How LanceDB says that the store failed, timed out or refused, unlike that there is no such thing."""


class LanceBucket(LanceDirectory):
    """The same below a prefix of a bucket, for all machines.

    LanceDB commits a version by a conditional write (``If-None-Match``), which the store must honour.
    """

    def __init__(self, address: S3Address, cached: int = INDEX_CACHE) -> None:
        super().__init__(address.uri, cached)
        self._address = address

    def open(self) -> str:
        """The engine id, which an empty table keeps whose name tells endpoint, bucket and prefix.

        So a copy of the bucket elsewhere is another engine.
        Raises ``ConfigurationError`` where lancedb is missing or the bucket cannot be used.
        """
        require_lancedb()
        self.close()
        place = f"{self._address.endpoint(os.environ) or ''} {self.where}"
        table = f"superorm-{hashlib.sha256(place.encode()).hexdigest()[:24]}"
        refused: Exception | None = None
        with self._using():
            for attempt in range(_ATTEMPTS):
                try:
                    self._engine = self._identity(table)
                    return self._engine
                except (OSError, RuntimeError, ValueError) as error:
                    if attempt + 1 == _ATTEMPTS:
                        raise (refused if refused is not None and "was not found" in str(error) else error) from None
                refused = self._identify(table)
        raise AssertionError("unreachable")

    def _identity(self, table: str) -> str:
        """The id that the first version has: of processes that make the table at once, the later write over it."""
        handle = self._connect().open_table(table)
        handle.checkout(1)
        return str(handle.schema.metadata[_IDENTITY], "ascii")

    def _identify(self, table: str) -> Exception | None:
        """Make the table of the engine id; why it could not be made, as where another has made it meanwhile."""
        pa, engine = arrow_library(), self._engine or f"lance_{ObjectId()}"
        schema = pa.schema([pa.field("key", pa.string())], metadata={_IDENTITY: engine.encode()})
        try:
            self._connect().create_table(table, schema=schema)
        except (OSError, RuntimeError, ValueError) as error:
            return error
        return None

    def _connected(self) -> Any:
        """A new connection, for which LanceDB lists the prefix once."""
        import lancedb

        with self._using():
            options = self._address.options(os.environ)
            return lancedb.connect(self.where, storage_options=options, session=self._session())

    @contextmanager
    def _using(self) -> Generator[None]:
        """Around all use of the bucket. Raises ``ConfigurationError``; LanceDB's own error may hold credentials."""
        try:
            yield
        except (OSError, RuntimeError, ValueError) as error:
            raise ConfigurationError(
                f"the vector database {self.where} cannot be used: {self._reason(error)}"
            ) from None

    def _lost(self, error: Exception) -> tuple[str, Exception | None]:
        """LanceDB's own error may hold credentials.

        Raises ``ConfigurationError`` where the bucket is not there, or the store does not give what may well be there.
        """
        with self._using():
            if _NOT_GIVEN.search(str(error)):
                raise error
        self._connect()
        return self._reason(error), None

    def _reason(self, error: Exception) -> str:
        return self._address.reason(error, os.environ)
