"""What can be asked of mirrored fields: comparisons with values of their own kinds, and all or any of these.

A field is meant by its number. Nothing here does I/O.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from attrs import frozen

from superorm.vectors.mirror import odd, value

__all__ = ["AllOf", "AnyOf", "Comparison", "Condition", "IsNull", "OneOf", "Value", "fields_of", "sql"]

Value: TypeAlias = bool | int | float | str
"""As `superorm.vectors.mirror.fit` gives it."""


@frozen
class Comparison:
    """The value is there, and compares so with the given one."""

    field: int
    sign: Literal["=", "<", "<=", ">", ">="]
    given: Value


@frozen
class OneOf:
    """The value is one of the given ones, or where they are excluded none of them; null passes if it is to."""

    field: int
    given: tuple[Value, ...]
    null: bool
    excluded: bool = False


@frozen
class IsNull:
    """There is no value."""

    field: int
    excluded: bool = False


@frozen
class AllOf:
    """All of the parts pass."""

    parts: tuple[Condition, ...]


@frozen
class AnyOf:
    """One of the parts passes."""

    parts: tuple[Condition, ...]


Condition: TypeAlias = Comparison | OneOf | IsNull | AllOf | AnyOf


def fields_of(condition: Condition) -> set[int]:
    """The numbers of the fields that it is about."""
    if isinstance(condition, AllOf | AnyOf):
        return set[int]().union(*map(fields_of, condition.parts))
    return {condition.field}


def sql(condition: Condition) -> str:
    """The condition in SQL, which rows that are odd in one of its fields pass in any case."""
    return " OR ".join([f"({_sql(condition)})", *(odd(number) for number in sorted(fields_of(condition)))])


def _sql(condition: Condition) -> str:
    match condition:
        case Comparison(number, sign, given):
            return f"{value(number)} {sign} {_literal(given)}"
        case IsNull(number, excluded):
            return f"{value(number)} IS {'NOT ' if excluded else ''}NULL"
        case OneOf(number, given, null, excluded):
            return _one_of(value(number), given, null, excluded)
        case AllOf(parts):
            return " AND ".join(map(_sql, parts))
        case AnyOf(parts):
            return f"({' OR '.join(f'({_sql(part)})' for part in parts)})"


def _one_of(column: str, given: tuple[Value, ...], null: bool, excluded: bool) -> str:
    literals = ", ".join(map(_literal, given))
    if len(given) == 1:
        said = f"{column} {'<>' if excluded else '='} {literals}"
    else:
        said = f"{column} {'NOT ' if excluded else ''}IN ({literals})"
    return f"({said} OR {column} IS NULL)" if null else said


def _literal(given: Value) -> str:
    if isinstance(given, str):
        quoted = given.replace("'", "''")
        return f"'{quoted}'"
    return str(given).lower() if isinstance(given, bool) else repr(given)
