# pyright: reportPrivateUsage=false
"""The types of expressions' values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any, TypeAlias, cast

from bson import Decimal128, Int64, ObjectId

from superorm.exc import MappingError, UnsupportedError
from superorm.expr.base import Call
from superorm.expr.kinds import is_call, is_case, is_expr, is_field, is_label, is_predicate, is_window
from superorm.expr.narrow import is_list
from superorm.expr.nodes import Field, Score, branches
from superorm.expr.operators import LITERAL, Operator
from superorm.expr.signatures import SIGNATURES, Letter
from superorm.expr.sources import Variable
from superorm.schema.mapping import MappedField
from superorm.schema.members import AnyPart, declared
from superorm.schema.scope import Scope
from superorm.schema.types.base import BsonType, Misfit
from superorm.schema.types.computed import KeptType, NumberType, SpreadType, item_of, list_of, one_of, same_kind, widest
from superorm.schema.types.known import KNOWN
from superorm.schema.types.registered import Unregistered
from superorm.schema.types.resolve import resolve

__all__ = ["Given", "computed", "known_types", "lettered", "read_through", "resolved", "type_of"]

_RESULTS: dict[str, BsonType] = {
    "int": NumberType(int),
    "float": NumberType(float),
    "decimal": NumberType(Decimal),
    "text": KNOWN[str](),
    "bool": KNOWN[bool](),
    "date": KNOWN[datetime](),
    "key": KNOWN[ObjectId](),
}
_RESULTS.update({f"[{name}]": list_of(kind) for name, kind in [*_RESULTS.items()]})
_BSON: dict[type, type] = {Int64: int, Decimal128: Decimal}
"""The types of fields by those of literals, where these are not the same."""
Given: TypeAlias = "tuple[Letter, Any]"
"""An argument."""


def type_of(node: object) -> BsonType | None:
    """The type of an expression's values, which may be null besides; None where it is not known."""
    if is_label(node):
        return type_of(node.expr)
    if is_window(node):
        return type_of(node.call)
    if is_field(node):
        return _field_type(node)
    if is_case(node) or is_call(node):
        return cast("BsonType | None", node._value_type)
    if is_predicate(node):
        return _RESULTS["bool"]
    if isinstance(node, Score):
        return _RESULTS["float"]
    return None


def computed(node: object) -> BsonType | None:
    """The same of a call or case, which keep it."""
    if is_case(node):
        return _common([("v", value) for value in branches(node)])
    return _call_type(node) if is_call(node) else None


def _field_type(field: Field[Any, Any]) -> BsonType | None:
    if not field._parts:
        part: Any = cast("Variable", field._owner).kind
        return None if part is None else part.type
    ways = declared(field)
    kind: BsonType = ways[0].type
    if len(ways) > 1:
        kind = one_of([way.type for way in ways], [f"{way.where} ({way.type.name})" for way in ways])
    return read_through(field, kind, ways)


def read_through(field: Field[Any, Any], kind: BsonType, ways: Sequence[AnyPart]) -> BsonType:
    """The type of a field's values where `ways` are the field as classes declare it, all of them of the type `kind`."""
    parts = cast("tuple[Any, ...]", field._parts)
    if any(list in part.type.reads and after.step[0] != "element" for part, after in pairwise(parts)):
        kind = SpreadType(kind)
    return KeptType(kind) if any(isinstance(part, MappedField) and part.keep for part in (*parts, *ways)) else kind


def _call_type(call: Call[Any, Any]) -> BsonType | None:
    if call.operator is LITERAL:
        return _literal_type(call.args[0]) if call.annotation is None else resolved(call.annotation)
    signature = SIGNATURES.get(call.operator.name)
    if signature is None:
        return None
    if signature.result in _RESULTS:
        return _RESULTS[signature.result]
    given = lettered(call.operator, call.args, dict(call.options))
    if signature.result in ("number", "mean"):
        kinds = (_literal_type(one) for one in _flat(given))
        return widest([*known_types(given), *kinds], float if signature.result == "mean" else int)
    shared = _common(given)
    return shared if shared is None or signature.result == "v" else list_of(shared)


def lettered(operator: Operator, args: Sequence[Any], options: Mapping[str, Any]) -> list[Given]:
    """The arguments, and what the signature says of each."""
    signature = SIGNATURES.get(operator.name)
    places = [*range(len(args)), *(operator.arguments.index(name) for name in options if name in operator.arguments)]
    values = [*args, *options.values()]
    if signature is None or len(places) < len(values):
        return [("-", value) for value in values]
    count = len(values)
    return [(signature.letter(operator, place, count), value) for place, value in zip(places, values, strict=True)]


def known_types(given: Iterable[Given]) -> list[BsonType | None]:
    """The shared type as each of the expressions has it."""
    kinds = [(letter, type_of(value)) for letter, value in given if letter != "-" and is_expr(value)]
    return [item_of(kind) if letter == "l" and kind is not None else kind for letter, kind in kinds]


def _flat(given: Iterable[Given]) -> Iterator[Any]:
    """The BSON literals of the shared type."""
    for letter, value in given:
        if letter == "l" and is_list(value):
            yield from value
        elif letter != "-" and not is_expr(value):
            yield value


def _common(given: Sequence[Given]) -> BsonType | None:
    """The type that the arguments share, null aside."""
    kinds = known_types(given)
    literals = [value for value in _flat(given) if value is not None]
    if not kinds:
        return same_kind(map(_literal_type, literals))
    shared = same_kind(kinds)
    if shared is None:
        return None
    try:
        for value in literals:
            shared.from_bson(value)
    except Misfit:
        return widest([shared, *map(_literal_type, literals)])
    return shared


def _literal_type(value: object) -> BsonType | None:
    kind = _BSON.get(type(value), type(value))
    return KNOWN[kind]() if kind in KNOWN and kind not in (list, dict) else None


def resolved(annotation: Any) -> BsonType | None:
    """The type that an annotation stands for; None where there is none."""
    try:
        return resolve(annotation, "a value", _SCOPE)
    except (MappingError, UnsupportedError, Unregistered, NameError):
        return None


_SCOPE: Any = Scope(__name__, "", {}, {})
