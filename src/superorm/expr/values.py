"""Plain values in statements: names, texts and numbers, checked; copies; and how they are printed."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, cast

import numpy as np
from bson import Decimal128

from superorm.exc import StatementError
from superorm.expr.literals import ATOMIC, literal
from superorm.expr.narrow import is_dict, is_list, is_tuple
from superorm.expr.reprs import typed_repr

__all__ = ["checked_count", "checked_flag", "checked_name", "checked_number", "own_copy", "shortened", "text_literal"]


_NUMBERS = (int, float, Decimal, Decimal128, np.integer, np.floating)
_NO_NUMBERS: tuple[type, ...] = (bool, np.timedelta64)
"""Classes that derive from one of these all the same."""


def checked_count(name: str, value: int, *, least: int, most: int = 2**31 - 1) -> int:
    if type(value) is not int:
        raise StatementError(f"{name} takes a whole number, not {typed_repr(value)}")
    if not least <= value <= most:
        raise StatementError(f"{name} must be from {least} to {most}, not {value}")
    return value


def checked_flag(name: str, value: object) -> bool:
    """The value itself; raises `StatementError` unless it is True or False."""
    if not isinstance(value, bool):
        raise StatementError(f"{name} takes True or False, not {typed_repr(value)}")
    return value


def checked_number(value: object) -> None:
    """Raise `StatementError` for what is no number."""
    if isinstance(value, _NO_NUMBERS) or not isinstance(value, _NUMBERS):
        raise StatementError(
            f"arithmetic takes numbers, not {typed_repr(value)}; "
            "func.concat() joins texts, func.date_add() and func.date_diff() work with dates"
        )


def checked_name(name: object) -> str:
    """A name for a value in rows. Raises `StatementError` for what cannot be a key of a document."""
    text = str.__str__(name) if isinstance(name, str) else ""  # of a subclass the text itself
    if not text or text.startswith(("$", "__")) or {".", "\0"} & set(text):
        raise StatementError(
            f"{name!r} cannot be a label: that is a text, not empty, without dots and NUL, "
            "which does not begin with $ or two underscores"
        )
    return cast("str", literal(text))


def text_literal(name: str, value: object) -> str:
    """A text to search for. Raises `StatementError`."""
    if not isinstance(value, str):
        raise StatementError(f".{name}() on a text takes a text, not {typed_repr(value)}")
    text = cast("str", literal(value))
    if "\0" in text:
        raise StatementError(f".{name}() cannot search for a NUL character")
    return text


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
