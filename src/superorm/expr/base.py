"""Expressions and conditions: nodes that know nothing of documents' classes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, Literal, Never, NoReturn, TypeAlias, TypeGuard, cast, overload

from attrs import Factory, field, frozen
from typing_extensions import TypeVar

from superorm.exc import StatementError
from superorm.expr.arithmetic import Arithmetic
from superorm.expr.literals import PLAIN, literal
from superorm.expr.operators import SIZE, Operator
from superorm.expr.order import in_order
from superorm.expr.reprs import typed_repr
from superorm.expr.thawed import thawed
from superorm.expr.typed import is_scalar, types
from superorm.expr.values import checked_name, checked_number, text_literal

__all__ = [
    "Call",
    "Compare",
    "CompareOp",
    "ElemMatch",
    "Expr",
    "Label",
    "Logical",
    "Matches",
    "Order",
    "Predicate",
    "annotations_in",
    "equal",
    "is_expr",
    "joined",
    "negated",
    "only_expressions",
    "operand",
]

M = TypeVar("M")
T = TypeVar("T")
M_contra = TypeVar("M_contra", contravariant=True)
T_co = TypeVar("T_co", covariant=True)

CompareOp: TypeAlias = Literal[
    "$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists", "$all", "$elemMatch", "$size"
]

_NO_BOOL = "an expression has no truth value: combine conditions with & | ~, and write .between(low, high) for a range"
_JOINING = "put each comparison in parentheses, (a > 1) & (b < 2), and write == True for a value that is true or false"
_ONE_OF: dict[CompareOp, CompareOp] = {"$eq": "$in", "$ne": "$nin"}
_OF_LISTS = {"in_": "==", "not_in": "!="}
"""How a list of the database is compared instead, by its elements."""
_END = r"(?![\s\S])"  # as ``\z``, which Python's expressions, and so mongomock's, do not have


def _comparison(op: CompareOp) -> Callable[[Any, Any], Any]:
    def compare(left: Any, right: object) -> Any:
        kind = type(right)
        value: Any = right  # as it is where `literal` leaves it so; asked here, as most are
        if not ((kind is int and -(2**63) <= value < 2**63) or (kind is str and value.isascii()) or kind in PLAIN):
            if isinstance(right, (set, frozenset)) and op in ("$eq", "$ne"):
                return _same_set(left, op, left._operand(right))
            if op in _ONE_OF and not isinstance(right, Expr):
                return equal(left, op, value)
            value = left._operand(right)
            if left._annotations and is_expr(value):
                left = types().fitted(left, value)
        made = _ThawedCompare()
        made.left = left
        made.op = op
        made.right = value
        made.__class__ = Compare
        return made

    return compare


def equal(left: Any, op: CompareOp, value: object) -> Predicate[Any]:
    """Equal to a value, or not, in whichever of its forms it is stored."""
    forms: list[Any] = left._forms()(value)
    return Compare(left, op, forms[0]) if len(forms) == 1 else Compare(left, _ONE_OF[op], forms)


def _same_set(left: Any, op: str, values: list[Any]) -> Predicate[Any]:
    """The list holds these values, in any order, and no others."""
    same: Predicate[Any] = Compare(left, "$eq", [])
    if values:
        same = Logical("$and", (Compare(left, "$all", values), Compare(Call(SIZE, (left,)), "$eq", len(values))))
    return same if op == "$eq" else ~same


class Expr(Arithmetic[M_contra, T_co]):
    """A value computed from a document: `M_contra` is the document's class, `T_co` the value's type.

    Comparisons mean what they mean in MongoDB's match language, wherever they stand:
    only values of one type are ordered, null is missing too, and a list matches by its elements.
    With a Python set, ``==`` and ``!=`` ask for a list of the same values in any order.
    """

    __slots__ = ()
    if TYPE_CHECKING:
        _annotations: tuple[Any, ...]
        """The types of literals in it that have those of their Python values, each once."""
    else:
        _annotations = ()

    def children(self) -> Iterator[Expr[Any, Any]]:
        """The expressions that it is made of."""
        return iter(())

    def label(self, name: str) -> Label[M_contra, T_co]:
        """Give the value a name in the rows; the label stands for it elsewhere in the statement."""
        return Label(self, checked_name(name))

    def asc(self) -> Order[M_contra]:
        """Ascending, the default."""
        return _order(self, 1)

    def desc(self) -> Order[M_contra]:
        """Descending."""
        return _order(self, -1)

    def __bool__(self) -> NoReturn:
        raise TypeError(_NO_BOOL)

    def __iter__(self) -> NoReturn:
        raise TypeError(f"{self!r} stands for a value in the database and cannot be iterated")

    def __contains__(self, item: object) -> NoReturn:
        raise TypeError(f"write .contains(...), not `in {self!r}`")

    __hash__ = None  # type: ignore[assignment]
    __array_ufunc__ = None  # numpy's values leave their operators to those here

    if not TYPE_CHECKING:

        def __and__(self, other):
            raise TypeError(f"& and | combine conditions only, not {self!r:.80} and {other!r:.80}: {_JOINING}")

        __or__ = __rand__ = __ror__ = __and__

        def __invert__(self):
            raise TypeError(f"~ negates conditions only, not {self!r:.80}: {_JOINING}")

    if TYPE_CHECKING:

        def __eq__(self, other: T_co | Expr[Any, T_co | None] | None) -> Predicate[M_contra]: ...  # type: ignore[override]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleMethodOverride]
        def __ne__(self, other: T_co | Expr[Any, T_co | None] | None) -> Predicate[M_contra]: ...  # type: ignore[override]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleMethodOverride]
        def __gt__(self, other: T_co | Expr[Any, T_co | None]) -> Predicate[M_contra]: ...  # pyright: ignore[reportGeneralTypeIssues]
        def __ge__(self, other: T_co | Expr[Any, T_co | None]) -> Predicate[M_contra]: ...  # pyright: ignore[reportGeneralTypeIssues]
        def __lt__(self, other: T_co | Expr[Any, T_co | None]) -> Predicate[M_contra]: ...  # pyright: ignore[reportGeneralTypeIssues]
        def __le__(self, other: T_co | Expr[Any, T_co | None]) -> Predicate[M_contra]: ...  # pyright: ignore[reportGeneralTypeIssues]

    else:
        __eq__ = _comparison("$eq")
        __ne__ = _comparison("$ne")
        __gt__ = _comparison("$gt")
        __ge__ = _comparison("$gte")
        __lt__ = _comparison("$lt")
        __le__ = _comparison("$lte")

    def between(self, low: T_co | Expr[Any, T_co], high: T_co | Expr[Any, T_co]) -> Predicate[M_contra]:  # pyright: ignore[reportGeneralTypeIssues]
        """`low` and `high` included."""
        return Logical("$and", (Compare(self, "$gte", self._operand(low)), Compare(self, "$lte", self._operand(high))))

    def in_(self, values: Iterable[T_co]) -> Predicate[M_contra]:
        """Equal to one of the values."""
        return Compare(self, "$in", self._literals("in_", values))

    def not_in(self, values: Iterable[T_co]) -> Predicate[M_contra]:
        """Equal to none of the values."""
        return Compare(self, "$nin", self._literals("not_in", values))

    def is_(self, value: None) -> Predicate[M_contra]:
        """Null or missing, as MongoDB compares with null."""
        if value is not None:
            raise StatementError(f"{self!r}.is_() takes None only; write == for other values")
        return Compare(self, "$eq", None)

    def startswith(self: Expr[M, str | None], prefix: str, *, ignore_case: bool = False) -> Predicate[M]:
        """The text begins with `prefix`, taken literally."""
        return self._matches("^" + re.escape(text_literal("startswith", prefix)), ignore_case, "startswith")

    def endswith(self: Expr[M, str | None], suffix: str, *, ignore_case: bool = False) -> Predicate[M]:
        """The text ends with `suffix`, taken literally."""
        return self._matches(re.escape(text_literal("endswith", suffix)) + _END, ignore_case, "endswith")

    def regex(self: Expr[M, str | list[str] | None], pattern: str, *, ignore_case: bool = False) -> Predicate[M]:
        """The text, or one of a list, matches a Perl-compatible regular expression, of which nothing is escaped."""
        return self._matches(text_literal("regex", pattern), ignore_case)

    def _calculated(self, operator: Operator, left: Any, right: Any) -> Expr[Any, Any]:
        return Call(operator, (_number(left), _number(right)))

    def _matches(self, pattern: str, ignore_case: bool, name: str = "") -> Predicate[M_contra]:
        return Matches(self, pattern, "i" if ignore_case else "", name)

    def _literals(self, name: str, values: Iterable[Any]) -> list[Any]:
        if is_expr(values):
            meant = f": write {values!r} {_OF_LISTS[name]} {self!r}" if name in _OF_LISTS else ""
            raise StatementError(
                f"{self!r}.{name}({values!r}) takes Python's values, not a list in the database{meant}"
            )
        if isinstance(values, (str, bytes, dict)) or not isinstance(values, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            given = f"{typed_repr(values)}"  # pyright: ignore[reportUnknownArgumentType]
            raise StatementError(f"{self!r}.{name}() takes a list of values, not {given}")
        forms = self._forms()
        found: list[Any] = []
        for value in values:
            found += forms(value) if name in _OF_LISTS else (self._only(value, forms(value)),)
        return in_order(found) if isinstance(values, (set, frozenset)) else found

    def _operand(self, value: object) -> Any:
        if not is_expr(value):
            return self._literal(value)
        return types().fitted(value, self) if value._annotations else value

    def _literal(self, value: object) -> Any:
        """The BSON literal that stands for a value beside this expression."""
        return literal(value) if is_scalar(value) else self._only(value, types().forms(self)(value))

    def _only(self, value: object, forms: list[Any]) -> Any:
        if len(forms) > 1:
            raise StatementError(
                f"{value!r:.80} beside {self!r} may be stored as {' or as '.join(map(repr, forms))}: "
                "only ==, !=, in_(), not_in() and contains() find all of them"
            )
        return forms[0]

    def _forms(self) -> Callable[[object], list[Any]]:
        """A function: the literals that stand for a value, several where classes store it differently."""
        of_types: list[Callable[[object], list[Any]]] = []

        def forms(value: object) -> list[Any]:
            if is_scalar(value):
                return [literal(value)]
            if not of_types:
                of_types.append(types().forms(self))
            return of_types[0](value)

        return forms


@frozen(eq=False)
class Predicate(Expr[M_contra, bool]):
    """A condition on documents of a class."""

    def __and__(self, other: Predicate[M_contra]) -> Predicate[M_contra]:
        return _joined("$and", self, other)

    def __or__(self, other: Predicate[M_contra]) -> Predicate[M_contra]:
        return _joined("$or", self, other)

    if TYPE_CHECKING:  # beside a condition on a base class; one on another class makes it a condition on joined rows

        @overload
        def __rand__(self, other: Predicate[M_contra]) -> Predicate[M_contra]: ...
        @overload
        def __rand__(self, other: Predicate[M]) -> Predicate[Never]: ...  # pyright: ignore[reportOverlappingOverload]
        def __rand__(self, other: Any) -> Any: ...

        __ror__ = __rand__

    def __invert__(self) -> Predicate[M_contra]:
        return negated(self)

    __hash__ = None


@frozen(eq=False)
class Compare(Predicate[M_contra]):
    """An expression compared with a literal, or with another expression, in the sense of MongoDB's match language."""

    left: Expr[Any, Any]
    op: CompareOp
    right: Any
    """An `Expr`, or else a BSON value."""

    def children(self) -> Iterator[Expr[Any, Any]]:
        return only_expressions(self.left, self.right)


