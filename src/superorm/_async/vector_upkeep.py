"""Keeping the tables of a vector engine in order, in the background: copies, indexes, and fields to mirror."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from attrs import frozen

from superorm._async.vector_builds import AsyncTableBuilds
from superorm._async.vector_records import READERS
from superorm._io.progress import Progress
from superorm.compile.plan import Count
from superorm.schema.vector_spec import IndexSpec, VectorSpec
from superorm.vectors import upkeep
from superorm.vectors._async.protocol import AsyncVectorTables
from superorm.vectors.errors import EngineBusy, VersionLost
from superorm.vectors.records import Look, Made, State
from superorm.vectors.upkeep import index_for, is_due, lacking

if TYPE_CHECKING:
    from superorm.protocols._async.parts import AsyncDataBackend

__all__ = ["AsyncTableUpkeep"]

_log = logging.getLogger("superorm.vectors")

_TIDY_EVERY = 32
"""Publications between two searches for what is superseded."""
_AGAIN = 300.0
"""Seconds after which an index that could not be built is tried again, the first time."""
_AGAIN_AT_LAST = 86_400.0


@frozen
class _InVain:
    """An index that could not be built, and is tried again at a time of the monotonic clock, after a pause."""

    index: IndexSpec
    pause: float
    until: float


class AsyncTableUpkeep(AsyncTableBuilds):
    """The tables that an engine keeps for one data backend, made anew when it is time."""

    def __init__(
        self, backend: AsyncDataBackend, engine: AsyncVectorTables, progress: Progress | bool | None = None
    ) -> None:
        super().__init__(backend, engine, progress)
        self._tidied: dict[str, int] = {}
        self._in_vain: dict[str, _InVain] = {}

    async def due(self, spec: VectorSpec) -> bool:
        """Whether the table is to be made anew now: it lacks fields to mirror, or is large, and to be copied.

        Small ones are copied when they were changed.
        """
        if spec.filter_fields and lacking(spec, await self.state(spec)):
            return True
        large = Count(spec.collection, {}, upkeep.INDEXED_FROM)
        if (await self.backend.read(large))[0]["n"] < upkeep.INDEXED_FROM:
            return False
        return await self._due(spec, await self.state(spec)) is not None

    async def _due(self, spec: VectorSpec, state: State | None) -> Made | None:
        """How the table is to be made, if it is to be copied now."""
        if state is None or state.table is None or state.ver is None or not self.usable(spec, state):
            return None
        rows, now = await self.tables.count(state.table, state.ver), datetime.now(UTC)
        index = index_for(spec, state, rows, self.tables.resident.limit)
        failed = self._in_vain.get(spec.name)
        if failed is not None and failed.index == index and time.monotonic() < failed.until:
            return None
        return Made(state.n, now, index, state.filters) if is_due(spec, state, rows, index, now) else None

    async def keep(self, spec: VectorSpec, go_on: Callable[[], bool]) -> float | None:
        """Remove what no reader needs, and copy the table where that is due, unless another process is at it.

        Nobody waits for it: it takes the writer's lock only for what was recorded meanwhile.
        Once it is not to `go_on` it ends soon; an index that takes long to be finished is left, and not published.
        Gives the seconds after which there is more to do, None where that is after the next change.
        """
        try:
            async with self.lock(spec, ".upkeep", patience=0):
                return await self._keep(spec, go_on)
        except EngineBusy:
            return _AGAIN
        except VersionLost as error:
            _log.info("%s", error)
        return None

    async def _keep(self, spec: VectorSpec, go_on: Callable[[], bool]) -> float | None:
        state, later = await self.state(spec), None
        if self.usable(spec, state) and lacking(spec, state):
            fields, later = await self.records.to_mirror(spec, await self.engine())
            if later is None:
                await self.build(spec, fields, go_on=go_on)
                state = await self.state(spec)
        made = None if later is not None else await self._due(spec, state)
        if state is not None and made is not None:
            await self._renew(spec, state, made, go_on)
        if state is not None and (made is not None or state.n >= self._tidied.get(spec.name, 0)):
            self._tidied[spec.name] = state.n + _TIDY_EVERY
            await self._tidy(spec)
        failed = self._in_vain.get(spec.name)
        if later is None and failed is not None and time.monotonic() < failed.until:
            later = failed.until - time.monotonic()
        return later

    async def _tidy(self, spec: VectorSpec) -> None:
        """Remove tables and records that no reader needs."""
        state = await self.state(spec)
        over = [] if state is None else [name for name, at in state.drop.items() if at < datetime.now(UTC)]
        for name in over:
            await self.tables.drop(f"{self.prefix(spec)}-{name}")
        if over:
            gone = {f"drop.{name}": "" for name in over}
            await self.records.update_state(spec.name, await self.engine(), {"$unset": gone})
        await self.records.prune(spec.name)

    async def _renew(self, spec: VectorSpec, state: State, made: Made, go_on: Callable[[], bool]) -> None:
        """Copy the published version without a lock, then, under the lock, read again what was recorded since.

        Raises ``VersionLost``.
        """
        assert state.table is not None
        assert state.ver is not None
        table, done, left = await self.begin(spec, made.filters), False, False
        try:
            copied = await self.tables.copy(state.table, state.ver, table, go_on)
            if copied and made.index is not None:
                try:
                    left = not await self.tables.build_index(table, spec.metric, made.index, go_on)
                except Exception:
                    self._note_failure(spec, made.index)
                    raise
                self._in_vain.pop(spec.name, None)
            done = copied and not left
        finally:
            if not done and not left:
                await self.give_up(spec, table)
        if left:  # it is still being written, and is removed when that is done, or later
            over = {f"drop.{table.rpartition('-')[2]}": datetime.now(UTC) + READERS}
            await self.records.update_state(spec.name, await self.engine(), {"$set": over})
        if done:
            await self.finish(spec, table, Look(state, since=state.n), state.norm or 0.0, made)

    def _note_failure(self, spec: VectorSpec, index: IndexSpec) -> None:
        """Have an index be tried again, the later the more often that was in vain."""
        before = self._in_vain.get(spec.name)
        pause = _AGAIN if before is None or before.index != index else min(2 * before.pause, _AGAIN_AT_LAST)
        self._in_vain[spec.name] = _InVain(index, pause, time.monotonic() + pause)
