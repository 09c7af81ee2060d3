"""Functions on lists, whose conditions and values are given by Python functions of an item, and on documents."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, TypeAlias, cast, overload

from typing_extensions import TypeVar

from superorm.exc import StatementError
from superorm.expr.base import Call, Expr, Order, Predicate, operand
from superorm.expr.calls import called, checked_call, truth
from superorm.expr.checks import checked_conditions, order_of
from superorm.expr.func_rows import given
from superorm.expr.kinds import is_call, walk
from superorm.expr.literals import literal
from superorm.expr.nodes import Field
from superorm.expr.operators import LET, OBJECT, OPERATORS, ZIP
from superorm.expr.sources import Variable
from superorm.expr.typed import types
from superorm.expr.values import checked_name

__all__ = ["DocumentFunctions", "ListFunctions"]

E = TypeVar("E")
M = TypeVar("M")
T = TypeVar("T")

AnyClass: TypeAlias = object
"""As `DocumentFunctions` calls it, which has an ``object`` of its own."""
Items: TypeAlias = "list[E] | set[E] | frozenset[E] | tuple[E, ...] | None"

_names: ContextVar[tuple[str, ...]] = ContextVar("names", default=())
"""The variables of the functions that are being called."""


@contextmanager
def _variables(*wanted: str) -> Generator[tuple[str, ...]]:
    """Names like those wanted, which the functions around do not have."""
    taken = _names.get()
    number = next(n for n in range(1, len(taken) + 2) if not {_numbered(name, n) for name in wanted} & set(taken))
    found = tuple(_numbered(name, number) for name in wanted)
    with _named(*found):
        yield found


@contextmanager
def _named(*names: str) -> Generator[None]:
    """These names are taken."""
    token = _names.set((*_names.get(), *names))
    try:
        yield
    finally:
        _names.reset(token)


def _reduces(node: object) -> bool:
    """Whether there is a ``$reduce`` in an expression."""
    return any(is_call(found) and found.operator.name == "reduce" for _, found in walk([node]))


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}{number}"


def _function(name: str, given: Any) -> Callable[..., Any]:
    if not callable(given):
        raise StatementError(f"func.{name}() takes a Python function such as lambda item: item > 3, not {given!r:.80}")
    function: Callable[..., Any] = given
    return function


def _variable(name: str, items: Any = None) -> Field[Any, Any]:
    return Field(Variable(name, items), "", ())


class ListFunctions:
    """A function of an item is called with what stands for each item; see `Field` for what that has."""

    def filter(
        self, items: Expr[M, Items[E]], condition: Callable[[Field[M, E]], Predicate[Any]], limit: int | None = None
    ) -> Expr[M, list[E]]:
        """The items that meet a condition, at most `limit`: ``func.filter(Movie.genres, lambda item: item > "C")``."""
        with _variables("item") as (name,):
            made = _function("filter", condition)(_variable(name, items))
            (kept,) = checked_conditions((made,), "func.filter()")
        return self._call("filter", operand(items), cond=kept, **{"as": name, **given(limit=limit)})

    def map(self, items: Expr[M, Items[E]], value: Callable[[Field[M, E]], Expr[Any, T]]) -> Expr[M, list[T]]:
        """What is computed from each item: ``func.map(Movie.cast, lambda item: func.upper(item.name))``."""
        with _variables("item") as (name,):
            made = operand(_function("map", value)(_variable(name, items)))
        return self._call("map", operand(items), **{"as": name, "in": made})

    def reduce(
        self,
        items: Expr[M, Items[E]],
        initial: T | Expr[Any, T],
        value: Callable[[Field[M, T], Field[M, E]], Expr[Any, T]],
    ) -> Expr[M, T]:
        """What is computed from the value so far, at first `initial`, and each item in turn:
        ``func.reduce(Movie.ratings, 0, lambda value, this: value + this)``.
        """
        function = _function("reduce", value)
        like: Any = items if initial is None else called("array", initial)
        with _variables("value", "this") as (so_far, this):
            made = operand(function(_variable(so_far, like), _variable(this, items)))
            if not types().are_items(made, like):  # so that the value so far may be of another type than the first
                like = None
                made = operand(function(_variable(so_far), _variable(this, items)))
        if so_far == "value" and _reduces(made):  # which would hide these
            with _named("value", "this"), _variables("value", "this") as (so_far, this):
                made = operand(function(_variable(so_far, like), _variable(this, items)))
        if so_far != "value":  # the server has no other names
            outer: Call[Any, Any] = Call(OBJECT, (), ((so_far, _variable("value")), (this, _variable("this"))))
            made = checked_call(LET, (outer, made), {})
        return called("reduce", items, initial, **{"in": made})

    def _call(self, name: str, *args: Any, **options: Any) -> Call[Any, Any]:
        return checked_call(OPERATORS[name], args, options)

    def sort_array(
        self,
        items: Expr[M, Items[E]],
        by: Order[E] | Expr[E, Any] | Sequence[Order[E] | Expr[E, Any]] | Mapping[str, int] | Literal[1, -1] = 1,
    ) -> Expr[M, list[E]]:
        """The items in order: ``func.sort_array(Movie.genres, -1)`` descending,
        ``func.sort_array(Movie.cast, Actor.born.desc())`` embedded documents by their fields,
        ``{"key": 1}`` dicts by their keys.

        Raises `StatementError`.
        """
        return self._call("sort_array", operand(items), sortBy=_sorting(items, by))

    def zip(
        self, *lists: Expr[M, Any], use_longest_length: bool = False, defaults: Sequence[Any] | None = None
    ) -> Expr[M, list[list[Any]]]:
        """The first items of all lists, the second ones, and so on, up to the end of the shortest list;
        with `use_longest_length` of the longest, where `defaults` stand for what the others lack.
        """
        options: dict[str, Any] = {"useLongestLength": True} if use_longest_length or defaults is not None else {}
        if defaults is not None:
            options["defaults"] = literal(list(defaults))
        return checked_call(ZIP, [operand(value) for value in lists], options)

    def size(self, items: Expr[M, Items[Any]]) -> Expr[M, int]:
        """The number of items; null where there is no list."""
        return called("size", items)

    def array_elem_at(self, items: Expr[M, Items[E]], position: int | Expr[Any, int]) -> Expr[M, E | None]:
        """The item at a position from 0, or with a negative number from the end."""
        return called("array_elem_at", items, position)

    def array_first(self, items: Expr[M, Items[E]]) -> Expr[M, E | None]:
        """The first item."""
        return called("array_first", items)

    def array_last(self, items: Expr[M, Items[E]]) -> Expr[M, E | None]:
        """The last item."""
        return called("array_last", items)

    def concat_arrays(self, *lists: Expr[M, list[E] | None] | list[E]) -> Expr[M, list[E]]:
        """The items of all lists; null where one is none."""
        return called("concat_arrays", *lists)

    def in_(self, value: Any, items: Expr[M, Items[Any]]) -> Predicate[M]:
        """Whether a list holds a value; it must be a list in all rows. Of a field see `Field.contains`."""
        return truth("in_", value, items)

    def set_is_subset(self, one: Expr[M, Items[E]] | list[E], other: Expr[M, Items[E]] | list[E]) -> Predicate[M]:
        """Whether all items of one list are in another; both must be lists in all rows."""
        return truth("set_is_subset", one, other)

    def set_equals(self, *lists: Expr[M, Items[E]] | list[E]) -> Predicate[M]:
        """Whether the lists hold the same items; all must be lists in all rows."""
        return truth("set_equals", *lists)

    def any_element_true(self, items: Expr[M, Items[Any]]) -> Predicate[M]:
        """Whether an item is neither false nor 0 nor null."""
        return truth("any_element_true", items)

    def all_elements_true(self, items: Expr[M, Items[Any]]) -> Predicate[M]:
        """Whether no item is false, 0 or null."""
        return truth("all_elements_true", items)


def _sorting(items: object, by: Any) -> Any:
    if isinstance(by, int) and not isinstance(by, bool) and by in (1, -1):
        return by
    if isinstance(by, Mapping):
        keys = {checked_name(key): way for key, way in cast("Mapping[object, Any]", by).items()}
        if keys and all(type(way) is int and way in (1, -1) for way in keys.values()):
            return keys
        raise StatementError(f"func.sort_array(by={by!r}): keys with 1 or -1 are needed")
    found: dict[str, int] = {}
    for order in map(order_of, cast("Sequence[Any]", by) if isinstance(by, (list, tuple)) else (by,)):
        if not isinstance(order.expr, Field) or any(part.step[0] == "element" for part in order.expr._parts):  # pyright: ignore[reportPrivateUsage]
            raise StatementError(f"func.sort_array(by={order.expr!r}): a field of the embedded documents is needed")
        found[order.expr._path] = order.direction  # pyright: ignore[reportPrivateUsage]
        embedded = items._type.embedded if isinstance(items, Field) else None  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType]
        owner = order.expr._owner  # pyright: ignore[reportPrivateUsage, reportUnknownVariableType]
        if embedded is not None and not (isinstance(owner, type) and issubclass(embedded, owner)):
            raise StatementError(f"func.sort_array(by={order.expr!r}): {items!r} holds {embedded.__name__}")
    if not found:
        raise StatementError("func.sort_array(by=...) needs a field")
    return found


class DocumentFunctions:
    """Documents and lists made of expressions."""

    def object(self, **fields: Any) -> Expr[AnyClass, dict[str, Any]]:
        """A document of values: ``func.object(title=Movie.title, born=Movie.year)``. Raises `StatementError`."""
        named = tuple((checked_name(name), operand(value)) for name, value in fields.items())
        return Call(OBJECT, (), named)

    @overload
    def array(self, *items: Expr[M, T]) -> Expr[M, list[T]]: ...
    @overload
    def array(self, *items: T | Expr[Any, T]) -> Expr[AnyClass, list[T]]: ...
    def array(self, *items: Any) -> Expr[Any, list[Any]]:
        """A list of values; those that are missing become null."""
        return called("array", *items)

    def get_field(self, value: Expr[M, Any], field: str) -> Expr[M, Any]:
        """The value of a document's key, which may have dots and dollar signs."""
        return called("get_field", _key("get_field", field), value)

    def set_field(self, value: Expr[M, Any], field: str, new: Any) -> Expr[M, dict[str, Any]]:
        """A document with one key set."""
        return called("set_field", _key("set_field", field), value, new)

    def unset_field(self, value: Expr[M, Any], field: str) -> Expr[M, dict[str, Any]]:
        """A document without one of its keys."""
        return called("unset_field", _key("unset_field", field), value)


def _key(name: str, field: Any) -> str:
    if not isinstance(field, str) or not field or "\0" in field:
        raise StatementError(f"func.{name}() takes the name of a key, not {field!r}")
    return field
