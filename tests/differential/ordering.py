"""What the server sorts by: of a list its least element, or in descending order its greatest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.differential.values import MISSING, compare, key_of

__all__ = ["compare_keys", "sort_key", "sort_key_at"]


def sort_key_at(document: Any, path: str, direction: int) -> Any:
    """The value that a document is sorted by, for a dotted path."""
    keys = list(_keys(document, path.split(".")))
    return (min if direction > 0 else max)(keys, key=key_of)


def sort_key(value: Any, direction: int) -> Any:
    """The value that a row is sorted by, for a computed value."""
    return (min if direction > 0 else max)(list(_ends(value)), key=key_of)


def compare_keys(one: list[Any], other: list[Any], directions: list[int]) -> int:
    """The order of two rows by several keys."""
    for mine, theirs, direction in zip(one, other, directions, strict=True):
        found = compare(mine, theirs) * direction
        if found:
            return found
    return 0


def _keys(value: Any, parts: list[str]) -> Iterator[Any]:
    for position, part in enumerate(parts):
        if isinstance(value, list):
            if part.isdigit() and int(part) < len(value):
                at = value[int(part)]
                yield from (
                    _keys(at, parts[position + 1 :]) if position + 1 < len(parts) else [MISSING if at == [] else at]
                )
                return
            for element in value:
                yield from _keys(element, parts[position:]) if isinstance(element, dict) else [None]
            if not value:
                yield None
            return
        value = value.get(part, MISSING) if isinstance(value, dict) else MISSING
    yield from _ends(value)


def _ends(value: Any) -> Iterator[Any]:
    """An empty list is before null, as nothing at all; a missing key is null."""
    if isinstance(value, list):
        yield from value or [MISSING]
    else:
        yield None if value is MISSING else value
