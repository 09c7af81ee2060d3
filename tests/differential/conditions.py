# pyright: reportPrivateUsage=false
"""Strategies for expressions and conditions, made by the public interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from superorm import case, func
from superorm.expr.base import Expr, Predicate
from tests.differential.classes import Part, Thing
from tests.differential.data import Pool, integers, texts

__all__ = ["LISTS", "NUMBERS", "PATHS", "TOP", "Draw", "arithmetic", "comparison", "conditions", "values"]

Draw = Callable[[Any], Any]

TOP = [Thing.n, Thing.q, Thing.a, Thing.s, Thing.k]
"""What can be selected: of any type."""
PATHS = [*TOP, Thing.e.n, Thing.e.s, Thing.m["k"]]
NUMBERS = [Thing.n, Thing.q]
LISTS = {repr(field) for field in (Thing.l, Thing.a, Thing.k, Thing.m["k"], Thing.e.n, Thing.e.s)}
"""What may hold lists."""
OPS: list[Callable[[Any, Any], Any]] = [
    lambda one, other: one == other,
    lambda one, other: one != other,
    lambda one, other: one > other,
    lambda one, other: one >= other,
    lambda one, other: one < other,
    lambda one, other: one <= other,
]
REGEXES = ["^a", "b$", "a.b", "[ab]{2}", "", "A"]


@st.composite
def arithmetic(draw: Draw, depth: int = 1) -> Expr[Any, Any]:
    """A number calculated from fields that hold numbers or nothing."""
    left: Any = draw(arithmetic(depth - 1)) if depth and draw(st.booleans()) else draw(st.sampled_from(NUMBERS))
    right: Any = draw(st.one_of(integers, st.sampled_from([0.5, 2.25]), st.sampled_from(NUMBERS)))
    match draw(st.integers(0, 6)):
        case 0:
            return left + right
        case 1:
            return left - right
        case 2:
            return left * right
        case 3:
            return left / draw(st.sampled_from([2, -4, 0.5]))
        case 4:
            return left % draw(st.sampled_from([2, 3, -2]))
        case 5:
            return right - left if not isinstance(right, Expr) else -left
        case _:
            return func.abs(left)


@st.composite
def values(draw: Draw, pool: Pool) -> Expr[Any, Any]:
    """A value computed from a row, of whatever type."""
    match draw(st.integers(0, 5)):
        case 0 | 1:
            return draw(arithmetic())
        case 2:
            otherwise = draw(st.one_of(pool.scalars, st.sampled_from(TOP)))
            return case(
                (draw(conditions(pool, 1)), draw(st.one_of(pool.scalars, st.sampled_from(TOP)))), else_=otherwise
            )
        case 3:
            return func.if_null(draw(st.sampled_from(TOP)), draw(pool.scalars))
        case 4:
            return func.concat(Thing.s, draw(texts))
        case _:
            return Thing.s


def comparison(draw: Draw, field: Any, literals: Any) -> Predicate[Any]:
    """A field or value compared with a literal."""
    match draw(st.integers(0, 7)):
        case 0 | 1 | 2 | 3:
            return draw(st.sampled_from(OPS))(field, draw(literals))
        case 4:
            return field.in_(draw(st.lists(literals, max_size=3)))
        case 5:
            return field.not_in(draw(st.lists(literals, max_size=3)))
        case 6:
            return field.is_(None)
        case _:
            low, high = draw(literals), draw(literals)
            return field.between(low, high)


@st.composite
def simple_conditions(draw: Draw, pool: Pool) -> Predicate[Any]:
    """A condition that the match language has itself."""
    match draw(st.integers(0, 11)):
        case 0 | 1 | 2 | 3 | 4:
            return comparison(draw, draw(st.sampled_from([*PATHS, Thing.l, Thing.l[0], Thing.p])), pool.anything)
        case 5:
            return draw(st.sampled_from([*PATHS, Thing.e, Thing.l])).exists()
        case 6:
            text = draw(texts)
            field: Any = draw(st.sampled_from([Thing.s, Thing.a, Thing.e.s]))
            how = draw(st.sampled_from(["startswith", "endswith", "contains"]))
            return getattr(field, how)(text, ignore_case=draw(st.booleans()))
        case 7:
            field = draw(st.sampled_from([Thing.s, Thing.a, Thing.l]))
            return field.regex(draw(st.sampled_from(REGEXES)), ignore_case=draw(st.booleans()))
        case 8:
            return Thing.l.contains(draw(st.one_of(integers, texts, st.none(), st.just([1]))))
        case 9:
            return Thing.l.all_(draw(st.lists(st.one_of(integers, texts, st.none()), max_size=3)))
        case 10:
            inner = [comparison(draw, Part.n, pool.numbers), comparison(draw, Part.s, texts)]
            return Thing.p.any_(*inner[: draw(st.integers(1, 2))])
        case _:
            return draw(st.sampled_from(OPS))(Thing.l.size(), draw(st.integers(0, 3)))


@st.composite
def conditions(draw: Draw, pool: Pool, depth: int = 2, *, simple: bool = False) -> Predicate[Any]:
    """Any condition on a Thing; `simple` ones need no aggregation expressions."""
    if depth and draw(st.integers(0, 2)) == 0:
        one, other = (draw(conditions(pool, depth - 1, simple=simple)) for _ in range(2))
        return draw(st.sampled_from([one & other, one | other, ~one]))
    kind = draw(st.integers(0, 5))
    if simple or kind < 3:
        return draw(simple_conditions(pool))
    if kind == 3:
        one, other = (draw(st.sampled_from(TOP)) for _ in range(2))
        return draw(st.sampled_from(OPS))(one, other)
    return comparison(draw, draw(arithmetic() if depth == 0 else values(pool)), pool.scalars)
