"""What keeps the vector indexes of a DB up to date in the background: records applied, and copies put in order."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from superorm._async.vector_ahead import AsyncAhead, ahead_of
from superorm._io import aio
from superorm.exc import SuperormError
from superorm.schema.listened import ListenerPath
from superorm.schema.vector_spec import VectorPath, VectorSpec
from superorm.vectors.handing import Handed

if TYPE_CHECKING:
    from superorm._async.vector_records import AsyncVectorRecords
    from superorm._async.vector_view import AsyncVectorCopies

__all__ = ["AsyncVectorBackground"]

_log = logging.getLogger("superorm.vectors")

_PAUSE = 0.25
"""Seconds between two runs of the applier: each publication makes every reader's version stale."""
_KEEPING = 5.0
"""Seconds between two looks whether a copy is to be put in order."""
_SOON = 120.0
"""So many seconds are waited in the background; what is to be done later is done at the first occasion then."""
_AFTER_ERROR = 300.0
"""Seconds after which a copy that could not be put in order is looked at again."""


class AsyncVectorBackground:
    """Applies the records of commits, and puts the copies of the indexes in order, where nothing waits for it.

    `ensure` has the engine know an index, and is awaited before records of it are applied.
    """

    def __init__(
        self,
        copies: AsyncVectorCopies,
        records: AsyncVectorRecords,
        ensure: Callable[[VectorSpec], Awaitable[None]],
    ) -> None:
        self._copies = copies
        self._records = records
        self._ensure = ensure
        self.failed: dict[str, Exception] = {}
        """The last error of each index whose records could not be applied, by its name, until they are."""
        self._waiting: set[VectorSpec] = set()
        self._aheads: list[AsyncAhead] = []
        self._applying = False
        self._applier = aio.Background(self._apply_waiting, _PAUSE)
        self._kept: set[VectorSpec] = set()
        self._later: dict[VectorSpec, float] = {}
        """Those to be put in order at a time of the monotonic clock."""
        self._keeper = aio.Background(self._keep, _KEEPING)
        self._closing = False
        self._noted: set[str] = set()
        """Indexes that records were written for, but that nobody here applies."""
        self._pruned: set[str] = set()
        """Those of them whose old records are to be removed."""

    def ahead(self, handed: Iterable[tuple[VectorSpec, Handed]]) -> AsyncAhead | None:
        """Before a commit: have the background applier write meanwhile what its transaction inserts, if that is much.

        It is published once it is committed, and `notify` has the rest applied.
        """
        one = None if self._applying else ahead_of(handed)
        if one is not None:
            self._aheads.append(one)
            self._applier.wake(at_once=True)
        return one

    def notify(self, specs: Iterable[VectorSpec], handed: Iterable[tuple[VectorSpec, Handed]] = ()) -> None:
        """After a commit: have the background applier apply its records soon, at once where documents are handed over.

        Those were inserted in its transaction.
        """
        self._waiting.update(specs)
        at_once = False
        for spec, one in handed:
            at_once = self._copies.hand_over(spec, one) or at_once
        if self._waiting:
            self._applier.wake(at_once=at_once)

    def put_in_order(self, spec: VectorSpec) -> None:
        """Have the copy of the index put in order soon, with the fields that `spec` names."""
        self._kept.discard(spec)  # one that names other fields is equal
        self._kept.add(spec)
        self._keeper.wake()

    def note(self, touched: Iterable[VectorPath]) -> None:
        """Records are written for these: remember those that nobody here applies, for `let_go`."""
        self._noted.update(one.name for one in touched if not isinstance(one, (VectorSpec, ListenerPath)))

    def let_go(self) -> None:
        """From time to time: remove old records that were written for indexes that nobody here applies.

        It is an occasion for what was to be done later, too.
        """
        noted, self._noted = self._noted, set()
        self._pruned |= noted
        if noted or any(at <= time.monotonic() for at in list(self._later.values())):
            self._keeper.wake()

    def fail(self, spec: VectorSpec, error: Exception) -> None:
        """Keep an error that must not fail the caller: nothing is lost, as searches rank what is not applied."""
        self.failed[spec.name] = error
        _log.error("vectors of %s could not be applied: %s", spec.name, error, exc_info=error)

    def forget(self, spec: VectorSpec) -> None:
        """An index is dropped: nothing is to be done for it any more."""
        self._waiting.discard(spec)
        self._kept.discard(spec)
        self.failed.pop(spec.name, None)
        self._later.pop(spec, None)

    def closing(self) -> None:
        """Have what is being built end soon: to be said before anything is waited for, as that may be cut off."""
        self._closing = True

    async def stop(self) -> None:
        """After `closing`: wait for what is under way, begin nothing else, and apply what is pending."""
        await self._applier.stop()
        await self._keeper.stop()
        await self._apply_waiting()

    async def _apply_waiting(self) -> None:
        self._applying = True
        try:
            await self._write_ahead()
            await self._apply_all()
        finally:
            self._applying = False

    async def _write_ahead(self) -> None:
        while self._aheads:
            one = self._aheads.pop()
            try:
                await self._copies.write_ahead(one)
            except Exception as error:  # noqa: BLE001 - logged: its records are applied next, and that tells what fails
                _log.warning("vectors of %s could not be written beside their commit: %s", one.spec.name, error)

    async def _apply_all(self) -> None:
        waiting, self._waiting = self._waiting, set()  # what comes meanwhile has a pause before it
        for spec in waiting:
            try:
                await self._ensure(spec)
                await self._copies.apply(spec)
            except Exception as error:  # noqa: BLE001 - kept, logged, and reported by check
                self.fail(spec, error)
            else:
                self.failed.pop(spec.name, None)
                self._kept.add(spec)
                self._keeper.wake()

    async def _keep(self) -> None:
        """Put the copies in order that were changed, or are due."""
        now = time.monotonic()
        self._kept |= {spec for spec, at in self._later.items() if at <= now} - self._kept
        while self._kept and not self._closing:
            spec = self._kept.pop()
            self._later.pop(spec, None)
            try:
                after = await self._copies.keep(spec, lambda: not self._closing)
            except Exception as error:  # noqa: BLE001 - logged: searches are right without it, only slower
                _log.error("the vectors of %s could not be put in order: %s", spec.name, error, exc_info=error)
                after = _AFTER_ERROR
            if after is not None:
                self._later[spec] = time.monotonic() + after
        if not self._closing and any(at <= time.monotonic() + _SOON for at in self._later.values()):
            self._keeper.wake()
        while self._pruned:
            name = self._pruned.pop()
            try:
                await self._records.prune(name)
            except SuperormError as error:
                _log.warning("old records of %s could not be removed: %s", name, error)
