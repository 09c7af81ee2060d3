"""Expressions to the server's aggregation expressions."""

from __future__ import annotations

from typing import Any

from superorm.compile.constants import as_operand, bound, constant, every, or_empty
from superorm.compile.guards import (
    Test,
    accepts_null,
    against,
    anywhere,
    compared,
    elements_equal,
    is_number,
    matching,
    present,
)
from superorm.compile.paths import (
    element_class,
    elements_reached,
    field_expression,
    has_position,
    is_straight,
    located,
    may_be_list,
)
from superorm.compile.scope import ElementScope, Scope, joined_key, value_at
from superorm.exc import StatementError
from superorm.expr.base import Call, Compare, ElemMatch, Expr, Logical, Matches, Order, Predicate
from superorm.expr.kinds import is_call, is_case, is_expr, is_field, is_label, is_predicate, is_window
from superorm.expr.narrow import is_dict, is_list, is_tuple
from superorm.expr.nodes import Case, Score
from superorm.expr.operators import ARRAY, COUNT, LITERAL, OBJECT, SIZE, ZIP
from superorm.expr.outputs import OutputOf
from superorm.expr.rows import Bucket, GraphLookup, ListOf, Window

__all__ = [
    "accumulator",
    "emit",
    "emit_condition",
    "has_accumulator",
    "literal_first",
    "projected",
    "sort_path",
]

_STANDS: dict[type, str] = {
    Score: "can be used only after .like(...); of grouped rows func.max(score()) can, or group_by() it",
    Window: "stands in the select list and in order_by()",
    ListOf: "stands in the select list, under a label",
    GraphLookup: "stands in the select list, under a label",
    OutputOf: "is of documents in a select: not of grouped rows, nor before .like(...), nor in statements that write",
    Bucket: "stands in group_by(), alone, and in the select list beside it",
}
_FLIPPED: dict[str, Any] = {"$eq": "$eq", "$ne": "$ne", "$gt": "$lt", "$gte": "$lte", "$lt": "$gt", "$lte": "$gte"}


def emit(node: object, scope: Scope) -> Any:
    """The aggregation expression of an expression, or of a BSON literal.

    Raises `StatementError` for what the documents of the scope do not have.
    """
    if not is_expr(node):
        return constant(node)
    if is_field(node):
        return field_expression(node, scope)
    computed = scope.computed(node)
    if computed is not None:
        return value_at(computed)
    if is_label(node):
        return emit(node.expr, scope)
    if is_call(node):
        return _call(node, scope)
    if is_predicate(node):
        return emit_condition(node, scope)
    if is_case(node):
        return _case(node, scope)
    where = _STANDS.get(type(node), "is none of the values of the rows")
    raise StatementError(f"{node!r} {where}")


def projected(node: object, scope: Scope) -> Any:
    """The same as a value in ``$project`` or ``$set``, where numbers, texts and documents would mean something else."""
    emitted = emit(node, scope)
    if is_dict(emitted):
        is_operator = len(emitted) == 1 and next(iter(emitted)).startswith("$")
        return emitted if is_operator else {"$mergeObjects": [emitted]}
    path = isinstance(emitted, str) and emitted.startswith("$")
    return emitted if path or is_list(emitted) else {"$literal": emitted}


# Conditions


def emit_condition(predicate: Predicate[Any], scope: Scope) -> Any:
    """The condition as an expression that is true where MongoDB's match language would say so."""
    match predicate:
        case Logical("$nor", items):
            emitted = [emit(item, scope) for item in items]
            return _negated(emitted[0] if len(emitted) == 1 else {"$or": emitted})
        case Logical("$and", items):
            return every(emit(item, scope) for item in items)
        case Logical(op, items):
            return {op: [emit(item, scope) for item in items]}
        case Compare():
            return _compare(predicate, scope)
        case Matches(left, pattern, options):
            return _tested(left, matching(pattern, options), scope, absent=False)
        case ElemMatch():
            return _elem_match(predicate, scope)
        case _:
            raise TypeError(f"no condition: {predicate!r}")


def literal_first(condition: Compare[Any]) -> Compare[Any]:
    """The same with the sides exchanged where the left one is a literal."""
    left, right = condition.left, condition.right
    if is_call(left) and left.operator is LITERAL and is_expr(right) and condition.op in _FLIPPED:
        return Compare(right, _FLIPPED[condition.op], left.args[0])
    return condition


def _compare(condition: Compare[Any], scope: Scope) -> Any:
    condition = literal_first(condition)
    left, op = condition.left, condition.op
    right: Any = condition.right
    if is_call(condition.right) and condition.right.operator is LITERAL:
        right = condition.right.args[0]
    if op in ("$ne", "$nin"):
        return _negated(_compare(Compare(left, "$eq" if op == "$ne" else "$in", right), scope))
    if is_expr(right):
        return _compare_two(left, op, right, scope)
    if op == "$exists":
        found = _tested(left, present, scope, absent=False)
        return found if right else _negated(found)
    if op == "$elemMatch":
        return _tested(left, elements_equal(right["$eq"]), scope, absent=False)
    if op == "$all":
        return every(_compare(Compare(left, "$eq", value), scope) for value in right) if right else False
    if op == "$eq" and right is True and is_call(left) and left.operator.gives == "bool":
        return emit(left, scope)
    if op in ("$gt", "$gte") and is_call(left) and left.operator.gives == "number" and is_number(right):
        return {op: [emit(left, scope), right]}  # null is less
    return _tested(left, against(op, right), scope, absent=accepts_null(op, right))


def _negated(condition: Any) -> dict[str, Any]:
    return {"$ne": condition["$eq"]} if is_dict(condition) and "$eq" in condition else {"$not": [condition]}


