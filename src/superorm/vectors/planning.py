"""How a search goes about its filter: decided from counts alone. Nothing here does I/O.

The measure is what the server must send.
A candidate, a near row whose document is looked up to see whether it matches, costs about as much as three keys.
So few matching documents are listed, and only their rows ranked;
where many match, some of them are near, and the nearest rows are looked through;
where many match but none of the near ones, all are listed after all,
unless they are so many more than the rows, as those without a vector may be, that all rows are looked through instead.

An engine that mirrors fields of the documents looks only among the rows that pass what the filter says of these.
Where that is all of the filter, it also tells which rows are few, whatever indexes the server has,
unless one of them is known to find the same: the server counts them by it sooner than an engine looks through rows.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

from attrs import frozen

__all__ = [
    "FEW",
    "FEW_READ",
    "CountMatches",
    "Known",
    "ListMatches",
    "ListRows",
    "Rank",
    "Step",
    "Strategy",
    "masks",
    "next_part",
    "plan",
]

Strategy: TypeAlias = Literal["exact", "gather", "mask", "push-down", "over-fetch"]
"""``exact``: everything there is is ranked. ``gather``: only the rows, or the vectors, of the documents that match.
``mask``: all rows, of which those of the documents that match are chosen.
``push-down``: the engine finds the nearest of the rows that pass what it can say of the filter.
``over-fetch``: the nearest rows are looked through for those whose documents match."""

FEW = 3_000
"""So many matching documents are listed before anything else is known, where the rows are in memory:
it takes about as long as to look through the nearest of 20,000 rows, and never is in vain."""
FEW_READ = 1_000
"""So many where the rows are elsewhere, as the vectors of all that match are read then."""
_SHARE = 0.05
"""Of larger copies, so large a part may match and be listed at less cost than by looking through the nearest rows."""
_CANDIDATE = 3
"""How many keys are listed at the cost of looking up one candidate."""
_MASK = 0.25
"""From this part of the rows on, gathering them takes longer than ranking all."""
_SLACK = 8
_SPARE = 1.5
"""So many times as many candidates as should be enough are looked up at once."""


@frozen
class Known:
    """What is known of a search."""

    engine: str
    k: int
    filtered: bool
    held: int | None
    """The rows in this process's memory; None: the engine's copy is elsewhere."""
    matched: int | None = None
    """How many documents match, as far as they were counted; None: they were not."""
    more: bool = False
    """Whether more match than were counted."""
    listed: bool = False
    """Whether the keys of all that match were read."""
    pushed: bool = False
    """Whether the engine's copy can say something of the filter: all of it where the rows are in memory."""
    left: str | None = None
    """Why it cannot say all of it."""
    lists: bool = True
    """Whether it can list the rows that pass."""
    index: str | None = None
    """The fields of the server's index that finds what matches; None: none is known to."""
    passing: int | None = None
    """How many rows pass what it can say, as far as they were listed; None: they were not."""
    in_vain: int = 0
    """The nearest rows that were looked through, of which too few matched."""


@frozen
class ListMatches:
    """Read the keys of the documents that match; with a limit, one more than that if there are so many."""

    limit: int | None


@frozen
class ListRows:
    """Have the engine list the rows that pass the filter, one more than the limit if there are so many."""

    limit: int


@frozen
class CountMatches:
    """Count the documents that match, one more than the limit if there are so many."""

    limit: int


@frozen
class Rank:
    """Rank; `limit` rows are to be asked for at first."""

    strategy: Strategy
    limit: int
    why: str
    last: bool = False
    """Whether no other way is left."""


Step: TypeAlias = ListMatches | ListRows | CountMatches | Rank


