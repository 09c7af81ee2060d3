"""One vector search in one snapshot."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import evolve

from superorm._async.vector_listing import Listing
from superorm._async.vector_ranking import MOST_WHOLE, AsyncRanking
from superorm._async.vector_view import AsyncVectorView
from superorm.codec.keys import decode_key, encode_key
from superorm.vectors.planning import CountMatches, Known, ListRows, Rank, next_part, plan
from superorm.vectors.push_down import PushDown
from superorm.vectors.request import Explanation, Hits, SearchRequest
from superorm.vectors.rows import Nearest

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

    from superorm.protocols._async.parts import AsyncDataBackend

__all__ = ["AsyncVectorSearch"]


class AsyncVectorSearch:
    """Finds the k nearest documents that match, and ranks them by their own vectors.

    `superorm.vectors.planning` decides how. The engine gives candidates; the documents of its best ones are read with
    the filter, until no other candidate can be nearer than the k-th of those that match.
    Keys that the engine has not applied are ranked from their documents.
    """

    def __init__(
        self,
        backend: AsyncDataBackend,
        engine: str,
        view: AsyncVectorView,
        request: SearchRequest,
        session: AsyncClientSession | None,
        listing: Listing | None = None,
    ) -> None:
        self._view = view
        self._request = request
        self._ranking = AsyncRanking(backend, request, session, view.look.moving)
        self._known = Known(engine, request.k, request.filter is not None, None)
        self._matching: Sequence[Any] = ()
        self._pushed: PushDown | None = None
        self._listing = listing
        self._calls = self._candidates = self._pending = self._seen = self._found = 0

    async def run(self, *, documents_only: bool = False) -> Hits:
        """The hits. Raises ``VersionLost``."""
        why = self._view.unable if documents_only else self._view.unserved(self._request)
        if why is None:
            self._known = evolve(self._known, held=await self._view.held())
            if self._request.filter is not None:
                self._push_down(self._request.filter)
            while True:
                step = await self._decide()
                all_match = step.strategy != "over-fetch" and (step.strategy != "push-down" or self._known.left is None)
                done = await self._rank(step) if all_match else await self._over_fetch(step)
                if done:
                    return await self._hits(step)
                if done is None:
                    break
            why = self._view.unable
        if self._view.in_server:
            await self._ranking.rank_in_server()
        else:
            await self._ranking.rank_all()
        return await self._hits(Rank("exact", 0, why))

    def _push_down(self, filter: Mapping[str, Any]) -> None:
        pushed = self._view.pushed(filter)
        if pushed is not None and (self._known.held is None or pushed.left is None):
            self._pushed = pushed
            can = pushed.where is not None
            index = self._request.index
            self._known = evolve(self._known, pushed=can, left=pushed.left, lists=pushed.lists, index=index)

    async def _decide(self) -> Rank:
        """Count and list what matches as far as it is asked for; how to rank."""
        while not isinstance(step := plan(self._known), Rank):
            if isinstance(step, ListRows):
                await self._list_rows(step.limit)
                continue
            if isinstance(step, CountMatches):
                matched, listed = await self._ranking.count(step.limit), False
            else:
                ids = await self._list(step.limit)
                matched, listed = len(ids), step.limit is None or len(ids) <= step.limit
                if listed:
                    self._matching = ids
            more = step.limit is not None and matched > step.limit
            self._known = evolve(self._known, matched=step.limit if more else matched, more=more, listed=listed)
        return step

    async def _list_rows(self, limit: int) -> None:
        """The rows that pass what was pushed down, and what is pending: among them is all that matches."""
        assert self._pushed is not None
        assert self._pushed.where is not None
        keys = await self._view.passing(self._pushed.where, limit + 1)
        self._calls += 1
        listed = len(keys) <= limit
        if listed:
            self._candidates += len(keys)
            pending = self._view.look.pending
            self._pending = len(pending)
            self._matching = [*pending.values(), *(decode_key(key) for key in keys if key not in pending)]
        self._known = evolve(self._known, passing=min(len(keys), limit), listed=listed)

    async def _list(self, limit: int | None) -> Sequence[Any]:
        """The ``_id`` of each document that matches; with a limit, one more at most."""
        listing, self._listing = self._listing, None
        if listing is None:
            return await self._ranking.matching(limit)
        self._ranking.reads.append(listing.read)
        if listing.documents or listing.large:
            self._ranking.take(listing.documents, listing.large)
        return await self._ranking.matching(limit) if listing.ids is None else listing.ids

    async def _rank(self, step: Rank) -> bool | None:
        """Rank all rows, or those of the documents that match; None where the engine cannot tell."""
        listed, matched = self._known.listed, self._known.matched or 0
        if step.strategy == "gather" and self._known.index is not None and (not listed or matched > MOST_WHOLE):
            await self._ranking.rank_all(hits=matched)  # by the index, rather than by so many keys
            return True
        if listed and (self._known.held is None or len(self._matching) <= len(self._ranking.asked)):
            matching = {encode_key(id): id for id in self._matching}
            if self._known.held is None or matching.keys() <= self._ranking.asked:
                await self._ranking.rank(matching, hits=len(matching))
                return True
        limit = step.limit
        while (nearest := await self._ask(limit, self._matching if listed else None)) is not None:
            if await self._walk(nearest):
                return True
            limit *= 4
        return None

    async def _over_fetch(self, step: Rank) -> bool | None:
        """Look through the nearest rows: some, or where no other way is left, more and more of them.

        False where those were not enough; None where the engine cannot tell.
        """
        limit = step.limit
        while (nearest := await self._ask(limit, None)) is not None:
            if await self._look_through(nearest, step.last):
                return True
            if not step.last:
                self._known = evolve(self._known, in_vain=max(1, self._seen))
                return False
            limit *= 4
        return None

    async def _ask(self, limit: int, among: Sequence[Any] | None) -> Nearest | None:
        """The engine's nearest rows, when what it has not applied was ranked; None where it cannot tell."""
        answer = await self._view.nearest(self._request, limit, among, self._pushed)
        if answer is None:
            return None
        if answer.read is not None:
            self._ranking.reads.append(answer.read)
        self._calls += 1
        self._candidates += len(answer.nearest.keys)
        self._pending = len(answer.pending)
        pending = answer.pending
        if pending and among is not None:
            chosen = set(map(encode_key, among))
            pending = {key: id for key, id in pending.items() if key in chosen}
        await self._ranking.rank(pending, hits=0)
        return answer.nearest

    async def _walk(self, nearest: Nearest) -> bool:
        """Read the documents of candidates that all match; whether no other can be nearer than the k-th."""
        position = 0
        while ahead := self._ahead(nearest, position):
            lacking = self._request.k - len(self._ranking.ranked)
            part = ahead[:lacking] if lacking > 0 else ahead
            position += len(part)
            await self._ranking.rank({key: decode_key(key) for key in part}, hits=len(part), sure=lacking > 0)
        return self._ended(nearest)

    async def _look_through(self, nearest: Nearest, last: bool) -> bool:
        """The same of candidates of which some match; False too where, if this is not the `last` way, few seem to."""
        position, ranked = 0, self._ranking.ranked
        while ahead := self._ahead(nearest, position):
            lacking = self._request.k - len(ranked)
            if lacking > 0:
                left = None if last or self._ended(nearest) else len(ahead)
                size = next_part(lacking, self._seen, self._found, left)
                if size is None:
                    return False
                ahead = ahead[:size]
            position += len(ahead)
            part = {key: decode_key(key) for key in ahead if key not in self._ranking.asked}
            before = len(ranked)
            await self._ranking.rank(part, hits=min(2 * lacking, len(part)) if lacking > 0 else len(part))
            self._seen += len(part)
            self._found += len(ranked) - before
        return self._ended(nearest)

    def _ahead(self, nearest: Nearest, position: int) -> Sequence[str]:
        """The candidates from a position on that can be among the hits."""
        bound = self._ranking.bound(nearest.tolerance)
        return nearest.keys[position : bisect_right(nearest.distances, bound, key=float)]

    def _ended(self, nearest: Nearest) -> bool:
        """Whether no row beyond the candidates can be among the hits."""
        return nearest.complete or float(nearest.distances[-1]) > self._ranking.bound(nearest.tolerance)

    async def _hits(self, step: Rank) -> Hits:
        known, state = self._known, self._view.look.state
        where = None if self._pushed is None else self._pushed.where
        hits = await self._ranking.hits()
        explanation = Explanation(
            engine=known.engine,
            strategy=step.strategy,
            why=step.why,
            held=known.held,
            matched=known.matched,
            more=known.more,
            pushed=where if step.strategy == "push-down" or known.passing is not None else None,
            passing=known.passing,
            version=None if state is None else state.ver,
            pending=self._pending,
            candidates=self._candidates,
            read=self._ranking.read,
            calls=self._calls,
            reads=tuple(self._ranking.reads),
        )
        return Hits(hits, explanation)
