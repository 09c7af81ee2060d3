"""Compare named candidates in interleaved runs.

A ratio of medians says more than either time, and interleaving gives a slow minute of the machine to all alike.
Nothing here fails because something is slow.
"""

from __future__ import annotations

import ast
import io
import os
import subprocess
import sys
import tokenize
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

from attrs import frozen

__all__ = ["Time", "code_lines", "interleave", "run_until", "table", "timed"]


@frozen
class Time:
    """Seconds that one run took."""

    wall: float
    cpu: float


def interleave(candidates: Mapping[str, Callable[[], Time]], runs: int, often: Collection[str] = ()) -> dict[str, Time]:
    """Run each candidate `runs` times, by turns and in alternating order; the medians.

    Those named in `often` run again before each of the others: small differences between them show in many runs only.
    """
    times: dict[str, list[Time]] = {name: [] for name in candidates}
    frequent = [name for name in candidates if name in often]
    others: Sequence[str | None] = [name for name in candidates if name not in often] or [None]
    turn = 0
    for i in range(runs):
        for other in others if i % 2 == 0 else reversed(others):
            names = frequent if turn % 2 == 0 else frequent[::-1]
            for name in names if other is None else (*names, other):
                times[name].append(candidates[name]())
            turn += 1
    return {
        name: Time(median(time.wall for time in runs), median(time.cpu for time in runs))
        for name, runs in times.items()
    }


def timed(function: Callable[[], object]) -> Callable[[], Time]:
    """A candidate of a function of this process."""

    def run() -> Time:
        wall, cpu = perf_counter(), process_time()
        function()
        return Time(perf_counter() - wall, process_time() - cpu)

    return run


def run_until(command: Sequence[str | Path], text: str | None, env: Mapping[str, str] | None = None) -> Time:
    """Run a program: wall time from its start to the first line of output with `text` in it (to its end without),
    CPU time of the program to its end, without its servers.

    Raises `RuntimeError` with its output where it fails or never prints the text.
    """
    variables = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})}
    start = perf_counter()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=variables
    )
    assert process.stdout is not None
    output: list[str] = []
    wall: float | None = None
    with process.stdout:
        for line in process.stdout:
            output.append(line)
            if text is not None and wall is None and text in line:
                wall = perf_counter() - start
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if text is None:
        wall = perf_counter() - start
    if process.returncode != 0 or wall is None:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {process.returncode}:\n{''.join(output[-40:])}")
    return Time(wall, usage.ru_utime + usage.ru_stime)


def code_lines(*files: Path) -> int:
    """Lines with code in them: neither blank, nor a comment, nor part of a docstring."""
    return sum(_code_lines(file.read_text(encoding="utf-8")) for file in files)


def _code_lines(source: str) -> int:
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in skipped:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns, the first row as the heading, the first column to the left and the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for n, row in enumerate(rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        print("  ".join(cells).rstrip())
        if n == 0:
            print("  ".join("-" * width for width in widths))
    sys.stdout.flush()
