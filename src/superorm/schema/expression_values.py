# pyright: reportPrivateUsage=false
"""Python values beside and inside expressions, as documents of the types that these are of would store them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import reduce
from typing import Any, TypeAlias, cast, get_args, get_origin

import numpy as np
from attrs import evolve

from superorm.exc import StatementError
from superorm.expr.base import Call, Expr, Label
from superorm.expr.kinds import is_call, is_case, is_expr, is_field, is_label
from superorm.expr.literals import literal
from superorm.expr.narrow import is_dict
from superorm.expr.nesting import not_too_deep
from superorm.expr.nodes import Case, branches
from superorm.expr.operators import LITERAL, Operator
from superorm.expr.signatures import SIGNATURES, Letter
from superorm.expr.typed import is_told_by_bson
from superorm.schema.compare import same
from superorm.schema.expression_types import Given, computed, known_types, lettered, resolved, type_of
from superorm.schema.mapping import MappedField
from superorm.schema.members import declared
from superorm.schema.parts import Part, compared, compared_forms, element_part, storable
from superorm.schema.types.base import BsonType, Misfit
from superorm.schema.types.computed import item_of, list_of, same_kind, widest
from superorm.schema.types.fitting import lacks_name, surely_differ
from superorm.schema.types.restoring import restoring

__all__ = ["ExpressionTypes"]

Each: TypeAlias = Callable[[Any, BsonType], Any]


def _annotation_of(value: Any) -> Any:
    """The annotation of a field for a value."""
    kind = _class(value)
    if kind in (list, set, frozenset, tuple, dict) and value:
        items = [_annotation_of(item) for item in (value.values() if is_dict(value) else value)]
        if kind is tuple:
            return tuple[tuple(items)]  # type: ignore[misc]  # pyright: ignore[reportInvalidTypeArguments]
        return dict[str, _union(items)] if kind is dict else kind[_union(items)]  # type: ignore[misc]
    for known in (datetime, date, Decimal):
        if isinstance(value, known):
            return known
    return _class(cast("Any", value).item()) if isinstance(value, np.generic) else kind


def _class(value: object) -> Any:
    return type(value)


def _union(annotations: Iterable[Any]) -> Any:
    return reduce(lambda one, other: one | other, dict.fromkeys(annotations))


def _literal(value: object, annotation: Any = None) -> Any:
    """A BSON literal, or where that does not tell the type of the value a call that remembers it."""
    plain = literal(value)  # refuses what needs a field beside it, such as an array
    annotation = _annotation_of(value) if annotation is None else annotation
    kind = None if is_told_by_bson(value) else resolved(annotation)
    if kind is None:
        return plain
    stored = compared(kind, "a value", value)
    try:
        kind.from_bson(stored)
    except Misfit:
        return stored
    return Call[Any, Any](LITERAL, (stored,), (), annotation)


def _settled(given: Sequence[Given]) -> list[Any]:
    """The arguments as expressions and BSON literals, the Python values as the type that they share stores them."""
    known = [kind for kind in known_types(one for one in given if not _holds_values(one[1])) if kind is not None]
    shared = same_kind(known)
    annotation = None if known else _shared_annotation(given)
    kind = shared if annotation is None else resolved(annotation)
    lists = None if kind is None else list_of(kind)
    return [_one(letter, value, lists if letter == "l" else kind, annotation) for letter, value in given]


def _one(letter: Letter, value: object, kind: BsonType | None, annotation: Any) -> Any:
    if is_expr(value):
        own = annotation if letter == "v" or annotation is None else list[annotation]
        return value if kind is None or letter == "-" else _fitted(value, kind, own)
    if letter == "-" or is_told_by_bson(value):
        return literal(value)
    if kind is None:
        return _literal(value)
    if annotation is None:
        return compared(kind, "a value", value)
    return _literal(value, list[annotation] if letter == "l" and isinstance(value, list) else annotation)


def _shared_annotation(given: Iterable[Given]) -> Any:
    """That of all values, those inside expressions too; None where there are none, or none that can be told apart."""
    found: list[Any] = []
    for letter, value in given:
        if letter == "-":
            continue
        for one in _items(value) if letter == "l" else (value,):
            found += one._annotations if is_expr(one) else [_annotation_of(one)]
    annotation = _union(found) if found else None
    return None if annotation is None or resolved(annotation) is None else annotation


def _items(value: Any) -> Iterable[Any]:
    return value if isinstance(value, (list, tuple, set, frozenset)) else (value,)  # pyright: ignore[reportUnknownVariableType]


def _holds_values(node: object) -> bool:
    return is_expr(node) and bool(node._annotations)


def _fitted(node: Expr[Any, Any], kind: BsonType, annotation: Any = None, each: Each | None = None) -> Expr[Any, Any]:
    """The expression with the Python values that it gives as the type stores them.

    With the `annotation` of the type these remember it.
    `each` is called with each literal and each expression that becomes the value, and its type, for what it becomes.
    """
    if each is None and node._annotations in ((), (annotation,)):
        return node
    if each is not None and not node._annotations:  # of Python values each is fitted first
        each(node, kind)
    if is_label(node):
        return Label(_fitted(node.expr, kind, annotation, each), node.name)
    if is_case(node):
        values = [_fitted_value(value, kind, annotation, each) for value in branches(node)]
        if all(one is value for one, value in zip(values, branches(node), strict=True)):
            return node
        conditions = [condition for condition, _ in node.whens]
        return Case(tuple(zip(conditions, values[:-1], strict=True)), values[-1])
    shared = _shared(node, kind) if is_call(node) else None
    if not is_call(node) or (shared is None and node.operator is not LITERAL):
        return node
    if shared is None:
        stored = node.args[0]
        if node._annotations not in ((), (annotation,)) and (own := resolved(node.annotation)) is not None:
            stored = compared(kind, "a value", own.from_bson(stored))
            node = Call(LITERAL, (stored,), (), annotation)
        given = _fitted_value(stored, kind, annotation, each)
        return node if given is stored else evolve(node, args=(given,))
    options = dict(node.options)
    given = lettered(node.operator, node.args, options)
    if _result(node) == "l":
        annotation = get_args(annotation)[0] if get_origin(annotation) is list else None
    fitted: list[Any] = []
    for letter, value in given:
        if letter == "-" or value is None:  # nulls are passed over
            fitted.append(value)
        elif letter == "l":
            of_list = None if annotation is None else list[annotation]
            fitted.append(_fitted_value(value, list_of(shared), of_list, each))
        else:
            fitted.append(_fitted_value(value, shared, annotation, each))
    if all(one is value for one, (_, value) in zip(fitted, given, strict=True)):
        return node
    count = len(node.args)
    return evolve(node, args=tuple(fitted[:count]), options=tuple(zip(options, fitted[count:], strict=True)))


def _fitted_value(value: object, kind: BsonType, annotation: Any, each: Each | None) -> Any:
    """The same of an expression or a literal."""
    if is_expr(value):
        return _fitted(value, kind, annotation, each)
    return value if each is None else each(value, kind)


def _result(call: Call[Any, Any]) -> str | None:
    return getattr(SIGNATURES.get(call.operator.name), "result", None)


def _shared(call: Call[Any, Any], kind: BsonType) -> BsonType | None:
    """The type that a call's arguments share where its value is of a type; None where they are not its value."""
    result = _result(call)
    return kind if result == "v" else item_of(kind) if result == "l" else None


