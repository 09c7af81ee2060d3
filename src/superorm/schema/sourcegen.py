"""Functions made from source text, visible in tracebacks."""

from __future__ import annotations

import linecache
from collections.abc import Callable
from itertools import count
from typing import Any

__all__ = ["make_function"]

_numbers = count()


def make_function(name: str, title: str, lines: list[str], namespace: dict[str, Any]) -> Callable[..., Any]:
    """The function `name` that the source lines define, with `namespace` as its globals."""
    filename = f"<superorm {title} {next(_numbers)}>"
    source = "\n".join(lines) + "\n"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    exec(compile(source, filename, "exec"), namespace)
    function: Callable[..., Any] = namespace[name]
    return function