def _compare_two(left: Expr[Any, Any], op: str, right: Expr[Any, Any], scope: Scope) -> Any:
    """Of two expressions one that may be a list matches by its elements; of two such the first."""
    if may_be_list(right) and not may_be_list(left):
        left, op, right = right, _FLIPPED[op], left
    other = emit(right, scope)
    if not is_straight(left) and not (isinstance(other, str) and other[:2] != "$$"):  # it might be about an `e`
        tested = _tested(left, compared(op, "$$w"), scope, absent=True)
        tested = {"$let": {"vars": {"w": other}, "in": tested}}
    else:
        tested = _tested(left, compared(op, other), scope, absent=True)
    while is_label(right) and scope.computed(right) is None:
        right = right.expr
    reached = [*elements_reached(right, scope)] if is_field(right) else []
    return every([*reached, tested]) if reached else tested


def _tested(left: Expr[Any, Any], test: Test, scope: Scope, *, absent: bool) -> Any:
    while is_label(left) and scope.computed(left) is None:
        left = left.expr
    if is_field(left):
        base, steps = located(left, scope)
        listy = base != "$" and not steps and may_be_list(left)
        return anywhere(base, steps, test, absent=absent, listy=listy)
    return test(emit(left, scope), may_be_list(left))


def _elem_match(condition: ElemMatch[Any], scope: Scope) -> Any:
    inner = ElementScope(element_class(condition.left), f"{condition.left!r}.any_()", "$e.")

    def test(x: Any, listy: bool) -> Any:
        items = [{"$eq": [{"$type": "$$e"}, "object"]}, *(emit(item, inner) for item in condition.items)]
        found = {"$map": {"input": bound(x, "v", or_empty), "as": "e", "in": every(items)}}
        return {"$anyElementTrue": [found]}

    return _tested(condition.left, test, scope, absent=False)


# Calls


def _case(node: Case[Any, Any], scope: Scope) -> Any:
    whens = [(emit(condition, scope), emit(value, scope)) for condition, value in node.whens]
    default = emit(node.else_, scope)
    if len(whens) == 1:
        return {"$cond": [*whens[0], default]}
    return {"$switch": {"branches": [{"case": case, "then": then} for case, then in whens], "default": default}}


def _call(call: Call[Any, Any], scope: Scope) -> Any:
    operator = call.operator
    if operator.kind != "scalar":
        raise StatementError(
            f"{call!r} is computed over rows: it stands in the select list, in having() and order_by() of groups, "
            "or in window(...)"
        )
    if operator is SIZE:
        return bound(emit(call.args[0], scope), "v", lambda v: {"$cond": [{"$isArray": v}, {"$size": v}, None]})
    if operator is OBJECT:
        return {name: emit(value, scope) for name, value in call.options}
    if operator is ARRAY:
        return [emit(value, scope) for value in call.args]
    if operator is LITERAL:
        return {"$literal": call.args[0]} if call.annotation is None else constant(call.args[0])
    return {operator.op: _arguments(call, scope)}


def _arguments(call: Call[Any, Any], scope: Scope) -> Any:
    operator = call.operator
    if operator is ZIP:
        defaults = {name: list(map(constant, value)) for name, value in call.options if is_list(value)}
        return {"inputs": [emit(value, scope) for value in call.args], **dict(call.options), **defaults}
    if operator.style == "named" or call.options or (operator.style == "one" and len(call.args) > 1):
        named = [*zip(operator.arguments, call.args, strict=False), *call.options]
        return {name: _argument(name, value, scope) for name, value in named}
    values = [emit(value, scope) for value in call.args]
    if not values:
        return [] if operator.style == "list" else {}
    if operator.style == "one" or (operator.style == "some" and len(values) == 1):
        return as_operand(values[0])
    return values


def _argument(name: str, value: Any, scope: Scope) -> Any:
    if name == "sortBy":
        return value if not is_tuple(value) else {_sort_path(order, scope): order.direction for order in value}
    if is_tuple(value):
        return [emit(item, scope) for item in value]
    return emit(value, scope)


def _sort_path(order: Order[Any], scope: Scope) -> str:
    path = sort_path(order.expr, scope)
    if path is None or path.startswith("$"):
        raise StatementError(
            f"order_by={order.expr!r}: fields and labels of the rows are needed here; "
            "or order the rows by it, and take func.first() after then()"
        )
    return path


def sort_path(node: Expr[Any, Any], scope: Scope) -> str | None:
    """The path of what rows are ordered by; None where there is none."""
    if not is_field(node):
        return scope.computed(node)
    return None if has_position(node) else scope.path(node)


def accumulator(call: Call[Any, Any], scope: Scope) -> dict[str, Any]:
    """A call over rows as ``$group`` and ``$setWindowFields`` take it: ``{"$sum": "$total"}``."""
    if call.operator is COUNT:
        counted = call.args[0] if call.args else None
        key = None if is_expr(counted) else joined_key(counted, scope)
        if key is None and not is_expr(counted):  # rows
            return {"$sum": 1}
        missing = {"$eq": [{"$ifNull": [emit(counted, scope) if key is None else f"${key}", None]}, None]}
        return {"$sum": {"$cond": [missing, 0, 1]}}
    arguments = _arguments(call, scope)
    if is_list(arguments) and call.operator.style in ("one", "some"):  # no array is taken here
        arguments = {"$concatArrays": arguments}
    return {call.operator.op: arguments}


def has_accumulator(node: object) -> bool:
    """Whether a call over the rows of a group is in an expression, windows aside."""
    if not is_expr(node) or is_window(node):
        return False
    if is_call(node) and node.operator.kind != "scalar":
        return True
    return any(map(has_accumulator, node.children()))
