"""What ``update(...).set(...)`` does to a field."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeAlias

from attrs import frozen
from typing_extensions import TypeVar

from superorm.expr.base import Expr

__all__ = ["Assignment", "AssignmentOp"]

M_contra = TypeVar("M_contra", contravariant=True)

AssignmentOp: TypeAlias = Literal["to", "unset", "inc", "push", "add_to_set", "pull", "pop"]


@frozen(eq=False)
class Assignment(Generic[M_contra]):
    """One field's change. Fields make them: ``Movie.year.to(1995)``, ``Movie.genres.push("Heist")``."""

    field: Expr[M_contra, Any]
    op: AssignmentOp
    value: Any
    """An `Expr`, a BSON literal, or a list of such; of ``pull`` also a tuple of conditions; of ``pop`` 1 or -1."""
    position: int | None = None
