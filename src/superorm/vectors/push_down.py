"""A MongoDB filter as a condition on the columns of a table. Nothing here does I/O.

Only what means exactly the same there is said: comparisons of mirrored fields with values of their own kind,
and ``$and`` and ``$or`` of these. MongoDB compares within a type and matches arrays by element;
rows of documents that hold anything but the declared type are marked (see `superorm.vectors.mirror`),
and pass every condition. So no row is lost; which of those that pass match, their documents decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from attrs import define, field, frozen

from superorm.expr.narrow import is_dict, is_list
from superorm.schema.vector_spec import FilterField
from superorm.vectors.mirror import fit, odd, value

__all__ = ["PushDown", "push_down"]

_COMPARED = {"$eq": "=", "$ne": "<>", "$lt": "<", "$lte": "<=", "$gt": ">", "$gte": ">="}
_MOST_VALUES = 1_000
_MOST_ATOMS = 64
_DEEPEST = 8
"""Engines parse and plan conditions by recursion, and refuse deep ones."""


@frozen
class PushDown:
    """What an engine can say of a filter."""

    where: str | None
    """A condition as the engine has it, which holds for all rows whose documents match; None where nothing can be said.
    """
    left: str | None
    """Why it holds for others too; None where only the documents of rows that are marked may not match."""
    lists: bool = True
    """Whether the rows that pass can be listed."""


def push_down(filter: Mapping[str, Any] | None, fields: Mapping[str, tuple[int, FilterField]]) -> PushDown:
    """What a table with columns of these fields, by path and with their numbers, can say of a filter."""
    if not filter:
        return PushDown(None, "there is no filter")
    found = _Condition(fields)
    where = found.all_of(filter, 0)
    if where is None or found.atoms > _MOST_ATOMS:
        return PushDown(None, found.left or f"it has more than {_MOST_ATOMS} conditions")
    return PushDown(" OR ".join([f"({where})", *(odd(number) for number in sorted(found.used))]), found.left)


@define
class _Condition:
    """A filter that is being translated; each part to a condition that is weaker, or the same, or to None."""

    fields: Mapping[str, tuple[int, FilterField]]
    used: set[int] = field(factory=set[int])
    atoms: int = 0
    left: str | None = None
    """The first reason why the condition is weaker."""

    def all_of(self, filter: Mapping[str, Any], depth: int) -> str | None:
        """All entries of a filter."""
        said: list[str] = []
        for key, given in filter.items():
            if key == "$and" and is_list(given):
                parts = [self.all_of(part, depth) for part in given]
            elif key == "$or" and is_list(given):
                parts = [self._any_of(given, depth + 1)]
            elif key.startswith("$"):
                parts = [self._leave(f"{key} cannot be pushed down")]
            else:
                parts = self._of_field(key, given)
            said += [part for part in parts if part is not None]
        return " AND ".join(said) or None

    def _any_of(self, given: Sequence[Mapping[str, Any]], depth: int) -> str | None:
        if depth > _DEEPEST:
            return self._leave("it nests too deep")
        said = [self.all_of(part, depth) for part in given]
        if not said or None in said:
            return self._leave("a part of $or cannot be pushed down")
        return f"({' OR '.join(f'({part})' for part in said)})"

    def _of_field(self, path: str, given: object) -> list[str | None]:
        if path not in self.fields:
            return [self._leave(f"{path!r} is not mirrored")]
        number, mirror = self.fields[path]
        operators: Mapping[str, Any] = {"$eq": given}
        if is_dict(given):
            if not any(name.startswith("$") for name in given):
                return [self._leave(f"{path!r} is compared with a document")]
            operators = given
        said: list[str | None] = []
        for operator, operand in operators.items():
            atom = _atom(value(number), mirror, operator, operand)
            if atom is None:
                atom = self._leave(f"{operator} of {path!r} with {type(operand).__name__} cannot be pushed down")
            else:
                self.used.add(number)
                self.atoms += 1
            said.append(atom)
        return said

    def _leave(self, reason: str) -> str | None:
        self.left = self.left or reason
        return None


def _atom(column: str, mirror: FilterField, operator: str, operand: object) -> str | None:
    """One comparison, false or null for rows whose value does not match; None where it cannot be said."""
    if operator in ("$in", "$nin"):
        if not is_list(operand) or not 0 < len(operand) <= _MOST_VALUES:
            return None
        return _among(column, operator == "$in", [_literal(mirror, one) for one in operand])
    sign, literal = _COMPARED.get(operator), _literal(mirror, operand)
    if sign is None or literal is None:
        return None
    if literal == _NULL:
        return {"$eq": f"{column} IS NULL", "$ne": f"{column} IS NOT NULL"}.get(operator)
    if operator == "$ne":
        return f"({column} <> {literal} OR {column} IS NULL)"
    return None if mirror.kind == "bool" and operator != "$eq" else f"{column} {sign} {literal}"


_NULL = "NULL"


def _among(column: str, inside: bool, literals: Sequence[str | None]) -> str | None:
    if None in literals:
        return None
    listed = ", ".join(one for one in cast("Sequence[str]", literals) if one != _NULL)
    null = _NULL in literals
    if not listed:
        return f"{column} IS NULL" if inside else f"{column} IS NOT NULL"
    if inside:
        return f"({column} IN ({listed}) OR {column} IS NULL)" if null else f"{column} IN ({listed})"
    return f"{column} NOT IN ({listed})" if null else f"({column} NOT IN ({listed}) OR {column} IS NULL)"


def _literal(mirror: FilterField, given: object) -> str | None:
    """A value as it stands in SQL; None where the column has no such value."""
    if given is None:
        return _NULL
    fitted = fit(mirror.kind, given)
    if fitted is None or fitted in (float("inf"), float("-inf")):
        return None
    if isinstance(fitted, str):
        quoted = fitted.replace("'", "''")
        return f"'{quoted}'"
    return str(fitted).lower() if isinstance(fitted, bool) else repr(fitted)
