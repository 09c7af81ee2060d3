"""One candidate in a process of its own: ``python worker.py NAME URI DATABASE``.

It reads requests and writes answers, a line of JSON each.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import pymongo
from mapper import Mapper
from timing import TASKS, Tasks, finished


async def serve(name: str, uri: str, database: str, answers: TextIO) -> None:
    """Answer requests until there are none."""

    def answer(message: Mapping[str, Any]) -> None:
        print(json.dumps(message), file=answers, flush=True)

    module = importlib.import_module(f"candidates.{name}")
    mapper: Mapper = module.Candidate()
    await finished(mapper.open(uri, database))
    tasks = Tasks(mapper)
    able = [task for task, method in TASKS.items() if hasattr(mapper, method)]
    answer({"tasks": able, "notes": mapper.notes, "versions": versions(module)})
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):  # the loop goes on: clients keep their watch
        task, n = json.loads(line)
        try:
            result = await getattr(tasks, task)(n)
        except Exception as error:  # noqa: BLE001  one candidate's failure is a cell of the table
            answer({"error": f"{type(error).__name__}: {error}"})
        else:
            answer(result)
        await finished(mapper.forget())


def versions(module: Any) -> str:
    """What is measured, for the line below the table."""
    return f"{module.NAME} on PyMongo {pymongo.version}, Python {sys.version.split()[0]}"


if __name__ == "__main__":
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as own_stdout:
        os.dup2(2, 1)  # what a library prints is no answer
        asyncio.run(serve(*sys.argv[1:4], own_stdout))
