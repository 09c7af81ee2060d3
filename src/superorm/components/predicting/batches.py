"""Items in batches, as they come."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable, Sized
from itertools import islice
from typing import Any

__all__ = ["count_of", "in_batches", "in_batches_async"]


def count_of(items: object) -> int:
    """How many items there are, 0 where nobody knows."""
    return len(items) if isinstance(items, Sized) else 0


def in_batches(items: Iterable[Any], size: int) -> Generator[list[Any]]:
    """At most `size` items after the other."""
    left = iter(items)
    while batch := list(islice(left, size)):
        yield batch


async def in_batches_async(items: Iterable[Any] | AsyncIterable[Any], size: int) -> AsyncGenerator[list[Any]]:
    """The same of items that may come asynchronously."""
    if isinstance(items, Iterable):
        for batch in in_batches(items, size):
            yield batch
        return
    waiting: list[Any] = []
    async for item in items:
        waiting.append(item)
        if len(waiting) == size:
            yield waiting
            waiting = []
    if waiting:
        yield waiting
