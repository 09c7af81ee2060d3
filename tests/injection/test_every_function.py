"""Each function takes each hostile value, wherever it takes a value, as a literal, or refuses it."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import Parameter, signature
from itertools import product
from typing import Any

import pytest

from superorm import SuperormError, func, select, window
from superorm.expr.narrow import is_dict, is_list
from tests.injection.values import Thing

T: Any = Thing
FUNCTIONS = [name for name in dir(func) if not name.startswith("_")]
WITHOUT_VALUES = {"count", "dense_rank", "document_number", "rand", "rank"}
BY_NAME = {"bucket", "bucket_auto", "cond", "filter", "map", "meta", "object", "reduce"}
"""What needs conditions, functions or names beside a value; `test_literals` and `test_names` feed these."""
HOSTILE: list[Any] = [
    *("$hostile", "$$ROOT", "$$NOW", {"$exists": True}, {"$where": "hostile"}, {"$literal": "$hostile"}),
    *({"a": {"$add": ["$hostile", 1]}}, ["$hostile"], [{"$getField": "hostile"}], {"a.b": "$$ROOT"}),
]
OTHERS: list[Any] = [T.n, T.value, T.values, T.text, "day", 1]


def forms(function: Any, value: Any) -> Iterator[tuple[list[Any], dict[str, Any]]]:
    """Arguments with the value at each position, and as each argument that has a name."""
    for count in range(1, 5):
        for at, other in product(range(count), OTHERS):
            yield [other] * at + [value] + [other] * (count - at - 1), {}
    yield [value], {"order_by": T.n}
    yield [1, value], {"order_by": T.n}
    named = [one.name for one in signature(function).parameters.values() if one.kind is Parameter.KEYWORD_ONLY]
    for name, count, other in product(named, range(3), OTHERS):
        yield [other] * count, {name: value}


def bare(tree: Any) -> Iterator[str]:
    """What the server would read as hostile: a path, a variable, an operator or a name outside of literals."""
    if is_dict(tree):
        for key, inner in tree.items():
            if key in ("$exists", "$where", "a.b") or (key == "$getField" and inner == "hostile"):
                yield key
            if key != "$literal":
                yield from bare(inner)
    elif is_list(tree):
        for inner in tree:
            yield from bare(inner)
    elif isinstance(tree, str) and ("hostile" in tree or tree in ("$$ROOT", "$$NOW")):
        yield tree


def pipelines(expression: Any) -> Iterator[list[dict[str, Any]]]:
    """What is sent of an expression, or of what is computed over a group or a window."""
    for make in (lambda: expression, lambda: window(expression, order_by=T.n)):
        try:
            yield select(make()).select_from(T).pipeline()
        except (SuperormError, TypeError):
            continue


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in BY_NAME])
def test_every_function(name: str) -> None:
    """No argument becomes more than a value."""
    function = getattr(func, name)
    taken = 0
    for value in HOSTILE:
        for arguments, options in forms(function, value):
            try:
                expression = function(*arguments, **options)
            except (SuperormError, TypeError):
                continue
            for pipeline in pipelines(expression):
                taken += 1
                assert [] == list(bare(pipeline)), (arguments, options, pipeline)
    assert (taken == 0) == (name in WITHOUT_VALUES)
