"""Asynchronous objects, used without ``await``."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

from superorm import AsyncSession


class Driven:
    """An object whose coroutines are each run to their end, all in one event loop."""

    def __init__(self, target: Any, runner: asyncio.Runner) -> None:
        self._target = target
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if not inspect.ismethod(found):
            return found

        def call(*args: Any, **options: Any) -> Any:
            done = found(*args, **options)
            if inspect.iscoroutine(done):
                return self._runner.run(done)
            return Driven(done, self._runner) if isinstance(done, AsyncSession) else done

        return call

    def __contains__(self, instance: object) -> bool:
        return instance in self._target
