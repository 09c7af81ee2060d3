"""Refusing by name what a backend does not have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from superorm.compile.plan import Aggregate, Find, Read
from superorm.exc import UnsupportedError
from superorm.expr.narrow import is_dict, is_list

__all__ = ["NOT_IN_TRANSACTIONS", "check_capabilities"]

NOT_IN_TRANSACTIONS = frozenset({"$merge", "$out", "$unionWith"})
"""Stages that the server refuses inside a transaction, which it then aborts."""


def check_capabilities(plan: Read, unsupported: frozenset[str], backend: str, advice: str = "") -> None:
    """Raise `UnsupportedError` where a plan names a stage or an operator of `unsupported`."""
    if not unsupported:
        return
    stages: Any = list(plan.pipeline) if isinstance(plan, Aggregate) else [{"$match": plan.filter}]
    if isinstance(plan, Find) and plan.projection is not None:
        stages.append({"$project": dict(plan.projection)})
    for name in _operators(stages):
        if name in unsupported:
            raise UnsupportedError(f"{backend} has no {name}{advice}")


def _operators(value: Any) -> Iterator[str]:
    """The names of stages and operators of expressions; literals hold none."""
    if is_dict(value):
        for key, inner in value.items():
            if key.startswith("$"):
                yield key
            if key in ("$match", "restrictSearchWithMatch"):
                yield from _in_filter(inner)
            elif key != "$literal":
                yield from _operators(inner)
    elif is_list(value):
        for inner in value:
            yield from _operators(inner)


def _in_filter(filter: Any) -> Iterator[str]:
    """The names of the operators of expressions in a filter, whose other conditions are on literals."""
    for key, inner in filter.items():
        if key == "$expr":
            yield from _operators(inner)
        elif key in ("$and", "$or", "$nor"):
            for condition in inner:
                yield from _in_filter(condition)
