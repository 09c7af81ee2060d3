"""Scalar types."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from enum import Enum
from typing import Any, ClassVar, cast
from uuid import UUID

import numpy as np
from bson import Decimal128, Int64, ObjectId

from superorm.schema.compare import same
from superorm.schema.types.base import BsonType, Misfit, Rejected

__all__ = [
    "PLAIN_NAMES",
    "BoolType",
    "BytesType",
    "DateType",
    "DatetimeType",
    "DecimalType",
    "EnumType",
    "FloatType",
    "IntType",
    "LiteralType",
    "NoneType",
    "ObjectIdType",
    "StrType",
    "UuidType",
]

PLAIN_NAMES: dict[str, Any] = {
    "type": type,
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "bytes": bytes,
    "datetime": dt.datetime,
    "utc": dt.UTC,
    "Int64": Int64,
    "ObjectId": ObjectId,
    "UUID": UUID,
}
"""What the source of load and dump checks refers to."""


_NO_NUMBERS = (bool, Enum, np.timedelta64)
"""Classes that derive from those of numbers."""


class PlainType(BsonType):
    """A type whose BSON value is the Python value; the class attribute `python` is checked exactly."""

    plain = True
    same_value = True
    python: ClassVar[type]

    def __init__(self) -> None:
        self.name = self.python.__name__
        self.reads = frozenset({self.python})

    def load_check(self, v: str) -> str:
        return f"type({v}) is {self.python.__name__}"

    def from_bson(self, value: Any) -> Any:
        if type(value) is self.python:
            return value
        raise Misfit(value, self.name)

    def to_bson(self, value: Any) -> Any:
        return self.from_bson(value)

    def unchanged(self, value: Any, raw: Any) -> bool:
        if type(raw) is not self.python:  # None, or read widened
            return super().unchanged(value, raw)
        try:
            return same(raw, self.to_bson(value))
        except Misfit:
            return False


class StrType(PlainType):
    python = str

    def to_bson(self, value: Any) -> Any:
        if type(value) is str:
            return value
        if isinstance(value, str) and not isinstance(value, Enum):
            return str.__str__(value)
        raise Misfit(value, self.name)


class BytesType(PlainType):
    python = bytes


class BoolType(PlainType):
    python = bool

    def to_bson(self, value: Any) -> Any:
        return super().to_bson(value.item() if isinstance(value, np.bool_) else value)


class ObjectIdType(PlainType):
    python = ObjectId


class UuidType(PlainType):
    """Stored as Binary of subtype 4."""

    python = UUID


class NoneType(PlainType):
    python = type(None)

    def __init__(self) -> None:
        super().__init__()
        self.name = "None"

    def load_check(self, v: str) -> str:
        return f"{v} is None"


class IntType(PlainType):
    """64 bits; a whole float, as shells write numbers, is read as the int it is."""

    python = int

    def __init__(self) -> None:
        super().__init__()
        self.reads = frozenset({int, Int64})

    def load_check(self, v: str) -> str:
        return f"(type({v}) is int or type({v}) is Int64)"

    def dump_check(self, v: str) -> str:
        return f"(type({v}) is int and {-(2**63)} <= {v} < {2**63})"

    def from_bson(self, value: Any) -> Any:
        if type(value) is int or type(value) is Int64:
            return value
        if type(value) is float and value.is_integer() and -(2.0**63) <= value < 2.0**63:
            return int(value)
        raise Misfit(value, self.name)

    def to_bson(self, value: Any) -> Any:
        if type(value) is not int and type(value) is not Int64:
            if not isinstance(value, (int, np.integer)) or isinstance(value, _NO_NUMBERS):
                raise Misfit(value, self.name)
            value = int(cast("int", value))
        if -(2**63) <= value < 2**63:
            return value
        raise Misfit(value, "an int of at most 64 bits")


class FloatType(PlainType):
    """A double; an int is read as the float it is."""

    python = float

    def from_bson(self, value: Any) -> Any:
        if type(value) is float:
            return value
        if type(value) is int or type(value) is Int64:
            return float(value)
        raise Misfit(value, self.name)

    def to_bson(self, value: Any) -> Any:
        if type(value) is float:
            return value
        if isinstance(value, (float, int, np.floating, np.integer)) and not isinstance(value, _NO_NUMBERS):
            try:
                return float(cast("float", value))
            except OverflowError:
                raise Misfit(value, "a float, which this int is too large for") from None
        raise Misfit(value, self.name)


class DatetimeType(PlainType):
    """UTC, aware, cut to milliseconds."""

    python = dt.datetime

    def __init__(self) -> None:
        super().__init__()
        self.name = "an aware datetime"

    def dump_check(self, v: str) -> str:
        return f"(type({v}) is datetime and {v}.tzinfo is utc and not {v}.microsecond % 1000)"

    def to_bson(self, value: Any) -> Any:
        if not isinstance(value, dt.datetime) or value.utcoffset() is None:
            raise Misfit(value, self.name)
        if value.tzinfo is dt.UTC and type(value) is dt.datetime and not value.microsecond % 1000:
            return value
        try:
            at = value.astimezone(dt.UTC)
        except OverflowError:
            raise Misfit(value, "a datetime within the years 1 to 9999 of UTC") from None
        cut = at.microsecond // 1000 * 1000
        if type(at) is dt.datetime:
            return at.replace(microsecond=cut)
        return dt.datetime(at.year, at.month, at.day, at.hour, at.minute, at.second, cut, tzinfo=dt.UTC)


class DateType(BsonType):
    """A date, stored as midnight UTC."""

    name = "date"
    reads = frozenset({dt.datetime})

    def from_bson(self, value: Any) -> Any:
        if type(value) is dt.datetime and not (value.hour or value.minute or value.second or value.microsecond):
            return value.date()
        raise Misfit(value, "date (midnight UTC)" if isinstance(value, dt.datetime) else self.name)

    def to_bson(self, value: Any) -> Any:
        if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
            return dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC)
        raise Misfit(value, self.name)


class DecimalType(BsonType):
    """A decimal of at most 34 digits."""

    name = "Decimal"
    reads = frozenset({Decimal128})

    def from_bson(self, value: Any) -> Any:
        if type(value) is Decimal128:
            return value.to_decimal()
        raise Misfit(value, self.name)

    def to_bson(self, value: Any) -> Any:
        if not isinstance(value, Decimal):
            raise Misfit(value, self.name)
        try:
            return Decimal128(value)
        except ArithmeticError:
            raise Misfit(value, "a Decimal of at most 34 digits and an exponent within ±6144") from None


class EnumType(BsonType):
    """An Enum, stored as its value."""

    def __init__(self, enum: type[Enum]) -> None:
        self.enum = enum
        self.name = enum.__name__
        kinds: set[type] = {type(cast("object", member.value)) for member in enum}
        self.reads = frozenset(kinds | {Int64} if int in kinds else kinds)

    def from_bson(self, value: Any) -> Any:
        try:
            member = self.enum(value)
        except ValueError:
            raise Misfit(value, self.name) from None
        except Exception as error:
            raise Rejected(value, error, f"_missing_ of {self.name}") from error
        if isinstance(value, bool) != isinstance(member.value, bool):  # to Python, True == 1
            raise Misfit(value, self.name)
        return member

    def to_bson(self, value: Any) -> Any:
        if isinstance(value, self.enum):
            return value.value
        raise Misfit(value, self.name)


class LiteralType(BsonType):
    """One of some literals, each with the type of its own value."""

    def __init__(self, choices: tuple[tuple[Any, BsonType], ...]) -> None:
        self.choices = choices
        self.name = f"Literal[{', '.join(repr(choice) for choice, _ in choices)}]"
        self.reads = frozenset[type]().union(*(kind.reads for _, kind in choices))
        self.same_value = self.plain = all(kind.same_value for _, kind in choices)

    def load_check(self, v: str) -> str:
        kinds = sorted({kind.load_check(v) for _, kind in self.choices})
        return "(" + " or ".join(f"{kind} and {v} in {self._choices_of(kind, v)!r}" for kind in kinds) + ")"

    def _choices_of(self, check: str, v: str) -> tuple[Any, ...]:
        return tuple(choice for choice, kind in self.choices if kind.load_check(v) == check)

    def from_bson(self, value: Any) -> Any:
        return self._choice(value, stored=True)[0]

    def to_bson(self, value: Any) -> Any:
        choice, kind = self._choice(value, stored=False)
        return kind.to_bson(choice)

    def _choice(self, value: Any, *, stored: bool) -> tuple[Any, BsonType]:
        for choice, kind in self.choices:
            try:
                if choice == (kind.from_bson(value) if stored else kind.from_bson(kind.to_bson(value))):
                    return choice, kind
            except Misfit:
                continue
        raise Misfit(value, self.name)
