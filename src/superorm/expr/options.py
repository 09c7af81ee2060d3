"""Options of selects."""

from __future__ import annotations

from typing import Any, Generic, cast

from attrs import frozen
from typing_extensions import TypeVar

from superorm.exc import StatementError
from superorm.expr.base import Expr
from superorm.expr.nodes import Field

__all__ = ["LoadOnly", "Undefer", "load_only", "undefer"]

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


@frozen(eq=False)
class Undefer(Generic[M_contra]):
    """An option: artifacts to read with the documents of a select."""

    fields: tuple[Field[Any, Any], ...]


def undefer(*fields: Expr[M, Any]) -> Undefer[M]:
    """For ``.options(...)``: read these artifact fields of the documents that are found, so that they can be touched.

    The blob of several documents is read once, and decoded for each.
    Raises `StatementError` for anything but fields of a document class;
    the select does for those that are no artifact fields, or of classes whose documents are not selected.
    """
    for field in fields:
        if not isinstance(field, Field) or len(field._parts) != 1:  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType, reportUnknownArgumentType]
            raise StatementError(f"undefer() takes artifact fields such as Movie.trailer, not {field!r}")
    if not fields:
        raise StatementError("undefer() needs an artifact field")
    return Undefer(cast("tuple[Field[Any, Any], ...]", fields))
