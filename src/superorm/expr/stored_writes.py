"""Statements that write, and their changes and rows, as they are stored and built again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from superorm.expr import writes
from superorm.expr.assignments import Assignment
from superorm.expr.base import Expr, is_expr
from superorm.expr.narrow import is_dict
from superorm.expr.storable import python_value
from superorm.expr.stored_kinds import LITERAL, LITERALS, PREDICATE, Kind, either, many, of, one_of
from superorm.expr.stored_values import Refusal
from superorm.expr.typed import types

__all__ = [
    "CHANGES",
    "build_assignment",
    "build_delete",
    "build_insert",
    "build_returning",
    "build_update",
    "read_rows",
]


def _python(kind: Any, stored: Any, where: str) -> Any:
    """The value of a field, one that may be stored again. Raises `ValidationError`."""
    value = python_value(kind, stored, where)
    kind.stored_value(value, where)
    return value


def _to(field: Any, value: Any, _: int | None) -> Any:
    """The value is one that the converter gave already; it is not stored as the converter gives it again."""
    if is_expr(value):
        field.to(value)  # its checks
        return Assignment(field, "to", types().assigned(field, value, converts=False))
    python = python_value(field._type, value, repr(field))
    field.to(python)  # its checks
    return Assignment(field, "to", field._type.stored_value(python, repr(field)))


def _inc(field: Any, by: Any, _: int | None) -> Any:
    return field.inc(by if isinstance(by, Expr) else _python(field._type, by, repr(field)))


def _elements(field: Any, values: list[Any]) -> list[Any]:
    element = field._type.element(None)
    return [_python(element, value, f"an element of {field!r}") for value in values]


def _pull(field: Any, values: Any, _: int | None) -> Any:
    """Of the values those that were given: the others are forms of them, in which other classes store them."""
    if isinstance(values, tuple):
        return field.pull(*values)
    element, forms = field._type.element(None), field._forms()
    given: list[Any] = []
    others: list[Any] = []
    for value in values:
        if value not in others:
            given.append(_python(element, value, f"an element of {field!r}"))
            others += [form for form in forms(given[-1]) if form != value]
    return field.pull(*given)


CHANGES: dict[str, tuple[Kind, Callable[[Any, Any, int | None], Any]]] = {
    "to": (either(of(Expr), LITERAL), _to),
    "unset": (one_of(None), lambda field, _, __: field.unset()),
    "inc": (either(of(Expr), LITERAL), _inc),
    "push": (LITERALS, lambda field, values, position: field.push(*_elements(field, values), position=position)),
    "add_to_set": (LITERALS, lambda field, values, _: field.add_to_set(*_elements(field, values))),
    "pull": (either(LITERALS, many(PREDICATE, 1)), _pull),
    "pop": (one_of(1, -1), lambda field, end, _: field.pop("last" if end == 1 else "first")),
}
"""What the value of a change may be, and how it is made again."""


def build_assignment(field: Any, op: str, value: Any, position: int | None = None) -> Any:
    check, build = CHANGES[op]
    try:
        check(value)
    except Refusal as refusal:
        raise refusal.within("value") from None
    return build(field, value, position)


def read_rows(insert: Any) -> tuple[dict[str, Any], ...]:
    """The rows of an insert as they are stored, by the names of their attributes; an object with all of these."""
    root = insert._root
    names = [part.name for part in attrs.fields(root) if part.init]
    rows: list[dict[str, Any]] = []
    for row in insert._rows:
        values = row if is_dict(row) else {name: getattr(row, name) for name in names}
        fields = {name: getattr(root, name) for name in values}
        rows.append({name: field._stored(values[name]) for name, field in fields.items()})
    return tuple(rows)


def build_insert(root: Any, rows: Any = (), upserts: bool = False, by: Any = ()) -> Any:
    statement: Any = writes.insert(root)
    known = [part.name for part in attrs.fields(root) if part.init]
    again: list[dict[str, Any]] = []
    for position, row in enumerate(rows):
        for name in row:
            if name not in known:
                raise Refusal(f"{root.__name__} has no {name!r:.60}").within(position).within("rows")
        fields = {name: getattr(root, name) for name in row}
        again.append({name: _python(field._type, row[name], repr(field)) for name, field in fields.items()})
    statement = statement.values(again)
    return statement.upsert(*by) if upserts else statement


def build_update(root: Any, where: Any = (), assignments: Any = (), all: bool = False, upserts: bool = False) -> Any:
    statement: Any = writes.update(root).where(*where).set(*assignments)
    statement = statement.all() if all else statement
    return statement.upsert() if upserts else statement


def build_delete(root: Any, where: Any = (), all: bool = False) -> Any:
    statement: Any = writes.delete(root).where(*where)
    return statement.all() if all else statement


def build_returning(statement: Any, entities: Any) -> Any:
    return statement.returning(*entities)
