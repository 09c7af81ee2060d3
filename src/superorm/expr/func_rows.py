"""Functions over rows: of groups and windows, and the ranges that rows are grouped by."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

from typing_extensions import TypeVar

from superorm.exc import StatementError
from superorm.expr.base import Expr, Order
from superorm.expr.calls import called, checked_call
from superorm.expr.checks import order_of
from superorm.expr.kinds import is_call, is_expr
from superorm.expr.literals import literal
from superorm.expr.narrow import is_list, is_tuple
from superorm.expr.operators import COUNT, OPERATORS
from superorm.expr.order import sort_key
from superorm.expr.rows import Bucket, Unit
from superorm.expr.sources import is_document

if TYPE_CHECKING:
    from superorm.schema.document import Document

__all__ = ["RowFunctions", "given"]

D = TypeVar("D", bound="Document")
M = TypeVar("M")
N = TypeVar("N", int, float, Decimal)
T = TypeVar("T")

Places: TypeAlias = "Order[M] | Expr[M, Any] | Sequence[Order[M] | Expr[M, Any]]"


def given(**keywords: object) -> dict[str, object]:
    """The keyword arguments that are not None."""
    return {name: value for name, value in keywords.items() if value is not None}


def _either(name: str, value: object, more: tuple[object, ...]) -> Expr[Any, Any]:
    """Of one value the accumulator, of several the expression over them."""
    return called(f"array_{name}" if more else name, value, *more)


class RowFunctions:
    """With several arguments `sum`, `avg`, `min`, `max`, `std_dev_pop`, `std_dev_samp` and `merge_objects` are
    computed from these in each row; over the elements of one list ``array_sum`` and so on are.
    """

    @overload
    def count(self) -> Expr[object, int]: ...
    @overload
    def count(self, of: type[D], /) -> Expr[D, int]: ...
    @overload
    def count(self, of: Expr[M, Any], /) -> Expr[M, int]: ...
    def count(self, *of: Any) -> Any:
        """The number of rows, ``count(Movie)`` of a statement about Movies; of an expression that of values not null.

        Raises `StatementError`.
        """
        for value in of:
            if not is_document(value) and not isinstance(value, Expr):
                raise StatementError(f"func.count() takes a document class or an expression, not {value!r}")
        return checked_call(COUNT, of, {})

    def sum(self, value: Expr[M, N | None], /, *more: N | Expr[Any, N | None]) -> Expr[M, N]:
        """The sum of the numbers among the values, 0 of none."""
        return _either("sum", value, more)

    @overload
    def avg(  # pyright: ignore[reportOverlappingOverload]
        self, value: Expr[M, float | None], /, *more: float | Expr[Any, float | None]
    ) -> Expr[M, float | None]: ...
    @overload
    def avg(
        self, value: Expr[M, Decimal | None], /, *more: Decimal | Expr[Any, Decimal | None]
    ) -> Expr[M, Decimal | None]: ...
    def avg(self, value: Any, /, *more: Any) -> Any:
        """The mean of the numbers among the values, null of none."""
        return _either("avg", value, more)

    @overload
    def min(self, value: Expr[M, T], /, *more: Expr[Any, T]) -> Expr[M, T]: ...
    @overload
    def min(self, value: Expr[M, T], /, *more: T | Expr[Any, T]) -> Expr[M, T]: ...
    def min(self, value: Expr[M, Any], /, *more: Any) -> Expr[M, Any]:
        """The least of the values that are not null."""
        return _either("min", value, more)

    @overload
    def max(self, value: Expr[M, T], /, *more: Expr[Any, T]) -> Expr[M, T]: ...
    @overload
    def max(self, value: Expr[M, T], /, *more: T | Expr[Any, T]) -> Expr[M, T]: ...
    def max(self, value: Expr[M, Any], /, *more: Any) -> Expr[M, Any]:
        """The greatest of the values that are not null."""
        return _either("max", value, more)

    def std_dev_pop(self, value: Expr[M, Any], /, *more: Any) -> Expr[M, float | None]:
        """The standard deviation of a whole population."""
        return _either("std_dev_pop", value, more)

    def std_dev_samp(self, value: Expr[M, Any], /, *more: Any) -> Expr[M, float | None]:
        """The standard deviation of a sample."""
        return _either("std_dev_samp", value, more)

    def merge_objects(self, value: Expr[M, Any], /, *more: Any) -> Expr[M, dict[str, Any]]:
        """Documents put together; of equal keys the last one counts."""
        return _either("merge_objects", value, more)

    def first(self, value: Expr[M, T], /) -> Expr[M, T]:
        """The value of the first row, in the order that the rows come in."""
        return called("first", value)

    def last(self, value: Expr[M, T], /) -> Expr[M, T]:
        """The value of the last row."""
        return called("last", value)

    def push(self, value: Expr[M, T], /) -> Expr[M, list[T]]:
        """The values of all rows as a list, without those that are missing."""
        return called("push", value)

    def add_to_set(self, value: Expr[M, T], /) -> Expr[M, list[T]]:
        """The values of all rows as a list, each once, in no order."""
        return called("add_to_set", value)

    def top(self, output: Expr[M, T], /, *, order_by: Places[M]) -> Expr[M, T]:
        """The value of the row that comes first in an order."""
        return self._ordered("top", (), output, order_by)

    def bottom(self, output: Expr[M, T], /, *, order_by: Places[M]) -> Expr[M, T]:
        """The value of the row that comes last in an order."""
        return self._ordered("bottom", (), output, order_by)

    def top_n(self, n: int | Expr[Any, int], output: Expr[M, T], /, *, order_by: Places[M]) -> Expr[M, list[T]]:
        """The values of the first `n` rows in an order."""
        return self._ordered("top_n", (n,), output, order_by)

    def bottom_n(self, n: int | Expr[Any, int], output: Expr[M, T], /, *, order_by: Places[M]) -> Expr[M, list[T]]:
        """The values of the last `n` rows in an order."""
        return self._ordered("bottom_n", (n,), output, order_by)

    def _ordered(self, name: str, n: tuple[Any, ...], output: Expr[Any, Any], places: Any) -> Expr[Any, Any]:
        several = is_list(places) or is_tuple(places)
        orders = tuple(map(order_of, places if several else (places,)))
        if not orders:
            raise StatementError(f"func.{name}(order_by=...) needs a field")
        return checked_call(OPERATORS[name], (*n, output), {"sortBy": orders})

    def first_n(self, n: int | Expr[Any, int], input: Expr[M, T]) -> Expr[M, list[T]]:
        """The values of the first `n` rows."""
        return called("first_n", n, input)

    def last_n(self, n: int | Expr[Any, int], input: Expr[M, T]) -> Expr[M, list[T]]:
        """The values of the last `n` rows."""
        return called("last_n", n, input)

    def min_n(self, n: int | Expr[Any, int], input: Expr[M, T]) -> Expr[M, list[T]]:
        """The `n` least of the values that are not null."""
        return called("min_n", n, input)

    def max_n(self, n: int | Expr[Any, int], input: Expr[M, T]) -> Expr[M, list[T]]:
        """The `n` greatest of the values that are not null."""
        return called("max_n", n, input)

    def percentile(
        self, input: Expr[M, Any], p: Sequence[float], method: Literal["approximate"] = "approximate"
    ) -> Expr[M, list[float] | None]:
        """The values below which the parts `p`, each from 0 to 1, of the numbers lie."""
        return called("percentile", input, p, method)

    def median(self, input: Expr[M, Any], method: Literal["approximate"] = "approximate") -> Expr[M, float | None]:
        """The number in the middle."""
        return called("median", input, method)

    # Ranges to group by

    def bucket(self, value: Expr[M, Any], /, *, boundaries: Sequence[Any], default: Any = None) -> Expr[M, Any]:
        """For ``group_by``: the lower boundary of the range that the value is in, upper boundaries left out.

        Values in no range are grouped under `default`; without one the server refuses them.
        Raises `StatementError`.
        """
        limits: tuple[Any, ...] = tuple(literal(boundary) for boundary in boundaries)
        if len(limits) < 2 or not all(_ascend(*pair) for pair in pairwise(map(sort_key, limits))):
            raise StatementError(
                "func.bucket(boundaries=...) takes two or more values of one type, in ascending order, "
                f"not {list(limits)!r:.80}"
            )
        return Bucket(_expression("bucket", value), limits, literal(default))

    def bucket_auto(self, value: Expr[M, Any], /, *, buckets: int, granularity: str | None = None) -> Expr[M, Any]:
        """For ``group_by``: one of about `buckets` ranges that hold about as many rows each, as ``{"min", "max"}``.

        `granularity` rounds the boundaries to preferred numbers: ``"R5"``, ``"1-2-5"``, ``"POWERSOF2"`` and others.
        Raises `StatementError`.
        """
        if type(buckets) is not int or not 1 <= buckets < 2**31:
            raise StatementError(f"func.bucket_auto(buckets=...) takes a number from 1, not {buckets!r}")
        if granularity is not None and (type(granularity) is not str or granularity not in _GRANULARITIES):
            raise StatementError(f"func.bucket_auto(granularity={granularity!r}): one of {', '.join(_GRANULARITIES)}")
        return Bucket(_expression("bucket_auto", value), buckets=buckets, granularity=granularity)

    # Of windows only

    def document_number(self) -> Expr[object, int]:
        """The row's position in its partition, from 1."""
        return checked_call(OPERATORS["document_number"], (), {})

    def rank(self) -> Expr[object, int]:
        """The row's rank in its partition, from 1; after equal rows some ranks are left out."""
        return checked_call(OPERATORS["rank"], (), {})

    def dense_rank(self) -> Expr[object, int]:
        """The row's rank in its partition, from 1, without gaps."""
        return checked_call(OPERATORS["dense_rank"], (), {})

    def shift(self, output: Expr[M, T], by: int, default: T | None = None) -> Expr[M, T | None]:
        """The value of the row that stands `by` places after this one, before it with a negative number."""
        return called("shift", output, by, **given(default=default))

    @overload
    def derivative(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
        self, input: Expr[M, float | None], unit: Unit | None = None
    ) -> Expr[M, float | None]: ...
    @overload
    def derivative(self, input: Expr[M, Decimal | None], unit: Unit | None = None) -> Expr[M, Decimal | None]: ...
    def derivative(self, input: Any, unit: Unit | None = None) -> Any:
        """The rate of change over the window, by what the rows are ordered by; `unit` where that is a date."""
        return called("derivative", input, **given(unit=unit))

    @overload
    def integral(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
        self, input: Expr[M, float | None], unit: Unit | None = None
    ) -> Expr[M, float | None]: ...
    @overload
    def integral(self, input: Expr[M, Decimal | None], unit: Unit | None = None) -> Expr[M, Decimal | None]: ...
    def integral(self, input: Any, unit: Unit | None = None) -> Any:
        """The area under the values of the window; `unit` where the rows are ordered by a date."""
        return called("integral", input, **given(unit=unit))

    @overload
    def exp_moving_avg(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
        self, input: Expr[M, float | None], *, n: int | None = None, alpha: float | None = None
    ) -> Expr[M, float | None]: ...
    @overload
    def exp_moving_avg(
        self, input: Expr[M, Decimal | None], *, n: int | None = None, alpha: float | None = None
    ) -> Expr[M, Decimal | None]: ...
    def exp_moving_avg(self, input: Any, *, n: int | None = None, alpha: float | None = None) -> Any:
        """The exponential moving average: of about `n` rows, or with the weight `alpha` of the current row.

        Raises `StatementError` for both or none.
        """
        if (n is None) == (alpha is None):
            raise StatementError("func.exp_moving_avg() takes n= or alpha=")
        return called("exp_moving_avg", input, **given(n=n, alpha=alpha))

    def linear_fill(self, value: Expr[M, T], /) -> Expr[M, T]:
        """The value, and where it is null one on the line between its neighbours."""
        return called("linear_fill", value)

    def locf(self, value: Expr[M, T], /) -> Expr[M, T]:
        """The value, and where it is null the last one before it that is not."""
        return called("locf", value)

    @overload
    def covariance_pop(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
        self, a: Expr[M, float | None], b: Expr[M, float | None], /
    ) -> Expr[M, float | None]: ...
    @overload
    def covariance_pop(self, a: Expr[M, Decimal | None], b: Expr[M, Decimal | None], /) -> Expr[M, Decimal | None]: ...
    def covariance_pop(self, a: Any, b: Any, /) -> Any:
        """The covariance of a whole population."""
        return called("covariance_pop", a, b)

    @overload
    def covariance_samp(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
        self, a: Expr[M, float | None], b: Expr[M, float | None], /
    ) -> Expr[M, float | None]: ...
    @overload
    def covariance_samp(self, a: Expr[M, Decimal | None], b: Expr[M, Decimal | None], /) -> Expr[M, Decimal | None]: ...
    def covariance_samp(self, a: Any, b: Any, /) -> Any:
        """The covariance of a sample."""
        return called("covariance_samp", a, b)


_GRANULARITIES = ("R5", "R10", "R20", "R40", "R80", "1-2-5", "E6", "E12", "E24", "E48", "E96", "E192", "POWERSOF2")


def _ascend(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Whether two values are of one type and in ascending order, by their keys of the server's order."""
    return one[0] == other[0] and one < other


def _expression(name: str, value: object) -> Expr[Any, Any]:
    if not is_expr(value) or (is_call(value) and value.operator.kind != "scalar"):
        raise StatementError(f"func.{name}() takes a field or an expression of the rows, not {value!r}")
    return value
