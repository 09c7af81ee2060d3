"""Steps into lists and dicts; a value that does not fit is reported with its position or key."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from superorm.schema.types.base import Misfit

__all__ = ["checked_keys", "each", "each_item"]


def checked_keys(items: dict[Any, Any]) -> dict[str, Any]:
    """The same dict. Raises `Misfit` for a key that no stored dict may have."""
    for key in items:
        if not isinstance(key, str) or "." in key or "$" in key or "\0" in key:
            raise Misfit(key, "a key that is a string without dots, dollar signs and NUL")
    return items


def each_item(convert: Callable[[Any], Any], items: dict[str, Any]) -> dict[str, Any]:
    """The items with their values converted. Raises `Misfit` with the key."""
    result: dict[str, Any] = {}
    for key, item in items.items():
        try:
            result[key] = convert(item)
        except Misfit as misfit:
            raise misfit.within(key) from None
    return result


def each(convert: Callable[[Any], Any], values: Iterable[Any]) -> list[Any]:
    """The values converted. Raises `Misfit` with the position."""
    result: list[Any] = []
    try:
        result.extend(map(convert, values))
    except Misfit as misfit:
        raise misfit.within(len(result)) from None  # so many were converted before it
    return result
