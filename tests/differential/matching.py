"""MongoDB's match language over plain values: which of the values at a path meet a condition."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tests.differential.values import MISSING, compare, is_nan, kind

__all__ = ["at_path", "leaves", "meets", "meets_element"]


def leaves(value: Any, *, expand: bool = True) -> Iterator[Any]:
    """The values that a condition looks at where `value` stands: a list's elements, then the list itself."""
    if expand and isinstance(value, list):
        yield from value
    yield value


def at_path(document: Any, path: str, *, expand: bool = True) -> Iterator[Any]:
    """The values that a condition on a dotted path looks at.

    Lists on the way are looked through; a missing key is `MISSING`.
    Without `expand` a list at the end stands for itself only.
    """
    yield from _walk(document, path.split("."), expand)


def _walk(value: Any, parts: list[str], expand: bool) -> Iterator[Any]:
    for position, part in enumerate(parts):
        if isinstance(value, list):
            yield from _through(value, parts[position:], expand)
            return
        value = value.get(part, MISSING) if isinstance(value, dict) else MISSING
    yield from leaves(value, expand=expand)


def _through(values: list[Any], parts: list[str], expand: bool) -> Iterator[Any]:
    """The values below the elements of a list, where a part may be a position too."""
    for position, element in enumerate(values):
        here = parts[0] == str(position)
        if isinstance(element, dict):
            yield from _walk(element, parts, expand)
        if not here:
            continue
        if len(parts) == 1:
            yield element
        elif isinstance(element, dict):
            yield from _walk(element, parts[1:], expand)
        elif isinstance(element, list):
            yield from _through(element, parts[1:], expand)


def meets_element(value: Any, op: str, literal: Any) -> bool:
    """Whether a single value, lists as a whole, compares so with a literal: within one type, null is missing too."""
    if op == "$in":
        return any(meets_element(value, "$eq", item) for item in literal)
    if kind(value) != kind(literal):
        empty = {kind(value), kind(literal)} == {kind(None), kind(MISSING)}
        return empty and op in ("$eq", "$gte", "$lte")
    if is_nan(value) or is_nan(literal):
        return is_nan(value) and is_nan(literal) and op in ("$eq", "$gte", "$lte")
    found = compare(value, literal)
    return {"$eq": found == 0, "$gt": found > 0, "$gte": found >= 0, "$lt": found < 0, "$lte": found <= 0}[op]


def meets(candidates: list[Any], op: str, literal: Any) -> bool:
    """Whether the values at a path, lists expanded, meet a comparison with a literal."""
    match op:
        case "$ne":
            return not meets(candidates, "$eq", literal)
        case "$nin":
            return not meets(candidates, "$in", literal)
        case "$all":
            return bool(literal) and all(meets(candidates, "$eq", item) for item in literal)
        case _:
            return any(meets_element(value, op, literal) for value in candidates)


def matches_text(candidates: list[Any], pattern: str, options: str) -> bool:
    """Whether one of the values is a text in which the regular expression is found."""
    compiled = re.compile(pattern, re.IGNORECASE if "i" in options else 0)
    return any(isinstance(value, str) and compiled.search(value) is not None for value in candidates)
