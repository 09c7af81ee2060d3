"""Plain values in statements: counts, copies, and how they are printed."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from superorm.exc import StatementError
from superorm.expr.literals import ATOMIC
from superorm.expr.narrow import is_dict, is_list, is_tuple

__all__ = ["checked_count", "own_copy", "shortened"]


def checked_count(name: str, value: int, *, least: int, most: int = 2**31 - 1) -> int:
    if type(value) is not int:
        raise StatementError(f"{name} takes a whole number, not {type(value).__name__} {value!r}")
    if not least <= value <= most:
        raise StatementError(f"{name} must be from {least} to {most}, not {value}")
    return value


def own_copy(value: Any) -> Any:
    """The same in containers and arrays of its own."""
    if is_dict(value):
        copy = value.copy()
        for key, item in copy.items():
            if type(item) not in ATOMIC:
                copy[key] = own_copy(item)
        return copy
    if is_list(value):
        return [item if type(item) in ATOMIC else own_copy(item) for item in value]
    return cast("Any", value).copy() if isinstance(value, np.ndarray) else value


def shortened(value: Any) -> Any:
    """The same with long vectors cut, for printing."""
    if isinstance(value, np.ndarray):
        return f"<{value.size} numbers>"
    if is_dict(value):
        return {key: shortened(item) for key, item in value.items()}
    if not is_list(value) and not is_tuple(value):
        return value
    if len(value) > 20 and all(isinstance(item, (int, float)) for item in value):
        return f"<{len(value)} numbers>"
    return [shortened(item) for item in value]
