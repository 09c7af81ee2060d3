"""What a vector search sees of an index in one snapshot, whatever the engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from attrs import frozen

from superorm._async.vector_records import AsyncVectorRecords
from superorm.protocols._async.parts import AsyncDataBackend
from superorm.schema.vector_spec import VectorSpec
from superorm.vectors.records import Look, Need
from superorm.vectors.request import SearchRequest
from superorm.vectors.rows import Nearest

__all__ = ["Answer", "AsyncVectorCopies", "AsyncVectorView"]


@frozen
class Answer:
    """The engine's answer for all keys but the pending ones, which are to be ranked from the documents."""

    nearest: Nearest
    pending: Mapping[str, Any]


class AsyncVectorView(Protocol):
    """An engine's copy of one index as one snapshot sees it."""

    need: Need | None
    """What should be done first, outside of the snapshot: build the copy, or apply the many records."""
    look: Look
    since: int | None
    """The publication after which stamped records were read too; None: only records not stamped."""

    async def nearest(self, request: SearchRequest, limit: int) -> Answer | None:
        """The `limit` nearest keys; None where the copy cannot tell, so that the documents must be ranked.

        Raises ``VersionLost``.
        """
        ...


class AsyncVectorCopies(Protocol):
    """The copies that one engine keeps of a database's vectors."""

    backend: AsyncDataBackend
    records: AsyncVectorRecords

    async def engine(self) -> str:
        """The engine's id."""
        ...

    async def ensure(self, spec: VectorSpec) -> None: ...

    async def view(self, spec: VectorSpec, session: Any, *, outside: bool) -> AsyncVectorView:
        """What a search sees; `outside` tells that the session is no transaction."""
        ...

    async def apply(self, spec: VectorSpec, *, patience: float | None = None) -> None: ...

    async def rebuild(self, spec: VectorSpec, progress: Any = None) -> None: ...

    async def differences(self, spec: VectorSpec) -> Mapping[str, str]:
        """The canonical keys where the copy differs from the documents, each with how. Raises ``VersionLost``."""
        ...
