"""Values computed from several rows: windows, groups of ranges, lists of other documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from attrs import frozen
from typing_extensions import TypeVar

from superorm.exc import StatementError
from superorm.expr.base import (
    Call,
    Expr,
    Order,
    Predicate,
    only_expressions,
    operand,
)
from superorm.expr.checks import checked_conditions, order_of
from superorm.expr.literals import literal
from superorm.expr.nodes import Field
from superorm.expr.sources import is_document
from superorm.expr.values import checked_name

if TYPE_CHECKING:
    from superorm.expr.statements import Select
    from superorm.schema.document import Document

__all__ = ["Bound", "Bucket", "GraphLookup", "ListOf", "Unit", "Window", "graph_lookup", "window"]

D = TypeVar("D", bound="Document")
M = TypeVar("M")
T = TypeVar("T")
M_contra = TypeVar("M_contra", contravariant=True)
T_co = TypeVar("T_co", covariant=True)

Unit: TypeAlias = Literal["year", "quarter", "month", "week", "day", "hour", "minute", "second", "millisecond"]
UNITS = frozenset({"year", "quarter", "month", "week", "day", "hour", "minute", "second", "millisecond"})
_ORDERED = frozenset(
    {"rank", "dense_rank", "document_number", "shift", "derivative", "integral", "exp_moving_avg", "linear_fill"}
)
"""The operators that have no meaning without an order."""
Bound: TypeAlias = "int | float | Literal['unbounded', 'current']"


@frozen(eq=False)
class Window(Expr[M_contra, T_co]):
    """An operator over the rows around each row (``$setWindowFields``)."""

    call: Call[Any, Any]
    partition_by: tuple[Expr[Any, Any], ...]
    order_by: tuple[Order[Any], ...]
    frame: Literal["documents", "range"] | None
    bounds: tuple[Any, ...]
    unit: Unit | None

    def children(self) -> Iterator[Expr[Any, Any]]:
        yield self.call
        yield from self.partition_by
        for order in self.order_by:
            yield order.expr

    def __repr__(self) -> str:
        return f"window({self.call!r})"


def window(
    call: Expr[M, T],
    *,
    partition_by: Expr[M, Any] | Sequence[Expr[M, Any]] = (),
    order_by: Order[M] | Expr[M, Any] | Sequence[Order[M] | Expr[M, Any]] = (),
    documents: tuple[Bound, Bound] | None = None,
    range: tuple[Bound, Bound] | None = None,
    unit: Unit | None = None,
) -> Expr[M, T]:
    """An accumulator or window operator over the rows around each row: ``window(func.sum(Sale.total), ...)``.

    `partition_by` keeps rows apart, `order_by` puts those of a partition in order.
    `documents` takes rows by position and `range` by the value that they are ordered by, in `unit` where that is a
    date; both as (lower, upper), each a distance from the current row, ``"unbounded"`` or ``"current"``.
    Without either it is the whole partition.
    Without an ``order_by`` of the statement itself the rows come in the order of the last window, partition by
    partition, as the server leaves them; give it one where the order matters.
    Raises `StatementError` for anything else.
    """
    partitions = tuple(partition_by) if isinstance(partition_by, (list, tuple)) else (partition_by,)
    places = tuple(order_by) if isinstance(order_by, (list, tuple)) else (order_by,)
    if not isinstance(call, Call) or call.operator.kind == "scalar":
        raise StatementError(f"window() takes an accumulator such as func.sum(Sale.total), not {call!r}")
    for partition in partitions:
        if not isinstance(partition, Expr):
            raise StatementError(f"window(partition_by=...) takes fields and expressions, not {partition!r}")
    if documents is not None and range is not None:
        raise StatementError("window() takes documents= or range=, not both")
    if unit is not None and (range is None or type(unit) is not str or unit not in UNITS):
        raise StatementError(f"window(unit={unit!r}) is for range=, one of {', '.join(sorted(UNITS))}")
    frame = "documents" if documents is not None else "range" if range is not None else None
    bounds = _bounds(documents if range is None else range, whole=documents is not None)
    orders = tuple(order_of(place) for place in places)
    if frame is not None and not orders:
        raise StatementError(f"window({frame}=...) needs order_by=")
    if call.operator.name in _ORDERED and not orders:
        raise StatementError(f"window({call!r}) needs order_by=, as {call.operator.name}() depends on the order")
    return Window(cast("Any", call), cast("Any", partitions), orders, cast("Any", frame), bounds, unit)


def _bounds(given: object, *, whole: bool) -> tuple[Any, ...]:
    if given is None:
        return ()
    if not isinstance(given, (tuple, list)) or len(cast("list[Any]", given)) != 2:
        raise StatementError(f"a window's bounds are a pair (lower, upper), not {given!r}")
    for bound in cast("list[Any]", given):
        if type(bound) is str:
            known = bound in ("unbounded", "current")
        else:
            known = type(bound) is int or (type(bound) is float and not whole)
        if not known:
            raise StatementError(f'a window\'s bound is a number, "unbounded" or "current", not {bound!r}')
    lower, upper = (0 if bound == "current" else bound for bound in cast("list[Any]", given))
    if "unbounded" not in (lower, upper) and lower > upper:
        raise StatementError(f"a window's lower bound must not be above the upper one: {given!r}")
    return tuple(literal(bound) for bound in cast("list[Any]", given))


@frozen(eq=False)
class Bucket(Expr[M_contra, T_co]):
    """The range that a value falls in; what rows are grouped by (``$bucket``, ``$bucketAuto``)."""

    value: Expr[Any, Any]
    boundaries: tuple[Any, ...] = ()
    default: Any = None
    """The group of what is in no range; None refuses such values."""
    buckets: int | None = None
    granularity: str | None = None

    def children(self) -> Iterator[Expr[Any, Any]]:
        yield self.value

    def __repr__(self) -> str:
        return f"func.bucket({self.value!r})" if self.buckets is None else f"func.bucket_auto({self.value!r})"


@frozen(eq=False)
class ListOf(Expr[M_contra, T_co]):
    """What another select finds for each row, as a list (``$lookup``). Its conditions may name the row's fields."""

    select: Select[Any, Any]

    def __repr__(self) -> str:
        return f"{self.select!r}.as_list()"