def plan(known: Known) -> Step:
    """What to do next: count, list, or rank. After each count and list the decision is made again."""
    k, held, matched = known.k, known.held, known.matched
    if not known.filtered:
        rows = f"{known.engine} finds the nearest of all" if held is None else f"all {held} rows in memory are ranked"
        return Rank("exact", k + _SLACK, f"no filter stands before the search, so {rows}")
    if known.pushed and known.left is None:
        return _passed(known)
    if matched is None:
        return ListMatches(FEW if held is not None else min(FEW, FEW_READ))
    if not known.more:
        return _listed(known, matched, held) if known.listed else ListMatches(None)
    if held is None:
        return _looked_through(known, matched)
    share = math.ceil(_SHARE * held)
    if matched < share:
        return CountMatches(share)
    limit = matched // _CANDIDATE
    why = f"more than {matched} documents match of {held} rows, so the nearest rows are looked through for them"
    if not known.in_vain and limit >= k:
        return Rank("over-fetch", limit, why)
    most = _CANDIDATE * held
    if matched < most:
        return ListMatches(most)
    why = f"more than {matched} documents match of only {held} rows, so all rows are looked through for them"
    return Rank("over-fetch", max(limit, k + _SLACK), why, last=True)


def _passed(known: Known) -> CountMatches | ListRows | Rank:
    """Where the engine can say all of the filter."""
    limit, rows = known.k + _SLACK, known.passing
    if known.held is not None:
        why = f"all of the filter is about mirrored fields, so of {known.held} rows in memory only those that pass it"
        return Rank("push-down", limit, f"{why} are ranked", last=True)
    if not known.lists:
        return Rank("push-down", limit, f"{known.engine} takes the whole filter", last=True)
    if known.index is not None:
        return _indexed(known, known.index)
    if rows is None:
        return ListRows(min(FEW, FEW_READ))
    if known.listed:
        why = f"{rows} rows of {known.engine} pass the filter, so few that the vectors of their documents are ranked"
        return Rank("gather", limit, f"{why}; the server has no declared index that serves the filter")
    why = f"more than {rows} rows pass the filter, which {known.engine} mirrors, so it looks among them only"
    return Rank("push-down", limit, why, last=True)


def _indexed(known: Known, index: str) -> CountMatches | Rank:
    """Where the server has an index for all of it too, by which it counts without reading documents."""
    limit, matched = known.k + _SLACK, known.matched
    if matched is None:
        return CountMatches(min(FEW, FEW_READ))
    if not known.more:
        why = f"{matched} documents match by the index on {index}, so few that their own vectors are ranked"
        return Rank("gather", limit, why)
    why = f"more than {matched} documents match by the index on {index}, and {known.engine} mirrors the whole filter"
    return Rank("push-down", limit, f"{why}, so it looks among the rows that pass it only", last=True)


def _looked_through(known: Known, matched: int) -> Rank:
    """Where many match, and the engine can say a part of the filter, or nothing."""
    limit, why = max(20 * known.k, 200), f"more than {matched} documents match"
    if known.pushed:
        why += f", and {known.engine} mirrors a part of the filter, so the nearest rows that pass it are looked through"
    else:
        why += f", so the nearest rows of {known.engine} are looked through for them"
    if known.left is not None:
        why += f"; {known.left}"
    return Rank("push-down" if known.pushed else "over-fetch", limit, why, last=True)


def _listed(known: Known, matched: int, held: int | None) -> Rank:
    limit = known.k + _SLACK
    if held is None:
        return Rank("gather", limit, f"{matched} documents match, so few that their own vectors are ranked")
    before = f", and too few of the {known.in_vain} nearest" if known.in_vain else ""
    if masks(matched, held):
        why = f"{matched} documents match{before}: so many of {held} rows that all are ranked and theirs chosen"
        return Rank("mask", limit, why)
    return Rank("gather", limit, f"{matched} documents match{before}, so of {held} rows only theirs are ranked")


def masks(chosen: int, held: int) -> bool:
    """Whether ranking all rows is faster than gathering those chosen."""
    return chosen >= _MASK * held


def next_part(lacking: int, seen: int, found: int, left: int | None) -> int | None:
    """How many candidates to look up next, where `found` of those `seen` matched and so many hits are `lacking`.

    None where the `left` ones can hardly be enough; a `left` of None tells that there is nothing better to do.
    """
    needed = lacking * (seen + 2) / (found + 1)
    if left is not None and seen and needed > left:
        return None
    return math.ceil(_SPARE * needed)
