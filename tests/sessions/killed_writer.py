"""A process whose threads or tasks commit unit after unit, say which are committed, and is killed."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

from superorm import AsyncSession, Session, connect, connect_async
from tests.sessions.taking import take, take_async

SETTINGS: dict[str, Any] = {"vector_database": "memory://", "signing_key": "test-key"}


def say(line: str) -> None:
    """Say it in one piece, whoever else says something."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def threads(uri: str, database: str, steps: Any, writers: dict[str, int]) -> None:
    """Each commits the units of a writer, numbered from that writer's first on, for ever."""
    with connect(uri, database=database, **SETTINGS) as db:
        db.open()

        def commit(writer: str, first: int) -> None:
            for unit in itertools.count(first):
                with Session(db) as session:
                    take(steps(session, writer, unit))
                    session.commit()
                say(f"{writer}: {unit}")

        say("ready")
        with ThreadPoolExecutor() as pool:
            list(pool.map(commit, writers, writers.values()))


async def tasks(uri: str, database: str, steps: Any, writers: dict[str, int]) -> None:
    """The same, all in one event loop."""
    async with connect_async(uri, database=database, **SETTINGS) as db:
        await db.open()

        async def commit(writer: str, first: int) -> None:
            for unit in itertools.count(first):
                async with AsyncSession(db) as session:
                    await take_async(steps(session, writer, unit))
                    await session.commit()
                say(f"{writer}: {unit}")

        say("ready")
        await asyncio.gather(*map(commit, writers, writers.values()))


def main(uri: str, database: str, units: str, kind: str, writers: str) -> None:
    """Let writers, given with their first units as JSON, commit units of a module."""
    steps = import_module(f"tests.sessions.{units}").steps
    if kind == "tasks":
        asyncio.run(tasks(uri, database, steps, json.loads(writers)))
    else:
        threads(uri, database, steps, json.loads(writers))


if __name__ == "__main__":
    main(*sys.argv[1:])
