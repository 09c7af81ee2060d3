"""A worker process, as the driver sees it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["TaskError", "Worker"]

_SCRIPT = Path(__file__).with_name("worker.py")


class TaskError(Exception):
    """What went wrong in the worker."""


class Worker:
    """A candidate in a process of its own, under its own Python."""

    def __init__(self, python: str, name: str, uri: str, database: str) -> None:
        self._process = subprocess.Popen(
            [python, _SCRIPT, name, uri, database], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            hello = self._answer()
        except BaseException:
            self.close()
            raise
        self.versions: str = hello["versions"]
        self.notes: dict[str, str] = hello["notes"]
        self.tasks: list[str] = hello["tasks"]

    def run(self, task: str, n: int) -> dict[str, float]:
        """Carry out a task over n documents. Raises `TaskError`."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([task, n]) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise TaskError(f"the worker ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise TaskError(answer["error"])
        return answer

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
