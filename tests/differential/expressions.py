# pyright: reportPrivateUsage=false
"""Expressions and conditions evaluated in plain Python, as the server would."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Protocol

from superorm.expr.base import Call, Compare, ElemMatch, Expr, Label, Logical, Matches, Predicate
from superorm.expr.nodes import Case, Field
from tests.differential.matching import at_path, leaves, matches_text, meets, meets_element
from tests.differential.values import DECIMALS, MISSING, compare, is_number, number, present, same

__all__ = ["ABSENT", "Env", "at_field", "candidates", "evaluate", "fingerprint", "holds"]

ABSENT: Any = object()
"""What nothing has computed."""


class Env(Protocol):
    """What the expressions of a row can name."""

    def document(self, owner: Any) -> Any:
        """The document of a class in the row, `MISSING` where an outer join found none; else `ABSENT`."""
        ...

    def computed(self, node: Expr[Any, Any]) -> Any:
        """What an earlier stage computed for an expression; else `ABSENT`."""
        ...


def fingerprint(node: Any) -> Any:
    """The same for two expressions that are written alike. A label counts as what it names."""
    match node:
        case Label():
            return fingerprint(node.expr)
        case Field():
            return ("field", node._owner, node._path)
        case Expr():
            fields = [name for kind in type(node).__mro__ for name in getattr(kind, "__slots__", ())]
            return (type(node).__name__, *(fingerprint(getattr(node, name)) for name in fields if name[0] != "_"))
        case list() | tuple():
            return (type(node).__name__, *map(fingerprint, node))
        case _:
            return repr(node)


def at_field(document: Any, field: Field[Any, Any]) -> Any:
    """The value of a field where it stands in an expression: of a list on the way, that of each element that has it."""
    value = document
    for part in field._parts:
        if isinstance(part.step[1], int):
            value = value[part.step[1]] if isinstance(value, list) and part.step[1] < len(value) else MISSING
        elif part.stored is not None:
            value = _get(value, part.stored)
    return value


def _get(value: Any, key: str) -> Any:
    if isinstance(value, list):
        found = [item.get(key, MISSING) for item in value if isinstance(item, dict)]
        return [item for item in found if item is not MISSING]
    return value.get(key, MISSING) if isinstance(value, dict) else MISSING


def evaluate(node: Any, env: Env) -> Any:
    """The value of an expression, or a literal as it is."""
    if not isinstance(node, Expr):
        return node
    found = env.computed(node)
    if found is not ABSENT:
        return found
    match node:
        case Label():
            return evaluate(node.expr, env)
        case Field():
            document = env.document(node._owner)
            assert document is not ABSENT, f"{node!r} is not in the row"
            return at_field(document, node)
        case Predicate():
            return holds(node, env)
        case Case():
            chosen = (value for condition, value in node.whens if holds(condition, env))
            return evaluate(next(chosen, node.else_), env)
        case Call():
            args = [evaluate(arg, env) for arg in node.args]
            options = {name: evaluate(value, env) for name, value in node.options}
            return OPERATORS[node.operator.op](*args, **options)
        case _:
            raise NotImplementedError(f"the oracle does not know {node!r}")


def holds(condition: Any, env: Env) -> bool:
    """Whether a condition holds for a row."""
    match condition:
        case Logical("$and", items):
            return all(holds(item, env) for item in items)
        case Logical("$or", items):
            return any(holds(item, env) for item in items)
        case Logical("$nor", items):
            return not any(holds(item, env) for item in items)
        case Compare(left, "$exists", wanted):
            return any(value is not MISSING for value in candidates(left, env, expand=False)) is wanted
        case Compare(left, "$elemMatch", wanted):
            ((op, literal),) = wanted.items()
            lists = [value for value in candidates(left, env, expand=False) if isinstance(value, list)]
            return any(meets_element(item, op, literal) for values in lists for item in values)
        case Compare(left, op, right):
            literal = evaluate(right, env)
            return meets(candidates(left, env), op, None if literal is MISSING else literal)
        case Matches(left, pattern, options):
            return matches_text(candidates(left, env), pattern, options)
        case ElemMatch(left, items):
            lists = [value for value in candidates(left, env, expand=False) if isinstance(value, list)]
            elements = [Element(element) for values in lists for element in values if isinstance(element, (dict, list))]
            return any(all(holds(item, element) for item in items) for element in elements)
        case _:
            found = evaluate(condition, env)
            return found is True


def candidates(node: Expr[Any, Any], env: Env, *, expand: bool = True) -> list[Any]:
    """The values that a condition on an expression looks at."""
    while isinstance(node, Label) and env.computed(node) is ABSENT:
        node = node.expr
    if isinstance(node, Field) and env.computed(node) is ABSENT:
        document = env.document(node._owner)
        assert document is not ABSENT, f"{node!r} is not in the row"
        return list(at_path(document, node._path, expand=expand))
    return list(leaves(evaluate(node, env), expand=expand))


class Element:
    """An element of a list of embedded documents."""

    def __init__(self, value: Any) -> None:
        self.value = value if isinstance(value, dict) else {str(n): item for n, item in enumerate(value)}

    def document(self, owner: Any) -> Any:
        return self.value

    def computed(self, node: Expr[Any, Any]) -> Any:
        return ABSENT


# The operators


def _numeric(function: Callable[..., Any]) -> Callable[..., Any]:
    """Null where one of the arguments is null or missing; numbers of one type otherwise."""

    def apply(*args: Any) -> Any:
        if not all(map(present, args)):
            return None
        assert all(map(is_number, args)), f"no numbers: {args!r}"
        return function(*alike(args))

    return apply


def alike(values: Any) -> list[Any]:
    """Numbers in the widest of their types: decimals before doubles before integers."""
    numbers = [number(value) for value in values]
    if any(isinstance(value, Decimal) for value in numbers):
        return [value if isinstance(value, Decimal) else _decimal(value) for value in numbers]
    return [float(value) for value in numbers] if any(isinstance(value, float) for value in numbers) else numbers


def _decimal(value: float) -> Decimal:
    """A double has 15 digits as a decimal."""
    return Decimal(value) if isinstance(value, int) else Decimal(f"{value:.15g}")


def add(*values: Any) -> Any:
    total = values[0]
    for value in values[1:]:
        total = DECIMALS.add(total, value) if isinstance(total, Decimal) else total + value
    return _int64(total)


def _subtract(one: Any, other: Any) -> Any:
    return _int64(DECIMALS.subtract(one, other) if isinstance(one, Decimal) else one - other)


def _multiply(*values: Any) -> Any:
    product = values[0]
    for value in values[1:]:
        product = DECIMALS.multiply(product, value) if isinstance(product, Decimal) else product * value
    return _int64(product)


def divide(one: Any, other: Any) -> Any:
    return DECIMALS.divide(one, other) if isinstance(one, Decimal) else float(one) / float(other)


def _mod(one: Any, other: Any) -> Any:
    if isinstance(one, Decimal):
        return DECIMALS.remainder(one, other)
    if isinstance(one, float):
        return math.nan if math.isnan(one) or math.isnan(other) or math.isinf(one) else math.fmod(one, other)
    return int(math.copysign(abs(one) % abs(other), one))


def _int64(value: Any) -> Any:
    """Integers beyond 64 bits become doubles."""
    return float(value) if isinstance(value, int) and not -(2**63) <= value < 2**63 else value


def _whole(function: Callable[[Any], int]) -> Callable[[Any], Any]:
    def apply(value: Any) -> Any:
        if isinstance(value, int) or not math.isfinite(value):
            return value
        return type(value)(function(value))

    return apply


def _size(value: Any) -> Any:
    return len(value) if isinstance(value, list) else None


def _if_null(*values: Any) -> Any:
    return next((value for value in values[:-1] if present(value)), values[-1])


def _concat(*texts: Any) -> Any:
    return "".join(texts) if all(map(present, texts)) else None


def _text(function: Callable[[str], str]) -> Callable[[Any], str]:
    return lambda value: function(value) if present(value) else ""


def _ascii_upper(text: str) -> str:
    return "".join(c.upper() if c.isascii() else c for c in text)


def _ascii_lower(text: str) -> str:
    return "".join(c.lower() if c.isascii() else c for c in text)


def _element_at(values: Any, position: Any) -> Any:
    if not present(values) or not present(position):
        return None
    return values[int(position)] if -len(values) <= position < len(values) else MISSING


def _extreme(sign: int) -> Callable[..., Any]:
    def apply(*values: Any) -> Any:
        if len(values) == 1 and isinstance(values[0], list):
            values = tuple(values[0])
        found: Any = None
        for value in filter(present, values):
            found = value if found is None or compare(value, found) * sign > 0 else found
        return found

    return apply


def _concat_arrays(*lists: Any) -> Any:
    return [item for values in lists for item in values] if all(map(present, lists)) else None


def _slice(values: Any, *bounds: Any) -> Any:
    if not present(values) or not all(map(present, bounds)):
        return None
    if len(bounds) == 1:
        count = int(bounds[0])
        return values[:count] if count >= 0 else values[count:]
    start, count = map(int, bounds)
    start = max(start + len(values), 0) if start < 0 else start
    return values[start : start + count]


def _date_part(part: Callable[[Any], int]) -> Callable[[Any], Any]:
    return lambda value: part(value) if present(value) else None


OPERATORS: dict[str, Callable[..., Any]] = {
    "$abs": _numeric(abs),
    "$add": _numeric(add),
    "$arrayElemAt": _element_at,
    "$ceil": _numeric(_whole(math.ceil)),
    "$concat": _concat,
    "$concatArrays": _concat_arrays,
    "$dayOfMonth": _date_part(lambda moment: moment.day),
    "$divide": _numeric(divide),
    "$first": lambda values: _element_at(values, 0),
    "$floor": _numeric(_whole(math.floor)),
    "$ifNull": _if_null,
    "$in": lambda value, values: any(same(value, item) for item in values),
    "$isArray": lambda value: isinstance(value, list),
    "$isNumber": lambda value: is_number(value),
    "$last": lambda values: _element_at(values, -1),
    "$literal": lambda value: value,
    "$max": _extreme(1),
    "$min": _extreme(-1),
    "$mod": _numeric(_mod),
    "$month": _date_part(lambda moment: moment.month),
    "$multiply": _numeric(_multiply),
    "$reverseArray": lambda values: values[::-1] if present(values) else None,
    "$size": _size,
    "$slice": _slice,
    "$strLenCP": len,
    "$subtract": _numeric(_subtract),
    "$toLower": _text(_ascii_lower),
    "$toUpper": _text(_ascii_upper),
    "$year": _date_part(lambda moment: moment.year),
}
"""The scalar operators that the tests use, by the server's names."""