@frozen(eq=False)
class Matches(Predicate[M_contra]):
    """A text, or one of a list, matches a regular expression."""

    left: Expr[Any, Any]
    pattern: str
    options: str = ""
    method: str = field(default="", repr=False)
    """Which one was called; empty for ``regex``."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("left", "pattern", "options", "method")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in {"method": "", **state}.items():  # older pickles have no method
            object.__setattr__(self, name, value)

    def children(self) -> Iterator[Expr[Any, Any]]:
        yield self.left


@frozen(eq=False)
class Logical(Predicate[M_contra]):
    """Conditions joined."""

    op: Literal["$and", "$or", "$nor"]
    items: tuple[Predicate[Any], ...]

    def children(self) -> Iterator[Expr[Any, Any]]:
        return iter(self.items)


@frozen(eq=False)
class ElemMatch(Predicate[M_contra]):
    """One embedded document of a list meets all the conditions, whose fields are those of its own class."""

    left: Expr[Any, Any]
    items: tuple[Predicate[Any], ...]

    def children(self) -> Iterator[Expr[Any, Any]]:
        yield self.left


@frozen(eq=False)
class Order(Generic[M_contra]):
    """A place in an order."""

    expr: Expr[Any, Any]
    direction: Literal[1, -1]


_ThawedCompare = thawed(Compare)
_ThawedOrder = thawed(Order)


def _order(expr: Expr[Any, Any], direction: Literal[1, -1]) -> Order[Any]:
    made: Any = _ThawedOrder()
    made.expr = expr
    made.direction = direction
    made.__class__ = Order
    order: Order[Any] = made
    return order


@frozen(eq=False)
class Label(Expr[M_contra, T_co]):
    """An expression under a name."""

    expr: Expr[Any, Any]
    name: str
    _annotations: tuple[Any, ...] = field(
        init=False, default=Factory(lambda self: self.expr._annotations, takes_self=True)
    )

    def children(self) -> Iterator[Expr[Any, Any]]:
        yield self.expr

    def __repr__(self) -> str:
        return self.name


@frozen(eq=False)
class Call(Expr[M_contra, T_co]):
    """An operator of the server with its arguments: expressions, or BSON literals."""

    operator: Operator
    args: tuple[Any, ...]
    options: tuple[tuple[str, Any], ...] = ()
    """Of style ``named``: further arguments by the server's names."""
    annotation: Any = None
    """Of ``literal``: the type of the Python value, where its BSON value does not tell it."""
    _annotations: tuple[Any, ...] = field(
        init=False, default=Factory(lambda self: _annotations_of(self), takes_self=True)
    )

    @cached_property
    def _value_type(self) -> Any:
        return types().computed(self)

    def children(self) -> Iterator[Expr[Any, Any]]:
        for value in (*self.args, *(value for _, value in self.options)):
            if is_expr(value):
                yield value
            elif isinstance(value, tuple):  # orders
                yield from (order.expr for order in cast("tuple[Order[Any], ...]", value))

    def __repr__(self) -> str:
        shown = [*map(repr, self.args), *(f"{name}={value!r}" for name, value in self.options)]
        return f"func.{self.operator.name}({', '.join(shown)})"


