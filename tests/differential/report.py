# pyright: reportPrivateUsage=false
"""Answers compared: rows of one place in the order may change places."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pprint import pformat
from typing import Any

from superorm import Document
from superorm.expr.base import Expr, Label
from superorm.expr.statements import Select
from tests.differential.oracle import Answer
from tests.differential.values import shown

__all__ = ["difference", "differing"]


def differing(select: Select[Any, Any], expected: Answer, found: Sequence[Sequence[Any]]) -> str:
    """What is wrong with the rows found, with the statement and its pipeline; empty where nothing is."""
    wrong = difference(select, expected, found)
    if not wrong:
        return ""
    try:
        pipeline = pformat(select.pipeline(), width=110, sort_dicts=False)
    except Exception as error:  # noqa: BLE001 - it is part of the report
        pipeline = repr(error)
    return f"{described(select)}\n\npipeline:\n{pipeline}\n\n{wrong}"


def difference(select: Select[Any, Any], expected: Answer, found: Sequence[Sequence[Any]]) -> str:
    """The rows that differ."""
    sets = [_is_set(entity) for entity in select._entities]
    wanted = [_shown_row(row, sets) for row in expected.rows]
    actual = [_shown_row(row, sets) for row in found]
    if len(wanted) != len(actual):
        return _rows(wanted, actual)
    start = 0
    while start < len(wanted):
        end = start + expected.places.count(expected.places[start])
        if Counter(wanted[start:end]) != Counter(actual[start:end]):
            return f"rows {start} to {end}:\n" + _rows(wanted[start:end], actual[start:end])
        start = end
    return ""


def _rows(wanted: list[Any], actual: list[Any]) -> str:
    one, other = Counter(wanted), Counter(actual)
    lines = [f"{len(wanted)} rows expected, {len(actual)} found"]
    lines += [f"  only expected: {row}" for row in (one - other).elements()]
    lines += [f"  only found:    {row}" for row in (other - one).elements()]
    if len(lines) == 1:
        lines += [f"expected order: {wanted}", f"found order:    {actual}"]
    return "\n".join(lines)


def _is_set(entity: Any) -> bool:
    """Whether it gives a list in no order."""
    call = entity.expr if isinstance(entity, Label) else entity
    return isinstance(entity, Expr) and getattr(getattr(call, "operator", None), "op", None) == "$addToSet"


def _shown_row(row: Sequence[Any], sets: list[bool]) -> Any:
    values = [_plain(value) for value in row]
    return tuple(
        frozenset(map(shown, value)) if is_set and isinstance(value, list) else shown(value)
        for value, is_set in zip(values, sets, strict=True)
    )


def _plain(value: Any) -> Any:
    """A value with what stands for whole documents in the oracle's rows."""
    if isinstance(value, Document):
        return ("whole", value.id)  # type: ignore[attr-defined]
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def described(select: Select[Any, Any]) -> str:
    """The statement's parts."""
    lines = [f"select {select._entities} of {select._root}"]
    for step in select._steps:
        lines.append(f"  {type(step).__name__}")
        for name in type(step).__slots__:
            value = getattr(step, name, None)
            if not name.startswith("_") and repr(value) not in ("()", "None", "False", "0"):
                lines.append(f"    {name}: {value!r}")
    return "\n".join(lines)
