"""Arithmetic of expressions: the operators, and the types of what they give."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, overload

from typing_extensions import TypeVar

from superorm.expr.operators import ADD, DIVIDE, MOD, MULTIPLY, SUBTRACT, Operator

if TYPE_CHECKING:
    from superorm.expr.base import Expr

__all__ = ["Arithmetic", "Number"]

M = TypeVar("M")
M_contra = TypeVar("M_contra", contravariant=True)
T_co = TypeVar("T_co", covariant=True)

Number: TypeAlias = "float | Decimal"

if TYPE_CHECKING:

    class Untyped:
        """What only ``Any`` can stand for: values of which nothing is known stay so in arithmetic."""


class Arithmetic(Generic[M_contra, T_co]):
    """Python's operators on numbers, of an expression with another one or with a number.

    `M_contra` is the document's class, `T_co` the value's type.
    """

    __slots__ = ()

    def _calculated(self, operator: Operator, left: Any, right: Any) -> Expr[Any, Any]:
        """What an operator of the server gives of two values. Raises `StatementError` where one is no number."""
        raise NotImplementedError

    @overload
    def __add__(self: Arithmetic[M, Untyped], other: Any) -> Expr[M, Any]: ...
    @overload
    def __add__(self: Arithmetic[M, Number | None], other: Expr[Any, Untyped]) -> Expr[M, Any]: ...
    @overload
    def __add__(self: Arithmetic[M, int], other: int | Expr[Any, int]) -> Expr[M, int]: ...
    @overload
    def __add__(self: Arithmetic[M, float], other: float | Expr[Any, float]) -> Expr[M, float]: ...
    @overload
    def __add__(self: Arithmetic[M, Decimal], other: Number | Expr[Any, Number]) -> Expr[M, Decimal]: ...
    @overload
    def __add__(self: Arithmetic[M, float], other: Decimal | Expr[Any, Decimal]) -> Expr[M, Decimal]: ...
    @overload
    def __add__(  # pyright: ignore[reportOverlappingOverload]  # by what is always null
        self: Arithmetic[M, int | None], other: int | Expr[Any, int | None]
    ) -> Expr[M, int | None]: ...
    @overload
    def __add__(  # type: ignore[overload-overlap]
        self: Arithmetic[M, float | None], other: float | Expr[Any, float | None]
    ) -> Expr[M, float | None]: ...
    @overload
    def __add__(
        self: Arithmetic[M, Decimal | None], other: Number | Expr[Any, Number | None]
    ) -> Expr[M, Decimal | None]: ...
    @overload
    def __add__(
        self: Arithmetic[M, float | None], other: Decimal | Expr[Any, Decimal | None]
    ) -> Expr[M, Decimal | None]: ...
    def __add__(self, other: Any) -> Any:
        return self._calculated(ADD, self, other)

    @overload
    def __truediv__(self: Arithmetic[M, Untyped], other: Any) -> Expr[M, Any]: ...
    @overload
    def __truediv__(self: Arithmetic[M, Number | None], other: Expr[Any, Untyped]) -> Expr[M, Any]: ...
    @overload
    def __truediv__(self: Arithmetic[M, float], other: float | Expr[Any, float]) -> Expr[M, float]: ...
    @overload
    def __truediv__(self: Arithmetic[M, Decimal], other: Number | Expr[Any, Number]) -> Expr[M, Decimal]: ...
    @overload
    def __truediv__(self: Arithmetic[M, float], other: Decimal | Expr[Any, Decimal]) -> Expr[M, Decimal]: ...
    @overload
    def __truediv__(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
        self: Arithmetic[M, float | None], other: float | Expr[Any, float | None]
    ) -> Expr[M, float | None]: ...
    @overload
    def __truediv__(
        self: Arithmetic[M, Decimal | None], other: Number | Expr[Any, Number | None]
    ) -> Expr[M, Decimal | None]: ...
    @overload
    def __truediv__(
        self: Arithmetic[M, float | None], other: Decimal | Expr[Any, Decimal | None]
    ) -> Expr[M, Decimal | None]: ...
    def __truediv__(self, other: Any) -> Any:
        return self._calculated(DIVIDE, self, other)

    if TYPE_CHECKING:
        __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __mod__ = __rmod__ = __add__
        __rtruediv__ = __truediv__
    else:

        def __radd__(self, other):
            return self._calculated(ADD, other, self)

        def __sub__(self, other):
            return self._calculated(SUBTRACT, self, other)

        def __rsub__(self, other):
            return self._calculated(SUBTRACT, other, self)

        def __mul__(self, other):
            return self._calculated(MULTIPLY, self, other)

        def __rmul__(self, other):
            return self._calculated(MULTIPLY, other, self)

        def __mod__(self, other):
            return self._calculated(MOD, self, other)

        def __rmod__(self, other):
            return self._calculated(MOD, other, self)

        def __rtruediv__(self, other):
            return self._calculated(DIVIDE, other, self)

    def __neg__(self: Arithmetic[M, Number | None]) -> Expr[M, T_co]:
        return self._calculated(MULTIPLY, self, -1)