def is_expr(value: object) -> TypeGuard[Expr[Any, Any]]:
    return isinstance(value, Expr)


def _is_predicate(value: object) -> TypeGuard[Predicate[Any]]:
    return isinstance(value, Predicate)


def annotations_in(values: Iterable[object]) -> tuple[Any, ...]:
    """The types of literals in the values that have those of their Python values, each once."""
    found: tuple[Any, ...] = ()
    for value in values:
        if is_expr(value) and value._annotations:  # pyright: ignore[reportPrivateUsage]
            found += tuple([one for one in value._annotations if one not in found])  # pyright: ignore[reportPrivateUsage]
    return found


def _annotations_of(call: Call[Any, Any]) -> tuple[Any, ...]:
    if call.annotation is not None:
        return (call.annotation,)
    return annotations_in((*call.args, *[value for _, value in call.options]) if call.options else call.args)


def only_expressions(*values: object) -> Iterator[Expr[Any, Any]]:
    """Those of the values that are expressions."""
    return filter(is_expr, values)


def operand(value: object) -> Any:
    """An expression as it is, anything else as a BSON literal. Raises `StatementError` for what BSON cannot hold."""
    return value if is_expr(value) else literal(value)


def _number(value: object) -> Any:
    """As `operand`. Raises `StatementError` for what is neither an expression nor a number."""
    if isinstance(value, Expr):
        return cast("Any", value)
    checked_number(value)
    return literal(value)


def _joined(op: Literal["$and", "$or"], one: Predicate[Any], other: object) -> Predicate[Any]:
    if not _is_predicate(other):
        raise TypeError(f"a condition can be combined with conditions only, not with {typed_repr(other)}; {_JOINING}")
    return joined(op, (one, other))


def joined(op: Literal["$and", "$or"], conditions: Iterable[Predicate[Any]]) -> Predicate[Any]:
    """The conditions joined, flat: those that are joined so themselves give theirs."""
    items: tuple[Predicate[Any], ...] = ()
    for one in conditions:
        items += one.items if isinstance(one, Logical) and one.op == op else (one,)
    return Logical(op, items)


def negated(condition: Predicate[Any]) -> Predicate[Any]:
    """The opposite of a condition, which always holds or does not: of a negated one what it negates."""
    if not isinstance(condition, Logical) or condition.op == "$and":
        return Logical("$nor", (condition,))
    if condition.op == "$or":
        return Logical("$nor", condition.items)
    return condition.items[0] if len(condition.items) == 1 else Logical("$or", condition.items)
