"""A MongoDB filter as a condition on mirrored fields. Nothing here does I/O.

Only what means exactly the same there is said: comparisons of mirrored fields with values of their own kind,
and ``$and`` and ``$or`` of these. MongoDB compares within a type and matches arrays by element;
rows of documents that hold anything but the declared type are marked (see `superorm.vectors.mirror`),
and pass every condition. So no row is lost; which of those that pass match, their documents decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define, frozen

from superorm.expr.narrow import is_dict, is_list
from superorm.schema.vector_spec import FilterField, VectorSpec
from superorm.vectors.condition import AllOf, AnyOf, Comparison, Condition, IsNull, OneOf, Value, sql
from superorm.vectors.mirror import fit

__all__ = ["PushDown", "numbered", "push_down"]

_SIGNS: Mapping[str, Any] = {"$eq": "=", "$lt": "<", "$lte": "<=", "$gt": ">", "$gte": ">="}
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
    condition: Condition | None = None
    """The condition on the fields, by their numbers, that `where` says of rows that are not marked."""


def numbered(
    spec: VectorSpec, mirrored: Sequence[FilterField], *, collated: bool
) -> dict[str, tuple[int, FilterField]]:
    """Those of the mirrored fields that a class names as they are, by path, with their numbers.

    Texts are left out where the server compares them by a collation.
    """
    named = {*spec.filter_fields}
    return {
        field.path: (number, field)
        for number, field in enumerate(mirrored)
        if field in named and not (collated and field.kind == "str")
    }


def push_down(filter: Mapping[str, Any] | None, fields: Mapping[str, tuple[int, FilterField]]) -> PushDown:
    """What a table with columns of these fields, by path and with their numbers, can say of a filter."""
    if not filter:
        return PushDown(None, "there is no filter")
    found = _Translation(fields)
    condition = found.all_of(filter, 0)
    if condition is None or found.atoms > _MOST_ATOMS:
        return PushDown(None, found.left or f"it has more than {_MOST_ATOMS} conditions")
    return PushDown(sql(condition), found.left, condition=condition)


@define
class _Translation:
    """A filter that is being translated; each part to a condition that is weaker, or the same, or to None."""

    fields: Mapping[str, tuple[int, FilterField]]
    atoms: int = 0
    left: str | None = None
    """The first reason why the condition is weaker."""

    def all_of(self, filter: Mapping[str, Any], depth: int) -> Condition | None:
        """All entries of a filter."""
        said: list[Condition | None] = []
        for key, given in filter.items():
            if key == "$and" and is_list(given):
                said += [self.all_of(part, depth) for part in given]
            elif key == "$or" and is_list(given):
                said.append(self._any_of(given, depth + 1))
            elif key.startswith("$"):
                said.append(self._leave(f"{key} cannot be pushed down"))
            else:
                said += self._of_field(key, given)
        parts = tuple(part for part in said if part is not None)
        return parts[0] if len(parts) == 1 else AllOf(parts) if parts else None

    def _any_of(self, given: Sequence[Mapping[str, Any]], depth: int) -> Condition | None:
        if depth > _DEEPEST:
            return self._leave("it nests too deep")
        said = [self.all_of(part, depth) for part in given]
        parts = tuple(part for part in said if part is not None)
        return AnyOf(parts) if 0 < len(parts) == len(said) else self._leave("a part of $or cannot be pushed down")

    def _of_field(self, path: str, given: object) -> list[Condition | None]:
        if path not in self.fields:
            return [self._leave(f"{path!r} is not mirrored")]
        number, mirror = self.fields[path]
        operators: Mapping[str, Any] = {"$eq": given}
        if is_dict(given):
            if not any(name.startswith("$") for name in given):
                return [self._leave(f"{path!r} is compared with a document")]
            operators = given
        said: list[Condition | None] = []
        for operator, operand in operators.items():
            atom = _atom(number, mirror, operator, operand)
            if atom is None:
                atom = self._leave(f"{operator} of {path!r} with {type(operand).__name__} cannot be pushed down")
            else:
                self.atoms += 1
            said.append(atom)
        return said

    def _leave(self, reason: str) -> Condition | None:
        self.left = self.left or reason
        return None


def _atom(number: int, mirror: FilterField, operator: str, operand: object) -> Condition | None:
    """One comparison, false for rows whose value does not match; None where it cannot be said."""
    if operator in ("$in", "$nin", "$ne"):
        operands = [operand] if operator == "$ne" else operand
        if not is_list(operands) or not 0 < len(operands) <= _MOST_VALUES:
            return None
        return _one_of(number, mirror, operands, excluded=operator != "$in")
    if operand is None:
        return IsNull(number) if operator == "$eq" else None
    sign, given = _SIGNS.get(operator), _value(mirror, operand)
    if sign is None or given is None or (mirror.kind == "bool" and operator != "$eq"):
        return None
    return Comparison(number, sign, given)


def _one_of(number: int, mirror: FilterField, operands: Sequence[Any], *, excluded: bool) -> Condition | None:
    values = [_value(mirror, operand) for operand in operands if operand is not None]
    given = tuple(value for value in values if value is not None)
    null = len(values) < len(operands)
    if len(given) < len(values):
        return None
    return OneOf(number, given, null != excluded, excluded) if given else IsNull(number, excluded)


def _value(mirror: FilterField, given: object) -> Value | None:
    """A value as the column has it; None where the column has no such value."""
    fitted = fit(mirror.kind, given)
    return None if fitted in (float("inf"), float("-inf")) else fitted
