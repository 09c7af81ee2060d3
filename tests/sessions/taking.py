"""Steps of a unit of work, taken by sessions of both kinds."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from typing import Any, TypeAlias

Steps: TypeAlias = Generator[Any, Any, None]
"""Gives what a method of the session returned, to be awaited where that is asynchronous, and is given the result."""


def take(steps: Steps) -> None:
    """Take them to the end."""
    found: Any = None
    with suppress(StopIteration):
        while True:
            found = steps.send(found)


async def take_async(steps: Steps) -> None:
    """The same of an asynchronous session."""
    found: Any = None
    with suppress(StopIteration):
        while True:
            found = await steps.send(found)
