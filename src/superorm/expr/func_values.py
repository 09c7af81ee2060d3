"""Functions of single values: numbers, texts, dates, conversions and choices."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, TypeAlias, get_args, overload

from typing_extensions import TypeVar

from superorm.exc import StatementError
from superorm.expr.base import Expr, Predicate, joined, negated
from superorm.expr.calls import called, checked_call, truth
from superorm.expr.func_rows import given
from superorm.expr.kinds import is_predicate
from superorm.expr.operators import OPERATORS
from superorm.expr.typed import types

__all__ = ["ValueFunctions"]

M = TypeVar("M")
N = TypeVar("N", bound=int | float | Decimal | None)
T = TypeVar("T")

Text: TypeAlias = "Expr[M, str | None]"
Meta: TypeAlias = Literal[
    "textScore", "indexKey", "searchScore", "searchHighlights", "searchScoreDetails", "vectorSearchScore"
]


class ValueFunctions:
    """The server's own treatment of null and missing: nearly all give null for these."""

    def literal(self, value: T) -> Expr[object, T]:
        """A Python value as an expression."""
        return types().literal(value)

    def meta(self, keyword: Meta) -> Expr[object, Any]:
        """What the server knows of a row beside its values: ``"textScore"``. Raises `StatementError`."""
        if type(keyword) is not str or keyword not in get_args(Meta):
            raise StatementError(f"func.meta({keyword!r}): one of {', '.join(get_args(Meta))}")
        return called("meta", keyword)

    def rand(self) -> Expr[object, float]:
        """A number by chance, from 0 up to but not 1."""
        return checked_call(OPERATORS["rand"], (), {})

    # Choices

    @overload
    def cond(self, condition: Predicate[M], then: Expr[Any, T], otherwise: Expr[Any, T]) -> Expr[M, T]: ...
    @overload
    def cond(self, condition: Predicate[M], then: T | Expr[Any, T], otherwise: T | Expr[Any, T]) -> Expr[M, T]: ...
    def cond(self, condition: Predicate[M], then: Any, otherwise: Any) -> Expr[M, Any]:
        """One value where the condition holds, or else another. For more conditions see `case`."""
        if not isinstance(condition, Predicate):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise StatementError(f"func.cond() takes a condition first, not {condition!r}")
        return called("cond", condition, then, otherwise)

    def if_null(self, value: Expr[M, T | None], /, *others: T | Expr[Any, T | None]) -> Expr[M, T]:
        """The first of the values that is not null or missing, or else the last."""
        return called("if_null", value, *others)

    # Numbers

    def abs(self, value: Expr[M, N]) -> Expr[M, N]:
        """Without its sign."""
        return called("abs", value)

    def ceil(self, value: Expr[M, N]) -> Expr[M, N]:
        """The least whole number that is not less."""
        return called("ceil", value)

    def floor(self, value: Expr[M, N]) -> Expr[M, N]:
        """The greatest whole number that is not greater."""
        return called("floor", value)

    def round(self, value: Expr[M, N], place: int | Expr[Any, int] = 0) -> Expr[M, N]:
        """Rounded to so many decimal places, halves to the even neighbour."""
        return called("round", value, place)

    def trunc(self, value: Expr[M, N], place: int | Expr[Any, int] = 0) -> Expr[M, N]:
        """Cut to so many decimal places."""
        return called("trunc", value, place)

    # Texts

    def lower(self, text: Text[M]) -> Expr[M, str]:
        """In lower case, of letters A to Z only; empty where it is null."""
        return called("lower", text)

    def upper(self, text: Text[M]) -> Expr[M, str]:
        """In upper case, of letters a to z only; empty where it is null."""
        return called("upper", text)

    @overload
    def concat(self, *parts: Expr[M, str] | str) -> Expr[M, str]: ...
    @overload
    def concat(self, *parts: Text[M] | str) -> Expr[M, str | None]: ...
    def concat(self, *parts: Any) -> Any:
        """Texts joined; null where one is null."""
        return called("concat", *parts)

    def substr_cp(self, text: Text[M], start: int | Expr[Any, int], count: int | Expr[Any, int]) -> Expr[M, str]:
        """`count` characters from a position, counted from 0."""
        return called("substr_cp", text, start, count)

    def str_len_cp(self, text: Text[M]) -> Expr[M, int]:
        """The number of characters; it must be a text in all rows."""
        return called("str_len_cp", text)

    @overload
    def split(self, text: Expr[M, str], delimiter: str | Expr[Any, str]) -> Expr[M, list[str]]: ...
    @overload
    def split(self, text: Text[M], delimiter: str | Expr[Any, str]) -> Expr[M, list[str] | None]: ...
    def split(self, text: Any, delimiter: Any) -> Any:
        """The parts of a text between the delimiters."""
        return called("split", text, delimiter)

    @overload
    def trim(self, input: Expr[M, str], chars: str | Expr[Any, str] | None = None) -> Expr[M, str]: ...
    @overload
    def trim(self, input: Text[M], chars: str | Expr[Any, str] | None = None) -> Expr[M, str | None]: ...
    def trim(self, input: Any, chars: Any = None) -> Any:
        """Without the characters, by default white space, at both ends."""
        return called("trim", input, **given(chars=chars))

    def regex_match(self, input: Text[M], regex: str | Expr[Any, str], options: str | None = None) -> Predicate[M]:
        """Whether a text matches a Perl-compatible regular expression; anything but a text or null is an error."""
        return truth("regex_match", input, regex, **given(options=options))

    # Types

    def is_number(self, value: Expr[M, Any]) -> Predicate[M]:
        """Whether it is a number of any kind."""
        return truth("is_number", value)

    def is_array(self, value: Expr[M, Any]) -> Predicate[M]:
        """Whether it is a list."""
        return truth("is_array", value)

    def to_string(self, value: Expr[M, Any]) -> Expr[M, str]:
        """As text. As with all conversions, what cannot be converted is an error; see ``func.convert``."""
        return called("to_string", value)

    def to_int(self, value: Expr[M, Any]) -> Expr[M, int]:
        """As an integer of 32 bits."""
        return called("to_int", value)

    def to_long(self, value: Expr[M, Any]) -> Expr[M, int]:
        """As an integer of 64 bits."""
        return called("to_long", value)

    def to_double(self, value: Expr[M, Any]) -> Expr[M, float]:
        """As a floating-point number."""
        return called("to_double", value)

    def to_decimal(self, value: Expr[M, Any]) -> Expr[M, Decimal]:
        """As a decimal number."""
        return called("to_decimal", value)

    def to_bool(self, value: Expr[M, Any]) -> Expr[M, bool]:
        """As true or false."""
        return called("to_bool", value)

    def to_date(self, value: Expr[M, Any]) -> Expr[M, datetime]:
        """As a date."""
        return called("to_date", value)

    # In the order of all types, and by the truth of any value

    def eq(self, one: Any, other: Any) -> Predicate[Any]:
        """Whether two values are equal as the server's expressions have it, where missing is not null and a list one
        value. So `ne`, `gt`, `gte`, `lt`, `lte` and `cmp`, which order values of all types.
        """
        return truth("eq", one, other)

    def ne(self, one: Any, other: Any) -> Predicate[Any]:
        """See `eq`."""
        return truth("ne", one, other)

    def gt(self, one: Any, other: Any) -> Predicate[Any]:
        """See `eq`."""
        return truth("gt", one, other)

    def gte(self, one: Any, other: Any) -> Predicate[Any]:
        """See `eq`."""
        return truth("gte", one, other)

    def lt(self, one: Any, other: Any) -> Predicate[Any]:
        """See `eq`."""
        return truth("lt", one, other)

    def lte(self, one: Any, other: Any) -> Predicate[Any]:
        """See `eq`."""
        return truth("lte", one, other)

    def and_(self, *values: Any) -> Predicate[Any]:
        """Whether no value is false, 0, null or missing; of conditions what ``&`` says."""
        return joined("$and", values) if _are_conditions(values) else truth("and_", *values)

    def or_(self, *values: Any) -> Predicate[Any]:
        """Whether a value is not false, 0, null or missing; of conditions what ``|`` says."""
        return joined("$or", values) if _are_conditions(values) else truth("or_", *values)

    def not_(self, value: Any) -> Predicate[Any]:
        """Whether the value is false, 0, null or missing; of a condition what ``~`` says."""
        return negated(value) if is_predicate(value) else truth("not_", value)


def _are_conditions(values: tuple[Any, ...]) -> bool:
    return bool(values) and all(map(is_predicate, values))
