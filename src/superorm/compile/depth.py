"""How deep what is sent may nest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from superorm.expr.narrow import is_dict, is_list
from superorm.expr.nesting import too_deep

__all__ = ["check_depth"]

_LEVELS = 190
"""The server takes 200 levels of documents and arrays, among them those of the command around a statement."""


def check_depth(sent: Any) -> None:
    """Raise `StatementError` where a filter or a pipeline nests deeper than the server takes."""
    level: list[Any] = [sent]
    for _ in range(_LEVELS):
        level = [part for value in level for part in _parts(value)]
        if not level:
            return
    raise too_deep()


def _parts(value: Any) -> Iterator[Any]:
    """The documents and arrays in one; the server puts an operator that is the only operand of another in an array."""
    if is_list(value):
        yield from (part for part in value if is_dict(part) or is_list(part))
        return
    for key, part in value.items():
        if is_list(part):
            yield part
        elif is_dict(part):
            yield [part] if key[:1] == "$" and len(part) == 1 and next(iter(part))[:1] == "$" else part
