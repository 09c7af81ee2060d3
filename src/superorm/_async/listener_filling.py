"""The first outputs of a listener, published while those of the next documents are computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from superorm._async.listener_computing import AsyncComputing, Heard, Moved
from superorm._io import aio
from superorm.backends.errors import has_error_label
from superorm.components.kept import kept
from superorm.components.outputs import State
from superorm.exc import DuplicateKeyError, SuperormError
from superorm.unitofwork.writes import Insert

__all__ = ["AsyncFilling"]


@frozen
class _Part:
    """What is published at once."""

    outputs: Insert
    changed: Sequence[Any]
    """The keys of the documents that have outputs."""
    read: Sequence[Any]
    """The keys of all that were read."""


class AsyncFilling:
    """Publishes outputs of documents none of which had one when the state was read, while nobody else publishes.

    From then on what is put is compared with what is there: without `n`, the number that the state had, from the start.
    Outputs that are not indexed are inserted as they are, which takes the server less time than a transaction for each
    part. Nothing is written over what somebody else publishes. But a document that was read may be deleted, and that
    be published, before its output is inserted; and listeners to these outputs, which count as publishing when they
    come, are not told: at the end `is_right` says whether there was anybody.
    With `whole`, what another program damaged is computed anew.
    """

    def __init__(
        self, computing: AsyncComputing, state: State, listener: Heard, n: int | None, *, whole: bool = False
    ) -> None:
        self.done = 0
        """How many documents have their outputs."""
        self._computing = computing
        self._state = state
        self._listener = listener
        self._n = n
        self._whole = whole
        self._plain = kept(state).spec is None
        self._part: _Part | None = None
        self._publishing = aio.Ahead(self._publish, patient=True)

    async def put(self, found: Sequence[Mapping[str, Any]]) -> None:
        """Compute the outputs of documents, and see to it that they are published. Raises `PredictionError`."""
        listened = self._listener.listened
        part, read = None, [listened.key_of(one) for one in found]
        if self._n is not None:
            place, sources = kept(self._state), listened.sources(found)
            documents, flat = await self._computing.outputs(place, self._state.named, self._listener, sources, {})
            insert = Insert(place.collection, documents, shallow=flat)
            part = _Part(insert, [source.key for source in sources], read)
        await self.settle()
        if part is None or self._n is None:
            await self._compute(read)
        else:
            self._part = part
            self._publishing.start()

    async def settle(self) -> None:
        """Wait for what is being published."""
        part = self._part
        if part is None or self._n is None:
            return
        published = await self._publishing.result()
        self._part = None
        if published:
            self._n += not self._plain
            self.done += len(part.read)
        else:
            self._n = None
            await self._compute(part.read)

    async def begin_anew(self) -> None:
        """The reading begins with the first document again: some have outputs by now."""
        await self.settle()
        self._n = None
        self.done = 0

    async def is_right(self) -> bool:
        """Whether what was published has no need to be looked through."""
        if not self._plain:
            return True
        now = await self._computing.state(self._state.path.listener)
        return now is None or now.n == self._n

    async def aclose(self) -> None:
        """Have nothing under way: who removes the outputs afterwards would miss what is being written."""
        await self._publishing.close()

    async def _compute(self, keys: Sequence[Any]) -> None:
        await self._computing.compute(self._state, self._listener, keys, whole=self._whole)
        self.done += len(keys)

    async def _publish(self) -> bool:
        """Publish a part; False where somebody else has published since."""
        part, n = self._part, self._n
        assert part is not None
        assert n is not None
        try:
            if self._plain:
                await self._computing.insert(part.outputs)
            else:
                await self._computing.publish(self._state, n, [part.outputs], part.changed)
        except (Moved, DuplicateKeyError):
            return False
        except SuperormError as error:
            if not has_error_label(error, "TransientTransactionError"):
                raise
            return False
        return True