def _check(field: Any, node: Expr[Any, Any], *, converts: bool) -> Each:
    """What raises for values of an expression that the field could not be read with, or that its validator refuses.

    What becomes the field's value is what its converter makes of it, where it `converts`.
    """

    def check(value: Any, kind: BsonType) -> Any:
        if is_expr(value):
            _check_type(field, value, type_of(value), kind)
            return value
        try:
            kind.from_bson(value)
        except Misfit as misfit:
            if any(isinstance(part, MappedField) and part.keep for part in field._parts):
                return value
            advice = "; func.if_null() gives another value for null" if value is None else ""
            raise StatementError(
                f"{field!r} cannot become {node!r:.80}: {misfit.describe()}{advice}", field=field._path
            ) from misfit.error
        part = field._parts[-1]
        if not converts or kind is not part.type or not (isinstance(part, MappedField) and part.checked):
            return value
        stored = field._stored(kind.from_bson(value))
        return value if same(value, stored) else stored

    return check


def _check_type(field: Any, node: Expr[Any, Any], found: BsonType | None, kind: BsonType) -> None:
    if found is not None and surely_differ(found, kind):
        advice = ", whose documents do not name their class as these have to" if lacks_name(found, kind) else ""
        raise StatementError(
            f"{field!r} cannot become {node!r:.80}: it holds {kind.name}, not {found.name}{advice}", field=field._path
        )


