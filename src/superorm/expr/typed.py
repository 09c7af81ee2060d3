"""Values beside and inside expressions, which are stored as their types store them: the way to these types."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from superorm.expr.literals import ATOMIC

if TYPE_CHECKING:
    from superorm.expr.base import Expr
    from superorm.expr.operators import Operator
    from superorm.expr.sources import FieldType

__all__ = ["Types", "is_scalar", "is_told_by_bson", "on_types", "types"]

_SCALARS = (str, int, float, date, Decimal, np.generic, Enum)


class Types(Protocol):
    """What is known of the types of expressions."""

    def computed(self, node: Expr[Any, Any]) -> Any:
        """The type of the values of a call or `case`; None where it is not known."""
        ...

    def forms(self, node: Expr[Any, Any]) -> Callable[[object], list[Any]]:
        """A function: the BSON values of a value that is compared with an expression.

        They are several where documents of different classes store it differently. It raises `StatementError`.
        """
        ...

    def literal(self, value: object) -> Expr[Any, Any]:
        """A value as an expression. Raises `StatementError`."""
        ...

    def remembering(self, stored: object, annotation: Any) -> Expr[Any, Any]:
        """A literal whose Python value is of the type of an annotation.

        One that tells no type is forgotten. Raises `StatementError` where that type does not read the literal.
        """
        ...

    def alike(self, values: Sequence[object]) -> list[Any]:
        """Expressions, and values of the same type, as expressions and BSON literals. Raises `StatementError`."""
        ...

    def arguments(
        self, operator: Operator, args: Sequence[object], options: Mapping[str, object]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Those of a call as expressions and BSON literals. Raises `StatementError`."""
        ...

    def fitted(self, node: Expr[Any, Any], other: Expr[Any, Any]) -> Expr[Any, Any]:
        """An expression whose values are of the type of another one."""
        ...

    def assigned(
        self, field: Any, node: Expr[Any, Any], *, adds: bool = False, converts: bool = True
    ) -> Expr[Any, Any]:
        """An expression for a field, whose values it becomes, or with `adds` grows by.

        Where it `converts`, the field's converter and validator see the literals that become its value.
        Raises `StatementError` where the field would surely be of another type then, and what `Field.to` raises.
        """
        ...

    def restored(self, node: Expr[Any, Any], own: Any, kind: Any) -> Expr[Any, Any]:
        """An expression whose literals are stored as one type stores them, with those as another type does.

        Literals that this does not hold stay as they are; the same expression where nothing differs.
        """
        ...

    def are_items(self, node: object, items: object) -> bool:
        """Whether the values of an expression surely are of the type of a list's items, or null."""
        ...

    def items(self, node: object) -> FieldType | None:
        """The type of the items of a list. Raises `StatementError` where it surely is none."""
        ...


_types: list[Types] = []


def on_types(types: Types) -> None:
    """Give expressions their types, which stand above them."""
    _types[:] = [types]


def types() -> Types:
    return _types[0]


def is_scalar(value: object) -> bool:
    """Whether a value is its literal whatever it stands beside."""
    return type(value) in ATOMIC or isinstance(value, _SCALARS)


def is_told_by_bson(value: object) -> bool:
    """Whether a value is read again as what it was without that its type is known."""
    if type(value) in ATOMIC:
        return True
    if type(value) in (list, dict):
        items: Any = value.values() if isinstance(value, dict) else value  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        return all(map(is_told_by_bson, cast("list[object]", items)))
    if isinstance(value, Enum) or (isinstance(value, date) and not hasattr(value, "hour")):
        return False
    return isinstance(value, _SCALARS)
