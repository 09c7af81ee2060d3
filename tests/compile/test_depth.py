"""What nests deeper than the server takes is refused when it compiles."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import and_, or_
from typing import Any

import pytest

from superorm import Expr, Predicate, StatementError, case, delete, func, select, update
from superorm.compile.writes import compile_merge
from tests.compile.classes import Movie

YEAR: Any = Movie.year


def added(depth: int) -> Expr[Any, Any]:
    return reduce(lambda value, _: value + 1, range(depth), YEAR)


def alternating(depth: int) -> Predicate[Any]:
    """``$or`` in ``$and`` in ``$or``: nothing that could be flat."""
    start: Predicate[Any] = YEAR == 0
    return reduce(lambda one, n: (one | (YEAR == n)) & ((YEAR == -n) | (YEAR == n + 1)), range(depth), start)


@pytest.mark.parametrize("depth", [120, 5000])
@pytest.mark.parametrize(
    "compiled",
    [
        lambda n: select(added(n)).pipeline(),
        lambda n: select(Movie).where(added(n) > 3).pipeline(),
        lambda n: select(Movie).where((YEAR == 1) | (added(n) > 3)).pipeline(),
        lambda n: select(Movie).where(alternating(n)).pipeline(),
        lambda n: select(Movie).order_by(added(n)).pipeline(),
        lambda n: select(func.sum(added(n))).pipeline(),
        lambda n: select(reduce(lambda value, _: func.abs(value), range(n), YEAR)).pipeline(),
        lambda n: select(reduce(lambda value, k: case((YEAR == k, k), else_=value), range(n), YEAR)).pipeline(),
        lambda n: update(Movie).all().set(YEAR.to(added(n))).plan(),
        lambda n: delete(Movie).where(alternating(n)).plan(),
        lambda n: compile_merge(select(Movie.id, added(n).label("year")).merge_into("x")),
    ],
)
def test_too_deep(compiled: Callable[[int], object], depth: int) -> None:
    """Expressions and conditions of any kind, also where Python's own stack would end."""
    with pytest.raises(StatementError, match="nest deeper than the server takes, about 90 levels; join conditions by"):
        compiled(depth)


@pytest.mark.parametrize("join", [or_, and_])
def test_flat(join: Callable[[Any, Any], Any]) -> None:
    """What is joined by one operator is not deep, however much it is, and none of its parts has changed."""
    conditions: list[Any] = [YEAR != n for n in range(5000)]
    steps = [conditions[0]]
    for one in conditions[1:4]:
        steps.append(join(steps[-1], one))
    assert [2, 3, 4] == [len(step.items) for step in steps[1:]]
    (stage,) = select(Movie).where(reduce(join, conditions)).pipeline()
    ((_, items),) = stage["$match"].items()
    assert [{"year": {"$ne": n}} for n in range(5000)] == items
