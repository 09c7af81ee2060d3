"""When a table is to be written anew, and with which index: decided from counts alone. Nothing here does I/O.

A table that many publications changed lies in many small files, and rows that came after its index are compared
one by one. So it is copied into a new one now and then, the less often the larger it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from superorm.schema.vector_spec import FilterField, IndexSpec, VectorSpec
from superorm.vectors.records import State

__all__ = ["KNOWN_AFTER", "index_for", "is_due", "lacking", "recorded_since"]

KNOWN_AFTER = timedelta(seconds=100)
"""So long after an announcement every program has read it, and what it wrote without knowing of it is committed."""

INDEXED_FROM = 20_000
"""So many rows are searched faster with an index."""
PUBLICATIONS = 64
"""After so many the small files are put together."""
BYTES_A_SECOND = 1 << 20
"""Superseded tables stay for their readers for some minutes: at this rate they take some hundred megabytes."""
_CHANGED = 0.1
"""From this part of its rows on, those that came after its index make a table with one slow."""
_DEFAULT = IndexSpec("ivf_flat")


def index_for(spec: VectorSpec, state: State, rows: int, in_memory: int | None) -> IndexSpec | None:
    """The index that a table of so many rows is to have; None: no index.

    Without a declared one, only those of more than `in_memory` bytes get one, and keep it: others are searched there.
    """
    has = None if state.made is None else state.made.index
    if rows < INDEXED_FROM:
        return has
    if spec.index is not None:
        return None if spec.index.kind == "flat" else spec.index
    return has if has is not None or in_memory is None or _size(spec, rows) <= in_memory else _DEFAULT


def is_due(spec: VectorSpec, state: State, rows: int, index: IndexSpec | None, now: datetime) -> bool:
    """Whether a table of so many rows is to be copied now, to have this index."""
    made = state.made
    if made is None:
        return state.n >= PUBLICATIONS or index is not None
    if made.index is None and index is not None:  # once in a table's life
        return True
    if (now - made.at).total_seconds() < _size(spec, rows) / BYTES_A_SECOND:
        return False
    if made.index != index:
        return True
    return state.n - made.n >= PUBLICATIONS if index is None else state.changed > _CHANGED * rows


def lacking(spec: VectorSpec, state: State | None) -> list[FilterField]:
    """The fields to filter by that the table does not mirror yet."""
    return [field for field in spec.filter_fields if state is None or field not in state.filters]


def recorded_since(states: Iterable[State]) -> dict[str, datetime]:
    """The stored paths of fields whose changes are recorded for any engine, each with since when at the latest."""
    found: dict[str, datetime] = {}
    for state in states:
        for one in (state.made, state.coming):
            if one is not None:
                for field in one.filters:
                    found[field.path] = min(one.at, found.get(field.path, one.at))
    return found


def _size(spec: VectorSpec, rows: int) -> int:
    return 4 * spec.dim * rows