@frozen(eq=False)
class GraphLookup(Expr[M_contra, T_co]):
    """The documents that are reached from each row (``$graphLookup``)."""

    target: Any
    start_with: Any
    connect_from: Field[Any, Any]
    connect_to: Field[Any, Any]
    max_depth: int | None
    depth_field: str | None
    where: tuple[Predicate[Any], ...]

    def children(self) -> Iterator[Expr[Any, Any]]:
        return only_expressions(self.start_with)

    def __repr__(self) -> str:
        return f"graph_lookup({self.target!r})"


def graph_lookup(
    target: type[D],
    *,
    start_with: Expr[M, Any],
    connect_from: Field[D, Any],
    connect_to: Field[D, Any],
    max_depth: int | None = None,
    depth_field: str | None = None,
    where: Predicate[D] | Sequence[Predicate[D]] = (),
) -> Expr[M, list[dict[str, Any]]]:
    """The documents of `target` that are reached from each row, as stored, in no order.

    First those whose `connect_to` equals `start_with`, then those whose `connect_to` equals the `connect_from` of one
    found, and so on, `max_depth` times (0: only the first).
    `depth_field` names a key that tells in each how many steps it took.
    Only documents that meet `where` are visited.
    Raises `StatementError`.
    """
    for name, given in ("connect_from", connect_from), ("connect_to", connect_to):
        if not isinstance(given, Field):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise StatementError(f"graph_lookup({name}=...) takes a field of {target!r}, not {given!r}")
    if not is_document(target):
        raise StatementError(f"graph_lookup() takes a document class, not {target!r}")
    if max_depth is not None and (type(max_depth) is not int or not 0 <= max_depth < 2**31):
        raise StatementError(f"graph_lookup(max_depth=...) takes a number of steps from 0, not {max_depth!r}")
    conditions = tuple(where) if isinstance(where, (list, tuple)) else (where,)
    return GraphLookup(
        target,
        operand(start_with),
        connect_from,
        connect_to,
        max_depth,
        None if depth_field is None else checked_name(depth_field),
        checked_conditions(conditions, "graph_lookup(where=...)"),
    )
