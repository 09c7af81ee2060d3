# pyright: reportPrivateUsage=false
"""Fields, and the other things that a value can be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, TypeGuard, cast, overload

from attrs import Factory, field, frozen
from typing_extensions import TypeVar

from superorm.exc import StatementError
from superorm.expr.assignments import Assignment
from superorm.expr.base import (
    Call,
    Compare,
    ElemMatch,
    Expr,
    Predicate,
    annotations_in,
    equal,
    is_expr,
    only_expressions,
    operand,
)
from superorm.expr.checks import are_plain, checked_conditions
from superorm.expr.literals import literal
from superorm.expr.narrow import is_tuple
from superorm.expr.operators import SIZE
from superorm.expr.sources import Alias, FieldType, Source, Variable, class_of
from superorm.expr.typed import types
from superorm.expr.values import checked_name, checked_number, text_literal

if TYPE_CHECKING:
    from superorm.expr.arithmetic import Number
    from superorm.schema.document import Embedded

__all__ = [
    "Case",
    "Column",
    "Expr",
    "Field",
    "FieldType",
    "Predicate",
    "Score",
    "branches",
    "case",
    "column",
    "field_at",
    "score",
]

M = TypeVar("M")
V = TypeVar("V")
E = TypeVar("E")
M_contra = TypeVar("M_contra", contravariant=True)
T_co = TypeVar("T_co", covariant=True)

_LIKE = frozenset({"like", "ilike", "match", "search", "icontains"})
_SEARCHES = "; texts are searched with .contains(), .startswith(), .endswith() and .regex()"


@frozen(eq=False)
class Score(Expr[M_contra, T_co]):
    """The similarity that a ``like`` stage gave."""

    def __repr__(self) -> str:
        return "score()"


def score() -> Expr[object, float]:
    """The similarity of a row to the query of the ``like`` before it, from 0 to 1 (see `Select.like`)."""
    return Score()


@frozen(eq=False)
class Column(Expr[M_contra, T_co]):
    """A value of the rows by its name."""

    name: str

    def __repr__(self) -> str:
        return f"column({self.name!r})"


def column(name: str) -> Expr[object, Any]:
    """A value of the rows so far by its name: what a raw `stage` made, a list of a `facet`, a label.

    Raises `StatementError` for what is no name.
    """
    return Column(checked_name(name))


@frozen(eq=False)
class Case(Expr[M_contra, T_co]):
    """The value of the first condition that holds."""

    whens: tuple[tuple[Predicate[Any], Any], ...]
    else_: Any
    _annotations: tuple[Any, ...] = field(
        init=False, default=Factory(lambda self: annotations_in(branches(self)), takes_self=True)
    )

    @cached_property
    def _value_type(self) -> Any:
        return types().computed(self)

    def children(self) -> Iterator[Expr[Any, Any]]:
        for condition, value in self.whens:
            yield condition
            yield from only_expressions(value)
        yield from only_expressions(self.else_)

    def __repr__(self) -> str:
        return f"case({', '.join(map(repr, self.whens))}, else_={self.else_!r})"


def branches(node: Case[Any, Any]) -> list[Any]:
    """The values that it may give."""
    return [*[value for _, value in node.whens], node.else_]


@overload
def case(*whens: tuple[Predicate[M], Expr[Any, V]], else_: Expr[Any, V]) -> Expr[M, V]: ...
@overload
def case(*whens: tuple[Predicate[M], V | Expr[Any, V]], else_: V | Expr[Any, V]) -> Expr[M, V]: ...
@overload
def case(*whens: tuple[Predicate[M], Expr[Any, V]], else_: None = None) -> Expr[M, V | None]: ...
@overload
def case(*whens: tuple[Predicate[M], V | Expr[Any, V]], else_: None = None) -> Expr[M, V | None]: ...
def case(*whens: Any, else_: Any = None) -> Expr[Any, Any]:
    """The value beside the first condition that holds, or else `else_`: ``case((Movie.year < 1930, "silent"))``.

    Raises `StatementError` without conditions.
    """
    if not whens:
        raise StatementError("case() needs at least one pair of a condition and a value")
    pairs = [_pair(when) for when in whens]
    conditions = checked_conditions([condition for condition, _ in pairs], "case()")
    given = [*(value for _, value in pairs), else_]
    *values, default = [operand(value) for value in given] if are_plain(given) else types().alike(given)
    return Case(tuple(zip(conditions, values, strict=True)), default)


def _pair(when: object) -> tuple[Any, ...]:
    if not is_tuple(when) or len(when) != 2:
        raise StatementError(f"case() takes pairs of a condition and a value, not {when!r:.80}")
    return when


def _is_field(value: object) -> TypeGuard[Field[Any, Any]]:
    return isinstance(value, Field)


@frozen(eq=False)
class Field(Expr[M_contra, T_co]):
    """A field of a class: ``Movie.year``, ``Movie.imdb.rating``, ``Movie.genres[0]``.

    Its own attributes begin with an underscore, as all other names are those of embedded documents' fields.
    """

    _owner: Source
    _path: str
    """Where it is stored, dotted."""
    _parts: tuple[FieldType, ...]
    """The declared fields and parts of values on the way, the last of them its own."""

    @property
    def _type(self) -> FieldType:
        if self._parts:
            return self._parts[-1]
        kind = cast("Variable", self._owner).kind
        if kind is None:
            raise StatementError(f"nothing is known of the type of {self!r}")
        return kind

    def __repr__(self) -> str:
        name = self._owner.__name__ if isinstance(self._owner, type) else repr(self._owner)
        return name + "".join(
            part.attribute if part.attribute.startswith("[") else f".{part.attribute}" for part in self._parts
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return field_at, (self._owner, tuple(part.step for part in self._parts))

    def __getattr__(self: Field[M, Embedded | Sequence[Embedded] | None], name: str) -> Field[M, Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            part = self._type.member(name)
        except AttributeError as error:
            if self._type.embedded is not None:
                raise
            raise AttributeError(f"{self!r}: {error}{_SEARCHES if name in _LIKE else ''}") from None
        return self._with(part)

    @overload
    def __getitem__(self: Field[M, list[E] | tuple[E, ...] | None], part: int) -> Field[M, E | None]: ...
    @overload
    def __getitem__(self: Field[M, dict[str, V] | None], part: str) -> Field[M, V | None]: ...
    @overload
    def __getitem__(self: Field[M, Mapping[str, object] | None], part: str) -> Field[M, Any]: ...
    @overload
    def __getitem__(self: Field[M, E | None], part: Field[E, V]) -> Field[M, V]: ...
    def __getitem__(self: Field[M, Any], part: Any) -> Field[M, Any]:
        """An element of a list by its position, a value of a dict by its key,
        or a part of an embedded document by its own field, for names that a method here shadows.
        """
        if type(part) is int:
            return self._with(self._type.element(part))
        if isinstance(part, str):
            return self._with(self._type.value(cast("str", literal(part))))
        if not _is_field(part):
            inner = self._type.embedded
            of_class = "" if inner is None else f", or a field of {inner.__name__},"
            advice = f"; func.slice({self!r}, ...) gives some of a list's elements" if isinstance(part, slice) else ""
            raise StatementError(f"{self!r}[{part!r}]: a position or a key{of_class} is needed{advice}")
        if not self._type.holds(part._owner):
            raise StatementError(f"{self!r} has no {part!r}: it does not hold such documents")
        found: Field[M, Any] = self
        for step in part._parts:
            found = found._with(step)
        return found

    def _with(self, part: FieldType) -> Field[M_contra, Any]:
        path = ".".join(step for step in (self._path, part.stored) if step)
        return Field(self._owner, path, (*self._parts, part))

    def _of(self, owner: Alias) -> Field[Any, T_co]:
        """The same field of the class under another name."""
        return Field(owner, self._path, self._parts)

    def item(self: Field[M, list[E] | set[E] | frozenset[E] | tuple[E, ...] | None]) -> Field[M, E]:
        """After ``.unwind(field)``: the item of the list that stands in the row, in the list's place."""
        return self._with(self._type.item())

    def exists(self) -> Predicate[M_contra]:
        """Whether the key is there, null or not."""
        return Compare(self, "$exists", True)

    @overload
    def contains(self: Field[M, str | None], value: str, *, ignore_case: bool = False) -> Predicate[M]: ...
    @overload
    def contains(self: Field[M, list[E] | set[E] | frozenset[E] | tuple[E, ...] | None], value: E) -> Predicate[M]: ...
    def contains(self: Field[M, Any], value: Any, *, ignore_case: bool = False) -> Predicate[M]:
        """A list holds the value, or a text holds the text, taken literally."""
        if not self._type.is_list:
            return self._matches(re.escape(text_literal("contains", value)), ignore_case, "contains")
        if is_expr(value):
            raise StatementError(f"{self!r}.contains({value!r}) takes a Python value: write {self!r} == {value!r}")
        if value is None or isinstance(value, (list, tuple, set, frozenset)):  # alone it would match the list itself
            return Compare(self, "$elemMatch", {"$eq": self._literal(cast("object", value))})
        return equal(self, "$eq", value)

    def all_(
        self: Field[M, list[E] | set[E] | frozenset[E] | tuple[E, ...] | None], values: Iterable[E]
    ) -> Predicate[M]:
        """The list holds all the values."""
        if self._is_never_list(reached=True):
            raise StatementError(f"{self!r}.all_() needs a list; {self!r} holds none: write == or in_()")
        return Compare(self, "$all", self._literals("all_", values))

    def any_(self: Field[M, list[E] | tuple[E, ...] | None], *conditions: Predicate[E]) -> Predicate[M]:
        """One embedded document of the list meets all the conditions (``$elemMatch``)."""
        if not conditions:
            raise StatementError(f"{self!r}.any_() needs a condition")
        if self._type.embedded is None:
            raise StatementError(f"{self!r}.any_() needs a list of embedded documents")
        if self._is_never_list():
            raise StatementError(
                f"{self!r}.any_() needs a list of embedded documents; {self!r} holds a single one: "
                f"write conditions on its fields, {self!r}.<field>"
            )
        return ElemMatch(self, checked_conditions(conditions, f"{self!r}.any_()"))

    def size(self: Field[M, list[Any] | set[Any] | frozenset[Any] | tuple[Any, ...] | None]) -> Expr[M, int]:
        """The number of the list's elements; null where there is no list."""
        if self._is_never_list(reached=True):
            raise StatementError(f"{self!r}.size() needs a list; of a text there is func.str_len_cp({self!r})")
        return Call(SIZE, (self,))

    def _is_never_list(self, *, reached: bool = False) -> bool:
        """Whether the declared type surely holds no list.

        With `reached` a list on the way counts too, through which there is a list of values.
        """
        if not self._parts:
            kind = cast("Variable", self._owner).kind
            return kind is not None and not kind.may_be_list
        if self._parts[-1].may_be_list:
            return False
        return not reached or not any(
            part.may_be_list and after.step[0] != "element" for part, after in pairwise(self._parts)
        )

    # Assignments, for `update(...).set(...)`

    def to(self, value: T_co | Expr[M_contra, T_co]) -> Assignment[M_contra]:  # pyright: ignore[reportGeneralTypeIssues]
        """Make it this value, or the value of this expression; one that gives nothing makes it null.

        Of an element by its position: documents without such an element are not changed at all.
        Raises `ValidationError` for a value that does not fit, or that the field's validator refuses,
        also for one inside of `case` and the like.
        """
        return Assignment(self, "to", types().assigned(self, value) if is_expr(value) else self._stored(value))

    def unset(self) -> Assignment[M_contra]:
        """Remove the key."""
        return Assignment(self, "unset", None)

    def inc(self: Field[M, Number | None], by: T_co | Expr[M_contra, T_co]) -> Assignment[M]:  # pyright: ignore[reportGeneralTypeIssues]
        """Add a number; null and missing become null. Raises `ValidationError` for one that does not fit."""
        if is_expr(by):
            return Assignment(self, "inc", types().assigned(self, by, adds=True))
        checked_number(by)
        return Assignment(self, "inc", self._type.stored_value(by, repr(self)))

    def push(self: Field[M, list[E] | tuple[E, ...] | None], *values: E, position: int | None = None) -> Assignment[M]:
        """Append values to the list, or insert them at a position, which counts from the end where it is negative.

        Missing and null become a list; of a set the statement is refused. Raises `ValidationError` for a value that
        does not fit.
        """
        if position is not None and (type(position) is not int or abs(position) >= 2**31):
            raise StatementError(f"{self!r}.push(position=...) takes a whole number, not {position!r}")
        return Assignment(self, "push", self._elements(values), position)

    def add_to_set(self: Field[M, list[E] | set[E] | frozenset[E] | tuple[E, ...] | None], *values: E) -> Assignment[M]:
        """Append those of the values that the list does not hold; missing and null become a list.

        Raises `ValidationError` for a value that does not fit.
        """
        return Assignment(self, "add_to_set", self._elements(values))

    @overload
    def pull(self: Field[M, list[E] | tuple[E, ...] | None], *values: Predicate[E]) -> Assignment[M]: ...
    @overload
    def pull(self: Field[M, list[E] | set[E] | frozenset[E] | tuple[E, ...] | None], *values: E) -> Assignment[M]: ...
    def pull(self: Field[M, Any], *values: Any) -> Assignment[M]:
        """Remove the values from the list, or the embedded documents that meet all the conditions."""
        if any(isinstance(value, Predicate) for value in values):
            return Assignment(self, "pull", checked_conditions(values, f"{self!r}.pull()"))
        removed, forms = self._elements(values), self._forms()
        for value in values:  # in each form in which classes store it
            removed += [form for form in forms(value) if form not in removed]
        return Assignment(self, "pull", removed)

    def pop(
        self: Field[M, list[Any] | tuple[Any, ...] | None], end: Literal["first", "last"] = "last"
    ) -> Assignment[M]:
        """Remove the last element of the list, or the first."""
        if end not in ("first", "last"):
            raise StatementError(f'{self!r}.pop() takes "first" or "last", not {end!r}')
        return Assignment(self, "pop", 1 if end == "last" else -1)

    def _stored(self, value: object) -> Any:
        """The BSON value to store for a value. Raises `ValidationError`."""
        holder = self._parts[-2].embedded if len(self._parts) > 1 else self._owner
        return self._type.stored_value(value, repr(self), class_of(holder))

    def _elements(self, values: Iterable[object]) -> list[Any]:
        """The same of elements of the list. Raises `StatementError` where it is none."""
        element = self._type.element(None)
        return [element.stored_value(value, f"an element of {self!r}") for value in values]


def field_at(owner: Source, steps: Iterable[tuple[str, Any]]) -> Field[Any, Any]:
    """The field of `owner` that the steps lead to. Raises `AttributeError`, `StatementError` where there is none."""
    found: Field[Any, Any] | None = Field(owner, "", ()) if isinstance(owner, Variable) else None
    for kind, step in steps:
        if found is None:
            found = cast("Field[Any, Any]", getattr(owner, step))
        elif kind == "field":
            found = found._with(found._type.member(step))
        elif kind == "key":
            found = found._with(found._type.value(step))
        else:
            found = found._with(found._type.item() if step is None else found._type.element(step))
    if found is None:
        raise StatementError(f"there is no field of {owner!r} without a name")
    return found
