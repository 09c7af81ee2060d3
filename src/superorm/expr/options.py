"""Options of selects."""

from __future__ import annotations

from typing import Any, Generic, cast

from attrs import frozen
from typing_extensions import TypeVar

from superorm.exc import StatementError
from superorm.expr.base import Expr
from superorm.expr.nodes import Field

__all__ = ["LoadOnly", "load_only"]

M = TypeVar("M")
M_contra = TypeVar("M_contra", contravariant=True)


@frozen(eq=False)
class LoadOnly(Generic[M_contra]):
    """An option: documents of a select with some of their fields only."""

    fields: tuple[Field[Any, Any], ...]


def load_only(*fields: Expr[M, Any]) -> LoadOnly[M]:
    """For ``.options(...)``: load these fields of the documents only, and the key.

    Touching another one raises `NotLoadedError`; saving writes what changed, as ever.
    Raises `StatementError` for anything but fields.
    """
    for field in fields:
        if not isinstance(field, Field) or len(field._parts) != 1:  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType, reportUnknownArgumentType]
            raise StatementError(f"load_only() takes fields of a document class such as Movie.title, not {field!r}")
    if not fields:
        raise StatementError("load_only() needs a field")
    return LoadOnly(cast("tuple[Field[Any, Any], ...]", fields))
