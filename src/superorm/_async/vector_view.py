"""What a vector search sees of an index in one snapshot, whatever the engine."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from attrs import frozen

from superorm._async.vector_ahead import AsyncAhead
from superorm._async.vector_records import AsyncVectorRecords
from superorm._async.vector_target import AsyncTarget
from superorm.compile.plan import Read
from superorm.exc import UnsupportedError
from superorm.protocols._async.parts import AsyncDataBackend
from superorm.protocols.reports import CreateReport
from superorm.schema.vector_spec import VectorSpec
from superorm.vectors.handing import Handed
from superorm.vectors.memory_copy import MemoryCopy
from superorm.vectors.push_down import PushDown
from superorm.vectors.records import Look, Need
from superorm.vectors.request import SearchRequest
from superorm.vectors.rows import Nearest

__all__ = ["Answer", "AsyncVectorCopies", "AsyncVectorView", "Unfiltered", "Unhanded"]


@frozen
class Answer:
    """The engine's answer for all keys but the pending ones, which are to be ranked from the documents."""

    nearest: Nearest
    pending: Mapping[str, Any]
    read: Read | None = None
    """What was sent to the data backend for it."""


class AsyncVectorView(Protocol):
    """An engine's copy of one index as one snapshot sees it."""

    need: Need | None
    """What should be done, outside of the snapshot."""
    look: Look
    unable: str
    """Why the documents are ranked where the engine could not tell."""

    @property
    def in_server(self) -> bool:
        """Whether the server ranks documents by itself."""
        ...

    def unserved(self, request: SearchRequest) -> str | None:
        """Why the documents must be ranked for the request; None where the engine is to be asked."""
        ...

    async def held(self) -> int | None:
        """How many rows of the copy are in this process's memory; None where it is elsewhere, or cannot be used.

        Raises ``VersionLost``.
        """
        ...

    def pushed(self, filter: Mapping[str, Any]) -> PushDown | None:
        """What the engine can say of a filter; None where it mirrors nothing."""
        ...

    async def passing(self, where: str, limit: int) -> Sequence[str]:
        """The keys of the rows that pass a condition of `pushed`, at most `limit` of them, pending ones too.

        Raises ``VersionLost``.
        """
        ...

    async def nearest(
        self, request: SearchRequest, limit: int, among: Sequence[Any] | None = None, pushed: PushDown | None = None
    ) -> Answer | None:
        """The `limit` nearest keys, `among` these ``_id`` values only if they are given, which is for rows in memory.

        With what was `pushed`, only rows that pass it count.
        None where the copy cannot tell, so that the documents must be ranked.

        Raises ``VersionLost``.
        """
        ...


class Unfiltered:
    """What views have in common whose engine answers every request, and knows nothing of filters."""

    unable = "the engine's copy does not show the state that is searched, so the documents' own vectors are ranked"

    @property
    def in_server(self) -> bool:
        """It is not asked for."""
        return False

    def unserved(self, request: SearchRequest) -> str | None:
        """Nothing speaks against the engine."""
        return None

    def pushed(self, filter: Mapping[str, Any]) -> PushDown | None:
        """The engine takes nothing."""
        return None

    async def passing(self, where: str, limit: int) -> Sequence[str]:
        """Nobody asks for them."""
        raise UnsupportedError("the engine takes no filter")


class Unhanded:
    """What copies have in common to which nothing is handed over: they are brought forward by what is committed."""

    def handing(
        self, spec: VectorSpec, records: Collection[Mapping[str, Any]], documents: Sequence[Mapping[str, Any]]
    ) -> Handed | None:
        """Nothing."""
        return None

    def hand_over(self, spec: VectorSpec, handed: Handed) -> bool:
        """There is no room for any."""
        return False

    async def write_ahead(self, ahead: AsyncAhead) -> None:
        """Nobody asks for it."""
        ahead.looked.set()


class AsyncVectorCopies(Protocol):
    """The copies that one engine keeps of a database's vectors."""

    backend: AsyncDataBackend
    records: AsyncVectorRecords

    async def engine(self) -> str:
        """The engine's id."""
        ...

    async def ensure(self, spec: VectorSpec) -> CreateReport:
        """Have the engine know the index; what was made for it in the database, and what differs there."""
        ...

    async def view(self, spec: VectorSpec, session: Any, *, outside: bool, look: Look | None = None) -> AsyncVectorView:
        """What a search sees; `outside` tells that the session is no transaction.

        A `look` that was taken in the session already need not be taken again.
        """
        ...

    def resident(self, spec: VectorSpec) -> MemoryCopy | None:
        """The copy in memory, if there is one that holds vectors of this kind."""
        ...

    def handing(
        self, spec: VectorSpec, records: Collection[Mapping[str, Any]], documents: Sequence[Mapping[str, Any]]
    ) -> Handed | None:
        """Before a commit: its documents, for `hand_over` once they are committed; None where it does not pay."""
        ...

    def hand_over(self, spec: VectorSpec, handed: Handed) -> bool:
        """Keep what was inserted in a transaction for the applier; whether there was room."""
        ...

    async def write_ahead(self, ahead: AsyncAhead) -> None:
        """Write what a commit inserts beside it, and publish it once it is committed; or do nothing."""
        ...

    async def apply(self, spec: VectorSpec, *, patience: float | None = None) -> None: ...

    async def drop(self, spec: VectorSpec) -> None:
        """Remove the copy of an index that is removed; its state and records are not."""
        ...

    async def due(self, spec: VectorSpec) -> bool:
        """Whether there is much for `keep` to do now."""
        ...

    async def keep(self, spec: VectorSpec, go_on: Callable[[], bool]) -> float | None:
        """Remove what no reader needs and put the copy in order, in the background; ends soon unless it is to go on.

        Gives the seconds after which there is more to do, None where that is after the next change.
        """
        ...

    async def rebuild(self, spec: VectorSpec, progress: Any = None) -> None: ...

    async def target(self, spec: VectorSpec) -> AsyncTarget:
        """What a switch to another version of the model makes of the copy."""
        ...

    async def differences(self, spec: VectorSpec) -> Mapping[str, str]:
        """The canonical keys where the copy differs from the documents, each with how. Raises ``VersionLost``."""
        ...
