"""What is timed: each task calls one method of a mapper, and checks that it did the work."""

from __future__ import annotations

import gc
import inspect
import random
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from data import age_sum, age_sum_of_parts, flat, nested
from mapper import Mapper

__all__ = ["STATEMENTS", "TASKS", "Tasks"]

STATEMENTS = 10_000
"""How often the task `statement` builds and compiles its statement."""


class Tasks:
    """The tasks of one mapper. Each returns seconds, or mebibytes."""

    def __init__(self, mapper: Mapper) -> None:
        self.mapper = mapper
        self.checksums: dict[tuple[str, int], int] = {}

    async def load_flat(self, n: int) -> dict[str, float]:
        result, times = await timed(self.mapper.load_flat)
        self._check(self.mapper.age_sum(result), "flat", n)
        return times

    async def stream_flat(self, n: int) -> dict[str, float]:
        result, times = await timed(self.mapper.stream_flat)
        self._check(result, "flat", n)
        return times

    async def load_nested(self, n: int) -> dict[str, float]:
        result, times = await timed(self.mapper.load_nested)
        self._check(self.mapper.read_parts(result), "nested", n)
        return times

    async def read_nested(self, n: int) -> dict[str, float]:
        async def load_and_read() -> tuple[list[Any], int]:
            objects = await finished(self.mapper.load_nested())
            return objects, self.mapper.read_parts(objects)

        (_, total), times = await timed(load_and_read)
        self._check(total, "nested", n)
        return times

    async def insert(self, n: int) -> dict[str, float]:
        return await self._insert("insert", n)

    async def add_all(self, n: int) -> dict[str, float]:
        return await self._insert("add_all", n)

    async def insert_values(self, n: int) -> dict[str, float]:
        return await self._insert("insert_values", n)

    async def _insert(self, way: str, n: int) -> dict[str, float]:
        objects = self.mapper.new_flat(flat(n))
        return (await timed(getattr(self.mapper, way), objects))[1]

    async def modify(self, n: int) -> dict[str, float]:
        value = random.randrange(1, 2**31)  # else the second candidate would find nothing to change

        async def load_and_modify() -> list[Any]:
            objects = await finished(self.mapper.load_flat())
            await finished(self.mapper.modify(objects, value))
            return objects

        objects, times = await timed(load_and_modify)
        self._check(self.mapper.age_sum(objects), "flat", n)
        return times | {"value": value}

    async def statement(self, _: int) -> dict[str, float]:
        def repeat() -> None:
            build = self.mapper.statement
            for _ in range(STATEMENTS):
                build()

        built = self.mapper.statement()
        times = (await timed(repeat))[1]
        if not all(word in repr(built) for word in ("age", "score", "name", "10")):
            raise ValueError(f"no filter, sort and limit: {built!r}")
        return times

    async def flush_flat(self, _: int) -> dict[str, float]:
        objects = await finished(self.mapper.load_flat())
        return (await timed(self.mapper.flush, objects))[1]

    async def flush_nested(self, _: int) -> dict[str, float]:
        objects = await finished(self.mapper.load_nested())
        self.mapper.read_parts(objects)
        return (await timed(self.mapper.flush, objects))[1]

    async def memory_of_stream(self, n: int) -> dict[str, float]:
        """The highest resident size while streaming."""
        self._check(await finished(self.mapper.stream_flat()), "flat", n)
        return {"mib": resident("VmHWM")}

    async def memory_of_load(self, n: int) -> dict[str, float]:
        """How much the resident size grew by loading."""
        before = resident("VmRSS")
        objects = await finished(self.mapper.load_flat())
        after = resident("VmRSS")
        self._check(self.mapper.age_sum(objects), "flat", n)
        return {"mib": after - before}

    def _check(self, found: int, kind: str, n: int) -> None:
        if (kind, n) not in self.checksums:
            self.checksums[kind, n] = age_sum(flat(n)) if kind == "flat" else age_sum_of_parts(nested(n))
        if found != self.checksums[kind, n]:
            raise ValueError(f"read {found} of {n} {kind} documents, not {self.checksums[kind, n]}")


TASKS = {
    "load_flat": "load_flat",
    "stream_flat": "stream_flat",
    "load_nested": "load_nested",
    "read_nested": "load_nested",
    "insert": "insert",
    "insert_values": "insert_values",
    "add_all": "add_all",
    "modify": "modify",
    "flush_flat": "flush",
    "flush_nested": "flush",
    "statement": "statement",
    "memory_of_stream": "stream_flat",
    "memory_of_load": "load_flat",
}
"""The method that each task times."""


async def finished(result: Any) -> Any:
    """The result, awaited where it has to be."""
    return await result if inspect.isawaitable(result) else result


async def timed(function: Callable[..., Any], *args: Any) -> tuple[Any, dict[str, float]]:
    """What the function returns, and the seconds it took: wall time, and CPU time of all threads of the process."""
    gc.collect()
    wall, cpu = perf_counter(), process_time()
    result = function(*args)
    if inspect.isawaitable(result):
        result = await result
    return result, {"cpu": process_time() - cpu, "wall": perf_counter() - wall}


def resident(line: str) -> float:
    """A line of this process's status, in MiB: VmRSS is the resident size, VmHWM its highest so far."""
    for text in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if text.startswith(f"{line}:"):
            return int(text.split()[1]) / 1024
    raise RuntimeError(f"no {line} in /proc/self/status")