class ExpressionTypes:
    """What expressions ask of types."""

    def computed(self, node: Expr[Any, Any]) -> BsonType | None:
        return computed(node)

    @not_too_deep
    def forms(self, node: Expr[Any, Any]) -> Callable[[object], list[Any]]:
        if is_field(node):
            parts: Any = declared(node) or (node._type,)
            return compared_forms([part.type for part in parts], parts[0].where)
        kind = type_of(node)
        return (lambda value: [literal(value)]) if kind is None else compared_forms([kind], repr(node))

    def literal(self, value: object) -> Expr[Any, Any]:
        found = _literal(value)
        return found if is_expr(found) else Call(LITERAL, (found,))

    def remembering(self, stored: object, annotation: Any) -> Expr[Any, Any]:
        kind = resolved(annotation)
        try:
            if kind is not None:
                kind.from_bson(stored)
        except Misfit as misfit:
            raise StatementError(f"func.literal() does not hold what it says: {misfit.describe()}") from misfit.error
        return Call(LITERAL, (stored,), (), None if kind is None else annotation)

    @not_too_deep
    def alike(self, values: Sequence[object]) -> list[Any]:
        return _settled([("v", one) for one in values])

    @not_too_deep
    def arguments(
        self, operator: Operator, args: Sequence[object], options: Mapping[str, object]
    ) -> tuple[list[Any], dict[str, Any]]:
        settled = _settled(lettered(operator, args, options))
        return settled[: len(args)], dict(zip(options, settled[len(args) :], strict=True))

    @not_too_deep
    def fitted(self, node: Expr[Any, Any], other: Expr[Any, Any]) -> Expr[Any, Any]:
        kind = type_of(other) if _holds_values(node) else None
        return node if kind is None else _fitted(node, kind)

    @not_too_deep
    def assigned(
        self, field: Any, node: Expr[Any, Any], *, adds: bool = False, converts: bool = True
    ) -> Expr[Any, Any]:
        kind: BsonType = field._type.type
        if adds:  # a Decimal stays one, whatever number is added
            found = type_of(node)
            _check_type(field, node, widest((kind, found)) or found, kind)
            return _fitted(node, kind)
        return _fitted(node, kind, each=_check(field, node, converts=converts))

    @not_too_deep
    def restored(self, node: Expr[Any, Any], own: BsonType, kind: BsonType) -> Expr[Any, Any]:
        changed = False

        def each(value: Any, kind: BsonType) -> Any:
            nonlocal changed
            try:
                stored = value if is_expr(value) else storable(kind.to_bson(kind.from_bson(value)))
            except Misfit:
                return value
            if is_expr(value) or same(stored, value):
                return value
            changed = True
            return stored

        found = _fitted(node, restoring(own, kind), each=each)
        return found if changed else node

    def are_items(self, node: object, items: object) -> bool:
        kind = type_of(items)
        item = None if kind is None else item_of(kind)
        return item is not None and same_kind([item, type_of(node)]) is not None

    def items(self, node: object) -> Part | None:
        kind = type_of(node)
        if kind is None:
            return None
        item = item_of(kind)
        where = repr(node)
        return element_part(where, kind, None) if item is None else Part(f"{where}.item()", "item()", None, _ITEM, item)


_ITEM = ("element", None)
